"""Whitening of tall matrices, one cache-sized block of rows at a time.

Given A, (..., n, d), find a d x k matrix W such that A W has orthonormal columns that span the
column space of A; k is at least the rank, and surplus columns of A W are zero. Leverage scores
are the squared row norms of A W, and Lewis weights iterate on its rows.

Cost: two passes over A and 3 n d^2 flops when A is well-conditioned; twice that up to a condition
number of 1e6; one Householder QR more beyond. No temporary is larger than a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

__all__ = ["Rows", "default_rank_tolerance", "whitener"]

Array = Any

# A double-precision block and its image fit together in 1 MiB of second-level cache, the usual size;
# larger blocks were slower.
_HOST_BLOCK = 1 << 16
# Batches, and devices on which every call has a price: few large blocks.
_DEVICE_BLOCK = 1 << 22
_LEAST_ROWS = 64

# One Gram matrix squares the condition number kappa: the error is u kappa^2 against u kappa of
# QR. Up to these values of kappa, after column scaling, that stays within a factor of ten.
# Single precision has no digits to give away; its second stage is double precision.
_PLAIN_CONDITION = 5.0
_PLAIN_CONDITION_SINGLE = 2.0
# The first whitening leaves a condition number of 1 + O(u kappa^2), which the second Gram matrix
# repairs to u kappa (CholeskyQR2, Yamamoto et al. 2015) while u kappa^2 is well below one.
_REFINED_CONDITION = 1e6


@dataclass(frozen=True)
class Rows:
    """The matrix diag(root_weights) points diag(scale), formed block by block and never whole.

    ``points`` is (..., n, d), ``root_weights`` broadcasts to (..., n) and ``scale`` is (..., d);
    either of the last two may be None. Blocks are formed in ``dtype``, sums in float64.
    """

    points: Array
    root_weights: Array | None
    dtype: Any
    scale: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (..., n, d) after broadcasting."""
        batch = tuple(self.points.shape[:-2])
        if self.root_weights is not None:
            batch = np.broadcast_shapes(batch, tuple(self.root_weights.shape[:-1]))
        return (*batch, int(self.points.shape[-2]), int(self.points.shape[-1]))

    def blocks(self, least_rows: int = _LEAST_ROWS) -> Iterator[tuple[slice, Array]]:
        """Consecutive row ranges and their rows."""
        xp = array_namespace(self.points)
        *batch, n, d = self.shape
        target = _DEVICE_BLOCK if batch or not is_numpy_array(self.points) else _HOST_BLOCK
        step = max(least_rows, target // (d * max(1, math.prod(batch))))
        for start in range(0, n, step):
            rows = slice(start, min(n, start + step))
            block = xp.astype(self.points[..., rows, :], self.dtype, copy=False)
            if self.root_weights is not None:
                block = block * self.root_weights[..., rows, None]
            if self.scale is not None:
                block = block * self.scale[..., None, :]
            yield rows, block

    def gram(self, whitening: Array | None = None) -> Array:
        """Sum of the outer products of the rows, or of their images; (..., k, k) in float64."""
        xp = array_namespace(self.points)
        if whitening is not None:
            whitening = xp.astype(whitening, self.dtype, copy=False)
        total: Array = 0.0
        for _, block in self.blocks():
            image = block if whitening is None else xp.matmul(block, whitening)
            total = total + xp.astype(xp.matmul(xp.matrix_transpose(image), image), xp.float64, copy=False)
        return total

    def images(self, whitening: Array) -> Iterator[tuple[slice, Array]]:
        """Row ranges and the rows times ``whitening``."""
        xp = array_namespace(self.points)
        whitening = xp.astype(whitening, self.dtype, copy=False)
        for rows, block in self.blocks():
            yield rows, xp.matmul(block, whitening)

    def squared_norms(self, whitening: Array, dtype: Any) -> Array:
        """Squared norms of the rows times ``whitening``, (..., n)."""
        xp = array_namespace(self.points)
        norms = xp.empty(self.shape[:-1], dtype=dtype, device=device(self.points))
        for rows, image in self.images(whitening):
            norms[..., rows] = xp.astype(xp.vecdot(image, image), dtype, copy=False)
        return norms

    def triangle(self) -> Array:
        """Triangular factor of a QR decomposition, by QR of one block under the factor so far."""
        xp = array_namespace(self.points)
        factor = None
        for _, block in self.blocks(least_rows=4 * self.shape[-1]):
            stack = block if factor is None else xp.concat([factor, block], axis=-2)
            # The standard knows no QR without Q; NumPy does, at half the price.
            factor = np.linalg.qr(stack, mode="r") if is_numpy_array(stack) else xp.linalg.qr(stack)[1]
        return factor

    def balanced(self) -> Rows:
        """The same rows with columns scaled to a largest entry near 1, in float64.

        Guards squares against overflow and underflow. Scores do not change under an invertible
        map of the columns, and powers of two make this one exact.
        """
        xp = array_namespace(self.points)
        plain = replace(self, dtype=xp.float64, scale=None)
        largest: Array = 0.0
        for _, block in plain.blocks():
            top = xp.max(xp.abs(block), axis=-2)
            largest = top if isinstance(largest, float) else xp.maximum(largest, top)
        return replace(plain, scale=_power_of_two(largest))


def _power_of_two(size: Array) -> Array:
    """Powers of two near 1/size, and 1 where the size is zero."""
    xp = array_namespace(size)
    exponent = xp.floor(xp.log2(xp.where(size > 0, size, xp.ones_like(size))))
    # Subnormal sizes would ask for a power that does not exist.
    return xp.pow(xp.asarray(2.0, dtype=size.dtype, device=device(size)), xp.clip(-exponent, -1000.0, 1000.0))


def _reciprocals(values: Array, kept: Array) -> Array:
    """1 / values where they are kept, 0 elsewhere."""
    xp = array_namespace(values)
    return xp.where(kept, 1.0 / xp.where(kept, values, xp.ones_like(values)), xp.zeros_like(values))


def _unit_scale(norms: Array) -> Array:
    """1 / norms, and 1 for columns of zeros."""
    xp = array_namespace(norms)
    return 1.0 / xp.where(norms > 0, norms, xp.ones_like(norms))


def _refined(rows: Rows, whitening: Array) -> Array:
    """Repair an approximate whitening by one more Gram matrix."""
    xp = array_namespace(whitening)
    values, vectors = xp.linalg.eigh(rows.gram(whitening))
    # Near 1, apart from directions that were dropped and are near 0.
    inverse_root = _reciprocals(xp.sqrt(xp.clip(values, min=0.0)), values > 0.5)
    return xp.matmul(whitening, vectors * inverse_root[..., None, :])


def _whitener_by_qr(rows: Rows, tolerance: float) -> Array:
    """Whitening from the singular values of the triangular factor, cut at the tolerance."""
    xp = array_namespace(rows.points)
    factor = rows.triangle()
    scale = _unit_scale(xp.linalg.vector_norm(factor, axis=-2))
    _, values, right = xp.linalg.svd(factor * scale[..., None, :], full_matrices=False)
    kept = values > tolerance * xp.max(values, axis=-1, keepdims=True)
    basis = xp.matrix_transpose(right) * _reciprocals(values, kept)[..., None, :]
    return _refined(rows, scale[..., :, None] * basis)


def default_rank_tolerance(n: int, d: int) -> float:
    """The usual max(n, d) machine epsilon of float64, in which ranks are decided."""
    return max(n, d) * float(np.finfo(np.float64).eps)


def whitener(rows: Rows, tolerance: float) -> tuple[Rows, Array]:
    """Rows to multiply and the matrix W that whitens them.

    Parameters
    ----------
    rows : Rows
        The matrix A, (..., n, d).
    tolerance : float
        Singular values of A, columns scaled, up to ``tolerance`` times the largest count as zero.

    Returns
    -------
    rows : Rows
        The given rows, scaled or in double precision if that was necessary.
    whitening : array of shape (..., d, k)
        ``rows`` times it has orthonormal columns, one for each dimension of the row space; the
        other columns of W are exactly zero. One route serves a whole batch, the one that its worst
        member needs.
    """
    xp = array_namespace(rows.points)
    if rows.shape[-2] < rows.shape[-1]:
        rows = rows.balanced()
        return rows, _whitener_by_qr(rows, tolerance)

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gram = rows.gram()
    diagonal = xp.linalg.diagonal(gram)
    # Squares that overflowed, or went so low that digits were lost; a column of zeros also lands here.
    low, high = float(xp.finfo(rows.dtype).smallest_normal) ** 0.9, float(xp.finfo(rows.dtype).max)
    if rows.scale is None and not bool(xp.all((diagonal > low) & (diagonal < high))):
        return whitener(rows.balanced(), tolerance)

    scale = _unit_scale(xp.sqrt(diagonal))
    gram = gram * scale[..., :, None] * scale[..., None, :]
    values, vectors = xp.linalg.eigh(gram)
    # Columns of zeros own the first eigenvalues, all 0. They neither count towards the condition
    # number nor towards W.
    order = xp.arange(values.shape[-1], dtype=xp.int64, device=device(values))
    alive = order >= xp.sum(xp.astype(diagonal == 0, xp.int64), axis=-1, keepdims=True)
    largest = xp.where(alive, values[..., -1:], xp.ones_like(values))
    smallest = float(xp.min(xp.where(alive, values, xp.ones_like(values)) / largest))
    condition = 1.0 / math.sqrt(smallest) if smallest > 0.0 else math.inf
    trusted = condition * tolerance < 0.5  # else the rank has to be decided, by QR

    if rows.dtype != xp.float64 and not (trusted and condition <= _PLAIN_CONDITION_SINGLE):
        return whitener(replace(rows, dtype=xp.float64), tolerance)
    if not trusted or condition > _REFINED_CONDITION:
        return rows, _whitener_by_qr(rows, tolerance)
    inverse_root = _reciprocals(xp.sqrt(xp.clip(values, min=0.0)), alive)
    whitening = scale[..., :, None] * (vectors * inverse_root[..., None, :])
    return rows, whitening if condition <= _PLAIN_CONDITION else _refined(rows, whitening)
