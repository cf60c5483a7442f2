"""What a reader wants to know first, computed once for the terminal and for the page."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from proofs_check.results import CheckResult, RunResult, ScenarioResult, Verdict

__all__ = [
    "MEANING",
    "CheckSummary",
    "duration",
    "headline",
    "interval",
    "number",
    "rate",
    "summarise",
    "vacuous_notes",
]

MEANING: dict[Verdict, str] = {
    Verdict.CONSISTENT: "The test had the power to refute the claim and did not. This is not a proof.",
    Verdict.REFUTED: "Failures were so frequent that the claim, were it true, would hardly ever show them.",
    Verdict.INCONCLUSIVE: "Not refuted, but there were too few trials to notice a false claim.",
    Verdict.VACUOUS: "The claim excludes nothing at this size, so that a pass would mean nothing.",
}


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """One line about one guarantee.

    Attributes
    ----------
    check : CheckResult
        What was found.
    anchor : str
        Name of its section on the page: letters, digits and hyphens, unique in the run.
    real_sets : int
        Real data sets on which the claim says something.
    ratio : float or None
        Largest observed over claimed error; None if every scenario is vacuous.
    failures, allowed : int
        Trials that failed and the most that would not refute, in the scenario with the least p-value.
    caught, required : int
        Demanded faults that were caught, and all that were demanded.
    """

    check: CheckResult
    anchor: str
    real_sets: int
    ratio: float | None
    failures: int
    allowed: int
    caught: int
    required: int


def _tested(check: CheckResult) -> list[ScenarioResult]:
    return [scenario for scenario in check.scenarios if scenario.verdict is not Verdict.VACUOUS]


def _worst(scenarios: list[ScenarioResult]) -> tuple[int, int]:
    """Failures and failures allowed where so many failures are least likely under the claim.

    Of scenarios without a failure, the one with the most trials has the most to say.
    """
    tests = [scenario.honest for scenario in scenarios]
    if not tests:
        return 0, 0
    worst = min(tests, key=lambda t: (t.verdict is not Verdict.REFUTED, t.p_value, -t.trials, t.critical))
    return worst.failures, min(worst.critical - 1, worst.trials)


def summarise(run: RunResult) -> list[CheckSummary]:
    """Summaries of the checks, in their order."""
    summaries = []
    taken: set[str] = set()
    for check in run.checks:
        slug = base = "guarantee-" + (re.sub(r"[^a-z0-9]+", "-", check.key.lower()).strip("-") or "unnamed")
        copies = 1
        while slug in taken:
            copies += 1
            slug = f"{base}-{copies}"
        taken.add(slug)
        tested = _tested(check)
        failures, allowed = _worst(tested)
        summaries.append(
            CheckSummary(
                check=check,
                anchor=slug,
                real_sets=len({scenario.source for scenario in tested if scenario.kind == "real"}),
                ratio=max((scenario.ratio for scenario in tested), default=None),
                failures=failures,
                allowed=allowed,
                caught=check.required_faults - len(check.missed_faults),
                required=check.required_faults,
            )
        )
    return summaries


def vacuous_notes(run: RunResult) -> list[tuple[str, str, str]]:
    """Key, workload and reason of every vacuous scenario."""
    return [
        (check.key, scenario.workload, scenario.note or f"claimed epsilon {number(scenario.epsilon)}")
        for check in run.checks
        for scenario in check.scenarios
        if scenario.verdict is Verdict.VACUOUS
    ]


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def headline(run: RunResult) -> str:
    """The outcome in one sentence, for instance what makes a run not OK."""
    if not run.checks:
        return "no guarantee was attacked"
    required = sum(check.required_faults for check in run.checks)
    missed = sum(len(check.missed_faults) for check in run.checks)
    toothless = sum(check.required_faults == 0 for check in run.checks)
    refuted = run.count(Verdict.REFUTED)
    attacked = _count(len(run.checks), "guarantee")
    caught = f"{required - missed} of {_count(required, 'demanded fault')} caught"
    parts = [f"{attacked} attacked, {refuted or 'none'} refuted", caught]
    if toothless:
        parts.append(f"{_count(toothless, 'check')} without a fault that had to be caught")
    untested = [f"{name!r} ({check.key})" for check in run.checks for name in check.untested_faults]
    if untested and not toothless:
        parts.append(f"no scenario had the power to demand {', '.join(untested)}")
    return "; ".join(parts)


def number(value: float | None, digits: int = 3) -> str:
    """Short decimal form: ``digits`` significant ones, thousands apart, exponents only when extreme.

    Examples
    --------
    >>> [number(x) for x in (0.123456, 12345, 1797.0, 0.1, 2e-9, float("inf"), None)]
    ['0.123', '12,345', '1,797', '0.100', '2e-9', 'inf', '-']
    """
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 9:
        return _short_exponent(f"{value:.{digits}g}")
    return f"{value:,.{max(digits - 1 - size, 0)}f}"


def rate(value: float) -> str:
    """A probability: as given if it is short, otherwise rounded.

    Examples
    --------
    >>> rate(0.1), rate(0.0123456), rate(1e-6)
    ('0.1', '0.0123', '1e-6')
    """
    return _short_exponent(f"{value:.3g}")


def _short_exponent(text: str) -> str:
    return text.replace("e-0", "e-").replace("e+", "e").replace("e0", "e")


def interval(low: float, high: float) -> str:
    """An interval of probabilities in per cent, two digits each.

    Examples
    --------
    >>> interval(0.00345, 0.0249), interval(0.0, 0.995)
    ('0.34 to 2.5 %', '0 to 99.5 %')
    """
    ends = (f"{100 * end:.3g}" if end > 0.99 else f"{100 * end:.2g}" for end in (low, high))
    return " to ".join(ends) + " %"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds.

    Examples
    --------
    >>> duration(7.26), duration(95)
    ('7.3 s', '1 min 35 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
