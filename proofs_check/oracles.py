"""Exact sensitivities by independent means, for small sets.

Slow and plain: these are what the library's bounds are compared with, so they share no code with
them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from coresets.errors import SolverError
from coresets.weighted_set import WeightedSet

__all__ = ["largest_power_shares", "largest_square_shares"]

Floats = npt.NDArray[np.float64]


def _balanced(rows: Floats) -> Floats:
    """Coordinates of the row space, after scaling the columns; small rows keep their digits."""
    scaled = rows / np.maximum(np.abs(rows).max(axis=0), 1e-300)
    _, values, right = np.linalg.svd(scaled, full_matrices=False)
    cut = values[0] * max(rows.shape) * np.finfo(np.float64).eps
    return scaled @ right[values > cut].T


def largest_square_shares(data: WeightedSet) -> Floats:
    """Share w (p.x)^2 / sum w (q.x)^2 of every point at its own maximising query.

    The share is evaluated at the query, not by a formula for the maximum: whatever the query, it
    is attained, so a bound below it is wrong.
    """
    rows = _balanced(np.asarray(data.points) * np.sqrt(np.asarray(data.weights))[:, None])
    if rows.shape[1] == 0:
        return np.zeros(data.n)
    gram = rows.T @ rows
    images = np.square(rows @ np.linalg.solve(gram, rows.T))  # column i: all points at the query of point i
    totals = images.sum(axis=0)
    return np.divide(np.diagonal(images), totals, out=np.zeros(data.n), where=totals > 0.0)


def largest_power_shares(data: WeightedSet) -> Floats:
    """Exact sensitivities of sums of w |p.x|, one linear programme a point.

    By duality the largest |a.x| subject to sum |a_q.x| <= 1 is the least max norm of y with
    A^T y = a.

    Raises
    ------
    SolverError
        If a linear programme is not solved.
    """
    rows = np.asarray(data.points) * np.asarray(data.weights)[:, None]
    out = np.zeros(data.n)
    moving = np.flatnonzero(np.any(rows != 0.0, axis=1))
    if moving.size == 0:
        return out
    # Orthonormal coordinates keep the equality constraints well scaled.
    coordinates = _balanced(rows[moving])
    coordinates = coordinates @ np.linalg.inv(np.linalg.qr(coordinates, mode="r"))
    n, rank = coordinates.shape
    # Unknowns (y, s): minimise s subject to A^T y = a_i and -s <= y_j <= s.
    bound = np.vstack([np.hstack([np.eye(n), -np.ones((n, 1))]), np.hstack([-np.eye(n), -np.ones((n, 1))])])
    equalities = np.hstack([coordinates.T, np.zeros((rank, 1))])
    cost = np.append(np.zeros(n), 1.0)
    for position, row in zip(moving, coordinates, strict=True):
        solved = linprog(
            cost,
            A_ub=bound,
            b_ub=np.zeros(2 * n),
            A_eq=equalities,
            b_eq=row,
            bounds=(None, None),
            method="highs",
        )
        if solved.status != 0:
            raise SolverError(f"the linear programme for point {position} was not solved: {solved.message}")
        out[position] = solved.x[-1]
    return out
