"""One binomial test of one claim: run a construction again and again and count its failures.

The same function tests the library's constructions, their planted faults, and a reader's own
construction. Only the randomness handed to ``trial`` varies; data, queries and sizes are fixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coresets.accuracy import Accuracy
from proofs_check.design import Design, clopper_pearson
from proofs_check.results import TestResult, Verdict

__all__ = ["CONFIDENCE", "Trial", "pilot", "test_claim", "test_exactly", "vacuous"]

Trial = Callable[[np.random.Generator], float]

CONFIDENCE = 0.99  # of the intervals for failure rates in the report

# Errors are relative and come out of sums of up to about a million terms; differences below this
# are rounding and no evidence against a claim, even an exact one.
ROUNDING = 1e6 * float(np.finfo(np.float64).eps)


def test_claim(
    trial: Trial,
    claimed: Accuracy,
    design: Design,
    rng: np.random.Generator,
    *,
    stop_when_refuted: bool = False,
) -> TestResult:
    """Test that ``trial`` returns an error above epsilon with probability at most delta.

    Parameters
    ----------
    trial : callable
        ``trial(rng)`` runs the construction once and returns its error at the worst query found,
        at least 0; NaN counts as a failure.
    claimed : Accuracy
        The claim.
    design : Design
        Trials and false-alarm rate; its delta must be the claimed one.
    rng : numpy.random.Generator
        Every trial gets a child of its own.
    stop_when_refuted : bool
        Stop as soon as the critical count is reached. The verdict is the same; the intervals
        then describe the shorter run.

    Returns
    -------
    TestResult
        REFUTED or CONSISTENT.

    Raises
    ------
    ValueError
        If the design was made for another delta.
    """
    if design.delta != claimed.delta:
        raise ValueError(f"the design is for delta = {design.delta}, the claim has delta = {claimed.delta}")
    critical = design.critical
    errors: list[float] = []
    failures = 0
    for child in rng.spawn(design.trials):
        error = float(trial(child))
        errors.append(error)
        failures += not error <= claimed.epsilon + ROUNDING
        if stop_when_refuted and failures >= critical:
            break
    refuted = failures >= critical
    return _summary(
        errors,
        failures,
        critical,
        claimed,
        Verdict.REFUTED if refuted else Verdict.CONSISTENT,
        design.p_value(failures),
    )


def test_exactly(trial: Trial, epsilon: float, rng: np.random.Generator, *, trials: int = 1) -> TestResult:
    """Test that ``trial`` never returns an error above epsilon: a single failure refutes.

    For claims with delta = 0, where chance enters only through the search for queries.
    """
    errors = [float(trial(child)) for child in rng.spawn(trials)]
    failures = sum(not error <= epsilon + ROUNDING for error in errors)
    verdict = Verdict.REFUTED if failures else Verdict.CONSISTENT
    return _summary(errors, failures, 1, Accuracy(epsilon, 0.0), verdict, 0.0 if failures else 1.0)


def vacuous(critical: int = 1) -> TestResult:
    """Result for a claim that excludes nothing: no trial is worth making."""
    return TestResult(Verdict.VACUOUS, 0, 0, critical, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def pilot(trial: Trial, claimed: Accuracy, rng: np.random.Generator, trials: int) -> TestResult:
    """Failures of a construction in a few trials; ``rate_low`` bounds its failure rate from below.

    Judges nothing: the verdict is INCONCLUSIVE.
    """
    errors = [float(trial(child)) for child in rng.spawn(trials)]
    failures = sum(not error <= claimed.epsilon + ROUNDING for error in errors)
    return _summary(errors, failures, trials + 1, claimed, Verdict.INCONCLUSIVE, 1.0)


def _summary(
    errors: list[float], failures: int, critical: int, claimed: Accuracy, verdict: Verdict, p_value: float
) -> TestResult:
    seen = np.nan_to_num(np.asarray(errors), nan=np.inf, posinf=np.inf)
    low, high = clopper_pearson(failures, len(errors), CONFIDENCE)
    return TestResult(
        verdict=verdict,
        trials=len(errors),
        failures=failures,
        critical=critical,
        rate_low=low,
        rate_high=high,
        p_value=p_value,
        typical=float(np.median(seen)),
        quantile=float(np.quantile(seen, 1.0 - claimed.delta, method="inverted_cdf")),
        largest=float(np.max(seen)),
    )
