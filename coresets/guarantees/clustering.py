"""k-means and k-median: sensitivities KM, lower bounds KM-B, sizes KM-A, lightweight coresets KM-L.

Notation: F(C) = sum w d(p, C)^z with C a set of at most k centres and z = 2 (k-means) or 1 (k-median);
OPT is the least of these costs.
"""

from __future__ import annotations

from dataclasses import dataclass

from coresets._validate import check_integer
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
from coresets.guarantees.parameters import VCClass, check_total
from coresets.guarantees.uniform import VCIID

__all__ = [
    "ClusterAllQueries",
    "ClusterOptimumBelow",
    "ClusterSensitivity",
    "KCentresClass",
    "LightweightAllQueries",
]


@dataclass(frozen=True, slots=True)
class KCentresClass:
    """All sets of at most k centres, with sensitivities bounded in any way.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the bounds, at least 1.
    k : int
        Number of centres, at least 1.
    d : int
        Dimension of the points, at least 1.
    """

    total_sensitivity: float
    k: int
    d: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        for name in ("k", "d"):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, at_least=1))

    def ranges(self) -> VCClass:
        """Scaled ranges: intersections of k sets from a family of dimension d + 2."""
        return VCClass(self.total_sensitivity, self.d + 2, unions=self.k)


class ClusterSensitivity(Guarantee):
    """KM: shares in the cost of k centres are bounded through any clusters and any lower bound."""

    key = "KM"
    title = "clusters and a lower bound give the sensitivities of k centres"
    statement = (
        "Divide the points in any way into b clusters Q with masses W_Q and centres, D being the distance of "
        "a point to its own. If 0 < o <= OPT, then the share of a point in the cost of any k centres is, for "
        "k-median, at most w ((D + r_Q) / o + 1 / W_Q), r_Q the mean of D over Q; and for k-means, the "
        "centres being means, at most w (sqrt((D^2 + r_Q) / o) + 1 / sqrt(W_Q))^2, r_Q the mean of D^2. With "
        "a = cost / o these add up to at most 2 a + b and (sqrt(2 a) + sqrt(b))^2."
    )
    citation = Citation(
        "feldman2011unified", "Feldman and Langberg 2011 (sensitivities of clusterings); bound derived"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("o is positive and at most the optimum", "optimum_lower_bound"),
        Assumption("for k-means the clusters have their exact weighted means", "Partition.around"),
    )
    quantifier = Quantifier.FOR_ALL

    @staticmethod
    def total(ratio: float, clusters: int, *, squared: bool = True) -> float:
        """Bound on the sum, for b clusters of cost ``ratio`` times the lower bound.

        Examples
        --------
        >>> ClusterSensitivity.total(2.0, 4), ClusterSensitivity.total(2.0, 4, squared=False)
        (16.0, 8.0)
        """
        clusters = check_integer(clusters, "clusters", at_least=1)
        return float(((2.0 * ratio) ** 0.5 + clusters**0.5) ** 2 if squared else 2.0 * ratio + clusters)


class ClusterOptimumBelow(Guarantee):
    """KM-B: forests on groups of points, and principal components, bound the optimum from below."""

    key = "KM-B"
    title = "what k centres cost at least"
    statement = (
        "Divide the points into groups of g > k. A group costs at least h w, w its least mass, times the "
        "lightest forest of k trees on it with edges |p - q|^z, where h = 1/2 for z = 2 and h = (g - k + "
        "1) / (2 (g - k)) for z = 1; OPT is at least the sum. For z = 2, OPT is also at least the sum of all "
        "but the k - 1 largest squared singular values of the centred data."
    )
    citation = Citation("drineas2004clustering", "Drineas et al. 2004 (singular values); forests derived")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the groups are disjoint", "forest_lower_bound"),)
    quantifier = Quantifier.FOR_ALL


class ClusterAllQueries(SamplingGuarantee[KCentresClass]):
    """KM-A: E2 for k centres, whose scaled ranges are intersections of k sets of dimension d + 2."""

    key = "KM-A"
    title = "all sets of k centres at once, draws with replacement"
    statement = (
        "With m >= (4 t (1 + eps) / eps^2) (k (d + 2) ln(2 e m / (d + 2)) + ln(8 / delta)) draws in "
        "proportion to bounds on the shares, with probability at least 1 - delta the cost of all sets of at "
        "most k centres is answered within a relative error of eps, for k-means as for k-median."
    )
    citation = Citation(
        "feldman2011unified", "Feldman and Langberg 2011 (sensitivities of clusterings); constants derived"
    )
    status = Status.DERIVED_HERE
    assumptions = (VALID_BOUNDS,)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    _ENGINE = VCIID()

    def _size(self, parameters: KCentresClass, epsilon: float, delta: float) -> int:
        return self._ENGINE._size(parameters.ranges(), epsilon, delta)

    def _epsilon(self, parameters: KCentresClass, size: int, delta: float) -> float:
        return self._ENGINE._epsilon(parameters.ranges(), size, delta)


class LightweightAllQueries(SamplingGuarantee[KCentresClass]):
    """KM-L: lightweight coresets, with an error relative to F(C) + F(mean)."""

    key = "KM-L"
    title = "lightweight coresets of all sets of k centres"
    statement = (
        "Draw in proportion to q = a w / U + (1 - a) w d(p, c)^z / F(c), c the mean. With the size of KM-A "
        "for t = max(z / a, 1 / (1 - a)) and eps / 2 in place of eps, with probability at least 1 - delta "
        "the error at all sets C of at most k centres is at most eps (F(C) + F(c)) / 2."
    )
    citation = Citation(
        "bachem2018lightweight", "Bachem, Lucic and Krause 2018, Theorem 2; constants derived"
    )
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the distances are those to the weighted mean", "LightweightLoss"),)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    _ENGINE = VCIID()

    def _size(self, parameters: KCentresClass, epsilon: float, delta: float) -> int:
        return self._ENGINE._size(parameters.ranges(), epsilon / 2.0, delta)

    def _epsilon(self, parameters: KCentresClass, size: int, delta: float) -> float:
        return 2.0 * self._ENGINE._epsilon(parameters.ranges(), size, delta)
