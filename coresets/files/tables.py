"""Tables in files: their columns, their rows block by block, and some of their rows.

A table is read in bounded memory however large the file is; nothing in it is executed, and no object is
unpickled. What is kept of it is small, and goes into a file by :func:`~coresets.files.writing.write_rows`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from coresets.weighted_set import WeightedSet

__all__ = ["BLOCK_ROWS", "Columns", "Kept", "Selection", "Table", "open_table", "suffix_of"]

BLOCK_ROWS = 65_536
SUFFIXES = (".csv", ".npz", ".parquet")

Columns = Mapping[str, npt.NDArray[Any]]  # rows of some columns, all of one length


class Kept(Protocol):
    """Some rows of a table, in memory, with all their columns."""

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Columns as arrays, none of them of Python objects."""

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``."""


class Table(Protocol):
    """Rows with named columns, in a file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""

    @property
    def numeric(self) -> frozenset[str]:
        """Columns that hold numbers."""

    @property
    def rows(self) -> int | None:
        """Number of rows, or None if that takes a pass over the file."""

    def blocks(self, numbers: Sequence[str], labels: Sequence[str] = ()) -> Iterator[Columns]:
        """Rows of some columns in order, a block at a time.

        Parameters
        ----------
        numbers : sequence of str
            Columns that have to be numbers.
        labels : sequence of str
            Columns that may be strings as well, which come back as such.

        Raises
        ------
        TypeError
            If a column holds something else.
        ValueError
            If a value is missing, or the file is damaged.
        """

    def take(self, positions: npt.NDArray[np.int64]) -> Kept:
        """Rows at strictly increasing positions, with all columns."""


@dataclass(frozen=True)
class Selection:
    """Which columns of a table are what.

    Parameters
    ----------
    label : str, optional
        Column with the labels or targets.
    weight : str, optional
        Column with the masses.
    columns : tuple of str, optional
        Columns with the coordinates; all the others by default.
    """

    label: str | None = None
    weight: str | None = None
    columns: tuple[str, ...] | None = None

    def points(self, table: Table) -> tuple[str, ...]:
        """Columns of the coordinates.

        Raises
        ------
        ValueError
            If a column is not there, or none is left.
        TypeError
            If a column holds no numbers.
        """
        named = [name for name in (self.label, self.weight) if name is not None]
        for name in (*named, *(self.columns or ())):
            if name not in table.names:
                raise ValueError(
                    f"{table.path} has no column {name!r}; there are {', '.join(table.names) or 'none'}"
                )
        chosen = self.columns or tuple(name for name in table.names if name not in named)
        if not chosen:
            raise ValueError(f"no column of {table.path} is left for the coordinates")
        if len(set(chosen)) != len(chosen) or set(chosen) & set(named):
            raise ValueError("a column is named twice")
        others = [name for name in chosen if name not in table.numeric]
        if others:
            raise TypeError(
                f"columns of {table.path} that hold no numbers: {', '.join(map(repr, others[:5]))}"
                f"{', ...' if len(others) > 5 else ''}; leave them out by naming those to use"
            )
        return chosen

    def blocks(self, table: Table) -> Iterator[WeightedSet]:
        """Rows of a table as weighted sets, a block at a time.

        Raises
        ------
        TypeError, ValueError
            As :meth:`points` and :meth:`Table.blocks`, and if a value is not finite or a mass negative.
        """
        points = self.points(table)
        numbers = (*points, *(() if self.weight is None else (self.weight,)))
        first = 0
        for block in table.blocks(numbers, () if self.label is None else (self.label,)):
            n = len(block[points[0]])
            for name in numbers:
                _check_finite(block[name], name, first)
            weights = None
            if self.weight is not None:
                weights = np.asarray(block[self.weight], dtype=np.float64)
                if weights.min(initial=0.0) < 0.0:
                    row = first + int(np.argmin(weights))
                    raise ValueError(
                        f"column {self.weight!r} is {weights.min():g} in row {row}; pass non-negative masses"
                    )
            rows, masses = _stacked([block[name] for name in points]), weights
            labels = None if self.label is None else block[self.label]
            if masses is None or masses.any():
                yield WeightedSet(rows, masses, labels)
            else:
                raise ValueError(
                    f"column {self.weight!r} is zero from row {first} to {first + n - 1}; leave such rows out"
                )
            first += n


def _check_finite(values: npt.NDArray[Any], name: str, first: int) -> None:
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(
            f"column {name!r} holds {values[row]} in row {first + row}, which is not finite; drop such rows"
        )


def _stacked(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Columns, some of which may be matrices, side by side; single precision if all have it."""
    kind = np.float32 if all(column.dtype == np.float32 for column in columns) else np.float64
    widths = [1 if column.ndim == 1 else column.shape[1] for column in columns]
    points = np.empty((len(columns[0]), sum(widths)), dtype=kind)
    place = 0
    for column, width in zip(columns, widths, strict=True):
        points[:, place : place + width] = column if column.ndim == 2 else column[:, None]
        place += width
    return points


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Format of a file by its name: ``.csv``, ``.npz`` or ``.parquet``.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    """
    suffix = Path(path).suffix.lower()
    suffix = ".parquet" if suffix == ".pq" else suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{os.fspath(path)} is none of {', '.join(SUFFIXES)}; name it after its format")
    return suffix


def open_table(path: str | os.PathLike[str], *, like: str | None = None) -> Table:
    """The table in a file.

    Parameters
    ----------
    path : path-like
        CSV with a header, NPZ (arrays of one length; those with two axes are several columns), or Parquet.
    like : str, optional
        Of an NPZ file with arrays of several lengths, one array whose length the rows have.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the name does not end in .csv, .npz or .parquet, or the file is something else.
    ImportError
        If it is CSV or Parquet and PyArrow is not installed (extra ``files``).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from coresets.files import Selection, open_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/data.npz", X=np.eye(3), y=np.array([1, -1, 1]))
    ...     table = open_table(f"{folder}/data.npz")
    ...     (block,) = Selection(label="y").blocks(table)
    >>> table.names, table.rows, block.d
    (('X', 'y'), 3, 3)
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if suffix == ".npz":
        from coresets.files.archives import ArchiveTable  # noqa: PLC0415 - it builds on this module

        return ArchiveTable.open(path, like)
    from coresets.files.arrow import CSVTable, ParquetTable  # noqa: PLC0415 - likewise

    kind: Any = CSVTable if suffix == ".csv" else ParquetTable
    return kind.open(path)
