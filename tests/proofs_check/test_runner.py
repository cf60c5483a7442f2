"""Runs are small: few, short workloads and a coarse design. A run refutes something true with
probability at most 1e-3; the seeds are fixed, so a test that passes keeps passing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config

from coresets.accuracy import Accuracy
from coresets.samplers import Poisson
from coresets.sampling import Draw, inclusion_probabilities, poisson_from_probabilities
from coresets.weighted_set import WeightedSet
from proofs_check import judge, runner
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks import CHECKS
from proofs_check.checks._common import OnTorch
from proofs_check.results import RunResult, Verdict
from proofs_check.runner import FALSE_ALARM, PROFILES, Options, run
from proofs_check.workloads import Workload, adversarial, degenerate

BY_KEY = {check.key: check for check in CHECKS}


def uneven() -> Workload:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((1500, 2)) * 10.0 ** rng.uniform(-2.0, 1.0, (1500, 1))
    return Workload("uneven lengths", "real", WeightedSet(points, rng.uniform(0.1, 1.0, 1500)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three workloads, a coarse profile, and jobs in this process, where patches are seen."""
    profile = replace(
        PROFILES["quick"], detect=0.4, pilot=25, curve_trials=2, curve_sizes=2, scaling_trials=4
    )
    monkeypatch.setitem(PROFILES, "quick", profile)
    monkeypatch.setattr(OnTorch, "available", lambda: False)  # loading it takes longer than the rest
    monkeypatch.setattr(runner, "real", lambda max_points: (uneven(),))
    monkeypatch.setattr(runner, "adversarial", lambda: adversarial()[:1])
    monkeypatch.setattr(runner, "degenerate", lambda: degenerate()[:1])
    with parallel_config(backend="sequential"):
        yield


def timeless(result: RunResult) -> RunResult:
    return replace(result, seconds=0.0, checks=tuple(replace(check, seconds=0.0) for check in result.checks))


@pytest.mark.usefixtures("small")
class TestRun:
    def test_the_library_is_not_refuted_and_demanded_faults_are_caught(self) -> None:
        result = run(Options(only=("E1", "TOP", "LEV")))
        assert result.ok
        assert [check.key for check in result.checks] == ["E1", "TOP", "LEV"]
        assert all(check.verdict is Verdict.CONSISTENT for check in result.checks)
        assert all(check.required_faults for check in result.checks)
        assert (result.profile, result.seed, result.false_alarm) == ("quick", 0, FALSE_ALARM)
        assert result.scaling == ()
        assert "numpy" in result.versions

    def test_the_same_seed_gives_the_same_result_and_another_seed_another(self) -> None:
        first, again, other = (timeless(run(Options(seed=s, only=("E1-P",)))) for s in (1, 1, 2))
        assert first == again
        assert other.checks != first.checks

    @pytest.mark.slow
    def test_processes_find_what_one_process_finds(self) -> None:
        options = Options(only=("TOP", "LEV"))
        alone = timeless(run(options))
        with parallel_config(backend="loky"):
            assert timeless(run(options)) == alone

    def test_one_check_sees_the_draws_that_it_sees_among_others(self) -> None:
        alone, among = run(Options(only=("DM",))), run(Options(only=("DM", "E2")))
        # The designs differ, since the budget is shared; the curves do not depend on it.
        assert [s.curve for s in alone.checks[0].scenarios] == [s.curve for s in among.checks[0].scenarios]

    def test_exponents_come_with_the_matrix_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = np.random.default_rng(0).standard_normal((400, 8))
        monkeypatch.setattr(runner, "wide", lambda: Workload("normal", "real", WeightedSet(data)))
        result = run(Options(only=("MC",)))
        assert [fit.variable for fit in result.scaling] == ["1/epsilon", "d"]

    def test_progress_counts_every_job(self) -> None:
        calls: list[tuple[str, int, int]] = []
        result = run(Options(only=("TOP", "E2")), progress=lambda *call: calls.append(call))
        jobs = sum(len(check.scenarios) for check in result.checks)
        assert [done for _, done, _ in calls] == list(range(1, jobs + 1))
        assert {total for _, _, total in calls} == {jobs}
        assert {label for label, _, _ in calls} == {"TOP", "E2"}

    def test_a_directory_adds_workloads_and_reports_what_it_could_not_use(self, tmp_path: Path) -> None:
        np.save(tmp_path / "mine.npy", np.random.default_rng(0).standard_normal((200, 3)))
        (tmp_path / "broken.npz").write_bytes(b"nothing")
        result = run(Options(data_dir=tmp_path, only=("TOP",)))
        names = [scenario.workload for scenario in result.checks[0].scenarios]
        assert names == ["uneven lengths", "mine", "rare direction", "collinear points"]
        assert any(line.startswith("broken.npz: ") for line in result.left_out)

    def test_weights_that_are_not_divided_fail_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Draw, "kept_weights", property(lambda draw: draw.kept_counts.astype(float)))
        monkeypatch.setattr(Draw, "weights", property(lambda draw: draw.counts.astype(float)))
        result = run(Options(only=("E1-P",)))
        assert not result.ok
        assert result.checks[0].verdict is Verdict.REFUTED

    def test_a_sampler_that_keeps_too_few_fails_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def thinner(self: Poisson, sensitivities: Any, size: Any, rng: Any) -> Any:
            return poisson_from_probabilities(inclusion_probabilities(sensitivities, size) / 50.0, rng=rng)

        monkeypatch.setattr(Poisson, "draw", thinner)
        assert not run(Options(only=("E1-P",))).ok


class Constant:
    """Always the same error."""

    def __init__(self, error: float) -> None:
        self.error = error

    def __call__(self, rng: np.random.Generator) -> float:
        return self.error


def check_with(honest: float, faults: dict[str, float], delta: float = 0.1, vacuous: str = "") -> Check:
    def scenarios(workloads: Any, profile: Profile) -> Iterator[Scenario]:
        for workload in workloads:
            yield Scenario(
                workload=workload,
                size=10,
                claimed=Accuracy(0.5, delta),
                trial=Constant(honest),
                faults=tuple(Fault(name, Constant(error)) for name, error in faults.items()),
                vacuous=vacuous,
            )

    return replace(BY_KEY["E1"], scenarios=scenarios, faults=dict.fromkeys(faults, "broken"))


KNOWN = next(iter(BY_KEY["E1"].faults))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("delta", [0.1, 0.0])
@pytest.mark.parametrize(
    ("honest", "fault", "verdict", "ok"),
    [
        (0.1, 0.9, Verdict.CONSISTENT, True),
        (0.9, 0.9, Verdict.REFUTED, False),
        (float("nan"), 0.9, Verdict.REFUTED, False),
        (0.1, 0.2, Verdict.CONSISTENT, False),  # no fault was demanded, so nothing was shown
    ],
)
def test_a_run_is_fine_if_nothing_is_refuted_and_a_fault_was_demanded(
    honest: float, fault: float, verdict: Verdict, ok: bool, delta: float
) -> None:
    result = run(checks=[check_with(honest, {KNOWN: fault}, delta)])
    assert result.checks[0].verdict is verdict
    assert result.ok is ok


@pytest.mark.usefixtures("small")
def test_a_demanded_fault_that_passes_fails_the_run() -> None:
    class Fading:
        """Fails in the pilot and never again."""

        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, rng: np.random.Generator) -> float:
            self.calls += 1
            return 0.9 if self.calls <= PROFILES["quick"].pilot else 0.1

    honest = check_with(0.1, {})

    def scenarios(workloads: Any, profile: Profile) -> Iterator[Scenario]:
        for scenario in honest.scenarios(workloads[:1], profile):
            yield replace(scenario, faults=(Fault(KNOWN, Fading()),))

    result = run(checks=[replace(honest, scenarios=scenarios, faults={KNOWN: "broken"})])
    assert result.checks[0].missed_faults == (f"{KNOWN} on uneven lengths",)
    assert not result.ok


@pytest.mark.usefixtures("small")
def test_vacuous_claims_are_not_tried() -> None:
    result = run(checks=[check_with(0.9, {KNOWN: 0.9}, vacuous="says nothing")])
    assert result.checks[0].verdict is Verdict.VACUOUS
    assert not result.ok  # nothing was shown
    assert {(s.note, s.faults, s.honest.trials) for s in result.checks[0].scenarios} == {
        ("says nothing", (), 0)
    }


@pytest.mark.usefixtures("small")
def test_the_tests_share_the_false_alarm_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    plan: Callable[..., Any] = judge.Design.plan
    shares: list[float] = []

    class Recording:
        @staticmethod
        def plan(**rates: float) -> Any:
            shares.append(rates["false_alarm"])
            return plan(**rates)

    monkeypatch.setattr(judge, "Design", Recording)
    result = run(
        checks=[check_with(0.1, {KNOWN: 0.9}), check_with(0.1, {}), check_with(0.9, {}, vacuous="nothing")]
    )
    tests = sum(s.verdict is not Verdict.VACUOUS for check in result.checks for s in check.scenarios)
    assert len(shares) == tests == 6
    assert sum(shares) == pytest.approx(FALSE_ALARM, rel=1e-12)
    assert result.false_alarm == FALSE_ALARM == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "slow"}, "profile = 'slow'; pass one of quick, full"),
        ({"seed": -1}, "seed = -1"),
        ({"only": ("E1", "E99")}, "'E99' is not a guarantee; known are"),
        ({"data_dir": Path("no") / "such" / "place"}, "is not a directory"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_the_full_profile_is_the_stricter_one() -> None:
    quick, full = PROFILES["quick"], PROFILES["full"]
    assert full.detect < quick.detect
    assert full.miss < quick.miss
    assert full.pilot > quick.pilot
    assert full.max_points > quick.max_points
