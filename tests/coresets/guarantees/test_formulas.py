"""Size formulas, each derived again from its statement with other tools."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import lambertw

from coresets import (
    Accuracy,
    Guarantee,
)
from coresets.guarantees import (
    VCIID,
    DefensiveMixing,
    FiniteClass,
    FiniteFixedSize,
    FiniteHybrid,
    FiniteIID,
    FinitePoisson,
    FiniteRelativeEntropy,
    LipschitzClass,
    LipschitzIID,
    LipschitzPoisson,
    MatrixChernoff,
    SensitivityProfile,
    SubspaceClass,
    TopRemainder,
    VCClass,
)
from coresets.sampling import best_split

EPS = float(np.finfo(np.float64).eps)

totals = st.floats(1.0, 200.0)
queries = st.integers(1, 10**6)
epsilons = st.floats(0.01, 1.0)
deltas = st.floats(1e-9, 0.9)


def key_of(value: object) -> str:
    return value.key if isinstance(value, Guarantee) else str(value)


@st.composite
def profiles(draw: st.DrawFn) -> SensitivityProfile:
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.minimum(1.0, rng.pareto(draw(st.sampled_from([0.5, 1.0, 3.0])), n)) * (rng.random(n) > 0.2)
    values[0] = 1.0
    return SensitivityProfile(values, draw(queries))


@given(totals, queries, epsilons, deltas)
def test_e1_is_the_stated_size_and_the_root_of_its_quadratic(
    t: float, x: int, epsilon: float, delta: float
) -> None:
    level = math.log(2 * x / delta)
    stated = (2 * (t - 1) + 2 * t * epsilon / 3) / epsilon**2 * level
    m = FiniteIID().size(FiniteClass(t, x), Accuracy(epsilon, delta))
    assert stated * (1 - 32 * EPS) <= m <= stated * (1 + 32 * EPS) + 1
    linear = t * level / 3
    root = (linear + math.sqrt(linear**2 + 2 * m * (t - 1) * level)) / m
    assert FiniteIID().epsilon(FiniteClass(t, x), m, delta) == pytest.approx(root, rel=100 * EPS)


@pytest.mark.parametrize("guarantee", [FinitePoisson(), FiniteFixedSize()], ids=key_of)
@given(t=totals, x=queries, epsilon=epsilons, delta=deltas)
def test_e1_p_and_e1_f_need_kappa_times_the_total(
    guarantee: FinitePoisson, t: float, x: int, epsilon: float, delta: float
) -> None:
    level = math.log(2 * x / delta)
    kappa = (2 + 2 * epsilon / 3) / epsilon**2 * level
    m = guarantee.size(FiniteClass(t, x), Accuracy(epsilon, delta))
    assert t * kappa * (1 - 32 * EPS) <= m <= t * kappa * (1 + 32 * EPS) + 1
    root = t / m * (level / 3 + math.sqrt((level / 3) ** 2 + 2 * m / t * level))
    assert guarantee.epsilon(FiniteClass(t, x), m, delta) == pytest.approx(root, rel=100 * EPS)


@given(totals, queries, epsilons, deltas)
def test_defensive_mixing_is_poisson_with_one_more_query_and_unit_of_total(
    t: float, x: int, epsilon: float, delta: float
) -> None:
    stated = (t + 1) * (2 + 2 * epsilon / 3) / epsilon**2 * math.log(2 * (x + 1) / delta)
    m = DefensiveMixing().size(FiniteClass(t, x), Accuracy(epsilon, delta))
    assert stated * (1 - 32 * EPS) <= m <= stated * (1 + 32 * EPS) + 1
    assert FiniteIID().size(FiniteClass(t + 1, x + 1), Accuracy(epsilon, delta)) <= m


@given(st.floats(1.01, 200.0), queries, epsilons, deltas)
def test_e1_kl_solves_its_equation_and_never_needs_more_than_e1(
    t: float, x: int, epsilon: float, delta: float
) -> None:
    def kl(q: float, p: float) -> float:
        return (q * math.log(q / p) if q else 0.0) + ((1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0)

    upper = kl((1 + epsilon) / t, 1 / t) if 1 + epsilon <= t else math.inf
    lower = kl((1 - epsilon) / t, 1 / t)

    def failure(m: float) -> float:
        return math.exp(-m * upper) + math.exp(-m * lower) - delta / x

    m = FiniteRelativeEntropy().size(FiniteClass(t, x), Accuracy(epsilon, delta))
    assert m <= FiniteIID().size(FiniteClass(t, x), Accuracy(epsilon, delta)) + 1
    # Written plainly, kl cancels to about EPS / kl of its value.
    slack = m * (8 * EPS / min(upper, lower) + 32 * EPS)
    assert failure(m + slack) <= 0.0
    assert m == 1 or failure(max(m - 1 - slack, 0.0)) > 0.0


@settings(max_examples=60)
@given(profiles(), epsilons, deltas)
def test_e1_h_agrees_with_a_search_over_all_sizes_and_splits(
    profile: SensitivityProfile, epsilon: float, delta: float
) -> None:
    values = sorted((Fraction(float(v)) for v in profile.values), reverse=True)
    level = math.log(2 * profile.queries / delta)
    needed = (2 + 2 * epsilon / 3) / epsilon**2 * level

    def enough(m: int) -> bool:
        for k in range(min(m, len(values) + 1)):
            rest = sum(values[k:], Fraction(0))
            if rest == 0 or float((m - k) / rest) >= needed:
                return True
        return False

    expected = next(m for m in itertools.count(1) if enough(m))
    assert FiniteHybrid().size(profile, Accuracy(epsilon, delta)) == expected
    assert expected <= len(values) + 1


@given(profiles(), st.integers(1, 60))
def test_e1_h_assumes_the_split_that_the_sampler_makes(profile: SensitivityProfile, m: int) -> None:
    positive = profile.values[profile.values > 0]
    if m >= positive.size:
        return
    k = int(best_split(profile.values, m))
    kappa = (m - k) / positive[k:].sum()
    level = math.log(2 * profile.queries / 0.1)
    root = (level / 3 + math.sqrt((level / 3) ** 2 + 2 * kappa * level)) / kappa
    assert FiniteHybrid().epsilon(profile, m, 0.1) == pytest.approx(root, rel=1e3 * EPS)


@given(profiles(), epsilons)
def test_top_keeps_until_the_dropped_sensitivity_fits(profile: SensitivityProfile, epsilon: float) -> None:
    values = sorted((float(v) for v in profile.values), reverse=True)
    m = TopRemainder().size(profile, Accuracy(epsilon, 0.0))
    slack = len(values) ** 2 * EPS
    assert math.fsum(values[m:]) <= epsilon + slack
    assert m == 1 or math.fsum(values[m - 1 :]) > epsilon - slack
    assert TopRemainder().epsilon(profile, len(values) + 5, 0.0) == 0.0


@given(totals, st.integers(1, 60), epsilons, deltas)
def test_e2_is_the_largest_root_of_its_equation(t: float, d: int, epsilon: float, delta: float) -> None:
    a = 4 * t * (1 + epsilon) / epsilon**2
    # m = a (d ln(2 e m / d) + ln(8 / delta)): with x = m / (a d) it reads x - ln x = c, solved by
    # the lower branch of Lambert's function.
    c = math.log(2 * math.e * a) + math.log(8 / delta) / d
    by_lambert = -a * d * float(lambertw(-math.exp(-c), -1).real)
    m = VCIID().size(VCClass(t, d), Accuracy(epsilon, delta))
    assert m == pytest.approx(by_lambert, rel=1e-9, abs=1.0)

    def excess(size: float) -> float:
        return size - a * (d * math.log(2 * math.e * size / d) + math.log(8 / delta))

    by_brentq = brentq(excess, a * d, 100 * by_lambert, xtol=1e-9, rtol=1e-14)
    assert by_brentq * (1 - 1e-12) <= m <= by_brentq * (1 + 1e-12) + 1
    # The closed form of the theory page is an upper bound (it uses 1 + eps <= 2).
    assert m <= math.ceil(16 * t / epsilon**2 * (d * math.log(32 * t / epsilon**2) + math.log(8 / delta)))


@given(totals, st.integers(1, 20), st.integers(2, 5), epsilons)
def test_e2_with_unions_multiplies_the_exponent_of_the_growth(
    t: float, d: int, u: int, epsilon: float
) -> None:
    m = VCIID().size(VCClass(t, d, u), Accuracy(epsilon, 0.1))

    def enough(size: int) -> bool:
        growth = u * d * math.log(2 * math.e * size / d)
        return size * epsilon**2 >= 4 * t * (1 + epsilon) * (growth + math.log(80)) * (1 - 1e-12)

    assert enough(m)
    assert not enough(math.floor(m * (1 - 1e-9)) - 1)
    assert m >= VCIID().size(VCClass(t, d), Accuracy(epsilon, 0.1))


@pytest.mark.parametrize("dimension", [1, 7, 100])
@pytest.mark.parametrize("unions", [1, 3])
def test_e2_decreases_through_the_change_of_its_growth_bound(dimension: int, unions: int) -> None:
    bounds = [VCIID().epsilon(VCClass(2.0, dimension, unions), m, 0.1) for m in range(1, 4 * dimension)]
    assert bounds == sorted(bounds, reverse=True)


@given(totals, st.floats(0.1, 4.0), st.sampled_from([1.0, 2.0]), queries, epsilons, deltas)
def test_e4_is_the_square_of_its_root(
    t: float, h: float, r: float, k: int, epsilon: float, delta: float
) -> None:
    stated = ((2 * h * t + r * t * math.sqrt(math.log(2 * k / delta) / 2)) / epsilon) ** 2
    m = LipschitzIID().size(LipschitzClass(t, h, r, k), Accuracy(epsilon, delta))
    assert stated * (1 - 32 * EPS) <= m <= stated * (1 + 32 * EPS) + 1


def klein_rio(t: float, h: float, k: int, size: float, delta: float) -> float:
    """Mean plus the deviation y that solves y^2 kappa = l (2 (1 + 2 a) + 3 y)."""
    kappa, level = size / t, math.log(2 * k / delta)
    a = 2 * h * math.sqrt(t / kappa)
    y = brentq(lambda y: y * y * kappa - level * (2 * (1 + 2 * a) + 3 * y), 0.0, 1e9, xtol=1e-15, rtol=1e-14)
    return a + y


@given(totals, st.floats(0.1, 4.0), queries, st.integers(1, 10**8), deltas)
def test_e4_p_is_the_root_of_the_klein_rio_equation(t: float, h: float, k: int, m: int, delta: float) -> None:
    bound = LipschitzPoisson().epsilon(LipschitzClass(t, h, 1.0, k), m, delta)
    assert bound == pytest.approx(klein_rio(t, h, k, m, delta), rel=1e-9)


@pytest.mark.parametrize(
    ("t", "known", "published"), [(5, 6713, 6_900), (10, 21_107, 21_500), (50, 362_135, 364_000)]
)
def test_e4_p_known_figures(t: int, known: int, published: int) -> None:
    m = LipschitzPoisson().size(LipschitzClass(float(t)), Accuracy(0.2, 0.1))
    root = brentq(lambda size: klein_rio(t, 1.0, 1, size, 0.1) - 0.2, 1.0, 1e9)
    assert m == math.ceil(root)
    assert m <= published
    assert m == known


@pytest.mark.parametrize(("t", "d", "published"), [(10, 6, 86e3), (50, 6, 495e3), (50, 20, 1.58e6)])
def test_e2_known_figures(t: int, d: int, published: float) -> None:
    m = VCIID().size(VCClass(float(t), d), Accuracy(0.2, 0.1))
    assert m == pytest.approx(published, rel=0.01)  # three figures are known


@given(st.integers(1, 100), st.floats(1.0, 5.0), epsilons, deltas)
def test_mc_solves_the_matrix_chernoff_equation(
    rank: int, factor: float, epsilon: float, delta: float
) -> None:
    def h(u: float) -> float:
        return (1 + u) * math.log1p(u) - u if u > -1 else 1.0

    def failure(kappa: float) -> float:
        return (
            math.log(rank) + float(np.logaddexp(-kappa * h(epsilon), -kappa * h(-epsilon))) - math.log(delta)
        )

    t = factor * rank
    m = MatrixChernoff().size(SubspaceClass(t, rank), Accuracy(epsilon, delta))
    if failure(1e-9) <= 0.0:
        assert m == 1
        return
    kappa = brentq(failure, 1e-9, 1e9, xtol=1e-12, rtol=1e-14)
    # h cancels to about EPS / h, at most 5e-5 here, of its value when written plainly.
    slack = t * kappa * 8 * EPS / h(epsilon) + 1e-9
    assert t * kappa - slack <= m <= t * kappa + slack + 1


def test_mc_beyond_one_only_the_upper_tail_counts() -> None:
    parameters = SubspaceClass(10.0, 10)
    epsilon = MatrixChernoff().epsilon(parameters, 2, 0.1)
    assert epsilon > 1.0
    assert 10 * math.exp(-0.2 * ((1 + epsilon) * math.log1p(epsilon) - epsilon)) == pytest.approx(
        0.1, rel=1e-9
    )
