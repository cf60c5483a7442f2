"""Tails: exact inverses, independent references, validity by enumeration, monotonicity, extremes."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from coresets.tails import BernoulliKL, Bernstein, ChernoffBennett, ExactBinomial, Tail, bennett_h

EPS = float(np.finfo(np.float64).eps)
DIGITS = 60

sides = st.sampled_from([1, 2])
positive = st.floats(1e-3, 1e3)
probabilities = st.floats(0.01, 0.99)
deltas = st.floats(1e-12, 0.999) | st.sampled_from([1e-300, 1e-30])


@st.composite
def bounded_laws(draw: st.DrawFn) -> Tail:
    """Laws whose tail decreases in the size at a fixed epsilon."""
    kind = draw(st.sampled_from([Bernstein, ChernoffBennett, BernoulliKL]))
    if kind is BernoulliKL:
        maximum = draw(positive)
        return BernoulliKL(maximum * draw(probabilities), maximum, draw(sides))
    bound = draw(positive)
    return kind(bound**2 * draw(st.floats(1e-3, 10.0)), bound, draw(sides))


def scale(law: Tail) -> float:
    return float(law.maximum if isinstance(law, BernoulliKL) else law.bound)  # type: ignore[attr-defined]


# ---- inverses


@settings(max_examples=40)
@given(bounded_laws(), st.floats(1e-3, 5.0), deltas)
def test_size_is_the_least_integer_whose_tail_and_epsilon_fit(
    law: Tail, relative: float, delta: float
) -> None:
    epsilon = relative * scale(law)
    m = law.size(epsilon, delta)
    assert law.log_tail(m, epsilon) <= np.log(delta)
    assert law.epsilon(m, delta) <= epsilon
    if m > 1:
        assert law.log_tail(m - 1, epsilon) > np.log(delta)
        assert law.epsilon(m - 1, delta) > epsilon


@settings(max_examples=40)
@given(bounded_laws(), st.integers(1, 10**6), deltas)
def test_epsilon_is_the_least_float_whose_tail_fits(law: Tail, m: int, delta: float) -> None:
    epsilon = law.epsilon(m, delta)
    assert law.log_tail(m, epsilon) <= np.log(delta)
    assert epsilon == 0.0 or law.log_tail(m, np.nextafter(epsilon, 0.0)) > np.log(delta)
    assert epsilon == 0.0 or law.size(epsilon, delta) <= m


@settings(max_examples=20)
@given(probabilities, sides, st.floats(0.02, 0.9), st.floats(1e-9, 0.9))
def test_exact_binomial_sizes_fit_from_there_on(p: float, side: int, epsilon: float, delta: float) -> None:
    law = ExactBinomial(p, side)
    m = law.size(epsilon, delta)
    later = np.arange(m, m + 60)
    assert np.all(law.log_tail(later, epsilon) <= np.log(delta))
    assert np.all(law.epsilon(later, delta) <= epsilon)
    assert m == 1 or law.log_tail(m - 1, epsilon) > np.log(delta)
    assert m == 1 or law.epsilon(m - 1, delta) > epsilon


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("side", [1, 2])
def test_exact_binomial_size_agrees_with_a_search_over_all_sizes(p: float, side: int) -> None:
    epsilon, delta = 0.07, 0.02
    law = ExactBinomial(p, side)
    sizes = np.arange(1, BernoulliKL(p, 1.0, side).size(epsilon, delta) + 500)
    assert law.size(epsilon, delta) == sizes[law.tail(sizes, epsilon) > delta].max() + 1


# ---- vectorisation


@pytest.mark.parametrize(
    "make",
    [
        lambda v: Bernstein(v, 2.0),
        lambda v: ChernoffBennett(v, 2.0),
        lambda v: BernoulliKL(v, 3.0),
        lambda v: ExactBinomial(0.3),
    ],
    ids=["Bernstein", "ChernoffBennett", "BernoulliKL", "ExactBinomial"],
)
def test_arrays_broadcast_and_equal_a_loop(make: Callable[[Any], Tail]) -> None:
    parameter = np.array([0.2, 1.0, 2.9])
    epsilons, levels = np.array([[0.05], [0.3], [2.0]]), np.array([0.3, 0.01, 1e-9])
    counts = np.array([[1], [50], [3000]])
    law = make(parameter)
    size, epsilon, tail = (
        law.size(epsilons, levels),
        law.epsilon(counts, levels),
        law.tail(counts, epsilons.T),
    )
    assert size.shape == epsilon.shape == tail.shape == (3, 3)
    assert size.dtype == np.int64
    for i in range(3):
        for j in range(3):
            one = make(float(parameter[j]))
            assert size[i, j] == one.size(float(epsilons[i, 0]), float(levels[j]))
            # Vectorised and scalar logarithms may differ in the last place.
            assert epsilon[i, j] == pytest.approx(
                one.epsilon(int(counts[i, 0]), float(levels[j])), rel=1e3 * EPS
            )
            assert tail[i, j] == pytest.approx(
                one.tail(int(counts[i, 0]), float(epsilons[j, 0])), rel=1e4 * EPS
            )


def test_scalars_give_python_numbers() -> None:
    law = Bernstein(1.0, 1.0)
    assert type(law.size(0.1, 0.1)) is int
    assert type(law.epsilon(10, 0.1)) is float


# ---- references


def exact_h(u: float) -> Decimal:
    """Bennett's function of a float, to about 40 digits relative for |u| >= 1e-12."""
    exact = Decimal(u)
    return (1 + exact) * (1 + exact).ln() - exact if u > -1.0 else Decimal(1)


@given(st.floats(-1.0, 1e6) | st.floats(-1e-3, 1e-3) | st.floats(0.04, 0.06))
def test_bennett_h_is_accurate_to_a_few_last_places(u: float) -> None:
    assume(u == 0.0 or abs(u) > 1e-12)
    with localcontext(prec=DIGITS):
        exact = float(exact_h(u))
    # At the edge of the series, 0.05, the closed form cancels h / u = 0.025 of its leading digits.
    assert float(bennett_h(u)) == pytest.approx(exact, rel=4 * EPS / 0.025, abs=0.0)


@given(probabilities, st.floats(1e-9, 0.9), sides)
def test_relative_entropy_agrees_with_sixty_digit_arithmetic(p: float, shift: float, side: int) -> None:
    assume(p + shift < 0.999 and (side == 1 or p - shift > 0.001))
    with localcontext(prec=DIGITS):
        P, S = Decimal(p), Decimal(shift)

        def kl(q: Decimal) -> Decimal:
            return q * (q / P).ln() + (1 - q) * ((1 - q) / (1 - P)).ln()

        upper, lower = (-1000 * kl(P + S)).exp(), (-1000 * kl(P - S)).exp() if side == 2 else Decimal(0)
        exact = (upper + lower).ln()
    # The rate is accurate to a few EPS, amplified by the edge of the series; the logarithm of the
    # sum adds EPS to terms of size 1000 kl.
    assert float(BernoulliKL(p, 1.0, side).log_tail(1000, shift)) == pytest.approx(
        float(exact), rel=1e3 * EPS, abs=10 * EPS
    )


@given(positive, positive, st.integers(1, 10**6), deltas, sides)
def test_bernstein_epsilon_is_the_root_of_its_quadratic(
    v: float, b: float, m: int, delta: float, side: int
) -> None:
    level = math.log(side) - math.log(delta)
    root = (b * level / 3 + math.sqrt((b * level / 3) ** 2 + 2 * m * v * level)) / m
    assert Bernstein(v, b, side).epsilon(m, delta) == pytest.approx(root, rel=32 * EPS / min(1.0, level))


def optimised(exponent: Callable[[float], float], largest: float) -> float:
    found = minimize_scalar(
        exponent, bounds=(0.0, largest), method="bounded", options={"xatol": 1e-9 * largest}
    )
    return float(found.fun)


@pytest.mark.parametrize("variance", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("bound", [0.3, 2.0])
@pytest.mark.parametrize("epsilon", [0.02, 0.5, 3.0])
def test_bennett_is_the_optimised_chernoff_bound(variance: float, bound: float, epsilon: float) -> None:
    def exponent(scaled: float) -> float:  # scaled is lambda * bound
        moments = variance / bound**2 * (math.expm1(scaled) - scaled)
        return moments - scaled * epsilon / bound

    best = optimised(exponent, 2.0 * math.log1p(bound * epsilon / variance) + 1.0)
    # The minimiser is off by 1e-9 of its range, which the flat minimum squares.
    assert float(ChernoffBennett(variance, bound, 1).log_tail(1, epsilon)) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("maximum", [1.0, 7.0])
@pytest.mark.parametrize("p", [0.02, 0.4, 0.9])
@pytest.mark.parametrize("fraction", [0.05, 0.6])
def test_relative_entropy_is_the_optimised_chernoff_bound(maximum: float, p: float, fraction: float) -> None:
    shift = fraction * (1.0 - p)  # on the way to the largest possible deviation
    best = optimised(lambda s: math.log1p(p * math.expm1(s)) - s * (p + shift), 40.0)
    law = BernoulliKL(p * maximum, maximum, 1)
    assert float(law.log_tail(1, shift * maximum)) == pytest.approx(best, rel=1e-9)


@given(positive, positive, st.floats(1e-6, 1e3), st.integers(1, 10**6), sides)
def test_bennett_never_exceeds_bernstein(v: float, b: float, epsilon: float, m: int, side: int) -> None:
    sharp, simple = ChernoffBennett(v, b, side), Bernstein(v, b, side)
    rounding = 1e3 * EPS * abs(float(simple.log_tail(m, epsilon))) + 4 * EPS
    assert sharp.log_tail(m, epsilon) <= simple.log_tail(m, epsilon) + rounding


@given(probabilities, st.floats(1e-6, 0.9), st.integers(1, 10**6))
def test_relative_entropy_never_exceeds_bennett_with_the_same_variance(
    p: float, epsilon: float, m: int
) -> None:
    bennett = ChernoffBennett(p * (1 - p), 1 - p, 1)
    rounding = 1e3 * EPS * abs(float(bennett.log_tail(m, epsilon))) + 4 * EPS
    assert BernoulliKL(p, 1.0, 1).log_tail(m, epsilon) <= bennett.log_tail(m, epsilon) + rounding


def exact_binomial_tail(m: int, p: Fraction, epsilon: Fraction, side: int) -> Fraction:
    total = Fraction(0)
    for k in range(m + 1):
        if k > m * (p + epsilon) or (side == 2 and k < m * (p - epsilon)):
            total += math.comb(m, k) * p**k * (1 - p) ** (m - k)
    return total


@pytest.mark.parametrize("m", [1, 2, 7, 40])
@pytest.mark.parametrize("p", [Fraction(1, 16), Fraction(3, 8), Fraction(1, 2)])  # exact as floats
@pytest.mark.parametrize("epsilon", [Fraction(0), Fraction(1, 8), Fraction(1, 2), Fraction(3, 4)])
@pytest.mark.parametrize("side", [1, 2])
def test_exact_binomial_agrees_with_rational_arithmetic(
    m: int, p: Fraction, epsilon: Fraction, side: int
) -> None:
    exact = float(exact_binomial_tail(m, p, epsilon, side))
    # The incomplete beta integral is accurate to some tens of last places.
    assert ExactBinomial(float(p), side).tail(m, float(epsilon)) == pytest.approx(
        exact, rel=1e3 * EPS, abs=1e-300
    )


@pytest.mark.parametrize("m", [10**3, 10**6, 10**9, 10**12])
def test_exact_binomial_agrees_with_scipy_up_to_huge_sizes(m: int) -> None:
    p, deviations = 0.3, 2.0
    epsilon = deviations * math.sqrt(p * (1 - p) / m)
    high, low = math.floor(m * (p + epsilon)), math.ceil(m * (p - epsilon)) - 1
    expected = binom.sf(high, m, p) + binom.cdf(low, m, p)
    assert ExactBinomial(p).tail(m, epsilon) == pytest.approx(expected, rel=1e-6)
    # And the normal limit, 0.0455, up to one jump on either side.
    assert ExactBinomial(p).tail(m, epsilon) == pytest.approx(
        math.erfc(deviations / math.sqrt(2)), abs=1 / math.sqrt(m)
    )


# ---- validity


def law_of_sum(ps: np.ndarray) -> np.ndarray:
    law = np.ones(1)
    for p in ps:
        law = np.convolve(law, [1.0 - p, p])
    return law


@pytest.mark.parametrize("m", [1, 5, 30, 100])
@pytest.mark.parametrize("kind", ["equal", "mixed", "rare"])
def test_bounds_are_never_below_the_true_tail_of_bernoulli_sums(m: int, kind: str) -> None:
    rng = np.random.default_rng(m)
    ps = {"equal": np.full(m, 0.3), "mixed": rng.uniform(0.02, 0.98, m), "rare": np.full(m, 0.01)}[kind]
    law, mean = law_of_sum(ps), float(ps.mean())
    support = np.arange(m + 1) / m
    variance, largest = float(np.mean(ps * (1 - ps))), float(max(ps.max(), 1 - ps.min()))
    bounds: list[Tail] = [Bernstein(variance, largest), ChernoffBennett(variance, largest)]
    if kind != "mixed":
        bounds += [BernoulliKL(mean)]
    for epsilon in np.unique(np.abs(support - mean))[1:]:
        # The bounds cover P(|deviation| >= epsilon); slack for the rounding of the support points.
        true = float(law[np.abs(support - mean) >= epsilon * (1 - 1e-12)].sum())
        for bound in bounds:
            assert bound.tail(m, epsilon) >= true * (1 - 1e-10)
    for bound in bounds:
        assert (
            np.all(bound.tail(m, support[1:]) >= ExactBinomial(mean).tail(m, support[1:])) or kind == "mixed"
        )


# ---- monotonicity


@settings(max_examples=30)
@given(
    bounded_laws(),
    st.floats(1e-3, 3.0),
    st.floats(1.0, 5.0),
    st.integers(1, 10**5),
    st.integers(0, 10**5),
    deltas,
)
def test_tails_and_inverses_are_monotone(
    law: Tail, relative: float, factor: float, m: int, more: int, delta: float
) -> None:
    epsilon, larger = relative * scale(law), factor * relative * scale(law)
    assert law.tail(m + more, epsilon) <= law.tail(m, epsilon)
    assert law.tail(m, larger) <= law.tail(m, epsilon) * (1 + 1e3 * EPS * m)
    risk = min(0.9999, delta * factor)
    assert law.epsilon(m + more, delta) <= law.epsilon(m, delta) * (1 + 1e3 * EPS)
    assert law.epsilon(m, risk) <= law.epsilon(m, delta) * (1 + 1e3 * EPS)
    assert law.size(larger, delta) <= law.size(epsilon, delta)
    assert law.size(epsilon, risk) <= law.size(epsilon, delta)


@settings(max_examples=30)
@given(positive, positive, st.floats(1.0, 10.0), st.floats(1e-3, 10.0), deltas)
def test_sizes_grow_with_variance_and_bound(
    v: float, b: float, factor: float, epsilon: float, delta: float
) -> None:
    for kind in (Bernstein, ChernoffBennett):
        base = kind(v, b).size(epsilon, delta)
        # Bennett's exponent is evaluated with rounding, so equal sizes may differ in the last place.
        assert kind(factor * v, b).size(epsilon, delta) >= base * (1 - 1e3 * EPS)
        assert kind(v, factor * b).size(epsilon, delta) >= base * (1 - 1e3 * EPS)
        assert kind(v, b, 1).size(epsilon, delta) <= base


# ---- extremes and refusals

LAWS = [Bernstein(1.0, 2.0), ChernoffBennett(1.0, 2.0), BernoulliKL(0.3, 2.0), ExactBinomial(0.3)]


@pytest.mark.parametrize("law", LAWS)
def test_extreme_arguments_stay_in_range(law: Tail) -> None:
    assert 0.0 < law.epsilon(10**12, 0.1) < 1e-5
    assert math.isfinite(law.epsilon(1, 1e-300))
    assert law.tail(10**12, 1e-300) == pytest.approx(1.0, abs=1e-5)
    assert law.tail(1, 0.0) <= 1.0
    assert law.tail(1, 1e300) == 0.0
    m = law.size(0.1, 1e-300)
    assert law.tail(m, 0.1) <= 1e-300 * (1 + 1e6 * EPS)
    assert law.size(1e3, 1e-300) <= 100


@pytest.mark.parametrize("law", LAWS[:3])
def test_a_size_beyond_the_integers_of_floats_is_an_overflow(law: Tail) -> None:
    with pytest.raises(OverflowError, match=r"no size below 2\^53"):
        law.size(1e-12, 0.5)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda law: law.size(0.0, 0.1), ValueError, r"epsilon = 0 is outside \(0, inf\)"),
        (lambda law: law.size(-1.0, 0.1), ValueError, "epsilon = -1"),
        (lambda law: law.size([0.1, math.nan], 0.1), ValueError, "epsilon = nan"),
        (lambda law: law.size(0.1, 0.0), ValueError, r"delta = 0 is outside \(0, 1\)"),
        (lambda law: law.size(0.1, 1.0), ValueError, "delta = 1"),
        (lambda law: law.size(0.1, "x"), TypeError, "delta = 'x' is not a real number"),
        (lambda law: law.epsilon(0, 0.1), ValueError, r"size = 0 is outside \[1, inf\]"),
        (lambda law: law.epsilon([3, -2], 0.1), ValueError, "size = -2"),
        (lambda law: law.epsilon(1j, 0.1), TypeError, "size = 1j"),
        (lambda law: law.tail(5, -0.1), ValueError, "epsilon = -0.1"),
        (lambda law: law.tail(None, 0.1), TypeError, "size = None"),
    ],
)
def test_arguments_out_of_range_are_named(law: Tail, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(law)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bernstein(-1.0, 1.0), "variance = -1"),
        (lambda: Bernstein(1.0, 0.0), "bound = 0"),
        (lambda: Bernstein(1.0, 1.0, 3), "sides = 3; pass 1 .* or 2"),
        (lambda: ChernoffBennett(0.0, 1.0), "variance = 0"),
        (lambda: ChernoffBennett(1.0, math.inf), "bound = inf"),
        (lambda: ChernoffBennett(1.0, 1.0, 1.5), "sides = 1.5"),  # type: ignore[arg-type]
        (lambda: BernoulliKL(0.0), "mean = 0"),
        (lambda: BernoulliKL(2.0, 1.0), "mean = 2.0 exceeds maximum = 1.0"),
        (lambda: ExactBinomial(0.0), "probability = 0"),
        (lambda: ExactBinomial(1.0), "probability = 1"),
        (lambda: ExactBinomial(0.5, 0), "sides = 0"),
    ],
)
def test_parameters_out_of_range_are_named(make: Callable[[], Tail], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_zero_variance_and_mean_at_the_maximum_are_the_deterministic_cases() -> None:
    assert Bernstein(0.0, 1.0).size(0.5, 0.1) == math.ceil(2 / 3 / 0.5 * math.log(20))
    assert BernoulliKL(1.0, 1.0).size(1e-3, 0.1) == 1
    assert BernoulliKL(1.0, 1.0).tail(5, 0.0) == 1.0
