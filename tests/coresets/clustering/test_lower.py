"""Lower bounds on the cost of k centres, against exact optima and plain references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from coresets import WeightedSet
from coresets.clustering import (
    Distance,
    SquaredDistance,
    forest_lower_bound,
    optimum_lower_bound,
    spectral_lower_bound,
)
from coresets.clustering import _kernels as kernels

EPS = float(np.finfo(np.float64).eps)
POWERS = pytest.mark.parametrize("power", [SquaredDistance(), Distance()], ids=["squares", "distances"])


def optimum_on_a_line(x: np.ndarray, w: np.ndarray, k: int, exponent: int) -> float:
    """Exact least cost of k centres, by dynamic programming over intervals of the sorted points."""
    order = np.argsort(x)
    x, w = x[order], w[order]
    n = x.size
    single = np.zeros((n + 1, n + 1))
    for a in range(n):
        for b in range(a + 1, n + 1):
            part, mass = x[a:b], w[a:b]
            if exponent == 2:
                centre = part @ mass / mass.sum()
            else:
                centre = part[np.searchsorted(np.cumsum(mass), 0.5 * mass.sum())]
            single[a, b] = mass @ np.abs(part - centre) ** exponent
    best = single[0].copy()
    for _ in range(k - 1):
        best = np.array([min(best[a] + single[a, b] for a in range(b + 1)) for b in range(n + 1)])
    return float(best[n])


@POWERS
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 24),
    k=st.integers(1, 5),
    uneven=st.booleans(),
    more=st.integers(1, 8),
)
def test_no_lower_bound_exceeds_the_exact_optimum_on_a_line(
    power: SquaredDistance | Distance, seed: int, n: int, k: int, uneven: bool, more: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n) + 10.0 * rng.integers(0, 3, n)
    w = 10.0 ** rng.uniform(-3.0, 3.0, n) if uneven else np.ones(n)
    data = WeightedSet(x[:, None], w)
    optimum = optimum_on_a_line(x, w, k, power.exponent)
    # The reference rounds, too: sums of n squares of numbers up to the spread.
    slack = 8.0 * n * EPS * float(w @ (1.0 + np.abs(x)) ** power.exponent)
    for low in (
        forest_lower_bound(data, k, power, rng=seed, group=k + more),
        optimum_lower_bound(data, k, power, rng=seed),
    ):
        assert 0.0 <= low <= optimum + slack


@POWERS
@pytest.mark.parametrize(("n", "k", "group"), [(12, 1, 12), (30, 4, 7), (31, 3, 10), (9, 5, 6)])
def test_forests_are_the_lightest_edges_of_scipys_spanning_trees(
    power: SquaredDistance | Distance, n: int, k: int, group: int
) -> None:
    rng = np.random.default_rng(n)
    points, weights, order = rng.standard_normal((n, 3)), rng.uniform(0.5, 2.0, n), rng.permutation(n)
    expected = 0.0
    for start in range(0, n, group):
        rows = order[start : start + group]
        if rows.size > k:
            edges = minimum_spanning_tree(cdist(points[rows], points[rows]) ** power.exponent).data
            expected += weights[rows].min() * np.sort(edges)[: rows.size - k].sum()
    found = kernels.forests(points, weights, order, group, k, power.exponent == 2)
    assert found == pytest.approx(expected, rel=64 * n * EPS)


@POWERS
def test_a_pair_of_points_is_bounded_exactly(power: SquaredDistance | Distance) -> None:
    data = WeightedSet([[0.0, 0.0], [3.0, 4.0]], [2.0, 2.0])
    exact = 2.0 * (12.5 if power.exponent == 2 else 5.0)
    assert forest_lower_bound(data, 1, power, rng=0) == pytest.approx(exact, rel=1e3 * EPS)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_the_spectral_bound_is_the_tail_of_the_singular_values(k: int) -> None:
    rng = np.random.default_rng(k)
    points, weights = rng.standard_normal((300, 6)) * np.arange(1, 7), rng.uniform(0.0, 3.0, 300)
    centred = np.sqrt(weights)[:, None] * (points - np.average(points, axis=0, weights=weights))
    squares = np.square(np.linalg.svd(centred, compute_uv=False))
    low = spectral_lower_bound(WeightedSet(points, weights), k)
    # The bound is lowered by a multiple of the trace for every direction; the reference rounds, too.
    rounding = 300 * EPS * squares.sum()
    allowed = 6 * 4.0 * (6 + 8192 + 1) * EPS * squares.sum() + rounding
    assert squares[k - 1 :].sum() - allowed <= low <= squares[k - 1 :].sum() + rounding


def test_the_spectral_bound_is_zero_with_fewer_columns_than_centres() -> None:
    assert spectral_lower_bound(WeightedSet(np.random.default_rng(0).standard_normal((50, 3))), 4) == 0.0


def test_the_spectral_bound_of_one_centre_is_the_optimum_far_from_the_origin() -> None:
    points = np.random.default_rng(0).standard_normal((500, 3)) + 1e6
    optimum = np.square(points - points.mean(axis=0)).sum()
    low = spectral_lower_bound(WeightedSet(points), 1)
    assert 0.999999 * optimum < low <= optimum * (1.0 + 1e-9)


@POWERS
def test_at_most_k_places_cost_nothing_at_least(power: SquaredDistance | Distance) -> None:
    places = np.repeat(np.array([[0.0, 1.0], [5.0, 5.0], [9.0, 0.0]]), 7, axis=0)
    assert optimum_lower_bound(WeightedSet(places), 3, power, rng=0) == 0.0
    assert optimum_lower_bound(WeightedSet(places[:2]), 3, power, rng=0) == 0.0
    assert forest_lower_bound(WeightedSet(places), 2, power, rng=0, group=21) > 0.0


@POWERS
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(1, 4), scale=st.integers(-20, 20), mass=st.integers(-9, 9)
)
def test_the_forest_bound_scales_with_lengths_and_masses(
    power: SquaredDistance | Distance, seed: int, k: int, scale: int, mass: int
) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_normal((60, 2)), rng.uniform(0.1, 9.0, 60)
    plain = forest_lower_bound(WeightedSet(points, weights), k, power, rng=1)
    larger = WeightedSet(2.0**scale * points, 2.0**mass * weights)
    expected = 2.0 ** (power.exponent * scale + mass) * plain  # powers of two round nothing
    assert forest_lower_bound(larger, k, power, rng=1) == expected


def test_points_without_mass_change_nothing_that_counts() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((40, 2))
    more = WeightedSet(np.vstack([points, 1e3 + points]), np.repeat([1.0, 0.0], 40))
    optimum = np.square(points - points.mean(axis=0)).sum()
    assert 0.0 < optimum_lower_bound(more, 1, rng=0) <= optimum * (1.0 + 1e3 * EPS)


@pytest.mark.parametrize("d", [10, 40])
def test_in_many_columns_little_more_than_half_is_lost(d: int) -> None:
    points = np.random.default_rng(d).standard_normal((3000, d))
    for power in (SquaredDistance(), Distance()):
        single = power.of_squares(np.square(points - points.mean(axis=0)).sum(axis=1)).sum()
        assert single / forest_lower_bound(WeightedSet(points), 5, power, rng=0) < 3.5


def test_bad_input_is_named() -> None:
    data = WeightedSet(np.eye(4))
    with pytest.raises(TypeError, match="data is a ndarray; wrap"):
        forest_lower_bound(np.eye(4), 1, rng=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k = 0 is too small"):
        optimum_lower_bound(data, 0, rng=0)
    with pytest.raises(ValueError, match="group = 2 is too small; pass at least 3"):
        forest_lower_bound(data, 2, rng=0, group=2)
    with pytest.raises(TypeError, match="rng = None is not a source"):
        forest_lower_bound(data, 2, rng=None)
