"""The parts of the Caratheodory reduction: compiled loops beside plain ones, error-free arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.recombination._frame import Frame, Lift, exact_sums, two_product, two_sum
from coresets.recombination._kernels import CHAIN, eliminate_rows, group_sums
from coresets.recombination._tree import eliminate

EPS = float(np.finfo(np.float64).eps)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=2).map(np.array))
def test_error_free_transformations_are_free_of_error(pair: np.ndarray) -> None:
    a, b = pair[:1], pair[1:]
    s, e = two_sum(a, b)
    assert Fraction(float(s[0])) + Fraction(float(e[0])) == Fraction(float(a[0])) + Fraction(float(b[0]))
    if abs(a[0] * b[0]) > 1e-250 or a[0] * b[0] == 0.0:  # below, the error itself underflows
        p, e = two_product(a, b)
        product = Fraction(float(a[0])) * Fraction(float(b[0]))
        if a[0] * b[0] != 0.0 or product == 0:
            assert Fraction(float(p[0])) + Fraction(float(e[0])) == product


@pytest.mark.parametrize("weighted", [True, False])
def test_group_sums_agree_with_exact_sums(weighted: bool) -> None:
    rng = np.random.default_rng(17)
    n, d = 3 * CHAIN + 5, 3
    rows, scale, origin = rng.standard_normal((n, d)), np.array([1.0, 0.5, 4.0]), np.array([0.1, 0.0, -2.0])
    weights = rng.uniform(0.0, 1.0, n) if weighted else np.empty(0)
    starts = np.array([0, 1, 6, 6, 2 * CHAIN + 3, n])
    masses, sums, squares = np.empty(5), np.empty((5, d)), np.empty((5, d))
    group_sums(rows, weights, starts, scale, origin, masses, sums, squares)
    z, w = rows * scale - origin, weights if weighted else np.ones(n)
    for g in range(5):
        part = slice(starts[g], starts[g + 1])
        bound = (CHAIN / 4 + 8) * EPS
        size = np.abs(w[part, None] * z[part]).sum(axis=0)
        assert np.all(np.abs(sums[g] - exact_sums(w[part, None] * z[part])) <= bound * size)
        assert abs(masses[g] - exact_sums(w[part, None])[0]) <= bound * w[part].sum()
    np.testing.assert_allclose(squares.sum(axis=0), (w[:, None] * z * z).sum(axis=0), rtol=n * EPS)


def eliminate_plainly(rows: np.ndarray, weights: np.ndarray, rank: int) -> np.ndarray:
    """One null vector at a time, from a fresh decomposition."""
    weights = weights.copy()
    while True:
        alive = np.flatnonzero(weights > 0.0)
        if alive.size <= rank:
            return weights
        null = np.linalg.svd(rows[alive].T)[2][-1]
        null = null if null.max() > 0 else -null
        ratios = np.where(null > 0, weights[alive] / np.where(null > 0, null, 1.0), np.inf)
        weights[alive] = np.maximum(weights[alive] - ratios.min() * null, 0.0)
        weights[alive[np.argmin(ratios)]] = 0.0


@pytest.mark.parametrize(("n", "k"), [(5, 8), (40, 4), (300, 7)])
@pytest.mark.parametrize("constant", [True, False])
def test_compiled_elimination_keeps_what_the_plain_one_keeps(n: int, k: int, constant: bool) -> None:
    rng = np.random.default_rng(18)
    rows, weights = rng.standard_normal((n, k)), rng.uniform(0.5, 1.5, n)
    if constant:
        rows[:, -1] = 1.0
    sizes = np.ones(n) if constant else np.linalg.norm(rows, axis=1)
    kept = eliminate(rows, weights, sizes, 1e-13)
    assert kept.rank == min(n, k)
    assert kept.positions.size <= kept.rank
    plain = eliminate_plainly(rows, weights, kept.rank)
    # Both are backward stable; each of n steps rounds once at the size of the whole sum.
    atol = n * EPS * float(weights @ sizes) * 10
    np.testing.assert_allclose(kept.weights @ rows[kept.positions], plain @ rows, rtol=0.0, atol=atol)
    if not constant:  # the cone version never lets the weights grow
        assert kept.weights @ sizes[kept.positions] <= weights @ sizes * (1.0 + n * EPS)


def test_the_kernel_swaps_a_row_in_where_a_basic_weight_vanishes() -> None:
    # Row 2 = 2 b0 - b1: giving it weight 1/2 of its 1 exhausts nothing of b0 but all of b1.
    tableau = np.array([[2.0, -1.0]])
    basis, kept = np.array([0, 1]), np.array([3.0, 0.5])
    eliminate_rows(tableau, basis, kept, np.ones(2), np.array([2]), np.ones(1), np.ones(1))
    weights = np.zeros(3)
    weights[basis] = kept
    total = weights[:2] + weights[2] * np.array([2.0, -1.0])
    np.testing.assert_allclose(total, [5.0, -0.5], rtol=4 * EPS)
    assert np.count_nonzero(weights) == 2


@pytest.mark.parametrize("n", [1, 40, 5000])
@pytest.mark.parametrize("groups", [1, 7, 40])
def test_sums_of_products_do_not_depend_on_how_groups_are_blocked(n: int, groups: int) -> None:
    rng = np.random.default_rng(20)
    rows, weights = rng.standard_normal((n, 3)), rng.uniform(0.0, 1.0, n)
    starts = np.linspace(0, n, min(n, groups) + 1).astype(np.int64)
    lift = Lift(quadratic=True, linear=True, constant=True)
    frame = Frame(np.ones(3), np.full(3, 0.25), rng.standard_normal((3, 2)))
    found = frame.group_sums(rows, weights, starts, lift)
    features = lift.features(frame.coordinates(rows)) * weights[:, None]
    for g in range(starts.size - 1):
        part = features[starts[g] : starts[g + 1]]
        np.testing.assert_allclose(
            found.sums[g], part.sum(axis=0), rtol=0.0, atol=n * EPS * np.abs(part).sum()
        )
        assert found.masses[g] == pytest.approx(weights[starts[g] : starts[g + 1]].sum(), rel=n * EPS)
