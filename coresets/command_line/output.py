"""What the command line shows: tables for people, one JSON document for programs, a bar on the way."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["certificate_record", "mass_text", "print_json", "print_rows", "print_summary", "progress_of"]


def _plain(value: Any) -> Any:
    """For JSON, which has neither infinity nor NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def print_json(record: Mapping[str, Any]) -> None:
    """One document on standard output; infinite numbers are null."""
    click.echo(json.dumps(_plain(record), indent=2))


def certificate_record(certificate: Any) -> dict[str, Any]:
    """A certificate for JSON."""
    found: dict[str, Any] = certificate.to_dict()
    return found


def print_summary(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line, on standard output."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in pairs:
        table.add_row(name, value)
    _show(table)


def print_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _show(table)


def _show(table: Table) -> None:
    """Print a table, without the blanks that fill its last column."""
    # Lines that are not for a terminal are not folded at the width of one.
    width = None if sys.stdout.isatty() else 200
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False)
    with console.capture() as text:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


def mass_text(mass: float) -> str:
    """A total weight for people."""
    return f"{mass:,.0f}" if mass >= 1000.0 else f"{mass:.6g}"


@contextmanager
def progress_of(rows: int | None) -> Iterator[Callable[[int], None]]:
    """Bar on standard error if that is a terminal, else nothing; it is told how many rows were read."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=rows)
        yield lambda count: bar.update(task, advance=count)
