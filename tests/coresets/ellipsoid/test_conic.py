"""The conic reference: right where it answers, and it says where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coresets.ellipsoid import conic as module
from coresets.ellipsoid import loewner_ellipsoid
from coresets.ellipsoid.conic import Conic
from coresets.errors import SolverError


def points_of(kind: str, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    points = rng.standard_normal((n, d))
    if kind == "heavy tailed":
        points = rng.standard_cauchy((n, d))
    elif kind == "in a plane":
        points[:, 2] = points[:, 0] - points[:, 1]
    elif kind == "lattice":
        points = rng.integers(-1, 2, (n, d)).astype(float)
    elif kind == "badly scaled":
        points = points * 10.0 ** np.linspace(-5, 5, d)
    return points


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["gaussian", "heavy tailed", "in a plane", "lattice", "badly scaled"])
def test_the_reference_and_the_default_agree(kind: str, symmetric: bool) -> None:
    points = points_of(kind, 120, 4)
    reference = loewner_ellipsoid(points, symmetric=symmetric, solver=Conic(), gap=1e-5)
    fast = loewner_ellipsoid(points, symmetric=symmetric)
    assert reference.rank == fast.rank
    assert reference.certificate.holds
    # Both are within their certified slack of the one optimum.
    slack = [found.certificate.details["log_volume_slack"] for found in (reference, fast)]
    assert abs(reference.log_volume - fast.log_volume) <= max(slack) + 1e-9


@pytest.mark.parametrize("points", [np.eye(3), np.array([[0.0], [1.0]]), np.array([[2.0, 3.0]])])
def test_smallest_sets_are_solved(points: np.ndarray) -> None:
    found = loewner_ellipsoid(points, solver=Conic())
    assert found.certificate.holds
    assert np.all(found.contains(points))


def test_sets_that_are_too_large_are_refused_before_any_work() -> None:
    points = np.random.default_rng(0).standard_normal((100, 10))
    with pytest.raises(ValueError, match=r"conic program of 100 rows of 11 coordinates .* use Ascent\(\)"):
        loewner_ellipsoid(points, solver=Conic(memory=1e6))
    with pytest.raises(ValueError, match="memory = 0 is not positive"):
        Conic(memory=0.0)


def test_the_estimate_grows_with_the_size() -> None:
    assert Conic.estimated_memory(200, 5) > Conic.estimated_memory(100, 5)
    assert Conic.estimated_memory(100, 6) > Conic.estimated_memory(100, 5)


def test_too_few_iterations_carry_the_best_result() -> None:
    points = points_of("gaussian", 100, 3)
    with pytest.raises(SolverError, match="gap") as caught:
        loewner_ellipsoid(points, solver=Conic(), max_iter=3)
    assert caught.value.result is not None
    assert not caught.value.certificate.holds
    assert np.all(caught.value.result.contains(points))


@pytest.mark.parametrize("status", ["nothing", "wrong"])
def test_the_status_is_not_trusted(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(rows: np.ndarray, accuracy: float, max_iter: int) -> tuple[Any, int]:
        weights = np.zeros(len(rows))
        if status == "wrong":
            weights[:] = 1.0
        return weights, 1

    monkeypatch.setattr(module, "_multipliers", pretend)
    points = points_of("gaussian", 50, 2)
    with pytest.raises(SolverError) as caught:
        loewner_ellipsoid(points, solver=Conic())
    assert np.all(caught.value.result.contains(points))
