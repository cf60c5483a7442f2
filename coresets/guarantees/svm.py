"""Support vector machines: sensitivities S1, sizes S2 and S3, limits S4, training S5, certificates SG.

Notation: F(w, b) = |w|^2 / 2 + lam sum u h with h = max(0, 1 - y (w.x + b)); the intercept may be free,
regularised (then w has one more coordinate) or absent. Shares are lam u h / F: the coreset keeps the
regulariser exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coresets._validate import check_integer, check_real
from coresets.guarantee import (
    Assumption,
    Citation,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
)
from coresets.guarantees.finite import VALID_BOUNDS
from coresets.guarantees.parameters import LipschitzClass, VCClass, check_total
from coresets.guarantees.uniform import VCIID, LipschitzIID, LipschitzPoisson

__all__ = [
    "DualityGap",
    "HingeAllQueries",
    "HingeClass",
    "HingeClusterSensitivity",
    "HingeLowerBound",
    "HingeNormClass",
    "HingeNormIID",
    "HingeNormPoisson",
    "TrainingOnCoreset",
]

_SOURCE = Citation(
    "tukan2020svm", "Tukan, Baykal, Feldman and Rus 2020 (coresets for SVM); constants derived"
)
_BELOW = Assumption("o is positive and at most the optimum", "lower_bound, solver_free_bound")
_MEANS = Assumption("clusters lie within classes and have their exact weighted means", "Clusters")
_NORM_BOUNDS = Assumption("the bounds are those of norms, uncapped", "NormBounds")


@dataclass(frozen=True, slots=True)
class HingeClass:
    """All models (w, b), with sensitivities bounded in any way.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the bounds on the shares, at least 1.
    d : int
        Number of columns.
    intercept : bool
        Whether there is an intercept, free or not.
    """

    total_sensitivity: float
    d: int
    intercept: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        object.__setattr__(self, "d", check_integer(self.d, "d", at_least=1))

    def ranges(self) -> VCClass:
        """Scaled ranges: affine functions of (z, s/u) with a fixed constant term."""
        return VCClass(self.total_sensitivity, self.d + 1 + self.intercept)


@dataclass(frozen=True, slots=True)
class HingeNormClass:
    """All models, with the sensitivities of S3.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the bounds, at least 1.
    free_intercept : bool
        Whether the intercept has no penalty.
    """

    total_sensitivity: float
    free_intercept: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))

    def lipschitz(self) -> LipschitzClass:
        """In the terms of E4: h is the root of the number of parts of a query, 2 or 3."""
        return LipschitzClass(
            self.total_sensitivity, norm_ratio=math.sqrt(3.0 if self.free_intercept else 2.0)
        )


class HingeClusterSensitivity(Guarantee):
    """S1: shares of the hinge loss are bounded through the mean of the point's cluster."""

    key = "S1"
    title = "cluster means bound the sensitivities of the hinge loss"
    statement = (
        "If Q is a cluster within one class, of mass U_Q and weighted mean c_Q, and 0 < o <= OPT, then the "
        "share lam u h(p) / F of a point of Q is at most u / U_Q + lam u G(|x - c_Q|, alpha, o) with alpha = "
        "1 / (2 lam U_Q), for every model and every intercept; G(D, a, o) = D^2 / (4 a o) if D <= 2 a sqrt(2 "
        "o), else sqrt(2 / o) D - 2 a. With the regulariser spread over the points, alpha = (U - U_Q) / (2 "
        "lam U U_Q)."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_BELOW, _MEANS)
    quantifier = Quantifier.FOR_ALL


class HingeAllQueries(SamplingGuarantee[HingeClass]):
    """S2: E2 for the hinge loss, whose scaled ranges have dimension d + 2 with an intercept."""

    key = "S2"
    title = "all support vector machines at once, draws with replacement"
    statement = (
        "With the size of E2 for D = d + 2 (d + 1 without an intercept), draws in proportion to bounds on "
        "the shares of the hinge loss keep F(w, b), its regulariser being exact, within a relative error of "
        "eps for all w and b at once, with probability at least 1 - delta."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (VALID_BOUNDS,)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    _ENGINE = VCIID()

    def _size(self, parameters: HingeClass, epsilon: float, delta: float) -> int:
        return self._ENGINE._size(parameters.ranges(), epsilon, delta)

    def _epsilon(self, parameters: HingeClass, size: int, delta: float) -> float:
        return self._ENGINE._epsilon(parameters.ranges(), size, delta)


class HingeNormIID(SamplingGuarantee[HingeNormClass]):
    """S3: free of the dimension, and so for kernels; draws with replacement."""

    key = "S3"
    title = "all support vector machines at once, free of the dimension, draws with replacement"
    statement = (
        "With bounds lam u (1/o + sqrt(2/o) |z|) of total t, z = (x, 1) or x, m >= (t / eps)^2 (2 sqrt(2) + "
        "sqrt(ln(2 / delta) / 2))^2 draws keep F within a relative error of eps for all models at once, with "
        "probability at least 1 - delta. With a free intercept each bound grows by lam u (1 / (lam min U_y) "
        "+ R sqrt(2/o)), |x| is taken about any centre, R bounds the norms of the class means about it, and "
        "sqrt(2) becomes sqrt(3)."
    )
    citation = Citation("alishahi2024", "Alishahi and Phillips 2024 (without dimension); constants derived")
    status = Status.DERIVED_HERE
    assumptions = (_BELOW, _NORM_BOUNDS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    _ENGINE = LipschitzIID()

    def _size(self, parameters: HingeNormClass, epsilon: float, delta: float) -> int:
        return self._ENGINE._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: HingeNormClass, size: int, delta: float) -> float:
        return self._ENGINE._epsilon(parameters.lipschitz(), size, delta)


class HingeNormPoisson(SamplingGuarantee[HingeNormClass]):
    """S3-P: the same bounds under Poisson sampling, by E4-P."""

    key = "S3-P"
    title = "all support vector machines at once, free of the dimension, Poisson sampling"
    statement = (
        "Poisson sampling with expected size m in proportion to the bounds of S3 keeps F within a relative "
        "error of eps for all models at once, with probability at least 1 - delta, eps being that of E4-P "
        "with h = sqrt(2), or sqrt(3) for a free intercept."
    )
    citation = Citation("alishahi2024", "Alishahi and Phillips 2024 (without dimension); constants derived")
    status = Status.DERIVED_HERE
    assumptions = (_BELOW, _NORM_BOUNDS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})

    _ENGINE = LipschitzPoisson()

    def _size(self, parameters: HingeNormClass, epsilon: float, delta: float) -> int:
        return self._ENGINE._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: HingeNormClass, size: int, delta: float) -> float:
        return self._ENGINE._epsilon(parameters.lipschitz(), size, delta)


class HingeLowerBound(Guarantee):
    """S4: sets of points of which no small coreset exists."""

    key = "S4"
    title = "sets of which every coreset of a support vector machine is large"
    statement = (
        "For even d there are n = C(d, d/2) points on which every share, the regulariser spread, is at least "
        "(d^2 + 8 lam n) / (n (d^2 + 8 lam)); once lam > eps d^2 / (8 (1 - eps)), every coreset with exact "
        "regulariser and relative error eps contains all of them."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the points are the indicators of half the coordinates, scaled", "the instance"),
    )
    quantifier = Quantifier.FOR_ALL

    @staticmethod
    def least_share(d: int, lam: float) -> float:
        """The lower bound on every share, for even d >= 2."""
        d, lam = check_integer(d, "d", at_least=2), check_real(lam, "lam")
        if d % 2 or lam <= 0.0:
            raise ValueError(f"d = {d}, lam = {lam:g}; the instance needs an even d and a positive lam")
        n = math.comb(d, d // 2)
        return (d * d + 8.0 * lam * n) / (n * (d * d + 8.0 * lam))

    @staticmethod
    def least_error(d: int, lam: float) -> float:
        """Relative error of every coreset that misses a point, the regulariser being exact."""
        return 8.0 * lam / (d * d + 8.0 * lam)


class TrainingOnCoreset(Guarantee):
    """S5: what a model trained on a coreset inherits."""

    key = "S5"
    title = "a model trained on a coreset is nearly optimal on all the data"
    statement = (
        "If a coreset keeps F within a relative error of eps < 1 at the optimum and at a model whose "
        "coreset objective is at most 1 + eta times the least one, then on all the data that model has at "
        "most (1 + eta) (1 + eps) / (1 - eps) times the optimum."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the objective on the coreset is within 1 + eta of its minimum", "train_svm"),)
    quantifier = Quantifier.FOR_ALL

    @staticmethod
    def factor(epsilon: float, eta: float = 0.0) -> float:
        """The factor; infinite from epsilon = 1 on."""
        return (1.0 + eta) * (1.0 + epsilon) / (1.0 - epsilon) if epsilon < 1.0 else math.inf


class DualityGap(Guarantee):
    """SG: every scaled dual point bounds the optimum from below."""

    key = "SG"
    title = "dual points certify a support vector machine"
    statement = (
        "If 0 <= a <= lam u, and sum a y = 0 where the intercept is free, then OPT >= sum a - |sum a y z|^2 "
        "/ 2, z = (x, 1) with a regularised intercept and x otherwise; so F(w, b) <= (1 + g) OPT with g = F "
        "over that value, minus 1. Scaling either class down keeps the first condition and can enforce the "
        "second."
    )
    citation = Citation(
        "hsieh2008", "Hsieh, Chang, Lin, Keerthi and Sundararajan 2008 (the dual); weak duality"
    )
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the dual point is feasible, up to scaling", "DualSums.bound"),)
    quantifier = Quantifier.FOR_ALL
