"""What a reader may doubt about the attacks on SiPP: the losses, the bounds, and the faults."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from coresets.samplers import IID, FixedSize, Poisson, Sampler
from coresets.weighted_set import WeightedSet
from nn.guarantees.edges import SampledLayer
from proofs_check.checks import sipp
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons
from proofs_check.checks._populations import codes, least_factor, off, over, rarity, sides
from proofs_check.checks._side_draws import (
    Counted,
    Drawing,
    Honest,
    OldWeights,
    SideErrors,
    Truncating,
    UniformDraws,
    kept,
    one_edge_a_patch,
    optimistic,
)
from proofs_check.checks.sipp import Lost, halves, mean_of_patches, measured, signs_together, top
from proofs_check.trials import ROUNDING
from proofs_check.workloads import Workload

RNG = np.random.default_rng
WEIGHTS = np.array([[1.0, 2.0, -3.0, -1.0], [1.0, 1.0, 1.0, -1.0]])
CLOUD = Workload("cloud", "real", WeightedSet(RNG(3).standard_normal((300, 5))))


def population(inputs: int = 30, patches: int = 3, edges: int = 4) -> Neurons:
    activations = np.maximum(RNG(1).standard_normal((inputs, patches, edges)), 0.0)
    weights = WEIGHTS if edges == 4 else RNG(2).standard_normal((2, edges))
    return Neurons(weights, activations)


def test_relative_errors_of_sides_are_those_of_their_sums() -> None:
    own = sides(WEIGHTS)
    factors = np.array([[1.0, 0.0, 1.0, 2.0], [1.0, 1.0, 0.0, 0.0]] * 2)
    found = off(own, factors, np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]))
    expected = [[2.0 / 3.0, 1.0 / 3.0, 1.0 / 4.0, 1.0], [0.0, 1.0, 0.0, 0.0]]
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def test_an_error_where_nothing_is_certified_is_infinite_and_none_is_no_error() -> None:
    assert over(np.array([0.1]), np.array([0.0])) == np.inf
    assert over(np.array([0.0]), np.array([0.0])) == 0.0


@pytest.mark.parametrize("factor", [1.2, 2.0, 5.0])
def test_k_and_its_rarity_are_inverses_counted_on_the_population(factor: float) -> None:
    found = Neurons(np.ones((1, 5)), RNG(4).uniform(0.5, 1.5, (40, 1, 5)))
    needed, pairs = rarity(found, factor)
    assert pairs == 5
    if np.isfinite(needed) and needed > 0.0:
        assert least_factor(found, needed * 1.0001) <= factor * (1.0 + 1e-8)
    shares = found.shares()[:, 0]
    often = (shares > shares.max(axis=0) / least_factor(found, 3.0)).mean(axis=0)
    assert bool((often >= -np.expm1(-1.0 / 3.0)).all())


def test_an_edge_that_is_rarely_active_has_no_finite_k() -> None:
    activations = np.ones((20, 1, 2))
    activations[1:, 0, 0] = 0.0
    assert least_factor(Neurons(np.ones((1, 2)), activations), 3.0) == np.inf


def test_the_least_sensitive_edges_of_each_side_are_dropped() -> None:
    values = np.array([[0.9, 0.1, 0.2, 0.8], [0.5, 0.4, 0.0, 1.0]])
    factors = top(WEIGHTS, values, 1)
    assert factors.tolist() == [[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]


def test_a_single_dropped_edge_attains_the_bound_where_its_share_is_largest() -> None:
    assert Lost(population(), 1)(RNG(0)) == pytest.approx(1.0, rel=ROUNDING)


@pytest.mark.parametrize("measure", [mean_of_patches, signs_together])
def test_broken_sensitivities_are_never_larger_and_break_the_bound(measure: sipp.Measure) -> None:
    found = population(edges=12)
    assert bool((measure(found) <= measured(found) * (1.0 + ROUNDING)).all())
    assert Lost(found, 1, measure=measure)(RNG(0)) > 1.0 + ROUNDING
    assert Lost(found, 1)(RNG(0)) <= 1.0 + ROUNDING


def test_inputs_of_either_sign_count_by_their_halves() -> None:
    signed = Neurons(WEIGHTS, RNG(5).standard_normal((10, 2, 4)))
    parts = halves(signed)
    assert parts.activations.shape == (10, 4, 4)
    assert float(parts.activations.min()) >= 0.0
    np.testing.assert_allclose(
        parts.activations[:, :2] - parts.activations[:, 2:], signed.activations, rtol=ROUNDING
    )
    np.testing.assert_allclose(measured(signed), measured(parts), rtol=ROUNDING)
    assert Lost(signed, 1)(RNG(0)) == pytest.approx(1.0, rel=ROUNDING)


def drawing(size: int = 60) -> Drawing:
    activations = codes(CLOUD, 200, 0.25, patches=4, inputs=8)
    found = Neurons(RNG(6).choice([-1.0, 1.0], (3, 200)) * RNG(7).lognormal(size=(3, 200)), activations)
    return Drawing.of(found, activations[0], size)


def test_codes_have_as_many_activations_as_asked_for_on_every_patch() -> None:
    found = codes(CLOUD, 40, 0.25, patches=3, inputs=10)
    assert found.shape[0] <= 10
    assert set(found.sum(axis=2).ravel().tolist()) == {10.0}
    assert set(np.unique(found).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("sampler", [IID(), Poisson(), FixedSize()], ids=lambda one: type(one).__name__)
def test_honest_draws_are_unbiased_and_old_weights_are_not(sampler: Sampler) -> None:
    found = drawing()
    runs = 1500
    mean = sum(Honest(sampler)(found, child) for child in RNG(8).spawn(runs)) / runs
    exact = found.inputs @ found.own.T
    # Relative variances are at most S / m, here below 0.4; five standard errors of each mean.
    np.testing.assert_allclose(found.inputs @ (found.own * mean).T, exact, rtol=5.0 * np.sqrt(0.4 / runs))
    old = OldWeights(sampler)(found, RNG(9))
    assert set(np.unique(old).tolist()) <= {0.0, 1.0}
    low = found.inputs @ (found.own * old).T / exact
    assert float(low.max()) <= 1.0 + ROUNDING
    assert float(low.mean()) < 0.95


def test_counts_of_draws_follow_the_law_of_draws_one_by_one() -> None:
    found = drawing(40)
    by_count = [Counted()(found, child) for child in RNG(10).spawn(1500)]
    by_draw = [Honest(IID())(found, child) for child in RNG(11).spawn(1500)]
    sums = [np.array([found.inputs[0] @ (found.own * f).T for f in runs]) for runs in (by_count, by_draw)]
    np.testing.assert_allclose(sums[0].mean(axis=0), sums[1].mean(axis=0), rtol=0.1)
    np.testing.assert_allclose(sums[0].std(axis=0), sums[1].std(axis=0), rtol=0.2)


def test_uniform_draws_do_not_look_at_sensitivities() -> None:
    found = drawing()
    drawn = UniformDraws(Poisson())(found, RNG(12))
    for row, values in zip(drawn, found.values, strict=True):
        assert len(np.unique(row[row > 0.0].round(9))) == 1
        assert not bool(row[values == 0.0].any())


def test_the_optimistic_inverse_is_up_to_a_root_of_two_below_the_theorem() -> None:
    found = one_edge_a_patch(CLOUD)
    ratios = found.bounds(IID(), found.statements) / optimistic(found, IID())
    assert bool((ratios > 1.3).all())
    assert bool((ratios < np.sqrt(2.0)).all())


def test_bounds_are_the_exact_inverse_of_bernstein_and_share_delta_among_all_statements() -> None:
    found = one_edge_a_patch(CLOUD)
    assert found.statements == SampledLayer().statements(256, len(found.inputs), 1)
    b = found.values.sum(axis=1)
    epsilon = found.bounds(IID(), found.statements)
    failing = 2.0 * np.exp(-found.size * epsilon**2 / (2.0 * b + 2.0 * b * epsilon / 3.0))
    np.testing.assert_allclose(failing, DELTA / found.statements, rtol=1e-9)


def test_scaled_terms_of_one_edge_a_patch_have_all_the_variance_that_there_can_be() -> None:
    found = one_edge_a_patch(CLOUD)
    assert set(found.inputs.sum(axis=1).tolist()) == {1.0}
    np.testing.assert_allclose(np.unique(found.values.round(12)), [0.0, 1.0])


def test_truncating_takes_whole_sides_of_the_one_or_the_other() -> None:
    found = drawing()
    where = np.arange(len(found.own)) % 2 == 0
    mixed = Truncating(where, kept(found), Honest(FixedSize()))(found, RNG(13))
    assert np.array_equal(mixed[where], kept(found)[where])
    assert bool(((mixed > 0.0).sum(axis=1) <= found.size).all())
    assert bool((mixed[~where].max(axis=1) > 1.0).all())


def test_sides_kept_as_they_are_have_no_error() -> None:
    found = drawing(10_000)
    trial = SideErrors(found, Honest(FixedSize()), np.full(len(found.own), 0.1))
    assert trial(RNG(14)) == 0.0
