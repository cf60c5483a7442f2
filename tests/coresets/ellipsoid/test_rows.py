"""The centred problem in good coordinates: rank, whitening, blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets.ellipsoid import Blocks, LiftedRows, kumar_yildirim_start
from coresets.ellipsoid._rows import lift, row_blocks, take_points
from coresets.ellipsoid._screening import screen
from coresets.ellipsoid._start import start_among

EPS = np.finfo(np.float64).eps


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def departure(rows: LiftedRows) -> float:
    """Largest entry of sum q q^T / n - I."""
    dense = rows.dense()
    return float(np.abs(dense.T @ dense / rows.n - np.eye(rows.k)).max())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "points",
    [
        gaussian(500, 4),
        gaussian(500, 4).astype(np.float32),
        gaussian(500, 4) * np.logspace(0, -10, 4),
        gaussian(3, 7),
        gaussian(5, 5),
        gaussian(400, 30) @ gaussian(30, 30, 1),
        np.asfortranarray(gaussian(300, 3)),
        gaussian(600, 3)[::2],
        np.vstack([[1e9, 1e9, 1e9], gaussian(500, 3)]),
    ],
    ids=["plain", "float32", "scales", "wide", "square", "correlated", "fortran", "strided", "far_first_row"],
)
def test_uniform_design_of_the_rows_is_nearly_the_identity(points: np.ndarray, symmetric: bool) -> None:
    # The whitening only has to be roughly right: eps kappa^2 with kappa up to 1e5, times cancellation.
    assert departure(lift(points, symmetric=symmetric)) < 1e-3


@given(r=st.integers(0, 5), d=st.integers(5, 8), seed=st.integers(0, 2**16), symmetric=st.booleans())
def test_rank_is_that_of_the_span_or_of_the_affine_hull(r: int, d: int, seed: int, symmetric: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((40, r)) @ rng.standard_normal((r, d))
    if not symmetric:
        points = points + rng.standard_normal(d)
    rows = lift(points, symmetric=symmetric)
    assert rows.rank == r
    assert rows.k == r + (0 if symmetric else 1)


@pytest.mark.parametrize("offset", [0.1, 1e3, 1e9])
def test_constant_column_adds_no_rank(offset: float) -> None:
    points = np.column_stack([gaussian(50, 2), np.full(50, offset)])
    assert lift(points, symmetric=False).rank == 2
    assert lift(points, symmetric=True).rank == 3


def test_all_equal_points_have_affine_rank_zero() -> None:
    rows = lift(np.full((7, 3), 0.1), symmetric=False)
    assert rows.rank == 0
    np.testing.assert_array_equal(rows.origin, np.full(3, 0.1))


def test_offset_of_a_million_spreads_moves_the_rows_by_the_rounding_of_the_centre_only() -> None:
    near = gaussian(300, 3)
    far = near + 2.0**20
    near = far - 2.0**20  # exact, so both sets hold the same differences
    one, other = lift(near, symmetric=False), lift(far, symmetric=False)
    norms = [np.sum(rows.dense() ** 2, axis=1) for rows in (one, other)]
    # The centre is rounded to eps 2^20, and a squared norm s changes by twice that times sqrt(s) <= s.
    np.testing.assert_allclose(norms[0], norms[1], rtol=8 * EPS * 2.0**20)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("d", [3, 40])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_evaluator_agrees_with_the_rows(symmetric: bool, d: int, offset: float) -> None:
    points = gaussian(200, d) + offset
    rows = lift(points, symmetric=symmetric)
    factor = gaussian(rows.k, rows.k, 1)
    expected = np.sum((rows.dense() @ factor) ** 2, axis=1)
    # A form is a sum of k squares of sums of d products, relative to the largest product.
    scale = EPS * d * (1.0 + abs(offset)) * np.max(expected)
    np.testing.assert_allclose(rows.evaluator(factor)(points), expected, atol=100 * scale)


@given(
    n=st.integers(1, 300),
    limit=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    levels=st.integers(1, 50),
    seed=st.integers(0, 2**16),
)
def test_screening_finds_the_largest_forms(
    n: int, limit: int, cuts: list[int], levels: int, seed: int
) -> None:
    points = np.random.default_rng(seed).integers(1, levels + 1, size=(n, 1)).astype(float)  # with ties
    edges = sorted({0, n, *(min(cut, n) for cut in cuts)})
    blocks = Blocks([points[a:b] for a, b in itertools.pairwise(edges)])
    expected = np.sort(points[:, 0] ** 2)[::-1]
    for source in (points, blocks):
        rows = LiftedRows(source, n, np.zeros(1), np.eye(1), symmetric=True)
        found = screen(rows, np.eye(1), limit)
        np.testing.assert_array_equal(np.sort(found.forms)[::-1], expected[:limit])
        np.testing.assert_array_equal(found.rows, points[found.indices])
        assert np.all(np.diff(found.indices) > 0)
        if n > limit:
            assert expected[limit] <= found.rest <= expected[limit - 1]
        else:
            assert found.rest == 0.0


def test_taken_points_keep_the_order_of_the_indices() -> None:
    points = gaussian(10, 2)
    blocks = Blocks([points[:3], points[3:4], points[4:]])
    indices = np.array([7, 0, 3, 9, 2])
    np.testing.assert_array_equal(take_points(blocks, 10, indices), points[indices])


def test_start_is_k_distinct_rows_within_the_proved_gap() -> None:
    for symmetric in (True, False):
        rows = lift(np.random.default_rng(3).standard_t(2, (400, 6)), symmetric=symmetric)
        start = kumar_yildirim_start(rows)
        assert len(set(start.tolist())) == rows.k
        kept = rows.take(start)
        forms = np.einsum("ij,jk,ik->i", rows.dense(), np.linalg.inv(kept.T @ kept / rows.k), rows.dense())
        assert forms.max() <= rows.k * (1.0 + rows.k * np.log(rows.k))


def test_start_among_some_rows_notices_an_uncovered_direction() -> None:
    covered = np.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 0.01]])
    assert len(start_among(covered)) == 2


def test_pieces_of_blocks_number_the_rows_through() -> None:
    points = gaussian(70_000, 2)
    blocks = Blocks([points[:50_000], points[50_000:]])
    for source in (points, blocks):
        stops = [0]
        for rows, block in row_blocks(source, len(points)):
            assert rows.start == stops[-1]
            np.testing.assert_array_equal(block, points[rows])
            stops.append(rows.stop)
        assert stops[-1] == len(points)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_spread_beyond_the_range_of_squares_is_refused(size: float) -> None:
    for points in (gaussian(20, 2) * size, gaussian(20, 2) * [1.0, size]):
        with pytest.raises(ValueError, match="rescale"):
            lift(points, symmetric=True)
