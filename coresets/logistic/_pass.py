"""One read of dense or sparse rows, block by block: margins, losses, the dual point, curvature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import entr, expit, xlog1py

from coresets._threads import one_blas_thread

__all__ = ["BLOCK", "Pass", "blocks", "entropies", "gram", "images", "row_norms", "scan"]

Floats: TypeAlias = npt.NDArray[np.float64]

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Pass:
    """What one read at a model sees.

    Parameters
    ----------
    margins : array of shape (n,)
        y (w.x + b).
    loss : float
        Sum of cap * ln(1 + exp(-margin)).
    entropies : array of shape (2,)
        Sum of cap * H(q) over the negative and the positive class, with q = 1 / (1 + exp(margin)).
    sums : array of shape (2, d + 1)
        For both classes: sum cap q x, and last sum cap q.
    radius : float
        Largest norm of a row.
    """

    margins: Floats
    loss: float
    entropies: Floats
    sums: Floats
    radius: float


def blocks(n: int) -> Iterator[slice]:
    """Consecutive parts of n rows."""
    for start in range(0, n, BLOCK):
        yield slice(start, min(start + BLOCK, n))


def _float64(block: Any) -> Any:
    return block if sparse.issparse(block) else np.asarray(block, dtype=np.float64)


def entropies(q: Floats) -> Floats:
    """-q ln q - (1 - q) ln(1 - q), with small relative error for all q in [0, 1]."""
    found: Floats = entr(q) - xlog1py(1.0 - q, -q)
    return found


def row_norms(points: Any) -> Floats:
    """Euclidean norms."""
    out = np.empty(points.shape[0])
    for rows in blocks(out.size):
        block = _float64(points[rows])
        squares = block.multiply(block).sum(axis=1) if sparse.issparse(block) else np.square(block).sum(1)
        out[rows] = np.sqrt(np.asarray(squares, dtype=np.float64).reshape(-1))
    return out


@one_blas_thread()
def images(points: Any, w: Floats, b: float) -> Floats:
    """w.x + b of all rows."""
    out = np.empty(points.shape[0])
    for rows in blocks(out.size):
        out[rows] = np.asarray(_float64(points[rows]) @ w).reshape(-1) + b
    return out


@one_blas_thread()
def scan(points: Any, signs: Any, caps: Floats, margins: Floats) -> Pass:
    """Losses and the dual point at known margins."""
    q = expit(-margins)
    found, mass = caps * entropies(q), caps * q
    sums, radius = np.zeros((2, points.shape[1] + 1)), 0.0
    positive = signs > 0
    for rows in blocks(margins.size):
        block = _float64(points[rows])
        sides = np.column_stack([mass[rows] * ~positive[rows], mass[rows] * positive[rows]])
        sums[:, :-1] += np.asarray(block.T @ sides).T
        sums[:, -1] += sides.sum(axis=0)
        squares = block.multiply(block).sum(axis=1) if sparse.issparse(block) else np.square(block).sum(1)
        radius = max(radius, float(np.max(squares)))
    both = np.array([found[~positive].sum(), found[positive].sum()])
    loss = float((caps * np.logaddexp(0.0, -margins)).sum())
    return Pass(margins, loss, both, sums, float(np.sqrt(radius)))


@one_blas_thread()
def gram(points: Any, curvature: Floats) -> Floats:
    """Sum of curvature (x, 1) (x, 1)^T, (d + 1, d + 1)."""
    d = points.shape[1]
    out = np.zeros((d + 1, d + 1))
    for rows in blocks(curvature.size):
        block, mass = _float64(points[rows]), curvature[rows]
        if sparse.issparse(block):
            out[:d, :d] += (block.T @ block.multiply(mass[:, None]).tocsr()).toarray()
        else:
            out[:d, :d] += block.T @ (block * mass[:, None])
        out[:d, d] += np.asarray(block.T @ mass).reshape(-1)
        out[d, d] += mass.sum()
    out[d, :d] = out[:d, d]
    return out
