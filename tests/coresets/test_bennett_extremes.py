"""Tails at the ends of the range of floats, against logarithms that cannot overflow."""

from __future__ import annotations

import math
import pickle
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.tails import BernoulliKL, Bernstein, ChernoffBennett, ExactBinomial, Tail

EPS = float(np.finfo(np.float64).eps)
exponents = st.integers(-300, 300)


def log_bennett_rate(e: float, v: float, b: float) -> float:
    """ln((v / b^2) h(b e / v)) in logarithms; h by series, by its definition, or at infinity."""
    log_u = math.log(e) + math.log(b) - math.log(v)
    if log_u < -4.0:
        u = math.exp(log_u)
        log_h = 2.0 * log_u + math.log(sum((-u) ** k / ((k + 1) * (k + 2)) for k in range(30)))
    elif log_u < 30.0:
        u = math.exp(log_u)
        log_h = math.log((1.0 + u) * math.log1p(u) - u)
    else:
        log_h = log_u + math.log(log_u - 1.0)
    return math.log(v) - 2.0 * math.log(b) + log_h


@settings(max_examples=300)
@given(e=exponents, v=exponents, b=exponents)
def test_bennetts_rate_is_right_at_any_magnitudes(e: int, v: int, b: int) -> None:
    epsilon, variance, bound = (float(Fraction(10) ** k) for k in (e, v, b))
    expected = log_bennett_rate(epsilon, variance, bound)
    if not -690.0 < expected < 700.0:
        return  # the rate itself is no normal float
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rate = -float(ChernoffBennett(variance, bound, sides=1).log_tail(1, epsilon))
    # Logarithms of up to 3 * 700 are rounded in the reference, and 1 + u loses u at u = e^-4.
    assert math.log(rate) == pytest.approx(expected, rel=0, abs=4e4 * EPS)


def test_an_overflowing_argument_does_not_make_bennetts_tail_vanish() -> None:
    # b e / v = 1e400, and the exponent is (e / b) (ln 1e400 - 1), about 9e-198.
    assert ChernoffBennett(1e-200, 1e200, sides=1).tail(10, 1.0) == 1.0
    assert float(ChernoffBennett(1e-200, 1e200, 1).log_tail(1, 1.0)) == pytest.approx(
        -1e-200 * (400.0 * math.log(10.0) - 1.0), rel=1e3 * EPS
    )


LAWS = [
    Bernstein(1.0, 1.0),
    Bernstein(0.0, 1e308),
    Bernstein(1e308, 1e-308),
    ChernoffBennett(1.0, 1.0),
    ChernoffBennett(1e-308, 1e308),
    ChernoffBennett(1e308, 1e-308),
    BernoulliKL(1.0, 1e308),
    BernoulliKL(1.0, 1.0),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("epsilon", [0.0, 5e-324, 1e-300, 1.0, 1e308])
@pytest.mark.parametrize("size", [1, 10**15, math.inf])
def test_extreme_tails_are_probabilities_without_warnings(law: Tail, epsilon: float, size: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0.0 <= law.tail(size, epsilon) <= 1.0


def test_exact_binomial_sizes_of_several_probabilities_are_those_of_each() -> None:
    together = ExactBinomial(np.array([0.2, 0.5])).size(0.2, np.array([[0.1], [0.01]]))
    alone = [[ExactBinomial(p).size(0.2, delta) for p in (0.2, 0.5)] for delta in (0.1, 0.01)]
    assert together.tolist() == alone


@pytest.mark.parametrize(
    ("law", "other"),
    [
        (Bernstein(np.array([0.0, 1.0]), 1.0), Bernstein(np.array([0.0, 2.0]), 1.0)),
        (ChernoffBennett(np.array([1.0, 2.0]), 1.0), Bernstein(np.array([1.0, 2.0]), 1.0)),
        (ExactBinomial(np.array([0.1, 0.2])), ExactBinomial(0.1)),
    ],
)
def test_tails_with_arrays_are_values(law: Any, other: Any) -> None:
    copy = pickle.loads(pickle.dumps(law))
    assert law == copy
    assert hash(law) == hash(copy)
    assert law != other


def test_the_two_zeros_are_one_parameter() -> None:
    assert Bernstein(0.0, 1.0) == Bernstein(-0.0, 1)
    assert hash(Bernstein(0.0, 1.0)) == hash(Bernstein(-0.0, 1))
