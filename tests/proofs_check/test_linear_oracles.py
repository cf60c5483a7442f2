from __future__ import annotations

import numpy as np
import pytest

from coresets.weighted_set import WeightedSet
from proofs_check.linear_oracles import (
    largest_relu_shares,
    linf_factor,
    one_sided_factor,
    smallest_balance,
)
from proofs_check.neuron_queries import ABSOLUTE, IDENTITY, RELU, NeuronWorst, Slopes

SOLVED = 1e-6  # feasibility tolerance of the linear programmes, tenfold
ROUNDING = 1e5 * float(np.finfo(np.float64).eps)


def cloud(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * 2.0 ** np.arange(d) + shift


def circle(count: int) -> np.ndarray:
    """Directions all around the plane, one a column."""
    angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)])


class TestLInfFactor:
    def test_all_points_leave_nothing_out(self) -> None:
        assert linf_factor(cloud(10, 3), np.arange(10)) == 1.0

    def test_in_the_plane_it_is_the_worst_ratio_of_all_directions(self) -> None:
        points, kept = cloud(30, 2), np.array([1, 5, 8])
        images = np.abs(points @ circle(200_000))
        searched = np.max(images.max(axis=0) / images[kept].max(axis=0))
        found = linf_factor(points, kept)
        assert searched <= found * (1.0 + SOLVED)
        assert found == pytest.approx(searched, rel=1e-3)  # the grid misses the kink by its spacing

    def test_a_cross_polytope_misses_the_corner_of_the_cube_by_the_dimension(self) -> None:
        points = np.vstack([np.eye(4), np.ones((1, 4))])
        assert linf_factor(points, np.arange(4)) == pytest.approx(4.0, rel=SOLVED)

    def test_kept_points_that_span_less_than_the_set_have_no_factor(self) -> None:
        assert linf_factor(cloud(10, 3), np.array([0, 1])) == np.inf
        assert linf_factor(cloud(10, 3), np.array([], dtype=int)) == np.inf

    def test_flat_sets_have_the_factor_of_their_coordinates(self) -> None:
        points = cloud(12, 2)
        flat = points @ np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 5.0]])
        kept = np.array([0, 3, 7])
        assert linf_factor(flat, kept) == pytest.approx(linf_factor(points, kept), rel=SOLVED)

    def test_units_of_the_columns_do_not_matter(self) -> None:
        points, kept = cloud(12, 3), np.array([0, 3, 7, 9])
        scaled = points * np.array([1e-8, 1.0, 1e8])
        assert linf_factor(scaled, kept) == pytest.approx(linf_factor(points, kept), rel=SOLVED)

    def test_points_at_the_origin_are_answered_by_nothing(self) -> None:
        assert linf_factor(np.zeros((3, 2)), np.array([], dtype=int)) == 1.0


class TestOneSidedFactor:
    def test_in_the_plane_it_is_the_worst_ratio_of_all_directions(self) -> None:
        points, kept = cloud(30, 2), np.arange(12)
        images = np.maximum(points @ circle(200_000), 0.0)
        searched = np.max(images.max(axis=0) / images[kept].max(axis=0))
        found = one_sided_factor(points, kept)
        assert searched <= found * (1.0 + SOLVED)
        assert found == pytest.approx(searched, rel=1e-3)

    def test_it_is_infinite_where_a_query_turns_away_from_all_kept_points(self) -> None:
        points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        assert one_sided_factor(points, np.array([0, 1])) == np.inf
        assert one_sided_factor(points, np.array([], dtype=int)) == np.inf

    def test_it_is_finite_where_left_out_points_lie_in_the_cone(self) -> None:
        points = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
        assert one_sided_factor(points, np.array([0, 1])) == pytest.approx(5.0, rel=SOLVED)

    def test_it_is_never_below_the_factor_of_two_sides_for_symmetric_sets(self) -> None:
        half = cloud(8, 3)
        points, kept = np.vstack([half, -half]), np.array([0, 1, 2, 3, 8, 9, 10, 11])
        assert one_sided_factor(points, kept) == pytest.approx(linf_factor(points, kept), rel=SOLVED)


class TestReLUShares:
    def test_in_the_plane_no_direction_gives_more(self) -> None:
        data = WeightedSet(cloud(15, 2), np.random.default_rng(1).uniform(0.1, 3.0, 15))
        active = data.weights[:, None] * np.maximum(data.points @ circle(100_000), 0.0)
        searched = np.max(active / np.maximum(active.sum(axis=0), 1e-300), axis=1)
        found = largest_relu_shares(data)
        assert np.all(searched <= found + SOLVED)
        assert found == pytest.approx(searched, abs=1e-3)

    def test_a_point_outside_the_cone_of_the_others_has_the_whole_sum_to_itself(self) -> None:
        points = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        assert largest_relu_shares(WeightedSet(points)) == pytest.approx([1.0, 1.0, 0.5], abs=SOLVED)

    def test_zero_rows_and_points_without_weight_have_no_share(self) -> None:
        points = cloud(6, 2)
        points[2] = 0.0
        found = largest_relu_shares(WeightedSet(points, [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]))
        assert found[[2, 3]] == pytest.approx([0.0, 0.0], abs=0.0)
        assert np.array_equal(largest_relu_shares(WeightedSet(np.zeros((3, 2)))), np.zeros(3))


class TestBalance:
    @pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
    def test_in_the_plane_it_is_the_least_of_all_directions(self, shift: float) -> None:
        points, weights = cloud(20, 2, shift=shift), np.random.default_rng(1).uniform(0.1, 3.0, 20)
        images = points @ circle(200_000)
        searched = np.min(2.0 * weights @ np.maximum(images, 0.0) / (weights @ np.abs(images)))
        assert smallest_balance(points, weights) == pytest.approx(searched, abs=1e-4)

    def test_points_on_one_side_have_none(self) -> None:
        assert smallest_balance(np.abs(cloud(10, 3)), np.ones(10)) <= ROUNDING

    def test_a_symmetric_set_is_balanced(self) -> None:
        half = cloud(10, 3)
        assert smallest_balance(np.vstack([half, -half]), np.ones(20)) == pytest.approx(1.0, abs=SOLVED)

    def test_no_cost_is_balanced(self) -> None:
        assert smallest_balance(np.zeros((3, 2)), np.ones(3)) == 1.0


def dense_error(worst: NeuronWorst, indices: np.ndarray, factors: np.ndarray, queries: np.ndarray) -> float:
    """The same error at many queries in the coordinates of the points, by its definition."""
    images = worst.points @ queries
    excess = -np.ones(len(images))
    excess[indices] += factors
    off = np.abs((excess[:, None] * worst.outgoing).T @ worst.link(images))
    totals = worst.base @ worst.measure(images)
    return float(np.max(off[:, totals > 0.0] / totals[totals > 0.0]))


SLOPES = [
    (RELU, ABSOLUTE),
    (ABSOLUTE, ABSOLUTE),
    (IDENTITY, ABSOLUTE),
    (RELU, RELU),
    (Slopes(1.0, -0.2), ABSOLUTE),
]


class TestNeuronWorst:
    @pytest.mark.parametrize(("link", "measure"), SLOPES)
    @pytest.mark.parametrize("outputs", [1, 3])
    def test_the_plane_is_searched_exactly(self, link: Slopes, measure: Slopes, outputs: int) -> None:
        rng = np.random.default_rng(3)
        outgoing = (
            rng.standard_normal((25, outputs)) if measure is ABSOLUTE else rng.uniform(0.1, 1.0, (25, 1))
        )
        worst = NeuronWorst(cloud(25, 2), outgoing, np.abs(outgoing).max(axis=1), link, measure)
        indices, factors = np.arange(0, 25, 2), rng.uniform(0.5, 3.0, 13)
        searched = dense_error(worst, indices, factors, circle(100_000))
        found = worst(indices, factors)
        assert searched <= found * (1.0 + ROUNDING)
        assert found == pytest.approx(searched, rel=1e-3)

    @pytest.mark.parametrize(("link", "measure"), SLOPES)
    def test_ascent_comes_close_to_many_random_directions(self, link: Slopes, measure: Slopes) -> None:
        rng = np.random.default_rng(4)
        outgoing = rng.uniform(0.1, 1.0, (25, 1))
        worst = NeuronWorst(cloud(25, 3), outgoing, outgoing[:, 0], link, measure)
        indices, factors = np.arange(0, 25, 2), rng.uniform(0.5, 3.0, 13)
        searched = dense_error(
            worst, indices, factors, rng.standard_normal((3, 100_000)) / [[1.0], [2.0], [4.0]]
        )
        assert worst(indices, factors) >= 0.9 * searched

    def test_keeping_everything_makes_no_error(self) -> None:
        worst = NeuronWorst(cloud(20, 3), np.ones((20, 1)), np.ones(20), RELU)
        assert worst(np.arange(20), np.ones(20)) == 0.0

    def test_keeping_nothing_loses_all_that_is_counted(self) -> None:
        worst = NeuronWorst(cloud(20, 2), np.ones((20, 1)), np.ones(20), ABSOLUTE)
        assert worst(np.array([], dtype=int), np.array([])) == pytest.approx(1.0, rel=ROUNDING)

    def test_on_a_line_both_signs_are_tried(self) -> None:
        points = np.array([[1.0], [-1.0], [2.0]])
        worst = NeuronWorst(points, np.ones((3, 1)), np.ones(3), RELU)
        assert worst(np.array([0, 2]), np.ones(2)) == pytest.approx(0.25, rel=ROUNDING)

    def test_points_at_the_origin_cost_nothing(self) -> None:
        worst = NeuronWorst(np.zeros((4, 2)), np.ones((4, 1)), np.ones(4), RELU)
        assert worst(np.array([0]), np.array([9.0])) == 0.0

    def test_neurons_without_outgoing_weight_do_not_matter(self) -> None:
        points, outgoing = cloud(10, 2), np.ones((10, 1))
        outgoing[4:] = 0.0
        kept = NeuronWorst(points[:4], outgoing[:4], outgoing[:4, 0], RELU)
        every = NeuronWorst(points, outgoing, outgoing[:, 0], RELU)
        chosen, factors = np.array([0, 2]), np.array([2.0, 1.5])
        assert every(chosen, factors) == pytest.approx(kept(chosen, factors), rel=ROUNDING)
