"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["write_atomically"]


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its final place, flush it to the disk, and rename it.

    Whatever interrupts the writing, ``path`` holds its old content or the new one.

    Parameters
    ----------
    path : path-like
        Where the file is to be.
    write : callable
        Writes the content to the binary file that it is handed.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:  # with the usual permissions, unlike a temporary file
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
