"""Least absolute deviations: costs, sensitivity bounds, claims, achieved errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coresets import IID, Accuracy, L1Regression, Poisson, Sampler, SensitivityReducer, WeightedSet

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def regression(n: int, d: int = 2, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    points = rng.standard_t(2, (n, d))
    return WeightedSet(points, rng.uniform(0.5, 2.0, n), points.sum(axis=1) + rng.laplace(size=n))


def name_of(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_costs_are_absolute_residuals(with_labels: bool, intercept: bool) -> None:
    labelled = regression(20)
    data = labelled if with_labels else WeightedSet(labelled.points, labelled.weights)
    query = np.array([1.5, -2.0, 0.5])[: 2 + intercept]
    residuals = (
        data.points @ query[:2] + (query[2] if intercept else 0.0) - (data.labels if with_labels else 0.0)
    )
    scale = float(np.abs(data.points).max()) * 10
    np.testing.assert_allclose(
        L1Regression(intercept=intercept).costs(data, query), np.abs(residuals), rtol=0, atol=8 * EPS * scale
    )


def exact_sensitivity(rows: np.ndarray, i: int) -> float:
    """max |a_i . x| subject to sum |a_j . x| <= 1, as a linear program in (x, bounds on |a_j . x|)."""
    n, d = rows.shape
    eye = np.eye(n)
    A = np.block([[rows, -eye], [-rows, -eye], [np.zeros((1, d)), np.ones((1, n))]])
    b = np.append(np.zeros(2 * n), 1.0)
    bounds = [(None, None)] * d + [(0, None)] * n
    return -float(linprog(np.append(-rows[i], np.zeros(n)), A, b, bounds=bounds).fun)


@settings(max_examples=8)
@given(seeds)
def test_sensitivities_bound_the_exact_ones_and_add_up_to_the_rank(seed: int) -> None:
    data = regression(15, seed=seed)
    rows = data.weights[:, None] * np.column_stack([data.points, data.labels])
    bounds = L1Regression().sensitivities(data)
    for i in range(data.n):
        assert exact_sensitivity(rows, i) <= bounds.values[i] * (1 + 1e-7)  # tolerance of the LP solver
    assert bounds.total == pytest.approx(3.0, rel=0.05)  # the certified ratio of approximate weights


@pytest.mark.parametrize(("sampler", "key"), [(IID(), "E4"), (Poisson(), "E4-P")], ids=["IID", "Poisson"])
@pytest.mark.parametrize("defensive", [False, True])
def test_the_claim_is_the_dimension_free_theorem_for_the_sampler(
    sampler: Sampler, key: str, defensive: bool
) -> None:
    data = regression(500)
    reducer = SensitivityReducer(L1Regression(), sampler, defensive=defensive)
    claim = reducer.claim(data)
    assert claim.guarantee.key == key
    assert claim.parameters.total_sensitivity == reducer.sensitivities(data).total
    assert (claim.parameters.norm_ratio, claim.parameters.range_ratio) == (1.0, 1.0)


@pytest.mark.parametrize("sampler", [IID(), Poisson()], ids=name_of)
def test_achieved_errors_stay_within_the_claim(sampler: Sampler) -> None:
    """Slack is large: observed errors are below a half of the claim, which fails at most 5% of the time."""
    data = regression(20_000)
    loss = L1Regression()
    coreset = SensitivityReducer(loss, sampler).reduce(data, accuracy=Accuracy(0.3, 0.05), rng=0)
    assert coreset.support_size < data.n
    kept = coreset.of(data)
    for query in [*np.random.default_rng(1).standard_normal((50, 2)), np.ones(2), np.zeros(2)]:
        full = float(np.sum(data.weights * loss.costs(data, query)))
        assert abs(float(np.sum(kept.weights * loss.costs(kept, query))) / full - 1.0) <= 0.3


def test_lewis_weights_come_with_their_certificate() -> None:
    reducer = SensitivityReducer(L1Regression(), calibration=None)
    coreset = reducer.reduce(regression(500), size=100, rng=0)
    assert coreset.certificates == L1Regression().sensitivities(regression(500)).certificates
    assert all(c.holds is not False for c in coreset.certificates)
