"""What a design on a few points proves about all points, in L-infinity: T1 and T6 computed on a result.

A design is a set of points q with weights u > 0 of sum 1. Its second moment M = sum u q q^T, or
its mean c and covariance S, put an ellipsoid inside the hull of the points that carry weight
(M1, M2): a maximum over them is at least a standard deviation. How far all the other points reach
outside it is measured here, one pass over the data, so a factor rests on nothing that a solver
reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets.errors import SolverError
from coresets.guarantees.maxima import OneSidedFactor
from coresets.sensitivity._rows import default_rank_tolerance
from coresets.sensitivity.orthonormal import orthonormaliser

__all__ = ["Moments", "TwoSided", "affine_moments", "linear_moments", "one_sided_factor", "two_sided_factor"]

Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 16  # entries of a block: it and its image stay in cache

# The rank was decided with the columns scaled in another way, about another origin: room for the ratio.
_SCALING = 100.0


@dataclass(frozen=True)
class Moments:
    """Centre and whitening of a design: the rows sqrt(u) (q - centre) whitening are orthonormal columns.

    The centre is ``origin + offset``, in two parts: in one number it would be rounded to its own
    size, not to that of the spread about it. ``whitening`` is (d, rank), and whitening whitening^T
    is the pseudo-inverse of the covariance about the centre.
    """

    origin: Floats
    offset: Floats
    whitening: Floats

    @property
    def rank(self) -> int:
        """Dimension of what the design spans about its centre."""
        return int(self.whitening.shape[1])

    def coordinates(self, points: Floats) -> Floats:
        """Whitened coordinates, (n, rank)."""
        return ((points - self.origin) - self.offset) @ self.whitening

    def norms(self, points: Floats) -> Floats:
        """Euclidean norms of the coordinates, (n,), block by block."""
        norms = np.empty(len(points))
        for part in _blocks(points):
            norms[part] = np.linalg.norm(self.coordinates(points[part]), axis=1)
        return norms


def _blocks(points: Floats) -> Iterator[slice]:
    step = max(64, _BLOCK // points.shape[1])
    for start in range(0, len(points), step):
        yield slice(start, min(len(points), start + step))


def linear_moments(kept: Floats, weights: Floats) -> Moments:
    """Second moment about the origin."""
    nothing = np.zeros(kept.shape[1])
    return Moments(nothing, nothing, np.asarray(orthonormaliser(kept, weights)))


def affine_moments(kept: Floats, weights: Floats) -> Moments:
    """Mean and covariance."""
    origin = kept[0]
    rows = kept - origin
    offset = (weights / np.sum(weights)) @ rows
    return Moments(origin, offset, np.asarray(orthonormaliser(rows - offset, weights)))


def _span(rows: Floats) -> Floats:
    """Orthonormal basis of the row space, (d, r)."""
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    return right[values > default_rank_tolerance(*rows.shape) * values[0]].T


def _check_span(points: Floats, kept: Floats, rank: int) -> None:
    """Raise unless all points lie in the span of the kept ones, up to the rounding of a rank decision."""
    n, d = points.shape
    if rank == d:
        return
    largest = np.max(np.abs(points), axis=0)
    alive = largest > 0.0
    scale = 1.0 / largest[alive]
    basis = _span(kept[:, alive] * scale)
    worst = 0.0
    for part in _blocks(points):
        scaled = points[part, alive] * scale
        worst = max(worst, float(np.max(np.linalg.norm(scaled - (scaled @ basis) @ basis.T, axis=1))))
    # Scaled rows have a largest singular value up to sqrt(n d), relative to which the rank is decided.
    # Every point is a combination of at most ``rank`` kept ones with coefficients of the order of 1,
    # and inherits the distance of each from the span.
    tolerance = _SCALING * (1.0 + rank) * default_rank_tolerance(n, d) * math.sqrt(n * d)
    if worst > tolerance:
        raise SolverError(
            f"a point is {worst:.3g} (columns scaled to a maximum of 1) away from the span of the "
            f"{len(kept)} points kept, more than the {tolerance:.3g} of a rank decision"
        )


@dataclass(frozen=True)
class TwoSided:
    """What a design proves about the |p.x| of all points.

    Parameters
    ----------
    norms : array of shape (n,)
        ||p||_{M^-1}: |p.x| is at most this times the largest |q.x| of the kept points.
    heaviest : float
        max u ||q||_{M^-1}, at most 1: |p.x| is at most ``norms * heaviest`` times the sum of the |q.x|.
    rank : int
        Dimension of the span.
    """

    norms: Floats
    heaviest: float
    rank: int

    @property
    def factor(self) -> float:
        """Factor for the largest |p.x| of all points, at least 1."""
        return max(1.0, float(np.max(self.norms)))


def two_sided_factor(points: Floats, kept: Floats, weights: Floats) -> TwoSided:
    """Factors for |p.x| from a design, with M = sum u q q^T and |x|_M^2 = x^T M x.

    T1: |p.x| <= ||p||_{M^-1} |x|_M, and |x|_M^2 is a mean of (q.x)^2, so at most their maximum.
    Further, |x|_M^2 = sum u |q.x| |q.x| <= max(u ||q||_{M^-1}) |x|_M sum |q.x|. Both hold for any
    weights of sum 1 on any points.

    Parameters
    ----------
    points : array of shape (n, d)
        All points.
    kept : array of shape (k, d)
        Some of them, not all zero.
    weights : array of shape (k,)
        A design on the kept points: positive, of sum 1.

    Raises
    ------
    SolverError
        If a point is outside the span of the kept ones: no factor holds in that direction.
    """
    moments = linear_moments(kept, weights)
    _check_span(points, kept, moments.rank)
    heaviest = float(np.max(weights * moments.norms(kept)))
    return TwoSided(moments.norms(points), heaviest, moments.rank)


def one_sided_factor(points: Floats, kept: Floats, weights: Floats) -> float | None:
    """Factor for maxima of [p.x]_+, if the origin is inside the ellipsoid inscribed in the kept points.

    T6, with rho = ||c||_{S^-1} and R = max ||p - c||_{S^-1}, for any design.

    Returns
    -------
    float or None
        At least 1; None if the origin is elsewhere, when the factor may be infinite.
    """
    moments = affine_moments(kept, weights)
    if moments.rank == 0 or linear_moments(kept, weights).rank > moments.rank:
        return None  # one location, or an affine hull that misses the origin
    rho = float(np.linalg.norm(moments.coordinates(np.zeros((1, kept.shape[1])))))
    radius = max(1.0, float(np.max(moments.norms(points))))
    return OneSidedFactor().factor(radius, rho) if rho * radius < 1.0 else None
