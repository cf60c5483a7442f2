"""Guarantees for infinite families of queries: E2 (VC dimension), E4 and E4-P (Rademacher)."""

from __future__ import annotations

import math

from coresets.guarantee import (
    Assumption,
    Citation,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
    least_integer,
)
from coresets.guarantees.finite import NON_NEGATIVE, VALID_BOUNDS
from coresets.guarantees.parameters import LipschitzClass, VCClass

__all__ = ["VCIID", "LipschitzIID", "LipschitzPoisson"]


class VCIID(SamplingGuarantee[VCClass]):
    """E2: all queries of a family with VC dimension D, draws with replacement, implicit size.

    The published forms leave the constant open; this one is explicit, at the price of a factor
    log(1/eps). Its proof compares the sample with a second, identically distributed one, so it
    says nothing about Poisson sampling.
    """

    key = "E2"
    title = "all queries of a VC family, draws with replacement"
    statement = (
        "With m >= (4 t (1 + eps) / eps^2) (D ln(2 e m / D) + ln(8 / delta)) draws in proportion "
        "to the sensitivities, with probability at least 1 - delta all queries at once are "
        "answered within a relative error of eps, where D is the VC dimension of the ranges "
        "scaled by the sensitivities."
    )
    citation = Citation(
        "cortes2019relative",
        "Vapnik; Anthony and Shawe-Taylor; Cortes, Greenberg and Mohri 2019 (relative deviations)",
    )
    status = Status.DERIVED_HERE
    assumptions = (
        NON_NEGATIVE,
        VALID_BOUNDS,
        Assumption("D bounds the VC dimension of the sets {w f(., x) / s > level}"),
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    @staticmethod
    def _log_growth(parameters: VCClass, size: float, delta: float) -> float:
        """Bound on ln Pi(2m) + ln(8/delta): Sauer's lemma from 2m = D on, and never more than all subsets."""
        d = parameters.dimension
        log_growth = 2.0 * size * math.log(2.0)
        if 2.0 * size >= d:
            log_growth = min(log_growth, d * math.log(2.0 * math.e * size / d))
        return parameters.unions * log_growth + math.log(8.0 / delta)

    def _size(self, parameters: VCClass, epsilon: float, delta: float) -> int:
        # Growth is below its value at the closed-form size of the theory page, so the implicit size
        # is below it too; galloping from a fraction of it finds the exact one.
        factor = 4.0 * parameters.total_sensitivity * (1.0 + epsilon) / epsilon / epsilon
        start = factor * self._log_growth(parameters, max(factor, parameters.dimension), delta)
        return least_integer(lambda m: self._epsilon(parameters, m, delta) <= epsilon, start)

    def _epsilon(self, parameters: VCClass, size: int, delta: float) -> float:
        # size eps^2 = 4 t g (1 + eps): the positive root.
        c = 4.0 * parameters.total_sensitivity * self._log_growth(parameters, size, delta)
        return (c + math.sqrt(c * c + 4.0 * size * c)) / (2.0 * size)


class LipschitzIID(SamplingGuarantee[LipschitzClass]):
    """E4: all queries of a Lipschitz family, free of the dimension, draws with replacement."""

    key = "E4"
    title = "all queries of a Lipschitz family, draws with replacement"
    statement = (
        "With m >= ((2 h t + r t sqrt(ln(2 K / delta) / 2)) / eps)^2 draws in proportion to the "
        "sensitivities, with probability at least 1 - delta the error relative to N(x) is at most "
        "eps for all queries x of K families at once."
    )
    citation = Citation("bartlett2002", "Bartlett and Mendelson 2002 (Rademacher averages); McDiarmid 1989")
    status = Status.DERIVED_HERE
    assumptions = (
        VALID_BOUNDS,
        Assumption(
            "losses are 1-Lipschitz functions of an inner product, with a dual norm of at most h s(p)"
        ),
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    @staticmethod
    def _root(parameters: LipschitzClass, delta: float) -> float:
        deviation = math.sqrt(math.log(2.0 * parameters.outputs / delta) / 2.0)
        return parameters.total_sensitivity * (
            2.0 * parameters.norm_ratio + parameters.range_ratio * deviation
        )

    def _size(self, parameters: LipschitzClass, epsilon: float, delta: float) -> int:
        root = self._root(parameters, delta)
        return least_integer(lambda m: root / math.sqrt(m) <= epsilon, root / epsilon * (root / epsilon))

    def _epsilon(self, parameters: LipschitzClass, size: int, delta: float) -> float:
        return self._root(parameters, delta) / math.sqrt(size)


class LipschitzPoisson(SamplingGuarantee[LipschitzClass]):
    """E4-P: all queries of a Lipschitz family under Poisson sampling, by the Klein-Rio inequality.

    McDiarmid's inequality would count n independent terms instead of m; Klein and Rio's sees
    that the variances add up to 1/kappa only.
    """

    key = "E4-P"
    title = "all queries of a Lipschitz family, Poisson sampling"
    statement = (
        "Poisson sampling with expected size m = kappa t has, with probability at least 1 - "
        "delta, an error relative to N(x) of at most a + (3 l + sqrt(9 l^2 + 8 l kappa (1 + 2 "
        "a))) / (2 kappa) for all queries x of K families at once, where a = 2 h sqrt(t / kappa) "
        "and l = ln(2 K / delta)."
    )
    citation = Citation("klein2005", "Klein and Rio 2005, Theorem 1.1")
    status = Status.DERIVED_HERE
    assumptions = (
        VALID_BOUNDS,
        Assumption("the shares |w f| / N(x) of one query add up to at most 1"),
        Assumption(
            "losses are 1-Lipschitz functions of an inner product, with a dual norm of at most h s(p)"
        ),
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})

    def _epsilon(self, parameters: LipschitzClass, size: int, delta: float) -> float:
        t = parameters.total_sensitivity
        kappa = size / t
        mean = 2.0 * parameters.norm_ratio * math.sqrt(t / kappa)  # bounds the expected supremum
        level = math.log(2.0 * parameters.outputs / delta)
        # Positive root y of kappa y^2 = level (2 (1 + 2 mean) + 3 y): Klein-Rio with terms of at
        # most 1/kappa and weak variance at most 1/kappa.
        return mean + (3.0 * level + math.sqrt(9.0 * level**2 + 8.0 * level * kappa * (1.0 + 2.0 * mean))) / (
            2.0 * kappa
        )

    def _size(self, parameters: LipschitzClass, epsilon: float, delta: float) -> int:
        t, h = parameters.total_sensitivity, parameters.norm_ratio
        root = 2.0 * h * t / epsilon
        start = root * root  # the first term alone; galloping finds the rest
        return least_integer(lambda m: self._epsilon(parameters, m, delta) <= epsilon, start)
