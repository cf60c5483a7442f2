"""Finitely many queries: exact sensitivities, the theorem for each sampler, refusals."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets import (
    IID,
    FiniteQueries,
    FixedSize,
    Hybrid,
    Poisson,
    Sampler,
    SensitivityReducer,
    Top,
    WeightedSet,
)

EPS = float(np.finfo(np.float64).eps)


def column(data: WeightedSet, query: int) -> Any:
    """The loss of a point at query j is its j-th coordinate."""
    return data.points[:, query]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))
def test_sensitivities_are_the_largest_shares(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    data = WeightedSet(rng.exponential(size=(n, count)), rng.uniform(0.5, 2.0, n))
    masses = [Fraction(float(w)) for w in data.weights]
    costs = [
        [w * Fraction(float(c)) for w, c in zip(masses, losses, strict=True)] for losses in data.points.T
    ]
    exact = [float(max(row[i] / sum(row, Fraction(0)) for row in costs)) for i in range(n)]
    sensitivities = FiniteQueries(column, range(count)).sensitivities(data)
    np.testing.assert_allclose(sensitivities.values, exact, rtol=(n + 4) * EPS)
    assert 1.0 - (n + 4) * EPS <= sensitivities.total <= count * (1 + n * EPS)


def test_queries_that_cost_nothing_are_skipped() -> None:
    data = WeightedSet([[1.0, 0.0], [3.0, 0.0]])
    assert FiniteQueries(column, [0, 1]).sensitivities(data).values.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("sampler", "key"),
    [(IID(), "E1"), (Poisson(), "E1-P"), (FixedSize(), "E1-F"), (Hybrid(), "E1-H"), (Top(), "TOP")],
    ids=lambda value: getattr(value, "__class__", type(value)).__name__,
)
def test_each_sampler_has_its_theorem(sampler: Sampler, key: str) -> None:
    data = WeightedSet(np.random.default_rng(0).exponential(size=(50, 3)))
    claim = SensitivityReducer(FiniteQueries(column, range(3)), sampler).claim(data)
    assert claim.guarantee.key == key
    assert claim.parameters.queries == 3


def test_queries_are_any_objects_and_kept_as_a_tuple() -> None:
    assert FiniteQueries(lambda data, q: q(data), [lambda data: data.points[:, 0]]).queries.__class__ is tuple


def test_no_queries_and_no_loss_are_refused() -> None:
    with pytest.raises(ValueError, match="queries is empty; pass at least one query"):
        FiniteQueries(column, [])
    with pytest.raises(TypeError, match="loss = 3 is not callable; pass a function"):
        FiniteQueries(3, [0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda data, q: -data.points[:, 0], r"loss\[1\] = -1 is negative"),
        (lambda data, q: data.points[:, 0] * np.nan, r"loss\[0\] = nan is not finite"),
        (lambda data, q: data.points, r"loss has shape \(3, 1\); expected \(3,\), one value a point"),
    ],
)
def test_an_invalid_loss_is_named(loss: Any, message: str) -> None:
    data = WeightedSet([[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match=message):
        FiniteQueries(loss, [0]).sensitivities(data)
