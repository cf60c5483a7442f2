"""What a run found, for the terminal; plain text where the output is not one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proofs_check.check import Check
from proofs_check.report.summary import duration, headline, number, rate, summarise, vacuous_notes
from proofs_check.results import CheckResult, RunResult, ScalingFit, ScenarioResult, Verdict
from proofs_check.where import locate

__all__ = ["print_explanation", "print_list", "print_report", "report_console"]

_PIPED_WIDTH = 120
_SHOWN = 2  # scenarios of each guarantee, where not all are asked for
_NARROW = 110  # below this many columns the widest table leaves some out

# Blue and orange, not green and red: they differ for colour-blind readers too.
_STYLE = {
    Verdict.CONSISTENT: "bold blue",
    Verdict.REFUTED: "bold white on red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.VACUOUS: "dim",
}


def report_console(stream: TextIO) -> Console:
    """Console on the stream: as wide and colourful as a terminal is, plain otherwise.

    Output that is piped has the width in the environment variable COLUMNS, else 120.
    """
    common: dict[str, Any] = {"file": stream, "markup": False, "emoji": False, "highlight": False}
    if stream.isatty():
        return Console(**common)
    columns = os.environ.get("COLUMNS", "")
    width = (int(columns) if columns.isdecimal() else 0) or _PIPED_WIDTH
    return Console(**common, width=width, color_system=None, force_terminal=False)


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, style=_STYLE[verdict])


def _table(title: str, *columns: str, numeric: Iterable[str] = ()) -> Table:
    numeric = set(numeric)
    look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=title, title_justify="left", title_style="bold", **look)
    for column in columns:
        right = column in numeric
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    return table


def _summary(run: RunResult, width: int) -> Table:
    columns = ("guarantee", "title", "verdict", "sets", "ratio", "failures", "faults")
    table = _table("Guarantees", *columns, numeric=columns[3:])
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for line in summarise(run):
        tested = line.ratio is not None
        caught_all = 0 < line.caught == line.required and not line.check.untested_faults
        title = Text(line.check.title)
        if width < _NARROW:  # cut short rather than broken into one word a line
            title.truncate(max(width - 64, 8), overflow="ellipsis")
        table.add_row(
            Text(line.check.key, style="bold"),
            title,
            _verdict(line.check.verdict),
            str(line.real_sets),
            number(line.ratio),
            f"{line.failures}/{line.allowed}" if tested else "-",
            Text(f"{line.caught}/{line.required}", style="" if caught_all else "bold red"),
        )
    return table


def _tightest(check: CheckResult) -> tuple[ScenarioResult, ...]:
    """What was refuted, and of the rest the few whose errors came closest to the bound."""

    def closeness(scenario: ScenarioResult) -> float:
        return -1.0 if scenario.verdict is Verdict.VACUOUS else scenario.ratio

    ranked = sorted(check.scenarios, key=closeness, reverse=True)
    best = {id(scenario) for scenario in ranked[:_SHOWN]}
    refuted = {id(scenario) for scenario in check.scenarios if scenario.verdict is Verdict.REFUTED}
    return tuple(scenario for scenario in check.scenarios if id(scenario) in best | refuted)


def _scenarios(run: RunResult, *, narrow: bool, every: bool) -> Table:
    left = ("guarantee", "workload")
    shape = () if narrow else ("n", "d")
    numbers = ("size", "claimed") if narrow else ("size", "epsilon", "delta")
    seen = ("quantile",) if narrow else ("quantile", "max", "ratio")
    columns = (*left, *shape, *numbers, *seen, "failures", "verdict")
    title = "Bound beside observed error" + ("" if every else ": the tightest of each; --only KEY shows all")
    table = _table(title, *columns, numeric=columns[2:-1])
    table.columns[0].no_wrap = table.columns[-1].no_wrap = True
    for check in run.checks:
        shown = check.scenarios if every else _tightest(check)
        for place, scenario in enumerate(shown):
            test = scenario.honest
            cells: list[str | Text] = [Text(check.key, style="bold") if place == 0 else "", scenario.workload]
            if not narrow:
                cells += [number(scenario.n), number(scenario.d)]
            cells += [number(scenario.size), number(scenario.epsilon)]
            if not narrow:
                cells += [rate(scenario.delta)]
            cells += [number(test.quantile)]
            if not narrow:
                cells += [number(test.largest), number(scenario.ratio)]
            cells += [f"{test.failures}/{test.trials}" if test.trials else "-", _verdict(scenario.verdict)]
            table.add_row(*cells, end_section=place == len(shown) - 1)
    return table


def _span(values: tuple[float, ...]) -> str:
    return f"{number(values[0])} .. {number(values[-1])}" if values else "-"


def _scaling(fits: tuple[ScalingFit, ...]) -> Table:
    columns = (
        "guarantee",
        "workload",
        "in",
        "over",
        "measured slope",
        "proved slope",
        "proved/measured size",
    )
    table = _table("Smallest size that suffices, measured and proved", *columns, numeric=columns[3:])
    for fit in fits:
        pairs = zip(fit.proved, fit.measured, strict=True)
        slack = [proved / measured for proved, measured in pairs if measured]
        table.add_row(
            Text(fit.key, style="bold"),
            fit.workload,
            fit.variable,
            _span(fit.values),
            f"{fit.measured_exponent:.2f}",
            f"{fit.proved_exponent:.2f}",
            _span((min(slack), max(slack))) if slack else "-",
        )
    return table


def _bullets(console: Console, title: str, lines: Iterable[str | Text]) -> None:
    console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Padding(Text("- ").append(line), (0, 0, 0, 2), expand=False))
    console.print()


def _by_reason(notes: Iterable[tuple[str, str, str]]) -> list[str]:
    """One line for each guarantee and reason, with the workloads that share it."""
    workloads: dict[tuple[str, str], list[str]] = {}
    for key, workload, why in notes:
        workloads.setdefault((key, why), []).append(workload)
    return [f"{key} on {', '.join(names)}: {why}" for (key, why), names in workloads.items()]


def print_report(
    run: RunResult, console: Console, location: Path | None = None, *, every: bool = False
) -> None:
    """Print the tables and, as the last line, the outcome.

    Parameters
    ----------
    run : RunResult
        What was found.
    console : rich.console.Console
        Where to; see :func:`report_console`.
    location : Path or None
        Where the page lies, if it was written.
    every : bool
        Show every scenario, and not only those with the largest errors of each guarantee.
    """
    if run.checks:
        console.print(_scenarios(run, narrow=console.width < _NARROW, every=every))
    if run.scaling:
        console.print(_scaling(run.scaling))
    if vacuous := vacuous_notes(run):
        _bullets(console, "Vacuous, so not counted", _by_reason(vacuous))
    if run.checks:
        console.print(_summary(run, console.width))
        console.print(
            Text(
                "sets: real data sets. ratio: largest observed (1 - delta)-quantile over claimed epsilon. "
                "failures: seen/allowed where so many are least likely. faults: caught/demanded.",
                style="dim",
            )
        )
        console.print()
    if missed := [f"{check.key}: {name}" for check in run.checks for name in check.missed_faults]:
        _bullets(console, "Planted faults that were missed", missed)
    if untested := [f"{check.key}: {name}" for check in run.checks for name in check.untested_faults]:
        _bullets(console, "Planted faults that no scenario had the power to demand", untested)
    if run.left_out:
        _bullets(console, "Left out", run.left_out)

    outcome = Text("OK" if run.ok else "NOT OK", style="bold blue" if run.ok else "bold white on red")
    outcome.append(f": {headline(run)}; {duration(run.seconds)}", style="default on default not bold")
    if location is not None:
        outcome.append(f"; report in {location}", style="default on default not bold")
    console.print(outcome, soft_wrap=True)


def print_list(checks: Iterable[Check], console: Console) -> None:
    """Print the key, title, quantifier and number of planted faults of every check."""
    table = _table("Guarantees under attack", "key", "title", "holds", "faults", numeric=["faults"])
    table.columns[0].no_wrap = True
    for check in checks:
        guarantee = check.guarantee
        table.add_row(
            Text(check.key, style="bold"), guarantee.title, guarantee.quantifier.value, str(len(check.faults))
        )
    console.print(table)


def print_explanation(check: Check, console: Console) -> None:
    """Print what a guarantee promises, what it needs, and how its check attacks it."""
    guarantee, where = check.guarantee, locate(check)
    console.print(Text(check.key, style="bold").append(f"  {guarantee.title}", style="not bold"))
    console.print()
    console.print(Padding(guarantee.statement, (0, 2)))
    console.print()
    _bullets(
        console,
        "Assumptions",
        (
            f"{item.statement} (checked by {item.checked_by or 'the caller'})"
            for item in guarantee.assumptions
        ),
    )
    schemes = sorted(scheme.value for scheme in guarantee.schemes)
    samplers = "; ".join(schemes) or "none: no sampling is involved"
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in (
        ("Holds", guarantee.quantifier.value),
        ("Status", guarantee.status.value),
        ("Source", guarantee.citation.text),
        ("Samplers", samplers),
        ("Attack", check.queries),
        ("Theory page", check.page),
        ("Stated in", where.stated),
        ("Used in", ", ".join(where.used) or "no algorithm; it is about the problem itself"),
        ("Check", where.checked),
    ):
        table.add_row(name, text)
    console.print(table)
    console.print()
    faults = [f"{name}: {what}" for name, what in check.faults.items()]
    _bullets(console, "Planted faults, which the same test must catch", faults or ["none"])
