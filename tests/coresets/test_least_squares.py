"""Least squares: the certificate is the exact error, it is attained, and claims bound it."""

from __future__ import annotations

import importlib.util
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.stats import binom

from coresets import (
    IID,
    Accuracy,
    Coreset,
    FixedSize,
    LeastSquares,
    Poisson,
    Sampler,
    SensitivityReducer,
    WeightedSet,
)
from coresets.least_squares import embedding_extremes
from coresets.residuals import residual_rows
from coresets.sensitivity import leverage_scores, orthonormaliser

EPS = float(np.finfo(np.float64).eps)
# Gaussian rows with n >= 10 d have a condition number below 10; Gram matrices square it.
ROUTINE = 1e4 * EPS

SAMPLERS: list[Sampler] = [IID(), Poisson(), FixedSize()]
seeds = st.integers(0, 2**32 - 1)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def regression(n: int = 300, d: int = 3, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    return WeightedSet(points, rng.uniform(0.5, 2.0, n), points.sum(axis=1) + rng.standard_normal(n))


def name_of(value: object) -> str:
    return type(value).__name__


def grams(data: WeightedSet, coreset: Any, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    rows = residual_rows(data, intercept=intercept)
    kept = rows[coreset.indices]
    return rows.T @ (data.weights[:, None] * rows), kept.T @ (coreset.weights[:, None] * kept)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize("intercept", [False, True])
@settings(max_examples=15)
@given(seed=seeds, size=st.integers(1, 250))
def test_the_certificate_is_the_extreme_generalised_eigenvalue(
    sampler: Sampler, intercept: bool, seed: int, size: int
) -> None:
    data = regression(seed=seed)
    loss = LeastSquares(intercept=intercept)
    coreset = SensitivityReducer(loss, sampler, calibration=None).reduce(data, size=size, rng=seed)
    (certificate,) = coreset.certificates
    full, kept = grams(data, coreset, intercept)
    ratios = eigh(kept, full, eigvals_only=True)
    assert certificate.details["smallest_ratio"] == pytest.approx(ratios[0], abs=ROUTINE * ratios[-1])
    assert certificate.details["largest_ratio"] == pytest.approx(ratios[-1], rel=ROUTINE)
    assert certificate.value == pytest.approx(max(ratios[-1] - 1, 1 - ratios[0]), abs=ROUTINE * ratios[-1])
    assert certificate.bound == coreset.accuracy.epsilon


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@settings(max_examples=15)
@given(seed=seeds)
def test_the_certified_error_is_attained_by_a_query_and_exceeded_by_none(sampler: Sampler, seed: int) -> None:
    data = WeightedSet(regression(seed=seed).points)
    loss = LeastSquares()
    coreset = SensitivityReducer(loss, sampler, calibration=None).reduce(data, size=60, rng=seed)
    (certificate,) = coreset.certificates
    kept = coreset.of(data)

    def error(query: np.ndarray) -> float:
        full = np.sum(data.weights * loss.costs(data, query))
        return abs(float(np.sum(kept.weights * loss.costs(kept, query)) / full) - 1.0)

    full, small = grams(data, coreset, intercept=False)
    _, vectors = eigh(small, full)
    worst = max(error(vectors[:, 0]), error(vectors[:, -1]))
    assert worst == pytest.approx(certificate.value, rel=ROUTINE, abs=ROUTINE)
    for query in np.random.default_rng(seed).standard_normal((20, data.d)):
        assert error(query) <= certificate.value + ROUTINE


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
def test_claims_bound_what_is_achieved(sampler: Sampler) -> None:
    """The claim may fail with probability 0.1 a trial.

    More than 12 failures in 40 would be refused: a false alarm has probability below 1e-4 at a
    failure rate of 0.1, and a failure rate of 0.6 is missed with probability below 1e-3.
    """
    data, reducer = regression(4000), SensitivityReducer(LeastSquares(), sampler)
    coresets = [reducer.reduce(data, accuracy=Accuracy(0.3, 0.1), rng=seed) for seed in range(40)]
    assert all(c.support_size < data.n for c in coresets)
    assert binom.sf(12, 40, 0.1) < 1e-4
    assert binom.cdf(12, 40, 0.6) < 1e-3
    assert sum(not c.certificates[0].holds for c in coresets) <= 12


@given(seeds, st.integers(5, 60), st.integers(1, 4))
def test_sensitivities_are_the_leverage_scores_of_the_residual_rows(seed: int, n: int, d: int) -> None:
    data = regression(n, d, seed)
    rows = np.column_stack([data.points, np.ones(n), data.labels]) * np.sqrt(data.weights)[:, None]
    values = LeastSquares(intercept=True).sensitivities(data).values
    expected = np.einsum("ij,ji->i", rows, np.linalg.pinv(rows, rcond=1e-11))
    # Tall or not, few Gaussian rows may be ill-conditioned: up to 1e4 over these examples.
    np.testing.assert_allclose(values, expected, atol=1e8 * EPS)


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_costs_are_squared_residuals(with_labels: bool, intercept: bool) -> None:
    labelled = regression(20, 2)
    data = labelled if with_labels else WeightedSet(labelled.points, labelled.weights)
    query = np.array([1.5, -2.0, 0.5])[: 2 + intercept]
    residuals = (
        data.points @ query[:2] + (query[2] if intercept else 0.0) - (data.labels if with_labels else 0.0)
    )
    np.testing.assert_allclose(
        LeastSquares(intercept=intercept).costs(data, query), residuals**2, rtol=1e3 * EPS, atol=1e3 * EPS
    )


@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_claimed_rank_bounds_the_true_one(mixing: bool, intercept: bool, rank: int) -> None:
    rng = np.random.default_rng(rank)
    data = WeightedSet(rng.standard_normal((500, rank)) @ rng.standard_normal((rank, 3)))
    reducer = SensitivityReducer(LeastSquares(intercept=intercept), defensive=mixing)
    parameters = reducer.claim(data).parameters
    assert rank + intercept <= parameters.rank <= min(3 + intercept, rank + intercept + mixing)
    assert parameters.total_sensitivity == pytest.approx(rank + intercept + mixing, rel=ROUTINE)


@settings(max_examples=20)
@given(seeds)
def test_an_invertible_map_of_the_points_changes_neither_draw_nor_error(seed: int) -> None:
    data = WeightedSet(regression(seed=seed).points)
    matrix = np.eye(3) + 0.3 * np.triu(np.random.default_rng(seed).uniform(-1, 1, (3, 3)), 1)
    reducer = SensitivityReducer(LeastSquares())
    before = reducer.reduce(data, size=80, rng=1)
    after = reducer.reduce(WeightedSet(data.points @ matrix), size=80, rng=1)
    assert after.indices.tolist() == before.indices.tolist()
    assert after.certificates[0].value == pytest.approx(before.certificates[0].value, rel=ROUTINE)


def test_too_few_points_lose_a_direction_and_the_certificate_says_so() -> None:
    data = WeightedSet(np.eye(4))
    low, high, _ = embedding_extremes(data.points, data.weights, np.array([0, 2]), np.array([2.0, 2.0]))
    assert (low, high) == (0.0, pytest.approx(2.0, rel=16 * EPS))
    assert embedding_extremes(data.points, data.weights, np.zeros(0, dtype=int), np.zeros(0)) == (0.0, 0.0, 4)


def test_data_of_rank_zero_are_kept_exactly() -> None:
    zeros = np.zeros((3, 2))
    assert embedding_extremes(zeros, np.ones(3), np.array([1]), np.array([3.0])) == (1.0, 1.0, 0)


@pytest.mark.parametrize("labels", [["a", "b"], np.array(["x", "y"])])
def test_labels_that_are_no_numbers_are_refused(labels: Any) -> None:
    data = WeightedSet(np.eye(2), labels=labels)
    with pytest.raises(TypeError, match=r"labels have dtype .*; regression needs real numbers"):
        LeastSquares().sensitivities(data)


@given(seeds, st.integers(1, 40), st.integers(1, 5), st.booleans())
def test_the_orthonormaliser_makes_orthonormal_columns_of_any_rank(
    seed: int, n: int, d: int, deficient: bool
) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_normal((n, d)), rng.uniform(0.5, 2.0, n)
    if deficient and d > 1:
        points[:, -1] = points[:, 0]
    columns = (np.sqrt(weights)[:, None] * points) @ orthonormaliser(points, weights)
    rank = np.linalg.matrix_rank(points)
    assert columns.shape == (n, rank)
    # Square Gaussian matrices may have a condition number up to 1e4 over these examples.
    np.testing.assert_allclose(columns.T @ columns, np.eye(rank), atol=1e8 * EPS)
    np.testing.assert_allclose(np.sum(columns**2, axis=1), leverage_scores(points, weights), atol=1e8 * EPS)


@pytest.mark.parametrize("name", ["strict", pytest.param("torch", marks=needs_torch)])
def test_other_libraries_give_the_same_certificate(name: str) -> None:
    xp = array_api_strict if name == "strict" else pytest.importorskip("torch")
    data = regression()
    other = WeightedSet(*(xp.asarray(a) for a in (data.points, data.weights, data.labels)))
    reducer = SensitivityReducer(LeastSquares(intercept=True))
    ours, theirs = reducer.reduce(data, size=70, rng=2), reducer.reduce(other, size=70, rng=2)
    assert theirs.certificates[0].value == pytest.approx(ours.certificates[0].value, rel=ROUTINE)


def test_free_points_are_not_certified() -> None:
    data = WeightedSet(np.eye(3))
    free = Coreset(
        indices=None, points=np.zeros((3, 3)), weights=np.ones(3), size=3, accuracy=Accuracy(0.1, 0.1)
    )
    with pytest.raises(TypeError, match="free points"):
        LeastSquares().certify(data, free)
