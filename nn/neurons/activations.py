"""Units kept by the size of their activations alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from nn.neurons._support import ranked
from nn.neurons.ispasp import check_score, in_order, remove
from nn.neurons.unit_scores import SignedSum, UnitScore
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem, check_allocation

__all__ = ["TopActivation"]


@dataclass(frozen=True, slots=True)
class TopActivation:
    """Keep the units with the largest activations on calibration data.

    What :class:`~nn.neurons.ISpaSP` is without its iteration, and what it has to be compared with: the bounds
    of its theorems hold for this choice, too.

    Parameters
    ----------
    score : UnitScore
        Sums of activations by default; ``ColumnNormalised()`` weighs them by the norms of the columns that
        read them, ``RowNorm()`` takes norms.
    allocation : Allocation
        How many in each group; see :class:`~nn.neurons.ISpaSP`.

    Notes
    -----
    Groups are taken front to back, behind those that are already smaller.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepCount, prune
    >>> from nn.neurons import TopActivation
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 1))
    >>> _ = network[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    >>> prune(network, TopActivation(), KeepCount(1), calibration=[torch.ones(4, 2)]).model[0].weight.data
    tensor([[0., 3.]])
    """

    score: UnitScore = field(default_factory=SignedSum)
    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_score(self.score)
        check_allocation(self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Group by group, in the order in which the network reads them."""
        keep = {}
        for name, count, second in in_order(problem, self):
            kept = np.zeros(second.sizes.shape, dtype=bool)
            kept[ranked(second.sizes)[:count]] = True
            keep[name] = torch.from_numpy(kept)
            remove(problem, name, keep[name])
        return UnitDecision({name: keep[name] for name in problem.groups})
