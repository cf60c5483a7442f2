"""Fisher pruning: remove the units whose removal raises the loss least, to second order, and that cost most.

Published by Theis, Korshunova, Tejani and Huszar (2018), in the form of Crowley, Turner, Storkey and O'Boyle
(2018) without a cost. With a gate m on a unit the loss of example n has the gradient g_n = dL_n/dm. At a
minimum of the loss the first-order term is small, and with the Fisher information in place of the curvature
closing the gate raises the loss by about Delta = sum_n g_n^2 / (2 N): each example's gradient is summed over
positions, squared, and then averaged. Nothing is proved about the network that is left.

Cost: one pass forward and backward over the data for every ``every`` removals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from coresets._validate import check_integer
from nn.budgets import Share
from nn.calibration import Batch
from nn.neurons._arguments import check_loss, check_part
from nn.neurons._flops import Flops
from nn.neurons._gates import GivenLabels, Labels, LossFunction, gate_gradients, mean_over_examples
from nn.neurons.cost_terms import CostTerm, NoCost
from nn.selection import Allocation, Global
from nn.units.method import UnitDecision, UnitProblem, check_allocation, split_units

__all__ = ["Fisher"]

# Without a number of its own, a method recomputes its scores so often.
_ROUNDS = 10


@dataclass(frozen=True)
class Fisher:
    """Remove units one by one by their Fisher information, and by the operations that they cost.

    Parameters
    ----------
    labels : Labels
        :class:`~nn.neurons.GivenLabels` takes those of the calibration data, as published;
        :class:`~nn.neurons.SampledLabels` draws them from the network's predictions, which needs no labels.
    cost : CostTerm
        :class:`~nn.neurons.NoCost`, :class:`~nn.neurons.AddedCost` or :class:`~nn.neurons.CostRatio`.
        Operations are counted exactly, and anew after every removal, since each layer's depend on its
        neighbours.
    every : int, optional
        Removals between two computations of the scores, 1 as published. By default a tenth of them all.
    allocation : Allocation
        All groups compete by default, as published.
    loss : callable
        ``loss(output, target)``, a mean over examples; cross-entropy by default. Each example's share
        must not depend on the others.

    Notes
    -----
    Data that are read more than once must be an iterable that starts again each time. A unit that is
    never active has a score of 0 and goes first; of equal scores the later unit goes first.

    References
    ----------
    Theis, Korshunova, Tejani and Huszar 2018, faster gaze prediction with dense networks and Fisher
    pruning; Crowley, Turner, Storkey and O'Boyle 2018, a closer look at structured pruning.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import CostRatio, Fisher
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> data = [(torch.rand(32, 8), torch.randint(2, (32,)))]
    >>> prune(network, Fisher(cost=CostRatio()), KeepRatio(0.5), calibration=data).model[0]
    Linear(in_features=8, out_features=3, bias=True)
    """

    labels: Labels = field(default_factory=GivenLabels)
    cost: CostTerm = field(default_factory=NoCost)
    every: int | None = None
    allocation: Allocation = field(default_factory=Global)
    # Not shown: a function prints its address, and plans name their methods.
    loss: LossFunction = field(default_factory=lambda: torch.nn.functional.cross_entropy, repr=False)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)
        if self.every is not None:
            check_integer(self.every, "every", at_least=1)
        check_part(self.labels, "labels", "targets", "GivenLabels()")
        check_part(self.cost, "cost", "priority", "CostRatio()")
        check_loss(self.loss)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Remove, recompute, remove.

        Raises
        ------
        ValueError
            If the data can be read only once, have no targets though labels are taken from them, or the
            loss cannot be differentiated.
        """
        problem.rereadable(self)
        rng = problem.randomness(self) if self.labels.random else None
        sizes = problem.sizes
        parts = [p for share in problem.shares for p in split_units(self.allocation, share, sizes)]
        remaining = _Remaining.of(sizes)
        flops = Flops.of(problem.network, problem.groups, next(iter(problem.calibration)))
        whole = max(1, flops.total(sizes))
        gone = [sum(sizes[name] for name in part.layers) - part.count for part in parts]
        every = self.every or math.ceil(max(1, sum(gone)) / _ROUNDS)
        rounds = math.ceil(sum(gone) / every)
        for turn in range(1, rounds + 1):
            scores = self._scores(problem, remaining.active, rng)
            for part, total in zip(parts, gone, strict=True):
                # Every part loses its share of what all have to lose by now.
                due = min(total, math.ceil(total * turn * every / sum(gone)))
                kept = sum(sizes[name] for name in part.layers) - due
                remaining.thin(
                    part, kept, scores, lambda name, loss: self._priority(flops, whole, remaining, name, loss)
                )
        return UnitDecision(remaining.active)

    def _priority(self, flops: Flops, whole: int, remaining: _Remaining, name: str, loss: float) -> float:
        return self.cost.priority(loss, flops.saved(name, remaining.counts) / whole)

    def _scores(
        self, problem: UnitProblem, active: Mapping[str, torch.Tensor], rng: np.random.Generator | None
    ) -> dict[str, torch.Tensor]:
        """Delta of all units."""

        def value(output: Any, batch: Batch) -> torch.Tensor:
            return self.loss(output, self.labels.targets(output, batch, rng))

        groups = problem.groups
        batches = gate_gradients(problem.network, groups, problem.calibration, value, active)
        found = mean_over_examples(batches, lambda gradients: 0.5 * gradients**2, problem)
        return {name: total.cpu() for name, total in found.items()}


@dataclass(frozen=True, eq=False)
class _Remaining:
    """Units that are still there; changed in place as they go."""

    active: dict[str, torch.Tensor]
    counts: dict[str, int]

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> _Remaining:
        return cls({name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}, dict(sizes))

    def thin(self, part: Share, kept: int, scores: Mapping[str, torch.Tensor], priority: Any) -> None:
        """Remove units of a part, the least important first, until so many are left."""
        queues = {name: self._queue(name, scores[name]) for name in part.layers}
        for _ in range(sum(self.counts[name] for name in part.layers) - kept):
            _, name = min(
                (priority(name, float(scores[name][queues[name][-1]])), name)
                for name in part.layers
                if self.counts[name] > 1
            )
            self.active[name][queues[name].pop()] = False
            self.counts[name] -= 1

    def _queue(self, name: str, scores: torch.Tensor) -> list[int]:
        """Active units, the next one to go last."""
        own = torch.nonzero(self.active[name]).reshape(-1)
        order = torch.sort(scores[own], descending=True, stable=True).indices
        units: list[int] = own[order].tolist()
        return units
