"""Judges one scenario: the honest construction, its planted faults, and its error curve.

A fault is *demanded* when its power is known to be high enough: because it can be computed, or
because a pilot, independent of the test, bounds the failure rate from below. A demanded fault that
is not refuted makes a run fail, so the power that is asked for is close to one. A fault that is not
demanded is not tested further; its pilot is reported.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.design import Design
from proofs_check.results import Curve, FaultResult, ScenarioResult, TestResult
from proofs_check.trials import Trial, pilot, test_claim, test_exactly, vacuous

__all__ = ["ScenarioTest", "named_generator", "run_scenario"]

Faults: TypeAlias = tuple[FaultResult, ...]


def named_generator(seed: int, *names: str) -> np.random.Generator:
    """Generator that depends on the seed and the names only."""
    return np.random.default_rng(
        np.random.SeedSequence([seed, *(zlib.crc32(name.encode()) for name in names)])
    )


@dataclass(frozen=True)
class ScenarioTest:
    """How one scenario is tested.

    Parameters
    ----------
    profile : Profile
        How thoroughly.
    false_alarm : float
        Probability with which this scenario may refute a true claim.
    fault_miss : float
        A fault is demanded if its power is at least one minus this.
    seed : int
        Seed of the run.
    check : Check
        The check that the scenario belongs to.
    """

    profile: Profile
    false_alarm: float
    fault_miss: float
    seed: int
    check: Check

    def rng(self, scenario: Scenario, arm: str) -> np.random.Generator:
        """Generator of one arm of one scenario."""
        return named_generator(self.seed, self.check.key, scenario.workload.name, arm)

    def design(self, scenario: Scenario) -> Design:
        """Trials and critical count for a claim that allows failures."""
        delta = scenario.claimed.delta
        if scenario.trials is not None:
            return Design(delta, scenario.trials, self.false_alarm)
        return Design.plan(
            delta=delta, detect=self.profile.detect, false_alarm=self.false_alarm, miss=self.profile.miss
        )


def run_scenario(scenario: Scenario, test: ScenarioTest) -> ScenarioResult:
    """Test one scenario: the honest construction, its planted faults, and its error curve."""
    honest: TestResult = vacuous()
    faults: Faults = ()
    if not scenario.vacuous:
        arms = _exact_arms if scenario.claimed.delta == 0.0 else _arms
        honest, faults = arms(scenario, test)
    return ScenarioResult(
        workload=scenario.workload.name,
        kind=scenario.workload.kind,
        n=scenario.workload.n,
        d=scenario.workload.d,
        size=scenario.size,
        epsilon=scenario.claimed.epsilon,
        delta=scenario.claimed.delta,
        queries=test.check.queries,
        honest=honest,
        faults=faults,
        curve=_curve(scenario, test),
        note=scenario.vacuous or scenario.note,
    )


def _arms(scenario: Scenario, test: ScenarioTest) -> tuple[TestResult, Faults]:
    """Binomial tests of a claim that allows failures."""
    design, claimed = test.design(scenario), scenario.claimed

    def planted(fault: Fault) -> FaultResult:
        first = pilot(fault.trial, claimed, test.rng(scenario, f"pilot of {fault.name}"), pilots)
        power = fault.power
        if power is None:
            power = design.power(first.rate_low) if first.failures else 0.0
        if power < 1.0 - test.fault_miss:
            return _fault(fault, test, power, first)
        rng = test.rng(scenario, fault.name)
        caught = test_claim(fault.trial, claimed, design, rng, stop_when_refuted=True)
        return _fault(fault, test, power, caught)

    pilots = min(test.profile.pilot, design.trials)
    honest = test_claim(scenario.trial, claimed, design, test.rng(scenario, "honest"))
    return honest, tuple(planted(fault) for fault in scenario.faults)


def _exact_arms(scenario: Scenario, test: ScenarioTest) -> tuple[TestResult, Faults]:
    """Tests of a claim that nothing ever fails: nothing is random, so the pilot is the test."""

    def judge(trial: Trial) -> TestResult:
        return test_exactly(trial, scenario.claimed.epsilon, test.rng(scenario, "exact"))

    def planted(fault: Fault) -> FaultResult:
        result = judge(fault.trial)
        return _fault(fault, test, float(result.failures > 0), result)

    return judge(scenario.trial), tuple(planted(fault) for fault in scenario.faults)


def _fault(fault: Fault, test: ScenarioTest, power: float, result: TestResult) -> FaultResult:
    """Result of a broken construction; demanded if its power is high enough."""
    return FaultResult(
        name=fault.name,
        description=test.check.faults[fault.name],
        power=power,
        required=power >= 1.0 - test.fault_miss,
        result=result,
    )


def _curve(scenario: Scenario, test: ScenarioTest) -> Curve | None:
    """Error quantiles and bound at sizes up to the scenario's own, in equal ratios."""
    if scenario.at_size is None:
        return None
    profile = test.profile
    smallest = max(2.0, scenario.size / 2.0 ** (profile.curve_sizes - 1))
    sizes = np.unique(np.geomspace(smallest, scenario.size, profile.curve_sizes).astype(int))
    typical, quantile, bound = [], [], []
    for size, child in zip(sizes, test.rng(scenario, "curve").spawn(sizes.size), strict=True):
        trial, epsilon = scenario.at_size(int(size))
        errors = [trial(c) for c in child.spawn(profile.curve_trials)]
        typical.append(float(np.median(errors)))
        quantile.append(float(np.quantile(errors, 1.0 - scenario.claimed.delta, method="inverted_cdf")))
        bound.append(epsilon)
    return Curve(tuple(int(s) for s in sizes), tuple(typical), tuple(quantile), tuple(bound))
