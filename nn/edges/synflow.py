"""SynFlow: keep the weights that carry the flow of a network, without any data.

With all weights replaced by their absolute values, R is the sum of the outputs for an input of ones,
and a weight's score is its share in R: the total of all paths through it. Every path crosses every
layer once, so the scores of each layer add up to R (SF1), and a layer's last weight has score R. Removing
weights of total score below R therefore leaves a path: the *cut ratio* of a step, the removed score
over R, certifies that nothing collapsed when it is below 1 (Tanaka, Kunin, Yamins and Ganguli 2020
for the score; the certificate and the adaptive schedule follow from its linearity; SF3 bounds the steps).

Cost: one pass forward and backward for a single example, and one selection, a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from coresets._validate import check_integer, check_open_unit
from coresets.certificate import Certificate
from nn.budgets import Share
from nn.edges.flow import Flow, Surrogate
from nn.edges.gradual import Masks, plans_for, targets
from nn.guarantees.flow import FlowCut
from nn.method import Decision, Problem
from nn.selection import keep_best

__all__ = ["Adaptive", "Exponential", "Schedule", "SynFlow"]


@dataclass(frozen=True, slots=True)
class Exponential:
    """Equal ratios from the full network to the budget, as published.

    Parameters
    ----------
    steps : int
        100 as published. With L layers, L ln(ratio) steps are enough that nothing collapses.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        check_integer(self.steps, "steps", at_least=1)

    def next(
        self, flow: Flow, masks: Masks, problem: Problem, done: int
    ) -> Mapping[str, torch.Tensor] | None:
        """Masks after the next step, None if there is none."""
        if done == self.steps:
            return None
        after = dict(masks)
        for share in problem.shares:
            # Counted from what was alive at the start, so that the last step meets the budget.
            total = max(share.count, sum(int(problem.alive[name].sum()) for name in share.layers))
            count = targets(total, share.count, self.steps)[done]
            after |= keep_best(flow.scores, Share(share.layers, count), masks)
        return after


@dataclass(frozen=True, slots=True)
class Adaptive:
    """As many weights a step as certainly leave a path.

    A step removes the lowest scores with a total below ``cut`` times R, and at least one weight. On
    layered networks nothing collapses, down to one weight a layer.

    Parameters
    ----------
    cut : float
        In (0, 1); 0.5 by default.
    """

    cut: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "cut", check_open_unit(self.cut, "cut"))

    def next(
        self, flow: Flow, masks: Masks, problem: Problem, done: int
    ) -> Mapping[str, torch.Tensor] | None:
        """Masks after the next step, None if the budget is met."""
        after = dict(masks)
        behind = [share for share in problem.shares if _kept(masks, share) > share.count]
        for share in behind:
            kept = _kept(masks, share)
            scores = torch.cat([flow.scores[n][masks[n]].reshape(-1).cpu() for n in share.layers])
            cumulative = torch.cumsum(torch.sort(scores).values, 0)
            within = int((cumulative < self.cut * flow.total / len(behind)).sum())
            count = max(share.count, kept - max(1, within))
            after |= keep_best(flow.scores, Share(share.layers, count), masks)
        return after if behind else None


def _kept(masks: Masks, share: Share) -> int:
    return sum(int(masks[name].sum()) for name in share.layers)


class Schedule(Protocol):
    """How many weights to drop before the scores are taken afresh."""

    def next(
        self, flow: Flow, masks: Masks, problem: Problem, done: int
    ) -> Mapping[str, torch.Tensor] | None:
        """Masks after the next step, or None at the end."""


@dataclass(frozen=True)
class SynFlow:
    """Keep the weights with the largest share in the flow.

    Scores are computed in float64 on a copy of the network in which weights are replaced by their
    absolute values, biases by zeros, batch normalisation by its positive scaling, and bounded or
    smooth activations, softmax and other normalisations by the identity, be they modules or calls of
    functions. Where that does not make the network linear on what flows here (gates, clamps), a note
    says so, and nothing is certified.

    Parameters
    ----------
    schedule : Adaptive or Exponential
        How fast to go.
    input_shape : tuple of int, optional
        Shape of one example. By default that of the first calibration batch if there is one, else
        the width of the first layer, if it is linear.

    References
    ----------
    Tanaka, Kunin, Yamins and Ganguli 2020, pruning neural networks without any data by iteratively
    conserving synaptic flow.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepCount, SynFlow, prune
    >>> layers = [torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 5)]
    >>> pruned = prune(torch.nn.Sequential(*layers), SynFlow(), KeepCount(2))  # one weight a layer
    >>> [layer.kept for layer in pruned.plan.layers.values()]
    [1, 1]
    """

    schedule: Schedule = field(default_factory=Adaptive)
    input_shape: tuple[int, ...] | None = None

    def decide(self, problem: Problem) -> Decision:
        """Follow the schedule; the certificate is the largest cut ratio of a step."""
        surrogate = Surrogate(problem.network, tuple(problem.layers), self._example(problem))
        masks: Masks = dict(problem.alive)
        ratios: list[float] = []
        flow = surrogate.flow(masks)
        while (after := self.schedule.next(flow, masks, problem, len(ratios))) is not None:
            removed = sum(
                float(flow.scores[n][(masks[n] & ~after[n]).to(flow.scores[n].device)].sum()) for n in after
            )
            ratios.append(FlowCut().cut_ratio(removed, flow.total) if flow.total > 0.0 else 1.0)
            masks = after
            flow = surrogate.flow(masks)
        weights = {name: layer.weight for name, layer in problem.layers.items()}
        evidence = (_certificate(ratios, flow.total),) if surrogate.scales else ()
        return Decision(plans_for(weights, masks), evidence, surrogate.notes)

    def _example(self, problem: Problem) -> torch.Tensor:
        shape = self.input_shape
        if shape is None and problem.calibration is not None:
            batch = next(iter(problem.calibration))
            shape = tuple(batch.arguments[0].shape[1:]) if batch.arguments else None
        if shape is None:
            first = next(iter(problem.layers.values())).module
            if not isinstance(first, torch.nn.Linear):
                raise ValueError(
                    f"{self!r} cannot tell the shape of an input; "
                    "pass SynFlow(input_shape=(channels, height, width))"
                )
            shape = (first.in_features,)
        device = next(iter(problem.layers.values())).weight.device
        return torch.ones((1, *shape), dtype=torch.float64, device=device)


# A cut of a whole layer has a ratio of at least 1, up to the rounding of sums of positive terms.
_BELOW_ONE = 1.0 - 1e-9


def _certificate(ratios: Sequence[float], total: float) -> Certificate:
    largest = max(ratios, default=0.0)
    statement = (
        f"in no step did the removed weights carry more than {largest:.3g} of the flow; below 1, a path from "
        "input to output is left on networks in which every path crosses every layer"
    )
    if total <= 0.0:
        largest, statement = max(1.0, largest), "no path from the input to the output is left"
    return Certificate(
        "cut ratio",
        statement,
        value=largest,
        bound=_BELOW_ONE,
        details={"steps": float(len(ratios)), "flow left": total},
    )
