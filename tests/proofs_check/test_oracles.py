from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from coresets.weighted_set import WeightedSet
from proofs_check.oracles import LargestPowerShares, largest_absolute_shares, largest_square_shares

ROUNDING = 1e5 * float(
    np.finfo(np.float64).eps
)  # condition numbers up to about 1e3, squared in the Gram matrix
SOLVED = 1e-7  # default feasibility tolerance of the linear programmes


def weighted(n: int, d: int, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    return WeightedSet(rng.standard_normal((n, d)) * 2.0 ** np.arange(d), rng.uniform(0.1, 4.0, n))


def shares(data: WeightedSet, queries: np.ndarray, power: float) -> np.ndarray:
    """Share of every point at every query (one a column), (n, k)."""
    costs = data.weights[:, None] * np.abs(data.points @ queries) ** power
    return costs / costs.sum(axis=0)


def primal_absolute_share(rows: np.ndarray, i: int) -> float:
    """Largest a_i.x subject to sum_j |a_j.x| <= 1, with one slack a row."""
    n, d = rows.shape
    solved = linprog(
        np.concatenate([-rows[i], np.zeros(n)]),
        A_ub=np.block([[rows, -np.eye(n)], [-rows, -np.eye(n)], [np.zeros((1, d)), np.ones((1, n))]]),
        b_ub=np.append(np.zeros(2 * n), 1.0),
        bounds=(None, None),
    )
    assert solved.status == 0
    return float(-solved.fun)


def test_linear_programmes_have_no_duality_gap() -> None:
    data = weighted(15, 3)
    found = largest_absolute_shares(data)
    rows = data.points * data.weights[:, None]
    assert found == pytest.approx([primal_absolute_share(rows, i) for i in range(15)], abs=SOLVED)


def test_absolute_shares_in_the_plane_are_attained_at_extreme_rays() -> None:
    data = weighted(20, 2)
    rays = np.stack([-data.points[:, 1], data.points[:, 0]])
    assert largest_absolute_shares(data) == pytest.approx(shares(data, rays, 1.0).max(axis=1), abs=SOLVED)


@pytest.mark.parametrize(("oracle", "power"), [(largest_square_shares, 2.0), (largest_absolute_shares, 1.0)])
def test_no_direction_gives_a_point_a_larger_share(oracle: object, power: float) -> None:
    data = weighted(12, 3, seed=4)
    found = oracle(data)  # type: ignore[operator]
    directions = np.random.default_rng(5).standard_normal((3, 50_000))
    searched = shares(data, directions, power).max(axis=1)
    assert np.all(searched <= found + SOLVED)
    assert np.all(searched >= 0.9 * found)  # 50,000 directions come within a few degrees of any


def test_square_shares_are_leverage_scores() -> None:
    data = weighted(40, 4)
    q = np.linalg.qr(data.points * np.sqrt(data.weights)[:, None])[0]
    found = largest_square_shares(data)
    assert found == pytest.approx(np.sum(q * q, axis=1), rel=ROUNDING)
    assert found.sum() == pytest.approx(4.0, rel=ROUNDING)


@pytest.mark.parametrize(("oracle", "power"), [(largest_square_shares, 2.0), (largest_absolute_shares, 1.0)])
def test_in_one_dimension_the_share_is_the_cost_over_the_total(oracle: object, power: float) -> None:
    data = weighted(9, 1)
    cost = data.weights * np.abs(data.points[:, 0]) ** power
    assert oracle(data) == pytest.approx(cost / cost.sum(), abs=SOLVED)  # type: ignore[operator]


@pytest.mark.parametrize(("oracle", "power"), [(largest_square_shares, 2.0), (largest_absolute_shares, 1.0)])
class TestDegenerate:
    def test_rank_deficient_points_have_the_shares_of_their_coordinates(
        self, oracle: object, power: float
    ) -> None:
        data = weighted(12, 2)
        flat = WeightedSet(data.points @ np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 5.0]]), data.weights)
        assert oracle(flat) == pytest.approx(oracle(data), abs=SOLVED)  # type: ignore[operator]

    def test_rows_of_zeros_and_points_without_weight_have_no_share(
        self, oracle: object, power: float
    ) -> None:
        data = weighted(10, 2)
        points, weights = data.points.copy(), data.weights.copy()
        points[3] = 0.0
        weights[6] = 0.0
        rest = np.setdiff1d(np.arange(10), [3, 6])
        found = oracle(WeightedSet(points, weights))  # type: ignore[operator]
        assert found[[3, 6]] == pytest.approx([0.0, 0.0], abs=0.0)
        alone = oracle(WeightedSet(points[rest], weights[rest]))  # type: ignore[operator]
        assert found[rest] == pytest.approx(alone, abs=SOLVED)

    def test_two_copies_have_half_the_share_of_one_point_each(self, oracle: object, power: float) -> None:
        data = weighted(8, 2)
        twice = WeightedSet(np.repeat(data.points, 2, axis=0), np.repeat(data.weights, 2))
        expected = np.repeat(oracle(data), 2) / 2.0  # type: ignore[operator]
        assert oracle(twice) == pytest.approx(expected, abs=SOLVED)  # type: ignore[operator]

    def test_points_at_the_origin_have_no_share_at_all(self, oracle: object, power: float) -> None:
        assert np.array_equal(oracle(WeightedSet(np.zeros((4, 2)))), np.zeros(4))  # type: ignore[operator]

    def test_one_point_has_the_whole_cost(self, oracle: object, power: float) -> None:
        assert oracle(WeightedSet([[1.0, 2.0]])) == pytest.approx([1.0], abs=SOLVED)  # type: ignore[operator]

    def test_scales_of_columns_and_weights_do_not_matter(self, oracle: object, power: float) -> None:
        data = weighted(12, 3)
        other = WeightedSet(data.points * [1e-6, 1.0, 1e6], 1e8 * data.weights)
        assert oracle(other) == pytest.approx(oracle(data), abs=SOLVED)  # type: ignore[operator]


# The objective is good to Clarabel's default 1e-8, the share to its power-th root at worst tenfold.
CONVEX = 1e-6


@pytest.mark.parametrize(("power", "exact"), [(1.0, largest_absolute_shares), (2.0, largest_square_shares)])
def test_convex_programmes_agree_with_the_special_cases(power: float, exact: object) -> None:
    data = weighted(10, 3)
    expected = exact(data)  # type: ignore[operator]
    assert LargestPowerShares(power)(data) == pytest.approx(expected, abs=CONVEX)


@pytest.mark.parametrize("power", [1.5, 3.0, 4.0])
def test_convex_programmes_find_the_largest_share_in_the_plane(power: float) -> None:
    data = weighted(8, 2)
    angles = np.linspace(0.0, np.pi, 40_001)
    searched = shares(data, np.stack([np.cos(angles), np.sin(angles)]), power).max(axis=1)
    # The share is smooth about its maximum, so the grid misses it by the square of the spacing.
    assert LargestPowerShares(power)(data) == pytest.approx(searched, abs=CONVEX)


def test_convex_programmes_pass_over_points_at_the_origin() -> None:
    points = weighted(6, 2).points.copy()
    points[2] = 0.0
    found = LargestPowerShares(1.5)(WeightedSet(points))
    assert found[2] == 0.0
    assert found[found > 0.0].size == 5
    assert np.array_equal(LargestPowerShares(1.5)(WeightedSet(np.zeros((3, 2)))), np.zeros(3))
