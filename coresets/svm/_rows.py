"""One pass over dense or sparse rows: compiled for the former, on blocks in plain NumPy for the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from coresets._threads import one_blas_thread
from coresets.svm import _kernels as kernels

__all__ = ["BlockRows", "DenseRows", "Pass", "Rows", "rows_of"]

Floats: TypeAlias = npt.NDArray[np.float64]

_GATHER = 4096  # rows copied to float64 at once


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass at (w, b) sees.

    Parameters
    ----------
    margins : array of shape (n,)
        y (w.x + b).
    hinges : float
        Sum of cap * hinge.
    sums : array of shape (2, d + 1)
        For the negative and the positive class: sum a x, and last sum a, with a in [0, cap].
    radius : float
        Largest norm of a row.
    """

    margins: Floats
    hinges: float
    sums: Floats
    radius: float


class Rows(Protocol):
    """Points that can be read once from start to end."""

    @property
    def points(self) -> Any:
        """The matrix."""

    def scan(self, signs: Any, caps: Floats, w: Floats, b: float, width: float) -> Pass:
        """Margins at (w, b), hinge loss, and the dual point of smoothing width ``width``."""

    def moments(self, weights: Floats, groups: Any, count: int) -> Floats:
        """Sums (count, d + 1) of weight * x and of weight over groups of points."""

    def nearest(self, weights: Floats, signs: Any, centres: Floats, first: Any) -> tuple[Any, Floats]:
        """Nearest centre of the own class for every point, and the sums of :meth:`moments`."""

    def distances(self, labels: Any, means: Floats) -> Floats:
        """Distance of every point to the mean of its cluster."""

    def norms(self) -> Floats:
        """Euclidean norms."""

    def pulls(self, signs: Any, weights: Floats, w: Floats, b: float, width: float) -> Floats:
        """Length of every point's pull on the model (w, b), smoothed across a band."""

    def gram(self, chosen: Any, weights: Floats) -> Floats:
        """Sum of weight (x, 1) (x, 1)^T over chosen rows, (d + 1, d + 1)."""


@dataclass(frozen=True, eq=False)
class DenseRows:
    """C-contiguous float32 or float64 rows."""

    points: Any

    def scan(self, signs: Any, caps: Floats, w: Floats, b: float, width: float) -> Pass:
        """Compiled pass."""
        margins, sums = np.empty(self.points.shape[0]), np.zeros((2, self.points.shape[1] + 1))
        hinges, radius = kernels.scan(self.points, signs, caps, w, b, width, margins, sums)
        return Pass(margins, float(hinges), sums, float(radius))

    def moments(self, weights: Floats, groups: Any, count: int) -> Floats:
        """Compiled pass."""
        d = self.points.shape[1]
        sums = np.zeros((count, d + 1))
        nothing, ends = np.empty((0, d)), np.zeros(3, dtype=np.int64)
        kernels.assign(self.points, weights, np.ones(weights.size, np.int8), nothing, ends, groups, sums)
        return sums

    def nearest(self, weights: Floats, signs: Any, centres: Floats, first: Any) -> tuple[Any, Floats]:
        """Compiled pass."""
        labels = np.full(weights.size, -1, dtype=np.int32)
        sums = np.zeros((centres.shape[0], centres.shape[1] + 1))
        kernels.assign(self.points, weights, signs, centres, first, labels, sums)
        return labels, sums

    def distances(self, labels: Any, means: Floats) -> Floats:
        """Compiled pass."""
        out = np.empty(self.points.shape[0])
        kernels.scores(self.points, labels, means, out)
        return out

    def norms(self) -> Floats:
        """Compiled pass."""
        out = np.empty(self.points.shape[0])
        kernels.norms(self.points, out)
        return out

    def pulls(self, signs: Any, weights: Floats, w: Floats, b: float, width: float) -> Floats:
        """Compiled pass."""
        out = np.empty(self.points.shape[0])
        kernels.pulls(self.points, signs, weights, w, b, width, out)
        return out

    def gram(self, chosen: Any, weights: Floats) -> Floats:
        """Products of gathered blocks."""
        return _gram(self.points, chosen, weights)


@dataclass(frozen=True, eq=False)
class BlockRows:
    """Rows of any matrix that can be sliced and multiplied; the reference, and the way for sparse ones."""

    points: Any

    def _blocks(self) -> list[slice]:
        n = self.points.shape[0]
        return [slice(start, min(start + kernels.CHUNK, n)) for start in range(0, n, kernels.CHUNK)]

    def scan(self, signs: Any, caps: Floats, w: Floats, b: float, width: float) -> Pass:
        """Block by block."""
        margins, sums = np.empty(self.points.shape[0]), np.zeros((2, self.points.shape[1] + 1))
        hinges = largest = 0.0
        for rows in self._blocks():
            block = self.points[rows]
            margins[rows] = signs[rows] * (block @ w + b)
            slack = 1.0 - margins[rows]
            largest = max(largest, float(_squares(block).max()))
            hinges += float(caps[rows] @ np.maximum(slack, 0.0))
            share = np.clip(0.5 + slack / width, 0.0, 1.0) if width > 0.0 else slack > 0.0
            duals = caps[rows] * share
            for k, side in enumerate((duals * (signs[rows] < 0), duals * (signs[rows] > 0))):
                sums[k, :-1] += block.T @ side
                sums[k, -1] += side.sum()
        return Pass(margins, hinges, sums, float(np.sqrt(largest)))

    def moments(self, weights: Floats, groups: Any, count: int) -> Floats:
        """Product with the indicator matrix of the groups, block by block."""
        sums = np.zeros((count, self.points.shape[1] + 1))
        for rows in self._blocks():
            block, mass = self.points[rows], weights[rows]
            indicator = sparse.csr_matrix(
                (mass, (groups[rows], np.arange(mass.size))), shape=(count, mass.size)
            )
            product = indicator @ block
            sums[:, :-1] += product.toarray() if sparse.issparse(product) else product
            sums[:, -1] += np.bincount(groups[rows], weights=mass, minlength=count)
        return sums

    def nearest(self, weights: Floats, signs: Any, centres: Floats, first: Any) -> tuple[Any, Floats]:
        """By |x|^2 - 2 x.c + |c|^2 of which the first term is the same for all centres."""
        labels = np.empty(weights.size, dtype=np.int32)
        squares = np.square(centres).sum(axis=1)
        for rows in self._blocks():
            scores = squares - 2.0 * np.asarray(self.points[rows] @ centres.T)
            for side, sign in enumerate((-1, 1)):
                low, high = int(first[side]), int(first[side + 1])
                own = signs[rows] == sign
                labels[rows][own] = low + np.argmin(scores[own, low:high], axis=1)
        return labels, self.moments(weights, labels, centres.shape[0])

    def distances(self, labels: Any, means: Floats) -> Floats:
        """Rounded up: squares are subtracted, which loses digits of small distances."""
        out = np.empty(labels.size)
        squares = np.square(means).sum(axis=1)
        for rows in self._blocks():
            block, own = self.points[rows], labels[rows]
            product = block @ means.T
            cross = np.asarray(product)[np.arange(own.size), own]
            norms = _squares(block)
            slack = 8.0 * (means.shape[1] + 4) * np.finfo(np.float64).eps * (norms + squares[own])
            out[rows] = np.sqrt(np.maximum(norms - 2.0 * cross + squares[own], 0.0) + slack)
        return out

    def norms(self) -> Floats:
        """Square roots of the sums of squares."""
        return np.sqrt(_squares(self.points))

    def pulls(self, signs: Any, weights: Floats, w: Floats, b: float, width: float) -> Floats:
        """Without blocks: the matrix is read, and never copied."""
        slack = 1.0 - signs * (self.points @ w + b)
        share = np.clip(0.5 + slack / width, 0.0, 1.0)
        return np.asarray(weights * share * np.sqrt(_squares(self.points) + 1.0))

    def gram(self, chosen: Any, weights: Floats) -> Floats:
        """Products of gathered blocks."""
        return _gram(self.points, chosen, weights)


def _squares(block: Any) -> Floats:
    if sparse.issparse(block):
        return np.asarray(block.multiply(block).sum(axis=1), dtype=np.float64).reshape(-1)
    return np.square(np.asarray(block, dtype=np.float64)).sum(axis=1)


def _gram(points: Any, chosen: Any, weights: Floats) -> Floats:
    d = points.shape[1]
    out = np.zeros((d + 1, d + 1))
    with one_blas_thread():
        for start in range(0, chosen.size, _GATHER):
            rows = chosen[start : start + _GATHER]
            block, mass = points[rows], weights[start : start + _GATHER]
            if sparse.issparse(block):
                out[:d, :d] += (block.T @ block.multiply(mass[:, None]).tocsr()).toarray()
            else:
                block = block.astype(np.float64, copy=False)
                out[:d, :d] += block.T @ (block * mass[:, None])
            out[:d, d] += block.T @ mass
            out[d, d] += mass.sum()
    out[d, :d] = out[:d, d]
    return out


def rows_of(points: Any) -> Rows:
    """Compiled passes for dense rows, passes on blocks for sparse ones."""
    return BlockRows(points) if sparse.issparse(points) else DenseRows(points)
