"""Pruning in several steps, with scores taken afresh after each.

A score describes the network that it was computed on. Once much of it is gone the score is stale,
and a single cut by stale scores can remove a whole layer; every gradient-based method here can
therefore go in steps. Masks are monotone: what was dropped once does not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from coresets._validate import check_integer
from nn.budgets import Share
from nn.method import Problem
from nn.plans import LayerPlan
from nn.selection import Allocation, keep_best, split_alive

__all__ = ["gradually", "original_weights", "plans_for", "targets"]

Masks = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a gradual pruning.

    Parameters
    ----------
    scores : mapping of str to Tensor
        Scores of the network as it was before the step.
    before, after : mapping of str to Tensor of bool
        Masks before and after.
    """

    scores: Mapping[str, torch.Tensor]
    before: Masks
    after: Masks


def targets(total: int, final: int, steps: int) -> list[int]:
    """Counts of an exponential schedule: equal ratios from ``total`` down to ``final``.

    Examples
    --------
    >>> targets(10_000, 100, 2)
    [1000, 100]
    """
    check_integer(steps, "steps", at_least=1)
    ratio = final / total if total else 1.0
    counts = [round(total * ratio ** (k / steps)) for k in range(1, steps)]
    return [*(max(count, final) for count in counts), final]


def gradually(
    problem: Problem,
    scores: Callable[[Masks], Mapping[str, torch.Tensor]],
    allocation: Allocation,
    steps: int,
) -> Iterator[Step]:
    """Prune in steps of equal ratio; the masks of the last step meet the budget.

    The weights of the problem's network are set to zero as they are dropped.

    Parameters
    ----------
    problem : Problem
        What to prune.
    scores : callable
        Scores of the network as it is now, given the masks of now.
    allocation : Allocation
        Which layers compete.
    steps : int
        At least 1.
    """
    masks = dict(problem.alive)
    schedule = [targets(_alive(masks, share), share.count, steps) for share in problem.shares]
    for counts in zip(*schedule, strict=True):
        before = dict(masks)
        current = scores(masks)
        for share, count in zip(problem.shares, counts, strict=True):
            for part in split_alive(allocation, Share(share.layers, count), problem.sizes, before):
                masks |= keep_best(current, part, before)
        apply_masks(problem, masks)
        yield Step(current, before, dict(masks))


def _alive(masks: Masks, share: Share) -> int:
    return max(share.count, sum(int(masks[name].sum()) for name in share.layers))


def apply_masks(problem: Problem, masks: Masks) -> None:
    """Set the dropped weights of the problem's network to zero, in place."""
    with torch.no_grad():
        for name, keep in masks.items():
            layer = problem.layers[name]
            layer.weight.mul_(keep.to(layer.weight.device))


def original_weights(problem: Problem) -> dict[str, torch.Tensor]:
    """Copies of all weights, taken before the network is worked on."""
    return {name: layer.weight.clone() for name, layer in problem.layers.items()}


def plans_for(weights: Mapping[str, torch.Tensor], masks: Masks) -> dict[str, LayerPlan]:
    """Plans that keep some of the weights unchanged."""
    plans = {}
    for name, weight in weights.items():
        keep = masks[name].to(weight.device)
        plans[name] = LayerPlan(keep, torch.where(keep, weight, torch.zeros_like(weight)))
    return plans
