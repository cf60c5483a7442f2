"""Attacks on sparsified neurons: the shares, the exact laws, and the figures that faults are seen by."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from coresets.accuracy import Accuracy
from coresets.samplers import IID, Hybrid
from nn.guarantees.edges import (
    ComposedError,
    EdgeSampling,
    SensitivityTransfer,
    SideClass,
    SureInclusion,
)
from proofs_check.checks import _edges_composed as composed
from proofs_check.checks import _edges_drawn as drawn
from proofs_check.checks import edges
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, features, neurons, over, sensitivities, shares
from proofs_check.judge import ScenarioTest, run_scenario
from proofs_check.results import Verdict
from proofs_check.runner import PROFILES
from proofs_check.trials import ROUNDING
from proofs_check.workloads import Workload, real

RNG = np.random.default_rng  # every test has its own
WORKLOADS = real(400)
CHECKS = {check.key: check for check in edges.CHECKS}


def small(seed: int = 0, inputs: int = 30) -> Neurons:
    rng = RNG(seed)
    activations = np.maximum(rng.standard_normal((inputs, 2, 12)), 0.0)
    return Neurons(rng.standard_normal((3, 12)), activations)


def small_side() -> np.ndarray:
    return RNG(5).exponential(size=(1, 6)) ** 3


class TestShares:
    def test_of_a_side_add_up_to_one_wherever_it_is_reached(self) -> None:
        own = small()
        found = shares(own.weights, own.activations)
        for side in (own.weights > 0.0, own.weights < 0.0):
            total = np.where(side, found, 0.0).sum(axis=-1)
            assert np.all((np.abs(total - 1.0) < 1e-12) | (total == 0.0))

    def test_maxima_are_the_sensitivities_of_the_library(self) -> None:
        own = small()
        largest = own.shares().max(axis=0)
        np.testing.assert_allclose(sensitivities(own.weights, own.activations), largest, rtol=1e-12)

    def test_of_combinations_of_inputs_are_at_most_those_of_the_inputs(self) -> None:
        own, rng = small(), RNG(1)
        mixed = rng.exponential(size=(200, 60)) ** 4 @ own.activations.reshape(60, 12)
        largest = own.shares().max(axis=0)
        assert np.all(shares(own.weights, mixed).max(axis=0) <= largest * (1.0 + 1e-12))

    @pytest.mark.parametrize("workload", WORKLOADS[:3], ids=lambda w: w.name)
    def test_features_are_non_negative_and_some_of_them_zero(self, workload: Workload) -> None:
        found = features(workload, 40, patches=4)
        assert found.shape[1:] == (4, 40)
        assert found.min() == 0.0
        assert found.max() > 0.0

    def test_of_inputs_within_a_half_grow_to_three_times_themselves_and_no_more(self) -> None:
        # The smaller a share is, the closer it comes: its own input up by a half, all others down by it.
        tiny = np.array([[1e-9, 1.0]])
        ratio = shares(tiny, np.array([1.5, 0.5]))[0, 0] / shares(tiny, np.ones(2))[0, 0]
        assert ratio == pytest.approx(3.0, rel=1e-6)
        own, rng = small_side(), RNG(4)
        exact = shares(own, np.ones(6))
        for _ in range(50):
            assert np.all(shares(own, rng.choice([0.5, 1.5], 6)) <= 3.0 * exact * (1.0 + 1e-12))

    def test_ratio_is_infinite_where_nothing_is_certified_but_something_is_seen(self) -> None:
        assert over(np.array([0.0, 1e-18]), np.zeros(2), 1e-16) == 0.0
        assert over(np.array([0.0, 1e-3]), np.zeros(2), 1e-16) == math.inf
        assert over(np.array([0.2, 0.3]), np.array([0.4, 0.4])) == pytest.approx(0.75)


class TestTransfer:
    def test_rarity_is_that_of_the_rarest_share(self) -> None:
        activations = np.ones((10, 1, 2))
        activations[:8, 0, 0] = 0.0  # active on a fifth of the inputs
        rarity, pairs = edges._rarity(Neurons(np.array([[1.0, 1.0]]), activations))
        assert pairs == 1  # the other one is at its largest value, or half of it, on every input
        assert rarity == pytest.approx(-1.0 / math.log(0.8))

    def test_whole_population_as_the_sample_leaves_no_error(self) -> None:
        own = small()
        every = edges.Transferred(own, own.shares().max(axis=0), 3000, factor=1.0)
        assert every(RNG(0)) <= 1.0  # 3000 draws of 30 inputs miss none

    def test_edges_that_are_active_independently_are_missed_about_as_often_as_promised(self) -> None:
        population = edges._independent_edges(30)
        rarity, pairs = edges._rarity(population)
        examples = SensitivityTransfer().examples(pairs, 0.1, rarity)
        activity = (population.activations[:, 0, :30] > 0.0).mean(axis=0)
        assert pairs == 30
        missed = 1.0 - np.prod(1.0 - (1.0 - activity) ** examples)
        assert 0.09 < missed <= 0.1


class TestDrawn:
    def test_optimistic_inverse_is_smaller_by_at_most_the_root_of_two(self) -> None:
        for bound, draws in ((2.0, 10**7), (30.0, 1000), (30.0, 10)):
            ratio = EdgeSampling().epsilon(SideClass(bound), draws, 1e-3) / drawn._optimistic(
                bound, draws, 1e-3
            )
            assert 1.0 < ratio <= math.sqrt(2.0) + 1e-9

    def test_extreme_law_is_that_of_draws_from_groups_of_edges(self) -> None:
        # Five inputs, each of which activates its own twenty of a hundred equal edges.
        share = np.kron(np.eye(5), np.full((1, 20), 0.05))
        values = share.max(axis=0)
        assert values.sum() == pytest.approx(5.0)
        draws = [IID().draw(values, 60, child) for child in RNG(2).spawn(400)]
        ratios = np.array([share[0, d.indices] @ d.kept_weights for d in draws])
        # 0 or b = 5 for each draw: the mean is 1, the variance (b - 1) / 60; four standard errors of each.
        assert ratios.mean() == pytest.approx(1.0, abs=4.0 * math.sqrt(4.0 / 60 / 400))
        assert ratios.var() == pytest.approx(4.0 / 60, rel=4.0 * math.sqrt(2.0 / 400))
        np.testing.assert_allclose(ratios * 12.0, np.round(ratios * 12.0), atol=1e-9)

    def test_extreme_law_is_within_delta_and_the_released_inverse_is_not(self) -> None:
        assert drawn.ExtremeLaw(drawn._exact_epsilon)(RNG(0)) <= 1.0
        assert drawn.ExtremeLaw(drawn._optimistic)(RNG(0)) > 5.0

    def test_error_of_the_rest_is_that_of_the_theorem_for_draws_from_it(self) -> None:
        side = drawn._side(WORKLOADS[0], spread=3.0)
        draw = Hybrid().draw(side.values, 200, RNG(0))
        sure = draw.probabilities == 1.0
        rest = SideClass(float(side.values[~sure].sum()), statements=len(side.worst.shares))
        promised = SureInclusion().epsilon(rest, 200 - int(sure.sum()), DELTA)
        assert drawn._sure_epsilon(side, 200, Hybrid()) == pytest.approx(promised, rel=1e-9)

    def test_total_is_one_when_the_sample_is_a_single_input(self) -> None:
        side = drawn._one_input(drawn._side(WORKLOADS[0], spread=1.5))
        assert side.parameters.bound == pytest.approx(1.0, abs=1e-12)
        # Draws with replacement are exact then, which is why relative entropy promises no error.
        draw = IID().draw(side.values, 50, RNG(0))
        assert side.worst(draw.indices, draw.kept_weights) <= ROUNDING

    def test_inputs_are_those_for_which_one_draw_varies_most(self) -> None:
        side = drawn._side(WORKLOADS[0])
        positive = neurons(WORKLOADS[0], 1, drawn._EDGES, spread=drawn._HEAVY)
        found = positive.shares()[:, 0, positive.weights[0] > 0.0]
        values = found.max(axis=0)
        variance = np.divide(found**2, values, out=np.zeros_like(found), where=values > 0.0).sum(axis=1)
        tested = (side.worst.shares**2 / side.values).sum(axis=1)
        assert tested.max() == pytest.approx(variance.max(), rel=1e-9)


class TestComposed:
    def test_factors_of_each_input_agree_with_common_ones(self) -> None:
        own = small()
        inputs = torch.from_numpy(own.activations[:, 0])
        factors = torch.from_numpy(RNG(3).exponential(size=own.weights.shape))
        weights = torch.from_numpy(own.weights)
        common = composed.errors(weights, factors, inputs)
        each = composed.errors(weights, factors.expand(len(inputs), -1, -1), inputs)
        for one, other in zip(common, each, strict=True):
            torch.testing.assert_close(one, other)

    def test_errors_are_those_of_the_definition(self) -> None:
        w, f, a = np.array([2.0, 1.0, -1.0]), np.array([1.5, 1.0, 0.0]), np.array([1.0, 2.0, 3.0])
        found = composed.errors(*(torch.from_numpy(v) for v in (w[None], f[None], a[None])))
        # Sides 4 and 3 become 5 and 0; the sum of 1 becomes 5.
        assert found.sides.ravel().tolist() == [0.25, 1.0]
        assert found.seen.item() == 4.0
        assert found.condition.item() == 7.0

    def test_neuron_that_no_input_reaches_has_no_error(self) -> None:
        zero = torch.zeros((1, 4), dtype=torch.float64)
        found = composed.errors(torch.ones_like(zero), 2.0 * torch.ones_like(zero), zero)
        assert (found.seen.item(), found.sides.sum().item(), found.condition.item()) == (0.0, 0.0, 1.0)

    def test_equal_errors_of_positive_weights_attain_the_composition(self) -> None:
        layers = tuple(torch.ones((2, 2), dtype=torch.float64) for _ in range(4))
        ratio = composed.ComposedRatio(layers, torch.ones((3, 2), dtype=torch.float64), 0.05)
        assert ratio(RNG(0)) == pytest.approx(1.0, rel=1e-9)

    def test_missing_cross_terms_are_a_smaller_claim(self) -> None:
        assert composed._linear([0.05, 0.05], [1.0, 2.0]) == [0.05, 0.2]
        assert ComposedError().errors([0.05, 0.05], [1.0, 2.0])[1] > 0.2


@pytest.mark.parametrize("key", ["Q5", "Q6", "Q7"])
def test_exact_claims_hold_and_every_fault_is_caught(key: str) -> None:
    check, caught = CHECKS[key], set()
    for scenario in check.scenarios(WORKLOADS[:2], PROFILES["quick"]):
        result = run_scenario(scenario, ScenarioTest(PROFILES["quick"], 1e-5, 1e-3, 0, check))
        assert result.honest.verdict is Verdict.CONSISTENT
        assert result.honest.largest > 0.99  # what the bounds allow is attained
        caught |= {fault.name for fault in result.faults if fault.result.verdict is Verdict.REFUTED}
    assert caught == set(check.faults)


def test_claims_about_draws_are_not_vacuous() -> None:
    for key in ("Q2", "Q3", "Q4"):
        for scenario in CHECKS[key].scenarios(WORKLOADS[:1], PROFILES["quick"]):
            assert scenario.vacuous == ""
            assert scenario.claimed.epsilon <= 1.0
            assert isinstance(scenario.claimed, Accuracy)
