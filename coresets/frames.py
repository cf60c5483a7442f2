"""Data frames, sparse matrices and arrays as weighted sets, and coresets as frames again.

Frames of pandas, Polars and PyArrow are read through narwhals (extra ``frames``), of which nothing is
imported before a frame is seen. The rows of a coreset come back as a frame of the same kind, all columns
included, with one more for the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from coresets._validate import as_array, check_finite
from coresets.errors import AssumptionError
from coresets.svm.data import LabelledSet
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["is_frame", "kept_rows", "weighted_set"]

_SHOWN = 5  # columns named in a message


def _narwhals() -> Any:
    try:
        import narwhals.stable.v1 as narwhals  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError(
            "narwhals is needed to read data frames; install it by: pip install 'coresets[frames]'"
        ) from error
    return narwhals


def is_frame(data: object) -> bool:
    """Whether the object is a data frame with named columns: of pandas, Polars, PyArrow or their like."""
    kind = type(data)  # asking a lazy frame itself would make it work
    return hasattr(kind, "columns") and any(
        hasattr(kind, name) for name in ("__dataframe__", "__arrow_c_stream__", "dtypes", "collect")
    )


def weighted_set(
    data: Any,
    *,
    label: Any = None,
    weight: Any = None,
    columns: Sequence[str] | None = None,
) -> WeightedSet | LabelledSet:
    """Points, labels and masses of a frame, a sparse matrix or an array.

    Parameters
    ----------
    data : data frame, sparse matrix or array of shape (n, d)
        Of a frame, the columns that are neither label nor weight are the coordinates.
    label : str or array of shape (n,), optional
        Name of a column of a frame, or the labels. Labels that are no numbers become strings.
    weight : str or array of shape (n,), optional
        Name of a column of a frame, or the masses; ones by default.
    columns : sequence of str, optional
        Columns of a frame that are the coordinates, instead of all the others.

    Returns
    -------
    WeightedSet or LabelledSet
        The latter for sparse matrices, which need labels of two classes.

    Raises
    ------
    TypeError
        If columns hold no numbers, or a frame is lazy.
    ValueError
        If a column is not there, or a value is missing or infinite.
    AssumptionError
        If labels that are no numbers have one value only.
    ImportError
        If a frame is given and narwhals is not installed.

    Examples
    --------
    >>> import pandas as pd
    >>> from coresets import LeastSquares, SensitivityReducer
    >>> from coresets.frames import kept_rows, weighted_set
    >>> frame = pd.DataFrame({"a": range(6), "b": [1, 0, 2, 5, 3, 1], "y": [2.0, 1, 4, 8, 7, 6]})
    >>> data = weighted_set(frame, label="y")
    >>> data.n, data.d
    (6, 2)
    >>> coreset = SensitivityReducer(LeastSquares()).reduce(data, size=3, rng=0)
    >>> list(kept_rows(frame, coreset).columns)
    ['a', 'b', 'y', 'weight']
    """
    if not is_frame(data):
        return _of_array(data, label, weight, columns)
    narwhals = _narwhals()
    table = narwhals.from_native(data)
    if isinstance(table, narwhals.LazyFrame):
        raise TypeError("the frame is lazy; call its method collect(), or compute(), first")
    labels = _column(table, label, "label")
    weights = _column(table, weight, "weight")
    taken = [name for name in (label, weight) if isinstance(name, str)]
    chosen = [name for name in table.columns if name not in taken] if columns is None else list(columns)
    _require_columns(table, chosen)
    if not chosen:
        raise ValueError("no column is left for the coordinates")
    points = _points(table, chosen)
    masses = weights
    if weights is not None and isinstance(weight, str):
        _require_numbers(table, [weight])
        masses = _numbers(table, weight)
    values = labels
    if labels is not None and isinstance(label, str):
        values = _labels(table, label)
    return WeightedSet(points, masses, values)


def kept_rows(data: Any, coreset: Coreset, *, weight: str = "weight", replace: bool = False) -> Any:
    """Rows of a frame that a coreset kept, with their weights.

    Parameters
    ----------
    data : data frame
        The frame that was reduced, in the same order.
    coreset : Coreset
        A coreset of it, by indices.
    weight : str
        Name of the column with the coreset's weights.
    replace : bool
        Whether a column of that name may be replaced, as it should be if it held the masses.

    Returns
    -------
    data frame
        Of the same kind, with all columns; the index of a pandas frame is kept.

    Raises
    ------
    TypeError
        If the data are no frame, or the coreset has free points.
    ValueError
        If there is a column of that name.
    IndexError
        If the frame has too few rows.
    """
    if not is_frame(data):
        raise TypeError(f"data is a {type(data).__name__}; use coreset.of(data) for weighted sets")
    if coreset.indices is None:
        raise TypeError("the coreset has free points, which are no rows of the frame")
    narwhals = _narwhals()
    table = narwhals.from_native(data, eager_only=True)
    if weight in table.columns and not replace:
        raise ValueError(
            f"the frame has a column {weight!r} already; pass another name as weight, or replace=True"
        )
    indices = to_host(coreset.indices)
    if indices.size and int(indices[-1]) >= len(table):
        raise IndexError(
            f"index {int(indices[-1])} is outside the {len(table)} rows; pass the frame that was reduced"
        )
    kept = table[indices.tolist()]
    weights = to_host(coreset.weights).astype(np.float64)
    series = narwhals.new_series(
        weight, weights, narwhals.Float64, native_namespace=narwhals.get_native_namespace(table)
    )
    native = narwhals.to_native(kept)
    if hasattr(native, "index") and hasattr(native, "loc"):  # pandas aligns by index, which is not wanted
        native = native.copy()
        native[weight] = weights
        return native
    return narwhals.to_native(kept.with_columns(series))


def _of_array(data: Any, label: Any, weight: Any, columns: Any) -> WeightedSet | LabelledSet:
    for name, value in (("label", label), ("weight", weight)):
        if isinstance(value, str):
            raise TypeError(f"{name} = {value!r} names a column, but data has no names; pass the array")
    if columns is not None:
        raise TypeError("columns are names, but data has none; select them beforehand, data[:, indices]")
    if not sparse.issparse(data):
        return WeightedSet(data, weight, label)
    if label is None:
        raise TypeError(
            "a sparse matrix needs labels of two classes; other problems take dense points, data.toarray()"
        )
    return LabelledSet(data, label, weight)


def _require_columns(table: Any, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            known = ", ".join(str(known) for known in table.columns)
            raise ValueError(f"there is no column {name!r}; there are {known}")
    if len(set(names)) != len(names):
        raise ValueError("a column is named twice")


def _column(table: Any, given: Any, role: str) -> Any:
    """A column by its name, checked to be there; anything else as it is."""
    if not isinstance(given, str):
        return given
    if given not in table.columns:
        known = ", ".join(str(name) for name in table.columns)
        raise ValueError(f"{role} = {given!r} is not a column; there are {known}")
    return table[given]


def _is_number(dtype: Any) -> bool:
    return bool(dtype.is_numeric()) or str(dtype) == "Boolean"


def _require_numbers(table: Any, names: Sequence[str]) -> None:
    """Raise, naming the columns, unless all hold numbers and none lacks a value."""
    others = [f"{name!r} ({table[name].dtype})" for name in names if not _is_number(table[name].dtype)]
    if others:
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise TypeError(
            f"columns that hold no numbers: {shown}; encode them, or choose others with columns=[...]"
        )
    missing = [(name, int(table[name].null_count())) for name in names]
    short = [f"{name!r} ({count:,} rows)" for name, count in missing if count]
    if short:
        shown = ", ".join(short[:_SHOWN]) + (", ..." if len(short) > _SHOWN else "")
        raise ValueError(f"columns with missing values: {shown}; drop or impute these rows")


def _numbers(table: Any, name: str) -> npt.NDArray[Any]:
    """One column as numbers, checked to be finite."""
    values = np.asarray(table[name].to_numpy())
    if values.dtype.kind not in "biuf":  # decimals, and pandas' columns of objects
        values = values.astype(np.float64)
    check_finite(as_array(values, f"column {name!r}"), f"column {name!r}")
    return values


def _points(table: Any, names: Sequence[str]) -> npt.NDArray[Any]:
    """All coordinates, in single precision if all columns are."""
    _require_numbers(table, names)
    kind = np.float64
    if all(str(table[name].dtype) == "Float32" for name in names):
        kind = np.float32  # type: ignore[assignment]
    points = np.empty((len(table), len(names)), dtype=kind)
    for place, name in enumerate(names):
        points[:, place] = _numbers(table, name)
    return points


def _labels(table: Any, name: str) -> npt.NDArray[Any]:
    """One column as labels: numbers as they are, all else as strings."""
    column = table[name]
    if int(column.null_count()):
        raise ValueError(
            f"the label {name!r} is missing in {int(column.null_count()):,} rows; drop or impute these rows"
        )
    if _is_number(column.dtype):
        return _numbers(table, name)
    narwhals = _narwhals()
    if str(column.dtype).partition("(")[0] not in {"String", "Categorical", "Enum", "Object"}:
        raise TypeError(f"the label {name!r} holds {column.dtype}; pass numbers, strings or categories")
    values = np.asarray(column.cast(narwhals.String).to_numpy(), dtype=np.str_)
    if values.size and bool(np.all(values == values[0])):
        raise AssumptionError(
            f"the label {name!r} is {str(values[0])!r} in every row; at least two classes are needed"
        )
    return values
