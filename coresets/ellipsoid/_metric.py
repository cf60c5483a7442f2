r"""Squared lengths in the metric of an ellipsoid, also of a flat one.

For E = {x : x - c in range(Q), (x - c)^T Q^+ (x - c) <= 1} with Q of rank r, a factor F turns the form
into |(x - c) F|^2, one product per block of points. Columns are brought to unit diagonal first, so what
counts is the condition number of Q after scaling: forms are exact to about d eps times it, which is as
much as the entries of Q determine.

Written against the array API with leading batch axes; ranks may differ within a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

__all__ = ["Metric", "metric_of_design", "metric_of_shape"]

Array = Any

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Metric:
    """Centre and factor of ellipsoids. Columns beyond the rank are zero, and come first.

    Parameters
    ----------
    center : array of shape (..., d)
    factor : array of shape (..., d, d)
        F with y^T Q^+ y = |y F|^2 for y in the range of Q.
    root : array of shape (..., d, d)
        B with B B^T = Q and F^T B = I on the columns that are not zero.
    basis : array of shape (..., d, d)
        Orthonormal basis of the range of Q with its coordinates divided by ``units``.
    units : array of shape (..., d)
        Square roots of the diagonal of Q: half the extent of the ellipsoid along each coordinate.
    condition : array of shape (...)
        Condition number of Q after this scaling, within its range.
    """

    center: Array
    factor: Array
    root: Array
    basis: Array
    units: Array
    condition: Array

    @property
    def relative_error(self) -> Array:
        """Bound on the relative rounding error of a squared length.

        d eps from forming and factoring a d x d matrix, and as much from the product with a point.
        """
        return 2.0 * self.center.shape[-1] * _EPS * self.condition

    def distance_off_hull(self, points: Array) -> Array:
        """Distance of each point x of (..., n, d) from c + range(Q), coordinates in ``units``.

        Along a coordinate without extent, the unit is the size of the centre there: the only
        scale there is for the rounding of a constant column.
        """
        xp = array_namespace(points)
        differences = xp.astype(points, xp.float64, copy=False) - self.center[..., None, :]
        extent = self.units > 0.0
        unit = xp.where(extent, self.units, xp.abs(self.center))[..., None, :]
        # Where there is no scale at all, any difference is infinitely large.
        scaled = xp.where(
            unit > 0.0,
            differences / xp.where(unit > 0.0, unit, xp.ones_like(unit)),
            xp.where(differences == 0.0, xp.zeros_like(differences), xp.full_like(differences, xp.inf)),
        )
        within = xp.where(extent[..., None, :], scaled, xp.zeros_like(scaled))
        residual = within - (within @ self.basis) @ xp.matrix_transpose(self.basis)
        residual = xp.where(extent[..., None, :], residual, scaled)
        return xp.sqrt(xp.sum(residual * residual, axis=-1))


def _reciprocal(values: Array) -> Array:
    """1 / value, and 0 for 0."""
    xp = array_namespace(values)
    positive = values > 0.0
    return xp.where(positive, 1.0 / xp.where(positive, values, xp.ones_like(values)), xp.zeros_like(values))


def _metric(center: Array, units: Array, basis: Array, sizes: Array, rank: Array) -> Metric:
    """The metric of Q = B B^T, B = diag(units) basis diag(sizes); sizes ascend, the last ``rank`` count."""
    xp = array_namespace(center)
    d = int(center.shape[-1])
    order = xp.arange(sizes.shape[-1], dtype=xp.int64, device=device(center))
    rank = xp.asarray(rank, dtype=xp.int64, device=device(center))
    kept = order >= sizes.shape[-1] - rank[..., None]
    sizes = xp.where(kept, sizes, xp.zeros_like(sizes))
    basis = xp.where(kept[..., None, :], basis, xp.zeros_like(basis))
    least = xp.min(xp.where(kept, sizes, sizes[..., -1:]), axis=-1) if d else xp.ones_like(sizes[..., -1])
    condition = (sizes[..., -1] / xp.where(least > 0.0, least, xp.ones_like(least))) ** 2
    condition = xp.where(condition > 1.0, condition, xp.ones_like(condition))
    factor = _reciprocal(units)[..., :, None] * (basis * _reciprocal(sizes)[..., None, :])
    root = units[..., :, None] * (basis * sizes[..., None, :])
    return Metric(center, factor, root, basis, units, condition)


def metric_of_shape(center: Array, shape: Array, rank: Array) -> Metric:
    """The metrics of ellipsoids given by shape matrices (..., d, d) of the given ranks (...)."""
    xp = array_namespace(shape)
    units = xp.sqrt(xp.clip(xp.linalg.diagonal(shape), min=0.0))
    inverse = _reciprocal(units)
    # Two products: units^2 may leave the range of float64 where a quotient by units does not.
    values, basis = xp.linalg.eigh(shape * inverse[..., None, :] * inverse[..., :, None])
    # What rounding made negative is raised to the size of a rounding error.
    lowest = shape.shape[-1] * _EPS * xp.clip(values[..., -1:], min=0.0)
    sizes = xp.sqrt(xp.where(values > lowest, values, lowest))
    return _metric(center, units, basis, sizes, rank)


def metric_of_design(points: Array, weights: Array, symmetric: bool, rank: Array) -> tuple[Metric, Array]:
    """The metric of S = sum_i u_i (x_i - c) (x_i - c)^T, c the mean or 0, and whether S has the rank given.

    By singular values of the weighted points (..., n, d), whose condition number is the square root of
    that of S, so that ``condition`` here is not squared.
    """
    xp = array_namespace(points)
    d = int(points.shape[-1])
    center = xp.zeros_like(points[..., 0, :])
    if not symmetric:
        first = points[..., 0, :]
        share = (weights / xp.sum(weights, axis=-1, keepdims=True))[..., None, :]
        center = first + (share @ (points - first[..., None, :]))[..., 0, :]
    rows = (points - center[..., None, :]) * xp.sqrt(weights)[..., :, None]
    # The largest entry first, so that no square leaves the range of float64.
    size = xp.max(xp.abs(rows), axis=-2)
    rows = rows * _reciprocal(size)[..., None, :]
    length = xp.sqrt(xp.sum(rows * rows, axis=-2))
    rows = rows * _reciprocal(length)[..., None, :]
    if rows.shape[-2] < d:
        blank = xp.zeros((*rows.shape[:-2], d - rows.shape[-2], d), dtype=rows.dtype, device=device(rows))
        rows = xp.concat([rows, blank], axis=-2)
    if rows.shape[-2] > 2 * d:
        rows = xp.linalg.qr(rows, mode="reduced")[1]
    _, sizes, right = xp.linalg.svd(rows, full_matrices=False)
    metric = _metric(
        center, size * length, xp.flip(xp.matrix_transpose(right), axis=-1), xp.flip(sizes, axis=-1), rank
    )
    resolved = sizes > d * _EPS * sizes[..., :1]
    spans = xp.sum(xp.astype(resolved, xp.int64), axis=-1) >= xp.asarray(rank, device=device(points))
    return Metric(
        metric.center, metric.factor, metric.root, metric.basis, metric.units, xp.sqrt(metric.condition)
    ), spans
