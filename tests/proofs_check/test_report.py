from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

from proofs_check.report import json_text, page_text, print_report, report_console, write_reports
from proofs_check.report.plots import curve_plot
from proofs_check.report.summary import headline, summarise
from proofs_check.results import (
    CheckResult,
    Curve,
    FaultResult,
    RunResult,
    ScalingFit,
    ScenarioResult,
    TestResult,
    Verdict,
)

HOSTILE = "</style><script>alert('x')</script> & \"$\\frac{1}$\" [red] {{ 7 * 7 }}"


def outcome(verdict: Verdict = Verdict.CONSISTENT, failures: int = 3, quantile: float = 0.2) -> TestResult:
    return TestResult(verdict, 348, failures, 58, 0.001, 0.03, 1.0, quantile / 2, quantile, quantile * 1.5)


def scenario(workload: str = "digits", **changes: object) -> ScenarioResult:
    caught = FaultResult("unweighted", "not divided", 0.999, True, outcome(Verdict.REFUTED, 300, 0.9))
    pilot = TestResult(Verdict.INCONCLUSIVE, 40, 7, 41, 0.05, 0.4, 1.0, 0.1, 0.3, 0.4)
    uniform = FaultResult("uniform", "ignores sensitivities", 0.2, False, pilot)
    curve = Curve((50, 100, 200), (0.2, 0.14, 0.1), (0.4, 0.28, 0.2), (math.inf, 1.3, 0.9))
    plain = ScenarioResult(
        workload, "real", 1797, 64, 200, 0.5, 0.1, "eigenvectors", outcome(), (caught, uniform), curve
    )
    return replace(plain, **changes)


def vacuous(workload: str = "wine") -> ScenarioResult:
    nothing = TestResult(Verdict.VACUOUS, 0, 0, 1, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    return scenario(workload, epsilon=math.inf, honest=nothing, faults=(), note="the bound exceeds n")


@pytest.fixture(autouse=True)
def default_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def run() -> RunResult:
    checks = (
        CheckResult("E1", "with replacement", "every query is answered", (scenario(), scenario("iris")), 1.0),
        CheckResult("E1-P", "Poisson", "every query is answered", (scenario(), vacuous()), 1.0),
    )
    fit = ScalingFit("E1", "digits", "1/epsilon", (2.0, 4.0), (10.0, 38.0), (30.0, 120.0), 1.93, 2.0)
    return RunResult("quick", 0, 1e-3, checks, (fit,), ("nn: torch is not installed",), {"numpy": "2"}, 71.0)


@pytest.fixture
def refuted(run: RunResult) -> RunResult:
    bad = scenario("rare", kind="adversarial", honest=outcome(Verdict.REFUTED, 201, 1.1))
    return replace(run, checks=(*run.checks, CheckResult("E2", "VC", "all queries", (bad,), 1.0)))


class Page(HTMLParser):
    """Identifiers, links and whatever a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in {"href", "xlink:href"} and (value or "").startswith("#"):
                self.links.append((value or "")[1:])
            elif name in {"src", "srcset", "href", "xlink:href", "data", "action"}:
                self.loads.append((tag, value or ""))


def terminal(run: RunResult, location: Path | None = None) -> str:
    stream = io.StringIO()
    print_report(run, report_console(stream), location)
    return stream.getvalue()


def strict(text: str) -> object:
    def refuse(name: str) -> object:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# --- JSON


def test_json_is_strict_and_keeps_its_schema(refuted: RunResult):
    record = strict(json_text(refuted))
    assert isinstance(record, dict)
    assert record["schema"] == 1
    assert record["ok"] is False
    top = {
        "schema",
        "profile",
        "seed",
        "false_alarm",
        "checks",
        "scaling",
        "left_out",
        "versions",
        "seconds",
        "ok",
    }
    assert top <= set(record)
    check = record["checks"][0]
    assert {"key", "title", "statement", "scenarios", "seconds", "verdict", "ok", "missed_faults"} <= set(
        check
    )
    part = check["scenarios"][0]
    assert {"workload", "kind", "n", "d", "size", "epsilon", "delta", "honest", "faults", "curve"} <= set(
        part
    )
    assert {"ratio", "verdict", "note", "queries"} <= set(part)
    assert {"name", "power", "required", "caught", "result"} <= set(part["faults"][0])
    assert [entry["verdict"] for entry in record["checks"]] == ["CONSISTENT", "CONSISTENT", "REFUTED"]


def test_json_writes_infinite_epsilon_as_null(run: RunResult):
    record = strict(json_text(run))
    assert isinstance(record, dict)
    assert record["checks"][1]["scenarios"][1]["epsilon"] is None
    assert record["checks"][0]["scenarios"][0]["curve"]["bound"] == [None, 1.3, 0.9]


def test_json_turns_numpy_numbers_into_numbers(run: RunResult):
    np = pytest.importorskip("numpy")
    changed = replace(run, seed=np.int64(7), seconds=np.float64(1.5))
    record = strict(json_text(changed))
    assert isinstance(record, dict)
    assert (record["seed"], record["seconds"]) == (7, 1.5)


def test_json_refuses_a_value_that_it_cannot_hold(run: RunResult):
    with pytest.raises(TypeError, match="has no JSON form"):
        json_text(replace(run, profile=Path("x")))  # type: ignore[arg-type]


# --- page


def test_page_loads_nothing_and_runs_nothing(refuted: RunResult):
    text = page_text(refuted)
    page = Page(text)
    assert page.loads == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


def test_page_links_every_guarantee_to_its_section_and_repeats_no_identifier(refuted: RunResult):
    page = Page(page_text(refuted))
    anchors = [line.anchor for line in summarise(refuted)]
    assert anchors == ["guarantee-e1", "guarantee-e1-p", "guarantee-e2"]
    assert set(anchors) <= set(page.links)
    assert set(page.links) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_page_keeps_anchors_apart_where_keys_differ_in_punctuation_only(run: RunResult):
    keys = ("E1", "E1'", "e1", "(?)", "''")
    checks = tuple(replace(run.checks[0], key=key) for key in keys)
    anchors = [line.anchor for line in summarise(replace(run, checks=checks))]
    assert len(set(anchors)) == len(keys)
    page = Page(page_text(replace(run, checks=checks)))
    assert len(page.ids) == len(set(page.ids))


def test_page_escapes_every_text(run: RunResult):
    bad = scenario(HOSTILE, kind=HOSTILE, queries=HOSTILE, note=HOSTILE)
    bad = replace(bad, faults=(replace(bad.faults[0], name=HOSTILE, description=HOSTILE),))
    check = CheckResult(HOSTILE, HOSTILE, HOSTILE, (bad, replace(vacuous(HOSTILE), note=HOSTILE)), 1.0)
    fit = replace(run.scaling[0], key=HOSTILE, workload=HOSTILE, variable=HOSTILE)
    text = page_text(RunResult(HOSTILE, 0, 1e-3, (check,), (fit,), (HOSTILE,), {HOSTILE: HOSTILE}, 1.0))
    assert "<script" not in text
    assert text.count("</style>") == text.count("<style")
    assert "{{ 7 * 7 }}" in text  # shown, not evaluated


def test_page_is_the_same_for_the_same_results_whatever_matplotlib_is_set_to(refuted: RunResult):
    expected = page_text(refuted)
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.grid": True}):
        before = dict(mpl.rcParams)
        assert page_text(refuted) == expected
        assert dict(mpl.rcParams) == before


def test_page_colours_of_plots_follow_the_theme(run: RunResult):
    plots = re.findall(r"<svg role.*?</svg>", page_text(run), flags=re.DOTALL)
    assert len(plots) == 1 + len(run.scaling) + 4  # ratios, exponents, four curves
    for plot in plots:
        assert "var(--ink)" in plot
        assert not re.search(r"#[0-9a-f]{6}\b", plot)


def test_page_never_calls_anything_proved_by_experiment(run: RunResult):
    text = page_text(run)
    assert "This is not a proof." in text
    assert "OK" in text
    assert "proven" not in text.lower()


@pytest.mark.parametrize("errors", [(0.0, 0.0, 0.0), (1e-16, 1e-16, 2e-16), (math.inf, 5.0, math.nan)])
def test_curve_without_drawable_errors_is_still_a_plot(errors: tuple[float, ...]):
    odd = scenario(curve=Curve((1, 2, 3), errors, errors, (math.inf, math.inf, math.inf)), epsilon=math.inf)
    assert curve_plot(odd, "x").startswith("<svg")


def test_curve_plot_refuses_a_scenario_without_curve():
    with pytest.raises(ValueError, match="has no curve"):
        curve_plot(scenario(curve=None), "x")


@pytest.mark.parametrize("checks", [(), (CheckResult("E1", "t", "s", ()),)], ids=["no check", "no scenario"])
def test_empty_runs_have_all_three_reports(checks: tuple[CheckResult, ...]):
    run = RunResult("quick", 0, 1e-3, checks)
    assert strict(json_text(run))
    assert "NOT OK" in page_text(run)
    assert terminal(run).splitlines()[-1].startswith("NOT OK")


# --- terminal


def test_piped_output_is_plain_and_ends_in_the_outcome(run: RunResult, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = terminal(run, Path("out") / "report.html")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) > 100
    last = text.splitlines()[-1]
    assert last.startswith(
        "OK: 2 guarantees attacked, none refuted; 3 of 3 demanded faults caught; 1 min 11 s"
    )
    assert last.endswith("report.html")


@pytest.mark.parametrize(
    ("columns", "width"), [("90", 90), ("200", 200), ("", 120), ("0", 120), ("wide", 120), ("²", 120)]
)
def test_piped_output_is_as_wide_as_the_environment_says(
    columns: str, width: int, run: RunResult, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", columns)
    assert report_console(io.StringIO()).width == width
    *table, _outcome = terminal(run).splitlines()
    assert max(map(len, table)) <= width


def test_a_fault_that_was_not_demanded_shows_its_pilot_and_counts_for_nothing(run: RunResult):
    text = page_text(run)
    assert "not demanded (power 0.2, pilot 7 / 40)" in text
    assert text.count("not demanded") == 3  # one for every scenario that was not vacuous
    assert [(line.caught, line.required) for line in summarise(run)] == [(2, 2), (1, 1)]


def test_faults_that_nothing_could_demand_are_named_everywhere(run: RunResult):
    weak = CheckResult("E4", "t", "s", (scenario(),), faults=("unweighted", "uniform"))
    found = replace(run, checks=(weak,))
    assert not found.ok
    text = terminal(found)
    assert "Planted faults that no scenario had the power to demand\n  - E4: uniform\n" in text
    assert text.splitlines()[-1].startswith("NOT OK")
    assert "No scenario had the power to demand: uniform." in page_text(found)
    assert "had the power to demand:" not in page_text(run)


def test_the_summary_passes_over_a_test_of_one_trial_unless_it_refutes(run: RunResult):
    many = scenario(honest=replace(outcome(), p_value=0.9))
    single = TestResult(Verdict.CONSISTENT, 1, 0, 1, 0.0, 0.995, 1.0, 0.1, 0.1, 0.1)
    mean = scenario("digits, mean of 100 draws", delta=1e-8, honest=single)
    check = CheckResult("E1-P", "t", "s", (mean, many))
    (line,) = summarise(replace(run, checks=(check,)))
    assert (line.failures, line.allowed) == (3, 57)
    failed = replace(mean, honest=replace(single, verdict=Verdict.REFUTED, failures=1, p_value=1e-8))
    (line,) = summarise(replace(run, checks=(replace(check, scenarios=(many, failed)),)))
    assert (line.failures, line.allowed) == (1, 0)


def test_a_test_of_one_trial_at_a_tiny_rate_reads_well(run: RunResult):
    single = TestResult(Verdict.CONSISTENT, 1, 0, 1, 0.0, 0.995, 1.0, 0.1, 0.1, 0.1)
    mean = scenario("digits, mean of 100 draws", delta=1e-8, honest=single)
    found = replace(run, checks=(CheckResult("E1-P", "t", "s", (mean,)),))
    row = next(line for line in terminal(found).splitlines() if "mean of 100" in line)
    assert " 1e-8 " in row
    assert " 0/1 " in row
    page = page_text(found)
    assert ">1e-8<" in page
    assert ">0 / 1<" in page
    assert ">0 to 99.5 %<" in page


def test_terminal_names_what_was_vacuous_left_out_and_missed(run: RunResult):
    missed = scenario()
    missed = replace(missed, faults=(replace(missed.faults[0], result=outcome(failures=20)),))
    text = terminal(replace(run, checks=(*run.checks, CheckResult("E4", "t", "s", (missed,)))))
    assert "E1-P on wine: the bound exceeds n" in text
    assert "nn: torch is not installed" in text
    assert "E4: unweighted on digits" in text
    assert text.splitlines()[-1].startswith(
        "NOT OK: 3 guarantees attacked, none refuted; 3 of 4 demanded faults"
    )


def test_terminal_takes_names_literally(run: RunResult):
    text = terminal(replace(run, left_out=("[red]colour[/red] :smile:",)))
    assert "[red]colour[/red] :smile:" in text


def test_summary_shows_the_scenario_closest_to_refuting_and_counts_no_vacuous_one(refuted: RunResult):
    first, second, third = summarise(refuted)
    assert (first.real_sets, second.real_sets, third.real_sets) == (2, 1, 0)
    assert (third.failures, third.allowed) == (201, 57)
    assert third.ratio == pytest.approx(2.2)
    assert (second.caught, second.required) == (1, 1)
    assert "1 refuted" in headline(refuted)


# --- files


def test_reports_are_written_with_nothing_beside_them(run: RunResult, tmp_path: Path):
    page = write_reports(run, tmp_path / "new" / "folder")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    assert page.read_text("utf-8") == page_text(run)
