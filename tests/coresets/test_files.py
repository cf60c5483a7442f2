"""Atomic writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from coresets._files import write_atomically


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = tmp_path / "report.json"
    write_atomically(target, lambda file: file.write(b"old"))

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("coresets._files.os.fsync", fail)
    with pytest.raises(type(error)):
        write_atomically(target, lambda file: file.write(b"new, but never complete"))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")
def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_atomically(tmp_path / "atomic", lambda file: file.write(b""))
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "file", lambda file: file.write(b""))
