"""Leverage iteration: batches, other libraries, and the rate that is proved for it."""

from __future__ import annotations

import math
from types import ModuleType

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.ellipsoid import FixedPoint, loewner_ellipsoid
from coresets.ellipsoid._batched_newton import design_forms, interior_point
from coresets.errors import SolverError


def batch_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def difference(one: float, other: float, *found: object) -> float:
    """How far two log-volumes lie apart beyond what the certificates allow."""
    slack = max(f.certificate.details["log_volume_slack"] for f in found)  # type: ignore[attr-defined]
    return abs(one - other) - slack


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("n", "d"), [(6, 5), (40, 2), (150, 6)])
def test_a_batch_agrees_with_a_loop(n: int, d: int, symmetric: bool) -> None:
    points = batch_of(7, n, d)
    found = loewner_ellipsoid(points, symmetric=symmetric)
    assert found.certificate.holds
    assert np.all(found.gap <= 1e-6)
    assert np.all(found.contains(points))
    for member in range(7):
        alone = loewner_ellipsoid(points[member], symmetric=symmetric)
        assert difference(found.member(member).log_volume, alone.log_volume, found, alone) <= 1e-9


@pytest.mark.parametrize("symmetric", [False, True])
def test_degenerate_members_are_solved_beside_others(symmetric: bool) -> None:
    points = batch_of(6, 30, 3)
    points[0] = 1.5  # one point
    points[1] = 0.0
    points[2, :, 2] = points[2, :, 0] + points[2, :, 1]
    points[3, :, 1] = 7.0
    points[4] = np.repeat(points[4, :3], 10, axis=0)
    found = loewner_ellipsoid(points, symmetric=symmetric)
    alone = [loewner_ellipsoid(p, symmetric=symmetric) for p in points]
    assert found.rank.tolist() == [single.rank for single in alone]
    assert np.all(found.contains(points))
    for member, single in enumerate(alone):
        assert difference(found.member(member).log_volume, single.log_volume, found, single) <= 1e-9


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_result_moves_with_an_affine_map(n: int, d: int, symmetric: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((1, n, d))
    change = np.linalg.qr(rng.standard_normal((d, d)))[0] * rng.uniform(0.5, 2.0, d)
    shift = np.zeros(d) if symmetric else rng.standard_normal(d)
    before = loewner_ellipsoid(points, symmetric=symmetric)
    after = loewner_ellipsoid(points @ change + shift, symmetric=symmetric)
    moved = np.swapaxes(change, 0, 1) @ before.shape @ change
    # Two designs of gap e have second moments within about sqrt(2 e k) of each other.
    tolerance = 4.0 * math.sqrt(2.0 * 1e-6 * (d + 1)) * max(float(np.trace(moved[0])), 1e-300)
    np.testing.assert_allclose(after.shape, moved, atol=tolerance)


def test_order_of_points_and_duplicates_do_not_matter() -> None:
    points = batch_of(3, 25, 3)
    found = loewner_ellipsoid(points)
    order = np.random.default_rng(1).permutation(25)
    for other in (points[:, order], np.concatenate([points, points], axis=1)):
        again = loewner_ellipsoid(other)
        assert np.all(np.abs(again.log_volume - found.log_volume) <= 4e-6)


@pytest.mark.parametrize("kind", ["ball", "sphere", "lattice", "heavy tailed"])
def test_hard_sets_are_certified(kind: str) -> None:
    rng = np.random.default_rng(5)
    points = rng.standard_normal((10, 200, 4))
    if kind in {"ball", "sphere"}:
        points /= np.linalg.norm(points, axis=-1, keepdims=True)
    if kind == "ball":
        points *= rng.random((10, 200, 1)) ** 0.25
    elif kind == "lattice":
        points = rng.integers(-1, 2, points.shape).astype(float)
    elif kind == "heavy tailed":
        points = rng.standard_cauchy(points.shape)
    found = loewner_ellipsoid(points)
    assert found.certificate.holds
    assert found.certificate.details["members"] == 10


@pytest.mark.parametrize(("n", "k"), [(30, 2), (300, 4), (5, 5)])
@pytest.mark.parametrize("gap", [0.5, 0.05])
def test_the_plain_iteration_meets_its_proved_number_of_rounds(n: int, k: int, gap: float) -> None:
    rows = batch_of(4, n, k)
    rows[0] /= np.abs(batch_of(n, 1, seed=1)) + 1e-3
    plain = FixedPoint(first_finish=None)
    weights, rounds, gaps = plain.solve_batch(rows, np.full(4, k), gap=gap, max_iter=None)
    assert rounds <= max(1, math.ceil(math.log(n / k) / math.log1p(gap)))
    assert np.all(gaps <= gap)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-12)


def test_one_round_is_a_step_to_the_leverage_scores() -> None:
    rows = batch_of(1, 20, 3)
    scores = np.sum(np.linalg.qr(rows[0])[0] ** 2, axis=1)
    plain = FixedPoint(first_finish=None)
    weights, rounds, gaps = plain.solve_batch(rows, np.array([3]), gap=1e-9, max_iter=1)
    assert rounds == 1
    moment = rows[0].T @ (rows[0] * weights[0][:, None])
    forms = np.sum(rows[0] @ np.linalg.inv(moment) * rows[0], axis=1)
    assert gaps[0] == pytest.approx(forms.max() / 3 - 1, rel=1e-10)
    # The last iterate, the first, or their average.
    averages = [scores / 3, np.full(20, 1 / 20), scores / 6 + 1 / 40]
    assert any(np.allclose(weights[0], average, rtol=1e-12) for average in averages)


def test_interior_point_solves_the_triangle_exactly() -> None:
    # The vertices of a simplex, lifted: equal weights are optimal.
    rows = np.concatenate([np.eye(3)[None], np.diag([1.0, 2.0, 5.0])[None]])
    sparse, dense = interior_point(
        rows, np.array([[0.5, 0.3, 0.2]] * 2), np.full(2, 3.0), np.zeros((2, 3)), 1e-8
    )
    np.testing.assert_allclose(sparse, 1 / 3, rtol=1e-7)
    np.testing.assert_allclose(dense, 1 / 3, rtol=1e-7)


@given(st.integers(1, 4), st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_forms_agree_with_a_loop_and_average_to_the_dimension(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, weights = rng.standard_normal((2, n + k, k)), rng.dirichlet(np.ones(n + k), 2)
    forms = design_forms(rows, weights, np.zeros((2, k)))
    # sum_i u_i omega_i = trace I; the error is eps times the condition of M.
    moments = [r.T @ (r * u[:, None]) for r, u in zip(rows, weights, strict=True)]
    error = 1e-13 * max(np.linalg.cond(moment) for moment in moments)
    np.testing.assert_allclose(np.sum(weights * forms, axis=-1), k, rtol=error)
    loop = [np.einsum("ij,jk,ik->i", r, np.linalg.inv(m), r) for r, m in zip(rows, moments, strict=True)]
    np.testing.assert_allclose(forms, loop, rtol=error)


def test_too_few_rounds_carry_the_best_result_and_name_the_member() -> None:
    points = batch_of(2, 3, 100, 4)
    with pytest.raises(SolverError, match=r"for member \(\d, \d\) of the batch in 2 rounds") as caught:
        loewner_ellipsoid(points, max_iter=2, solver=FixedPoint(first_finish=None))
    assert not caught.value.certificate.holds
    assert caught.value.result.batch == (2, 3)
    assert np.all(caught.value.result.contains(points))


def test_the_solver_serves_a_single_set_on_the_host() -> None:
    points = batch_of(300, 5)
    found = loewner_ellipsoid(points, solver=FixedPoint())
    default = loewner_ellipsoid(points)
    assert found.weights.shape == (300,)
    assert difference(found.log_volume, default.log_volume, found, default) <= 1e-9


@pytest.mark.parametrize(
    ("factor", "what"), [(1e200, "above"), (1e-200, "below")], ids=["too large", "too small"]
)
def test_spreads_whose_squares_leave_the_range_are_refused_by_member(factor: float, what: str) -> None:
    points = batch_of(3, 10, 2)
    points[1] *= factor
    with pytest.raises(ValueError, match=f"column 0 of member 1 .* whose square is {what}"):
        loewner_ellipsoid(points)


@pytest.mark.parametrize("arguments", [{"first_finish": 0}, {"largest_finish": 1}])
def test_parameters_are_checked(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is too small"):
        FixedPoint(**arguments)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        loewner_ellipsoid(np.zeros((0, 3, 2)))


def library(name: str) -> ModuleType:
    return array_api_strict if name == "array_api_strict" else pytest.importorskip(name)


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", [(40, 3), (3, 40, 3)])
def test_other_libraries_agree_with_numpy(name: str, symmetric: bool, shape: tuple[int, ...]) -> None:
    xp = library(name)
    points = batch_of(*shape)
    if len(shape) == 3:
        points[0, :, 0] = points[0, :, 1]
    found = loewner_ellipsoid(xp.asarray(points), symmetric=symmetric)
    here = loewner_ellipsoid(points, symmetric=symmetric, solver=FixedPoint())
    for field in ("center", "shape", "weights"):
        value = getattr(found, field)
        assert type(value) is type(xp.asarray(points))
        assert value.dtype == xp.float64
    # Equal up to rounding, which the iteration passes on; far below what the gap leaves open.
    np.testing.assert_allclose(np.asarray(found.shape), here.shape, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.asarray(found.log_volume), here.log_volume, atol=1e-5)
    assert bool(xp.all(found.contains(xp.asarray(points))))


def test_float32_tensors_are_promoted() -> None:
    torch = pytest.importorskip("torch")
    points = batch_of(2, 50, 3).astype(np.float32)
    found = loewner_ellipsoid(torch.from_numpy(points))
    assert found.shape.dtype == torch.float64
    exact = loewner_ellipsoid(points.astype(np.float64))
    np.testing.assert_allclose(found.log_volume, exact.log_volume, atol=1e-5)
    axes = found.member(0).axes
    assert isinstance(axes, torch.Tensor)


@pytest.mark.gpu
def test_results_stay_on_the_device() -> None:
    torch = pytest.importorskip("torch")
    points = torch.as_tensor(batch_of(8, 60, 4), device="cuda")
    found = loewner_ellipsoid(points)
    assert found.shape.device == points.device
    assert bool(found.contains(points).all())
