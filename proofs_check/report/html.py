"""The report as one self-contained page: style and plots inside, nothing loaded from anywhere.

Every text is escaped by the template; only our own plots enter as markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from proofs_check.report.plots import curve_plot, ratio_plot, scaling_plot
from proofs_check.report.summary import (
    MEANING,
    CheckSummary,
    duration,
    headline,
    interval,
    number,
    rate,
    summarise,
    vacuous_notes,
)
from proofs_check.results import FaultResult, RunResult, ScalingFit, ScenarioResult

__all__ = ["page_text"]


@dataclass(frozen=True, slots=True)
class _Section:
    """One guarantee on the page."""

    line: CheckSummary
    curves: tuple[tuple[ScenarioResult, Markup], ...]

    @property
    def queries(self) -> tuple[str, ...]:
        """The searches for a worst query, each once."""
        scenarios = self.line.check.scenarios
        return tuple(dict.fromkeys(scenario.queries for scenario in scenarios if scenario.queries))

    @property
    def faults(self) -> list[list[tuple[str, FaultResult]]]:
        """Workload and result of every planted fault, those of one name together."""
        groups: dict[str, list[tuple[str, FaultResult]]] = {}
        for scenario in self.line.check.scenarios:
            for fault in scenario.faults:
                groups.setdefault(fault.name, []).append((scenario.workload, fault))
        return list(groups.values())


def _trusted(svg: str) -> Markup:
    # Matplotlib escapes the text that it draws; the rest of a plot is ours.
    return Markup(svg)


def _sections(summaries: list[CheckSummary]) -> list[_Section]:
    return [
        _Section(
            line,
            tuple(
                (scenario, _trusted(curve_plot(scenario, f"{line.anchor}-plot-{place}")))
                for place, scenario in enumerate(line.check.scenarios)
                if scenario.curve is not None
            ),
        )
        for line in summaries
    ]


def _scaling(fits: tuple[ScalingFit, ...]) -> list[tuple[ScalingFit, Markup]]:
    return [(fit, _trusted(scaling_plot(fit, f"scaling-{place}"))) for place, fit in enumerate(fits)]


def page_text(run: RunResult) -> str:
    """Return the page; the same results give the same text.

    Parameters
    ----------
    run : RunResult
        What was found.

    Returns
    -------
    str
        A complete HTML document.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "rate": rate, "interval": interval, "duration": duration}
    source = files("proofs_check.report").joinpath("page.html.j2").read_text("utf-8")
    template = environment.from_string(source)
    summaries = summarise(run)
    return template.render(
        run=run,
        headline=headline(run),
        meaning=MEANING,
        sections=_sections(summaries),
        ratios=_trusted(ratio_plot(summaries, "ratios")) if summaries else "",
        scaling=_scaling(run.scaling),
        vacuous=vacuous_notes(run),
    )
