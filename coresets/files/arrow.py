"""Tables in CSV and Parquet files, through PyArrow (extra ``files``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets.files.tables import BLOCK_ROWS, Columns, Kept

__all__ = ["ArrowRows", "CSVTable", "ParquetTable", "pyarrow"]

_CSV_BYTES = 2**22  # of a block of text; a single row must not be longer


def pyarrow(module: str = "pyarrow") -> Any:
    """PyArrow, or a module of it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            "pyarrow is needed for CSV and Parquet files; install it by: pip install 'coresets[files]'"
        ) from error


@dataclass(frozen=True, eq=False)
class ArrowRows:
    """Rows of a file, as PyArrow holds them."""

    table: Any

    def to_arrow(self) -> Any:
        """As they are."""
        return self.table

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """One array a column; what is neither number nor date becomes a string."""
        found = {}
        for name, column in zip(self.table.column_names, self.table.columns, strict=True):
            values = column.to_numpy()
            found[name] = values if values.dtype.kind in "biufM" else _strings(column)
        return found


def _strings(column: Any) -> npt.NDArray[np.str_]:
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=np.str_)


def _is_number(kind: Any) -> bool:
    types = pyarrow().types
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(check(kind) for check in checks)


def _is_text(kind: Any) -> bool:
    types = pyarrow().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _array(column: Any, name: str, first: int, *, text: bool) -> npt.NDArray[Any]:
    """One column of a batch; text only if it may be."""
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"column {name!r} has a missing value in row {row}; drop or impute such rows")
    types = pyarrow().types
    if text and _is_text(column.type):
        return _strings(column)
    if not _is_number(column.type):
        raise TypeError(f"column {name!r} holds {column.type}; pass numbers{' or strings' if text else ''}")
    if types.is_decimal(column.type):
        column = column.cast(pyarrow().float64())
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _converted(
    batches: Iterator[Any], numbers: Sequence[str], labels: Sequence[str], path: Path
) -> Iterator[Columns]:
    """Batches as arrays, errors of the file as ValueError."""
    first = 0
    try:
        for batch in batches:
            if batch.num_rows == 0:
                continue
            block = {name: _array(batch.column(name), name, first, text=False) for name in numbers}
            block |= {name: _array(batch.column(name), name, first, text=True) for name in labels}
            yield block
            first += batch.num_rows
    except (pyarrow().ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """A message of PyArrow in one line."""
    return " ".join(str(error).split())[:300]


def _gathered(batches: Iterator[tuple[int, Any]], positions: npt.NDArray[np.int64], schema: Any) -> Any:
    """Rows of batches, each of which comes with the position of its first row."""
    parts = []
    for first, batch in batches:
        start, stop = np.searchsorted(positions, [first, first + batch.num_rows])
        if start < stop:
            parts.append(batch.take(pyarrow().array(positions[start:stop] - first)))
    return pyarrow().Table.from_batches(parts, schema)


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file, read a batch of rows at a time."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> ParquetTable:
        """Read the schema.

        Raises
        ------
        ValueError
            If the file is no Parquet file.
        """
        table = cls(path)
        try:
            _ = table.names
        except (pyarrow().ArrowException, OSError) as error:
            raise ValueError(f"{path} is no Parquet file: {_line(error)}") from error
        return table

    def _file(self) -> Any:
        # Buffered, so that a file of one row group is not read whole.
        return pyarrow("pyarrow.parquet").ParquetFile(self.path, buffer_size=2**20, pre_buffer=False)

    @cached_property
    def _schema(self) -> Any:
        with self._file() as file:
            return file.schema_arrow

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the schema."""
        return tuple(self._schema.names)

    @property
    def numeric(self) -> frozenset[str]:
        """Columns of numbers and truth values."""
        return frozenset(field.name for field in self._schema if _is_number(field.type))

    @cached_property
    def rows(self) -> int:
        """From the file's end."""
        with self._file() as file:
            return int(file.metadata.num_rows)

    def blocks(self, numbers: Sequence[str], labels: Sequence[str] = ()) -> Iterator[Columns]:
        """See :class:`~coresets.files.tables.Table`."""
        names = list(dict.fromkeys((*numbers, *labels)))
        return _converted(self._batches(names), numbers, labels, self.path)

    def _batches(self, names: list[str]) -> Iterator[Any]:
        with self._file() as file:
            yield from file.iter_batches(BLOCK_ROWS, columns=names)

    def take(self, positions: npt.NDArray[np.int64]) -> Kept:
        """See :class:`~coresets.files.tables.Table`; row groups without such rows are skipped."""
        return ArrowRows(_gathered(self._near(positions), positions, self._schema))

    def _near(self, positions: npt.NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        first = 0
        with self._file() as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                start, stop = np.searchsorted(positions, [first, first + count])
                if start < stop:
                    place = first
                    for batch in file.iter_batches(BLOCK_ROWS, row_groups=[group]):
                        yield place, batch
                        place += batch.num_rows
                first += count


@dataclass(frozen=True)
class CSVTable:
    """A CSV file with a header, read a block of text at a time.

    Types are those of the first block, but numbers are read as double precision throughout. What is kept
    is read as text, so that it can be written as it was.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> CSVTable:
        """Read the first block.

        Raises
        ------
        ValueError
            If the file is empty, or no CSV file.
        """
        table = cls(path)
        try:
            names = table.names
        except (pyarrow().ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read as CSV: {_line(error)}") from error
        if len(set(names)) != len(names):
            raise ValueError(f"{path} has two columns of one name; rename one")
        return table

    def _open(self, names: Sequence[str] | None, types: dict[str, Any]) -> Any:
        csv = pyarrow("pyarrow.csv")
        convert = csv.ConvertOptions(
            column_types=types, include_columns=names, strings_can_be_null=not types or names is not None
        )
        return csv.open_csv(
            self.path, csv.ReadOptions(block_size=_CSV_BYTES, use_threads=False), convert_options=convert
        )

    @cached_property
    def _schema(self) -> Any:
        with self._open(None, {}) as reader:
            return reader.schema

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the header."""
        return tuple(self._schema.names)

    @property
    def numeric(self) -> frozenset[str]:
        """Columns that hold numbers in the first block, or nothing there."""
        kinds = {field.name: field.type for field in self._schema}
        null = pyarrow().types.is_null
        return frozenset(name for name, kind in kinds.items() if _is_number(kind) or null(kind))

    @property
    def rows(self) -> None:
        """Not known without reading the file."""
        return

    def blocks(self, numbers: Sequence[str], labels: Sequence[str] = ()) -> Iterator[Columns]:
        """See :class:`~coresets.files.tables.Table`."""
        arrow, numeric = pyarrow(), self.numeric
        truth = {field.name for field in self._schema if arrow.types.is_boolean(field.type)}
        names = list(dict.fromkeys((*numbers, *labels)))
        types = {}
        for name in names:
            known = arrow.string() if name not in numeric else arrow.float64()
            types[name] = arrow.bool_() if name in truth else known
        return _converted(self._batches(names, types), numbers, labels, self.path)

    def _batches(self, names: list[str] | None, types: dict[str, Any]) -> Iterator[Any]:
        with self._open(names, types) as reader:
            yield from reader

    def take(self, positions: npt.NDArray[np.int64]) -> Kept:
        """See :class:`~coresets.files.tables.Table`."""
        text = pyarrow().string()
        schema = pyarrow().schema([(name, text) for name in self.names])
        try:
            table = _gathered(self._placed(dict.fromkeys(self.names, text)), positions, schema)
        except (pyarrow().ArrowException, OSError) as error:
            raise ValueError(f"{self.path} cannot be read: {_line(error)}") from error
        return ArrowRows(_retyped(table))

    def _placed(self, types: dict[str, Any]) -> Iterator[tuple[int, Any]]:
        first = 0
        for batch in self._batches(None, types):
            yield first, batch
            first += batch.num_rows


def _retyped(table: Any) -> Any:
    """Columns of text that are all integers, or all numbers, as such; nothing becomes a missing value."""
    arrow, compute = pyarrow(), pyarrow("pyarrow.compute")
    for place, name in enumerate(table.column_names):
        text = table.column(place)
        text = compute.if_else(compute.equal(text, ""), arrow.scalar(None, arrow.string()), text)
        for kind in (arrow.int64(), arrow.float64(), arrow.bool_()):
            try:
                column = text.cast(kind)
            except arrow.ArrowInvalid:
                continue
            table = table.set_column(place, name, column)
            break
    return table
