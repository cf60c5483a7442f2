"""The enumeration behind the attack on Q9 is right, and every planted fault is caught."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from nn.guarantees.conformal import ConformalFactor  # noqa: E402
from proofs_check.checks.conformal import CHECKS, ExactRisk  # noqa: E402
from proofs_check.judge import ScenarioTest, run_scenario  # noqa: E402
from proofs_check.results import Verdict  # noqa: E402
from proofs_check.runner import PROFILES  # noqa: E402
from proofs_check.workloads import real  # noqa: E402

RANK = ConformalFactor().rank


def test_the_law_of_an_order_statistic_is_that_of_simulated_draws():
    rng = np.random.default_rng(0)
    ratios = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 5.0])
    law = ExactRisk(ratios, RANK).law(4, 3)
    drawn = np.sort(rng.choice(ratios, size=(40_000, 4)), axis=1)[:, 2]
    seen = [(drawn == value).mean() for value in (1.0, 2.0, 3.0, 5.0)]
    # Four standard deviations of a proportion of 40,000: at most 0.01.
    np.testing.assert_allclose(law, seen, atol=0.01)
    assert law.sum() == pytest.approx(1.0)


def test_the_mean_coverage_of_distinct_ratios_is_nearly_the_rank_over_one_more_than_their_number():
    risk = ExactRisk(np.arange(100_000.0), RANK)
    law = risk.law(19, 18)
    assert law @ (np.arange(1, 100_001) / 100_000) == pytest.approx(18 / 20, abs=1e-4)


def test_equal_ratios_are_always_covered():
    assert ExactRisk(np.ones(50), RANK)(np.random.default_rng(0)) == 0.0


def test_the_theorem_is_nearly_attained_without_ties():
    risk = ExactRisk(np.arange(5000.0), RANK)(np.random.default_rng(0))
    assert 0.95 < risk <= 1.0 + 1e-9


def test_the_theorem_stands_and_every_planted_fault_is_caught():
    (check,) = CHECKS
    profile = PROFILES["quick"]
    shown = [workload for workload in real(300) if workload.name == "diabetes"]
    test = ScenarioTest(profile, false_alarm=1e-6, fault_miss=1e-3, seed=0, check=check)
    results = [run_scenario(scenario, test) for scenario in check.scenarios(shown, profile)]
    assert all(result.honest.verdict is Verdict.CONSISTENT for result in results)
    caught = {
        fault.name
        for result in results
        for fault in result.faults
        if fault.required and fault.result.verdict is Verdict.REFUTED
    }
    assert caught == set(check.faults)
