"""Frames become weighted sets and come back as frames; what cannot be used is named."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from coresets import Accuracy, AssumptionError, Coreset, WeightedSet
from coresets.frames import is_frame, kept_rows, weighted_set
from coresets.svm import LabelledSet

pytest.importorskip("narwhals")

CONTENT = {
    "a": [1.0, 2.0, 3.0, 4.0],
    "b": [1, 2, 3, 4],
    "t": [True, False, True, True],
    "y": ["u", "v", "u", "v"],
    "m": [1.0, 2.0, 1.0, 2.0],
}
KINDS = ["pandas", "polars", "pyarrow"]


def make(kind: str, content: dict[str, Any] = CONTENT) -> Any:
    module = pytest.importorskip(kind)
    return module.table(content) if kind == "pyarrow" else module.DataFrame(content)


def column(frame: Any, name: str) -> np.ndarray:
    return np.asarray(frame[name].to_numpy())


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_columns_become_points_labels_and_masses(self, kind: str):
        data = weighted_set(make(kind), label="y", weight="m")
        assert np.array_equal(data.points, np.array([[1, 1, 1], [2, 2, 0], [3, 3, 1], [4, 4, 1]]))
        assert data.labels.tolist() == CONTENT["y"]
        assert data.weights.tolist() == CONTENT["m"]

    def test_named_columns_come_in_the_order_named(self, kind: str):
        data = weighted_set(make(kind), columns=["b", "a"])
        assert data.points[:, 0].tolist() == CONTENT["b"]
        assert data.points.shape == (4, 2)

    def test_a_coreset_comes_back_as_a_frame_of_the_same_kind_with_all_columns(self, kind: str):
        frame = make(kind)
        coreset = Coreset(
            indices=np.array([1, 3]), weights=np.array([1.5, 2.5]), size=2, accuracy=Accuracy(0.5, 0.1)
        )
        kept = kept_rows(frame, coreset)
        assert type(kept) is type(frame)
        names = kept.column_names if kind == "pyarrow" else list(kept.columns)
        assert names == [*CONTENT, "weight"]
        assert column(kept, "y").tolist() == ["v", "v"]
        assert column(kept, "weight").tolist() == [1.5, 2.5]

    def test_columns_that_hold_no_numbers_are_named(self, kind: str):
        with pytest.raises(TypeError, match=r"'y' \(String\).*columns="):
            weighted_set(make(kind))

    def test_missing_values_are_named(self, kind: str):
        frame = make(kind, {"a": [1.0, None, 2.0], "b": [1, 2, 3]})
        with pytest.raises(ValueError, match=r"'a'"):
            weighted_set(frame)

    def test_infinite_values_are_named_with_their_row(self, kind: str):
        frame = make(kind, {"a": [1.0, 2.0, np.inf], "b": [1, 2, 3]})
        with pytest.raises(ValueError, match=r"column 'a'\[2\] = inf"):
            weighted_set(frame)

    def test_a_label_with_one_class_is_refused(self, kind: str):
        frame = make(kind, {"a": [1.0, 2.0], "y": ["u", "u"]})
        with pytest.raises(AssumptionError, match="'u' in every row"):
            weighted_set(frame, label="y")

    def test_a_missing_label_is_refused(self, kind: str):
        frame = make(kind, {"a": [1.0, 2.0, 3.0], "y": ["u", None, "v"]})
        with pytest.raises(ValueError, match=r"label 'y' is missing in 1 rows"):
            weighted_set(frame, label="y")

    def test_a_label_of_dates_is_refused(self, kind: str):
        frame = make(kind, {"a": [1.0, 2.0], "y": [dt.datetime(2020, 1, day) for day in (1, 2)]})
        with pytest.raises(TypeError, match="label 'y' holds Datetime"):
            weighted_set(frame, label="y")

    @pytest.mark.parametrize("argument", ["label", "weight"])
    def test_an_unknown_column_is_refused_with_those_that_are_there(self, kind: str, argument: str):
        with pytest.raises(ValueError, match=r"'zz' is not a column; there are a, b"):
            weighted_set(make(kind), **{argument: "zz"})
        with pytest.raises(ValueError, match="no column 'zz'"):
            weighted_set(make(kind), columns=["zz"])

    def test_a_column_of_weights_is_replaced_only_when_asked(self, kind: str):
        frame = make(kind)
        coreset = Coreset(indices=np.array([0]), weights=np.array([6.0]), size=1, accuracy=Accuracy(1, 0.5))
        with pytest.raises(ValueError, match="has a column 'm' already"):
            kept_rows(frame, coreset, weight="m")
        assert column(kept_rows(frame, coreset, weight="m", replace=True), "m").tolist() == [6.0]

    def test_frames_are_recognised(self, kind: str):
        assert is_frame(make(kind))


def test_the_index_of_a_pandas_frame_is_kept():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(CONTENT, index=[9, 8, 7, 6])
    coreset = Coreset(
        indices=np.array([1, 2]), weights=np.array([1.0, 3.0]), size=2, accuracy=Accuracy(0.5, 0.1)
    )
    kept = kept_rows(frame, coreset)
    assert kept.index.tolist() == [8, 7]
    assert kept.loc[7, "weight"] == 3.0
    assert "weight" not in frame.columns


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_categories_become_strings(kind: str):
    module = pytest.importorskip(kind)
    values = ["p", "q", "p"]
    series = module.Series(values, dtype="category" if kind == "pandas" else module.Categorical)
    frame = module.DataFrame({"a": [1.0, 2.0, 3.0], "y": series})
    assert weighted_set(frame, label="y").labels.tolist() == values


def test_single_precision_is_kept_if_all_columns_have_it():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1.0], "b": [2.0]}, schema={"a": polars.Float32, "b": polars.Float32})
    assert weighted_set(frame).points.dtype == np.float32
    assert weighted_set(frame.with_columns(c=polars.lit(1.0))).points.dtype == np.float64


def test_a_lazy_frame_is_refused_without_being_computed():
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match="collect"):
        weighted_set(polars.LazyFrame({"a": [1.0]}))


def test_labels_and_masses_may_be_arrays_beside_a_frame():
    frame = make("polars", {"a": [1.0, 2.0]})
    data = weighted_set(frame, label=np.array([0, 1]), weight=np.array([2.0, 3.0]))
    assert data.d == 1
    assert data.weights.tolist() == [2.0, 3.0]


def test_sparse_matrices_become_labelled_sets():
    data = weighted_set(sparse.eye(4, format="csr"), label=[0, 1, 0, 1])
    assert isinstance(data, LabelledSet)
    with pytest.raises(TypeError, match="toarray"):
        weighted_set(sparse.eye(4, format="csr"))


def test_arrays_become_weighted_sets():
    assert isinstance(weighted_set(np.eye(3)), WeightedSet)
    assert not is_frame(np.eye(3))
    assert not is_frame(sparse.eye(3))
    with pytest.raises(TypeError, match="names a column"):
        weighted_set(np.eye(3), label="y")
    with pytest.raises(TypeError, match="columns are names"):
        weighted_set(np.eye(3), columns=["a"])


def test_a_coreset_of_something_else_is_refused():
    frame = make("polars")
    free = Coreset(indices=None, points=np.eye(2), weights=np.ones(2), size=2, accuracy=Accuracy(0.5, 0.1))
    with pytest.raises(TypeError, match="free points"):
        kept_rows(frame, free)
    beyond = Coreset(indices=np.array([9]), weights=np.ones(1), size=1, accuracy=Accuracy(0.5, 0.1))
    with pytest.raises(IndexError, match="4 rows"):
        kept_rows(frame, beyond)
    with pytest.raises(TypeError, match=r"coreset\.of"):
        kept_rows(np.eye(3), beyond)


@given(st.lists(st.tuples(st.integers(-9, 9), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_a_frame_says_the_same_as_its_array(rows: list[tuple[int, float]]):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"i": [i for i, _ in rows], "x": [x for _, x in rows]})
    assert np.array_equal(weighted_set(frame).points, np.array(rows, dtype=np.float64))
