"""Uniform width scaling: the comparator that is about architectures, not about weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem, check_allocation, keep_best_units

__all__ = ["WidthScaling"]


@dataclass(frozen=True, slots=True)
class WidthScaling:
    """Keep the first units of every group: the same network, but narrower.

    As a choice of units it is arbitrary, like :class:`~nn.neurons.baselines.RandomUnits`. Its use is the
    architecture: reset the parameters of the smaller network and train it like the original, which any
    pruning has to beat (Crowley et al. 2018; Liu et al. 2019).

    Parameters
    ----------
    allocation : Allocation
        How many in each group; the same share of each by default, as width multipliers do.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import WidthScaling
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> narrow = prune(network, WidthScaling(), KeepRatio(0.5), calibration=[torch.rand(4, 8)]).model
    >>> torch.equal(narrow[0].weight, network[0].weight[:3])
    True
    """

    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Rank by the position within the group, as a share of its size."""
        scores = {name: -torch.arange(size) / size for name, size in problem.sizes.items()}
        keep: dict[str, torch.Tensor] = {}
        for share in problem.shares:
            keep |= keep_best_units(scores, share, self.allocation)
        return UnitDecision({name: keep[name] for name in problem.groups})
