"""What a stream has spent, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coresets.accuracy import Accuracy
from coresets.weighted_set import Coreset, WeightedSet

__all__ = ["Ledger", "StreamCoreset"]


@dataclass(frozen=True)
class Ledger:
    """What a stream has spent so far.

    Parameters
    ----------
    accuracy : Accuracy
        Of the union of all nodes as a coreset of all rows, by the theorem MR.
    rows : int
        Rows pushed.
    mass : float
        Sum of their weights.
    reductions : int
        Reductions made.
    nodes : tuple of (int, int, Accuracy)
        Level, number of points and accuracy of every node.
    """

    accuracy: Accuracy
    rows: int
    mass: float
    reductions: int
    nodes: tuple[tuple[int, int, Accuracy], ...]

    def __str__(self) -> str:
        done = f"{self.rows:,} rows, {self.reductions:,} reductions"
        lines = [f"{done}: within {self.accuracy.epsilon:.3g}, but for probability {self.accuracy.delta:.3g}"]
        lines.extend(
            f"  level {level}: {points:,} points, epsilon {own.epsilon:.3g}, delta {own.delta:.3g}"
            for level, points, own in self.nodes
        )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class StreamCoreset:
    """A coreset of all rows of a stream, which carries its points since the stream is gone.

    Parameters
    ----------
    data : WeightedSet
        Kept points, their weights, and labels if there are any.
    positions : array of int64, shape (n,)
        Rows of the stream, from 0, that they are; strictly increasing.
    accuracy : Accuracy
        What is promised.
    ledger : Ledger
        How it came about.
    """

    data: WeightedSet
    positions: np.ndarray
    accuracy: Accuracy
    ledger: Ledger

    def coreset(self) -> Coreset:
        """Indices and weights alone."""
        return Coreset(
            indices=self.positions, weights=self.data.weights, size=self.data.n, accuracy=self.accuracy
        )
