"""Ridge regression: sensitivities RL and sizes MC-R, in the effective dimension instead of the rank."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from coresets._validate import check_real
from coresets.errors import AssumptionError
from coresets.guarantee import (
    Assumption,
    Citation,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
    least_integer,
)

__all__ = ["RidgeClass", "RidgeLeverage", "RidgeMatrixChernoff"]

_TOTAL_SLACK = 1e-6  # of a total computed in floating point
_RIDGE_LOSS = Assumption(
    "the losses are weighted squares of linear functions, the penalty a positive semidefinite form",
    "RidgeRegression",
)


@dataclass(frozen=True, slots=True)
class RidgeClass:
    """All vectors, with bounds on ridge leverage scores as sensitivities.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the bounds; at least the effective dimension, and positive. It may be below 1, since the
        penalty has a share of the cost as well.
    effective_dimension : float
        Sum of the ridge leverage scores, or a bound on it.
    """

    total_sensitivity: float
    effective_dimension: float

    def __post_init__(self) -> None:
        total = check_real(self.total_sensitivity, "total_sensitivity")
        dimension = check_real(self.effective_dimension, "effective_dimension")
        if dimension <= 0.0:
            raise ValueError(f"effective_dimension = {dimension:g} is not positive")
        if total < dimension * (1.0 - _TOTAL_SLACK):
            raise AssumptionError(
                f"total_sensitivity = {total:g} is below the effective dimension {dimension:g}; ridge "
                "leverage scores add up to it"
            )
        object.__setattr__(self, "total_sensitivity", max(total, dimension))
        object.__setattr__(self, "effective_dimension", dimension)


class RidgeLeverage(Guarantee):
    """RL: ridge leverage scores are exact, and add up to the effective dimension."""

    key = "RL"
    title = "ridge leverage scores are the exact sensitivities of penalised sums of squares"
    statement = (
        "For rows a of positive mass w and a positive semidefinite penalty M with A^T W A + M invertible on "
        "the space of the rows and of M, the largest share w (a.x)^2 / (sum w (a.x)^2 + x.M x) over x is w "
        "a^T (A^T W A + M)^+ a; these scores add up to the effective dimension tr(A^T W A (A^T W A + M)^+)."
    )
    citation = Citation("alaoui2015", "Alaoui and Mahoney 2015 (ridge leverage scores)")
    status = Status.DERIVED_HERE
    assumptions = (_RIDGE_LOSS,)
    quantifier = Quantifier.FOR_ALL


class RidgeMatrixChernoff(SamplingGuarantee[RidgeClass]):
    """MC-R: a matrix Chernoff bound that counts the effective dimension.

    In coordinates in which data and penalty together are the identity, the expectation E of the sampled
    part has trace d_eff and norm at most 1. Subtracting the identity from the exponential of the deviation,
    which Lieb's theorem allows, leaves d_eff where the rank would stand.
    """

    key = "MC-R"
    title = "embedding of a penalised sum of squares, by its effective dimension"
    statement = (
        "With (expected) size m and kappa = m / t, the sampled sum of squares plus the exact penalty is "
        "within a factor 1 +- eps of the full one for all vectors at once, except with probability at most "
        "d_eff (p(ln(1 + eps)) + p(-ln(1 - eps))), where p(+-ln(1 +- eps)) = (exp(a) - 1) / (exp(b) - 1 - b) "
        "with b = kappa eps |ln(1 +- eps)| and b - a = kappa h(+-eps), h(u) = (1 + u) ln(1 + u) - u, and t "
        ">= d_eff is the total of the bounds on the ridge leverage scores."
    )
    citation = Citation("tropp2015", "Tropp 2015, chapter 7 (intrinsic dimension); constants derived")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the sensitivities are at least the ridge leverage scores", "RidgeRegression"),
        _RIDGE_LOSS,
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT, Scheme.POISSON, Scheme.FIXED_SIZE})

    @staticmethod
    def _log_side(kappa: float, epsilon: float, logarithm: float) -> float:
        """Log of (exp(a) - 1) / (exp(b) - 1 - b) for one side; ``logarithm`` is |ln(1 +- eps)|."""
        b = kappa * epsilon * logarithm
        a = kappa * abs(epsilon - logarithm)
        # exp(b) - 1 - b = exp(b) P(2, b) with the regularised incomplete gamma function: no cancellation.
        bottom = float(gammainc(2.0, b))
        if a <= 0.0 or bottom <= 0.0:  # underflow: nothing is proved
            return math.inf
        return (a - b) + math.log(-math.expm1(-a)) - math.log(bottom)

    @classmethod
    def _log_tail(cls, parameters: RidgeClass, size: float, epsilon: float) -> float:
        kappa = size / parameters.total_sensitivity
        upper = cls._log_side(kappa, epsilon, math.log1p(epsilon))
        if epsilon < 1.0:
            lower = cls._log_side(kappa, epsilon, -math.log1p(-epsilon))
        else:
            # At 1 the limit; above it the sampled part would have to be negative.
            lower = -kappa if epsilon == 1.0 else -math.inf
        return math.log(parameters.effective_dimension) + float(np.logaddexp(upper, lower))

    def _size(self, parameters: RidgeClass, epsilon: float, delta: float) -> int:
        level = math.log(delta)
        rate = 0.5 * epsilon * epsilon
        logarithm = max(1.0, math.log(2.0 * parameters.effective_dimension) - level)
        start = parameters.total_sensitivity * logarithm / rate if rate else math.inf
        return least_integer(lambda m: self._log_tail(parameters, m, epsilon) <= level, start)

    def _epsilon(self, parameters: RidgeClass, size: int, delta: float) -> float:
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
