r"""Evidence for an enclosing ellipsoid, recomputed from the result and the points alone.

Let the design u have mean c_u and second moment S = sum_i u_i (x_i - c_u) (x_i - c_u)^T (c_u = 0 if
symmetric), of rank r, and let k be r if symmetric and r + 1 otherwise.

* **Containment**: max_i (x_i - c)^T Q^+ (x_i - c), at most 1 if the ellipsoid encloses the points.
* **Gap**: with rho^2 = max_i (x_i - c_u)^T S^+ (x_i - c_u), the gap is rho^2 / r - 1 if symmetric, and
  (1 + rho^2) / (r + 1) - 1 otherwise: the relative excess of the largest form of the lifted points.
* **Volume**: every enclosing ellipsoid has log-volume at least that of r S, by weak duality. So
  (ln det Q - ln det r S) / 2 bounds the excess of E in nats, whatever way it was found. Its own rounding
  errors, which the condition number of Q bounds, are added.
* **Hull**: how far points are from c + range(Q), where it is not the whole space.

Cost: one pass over the data. Where Q is a multiple of S, as it is for our solvers, one product serves
both forms: n d^2 multiplications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets.certificate import Certificate
from coresets.ellipsoid._forms import squared_lengths
from coresets.ellipsoid._metric import Metric, metric_of_design, metric_of_shape
from coresets.ellipsoid._rows import FLAT, row_blocks, take_points
from coresets.ellipsoid.blocks import Blocks
from coresets.errors import SolverError

__all__ = ["Evidence", "certify", "check_design", "enclosing", "flatness"]

Floats = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# Q and S are taken for multiples of each other if that inflates the gap by less than this. One product
# then serves both, and the inflation is part of the certified gap.
_SAME_METRIC = 1e-11
# Rounding errors excuse at most this share: with fewer than two digits, a form is no evidence.
_EXCUSED = 0.01
# How many times farther than the worst contact point others may be from the hull that those span.
_CONTACTS = 10.0


@dataclass(frozen=True)
class Evidence:
    """Measured figures of one ellipsoid.

    Parameters
    ----------
    rank : int
        r, the dimension of the hull.
    symmetric : bool
        Whether the ellipsoid is centred at the origin.
    containment : float
        Largest squared length of a point in the metric of the ellipsoid.
    largest_form : float
        rho^2, the largest squared length in the metric of the design.
    excess : float
        (ln det Q - ln det r S) / 2.
    error : float
        Bound on the relative rounding errors of the squared lengths.
    off_hull : float
        Largest distance of a point from the hull, in semi-extents along the coordinates.
    flatness : float
        Largest distance that the rank decision allows, see :func:`flatness`.
    """

    rank: int
    symmetric: bool
    containment: float
    largest_form: float
    excess: float
    error: float
    off_hull: float
    flatness: float

    @property
    def k(self) -> int:
        """Dimension of the lifted problem."""
        return self.rank if self.symmetric else self.rank + 1

    @property
    def gap(self) -> float:
        """Relative excess of the largest lifted form."""
        if self.rank == 0:
            return 0.0
        return max((self.largest_form + self.k - self.rank) / self.k - 1.0, 0.0)

    @property
    def log_volume_slack(self) -> float:
        """Bound on the log-volume in excess of the least, in nats.

        k ln(1 + gap) / 2 for Q = rho^2 S; more if the shape is larger than its design justifies. With r
        lengths known to a relative ``error`` each, the excess is known to r times that.
        """
        return max(0.5 * self.k * math.log1p(self.gap), self.excess + self.rank * self.error)

    @property
    def value(self) -> float:
        """The gap; or more if the shape is larger, or covers less, than the design justifies.

        A distance from the hull counts once it is more than directions that pass for flat explain.
        """
        excused = min(self.error, _EXCUSED)
        uncovered = self.containment - 1.0 - excused
        inflated = math.expm1(2.0 * (self.excess - self.rank * excused) / self.k) if self.rank else 0.0
        unknown = self.error if self.error > _EXCUSED else 0.0
        outside = self.off_hull if self.off_hull > self.flatness else 0.0
        return min(max(self.gap, inflated, uncovered, unknown, outside), float(np.finfo(np.float64).max))

    def certificate(self, *, n: int, support_size: int, bound: float | None) -> Certificate:
        """The figures with their meaning."""
        omega = "max omega/r - 1" if self.symmetric else "max omega/(r + 1) - 1 of the lifted points"
        return Certificate(
            "Loewner ellipsoid",
            "every point lies in the ellipsoid ('containment', the largest form, is at most 1 to rounding), "
            f"whose log-volume is within 'log_volume_slack' nats of the least; the value is {omega}, or "
            "more if the shape is larger, or covers less, than the weights justify beyond rounding, is too "
            "close to singular, or leaves out a dimension of the points",
            self.value,
            bound=bound,
            details={
                "containment": self.containment,
                "containment_error": self.error,
                "gap": self.gap,
                "rounding": (1.0 + self.gap) * self.rank if self.symmetric else self.largest_form,
                "log_volume_slack": self.log_volume_slack,
                "support_size": support_size,
                "off_hull": self.off_hull,
                "rank": self.rank,
                "n": n,
            },
        )


def flatness(n: int, d: int) -> float:
    """Largest distance of one of n points from a hull whose missing directions are flat, in semi-extents.

    The root mean square is at most FLAT sqrt(d), which one point may account for; the contact points that
    span the hull may be off by as much.
    """
    return _CONTACTS * FLAT * math.sqrt(float(n) * d)


def enclosing(shape: Floats, containment: float) -> Floats:
    """The shape scaled so that a largest form of ``containment`` becomes at most 1 after rounding."""
    return np.asarray(shape * (containment * (1.0 + 4.0 * _EPS)))


def check_design(weights: Floats, n: int) -> npt.NDArray[np.intp]:
    """Indices of the positive weights of a design on n points; ``SolverError`` if it is none."""
    if np.shape(weights) != (n,):
        raise SolverError(
            f"the weights found have shape {np.shape(weights)}; a design has one a point, ({n},)"
        )
    support = np.flatnonzero(weights)
    total = float(np.sum(weights[support]))
    # Sums of n terms of one sign are exact to n eps, usually far better.
    if not (np.min(weights) >= 0.0 and abs(total - 1.0) <= max(len(weights) * _EPS, 1e-12)):
        raise SolverError(
            f"the weights sum to {total:.17g}, with least entry {np.min(weights):g}; not a design"
        )
    return support


@dataclass(frozen=True, eq=False)
class _Pair:
    """The metrics of shape and design, and how they compare."""

    shape: Metric
    design: Metric
    rank: int

    @property
    def factor(self) -> Floats:
        return np.asarray(self.shape.factor[:, len(self.shape.center) - self.rank :])

    @property
    def design_factor(self) -> Floats:
        return np.asarray(self.design.factor[:, len(self.shape.center) - self.rank :])

    @property
    def ratios(self) -> Floats:
        """|y|_Q / |y|_S lies between the last and the first, for y in the common range."""
        if self.rank == 0:
            return np.ones(1)
        return np.asarray(np.linalg.svd(self.design.root.T @ self.factor, compute_uv=False)[: self.rank])

    @property
    def drift(self) -> float:
        """|c - c_u|_S."""
        return float(np.linalg.norm((self.shape.center - self.design.center) @ self.design_factor))


def _pass(points: np.ndarray | Blocks, n: int, pair: _Pair) -> tuple[float, float, float]:
    """Largest squared lengths in the metrics of shape and design, and the largest distance from the hull."""
    ratios, drift = pair.ratios, pair.drift
    lowest = float(ratios[-1])
    shared = float(ratios[0]) <= lowest * (1.0 + _SAME_METRIC) and drift * lowest <= _SAME_METRIC
    flat = pair.rank < len(pair.shape.center)
    containment = largest = off_hull = 0.0
    for _, block in row_blocks(points, n):
        if pair.rank:
            lengths = squared_lengths(block, pair.shape.center, pair.factor)
            containment = max(containment, float(np.max(lengths)))
        if pair.rank and not shared:
            lengths = squared_lengths(block, pair.design.center, pair.design_factor)
            largest = max(largest, float(np.max(lengths)))
        if flat:
            off_hull = max(off_hull, float(np.max(pair.shape.distance_off_hull(block))))
            off_hull = max(off_hull, float(np.max(pair.design.distance_off_hull(block))))
    if shared:  # |x - c_u|_S <= |x - c|_S + |c - c_u|_S, and |y|_S <= |y|_Q / lowest
        largest = (math.sqrt(containment) / lowest + drift) ** 2
    return containment, largest, off_hull


def certify(
    points: np.ndarray | Blocks,
    center: Floats,
    shape: Floats,
    weights: Floats,
    *,
    symmetric: bool,
    rank: int,
    gap: float | None = None,
) -> Certificate:
    """Measure containment, gap and volume of an ellipsoid in float64.

    Parameters
    ----------
    points : array of shape (n, d) or Blocks
        The data, float32 or float64.
    center : array of shape (d,)
        Centre c; zero if symmetric.
    shape : array of shape (d, d)
        Shape matrix Q of the given rank.
    weights : array of shape (n,)
        The design u, of sum 1.
    symmetric : bool
        Whether the ellipsoid must be centred at the origin.
    rank : int
        Claimed dimension r of the linear span (symmetric) or of the affine hull of the points. The
        distance of the points from the hull is measured.
    gap : float, optional
        The gap that was asked for, the bound of the certificate.

    Returns
    -------
    Certificate
        With the gap as its value, a relative excess without unit, and in the details:
        ``containment`` (a squared length, at most 1 if all is enclosed), ``containment_error`` (bound on
        its rounding error, from the condition number of the shape), ``gap``, ``rounding`` (the squared ratio
        of the outer to the inner ellipsoid of the sandwich if symmetric, (1 + gap) r; the ratio itself,
        rho^2, otherwise),
        ``log_volume_slack`` (nats), ``support_size``, ``off_hull`` (largest distance from the hull, in
        semi-extents of the ellipsoid along the coordinates), ``rank`` and ``n``.

    Raises
    ------
    SolverError
        If the weights are no design, or do not span the hull, so that they prove nothing; or if centre or
        shape is not finite, or the centre is not the origin where it must be.
    """
    n = len(weights)
    support = check_design(weights, n)
    if not (np.all(np.isfinite(center)) and np.all(np.isfinite(shape))):
        raise SolverError("the centre or the shape found is not finite; rescale the columns")
    if symmetric and np.any(center):
        raise SolverError("the centre found is not the origin, but the ellipsoid is to be symmetric about it")
    design, spans = metric_of_design(take_points(points, n, support), weights[support], symmetric, rank)
    if not bool(spans):
        raise SolverError(f"the points of positive weight do not span the {rank} dimensions of the others")
    pair = _Pair(metric_of_shape(center, shape, rank), design, rank)
    containment, largest, off_hull = _pass(points, n, pair)
    error = float(pair.shape.relative_error + pair.design.relative_error)
    log_ratio = float(np.sum(np.log(pair.ratios)))  # (ln det S - ln det Q) / 2 on the common range
    excess = -log_ratio - 0.5 * rank * math.log(max(rank, 1))
    allowed = flatness(n, len(center))
    found = Evidence(rank, symmetric, containment, largest, excess, error, off_hull, allowed)
    return found.certificate(n=n, support_size=len(support), bound=gap)
