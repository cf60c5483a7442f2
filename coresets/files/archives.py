"""Tables in NPZ files: arrays of one length, streamed out of the archive without unpacking it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from coresets.files.tables import BLOCK_ROWS, Columns, Kept

__all__ = ["ArchiveTable", "ArrayRows"]

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError)


@dataclass(frozen=True, slots=True)
class _Header:
    """Of one array: shape, order and type."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]

    @classmethod
    def read(cls, file: IO[bytes]) -> _Header:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, by_columns, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} of the format of arrays is not known")
        return cls(shape, by_columns and len(shape) > 1, dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """Rows of several arrays."""

    arrays: dict[str, npt.NDArray[Any]]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As they are."""
        return dict(self.arrays)

    def to_arrow(self) -> Any:
        """One column a column: those of a matrix X are X_0, X_1, ..."""
        from coresets.files.arrow import pyarrow  # noqa: PLC0415 - an optional dependency

        columns: dict[str, npt.NDArray[Any]] = {}
        for name, array in self.arrays.items():
            if array.ndim == 1:
                columns[name] = array
                continue
            flat = array.reshape(len(array), -1)
            columns |= {f"{name}_{j}": np.ascontiguousarray(flat[:, j]) for j in range(flat.shape[1])}
        return pyarrow().table(columns)


@dataclass(frozen=True)
class ArchiveTable:
    """Arrays with as many rows as each other, in an NPZ file.

    Arrays of another length are no columns. Those stored by columns (Fortran's order) are read whole;
    all others a block at a time, compressed or not.
    """

    path: Path
    headers: dict[str, _Header]

    @classmethod
    def open(cls, path: Path, like: str | None = None) -> ArchiveTable:
        """Read the headers.

        Raises
        ------
        ValueError
            If the file is no archive of arrays, or they differ in length and ``like`` names none of them.
        TypeError
            If an array holds Python objects.
        """
        headers: dict[str, _Header] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as file:
                        headers[member.removesuffix(".npy")] = _Header.read(file)
        except _DAMAGED as error:
            raise ValueError(f"{path} is no NPZ file of arrays: {error}") from error
        objects = [name for name, header in headers.items() if header.dtype.hasobject]
        if objects:
            raise TypeError(
                f"{path}: {', '.join(objects)} hold Python objects, which are not read; save them as numbers "
                "or strings"
            )
        lengths = {name: header.shape[0] for name, header in headers.items() if header.shape}
        if like is not None:
            if like not in lengths:
                raise ValueError(f"{path} has no column {like!r}; there are {', '.join(lengths) or 'none'}")
            wanted = lengths[like]
        elif len(set(lengths.values())) == 1:
            wanted = next(iter(lengths.values()))
        else:
            shown = ", ".join(f"{name} {headers[name].shape}" for name in lengths)
            raise ValueError(f"the arrays of {path} differ in length: {shown or 'none'}; name some columns")
        return cls(path, {name: headers[name] for name, length in lengths.items() if length == wanted})

    @property
    def names(self) -> tuple[str, ...]:
        """Arrays of the right length."""
        return tuple(self.headers)

    @property
    def numeric(self) -> frozenset[str]:
        """Arrays of numbers with one or two axes."""
        return frozenset(
            name
            for name, header in self.headers.items()
            if header.dtype.kind in "biuf" and len(header.shape) <= 2
        )

    @property
    def rows(self) -> int:
        """Their length."""
        return next(iter(self.headers.values())).shape[0]

    def blocks(self, numbers: Sequence[str], labels: Sequence[str] = ()) -> Iterator[Columns]:
        """See :class:`~coresets.files.tables.Table`."""
        for name in labels:
            header = self.headers[name]
            if header.dtype.kind not in "biufUS" or len(header.shape) != 1:
                raise TypeError(
                    f"{name!r} is an array of {header.dtype} with shape {header.shape}, no labels"
                )
        return self._blocks((*numbers, *labels))

    def take(self, positions: npt.NDArray[np.int64]) -> Kept:
        """See :class:`~coresets.files.tables.Table`."""
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self.names}
        first = 0
        for block in self._blocks(self.names):
            count = len(block[self.names[0]])
            start, stop = np.searchsorted(positions, [first, first + count])
            for name in self.names:
                parts[name].append(block[name][positions[start:stop] - first])
            first += count
        return ArrayRows({name: np.concatenate(part) for name, part in parts.items()})

    def _blocks(self, names: Sequence[str]) -> Iterator[Columns]:
        widest = max(self.headers[name].row_bytes for name in names)
        step = max(1, min(BLOCK_ROWS, 2**25 // max(1, widest)))
        try:
            with ExitStack() as stack:
                readers = {name: self._reader(stack, name) for name in dict.fromkeys(names)}
                for first in range(0, self.rows, step):
                    count = min(step, self.rows - first)
                    yield {name: reader(first, count) for name, reader in readers.items()}
        except _DAMAGED as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error

    def _reader(self, stack: ExitStack, name: str) -> Any:
        """A function of first row and count that is called in order."""
        archive = stack.enter_context(zipfile.ZipFile(self.path))  # one a column: members share no position
        file = stack.enter_context(archive.open(f"{name}.npy"))
        if self.headers[name].by_columns:
            whole = np.lib.format.read_array(file, allow_pickle=False)
            return lambda first, count: whole[first : first + count]
        header = _Header.read(file)

        def read(_first: int, count: int) -> npt.NDArray[Any]:
            wanted = count * header.row_bytes
            content = file.read(wanted)
            if len(content) != wanted:
                raise EOFError(f"{name!r} ends early")
            array = np.frombuffer(content, dtype=header.dtype).reshape(count, *header.shape[1:])
            return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

        return read
