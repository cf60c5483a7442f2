"""Ridge regression: scores, the certificate, the penalty kept apart, parts and streams, exact reduction."""

from __future__ import annotations

import importlib.util
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from sklearn.linear_model import Ridge

from coresets import (
    IID,
    Accuracy,
    AssumptionError,
    Coreset,
    ExactLeastSquares,
    FixedSize,
    Hybrid,
    Poisson,
    RidgeCoreset,
    RidgeRegression,
    Sampler,
    SensitivityReducer,
    WeightedSet,
)
from coresets.guarantees import RidgeClass, RidgeMatrixChernoff
from coresets.residuals import residual_rows
from coresets.sensitivity import leverage_scores
from coresets.streams import MergeReduce, NodeSize, PartReducer

EPS = float(np.finfo(np.float64).eps)
# Gaussian rows with n >= 10 d have a condition number below 10; Gram matrices square it.
ROUTINE = 1e4 * EPS
SAMPLERS: list[Sampler] = [IID(), Poisson(), FixedSize()]
seeds = st.integers(0, 2**32 - 1)
penalties = st.floats(1e-3, 1e4)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def regression(n: int = 300, d: int = 3, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    return WeightedSet(points, rng.uniform(0.5, 2.0, n), points.sum(axis=1) + rng.standard_normal(n))


def name_of(value: object) -> str:
    return type(value).__name__


def gram(data: WeightedSet, intercept: bool) -> np.ndarray:
    rows = residual_rows(data, intercept=intercept)
    return np.asarray(rows.T @ (data.weights[:, None] * rows))


def penalty_of(data: WeightedSet, intercept: bool, penalty: float) -> np.ndarray:
    """The quadratic form of the penalty in (x, b, label)."""
    size = gram(data, intercept).shape[0]
    return np.diag(np.where(np.arange(size) < data.d, penalty, 0.0))


@pytest.mark.parametrize("intercept", [False, True])
@settings(max_examples=20)
@given(seed=seeds, penalty=penalties)
def test_scores_are_the_quadratic_forms_and_add_up_to_the_effective_dimension(
    intercept: bool, seed: int, penalty: float
) -> None:
    data = regression(60, 3, seed)
    rows, whole = residual_rows(data, intercept=intercept), gram(data, intercept)
    inverse = np.linalg.inv(whole + penalty_of(data, intercept, penalty))
    bound = RidgeRegression(penalty, intercept).sensitivities(data)
    expected = data.weights * np.einsum("ij,jk,ik->i", rows, inverse, rows)
    assert bound.values == pytest.approx(expected, rel=ROUTINE * max(1.0, penalty))
    assert bound.total == pytest.approx(np.trace(whole @ inverse), rel=ROUTINE * max(1.0, penalty))


@given(seed=seeds, penalty=penalties)
@settings(max_examples=20)
def test_the_effective_dimension_is_a_sum_over_singular_values(seed: int, penalty: float) -> None:
    points = regression(60, 4, seed).points
    squares = np.linalg.svd(points, compute_uv=False) ** 2
    total = RidgeRegression(penalty).sensitivities(WeightedSet(points)).total
    assert total == pytest.approx(float(np.sum(squares / (squares + penalty))), rel=ROUTINE)


@given(seed=seeds, penalty=penalties, factor=st.floats(1.0, 100.0))
@settings(max_examples=20)
def test_scores_fall_as_the_penalty_grows_and_start_at_the_leverage_scores(
    seed: int, penalty: float, factor: float
) -> None:
    data = regression(60, 3, seed)
    small, large = (RidgeRegression(p).sensitivities(data).values for p in (penalty, factor * penalty))
    assert np.all(large <= small * (1.0 + ROUTINE))
    leverage = leverage_scores(residual_rows(data, intercept=False), data.weights)
    assert np.all(small <= leverage * (1.0 + ROUTINE))
    assert RidgeRegression(1e-14).sensitivities(data).values == pytest.approx(leverage, rel=ROUTINE)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize("intercept", [False, True])
@settings(max_examples=10)
@given(seed=seeds, size=st.integers(1, 250), penalty=st.floats(0.1, 1e3))
def test_the_certificate_is_the_extreme_generalised_eigenvalue(
    sampler: Sampler, intercept: bool, seed: int, size: int, penalty: float
) -> None:
    data = regression()
    reducer = SensitivityReducer(RidgeRegression(penalty, intercept), sampler)
    coreset = reducer.reduce(data, size=size, rng=seed)
    rows = residual_rows(data, intercept=intercept)[coreset.indices]
    apart = penalty_of(data, intercept, penalty)
    few = rows.T @ (coreset.weights[:, None] * rows) + apart
    values = eigh(few, gram(data, intercept) + apart, eigvals_only=True)
    (evidence,) = coreset.certificates
    assert evidence.value == pytest.approx(max(values[-1] - 1.0, 1.0 - values[0]), abs=ROUTINE * values[-1])


@settings(max_examples=20)
@given(seed=seeds, penalty=st.floats(0.1, 1e3))
def test_no_coefficients_err_by_more_than_the_certificate(seed: int, penalty: float) -> None:
    data, loss = regression(), RidgeRegression(penalty)
    coreset = SensitivityReducer(loss, IID()).reduce(data, size=80, rng=seed)
    small = coreset.of(data)
    rng = np.random.default_rng(seed)
    for x in rng.standard_normal((20, 3)) * 10.0 ** rng.uniform(-2, 2, (20, 1)):
        ratio = loss.value(small, x) / loss.value(data, x)
        assert abs(ratio - 1.0) <= coreset.certificates[0].value * (1.0 + ROUTINE) + ROUTINE


def test_the_size_follows_the_effective_dimension_and_not_the_rank() -> None:
    rng = np.random.default_rng(0)
    data = WeightedSet(rng.standard_normal((20000, 30)) / np.arange(1, 31) ** 2)
    loss = RidgeRegression(100.0)
    bounds = loss.sensitivities(data)
    sizes = [
        one.claim(data, one.sensitivities(data), Poisson().scheme).size(Accuracy(0.2, 0.1))
        for one in (loss, RidgeRegression(1e-9))
    ]
    assert bounds.total < 6.0
    assert sizes[0] < 0.25 * sizes[1]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
def test_claims_hold_on_most_draws(sampler: Sampler) -> None:
    """100 draws at delta = 0.1: more than 25 failures have a probability below 1e-5 if the claim is true."""
    data = WeightedSet(np.random.default_rng(1).standard_normal((2000, 4)) / np.arange(1, 5) ** 2)
    reducer = SensitivityReducer(RidgeRegression(500.0), sampler, delta=0.1)
    coresets = [reducer.reduce(data, size=150, rng=seed) for seed in range(100)]
    assert coresets[0].accuracy.epsilon < 0.5
    assert sum(not coreset.certificates[0].holds for coreset in coresets) <= 25


def test_keeping_everything_is_exact() -> None:
    data = regression()
    coreset = SensitivityReducer(RidgeRegression(2.0)).reduce(data, size=300, rng=0)
    assert coreset.accuracy.is_exact
    assert coreset.certificates[0].value == 0.0


def test_an_empty_coreset_leaves_the_penalty_alone() -> None:
    data = WeightedSet(np.eye(2), [3.0, 1.0])
    empty = Coreset(np.zeros(0, dtype=np.int64), np.zeros(0), 1, Accuracy(0.5, 0.1))
    (evidence,) = RidgeRegression(1.0).certify(data, empty)
    assert evidence.details["smallest_ratio"] == pytest.approx(0.25)  # 1 / (3 + 1)
    assert evidence.value == pytest.approx(0.75)


def test_data_without_a_cost_are_answered_exactly() -> None:
    data = WeightedSet(np.zeros((5, 2)))
    coreset = SensitivityReducer(RidgeRegression(1.0)).reduce(data, size=2, rng=0)
    assert coreset.certificates[0].value == 0.0


# ---- the penalty belongs to the whole


@settings(max_examples=20)
@given(seed=seeds, alpha=st.floats(0.01, 10.0))
def test_parts_with_their_shares_of_the_penalty_add_up(seed: int, alpha: float) -> None:
    data, reducer = regression(40, 3, seed), RidgeCoreset(alpha)
    x = np.random.default_rng(seed).standard_normal(3)

    def value(part: WeightedSet) -> float:
        loss = reducer.for_part(part.total_weight).loss
        assert isinstance(loss, RidgeRegression)
        return loss.value(part, x)

    parts = [
        WeightedSet(data.points[rows], data.weights[rows], data.labels[rows])
        for rows in np.split(np.arange(40), [9, 30])
    ]
    assert sum(value(part) for part in parts) == pytest.approx(value(data), rel=100 * EPS)


def test_a_stream_keeps_the_penalised_cost() -> None:
    rng = np.random.default_rng(2)
    points = rng.standard_normal((16000, 4))
    data = WeightedSet(points, labels=points.sum(axis=1) + rng.standard_normal(16000))
    reducer = RidgeCoreset(0.5)
    assert isinstance(reducer, PartReducer)
    stream = MergeReduce(reducer, NodeSize(1000), block=2000, rng=1)
    for rows in np.split(np.arange(16000), 8):
        stream.push(WeightedSet(points[rows], labels=data.labels[rows]))
    kept = stream.result().data
    apart = penalty_of(data, False, 0.5 * 16000)
    values = eigh(gram(kept, False) + apart, gram(data, False) + apart, eigvals_only=True)
    # One reduction to 1000 points errs by about 2 sqrt(5 / 1000); there are four, one above the other.
    assert 0.6 < values[0] <= values[-1] < 1.4


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_exact_reduction_serves_every_penalty(intercept: bool, penalty: float) -> None:
    """The penalty is kept apart: the same few rows give the ridge solution for each of them."""
    data = regression(500, 3, 3)
    small = ExactLeastSquares(intercept=intercept).reduce(data).of(data)
    assert small.n <= 15
    found = [
        Ridge(alpha=penalty, fit_intercept=intercept, solver="cholesky").fit(
            one.points, one.labels, sample_weight=one.weights
        )
        for one in (data, small)
    ]
    assert found[1].coef_ == pytest.approx(found[0].coef_, rel=1e-9, abs=1e-12)
    assert found[1].intercept_ == pytest.approx(found[0].intercept_, rel=1e-9, abs=1e-11)
    loss = RidgeRegression(penalty, intercept)
    query = np.append(found[0].coef_, [found[0].intercept_] * intercept)
    assert loss.value(small, query) == pytest.approx(loss.value(data, query), rel=ROUTINE)


def test_the_cost_is_that_of_scikit_learn() -> None:
    data, loss = regression(), RidgeRegression(7.0, intercept=True)
    solved = Ridge(alpha=7.0).fit(data.points, data.labels, sample_weight=data.weights)
    best = np.append(solved.coef_, solved.intercept_)
    rng = np.random.default_rng(0)
    at_best = loss.value(data, best)
    assert all(loss.value(data, best + 0.01 * rng.standard_normal(4)) > at_best for _ in range(50))


# ---- other arrays, refusals


def test_other_array_libraries_give_the_same() -> None:
    data = regression(80)
    strict = WeightedSet(*map(array_api_strict.asarray, (data.points, data.weights, data.labels)))
    loss = RidgeRegression(3.0)
    assert np.asarray(loss.sensitivities(strict).values) == pytest.approx(
        loss.sensitivities(data).values, rel=ROUTINE
    )
    coresets = [SensitivityReducer(loss).reduce(one, size=20, rng=4) for one in (data, strict)]
    assert np.array_equal(coresets[0].indices, np.asarray(coresets[1].indices))
    assert coresets[1].certificates[0].value == pytest.approx(coresets[0].certificates[0].value, rel=ROUTINE)


@needs_torch
def test_tensors_in_single_precision_are_accepted() -> None:
    import torch  # noqa: PLC0415

    data = regression(80)
    tensors = WeightedSet(torch.asarray(data.points, dtype=torch.float32), labels=torch.asarray(data.labels))
    coreset = SensitivityReducer(RidgeRegression(3.0)).reduce(tensors, size=20, rng=4)
    assert coreset.of(tensors).points.dtype == torch.float32
    assert coreset.certificates[0].value > 0.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RidgeRegression(0.0), ValueError, r"penalty = 0 is not positive; use LeastSquares\(\)"),
        (lambda: RidgeRegression(1.0, 1), TypeError, "intercept = 1; pass True or False"),  # type: ignore[arg-type]
        (lambda: RidgeCoreset(-1.0), ValueError, "alpha = -1 is not positive"),
        (lambda: RidgeCoreset(1.0, sampler=IID), TypeError, "sampler is the class IID"),  # type: ignore[arg-type]
        (lambda: RidgeCoreset(1.0, delta=0.0), ValueError, "delta = 0 is not strictly"),
        (lambda: RidgeCoreset(1.0).for_part(0.0), ValueError, "mass = 0 is not positive"),
        (lambda: RidgeCoreset(1.0).reduce(np.eye(2), size=1, rng=0), TypeError, "data is a ndarray"),  # type: ignore[arg-type]
        (lambda: RidgeClass(2.0, 3.0), AssumptionError, "total_sensitivity = 2 is below the effective dim"),
        (lambda: RidgeClass(2.0, 0.0), ValueError, "effective_dimension = 0 is not positive"),
    ],
)
def test_wrong_arguments_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_samplers_without_a_proof_are_refused() -> None:
    with pytest.raises(AssumptionError, match=r"no theorem promises a ridge-regression coreset"):
        SensitivityReducer(RidgeRegression(1.0), Hybrid()).reduce(regression(), size=20, rng=0)


def test_free_points_are_not_certified() -> None:
    free = Coreset(None, np.ones(1), 1, Accuracy(0.5, 0.1), points=np.ones((1, 3)))
    with pytest.raises(TypeError, match="free points"):
        RidgeRegression(1.0).certify(regression(), free)


def test_a_total_below_one_is_no_mistake_here() -> None:
    """The penalty takes its share of the cost, so a strong one leaves little to the points."""
    data = WeightedSet(np.ones((100, 1)))
    bound = RidgeRegression(900.0).sensitivities(data)
    assert bound.total == pytest.approx(0.1)
    assert RidgeMatrixChernoff().size(RidgeClass(bound.total, bound.total), Accuracy(0.2, 0.1)) < 10
