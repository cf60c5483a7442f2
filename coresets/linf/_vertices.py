"""Points of a hull as convex combinations of few: the Caratheodory step of the published construction.

Every vertex of an ellipsoid inscribed in the hull of k points is written as a combination of at
most r + 1 of them, by a linear programme whose basic solutions are that sparse. Points that serve
an earlier vertex are free and all others cost 1, which keeps the union small. Cost: 2r dual
simplex solves with r + 1 rows and k columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from coresets.errors import SolverError

__all__ = ["sparse_combinations"]

Floats = npt.NDArray[np.float64]


def sparse_combinations(points: Floats, targets: Floats) -> Floats:
    """Convex combinations of the points, one row for each target, few of them used in all.

    Parameters
    ----------
    points : array of shape (k, r)
        Points of similar scale in all columns, such as whitened ones.
    targets : array of shape (m, r)
        Points strictly inside the hull, in the same coordinates.

    Returns
    -------
    array of shape (m, k)
        Rows are non-negative and sum to 1, with at most r + 1 positive entries each. The points
        that they represent agree with the targets up to the tolerance of the solver.

    Raises
    ------
    SolverError
        If a programme is not solved: a target is outside the hull.
    """
    count = len(points)
    constraints = np.vstack([points.T, np.ones(count)])
    combinations = np.zeros((len(targets), count))
    cost = np.ones(count)
    for i, target in enumerate(targets):
        solved = linprog(cost, A_eq=constraints, b_eq=np.append(target, 1.0), method="highs-ds")
        if solved.status != 0:
            raise SolverError(
                f"vertex {i} of the inscribed ellipsoid was not found in the hull of {count} points: "
                f"{solved.message}"
            )
        weights = np.maximum(solved.x, 0.0)
        combinations[i] = weights / np.sum(weights)
        cost[weights > 0.0] = 0.0
    return combinations
