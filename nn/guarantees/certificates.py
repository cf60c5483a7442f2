"""Statements behind certificates: Q8, Q8-I, Q10, Q10-S and C5."""

from __future__ import annotations

import math

from scipy.special import betaincinv

from coresets._validate import check_integer, check_open_unit, check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status

__all__ = ["AdditiveDeviation", "FixedSequence", "HeldOutLimit", "IntervalDeviation", "OccamBound"]

_FRESH = Assumption("the examples are independent draws from the distribution in question")
_UNSEEN = Assumption(
    "neither network depends on the examples", "refuse_overlap, as far as calibration data go"
)
_LAYERS = Assumption("both networks have the same graph, of layers that are understood", "the walk")


class AdditiveDeviation(Guarantee):
    """Q8: deviations add up through the layers, on given inputs."""

    key = "Q8"
    title = "deviations of a pruned network add up through its layers"
    statement = (
        "With e = |a^ - a| entry by entry, a layer with weights W and W^ has e' <= |(W^ - W) a + b^ - b| + "
        "|W^| e; entrywise functions multiply e by their Lipschitz constant, maxima over windows take the "
        "window's maximum of e, sums of branches add. Only activations a of the original network enter."
    )
    citation = Citation(
        "baykal2019", "Baykal et al. 2019 and Liebenwein et al. 2020; the additive form is proved here"
    )
    status = Status.DERIVED_HERE
    assumptions = (_LAYERS,)
    quantifier = Quantifier.FOR_EACH


class IntervalDeviation(Guarantee):
    """Q8-I: the same for all inputs of a box."""

    key = "Q8-I"
    title = "intervals for the difference of two networks, over a box of inputs"
    statement = (
        "If activations a lie in an interval and differences d = a^ - a in another, then centres and radii "
        "of W a + b and of W^ d + (W^ - W) a + b^ - b bound both after a layer; a monotone function with "
        "Lipschitz constant L maps d into the interval from L min(d, 0) to L max(d, 0)."
    )
    citation = Citation("gowal2019", "Gowal et al. 2019 (interval bounds); the difference is proved here")
    status = Status.DERIVED_HERE
    assumptions = (_LAYERS, Assumption("the activations are monotone", "the walk"))
    quantifier = Quantifier.FOR_ALL


class HeldOutLimit(Guarantee):
    """Q10: an exact upper limit for the probability of a violation."""

    key = "Q10"
    title = "held-out examples bound the probability of a violation"
    statement = (
        "If k of n independent examples, on which neither network depends, violate a statement, then with "
        "probability at least the confidence the probability that a fresh example violates it is at most "
        "the p at which k or fewer of n violations have probability one minus the confidence."
    )
    citation = Citation("clopper1934", "Clopper and Pearson 1934")
    status = Status.PROVED_IN_SOURCE
    assumptions = (_FRESH, _UNSEEN)
    quantifier = Quantifier.FOR_EACH

    def limit(self, failures: int, examples: int, confidence: float) -> float:
        """Upper limit for the probability of a violation.

        Parameters
        ----------
        failures, examples : int
            ``0 <= failures <= examples``, and at least one example.
        confidence : float
            In (0, 1).

        Returns
        -------
        float
            In (0, 1].

        Examples
        --------
        >>> round(HeldOutLimit().limit(0, 100, 0.95), 4)
        0.0295
        """
        examples = check_integer(examples, "examples", at_least=1)
        failures = check_integer(failures, "failures", at_least=0)
        confidence = check_open_unit(confidence, "confidence")
        if failures > examples:
            raise ValueError(f"failures = {failures} exceeds examples = {examples}")
        return (
            1.0 if failures == examples else float(betaincinv(failures + 1, examples - failures, confidence))
        )

    def examples(self, violation: float, confidence: float) -> int:
        """Fewest examples with which a network without a single failure is certified.

        Examples
        --------
        >>> HeldOutLimit().examples(0.05, 0.95)
        59
        """
        violation = check_open_unit(violation, "violation")
        confidence = check_open_unit(confidence, "confidence")
        n = max(1, math.ceil(math.log1p(-confidence) / math.log1p(-violation)) - 1)
        while self.limit(0, n, confidence) > violation:  # the quotient may be off by rounding
            n += 1
        return n


class FixedSequence(Guarantee):
    """Q10-S: searching for the smallest certified network costs no confidence."""

    key = "Q10-S"
    title = "a search in a fixed order keeps its confidence"
    statement = (
        "Fix a bound on the probability of violations and an order of candidate networks. Accept each whose "
        "limit, at the confidence, is at most the bound, and stop at the first that is not. The last "
        "accepted network violates the bound with probability at most one minus the confidence."
    )
    citation = Citation(
        "maurer1995", "fixed-sequence testing, Maurer, Hothorn and Lehmacher 1995; proved here"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        _FRESH,
        _UNSEEN,
        Assumption("order and bound are fixed before the examples are looked at", "Certified"),
    )
    quantifier = Quantifier.FOR_ALL


class OccamBound(Guarantee):
    """C5: a network with a short description generalises."""

    key = "C5"
    title = "short descriptions generalise"
    statement = (
        "For any prefix code fixed beforehand, with probability at least 1 - delta over n independent "
        "examples every network with a description of b bits has a true error of at most its error on "
        "the examples plus sqrt((b ln 2 + ln(1 / delta)) / (2 n))."
    )
    citation = Citation(
        "blumer1987", "Occam's razor, Blumer et al. 1987; Arora et al. 2018 for compressed networks"
    )
    status = Status.DERIVED_HERE
    assumptions = (_FRESH, Assumption("the code does not depend on the examples"))
    quantifier = Quantifier.FOR_ALL

    def excess(self, bits: float, examples: int, delta: float) -> float:
        """Bound on true error minus error on the examples.

        Parameters
        ----------
        bits : float
            Length of the network's description, at least 0.
        examples : int
            n, at least 1.
        delta : float
            In (0, 1).

        Examples
        --------
        >>> round(OccamBound().excess(1000, 50_000, 0.05), 4)
        0.0834
        """
        if (bits := check_real(bits, "bits")) < 0.0:
            raise ValueError(f"bits = {bits:g} is negative")
        examples = check_integer(examples, "examples", at_least=1)
        delta = check_open_unit(delta, "delta")
        return math.sqrt((bits * math.log(2.0) + math.log(1.0 / delta)) / (2.0 * examples))
