"""What a pruning method is: a frozen value that turns a problem into a decision.

A method sees a copy of the network that it may run and differentiate but that nobody will use
afterwards, the layers in question, exact counts, and calibration data and randomness if it was
given any. It returns the kept weights and the evidence for them, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from coresets.certificate import Certificate
from nn.budgets import Share
from nn.calibration import Calibration
from nn.layers import EdgeLayer
from nn.plans import LayerPlan
from nn.selection import Allocation, keep_best, split_alive

__all__ = ["Decision", "Method", "Problem", "kept_as_they_are"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A network to prune, as methods see it.

    Parameters
    ----------
    network : torch.nn.Module
        A copy in evaluation mode, with earlier masks baked in.
    layers : mapping of str to EdgeLayer
        Its layers that take part.
    alive : mapping of str to Tensor of bool
        Weights that earlier prunings have left; no method brings back another one.
    shares : sequence of Share
        Disjoint sets of layers with the number of weights to keep in each.
    calibration : Calibration or None
        Data, if there are any.
    rng : numpy.random.Generator or None
        Randomness, if there is any.
    """

    network: torch.nn.Module
    layers: Mapping[str, EdgeLayer]
    alive: Mapping[str, torch.Tensor]
    shares: Sequence[Share]
    calibration: Calibration | None = None
    rng: np.random.Generator | None = None

    def data(self, method: object) -> Calibration:
        """The calibration data.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self.calibration is None:
            raise ValueError(f"{method!r} looks at activations; pass calibration=..., an iterable of batches")
        return self.calibration

    def randomness(self, method: object) -> np.random.Generator:
        """The generator.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.rng is None:
            raise ValueError(f"{method!r} draws at random; pass rng=..., a seed or a NumPy generator")
        return self.rng

    @property
    def sizes(self) -> dict[str, int]:
        """Number of weights of every layer."""
        return {name: layer.edges for name, layer in self.layers.items()}


@dataclass(frozen=True, eq=False)
class Decision:
    """What a method returns.

    Parameters
    ----------
    layers : mapping of str to LayerPlan
        One for each layer of the problem.
    certificates : sequence of Certificate
        A priori evidence for the whole network.
    notes : sequence of str
        What a reader should know.
    """

    layers: Mapping[str, LayerPlan]
    certificates: Sequence[Certificate] = ()
    notes: Sequence[str] = ()


@runtime_checkable
class Method(Protocol):
    """A way to prune."""

    def decide(self, problem: Problem) -> Decision:
        """Keep exactly the counts of the problem's shares, or all that is alive where that is less."""


def kept_as_they_are(
    problem: Problem, scores: Mapping[str, torch.Tensor], allocation: Allocation
) -> dict[str, LayerPlan]:
    """Plans that keep the best-scored weights, unchanged.

    Parameters
    ----------
    problem : Problem
        What to prune.
    scores : mapping of str to Tensor
        Of the weights' shapes; higher is better.
    allocation : Allocation
        Which layers compete.
    """
    plans: dict[str, LayerPlan] = {}
    for share in problem.shares:
        for part in split_alive(allocation, share, problem.sizes, problem.alive):
            for name, keep in keep_best(scores, part, problem.alive).items():
                weight = problem.layers[name].weight
                plans[name] = LayerPlan(keep, torch.where(keep, weight, torch.zeros_like(weight)))
    return {name: plans[name] for name in problem.layers}
