"""Runs the checks: one false-alarm budget for everything, independent randomness for every arm.

Every scenario of every check is one job. A job draws its randomness from a seed sequence keyed by
the names of the check and the workload, so a run of one check sees the draws that it sees in a run
of all; the critical counts differ, since fewer tests share the budget. Jobs run in parallel processes.
"""

from __future__ import annotations

import os
import platform
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from coresets._validate import check_integer
from proofs_check import scaling
from proofs_check.attack import Trial, failure_rate_at_least, test_claim, test_exactly, vacuous
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks import CHECKS
from proofs_check.design import Design
from proofs_check.results import CheckResult, Curve, FaultResult, RunResult, ScalingFit, ScenarioResult
from proofs_check.workloads import Workload, adversarial, degenerate, from_directory, real, wide

__all__ = ["FALSE_ALARM", "PROFILES", "Options", "run", "run_scenario"]

FALSE_ALARM = 1e-3  # probability that a whole run refutes anything that is true

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


def _generator(seed: int, *names: str) -> np.random.Generator:
    """Generator that depends on the seed and the names only."""
    return np.random.default_rng(
        np.random.SeedSequence([seed, *(zlib.crc32(name.encode()) for name in names)])
    )


@dataclass(frozen=True)
class _Test:
    """How one scenario is tested."""

    profile: Profile
    false_alarm: float
    seed: int
    check: str
    queries: str

    def rng(self, scenario: Scenario, arm: str) -> np.random.Generator:
        return _generator(self.seed, self.check, scenario.workload.name, arm)


def run_scenario(scenario: Scenario, test: _Test) -> ScenarioResult:
    """Test one scenario: the honest construction, its planted faults, and its error curve."""
    claimed = scenario.claimed
    faults: tuple[FaultResult, ...] = ()
    curve = None
    if scenario.vacuous:
        honest = vacuous()
    else:
        if claimed.delta > 0.0:
            design = Design.plan(
                delta=claimed.delta,
                detect=test.profile.detect,
                false_alarm=test.false_alarm,
                miss=test.profile.miss,
            )
            judge = partial(_judge, claimed=claimed, design=design)
            power = design.power
        else:
            judge, power = partial(_judge_exactly, epsilon=claimed.epsilon), _certain
        honest = judge(scenario.trial, test.rng(scenario, "honest"), stop=False)
        faults = tuple(
            _plant(fault.name, fault.trial, scenario, test, judge, power) for fault in scenario.faults
        )
    if scenario.at_size is not None:
        curve = _curve(scenario, test)
    return ScenarioResult(
        workload=scenario.workload.name,
        kind=scenario.workload.kind,
        n=scenario.workload.n,
        d=scenario.workload.d,
        size=scenario.size,
        epsilon=claimed.epsilon,
        delta=claimed.delta,
        queries=test.queries,
        honest=honest,
        faults=faults,
        curve=curve,
        note=scenario.vacuous or scenario.note,
    )


def _judge(trial: Trial, rng: np.random.Generator, *, stop: bool, claimed: Any, design: Design) -> Any:
    return test_claim(trial, claimed, design, rng, stop_when_refuted=stop)


def _judge_exactly(trial: Trial, rng: np.random.Generator, *, stop: bool, epsilon: float) -> Any:
    del stop  # there is one trial
    return test_exactly(trial, epsilon, rng)


def _certain(rate: float) -> float:
    """Power of a test in which one failure refutes and nothing is random."""
    return float(rate > 0.0)


def _plant(
    name: str,
    trial: Trial,
    scenario: Scenario,
    test: _Test,
    judge: Callable[..., Any],
    power: Callable[[float], float],
) -> FaultResult:
    """Test a broken construction, after a pilot has told whether this design must catch it."""
    pilot = test.profile.pilot if scenario.claimed.delta > 0.0 else 1
    pilot_rng = test.rng(scenario, f"pilot of {name}")
    if scenario.claimed.delta > 0.0:
        rate = failure_rate_at_least(trial, scenario.claimed.epsilon, pilot_rng, pilot)
    else:
        rate = float(test_exactly(trial, scenario.claimed.epsilon, pilot_rng).failures)
    chance = power(rate) if rate > 0.0 else 0.0
    return FaultResult(
        name=name,
        description=_described(test.check, name),
        power=chance,
        required=chance >= 1.0 - test.profile.miss,
        result=judge(trial, test.rng(scenario, name), stop=True),
    )


def _described(key: str, name: str) -> str:
    return next(check.faults[name] for check in CHECKS if check.key == key)


def _curve(scenario: Scenario, test: _Test) -> Curve:
    """Error quantiles and bound at sizes up to the scenario's own, in equal ratios."""
    assert scenario.at_size is not None  # the caller has checked
    smallest = max(2.0, scenario.size / 2.0 ** (test.profile.curve_sizes - 1))
    sizes = np.unique(np.geomspace(smallest, scenario.size, test.profile.curve_sizes).astype(int))
    typical, quantile, bound = [], [], []
    for size, child in zip(sizes, test.rng(scenario, "curve").spawn(sizes.size), strict=True):
        trial, epsilon = scenario.at_size(int(size))
        errors = [trial(c) for c in child.spawn(test.profile.curve_trials)]
        typical.append(float(np.median(errors)))
        quantile.append(float(np.quantile(errors, 1.0 - scenario.claimed.delta, method="inverted_cdf")))
        bound.append(epsilon)
    return Curve(tuple(int(s) for s in sizes), tuple(typical), tuple(quantile), tuple(bound))


@dataclass(frozen=True)
class _Outcome:
    """What one job returns, with its place in the plan."""

    place: tuple[int, int]
    result: ScenarioResult | ScalingFit
    seconds: float


def _scenario_job(place: tuple[int, int], scenario: Scenario, test: _Test) -> _Outcome:
    start = time.perf_counter()
    with threadpool_limits(limits=1):  # the matrices are small and the processes fill the cores
        result = run_scenario(scenario, test)
    return _Outcome(place, result, time.perf_counter() - start)


def _scaling_job(place: tuple[int, int], kind: str, workload: Workload, trials: int, seed: int) -> _Outcome:
    start = time.perf_counter()
    measure = scaling.vary_epsilon if kind == "epsilon" else scaling.vary_dimension
    with threadpool_limits(limits=1):
        fit = measure(workload, trials=trials, rng=_generator(seed, "scaling", kind, workload.name))
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
    return [*more, *real(profile.max_points), *adversarial(), *degenerate()], left_out


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
    jobs = [
        delayed(_scenario_job)(
            (i, j), scenario, _Test(profile, share, options.seed, check.key, check.queries)
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
