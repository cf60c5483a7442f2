"""Lewis weights: exact sensitivities as oracle, the fixed point, certificates, laws, refusals."""

from __future__ import annotations

import math
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from coresets.errors import SolverError
from coresets.sensitivity import Sensitivities, leverage_scores, lewis_weights

EPS = float(np.finfo(np.float64).eps)
TIGHT = 1e-12  # near rounding, and reached on the well-conditioned problems below
# Weights are known to gamma^(2/p) - 1 of the tolerance, times the gap of a contraction by 1/2.
ROUTINE = 1e-8

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 5))


def problem(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Heavy-tailed rows; every third problem is rank-deficient, every fifth row weightless."""
    rng = np.random.default_rng(seed)
    n, d = size
    points = rng.standard_t(3, (n, d))
    if seed % 3 == 0:
        points[:, -1] = points[:, 0]
    return points, rng.uniform(0.5, 2.0, n) * (np.arange(n) % 5 != 4)


def exact_l1_sensitivities(rows: np.ndarray) -> np.ndarray:
    """Largest a_i.x subject to sum |a_j.x| <= 1, one linear programme a row."""
    n, d = rows.shape
    constraints = np.block([[rows, -np.eye(n)], [-rows, -np.eye(n)], [np.zeros((1, d)), np.ones((1, n))]])
    limits = np.r_[np.zeros(2 * n), 1.0]
    bounds = [(None, None)] * d + [(0.0, None)] * n
    return np.array(
        [-linprog(np.r_[-row, np.zeros(n)], A_ub=constraints, b_ub=limits, bounds=bounds).fun for row in rows]
    )


def searched_sensitivities(rows: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """Lower bounds on the l_p sensitivities: minimise sum |a_j.x|^p on a_i.x = 1 from some starts."""
    best = np.zeros(len(rows))
    for i, row in enumerate(rows):
        base = row / (row @ row)
        free = np.linalg.svd(row[None])[2][1:].T
        for start in rng.standard_normal((3, free.shape[1])) * 0.3 / np.linalg.norm(row):
            found = minimize(lambda z, b=base, f=free: np.sum(np.abs(rows @ (b + f @ z)) ** p), start)
            best[i] = max(best[i], 1.0 / found.fun)
    return best


# --- validity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_exact_l1_sensitivities_never_exceed_the_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_t(1.5, (30, 4)), 10.0 ** rng.uniform(-2, 2, 30)
    points[0] = 0.0
    if seed == 3:
        points[:, 3] = points[:, :3].sum(axis=1)
    exact = exact_l1_sensitivities(points * weights[:, None])
    for tolerance in (1e-10, 0.5):  # certified bounds hold long before convergence
        values = lewis_weights(points, weights, tolerance=tolerance).values
        assert np.all(exact <= values * (1.0 + 1e-7))  # the accuracy of the linear programmes


@pytest.mark.parametrize("p", [0.5, 0.8, 1.5, 2.0, 2.5, 3.5])
def test_searched_queries_never_exceed_the_values(p: float) -> None:
    rng = np.random.default_rng(7)
    rows = rng.standard_t(2, (25, 3))
    found = searched_sensitivities(rows, p, rng)
    assert np.all(found <= lewis_weights(rows, p=p).values * (1.0 + ROUTINE))
    assert np.all(found > 0.0)


def test_a_lone_direction_has_sensitivity_one_at_every_p() -> None:
    rows = np.r_[
        np.random.default_rng(0).standard_normal((50, 2)) @ [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0, 0, 1e-6]]
    ]
    for p in (0.5, 1.0, 2.0, 3.0):
        assert lewis_weights(rows, p=p).values[-1] == pytest.approx(1.0, rel=ROUTINE)


def test_on_one_dimension_values_are_the_exact_shares() -> None:
    points, weights = np.array([[1.0], [-2.0], [0.0], [4.0]]), np.array([1.0, 2.0, 5.0, 0.5])
    for p in (0.5, 1.0, 2.0):
        cost = weights * np.abs(points[:, 0]) ** p
        assert lewis_weights(points, weights, p=p).values == pytest.approx(cost / cost.sum(), rel=ROUTINE)


# --- the fixed point and its certificate ----------------------------------------------------------


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.5, 3.0, 3.9])
def test_weights_solve_the_fixed_point_and_sum_to_the_rank(p: float) -> None:
    rows = np.random.default_rng(1).standard_normal((2000, 6))
    bound = lewis_weights(rows, p=p, tolerance=TIGHT)
    evidence = bound.certificates[0]
    assert evidence.holds
    assert abs(evidence.details["sum_of_weights"] - 6.0) <= 1e-12
    if p <= 2.0:
        tau = bound.values / evidence.value ** (2.0 / p)
        assert abs(bound.total - 6.0) <= 100 / p * TIGHT
    else:
        # The values carry the factor rank^(p/2 - 1) and are capped at 1.
        tau = bound.values / (evidence.value * 6.0 ** (p / 2.0 - 1.0))
        assert bound.values.max() < 1.0
    moment = (rows * tau[:, None] ** (1.0 - 2.0 / p)).T @ rows
    image = np.einsum("ij,ij->i", rows @ np.linalg.inv(moment), rows) ** (p / 2.0)
    assert np.max(np.abs(np.log(image / tau))) <= 100 * TIGHT


def test_gamma_and_the_total_shrink_with_the_tolerance() -> None:
    rows = np.random.default_rng(2).standard_t(1.5, (3000, 5))
    loose, middle, tight = (lewis_weights(rows, tolerance=t) for t in (0.3, 1e-2, 1e-8))
    assert loose.total > middle.total > tight.total >= 5.0 * (1.0 - ROUTINE)
    assert all(bound.certificates[0].holds for bound in (loose, middle, tight))
    counts = [bound.certificates[0].details["iterations"] for bound in (loose, middle, tight)]
    assert counts == sorted(counts)
    assert counts[1] <= 10
    # The loosest still sums to the rank before gamma.
    assert abs(loose.certificates[0].details["sum_of_weights"] - 5.0) <= 1e-12


def test_power_two_gives_leverage_scores() -> None:
    points, weights = problem(1, (300, 4))
    difference = lewis_weights(points, weights, p=2.0).values - leverage_scores(points, weights)
    assert np.max(np.abs(difference)) <= 1e4 * EPS


def test_too_few_iterations_raise_with_the_certificate_reached() -> None:
    rows = np.random.default_rng(3).standard_t(1.5, (200, 3))
    with pytest.raises(SolverError, match="raise max_iter") as caught:
        lewis_weights(rows, max_iter=2)
    evidence = caught.value.certificate
    assert evidence is not None
    assert evidence.value > 1.0
    assert not evidence.holds
    assert evidence.details["iterations"] == 2


@pytest.mark.parametrize("spread", [3, 6])
def test_masses_and_lengths_over_many_orders_keep_the_total_at_the_rank(spread: int) -> None:
    rng = np.random.default_rng(4)
    points = rng.standard_normal((400, 4)) * 10.0 ** rng.uniform(-spread, spread, (400, 1))
    weights = 10.0 ** rng.uniform(-spread, spread, 400)
    assert lewis_weights(points, weights).total == pytest.approx(4.0, rel=ROUTINE)


def test_a_row_of_almost_no_length_gets_almost_no_share() -> None:
    points = np.random.default_rng(5).standard_normal((100, 2))
    points[0] *= 1e-200
    values = lewis_weights(points).values
    assert 0.0 < values[0] < 1e-199


@pytest.mark.parametrize(
    ("points", "rank"),
    [
        (np.zeros((3, 2)), 0),
        (np.array([[5.0]]), 1),
        (np.ones((4, 9)), 1),
        (np.random.default_rng(6).standard_normal((3, 10)), 3),
        (np.repeat(np.random.default_rng(7).standard_normal((50, 2)), 2, axis=1), 2),
        (np.c_[np.zeros(20), np.random.default_rng(8).standard_normal((20, 3)), np.zeros(20)], 3),
        (np.r_[np.zeros((3, 2)), np.eye(2)], 2),
    ],
)
def test_any_rank_is_handled(points: np.ndarray, rank: int) -> None:
    bound = lewis_weights(points)
    assert bound.total == pytest.approx(rank, rel=ROUTINE, abs=0.0)
    assert np.all(bound.values[~points.any(axis=1)] == 0.0)


# --- laws -----------------------------------------------------------------------------------------


@given(seeds, sizes)
def test_permuting_rows_permutes_values(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    order = np.random.default_rng(seed).permutation(size[0])
    moved = lewis_weights(points[order], weights[order]).values
    assert np.max(np.abs(moved - lewis_weights(points, weights).values[order])) <= ROUTINE


@given(seeds, sizes)
def test_an_invertible_map_of_the_columns_changes_nothing(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((size[1], size[1])))[0] * np.logspace(0, 2, size[1])
    moved = lewis_weights(points @ turn, weights).values
    assert np.max(np.abs(moved - lewis_weights(points, weights).values)) <= ROUTINE


@given(seeds, sizes, st.floats(0.01, 0.99), st.sampled_from([1.0, 1.7]))
def test_values_of_the_parts_of_a_split_weight_add_up(
    seed: int, size: tuple[int, int], part: float, p: float
) -> None:
    points, weights = problem(seed, size)
    masses = np.r_[part * weights[0], weights[1:], (1.0 - part) * weights[0]]
    split = lewis_weights(np.r_[points, points[:1]], masses, p=p).values
    whole = lewis_weights(points, weights, p=p).values
    assert abs(split[0] + split[-1] - whole[0]) <= ROUTINE
    assert np.max(np.abs(split[1:-1] - whole[1:]), initial=0.0) <= ROUTINE


@given(seeds, sizes, st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_rescaling_points_or_weights_changes_nothing(
    seed: int, size: tuple[int, int], scale: float, mass: float
) -> None:
    points, weights = problem(seed, size)
    moved = lewis_weights(scale * points, mass * weights).values
    assert np.max(np.abs(moved - lewis_weights(points, weights).values)) <= ROUTINE


@given(seeds, sizes)
def test_rows_of_weight_zero_may_as_well_be_absent(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    kept = weights > 0
    values = lewis_weights(points, weights).values
    assert np.all(values[~kept] == 0.0)
    assert np.max(np.abs(values[kept] - lewis_weights(points[kept], weights[kept]).values)) <= ROUTINE


@pytest.mark.parametrize("seed", range(6))
def test_every_library_gives_the_same_values(seed: int) -> None:
    points, weights = problem(seed, (40, 4))
    expected = lewis_weights(points, weights).values
    strict = lewis_weights(array_api_strict.asarray(points), array_api_strict.asarray(weights)).values
    assert np.max(np.abs(np.asarray(strict) - expected)) <= ROUTINE
    torch = pytest.importorskip("torch")
    bound = lewis_weights(torch.asarray(points), weights)
    assert bound.values.dtype == torch.float64
    assert np.max(np.abs(bound.values.numpy() - expected)) <= ROUTINE


def test_single_precision_is_restored_and_rounded_upwards() -> None:
    points = problem(1, (200, 3))[0].astype(np.float32)
    single, double = lewis_weights(points).values, lewis_weights(points.astype(np.float64)).values
    assert single.dtype == np.float32
    assert np.all(single.astype(np.float64) >= double)
    assert np.max(single / double - 1.0) <= 2.0 * np.finfo(np.float32).eps


def test_integers_become_float64() -> None:
    bound = lewis_weights(np.array([[1, 0], [0, 1], [0, 3]]), [1, 1, 1])
    assert isinstance(bound, Sensitivities)
    assert bound.values == pytest.approx([1.0, 0.25, 0.75], rel=ROUTINE)


# --- refusals -------------------------------------------------------------------------------------

EYE = np.eye(3)


@pytest.mark.parametrize(
    ("points", "weights", "options", "fragment"),
    [
        ([[1.0, math.nan]], None, {}, r"points\[0, 1\] = nan is not finite"),
        (np.empty((0, 3)), None, {}, r"shape \(0, 3\)"),
        (np.ones((2, 3, 3)), None, {}, r"pass \(n, d\)"),
        (EYE, [1.0, 1.0], {}, r"weights has shape \(2,\)"),
        (EYE, [1.0, -1.0, 1.0], {}, r"weights\[1\] = -1 is negative"),
        (EYE, [0.0, 0.0, 0.0], {}, "all zero"),
        (EYE, None, {"p": 0.0}, "p = 0 is outside"),
        (EYE, None, {"p": 4.0}, "p = 4 is outside"),
        (EYE, None, {"p": math.nan}, "p = nan"),
        (EYE, None, {"tolerance": 0.0}, "tolerance = 0 is outside"),
        (EYE, None, {"tolerance": 2.0}, "tolerance = 2 is outside"),
        (EYE, None, {"max_iter": 0}, "max_iter = 0 is too small"),
    ],
)
def test_bad_values_are_refused_with_the_value(
    points: Any, weights: Any, options: Any, fragment: str
) -> None:
    with pytest.raises(ValueError, match=fragment):
        lewis_weights(points, weights, **options)


@pytest.mark.parametrize("options", [{"p": "one"}, {"p": None}, {"max_iter": 2.5}])
def test_what_is_not_a_number_is_refused(options: Any) -> None:
    with pytest.raises(TypeError):
        lewis_weights(EYE, **options)
