"""Sizes for layers: what they are in terms of E4 and E4-P, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets import Accuracy, AssumptionError, Scheme
from coresets.guarantees import (
    BalancedClass,
    BalancedReLUIID,
    BalancedReLUPoisson,
    HomogeneousClass,
    HomogeneousIID,
    HomogeneousPoisson,
)

EPS = float(np.finfo(np.float64).eps)

totals = st.floats(1.0, 200.0)
outputs = st.integers(1, 1000)
kappas = st.floats(0.05, 1.0)
epsilons = st.floats(0.01, 1.0)
deltas = st.floats(1e-9, 0.9)
slopes = st.floats(-1.0, 1.0)


@given(totals, outputs, st.floats(0.1, 2.0), epsilons, deltas)
def test_t4_is_the_stated_size(t: float, k: int, spread: float, epsilon: float, delta: float) -> None:
    stated = (t / epsilon) ** 2 * (2.0 + spread * math.sqrt(math.log(2 * k / delta) / 2.0)) ** 2
    m = HomogeneousIID().size(HomogeneousClass(t, k, spread), Accuracy(epsilon, delta))
    assert stated * (1.0 - 32 * EPS) <= m <= stated * (1.0 + 32 * EPS) + 1


@given(totals, kappas, epsilons, deltas)
def test_t5_is_t4_with_one_output_at_half_kappa_times_the_error(
    t: float, kappa: float, epsilon: float, delta: float
) -> None:
    m = BalancedReLUIID().size(BalancedClass(t, kappa), Accuracy(epsilon, delta))
    other = HomogeneousIID().size(HomogeneousClass(t, 1, 1.0), Accuracy(epsilon * kappa / 2.0, delta))
    assert m == pytest.approx(other, rel=64 * EPS, abs=1)


@given(totals, outputs, st.integers(1, 10**7), deltas)
def test_t4_p_solves_the_inequality_of_klein_and_rio(t: float, k: int, m: int, delta: float) -> None:
    epsilon = HomogeneousPoisson().epsilon(HomogeneousClass(t, k), m, delta)
    kappa, level = m / t, math.log(2 * k / delta)
    mean = 2.0 * math.sqrt(t / kappa)
    y = epsilon - mean
    exponent = kappa * y**2 / (2.0 * (1.0 + 2.0 * mean) + 3.0 * y)
    # y is a difference, so it has lost the digits that the mean has more.
    assert exponent == pytest.approx(level, rel=64 * EPS * (1.0 + mean / y))


@given(totals, kappas, st.integers(1, 10**7), deltas)
def test_t5_p_is_not_worse_than_t4_p_over_half_kappa(t: float, kappa: float, m: int, delta: float) -> None:
    error = BalancedReLUPoisson().epsilon(BalancedClass(t, kappa), m, delta)
    plain = HomogeneousPoisson().epsilon(HomogeneousClass(t), m, delta)
    assert plain * (1.0 - 32 * EPS) <= error <= 2.0 / kappa * plain * (1.0 + 32 * EPS)


@given(slopes, slopes, st.integers(0, 2**32 - 1))
def test_range_holds_all_shares_of_a_layer(up: float, down: float, seed: int) -> None:
    if max(abs(up), abs(down)) < 1e-3:
        return
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.0, 1.0, 200)
    z[:2] = (-1.0, 1.0)
    shares = up * np.maximum(z, 0.0) + down * np.maximum(-z, 0.0)
    sized = shares * rng.uniform(0.0, 1.0, 200)
    signed = shares * np.sign(rng.standard_normal(200))
    tolerance = 1.0 + 4 * EPS
    plain = HomogeneousClass.range_of(up, down, signed=False)
    assert np.ptp(np.append(sized, 0.0)) <= plain * tolerance
    assert np.ptp(np.append(shares, 0.0)) >= plain / tolerance
    assert np.ptp(signed) <= HomogeneousClass.range_of(up, down, signed=True) * tolerance


@pytest.mark.parametrize(
    ("up", "down", "signed", "spread"),
    [
        (1.0, 0.0, False, 1.0),  # ReLU
        (1.0, 1.0, False, 1.0),  # absolute value
        (1.0, -0.25, False, 1.25),  # leaky ReLU
        (1.0, -1.0, False, 2.0),  # identity
        (1.0, 0.0, True, 2.0),
    ],
)
def test_ranges_of_usual_activations(up: float, down: float, signed: bool, spread: float) -> None:
    assert HomogeneousClass.range_of(up, down, signed=signed) == spread


@pytest.mark.parametrize("guarantee", [HomogeneousIID(), BalancedReLUIID()])
def test_draws_with_replacement_only(guarantee: HomogeneousIID | BalancedReLUIID) -> None:
    guarantee.require(Scheme.WITH_REPLACEMENT)
    with pytest.raises(AssumptionError, match="not proved"):
        guarantee.require(Scheme.POISSON)


@pytest.mark.parametrize("guarantee", [HomogeneousPoisson(), BalancedReLUPoisson()])
def test_poisson_sampling_only(guarantee: HomogeneousPoisson | BalancedReLUPoisson) -> None:
    guarantee.require(Scheme.POISSON)
    with pytest.raises(AssumptionError, match="not proved"):
        guarantee.require(Scheme.FIXED_SIZE)


def test_without_balance_no_relative_error_is_promised() -> None:
    with pytest.raises(AssumptionError, match="kappa = 0"):
        BalancedClass(3.0, 0.0)
    with pytest.raises(ValueError, match="above 1"):
        BalancedClass(3.0, 1.1)


def test_impossible_families_are_refused() -> None:
    with pytest.raises(AssumptionError, match="below 1"):
        HomogeneousClass(0.5)
    with pytest.raises(ValueError, match="range_ratio"):
        HomogeneousClass(3.0, range_ratio=2.5)
    with pytest.raises(ValueError, match="1-Lipschitz"):
        HomogeneousClass.range_of(2.0, 0.0, signed=False)
    with pytest.raises(ValueError, match="1-Lipschitz"):
        HomogeneousClass.range_of(0.0, 0.0, signed=True)
