"""D6 and D4: the identity behind the bound, what polynomials explain, and half the error of ReLUs."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from coresets import AbsoluteSum, Accuracy, AssumptionError, ReLUSum, Scheme, SensitivityReducer, WeightedSet
from coresets.calibration import Calibration, Contributions, Polynomials, calibrate, calibrated_class
from coresets.guarantees import (
    BalancedClass,
    BalancedReLUPoisson,
    CalibratedClass,
    CalibratedPoisson,
    FirstMomentClass,
    FirstMomentReLU,
    HomogeneousClass,
    HomogeneousPoisson,
)
from coresets.sampling import sample_poisson
from coresets.tails import bennett_h

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def gaussian(n: int, d: int, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    return WeightedSet(rng.standard_normal((n, d)), rng.uniform(0.5, 2.0, n))


@settings(max_examples=25)
@given(seed=seeds)
def test_the_error_is_that_of_the_residual_and_a_product_of_two_small_vectors(seed: int) -> None:
    data = gaussian(400, 3, seed)
    rng = np.random.default_rng(seed)
    loss = AbsoluteSum()
    moments = loss.moments(data, loss.sensitivities(data))
    s, q = moments.measure, moments.features(slice(None))
    costs = np.abs(data.points @ rng.standard_normal(3))
    total = data.weights @ costs
    shares = data.weights * costs / total / s
    theta = np.linalg.solve((q * s[:, None]).T @ q, (q * s[:, None]).T @ shares)
    r = shares - q @ theta
    draw = sample_poisson(s, 120, rng=rng)
    kept, c0 = draw.indices, draw.kept_weights
    grown = (c0 * s[kept])[:, None] * q[kept]
    gram, gap = grown.T @ q[kept], moments.totals() - grown.sum(axis=0)
    factors = c0 * (1.0 + q[kept] @ np.linalg.solve(gram, gap))
    error = float((data.weights * costs)[kept] @ factors / total - 1.0)
    own = float((c0 * s[kept]) @ r[kept] - s @ r)
    product = float(gap @ np.linalg.solve(gram, grown.T @ r[kept]))
    # Sums of 400 terms of the order of one, and systems of condition below ten.
    assert error == pytest.approx(own + product, abs=1e4 * EPS)


def test_the_identity_holds_in_exact_arithmetic() -> None:
    """One feature beside the constant, four points of which two are kept, and fractions throughout."""
    s = [Fraction(1), Fraction(2), Fraction(1, 2), Fraction(3)]
    q = [Fraction(-1), Fraction(2), Fraction(3), Fraction(1, 3)]
    g = [Fraction(1, 7), Fraction(1, 3), Fraction(1, 5), Fraction(1, 9)]
    total = sum(a * b for a, b in zip(s, g, strict=True))
    g = [value / total for value in g]
    sums = [[sum(w * a**i * a**j for w, a in zip(s, q, strict=True)) for i in (0, 1)] for j in (0, 1)]
    right = [sum(w * a**i * b for w, a, b in zip(s, q, g, strict=True)) for i in (0, 1)]
    theta = _solve(sums, right)
    r = [b - theta[0] - theta[1] * a for a, b in zip(q, g, strict=True)]
    kept = {1: Fraction(5, 2), 3: Fraction(4, 3)}  # inverse probabilities
    gram = [[sum(k * s[p] * q[p] ** (i + j) for p, k in kept.items()) for i in (0, 1)] for j in (0, 1)]
    gap = [sums[0][i] - sum(k * s[p] * q[p] ** i for p, k in kept.items()) for i in (0, 1)]
    lam = _solve(gram, gap)
    error = sum(k * s[p] * g[p] * (1 + lam[0] + lam[1] * q[p]) for p, k in kept.items()) - 1
    b = [sum(k * s[p] * r[p] * q[p] ** i for p, k in kept.items()) for i in (0, 1)]
    own = sum(k * s[p] * r[p] for p, k in kept.items()) - sum(w * c for w, c in zip(s, r, strict=True))
    assert error == own + lam[0] * b[0] + lam[1] * b[1]


def _solve(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    (a, b), (c, d) = matrix
    scale = a * d - b * c
    return [(d * right[0] - b * right[1]) / scale, (a * right[1] - c * right[0]) / scale]


def unexplained(phi: object, degree: int) -> float:
    """Share of E phi(z)^2 that polynomials up to a degree leave, z Gaussian; by adaptive quadrature."""
    hermite = [lambda z: 1.0, lambda z: z, lambda z: (z * z - 1.0) / math.sqrt(2.0)][: degree + 1]

    def mean(f: object) -> float:
        halves = (quad(lambda z: f(z) * norm.pdf(z), *ends)[0] for ends in ((-12, 0), (0, 12)))  # type: ignore[operator]
        return float(sum(halves))

    full = mean(lambda z: phi(z) ** 2)  # type: ignore[operator]
    return 1.0 - sum(mean(lambda z, h=h: phi(z) * h(z)) ** 2 for h in hermite) / full  # type: ignore[operator, misc]


@pytest.mark.parametrize(
    ("phi", "degree", "left", "ratio"),
    [
        (abs, 0, 0.363, 0.60),
        (abs, 1, 0.363, 0.60),
        (abs, 2, 0.045, 0.21),
        (lambda z: max(z, 0.0), 0, 0.682, 0.83),
        (lambda z: max(z, 0.0), 1, 0.182, 0.43),
        (lambda z: max(z, 0.0), 2, 0.0225, 0.15),
    ],
    ids=["|z|, 1", "|z|, u", "|z|, uu", "relu, 1", "relu, u", "relu, uu"],
)
def test_hermite_coefficients_predict_the_gains(phi: object, degree: int, left: float, ratio: float) -> None:
    found = unexplained(phi, degree)
    assert found == pytest.approx(left, abs=0.0005)
    assert math.sqrt(found) == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize(("degree", "ratio"), [(1, 0.60), (2, 0.21)], ids=["first", "second"])
def test_the_residual_of_gaussian_points_is_about_that_of_hermite(degree: int, ratio: float) -> None:
    data = WeightedSet(np.random.default_rng(0).standard_normal((6000, 24)))
    loss = AbsoluteSum()
    moments = loss.moments(data, loss.sensitivities(data)).to_degree(degree)
    costs = loss.costs(data, np.eye(24)[0])
    plain = math.sqrt(float(np.sum((costs / costs.sum()) ** 2 / moments.measure)))
    found = calibrated_class(data, moments, [costs])
    # Projections of unit vectors of 24 coordinates are Gaussian up to terms of the order of 1/24.
    assert found.residual / plain == pytest.approx(ratio, abs=1.0 / 24)


def test_costs_in_the_span_of_the_features_leave_nothing() -> None:
    data = gaussian(500, 2)
    s = AbsoluteSum().sensitivities(data).values
    moments = Contributions((s * (1.0 + 0.1 * data.points[:, 0] / 4.0))[:, None], s)
    found = calibrated_class(data, moments, [s / data.weights])
    assert (found.residual, found.moments, found.queries) == (0.0, 2, 1)
    assert CalibratedPoisson().epsilon(found, 100, 0.1) == 0.0


def test_the_parameters_are_those_of_a_dense_regression() -> None:
    data = gaussian(300, 2)
    loss = AbsoluteSum()
    moments = loss.moments(data, loss.sensitivities(data))
    costs = [loss.costs(data, x) for x in np.random.default_rng(1).standard_normal((4, 2))]
    found = calibrated_class(data, moments, [*costs, np.zeros(300)])
    s, q = moments.measure, moments.features(slice(None))
    gram = (q * s[:, None]).T @ q
    leverage = np.max(np.sum(q * np.linalg.solve(gram, q.T).T, axis=1))
    shares = np.stack([data.weights * c / (data.weights @ c) / s for c in costs], axis=1)
    root = np.sqrt(s)[:, None]
    left = root * shares - root * q @ np.linalg.lstsq(root * q, root * shares, rcond=None)[0]
    assert found.moments == 3
    assert found.queries == 4
    assert found.leverage == pytest.approx(leverage, rel=1e4 * EPS)
    assert found.residual == pytest.approx(np.max(np.linalg.norm(left, axis=0)), rel=1e4 * EPS)


def test_costs_above_their_sensitivity_are_refused() -> None:
    data = gaussian(50, 2)
    moments = Polynomials(data.points, np.full(50, 0.02))
    with pytest.raises(AssumptionError, match="above its sensitivity"):
        calibrated_class(data, moments, [np.eye(50)[7]])


def test_nothing_is_promised_while_the_matrix_may_be_singular() -> None:
    law, parameters = CalibratedPoisson(), CalibratedClass(10.0, 11, 2.0, 0.5)
    critical = 10.0 * 2.0 * math.log(4 * 11 / 0.1)  # kappa = L ln(4 k/delta)
    assert law.epsilon(parameters, int(critical), 0.1) == math.inf
    assert law.epsilon(parameters, int(critical) + 1, 0.1) < math.inf


def test_the_bound_is_the_sum_of_its_parts() -> None:
    parameters, size, delta = CalibratedClass(8.0, 9, 1.5, 0.3, queries=5), 4000, 0.05
    kappa, level = size / 8.0, math.log(8 * 5 / delta)

    def rate(u: float, v: float, c: float) -> float:
        return v * kappa / c**2 * float(bennett_h(c * u / v))

    wide, reach = 1.0 + math.sqrt(1.5), math.sqrt(1.5)
    parts = [
        brentq(lambda u, v=v, c=c: rate(u, v, c) - level, 1e-9, 50.0, xtol=1e-14)
        for v, c in ((0.09, wide), (9.0, reach), (1.5 * 0.09, reach * wide))
    ]
    eta = brentq(lambda e: float(bennett_h(-e)) - 1.5 * math.log(36 / delta) / kappa, 1e-9, 1.0)
    expected = parts[0] + parts[1] * parts[2] / (1.0 - eta)
    assert CalibratedPoisson().epsilon(parameters, size, delta) == pytest.approx(expected, rel=1e-9)


def test_a_mean_of_calibrated_coresets_is_no_better_than_one() -> None:
    law, parameters = CalibratedPoisson(), CalibratedClass(8.0, 9, 1.5, 0.3)
    assert law.mean_epsilon(parameters, 3000, 0.05, 4) == law.epsilon(parameters, 3000, 0.0125)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CalibratedClass(2.0, 5, 1.0, 0.5), AssumptionError, r"leverage = 1 is below moments/total"),
        (lambda: CalibratedClass(2.0, 3, 2.0, 1.5), ValueError, r"residual = 1\.5 is outside"),
        (lambda: CalibratedClass(2.0, 0, 2.0, 0.5), ValueError, "moments = 0 is too small"),
        (lambda: FirstMomentClass(2.0, 0.0), AssumptionError, "kappa = 0"),
        (lambda: FirstMomentClass(2.0, 1.5), ValueError, r"kappa = 1\.5 is above 1"),
        (lambda: FirstMomentClass(2.0, 0.5, -1.0), ValueError, "change = -1 is negative"),
        (lambda: FirstMomentClass(2.0, 0.5, 0.0, -1.0), ValueError, "drift = -1 is negative"),
    ],
)
def test_impossible_parameters_are_named(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


# ---- D4


@settings(max_examples=25)
@given(seed=seeds)
def test_kept_first_moments_halve_the_error_of_relus_exactly(seed: int) -> None:
    data = gaussian(300, 3, seed)
    coreset = SensitivityReducer(AbsoluteSum(), calibration=Calibration()).reduce(data, size=80, rng=seed)
    off = -data.weights.copy()
    off[coreset.indices] += coreset.weights
    images = data.points @ np.random.default_rng(seed).standard_normal((3, 50))
    relu, absolute = off @ np.maximum(images, 0.0), off @ np.abs(images)
    assert np.max(np.abs(2.0 * relu - absolute) / (data.weights @ np.abs(images))) <= 1e4 * EPS


@settings(max_examples=15)
@given(seed=seeds)
def test_the_drift_of_any_weights_is_bounded_by_the_length_of_the_error_of_the_moments(seed: int) -> None:
    data = gaussian(200, 3, seed)
    rng = np.random.default_rng(seed)
    s = AbsoluteSum().sensitivities(data).values
    off = data.weights * (rng.random(200) < 0.3) * rng.uniform(0.0, 6.0, 200) - data.weights
    z = off @ data.points
    rows = data.weights[:, None] * data.points
    length = math.sqrt(z @ np.linalg.solve((rows / s[:, None]).T @ rows, z))
    x = rng.standard_normal((3, 400))
    drift = np.abs(z @ x) / (data.weights @ np.abs(data.points @ x))
    assert np.max(drift) <= length * (1.0 + 1e4 * EPS)
    # As the reducer finds it: the norm of the error of the moments, in whitened coordinates.
    moments = Polynomials(rows / s[:, None], s)
    gaps = ((off / data.weights) * s) @ moments.features(slice(None))[:, 1:]
    assert np.linalg.norm(gaps) / math.sqrt(s.sum()) == pytest.approx(length, rel=1e5 * EPS)


def test_the_statement_for_relus_is_that_of_absolute_values_over_the_balance() -> None:
    drawn = HomogeneousPoisson().epsilon(HomogeneousClass(6.0, range_ratio=1.0), 5000, 0.1)
    found = FirstMomentReLU().epsilon(FirstMomentClass(6.0, 0.8, 0.05, 0.01), 5000, 0.1)
    assert found == pytest.approx((drawn + 0.05 * (1.0 + drawn) + 0.01) / 0.8, rel=4 * EPS)


def test_a_change_as_large_as_the_error_asked_for_leaves_no_size() -> None:
    with pytest.raises(OverflowError, match="no size helps"):
        FirstMomentReLU().size(FirstMomentClass(6.0, 0.5, change=0.1), Accuracy(0.2, 0.1))


def test_the_size_is_about_a_quarter_for_large_totals() -> None:
    wanted = Accuracy(0.05, 0.1)
    plain = BalancedReLUPoisson().size(BalancedClass(2000.0, 0.7), wanted)
    kept = FirstMomentReLU().size(FirstMomentClass(2000.0, 0.7), wanted)
    assert kept / plain == pytest.approx(0.25, abs=0.01)


def test_relu_coresets_state_d4_where_poisson_sampling_was_calibrated() -> None:
    data = gaussian(4000, 2)
    reducer = SensitivityReducer(ReLUSum(), calibration=Calibration())
    coreset = reducer.reduce(data, size=600, rng=0)
    evidence = next(c for c in coreset.certificates if c.name == "calibration")
    claim = ReLUSum().calibrated_claim(
        reducer.claim(data), Scheme.POISSON, change=evidence.details["eta"], drift=0.0
    )
    assert claim is not None
    # The drift is rounding.
    assert coreset.accuracy.epsilon == pytest.approx(claim.accuracy(600, 0.05).epsilon, rel=1e-9)
    plain = SensitivityReducer(ReLUSum(), calibration=None).reduce(data, size=600, rng=0)
    assert coreset.accuracy.epsilon < plain.accuracy.epsilon
    assert ReLUSum().calibrated_claim(reducer.claim(data), Scheme.FIXED_SIZE, change=0.0, drift=0.0) is None


def test_calibration_by_hand_is_that_of_the_reducer() -> None:
    data = gaussian(1000, 3)
    plain = SensitivityReducer(AbsoluteSum(), calibration=None)
    by_hand = calibrate(
        data, plain.reduce(data, size=200, rng=5), AbsoluteSum().moments(data, plain.sensitivities(data))
    )
    coreset = SensitivityReducer(AbsoluteSum()).reduce(data, size=200, rng=5)
    assert by_hand.weights.tolist() == coreset.weights.tolist()
    assert by_hand.accuracy == coreset.accuracy
