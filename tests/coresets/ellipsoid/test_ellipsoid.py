"""The value: geometry of the result, degenerate ranks, files, drawing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets.certificate import Certificate
from coresets.ellipsoid import Ellipsoid, loewner_ellipsoid

EPS = np.finfo(np.float64).eps
EVIDENCE = Certificate(
    "Loewner ellipsoid", "made up", 0.0, details={"off_hull": 0.0, "containment_error": 0.0}
)


def ellipsoid_of(shape: np.ndarray, rank: int, center: np.ndarray | None = None) -> Ellipsoid:
    d = len(shape)
    center = np.zeros(d) if center is None else center
    return Ellipsoid(center, shape, np.array([1.0]), False, rank, 0.0, EVIDENCE, 0)


def test_axes_are_semi_axes_longest_first() -> None:
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    shape = rotation @ np.diag([4.0, 9.0]) @ rotation.T
    axes = ellipsoid_of(shape, 2).axes
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), [3.0, 2.0], rtol=16 * EPS)
    np.testing.assert_allclose(np.abs(axes @ rotation), [[0.0, 3.0], [2.0, 0.0]], atol=64 * EPS)


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_axes_rebuild_the_shape(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, d + 1))
    root = rng.standard_normal((d, rank))
    shape = root @ root.T
    axes = ellipsoid_of(shape, rank).axes
    assert axes.shape == (rank, d)
    # The entries of a product of d terms; eigenvalues are found to d eps of the largest.
    np.testing.assert_allclose(axes.T @ axes, shape, atol=64 * d * EPS * np.trace(shape))
    lengths = np.linalg.norm(axes, axis=1)
    assert np.all(lengths[:-1] >= lengths[1:])


def test_columns_of_very_different_scales_keep_their_axes() -> None:
    scales = 10.0 ** np.array([5.0, -5.0, 0.0])
    axes = ellipsoid_of(np.diag(scales**2), 3).axes
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), [1e5, 1.0, 1e-5], rtol=64 * EPS)


def test_log_volume_of_known_bodies() -> None:
    assert ellipsoid_of(np.diag([4.0, 9.0]), 2).log_volume == pytest.approx(math.log(6 * math.pi), rel=1e-14)
    ball = ellipsoid_of(np.eye(3), 3).log_volume
    assert ball == pytest.approx(math.log(4 / 3 * math.pi), rel=1e-14)
    segment = ellipsoid_of(np.outer([3.0, 4.0], [3.0, 4.0]), 1)
    assert segment.log_volume == pytest.approx(math.log(2 * 5.0), rel=1e-14)
    assert ellipsoid_of(np.zeros((2, 2)), 0).log_volume == 0.0


@given(st.integers(0, 2**32 - 1))
def test_log_volume_shifts_by_the_log_determinant_of_a_linear_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root, change = rng.standard_normal((2, 4, 4)) + 2.0 * np.eye(4)
    before, after = (ellipsoid_of(r @ r.T, 4).log_volume for r in (root, change @ root))
    condition = np.linalg.cond(root) ** 2 * np.linalg.cond(change) ** 2
    assert after - before == pytest.approx(np.linalg.slogdet(change)[1], abs=64 * EPS * condition)


def test_a_flat_ellipsoid_contains_only_points_of_its_hull() -> None:
    disc = ellipsoid_of(np.diag([1.0, 1.0, 0.0]), 2, center=np.array([0.0, 0.0, 5.0]))
    points = np.array([[0.5, 0.5, 5.0], [1.0, 0.0, 5.0], [1.1, 0.0, 5.0], [0.0, 0.0, 5.001]])
    assert disc.contains(points).tolist() == [True, True, False, False]


def test_a_tilted_segment_contains_only_points_of_its_line() -> None:
    segment = ellipsoid_of(np.ones((2, 2)), 1)
    assert segment.contains([[0.5, 0.5], [1.0, 1.0], [1.0, 0.99], [1.01, 1.01]]).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_a_single_point_contains_itself_alone() -> None:
    point = loewner_ellipsoid(np.array([[1.0, 0.1]] * 3))
    assert point.rank == 0
    assert point.axes.shape == (0, 2)
    assert point.log_volume == 0.0
    assert point.contains(np.array([[1.0, 0.1], [1.0, 0.2], [1.0 + 1e-9, 0.1]])).tolist() == [
        True,
        False,
        False,
    ]


def test_float32_points_and_lists_can_be_asked_about() -> None:
    disc = ellipsoid_of(np.eye(2), 2)
    assert disc.contains(np.array([[0.5, 0.5]], dtype=np.float32)).tolist() == [True]
    assert disc.contains([[2, 0]]).tolist() == [False]


def test_points_of_another_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="lives in 2 dimensions"):
        ellipsoid_of(np.eye(2), 2).contains(np.zeros((1, 3)))


def test_support_is_where_weights_are_positive() -> None:
    found = loewner_ellipsoid(np.array([[-1.0], [0.0], [1.0]]))
    assert found.support.tolist() == [0, 2]


@pytest.mark.parametrize("symmetric", [False, True])
def test_saving_and_loading_is_exact(tmp_path: Path, symmetric: bool) -> None:
    points = np.random.default_rng(0).standard_normal((30, 3))
    found = loewner_ellipsoid(points, symmetric=symmetric)
    found.save(tmp_path / "e.npz")
    loaded = Ellipsoid.load(tmp_path / "e.npz")
    for name in ("center", "shape", "weights"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    assert (loaded.rank, loaded.gap, loaded.symmetric) == (found.rank, found.gap, found.symmetric)
    assert loaded.certificate == found.certificate
    assert loaded.iterations == found.iterations


def test_a_batch_is_saved_and_loaded_exactly(tmp_path: Path) -> None:
    found = loewner_ellipsoid(np.random.default_rng(0).standard_normal((2, 3, 20, 2)))
    found.save(tmp_path / "e.npz")
    loaded = Ellipsoid.load(tmp_path / "e.npz")
    assert loaded.batch == (2, 3)
    np.testing.assert_array_equal(loaded.gap, found.gap)
    np.testing.assert_array_equal(loaded.rank, found.rank)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a saved ellipsoid"):
        Ellipsoid.load(path)


def test_a_file_without_its_arrays_is_refused(tmp_path: Path) -> None:
    found = loewner_ellipsoid(np.eye(2))
    found.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name != "shape"}
    np.savez(tmp_path / "cut.npz", **arrays)
    with pytest.raises(ValueError, match="damaged ellipsoid"):
        Ellipsoid.load(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError):
        Ellipsoid.load(tmp_path / "none.npz")


def test_a_batch_has_members_and_volumes_but_no_single_axes() -> None:
    points = np.random.default_rng(0).standard_normal((3, 15, 2))
    found = loewner_ellipsoid(points)
    with pytest.raises(ValueError, match="axes is of one ellipsoid"):
        _ = found.axes
    with pytest.raises(ValueError, match="does not fit the batch"):
        found.member(0, 1)
    volumes = [found.member(i).log_volume for i in range(3)]
    np.testing.assert_array_equal(found.log_volume, volumes)
    assert np.all(found.contains(points))
    assert found.member(1).contains(points[1]).all()
    assert repr(found).startswith("Ellipsoid(batch=(3,)")
    assert "rank=2" in repr(found.member(0))


class TestPlot:
    @pytest.fixture(autouse=True)
    def _headless(self) -> None:
        pytest.importorskip("matplotlib").use("Agg")

    def test_the_outline_lies_on_the_boundary_and_the_support_is_emphasised(self) -> None:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend

        points = np.random.default_rng(0).standard_normal((50, 2))
        found = loewner_ellipsoid(points)
        ax = found.plot(points=points)
        outline = np.stack(ax.lines[0].get_data(), axis=1) - found.center
        forms = np.sum(outline * np.linalg.solve(found.shape, outline.T).T, axis=1)
        np.testing.assert_allclose(forms, 1.0, atol=256 * EPS)
        emphasised = ax.collections[1].get_offsets()
        np.testing.assert_array_equal(emphasised, points[found.support])
        plt.close(ax.figure)

    def test_a_segment_is_drawn_on_given_axes(self) -> None:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend

        _, ax = plt.subplots()
        found = loewner_ellipsoid(np.array([[0.0, 0.0], [1.0, 1.0]]))
        assert found.plot(ax) is ax
        assert np.ptp(ax.lines[0].get_xdata()) == pytest.approx(1.0)
        plt.close(ax.figure)

    def test_only_the_plane_is_drawn_and_only_with_its_points(self) -> None:
        with pytest.raises(ValueError, match="3 dimensions"):
            ellipsoid_of(np.eye(3), 3).plot()
        with pytest.raises(ValueError, match="pass the 1 points"):
            ellipsoid_of(np.eye(2), 2).plot(points=np.zeros((2, 2)))
