"""Options of the command line, and the values that they are gathered into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from coresets.accuracy import Accuracy
from coresets.command_line.reducing import Request
from coresets.command_line.task import INTERCEPTS, Settings, Task
from coresets.command_line.tasks import TASKS
from coresets.files import Selection
from coresets.files.tables import suffix_of

__all__ = [
    "DATA",
    "DELTA",
    "INPUT",
    "JSON",
    "MEMORY",
    "PROBLEM",
    "SEED",
    "TASK",
    "Subject",
    "data_file",
    "gathered",
    "options",
]

F = TypeVar("F", bound=Callable[..., Any])

_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be certified: one of a model and a coreset.

    Parameters
    ----------
    model, coreset : Path or None
        The files.
    weight : str
        Column of the coreset with its weights.
    """

    model: Path | None
    coreset: Path | None
    weight: str

    def __post_init__(self) -> None:
        if (self.model is None) == (self.coreset is None):
            raise click.UsageError("pass exactly one of --model and --coreset")


def _task(_ctx: click.Context, _param: click.Parameter, name: str) -> Task:
    return TASKS[name]


def _names(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise click.BadParameter("no column is named")
    return names


def data_file(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file whose name does not tell one of the formats."""
    if path is not None:
        try:
            suffix_of(path)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return path


TASK = click.option(
    "--task", type=click.Choice(list(TASKS)), required=True, callback=_task, help="What the rows are for."
)
INPUT = [
    click.option("--label", metavar="COLUMN", help="Column with the labels or targets."),
    click.option("--weight", metavar="COLUMN", help="Column with the masses of the rows."),
    click.option(
        "--columns",
        metavar="A,B,...",
        callback=_names,
        help="Columns with the coordinates.  [default: all others]",
    ),
]
PROBLEM = [
    click.option(
        "--C",
        "price",
        type=click.FloatRange(min=0.0, min_open=True),
        default=1.0,
        show_default=True,
        help="scikit-learn's C.",
    ),
    click.option(
        "--penalty",
        type=click.FloatRange(min=0.0, min_open=True),
        default=1.0,
        show_default=True,
        help="scikit-learn's alpha of ridge regression.",
    ),
    click.option(
        "--clusters", type=click.IntRange(min=1), default=8, show_default=True, help="Number of centres."
    ),
    click.option(
        "--intercept",
        type=click.Choice(list(INTERCEPTS)),
        help="Constant term, and its price.  [default: as in scikit-learn: regularised for svm, else free]",
    ),
]
DELTA = click.option(
    "--delta",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Failure probability.",
)
SEED = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed gives the same rows.",
)
MEMORY = click.option(
    "--memory",
    type=click.FloatRange(min=0.0, min_open=True),
    default=512.0,
    show_default=True,
    metavar="MIB",
    help="Rows beyond this are reduced block by block.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
DATA = click.Path(exists=True, dir_okay=False, path_type=Path)


def options(*options: Any) -> Callable[[F], F]:
    """Several options at once, shown in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def gathered(command: F) -> F:
    """Hand a command values instead of single options: a selection, settings, a request, a subject."""

    @wraps(command)
    def run(**given: Any) -> Any:
        known = {field.name for field in fields(Settings)}
        settings = Settings(**{name: given.pop(name) for name in known & given.keys()})
        selection = Selection(given.pop("label"), given.pop("weight"), given.pop("columns"))
        epsilon, size = given.pop("epsilon", None), given.pop("size", None)
        accuracy = None if epsilon is None else Accuracy(epsilon, settings.delta)
        request = Request(size, accuracy, given.pop("seed", 0), int(given.pop("memory") * _MEBIBYTE))
        if "rows" in given:
            given["shape"] = (given.pop("rows"), given.pop("dimension"), given.pop("total"))
        if "model" in given:
            given["subject"] = Subject(given.pop("model"), given.pop("coreset"), given.pop("weight_name"))
        return command(selection=selection, settings=settings, request=request, **given)

    return run  # type: ignore[return-value]
