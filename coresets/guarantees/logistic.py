"""Logistic regression: sizes LG and LG-P by norms, LG-M and LG-MP by complexity, certificates LD.

Notation: F(w, b) = |w|^2 / 2 + lam sum u ln(1 + exp(-y (w.x + b))); the intercept may be free, regularised
(then w has one more coordinate) or absent. The coreset keeps the regulariser exactly. The logistic loss
is the mean of the hinges max(0, T - v) over a logistic variable T, which makes it as good as a homogeneous
one for the dimension-free theorems E4 and E4-P.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coresets._validate import check_real
from coresets.guarantee import (
    Assumption,
    Citation,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
)
from coresets.guarantees.parameters import LipschitzClass, check_total
from coresets.guarantees.uniform import LipschitzIID, LipschitzPoisson

__all__ = [
    "LogisticClass",
    "LogisticComplexityIID",
    "LogisticComplexityPoisson",
    "LogisticDuality",
    "LogisticNormIID",
    "LogisticNormPoisson",
]

_ROUNDING = 1e-9
_BELOW = Assumption("o is positive and at most the optimum", "logistic_lower_bound")
_NORM_BOUNDS = Assumption("the bounds are those of norms, uncapped", "NormShares")
_COMPLEX = Assumption("mu is at least the complexity of the very data that are reduced", "complexity")
_LEWIS_BOUNDS = Assumption("the bounds are those of Lewis weights and masses, uncapped", "ComplexityShares")
_BY_NORMS = Citation(
    "alishahi2024", "Alishahi and Phillips 2024 (without dimension); representation and constants derived"
)
_BY_COMPLEXITY = Citation(
    "munteanu2018",
    "Munteanu, Schwiegelshohn, Sohler and Woodruff 2018 (complexity); Mai, Musco and Rao 2021 (Lewis "
    "weights); constants derived",
)


@dataclass(frozen=True, slots=True)
class LogisticClass:
    """All models of a logistic regression, with bounds that are sums of a few parts.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the bounds, at least 1.
    shares : tuple of float
        Share of each part in that sum: the constant one, that of the norms, that of a free intercept. At
        least one, each positive, with a sum of at most 1; what is missing was added for other reasons.
    """

    total_sensitivity: float
    shares: tuple[float, ...] = (0.5, 0.5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        shares = tuple(check_real(share, f"shares[{i}]") for i, share in enumerate(self.shares))
        if not shares or min(shares) <= 0.0 or sum(shares) > 1.0 + _ROUNDING:
            raise ValueError(f"shares = {shares}; pass positive numbers with a sum of at most 1")
        object.__setattr__(self, "shares", shares)

    def lipschitz(self) -> LipschitzClass:
        """In the terms of E4: h is the sum of the square roots of the shares."""
        return LipschitzClass(
            self.total_sensitivity, norm_ratio=sum(math.sqrt(share) for share in self.shares)
        )


class _ByDraws(SamplingGuarantee[LogisticClass]):
    """The size of E4 for the parts of the bounds."""

    status = Status.DERIVED_HERE
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    _ENGINE: SamplingGuarantee[LipschitzClass] = LipschitzIID()

    def _size(self, parameters: LogisticClass, epsilon: float, delta: float) -> int:
        return self._ENGINE._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: LogisticClass, size: int, delta: float) -> float:
        return self._ENGINE._epsilon(parameters.lipschitz(), size, delta)


class _ByInclusion(_ByDraws):
    """The size of E4-P for the parts of the bounds."""

    schemes = frozenset({Scheme.POISSON})

    _ENGINE = LipschitzPoisson()


class LogisticNormIID(_ByDraws):
    """LG: regularised logistic regression, free of the dimension; draws with replacement."""

    key = "LG"
    title = "all regularised logistic regressions at once, free of the dimension, draws with replacement"
    statement = (
        "With bounds lam u (ln 2 / o + sqrt(2/o) |z|) of total t, z = (x, 1) or x, m >= (t / eps)^2 (2 h + "
        "sqrt(ln(2 / delta) / 2))^2 draws keep F within a relative error of eps for all models at once, with "
        "probability at least 1 - delta, h being the sum of the square roots of the shares that the two "
        "parts have in t. With a free intercept each bound grows by lam u (1 / (lam min U_y) + R sqrt(2/o)), "
        "a third part, |x| is taken about any centre, and R bounds the norms of the class means about it."
    )
    citation = _BY_NORMS
    assumptions = (_BELOW, _NORM_BOUNDS)


class LogisticNormPoisson(_ByInclusion):
    """LG-P: the same bounds under Poisson sampling, by E4-P."""

    key = "LG-P"
    title = "all regularised logistic regressions at once, free of the dimension, Poisson sampling"
    statement = (
        "Poisson sampling with expected size m in proportion to the bounds of LG keeps F within a relative "
        "error of eps for all models at once, with probability at least 1 - delta, eps being that of E4-P "
        "with h the sum of the square roots of the shares that the parts of the bounds have in their total."
    )
    citation = _BY_NORMS
    assumptions = (_BELOW, _NORM_BOUNDS)


class LogisticComplexityIID(_ByDraws):
    """LG-M: logistic regression without a regulariser, on data of bounded complexity."""

    key = "LG-M"
    title = "all logistic regressions on data of bounded complexity at once, draws with replacement"
    statement = (
        "If sum u [z.v]_+ <= mu sum u [-z.v]_+ for all v, then the bounds (1 + mu) (u / (2 U) + tau), tau "
        "being l1 Lewis weights of the rows z = y (x, 1), of total t = (1 + mu) (r + 1/2), make m >= (t / "
        "eps)^2 (2 h + sqrt(ln(2 / delta) / 2))^2 draws keep sum u ln(1 + exp(-z.v)), with any regulariser "
        "or none, within a relative error of eps for all v at once, with probability at least 1 - delta; h "
        "= (1 / sqrt 2 + sqrt r) / sqrt(r + 1/2)."
    )
    citation = _BY_COMPLEXITY
    assumptions = (_COMPLEX, _LEWIS_BOUNDS)

    @staticmethod
    def least_cost(mu: float, total_weight: float) -> float:
        """Lower bound 2 ln(2) U / (1 + mu) on the cost of every model."""
        return 2.0 * math.log(2.0) * total_weight / (1.0 + mu)


class LogisticComplexityPoisson(_ByInclusion):
    """LG-MP: the bounds of LG-M under Poisson sampling, by E4-P."""

    key = "LG-MP"
    title = "all logistic regressions on data of bounded complexity at once, Poisson sampling"
    statement = (
        "Poisson sampling with expected size m in proportion to the bounds of LG-M keeps sum u ln(1 + "
        "exp(-z.v)), with any regulariser or none, within a relative error of eps for all v at once, with "
        "probability at least 1 - delta, eps being that of E4-P with the h of LG-M."
    )
    citation = _BY_COMPLEXITY
    assumptions = (_COMPLEX, _LEWIS_BOUNDS)


class LogisticDuality(Guarantee):
    """LD: every scaled dual point bounds the optimum of a logistic regression from below."""

    key = "LD"
    title = "dual points certify a logistic regression"
    statement = (
        "If 0 <= q <= 1 and, where the intercept is free, sum u q y = 0, then OPT >= lam sum u H(q) - |lam "
        "sum u q y z|^2 / 2 with H(q) = -q ln q - (1 - q) ln(1 - q), and z = (x, 1) with a regularised "
        "intercept and x otherwise. With q = 1 / (1 + exp(v)), v the margins of a model, and unless the "
        "intercept is free, the right side is F less half the squared norm of the gradient of F. Scaling q "
        "down by f within a class multiplies its entropy by at least f."
    )
    citation = Citation("yu2011", "Yu, Huang and Lin 2011 (the dual of logistic regression); weak duality")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the dual point is feasible, up to scaling", "LogisticDual.bound"),)
    quantifier = Quantifier.FOR_ALL
