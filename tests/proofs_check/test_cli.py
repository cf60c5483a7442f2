from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proofs_check import __main__ as entry
from proofs_check import cli as command_line
from proofs_check.checks import CHECKS
from proofs_check.results import CheckResult, FaultResult, RunResult, ScenarioResult, TestResult, Verdict
from proofs_check.runner import Options


def outcome(verdict: Verdict, failures: int) -> TestResult:
    return TestResult(verdict, 348, failures, 58, 0.0, 0.1, 1.0, 0.1, 0.2, 0.3)


def result(honest: Verdict = Verdict.CONSISTENT, fault: Verdict = Verdict.REFUTED) -> RunResult:
    planted = FaultResult("unweighted", "not divided", 0.999, True, outcome(fault, 300))
    scenario = ScenarioResult("digits", "real", 9, 2, 5, 0.5, 0.1, "all", outcome(honest, 3), (planted,))
    return RunResult("quick", 0, 1e-3, (CheckResult("E1", "title", "statement", (scenario,)),))


class FakeRun:
    """Stands in for the runner: remembers its options, returns or raises what it is told to."""

    def __init__(self) -> None:
        self.outcome: RunResult | BaseException = result()
        self.options: Options | None = None
        self.progress: Callable[[str, int, int], None] | None = None

    def __call__(self, options: Options, *, progress: Any = None) -> RunResult:
        self.options, self.progress = options, progress
        if progress is not None:
            progress("E1 [bold]", 1, 2)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRun:
    run = FakeRun()
    monkeypatch.setattr(command_line, "run", run)
    monkeypatch.delenv("CORESETS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return run


def call(*args: str) -> Result:
    outcome = CliRunner().invoke(command_line.cli, list(args))
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome


# --- run


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (result(), 0),
        (result(honest=Verdict.INCONCLUSIVE), 0),
        (result(honest=Verdict.REFUTED), 1),
        (result(fault=Verdict.CONSISTENT), 1),
        (replace(result(), checks=()), 1),
    ],
    ids=["consistent", "inconclusive", "refuted", "fault missed", "nothing attacked"],
)
def test_exit_code_tells_the_outcome(fake: FakeRun, found: RunResult, code: int):
    fake.outcome = found
    done = call()
    assert done.exit_code == code
    assert done.stdout.splitlines()[-1].startswith("OK" if code == 0 else "NOT OK")
    assert Path("theorems-report/report.html").is_file()
    assert Path("theorems-report/report.json").is_file()


@pytest.mark.parametrize("prefix", [(), ("run",)], ids=["no command", "run"])
def test_options_reach_the_runner_with_and_without_the_command(fake: FakeRun, prefix: tuple[str, ...]):
    args = (
        "--profile",
        "full",
        "--seed",
        "7",
        "--data-dir",
        ".",
        "--only",
        "e1-p",
        "--only",
        "E1-P",
        "--only",
        "MC",
    )
    assert call(*prefix, *args).exit_code == 0
    assert fake.options == Options("full", 7, Path(), ("E1-P", "MC"))


def test_data_directory_is_also_taken_from_the_environment(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("CORESETS_DATA", str(tmp_path))
    call()
    assert fake.options is not None
    assert fake.options.data_dir == tmp_path


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--sead", "1"), "No such option"),
        (("--seed", "-1"), "-1"),
        (("--seed", "x"), "x"),
        (("--profile", "huge"), "huge"),
        (("--data-dir", "absent"), "absent"),
        (("--data-dir", "file"), "file"),
        (("--out", "file"), "is a file"),
        (("--out", "file/below"), "is a file"),
        (("--only", "E1-Q"), "E1"),
        (("explain", "lewi"), "LEWIS"),
        (("explain", "zzzzzzzz"), "list"),
        (("explain",), "NAME"),
        (("prove",), "prove"),
        (("--seed", "1", "list"), "list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_misuse_exits_2_and_says_what_is_wrong(fake: FakeRun, args: tuple[str, ...], told: str):
    Path("file").touch()
    done = call(*args)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert fake.options is None
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_default_folder_that_is_a_file_is_misuse(fake: FakeRun):
    Path("theorems-report").touch()
    assert call().exit_code == 2
    assert fake.options is None


def test_json_is_all_of_the_output_and_writes_no_files_unless_asked(fake: FakeRun):
    done = call("--json")
    assert json.loads(done.stdout)["ok"] is True
    assert done.stderr == ""
    assert list(Path().iterdir()) == []
    call("--json", "--out", "kept")
    assert json.loads(Path("kept/report.json").read_text()) == json.loads(done.stdout)


def test_json_keeps_the_exit_code(fake: FakeRun):
    fake.outcome = result(honest=Verdict.REFUTED)
    done = call("--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["ok"] is False


def test_nothing_is_drawn_where_standard_error_is_no_terminal(fake: FakeRun):
    done = call()
    assert fake.progress is None
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_progress_is_drawn_on_a_terminal(fake: FakeRun, monkeypatch: pytest.MonkeyPatch):
    class Terminal:
        """Standard error with a terminal's answer."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def isatty(self) -> bool:
            return True

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    def run(options: Options, *, progress: Any = None) -> RunResult:
        assert progress is not None
        progress("E1 [bold]", 1, 2)
        return result()

    monkeypatch.setattr(command_line, "run", run)
    original = command_line._progress

    def on_terminal() -> Any:
        monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
        return original()

    monkeypatch.setattr(command_line, "_progress", on_terminal)
    assert call().exit_code == 0


def test_interruption_exits_130_and_leaves_no_file(fake: FakeRun):
    fake.outcome = KeyboardInterrupt()
    done = call()
    assert done.exit_code == 130
    assert "Traceback" not in done.output
    assert list(Path().iterdir()) == []


def test_results_are_shown_even_if_they_cannot_be_written(fake: FakeRun, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(command_line, "write_reports", fail)
    done = call()
    assert done.exit_code == 2
    assert "OK" in done.stdout
    assert "disk full" in done.stderr


# --- list and explain


def test_list_shows_every_guarantee(fake: FakeRun):
    done = call("list")
    assert done.exit_code == 0
    shown = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert {check.key for check in CHECKS} <= set(shown)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.key)
def test_explain_tells_all_that_is_known_in_any_case(check: Any):
    done = call("explain", check.key.swapcase())
    assert done.exit_code == 0
    told = " ".join(done.stdout.split())
    guarantee = check.guarantee
    facts = [
        guarantee.title,
        guarantee.statement,
        guarantee.status.value,
        guarantee.quantifier.value,
        check.page,
    ]
    facts += [guarantee.citation.text, check.queries, *check.faults, *check.faults.values()]
    facts += [scheme.value for scheme in guarantee.schemes]
    facts += [
        fact for item in guarantee.assumptions for fact in (item.statement, item.checked_by or "the caller")
    ]
    for fact in facts:
        assert " ".join(fact.split()) in told
    assert call("explain", guarantee.title.upper()).stdout == done.stdout


# --- entry point


@pytest.mark.parametrize("name", ["click", "jinja2", "joblib", "markupsafe", "matplotlib", "rich"])
def test_missing_extra_is_one_line_that_names_it(name: str):
    code = f"import sys; sys.modules[{name!r}] = None; from proofs_check.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(command_line.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"proofs_check needs {name}: pip install 'coresets[proofs]'\n"


def test_interruption_while_starting_exits_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(**kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "cli", interrupted)
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"
