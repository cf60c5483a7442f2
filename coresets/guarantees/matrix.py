"""Guarantees for sums of squares: MC (matrix Chernoff) and its parameters."""

from __future__ import annotations

import math

import numpy as np

from coresets.guarantee import (
    Assumption,
    Citation,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
    least_integer,
)
from coresets.guarantees.parameters import SubspaceClass
from coresets.tails import bennett_h

__all__ = ["MatrixChernoff"]


class MatrixChernoff(SamplingGuarantee[SubspaceClass]):
    """MC: a subspace embedding for all vectors at once, by the matrix Chernoff bound.

    In the whitened coordinates the full sum is the identity and every sampled term is at most
    t/m times it. The bound needs independence only, so Poisson sampling is covered as well as
    draws with replacement; pivotal sampling is pipage rounding on the uniform matroid, for which
    Harvey and Olver prove the same exponential moments.
    """

    key = "MC"
    title = "subspace embedding by the matrix Chernoff bound"
    statement = (
        "With (expected) size m and kappa = m / t, the sampled sum of squares is within a factor "
        "1 +- eps of the full one for all vectors at once, except with probability at most r "
        "(exp(-kappa h(eps)) + exp(-kappa h(-eps))), h(u) = (1 + u) ln(1 + u) - u, where r is the "
        "rank and t >= r the total of the leverage bounds."
    )
    citation = Citation("tropp2012", "Tropp 2012, Theorem 1.1; Harvey and Olver 2014 for dependent rounding")
    status = Status.PROVED_IN_SOURCE
    assumptions = (
        Assumption(
            "the sensitivities are at least the leverage scores; computed ones are, up to the numerical rank",
            "leverage_scores",
        ),
        Assumption("the losses are weighted squares of linear functions", "the loss"),
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT, Scheme.POISSON, Scheme.FIXED_SIZE})

    @staticmethod
    def _log_tail(parameters: SubspaceClass, size: float, epsilon: float) -> float:
        kappa = size / parameters.total_sensitivity
        upper = -kappa * float(bennett_h(epsilon))
        # Below 1 - eps <= 0 the smallest eigenvalue cannot fall: it is never negative.
        lower = -kappa * float(bennett_h(-epsilon)) if epsilon <= 1.0 else -math.inf
        return math.log(parameters.rank) + float(np.logaddexp(upper, lower))

    def _size(self, parameters: SubspaceClass, epsilon: float, delta: float) -> int:
        level = math.log(delta)
        rate = float(bennett_h(epsilon))  # 0 when epsilon^2 underflows
        logarithm = math.log(2.0 * parameters.rank) - level
        start = parameters.total_sensitivity * logarithm / rate if rate else math.inf
        return least_integer(lambda m: self._log_tail(parameters, m, epsilon) <= level, start)

    def _epsilon(self, parameters: SubspaceClass, size: int, delta: float) -> float:
        level = math.log(delta)
        low, high = 0.0, 1.0
        while self._log_tail(parameters, size, high) > level:
            low, high = high, 2.0 * high
        while True:
            middle = 0.5 * (low + high)
            if not low < middle < high:  # neighbouring floats
                return high
            if self._log_tail(parameters, size, middle) <= level:
                high = middle
            else:
                low = middle
