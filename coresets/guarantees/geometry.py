"""Statements about ellipsoids, designs and Caratheodory reductions: M1 to M7 and CAR.

Notation: rows q_i of full column rank k (points, or points with a 1 appended when the centre is
free), a design u on the simplex, M = sum u q q^T and omega_i = q_i^T M^-1 q_i. Always sum u omega
= k, so max omega >= k; the gap is max omega / k - 1. Ranks r are those of the points: of their
span if the ellipsoid is centred at the origin, of their affine hull otherwise.
"""

from __future__ import annotations

import math

from coresets._validate import check_integer, check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status

__all__ = [
    "AddOnlyAscent",
    "AffineRounding",
    "CaratheodoryTheorem",
    "DesignReduction",
    "LeverageIteration",
    "SafeElimination",
    "SpreadingStart",
    "SymmetricRounding",
]

_DESIGN = Assumption(
    "the weights are a design: non-negative, of sum 1, non-singular on the span", "the certificate"
)
_GAP = Assumption("the gap is the largest variance over all points, not over some", "the certificate")

_TODD = Citation("todd2016", "Todd 2016 (Minimum-Volume Ellipsoids), chapters 2 and 3")


def check_gap(gap: object) -> float:
    """Return the gap as a float if it is not negative."""
    value = check_real(gap, "gap")
    if value < 0.0:
        raise ValueError(
            f"gap = {value:g} is negative; pass the largest variance over its least value, minus 1"
        )
    return value


def _check_positive_gap(gap: object) -> float:
    value = check_gap(gap)
    if value == 0.0:
        raise ValueError("gap = 0 is never promised after finitely many steps; pass a positive one")
    return value


class SymmetricRounding(Guarantee):
    """M1: what the gap of a design proves about the ellipsoid centred at the origin."""

    key = "M1"
    title = "a design rounds the symmetric hull"
    statement = (
        "If max x^T M^-1 x <= (1 + gap) r for M = sum u x x^T, then {y^T M^-1 y <= 1} lies in the "
        "symmetric convex hull of the points that carry weight, all points lie in {y^T M^-1 y <= (1 + "
        "gap) r}, and the logarithm of its volume exceeds the least one by at most r/2 ln(1 + gap)."
    )
    citation = _TODD
    status = Status.DERIVED_HERE
    assumptions = (_DESIGN, _GAP)
    quantifier = Quantifier.FOR_ALL

    def squared_ratio(self, rank: int, gap: float) -> float:
        """Square of the ratio of the outer to the inner ellipsoid, (1 + gap) r.

        Examples
        --------
        >>> SymmetricRounding().squared_ratio(4, 0.25)
        5.0
        """
        return (1.0 + check_gap(gap)) * check_integer(rank, "rank", at_least=0)

    def log_volume_excess(self, rank: int, gap: float) -> float:
        """Bound on the log-volume of the outer ellipsoid minus that of the smallest one.

        Examples
        --------
        >>> round(SymmetricRounding().log_volume_excess(4, 1e-6), 9)
        2e-06
        """
        return 0.5 * check_integer(rank, "rank", at_least=0) * math.log1p(check_gap(gap))


class AffineRounding(Guarantee):
    """M2: what the gap of a lifted design proves about the ellipsoid with a free centre."""

    key = "M2"
    title = "a lifted design rounds the convex hull"
    statement = (
        "With the mean c and the covariance S of a design and R^2 = max (x - c)^T S^-1 (x - c), the "
        "ellipsoid of radius 1/R about c in the norm of S^-1 lies in the convex hull of the points "
        "that carry weight and the one of radius R contains all points. If the lifted variances are "
        "at most (1 + gap)(r + 1), then R^2 <= r + gap (r + 1), and the logarithm of the outer volume "
        "exceeds the least one by at most r/2 ln(1 + gap (r + 1)/r)."
    )
    citation = _TODD
    status = Status.DERIVED_HERE
    assumptions = (_DESIGN, _GAP)
    quantifier = Quantifier.FOR_ALL

    def squared_radius(self, rank: int, gap: float) -> float:
        """Bound on R^2, which is also the ratio of the two ellipsoids: r + gap (r + 1).

        Examples
        --------
        >>> AffineRounding().squared_radius(4, 0.1)
        4.5
        """
        rank = check_integer(rank, "rank", at_least=0)
        # One point is its own hull; its lifted variance is 1 whatever the weights are.
        return rank + check_gap(gap) * (rank + 1.0) if rank else 0.0

    def log_volume_excess(self, rank: int, gap: float) -> float:
        """Bound on the log-volume of the outer ellipsoid minus that of the smallest one.

        Examples
        --------
        >>> round(AffineRounding().log_volume_excess(4, 1e-6), 10)
        2.5e-06
        """
        rank, gap = check_integer(rank, "rank", at_least=0), check_gap(gap)
        return 0.5 * rank * math.log1p(gap * (rank + 1.0) / rank) if rank else 0.0


class DesignReduction(Guarantee):
    """M3: every design has the moments of one on few of its points."""

    key = "M3"
    title = "few points carry the moments of a design"
    statement = (
        "For every design there is one on at most r (r + 1)/2 + 1 of its points with the same mass "
        "and second moment, and one on at most r (r + 3)/2 + 1 with the same mean as well; gap, "
        "rounding and ellipsoid stay the same."
    )
    citation = Citation("john1948", "John 1948; the reduction is Caratheodory's theorem")
    status = Status.DERIVED_HERE
    assumptions = (_DESIGN,)
    quantifier = Quantifier.FOR_ALL

    def support(self, rank: int, *, mean: bool = False) -> int:
        """Number of points that suffice.

        Parameters
        ----------
        rank : int
            Rank r of the span, or of the affine hull if the mean is kept; at least 0.
        mean : bool
            Whether the mean is kept beside mass and second moment, as the lifted problem needs.

        Examples
        --------
        >>> DesignReduction().support(3), DesignReduction().support(3, mean=True)
        (7, 10)
        """
        rank = check_integer(rank, "rank", at_least=0)
        return (rank * (rank + 3) if mean else rank * (rank + 1)) // 2 + 1


class SpreadingStart(Guarantee):
    """M4: how far two simple starts are from the optimal design."""

    key = "M4"
    title = "a start whose distance does not depend on the number of points"
    statement = (
        "Choose k rows one after the other, each the farthest in some direction orthogonal to those "
        "before it. Equal weights on them have a ln det M within k ln k of the largest one; equal "
        "weights on all n rows are within k ln(n/k)."
    )
    citation = Citation("kumar2005", "Kumar and Yildirim 2005; proved on the page for one point a direction")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the rows have full column rank", "the whitening"),)
    quantifier = Quantifier.FOR_ALL

    def log_det_gap(self, dimension: int) -> float:
        """Bound k ln k for the start on k chosen rows.

        Examples
        --------
        >>> round(SpreadingStart().log_det_gap(10), 6)
        23.025851
        """
        dimension = check_integer(dimension, "dimension", at_least=1)
        return dimension * math.log(dimension)

    def uniform_log_det_gap(self, n: int, dimension: int) -> float:
        """Bound k ln(n/k) for equal weights on all n rows.

        Examples
        --------
        >>> SpreadingStart().uniform_log_det_gap(10, 10)
        0.0
        """
        dimension = check_integer(dimension, "dimension", at_least=1)
        n = check_integer(n, "n", at_least=dimension)
        return dimension * math.log(n / dimension)


class AddOnlyAscent(Guarantee):
    """M5: steps, and hence points, that an ascent needs which only ever adds weight to one point."""

    key = "M5"
    title = "steps and support of an ascent that only adds"
    statement = (
        "Frank-Wolfe steps with exact line search towards the row of largest variance, from a start "
        "within k l of the largest ln det M, l = ln k for the start of M4, reach a gap of g in at "
        "most k (1 + 4/v + ln(l/v) - 2/l) steps, v = ln(1 + g) < l; the support grows by at most one "
        "point a step."
    )
    citation = Citation("todd2007", "Todd and Yildirim 2007; the constants are derived on the page")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the row of largest variance among all is taken in every step", "AddOnly"),
        Assumption("the start is within the stated distance", "M4"),
    )
    quantifier = Quantifier.FOR_ALL

    def steps(self, dimension: int, gap: float, *, log_det_gap: float | None = None) -> int:
        """Largest number of steps before the gap is reached.

        Parameters
        ----------
        dimension : int
            Number k of columns of the rows: r, or r + 1 if the centre is free.
        gap : float
            Gap to be reached, positive.
        log_det_gap : float, optional
            Bound on the distance of the start in ln det M; that of M4 by default.

        Examples
        --------
        >>> AddOnlyAscent().steps(10, 1.0), AddOnlyAscent().steps(10, 0.01)
        (71, 4075)
        """
        k = check_integer(dimension, "dimension", at_least=1)
        v = math.log1p(_check_positive_gap(gap))
        start = (
            SpreadingStart().log_det_gap(k) if log_det_gap is None else check_real(log_det_gap, "log_det_gap")
        )
        if start < 0.0:
            raise ValueError(f"log_det_gap = {start:g} is negative; no design is above the largest one")
        if start == 0.0:
            return 0
        level = start / k
        # int min(., level) psi'/psi^2 from v on, with 1/psi <= 2/v^2 + 1/v.
        first = min(v, level) * (2.0 + v) / v**2
        rest = 2.0 / v - 2.0 / level + math.log(level / v) if v < level else 0.0
        return math.floor(k * (first + rest))

    def support(self, dimension: int, gap: float) -> int:
        """Largest number of points that carry weight when the gap is reached from the start of M4.

        Examples
        --------
        >>> AddOnlyAscent().support(10, 1.0)
        81
        """
        return check_integer(dimension, "dimension", at_least=1) + self.steps(dimension, gap)


class LeverageIteration(Guarantee):
    """M6: the average of a multiplicative fixed-point iteration is a near-optimal design."""

    key = "M6"
    title = "averaged leverage iteration"
    statement = (
        "Start with w = k/n and replace every w_i by the leverage score of its weighted row, w_i "
        "q_i^T (sum w q q^T)^-1 q_i. The average of the first T iterates, divided by k, is a design "
        "with a gap of at most (n/k)^(1/T) - 1."
    )
    citation = Citation("cohen2019", "Cohen, Cousins, Lee and Yang 2019")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the rows have full column rank", "the whitening"),)
    quantifier = Quantifier.FOR_ALL

    def gap(self, n: int, dimension: int, iterations: int) -> float:
        """Bound on the gap of the average of so many iterates.

        Examples
        --------
        >>> round(LeverageIteration().gap(10_000, 10, 10), 6)
        0.995262
        """
        dimension = check_integer(dimension, "dimension", at_least=1)
        n = check_integer(n, "n", at_least=dimension)
        return math.expm1(math.log(n / dimension) / check_integer(iterations, "iterations", at_least=1))

    def iterations(self, n: int, dimension: int, gap: float) -> int:
        """Number of iterates to average for a gap; at least 1.

        Examples
        --------
        >>> LeverageIteration().iterations(10_000, 10, 0.01)
        695
        """
        dimension = check_integer(dimension, "dimension", at_least=1)
        n = check_integer(n, "n", at_least=dimension)
        return max(1, math.ceil(math.log(n / dimension) / math.log1p(_check_positive_gap(gap))))


class SafeElimination(Guarantee):
    """M7: rows of small variance that no optimal design uses."""

    key = "M7"
    title = "rows of small variance can be left out"
    statement = (
        "Let a design of k-dimensional rows have a largest variance of k + e. A row whose variance is "
        "below k (1 + e/2 - sqrt(e (4 + e - 4/k))/2) carries no weight in any optimal design, so the "
        "optimum over the other rows is the optimum over all."
    )
    citation = Citation("harman2007", "Harman and Pronzato 2007, with e the absolute excess")
    status = Status.DERIVED_HERE
    assumptions = (_DESIGN, _GAP)
    quantifier = Quantifier.FOR_ALL

    def threshold(self, dimension: int, gap: float) -> float:
        """Variance below which a row can be left out.

        Parameters
        ----------
        dimension : int
            Number k of columns of the rows: r, or r + 1 if the centre is free.
        gap : float
            Largest variance over k, minus 1; the formula's e is k times the gap.

        Returns
        -------
        float
            Between 1 and k.

        Examples
        --------
        >>> rule = SafeElimination()
        >>> rule.threshold(10, 0.0), round(rule.threshold(10, 0.1), 3), round(rule.threshold(10, 1e9), 3)
        (10.0, 4.276, 1.0)
        """
        k = check_integer(dimension, "dimension", at_least=1)
        gap = check_gap(gap)
        half = 0.5 * k * gap
        # k times the smaller root of t^2 - (2 + k gap) t + (1 + gap), without cancellation.
        return k * (1.0 + gap) / (1.0 + half + math.sqrt(gap * (k - 1.0) + half * half))


class CaratheodoryTheorem(Guarantee):
    """CAR: weighted means on few points."""

    key = "CAR"
    title = "few points carry a weighted mean"
    statement = (
        "A weighted sum of n vectors of rank r with non-negative weights is one of at most r of them; "
        "with mass and mean kept, at most one more than the rank of the affine hull are needed."
    )
    citation = Citation("caratheodory1907", "Caratheodory 1907; the proof is an algorithm")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the weights are non-negative", "caratheodory"),)
    quantifier = Quantifier.FOR_ALL

    def support(self, rank: int, *, mass: bool = True) -> int:
        """Number of points that suffice.

        Parameters
        ----------
        rank : int
            Rank of the affine hull if the mass is kept, of the vectors otherwise; at least 0.
        mass : bool
            Whether the total weight is kept, and so the mean.

        Examples
        --------
        >>> CaratheodoryTheorem().support(3), CaratheodoryTheorem().support(3, mass=False)
        (4, 3)
        """
        return check_integer(rank, "rank", at_least=0) + bool(mass)
