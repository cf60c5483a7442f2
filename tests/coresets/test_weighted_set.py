"""Weighted sets and coresets: validation, dtypes, libraries, gathering, and files."""

from __future__ import annotations

import importlib.util
import math
import pickle
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import Accuracy, Certificate, Coreset, WeightedSet
from coresets._validate import beside
from coresets.weighted_set import to_host

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
LIBRARIES = ["numpy", "strict", pytest.param("torch", marks=needs_torch)]


def library(name: str) -> Any:
    if name == "torch":
        return pytest.importorskip("torch")
    return {"numpy": np, "strict": array_api_strict}[name]


def coreset(**changes: Any) -> Coreset:
    arguments = {
        "indices": np.array([0, 2]),
        "weights": np.array([1.5, 1.5]),
        "size": 2,
        "accuracy": Accuracy(0.5, 0.1),
    }
    return Coreset(**(arguments | changes))


# ---- weighted sets


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_points_keep_their_library_and_dtype_and_weights_default_to_ones(name: str, dtype: str) -> None:
    xp = library(name)
    points = xp.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=getattr(xp, dtype))
    data = WeightedSet(points)
    assert data.points is points
    assert type(data.weights) is type(points)
    assert data.weights.dtype == points.dtype
    assert (data.n, len(data), data.d, data.total_weight) == (3, 3, 2, 3.0)


@pytest.mark.parametrize("name", LIBRARIES)
def test_integers_become_float64(name: str) -> None:
    xp = library(name)
    data = WeightedSet(xp.asarray([[1, 2], [3, 4]]), weights=xp.asarray([1, 2]))
    assert data.points.dtype == xp.float64
    assert data.weights.dtype == xp.float64


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_list_of_weights_joins_the_library_of_the_points(name: str) -> None:
    xp = library(name)
    data = WeightedSet(xp.asarray([[1.0], [2.0]]), weights=[1, 3])
    assert type(data.weights) is type(data.points)
    assert data.total_weight == 4.0


def test_lists_booleans_and_half_precision_become_float64() -> None:
    for points in ([[1, 2], [3, 4]], np.eye(2, dtype=bool), np.eye(2, dtype=np.float16)):
        assert WeightedSet(points).points.dtype == np.float64


def test_a_weighted_set_is_frozen_and_says_what_it_is() -> None:
    data = WeightedSet(np.eye(2), labels=["a", "b"])
    assert repr(data) == "WeightedSet(n=2, d=2, total_weight=2, labelled)"
    with pytest.raises(AttributeError):
        data.weights = np.ones(2)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("points", "weights", "labels", "message"),
    [
        ([[1.0], [math.nan]], None, None, r"points\[1, 0\] = nan is not finite; remove or impute"),
        ([[1.0], [-math.inf]], None, None, r"points\[1, 0\] = -inf is not finite"),
        ([1.0, 2.0], None, None, r"points has shape \(2,\); pass \(n, d\).*points\[:, None\]"),
        (np.ones((2, 2, 2)), None, None, r"points has shape \(2, 2, 2\); pass \(n, d\)"),
        (np.ones((0, 3)), None, None, r"points has shape \(0, 3\); at least one row and one column"),
        (np.ones((3, 0)), None, None, r"points has shape \(3, 0\); at least one row and one column"),
        ([[1.0], [2.0, 3.0]], None, None, "points is not a regular array"),
        (np.ones((2, 1)), [1.0], None, r"weights has shape \(1,\); expected \(2,\), one mass a point"),
        (np.ones((2, 1)), [1.0, -0.5], None, r"weights\[1\] = -0\.5 is negative"),
        (np.ones((2, 1)), [1.0, math.nan], None, r"weights\[1\] = nan is not finite"),
        (np.ones((2, 1)), [0.0, 0.0], None, "weights are all zero; at least one point needs a positive mass"),
        (np.ones((2, 1)), None, [1.0], r"labels has shape \(1,\); expected \(2,\), one label a point"),
        (np.ones((2, 1)), None, [1.0, math.inf], r"labels\[1\] = inf is not finite"),
    ],
)
def test_bad_values_are_named(points: Any, weights: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedSet(points, weights, labels)


@pytest.mark.parametrize("points", [[["a", "b"]], [[1j, 2.0]], [[None]], "text"])
def test_points_that_are_no_real_numbers_are_a_type_error(points: Any) -> None:
    with pytest.raises(TypeError, match="pass real numbers"):
        WeightedSet(points)


@needs_torch
def test_weights_on_another_device_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="weights is on cpu, the data on meta; move one of them"):
        beside(torch.ones(2), torch.ones(2, device="meta"), "weights")


# ---- coresets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": None}, "either indices .* or points .*, not both or neither"),
        ({"points": np.ones((2, 1))}, "either indices .* or points .*, not both or neither"),
        ({"weights": [1.0]}, r"indices has shape \(2,\) .*; expected \(1,\) integers, one a weight"),
        ({"weights": [[1.0, 2.0]]}, r"weights has shape \(1, 2\); expected one dimension"),
        ({"weights": [1.0, -1.0]}, r"weights\[1\] = -1 is negative"),
        ({"weights": [1.0, math.inf]}, r"weights\[1\] = inf is not finite"),
        ({"indices": np.array([0.0, 2.0])}, "dtype float64; expected"),
        ({"indices": np.array([2, 0])}, "not strictly increasing; merge duplicates and sort"),
        ({"indices": np.array([1, 1])}, "not strictly increasing"),
        ({"indices": np.array([-1, 1])}, r"indices\[0\] = -1 is negative"),
        ({"size": 0}, "size = 0 is too small; pass at least 1"),
        ({"indices": None, "points": np.ones((3, 1))}, "points has 3 rows; expected 2, one a weight"),
    ],
)
def test_a_malformed_coreset_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coreset(**changes)


def test_a_size_that_is_no_integer_is_a_type_error() -> None:
    for size in (2.0, True, None, "2"):
        with pytest.raises(TypeError, match=r"size = .* is not an integer"):
            coreset(size=size)


@pytest.mark.parametrize("name", LIBRARIES)
def test_of_gathers_the_kept_rows_with_their_labels(name: str) -> None:
    xp = library(name)
    data = WeightedSet(xp.asarray([[0.0], [1.0], [2.0]]), labels=xp.asarray([7.0, 8.0, 9.0]))
    kept = coreset(indices=xp.asarray([0, 2]), weights=xp.asarray([1.5, 2.5])).of(data)
    assert to_host(kept.points).tolist() == [[0.0], [2.0]]
    assert to_host(kept.labels).tolist() == [7.0, 9.0]
    assert to_host(kept.weights).tolist() == [1.5, 2.5]
    assert type(kept.points) is type(data.points)


def test_of_gathers_labels_of_strings() -> None:
    data = WeightedSet(np.eye(3), labels=["red", "green", "blue"])
    assert coreset().of(data).labels.tolist() == ["red", "blue"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_loaded_coreset_gathers_from_data_of_any_library(name: str, tmp_path: Path) -> None:
    xp = library(name)
    coreset().save(tmp_path / "a.npz")
    data = WeightedSet(xp.asarray([[0.0], [1.0], [2.0]]), labels=xp.asarray([7.0, 8.0, 9.0]))
    kept = Coreset.load(tmp_path / "a.npz").of(data)
    assert to_host(kept.points).tolist() == [[0.0], [2.0]]
    assert to_host(kept.labels).tolist() == [7.0, 9.0]
    assert type(kept.weights) is type(kept.points) is type(data.points)


@needs_torch
def test_of_gathers_numpy_labels_beside_torch_points() -> None:
    torch = pytest.importorskip("torch")
    data = WeightedSet(torch.eye(3), labels=np.array(["red", "green", "blue"]))
    kept = coreset(indices=torch.tensor([0, 2]), weights=torch.tensor([1.0, 2.0])).of(data)
    assert kept.labels.tolist() == ["red", "blue"]


def test_of_refuses_data_that_are_not_the_parent() -> None:
    with pytest.raises(IndexError, match="index 2 is outside the 2 points given; pass the data"):
        coreset().of(WeightedSet(np.eye(2)))


def test_of_an_empty_coreset_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="the coreset is empty; draw a larger one"):
        coreset(indices=np.zeros(0, dtype=int), weights=np.zeros(0)).of(WeightedSet(np.eye(2)))


def test_free_points_need_no_parent() -> None:
    free = coreset(indices=None, points=np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert free.of(WeightedSet(np.eye(1))).points.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert free.support_size == 2
    assert free.total_weight == 3.0
    assert "support_size=2" in repr(free)


# ---- files


def bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


@st.composite
def coresets(draw: st.DrawFn) -> Coreset:
    k = draw(st.integers(0, 40) | st.just(3000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.pareto(0.3, k).astype(draw(st.sampled_from([np.float32, np.float64])))
    weights = np.where(np.isfinite(weights), weights, 0).astype(weights.dtype)
    evidence = Certificate(
        "ratio", "a \u03b5 in words", 0.1, draw(st.none() | st.just(math.inf)), 0.9, {"low": 1 / 3}
    )
    common = {
        "weights": weights,
        "size": draw(st.integers(1, 2**40)),
        "accuracy": Accuracy(draw(st.floats(0.0, math.inf)), draw(st.floats(0.0, 1.0))),
        "certificates": draw(st.sampled_from([(), (evidence,), (evidence, evidence)])),
    }
    if k and draw(st.booleans()):
        return Coreset(indices=None, points=rng.standard_normal((k, draw(st.integers(1, 5)))), **common)
    indices = np.sort(rng.choice(10 * k + 1, size=k, replace=False))
    return Coreset(indices=indices.astype(draw(st.sampled_from([np.int32, np.int64]))), **common)


@settings(max_examples=60)
@given(original=coresets())
def test_saving_and_loading_gives_the_same_bits(
    original: Coreset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("files") / "coreset.npz"
    original.save(path)
    loaded = Coreset.load(path)
    for name in ("weights", "indices", "points"):
        before, after = getattr(original, name), getattr(loaded, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert bits(after) == bits(before)
    for name in ("size", "accuracy", "certificates"):
        assert getattr(loaded, name) == getattr(original, name)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_coreset_of_any_library_can_be_saved(name: str, tmp_path: Path) -> None:
    xp = library(name)
    coreset(indices=xp.asarray([0, 2]), weights=xp.asarray([1.5, 2.5])).save(tmp_path / "a.npz")
    loaded = Coreset.load(str(tmp_path / "a.npz"))
    assert loaded.indices.tolist() == [0, 2]
    assert loaded.weights.tolist() == [1.5, 2.5]


def test_the_file_holds_no_pickle(tmp_path: Path) -> None:
    coreset().save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert {archive[name].dtype.kind for name in archive} <= set("iufU")


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.path.touch, ())


@pytest.mark.parametrize("field", ["header", "weights", "indices"])
def test_a_file_with_a_pickle_inside_is_refused_unexecuted(field: str, tmp_path: Path) -> None:
    coreset().save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as archive:
        arrays = dict(archive)
    arrays[field] = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not a saved coreset") as caught:
        Coreset.load(tmp_path / "bad.npz")
    assert "allow_pickle=False" in str(caught.value.__cause__)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))  # the trap does work
    assert (tmp_path / "sprung").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", data=np.ones(3))
    with pytest.raises(ValueError, match="is not a saved coreset"):
        Coreset.load(tmp_path / "other.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(ValueError, match="is not a saved coreset"):
        Coreset.load(tmp_path / "single.npy")
    np.savez(
        tmp_path / "future.npz", weights=np.ones(1), header=np.array('{"kind": "coreset", "format": 99}')
    )
    with pytest.raises(ValueError, match="has format 99; this version reads 1"):
        Coreset.load(tmp_path / "future.npz")
    with pytest.raises(FileNotFoundError):
        Coreset.load(tmp_path / "missing.npz")


def test_a_failure_while_writing_leaves_the_old_file_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    coreset().save(path)
    before = path.read_bytes()

    def half_written(file: Any, **arrays: np.ndarray) -> None:
        file.write(b"half a coreset")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", half_written)
    with pytest.raises(OSError, match="no space left"):
        coreset(weights=[9.0, 9.0]).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_saving_twice_replaces_the_file(tmp_path: Path) -> None:
    coreset().save(tmp_path / "a.npz")
    coreset(weights=[9.0, 9.0]).save(tmp_path / "a.npz")
    assert Coreset.load(tmp_path / "a.npz").weights.tolist() == [9.0, 9.0]
