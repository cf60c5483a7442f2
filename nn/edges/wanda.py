"""Wanda: weights times the lengths of their input columns. A fast comparator that looks at data.

The score |w_j| |X_j| is the output error that the loss of one edge causes alone. As published, the
edges of each neuron compete among themselves and weights stay as they are. Nothing is proved about
it. Cost: one pass over the calibration data that sums squares, and one sort a neuron.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nn.calibration import observe, reduce_sum
from nn.layers import EdgeLayer
from nn.method import Decision, Problem, kept_as_they_are
from nn.plans import LayerPlan
from nn.selection import Allocation, Uniform, largest_remainder, refuse_ranking, split_alive

__all__ = ["Wanda"]


class _Squares:
    """Sums of squares of the entries of a layer's inputs, (groups, edges a neuron), in float64."""

    def __init__(self) -> None:
        self.totals: torch.Tensor | None = None

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add those of one batch."""
        for block in layer.inputs(activations):
            # The norm promotes as it goes; a float64 copy of the block would be twice its size.
            squares = torch.linalg.vector_norm(block, dim=1, dtype=torch.float64) ** 2
            self.totals = squares if self.totals is None else self.totals + squares

    def reduce(self) -> None:
        """Add up those of all processes."""
        if self.totals is not None:
            self.totals = reduce_sum(self.totals)


@dataclass(frozen=True)
class Wanda:
    """Keep the edges with the largest product of absolute weight and input column length.

    Needs calibration data; weights stay as they are.

    Parameters
    ----------
    per_neuron : bool
        Edges compete inside each neuron, as published; otherwise inside whatever the allocation
        makes compete.
    allocation : Allocation
        How layers share the count; the same ratio in every layer by default, as published.

    References
    ----------
    Sun, Liu, Bair and Kolter 2024, a simple and effective pruning approach for large language models.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.wanda import Wanda
    >>> pruned = prune(torch.nn.Linear(20, 10), Wanda(), KeepRatio(0.3), calibration=[torch.rand(50, 20)])
    >>> (pruned.model.weight != 0).sum(dim=1).tolist()
    [6, 6, 6, 6, 6, 6, 6, 6, 6, 6]
    """

    per_neuron: bool = True
    allocation: Allocation = Uniform()

    def __post_init__(self) -> None:
        if self.per_neuron:
            refuse_ranking(self.allocation, self)

    def decide(self, problem: Problem) -> Decision:
        """Rank by the product."""
        collectors = {name: _Squares() for name in problem.layers}
        observe(problem.network, problem.layers, problem.data(self), collectors)
        scores = {}
        for name, layer in problem.layers.items():
            totals = collectors[name].totals
            assert totals is not None  # observe() has refused layers that never run
            lengths = totals.sqrt()[:, None, :].to(layer.weight.device)
            scores[name] = layer.like_weight(layer.matrix().to(torch.float64).abs() * lengths)
        if not self.per_neuron:
            return Decision(kept_as_they_are(problem, scores, self.allocation))
        plans: dict[str, LayerPlan] = {}
        for share in problem.shares:
            for part in split_alive(self.allocation, share, problem.sizes, problem.alive):
                plans |= _best_of_each_neuron(problem, scores, part.layers, part.count)
        return Decision({name: plans[name] for name in problem.layers})


def _best_of_each_neuron(
    problem: Problem, scores: dict[str, torch.Tensor], names: tuple[str, ...], count: int
) -> dict[str, LayerPlan]:
    """Plans in which every neuron keeps the same ratio of its edges, rounded so that the count is met."""
    rows = {name: scores[name].flatten(1).shape for name in names}
    alive = {name: problem.alive[name].cpu().reshape(rows[name]) for name in names}
    available = np.concatenate([alive[name].sum(dim=1).numpy() for name in names]).astype(np.float64)
    count = min(count, int(available.sum()))
    counts = largest_remainder(available, count) if count else np.zeros(len(available), dtype=np.int64)
    ends = np.cumsum([rows[name][0] for name in names])[:-1]
    plans = {}
    for name, places in zip(names, np.split(counts, ends), strict=True):
        weight = problem.layers[name].weight
        ranked = torch.where(alive[name], scores[name].cpu().reshape(rows[name]), -torch.inf)
        order = torch.sort(ranked, dim=1, descending=True, stable=True).indices
        first = torch.arange(rows[name][1]) < torch.from_numpy(places)[:, None]
        keep = torch.zeros(rows[name], dtype=torch.bool).scatter_(1, order, first)
        keep = keep.reshape(weight.shape).to(weight.device)
        plans[name] = LayerPlan(keep, torch.where(keep, weight, torch.zeros_like(weight)))
    return plans
