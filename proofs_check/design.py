"""How many trials a verdict needs, and how many failures refute a claim: exact binomial designs.

A claim says that a construction fails with probability at most delta. Over independent trials
the number of failures is binomial, so three questions have exact answers: from how many
failures on the claim is refuted at a given false-alarm rate; how many trials make sure that a
construction which fails at a higher, *detectable* rate is refuted except with the miss rate; and
which true rates are compatible with what was seen.

References: Clopper and Pearson 1934 for the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import bdtrc, betaincinv, rel_entr

from coresets._validate import check_integer, check_open_unit
from coresets.guarantee import least_integer

__all__ = ["MOST_TRIALS", "Design", "clopper_pearson", "tail_probability"]

MOST_TRIALS = 10**6  # a plan of more is refused: nobody would wait for it


def tail_probability(failures: int, trials: int, rate: float) -> float:
    """P(X >= failures) for X binomial with the given trials and rate."""
    if failures <= 0:
        return 1.0
    return float(bdtrc(failures - 1, trials, rate)) if failures <= trials else 0.0


def clopper_pearson(failures: int, trials: int, confidence: float = 0.99) -> tuple[float, float]:
    """Exact two-sided confidence interval for a failure rate.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 100, confidence=0.95)
    >>> low, round(high, 4)
    (0.0, 0.0362)
    """
    half = (1.0 - confidence) / 2.0
    low = 0.0 if failures == 0 else float(betaincinv(failures, trials - failures + 1, half))
    high = 1.0 if failures == trials else float(betaincinv(failures + 1, trials - failures, 1.0 - half))
    return low, high


def _critical(trials: int, delta: float, false_alarm: float) -> int:
    """Least number of failures whose tail probability under the claim is at most false_alarm."""
    return least_integer(lambda count: tail_probability(count, trials, delta) <= false_alarm, trials * delta)


def _fewest_trials(delta: float, detect: float, false_alarm: float, miss: float) -> float:
    """Lower bound on the trials of any test with these rates, by the data-processing inequality.

    n trials carry n KL(detect || delta) of information; a verdict with rates 1 - miss and
    false_alarm needs KL(1 - miss || false_alarm). The other direction holds as well.
    """
    if 1.0 - miss <= false_alarm:  # blind guessing would do
        return 1.0
    needed = _divergence(1.0 - miss, false_alarm), _divergence(false_alarm, 1.0 - miss)
    carried = _divergence(detect, delta), _divergence(delta, detect)
    return max(n / c if c > 0.0 else math.inf for n, c in zip(needed, carried, strict=True))


def _trials_until(failures: int, rate: float, power: float, start: float) -> int:
    """Least number of trials that show so many failures with at least this probability."""
    return least_integer(lambda trials: tail_probability(failures, trials, rate) >= power, start)


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins, KL(p || q)."""
    return float(rel_entr(p, q) + rel_entr(1.0 - p, 1.0 - q))


@dataclass(frozen=True, slots=True)
class Design:
    """A test of one claim: number of trials and the failures that refute it.

    Parameters
    ----------
    delta : float
        Claimed failure probability.
    trials : int
        Number of independent trials.
    false_alarm : float
        Largest probability of refuting a true claim.

    Examples
    --------
    >>> design = Design.plan(delta=0.1, detect=0.2, false_alarm=1e-4, miss=0.05)
    >>> design.trials, design.critical
    (348, 58)
    """

    delta: float
    trials: int
    false_alarm: float

    def __post_init__(self) -> None:
        check_open_unit(self.delta, "delta")
        check_integer(self.trials, "trials", at_least=1)
        check_open_unit(self.false_alarm, "false_alarm")

    @classmethod
    def plan(cls, *, delta: float, detect: float, false_alarm: float, miss: float) -> Design:
        """Smallest design that refutes a failure rate of ``detect`` except with probability ``miss``.

        Parameters
        ----------
        delta, detect : float
            Claimed failure rate, and the larger one that must not pass; 0 < delta < detect < 1.
        false_alarm, miss : float
            Largest probabilities of refuting a true claim and of passing a detectable one.

        Raises
        ------
        ValueError
            If detect is not above delta, or so little that more than a million trials are needed.
        """
        for name, value in (
            ("delta", delta),
            ("detect", detect),
            ("false_alarm", false_alarm),
            ("miss", miss),
        ):
            check_open_unit(value, name)
        if detect <= delta:
            raise ValueError(f"detect = {detect} is not above delta = {delta}; nothing could be told apart")

        def affordable(trials: float) -> float:
            if trials > MOST_TRIALS:
                raise ValueError(
                    f"telling a failure rate of detect = {detect:g} from delta = {delta:g} takes at least "
                    f"{trials:.2g} trials, above {MOST_TRIALS:,}; raise detect, false_alarm = "
                    f"{false_alarm:g} or miss = {miss:g}, or take Design(delta, trials, false_alarm)"
                )
            return trials

        # Power is not monotone in the number of trials (the critical count jumps), but that of the
        # randomised most powerful test is, and it is no smaller: bisection finds where it suffices,
        # and the least design is found by going on from there. As critical counts never fall, no
        # design is enough before the present critical count has the power.
        def enough(trials: int) -> bool:
            return _largest_power(cls(delta, trials, false_alarm), detect) >= 1.0 - miss

        trials = least_integer(enough, affordable(_fewest_trials(delta, detect, false_alarm, miss)))
        while (design := cls(delta, trials, false_alarm)).power(detect) < 1.0 - miss:
            affordable(trials)
            trials = _trials_until(design.critical, detect, 1.0 - miss, trials + 1.0)
        affordable(trials)
        return design

    @property
    def critical(self) -> int:
        """Least number of failures that refutes the claim; trials + 1 if none does."""
        return _critical(self.trials, self.delta, self.false_alarm)

    def power(self, rate: float) -> float:
        """Probability of refuting the claim when the true failure rate is ``rate``."""
        return tail_probability(self.critical, self.trials, rate)

    def p_value(self, failures: int) -> float:
        """Probability of at least this many failures if the claim is true."""
        return tail_probability(failures, self.trials, self.delta)


def _largest_power(design: Design, rate: float) -> float:
    """Power if one failure less refuted too, as often as the false-alarm rate allows."""
    critical = design.critical
    slack = design.false_alarm - design.p_value(critical)
    share = slack / (design.p_value(critical - 1) - design.p_value(critical))
    before = tail_probability(critical - 1, design.trials, rate)
    return (1.0 - share) * design.power(rate) + share * before
