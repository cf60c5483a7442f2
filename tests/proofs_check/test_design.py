from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats

from proofs_check.design import Design, clopper_pearson, tail_probability

# The incomplete beta function is good to some hundred units in the last place at these sizes.
RELATIVE = 1e3 * float(np.finfo(np.float64).eps)

PLANS = [
    (delta, detect, false_alarm, miss)
    for delta in (0.01, 0.05, 0.1, 0.3)
    for detect in (delta + 0.1, delta + 0.2, 0.8)
    for false_alarm in (0.11, 0.011, 1e-5)  # no tail of a small design equals any of them
    for miss in (0.3, 0.1, 0.01)
]


def exact_tail(failures: int, trials: int, rate: Fraction) -> Fraction:
    return sum(
        (comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(failures, trials + 1)),
        Fraction(0),
    )


@pytest.mark.parametrize(
    ("claim", "trials", "critical"),
    [
        ({"delta": 0.1, "detect": 0.2, "false_alarm": 1e-4, "miss": 0.05}, 348, 58),
        ({"delta": 0.05, "detect": 0.1, "false_alarm": 1e-3, "miss": 0.05}, 593, 48),
        ({"delta": 0.5, "detect": 0.99, "false_alarm": 0.5, "miss": 0.5}, 1, 1),
    ],
)
def test_the_plan_has_the_known_figures(claim: dict[str, float], trials: int, critical: int) -> None:
    design = Design.plan(**claim)
    assert (design.trials, design.critical) == (trials, critical)


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.37, 0.9])
@pytest.mark.parametrize("false_alarm", [0.2, 1e-3, 1e-8])
def test_the_critical_count_is_the_least_that_keeps_the_false_alarm_rate(
    delta: float, false_alarm: float
) -> None:
    for trials in (1, 2, 7, 30, 155, 1000):
        critical = Design(delta, trials, false_alarm).critical
        assert stats.binom.sf(critical - 1, trials, delta) <= false_alarm * (1.0 + RELATIVE)
        assert stats.binom.sf(critical - 2, trials, delta) > false_alarm * (1.0 - RELATIVE)


@pytest.mark.parametrize("trials", range(1, 13))
def test_small_designs_are_sound_in_exact_arithmetic(trials: int) -> None:
    # None of the tails is within rounding of the rate, so both comparisons are decided exactly.
    delta, false_alarm = Fraction(1, 10), Fraction(1, 99)
    critical = Design(float(delta), trials, float(false_alarm)).critical
    assert exact_tail(critical, trials, delta) <= false_alarm
    assert exact_tail(critical - 1, trials, delta) > false_alarm


def test_a_design_too_small_to_refute_says_so() -> None:
    design = Design(delta=0.5, trials=3, false_alarm=0.1)  # 3 failures of 3 have probability 1/8
    assert design.critical == 4
    assert design.power(0.999) == 0.0


@pytest.mark.parametrize(("delta", "detect", "false_alarm", "miss"), PLANS)
def test_the_plan_reaches_its_power_and_no_smaller_design_does(
    delta: float, detect: float, false_alarm: float, miss: float
) -> None:
    design = Design.plan(delta=delta, detect=detect, false_alarm=false_alarm, miss=miss)

    def powers(trials: np.ndarray) -> np.ndarray:
        # bisection for the quantile inside SciPy, independent of the search for the critical count
        critical = stats.binom.isf(false_alarm, trials, delta) + 1
        return stats.binom.sf(critical - 1, trials, detect)

    assert powers(np.array([design.trials]))[0] >= (1.0 - miss) * (1.0 - RELATIVE)
    smaller = np.arange(1, design.trials)
    assert np.all(powers(smaller) < (1.0 - miss) * (1.0 + RELATIVE))


def test_a_plan_is_found_where_power_falls_with_a_trial_more() -> None:
    # 10 trials reach the power, 16 and 17 do not: doubling and walking would have missed it.
    claim = {"delta": 0.01, "detect": 0.21, "false_alarm": 0.1, "miss": 0.1}
    assert Design.plan(**claim).trials == 10
    assert Design(0.01, 16, 0.1).power(0.21) < 0.9


def test_power_and_p_value_are_binomial_tails() -> None:
    design = Design(0.1, 348, 1e-4)
    assert design.power(0.2) == pytest.approx(float(stats.binom.sf(57, 348, 0.2)), rel=RELATIVE)
    assert design.power(design.delta) <= design.false_alarm
    assert design.p_value(0) == 1.0
    assert design.p_value(349) == 0.0
    assert design.p_value(40) == pytest.approx(float(stats.binom.sf(39, 348, 0.1)), rel=RELATIVE)


@pytest.mark.parametrize("trials", [1, 4, 11])
def test_tails_agree_with_exact_sums(trials: int) -> None:
    rate = Fraction(3, 8)  # a float without rounding
    for failures in range(-1, trials + 2):
        expected = exact_tail(max(failures, 0), trials, rate)
        assert tail_probability(failures, trials, 0.375) == pytest.approx(float(expected), rel=RELATIVE)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99, 0.9999])
@pytest.mark.parametrize(("failures", "trials"), [(0, 1), (1, 1), (0, 40), (40, 40), (3, 40), (58, 348)])
def test_the_interval_is_that_of_scipy(failures: int, trials: int, confidence: float) -> None:
    expected = stats.binomtest(failures, trials).proportion_ci(confidence, method="exact")
    # SciPy's bounds are roots found by the inverse beta function as well, to about 1e-12.
    assert clopper_pearson(failures, trials, confidence) == pytest.approx(tuple(expected), rel=1e-10)


@pytest.mark.parametrize("trials", [1, 5, 20, 60])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_the_interval_covers_every_rate_as_often_as_it_says(trials: int, confidence: float) -> None:
    low, high = np.array([clopper_pearson(k, trials, confidence) for k in range(trials + 1)]).T
    rates = np.linspace(0.0, 1.0, 401)[:, None]
    chances = stats.binom.pmf(np.arange(trials + 1), trials, rates)
    coverage = np.sum(chances * ((low <= rates) & (rates <= high)), axis=1)
    assert coverage.min() >= confidence - 1e-12  # the tails at the bounds are inverted to this precision
    assert np.all(np.diff(low) > 0.0)
    assert np.all(np.diff(high) > 0.0)


@pytest.mark.parametrize("name", ["delta", "detect", "false_alarm", "miss"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_rates_outside_the_open_unit_interval_are_refused(name: str, value: float) -> None:
    claim = {"delta": 0.1, "detect": 0.2, "false_alarm": 1e-4, "miss": 0.05} | {name: value}
    with pytest.raises(ValueError, match=name):
        Design.plan(**claim)


@pytest.mark.parametrize("detect", [0.1, 0.05])
def test_a_rate_that_is_not_above_the_claim_cannot_be_detected(detect: float) -> None:
    with pytest.raises(ValueError, match="not above delta"):
        Design.plan(delta=0.1, detect=detect, false_alarm=1e-4, miss=0.05)


@pytest.mark.parametrize(
    "claim",
    [
        {"delta": 0.1, "detect": 0.1 + 1e-9, "false_alarm": 1e-4, "miss": 0.05},
        {"delta": 0.1, "detect": float(np.nextafter(0.1, 1.0)), "false_alarm": 1e-4, "miss": 0.05},
        {"delta": 1e-7, "detect": 2e-7, "false_alarm": 1e-4, "miss": 0.05},
        {"delta": 1.0 - 1e-9, "detect": 1.0 - 5e-10, "false_alarm": 1e-4, "miss": 0.05},
        # The randomised test reaches this power in one trial, the design in a hundred million.
        {"delta": 1e-9, "detect": 1.1e-9, "false_alarm": 0.5, "miss": 0.9},
    ],
)
def test_a_plan_of_more_than_a_million_trials_is_refused_at_once(claim: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"takes at least \S+ trials, above 1,000,000; raise detect"):
        Design.plan(**claim)


def test_a_plan_of_many_trials_is_found_and_no_smaller_one_nearby_does() -> None:
    design = Design.plan(delta=0.1, detect=0.103, false_alarm=1e-4, miss=0.05)
    assert 100_000 < design.trials < 1_000_000
    trials = np.arange(design.trials - 2000, design.trials + 1)
    critical = stats.binom.isf(1e-4, trials, 0.1) + 1
    powers = stats.binom.sf(critical - 1, trials, 0.103)
    assert powers[-1] >= 0.95 * (1.0 - RELATIVE)
    assert np.all(powers[:-1] < 0.95 * (1.0 + RELATIVE))


def test_a_design_needs_a_trial_and_proper_rates() -> None:
    with pytest.raises(ValueError, match="trials = 0"):
        Design(0.1, 0, 0.01)
    with pytest.raises(TypeError, match="trials"):
        Design(0.1, 2.5, 0.01)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delta"):
        Design(0.0, 3, 0.01)
    with pytest.raises(ValueError, match="false_alarm"):
        Design(0.1, 3, 1.0)
