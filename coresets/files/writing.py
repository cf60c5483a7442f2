"""Kept rows and their weights as files, each either whole or not there."""

from __future__ import annotations

import os
import zipfile
from typing import Any, BinaryIO

import numpy as np

from coresets._files import write_atomically
from coresets._validate import check_weights
from coresets.files.arrow import pyarrow
from coresets.files.tables import Kept, suffix_of

__all__ = ["write_rows"]


def write_rows(path: str | os.PathLike[str], rows: Kept, weights: Any, *, weight: str = "weight") -> None:
    """Write rows with one more column, their weights.

    Parameters
    ----------
    path : path-like
        Ends in .csv, .npz or .parquet, which tells the format. Whatever interrupts the writing, it holds its
        old content or the new one.
    rows : Kept
        What :meth:`~coresets.files.Table.take` returned.
    weights : array of shape (k,)
        One weight a row.
    weight : str
        Name of the column with the weights; a column of this name is replaced.

    Raises
    ------
    ValueError
        If the name ends otherwise, or the lengths disagree.
    ImportError
        If it is CSV or Parquet and PyArrow is not installed.
    """
    suffix = suffix_of(path)
    if suffix == ".npz":
        arrays: dict[str, Any] = {**rows.to_arrays(), weight: None}
        count = len(next(iter(arrays.values())))
        arrays[weight] = np.asarray(check_weights(weights, count), dtype=np.float64)
        write_atomically(path, lambda file: _write_archive(file, arrays))
        return
    table = rows.to_arrow()
    column = pyarrow().array(np.asarray(check_weights(weights, table.num_rows), dtype=np.float64))
    if weight in table.column_names:
        table = table.set_column(table.column_names.index(weight), weight, column)
    else:
        table = table.append_column(weight, column)

    def write(file: BinaryIO) -> None:
        if suffix == ".csv":
            pyarrow("pyarrow.csv").write_csv(table, file)
        else:
            pyarrow("pyarrow.parquet").write_table(table, file)

    write_atomically(path, write)


def _write_archive(file: BinaryIO, arrays: dict[str, Any]) -> None:
    """What ``numpy.savez_compressed`` does, which takes no array called ``file``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
