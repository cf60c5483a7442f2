"""kappa: brute force in the plane, other formulations of the programme, laws, degenerate data, refusals."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coresets.errors import SolverError
from coresets.homogeneous import relu_balance
from coresets.homogeneous.balance import _proved_lower_bound

EPS = float(np.finfo(np.float64).eps)
GAP = 1e-6  # what relu_balance promises by default

seeds = st.integers(0, 2**32 - 1)


def share(points: np.ndarray, weights: np.ndarray, query: np.ndarray) -> float:
    """2 sum w [p.x]_+ / sum w |p.x|."""
    images = points @ query
    return float(2.0 * weights @ np.maximum(images, 0.0) / (weights @ np.abs(images)))


def by_least_sup_norm(points: np.ndarray, weights: np.ndarray) -> float:
    """1 - min s subject to sum y a = sum a and |y| <= s: the statement itself."""
    rows = points * weights[:, None]
    n, d = rows.shape
    solved = linprog(
        np.r_[np.zeros(n), 1.0],
        A_ub=np.block([[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))]]),
        b_ub=np.zeros(2 * n),
        A_eq=np.hstack([rows.T, np.zeros((d, 1))]),
        b_eq=rows.sum(axis=0),
        bounds=(None, None),
        method="highs-ipm",
    )
    assert solved.status == 0
    return 1.0 - float(solved.fun)


def problem(seed: int, n: int = 30, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_t(3, (n, d)) + 0.3, rng.uniform(0.2, 3.0, n)


@settings(max_examples=25)
@given(seeds, st.integers(1, 40), st.integers(1, 5))
def test_kappa_is_the_value_of_the_stated_programme(seed: int, n: int, d: int) -> None:
    points, weights = problem(seed, n, d)
    balance = relu_balance(points, weights)
    expected = by_least_sup_norm(points, weights)
    assert balance.kappa - GAP <= expected <= balance.kappa_upper + GAP
    assert balance.certificate.holds


@settings(max_examples=25)
@given(seeds)
def test_in_the_plane_no_direction_is_below_kappa_and_the_query_attains_it(seed: int) -> None:
    """The share is monotone between directions orthogonal to points, so those and their sides suffice."""
    points, weights = problem(seed, 25, 2)
    balance = relu_balance(points, weights)
    turned = points @ np.array([[0.0, -1.0], [1.0, 0.0]])
    directions = np.vstack([turned, -turned])
    brute = min(share(points, weights, x) for x in directions)
    assert balance.kappa <= brute * (1.0 + 10 * EPS)
    assert brute - balance.kappa <= GAP
    assert share(points, weights, balance.query) == pytest.approx(balance.kappa_upper, abs=100 * EPS)


@settings(max_examples=15)
@given(seeds)
def test_random_queries_never_go_below_kappa(seed: int) -> None:
    points, weights = problem(seed, 60, 4)
    kappa = relu_balance(points, weights).kappa
    queries = np.random.default_rng(seed).standard_normal((500, 4))
    assert all(share(points, weights, x) >= kappa for x in queries)


def test_symmetric_data_have_kappa_one() -> None:
    points = np.random.default_rng(0).standard_normal((20, 3))
    balance = relu_balance(np.vstack([points, -points]))
    assert balance.kappa == pytest.approx(1.0, abs=1e-12)
    assert balance.kappa_upper == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "points",
    [
        np.abs(np.random.default_rng(1).standard_normal((50, 3))),
        np.random.default_rng(2).standard_normal((5, 5)),
        np.random.default_rng(3).standard_normal((3, 8)),
        np.array([[1.0, 2.0]]),
        np.column_stack([np.random.default_rng(4).standard_normal((30, 2)) * 0.1, np.ones(30)]),
    ],
    ids=["orthant", "independent", "fewer points than columns", "one point", "large bias"],
)
def test_kappa_is_zero_where_some_query_switches_every_relu_off(points: np.ndarray) -> None:
    balance = relu_balance(points)
    assert balance.kappa <= 1e-12  # rounding of n terms in orthonormal coordinates
    assert balance.kappa_upper <= 1e-9
    assert np.max(points @ balance.query) <= 1e-9 * np.max(np.abs(points @ balance.query))


def test_one_dimension_is_arithmetic() -> None:
    points, weights = np.array([[3.0], [-1.0], [2.0]]), np.array([1.0, 2.0, 0.5])
    # Positive 3 + 1, negative 2, so the lesser share is 2 of 6.
    balance = relu_balance(points, weights)
    assert balance.kappa == pytest.approx(2.0 / 3.0, abs=1e-12)
    assert balance.query.tolist() == [-1.0]


@settings(max_examples=10)
@given(seeds)
def test_laws_of_the_weighted_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, weights = problem(seed, 30, 3)
    kappa = relu_balance(points, weights).kappa
    order = rng.permutation(30)
    turn = rng.standard_normal((3, 3)) + 3.0 * np.eye(3)
    equal = {
        "permuted": (points[order], weights[order]),
        "split": (np.vstack([points, points]), np.r_[0.25 * weights, 0.75 * weights]),
        "mapped": (points @ turn, weights),
        "scaled": (points * [1e-6, 1.0, 1e6], weights * 1e5),
        "reflected": (-points, weights),
        "absorbed": (points * weights[:, None], np.ones(30)),
        "with zeros": (np.vstack([points, np.zeros((1, 3)), [[9.0, 9.0, 9.0]]]), np.r_[weights, 5.0, 0.0]),
    }
    for name, (p, w) in equal.items():
        assert relu_balance(p, w).kappa == pytest.approx(kappa, abs=GAP), name


def test_rank_deficient_data_are_solved_in_their_row_space() -> None:
    points, weights = problem(7, 40, 2)
    wide = points @ np.array([[1.0, 2.0, -1.0], [0.5, 1.0, 3.0]])
    plain, balance = relu_balance(points, weights), relu_balance(wide, weights)
    assert balance.kappa == pytest.approx(plain.kappa, abs=GAP)
    assert balance.certificate.details["rank"] == 2.0
    assert share(wide, weights, balance.query) == pytest.approx(balance.kappa_upper, abs=1e-12)


def test_points_without_cost_have_kappa_one() -> None:
    balance = relu_balance(np.zeros((3, 2)))
    assert (balance.kappa, balance.kappa_upper, balance.query.tolist()) == (1.0, 1.0, [0.0, 0.0])


def test_points_whose_sum_is_zero_have_kappa_one() -> None:
    assert relu_balance(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])).kappa > 1.0 - 1e-12


def test_the_lower_bound_holds_for_multipliers_that_miss_the_constraints() -> None:
    """Whatever y: max |y| plus the residual bounds the value, so noise only lowers the bound."""
    points, _ = problem(8, 50, 3)
    coordinates = np.linalg.qr(points)[0]
    exact = by_least_sup_norm(points, np.ones(50))
    rng = np.random.default_rng(0)
    for noise in (0.0, 1e-3, 0.1):
        multipliers = np.full(50, 0.9) + noise * rng.standard_normal(50)
        assert _proved_lower_bound(coordinates, multipliers) <= exact + GAP


def torch_array(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").asarray(values)


@pytest.mark.parametrize("convert", [torch_array, array_api_strict.asarray], ids=["torch", "strict"])
def test_other_libraries_get_the_same_constant(convert: Any) -> None:
    points, weights = problem(9)
    plain, foreign = relu_balance(points, weights), relu_balance(convert(points), convert(weights))
    assert foreign.kappa == plain.kappa
    assert type(foreign.query) is type(convert(points))
    np.testing.assert_array_equal(np.asarray(foreign.query), plain.query)


def test_a_gap_that_is_not_reached_is_a_solver_error_with_the_bounds() -> None:
    points, weights = problem(10, 200, 3)
    with pytest.raises(SolverError, match=r"kappa is known to be in \[") as caught:
        relu_balance(points, weights, gap=1e-300)
    assert caught.value.result.kappa <= caught.value.result.kappa_upper
    assert caught.value.certificate == caught.value.result.certificate


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gap": 0.0}, ValueError, r"gap = 0 is outside \(0, 1\]"),
        ({"gap": 2.0}, ValueError, r"gap = 2 is outside \(0, 1\]"),
        ({"weights": [1.0, -2.0]}, ValueError, r"weights\[1\] = -2 is negative"),
        ({"weights": [0.0, 0.0]}, ValueError, "weights are all zero"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        relu_balance(np.eye(2), **arguments)


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 3, 4)), [[np.nan]]])
def test_bad_points_are_refused(points: Any) -> None:
    with pytest.raises(ValueError, match="points"):
        relu_balance(points)
