"""Reports of a run: a table for the terminal, ``report.json``, and one self-contained page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import BinaryIO

from coresets._files import write_atomically
from proofs_check.report.html import page_text
from proofs_check.report.json_file import json_text
from proofs_check.report.terminal import print_explanation, print_list, print_report, report_console
from proofs_check.results import RunResult

__all__ = [
    "json_text",
    "page_text",
    "print_explanation",
    "print_list",
    "print_report",
    "report_console",
    "write_reports",
]


def write_reports(run: RunResult, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` into the folder, each completely or not at all.

    Parameters
    ----------
    run : RunResult
        What was found.
    folder : Path
        Created if it does not exist; reports that it holds are replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    texts = {"report.json": json_text(run), "report.html": page_text(run)}  # both, before either is written
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(folder / name, partial(_write_text, text))
    return folder / "report.html"


def _write_text(text: str, file: BinaryIO) -> None:
    file.write(text.encode("utf-8"))
