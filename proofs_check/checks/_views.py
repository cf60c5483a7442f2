"""Ellipsoids and designs seen from outside, for the attacks on both.

The points are looked at in coordinates of the attack's own, the hull of the contact points is
enumerated facet by facet, and the volume is compared with that of an enclosing ellipsoid which a
conic solver found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from coresets.guarantees import AffineRounding, SymmetricRounding
from proofs_check.checks._geometry import renamed, small, tight, unweighted
from proofs_check.geometry_oracles import Frame, best_design, inscribed_ratio, log_det, variances
from proofs_check.workloads import Workload

__all__ = ["Rounded", "View", "views"]

Floats = npt.NDArray[np.float64]

_OFF = 1e-9  # of the extent, squared: a thicker ellipsoid about flat points is no rounding error


@dataclass(frozen=True, eq=False)
class Rounded:
    """What is claimed of one ellipsoid.

    Parameters
    ----------
    center, shape : array of shape (d,), (d, d)
        The ellipsoid {x : (x - c)^T Q^+ (x - c) <= 1}, said to enclose the points.
    weights : array of shape (n,)
        The design.
    gap : float
        Claimed largest variance over the rank, less 1.
    rounding : float
        Claimed rounding: squared if the ellipsoid is centred, else the ratio itself.
    tolerance : float
        Stated rounding error of the enclosure: a flat ellipsoid's shape holds few digits.
    """

    center: Floats
    shape: Floats
    weights: Floats
    gap: float
    rounding: float
    tolerance: float = 0.0


_DIGITS = 1e2 * float(np.finfo(np.float64).eps)
_LOGARITHM = 1e-9  # of a determinant: less is rounding, which the enclosing of the points is paid with
_TINY = 1e-300


def _beyond(excess: float) -> float:
    """What exceeds rounding."""
    return max(0.0, excess - _LOGARITHM)


class View:
    """Points in coordinates of the attack's own, and the best design for them.

    Parameters
    ----------
    points : array of shape (n, d)
        The points.
    symmetric : bool
        Whether ellipsoids are centred at the origin.
    """

    def __init__(self, points: npt.ArrayLike, symmetric: bool) -> None:
        self.points = np.asarray(points, dtype=np.float64)
        self.symmetric = symmetric

    @cached_property
    def frame(self) -> Frame:
        """Coordinates in which uniform weights have the identity for covariance."""
        return Frame.of(self.points, symmetric=self.symmetric)

    @cached_property
    def rows(self) -> Floats:
        """What designs are about: the coordinates, and a one if the ellipsoid may move."""
        ones = np.ones((len(self.points), 0 if self.symmetric else 1))
        return np.hstack([self.frame.points, ones])

    @cached_property
    def condition(self) -> float:
        """Condition number of the columns at equal lengths, within their span."""
        moved = self.frame.points @ self.frame.back
        values = np.linalg.svd(moved / np.maximum(np.abs(moved).max(axis=0), 1e-300), compute_uv=False)
        return float(values[0] / values[self.frame.rank - 1])

    @cached_property
    def best(self) -> Floats:
        """A design close to the best."""
        return best_design(self.rows)

    def rounding(self, gap: float) -> float:
        """What a gap proves about the rounding."""
        rank = self.frame.rank
        if self.symmetric:
            return SymmetricRounding().squared_ratio(rank, gap)
        return AffineRounding().squared_radius(rank, gap)

    def claimed(self, weights: Floats, gap: float) -> Rounded:
        """What follows from a design, if its gap is as claimed."""
        rank, back = self.frame.rank, self.frame.back
        center = np.zeros(rank) if self.symmetric else weights @ self.frame.points
        moved = self.frame.points - center
        rounding = self.rounding(gap)
        shape = rounding * back.T @ (moved.T @ (weights[:, None] * moved)) @ back
        return Rounded(self.frame.origin + center @ back, shape, weights, gap, rounding)

    def enclosed(self, claim: Rounded) -> float:
        """Figures that the gap bounds: how far the points and their variances reach."""
        frame = self.frame
        if frame.off_hull(claim.center, claim.shape) > _OFF:
            return math.inf
        count = self.rows.shape[1]
        if frame.rank == 0:
            return 0.0
        moved = frame.points - frame.center(claim.center)
        try:
            forms = np.einsum("ij,ji->i", moved, np.linalg.solve(frame.shape(claim.shape), moved.T))
        except np.linalg.LinAlgError:
            return math.inf
        largest = float(variances(self.rows, claim.weights).max()) / (count * (1.0 + claim.gap))
        outer = float(forms.max()) / (1.0 + claim.tolerance)
        found = max(outer, largest, claim.rounding / self.rounding(claim.gap))
        # The coordinates are exact to so many digits less than the points.
        return found / (1.0 + _DIGITS * self.condition)

    def inscribed(self, claim: Rounded) -> float:
        """Reach of the shrunken ellipsoid over the distance to the hull of the contact points."""
        shrunk = self.frame.shape(claim.shape) / claim.rounding ** (1 if self.symmetric else 2)
        contact = self.frame.points[claim.weights > 0.0]
        if self.symmetric:
            contact = np.vstack([contact, -contact])
        if self.frame.rank == 0:
            return 0.0
        found = inscribed_ratio(self.frame.center(claim.center), shrunk, contact)
        # Squares of widths are known to the tolerance, in both directions: the shape of a flat ellipsoid
        # holds few digits of its thin axes, whether points are to be inside it or it inside a hull.
        return found / math.sqrt(1.0 + claim.tolerance)

    def volume(self, claim: Rounded) -> float:
        """Excess of the logarithm of the volume, and of the determinant of the design, over the bound."""
        if self.frame.rank == 0:
            return 0.0
        guarantee = SymmetricRounding() if self.symmetric else AffineRounding()
        slack = guarantee.log_volume_excess(self.frame.rank, claim.gap)
        best = self.claimed(self.best, 0.0)
        largest = float(variances(self.rows, self.best).max()) - (0.0 if self.symmetric else 1.0)
        # Grown until it encloses the points, hence no smaller than the smallest.
        enclosing = self.frame.shape(best.shape) * (largest / best.rounding)
        excess = 0.5 * (log_det(self.frame.shape(claim.shape)) - log_det(enclosing))
        short = self.log_det(self.best) - self.log_det(claim.weights)
        return max(
            _beyond(excess) / max(slack, _TINY),
            _beyond(short) / max(self.rows.shape[1] * math.log1p(claim.gap), _TINY),
        )

    def rounded(self, claim: Rounded) -> float:
        """Enclosure, gap and inscribed ellipsoid, which need no conic solver."""
        return max(self.enclosed(claim), self.inscribed(claim))

    def everything(self, claim: Rounded) -> float:
        """The largest of the three figures."""
        return max(self.rounded(claim), self.volume(claim))

    def log_det(self, weights: Floats) -> float:
        """Logarithm of the determinant of the second moment of the rows under a design."""
        return log_det(self.rows.T @ (weights[:, None] * self.rows))


def views(workloads: Sequence[Workload], points: int) -> Iterator[tuple[Workload, View]]:
    """Every set, once about the origin and once about a centre of its own."""
    for workload in small([*unweighted(workloads), *tight()], points):
        for symmetric, words in ((True, "centred"), (False, "free")):
            view = View(workload.data.points, symmetric)
            if view.frame.rank:
                yield renamed(workload, words), view
