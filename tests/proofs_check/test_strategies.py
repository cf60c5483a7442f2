from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from coresets.weighted_set import WeightedSet
from proofs_check.strategies import weighted_sets

FIRST_HIT = settings(max_examples=2000, database=None, derandomize=True, phases=[Phase.generate])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(weighted_sets(min_points=3, max_points=20, max_dimension=4))
def test_sets_are_valid_and_within_the_limits(data: WeightedSet) -> None:
    assert 3 <= data.n <= 20
    assert 1 <= data.d <= 4
    assert np.isfinite(data.points).all()
    assert (data.weights >= 0.0).all()
    assert data.total_weight > 0.0
    assert data.labels is None


@settings(max_examples=20, deadline=None, derandomize=True)
@given(weighted_sets(max_points=1))
def test_a_single_point_has_positive_mass(data: WeightedSet) -> None:
    assert data.n == 1
    assert data.weights[0] > 0.0


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(weighted_sets(labelled=True))
def test_labels_come_on_request(data: WeightedSet) -> None:
    assert data.labels is not None
    assert data.labels.shape == (data.n,)


SHAPES = {
    "rank deficient": lambda s: (
        s.n > 2 and s.d > 1 and np.linalg.matrix_rank(s.points) == 1 and s.points.all()
    ),
    "duplicated": lambda s: s.n > 8 and len(np.unique(s.points, axis=0)) <= s.n // 4 and s.points.all(),
    "badly scaled": lambda s: s.n > 5 and np.ptp(np.log10(np.abs(s.points).max(axis=0))) > 5.0,
    "zero rows": lambda s: s.n > 5 and bool((~s.points.any(axis=1)).any()),
    "heavy tailed": lambda s: (
        s.n > 5 and s.d == 1 and np.abs(s.points).max() > 100.0 * np.median(np.abs(s.points))
    ),
    "weights over orders": lambda s: s.n > 5 and s.weights.min() > 0.0 and np.ptp(np.log10(s.weights)) > 4.0,
    "weights partly zero": lambda s: bool((s.weights == 0.0).any()),
    "equal weights": lambda s: s.n > 5 and np.array_equal(s.weights, np.ones(s.n)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_that_the_docstring_names_is_generated(shape: str) -> None:
    assert SHAPES[shape](find(weighted_sets(), SHAPES[shape], settings=FIRST_HIT))
