"""A start that no data can spoil: k independent rows that are extreme in mutually orthogonal directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coresets.ellipsoid._rows import LiftedRows, row_blocks

__all__ = ["kumar_yildirim_start", "start_among"]

# Along any unit vector b the mean of (b . q_i)^2 over all rows is about 1. A subset of rows that stays
# below this height in some direction does not cover it.
_LOW = 0.1


def _next_direction(basis: np.ndarray) -> np.ndarray:
    """Unit vector orthogonal to the orthonormal rows of ``basis``, from the axis farthest from them."""
    k = basis.shape[1]
    axis = int(np.argmin(np.sum(basis * basis, axis=0))) if len(basis) else 0
    direction = np.zeros(k)
    direction[axis] = 1.0
    return _orthogonal_part(direction, basis)


def _orthogonal_part(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Normalised part of a vector orthogonal to the basis; projected twice against rounding."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0.0 else vector


def _greedy(k: int, extreme: Callable[[np.ndarray], tuple[int, np.ndarray]], low: float) -> list[int]:
    """Indices of rows, each extreme in a direction orthogonal to those before it, and not low there."""
    basis = np.empty((0, k))
    chosen: list[int] = []
    for _ in range(k):
        direction = _next_direction(basis)
        index, row = extreme(direction)
        if abs(float(row @ direction)) <= low:
            break
        chosen.append(index)
        basis = np.vstack([basis, _orthogonal_part(row, basis)])
    return chosen


def start_among(matrix: np.ndarray) -> np.ndarray:
    """The start among some of the rows; fewer than k indices if they leave a direction uncovered."""

    def extreme(direction: np.ndarray) -> tuple[int, np.ndarray]:
        index = int(np.argmax(np.abs(matrix @ direction)))
        return index, matrix[index]

    return np.array(_greedy(matrix.shape[1], extreme, _LOW), dtype=np.intp)


def kumar_yildirim_start(rows: LiftedRows) -> np.ndarray:
    """Indices of k rows, each extreme in a direction orthogonal to those before it; k passes.

    The uniform design on them has a ln det M within k ln k of the largest (M4): for the orthonormal
    directions b_j and heights h_j = max_i |b_j . q_i|, the chosen rows form a triangular matrix with
    diagonal h, and Hadamard's inequality bounds the determinant of every design by that of this matrix
    squared. Its largest omega_i has no such bound: it may be exponential in k.

    Parameters
    ----------
    rows : LiftedRows
        The rows of the centred problem.

    Returns
    -------
    array of shape (k,)
        Distinct indices.

    References
    ----------
    P. Kumar, E. A. Yildirim. Minimum-volume enclosing ellipsoids and core sets. JOTA 126, 2005.
    """

    def extreme(direction: np.ndarray) -> tuple[int, np.ndarray]:
        best, index, row = -1.0, 0, np.zeros(rows.k)
        squared_heights = rows.evaluator(direction[:, None])
        for part, block in row_blocks(rows.points, rows.n):
            squares = squared_heights(block)
            top = int(np.argmax(squares))
            if squares[top] > best:
                best, index, row = float(squares[top]), part.start + top, rows.image(block[top : top + 1])[0]
        return index, row

    return np.array(_greedy(rows.k, extreme, 0.0), dtype=np.intp)
