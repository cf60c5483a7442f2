"""Random pruning: keep weights chosen at random. The floor of every evaluation.

Cost: one uniform a weight, drawn on the host, so that a seed keeps the same weights on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nn.method import Decision, Problem, kept_as_they_are
from nn.selection import Allocation, Uniform

__all__ = ["Random"]


@dataclass(frozen=True)
class Random:
    """Keep weights chosen at random, unchanged.

    Parameters
    ----------
    allocation : Allocation
        The same ratio in every layer by default; with :class:`~nn.selection.Global` only the total
        is fixed.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Random, prune
    >>> pruned = prune(torch.nn.Linear(20, 10), Random(), KeepRatio(0.25), rng=0)
    >>> int((pruned.model.weight != 0).sum())
    50
    """

    allocation: Allocation = Uniform()

    def decide(self, problem: Problem) -> Decision:
        """Rank by independent uniforms, keyed by the layer's place."""
        children = problem.randomness(self).spawn(len(problem.layers))
        scores = {
            name: torch.from_numpy(child.random(tuple(layer.weight.shape)))
            for child, (name, layer) in zip(children, problem.layers.items(), strict=True)
        }
        plans = kept_as_they_are(problem, scores, self.allocation)
        return Decision(plans)
