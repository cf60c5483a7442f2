"""Sizes of logistic and ridge regression against formulas evaluated with many digits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import Accuracy, AssumptionError
from coresets.guarantees import (
    HingeNormClass,
    HingeNormIID,
    HingeNormPoisson,
    LogisticClass,
    LogisticComplexityIID,
    LogisticComplexityPoisson,
    LogisticNormIID,
    LogisticNormPoisson,
    MatrixChernoff,
    RidgeClass,
    RidgeMatrixChernoff,
    SubspaceClass,
)

EPS = float(np.finfo(np.float64).eps)
epsilons = st.floats(0.05, 1.0)
deltas = st.floats(1e-6, 0.5)


def ridge_tail(dimension: float, kappa: float, epsilon: float) -> Decimal:
    """The failure probability of MC-R as its page writes it, with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        e, k, total = Decimal(epsilon), Decimal(kappa), Decimal(0)
        for sign in (1, -1):
            if sign * e < -1:
                continue
            if sign * e == -1:
                total += (-k).exp()
                continue
            log = abs((1 + sign * e).ln())
            b = k * e * log
            a = b - k * ((1 + sign * e) * (1 + sign * e).ln() - sign * e)
            total += (a.exp() - 1) / (b.exp() - 1 - b)
        return Decimal(dimension) * total


@settings(max_examples=60)
@given(dimension=st.floats(0.01, 100.0), factor=st.floats(1.0, 5.0), epsilon=epsilons, delta=deltas)
def test_the_size_of_ridge_regression_is_the_least_that_the_tail_allows(
    dimension: float, factor: float, epsilon: float, delta: float
) -> None:
    parameters = RidgeClass(dimension * factor, dimension)
    m = RidgeMatrixChernoff().size(parameters, Accuracy(epsilon, delta))
    # Of the tail: exponents up to a few hundred are off by some units in the last place.
    slack = Decimal("1e-9")
    assert ridge_tail(dimension, m / parameters.total_sensitivity, epsilon) <= Decimal(delta) * (1 + slack)
    if m > 1:
        before = ridge_tail(dimension, (m - 1) / parameters.total_sensitivity, epsilon)
        assert before >= Decimal(delta) * (1 - slack)


@settings(max_examples=60)
@given(kappa=st.floats(1e-2, 1e3), low=st.floats(0.01, 3.0), step=st.floats(1e-3, 1.0))
def test_the_tail_of_ridge_regression_falls_with_epsilon_and_with_size(
    kappa: float, low: float, step: float
) -> None:
    assert ridge_tail(1.0, kappa, low + step) < ridge_tail(1.0, kappa, low)
    assert ridge_tail(1.0, kappa * (1.0 + step), low) < ridge_tail(1.0, kappa, low)


@pytest.mark.parametrize("rank", [1, 5, 50])
@settings(max_examples=20)
@given(epsilon=epsilons, delta=deltas)
def test_without_a_penalty_the_effective_dimension_costs_no_more_than_the_rank_and_one_percent(
    rank: int, epsilon: float, delta: float
) -> None:
    """The fractions exceed exp(-kappa h) by (1 - exp(-a)) / (1 - (1 + b) exp(-b)), which tends to 1."""
    by_rank = MatrixChernoff().size(SubspaceClass(float(rank), rank), Accuracy(epsilon, delta))
    by_dimension = RidgeMatrixChernoff().size(RidgeClass(float(rank), float(rank)), Accuracy(epsilon, delta))
    exponent = math.log(2.0 * rank / delta)  # about that of the dominating tail, b is at least as large
    excess = -math.log1p(-(1.0 + exponent) * math.exp(-exponent)) / exponent
    assert by_dimension <= by_rank * (1.0 + excess) + 1


@settings(max_examples=40)
@given(total=st.floats(1.0, 100.0), share=st.floats(0.01, 0.99), epsilon=epsilons, delta=deltas)
def test_the_sizes_of_logistic_regression_are_those_of_their_pages(
    total: float, share: float, epsilon: float, delta: float
) -> None:
    parameters = LogisticClass(total, (share, 1.0 - share))
    h = math.sqrt(share) + math.sqrt(1.0 - share)
    root = total / epsilon * (2.0 * h + math.sqrt(math.log(2.0 / delta) / 2.0))
    for guarantee in (LogisticNormIID(), LogisticComplexityIID()):
        m = guarantee.size(parameters, Accuracy(epsilon, delta))
        assert (m - 1) * (1.0 - 100 * EPS) < root**2 <= m * (1.0 + 100 * EPS)


@given(total=st.floats(1.0, 100.0), share=st.floats(0.01, 0.99), delta=deltas)
def test_at_the_same_total_logistic_regression_needs_no_more_than_a_support_vector_machine(
    total: float, share: float, delta: float
) -> None:
    parameters = LogisticClass(total, (share, 1.0 - share))
    hinge = HingeNormClass(total)
    rounded_up = 1.0 + 10 * EPS
    for logistic, svm in ((LogisticNormIID(), HingeNormIID()), (LogisticNormPoisson(), HingeNormPoisson())):
        assert logistic.epsilon(parameters, 1000, delta) <= svm.epsilon(hinge, 1000, delta) * rounded_up
    assert LogisticComplexityPoisson().epsilon(parameters, 1000, delta) == LogisticNormPoisson().epsilon(
        parameters, 1000, delta
    )


@pytest.mark.parametrize("shares", [(), (0.5, 0.0), (0.7, 0.7), (0.5, -0.1)], ids=str)
def test_shares_are_positive_and_add_up_to_one_at_most(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="pass positive numbers with a sum of at most 1"):
        LogisticClass(2.0, shares)


def test_a_total_below_one_bounds_no_logistic_regression() -> None:
    with pytest.raises(AssumptionError, match=r"total_sensitivity = 0.5 is below 1"):
        LogisticClass(0.5)


def test_the_least_cost_at_complexity_one_is_that_of_coin_tosses() -> None:
    assert LogisticComplexityIID.least_cost(1.0, 8.0) == pytest.approx(8.0 * math.log(2.0), rel=4 * EPS)
