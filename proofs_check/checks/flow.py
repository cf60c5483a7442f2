"""Attacks on statements about the flow of a network: SF1 to SF3."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nn.budgets import KeepRatio
from nn.edges import Exponential, SynFlow
from nn.edges.flow import Flow, Surrogate
from nn.edges.gradual import Masks
from nn.edges.synflow import Schedule
from nn.guarantees.flow import FlowConservation, FlowCut, FlowSteps
from nn.layers import find_layers
from nn.method import Problem
from nn.pruning import prune
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._networks import EPS, exact_scenario, network, seed_of, usable
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Scorer = Callable[[torch.nn.Module, Masks], Flow]


def _honest_flow(net: torch.nn.Module, masks: Masks) -> Flow:
    width = next(iter(find_layers(net).values())).shape[2]
    return Surrogate(net, list(masks), torch.ones((1, width), dtype=torch.float64)).flow(masks)


def _positive(net: torch.nn.Module, dtype: torch.dtype, *, biases: bool) -> torch.nn.Module:
    """A copy whose parameters are replaced by their absolute values, biases by zeros if not wanted."""
    copied = copy.deepcopy(net).to(dtype)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            parameter.abs_()
            if name.endswith("bias") and not biases:
                parameter.zero_()
    return copied


def _raw_flow(positive: torch.nn.Module, masks: Masks) -> Flow:
    """Scores of a network as it is, in its own precision."""
    layers = find_layers(positive)
    weights = [dict(positive.named_parameters())[f"{name}.weight"] for name in layers]
    with torch.no_grad():
        for name, weight in zip(layers, weights, strict=True):
            weight.mul_(masks[name])
    width = next(iter(layers.values())).shape[2]
    total = positive(torch.ones((1, width), dtype=weights[0].dtype)).sum()
    gradients = torch.autograd.grad(total, weights)
    scores = [(g * w).detach().double() for g, w in zip(gradients, weights, strict=True)]
    return Flow(float(total.detach()), dict(zip(layers, scores, strict=True)))


def _with_biases(net: torch.nn.Module, masks: Masks) -> Flow:
    return _raw_flow(_positive(net, torch.float64, biases=True), masks)


def _single(net: torch.nn.Module, masks: Masks) -> Flow:
    return _raw_flow(_positive(net, torch.float32, biases=False), masks)


def _random_masks(net: torch.nn.Module, keep: float, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(rng.random(tuple(layer.weight.shape)) < keep)
        for name, layer in find_layers(net).items()
    }


@dataclass(frozen=True)
class Conservation:
    """Largest relative distance of a layer's total from the flow, in units of the rounding allowed."""

    network: torch.nn.Module
    scorer: Scorer

    def __call__(self, rng: np.random.Generator) -> float:
        worst = 0.0
        for keep in (1.0, 0.8, 0.5):
            masks = _random_masks(self.network, keep, rng)
            flow = self.scorer(self.network, masks)
            totals = [float(score.sum()) for score in flow.scores.values()]
            # A product over the layers and sums over at most a hundred terms a layer, all positive.
            allowed = 200.0 * len(totals) * EPS * flow.total
            worst = max(worst, *(abs(total - flow.total) / allowed if allowed else 0.0 for total in totals))
            if not math.isfinite(flow.total) or (keep == 1.0 and flow.total <= 0.0):
                return math.nan  # a network of which all weights are there has some flow
        return worst


def _conservation(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        net = network([workload.d, 12, 9, 7, 3], seed_of(workload))
        broken = {_BIASES: Conservation(net, _with_biases), _SINGLE: Conservation(net, _single)}
        yield exact_scenario(workload, "five layers of neurons", Conservation(net, _honest_flow), broken)


@dataclass(frozen=True)
class CutCost:
    """Largest flow lost by a cut over the score that was removed."""

    network: torch.nn.Module
    scores: Callable[[Flow], Mapping[str, torch.Tensor]]

    def __call__(self, rng: np.random.Generator) -> float:
        masks = {
            n: torch.ones_like(layer.weight, dtype=torch.bool)
            for n, layer in find_layers(self.network).items()
        }
        flow = _honest_flow(self.network, masks)
        scores = self.scores(flow)
        worst = 0.0
        for trial in range(30):
            cut = {n: keep.clone() for n, keep in masks.items()}
            if trial % 2:  # a single weight, where the inequality is an equality
                name = list(cut)[int(rng.integers(len(cut)))]
                cut[name].view(-1)[int(rng.integers(cut[name].numel()))] = False
            else:
                share = rng.random()
                cut = {n: torch.from_numpy(rng.random(tuple(k.shape)) > share) for n, k in cut.items()}
            removed = sum(float(scores[n][~keep].sum()) for n, keep in cut.items())
            lost = flow.total - _honest_flow(self.network, cut).total
            excess = lost - 1e3 * EPS * flow.total
            if excess > 0.0:
                worst = max(worst, excess / removed if removed else math.inf)
        return worst


def _own(flow: Flow) -> Mapping[str, torch.Tensor]:
    return flow.scores


def _averaged(flow: Flow) -> Mapping[str, torch.Tensor]:
    return {name: torch.full_like(score, float(score.mean())) for name, score in flow.scores.items()}


def _halved(flow: Flow) -> Mapping[str, torch.Tensor]:
    return {name: score / 2.0 for name, score in flow.scores.items()}


def _cuts(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        net = network([workload.d, 10, 8, 3], seed_of(workload))
        broken = {_AVERAGED: CutCost(net, _averaged), _HALVED: CutCost(net, _halved)}
        yield exact_scenario(workload, "four layers of neurons", CutCost(net, _own), broken)


@dataclass(frozen=True)
class Linear:
    """Equal numbers of weights a step, to the same budget in as many steps."""

    steps: int

    def next(
        self, flow: Flow, masks: Masks, problem: Problem, done: int
    ) -> Mapping[str, torch.Tensor] | None:
        """Counts in arithmetic progression."""
        if done == self.steps:
            return None
        (share,) = problem.shares
        total = sum(keep.numel() for keep in masks.values())
        count = round(total - (total - share.count) * (done + 1) / self.steps)
        cut = replace(problem, shares=(replace(share, count=count),))
        return Exponential(1).next(flow, masks, cut, 0)


@dataclass(frozen=True)
class Collapse:
    """2 if no path is left after pruning, 0 if one is."""

    network: torch.nn.Module
    ratio: float
    schedule: Schedule

    def __call__(self, rng: np.random.Generator) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruned = prune(self.network, SynFlow(self.schedule), KeepRatio(1.0 / self.ratio))
        masks = {name: layer.keep for name, layer in pruned.plan.layers.items()}
        return 0.0 if _honest_flow(self.network, masks).total > 0.0 else 2.0


def _schedules(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        for widths in ([workload.d, 300, 4, 300, 6], [workload.d, 200, 200, 2, 200, 3]):
            net, ratio = network(widths, seed_of(workload)), 80.0
            steps = FlowSteps().steps(len(widths) - 1, ratio)
            broken = {
                _ONE_CUT: Collapse(net, ratio, Exponential(1)),
                _LINEAR: Collapse(net, ratio, Linear(steps)),
            }
            honest = Collapse(net, ratio, Exponential(steps))
            shape = "-".join(map(str, widths))
            yield exact_scenario(
                workload, shape, honest, broken, note=f"2 if nothing is left after {steps} steps"
            )


_BIASES = ("biases kept", "scores of the network with its biases, made positive like the weights")
_SINGLE = ("single precision", "scores computed in float32")
_AVERAGED = ("scores averaged in a layer", "every weight of a layer is given the layer's mean score")
_HALVED = ("scores halved", "weight times derivative, divided by two")
_ONE_CUT = ("one cut", "the whole budget is cut in one step, by the first scores")
_LINEAR = ("linear schedule", "equal numbers of weights a step instead of equal ratios")

CHECKS = (
    Check(FlowConservation(), "random masks, layer by layer", dict([_BIASES, _SINGLE]), _conservation),
    Check(FlowCut(), "random cuts and single weights", dict([_AVERAGED, _HALVED]), _cuts),
    Check(FlowSteps(), "narrow layers between wide ones", dict([_ONE_CUT, _LINEAR]), _schedules),
)
