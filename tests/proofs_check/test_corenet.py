"""What a reader may doubt about the attacks on CoreNet: worst cases, counted assumptions, and sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from coresets.accuracy import Accuracy
from coresets.weighted_set import WeightedSet
from nn.guarantees.corenet import CoreNetConstants, CoreNetSide, NetworkCompression
from nn.guarantees.edges import ComposedError, EdgeSampling
from proofs_check.checks._corenet_amplified import _best, _last, _one_group, _worst
from proofs_check.checks._corenet_network import Chain, _assumed, _divided, loud
from proofs_check.checks._edges import Neurons
from proofs_check.checks._populations import conditions, drawn, found_on, sides, tame
from proofs_check.checks.corenet import PerturbedShares, leaning
from proofs_check.trials import ROUNDING
from proofs_check.workloads import Workload

RNG = np.random.default_rng
CLOUD = Workload("cloud", "real", WeightedSet(RNG(0).standard_normal((300, 5))))


class TestSizes:
    @pytest.mark.parametrize("epsilon", [0.05, 0.5, 0.99])
    @pytest.mark.parametrize("total", [1.0, 7.5])
    def test_draws_of_c1_are_enough_for_the_sampling_theorem(self, total: float, epsilon: float) -> None:
        constants = CoreNetConstants(1, 16, 100, Accuracy(0.5, 0.1))
        needed = EdgeSampling().size(
            CoreNetSide().side(total, constants), Accuracy(epsilon, constants.delta / (4 * 16))
        )
        assert needed <= CoreNetSide().draws(total, constants, epsilon) <= 4.0 / 3.0 * needed + 2.0

    def test_draws_insert_layer_errors_into_the_stated_number_of_edges(self) -> None:
        constants = CoreNetConstants(3, 30, 20, Accuracy(0.5, 0.1))
        means = [2.0, 3.0, 1.5]
        for layer, error in enumerate(constants.layer_errors(means)):
            product = math.prod(mean + constants.kappa for mean in means[layer:])
            stated = 32.0 * 3**2 * product**2 * 2.5 * math.log(600.0) * math.log(2400.0) / 0.25
            assert CoreNetSide().draws(2.5, constants, error) == pytest.approx(stated, rel=1e-9)

    def test_the_budget_of_failures_is_seven_eighths_of_delta(self) -> None:
        c = CoreNetConstants(3, 30, 20, Accuracy(0.5, 0.1))
        shares = 30 * 20 * math.exp(-c.examples / c.factor)
        draws = 2 * 30 * c.delta / (4 * 30)
        numbers = 30 * c.delta / (4 * 30 * 20)
        assert shares <= c.delta / 8.0
        assert shares + draws + numbers <= 7.0 / 8.0 * c.delta

    def test_hidden_errors_stay_below_one_half_as_the_factor_of_three_needs(self) -> None:
        c = CoreNetConstants(4, 30, 20, Accuracy(0.999, 0.1))
        conditions = [1.0 + c.kappa] * 4
        found = ComposedError().errors(c.layer_errors([1.0] * 4), conditions)
        assert max(found[:-1]) < 0.5
        assert found[-1] <= NetworkCompression().output_error(c)
        assert NetworkCompression().output_error(c) <= 0.83 * 0.999


class TestPerturbedShares:
    def test_no_perturbation_of_a_few_shares_exceeds_the_formula(self) -> None:
        a = RNG(1).uniform(0.1, 1.0, 6)
        exact = a / a.sum()
        worst = np.zeros(6)
        for corner in np.ndindex(*(2,) * 6):
            moved = a * np.where(np.array(corner) == 1, 1.5, 0.5)
            worst = np.maximum(worst, moved / moved.sum())
        np.testing.assert_allclose(worst, 1.5 * exact / (0.5 + exact), rtol=ROUNDING)

    def test_small_shares_attain_the_factor(self) -> None:
        constants = CoreNetConstants(1, 2, 500, Accuracy(0.5, 0.1))
        population = Neurons(np.ones((1, 500)), RNG(2).uniform(0.9, 1.1, (5, 1, 500)))
        assert 0.99 < PerturbedShares(population, constants)(RNG(0)) <= 1.0
        assert PerturbedShares(population, constants, 1.0 / 3.0)(RNG(0)) > 2.9

    def test_perturbed_inputs_have_at_most_four_thirds_of_the_variance(self) -> None:
        shares = np.full(1000, 1e-3)
        for part, factor in ((0.25, 4.0 / 3.0), (0.0, 1.0), (1.0, 1.0), (0.5, 1.25)):
            moved = np.where(np.arange(1000) < part * 1000, 1.5, 0.5)
            moment = float((moved**2 * shares).sum() / (moved * shares).sum() ** 2)
            assert moment == pytest.approx(factor)


class TestConditions:
    def test_those_of_the_library_are_those_of_the_definition(self) -> None:
        population = Neurons(RNG(3).standard_normal((4, 6)), RNG(4).uniform(0.0, 1.0, (20, 1, 6)))
        mean = found_on(population, population.activations).mean_condition
        assert mean is not None
        np.testing.assert_allclose(mean[0].numpy(), conditions(population).mean(axis=0), rtol=1e-9)

    def test_a_neuron_without_input_is_well_conditioned(self) -> None:
        assert conditions(Neurons(np.ones((1, 2)), np.zeros((1, 1, 2)))).tolist() == [[1.0]]

    def test_two_equally_likely_values_are_tame_from_their_deviation_on(self) -> None:
        # ln cosh(u) <= u^2 / 2, and no smaller parameter has the variance.
        values = np.array([[1.0], [3.0]])
        assert tame(values, 1.0)
        assert not tame(values, 0.99)

    def test_a_rare_large_value_is_not_tame(self) -> None:
        values = np.ones((1000, 1))
        values[0] = 1000.0
        assert not tame(values, 10.0)
        assert tame(values, 1000.0)

    def test_weights_lean_until_the_assumption_holds_and_no_further(self) -> None:
        activations = np.maximum(RNG(5).standard_normal((400, 1, 10)) + 0.3, 0.0)
        found = leaning(CLOUD, 5, activations, 2.0)
        assert tame(conditions(found), 2.0)
        less = Neurons(found.weights - 0.1, activations)
        assert not tame(conditions(less), 2.0)


class TestChain:
    chain = Chain((np.array([[1.0, -0.5], [2.0, 0.5]]), np.array([[1.0, -0.4]])))

    def test_factors_of_sides_are_applied_layer_by_layer(self) -> None:
        x = np.array([1.0, 1.0])
        assert [s.tolist() for s in self.chain.forward(x)] == [[0.5, 2.5], [-0.5]]
        factors = [(2.0 * np.ones(2), np.ones(2)), (np.ones(1), 2.0 * np.ones(1))]
        assert [s.tolist() for s in self.chain.forward(x, factors)] == [[1.5, 5.0], [-2.5]]

    def test_no_corner_of_a_small_network_is_worse_than_the_directions_found(self) -> None:
        x, errors = np.array([1.0, 1.0]), [0.01, 0.02]
        exact = self.chain.forward(x)[-1][0]
        worst = 0.0
        for corner in np.ndindex(*(2,) * 6):
            s = 1.0 - 2.0 * np.array(corner)
            factors = [
                (1.0 + 0.01 * s[:2], 1.0 + 0.01 * s[2:4]),
                (1.0 + 0.02 * s[4:5], 1.0 + 0.02 * s[5:]),
            ]
            worst = max(worst, abs(float(self.chain.forward(x, factors)[-1][0] - exact)) / abs(exact))
        assert self.chain.worst(x, errors) == pytest.approx(worst, rel=1e-9)

    def test_estimates_are_exactly_the_condition_numbers(self) -> None:
        constants = CoreNetConstants(2, 3, 2, Accuracy(0.5, 0.1))
        first, second = _divided(constants, [3.0, 2.0])
        assert second == pytest.approx(0.5 / 4.0 / 2.0)
        assert first == pytest.approx(0.5 / 4.0 / 6.0)


def test_rare_features_are_as_rare_as_asked_for_and_a_lost_one_breaks_the_assumption() -> None:
    found = loud(CLOUD, 50, 0.2)
    counts = found[:, :-1].sum(axis=0)
    assert set(counts.tolist()) == {float(np.ceil(0.2 * len(found)))}
    constants = CoreNetConstants(2, 6, 50, Accuracy(0.5, 0.1))
    chain = Chain((RNG(6).uniform(0.5, 1.5, (4, 50)), np.ones((2, 4))))
    assert _assumed(chain, found, constants)
    found[:, 0] = np.arange(len(found)) == 0
    assert not _assumed(chain, found, constants)


def test_draws_are_unbiased_and_sides_without_sensitivities_get_none() -> None:
    own = sides(np.array([[1.0, 2.0, -1.0, 0.0]]))
    values = np.array([[0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    runs = [drawn(own, values, np.array([50.0, 0.0]), child) for child in RNG(7).spawn(2000)]
    mean = np.mean(runs, axis=0)
    np.testing.assert_allclose(mean[0, :2], 1.0, atol=5.0 * math.sqrt(2.0 / 50.0 / 2000.0))
    assert not bool(mean[1].any())
    huge = drawn(own, values, np.array([1e18, 0.0]), RNG(8))
    np.testing.assert_allclose(huge[0, :2], 1.0, atol=1e-7)


def test_runs_are_chosen_by_the_mean_error_over_those_judged_on() -> None:
    errors = np.array([[[0.1], [0.9]], [[0.3], [0.3]], [[0.8], [0.8]]])  # runs, inputs, one side
    judged, group = np.array([0.5, 0.5]), np.array([True, False])
    assert _best(errors, judged, group).tolist() == [1]
    assert _last(errors, judged, group).tolist() == [2]
    assert _worst(errors, judged, group).tolist() == [2]
    assert _one_group(errors, judged, group).tolist() == [0]
