"""SiPP: keep edges by their sensitivities, deterministically, at random, or whichever is better for a side.

Published by Baykal, Liebenwein, Gilitschenski, Feldman and Rus (2019). Departures from the released code: the
error of sampling is Bernstein's exact inverse (the code's is up to sqrt(2) too small, which makes the hybrid
sample too often); sensitivities are maxima over patches in every variant (the code's deterministic one takes
means, which bound nothing on a single patch); budgets are met exactly; nothing is removed for having no
gradient on the sample.

Cost: one pass over the data (:mod:`nn.sensitivities`), one sort of all edges or one allocation and draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from coresets._validate import check_open_unit
from coresets.samplers import FixedSize, Sampler
from nn.allocation import SideErrors, allocate
from nn.budgets import Share
from nn.edges._promises import Sparsified, Transfer, promise, side_errors
from nn.edges._sides import Drawn, Sides, as_plan, draw, keep_top, settle
from nn.method import Decision, Problem
from nn.plans import LayerPlan
from nn.selection import keep_best
from nn.sensitivities import EdgeSensitivities, collect_sensitivities

__all__ = ["Deterministic", "Hybrid", "Randomised", "SiPP", "Transfer", "Variant"]


@dataclass(frozen=True, eq=False)
class _Task:
    """What a variant decides about: the layers of one share."""

    share: Share
    sides: Mapping[str, Sides]
    found: Mapping[str, EdgeSensitivities]
    transfer: Transfer
    delta: Mapping[str, float]  # of one side of the layer, on one vector

    @property
    def count(self) -> int:
        """How many edges to keep."""
        return min(self.share.count, sum(int(side.alive.sum()) for side in self.sides.values()))


class Variant(Protocol):
    """How edges are chosen, given their sensitivities."""

    def choose(self, task: _Task, rng: np.random.Generator | None) -> Mapping[str, Drawn]:
        """Exactly the task's count of edges."""

    @property
    def random(self) -> bool:
        """Whether it draws."""


@dataclass(frozen=True, slots=True)
class Deterministic:
    """Keep the most sensitive edges of all layers together, unchanged (SiPPDet).

    It minimises the sum of all sides' errors, each the sum of its dropped sensitivities.
    """

    @property
    def random(self) -> bool:
        """No."""
        return False

    def choose(self, task: _Task, rng: np.random.Generator | None) -> Mapping[str, Drawn]:
        """One threshold; among equal sensitivities the larger weight first."""
        scores, alive = {}, {}
        for name, side in task.sides.items():
            # Ties matter among edges that no input has used: behind all others, by size.
            largest = float(side.magnitudes.max()) or 1.0
            scores[name] = torch.from_numpy(
                np.where(side.values > 0.0, side.values, side.magnitudes / largest - 2.0)
            )
            alive[name] = torch.from_numpy(side.alive)
        kept = keep_best(scores, task.share, alive)
        return {name: keep_top(task.sides[name], mask.numpy()) for name, mask in kept.items()}


@dataclass(frozen=True, slots=True)
class Randomised:
    """Draw edges in proportion to their sensitivities and reweight them (SiPPRand).

    Parameters
    ----------
    sampler : Sampler
        :class:`~coresets.samplers.FixedSize` meets every side's count. With
        :class:`~coresets.samplers.Poisson` and :class:`~coresets.samplers.IID`, the published one, counts
        are met on average; edges that matter least are then removed or added until the budget is met, and
        the a priori error grows by what they matter.
    capped : bool
        Whether the allocation counts errors above 1 as 1. The published objective does not; with the cap
        sides are often kept whole or not at all.
    """

    sampler: Sampler = field(default_factory=FixedSize)
    capped: bool = False

    @property
    def random(self) -> bool:
        """Yes."""
        return True

    def choose(self, task: _Task, rng: np.random.Generator | None) -> Mapping[str, Drawn]:
        """Allocate, draw, and meet the budget."""
        assert rng is not None
        counts = _counts(task, self.capped)
        children = rng.spawn(len(task.sides))
        drawn = {
            name: draw(side, counts[name], self.sampler, child)
            for child, (name, side) in zip(children, task.sides.items(), strict=True)
        }
        return settle(task.sides, drawn, task.count)


@dataclass(frozen=True, slots=True)
class Hybrid:
    """For every side keep its most sensitive edges, or draw, whichever has the smaller error (SiPPHybrid).

    Parameters
    ----------
    sampler, capped
        See :class:`Randomised`, whose counts are used.
    """

    sampler: Sampler = field(default_factory=FixedSize)
    capped: bool = False

    @property
    def random(self) -> bool:
        """Yes."""
        return True

    def choose(self, task: _Task, rng: np.random.Generator | None) -> Mapping[str, Drawn]:
        """Allocate as if all sides were drawn from, choose for each, and meet the budget."""
        assert rng is not None
        counts = _counts(task, self.capped)
        children = rng.spawn(len(task.sides))
        drawn = {}
        for child, (name, side) in zip(children, task.sides.items(), strict=True):
            sampled = draw(side, counts[name], self.sampler, child)
            top = keep_top(side, _top_of_each(side, counts[name]))
            factor, delta = task.transfer.factor, task.delta[name]
            truncate = side_errors(side, top, factor, delta) <= side_errors(side, sampled, factor, delta)
            drawn[name] = _mixed(side, truncate, top, sampled)
        return settle(task.sides, drawn, task.count)


def _counts(task: _Task, capped: bool) -> Mapping[str, np.ndarray]:
    """How many edges of every side to keep, so that the sum of mean errors of the layers is smallest."""
    constants, edges, costs = [], [], []
    for name, side in task.sides.items():
        log = np.log(2.0 / task.delta[name])
        constants.append(task.transfer.factor * side.totals.ravel() * log / 3.0)
        edges.append(side.edges.ravel().astype(np.float64))
        costs.append(np.full(side.totals.size, 1.0 / side.values.shape[0]))
    sides = SideErrors(np.concatenate(constants), np.concatenate(edges), np.concatenate(costs), capped)
    counts = allocate(sides, min(task.count, int(sides.edges.sum())))
    parts = np.split(counts, np.cumsum([side.totals.size for side in task.sides.values()])[:-1])
    return {
        name: part.reshape(side.totals.shape)
        for part, (name, side) in zip(parts, task.sides.items(), strict=True)
    }


def _top_of_each(side: Sides, counts: np.ndarray) -> np.ndarray:
    """Mask of the most sensitive edges of every side."""
    keep = np.zeros(side.values.shape, dtype=bool)
    for sign in (0, 1):
        values = side.side(sign)
        order = np.argsort(-values, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(order.shape[1])[None, :], axis=1)
        keep |= (ranks < counts[sign][:, None]) & (values > 0.0)
    return keep


def _mixed(side: Sides, truncate: np.ndarray, top: Drawn, sampled: Drawn) -> Drawn:
    """The first where ``truncate`` says so, else the second."""
    own = np.where(side.positive, truncate[0][:, None], truncate[1][:, None])
    return Drawn(
        factors=np.where(own, top.factors, sampled.factors),
        rest=np.where(truncate, top.rest, sampled.rest),
        kappa=np.where(truncate, top.kappa, sampled.kappa),
        corrections=np.zeros(truncate.shape),
    )


@dataclass(frozen=True)
class SiPP:
    """Sensitivity-informed provable pruning.

    Parameters
    ----------
    variant : Variant
        :class:`Deterministic`, :class:`Randomised` or :class:`Hybrid`.
    transfer : Transfer
        K and K' of the assumption under which sensitivities hold for fresh inputs.
    delta : float
        Probability with which the draws may fail for one input; for the a priori error and the allocation.

    Notes
    -----
    The plan's certificates state the error that theory promises for the budget used (P2, P3, P4), for each
    layer and for the network. At high compression it exceeds 1: it then only serves to divide the budget.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.sipp import Randomised, SiPP
    >>> layer, data = torch.nn.Linear(20, 10), [torch.rand(64, 20)]
    >>> pruned = prune(layer, SiPP(Randomised()), KeepRatio(0.25), calibration=data, rng=0)
    >>> int((pruned.model.weight != 0).sum())
    50
    """

    variant: Variant = field(default_factory=Deterministic)
    transfer: Transfer = field(default_factory=Transfer)
    delta: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.variant, type) or not hasattr(self.variant, "choose"):
            raise TypeError(f"variant = {self.variant!r}; pass Deterministic(), Randomised() or Hybrid()")
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))

    def decide(self, problem: Problem) -> Decision:
        """Measure sensitivities, choose, and state the a priori errors."""
        data = problem.data(self)
        rng = problem.randomness(self) if self.variant.random else None
        found = collect_sensitivities(problem.network, problem.layers, data, conditions=True)
        sides = {
            name: Sides.of(layer, found[name], problem.alive[name]) for name, layer in problem.layers.items()
        }
        delta = {
            name: self.delta / len(sides) / (2 * len(side.values) * found[name].patches * found[name].halves)
            for name, side in sides.items()
        }
        drawn: dict[str, Drawn] = {}
        for share in problem.shares:
            own = {name: sides[name] for name in share.layers}
            task = _Task(share, own, found, self.transfer, delta)
            drawn |= self.variant.choose(task, rng)
        made = {name: Sparsified(sides[name], drawn[name], found[name]) for name in problem.layers}
        worst = {name: _largest(found[name].worst_condition) for name in made}
        promised = promise(made, worst, self.transfer, self.delta)
        plans: dict[str, LayerPlan] = {
            name: as_plan(problem.layers[name], one.drawn.factors, (promised.layers[name],))
            for name, one in made.items()
        }
        return Decision(plans, (promised.network,), promised.notes)


def _largest(conditions: torch.Tensor | None) -> float:
    assert conditions is not None
    return float(conditions.max())
