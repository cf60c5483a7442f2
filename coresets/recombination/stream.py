"""Caratheodory reduction of a stream, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from coresets._threads import one_blas_thread
from coresets._validate import check_non_negative, check_points
from coresets.accuracy import Accuracy
from coresets.errors import SolverError
from coresets.recombination._evidence import check_reached, evidence, host_rows
from coresets.recombination._frame import BLOCK, Frame, Lift, finer_scale
from coresets.recombination._kernels import CHAIN
from coresets.recombination._moments import Moments, mapped, moments_of
from coresets.recombination._reduction import Reduction, reduce_rows
from coresets.recombination._tree import EPS, Target, units_of
from coresets.recombination.preserve import Mean, Preserve, check_preserve
from coresets.weighted_set import Coreset

__all__ = ["CaratheodoryStream"]

Array = Any

_MEAN = Mean()

_PENDING = 4  # rows that wait for elimination, in units of the number of features


def _amplification(frame: Frame) -> float:
    if frame.mixing is None:
        return 1.0
    return float(np.max(np.sum(np.abs(frame.mixing), axis=0), initial=1.0))


def _goal(moments: Moments, lift: Lift, rows: np.ndarray, weights: np.ndarray) -> tuple[Frame, Target, float]:
    """Frame about the running mean, the running moments in it, and the amplification of rounding.

    The rows have the same moments up to rounding, so they can stand for the stream in choosing
    coordinates.
    """
    origin = moments.mean if lift.centred else np.zeros(moments.scale.size)
    local = moments.about(origin)
    mass = float(local.mass[0])
    squares = np.diagonal(local.second[0]) if lift.quadratic else local.second[0]
    size = np.sqrt(np.maximum(squares, 0.0) / mass)
    factor = finer_scale(moments.scale, size)  # powers of two: exact
    frame = Frame(moments.scale * factor, origin * factor)
    first, squares, spread = local.first[0] * factor, squares * factor**2, moments.spread * factor**2
    error = np.sqrt(spread / mass)
    parts, flat = [], 0.0
    if lift.quadratic:
        frame, _, flat = frame.whitened(rows, weights)
        assert frame.mixing is not None  # whitening sets it
        # In pairs, because the matrix may be far from the identity that it becomes.
        half = mapped(local.second * np.outer(factor, factor), frame.mixing)
        second = mapped(half.transpose(0, 2, 1), frame.mixing)[0]
        parts.append(second[np.triu_indices(frame.q)])
        first = mapped((local.first * factor)[:, :, None], frame.mixing)[0, :, 0]
        error = np.abs(frame.mixing).T @ error
    if lift.linear:
        parts.append(first)
    if lift.constant:
        parts.append(np.array([mass]))
    sums = np.concatenate(parts)
    amplification = _amplification(frame)
    units, offset = units_of(sums, squares, mass, lift, CHAIN * EPS)
    if lift.quadratic:
        # Products of the blocks, in the new coordinates, and coordinates of the rows kept.
        lost = (BLOCK + 8.0) * float(np.max(error, initial=1.0)) ** 2 + 4.0 * amplification
    else:
        deviation = np.where(units[: size.size] > 0.0, units[: size.size] / mass, 1.0)
        lost = (CHAIN / 4.0 + 16.0) * float(np.max(error / deviation, initial=1.0))
    return frame, Target(sums, units, mass, offset, lost * EPS / 2.0 + flat), amplification


class CaratheodoryStream:
    """Caratheodory reduction of points that arrive in blocks and are not kept.

    Memory is O(k d) for k features, that is O(d^2) for the mean, besides the block at hand.

    Parameters
    ----------
    preserve : Preserve
        What to keep: :class:`Mean` (the default), :class:`ConeSum` or :class:`SecondMoment`.

    Raises
    ------
    TypeError
        If ``preserve`` is of another kind.

    Notes
    -----
    Blocks of many rows are reduced on their own; the rows left wait until there are enough for one
    elimination together with those kept so far. Coordinates are those of the running mean and spread,
    so blocks may lie anywhere. Moments of all that was pushed run along in twice the working precision;
    after each elimination the weights are corrected towards them, so that rounding errors do not pile
    up, and they are what the certificate compares with. Each block's own moments are taken in float64
    about its own centre: columns that are nearly collinear within the blocks, with condition number c,
    have second moments that are known to c^2 machine epsilons, which the certificate includes.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.recombination import CaratheodoryStream
    >>> points = np.random.default_rng(0).standard_normal((1000, 2))
    >>> stream = CaratheodoryStream()
    >>> for block in np.split(points, 10):
    ...     stream.push(block)
    >>> coreset = stream.result()
    >>> coreset.support_size, stream.count
    (3, 1000)
    >>> bool(np.allclose(coreset.weights @ coreset.points, points.sum(axis=0)))
    True
    >>> bool(np.array_equal(points[stream.indices], coreset.points))
    True
    """

    def __init__(self, *, preserve: Preserve = _MEAN) -> None:
        check_preserve(preserve)
        self._preserve = preserve
        self._moments: Moments | None = None
        self._points = np.empty((0, 0))
        self._weights = np.empty(0)
        self._indices = np.empty(0, dtype=np.int64)
        self._count = 0
        self._reduction: Reduction | None = None  # of all that was pushed, if nothing waits

    @property
    def count(self) -> int:
        """Number of points pushed."""
        return self._count

    @property
    def indices(self) -> np.ndarray:
        """Positions in the stream, from 0, of the points that :meth:`result` returned last, in its order."""
        if self._reduction is None:
            raise ValueError("points were pushed since, or none at all; call result() first")
        return self._indices.copy()

    @one_blas_thread()
    def push(self, points: Array, weights: Array | None = None) -> None:
        """Add a block of points.

        Parameters
        ----------
        points : array of shape (m, d)
            Finite real rows; d is that of the first block.
        weights : array of shape (m,), optional
            Non-negative finite masses; ones by default. A block may be without mass.

        Raises
        ------
        ValueError
            If a shape is wrong, a value is not finite, or a weight is negative.
        TypeError
            If the entries are not real numbers.
        SolverError
            If a column left the range of float64 relative to the first block.
        """
        points = check_points(points)
        d = self._points.shape[1] or int(points.shape[-1])
        if points.ndim != 2 or int(points.shape[1]) != d:
            raise ValueError(f"points has shape {tuple(points.shape)}; pass (m, {d})")
        n = int(points.shape[0])
        if weights is not None:
            weights = check_non_negative(weights, name="weights")
            if tuple(weights.shape) != (n,):
                raise ValueError(
                    f"weights has shape {tuple(weights.shape)}; expected ({n},), one mass a point"
                )
        rows, masses = host_rows(points, weights)
        first, self._count = self._count, self._count + n
        if masses.size and masses.max() == 0.0:
            return
        lift = self._preserve.lift
        scale = None if self._moments is None else self._moments.scale
        with np.errstate(over="ignore", invalid="ignore"):
            new = moments_of(rows, masses, scale, lift)
            total = new if self._moments is None else self._moments.plus(new)
        if not (np.isfinite(total.first).all() and np.isfinite(total.second).all()):
            self._count = first
            raise SolverError("a column left the range of float64 relative to the first block; scale it")
        limit = _PENDING * lift.size(d)
        if n > limit:
            part = reduce_rows(rows, masses, lift)
            kept, masses = part.indices, part.weights
        else:
            kept = np.flatnonzero(masses) if masses.size else np.arange(n)
            masses = masses[kept] if masses.size else np.ones(n)
        self._moments, self._reduction = total, None
        self._points = np.concatenate(
            [self._points.reshape(-1, d), rows[kept].astype(np.float64, copy=False)]
        )
        self._weights = np.concatenate([self._weights, masses])
        self._indices = np.concatenate([self._indices, kept + first])
        if self._weights.size > limit:
            self._fold(total)

    def _fold(self, moments: Moments) -> Reduction:
        """Eliminate among the rows that wait and those kept so far."""
        lift = self._preserve.lift
        goal = _goal(moments, lift, self._points, self._weights)
        reduction = reduce_rows(self._points, self._weights, lift, goal)
        self._points, self._weights = self._points[reduction.indices], reduction.weights
        self._indices = self._indices[reduction.indices]
        self._reduction = reduction
        return reduction

    @one_blas_thread()
    def result(self) -> Coreset:
        """Coreset of everything pushed so far; more may be pushed afterwards.

        Returns
        -------
        Coreset
            Free points (the rows are no longer at hand elsewhere) in the order of the stream, NumPy
            float64, exact, at most ``preserve.most_points(rank)`` of them; :attr:`indices` says which they
            were. The certificate is that of :func:`caratheodory`.

        Raises
        ------
        ValueError
            If nothing with mass was pushed, or no point is left (the sum of points that are all zero).
        SolverError
            If the moments were not reached to rounding.
        """
        if self._moments is None:
            raise ValueError("nothing with mass was pushed; push a block of points first")
        reduction = self._reduction
        if reduction is None and self._weights.size:
            reduction = self._fold(self._moments)
        if reduction is None or self._weights.size == 0:
            raise ValueError("no point is left: all points pushed are zero, and so is their sum")
        certificate = evidence(reduction, self._preserve)
        check_reached(certificate)
        return Coreset(
            indices=None,
            points=self._points.copy(),
            weights=self._weights.copy(),
            size=max(1, self._weights.size),
            accuracy=Accuracy.exact(),
            certificates=(certificate,),
        )
