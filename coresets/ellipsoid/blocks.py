"""Points that are read block by block, several times over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from array_api_compat import is_dask_array

from coresets._validate import check_points
from coresets.weighted_set import to_host

__all__ = ["Blocks"]


class Blocks:
    """A source of (n_b, d) blocks of points that can be read again from the start.

    Parameters
    ----------
    source : iterable or callable
        Either something that gives a fresh iterator each time it is iterated over, such as a list of
        arrays or an object with ``__iter__``, or a function without arguments that returns one, such
        as ``lambda: (np.load(path) for path in paths)``. Every pass must give the same rows in the
        same order. Blocks may differ in size; empty ones are skipped.

    Raises
    ------
    TypeError
        If the source is a one-shot iterator, such as a generator: several passes are needed.

    Notes
    -----
    Blocks are validated whenever they are read, and each pass after the first checks that the number
    of rows has not changed.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import Blocks
    >>> halves = Blocks([np.zeros((2, 3)), np.ones((1, 3))])
    >>> [block.shape for block in halves]
    [(2, 3), (1, 3)]
    """

    def __init__(self, source: Iterable[np.ndarray] | Callable[[], Iterable[np.ndarray]]) -> None:
        if not callable(source):
            if not isinstance(source, Iterable):
                raise TypeError(
                    f"source is a {type(source).__name__}; pass an iterable of (n_b, d) blocks, or a "
                    "function that returns one"
                )
            if iter(source) is source:
                raise TypeError(
                    f"source is a one-shot {type(source).__name__}, but the points are read several times; "
                    "pass a list, or a function that returns a new iterator"
                )
        self._source = source

    def __iter__(self) -> Iterator[np.ndarray]:
        """Validated blocks of one pass: finite float32 or float64 matrices with equal numbers of columns."""
        columns: int | None = None
        blocks = self._source() if callable(self._source) else self._source
        if not isinstance(blocks, Iterable):
            raise TypeError(
                f"source() returned a {type(blocks).__name__}; let it return an iterable of blocks"
            )
        for number, block in enumerate(blocks):
            if getattr(block, "ndim", 0) == 2 and len(block) == 0:
                continue
            if is_dask_array(block):  # one block of a collection, which is small enough to be looked at
                block = block.compute()  # noqa: PLW2901
            points = to_host(check_points(block, name=f"block {number}"))
            if points.ndim != 2:
                raise ValueError(f"block {number} has shape {points.shape}; pass (n_b, d)")
            if columns is not None and points.shape[1] != columns:
                raise ValueError(
                    f"block {number} has {points.shape[1]} columns, those before it {columns}; "
                    "all need the same"
                )
            columns = points.shape[1]
            yield points

    def __repr__(self) -> str:
        return f"Blocks({self._source!r})"
