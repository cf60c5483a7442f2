r"""The centred problem in full rank: rows in good coordinates, formed block by block.

Every solver works on rows q_i of R^k that make the uniform design nearly the identity,
sum_i q_i q_i^T / n ~ I. With a whitening matrix W (d x r) and an origin o they are

* symmetric: q_i = x_i W, so k = r is the rank of the points, and o = 0;
* otherwise: q_i = ((x_i - o) W, 1), so k = r + 1, with r the rank of the affine hull.

The minimum-volume ellipsoid does not depend on the coordinates, so a solver never meets
ill-conditioned data, and solves a problem of full column rank.

**Rank.** Directions whose singular value, columns centred and scaled, is at most 1e-7 of the largest
are flat. The shape matrix holds squares, and 1e-14 is what float64 still tells from zero beside 1.

Cost: one pass for the moments, n d^2 flops by BLAS; one more, a blocked QR, when the condition
number exceeds 1e5; one more when the first row is far outside the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from coresets.ellipsoid._forms import NARROW, squared_lengths
from coresets.ellipsoid.blocks import Blocks

__all__ = ["FLAT", "LiftedRows", "lift", "row_blocks"]

Array = Any  # NumPy's here

# Singular values relative to the largest, below which the shape matrix cannot tell a direction from none.
FLAT = 1e-7
# One Gram matrix gives the whitening to about eps kappa^2; solvers only need it to be roughly right.
_GRAM_CONDITION = 1e5
# Squared distance of the provisional origin from the mean, in variances, that costs too many digits.
_FAR_ORIGIN = 1e4
# Squares, and sums of them, stay in the range of float64 between these sizes of a column.
_SMALLEST, _LARGEST = 1e-140, 1e140
# A block and its image fit the second-level cache together.
_BLOCK = 1 << 16
_LEAST_ROWS = 64
# Size of the origin in whitened coordinates up to which a product may take the place of a difference.
_NEAR_ORIGIN = 1e3
_REMEDY = "every pass must give the same rows"


def row_blocks(points: np.ndarray | Blocks, n: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Row ranges and rows of one pass, in pieces that fit the cache; dtypes are those of the input.

    ``n`` is the number of rows seen before; a pass over :class:`Blocks` that ends with another one
    raises ``ValueError``.
    """
    if isinstance(points, np.ndarray):
        step = max(_LEAST_ROWS, _BLOCK // points.shape[1])
        for start in range(0, len(points), step):
            rows = slice(start, min(len(points), start + step))
            yield rows, points[rows]
        return
    seen = 0
    for block in points:
        if n is not None and seen + len(block) > n:
            raise ValueError(f"a pass over the blocks gave more than the {n} rows of the first; {_REMEDY}")
        for rows, piece in row_blocks(block):
            yield slice(seen + rows.start, seen + rows.stop), piece
        seen += len(block)
    if n is not None and seen < n:
        raise ValueError(f"a pass over the blocks gave only {seen} rows after one with {n}; {_REMEDY}")


@dataclass(frozen=True, eq=False)
class LiftedRows:
    """Rows q_i of the centred full-rank problem; :func:`lift` makes them.

    Parameters
    ----------
    points : array of shape (n, d) or Blocks
        The data, host memory, float32 or float64.
    n : int
        Number of rows.
    origin : array of shape (d,)
        Subtracted from every point before anything else; zeros if symmetric.
    whitening : array of shape (d, r)
        Maps centred points to the first r coordinates of the rows.
    symmetric : bool
        Whether the constant coordinate is left out.
    """

    points: np.ndarray | Blocks
    n: int
    origin: np.ndarray
    whitening: np.ndarray
    symmetric: bool

    @property
    def d(self) -> int:
        """Dimension of the points."""
        return int(self.whitening.shape[0])

    @property
    def rank(self) -> int:
        """Rank r of the points, or of their affine hull."""
        return int(self.whitening.shape[1])

    @property
    def k(self) -> int:
        """Dimension of the rows: r if symmetric, r + 1 otherwise."""
        return self.rank + (0 if self.symmetric else 1)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Consecutive row ranges and their rows, (b, k) in float64."""
        for rows, block in row_blocks(self.points, self.n):
            yield rows, self.image(block)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows at the given indices, in their order; one pass if the points are blocks."""
        indices = np.asarray(indices)
        if isinstance(self.points, np.ndarray):
            return self.image(self.points[indices])
        return self.image(take_points(self.points, self.n, indices))

    def dense(self) -> np.ndarray:
        """All rows at once, (n, k)."""
        image = np.empty((self.n, self.k))
        for rows, block in self.blocks():
            image[rows] = block
        return image

    def evaluator(self, factor: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The map from a block of points to the |q_i F|^2 of its rows, for F of shape (k, l)."""
        matrix = np.ascontiguousarray(self.whitening @ factor[: self.rank])
        constant = np.zeros(factor.shape[1]) if self.symmetric else factor[self.rank]
        # Near data need no subtraction: the product forgoes no more than these digits.
        near = bool(np.max(np.abs(self.origin) @ np.abs(self.whitening), initial=0.0) < _NEAR_ORIGIN)
        if self.d <= NARROW or not near:
            return lambda block: squared_lengths(block, self.origin, matrix, constant)
        shift = constant - self.origin @ matrix

        def by_product(block: np.ndarray) -> np.ndarray:
            image = block.astype(np.float64, copy=False) @ matrix
            if not self.symmetric:
                image += shift
            return np.asarray(np.einsum("ij,ij->i", image, image))

        return by_product

    def centred(self, block: np.ndarray) -> np.ndarray:
        """A block of points minus the origin, float64."""
        if self.symmetric:
            return np.asarray(block, dtype=np.float64)
        return np.asarray(np.subtract(block, self.origin, dtype=np.float64))

    def image(self, block: np.ndarray) -> np.ndarray:
        """Rows (b, k) of a block of points (b, d)."""
        image = np.empty((len(block), self.k))
        np.matmul(self.centred(block), self.whitening, out=image[:, : self.rank])
        if not self.symmetric:
            image[:, self.rank] = 1.0
        return image


def take_points(points: np.ndarray | Blocks, n: int, indices: np.ndarray) -> np.ndarray:
    """Points at the given indices, in their order, float64."""
    if isinstance(points, np.ndarray):
        return np.asarray(points[indices], dtype=np.float64)
    order = np.argsort(indices, kind="stable")
    wanted = indices[order]
    pieces = []
    for rows, block in row_blocks(points, n):
        first, last = np.searchsorted(wanted, (rows.start, rows.stop))
        if last > first:
            pieces.append(np.asarray(block[wanted[first:last] - rows.start], dtype=np.float64))
    gathered = np.concatenate(pieces) if pieces else np.empty((0, 1))
    result = np.empty_like(gathered)
    result[order] = gathered
    return result


@dataclass(frozen=True)
class _Moments:
    """Number of rows, their sum and Gram matrix after an origin was subtracted."""

    n: int
    origin: np.ndarray
    mean: np.ndarray  # of the differences
    gram: np.ndarray  # of the differences, divided by n


def _moments(points: np.ndarray | Blocks, origin: np.ndarray | None, symmetric: bool) -> _Moments:
    """One pass; the first row is the origin if none is given."""
    n, total, gram = 0, cast(Any, 0.0), cast(Any, 0.0)
    # Whatever overflows is caught by its infinite Gram matrix.
    with np.errstate(over="ignore", invalid="ignore"):
        for _, block in row_blocks(points):
            if origin is None:
                origin = np.zeros(block.shape[1]) if symmetric else block[0].astype(np.float64)
            rows = block.astype(np.float64, copy=False) if symmetric else block - origin
            n += len(rows)
            gram = gram + rows.T @ rows
            if not symmetric:
                total = total + rows.sum(axis=0)
    if origin is None:
        raise ValueError("the blocks hold no rows; at least one point is needed")
    mean = np.zeros_like(origin) if symmetric else total / n
    return _Moments(n, origin, mean, gram / n)


def _spreads(moments: _Moments, points: np.ndarray | Blocks) -> np.ndarray:
    """Root mean square of each centred column; exactly 0 for columns that are constant to rounding."""
    center = moments.origin + moments.mean
    if not np.all(np.diagonal(moments.gram) < _LARGEST**2):  # also true for NaN
        raise ValueError(
            f"the points spread over more than {_LARGEST:g}, whose square is beyond the range of the shape "
            "matrix in float64; rescale the columns"
        )
    spread = np.sqrt(np.maximum(np.diagonal(moments.gram) - moments.mean**2, 0.0))
    faint = spread < _SMALLEST
    if faint.any():
        size = np.zeros(len(spread))
        for _, block in row_blocks(points, moments.n):
            np.maximum(size, np.max(np.abs(block - moments.origin), axis=0), out=size)
        if np.any(faint & (size > 0) & (size < _SMALLEST)):
            j = int(np.argmax(faint & (size > 0)))
            raise ValueError(
                f"column {j} of the points spreads over {size[j]:g} only, whose square is below the range of "
                "the shape matrix in float64; rescale the columns"
            )
    # Centring leaves a rounding error of this size in a constant column.
    spread[spread <= 4.0 * np.finfo(np.float64).eps * np.abs(center)] = 0.0
    return np.asarray(spread)


def _triangle(points: np.ndarray | Blocks, moments: _Moments, scale: np.ndarray) -> np.ndarray:
    """Triangular factor of the centred and scaled points, by QR of one block under the factor so far."""
    factor: np.ndarray = np.empty((0, len(scale)))
    stack: list[np.ndarray] = []
    height = 0
    for rows, block in row_blocks(points, moments.n):
        # In two steps: the first is exact to the spread, a rounded centre only to its own size.
        stack.append((block - moments.origin - moments.mean) * scale)
        height += len(block)
        if height >= 4 * len(scale) or rows.stop == moments.n:
            factor = np.asarray(np.linalg.qr(np.concatenate([factor, *stack]), mode="r"))
            stack, height = [], 0
    return factor


def _principal_directions(
    points: np.ndarray | Blocks, moments: _Moments, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of the centred, scaled points over sqrt(n), largest first, and right vectors (d, .)."""
    if moments.n > len(scale):
        covariance = (moments.gram - np.outer(moments.mean, moments.mean)) * scale[:, None] * scale
        values, vectors = np.linalg.eigh(covariance)
        alive = int(np.count_nonzero(scale))  # columns of zeros own the first eigenvalues
        if alive and values[-alive] * _GRAM_CONDITION**2 > values[-1]:
            return np.sqrt(values[: -alive - 1 : -1]), vectors[:, : -alive - 1 : -1]
    factor = _triangle(points, moments, scale)
    _, sizes, right = np.linalg.svd(factor, full_matrices=False)
    return sizes / math.sqrt(moments.n), right.T


def lift(points: np.ndarray | Blocks, *, symmetric: bool) -> LiftedRows:
    """Rows of the centred full-rank problem for the given points.

    Parameters
    ----------
    points : array of shape (n, d) or Blocks
        Finite, validated, in host memory.
    symmetric : bool
        Whether the ellipsoid is centred at the origin.

    Returns
    -------
    LiftedRows
        Of rank 0 if all points agree (or are zero, if symmetric).

    Raises
    ------
    ValueError
        If a spread is so large or small that its square leaves the range of float64.
    """
    moments = _moments(points, None, symmetric)
    with np.errstate(over="ignore", invalid="ignore"):
        far = moments.mean**2 > _FAR_ORIGIN * (np.diagonal(moments.gram) - moments.mean**2)
        if np.any(far & (moments.mean != 0.0)):  # the first row lies far outside the others
            moments = _moments(points, moments.origin + moments.mean, symmetric)
    spread = _spreads(moments, points)
    scale = np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 0.0)
    center = moments.origin + moments.mean
    if not scale.any():
        whitening = np.zeros((len(scale), 0))
    else:
        sizes, directions = _principal_directions(points, moments, scale)
        kept = sizes > FLAT * sizes[0]
        whitening = scale[:, None] * (directions[:, kept] / sizes[kept])
    return LiftedRows(points, moments.n, center, np.ascontiguousarray(whitening), symmetric)
