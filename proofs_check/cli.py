"""The command line: run the checks, list them, explain one.

Exit codes: 0 when nothing is refuted and every demanded fault is caught, 1 otherwise, 2 on
misuse or when the report cannot be written, 130 when interrupted. Standard output holds the
report (or, with ``--json``, one JSON document and nothing else); progress goes to standard error,
and only to a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proofs_check.check import Check
from proofs_check.checks import CHECKS
from proofs_check.report import (
    json_text,
    print_explanation,
    print_list,
    print_report,
    report_console,
    write_reports,
)
from proofs_check.runner import Options, run

__all__ = ["cli"]

_DEFAULT_OUT = Path("theorems-report")
_REFUTED, _MISUSE, _INTERRUPTED = 1, 2, 130


class _RunByDefault(click.Group):
    """A group in which options without a command belong to ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Click would exit 1, which here means "refuted".
            click.echo("Interrupted; no report was written.", err=True)
            ctx.exit(_INTERRUPTED)


def _find(name: str) -> Check:
    """Check with that key or title, in any case; misuse with suggestions if there is none."""
    names = {check.guarantee.title.casefold(): check for check in CHECKS}
    names |= {check.key.casefold(): check for check in CHECKS}
    if (found := names.get(name.strip().casefold())) is not None:
        return found
    matches = get_close_matches(name.casefold(), names, n=4, cutoff=0.4)
    near = dict.fromkeys(names[match].key for match in matches)
    hint = f"did you mean {' or '.join(near)}?" if near else "the command `list` shows all names"
    raise click.BadParameter(f"no guarantee is called {name!r}; {hint}")


def _known_keys(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_find(name).key for name in names))


def _known_check(_ctx: click.Context, _param: click.Parameter, name: str) -> Check:
    return _find(name)


def _writable(_ctx: click.Context, _param: click.Parameter, out: Path | None) -> Path | None:
    """Refuse a folder that cannot be written before minutes are spent, and without creating it."""
    if out is not None:
        existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise click.BadParameter(f"{existing} is a file; name a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise click.BadParameter(f"{existing} cannot be written to; name another folder")
    return out


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """Bar on standard error if that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(label: str, done: int, total: int) -> None:
            bar.update(task, description=escape(label), completed=done, total=total)

        yield show


@click.group(
    cls=_RunByDefault,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`run --help` lists the options of a run.",
)
@click.version_option(package_name="coresets")
def cli() -> None:
    """Try to refute every guarantee of the library.

    Without a command, `run` is meant: its options may follow directly, as in
    `python -m proofs_check --profile full`.
    """


@cli.command("run")
@click.option("--profile", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed gives the same findings.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="CORESETS_DATA",
    show_envvar=True,
    help="Folder with further data sets.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_writable,
    help=f"Folder for report.json and report.html.  [default: {_DEFAULT_OUT}; none with --json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else.")
@click.option(
    "--only", multiple=True, metavar="KEY", callback=_known_keys, help="Only this guarantee; may be repeated."
)
@click.pass_context
def run_command(
    ctx: click.Context,
    *,
    profile: str,
    seed: int,
    data_dir: Path | None,
    out: Path | None,
    as_json: bool,
    only: tuple[str, ...],
) -> None:
    """Attack the guarantees, and report.

    Exit status 0: nothing was refuted, and every planted fault that had to be caught was. 1: otherwise.
    """
    if out is None and not as_json:
        out = _writable(ctx, ctx.command.params[0], _DEFAULT_OUT)
    options = Options(profile=profile, seed=seed, data_dir=data_dir, only=only)
    with _progress() as progress:
        result = run(options, progress=progress)

    failure: OSError | None = None
    try:
        location = write_reports(result, out) if out is not None else None
    except OSError as error:
        failure, location = error, None  # what was found is shown before the failure is
    if as_json:
        click.echo(json_text(result), nl=False)
    else:
        print_report(result, report_console(sys.stdout), location, every=bool(only))
    if failure is not None:
        click.echo(f"Error: the report could not be written to {out}: {failure}", err=True)
        ctx.exit(_MISUSE)
    ctx.exit(0 if result.ok else _REFUTED)


@cli.command("list")
def list_command() -> None:
    """Show the guarantees that are attacked."""
    print_list(CHECKS, report_console(sys.stdout))


@cli.command("explain")
@click.argument("check", metavar="NAME", callback=_known_check)
def explain_command(check: Check) -> None:
    """Explain a guarantee, and how it is attacked."""
    print_explanation(check, report_console(sys.stdout))
