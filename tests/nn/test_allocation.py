"""Allocation of a budget to sides: exact counts, the optimum, and the hull of the capped error."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nn.allocation import SideErrors, allocate, bounded_shares, rounded, sampling_error


def some_sides(seed: int, n: int, capped: bool = False) -> SideErrors:
    rng = np.random.default_rng(seed)
    edges = rng.integers(5, 400, n).astype(float)
    return SideErrors(rng.lognormal(0.0, 1.5, n), edges, rng.uniform(0.5, 2.0, n), capped)


@settings(max_examples=40)
@given(seed=st.integers(0, 200), n=st.integers(1, 30), part=st.floats(0.0, 1.0), capped=st.booleans())
def test_counts_add_up_to_the_budget_and_fit(seed, n, part, capped):
    sides = some_sides(seed, n, capped)
    budget = round(part * sides.edges.sum())
    counts = allocate(sides, budget)
    assert counts.sum() == budget
    assert bool(((counts >= 0) & (counts <= sides.edges)).all())


@settings(max_examples=20)
@given(seed=st.integers(0, 30), part=st.floats(0.1, 0.6))
def test_uncapped_counts_are_as_good_as_a_solvers(seed, part):
    sides = some_sides(seed, 6)
    budget = round(part * sides.edges.sum())
    ours = allocate(sides, budget)

    def objective(counts):
        return float(sides.costs @ sampling_error(sides.constants / counts))

    start = sides.edges * budget / sides.edges.sum()
    solved = minimize(
        objective,
        start,
        bounds=[(1e-3, edges) for edges in sides.edges],
        constraints={"type": "eq", "fun": lambda counts: counts.sum() - budget},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    # Rounding moves a count by at most one, which costs at most err(n - 1) - err(n) there.
    slack = sides.costs @ (
        sampling_error(sides.constants / np.maximum(ours - 1, 0.5))
        - sampling_error(sides.constants / np.maximum(ours, 0.5))
    )
    assert objective(np.maximum(ours, 0.5)) <= solved.fun + slack + 1e-6


def best_by_enumeration(sides: SideErrors, budget: int) -> float:
    ranges = [range(int(edges) + 1) for edges in sides.edges[:-1]]
    costs = []
    for head in itertools.product(*ranges):
        last = budget - sum(head)
        if 0 <= last <= sides.edges[-1]:
            costs.append(sides.objective(np.array([*head, last], dtype=float)))
    return min(costs)


@settings(max_examples=12)
@given(seed=st.integers(0, 40), part=st.floats(0.05, 0.95))
def test_capped_counts_lose_at_most_one_side_against_the_optimum(seed, part):
    rng = np.random.default_rng(seed)
    sides = SideErrors(
        rng.lognormal(-1.5, 1.0, 3), rng.integers(5, 25, 3).astype(float), np.ones(3), capped=True
    )
    budget = round(part * sides.edges.sum())
    # The hull is exact but for the one side that ends inside a straight piece; and integers.
    assert sides.objective(allocate(sides, budget)) <= best_by_enumeration(sides, budget) + 1.0 + 0.1


def test_two_equal_sides_are_better_served_one_at_a_time_with_the_cap():
    sides = SideErrors(np.full(2, 10.0), np.full(2, 1000.0), np.ones(2), capped=True)
    counts = allocate(sides, 200)
    assert sorted(counts) == [0, 200]
    assert sides.objective(counts) == pytest.approx(1.6, abs=1e-12)
    assert sides.objective(np.array([100.0, 100.0])) == pytest.approx(1.762, abs=5e-4)


def test_small_sides_are_kept_whole_or_dropped_with_the_cap():
    # Below 49.36 A edges the hull is one straight piece.
    sides = SideErrors(np.full(10, 1.0), np.full(10, 40.0), np.ones(10), capped=True)
    assert sorted(allocate(sides, 160)) == [0] * 6 + [40] * 4


def test_large_sides_begin_at_the_tangent_with_the_cap():
    sides = SideErrors(np.ones(4), np.full(4, 1e4), np.ones(4), capped=True)
    for budget in (20, 40, 60, 75):
        counts = allocate(sides, budget)
        assert min(counts[counts > 0]) >= 17


def test_the_tangent_from_dropping_touches_where_it_should():
    touch = 17.486
    slope = (1.0 - sampling_error(np.array(1 / touch))) / touch
    for n in (10.0, 15.0, 20.0, 40.0):
        assert sampling_error(np.array(1 / n)) >= 1.0 - slope * n - 1e-6
    assert sampling_error(np.array(1 / touch)) == pytest.approx(math.sqrt(7.0) - 2.0, abs=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 50), capped=st.booleans())
def test_order_of_sides_and_scale_of_costs_do_not_matter(seed, capped):
    sides = some_sides(seed, 8, capped)
    order = np.random.default_rng(seed).permutation(8)
    budget = round(0.3 * sides.edges.sum())
    counts = allocate(sides, budget)
    moved = allocate(
        SideErrors(sides.constants[order], sides.edges[order], 4.0 * sides.costs[order], capped), budget
    )
    assert abs(sides.objective(counts[order][np.argsort(order)]) - sides.objective(counts)) == 0.0
    other = SideErrors(sides.constants[order], sides.edges[order], sides.costs[order], capped).objective(
        moved
    )
    assert other == pytest.approx(sides.objective(counts), rel=0.02)


def test_sides_without_error_get_what_the_others_cannot_take():
    sides = SideErrors(np.array([0.0, 1.0]), np.array([50.0, 10.0]), np.ones(2))
    assert list(allocate(sides, 8)) == [0, 8]
    assert list(allocate(sides, 30)) == [20, 10]
    assert list(allocate(sides, 0)) == [0, 0]


def test_extreme_constants_stay_finite():
    sides = SideErrors(np.array([1e-100, 1.0, 1e100]), np.full(3, 100.0), np.ones(3))
    for capped in (False, True):
        one = SideErrors(sides.constants, sides.edges, sides.costs, capped)
        assert allocate(one, 150).sum() == 150


def test_bad_budgets_are_refused():
    sides = some_sides(0, 3)
    with pytest.raises(ValueError, match="exceeds"):
        allocate(sides, int(sides.edges.sum()) + 1)
    with pytest.raises(ValueError, match="too small"):
        allocate(sides, -1)
    with pytest.raises(ValueError, match="shape"):
        SideErrors(np.ones(2), np.ones(3), np.ones(2))


@given(seed=st.integers(0, 100), part=st.floats(0.0, 1.0))
def test_bounded_shares_are_proportional_below_their_limits(seed, part):
    rng = np.random.default_rng(seed)
    weights, limits = rng.exponential(1.0, 7), rng.integers(1, 30, 7).astype(float)
    weights[0] = 0.0
    budget = round(part * limits.sum())
    counts = bounded_shares(weights, limits, budget)
    assert counts.sum() == pytest.approx(budget, abs=1e-9)
    free = (counts < limits - 1e-9) & (weights > 0.0)
    if free.any():
        ratios = counts[free] / weights[free]
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
        assert counts[0] <= 1e-9
    whole = rounded(counts, limits, budget)
    assert whole.sum() == budget
    assert bool((np.abs(whole - counts) <= 1.0 + 1e-9).all())
