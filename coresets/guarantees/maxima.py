"""Statements about maxima of |p.x| and the sensitivities that they give: T1, T2, T6 and T7.

Points p, kept points q, inputs x. Ranks are those of the points: of their span for the centred
design, of their affine hull otherwise. rho2 = r + gap (r + 1) is the squared radius of M2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coresets._validate import as_floating, check_integer, check_real
from coresets.errors import AssumptionError
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status
from coresets.guarantees.geometry import (
    AffineRounding,
    CaratheodoryTheorem,
    DesignReduction,
    SymmetricRounding,
)

__all__ = ["LInfFactor", "OneSidedFactor", "PeelingSensitivity", "VacuousSensitivity"]

_TUKAN = Citation(
    "tukan2022", "Tukan, Mualem and Maalouf 2022 (the vertices); the factors are proved on the page"
)


class LInfFactor(Guarantee):
    """T1: the support of a design keeps the largest |p.x|, up to a factor."""

    key = "T1"
    title = "few points keep the largest absolute inner product"
    statement = (
        "For all x the largest |p.x| of all points is at most a factor times that of the kept points: "
        "sqrt((1 + gap) r) if the support of a centred design is kept, sqrt((1 + gap)(r + 1)) for "
        "that of a lifted design, and sqrt(1 + r rho2^2) for Caratheodory sets of the 2 r vertices of "
        "the inscribed ellipsoid."
    )
    citation = _TUKAN
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the gap is the largest variance over all points, not over some", "linf_coreset"),
    )
    quantifier = Quantifier.FOR_ALL

    def symmetric(self, rank: int, gap: float) -> float:
        """Factor of the support of a centred design, r the rank of the points.

        Examples
        --------
        >>> LInfFactor().symmetric(4, 0.0)
        2.0
        """
        return math.sqrt(SymmetricRounding().squared_ratio(rank, gap))

    def lifted(self, rank: int, gap: float) -> float:
        """Factor of the support of a lifted design, r the rank of the affine hull.

        Examples
        --------
        >>> LInfFactor().lifted(3, 0.0)
        2.0
        """
        return math.sqrt(1.0 + AffineRounding().squared_radius(rank, gap))

    def vertices(self, rank: int, gap: float, *, shrinkage: float = 0.0) -> float:
        """Factor of the Caratheodory sets of the vertices of the inscribed ellipsoid.

        Parameters
        ----------
        rank : int
            Rank r of the affine hull.
        gap : float
            Gap of the lifted design.
        shrinkage : float
            In [0, 1): the vertices are drawn towards the centre by this fraction.

        Examples
        --------
        >>> round(LInfFactor().vertices(4, 0.0), 3), LInfFactor().published(4)
        (8.062, 16.0)
        """
        shrinkage = check_real(shrinkage, "shrinkage")
        if not 0.0 <= shrinkage < 1.0:
            raise ValueError(f"shrinkage = {shrinkage:g} is outside [0, 1)")
        squared_radius = AffineRounding().squared_radius(rank, gap)
        return math.hypot(1.0, math.sqrt(rank) * squared_radius / (1.0 - shrinkage))

    def published(self, rank: int) -> float:
        """Factor 2 r^1.5 of the publication; never below 1 and above :meth:`vertices` for small gaps."""
        return 2.0 * check_integer(rank, "rank", at_least=1) ** 1.5

    def symmetric_size(self, rank: int) -> int:
        """Points that suffice for :meth:`symmetric`, by M3.

        Examples
        --------
        >>> LInfFactor().symmetric_size(4), LInfFactor().lifted_size(4), LInfFactor().vertices_size(4)
        (11, 15, 40)
        """
        return DesignReduction().support(rank)

    def lifted_size(self, rank: int) -> int:
        """Points that suffice for :meth:`lifted`, by M3."""
        return DesignReduction().support(rank, mean=True)

    def vertices_size(self, rank: int) -> int:
        """Points that suffice for :meth:`vertices`: 2 r sets of r + 1, and one point for r = 0."""
        return max(1, 2 * rank * CaratheodoryTheorem().support(rank))


class PeelingSensitivity(Guarantee):
    """T2: points that survive rounds of peeling have small sensitivities."""

    key = "T2"
    title = "peeling bounds the sensitivities of sums of absolute values"
    statement = (
        "Take away sets S_1, S_2, ... of points, one after the other, such that the |q.x| of S_j add "
        "up to at least |p.x| / D_j(p) for every x and every point p left. The share |p.x| / sum |q.x| "
        "of a point that is left after rounds 1, ..., i - 1 is at most 1 / (1 + 1/D_1(p) + ... + "
        "1/D_(i-1)(p))."
    )
    citation = _TUKAN
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("every round's factor holds for the points left", "peeling_sensitivities"),
        Assumption("weights are multiplied into the points first", "peeling_sensitivities"),
    )
    quantifier = Quantifier.FOR_ALL

    def bounds(self, factors: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Bounds of the points taken in every round, and of those left at the end.

        Parameters
        ----------
        factors : array of shape (..., L)
            Factors D_1, ..., D_L of the rounds, non-negative: of a point, for a bound of its own, or the
            largest over all points left.

        Returns
        -------
        array of shape (..., L + 1)
                Entry i - 1 for the points taken in round i, the last one for those left.

        Raises
        ------
        ValueError
            If a factor is negative or not a number; infinity is a factor that proves nothing.

        Examples
        --------
        >>> PeelingSensitivity().bounds([1.0, 2.0, 2.0])
        array([1.        , 0.5       , 0.4       , 0.33333333])
        """
        values = np.asarray(as_floating(factors, "factors"), dtype=np.float64)
        if values.ndim == 0:
            raise ValueError("factors is a number; pass one factor for each round")
        if not np.all(values >= 0.0):  # nor any nan
            raise ValueError("factors must not be negative; infinity is a factor that proves nothing")
        with np.errstate(divide="ignore"):  # a factor of 0 belongs to a point without any share
            before = np.cumsum(1.0 / values, axis=-1)
        start = np.ones((*values.shape[:-1], 1))
        return np.concatenate([start, 1.0 / (1.0 + before)], axis=-1)

    def total(self, sizes: npt.ArrayLike, factors: npt.ArrayLike, left: int) -> float:
        """Sum of the bounds when so many points are taken in each round and some are left.

        Examples
        --------
        >>> PeelingSensitivity().total([4, 4], [2.0, 2.0], left=10)
        11.666666666666666
        """
        counts = np.asarray(sizes, dtype=np.float64)
        bounds = self.bounds(factors)
        if counts.shape != (bounds.size - 1,):
            raise ValueError(
                f"sizes has shape {counts.shape}; pass one number for each of the {bounds.size - 1} rounds"
            )
        return float(counts @ bounds[:-1] + check_integer(left, "left", at_least=0) * bounds[-1])

    def published(self, rank: int, round_number: int) -> float:
        """Bound min(1, 2 r^1.5 / i) of the publication for round i = 1, 2, ...

        Examples
        --------
        >>> PeelingSensitivity().published(4, 1), PeelingSensitivity().published(4, 32)
        (1.0, 0.5)
        """
        i = check_integer(round_number, "round_number", at_least=1)
        return min(1.0, LInfFactor().published(rank) / i)


class OneSidedFactor(Guarantee):
    """T6: with the origin inside the inscribed ellipsoid, kept points also keep the largest [p.x]_+."""

    key = "T6"
    title = "a one-sided factor needs the origin inside"
    statement = (
        "If the origin lies at a distance rho < 1/R from the mean of a lifted design, in the norm of "
        "the inverse covariance, then for all x the largest [p.x]_+ is at most (R - rho)/(1/R - rho) "
        "times that of the points that carry weight; for x with c.x >= 0 the factor is R^2 wherever "
        "the origin is."
    )
    citation = _TUKAN
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("R is the largest distance of all points from the mean", "linf_coreset"),
        Assumption("the affine hull contains the origin, and rho < 1/R", "linf_coreset"),
    )
    quantifier = Quantifier.FOR_ALL

    def factor(self, radius: float, offset: float) -> float:
        """Factor for maxima of [p.x]_+ over all x.

        Parameters
        ----------
        radius : float
            R, at least 1: largest distance of a point from the mean in the norm of the inverse
            covariance.
        offset : float
            rho, at least 0: distance of the origin, in the same norm.

        Raises
        ------
        AssumptionError
            If rho is not below 1/R: the factor may then be infinite.

        Examples
        --------
        >>> OneSidedFactor().factor(2.0, 0.0), OneSidedFactor().factor(2.0, 0.25)
        (4.0, 7.0)
        """
        radius, offset = check_real(radius, "radius"), check_real(offset, "offset")
        if radius < 1.0 or offset < 0.0:
            raise ValueError(f"radius = {radius:g} is below 1 or offset = {offset:g} below 0; both are norms")
        if offset * radius >= 1.0:
            raise AssumptionError(
                f"the origin is {offset:g} away from the mean, outside the inscribed ellipsoid of radius "
                f"{1.0 / radius:g}; a one-sided factor may be infinite, a two-sided one (T1) always exists"
            )
        return (radius - offset) * radius / (1.0 - offset * radius)


class VacuousSensitivity(Guarantee):
    """T7: exactly the points outside the span of the others have a sensitivity of 1."""

    key = "T7"
    title = "a point outside the span of the others has sensitivity 1"
    statement = (
        "The largest share |p.x|^a / sum |q.x|^a of a point, a > 0, is 1 if the point is not in the "
        "span of the others, and below 1 otherwise; it is 1 if and only if its leverage score is. The "
        "largest share of [p.x]_+ is 1 if and only if the point is not in the convex cone of the "
        "others."
    )
    citation = Citation("farkas1902", "Farkas 1902 for the cone; linear algebra for the span")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the inputs x are unrestricted", "the loss"),
        Assumption("weights are positive and multiplied into the points first", "vacuity"),
    )
    quantifier = Quantifier.FOR_ALL

    def bound(self, coefficients: npt.ArrayLike) -> float:
        """Largest possible share of a point that is a combination of others with these coefficients.

        ``max|y| / (1 + max|y|)`` for p = sum y_q q; for the one-sided shares the same with y >= 0.

        Examples
        --------
        >>> VacuousSensitivity().bound([1.0, -1.0])
        0.5
        """
        values = np.asarray(as_floating(coefficients, "coefficients"), dtype=np.float64)
        if not np.all(np.isfinite(values)):
            raise ValueError("coefficients must be finite")
        largest = float(np.max(np.abs(values), initial=0.0))
        return largest / (1.0 + largest)
