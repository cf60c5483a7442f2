"""The public call: enclosure, certified gap, degenerate data, invariance, and its errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.ellipsoid import AddOnly, Ascent, Blocks, Design, Ellipsoid, FixedPoint, loewner_ellipsoid
from coresets.errors import SolverError

EPS = np.finfo(np.float64).eps


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def check(found: Ellipsoid, points: np.ndarray, gap: float) -> None:
    """Everything that is promised of a result."""
    assert found.certificate.holds
    assert found.gap <= gap
    assert found.certificate.details["containment"] <= 1.0
    assert found.contains(points).all()
    assert found.weights.shape == (len(points),)
    assert found.center.dtype == found.shape.dtype == found.weights.dtype == np.float64
    assert np.linalg.matrix_rank(found.shape / max(np.abs(found.shape).max(), 1e-300)) <= found.rank


CASES = {
    "plain": gaussian(200, 3),
    "float32": gaussian(200, 3).astype(np.float32),
    "integers": np.random.default_rng(0).integers(-3, 4, (100, 3)),
    "one_point": np.array([[3.0, -1.0, 2.0]]),
    "two_points": gaussian(2, 4),
    "all_equal": np.full((9, 2), 0.1),
    "all_zero": np.zeros((4, 3)),
    "fewer_than_columns": gaussian(4, 9),
    "as_many_as_columns": gaussian(5, 5),
    "rank_deficient": gaussian(50, 2) @ gaussian(2, 5, 1),
    "constant_column": np.column_stack([gaussian(50, 2), np.full(50, 7.0)]),
    "duplicated": np.repeat(gaussian(20, 3), 5, axis=0),
    "ten_orders": gaussian(100, 4) * np.logspace(0, -10, 4),
    "offset": gaussian(100, 3) + 1e6,
    "far_outlier": np.vstack([gaussian(5000, 3), [[1e8, 0.0, 0.0]]]),
    "hidden_direction": np.vstack(
        [np.column_stack([gaussian(5000, 2) * 100, np.zeros(5000)]), [[0.0, 0.0, 1e-3]]]
    ),
    "two_clusters": np.vstack([gaussian(3000, 3) * 1e-4, gaussian(3000, 3) * 1e-4 + 1.0]),
    "one_column": gaussian(30, 1),
    "huge": gaussian(30, 2) * 1e120,
    "tiny": gaussian(30, 2) * 1e-120,
    "fortran": np.asfortranarray(gaussian(100, 3)),
    "strided": gaussian(200, 6)[::2, ::2],
    "corners": np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).reshape(6, -1).T,
}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_named_case_is_enclosed_to_the_gap(name: str, symmetric: bool) -> None:
    points = CASES[name]
    check(loewner_ellipsoid(points, symmetric=symmetric), points, 1e-6)


def test_rank_zero_is_a_point() -> None:
    found = loewner_ellipsoid(np.full((5, 2), 0.3))
    np.testing.assert_array_equal(found.center, [0.3, 0.3])
    np.testing.assert_array_equal(found.shape, np.zeros((2, 2)))
    assert found.rank == 0


def test_segment_is_its_own_ellipsoid() -> None:
    found = loewner_ellipsoid(np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]]))
    np.testing.assert_allclose(found.center, [2.0, 0.0], atol=1e-6)
    # The gap g leaves the shape free by about its square root.
    np.testing.assert_allclose(found.shape, [[4.0, 0.0], [0.0, 0.0]], atol=1e-2)


@given(
    n=st.integers(1, 60),
    d=st.integers(1, 5),
    seed=st.integers(0, 2**16),
    symmetric=st.booleans(),
    grid=st.booleans(),
)
def test_any_small_set_is_certified(n: int, d: int, seed: int, symmetric: bool, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (n, d)).astype(float) if grid else rng.standard_normal((n, d))
    check(loewner_ellipsoid(points, symmetric=symmetric), points, 1e-6)


@given(seed=st.integers(0, 2**16), symmetric=st.booleans())
@settings(max_examples=25)
def test_affine_map_of_the_points_maps_the_ellipsoid(seed: int, symmetric: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((80, 3))
    matrix = np.linalg.qr(rng.standard_normal((3, 3)))[0] * rng.uniform(0.5, 2.0, 3)
    shift = np.zeros(3) if symmetric else rng.standard_normal(3)
    one = loewner_ellipsoid(points, symmetric=symmetric, gap=1e-9)
    other = loewner_ellipsoid(points @ matrix.T + shift, symmetric=symmetric, gap=1e-9)
    change = math.log(abs(np.linalg.det(matrix)))
    # Both are within k ln(1 + gap) / 2 of the least log-volume.
    assert abs(other.log_volume - one.log_volume - change) <= 4e-9 + 1e3 * EPS
    np.testing.assert_allclose(other.shape, matrix @ one.shape @ matrix.T, atol=1e-3)


@given(seed=st.integers(0, 2**16), symmetric=st.booleans())
@settings(max_examples=15)
def test_order_and_multiplicity_do_not_matter(seed: int, symmetric: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((70, 3))
    shuffled = np.repeat(points, 2, axis=0)[rng.permutation(140)]
    one, other = (loewner_ellipsoid(p, symmetric=symmetric, gap=1e-9) for p in (points, shuffled))
    assert abs(one.log_volume - other.log_volume) <= 4e-9 + 1e3 * EPS


def test_interior_points_do_not_matter() -> None:
    points = gaussian(60, 3)
    found = loewner_ellipsoid(points, gap=1e-9)
    inside = found.center + 0.3 * (points - found.center)
    more = loewner_ellipsoid(np.vstack([points, inside]), gap=1e-9)
    assert abs(found.log_volume - more.log_volume) <= 4e-9 + 1e3 * EPS


def test_symmetric_ellipsoid_is_that_of_the_points_and_their_negatives() -> None:
    points = gaussian(60, 3) + 0.5
    one = loewner_ellipsoid(points, symmetric=True, gap=1e-9)
    both = loewner_ellipsoid(np.vstack([points, -points]), gap=1e-9)
    np.testing.assert_array_equal(one.center, np.zeros(3))
    assert abs(one.log_volume - both.log_volume) <= 8e-9


@pytest.mark.parametrize("solver", [Ascent(), AddOnly(), FixedPoint()], ids=["ascent", "add", "fixed"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_solvers_agree_within_their_gaps(solver: object, symmetric: bool) -> None:
    points = gaussian(150, 3)
    gap = 1e-2
    best = loewner_ellipsoid(points, symmetric=symmetric, gap=1e-10)
    found = loewner_ellipsoid(points, symmetric=symmetric, gap=gap, solver=solver)  # type: ignore[arg-type]
    check(found, points, gap)
    assert -1e-9 <= found.log_volume - best.log_volume <= 0.5 * 4 * math.log1p(gap)


@pytest.mark.parametrize("n", [300, 5000])
@pytest.mark.parametrize("solver", [Ascent(), AddOnly()], ids=["ascent", "add"])
def test_iteration_limit_raises_with_the_best_enclosing_ellipsoid(n: int, solver: object) -> None:
    points = gaussian(n, 4)
    with pytest.raises(SolverError, match="raise max_iter") as caught:
        loewner_ellipsoid(points, max_iter=3, solver=solver)  # type: ignore[arg-type]
    result, certificate = caught.value.result, caught.value.certificate
    assert isinstance(result, Ellipsoid)
    assert certificate is result.certificate
    assert certificate.holds is False
    assert result.iterations <= 3
    assert result.contains(points).all()
    assert result.gap > 1e-6


def test_unreachable_gap_raises_and_keeps_the_result() -> None:
    points = gaussian(100, 3)
    with pytest.raises(SolverError) as caught:
        loewner_ellipsoid(points, gap=1e-300)
    assert caught.value.result.contains(points).all()
    assert caught.value.result.gap < 1e-9


def test_nearly_flat_points_get_an_answer_or_an_explanation() -> None:
    for flatness in 10.0 ** np.arange(-12, -3):
        points = gaussian(100, 3)
        points[:, 2] = points[:, 0] + flatness * points[:, 2]
        try:
            found, complaint = loewner_ellipsoid(points), "nearly flat"
        except SolverError as error:
            found, complaint = error.result, str(error)
        assert "nearly flat" in complaint
        assert found.rank == (3 if flatness > 2e-7 else 2 if flatness < 2e-8 else found.rank)
        assert found.contains(points).all() or found.rank == 2


def test_data_are_not_changed() -> None:
    points = gaussian(3000, 3)
    points.flags.writeable = False
    copy = points.copy()
    loewner_ellipsoid(points)
    np.testing.assert_array_equal(points, copy)


def test_result_is_the_same_every_time() -> None:
    points = gaussian(4000, 5)
    one, other = loewner_ellipsoid(points), loewner_ellipsoid(points)
    np.testing.assert_array_equal(one.shape, other.shape)
    np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gap": 0.0}, ValueError, "gap = 0 is not positive"),
        ({"gap": -1.0}, ValueError, "gap = -1"),
        ({"gap": float("nan")}, ValueError, "gap"),
        ({"gap": "small"}, TypeError, "gap"),
        ({"max_iter": 0}, ValueError, "max_iter = 0"),
        ({"max_iter": 1.5}, TypeError, "max_iter"),
        ({"solver": "fast"}, TypeError, "no solver"),
        ({"symmetric": "yes"}, TypeError, "symmetric"),
    ],
)
def test_bad_option_is_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        loewner_ellipsoid(gaussian(5, 2), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 2)), "at least one row"),
        (np.zeros((2, 0)), "at least one row"),
        (np.zeros(3), "one row a point"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.array([[1.0, np.inf]]), "not finite"),
        (gaussian(5, 2) * 1e180, "rescale"),
        (gaussian(5, 2) * 1e-180, "rescale"),
    ],
)
def test_bad_points_are_named(points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loewner_ellipsoid(points)


def test_host_solver_refuses_a_batch_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"FixedPoint\(\) for a batch"):
        loewner_ellipsoid(gaussian(24, 2).reshape(3, 8, 2), solver=Ascent())


def test_host_solver_returns_arrays_of_the_library_given() -> None:
    torch = pytest.importorskip("torch")
    points = gaussian(100, 3)
    found = loewner_ellipsoid(torch.tensor(points), solver=Ascent())
    expected = loewner_ellipsoid(points)
    for name in ("center", "shape", "weights"):
        value = getattr(found, name)
        assert value.dtype == torch.float64
        np.testing.assert_array_equal(value.numpy(), getattr(expected, name))
    with pytest.raises(SolverError) as caught:
        loewner_ellipsoid(torch.tensor(points), solver=Ascent(), max_iter=2)
    assert isinstance(caught.value.result.shape, torch.Tensor)


class Careless:
    """A solver that returns what it was made with."""

    def __init__(self, weights: np.ndarray, largest_form: float | None = None) -> None:
        self.design = Design(weights, 1, True, largest_form)

    def solve(self, rows: object, *, gap: float, max_iter: int | None) -> Design:
        return self.design


@pytest.mark.parametrize(
    "weights",
    [np.full(6, np.nan), np.array([-1.0, *[0.4] * 5]), np.full(6, 0.5), np.full(2, 0.5), np.eye(6)[0]],
)
def test_weights_that_are_no_design_are_a_solver_error(weights: np.ndarray) -> None:
    points = np.random.default_rng(0).standard_normal((6, 2))
    with pytest.raises(SolverError, match="weight"):  # rounding decides whether a single one is singular
        loewner_ellipsoid(points, solver=Careless(weights))


@pytest.mark.parametrize("claimed", [None, 1.0, 0.0, np.nan, np.inf])
def test_largest_form_of_a_solver_is_not_trusted(claimed: float | None) -> None:
    points = np.random.default_rng(0).standard_normal((6, 2))
    with pytest.raises(SolverError, match="not the 1e-06") as caught:
        loewner_ellipsoid(points, solver=Careless(np.full(6, 1.0 / 6.0), claimed))
    assert bool(np.all(caught.value.result.contains(points)))


def test_class_in_place_of_a_solver_is_refused() -> None:
    with pytest.raises(TypeError, match="is no solver"):
        loewner_ellipsoid(np.eye(3), solver=Ascent)  # type: ignore[arg-type]


def test_dask_array_is_sent_to_blocks() -> None:
    dask = pytest.importorskip("dask.array")
    points = dask.from_array(gaussian(100, 2), chunks=(30, 2))
    with pytest.raises(TypeError, match="Blocks"):
        loewner_ellipsoid(points)
    found = loewner_ellipsoid(Blocks([points.blocks[i] for i in range(points.numblocks[0])]))
    check(found, gaussian(100, 2), 1e-6)
