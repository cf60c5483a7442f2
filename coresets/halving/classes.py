"""Classes of sensitivity: inclusion probabilities that are powers of one half."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Classes"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Classes:
    """How often each point takes part in a halving.

    Parameters
    ----------
    levels : array of int64, shape (n,)
        k, so that a point is kept with probability 2^-k; -1 for points of no sensitivity, which are dropped.
    kappa : float
        Level with min(1, kappa s) <= 2^-k, the one that the error is stated for; infinite if nothing is
        halved.
    """

    levels: Integers
    kappa: float

    @property
    def rounds(self) -> int:
        """Largest level, the number of halvings."""
        return max(0, int(self.levels.max(initial=0)))

    @property
    def expected_size(self) -> float:
        """Sum of the inclusion probabilities, from which the size differs by less than 1."""
        return float(np.sum(_shares(self.levels)))

    def counts(self) -> Integers:
        """Number of points of every level 0, 1, ...; those that are dropped are left out."""
        found: Integers = np.bincount(self.levels[self.levels >= 0])
        return found

    @classmethod
    def at(cls, sensitivities: Floats, kappa: float) -> Classes:
        """Classes of the smallest probabilities that a level kappa allows."""
        return cls(_levels(sensitivities, kappa), kappa)

    @classmethod
    def within(cls, sensitivities: Floats, size: int) -> Classes:
        """Classes of the largest kappa for which at most ``size`` points are kept.

        Points next in line are raised by one class as long as there is room, which changes no bound.
        """
        total = float(np.sum(sensitivities))
        kappa = 0.5 * size / total
        while True:
            levels = _levels(sensitivities, kappa)
            movable = np.flatnonzero(levels > 0)
            room = size - float(np.sum(_shares(levels)))
            if movable.size == 0:
                return cls(levels, np.inf)
            shares = 2.0 ** -levels[movable].astype(np.float64)
            # A point rises when kappa exceeds 2^-k/s; between kappa and 2 kappa each does so once.
            at = shares / (kappa * sensitivities[movable])
            order = np.argsort(at, kind="stable")
            raised = int(np.searchsorted(np.cumsum(shares[order]), room, side="right"))
            levels[movable[order[:raised]]] -= 1
            if raised < movable.size:
                return cls(levels, kappa * float(at[order[raised]]))
            kappa *= 2.0


def _shares(levels: Integers) -> Floats:
    """Inclusion probabilities, 0 for points that are dropped."""
    return np.where(levels >= 0, 2.0 ** -np.maximum(levels, 0).astype(np.float64), 0.0)


def _levels(sensitivities: Floats, kappa: float) -> Integers:
    """max(0, floor(-log2(kappa s))), from the bits of the product and so without rounding of logarithms."""
    mantissa, exponent = np.frexp(kappa * sensitivities)
    levels = np.maximum(0, np.where(mantissa == 0.5, 1 - exponent, -exponent)).astype(np.int64)
    return np.where(sensitivities > 0.0, levels, -1)
