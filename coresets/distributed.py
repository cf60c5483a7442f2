"""Coresets of data on a cluster: merge-and-reduce over the partitions of Dask collections.

Every partition is the stream of one shard, numbered by its place, and neighbours are merged in a fixed
tree of pairs. Nothing depends on which worker computes what, when, or how often: a partition that is
computed again, because its worker was lost, gives the same node. The result is that of the same partitions
in one process. What a task needs is one partition; what it sends is one stream, a few nodes.

Partitions are made by :func:`from_array`, :func:`from_dataframe` or :func:`from_parquet`, or are any delayed
weighted sets. Needs the extra ``dask``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from coresets._random import Rng
from coresets.reduction import Reducer
from coresets.streams import Budget, MergeReduce, StreamCoreset
from coresets.streams._identity import entropy
from coresets.weighted_set import WeightedSet

__all__ = ["from_array", "from_dataframe", "from_parquet", "merge_reduce"]

Delayed = Any
T = TypeVar("T")


def _dask(module: str) -> Any:
    """A module of Dask, which is an optional dependency."""
    from importlib import import_module  # noqa: PLC0415 - beside its only use

    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed for data on a cluster; install it by: pip install 'coresets[dask]'"
        ) from error


def merge_reduce(
    partitions: Sequence[Delayed], reducer: Reducer, budget: Budget, *, block: int, rng: Rng
) -> Delayed:
    """Coreset of all partitions, by merge-and-reduce.

    Parameters
    ----------
    partitions : sequence of dask.delayed.Delayed of WeightedSet
        At least one; plain weighted sets do as well. Their order and number matter.
    reducer, budget, block, rng
        As those of :class:`~coresets.streams.MergeReduce`. A partition should hold several blocks:
        what is left of each waits for the rest of others.

    Returns
    -------
    dask.delayed.Delayed of StreamCoreset
        Call ``compute()``; positions count the rows through all partitions.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or there are no partitions.

    Examples
    --------
    >>> import dask.array
    >>> import numpy as np
    >>> from coresets import LeastSquares, SensitivityReducer
    >>> from coresets.distributed import from_array, merge_reduce
    >>> from coresets.streams import NodeSize
    >>> points = dask.array.from_array(np.random.default_rng(0).standard_normal((4000, 3)), chunks=(1000, 3))
    >>> reducer = SensitivityReducer(LeastSquares())
    >>> coreset = merge_reduce(from_array(points), reducer, NodeSize(200), block=500, rng=0)
    >>> coreset.compute(scheduler="synchronous").ledger.reductions  # 8 blocks
    15
    """
    delayed = _dask("dask").delayed
    partitions = list(partitions)
    if not partitions:
        raise ValueError("partitions is empty; pass at least one")
    # Fails here, and not on a worker, if an argument is wrong.
    MergeReduce(reducer, budget, block=block, rng=0)
    settings = {"block": block, "rng": entropy(rng)}
    streams = [
        delayed(_stream_of, pure=False)(data, reducer, budget, settings, number)
        for number, data in enumerate(partitions)
    ]
    return delayed(_result_of, pure=False)(in_pairs(streams, delayed(_merged, pure=False)))


def in_pairs(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """Fold neighbours in a balanced tree whose shape depends on their number alone."""
    values = list(values)
    while len(values) > 1:
        pairs = [combine(*values[i : i + 2]) for i in range(0, len(values) - 1, 2)]
        values = pairs + values[2 * len(pairs) :]
    return values[0]


def _stream_of(
    data: WeightedSet, reducer: Reducer, budget: Budget, settings: dict[str, Any], number: int
) -> MergeReduce:
    """The stream of one partition."""
    stream = MergeReduce(reducer, budget, shard=number, **settings)
    stream.push(data)
    return stream


def _merged(one: MergeReduce, other: MergeReduce) -> MergeReduce:
    """Two streams as one; neither is changed, since tasks may share or repeat their inputs."""
    both = one.copy()
    both.merge(other)
    return both


def _result_of(stream: MergeReduce) -> StreamCoreset:
    return stream.result()


def _of(number: int, points: Any, weights: Any = None, labels: Any = None) -> WeightedSet:
    """The weighted set of one partition, with its number in what goes wrong."""
    try:
        points = np.asarray(points)
        if len(points) == 0:
            raise ValueError("there are no rows; drop empty partitions, or repartition")
        return WeightedSet(
            points,
            None if weights is None else np.asarray(weights),
            None if labels is None else np.asarray(labels),
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"partition {number}: {error}") from error


def from_array(points: Any, weights: Any = None, labels: Any = None) -> list[Delayed]:
    """Partitions of Dask arrays, one a chunk of rows.

    Parameters
    ----------
    points : dask.array.Array of shape (n, d)
        Numbers, in chunks of known length that hold whole rows.
    weights, labels : dask.array.Array of shape (n,), optional
        In the same chunks.

    Raises
    ------
    TypeError
        If an argument is no Dask array, or holds Python objects.
    ValueError
        If a shape is wrong, or the chunks are of unknown length, empty, split columns, or do not match.
    """
    array = _dask("dask.array").Array
    delayed = _dask("dask").delayed
    columns = {"points": points, "weights": weights, "labels": labels}
    given = {name: value for name, value in columns.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, array):
            raise TypeError(f"{name} is a {type(value).__name__}; pass a dask.array.Array")
        if value.dtype == object:
            raise TypeError(f"{name} holds Python objects; convert it, {name}.astype(...)")
        if value.ndim != (2 if name == "points" else 1):
            raise ValueError(
                f"{name} has shape {value.shape}; pass {'(n, d)' if name == 'points' else '(n,)'}"
            )
        if any(np.isnan(length) for lengths in value.chunks for length in lengths):
            raise ValueError(f"the chunks of {name} are of unknown length; call {name}.compute_chunk_sizes()")
        if value.chunks[0] != points.chunks[0]:
            raise ValueError(
                f"{name} has chunks of {value.chunks[0]} rows, points of {points.chunks[0]}; "
                f"call {name}.rechunk((points.chunks[0],))"
            )
    if len(points.chunks[1]) > 1:
        raise ValueError("the chunks of points split its columns; call points.rechunk({1: -1})")
    if 0 in points.chunks[0]:
        raise ValueError(f"chunk {points.chunks[0].index(0)} of points is empty; call points.rechunk()")
    blocks = {name: value.to_delayed().ravel() for name, value in given.items()}
    return [
        delayed(_of, pure=False)(number, **{name: chunks[number] for name, chunks in blocks.items()})
        for number in range(len(points.chunks[0]))
    ]


def _of_frame(
    number: int, frame: Any, points: list[str], weights: str | None, labels: str | None
) -> WeightedSet:
    """The weighted set of one partition of a table."""
    table = frame[points]
    for name, dtype in table.dtypes.items():
        if getattr(dtype, "kind", "O") not in "biuf":
            raise TypeError(
                f"partition {number}: column {name!r} has dtype {dtype}; convert it to numbers first"
            )
    named = None if labels is None else frame[labels]
    if named is not None and named.dtype.kind not in "biuf":
        named = np.asarray(named.astype(str), dtype=np.str_)
    return _of(number, table.to_numpy(), None if weights is None else frame[weights].to_numpy(), named)


def _names(frame: Any, points: Sequence[str] | None, weights: str | None, labels: str | None) -> list[str]:
    """Columns of the points; all the others by default."""
    known = [str(name) for name in frame.columns]
    taken = {name for name in (weights, labels) if name is not None}
    chosen = [name for name in known if name not in taken] if points is None else list(points)
    for name in (*chosen, *taken):
        if name not in known:
            raise ValueError(f"there is no column {name!r}; there are {', '.join(known)}")
    if not chosen:
        raise ValueError("no column is left for the points")
    return chosen


def from_dataframe(
    frame: Any, *, points: Sequence[str] | None = None, weights: str | None = None, labels: str | None = None
) -> list[Delayed]:
    """Partitions of a Dask data frame.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        Its partitions, none of them empty.
    points : sequence of str, optional
        Columns with the coordinates, numbers all; those that are neither weights nor labels by default.
    weights, labels : str, optional
        Columns with the masses, and with the labels; labels that are no numbers become strings.

    Raises
    ------
    TypeError
        If the frame is none of Dask's, or, on computing, a column holds Python objects.
    ValueError
        If a column is not there, or, on computing, a partition is empty.
    """
    if not isinstance(frame, _dask("dask.dataframe").DataFrame):
        raise TypeError(f"frame is a {type(frame).__name__}; pass a dask.dataframe.DataFrame")
    of = partial(_of_frame, points=_names(frame, points, weights, labels), weights=weights, labels=labels)
    delayed = _dask("dask").delayed
    return [delayed(of, pure=False)(number, part) for number, part in enumerate(frame.to_delayed())]


def from_parquet(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    points: Sequence[str] | None = None,
    weights: str | None = None,
    labels: str | None = None,
) -> list[Delayed]:
    """Partitions of Parquet files, as Dask reads them.

    Parameters
    ----------
    paths : path-like or sequence of path-like
        A file, a folder, or several files in the order in which their rows count.
    points, weights, labels
        Columns, as of :func:`from_dataframe`.
    """
    alone = isinstance(paths, (str, os.PathLike))
    names = os.fspath(paths) if alone else [os.fspath(path) for path in paths]  # type: ignore[arg-type, union-attr]
    if not names:
        raise ValueError("paths is empty; pass at least one file")
    frame = _dask("dask.dataframe").read_parquet(names, aggregate_files=False, split_row_groups=False)
    return from_dataframe(frame, points=points, weights=weights, labels=labels)
