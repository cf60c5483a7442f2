"""Formulas about ellipsoids, designs and peeling: derived again with other tools, tried on small sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from coresets import AssumptionError
from coresets.guarantees import (
    AddOnlyAscent,
    AffineRounding,
    CaratheodoryTheorem,
    DesignReduction,
    LeverageIteration,
    LInfFactor,
    OneSidedFactor,
    PeelingSensitivity,
    SafeElimination,
    SpreadingStart,
    SymmetricRounding,
    VacuousSensitivity,
)

Floats = npt.NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)

ranks = st.integers(1, 200)
gaps = st.floats(1e-9, 10.0)
seeds = st.integers(0, 2**32 - 1)


def rows_of(seed: int, lifted: bool) -> Floats:
    """A small well-conditioned set of rows, with a constant column if lifted."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 6))
    n = int(rng.integers(k + 2, 40))
    rows = rng.standard_normal((n, k)) * (1.0 + rng.pareto(3.0, (n, 1)))
    if lifted:
        rows[:, -1] = 1.0
    return rows / np.sqrt(np.mean(rows**2, axis=0))


def variances(rows: Floats, design: Floats) -> Floats:
    moment = rows.T @ (design[:, None] * rows)
    return np.einsum("ij,ji->i", rows, np.linalg.solve(moment, rows.T))


def optimal(rows: Floats, gap: float = 1e-7) -> Floats:
    """A design of at most the gap, by multiplicative steps and exchange; slow and plain."""
    n, k = rows.shape
    design = np.full(n, 1.0 / n)
    for _ in range(20_000):
        form = variances(rows, design)
        top = int(np.argmax(form))
        if form[top] <= (1.0 + gap) * k:
            return design
        kept = np.flatnonzero(design > 0.0)
        low = kept[int(np.argmin(form[kept]))]
        away = k - form[low] > form[top] - k
        i = int(low) if away else top
        step = (form[i] - k) / (k * (form[i] - 1.0)) if form[i] > 1.0 or not away else -math.inf
        step = max(step, -design[i] / (1.0 - design[i]))
        design *= 1.0 - step
        design[i] = max(0.0, design[i] + step)
        design /= design.sum()
    raise AssertionError("the reference did not converge")


def log_det(rows: Floats, design: Floats) -> float:
    return float(np.linalg.slogdet(rows.T @ (design[:, None] * rows))[1])


# ---- M1 and M2


@given(ranks, gaps)
def test_ratio_and_excess_are_those_of_the_gap(rank: int, gap: float) -> None:
    m1, m2 = SymmetricRounding(), AffineRounding()
    exact = Fraction(gap)
    assert m1.squared_ratio(rank, gap) == pytest.approx(float((1 + exact) * rank), rel=4 * EPS)
    assert m2.squared_radius(rank, gap) == pytest.approx(float((1 + exact) * (rank + 1) - 1), rel=4 * EPS)
    assert m1.log_volume_excess(rank, gap) == pytest.approx(0.5 * rank * math.log1p(gap), rel=4 * EPS)
    # Bernoulli: the sharper form of M2 lies below the one in terms of the lifted dimension.
    assert m2.log_volume_excess(rank, gap) <= m1.log_volume_excess(rank + 1, gap) * (1.0 + 4 * EPS)
    assert m2.log_volume_excess(rank, gap) >= m1.log_volume_excess(rank, gap)


def test_one_location_needs_no_rounding() -> None:
    assert AffineRounding().squared_radius(0, 0.5) == AffineRounding().log_volume_excess(0, 0.5) == 0.0


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_volume_and_determinant_are_within_the_excess_of_a_rough_design(seed: int) -> None:
    rows = rows_of(seed, lifted=False)
    rough = np.random.default_rng(seed).dirichlet(np.ones(len(rows)))
    k = rows.shape[1]
    gap = float(variances(rows, rough).max()) / k - 1.0
    best = log_det(rows, optimal(rows))
    assert best - log_det(rows, rough) <= 2.0 * SymmetricRounding().log_volume_excess(k, gap) + 1e-9


# ---- M3 and CAR


@pytest.mark.parametrize("rank", range(6))
def test_supports_count_the_dimensions_of_the_moments(rank: int) -> None:
    products = len({(i, j) for i in range(rank) for j in range(i, rank)})
    assert DesignReduction().support(rank) == products + 1
    assert DesignReduction().support(rank, mean=True) == products + rank + 1
    assert CaratheodoryTheorem().support(rank, mass=False) == rank
    assert CaratheodoryTheorem().support(rank) == rank + 1


# ---- M4 and M5


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans())
def test_starts_and_the_plain_ascent_obey_their_bounds(seed: int, lifted: bool) -> None:
    rows = rows_of(seed, lifted)
    n, k = rows.shape
    best = log_det(rows, optimal(rows))
    chosen: list[int] = []
    for _ in range(k):
        direction = np.linalg.svd(rows[chosen])[2][-1] if chosen else rows[0]
        chosen.append(int(np.argmax(np.abs(rows @ direction))))
    design = np.zeros(n)
    design[chosen] = 1.0 / k
    assert len(set(chosen)) == k
    assert best - log_det(rows, design) <= SpreadingStart().log_det_gap(k) + 1e-9
    assert best - log_det(rows, np.full(n, 1.0 / n)) <= SpreadingStart().uniform_log_det_gap(n, k) + 1e-9
    for gap in (1.0, 0.1):
        steps = 0
        current = design.copy()
        while (form := variances(rows, current)).max() > (1.0 + gap) * k:
            i = int(np.argmax(form))
            step = (form[i] - k) / (k * (form[i] - 1.0))
            current *= 1.0 - step
            current[i] += step
            steps += 1
        assert steps <= AddOnlyAscent().steps(k, gap)
        assert np.count_nonzero(current) <= AddOnlyAscent().support(k, gap)


@given(st.integers(2, 1000), st.floats(1e-4, 20.0))
def test_steps_are_a_little_above_the_integral_of_which_they_are_a_majorant(k: int, gap: float) -> None:
    def psi(y: float) -> float:
        return math.expm1(-y) + y

    v, level = math.log1p(gap), math.log(k)
    integral = min(v, level) / psi(v)
    if v < level:
        integral += quad(lambda y: 1.0 / psi(y), v, level, limit=200)[0]
    steps = AddOnlyAscent().steps(k, gap)
    # The floor takes away less than one step; the quadrature is good to many digits more.
    assert steps >= k * integral * (1.0 - 1e-6) - 1.0
    if k > 2 and gap <= 1.0:
        assert steps <= 1.125 * k * integral


@given(st.integers(1, 300), st.floats(1e-4, 20.0), st.floats(1.0, 3.0), st.floats(0.0, 50.0))
def test_steps_fall_with_the_gap_and_grow_with_the_distance_of_the_start(
    k: int, gap: float, factor: float, start: float
) -> None:
    m5 = AddOnlyAscent()
    assert m5.steps(k, gap * factor) <= m5.steps(k, gap)
    assert m5.steps(k, gap, log_det_gap=start) <= m5.steps(k, gap, log_det_gap=start * factor)
    assert m5.steps(k, gap, log_det_gap=0.0) == 0


# ---- M6


@given(st.integers(1, 50), st.integers(0, 10**6), st.floats(1e-6, 3.0))
def test_iterations_are_the_fewest_whose_gap_is_small_enough(k: int, more: int, gap: float) -> None:
    m6 = LeverageIteration()
    iterations = m6.iterations(k + more, k, gap)
    # ln and expm1 are each good to a rounding error of the exponent.
    slack = 1.0 + 8.0 * EPS * (1.0 + 1.0 / gap)
    assert m6.gap(k + more, k, iterations) <= gap * slack
    if iterations > 1:
        assert m6.gap(k + more, k, iterations - 1) * slack >= gap


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 12))
def test_the_average_of_iterates_has_the_promised_gap(seed: int, iterations: int) -> None:
    rows = rows_of(seed, lifted=False)
    n, k = rows.shape
    weights, total = np.full(n, k / n), np.zeros(n)
    for _ in range(iterations):
        total += weights
        weights = weights * variances(rows, weights)
    gap = float(variances(rows, total / (k * iterations)).max()) / k - 1.0
    assert gap <= LeverageIteration().gap(n, k, iterations) + 1e-9


# ---- M7


@given(st.integers(1, 200), st.floats(0.0, 100.0))
def test_threshold_is_the_smaller_root_and_between_one_and_the_dimension(k: int, gap: float) -> None:
    threshold = SafeElimination().threshold(k, gap)
    e = Fraction(k) * Fraction(gap)
    t = Fraction(threshold) / k
    residual = t * t - (2 + e) * t + 1 + e / k
    # A relative error of some roundings in t moves the residual by that times the terms.
    assert abs(float(residual)) <= 32 * EPS * float(2 + e) * max(1.0, float(t))
    assert 1.0 - 8 * EPS <= threshold <= k * (1.0 + 4 * EPS)
    assert float(t) <= 1.0 + float(e) / 2.0


@pytest.mark.parametrize("gap", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("k", [2, 3, 10, 100])
def test_threshold_spares_the_cross_polytope_and_the_relative_excess_does_not(k: int, gap: float) -> None:
    heavy = (1.0 + k * gap) / (k * (1.0 + gap))
    design = np.append(heavy, np.full(k - 1, (1.0 - heavy) / (k - 1)))
    form = variances(math.sqrt(k) * np.eye(k), design)
    assert form.max() == pytest.approx((1.0 + gap) * k)
    assert SafeElimination().threshold(k, gap) <= form[0]
    if k >= 10 and 0.1 <= gap <= 1.0:
        wrong = k * (1.0 + gap / 2.0 - math.sqrt(gap * (4.0 + gap - 4.0 / k)) / 2.0)
        assert wrong > form[0]


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans(), st.sampled_from([0.01, 0.1, 1.0]))
def test_no_contact_point_lies_below_the_threshold(seed: int, lifted: bool, mix: float) -> None:
    rows = rows_of(seed, lifted)
    best = optimal(rows)
    rough = np.random.default_rng(seed).dirichlet(np.full(len(rows), 0.5))
    form = variances(rows, (1.0 - mix) * best + mix * rough)
    k = rows.shape[1]
    threshold = SafeElimination().threshold(k, max(0.0, form.max() / k - 1.0))
    # Weights of 1e-3 are beyond what a design of gap 1e-7 may put on points that the best one does without.
    assert np.all(form[best > 1e-3] >= threshold * (1.0 - 1e-3))


# ---- T1, T2, T6, T7


@given(ranks, st.floats(0.0, 1.0 / 3.0))
def test_centred_designs_have_the_best_factor_and_the_published_is_the_worst(rank: int, gap: float) -> None:
    t1 = LInfFactor()
    assert t1.symmetric(rank, gap) <= t1.lifted(rank, gap) <= t1.vertices(rank, gap) <= t1.published(rank)
    assert t1.lifted(rank, gap) == pytest.approx(t1.symmetric(rank + 1, gap), rel=8 * EPS)
    assert t1.symmetric_size(rank) < t1.lifted_size(rank)
    assert t1.vertices(rank, gap, shrinkage=0.5) >= t1.vertices(rank, gap)


@given(st.lists(st.floats(0.01, 50.0), max_size=12))
def test_peeling_bounds_are_those_of_the_rounds_before(factors: list[float]) -> None:
    bounds = PeelingSensitivity().bounds(factors)
    assert bounds.shape == (len(factors) + 1,)
    for i in range(len(factors) + 1):
        exact = 1 / (1 + sum((1 / Fraction(f) for f in factors[:i]), Fraction(0)))
        assert bounds[i] == pytest.approx(float(exact), rel=32 * EPS)
    assert np.all(np.diff(bounds) < 0.0)


def test_peeling_bounds_of_every_point_are_rows_of_their_own() -> None:
    stack = np.array([[1.0, 2.0], [4.0, math.inf], [0.0, 1.0]])
    bounds = PeelingSensitivity().bounds(stack)
    assert np.array_equal(bounds[1], [1.0, 0.8, 0.8])  # infinity proves nothing
    assert np.array_equal(bounds[2], [1.0, 0.0, 0.0])  # a point that is zero has no share
    assert np.array_equal(bounds[0], PeelingSensitivity().bounds(stack[0]))


@given(st.floats(1.0, 20.0), st.integers(1, 30), st.integers(1, 50), st.integers(0, 100))
def test_peeling_total_is_below_the_logarithm_on_the_page(
    factor: float, rounds: int, size: int, left: int
) -> None:
    t2 = PeelingSensitivity()
    total = t2.total([size] * rounds, [factor] * rounds, left)
    page = size * (1.0 + factor * math.log1p((rounds - 1) / factor)) + left * factor / (factor + rounds)
    assert total <= page * (1.0 + 64 * EPS)
    # The published bound is never below it, for its own factor.
    worse = [t2.published(3, i + 1) for i in range(rounds)]
    assert np.all(t2.bounds([LInfFactor().published(3)] * rounds)[:-1] <= np.array(worse) * (1.0 + 8 * EPS))


@given(st.floats(1.0, 50.0), st.floats(0.0, 0.999), st.floats(0.0, 1.0))
def test_one_sided_factor_is_the_largest_ratio_of_the_two_supports(
    radius: float, share: float, place: float
) -> None:
    offset = share / radius
    factor = OneSidedFactor().factor(radius, offset)
    along = -offset + 10.0 * place  # c.x in units of the norm of x
    ratio = (along + radius) / (along + 1.0 / radius)
    # The denominator loses digits where it is small: offset and 1/R agree to 1 - share.
    assert ratio <= factor * (1.0 + 16 * EPS / (1.0 - share))
    assert OneSidedFactor().factor(radius, 0.0) == pytest.approx(radius**2, rel=4 * EPS)


@pytest.mark.parametrize("offset", [0.5, 0.51, 3.0])
def test_no_one_sided_factor_with_the_origin_outside(offset: float) -> None:
    with pytest.raises(AssumptionError, match="two-sided"):
        OneSidedFactor().factor(2.0, offset)


@given(st.lists(st.floats(-100.0, 100.0), min_size=1, max_size=5))
def test_a_combination_of_others_has_a_share_below_one(coefficients: list[float]) -> None:
    bound = VacuousSensitivity().bound(coefficients)
    largest = max(abs(Fraction(c)) for c in coefficients)
    assert bound == pytest.approx(float(largest / (1 + largest)), rel=4 * EPS)
    assert bound < 1.0


# ---- refusals


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: SymmetricRounding().squared_ratio(3, -0.1), "negative"),
        (lambda: SymmetricRounding().squared_ratio(-1, 0.1), "too small"),
        (lambda: AddOnlyAscent().steps(3, 0.0), "positive"),
        (lambda: AddOnlyAscent().steps(3, 0.1, log_det_gap=-1.0), "negative"),
        (lambda: LeverageIteration().iterations(3, 4, 0.1), "too small"),
        (lambda: LInfFactor().vertices(3, 0.1, shrinkage=1.0), "outside"),
        (lambda: PeelingSensitivity().bounds(2.0), "one factor for each round"),
        (lambda: PeelingSensitivity().bounds([math.nan]), "negative"),
        (lambda: PeelingSensitivity().total([1, 2], [2.0], 0), "sizes has shape"),
        (lambda: OneSidedFactor().factor(0.5, 0.0), "below 1"),
        (lambda: VacuousSensitivity().bound([math.inf]), "finite"),
    ],
)
def test_values_without_a_meaning_are_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
