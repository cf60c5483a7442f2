"""Every defect of published statements and codes that the methods here depart from, each shown by a test.

Shown elsewhere, and not repeated here:

==============================================================  =============================================
defect                                                          test
==============================================================  =============================================
SiPP: the error of sampling is up to sqrt(2) too small          test_edge_guarantees: test_error_of_the_
                                                                released_code_is_too_small; test_sipp: test_
                                                                the_released_error_makes_a_hybrid_sample_...
SiPP: means over patches for maxima                             test_sensitivities: test_means_over_patches_
                                                                would_be_too_small_on_single_patches
SiPP: an absolute rounding unit for denominators                test_sensitivities: test_sums_below_rounding_
                                                                of_the_input_are_passed_over
SiPP: equal slopes although the capped error is not convex      test_allocation: test_two_equal_sides_are_
                                                                better_served_one_at_a_time_with_the_cap
SiPP, CoreNet: edges that the sample never used                 test_sipp: test_edges_that_the_sample_never_
                                                                used_count_against_the_confidence
K = 1                                                           test_edge_guarantees: test_transfer_holds_
                                                                where_its_assumption_does_and_k_of_one_fails
the largest calibration value beyond the last rank              test_conformal: test_the_factor_is_an_order_
                                                                statistic_that_never_exceeds_the_largest
the smallest candidate that passes is quoted                    test_held_out: test_fixed_sequence_keeps_its_
                                                                level_where_taking_any_pass_does_not
CoreNet: the largest width without the inputs                   test_edge_guarantees: test_constants_of_
                                                                lenet_are_reproduced
CoreNet: sizes beyond every network, quoted as if they pruned   test_corenet: test_theoretical_sizes_are_
                                                                vacuous_and_grow_with_accuracy
SiPP: grouped convolutions are not supported                    test_sensitivities: test_grouped_convolution_
                                                                is_block_diagonal
SynFlow: scores in float32 overflow                             test_synflow: test_single_precision_would_
                                                                overflow_on_ordinary_depths
SynFlow: biases inject flow, absolute running means eat it      test_synflow: test_biases_and_shifts_of_
                                                                normalisation_do_not_enter
SynFlow: one cut collapses a layer                              test_synflow: test_single_cut_collapses_where_
                                                                steps_do_not
SynFlow: smooth activations are no part of the theorem          test_synflow: test_functions_are_passed_over_
                                                                like_modules
GraSP: one release kept what should go                          test_gradient_scores: test_grasp_keeps_what_
                                                                carries_the_gradient_norm
masks are not kept in training                                  test_masks: test_training_moves_kept_weights_
                                                                only
the model is worked on in place                                 test_pruning: test_network_and_random_state_
                                                                are_left_alone
sizes count weights on dead paths                               test_sparse: test_weights_that_lead_nowhere_
                                                                are_not_live
LAMP as a sum over equal scores, too                            test_selection: test_lamp_of_equal_weights_
                                                                keeps_one_of_each_layer
SiPP: budgets are met within half a percent                     test_sipp: test_budget_is_met_exactly
SiPP: the deterministic variant drops its error constant        test_sipp: test_truncation_is_within_its_
                                                                promise_for_every_input
draws without a seed                                            test_sipp: test_same_seed_gives_the_same_
                                                                network_and_another_another
pruned networks are dense tensors with zeros                    test_sparse: test_sparse_network_computes_the_
                                                                same
the returned network's own limit is quoted                      test_held_out: test_certified_budget_prunes_
                                                                as_far_as_the_data_certify
==============================================================  =============================================

Those of flow and of comparisons with it are in ``test_published_defects_of_flow.py``.

The relative-entropy form of the bound under Poisson sampling is a matter of the engine (E1-KL there), and
filter pruning by relative importance (PFP) is here with its one entry that is about patches.
"""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch

import nn
from coresets.samplers import IID
from nn.certify import additive
from nn.edges import SiPP
from nn.edges._sides import Sides, distinct_draws, draw
from nn.edges.sipp import Hybrid, Randomised
from nn.layers import find_layers
from nn.selection import largest_remainder
from nn.sensitivities import collect_sensitivities

F = torch.nn.functional


def linear(rows: list[list[float]]) -> torch.nn.Linear:
    """A layer in float64 with these weights and no bias."""
    weight = torch.tensor(rows, dtype=torch.float64)
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


# Sensitivities and errors of sides.


def test_ratios_to_signed_sums_are_no_shares():
    # z = 3 - 2.9: the ratios are 30 and -29, and their absolute values are no better.
    layer = linear([[3.0, -2.9]])
    x = torch.ones(1, 2, dtype=torch.float64)
    terms = layer.weight.detach()[0] * x[0]
    ratios = terms / terms.sum()
    assert float(ratios.max()) > 1.0
    assert float(ratios.min()) < 0.0
    assert float(ratios.abs().sum()) > 50.0
    found = collect_sensitivities(layer, find_layers(layer), [x])[""].values
    assert torch.equal(found, torch.ones_like(found))  # each weight is alone on its side


def test_signed_activations_mixed_in_one_sum_hide_an_edge():
    # Inputs 1 and -1 with equal weights: the sum is nearly 0, and one sample of it bounds nothing.
    layer = linear([[1.0, 1.0]])
    x = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    found = collect_sensitivities(layer, find_layers(layer), [x])[""]
    assert found.halves == 2
    assert torch.equal(found.values.reshape(-1), torch.ones(2, dtype=torch.float64))
    ratios = (x / x.sum()).reshape(-1)
    assert float(ratios[1]) == -1.0


def test_a_kernel_entry_has_less_than_its_window():
    # Filter pruning needs the share of a whole map, the sum over its window; the release takes the largest
    # single entry, which is smaller by up to the window's area.
    layer = torch.nn.Conv2d(2, 1, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    x = torch.ones(1, 2, 3, 3, dtype=torch.float64)
    by_entry = collect_sensitivities(layer, find_layers(layer), [x])[""].values.reshape(2, 9)
    share = by_entry.sum(1)  # one patch, so that shares of a patch add up
    torch.testing.assert_close(share, torch.full((2,), 0.5, dtype=torch.float64), rtol=1e-14, atol=0.0)
    torch.testing.assert_close(by_entry.amax(1), share / 9.0, rtol=1e-14, atol=0.0)
    # Dropping the first map costs its share of the sum, nine times what the release believes.
    dropped = layer.weight.detach().clone()
    dropped[:, 0] = 0.0
    lost = 1.0 - float(F.conv2d(x, dropped) / layer(x).detach())
    assert lost == pytest.approx(float(share[0]), rel=1e-14)
    assert lost > 8.9 * float(by_entry[0].max())


def test_condition_numbers_have_no_finite_mean():
    # z is uniform on (-1, 1) and z+ + z- about 1: the mean of 1 / |z| grows with the logarithm of the
    # sample's size, for ever. Midpoints of equal cells stand for a sample without luck.
    layer = linear([[1.0, -1.0]])
    means = []
    for size in (10**2, 10**3, 10**4, 10**5):
        z = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2.0 - 1.0
        x = torch.stack([(1.0 + z) / 2.0, (1.0 - z) / 2.0], dim=1)
        found = collect_sensitivities(layer, find_layers(layer), [x], conditions=True)[""]
        means.append(float(found.mean_condition))
    growth = [b - a for a, b in itertools.pairwise(means)]
    # Sum over cells of 1 / |z| adds ln 10 for ten times the cells, up to the rounding of sums.
    assert growth == pytest.approx([math.log(10.0)] * 3, rel=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_reweighting_by_the_distinct_edges_asked_for_is_too_large(seed: int):
    # To expect n distinct edges N > n draws are needed; w count / (N q) has the mean w, divided by n more.
    values, wanted = np.array([0.6, 0.3, 0.05, 0.05]), 3
    q = values / values.sum()
    draws = distinct_draws(values, wanted)
    assert draws >= 4 / 3 * wanted
    layer, x = linear([list(values)]), torch.ones(1, 4, dtype=torch.float64)
    found = collect_sensitivities(layer, find_layers(layer), [x])[""]
    sides = Sides.of(find_layers(layer)[""], found, torch.ones(1, 4, dtype=torch.bool))
    drawn = draw(sides, np.array([[wanted], [0]]), IID(), np.random.default_rng(seed))
    if bool((drawn.factors == 1.0).all()):  # all edges were drawn, so that nothing would be saved
        return
    counts = drawn.factors[0] * draws * q
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    assert round(float(counts.sum())) == draws  # the draws that there were, of which each is counted
    # For this input one draw is worth the whole sum: exact here, a third too large with the wrong number.
    assert float(drawn.factors[0] @ values) == pytest.approx(1.0, rel=1e-12)
    assert float(counts @ (values / q)) / wanted >= 4 / 3 - 1e-9


def test_an_error_above_one_is_worse_than_dropping_the_side():
    # Few draws for a side of many equal edges: Bernstein's error exceeds 1, that of an empty side.
    torch.manual_seed(0)
    layer = linear([[1.0] * 50])
    x = torch.ones(4, 50, dtype=torch.float64)
    plan = nn.plan(layer, SiPP(Randomised()), nn.KeepCount(2), calibration=[x], rng=0)
    (certificate,) = plan.layers[""].certificates
    assert certificate.value >= 1.0
    capped = nn.plan(layer, SiPP(Hybrid()), nn.KeepCount(2), calibration=[x], rng=0)
    (certificate,) = capped.layers[""].certificates
    assert certificate.value <= 1.0 + 1e-12


def test_counts_rounded_up_break_the_budget_by_the_number_of_sides():
    shares = np.full(20, 1.0)
    budget = 30
    assert int(np.ceil(shares * budget / shares.sum()).sum()) == 40
    assert int(largest_remainder(shares, budget).sum()) == budget


def test_a_second_call_with_the_same_budget_is_the_first():
    # The released hybrid stores "sample here" as negative counts in a view of the cached allocation.
    cache = np.array([5.0, 7.0])

    def released() -> list[bool]:
        view = cache[:]
        sampled = [bool(count > 0) for count in view]
        view[:] = np.where(view > 0, -view, 0.0)
        return sampled

    assert released() == [True, True]
    assert released() == [False, False]  # all sides are zeroed the second time
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(30, 4), torch.rand(20, 30)
    method = SiPP(Hybrid())
    first, second = (
        nn.plan(layer, method, nn.KeepCount(40), calibration=[x], rng=0).layers[""].weight for _ in range(2)
    )
    assert torch.equal(first, second)


def test_weights_without_a_gradient_on_the_sample_matter_off_it():
    # The second input is 0 in the sample, so that its weight has no gradient there; elsewhere it is not.
    layer = linear([[1.0, 1.0]])
    sample, fresh = (torch.tensor([row], dtype=torch.float64) for row in ([1.0, 0.0], [1.0, 3.0]))
    (gradient,) = torch.autograd.grad(layer(sample).sum(), layer.weight)
    propagated = torch.where(gradient == 0.0, 0.0, layer.weight.detach())
    assert torch.equal(F.linear(sample, propagated), layer(sample))
    assert float((F.linear(fresh, propagated) - layer(fresh)).detach()) == -3.0
    # Here nothing is dropped but by the budget.
    with pytest.warns(nn.PruningWarning, match="changes nothing"):
        kept = nn.prune(layer, SiPP(), nn.KeepCount(2), calibration=[sample])
    assert torch.equal(kept.model(fresh), layer(fresh))


# Bounds through the layers.


def test_overlapping_maxima_are_not_lipschitz_with_one_in_the_euclidean_norm():
    # Windows of 3 with stride 2: the pixel in the corner of four windows moves four outputs.
    pool = torch.nn.MaxPool2d(3, stride=2)
    x, moved = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    moved[0, 0, 2, 2] = 1.0
    difference = pool(moved) - pool(x)
    assert float(difference.norm()) == 2.0 * float((moved - x).norm())
    assert float(difference.abs().max()) == float((moved - x).abs().max())
    # The bound here is carried entry by entry, where the factor is 1 for any windows, and is attained.
    first, second = (
        torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False), copy.deepcopy(pool)) for _ in "ab"
    )
    with torch.no_grad():
        first[0].weight.fill_(0.0)
        second[0].weight.fill_(1.0)
    bound = additive(first, second, moved)
    assert torch.equal(bound, (second(moved) - first(moved)).detach().abs().double())


def test_a_certificate_does_not_survive_retraining():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).double()
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.8)).model
    x = torch.randn(20, 6, dtype=torch.float64)
    before = additive(net, pruned, x)
    with torch.no_grad():
        for parameter in pruned.parameters():  # one long step
            parameter.add_(0.5)
    found = (pruned(x) - net(x)).detach().abs()
    assert bool((found > before).any())
    assert bool((found <= additive(net, pruned, x) * (1.0 + 1e-12)).all())
