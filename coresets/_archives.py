"""Arrays and one JSON header in an ``.npz`` file, without pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coresets._files import write_atomically

__all__ = ["read_archive", "write_archive"]

# What NumPy and zipfile raise for a file that is empty, cut short, damaged or something else; a single
# array is no context manager and has no members, hence the last two.
_UNREADABLE = (
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    TypeError,
    AttributeError,
)


def write_archive(
    path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write header and arrays; ``path`` holds its old content or the new one, whatever happens."""
    content = {**arrays, "header": np.array(json.dumps(dict(header)))}
    write_atomically(path, lambda file: np.savez_compressed(file, **content))  # type: ignore[arg-type]


def read_archive(
    path: str | os.PathLike[str], kind: str, *, version: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file.

    Raises
    ------
    ValueError
        If the file is not of this kind, is damaged, or has another format version.
    """
    content = io.BytesIO(Path(path).read_bytes())  # errors of the file system pass through
    try:
        with np.load(content, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop("header")))
        if not isinstance(header, dict) or header["kind"] != kind:
            raise KeyError("kind")
    except _UNREADABLE as error:
        raise ValueError(f"{os.fspath(path)} is not a saved {kind}") from error
    if header.get("format") != version:
        raise ValueError(f"{os.fspath(path)} has format {header.get('format')}; this version reads {version}")
    return header, arrays
