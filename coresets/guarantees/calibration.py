"""What calibrated weights promise: D6 for each query, D4 for sums of ReLUs, D7 on average over queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coresets._rates import bennett_rate
from coresets._validate import check_integer, check_real
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
from coresets.guarantees.finite import NON_NEGATIVE, VALID_BOUNDS
from coresets.guarantees.neurons import _BALANCED, _LEWIS, HomogeneousClass, HomogeneousPoisson
from coresets.guarantees.parameters import check_total
from coresets.tails import bennett_h

__all__ = [
    "AverageCaseError",
    "CalibratedClass",
    "CalibratedPoisson",
    "FirstMomentClass",
    "FirstMomentReLU",
]

_EVENTS = 4  # the residual's own error, two vectors, and the smallest eigenvalue
_SLACK = 1e-6  # relative; what is computed of a feature may be off by rounding


@dataclass(frozen=True, slots=True)
class CalibratedClass:
    """One query, or several, and how much of the costs a few features explain.

    Parameters
    ----------
    total_sensitivity : float
        Sum t of the sensitivity bounds.
    moments : int
        Dimension k of the span of the features, the constant included.
    leverage : float
        L, the largest q.G0^-1 q with G0 = sum s q q^T; at least k/t.
    residual : float
        rho, in [0, 1]: the root of sum s r^2, where r is what is left of the share w f/(s F) after
        regression on the features, at the query where it is largest.
    queries : int
        Number of queries, fixed before the draw.

    Examples
    --------
    >>> CalibratedClass(8.0, moments=9, leverage=2.0, residual=0.6)
    CalibratedClass(total_sensitivity=8.0, moments=9, leverage=2.0, residual=0.6, queries=1)
    """

    total_sensitivity: float
    moments: int
    leverage: float
    residual: float
    queries: int = 1

    def __post_init__(self) -> None:
        total = check_total(self.total_sensitivity)
        moments = check_integer(self.moments, "moments", at_least=1)
        leverage, residual = check_real(self.leverage, "leverage"), check_real(self.residual, "residual")
        if leverage * total < moments * (1.0 - _SLACK):
            raise AssumptionError(
                f"leverage = {leverage:g} is below moments/total_sensitivity = {moments / total:g}, the "
                "mean of what it bounds"
            )
        if not 0.0 <= residual <= 1.0 + _SLACK:
            raise ValueError(f"residual = {residual:g} is outside [0, 1]; divide by the cost of the query")
        object.__setattr__(self, "total_sensitivity", total)
        object.__setattr__(self, "moments", moments)
        object.__setattr__(self, "leverage", leverage)
        object.__setattr__(self, "residual", min(residual, 1.0))
        object.__setattr__(self, "queries", check_integer(self.queries, "queries", at_least=1))

    @property
    def residual_range(self) -> float:
        """Bound R on |r|: shares are at most 1, and what is explained is at most the root of L."""
        return 1.0 + math.sqrt(self.leverage) if self.residual > 0.0 else 0.0


def _deviation(variance: float, largest: float, level: float) -> float:
    """Least u with (variance/largest^2) h(largest u/variance) >= level: Bennett, by bisection."""
    if variance == 0.0:
        return 0.0
    low, high = 0.0, math.sqrt(2.0 * variance * level) + 2.0 * largest * level / 3.0  # Bernstein
    high *= 1.0 + 1e-9
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return high
        rate = float(bennett_rate(np.asarray(middle), np.asarray(variance), np.asarray(largest)))
        if rate >= level:
            high = middle
        else:
            low = middle


class CalibratedPoisson(SamplingGuarantee[CalibratedClass]):
    """D6: calibrated Poisson sampling errs as the part of the cost that the features do not explain.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import CalibratedClass, CalibratedPoisson, FiniteClass, FinitePoisson
    >>> explained = CalibratedClass(8.0, moments=9, leverage=2.0, residual=0.21)
    >>> CalibratedPoisson().size(explained, Accuracy(0.05, 0.05))
    5608
    >>> FinitePoisson().size(FiniteClass(8.0), Accuracy(0.05, 0.05))
    24003
    """

    key = "D6"
    title = "calibrated Poisson sampling, for each query"
    statement = (
        "If w f = s F (theta.q + r) with sum s r q = 0 and sum s r^2 <= rho^2, then Poisson sampling with "
        "kappa = m/t, calibrated to the k moments sum s q, errs by exactly the sampling error of r plus (T - "
        "That).G^-1 b; with probability at least 1 - delta that is at most u(rho^2, R) + u(k, sqrt(L)) u(L "
        "rho^2, sqrt(L) R)/(1 - eta) times F, u(v, c) Bennett's deviation of variance v/kappa, range c/kappa "
        "and level ln(8 |X|/delta), R = 1 + sqrt(L), and h(-eta) = L ln(4 k/delta)/kappa."
    )
    citation = Citation(
        "deville1992", "Deville and Sarndal 1992 (the estimator); the bound is proved on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        NON_NEGATIVE,
        VALID_BOUNDS,
        Assumption(
            "the parameters k, L and rho are those of the features and the queries", "calibrated_class"
        ),
        Assumption("weights are those of the linear system: no bound on them was active", "calibrate"),
        Assumption("the queries do not depend on the draw"),
    )
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.POISSON})

    def _size(self, parameters: CalibratedClass, epsilon: float, delta: float) -> int:
        t, rho = parameters.total_sensitivity, parameters.residual
        level = math.log(2.0 * _EVENTS * parameters.queries / delta)
        start = t * (2.0 * rho**2 * level / epsilon / epsilon + parameters.leverage * level)
        return least_integer(lambda m: self._epsilon(parameters, m, delta) <= epsilon, start)

    def _epsilon(self, parameters: CalibratedClass, size: int, delta: float) -> float:
        kappa = size / parameters.total_sensitivity
        k, leverage, rho = parameters.moments, parameters.leverage, parameters.residual
        eta = self._eta(leverage * math.log(_EVENTS * k / delta) / kappa)
        if eta >= 1.0:
            return math.inf
        level = math.log(2.0 * _EVENTS * parameters.queries / delta)
        wide, reach = parameters.residual_range, math.sqrt(leverage)
        own = _deviation(rho**2 / kappa, wide / kappa, level)
        moved = _deviation(k / kappa, reach / kappa, level)
        met = _deviation(leverage * rho**2 / kappa, reach * wide / kappa, level)
        return own + moved * met / (1.0 - eta)

    def _mean_epsilon(self, parameters: CalibratedClass, size: int, delta: float, coresets: int) -> float:
        # Calibrated answers are not unbiased, so their mean is only as good as one with a share of delta.
        return self._epsilon(parameters, size, delta / coresets)

    @staticmethod
    def _eta(level: float) -> float:
        """Least eta with h(-eta) >= level, 1 if there is none."""
        if level >= 1.0:  # h(-1) = 1
            return 1.0
        low, high = 0.0, 1.0
        while True:
            middle = 0.5 * (low + high)
            if not low < middle < high:
                return high
            if float(bennett_h(-middle)) >= level:
                high = middle
            else:
                low = middle


@dataclass(frozen=True, slots=True)
class FirstMomentClass:
    """Sums of w(p) [p.x]_+ whose first moments sum w p are kept by the weights.

    Parameters
    ----------
    total_sensitivity : float
        Sum of valid l1 Lewis bounds of the rows w(p) p.
    kappa : float
        Lower bound on the balance, in (0, 1].
    change : float
        eta, the largest relative change of a drawn weight by calibration, at least 0.
    drift : float
        tau, an upper bound on sup |sum (v - w) p.x|/sum w |p.x|, at least 0; rounding after calibration.

    Raises
    ------
    AssumptionError
        If kappa is 0.

    Examples
    --------
    >>> FirstMomentClass(10.0, kappa=0.5)
    FirstMomentClass(total_sensitivity=10.0, kappa=0.5, change=0.0, drift=0.0)
    """

    total_sensitivity: float
    kappa: float
    change: float = 0.0
    drift: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        kappa = check_real(self.kappa, "kappa")
        if kappa <= 0.0:
            raise AssumptionError(
                f"kappa = {kappa:g}: some x may switch every ReLU off, and no relative error is promised; "
                "ask for an error relative to sum w |p.x| (T4)"
            )
        if kappa > 1.0:
            raise ValueError(f"kappa = {kappa:g} is above 1, the balance of a set whose weighted sum is 0")
        object.__setattr__(self, "kappa", kappa)
        for name in ("change", "drift"):
            value = check_real(getattr(self, name), name)
            if value < 0.0:
                raise ValueError(f"{name} = {value:g} is negative; it is the size of a change")
            object.__setattr__(self, name, value)


class FirstMomentReLU(SamplingGuarantee[FirstMomentClass]):
    """D4: sums of ReLUs by coresets that keep the first moments err by half of what sums of |p.x| do.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import BalancedClass, BalancedReLUPoisson
    >>> from coresets.guarantees import FirstMomentClass, FirstMomentReLU
    >>> BalancedReLUPoisson().size(BalancedClass(10.0, kappa=0.5), Accuracy(0.2, 0.1))
    241060
    >>> FirstMomentReLU().size(FirstMomentClass(10.0, kappa=0.5), Accuracy(0.2, 0.1))
    80808
    """

    key = "D4"
    title = "sums of ReLUs when first moments are kept"
    statement = (
        "If sum v p = sum w p then the error of sum v [p.x]_+ is exactly half that of sum v |p.x|, for every "
        "x. If moreover |v/v0 - 1| <= eta for Poisson weights v0 of expected size m in proportion to Lewis "
        "bounds of total t, and the balance is at least kappa, then with probability at least 1 - delta sums "
        "of ReLUs are kept within a relative error of (eps0 + eta (1 + eps0) + tau)/kappa for all x at once, "
        "eps0 being that of T4-P and tau bounding |sum (v - w) p.x|/sum w |p.x|."
    )
    citation = Citation("tukan2022", "the setting of Tukan, Mualem and Maalouf 2022; proved on the page")
    status = Status.DERIVED_HERE
    assumptions = (
        _LEWIS,
        _BALANCED,
        Assumption("eta and tau bound what calibration did to this draw", "calibrate"),
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})

    _ENGINE = HomogeneousPoisson()

    @staticmethod
    def _absolute(parameters: FirstMomentClass) -> HomogeneousClass:
        spread = HomogeneousClass.range_of(1.0, 1.0, signed=False)
        return HomogeneousClass(parameters.total_sensitivity, range_ratio=spread)

    def _size(self, parameters: FirstMomentClass, epsilon: float, delta: float) -> int:
        left = (parameters.kappa * epsilon - parameters.drift - parameters.change) / (1.0 + parameters.change)
        if left <= 0.0:
            raise OverflowError(
                f"calibration changes weights by {parameters.change:g}, which alone exceeds epsilon = "
                f"{epsilon:g} times kappa; no size helps"
            )
        start = self._ENGINE._size(self._absolute(parameters), min(1.0, left), delta)
        return least_integer(lambda m: self._epsilon(parameters, m, delta) <= epsilon, start)

    def _epsilon(self, parameters: FirstMomentClass, size: int, delta: float) -> float:
        drawn = self._ENGINE._epsilon(self._absolute(parameters), size, delta)
        absolute = drawn + parameters.change * (1.0 + drawn)
        return (absolute + parameters.drift) / parameters.kappa

    def _mean_epsilon(self, parameters: FirstMomentClass, size: int, delta: float, coresets: int) -> float:
        drawn = self._ENGINE.mean_epsilon(self._absolute(parameters), size, delta, coresets)
        return (drawn + parameters.change * (1.0 + drawn) + parameters.drift) / parameters.kappa


class AverageCaseError(Guarantee):
    """D7: the mean square error over random queries is a quadratic form of the weights.

    Examples
    --------
    >>> from coresets.guarantees import AverageCaseError
    >>> AverageCaseError().exceeded(rms=0.25, error=1.0)  # share of queries that err by more than 1
    0.0625
    """

    key = "D7"
    title = "errors on average over random queries"
    statement = (
        "For queries x of a known distribution and any weights v, E err(x)^2 = (v - w)^T K (v - w) with "
        "K(p, q) = E f(p, x) f(q, x), v = 0 outside the coreset; K is in closed form for f = phi(p.x) and "
        "rotation-invariant x. The least value over non-negative v on the kept points is found by "
        "non-negative least squares; with a penalty that vanishes at v0 it is at most the value at v0. At "
        "most a share rms^2/e^2 of the queries err by more than e."
    )
    citation = Citation("cho2009", "Cho and Saul 2009 (the kernels); proved on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("queries are drawn from the distribution named, whatever the coreset"),
        Assumption("second moments of the costs are finite", "the distribution"),
    )
    quantifier = Quantifier.FOR_EACH

    def exceeded(self, rms: float, error: float) -> float:
        """Largest share of queries with an error above ``error``, by Chebyshev's inequality.

        Parameters
        ----------
        rms : float
            Root of E err^2, at least 0.
        error : float
            Positive.
        """
        rms, error = check_real(rms, "rms"), check_real(error, "error")
        if rms < 0.0 or error <= 0.0:
            raise ValueError(f"rms = {rms:g}, error = {error:g}; pass rms >= 0 and error > 0")
        ratio = rms / error
        return min(1.0, ratio * ratio)
