"""Exact sensitivities by independent means, for small sets.

Slow and plain: these are what the library's bounds are compared with, so they share no code with
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from coresets.errors import SolverError
from coresets.weighted_set import WeightedSet

__all__ = ["LargestPowerShares", "largest_absolute_shares", "largest_square_shares", "orthonormal_columns"]

Floats = npt.NDArray[np.float64]


def orthonormal_columns(rows: Floats) -> Floats:
    """Orthonormal basis of the column space of a matrix, one row for each of its rows.

    By a singular value decomposition after scaling the columns, so that small rows keep their
    digits. The number of columns is the numerical rank.
    """
    scaled = rows / np.maximum(np.abs(rows).max(axis=0), 1e-300)
    _, values, right = np.linalg.svd(scaled, full_matrices=False)
    cut = values[0] * max(rows.shape) * np.finfo(np.float64).eps
    coordinates = scaled @ right[values > cut].T
    return coordinates @ np.linalg.inv(np.linalg.qr(coordinates, mode="r"))


def _moving(rows: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Indices of the rows that are not zero, and orthonormal coordinates of these."""
    moving = np.flatnonzero(np.any(rows != 0.0, axis=1))
    return moving, orthonormal_columns(rows[moving]) if moving.size else np.zeros((0, 0))


def largest_square_shares(data: WeightedSet) -> Floats:
    """Share w (p.x)^2 / sum w (q.x)^2 of every point at its own maximising query.

    The share is evaluated at the query, not by a formula for the maximum: whatever the query, it
    is attained, so a bound below it is wrong.
    """
    rows = orthonormal_columns(np.asarray(data.points) * np.sqrt(np.asarray(data.weights))[:, None])
    images = np.square(rows @ rows.T)  # column i: all points at the query of point i
    totals = images.sum(axis=0)
    return np.divide(np.diagonal(images), totals, out=np.zeros(data.n), where=totals > 0.0)


def largest_absolute_shares(data: WeightedSet) -> Floats:
    """Exact sensitivities of sums of w |p.x|, one linear programme a point.

    By duality the largest |a.x| subject to sum |a_q.x| <= 1 is the least max norm of y with
    A^T y = a; the share is evaluated at the query that solves it.

    Raises
    ------
    SolverError
        If a linear programme is not solved.
    """
    moving, coordinates = _moving(np.asarray(data.points) * np.asarray(data.weights)[:, None])
    out = np.zeros(data.n)
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
        # The multipliers of A^T y = a are the maximising query; its share is attained whatever the
        # solver's tolerance.
        images = np.abs(coordinates @ solved.eqlin.marginals)
        if not images.any():  # solved before the simplex method began: no multipliers
            images = np.abs(coordinates @ row)
        out[position] = images[np.searchsorted(moving, position)] / images.sum()
    return out


@dataclass(frozen=True)
class LargestPowerShares:
    """Sensitivities of sums of w |p.x|^power, one convex programme a point.

    The programme maximises a.x over the unit ball of the norm (sum |a_q.x|^power)^(1/power). The
    share is then evaluated at the query that the solver returned, so that it is attained whatever
    the solver's accuracy, and falls short of the sensitivity by that accuracy at most.

    Parameters
    ----------
    power : float
        At least 1; below, the programme is not convex.
    """

    power: float

    def __call__(self, data: WeightedSet) -> Floats:
        """Attained share of every point."""
        import cvxpy as cp  # noqa: PLC0415 - a second of import that only this oracle needs

        scale = np.asarray(data.weights) ** (1.0 / self.power)
        moving, coordinates = _moving(np.asarray(data.points) * scale[:, None])
        out = np.zeros(data.n)
        if moving.size == 0:
            return out
        query = cp.Variable(coordinates.shape[1])
        direction = cp.Parameter(coordinates.shape[1])
        # The annotations of cvxpy know integer powers only.
        ball = cp.pnorm(coordinates @ query, self.power) <= 1.0  # type: ignore[attr-defined]
        problem = cp.Problem(cp.Maximize(direction @ query), [ball])
        for position, row in zip(moving, coordinates, strict=True):
            direction.value = row
            problem.solve(solver=cp.CLARABEL)  # type: ignore[no-untyped-call]
            if query.value is None:
                raise SolverError(f"the programme for point {position} was not solved: {problem.status}")
            costs = np.abs(coordinates @ query.value) ** self.power
            out[position] = costs[np.searchsorted(moving, position)] / costs.sum()
        return out
