"""Lower bounds on the optimum of a logistic regression, from any dual point at all (guarantee LD).

A dual point gives every point p a number q(p) in [0, 1]. Only six figures of it matter, the sums of
lam u H(q), of lam u q and of lam u q x over each class; each class may be scaled down, and the best such
scaling has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.logistic._pass import BLOCK, Pass
from coresets.svm.objective import Intercept

__all__ = ["LogisticDual", "rounding"]

Floats: TypeAlias = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


def rounding(n: int, d: int) -> float:
    """Relative rounding of a sum of n terms taken in blocks, each of d products."""
    return _EPS * (BLOCK + n / BLOCK + d + 32)


@dataclass(frozen=True, eq=False)
class LogisticDual:
    """What the dual objective needs to know of a dual point.

    Parameters
    ----------
    entropies : array of shape (2,)
        For the negative and the positive class: lam sum u H(q).
    sums : array of shape (2, d + 1)
        For both: lam sum u q x, and last lam sum u q.
    radius : float
        Largest norm of a point.
    n : int
        Number of points, for the bound on rounding.
    """

    entropies: Floats
    sums: Floats
    radius: float
    n: int

    @classmethod
    def of(cls, found: Pass) -> LogisticDual:
        """The dual point that a read at some model has suggested."""
        return cls(found.entropies, found.sums, found.radius, found.margins.size)

    def bound(self, intercept: Intercept) -> float:
        """Largest dual value over scalings of the two classes, less a bound on its rounding.

        Parameters
        ----------
        intercept : Intercept
            A free one forces the sums of q over both classes to be equal.
        """
        masses, vectors = self.sums[:, -1], self.sums[:, :-1] * np.array([[-1.0], [1.0]])
        if intercept.scale > 0.0:
            vectors = np.column_stack([vectors, intercept.scale * masses * np.array([-1.0, 1.0])])
        if not (np.isfinite(self.sums).all() and np.isfinite(self.entropies).all() and masses.max() > 0.0):
            return 0.0
        scaled = (
            _balanced(masses, self.entropies, vectors) if intercept.free else _boxed(self.entropies, vectors)
        )
        gain, mass = float(scaled @ self.entropies), float(scaled @ masses)
        # Every sum is off by at most this share of the sum of the absolute values of its terms; twice, since
        # under a free intercept the exactly balanced point differs by as much from the one computed with.
        relative = 2.0 * rounding(self.n, vectors.shape[1])
        error = relative * mass * np.hypot(self.radius, intercept.scale)
        length = float(np.linalg.norm(scaled @ vectors))
        return max(0.0, float(gain * (1.0 - 4.0 * relative) - 0.5 * (length + error) ** 2))


def _boxed(gains: Floats, vectors: Floats) -> Floats:
    """Maximise f.E - |f.V|^2 / 2 over f in [0, 1]^2: inside, or on one of the edges."""
    square = vectors @ vectors.T

    def value(f: Floats) -> float:
        return float(f @ gains - 0.5 * f @ square @ f)

    candidates = [np.ones(2)]
    if square[0, 0] * square[1, 1] > 0.0 and np.linalg.det(square) > 1e-12 * square[0, 0] * square[1, 1]:
        candidates.append(np.clip(np.linalg.solve(square, gains), 0.0, 1.0))
    for k in range(2):
        for fixed in (0.0, 1.0):
            f = np.full(2, fixed)
            pull = gains[k] - square[k, 1 - k] * fixed
            f[k] = 1.0 if pull >= square[k, k] else max(0.0, pull / square[k, k])
            candidates.append(f)
    return max(candidates, key=value)


def _balanced(masses: Floats, gains: Floats, vectors: Floats) -> Floats:
    """Maximise the same with equal sums c = f_k S_k <= min S, a quadratic in c."""
    if masses.min() <= 0.0:
        return np.zeros(2)
    difference = (vectors / masses[:, None]).sum(axis=0)
    slope, squared, most = float((gains / masses).sum()), float(difference @ difference), float(masses.min())
    common = most if most * squared <= slope else slope / squared
    return common / masses
