"""Taylor pruning: remove the units with the smallest first-order effect on the loss (Molchanov et al.).

The gradient of a gate on a unit says by how much the loss changes at first when the gate closes; see
:mod:`nn.neurons.fisher` for the second-order form. Cost: one pass forward and backward over the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from nn.calibration import Batch
from nn.neurons._arguments import check_loss, check_part
from nn.neurons._gates import GivenLabels, LossFunction, gate_gradients, mean_over_examples
from nn.selection import Allocation, Global
from nn.units.method import UnitDecision, UnitProblem, check_allocation, keep_best_units

__all__ = ["AbsoluteEffect", "Effect", "SquaredEffect", "TaylorUnits"]


class Effect(Protocol):
    """What is averaged of the gates' gradients."""

    def scores(
        self, batches: Iterator[dict[str, torch.Tensor]], problem: UnitProblem
    ) -> dict[str, torch.Tensor]:
        """Scores of all units from the gradients of every batch, each of shape (examples, units)."""


@dataclass(frozen=True, slots=True)
class AbsoluteEffect:
    """Mean over examples of the absolute gradient, with unit norm in every group (Molchanov et al. 2017).

    The absolute value is each example's: of a mean over a batch, examples would cancel one another.
    """

    def scores(
        self, batches: Iterator[dict[str, torch.Tensor]], problem: UnitProblem
    ) -> dict[str, torch.Tensor]:
        """Normalised means."""
        found = mean_over_examples(batches, torch.abs, problem)
        return {name: own / max(float(own.norm()), 1e-300) for name, own in found.items()}


@dataclass(frozen=True, slots=True)
class SquaredEffect:
    """Mean over batches of the squared mean gradient of the batch (Molchanov et al. 2019).

    Nothing is normalised. As published it depends on how the examples are batched; with batches of one
    example it is twice the score of :class:`~nn.neurons.fisher.Fisher`.
    """

    def scores(
        self, batches: Iterator[dict[str, torch.Tensor]], problem: UnitProblem
    ) -> dict[str, torch.Tensor]:
        """Means over batches."""
        means = ({name: own.mean(dim=0, keepdim=True) for name, own in each.items()} for each in batches)
        return mean_over_examples(means, torch.square, problem)


@dataclass(frozen=True)
class TaylorUnits:
    """Keep the units whose gates have the largest gradients.

    Parameters
    ----------
    effect : Effect
        :class:`AbsoluteEffect` or :class:`SquaredEffect`.
    allocation : Allocation
        All groups compete by default, as published.
    loss : callable
        ``loss(output, target)``, a mean over examples; cross-entropy by default.

    References
    ----------
    Molchanov, Tyree, Karras, Aila and Kautz 2017, pruning convolutional neural networks for resource
    efficient inference; Molchanov, Mallya, Tyree, Frosio and Kautz 2019, importance estimation for neural
    network pruning.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import TaylorUnits
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> data = [(torch.rand(32, 8), torch.randint(2, (32,)))]
    >>> prune(network, TaylorUnits(), KeepRatio(0.5), calibration=data).model[0]
    Linear(in_features=8, out_features=3, bias=True)
    """

    effect: Effect = field(default_factory=AbsoluteEffect)
    allocation: Allocation = field(default_factory=Global)
    # Not shown: a function prints its address, and plans name their methods.
    loss: LossFunction = field(default_factory=lambda: torch.nn.functional.cross_entropy, repr=False)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)
        check_part(self.effect, "effect", "scores", "AbsoluteEffect() or SquaredEffect()")
        check_loss(self.loss)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Rank by the effect."""

        def value(output: Any, batch: Batch) -> torch.Tensor:
            return self.loss(output, GivenLabels().targets(output, batch, None))

        batches = gate_gradients(problem.network, problem.groups, problem.calibration, value)
        scores = self.effect.scores(batches, problem)
        keep: dict[str, torch.Tensor] = {}
        for share in problem.shares:
            keep |= keep_best_units(scores, share, self.allocation)
        return UnitDecision({name: keep[name] for name in problem.groups})
