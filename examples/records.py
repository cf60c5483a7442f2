"""Records of a study on disk: one file, complete after every step, from which an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from coresets._files import write_atomically

__all__ = ["Record", "read_records", "resume", "write_records"]

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """What an earlier run has left; nothing if there was none."""
    return json.loads(path.read_text()) if path.is_file() else []


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """All records, one file, atomically: an interrupted run leaves the earlier one."""
    write_atomically(path, lambda file: file.write((json.dumps(records, indent=1) + "\n").encode()))


def resume(
    path: Path, cells: Iterable[Record], measure: Callable[[Record], Sequence[Record]], *, label: str
) -> list[Record]:
    """Measure the cells of which there is no record yet, and write the records after each.

    Parameters
    ----------
    path : Path
        Where the records are.
    cells : iterable of dict
        What to measure, all with the same keys; every record of a cell contains it.
    measure : callable
        From a cell to what was measured, one record or several.
    label : str
        Of the progress bar.

    Returns
    -------
    list of dict
        All records, the earlier ones included.
    """
    records, wanted = read_records(path), list(cells)
    keys = tuple(wanted[0]) if wanted else ()
    done = {tuple(record.get(key) for key in keys) for record in records}
    left = [cell for cell in wanted if tuple(cell.values()) not in done]
    for cell in tqdm(left, desc=label, disable=None):
        records.extend({**cell, **found} for found in measure(cell))
        write_records(path, records)
    return records
