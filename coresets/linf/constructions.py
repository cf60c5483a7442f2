r"""L-infinity coresets: few points whose largest |q.x| is, up to a factor, the largest of all.

For all x at once, max over the data of |p.x| <= factor * max over the kept q of |q.x|. An
ellipsoid inscribed in the hull of the kept points and a multiple of it around all points prove
such a factor (guarantee T1); where the origin is inside the inscribed one, a factor for the
one-sided maxima of [p.x]_+ follows as well (T6).

=====================  ================================  =============================
construction           kept points                       factor, at gap eta and rank r
=====================  ================================  =============================
SymmetricSupport       support of the centred design     sqrt((1 + eta) r)
DesignSupport          support of the lifted design      sqrt((1 + eta) (r + 1))
InscribedVertices      Caratheodory sets of 2r vertices  sqrt(1 + r (r + eta (r + 1))^2)
=====================  ================================  =============================

The last one is the published construction, whose factor is given there as 2 r^1.5. What a coreset
states is the factor of its own points, from their design: often far below these.

Cost: one ellipsoid of n points in d dimensions, and one or two passes over the data for the
factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from coresets._row_space import row_space
from coresets._threads import one_blas_thread
from coresets._validate import beside, check_points, check_real
from coresets.certificate import Certificate
from coresets.ellipsoid import Solver, loewner_ellipsoid
from coresets.errors import SolverError
from coresets.guarantees.geometry import DesignReduction
from coresets.guarantees.maxima import LInfFactor
from coresets.linf._factors import Moments, affine_moments, linear_moments, one_sided_factor, two_sided_factor
from coresets.linf._vertices import sparse_combinations
from coresets.recombination import SecondMoment, caratheodory
from coresets.weighted_set import to_host

__all__ = [
    "DesignSupport",
    "InscribedVertices",
    "LInfConstruction",
    "LInfCoreset",
    "LInfSelection",
    "SymmetricSupport",
    "linf_coreset",
]

Array = Any
Floats = npt.NDArray[np.float64]

# Vertices are drawn towards the centre by this much, so that they are strictly inside the hull and a
# linear programme finds them whatever its tolerance.
_SHRINKAGE = 1e-7

_PLAIN_EXPONENT = 100  # squares of entries up to this power of two are far from the range of float64


class LInfSelection(NamedTuple):
    """Rows that a construction chose, and a design on them from which their factor is certified."""

    indices: npt.NDArray[np.intp]
    """Rows, strictly increasing, (k,)."""
    weights: Floats
    """Positive, of sum 1, (k,)."""
    promise: float
    """Factor that theory promises at the gap that was asked for."""


@runtime_checkable
class LInfConstruction(Protocol):
    """A way to choose points for the largest |p.x|."""

    def select(self, points: Floats, gap: float) -> LInfSelection:
        """Choose among points of shape (n, d), not all zero, by a design of at most the gap."""


def _design(
    points: Floats, *, symmetric: bool, gap: float, solver: Solver | None
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Support of the optimal design and its weights there."""
    # Designs do not change under invertible maps, nor lifted ones under shifts, while an ellipsoid in
    # the units of the data has to leave out directions in which they are too flat.
    rows = row_space(points if symmetric else points - np.mean(points, axis=0)).coordinates
    if rows.shape[1] == 0:  # one location
        return np.zeros(1, dtype=np.intp), np.ones(1)
    design = np.asarray(loewner_ellipsoid(rows, symmetric=symmetric, gap=gap, solver=solver).weights)
    support = np.flatnonzero(design > 0.0)
    return support, design[support]


def _reduced(
    support: npt.NDArray[np.intp], weights: Floats, moments: Moments, kept: Floats, *, mean: bool
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Fewer points with the same moments (M3), where Caratheodory's theorem promises fewer."""
    if len(support) <= DesignReduction().support(moments.rank, mean=mean):
        return support, weights
    # In whitened coordinates all moments are of the order of 1, and none is lost to rounding.
    fewer = caratheodory(moments.coordinates(kept), weights, preserve=SecondMoment(mean=mean))
    return support[np.asarray(fewer.indices)], np.asarray(fewer.weights)


def _check_reduce(reduce: object) -> None:
    if not isinstance(reduce, bool):
        raise TypeError(f"reduce = {reduce!r}; pass True or False")


@dataclass(frozen=True)
class SymmetricSupport:
    """Support of the design of the centred ellipsoid: the best factor and the fewest points (T1, row 3).

    Parameters
    ----------
    solver : Solver, optional
        How to find the design; the solver that suits the data by default. ``AddOnly()`` at a gap of
        1 keeps about as many points as the rank, for a factor of sqrt(2 r).
    reduce : bool
        Bring a larger support down to r (r + 1) / 2 + 1 points of the same second moment.
    """

    solver: Solver | None = None
    reduce: bool = True

    def __post_init__(self) -> None:
        _check_reduce(self.reduce)

    def select(self, points: Floats, gap: float) -> LInfSelection:
        """Support and design; the promise is sqrt((1 + gap) r)."""
        support, weights = _design(points, symmetric=True, gap=gap, solver=self.solver)
        moments = linear_moments(points[support], weights)
        if self.reduce:
            support, weights = _reduced(support, weights, moments, points[support], mean=False)
        return LInfSelection(support, weights, LInfFactor().symmetric(moments.rank, gap))


@dataclass(frozen=True)
class DesignSupport:
    """Support of the design of the ellipsoid with a free centre (T1, row 2).

    More points than :class:`SymmetricSupport`; with points all around the origin they come with a
    factor for one-sided maxima.

    Parameters
    ----------
    solver : Solver, optional
        How to find the design.
    reduce : bool
        Bring a larger support down to r (r + 3) / 2 + 1 points of the same mean and covariance.
    """

    solver: Solver | None = None
    reduce: bool = True

    def __post_init__(self) -> None:
        _check_reduce(self.reduce)

    def select(self, points: Floats, gap: float) -> LInfSelection:
        """Support and design; the promise is sqrt(1 + rho2)."""
        support, weights = _design(points, symmetric=False, gap=gap, solver=self.solver)
        moments = affine_moments(points[support], weights)
        if self.reduce:
            support, weights = _reduced(support, weights, moments, points[support], mean=True)
        return LInfSelection(support, weights, LInfFactor().lifted(moments.rank, gap))


@dataclass(frozen=True)
class InscribedVertices:
    """Caratheodory sets of the vertices of the inscribed ellipsoid: the published construction (T1, row 1).

    At most 2 r (r + 1) points. Kept as a baseline: :class:`SymmetricSupport` has a smaller factor.

    Parameters
    ----------
    solver : Solver, optional
        How to find the design.

    Notes
    -----
    Departures from the publication: combinations are sought among the support of the design, whose
    hull contains the ellipsoid already, and points in use are preferred. The vertices end conjugate
    semi-axes, orthogonal in whitened coordinates, of which the principal ones are a special case
    that depends on the choice of units; the proof holds for all.
    """

    solver: Solver | None = None

    def select(self, points: Floats, gap: float) -> LInfSelection:
        """Union of the Caratheodory sets and their average combination; the promise is sqrt(1 + r rho2^2)."""
        support, weights = _design(points, symmetric=False, gap=gap, solver=self.solver)
        moments = affine_moments(points[support], weights)
        rank = moments.rank
        if rank == 0:  # one location
            return LInfSelection(support[:1], np.ones(1), 1.0)
        axes = np.eye(rank) * ((1.0 - _SHRINKAGE) / np.max(moments.norms(points)))
        combinations = sparse_combinations(moments.coordinates(points[support]), np.vstack([axes, -axes]))
        used = np.flatnonzero(np.any(combinations > 0.0, axis=0))
        # The average has the mean c and a covariance of at least S / (r R^2): hence the promise.
        average = np.mean(combinations[:, used], axis=0)
        promise = LInfFactor().vertices(rank, gap, shrinkage=_SHRINKAGE)
        return LInfSelection(support[used], average, promise)


@dataclass(frozen=True, eq=False)
class LInfCoreset:
    """Few points that keep the largest |p.x| of all, for all x, up to a certified factor.

    Attributes
    ----------
    indices : integer array of shape (k,)
        Rows that were kept, strictly increasing.
    weights : array of shape (k,)
        A design on them, of sum 1 in float64: the evidence behind the factors. Maxima take no
        weights.
    factor : float
        max |p.x| <= factor max |q.x| for all x, with q among the kept points; at least 1.
    one_sided_factor : float or None
        The same for [p.x]_+ = max(p.x, 0), if the origin is inside the ellipsoid inscribed in the
        kept points; None otherwise.
    rank : int
        Dimension of the span of the points, 0 if all of them are zero.
    certificate : Certificate
        The factor, recomputed from the kept points and their weights; its bound is the factor that
        T1 promises at the gap that was asked for.
    """

    indices: Array
    weights: Array
    factor: float
    one_sided_factor: float | None
    rank: int
    certificate: Certificate

    @property
    def size(self) -> int:
        """Number of points kept."""
        return int(self.indices.shape[0])

    def __repr__(self) -> str:
        one_sided = "none" if self.one_sided_factor is None else f"{self.one_sided_factor:.4g}"
        return (
            f"LInfCoreset(size={self.size}, factor={self.factor:.4g}, one_sided_factor={one_sided}, "
            f"rank={self.rank})"
        )


def _unit_scale(points: Floats) -> Floats:
    """Points times a power of two, for a largest entry near 1: nothing here depends on the unit."""
    _, exponent = np.frexp(np.max(np.abs(points)))
    return np.ldexp(points, -int(exponent)) if abs(exponent) > _PLAIN_EXPONENT else points


def check_construction(construction: object, gap: object) -> float:
    """Return the gap if both are usable."""
    if isinstance(construction, type) or not isinstance(construction, LInfConstruction):
        raise TypeError(
            f"construction = {construction!r} has no method select of an instance; pass "
            "SymmetricSupport(), DesignSupport() or InscribedVertices()"
        )
    gap = check_real(gap, "gap")
    if gap <= 0.0:
        raise ValueError(f"gap = {gap:g} is not positive; pass the accuracy of the design, such as 0.01")
    return gap


@one_blas_thread()
def linf_coreset(
    points: Array,
    *,
    construction: LInfConstruction = SymmetricSupport(),
    gap: float = 0.01,
) -> LInfCoreset:
    """Choose points that keep the largest |p.x| of all points, for all x at once, up to a factor.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows of any array-API library and any rank; work is done in float64 on the
        host.
    construction : LInfConstruction
        ``SymmetricSupport()`` (default), ``DesignSupport()`` or the published
        ``InscribedVertices()``.
    gap : float
        Accuracy of the design, positive: largest squared norm over its least possible value, minus 1.

    Returns
    -------
    LInfCoreset
        Kept rows, certified factors, the evidence. Indices and weights are on the library and
        device of the points. If all points are zero the first one is kept, with factor 1.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, or the gap is not positive.
    TypeError
        If the entries are not real numbers, or the construction is not an instance of one.
    SolverError
        If the ellipsoid was not found to the gap, or its design does not prove what the gap
        promises, as may happen for condition numbers near the inverse of machine epsilon. In the
        second case the coreset, whose own factor holds, is the ``result`` of the error.

    References
    ----------
    .. [1] M. Tukan, L. Mualem, A. Maalouf. Pruning neural networks via coresets and convex geometry:
       towards no assumptions. NeurIPS 2022 (the published construction).
    .. [2] M. J. Todd. Minimum-volume ellipsoids: theory and algorithms. SIAM 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.linf import linf_coreset
    >>> points = np.random.default_rng(0).standard_normal((1000, 3))
    >>> kept = linf_coreset(points)
    >>> kept.size <= 7, kept.factor <= (1.01 * 3) ** 0.5  # r (r + 1) / 2 + 1 and sqrt((1 + gap) r)
    (True, True)
    >>> x = np.array([1.0, -2.0, 0.5])
    >>> bool(np.abs(points @ x).max() <= kept.factor * np.abs(points[kept.indices] @ x).max())
    True
    """
    points = check_points(points)
    if points.ndim != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
    gap = check_construction(construction, gap)
    host = _unit_scale(np.asarray(to_host(points), dtype=np.float64))  # the seam: solvers run on the host
    if np.any(host):
        found = construction.select(host, gap)
        kept = host[found.indices]
        proved = two_sided_factor(host, kept, found.weights)
        factor, rank = proved.factor, proved.rank
        one_sided = one_sided_factor(host, kept, found.weights)
    else:  # every maximum is 0
        found = LInfSelection(np.zeros(1, dtype=np.intp), np.ones(1), 1.0)
        factor, rank, one_sided = 1.0, 0, 1.0
    certificate = Certificate(
        "L-infinity factor",
        "max |p.x| over all points is at most this factor times the maximum over the kept ones, for all x "
        "in the numerical row space",
        factor,
        # Rounding of a squared norm in whitened coordinates, which are of the order of 1.
        bound=found.promise * (1.0 + 1e3 * rank * np.finfo(np.float64).eps),
        details={
            "rank": rank,
            "size": len(found.indices),
            "gap": gap,
            "one_sided_factor": math.inf if one_sided is None else one_sided,
        },
    )
    coreset = LInfCoreset(
        indices=beside(found.indices.astype(np.int64), points, "indices"),
        weights=beside(found.weights, points, "weights"),
        factor=factor,
        one_sided_factor=one_sided,
        rank=rank,
        certificate=certificate,
    )
    if not certificate.holds:
        raise SolverError(
            f"the certified factor {factor:.6g} is above the {certificate.bound:.6g} that a gap of {gap:g} "
            "promises: the points are too ill-conditioned for the design",
            certificate,
            coreset,
        )
    return coreset
