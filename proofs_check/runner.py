"""Runs the checks: one false-alarm budget for everything, independent randomness for every arm.

Every scenario of every check is one job. A job draws its randomness from a seed sequence keyed by
the names of the check and the workload, so a run of one check sees the draws that it sees in a run
of all; the critical counts differ, since fewer tests share the budget. Jobs run in parallel processes.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from coresets._validate import check_integer
from proofs_check import scaling
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks import CHECKS
from proofs_check.judge import ScenarioTest, named_generator, run_scenario
from proofs_check.results import CheckResult, RunResult, ScalingFit, ScenarioResult
from proofs_check.workloads import Workload, adversarial, degenerate, from_directory, real, wide

__all__ = ["FALSE_ALARM", "FAULT_MISS", "PROFILES", "Options", "run"]

FALSE_ALARM = 1e-3  # probability that a whole run refutes anything that is true
FAULT_MISS = 1e-3  # a fault is demanded if a pilot promises its capture but for a share of this

PROFILES = {
    "quick": Profile(
        name="quick",
        detect=0.3,
        miss=0.01,
        pilot=40,
        curve_trials=24,
        curve_sizes=5,
        scaling_trials=60,
        max_points=4000,
    ),
    "full": Profile(
        name="full",
        detect=0.15,
        miss=0.001,
        pilot=200,
        curve_trials=200,
        curve_sizes=9,
        scaling_trials=1000,
        max_points=100_000,
    ),
}


@dataclass(frozen=True)
class Options:
    """What to run.

    Parameters
    ----------
    profile : str
        ``"quick"`` (minutes) or ``"full"`` (an hour or so).
    seed : int
        Seed of all randomness, at least 0.
    data_dir : Path, optional
        Directory with further real data sets.
    only : tuple of str
        Keys of the guarantees to attack; all by default.

    Raises
    ------
    ValueError
        If the profile or a key is unknown, the seed is negative, or the directory does not exist.
    """

    profile: str = "quick"
    seed: int = 0
    data_dir: Path | None = None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile = {self.profile!r}; pass one of {', '.join(PROFILES)}")
        check_integer(self.seed, "seed", at_least=0)
        if self.data_dir is not None and not Path(self.data_dir).is_dir():
            raise ValueError(f"data_dir = {os.fspath(self.data_dir)!r} is not a directory")
        known = {check.key for check in CHECKS}
        for key in self.only:
            if key not in known:
                raise ValueError(f"{key!r} is not a guarantee; known are {', '.join(sorted(known))}")


@dataclass(frozen=True)
class _Outcome:
    """What one job returns, with its place in the plan."""

    place: tuple[int, int]
    result: ScenarioResult | ScalingFit
    seconds: float


def _scenario_job(place: tuple[int, int], scenario: Scenario, test: ScenarioTest) -> _Outcome:
    start = time.perf_counter()
    with threadpool_limits(limits=1):  # the matrices are small and the processes fill the cores
        result = run_scenario(scenario, test)
    return _Outcome(place, result, time.perf_counter() - start)


def _scaling_job(place: tuple[int, int], kind: str, workload: Workload, trials: int, seed: int) -> _Outcome:
    start = time.perf_counter()
    measure = scaling.vary_epsilon if kind == "epsilon" else scaling.vary_dimension
    with threadpool_limits(limits=1):
        fit = measure(workload, trials=trials, rng=named_generator(seed, "scaling", kind, workload.name))
    return _Outcome(place, fit, time.perf_counter() - start)


def _versions() -> dict[str, str]:
    names = ("coresets", "numpy", "scipy", "numba", "scikit-learn", "torch")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _workloads(options: Options, profile: Profile) -> tuple[list[Workload], list[str]]:
    more, left_out = (
        ([], []) if options.data_dir is None else from_directory(Path(options.data_dir), profile.max_points)
    )
    # The bundled sets first: checks that take a few sets take the same ones whatever is added.
    return [*real(profile.max_points), *more, *adversarial(), *degenerate()], left_out


def run(
    options: Options | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    checks: Sequence[Check] = CHECKS,
) -> RunResult:
    """Attack the guarantees.

    Parameters
    ----------
    options : Options, optional
        What to run; the quick profile with seed 0 by default.
    progress : callable, optional
        ``progress(label, done, total)`` after every job.
    checks : sequence of Check
        The checks to choose from.

    Returns
    -------
    RunResult
        The same for the same options, apart from durations.
    """
    options = options or Options()
    start = time.perf_counter()
    profile = PROFILES[options.profile]
    workloads, left_out = _workloads(options, profile)
    chosen = [check for check in checks if not options.only or check.key in options.only]
    plan = [list(check.scenarios(workloads, profile)) for check in chosen]

    # One budget: every test that can raise a false alarm gets an equal share of it.
    tests = sum(not scenario.vacuous for scenarios in plan for scenario in scenarios)
    share = FALSE_ALARM / max(1, tests)
    # And one for faults that are demanded and then slip through by bad luck.
    planted = sum(len(scenario.faults) for scenarios in plan for scenario in scenarios)
    fault_miss = FAULT_MISS / max(1, planted)
    jobs = [
        delayed(_scenario_job)(
            (i, j), scenario, ScenarioTest(profile, share, fault_miss, options.seed, check)
        )
        for i, (check, scenarios) in enumerate(zip(chosen, plan, strict=True))
        for j, scenario in enumerate(scenarios)
    ]
    if any(check.key == "MC" for check in chosen):
        jobs += [
            delayed(_scaling_job)((-1, j), kind, wide(), profile.scaling_trials, options.seed)
            for j, kind in enumerate(("epsilon", "dimension"))
        ]

    outcomes: dict[tuple[int, int], _Outcome] = {}
    with warnings.catch_warnings():
        # An idle worker is replaced, which costs a moment and changes nothing.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        for outcome in Parallel(n_jobs=os.cpu_count(), return_as="generator_unordered")(jobs):
            outcomes[outcome.place] = outcome
            if progress is not None:
                label = chosen[outcome.place[0]].key if outcome.place[0] >= 0 else "exponents"
                progress(label, len(outcomes), len(jobs))

    results = []
    for i, (check, scenarios) in enumerate(zip(chosen, plan, strict=True)):
        found = [outcomes[i, j] for j in range(len(scenarios))]
        results.append(
            CheckResult(
                key=check.key,
                title=check.guarantee.title,
                statement=check.guarantee.statement,
                scenarios=tuple(o.result for o in found if isinstance(o.result, ScenarioResult)),
                faults=tuple(check.faults),
                seconds=sum(o.seconds for o in found),
            )
        )
    fits = [outcomes[place].result for place in sorted(outcomes) if place[0] < 0]
    if util.find_spec("torch") is None:
        left_out.append("draws on tensors: torch is not installed (extra `nn`)")
    return RunResult(
        profile=profile.name,
        seed=options.seed,
        false_alarm=FALSE_ALARM,
        checks=tuple(results),
        scaling=tuple(fit for fit in fits if isinstance(fit, ScalingFit)),
        left_out=tuple(left_out),
        versions=_versions(),
        seconds=time.perf_counter() - start,
    )
