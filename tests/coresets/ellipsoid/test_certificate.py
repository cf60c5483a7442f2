"""Evidence is recomputed from the result alone, and planted faults show in it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets.ellipsoid import Blocks, Ellipsoid, loewner_ellipsoid
from coresets.ellipsoid._batched import certify_batch
from coresets.ellipsoid._certify import certify, enclosing
from coresets.ellipsoid._forms import _narrow_lengths, squared_lengths
from coresets.errors import SolverError

EPS = np.finfo(np.float64).eps


def solved(
    n: int = 80, d: int = 3, *, symmetric: bool = False, seed: int = 0
) -> tuple[np.ndarray, Ellipsoid]:
    points = np.random.default_rng(seed).standard_normal((n, d)) + 0.5
    return points, loewner_ellipsoid(points, symmetric=symmetric)


def recertified(points: np.ndarray, found: Ellipsoid, **changes: np.ndarray):
    fields = {"center": found.center, "shape": found.shape, "weights": found.weights} | changes
    return certify(points, **fields, symmetric=found.symmetric, rank=found.rank, gap=1e-6)


@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_compiled_lengths_agree_with_the_plain_formula(n: int, d: int, r: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, center, factor, offset = (rng.standard_normal(s) for s in ((n, d), (d,), (d, r), (r,)))
    plain = np.sum(((rows - center) @ factor + offset) ** 2, axis=1)
    # Sums of d products and of r squares.
    scale = np.sum((np.abs(rows - center) @ np.abs(factor) + np.abs(offset)) ** 2, axis=1)
    lengths = np.empty(n)
    _narrow_lengths(rows, center, factor, offset, lengths)
    assert np.all(np.abs(lengths - plain) <= 4 * (d + r) * EPS * scale)
    assert np.all(np.abs(squared_lengths(rows, center, factor, offset) - plain) <= 4 * (d + r) * EPS * scale)
    single = rows.astype(np.float32)
    exact = squared_lengths(single.astype(np.float64), center, factor)
    np.testing.assert_array_equal(squared_lengths(single, center, factor), exact)


@pytest.mark.parametrize("symmetric", [False, True])
def test_figures_agree_with_exact_rational_arithmetic(symmetric: bool) -> None:
    points = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, 2.0], [0.25, -1.0], [0.0, 0.0]])
    weights = np.array([0.25, 0.25, 0.25, 0.25, 0.0])
    exact = [[Fraction(float(x)) for x in row] for row in points]
    share = [Fraction(float(u)) for u in weights]
    zero = [Fraction(0), Fraction(0)]
    center = zero if symmetric else [sum(u * x[j] for u, x in zip(share, exact, strict=True)) for j in (0, 1)]
    rows = [[x[j] - center[j] for j in (0, 1)] for x in exact]
    (a, b), (_, c) = (
        [sum(u * x[i] * x[j] for u, x in zip(share, rows, strict=True)) for j in (0, 1)] for i in (0, 1)
    )
    determinant = a * c - b * b
    forms = [(c * x * x - 2 * b * x * y + a * y * y) / determinant for x, y in rows]
    k = 2 if symmetric else 3
    gap = (max(forms) + (k - 2)) / k - 1
    shape = 2.0 * np.array([[float(a), float(b)], [float(b), float(c)]])
    found = certify(
        points, np.array([float(x) for x in center]), shape, weights, symmetric=symmetric, rank=2
    ).details
    assert found["gap"] == pytest.approx(float(gap), rel=64 * EPS)
    assert found["containment"] == pytest.approx(float(max(forms)) / 2.0, rel=64 * EPS)
    rounding = (1 + gap) * 2 if symmetric else max(forms)
    assert found["rounding"] == pytest.approx(float(rounding), rel=64 * EPS)
    assert found["log_volume_slack"] == pytest.approx(0.5 * k * math.log1p(float(gap)), rel=64 * EPS)
    assert found["support_size"] == 4
    assert found["n"] == 5


@pytest.mark.parametrize("symmetric", [False, True])
def test_every_point_is_contained_and_the_sandwich_holds(symmetric: bool) -> None:
    points, found = solved(200, 4, symmetric=symmetric)
    details = found.certificate.details
    assert details["containment"] <= 1.0 + details["containment_error"]
    # M1, M2: the ellipsoid shrunk by that factor lies in the hull of the support (and of its negative): in
    # every direction the support reaches at least as far.
    factor = math.sqrt(details["rounding"]) if symmetric else details["rounding"]
    directions = np.random.default_rng(1).standard_normal((1000, 4))
    reach = np.max((points[found.support] - found.center) @ directions.T, axis=0)
    if symmetric:
        reach = np.max(np.abs(points[found.support] @ directions.T), axis=0)
    width = np.sqrt(np.sum(directions * (directions @ found.shape), axis=1))
    assert np.all(reach >= width / factor * (1.0 - 1e-9))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_shape_too_large_is_not_certified(symmetric: bool) -> None:
    points, found = solved(symmetric=symmetric)
    evidence = recertified(points, found, shape=1.01 * found.shape)
    assert not evidence.holds
    # Its log-volume is (3/2) ln 1.01 above that of the optimum at least.
    assert evidence.details["log_volume_slack"] >= 1.5 * math.log(1.01) - 1e-12


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_shape_too_small_is_not_certified(symmetric: bool) -> None:
    points, found = solved(symmetric=symmetric)
    evidence = recertified(points, found, shape=0.99 * found.shape)
    assert not evidence.holds
    assert evidence.details["containment"] == pytest.approx(1 / 0.99, rel=1e-9)


def test_a_centre_that_moved_is_not_certified() -> None:
    points, found = solved()
    assert not recertified(points, found, center=found.center + 0.01).holds


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_dropped_contact_point_shows_in_the_gap(symmetric: bool) -> None:
    points, found = solved(symmetric=symmetric)
    weights = found.weights.copy()
    weights[np.argmax(weights)] = 0.0
    evidence = recertified(points, found, weights=weights / weights.sum())
    assert evidence.details["gap"] > 1e-3
    assert not evidence.holds


def test_a_wrong_orientation_is_not_certified() -> None:
    points, found = solved()
    shear = np.eye(3) + 0.01 * np.eye(3, k=1)
    assert not recertified(points, found, shape=shear @ found.shape @ shear.T).holds


@pytest.mark.parametrize("weights", [[0.5, 0.4, 0.0], [1.5, -0.5, 0.0], [math.nan, 1.0, 0.0]])
def test_weights_that_are_no_design_prove_nothing(weights: list[float]) -> None:
    with pytest.raises(SolverError, match="not a design"):
        certify(np.eye(3), np.zeros(3), np.eye(3), np.array(weights), symmetric=True, rank=3)


def test_weights_that_do_not_span_prove_nothing() -> None:
    weights = np.array([0.5, 0.5, 0.0])
    with pytest.raises(SolverError, match="do not span"):
        certify(np.eye(3), np.zeros(3), np.eye(3), weights, symmetric=True, rank=3)


def test_a_hull_that_misses_a_dimension_is_not_certified() -> None:
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.standard_normal((50, 2)), np.zeros(50)])
    found = loewner_ellipsoid(flat)
    assert recertified(flat, found).holds
    raised = flat.copy()
    raised[np.flatnonzero(found.weights == 0.0)[0], 2] = 0.5
    assert not recertified(raised, found).holds
    point = certify(
        flat, flat[0], np.zeros((3, 3)), np.eye(50)[0], symmetric=False, rank=0, gap=1e-6
    )  # all points, claimed to be one
    assert not point.holds


def test_figures_that_are_not_finite_or_not_central_prove_nothing() -> None:
    points, found = solved()
    for field, value in (("center", found.center * np.nan), ("shape", found.shape * np.nan)):
        with pytest.raises(SolverError, match="not finite"):
            recertified(points, found, **{field: value})
    points, found = solved(symmetric=True)
    with pytest.raises(SolverError, match="not the origin"):
        recertified(points, found, center=found.center + 0.01)


def _determinant(rows: list[list[Fraction]]) -> Fraction:
    (a, b), (c, d) = rows
    return a * d - b * c


@pytest.mark.parametrize("flatness", [1.0, 1e-3, 1e-5, 1e-6])
def test_volume_slack_bounds_the_excess_in_exact_arithmetic(flatness: float) -> None:
    # Entries of a flat shape are rounded, and its volume changes by far more than the gap says.
    for seed in range(6):
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
        points = (rng.standard_normal((60, 2)) * [1.0, flatness]) @ turn
        found = loewner_ellipsoid(points)
        share = [Fraction(float(u)) for u in found.weights]
        share = [u / sum(share) for u in share]
        rows = [[Fraction(float(x)) for x in row] for row in points]
        mean = [sum(u * x[j] for u, x in zip(share, rows, strict=True)) for j in (0, 1)]
        least = [
            [
                2 * sum(u * (x[i] - mean[i]) * (x[j] - mean[j]) for u, x in zip(share, rows, strict=True))
                for j in (0, 1)
            ]
            for i in (0, 1)
        ]
        shape = [[Fraction(float(x)) for x in row] for row in found.shape]
        excess = 0.5 * math.log(_determinant(shape) / _determinant(least))
        assert excess <= found.certificate.details["log_volume_slack"]


def test_points_off_the_claimed_hull_are_measured() -> None:
    points = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5]])
    evidence = certify(
        points, np.zeros(2), np.diag([1.0, 0.0]), np.array([0.5, 0.5, 0.0]), symmetric=True, rank=1
    )
    assert evidence.details["off_hull"] == math.inf  # the hull has no extent and no size there
    tilted = certify(
        points @ np.array([[1.0, 1.0], [-1.0, 1.0]]),
        np.zeros(2),
        np.ones((2, 2)),
        np.array([0.5, 0.5, 0.0]),
        symmetric=True,
        rank=1,
    )
    assert tilted.details["off_hull"] == pytest.approx(math.sqrt(0.5), rel=16 * EPS)


@pytest.mark.parametrize("symmetric", [False, True])
def test_blocks_give_the_same_figures(symmetric: bool) -> None:
    points, found = solved(500, 5, symmetric=symmetric)
    whole = recertified(points, found)
    parts = recertified(Blocks([points[:7], points[7:300], points[300:]]), found)
    # Products of other widths may round otherwise.
    assert parts.details["containment"] == pytest.approx(whole.details["containment"], rel=64 * EPS)
    assert parts.details["gap"] == pytest.approx(whole.details["gap"], abs=64 * EPS)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_batched_certificate_agrees(symmetric: bool) -> None:
    points, found = solved(60, 4, symmetric=symmetric)
    alone = recertified(points, found)
    _, batch = certify_batch(
        points[None],
        found.center[None],
        found.shape[None],
        found.weights[None],
        symmetric=symmetric,
        rank=np.array([found.rank]),
        gap=1e-6,
    )
    for name, figure in alone.details.items():
        assert batch.details[name] == pytest.approx(figure, rel=1e-9, abs=1e-10), name


def test_columns_over_ten_orders_of_magnitude_do_not_change_the_figures() -> None:
    points, found = solved(100, 3)
    scales = np.array([1e-5, 1.0, 1e5])
    changed = certify(
        points * scales,
        found.center * scales,
        found.shape * np.outer(scales, scales),
        found.weights,
        symmetric=False,
        rank=3,
    )
    assert changed.details["gap"] == pytest.approx(found.gap, abs=1e-12)
    assert changed.details["containment"] == pytest.approx(1.0, abs=1e-11)


def test_enclosing_makes_the_largest_form_at_most_one() -> None:
    points, found = solved(300, 4)
    small = 0.3 * found.shape
    containment = recertified(points, found, shape=small).details["containment"]
    grown = recertified(points, found, shape=enclosing(small, containment))
    assert 1.0 - 64 * EPS <= grown.details["containment"] <= 1.0
