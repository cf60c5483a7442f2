"""Lower bounds on the optimum of a support vector machine, from any dual point at all.

A dual point gives every point p a number a(p) in [0, lam u(p)], with equal sums over the two classes if the
intercept is free; then OPT >= sum a - |sum a y x|^2 / 2 by weak duality (guarantee SG). Only four figures of
it matter, the sums of a and of a x over each class, and each class may be scaled down: the best such
scaling has a closed form. So a single pass over the data at any model gives a bound, and class means alone
give one without any model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.svm._kernels import CHUNK
from coresets.svm._rows import Pass, rows_of
from coresets.svm.data import LabelledSet
from coresets.svm.objective import Intercept, LinearModel, SVMObjective

__all__ = ["DualSums", "lower_bound", "rounding", "solver_free_bound"]

Floats: TypeAlias = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


def rounding(n: int, d: int) -> float:
    """Relative rounding of a sum of n terms taken in chunks, each of d products."""
    return _EPS * (CHUNK + n / CHUNK + d + 16)


@dataclass(frozen=True, eq=False)
class DualSums:
    """What the dual objective needs to know of a dual point.

    Parameters
    ----------
    sums : array of shape (2, d + 1)
        For the negative and the positive class: sum a x, and last sum a.
    radius : float
        Largest norm of a point.
    n : int
        Number of points, for the bound on rounding.
    """

    sums: Floats
    radius: float
    n: int

    @classmethod
    def of(cls, scan: Pass) -> DualSums:
        """Those of the dual point that a pass at some model has suggested."""
        return cls(scan.sums, scan.radius, scan.margins.size)

    def joined(self, other: DualSums, intercept: Intercept) -> DualSums:
        """Best point between two dual points; any such point is a dual point too."""
        turn = np.array([[-1.0], [1.0]])
        price = np.append(np.ones(self.sums.shape[1] - 1), intercept.scale)
        here, there = ((turn * dual.sums).sum(axis=0) * price for dual in (self, other))
        move = there - here
        gain = float(other.sums[:, -1].sum() - self.sums[:, -1].sum() - here @ move)
        square = float(move @ move)
        share = 1.0 if gain >= square else max(0.0, gain / square) if square > 0.0 else 0.0
        return DualSums(self.sums + share * (other.sums - self.sums), self.radius, self.n)

    def bound(self, intercept: Intercept) -> float:
        """Largest dual value over scalings of the two classes, less a bound on its rounding.

        Parameters
        ----------
        intercept : Intercept
            A free one forces the sums of both classes to be equal.
        """
        masses, vectors = self.sums[:, -1], self.sums[:, :-1] * np.array([[-1.0], [1.0]])
        if intercept.scale > 0.0:
            vectors = np.column_stack([vectors, intercept.scale * masses * np.array([-1.0, 1.0])])
        if not (np.isfinite(self.sums).all() and masses.max() > 0.0):
            return 0.0
        scaled = _balanced(masses, vectors) if intercept.free else _boxed(masses, vectors)
        mass, length = float(scaled @ masses), float(np.linalg.norm(scaled @ vectors))
        # Every sum is off by at most this share of the sum of the absolute values of its terms; twice, since
        # under a free intercept the exactly balanced point differs by as much from the one computed with.
        relative = 2.0 * rounding(self.n, vectors.shape[1])
        error = relative * mass * np.hypot(self.radius, intercept.scale)
        value = mass - 0.5 * (length + error) ** 2
        return max(0.0, float(value - 4.0 * relative * mass))


def _boxed(masses: Floats, vectors: Floats) -> Floats:
    """Maximise f.S - |f.V|^2 / 2 over f in [0, 1]^2: inside, or on one of the edges."""
    gram = vectors @ vectors.T

    def value(f: Floats) -> float:
        return float(f @ masses - 0.5 * f @ gram @ f)

    candidates = [np.ones(2)]
    if np.linalg.det(gram) > 1e-12 * gram[0, 0] * gram[1, 1] > 0.0:
        candidates.append(np.clip(np.linalg.solve(gram, masses), 0.0, 1.0))
    for k in range(2):
        for fixed in (0.0, 1.0):
            f = np.full(2, fixed)
            pull = masses[k] - gram[k, 1 - k] * fixed
            f[k] = 1.0 if pull >= gram[k, k] else max(0.0, pull / gram[k, k])
            candidates.append(f)
    return max(candidates, key=value)


def _balanced(masses: Floats, vectors: Floats) -> Floats:
    """Maximise 2 S - S^2 |V+/S+ + V-/S-|^2 / 2 over the common sum S <= min(S+, S-)."""
    if masses.min() <= 0.0:
        return np.zeros(2)
    gap = (vectors / masses[:, None]).sum(axis=0)
    most, squared = float(masses.min()), float(gap @ gap)
    common = most if most * squared <= 2.0 else 2.0 / squared
    return common / masses


def lower_bound(data: LabelledSet, objective: SVMObjective, model: LinearModel, width: float = 0.0) -> float:
    """Certified lower bound on the optimum from any model, in one pass.

    Parameters
    ----------
    data : LabelledSet
        n points.
    objective : SVMObjective
        The problem.
    model : LinearModel
        Any coefficients; the closer to the optimum, the better the bound.
    width : float
        Margins within width / 2 of 1 get a share of their largest dual variable, which falls linearly across
        this band; 0 for all or nothing. At the exact optimum the latter misses the points on the margin,
        and a small positive width does not.

    Returns
    -------
    float
        At least 0, and at most the optimum.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import LabelledSet, LinearModel, SVMObjective, lower_bound
    >>> data = LabelledSet(np.array([[-1.0], [1.0]]), [0, 1])
    >>> objective = SVMObjective(lam=0.25)  # the optimum is w = 1/2, of value 1/8 + 1/4
    >>> (
    ...     round(lower_bound(data, objective, LinearModel([0.4])), 6),
    ...     round(objective.value(data, LinearModel([0.5])), 6),
    ... )
    (0.375, 0.375)
    """
    return DualSums.of(objective.scan(data, model, width)).bound(objective.intercept)


def solver_free_bound(data: LabelledSet, objective: SVMObjective) -> float:
    """Certified lower bound on the optimum from the class means alone: dual variables constant in a class.

    Parameters
    ----------
    data : LabelledSet
        n points.
    objective : SVMObjective
        The problem.

    Returns
    -------
    float
        Positive, and at most the optimum.
    """
    rows = rows_of(data.points)
    sums = rows.moments(objective.lam * data.weights, (data.signs > 0).astype(np.int32), 2)
    return DualSums(sums, float(rows.norms().max()), data.n).bound(objective.intercept)
