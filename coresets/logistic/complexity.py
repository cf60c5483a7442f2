"""The complexity of two classes: how unevenly a linear model can divide what it gets right and wrong.

mu = sup over v of sum u [z.v]_+ / sum u [-z.v]_+ with z = y (x, 1): 1 if no direction tells the classes
apart, infinite if they are separable. Without a regulariser the size of a coreset has to grow with it.
It is 1 + 1 / N, N being the least sum u [-z.v]_+ under c.v = 1, c = sum u z: a linear programme. Its
multipliers lead to numbers a > 0 with sum u a z = 0, and any such numbers prove mu <= max a / min a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linprog

from coresets.certificate import Certificate
from coresets.errors import AssumptionError, SolverError
from coresets.sensitivity import orthonormaliser
from coresets.svm.data import LabelledSet
from coresets.weighted_set import WeightedSet

__all__ = ["Complexity", "complexity", "complexity_from_multipliers"]

Floats: TypeAlias = npt.NDArray[np.float64]

_ROUNDING = 1e-9  # of a bound, against what is left of sum u a z
_SEPARABLE = 1e9  # ratio above which a direction counts as separating
_REPAIRS = 3


@dataclass(frozen=True, eq=False)
class Complexity:
    """Bounds on mu from both sides.

    Parameters
    ----------
    mu : float
        Proved upper bound, at least 1.
    attained : float
        Ratio at ``direction``, so a lower bound.
    direction : array of shape (d + 1,), or (d,) without an intercept
        Coefficients, the constant last.
    multipliers : array of shape (n,)
        Positive numbers a with sum u a z = 0 up to rounding; mu is their largest over their smallest.
    """

    mu: float
    attained: float
    direction: Floats
    multipliers: Floats

    def as_certificate(self) -> Certificate:
        """The same as one of the engine's certificates."""
        return Certificate(
            name="complexity",
            statement="no linear model gets more than value times as much right as wrong, by margins",
            value=self.mu,
            details={"attained": self.attained},
        )


def signed_rows(data: LabelledSet, *, intercept: bool) -> Floats:
    """Rows y (x, 1), or y x, in float64 and dense."""
    points = data.points.toarray() if sparse.issparse(data.points) else data.points
    rows = np.asarray(points, dtype=np.float64)
    if intercept:
        rows = np.column_stack([rows, np.ones(data.n)])
    return rows * data.signs.astype(np.float64)[:, None]


def _ratio(images: Floats, weights: Floats) -> float:
    right, wrong = float(weights @ np.maximum(images, 0.0)), float(weights @ np.maximum(-images, 0.0))
    return right / wrong if wrong > 0.0 else np.inf


def complexity_from_multipliers(
    data: LabelledSet | WeightedSet, multipliers: npt.ArrayLike, *, intercept: bool = True
) -> float:
    """Upper bound max a / min a on mu from any numbers a, which are first made to satisfy sum u a z = 0.

    Parameters
    ----------
    data : LabelledSet or WeightedSet
        n points of two classes.
    multipliers : array of shape (n,)
        For instance the probabilities that a fitted model without a regulariser gives to the wrong class.
    intercept : bool
        Whether models have a constant term.

    Returns
    -------
    float
        At least 1; infinite if the numbers, made to satisfy the equation, are not all positive.

    Raises
    ------
    ValueError
        If there are not n finite numbers.
    """
    data = LabelledSet.of(data)
    start = np.asarray(multipliers, dtype=np.float64)
    if start.shape != (data.n,) or not np.isfinite(start).all():
        raise ValueError(f"multipliers has shape {start.shape}; pass {data.n} finite numbers")
    rows = signed_rows(data, intercept=intercept)
    whitened = rows @ np.asarray(orthonormaliser(rows, data.weights))
    repaired = _repaired(whitened, data.weights, start)
    return _proved(repaired[data.weights > 0.0])


def _repaired(whitened: Floats, weights: Floats, multipliers: Floats) -> Floats:
    """The nearest numbers with sum u a z = 0; in whitened coordinates sum u z z^T is the identity."""
    for _ in range(_REPAIRS):
        multipliers = multipliers - whitened @ (whitened.T @ (weights * multipliers))
    return multipliers


def _proved(multipliers: Floats) -> float:
    if multipliers.min() <= 0.0:
        return float(np.inf)
    return float(multipliers.max() / multipliers.min()) * (1.0 + _ROUNDING)


def complexity(data: LabelledSet | WeightedSet, *, intercept: bool = True) -> Complexity:
    """Complexity mu of two classes, by a linear programme with a certified answer.

    Parameters
    ----------
    data : LabelledSet or WeightedSet
        n points of d columns; the programme has n + d unknowns and takes seconds for ten thousand points.
    intercept : bool
        Whether models have a constant term.

    Returns
    -------
    Complexity
        ``mu`` is an upper bound by its multipliers, whatever the accuracy of the solver.

    Raises
    ------
    AssumptionError
        If a direction separates the classes (perhaps with points on the boundary), so that mu is infinite.
    SolverError
        If the programme is not solved.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.logistic import complexity
    >>> from coresets.svm import LabelledSet
    >>> data = LabelledSet(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 1, 0, 1])
    >>> round(complexity(data).mu, 6)
    3.0
    """
    data = LabelledSet.of(data)
    rows, weights = signed_rows(data, intercept=intercept), data.weights / data.weights.max()
    whitener = np.asarray(orthonormaliser(rows, weights))
    whitened = rows @ whitener
    moving = np.flatnonzero((weights > 0.0) & np.any(whitened != 0.0, axis=1))
    n, rank = moving.size, whitened.shape[1]
    ones = np.ones(data.n)
    pull = whitened.T @ weights
    size = float(np.linalg.norm(pull))
    if rank == 0 or size <= 1e-12 * float(weights @ np.linalg.norm(whitened, axis=1)):
        # sum u z = 0: every direction gets as much right as wrong.
        repaired = _repaired(whitened, weights, ones) if rank else ones
        return Complexity(_proved(repaired[weights > 0.0]), 1.0, np.zeros(rows.shape[1]), repaired)
    # Unknowns (v, t): minimise u.t subject to -z.v - t <= 0, t >= 0 and c.v = 1.
    left = sparse.hstack([sparse.csr_matrix(-whitened[moving]), -sparse.identity(n)], format="csr")
    solved = linprog(
        np.concatenate([np.zeros(rank), weights[moving]]),
        A_ub=left,
        b_ub=np.zeros(n),
        A_eq=np.append(pull / size, np.zeros(n))[None, :],
        b_eq=[1.0],
        bounds=[(None, None)] * rank + [(0.0, None)] * n,
        method="highs",
    )
    if solved.status != 0:
        raise SolverError(f"the linear programme for the complexity was not solved: {solved.message}")
    direction = solved.x[:rank]
    attained = _ratio(whitened @ direction, weights)
    least = max(float(solved.fun), 0.0)
    multipliers = ones.copy()
    if least > 0.0:
        # The programme's c is divided by its length, so that N is least / size.
        multipliers[moving] += (size / least) * np.maximum(-solved.ineqlin.marginals, 0.0) / weights[moving]
        multipliers = _repaired(whitened, weights, multipliers)
    proved = _proved(multipliers[weights > 0.0])
    if attained > _SEPARABLE or least == 0.0 or not np.isfinite(proved):
        raise AssumptionError(
            f"a linear model gets {attained:.3g} times as much right as wrong: the classes are separable, or "
            "so nearly that no coreset without a regulariser can be promised; use NormShares() with a "
            "LogisticObjective"
        )
    return Complexity(proved, max(1.0, attained), whitener @ direction, multipliers)
