"""Error rates: a true claim is refuted with probability at most 1e-6, a false one passes with at
most 1e-6, by the exact design in each test; the seeds are fixed, so a test that passes keeps passing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from coresets.accuracy import Accuracy
from proofs_check.design import Design, clopper_pearson
from proofs_check.results import Verdict
from proofs_check.trials import ROUNDING, pilot, vacuous
from proofs_check.trials import test_claim as check_claim  # else collected as a test of its own
from proofs_check.trials import test_exactly as check_exactly

CLAIM = Accuracy(0.5, 0.1)
DESIGN = Design.plan(delta=0.1, detect=0.2, false_alarm=1e-6, miss=1e-6)


def failing(rate: float) -> Callable[[np.random.Generator], float]:
    """Error 0.9 with the given probability, else 0.1."""
    return lambda rng: 0.9 if rng.random() < rate else 0.1


def scripted(errors: list[float]) -> Callable[[np.random.Generator], float]:
    left = iter(errors)
    return lambda rng: next(left)


@pytest.mark.parametrize("seed", range(3))
def test_a_construction_that_keeps_its_claim_is_not_refuted(seed: int) -> None:
    result = check_claim(failing(0.1), CLAIM, DESIGN, np.random.default_rng(seed))
    assert result.verdict is Verdict.CONSISTENT
    assert result.trials == DESIGN.trials
    assert result.rate_low <= result.failures / result.trials <= result.rate_high


@pytest.mark.parametrize("seed", range(3))
def test_a_construction_that_fails_twice_as_often_is_refuted(seed: int) -> None:
    result = check_claim(failing(0.2), CLAIM, DESIGN, np.random.default_rng(seed))
    assert result.verdict is Verdict.REFUTED
    assert result.failures >= result.critical == DESIGN.critical
    assert result.p_value <= DESIGN.false_alarm


def test_refutations_are_as_frequent_as_the_design_says() -> None:
    design = Design.plan(delta=0.2, detect=0.5, false_alarm=0.02, miss=0.1)
    runs, rng = 200, np.random.default_rng(0)
    for rate in (design.delta, 0.5):
        refuted = sum(
            check_claim(failing(rate), Accuracy(0.5, 0.2), design, child).verdict is Verdict.REFUTED
            for child in rng.spawn(runs)
        )
        # The number of refutations is binomial with the exact power; this interval misses with 1e-6.
        low, high = clopper_pearson(refuted, runs, 1.0 - 1e-6)
        assert low <= design.power(rate) <= high


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_stopping_early_gives_the_same_verdict(rate: float, seed: int) -> None:
    whole = check_claim(failing(rate), CLAIM, DESIGN, np.random.default_rng(seed))
    short = check_claim(failing(rate), CLAIM, DESIGN, np.random.default_rng(seed), stop_when_refuted=True)
    assert short.verdict is whole.verdict
    if short.verdict is Verdict.REFUTED:
        assert short.failures == DESIGN.critical
        assert short.trials <= whole.trials


def test_the_critical_count_decides_exactly() -> None:
    design = Design(0.1, 50, 1e-3)
    for failures, verdict in ((design.critical - 1, Verdict.CONSISTENT), (design.critical, Verdict.REFUTED)):
        errors = [0.9] * failures + [0.1] * (design.trials - failures)
        assert check_claim(scripted(errors), CLAIM, design, np.random.default_rng(0)).verdict is verdict


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_no_number_is_a_failure(error: float) -> None:
    result = check_claim(lambda rng: error, CLAIM, DESIGN, np.random.default_rng(0), stop_when_refuted=True)
    assert result.verdict is Verdict.REFUTED
    assert result.failures == result.trials == DESIGN.critical
    assert not math.isnan(result.largest)


def test_an_error_of_epsilon_is_allowed_and_rounding_is_forgiven() -> None:
    for error, verdict in (
        (0.5, Verdict.CONSISTENT),
        (0.5 + 0.9 * ROUNDING, Verdict.CONSISTENT),
        (0.5 + 2.0 * ROUNDING, Verdict.REFUTED),
    ):
        result = check_claim(lambda rng, e=error: e, CLAIM, DESIGN, np.random.default_rng(0))
        assert result.verdict is verdict


def test_the_summary_describes_the_errors() -> None:
    design = Design(0.1, 20, 1e-3)
    result = check_claim(scripted([i / 100 for i in range(20)]), CLAIM, design, np.random.default_rng(0))
    assert (result.failures, result.p_value) == (0, 1.0)
    # 90 % of twenty errors are at most the eighteenth
    assert (result.typical, result.quantile, result.largest) == (pytest.approx(0.095), 0.17, 0.19)


def test_a_design_for_another_delta_is_refused_before_any_trial() -> None:
    def never(rng: np.random.Generator) -> float:
        raise AssertionError("a trial was made")

    with pytest.raises(ValueError, match=r"delta = 0\.1, the claim has delta = 0\.2"):
        check_claim(never, Accuracy(0.5, 0.2), DESIGN, np.random.default_rng(0))


def test_every_trial_gets_a_generator_of_its_own() -> None:
    seen: list[float] = []

    def trial(rng: np.random.Generator) -> float:
        seen.append(float(rng.random()))
        return seen[-1]

    first = check_claim(trial, CLAIM, Design(0.1, 30, 1e-3), np.random.default_rng(3))
    again = check_claim(trial, CLAIM, Design(0.1, 30, 1e-3), np.random.default_rng(3))
    assert first == again
    assert seen[:30] == seen[30:]
    assert len(set(seen)) == 30

    # What one trial draws does not move the next.
    def greedy(rng: np.random.Generator) -> float:
        error = float(rng.random())
        rng.random(1000)
        return error

    assert check_claim(greedy, CLAIM, Design(0.1, 30, 1e-3), np.random.default_rng(3)) == first


def test_one_failure_refutes_an_exact_claim() -> None:
    rng = np.random.default_rng(0)
    assert check_exactly(lambda _: 0.3, 0.3, rng).verdict is Verdict.CONSISTENT
    result = check_exactly(scripted([0.1, 0.31, 0.1]), 0.3, rng, trials=3)
    assert (result.verdict, result.failures, result.trials) == (Verdict.REFUTED, 1, 3)
    assert result.quantile == result.largest == 0.31
    assert check_exactly(lambda _: math.nan, 0.3, rng).verdict is Verdict.REFUTED


def test_a_vacuous_claim_is_not_tried() -> None:
    result = vacuous()
    assert result.verdict is Verdict.VACUOUS
    assert (result.trials, result.rate_low, result.rate_high) == (0, 0.0, 1.0)


def test_the_pilot_bounds_the_failure_rate_from_below() -> None:
    rng = np.random.default_rng(0)
    assert pilot(lambda _: 0.1, CLAIM, rng, 40).rate_low == 0.0
    # n failures of n: 0.005^(1/n) at 99 % confidence
    assert pilot(lambda _: 0.9, CLAIM, rng, 40).rate_low == pytest.approx(0.005 ** (1 / 40), rel=1e-12)
    assert pilot(lambda _: math.nan, CLAIM, rng, 40).rate_low > 0.8
    above = sum(pilot(failing(0.3), CLAIM, child, 40).rate_low > 0.3 for child in rng.spawn(40))
    assert above <= 3  # each exceeds it with probability at most 0.005: P(X > 3) < 6e-5
