"""Leverage scores: laws, references in higher precision, every route, and refusals."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets.sensitivity import leverage_scores
from coresets.sensitivity._rows import Rows, whitener

EPS = float(np.finfo(np.float64).eps)
EPS_SINGLE = float(np.finfo(np.float32).eps)

# Random Gaussian rows with n >= 2 d have a condition number below about 20 (a few more for the
# smallest sizes); errors are eps * condition * a modest constant.
ROUTINE = 1e4 * EPS

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 8))


def problem(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and weights; every third problem is rank-deficient, every fifth row weightless."""
    rng = np.random.default_rng(seed)
    n, d = size
    points = rng.standard_normal((n, d))
    if seed % 3 == 0:
        points[:, -1] = points[:, 0]
    weights = rng.uniform(0.5, 2.0, n) * (np.arange(n) % 5 != 4)
    return points, weights


def by_pinv(points: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    rows = points if weights is None else points * np.sqrt(weights)[:, None]
    return np.einsum("ij,ji->i", rows, np.linalg.pinv(rows, rcond=1e-11))


def orthonormal(points: np.ndarray) -> np.ndarray:
    """Gram-Schmidt in extended precision, each column three times."""
    columns = points.astype(np.longdouble)
    basis = np.zeros_like(columns)
    for j in range(columns.shape[1]):
        column = columns[:, j].copy()
        for _ in range(3):
            column -= basis[:, :j] @ (basis[:, :j].T @ column)
        basis[:, j] = column / np.sqrt(column @ column)
    return basis


def conditioned(
    condition: float, n: int, d: int, rng: np.random.Generator, *, heavy: bool = False
) -> np.ndarray:
    left = rng.standard_t(1.5, (n, d)) if heavy else rng.standard_normal((n, d))
    spectrum = np.logspace(0.0, -np.log10(condition), d)
    return (np.linalg.qr(left)[0] * spectrum) @ np.linalg.qr(rng.standard_normal((d, d)))[0]


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("n", [40, 1500])
@pytest.mark.parametrize("condition", [1.0, 3.0, 8.0, 1e2, 1e3, 1e4, 1e5, 5e5, 2e6, 1e7])
@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double is double on this platform")
def test_error_is_within_ten_times_that_of_qr(condition: float, n: int, heavy: bool) -> None:
    points = conditioned(condition, n, 12, np.random.default_rng(n), heavy=heavy)
    reference = np.sum(orthonormal(points) ** 2, axis=1)
    factor = np.linalg.qr(points)[0]

    def error(scores: np.ndarray) -> float:
        return float(np.max(np.abs(scores - reference) / reference))

    # Below a few roundings the error of QR is luck.
    assert error(leverage_scores(points)) <= 10.0 * max(error(np.sum(factor**2, axis=1)), 2 * EPS)


def test_columns_over_ten_orders_of_magnitude_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((500, 11))
    exact = leverage_scores(points)
    assert np.array_equal(leverage_scores(points * 2.0 ** np.arange(-20, 21, 4)), exact)
    scaled = leverage_scores(points * np.logspace(-5, 5, 11))
    assert np.max(np.abs(scaled - exact)) <= ROUTINE


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-150, 1e150, 1e200])
def test_squares_neither_overflow_nor_underflow(size: float) -> None:
    points = np.random.default_rng(1).standard_normal((300, 4))
    exact = leverage_scores(points)
    mixed = points * np.array([1.0, size, 1.0, 1.0])
    # Subnormal entries have lost digits before they arrive.
    lost = 1e-6 if size < 1e-300 else 0.0
    assert np.max(np.abs(leverage_scores(mixed) - exact)) <= ROUTINE + lost
    assert np.max(np.abs(leverage_scores(points, np.full(300, size)) - exact)) <= ROUTINE


def test_weights_over_twelve_orders_match_the_reference() -> None:
    rng = np.random.default_rng(2)
    points, weights = rng.standard_normal((400, 5)), 10.0 ** rng.uniform(-6, 6, 400)
    reference = np.sum(orthonormal(points.astype(np.longdouble) * np.sqrt(weights)[:, None]) ** 2, axis=1)
    scores = leverage_scores(points, weights)
    assert np.max(np.abs(scores - reference) / reference) <= 1e6 * EPS  # condition number below 1e6


CASES = {
    "one row": np.array([[3.0, 4.0]]),
    "one entry": np.array([[-2.0]]),
    "column of zeros": np.c_[np.arange(1.0, 9.0), np.zeros(8), np.ones(8)],
    "duplicated columns": np.repeat(np.random.default_rng(3).standard_normal((30, 3)), 3, axis=1),
    "duplicated rows": np.repeat(np.random.default_rng(4).standard_normal((2, 4)), 9, axis=0),
    "wide": np.random.default_rng(5).standard_normal((3, 50)),
    "wide and deficient": np.ones((4, 9)),
    "tall product of low rank": np.random.default_rng(6).standard_normal((3000, 4))
    @ np.random.default_rng(7).standard_normal((4, 10)),
    "zero rows": np.r_[np.zeros((3, 2)), np.eye(2)],
    "one heavy row": np.r_[np.random.default_rng(8).standard_normal((99, 3)), [[1e6, 0.0, 0.0]]],
}


@pytest.mark.parametrize("name", CASES)
def test_scores_match_the_pseudo_inverse_and_sum_to_the_rank(name: str) -> None:
    points = CASES[name]
    scores = leverage_scores(points)
    scale = 1e6 if name == "one heavy row" else 1e3
    assert scores.shape == (points.shape[0],)
    assert np.max(np.abs(scores - by_pinv(points))) <= max(scale * EPS, ROUTINE)
    assert abs(scores.sum() - np.linalg.matrix_rank(points)) <= ROUTINE
    assert scores.min() >= 0.0
    assert scores.max() <= 1.0
    assert np.all(scores[~points.any(axis=1)] == 0.0)


def test_the_whitening_has_one_column_a_dimension_and_zeros_elsewhere() -> None:
    full = np.random.default_rng(14).standard_normal((400, 3))
    for points, rank in (
        (full, 3),
        (np.c_[np.zeros(400), full, np.zeros(400)], 3),
        (np.c_[full, np.zeros(400), full[:, :2] * 1e3], 3),
        (np.c_[np.zeros(400), full, full.sum(axis=1) + 1e-4 * full[:, 0] ** 2], 4),
        (full[:2], 2),
        (np.zeros((5, 2)), 0),
    ):
        rows, whitening = whitener(Rows(points, None, np.float64), 1e-12)
        used = whitening.any(axis=0)
        assert used.sum() == rank
        assert (
            np.max(np.abs(rows.gram(whitening) - np.diag(used))) <= 100 * ROUTINE
        )  # condition number up to 1e5


def test_all_zero_points_have_no_leverage() -> None:
    assert leverage_scores(np.zeros((4, 3))).tolist() == [0.0] * 4
    assert leverage_scores(np.zeros((2, 3))).tolist() == [0.0] * 2


def test_zero_weights_give_exactly_zero_even_when_they_decide_the_rank() -> None:
    scores = leverage_scores(np.eye(3), [1.0, 0.0, 2.0])
    assert scores[1] == 0.0
    assert np.max(np.abs(scores - [1.0, 0.0, 1.0])) <= ROUTINE


def test_rank_tolerance_decides_what_counts_as_zero() -> None:
    points = conditioned(1e4, 200, 5, np.random.default_rng(9))
    assert abs(leverage_scores(points).sum() - 5.0) <= 1e4 * ROUTINE
    # Singular values 1, 0.1, ..., 1e-4, before columns are scaled.
    assert abs(leverage_scores(points, rank_tolerance=0.4e-3).sum() - 4.0) <= 1e4 * ROUTINE
    assert abs(leverage_scores(points, rank_tolerance=0.9).sum() - 1.0) <= 1e4 * ROUTINE


# --- laws -----------------------------------------------------------------------------------------


@given(seeds, sizes)
def test_permuting_rows_permutes_scores(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    order = np.random.default_rng(seed).permutation(size[0])
    moved = leverage_scores(points[order], weights[order])
    assert np.max(np.abs(moved - leverage_scores(points, weights)[order])) <= ROUTINE


@given(seeds, sizes)
def test_an_invertible_map_of_the_columns_changes_nothing(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    rng = np.random.default_rng(seed)
    d = size[1]
    turn, other = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    inflate = turn * np.logspace(0, 2, d) @ other  # condition number 100
    moved = leverage_scores(points @ inflate, weights)
    assert np.max(np.abs(moved - leverage_scores(points, weights))) <= 100 * ROUTINE


@given(seeds, sizes, st.floats(0.01, 0.99))
def test_scores_of_the_parts_of_a_split_weight_add_up(seed: int, size: tuple[int, int], part: float) -> None:
    points, weights = problem(seed, size)
    split = leverage_scores(
        np.r_[points, points[:1]], np.r_[part * weights[0], weights[1:], (1 - part) * weights[0]]
    )
    whole = leverage_scores(points, weights)
    assert abs(split[0] + split[-1] - whole[0]) <= ROUTINE
    assert np.max(np.abs(split[1:-1] - whole[1:]), initial=0.0) <= ROUTINE


@given(seeds, sizes, st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_rescaling_points_or_weights_changes_nothing(
    seed: int, size: tuple[int, int], scale: float, mass: float
) -> None:
    points, weights = problem(seed, size)
    moved = leverage_scores(scale * points, mass * weights)
    assert np.max(np.abs(moved - leverage_scores(points, weights))) <= ROUTINE


@given(seeds, sizes)
def test_rows_of_weight_zero_may_as_well_be_absent(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    kept = weights > 0
    scores = leverage_scores(points, weights)
    assert np.all(scores[~kept] == 0.0)
    assert np.max(np.abs(scores[kept] - leverage_scores(points[kept], weights[kept]))) <= ROUTINE


@given(seeds, sizes, st.integers(1, 4))
def test_a_batch_equals_a_loop(seed: int, size: tuple[int, int], batch: int) -> None:
    entries = [problem(seed + i, size) for i in range(batch)]
    points = np.stack([entry[0] for entry in entries])
    weights = np.stack([entry[1] for entry in entries])
    loop = np.stack([leverage_scores(*entry) for entry in entries])
    assert np.max(np.abs(leverage_scores(points, weights) - loop)) <= ROUTINE
    shared = leverage_scores(points, weights[0])
    assert np.max(np.abs(shared[-1] - leverage_scores(points[-1], weights[0]))) <= ROUTINE
    many = leverage_scores(points[0], weights)  # one set under many weights, as in a layer
    assert many.shape == (batch, size[0])
    assert np.max(np.abs(many[-1] - leverage_scores(points[0], weights[-1]))) <= ROUTINE


@given(seeds, sizes)
def test_every_library_gives_the_same_scores(seed: int, size: tuple[int, int]) -> None:
    points, weights = problem(seed, size)
    expected = leverage_scores(points, weights)
    strict = leverage_scores(array_api_strict.asarray(points), array_api_strict.asarray(weights))
    assert isinstance(strict, type(array_api_strict.asarray(0.0)))
    assert np.max(np.abs(np.asarray(strict) - expected)) <= ROUTINE
    torch = pytest.importorskip("torch")
    for masses in (torch.asarray(weights), weights):
        scores = leverage_scores(torch.asarray(points), masses)
        assert scores.dtype == torch.float64
        assert np.max(np.abs(scores.numpy() - expected)) <= ROUTINE


# --- types, layouts and blocks --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.bool_])
def test_dtype_is_restored_and_integers_become_float64(dtype: Any) -> None:
    points = np.random.default_rng(10).integers(0, 2, (200, 3)).astype(dtype)
    scores = leverage_scores(points)
    assert scores.dtype == (np.float32 if dtype == np.float32 else np.float64)
    accuracy = 10 * EPS_SINGLE if dtype == np.float32 else ROUTINE
    assert np.max(np.abs(scores - by_pinv(points.astype(float)))) <= accuracy


@pytest.mark.parametrize("condition", [1.0, 1.5, 30.0, 1e5])
def test_single_precision_loses_only_single_digits(condition: float) -> None:
    points = conditioned(condition, 5000, 10, np.random.default_rng(11)).astype(np.float32)
    reference = leverage_scores(points.astype(np.float64))
    relative = np.abs(leverage_scores(points) - reference) / reference
    assert np.max(relative) <= 10 * EPS_SINGLE


def test_single_precision_survives_squares_out_of_its_range() -> None:
    points = (np.random.default_rng(12).standard_normal((100, 3)) * [1e-25, 1.0, 1e25]).astype(np.float32)
    assert np.max(np.abs(leverage_scores(points) - by_pinv(points / [1e-25, 1.0, 1e25]))) <= 10 * EPS_SINGLE


def test_half_precision_tensors_are_worked_on_in_double() -> None:
    torch = pytest.importorskip("torch")
    points = torch.arange(12).reshape(6, 2).to(torch.bfloat16)
    scores = leverage_scores(points)
    assert scores.dtype == torch.float64
    assert bool(torch.all(scores == leverage_scores(points.to(torch.float64))))


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
def test_many_blocks_in_any_layout_agree_with_one_reference(condition: float) -> None:
    points = conditioned(condition, 40_000, 8, np.random.default_rng(13))
    expected = leverage_scores(points)
    assert abs(expected.sum() - 8.0) <= condition * ROUTINE
    for layout in (np.asfortranarray(points), np.repeat(points, 2, axis=1)[:, ::2], points[::-1][::-1]):
        assert np.max(np.abs(leverage_scores(layout) - expected)) <= condition * ROUTINE


def test_input_is_left_alone() -> None:
    points, weights = problem(1, (50, 4))
    before = points.copy(), weights.copy()
    leverage_scores(points, weights)
    assert np.array_equal(points, before[0])
    assert np.array_equal(weights, before[1])


# --- refusals -------------------------------------------------------------------------------------

EYE = np.eye(3)


@pytest.mark.parametrize(
    ("points", "weights", "fragment"),
    [
        ([[1.0, np.nan]], None, r"points\[0, 1\] = nan is not finite"),
        ([[np.inf, 1.0]], None, r"points\[0, 0\] = inf is not finite"),
        ([1.0, 2.0], None, r"shape \(2,\)"),
        (np.empty((0, 3)), None, r"shape \(0, 3\)"),
        (np.empty((3, 0)), None, r"shape \(3, 0\)"),
        (EYE, [1.0, -0.5, 1.0], r"weights\[1\] = -0.5 is negative"),
        (EYE, [0.0, 0.0, 0.0], "all zero"),
        (EYE, [1.0, np.nan, 1.0], r"weights\[1\] = nan is not finite"),
        (EYE, [1.0, 1.0], r"weights has shape \(2,\)"),
        (EYE, 1.0, r"weights has shape \(\)"),
        (np.ones((2, 3, 3)), np.ones((4, 3)), "does not match"),
        (np.ones((2, 3, 3)), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], "all zero"),
    ],
)
def test_bad_values_are_refused_with_the_value(points: Any, weights: Any, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        leverage_scores(points, weights)


@pytest.mark.parametrize("points", [[["a"]], EYE * 1j, None])
def test_what_is_not_real_is_refused(points: Any) -> None:
    with pytest.raises(TypeError, match="points"):
        leverage_scores(points)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, np.nan])
def test_rank_tolerance_out_of_range_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="rank_tolerance"):
        leverage_scores(EYE, rank_tolerance=tolerance)
