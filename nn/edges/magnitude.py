"""Magnitude pruning: keep the largest weights. The comparator of every evaluation.

Globally it is one threshold for all layers; uniformly, the same ratio in each; with other allocations
it is what is known as ERK and LAMP. Nothing is proved about any of them. Cost: one selection among all
weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from nn.method import Decision, Problem, kept_as_they_are
from nn.selection import Allocation, Global

__all__ = ["Magnitude"]


@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest absolute value.

    Parameters
    ----------
    allocation : Allocation
        :class:`~nn.selection.Global`, one threshold for all layers;
        :class:`~nn.selection.Uniform`, the same ratio in every layer; :class:`~nn.selection.ERK`; or
        :class:`~nn.selection.LAMP`.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, prune
    >>> pruned = prune(torch.nn.Linear(20, 10), Magnitude(), KeepRatio(0.25))
    >>> int((pruned.model.weight != 0).sum())
    50
    """

    allocation: Allocation = Global()

    def decide(self, problem: Problem) -> Decision:
        """Rank by absolute value."""
        scores = {name: layer.weight.abs() for name, layer in problem.layers.items()}
        return Decision(kept_as_they_are(problem, scores, self.allocation))
