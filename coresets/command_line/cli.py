"""The command line: reduce a file, certify a model or a coreset, ask for sizes.

Exit codes: 0 when all went well, 1 when the data or a theorem's assumption are at fault, 2 on misuse, 130
when interrupted. Errors are one line on standard error. Files are written whole or not at all. Standard
output holds the result (with ``--json`` one JSON document); progress goes to standard error, and only to a
terminal.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from coresets.command_line.models import load_model
from coresets.command_line.options import (
    DATA,
    DELTA,
    INPUT,
    JSON,
    MEMORY,
    PROBLEM,
    SEED,
    TASK,
    Subject,
    data_file,
    gathered,
    options,
)
from coresets.command_line.output import (
    certificate_record,
    mass_text,
    print_json,
    print_rows,
    print_summary,
    progress_of,
)
from coresets.command_line.reducing import Outcome, Request, read_all, reduce_table
from coresets.command_line.sizes import SIZES_AT, sizes_of
from coresets.command_line.task import Label, Settings, Shape, Task
from coresets.command_line.tasks import TASKS
from coresets.errors import SolverError
from coresets.files import Selection, Table, open_table, write_rows
from coresets.weighted_set import WeightedSet

__all__ = ["cli"]

_FAILED, _INTERRUPTED = 1, 130


class _Commands(click.Group):
    """A group whose commands fail in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing was written.", err=True)
            ctx.exit(_INTERRUPTED)
        except (ValueError, TypeError, SolverError, OSError, ImportError, MemoryError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            text = " ".join(str(error).split()) or type(error).__name__
            click.echo(f"Error: {text}", err=True)
            ctx.exit(_FAILED)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Tasks: " + "; ".join(f"{task.name} ({task.summary})" for task in TASKS.values()) + ".",
)
@click.version_option(package_name="coresets", prog_name="coresets")
def cli() -> None:
    """Small weighted sets that stand for large ones, with guarantees."""


def _open(data: Path, selection: Selection, task: Task) -> Table:
    """The table, once it is clear that the task can use what was named."""
    if task.needs_label and selection.label is None:
        raise click.UsageError(f"--task {task.name} needs --label COLUMN, with {task.label.value}")
    if task.label is Label.NONE and selection.label is not None:
        raise click.UsageError(f"--task {task.name} has no use for --label")
    like = selection.label or selection.weight or (selection.columns or (None,))[0]
    table = open_table(data, like=like)
    selection.points(table)
    return table


@cli.command("reduce")
@click.argument("data", type=DATA, callback=data_file)
@options(TASK, *INPUT)
@click.option("--size", type=click.IntRange(min=1), help="Rows to keep.")
@click.option(
    "--accuracy",
    "epsilon",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="Relative error to promise, instead of a size.",
)
@options(DELTA, *PROBLEM)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    callback=data_file,
    help="File for the kept rows, with all their columns and one for the weights.",
)
@click.option(
    "--weight-name", default="weight", show_default=True, help="Column for the weights in the output."
)
@options(SEED, MEMORY, JSON)
@gathered
def reduce_command(
    data: Path,
    task: Task,
    selection: Selection,
    settings: Settings,
    request: Request,
    out: Path,
    weight_name: str,
    as_json: bool,
) -> None:
    """Reduce the rows of DATA (CSV, NPZ or Parquet) to a weighted few.

    The output holds the kept rows with all their columns, and their weights: the sample_weight of any
    estimator, with the same C as for all the rows.
    """
    if (request.size is None) == (request.accuracy is None):
        raise click.UsageError("pass exactly one of --size and --accuracy")
    _check_out(data, out)
    table = _open(data, selection, task)
    if weight_name in table.names and weight_name != selection.weight:
        raise click.UsageError(f"there is a column {weight_name!r} already; pass another --weight-name")
    with progress_of(table.rows) as progress:
        found = reduce_table(table, selection, task, settings, request, progress)
        rows = table.take(found.positions)
    write_rows(out, rows, found.weights, weight=weight_name)
    if as_json:
        print_json(_record(found, task, request, {"data": str(data), "out": str(out)}))
    else:
        print_summary(_lines(found, out))


def _check_out(data: Path, out: Path) -> None:
    """Refuse what could not be written, before minutes are spent."""
    if out.exists() and out.samefile(data):
        raise click.UsageError("--out is the file that is read; name another one")
    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{folder} is no folder that can be written to")


def _record(found: Outcome, task: Task, request: Request, files: dict[str, str]) -> dict[str, Any]:
    return {
        "task": task.name,
        **files,
        "rows": found.rows,
        "columns": found.columns,
        "total_weight": found.mass,
        "kept": len(found.positions),
        "kept_weight": float(found.weights.sum()),
        "epsilon": found.accuracy.epsilon,
        "delta": found.accuracy.delta,
        "vacuous": found.accuracy.vacuous,
        "streamed": found.streamed,
        "seed": request.seed,
        "certificates": [certificate_record(one) for one in found.certificates],
    }


def _lines(found: Outcome, out: Path) -> list[tuple[str, str]]:
    accuracy = found.accuracy
    promise = f"within {accuracy.epsilon:.3g}, but for probability {accuracy.delta:.3g}"
    if accuracy.is_exact:
        promise = "exact"
    elif math.isinf(accuracy.epsilon):
        promise = "none: no theorem covers this"
    elif accuracy.vacuous:
        promise = "the theorem says nothing at this size; `coresets size` tells from which on it does"
    lines = [
        ("kept", f"{len(found.positions):,} of {found.rows:,} rows, in {out}"),
        ("weight", f"{mass_text(float(found.weights.sum()))} for {mass_text(found.mass)}"),
        ("promise", promise),
        ("to train", "sample_weight = the weights, and the same C or alpha as for all the rows"),
    ]
    lines += [(one.name, f"{one.value:.4g}  ({one.statement})") for one in found.certificates]
    if found.streamed:
        lines.append(("read", "block by block, by merge-and-reduce"))
    return lines


@cli.command("certify")
@click.argument("data", type=DATA, callback=data_file)
@options(TASK, *INPUT)
@click.option("--model", type=DATA, help="Linear model: .json or .npz with coef and intercept.")
@click.option("--coreset", type=DATA, callback=data_file, help="Coreset: what `coresets reduce` wrote.")
@click.option(
    "--weight-name", default="weight", show_default=True, help="Column of the coreset with its weights."
)
@options(*PROBLEM, MEMORY, JSON)
@gathered
def certify_command(
    data: Path,
    task: Task,
    selection: Selection,
    settings: Settings,
    request: Request,
    subject: Subject,
    as_json: bool,
) -> None:
    """Certify a linear model, or a coreset, against the rows of DATA.

    For a support vector machine: how far the model, or the one trained on the coreset, is at most from the
    optimum on all the rows. For linear regression: the largest error of the coreset, over all coefficients.
    """
    table = _open(data, selection, task)
    with progress_of(table.rows) as progress:
        everything = read_all(table, selection, task, request.memory, progress)
    if subject.model is not None:
        found = task.certify_model(settings, everything, load_model(subject.model))
    else:
        assert subject.coreset is not None  # exactly one is given
        kept = _read_coreset(subject.coreset, subject.weight, selection, task, request)
        found = task.certify_coreset(settings, everything, kept)
    if as_json:
        print_json({"task": task.name, "rows": everything.n, **certificate_record(found)})
        return
    details = [(name.replace("_", " "), f"{value:,.6g}") for name, value in found.details.items()]
    print_summary([(found.name, f"{found.value:.4g}  ({found.statement})"), *details])


def _read_coreset(path: Path, weight: str, selection: Selection, task: Task, request: Request) -> WeightedSet:
    """Rows of a coreset's file, with its weights; the data's own masses are no coordinates."""
    columns = selection.columns
    if columns is None:
        table = open_table(path, like=weight)
        others = {weight, selection.weight, selection.label}
        columns = tuple(name for name in table.names if name not in others)
    own = Selection(selection.label, weight, columns)
    return read_all(_open(path, own, task), own, task, request.memory, lambda _count: None)


@cli.command("size")
@click.argument("data", type=DATA, required=False, callback=data_file)
@options(TASK, *INPUT)
@click.option("--rows", type=click.IntRange(min=1), help="Number of rows, instead of DATA.")
@click.option("--dimension", type=click.IntRange(min=1), help="Number of coordinates, instead of DATA.")
@click.option(
    "--total",
    type=click.FloatRange(min=1.0),
    help="Total sensitivity, instead of DATA, for tasks where it depends on the data.",
)
@click.option(
    "--accuracy",
    "epsilons",
    multiple=True,
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="Relative error; may be repeated.  [default: " + ", ".join(f"{e:g}" for e in SIZES_AT) + "]",
)
@options(DELTA, *PROBLEM, SEED, MEMORY, JSON)
@gathered
def size_command(
    data: Path | None,
    task: Task,
    selection: Selection,
    settings: Settings,
    request: Request,
    shape: tuple[int | None, int | None, float | None],
    epsilons: tuple[float, ...],
    as_json: bool,
) -> None:
    """What the theory asks for at which error, and whether that is less than all the rows.

    For DATA, or for a number of rows and coordinates where these are enough.
    """
    rows, dimension, total = shape
    if data is not None:
        if shape != (None, None, None):
            raise click.UsageError("--rows, --dimension and --total are read from DATA")
        table = _open(data, selection, task)
        with progress_of(table.rows) as progress:
            everything = read_all(table, selection, task, request.memory, progress)
        rows, claim = everything.n, task.claim_of(settings, everything, request.seed)
    else:
        if rows is None or dimension is None:
            raise click.UsageError("name a file, or pass --rows and --dimension")
        claim = task.claim(settings, Shape(dimension, total))
    found = sizes_of(claim, rows, epsilons or SIZES_AT, settings.delta)
    if as_json:
        print_json({"task": task.name, **found.to_dict()})
        return
    print_summary(found.summary())
    print_rows(("epsilon", "size", "share of the rows"), found.lines())
