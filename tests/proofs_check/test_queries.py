from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from coresets.weighted_set import WeightedSet
from proofs_check.queries import AbsoluteWorst, FiniteWorst, HalfLineWorst, SquaresWorst

# Sums of some hundred terms of either sign, in coordinates whose condition number is at most about 1e3.
ROUNDING = 1e6 * float(np.finfo(np.float64).eps)


def weighted(n: int, d: int, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    return WeightedSet(rng.standard_normal((n, d)) * 3.0 ** np.arange(d), rng.uniform(0.1, 5.0, n))


def drawn(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    indices = np.flatnonzero(rng.random(n) < 0.3)
    return indices, rng.uniform(0.5, 6.0, indices.size)


def relative_errors(
    data: WeightedSet, indices: np.ndarray, factors: np.ndarray, queries: np.ndarray, power: float
) -> np.ndarray:
    """Plain definition: one query a column."""
    costs = np.abs(data.points @ queries) ** power
    full = data.weights @ costs
    return np.abs((data.weights[indices] * factors) @ costs[indices] - full) / full


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_no_direction_beats_the_worst_squared_query_and_one_attains_it(d: int) -> None:
    data = weighted(120, d)
    indices, factors = drawn(120)
    worst = SquaresWorst(data)(indices, factors)
    directions = np.random.default_rng(2).standard_normal((d, 20_000))
    assert relative_errors(data, indices, factors, directions, 2.0).max() <= worst + ROUNDING
    # Eigenvectors of the difference of the Gram matrices relative to the full one.
    rows = data.points * np.sqrt(data.weights)[:, None]
    kept = rows[indices] * np.sqrt(factors)[:, None]
    values, vectors = linalg.eigh(kept.T @ kept, rows.T @ rows)
    assert worst == pytest.approx(np.abs(values - 1.0).max(), abs=ROUNDING)
    attained = relative_errors(data, indices, factors, vectors, 2.0).max()
    assert attained == pytest.approx(worst, abs=ROUNDING)


def test_directions_without_data_do_not_count_for_squares() -> None:
    data = weighted(60, 2)
    flat = WeightedSet(data.points @ np.array([[1.0, 2.0, -1.0], [0.5, 1.0, 3.0]]), data.weights)
    chosen = drawn(60)
    assert SquaresWorst(flat)(*chosen) == pytest.approx(SquaresWorst(data)(*chosen), abs=ROUNDING)


@pytest.mark.parametrize("seed", range(5))
def test_every_threshold_with_half_the_mass_is_tried(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, 80).astype(float)  # many ties
    weights = rng.uniform(0.0, 2.0, 80)
    data = WeightedSet(values[:, None], weights)
    indices, factors = drawn(80, seed)
    estimate = np.zeros(80)
    estimate[indices] = weights[indices] * factors
    errors = []
    for threshold in np.unique(values):
        inside = values >= threshold
        if weights[inside].sum() >= 0.5 * weights.sum():
            errors.append(abs(estimate[inside].sum() / weights[inside].sum() - 1.0))
    assert HalfLineWorst(data)(indices, factors) == pytest.approx(max(errors), abs=ROUNDING)


def test_a_tie_is_never_split_by_a_threshold() -> None:
    data = WeightedSet(np.ones((4, 1)))
    # Only one half-line has mass, that of all four points, and its estimate is right.
    assert HalfLineWorst(data)(np.array([3]), np.array([4.0])) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_absolute_values_in_the_plane_are_exact(seed: int) -> None:
    data = weighted(70, 2, seed)
    indices, factors = drawn(70, seed + 10)
    worst = AbsoluteWorst(data)(indices, factors)
    angles = np.linspace(0.0, np.pi, 20_001)
    grid = relative_errors(data, indices, factors, np.stack([np.cos(angles), np.sin(angles)]), 1.0)
    assert grid.max() <= worst + ROUNDING
    # The ratio is monotone between the queries orthogonal to a point, so its maximum is at one.
    orthogonal = np.stack([-data.points[:, 1], data.points[:, 0]])
    assert worst == pytest.approx(
        relative_errors(data, indices, factors, orthogonal, 1.0).max(), abs=ROUNDING
    )


@pytest.mark.parametrize("points", [[[1.0, 0.0], [-1.0, 0.0], [0.0, -2.0], [2.0, 2.0], [-1.0, -1.0]]])
def test_opposite_points_and_points_on_the_axes_are_handled(points: list[list[float]]) -> None:
    data = WeightedSet(points, [1.0, 2.0, 0.5, 0.0, 3.0])
    indices, factors = np.array([0, 2, 4]), np.array([2.5, 1.0, 0.8])
    orthogonal = np.stack([-data.points[:, 1], data.points[:, 0]])
    expected = relative_errors(data, indices, factors, orthogonal, 1.0).max()
    assert AbsoluteWorst(data)(indices, factors) == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("seed", range(3))
def test_the_ascent_in_space_finds_what_100000_random_queries_find(seed: int) -> None:
    data = weighted(150, 3, seed)
    indices, factors = drawn(150, seed + 20)
    found = AbsoluteWorst(data)(indices, factors)
    random = np.random.default_rng(seed).standard_normal((3, 100_000))
    assert found >= 0.95 * relative_errors(data, indices, factors, random, 1.0).max()


@pytest.mark.parametrize("seed", range(3))
def test_the_ascent_in_space_stays_below_the_exact_maximum(seed: int) -> None:
    data = weighted(25, 3, seed)
    indices, factors = drawn(25, seed + 30)
    first, second = np.triu_indices(25, 1)
    rays = np.cross(data.points[first], data.points[second]).T  # all extreme rays of the arrangement
    exact = relative_errors(data, indices, factors, rays, 1.0).max()
    found = AbsoluteWorst(data)(indices, factors)
    assert 0.8 * exact <= found <= exact + ROUNDING


def test_on_a_line_every_query_has_the_same_absolute_error() -> None:
    data = weighted(40, 1)
    chosen = drawn(40)
    expected = relative_errors(data, *chosen, np.ones((1, 1)), 1.0).max()
    assert AbsoluteWorst(data)(*chosen) == pytest.approx(expected, abs=ROUNDING)


def test_listed_queries_are_compared_by_the_definition() -> None:
    data = weighted(50, 3)
    queries = np.random.default_rng(3).standard_normal((3, 7))
    worst = FiniteWorst.of(data, [np.abs(data.points @ x) ** 2.0 for x in queries.T])
    assert np.allclose(worst.shares.sum(axis=1), 1.0, rtol=0.0, atol=ROUNDING)
    chosen = drawn(50)
    expected = relative_errors(data, *chosen, queries, 2.0).max()
    assert worst(*chosen) == pytest.approx(expected, abs=ROUNDING)


def test_listed_queries_that_cost_nothing_are_left_out() -> None:
    data = weighted(5, 2)
    worst = FiniteWorst.of(data, [np.zeros(5), np.ones(5)])
    assert worst.shares.shape == (1, 5)
    nothing = FiniteWorst.of(data, [np.zeros(5)])
    assert nothing(np.arange(2), np.ones(2)) == 0.0


CASES = {
    "general": weighted(30, 3).points,
    "plane": weighted(30, 2).points,
    "line": weighted(30, 1).points,
    "zero rows": np.vstack([np.zeros((10, 3)), weighted(20, 3).points]),
    "zero rows on a line": np.vstack([np.zeros((10, 1)), weighted(20, 1).points]),
    "rank deficient": np.outer(weighted(30, 1).points, [1.0, 2.0, 3.0]),
    "fewer points than columns": weighted(3, 6).points,
}


@pytest.mark.parametrize("points", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("kind", [SquaresWorst, AbsoluteWorst, HalfLineWorst])
def test_all_points_are_exact_and_none_has_error_one(kind: type, points: np.ndarray) -> None:
    worst = kind(WeightedSet(points))
    everything = np.arange(len(points)), np.ones(len(points))
    assert worst(*everything) == pytest.approx(0.0, abs=ROUNDING)
    nothing = np.zeros(0, dtype=np.intp), np.zeros(0)
    assert worst(*nothing) == 1.0
    doubled = np.arange(len(points)), np.full(len(points), 2.0)
    assert worst(*doubled) == pytest.approx(1.0, abs=ROUNDING)


def test_an_empty_coreset_of_listed_queries_has_error_one() -> None:
    worst = FiniteWorst(np.full((2, 4), 0.25))
    assert worst(np.zeros(0, dtype=np.intp), np.zeros(0)) == 1.0


@pytest.mark.parametrize("kind", [SquaresWorst, AbsoluteWorst])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_points_at_the_origin_cost_nothing_so_nothing_can_be_wrong(kind: type, d: int) -> None:
    worst = kind(WeightedSet(np.zeros((5, d))))
    assert worst(np.array([0]), np.array([3.0])) == 0.0
    assert worst(np.zeros(0, dtype=np.intp), np.zeros(0)) == 0.0
