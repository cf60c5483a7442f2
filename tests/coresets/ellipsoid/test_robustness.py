"""Whatever the points: a certified ellipsoid that contains them all, or a documented error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.ellipsoid import loewner_ellipsoid
from coresets.errors import SolverError
from proofs_check.point_sets import KINDS, MODIFIERS, PointSet, point_sets

GAP = 1e-6


def certified_or_refused(points: np.ndarray, *, symmetric: bool) -> bool:
    """Whether a certified result came back; it, or the one that an error carries, contains every point."""
    refusal: Exception | None = None
    try:
        found = loewner_ellipsoid(points, symmetric=symmetric, gap=GAP)
    except (ValueError, SolverError) as error:
        refusal = error
    if isinstance(refusal, SolverError):
        assert refusal.certificate is None or not refusal.certificate.holds
        assert refusal.result is None or np.all(refusal.result.contains(points))
        return False
    if refusal is not None:  # finite points are refused for the range of squares alone
        assert "float64" in str(refusal)
        return False
    assert found.certificate.holds
    assert found.certificate.value <= GAP
    assert found.certificate.details["containment"] <= 1.0
    assert np.all(found.contains(points))
    assert np.all(found.weights >= 0.0)
    assert abs(found.weights.sum() - 1.0) <= 1e-12
    assert not symmetric or not found.center.any()
    return True


@settings(max_examples=250)
@given(point_sets(max_points=3000), st.booleans())
def test_any_set_is_certified_or_refused(recipe: PointSet, symmetric: bool) -> None:
    certified_or_refused(recipe.points(), symmetric=symmetric)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"near a line", "clusters", "one outlier"}))
def test_kinds_within_the_precision_of_float64_are_always_certified(kind: str, symmetric: bool) -> None:
    for seed, (n, d) in enumerate([(1, 1), (1, 4), (3, 7), (40, 3), (500, 6)]):
        for modifier in ("plain", "badly scaled", "strided"):
            points = PointSet(kind, modifier, n, d, seed).points()
            assert certified_or_refused(points, symmetric=symmetric), (kind, modifier, n, d)


@given(point_sets(max_points=50, max_dimension=4))
def test_recipes_are_finite_and_repeatable(recipe: PointSet) -> None:
    points = recipe.points()
    assert points.shape == (recipe.n, recipe.d)
    assert points.dtype in (np.float32, np.float64)
    assert np.all(np.isfinite(points))
    np.testing.assert_array_equal(points, recipe.points())


@pytest.mark.parametrize("modifier", sorted(MODIFIERS))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_changed_in_every_way(kind: str, modifier: str) -> None:
    certified_or_refused(PointSet(kind, modifier, 25, 3, 0).points(), symmetric=False)
