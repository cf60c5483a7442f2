"""Calibrated weights: moments kept exactly, the closest such weights, refusals, and what is stated."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from coresets import (
    IID,
    AbsoluteSum,
    Accuracy,
    Coreset,
    FiniteQueries,
    FixedSize,
    HomogeneousSum,
    Hybrid,
    L1Regression,
    LeastSquares,
    Loss,
    Poisson,
    ReLUSum,
    Sampler,
    SensitivityReducer,
    SolverError,
    Top,
    WeightedSet,
)
from coresets.calibration import (
    Automatic,
    Bounds,
    CalibratedLoss,
    Calibration,
    Contributions,
    FewerMoments,
    Polynomials,
    Refuse,
    calibrate,
    changed_accuracy,
    largest_change,
)
from coresets.calibration.solve import solve

EPS = float(np.finfo(np.float64).eps)
Floats = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def name_of(value: object) -> str:
    return type(value).__name__


def made(n: int = 600, d: int = 3, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    points = rng.standard_t(4, (n, d))
    return WeightedSet(points, rng.uniform(0.5, 2.0, n), points.sum(axis=1) + rng.standard_normal(n))


LOSSES: list[Any] = [AbsoluteSum(), ReLUSum(), L1Regression(), LeastSquares(), L1Regression(intercept=True)]


def drawn(data: WeightedSet, size: int, seed: int) -> tuple[Coreset, Polynomials]:
    reducer = SensitivityReducer(AbsoluteSum(), calibration=None)
    return reducer.reduce(data, size=size, rng=seed), AbsoluteSum().moments(data, reducer.sensitivities(data))


def residual(data: WeightedSet, coreset: Coreset, moments: Any) -> Floats:
    """Errors of all moments, relative to the absolute values of their terms, from the definition."""
    q = moments.features(slice(None))
    factors = np.zeros(data.n)
    factors[coreset.indices] = coreset.weights / data.weights[coreset.indices]
    terms = moments.measure[:, None] * q
    found: Floats = np.abs(factors @ terms - terms.sum(axis=0)) / np.abs(terms).sum(axis=0)
    return found


# ---- moments


@settings(max_examples=20)
@given(seed=seeds, size=st.integers(40, 300), degree=st.sampled_from([1, 2]))
def test_the_moments_of_the_full_data_are_kept_to_rounding(seed: int, size: int, degree: int) -> None:
    data = made(seed=seed)
    coreset, moments = drawn(data, size, seed)
    moments = moments.to_degree(degree)
    try:
        kept = calibrate(data, coreset, moments)
    except SolverError:  # few points, and no non-negative weights
        assert size < 8 * moments.count
        return
    assert kept.indices.tolist() == coreset.indices.tolist()
    # Sums of n terms, and one linear system; the trace of second moments is dropped, up to 1e-7.
    tolerance = 1e-7 if degree == 2 else 1e4 * EPS
    assert np.max(residual(data, kept, moments)) <= tolerance
    np.testing.assert_allclose(
        kept.weights @ data.points[kept.indices],
        data.weights @ data.points,
        atol=tolerance * float(np.abs(data.weights[:, None] * data.points).sum()),
    )


@settings(max_examples=15)
@given(seed=seeds)
def test_the_factors_are_those_of_the_regression_estimator(seed: int) -> None:
    data = made(seed=seed)
    coreset, moments = drawn(data, 200, seed)
    q, s = moments.features(coreset.indices), moments.measure[coreset.indices]
    c0 = coreset.weights / data.weights[coreset.indices]
    gram = (q * (c0 * s)[:, None]).T @ q
    factors = 1.0 + q @ np.linalg.solve(gram, moments.totals() - (c0 * s) @ q)
    found = calibrate(data, coreset, moments).weights / coreset.weights
    # Whitened features, 200 points for four of them: condition numbers are below ten.
    np.testing.assert_allclose(found, np.maximum(factors, 0.0), rtol=1e4 * EPS, atol=1e4 * EPS)


@settings(max_examples=10)
@given(seed=seeds, low=st.sampled_from([0.0, 0.5, 0.8]), high=st.sampled_from([1.3, 2.0, math.inf]))
def test_weights_within_bounds_are_the_closest_that_keep_the_moments(
    seed: int, low: float, high: float
) -> None:
    rng = np.random.default_rng(seed)
    m, k = 12, 3
    features = np.column_stack([np.ones(m), rng.standard_normal((m, k - 1))])
    base = rng.uniform(0.5, 2.0, m)
    reachable = rng.uniform(max(low, 0.7), min(high, 1.3), m)  # so that such weights exist
    target = (base * reachable) @ features
    found = solve(features, base, target, np.abs(features).T @ base, Bounds(low, high))
    assert found.residual <= 1e-9
    assert np.all((found.factors >= low) & (found.factors <= high))
    reference = minimize(
        lambda c: base @ (c - 1.0) ** 2,
        np.ones(m),
        jac=lambda c: 2.0 * base * (c - 1.0),
        bounds=[(low, None if math.isinf(high) else high)] * m,
        constraints={
            "type": "eq",
            "fun": lambda c: (base * c) @ features - target,
            "jac": lambda c: (base[:, None] * features).T,
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    ours, theirs = base @ (found.factors - 1.0) ** 2, base @ (reference.x - 1.0) ** 2
    assert ours <= theirs + 1e-6  # the reference keeps the moments to 1e-7 only


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("sampler", [IID(), Poisson()], ids=name_of)
def test_every_loss_with_moments_is_calibrated_by_size(loss: Any, sampler: Sampler) -> None:
    data = made()
    reducer = SensitivityReducer(loss, sampler)
    assert isinstance(loss, CalibratedLoss)
    coreset = reducer.reduce(data, size=300, rng=1)
    moments = loss.moments(data, reducer.sensitivities(data))
    assert np.max(residual(data, coreset, moments)) <= 1e-7
    evidence = next(c for c in coreset.certificates if c.name == "calibration")
    assert evidence.details["moments"] == evidence.details["asked"] == moments.count
    plain = SensitivityReducer(loss, sampler, calibration=None).reduce(data, size=300, rng=1)
    assert plain.indices.tolist() == coreset.indices.tolist()
    assert all(c.name != "calibration" for c in plain.certificates)
    assert evidence.details["eta"] == pytest.approx(largest_change(plain.weights, coreset.weights), rel=1e-9)


def test_layers_are_calibrated_to_the_moments_of_their_masses() -> None:
    rng = np.random.default_rng(0)
    layer = HomogeneousSum(rng.standard_normal((800, 2)))
    data = layer.data(rng.standard_normal((800, 3)))
    coreset = SensitivityReducer(layer).reduce(data, size=200, rng=0)
    full = data.weights @ data.points
    size = float(np.abs(data.weights[:, None] * data.points).sum())
    np.testing.assert_allclose(coreset.weights @ data.points[coreset.indices], full, atol=1e4 * EPS * size)


@settings(max_examples=10)
@given(seed=seeds)
def test_least_squares_that_keep_the_gram_matrix_are_exact(seed: int) -> None:
    data = made(seed=seed)
    coreset = SensitivityReducer(LeastSquares()).reduce(data, size=200, rng=seed)
    evidence = next(c for c in coreset.certificates if c.name == "subspace embedding")
    assert evidence.value <= 1e-7
    assert evidence.holds
    assert coreset.accuracy.delta == 0.0
    # Second moments that are not the Gram matrix, or fewer of them, decide nothing.
    first = SensitivityReducer(LeastSquares(), calibration=Calibration(degree=1))
    assert first.reduce(data, size=200, rng=seed).accuracy.delta == 0.05


def test_what_is_left_of_the_gram_matrix_bounds_the_error() -> None:
    data = made()
    reducer = SensitivityReducer(LeastSquares(), calibration=Calibration())
    coreset = reducer.reduce(data, size=12, rng=4)  # of 11 moments, not all can be kept
    evidence = {c.name: c for c in coreset.certificates}
    assert evidence["calibration"].details["moments"] < evidence["calibration"].details["asked"]
    assert 1e-3 < evidence["subspace embedding"].value <= coreset.accuracy.epsilon


# ---- metamorphic laws


@settings(max_examples=10)
@given(seed=seeds)
def test_an_invertible_map_of_the_points_changes_no_weight(seed: int) -> None:
    data = made(seed=seed)
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((3, 3)))[0] * rng.uniform(0.5, 2.0, 3)
    coreset, moments = drawn(data, 150, seed)
    mapped = Polynomials(moments.directions @ mixing, moments.measure)
    before, after = calibrate(data, coreset, moments), calibrate(data, coreset, mapped)
    np.testing.assert_allclose(after.weights, before.weights, rtol=1e5 * EPS)


@settings(max_examples=10)
@given(seed=seeds, scale=st.sampled_from([2.0**-20, 4.0, 2.0**30]))
def test_rescaled_masses_rescale_the_weights(seed: int, scale: float) -> None:
    data = made(seed=seed)
    coreset, moments = drawn(data, 150, seed)
    scaled = WeightedSet(data.points, scale * data.weights)
    other = Coreset(coreset.indices, scale * coreset.weights, coreset.size, coreset.accuracy)
    before, after = calibrate(data, coreset, moments), calibrate(scaled, other, moments)
    np.testing.assert_array_equal(after.weights, scale * before.weights)


def test_calibrating_twice_changes_nothing_more() -> None:
    data = made()
    coreset, moments = drawn(data, 150, 0)
    once = calibrate(data, coreset, moments)
    twice = calibrate(data, once, moments)
    np.testing.assert_allclose(twice.weights, once.weights, rtol=1e5 * EPS)
    assert twice.accuracy.epsilon == pytest.approx(once.accuracy.epsilon, rel=1e-9)


def test_contributions_and_polynomials_with_one_span_give_one_coreset() -> None:
    data = made()
    coreset, moments = drawn(data, 150, 0)
    plain = Contributions(data.weights[:, None] * data.points, moments.measure)
    np.testing.assert_allclose(
        calibrate(data, coreset, plain).weights, calibrate(data, coreset, moments).weights, rtol=1e5 * EPS
    )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_tensors_are_calibrated_as_arrays_are() -> None:
    torch = pytest.importorskip("torch")
    data = made()
    tensors = WeightedSet(torch.tensor(data.points), torch.tensor(data.weights))
    ours, theirs = (
        SensitivityReducer(AbsoluteSum()).reduce(d, size=200, rng=3)
        for d in (WeightedSet(data.points, data.weights), tensors)
    )
    assert type(theirs.weights) is torch.Tensor
    assert theirs.indices.tolist() == ours.indices.tolist()
    np.testing.assert_allclose(theirs.weights.numpy(), ours.weights, rtol=1e-7)  # of Lewis weights


def test_single_precision_keeps_moments_to_its_own_rounding() -> None:
    data = made()
    single = WeightedSet(data.points.astype(np.float32), data.weights.astype(np.float32))
    coreset = SensitivityReducer(AbsoluteSum()).reduce(single, size=200, rng=3)
    assert coreset.weights.dtype == np.float32
    evidence = coreset.certificates[-1]
    assert 0.0 < evidence.value <= 1e3 * float(np.finfo(np.float32).eps)


def test_columns_that_depend_on_others_do_not_count() -> None:
    rng = np.random.default_rng(0)
    line = WeightedSet(np.outer(rng.standard_normal(500), [1.0, -2.0, 0.5]))
    reducer = SensitivityReducer(AbsoluteSum())
    moments = AbsoluteSum().moments(line, reducer.sensitivities(line))
    assert (moments.rank, moments.count) == (1, 2)
    coreset = reducer.reduce(line, size=50, rng=0)
    assert np.max(residual(line, coreset, moments)) <= 1e4 * EPS


# ---- policies


def test_weights_that_cannot_exist_are_refused_with_the_evidence() -> None:
    data = made()
    coreset, moments = drawn(data, 6, 0)
    with pytest.raises(SolverError, match=r"no weights of the \d+ kept points, within \[0, inf\]") as caught:
        calibrate(data, coreset, moments.to_degree(2))
    assert caught.value.result is coreset
    assert caught.value.certificate is not None
    assert caught.value.certificate.value > 1e-7


def test_fewer_moments_are_kept_where_all_of_them_cannot_be() -> None:
    data = made()
    coreset, moments = drawn(data, 6, 0)
    second = moments.to_degree(2)
    kept = calibrate(data, coreset, second, otherwise=FewerMoments())
    evidence = kept.certificates[-1]
    assert 1 <= evidence.details["moments"] < evidence.details["asked"] == second.count
    assert np.max(residual(data, kept, second)[: int(evidence.details["moments"])]) <= 1e-7


def test_bounds_are_kept_and_bound_the_change() -> None:
    data = made()
    coreset, moments = drawn(data, 200, 1)
    free = calibrate(data, coreset, moments)
    assert largest_change(coreset.weights, free.weights) > 0.15
    tight = calibrate(data, coreset, moments, bounds=Bounds(0.85, 1.15))
    assert largest_change(coreset.weights, tight.weights) <= 0.15 + 4 * EPS
    assert tight.certificates[-1].details["at_bounds"] > 0
    assert tight.accuracy.epsilon < free.accuracy.epsilon
    assert np.max(residual(data, tight, moments)) <= 1e-7


@pytest.mark.parametrize("size", [15, 30])
def test_automatic_calibration_asks_for_five_points_a_moment(size: int) -> None:
    data = made()
    names = [c.name for c in SensitivityReducer(AbsoluteSum()).reduce(data, size=size, rng=0).certificates]
    assert ("calibration" in names) == (size >= 5 * 4)
    never = SensitivityReducer(AbsoluteSum(), calibration=Automatic(most=3))
    assert all(c.name != "calibration" for c in never.reduce(data, size=size, rng=0).certificates)


@pytest.mark.parametrize("sampler", [FixedSize(), Hybrid(), Top()], ids=name_of)
def test_losses_without_moments_and_choices_of_the_top_stay_as_they_are(sampler: Sampler) -> None:
    data = made()
    loss: Loss = FiniteQueries(lambda data, c: np.maximum(data.points[:, 0] - c, 0.0), [0.0])
    coreset = SensitivityReducer(loss, sampler).reduce(data, size=60, rng=0)
    assert coreset.certificates == ()
    with pytest.raises(TypeError, match="has no method moments"):
        SensitivityReducer(loss, sampler, calibration=Calibration())


def test_a_fixed_size_is_calibrated_too() -> None:
    coreset = SensitivityReducer(LeastSquares(), FixedSize()).reduce(made(), size=200, rng=0)
    assert coreset.support_size == 200
    assert coreset.certificates[0].name == "subspace embedding"
    assert coreset.certificates[1].name == "calibration"


def test_an_empty_draw_has_nothing_to_calibrate() -> None:
    data = WeightedSet(np.random.default_rng(0).standard_normal((2000, 1)))
    reducer = SensitivityReducer(AbsoluteSum(), calibration=Calibration())
    sizes = [reducer.reduce(data, size=1, rng=seed).support_size for seed in range(12)]
    assert 0 in sizes


# ---- what is stated


@settings(max_examples=10)
@given(seed=seeds)
def test_the_change_of_the_weights_bounds_that_of_every_answer(seed: int) -> None:
    data = made(seed=seed)
    coreset, moments = drawn(data, 100, seed)
    kept = calibrate(data, coreset, moments)
    eta = kept.certificates[-1].details["eta"]
    assert kept.accuracy == changed_accuracy(coreset.accuracy, eta)
    x = np.random.default_rng(seed).standard_normal((3, 200))
    images = np.abs(data.points[coreset.indices] @ x)
    before, after = coreset.weights @ images, kept.weights @ images
    assert np.all(np.abs(after - before) <= eta * before * (1.0 + 1e3 * EPS))


def test_a_request_by_accuracy_keeps_the_weights_of_the_theorem() -> None:
    data = WeightedSet(np.random.default_rng(0).standard_normal((20000, 2)))
    wanted = Accuracy(0.3, 0.05)
    by_default, plain = (
        SensitivityReducer(AbsoluteSum(), calibration=c).reduce(data, accuracy=wanted, rng=0)
        for c in (Automatic(), None)
    )
    assert by_default.weights.tolist() == plain.weights.tolist()
    assert by_default.accuracy == wanted


@pytest.mark.parametrize("loss", [AbsoluteSum(), ReLUSum(), LeastSquares()], ids=name_of)
def test_calibration_on_request_states_the_accuracy_asked_for(loss: Any) -> None:
    data = WeightedSet(np.random.default_rng(0).standard_normal((60000, 2)))
    wanted = Accuracy(0.3, 0.05)
    coreset = SensitivityReducer(loss, calibration=Calibration()).reduce(data, accuracy=wanted, rng=0)
    assert coreset.accuracy.epsilon <= wanted.epsilon
    computed = isinstance(loss, LeastSquares)  # from the Gram matrix that was kept
    assert coreset.accuracy.delta == (0.0 if computed else wanted.delta)
    assert coreset.support_size < data.n
    assert any(c.name == "calibration" for c in coreset.certificates)


# ---- arguments


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Bounds(1.0, 2.0), ValueError, r"low = 1 is outside \[0, 1\)"),
        (lambda: Bounds(0.0, 1.0), ValueError, "high = 1 is not above 1"),
        (lambda: Calibration(degree=3), ValueError, "degree = 3 is above 2"),
        (lambda: Calibration(bounds=(0, 1)), TypeError, "pass Bounds"),  # type: ignore[arg-type]
        (lambda: Calibration(otherwise=Refuse), TypeError, "pass FewerMoments"),  # type: ignore[arg-type]
        (lambda: Automatic(ratio=0.5), ValueError, "ratio = 0.5 is below 1"),
        (lambda: Automatic(most=0), ValueError, "most = 0 is too small"),
        (lambda: Polynomials(np.ones((3, 1)), np.ones(3), (3,)), ValueError, r"degrees = \(3,\)"),
        (lambda: Polynomials(np.ones(3), np.ones(3)), ValueError, r"directions has shape \(3,\)"),
        (lambda: Polynomials(np.ones((3, 1)), np.ones(2)), ValueError, r"measure has shape \(2,\)"),
        (lambda: Polynomials(np.ones((3, 1)), np.zeros(3)), ValueError, "measure is zero everywhere"),
        (lambda: Contributions(np.ones((2, 1)), [1.0, 0.0]), ValueError, r"values\[1\] is not zero"),
        (
            lambda: SensitivityReducer(AbsoluteSum(), calibration="yes"),  # type: ignore[arg-type]
            TypeError,
            "calibration = 'yes'; pass Automatic",
        ),
        (lambda: calibrate(made(), made(), None), TypeError, "pass a Coreset"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_moments_of_other_data_are_refused() -> None:
    data = made()
    coreset, moments = drawn(data, 50, 0)
    with pytest.raises(ValueError, match="the moments are about 600 points, the data have 300"):
        calibrate(made(300), coreset, moments)
    free = Coreset(None, np.ones(2), 2, Accuracy(0.1, 0.1), points=np.eye(2))
    with pytest.raises(TypeError, match="free points"):
        calibrate(data, free, moments)
