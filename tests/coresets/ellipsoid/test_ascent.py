"""The fast solvers on their own: against exact answers, a plain reference, and theorem M5."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.ellipsoid import AddOnly, Ascent, LiftedRows
from coresets.ellipsoid._ascent_kernels import sweep
from coresets.ellipsoid._interior import interior_point
from coresets.ellipsoid._newton import newton_step
from coresets.ellipsoid._rows import lift
from coresets.ellipsoid._working_set import WorkingSet
from coresets.guarantees import AddOnlyAscent

EPS = np.finfo(np.float64).eps


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def ball(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    return points * (rng.random(n) ** (1.0 / d) / np.linalg.norm(points, axis=1))[:, None]


def plain_rows(matrix: np.ndarray) -> LiftedRows:
    """The rows of a matrix as they are."""
    n, k = matrix.shape
    return LiftedRows(matrix, n, np.zeros(k), np.eye(k), symmetric=True)


def forms(matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """q^T M^-1 q for every row, the textbook way."""
    inverse = np.linalg.inv((matrix * weights[:, None]).T @ matrix)
    return np.einsum("ij,jk,ik->i", matrix, inverse, matrix)


def check_design(rows: LiftedRows, weights: np.ndarray, gap: float) -> None:
    assert weights.shape == (rows.n,)
    assert weights.min() >= 0.0
    # A sum of n terms of one sign.
    assert abs(weights.sum() - 1.0) <= rows.n * EPS
    # Rounding of the independent forms: k^2 eps times the condition number of M, at most n k here.
    rounding = 10 * rows.k**3 * rows.n * EPS
    assert forms(rows.dense(), weights).max() <= rows.k * (1.0 + gap + rounding)


@pytest.mark.parametrize("gap", [1.0, 1e-2, 1e-6, 1e-9])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "points",
    [gaussian(5, 5), gaussian(6, 5), gaussian(300, 1), gaussian(4000, 3), gaussian(900, 12), ball(4000, 4)],
    ids=["simplex", "one_more", "line", "passes", "wide", "ball"],
)
def test_design_reaches_the_gap_on_all_rows(points: np.ndarray, symmetric: bool, gap: float) -> None:
    rows = lift(points, symmetric=symmetric)
    design = Ascent().solve(rows, gap=gap)
    assert design.converged
    assert design.largest_form is not None
    check_design(rows, design.weights, gap)
    np.testing.assert_allclose(
        forms(rows.dense(), design.weights).max(), design.largest_form, rtol=rows.k**2 * rows.n * EPS
    )


def test_regular_polytopes_have_the_known_optimum() -> None:
    for d in (2, 3, 5):
        cross = np.vstack([np.eye(d), -np.eye(d)])
        cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * d)).reshape(d, -1).T
        for points in (cross, cube):
            weights = Ascent().solve(plain_rows(points), gap=1e-10).weights
            moment = (points * weights[:, None]).T @ points
            # M is that of the uniform design; ln det is strongly concave, so M is good to about sqrt(gap).
            np.testing.assert_allclose(moment, points.T @ points / len(points), atol=1e-4)


def test_vertices_of_a_simplex_get_equal_weights() -> None:
    weights = Ascent().solve(lift(gaussian(7, 6), symmetric=False), gap=1e-12).weights
    np.testing.assert_allclose(weights, 1.0 / 7.0, rtol=1e-10)


@given(st.lists(st.integers(-20, 20), min_size=3, max_size=3), st.integers(1, 30))
@settings(max_examples=30)
def test_three_points_on_a_plane_agree_with_exact_arithmetic(third: list[int], height: int) -> None:
    # Three rows of R^2: weights maximise the quadratic sum_{i<j} u_i u_j det(q_i, q_j)^2.
    matrix = np.array([[10.0, 0.0], [0.0, float(height)], [float(third[0]), float(third[1])]])
    q = [[Fraction(int(value)) for value in row] for row in matrix]
    minor = [(q[i][0] * q[j][1] - q[i][1] * q[j][0]) ** 2 for i, j in ((0, 1), (0, 2), (1, 2))]

    def value(u: list[Fraction]) -> Fraction:
        return u[0] * u[1] * minor[0] + u[0] * u[2] * minor[1] + u[1] * u[2] * minor[2]

    half = Fraction(1, 2)
    vertices = [[half, half, Fraction(0)], [half, Fraction(0), half], [Fraction(0), half, half]]
    best = max(value(u) for u in vertices)
    a, b, c = minor
    bottom = 2 * (a * b + a * c + b * c) - a * a - b * b - c * c
    if bottom > 0:  # the stationary point of the quadratic on the plane of sum 1
        inner = [c * (a + b - c) / bottom, b * (a + c - b) / bottom, a * (b + c - a) / bottom]
        if min(inner) >= 0:
            best = max(best, value(inner))
    weights = Ascent().solve(plain_rows(matrix), gap=1e-9).weights
    found = np.linalg.det((matrix * weights[:, None]).T @ matrix)
    # ln det is within k ln(1 + gap) of the best.
    assert float(best) * (1.0 - 4e-9) <= found <= float(best) * (1.0 + 1e-12)


def test_steps_are_at_most_those_allowed() -> None:
    for points in (gaussian(400, 6), gaussian(5000, 6), ball(5000, 6)):
        rows = lift(points, symmetric=True)
        for limit in (1, 7, 60):
            design = Ascent().solve(rows, gap=1e-12, max_iter=limit)
            assert design.iterations <= limit
            assert not design.converged
            check_design(rows, design.weights, design.largest_form / rows.k - 1.0)


def test_unreachable_gap_ends() -> None:
    design = Ascent().solve(lift(gaussian(300, 4), symmetric=False), gap=1e-300)
    assert design.largest_form / 5 - 1.0 < 1e-9


def test_sweep_agrees_with_exact_coordinate_steps() -> None:
    matrix, weights = gaussian(12, 3), np.full(12, 1.0 / 12.0)
    order = np.arange(12)
    expected = weights.copy()
    for i in order:
        omega = forms(matrix, expected)[i]
        expected[i] = max(0.0, expected[i] + 1.0 / 3.0 - 1.0 / omega)
    inverse = np.linalg.inv((matrix * weights[:, None]).T @ matrix)
    moved = sweep(matrix, weights, inverse, order, 0.0)
    assert moved == 12
    # A dozen rank-one updates of a matrix of condition number below ten.
    np.testing.assert_allclose(weights, expected, atol=1e4 * EPS)
    np.testing.assert_allclose(
        inverse, np.linalg.inv((matrix * weights[:, None]).T @ matrix), atol=1e4 * EPS * np.abs(inverse).max()
    )


def test_newton_step_is_quadratic_at_the_optimum() -> None:
    matrix = gaussian(200, 6)
    work = WorkingSet(matrix, np.full(200, 1.0 / 200.0))
    work.climb(1e-4, 10**6)
    before = work.gap
    work.weights = newton_step(matrix, work.weights, work.factor)
    work.refresh()
    assert work.gap <= 1e3 * before**2


@pytest.mark.parametrize("m", [15, 200])  # below and above k (k + 1) / 2 = 21
def test_interior_point_solves_both_forms_of_its_system(m: int) -> None:
    matrix = ball(m, 6)
    weights, iterations = interior_point(matrix, np.full(m, 1.0 / m), 1e-9)
    assert iterations < 40
    assert weights.min() > 0.0
    assert forms(matrix, weights).max() <= 6 * (1.0 + 2e-9)


def test_duplicated_rows_change_nothing() -> None:
    points = gaussian(60, 4)
    once = Ascent().solve(plain_rows(points), gap=1e-10)
    twice = Ascent().solve(plain_rows(np.repeat(points, 3, axis=0)), gap=1e-10)
    logs = [
        np.linalg.slogdet((p * u[:, None]).T @ p)[1]
        for p, u in ((points, once.weights), (np.repeat(points, 3, axis=0), twice.weights))
    ]
    # Each is within k ln(1 + gap) of the same optimum.
    assert abs(logs[0] - logs[1]) <= 4e-10 + 100 * EPS


@pytest.mark.parametrize("k", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("eta", [1.0, 0.3, 0.01])
def test_additions_and_support_obey_the_proved_bounds(k: int, eta: float) -> None:
    for points in (gaussian(3000, k), np.random.default_rng(1).standard_t(1.5, (500, k)), ball(500, k)):
        rows = lift(points, symmetric=True)
        design = AddOnly().solve(rows, gap=eta)
        assert design.converged
        assert design.iterations <= AddOnlyAscent().steps(k, eta)
        assert np.count_nonzero(design.weights) <= k + design.iterations
        check_design(rows, design.weights, eta)


def test_additions_match_the_plain_recurrence() -> None:
    matrix = gaussian(3000, 5)  # more rows than the pool holds
    rows = plain_rows(matrix)
    start = AddOnly().solve(rows, gap=1e6).weights
    expected = start.copy()
    for _ in range(120):
        omega = forms(matrix, expected)
        i = int(np.argmax(omega))
        beta = (omega[i] - 5) / (5 * (omega[i] - 1))
        expected *= 1.0 - beta
        expected[i] += beta
    found = AddOnly().solve(rows, gap=1e-9, max_iter=120)
    assert found.iterations == 120
    assert not found.converged
    # Rank-one updates between factorisations, each with a relative error of k^2 eps or so.
    np.testing.assert_allclose(found.weights, expected, atol=1e5 * EPS)


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("gap", [0.1, 1.0])
def test_elimination_keeps_every_row_that_the_optimum_needs(k: int, gap: float) -> None:
    # All rows carry weight at the optimum; one has far too much. The excess in the threshold of M7 is
    # absolute, k times the gap: with the gap itself in its place, the heavy row would be left out.
    weights = np.full(k, 1.0 - (1.0 + k * gap) / (k * (1.0 + gap))) / (k - 1)
    weights[0] = (1.0 + k * gap) / (k * (1.0 + gap))
    padded = np.vstack([np.sqrt(k) * np.eye(k), np.sqrt(k) * np.eye(k)[:1]])  # a copy without weight
    work = WorkingSet(padded, np.append(weights, 0.0))
    assert work.gap == pytest.approx(gap, rel=1e3 * EPS)
    assert work._contenders().tolist() == list(range(k + 1))
