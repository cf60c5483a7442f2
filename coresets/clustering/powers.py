"""What a distance costs: its square (k-means) or itself (k-median), and the constants that follow.

A power is a value, not a mode: it turns squared distances into costs, and knows the two inequalities in
which the two problems differ. Their proofs are on the pages KM and KM-B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["SQUARED", "Distance", "Power", "SquaredDistance"]

Floats: TypeAlias = npt.NDArray[np.float64]
Array = Any


@runtime_checkable
class Power(Protocol):
    """A cost of a distance."""

    @property
    def exponent(self) -> int:
        """z, 1 or 2."""

    def of_squares(self, squares: Array) -> Array:
        """Costs from squared distances."""

    def shares(self, squares: Floats, spreads: Floats, masses: Floats, low: float) -> Floats:
        """Bounds on the shares per unit of mass (KM).

        Parameters
        ----------
        squares : array of shape (n,)
            Squared distances of the points to the centres of their clusters.
        spreads : array of shape (n,)
            Mean cost of the point's cluster about its centre.
        masses : array of shape (n,)
            Mass of the point's cluster, positive.
        low : float
            Positive lower bound on the optimum.
        """

    def half(self, edges: int) -> float:
        """Part of a spanning tree that a star must cost, in groups with so many edges at most (KM-B)."""

    def pulls(self, weights: Floats, squares: Floats) -> Floats:
        """Weights with which points pull at their centre, when it moves to their mean."""


@dataclass(frozen=True, slots=True)
class SquaredDistance:
    """k-means: the cost is the squared distance.

    Examples
    --------
    >>> SquaredDistance().of_squares(9.0)
    9.0
    """

    exponent: ClassVar[int] = 2

    def of_squares(self, squares: Array) -> Array:
        """The squares themselves."""
        return squares

    def shares(self, squares: Floats, spreads: Floats, masses: Floats, low: float) -> Floats:
        """(sqrt((D^2 + r^2) / o) + 1 / sqrt(W))^2; the centres must be the means."""
        return np.asarray(np.square(np.sqrt((squares + spreads) / low) + 1.0 / np.sqrt(masses)))

    def half(self, edges: int) -> float:
        """One half, whatever the size."""
        return 0.5

    def pulls(self, weights: Floats, squares: Floats) -> Floats:
        """The weights themselves: means are optimal."""
        return weights


@dataclass(frozen=True, slots=True)
class Distance:
    """k-median: the cost is the distance.

    Examples
    --------
    >>> float(Distance().of_squares(9.0))
    3.0
    """

    exponent: ClassVar[int] = 1

    def of_squares(self, squares: Array) -> Array:
        """Roots."""
        return squares**0.5

    def shares(self, squares: Floats, spreads: Floats, masses: Floats, low: float) -> Floats:
        """(D + r) / o + 1 / W; for any centres."""
        return np.asarray((np.sqrt(squares) + spreads) / low + 1.0 / masses)

    def half(self, edges: int) -> float:
        """(e + 1) / (2 e), for e edges: 1 for a pair, 1/2 in the limit."""
        return (edges + 1.0) / (2.0 * edges)

    def pulls(self, weights: Floats, squares: Floats) -> Floats:
        """Weights over distances: Weiszfeld's step. Points at the centre pull as the nearest other one."""
        distances = np.sqrt(squares)
        apart = distances[distances > 0.0]
        return np.asarray(weights / np.maximum(distances, apart.min() if apart.size else 1.0))


SQUARED = SquaredDistance()
