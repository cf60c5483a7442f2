"""Exact answers by linear programming, for small sets.

Each programme proposes a query, and the figure returned is evaluated at that query: it is attained
whatever the solver's tolerance, so a claim that it exceeds is wrong. Nothing here shares code with
the constructions that are attacked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, linprog

from coresets.errors import SolverError
from coresets.weighted_set import WeightedSet
from proofs_check.oracles import orthonormal_columns

__all__ = ["largest_relu_shares", "linf_factor", "one_sided_factor", "smallest_balance"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# A query turned away from all kept points is told from one that is nearly so: ten times the default
# feasibility tolerance of the linear programmes, for points and queries of about unit length.
_ESCAPED = 1e-6


def _solved(cost: Floats, **constraints: object) -> OptimizeResult:
    """Optimum of a programme that is feasible and bounded by construction, over free variables."""
    solved = linprog(cost, bounds=(None, None), method="highs", **constraints)
    if solved.status != 0:
        raise SolverError(f"a linear programme of {cost.size} unknowns was not solved: {solved.message}")
    return solved


def _spanned(rows: Floats, kept: Indices) -> bool:
    """Whether the kept rows span the space of all; the rows are orthonormal coordinates."""
    return (
        int(np.linalg.matrix_rank(orthonormal_columns(rows[kept]))) == rows.shape[1] if kept.size else False
    )


def linf_factor(points: Floats, kept: Indices) -> float:
    """Largest |p.x| over the points of a set, where no kept point has more than |q.x| = 1.

    This is the factor by which the kept points fall short of an exact L-infinity coreset: one
    linear programme for every point that is left out.

    Parameters
    ----------
    points : array of shape (n, d)
        The set.
    kept : integer array of shape (k,)
        Rows that are kept.

    Returns
    -------
    float
        At least 1, infinite if some query sees a point and no kept one; 1 for points that are all
        zero.

    Raises
    ------
    SolverError
        If a linear programme is not solved.
    """
    rows = orthonormal_columns(np.asarray(points, dtype=np.float64))
    kept = np.unique(np.asarray(kept, dtype=np.intp))
    if not rows.any():
        return 1.0
    if not _spanned(rows, kept):
        return float("inf")
    # Kept points that are tiny beside the others would vanish in the solver's tolerance.
    core = orthonormal_columns(rows[kept])
    rows = rows @ np.linalg.lstsq(rows[kept], core, rcond=None)[0]
    core = rows[kept]
    bounds = np.vstack([core, -core])
    factor = 1.0
    for i in np.setdiff1d(np.arange(len(rows)), kept):
        if not rows[i].any():
            continue
        # Of unit length, so that the solver's tolerance is one of the direction.
        cost = -rows[i] / np.linalg.norm(rows[i])
        query = _solved(cost, A_ub=bounds, b_ub=np.ones(len(bounds))).x
        factor = max(factor, float(abs(rows[i] @ query) / np.max(np.abs(core @ query))))
    return factor


def one_sided_factor(points: Floats, kept: Indices) -> float:
    """Largest [p.x]_+ over the points of a set, where no kept point has more than [q.x]_+ = 1.

    Parameters
    ----------
    points : array of shape (n, d)
        The set.
    kept : integer array of shape (k,)
        Rows that are kept.

    Returns
    -------
    float
        At least 1, infinite if some query activates a point and no kept one.

    Raises
    ------
    SolverError
        If a linear programme is not solved.
    """
    rows = orthonormal_columns(np.asarray(points, dtype=np.float64))
    kept = np.unique(np.asarray(kept, dtype=np.intp))
    core, factor = rows[kept], 1.0
    box = np.vstack([np.eye(rows.shape[1]), -np.eye(rows.shape[1])])
    matrix = np.vstack([core, box])
    for i in np.setdiff1d(np.arange(len(rows)), kept):
        if not rows[i].any():
            continue
        cost = -rows[i] / np.linalg.norm(rows[i])
        # First over the queries that activate no kept point: any value above zero is an escape.
        limits = np.append(np.zeros(len(core)), np.ones(len(box)))
        if -_solved(cost, A_ub=matrix, b_ub=limits).fun > _ESCAPED:
            return float("inf")
        # The box keeps a programme bounded that nearly was not, and no factor below its size is lost.
        limits = np.append(np.ones(len(core)), np.full(len(box), 1.0 / _ESCAPED))
        query = _solved(cost, A_ub=matrix, b_ub=limits).x
        seen = float(np.max(core @ query))
        if seen > 0.0:
            factor = max(factor, float(rows[i] @ query) / seen)
    return factor


def largest_relu_shares(data: WeightedSet) -> Floats:
    """Exact sensitivities of sums of w [p.x]_+, one linear programme a point.

    Maximises w p.x subject to sum w [q.x]_+ <= 1, with one slack for every summand.

    Raises
    ------
    SolverError
        If a linear programme is not solved.
    """
    rows = orthonormal_columns(np.asarray(data.points) * np.asarray(data.weights)[:, None])
    n, rank = rows.shape
    out = np.zeros(n)
    lengths = np.linalg.norm(rows, axis=1)
    units = np.divide(rows, lengths[:, None], out=np.zeros_like(rows), where=lengths[:, None] > 0.0)
    # Unknowns (x, s): a_q.x <= s_q, s >= 0, sum s <= 1, with s_q in units of the length of a_q.
    matrix = np.block(
        [
            [units, -np.eye(n)],
            [np.zeros((n, rank)), -np.eye(n)],
            [np.zeros((1, rank)), lengths[None, :]],
        ]
    )
    limits = np.append(np.zeros(2 * n), 1.0)
    for i in np.flatnonzero(lengths):
        solved = _solved(np.append(-units[i], np.zeros(n)), A_ub=matrix, b_ub=limits)
        active = np.maximum(rows @ solved.x[:rank], 0.0)
        out[i] = active[i] / active.sum() if active[i] > 0.0 else 0.0
    return out


def smallest_balance(points: Floats, weights: Floats) -> float:
    """Least of 2 sum w [p.x]_+ / sum w |p.x| over all queries: the constant kappa of ReLU sums.

    Parameters
    ----------
    points : array of shape (n, d)
        The points.
    weights : array of shape (n,)
        Their masses.

    Returns
    -------
    float
        In [0, 1], attained at a query; 1 if no query has a cost.

    Raises
    ------
    SolverError
        If the linear programme is not solved.
    """
    rows = orthonormal_columns(np.asarray(points) * np.asarray(weights)[:, None])
    if not rows.any():
        return 1.0
    n, rank = rows.shape
    mean = rows.sum(axis=0)
    # Unknowns (x, s): |a.x| <= s and sum s <= 1; the sum of all a.x is to be as large as can be.
    matrix = np.block(
        [[rows, -np.eye(n)], [-rows, -np.eye(n)], [np.zeros((1, rank)), np.ones((1, n))]],
    )
    solved = _solved(np.append(-mean, np.zeros(n)), A_ub=matrix, b_ub=np.append(np.zeros(2 * n), 1.0))
    query = solved.x[:rank]
    images = rows @ query
    total = float(np.abs(images).sum())
    if total == 0.0:  # the points balance: no query prefers a side
        return 1.0
    return 2.0 * float(np.maximum(-images, 0.0).sum()) / total
