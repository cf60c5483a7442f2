"""Attacks on bounds that are carried through the layers of two networks: Q8 and Q8-I."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nn.budgets import KeepRatio
from nn.certify.bounds import AdditiveDomain, Box, Deviation, IntervalDomain
from nn.certify.graph import Affine, walk
from nn.edges import Magnitude, Random
from nn.guarantees.certificates import AdditiveDeviation, IntervalDeviation
from nn.pruning import prune
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._networks import EPS, exact_scenario, first_points, network, seed_of, usable
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]


class SignedWeights(AdditiveDomain):
    """Deviations multiplied by the weights with their signs."""

    def affine(self, before: Affine, after: Affine, state: Deviation) -> Deviation:
        fresh = after.minus(before)(state.value).abs()
        return Deviation(before(state.value), fresh + after.linear(state.error).clamp_min(0.0))


class LastLayerOnly(AdditiveDomain):
    """Deviations of earlier layers are forgotten."""

    def affine(self, before: Affine, after: Affine, state: Deviation) -> Deviation:
        return Deviation(before(state.value), after.minus(before)(state.value).abs())


class SignedRadius(IntervalDomain):
    """Radii multiplied by the weights with their signs."""

    def affine(self, before: Affine, after: Affine, state: Box) -> Box:
        honest = super().affine(before, after, state)
        centre = (honest.least + honest.most) / 2.0
        change = after.minus(before)
        blur = (
            after.linear((state.most - state.least) / 2.0).abs()
            + change.linear((state.high - state.low) / 2.0).abs()
        )
        return Box(honest.low, honest.high, centre - blur, centre + blur)


class CentreOnly(IntervalDomain):
    """The difference at the centre of the box is taken for that in all of it."""

    def affine(self, before: Affine, after: Affine, state: Box) -> Box:
        honest = super().affine(before, after, state)
        centre = (honest.least + honest.most) / 2.0
        return Box(honest.low, honest.high, centre, centre)


@dataclass(frozen=True, eq=False)
class Pair:
    """A network, a pruned and reweighted copy of it, and inputs."""

    original: torch.nn.Module
    pruned: torch.nn.Module
    inputs: torch.Tensor

    def gap(self, x: torch.Tensor) -> torch.Tensor:
        """Differences of the outputs."""
        return self.pruned(x) - self.original(x)


def _pairs(workload: Workload) -> Iterable[tuple[str, Pair]]:
    points = first_points(workload)
    net = network([points.shape[1], 16, 12, 4], seed_of(workload))
    for name, method, ratio in (("half kept", Magnitude(), 0.5), ("random tenth dropped", Random(), 0.9)):
        pruned = prune(net, method, KeepRatio(ratio), rng=0).finalize()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in pruned.parameters():
                parameter.mul_(
                    1.0 + 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )
        yield name, Pair(net, pruned, points)


@dataclass(frozen=True)
class AdditiveRatio:
    """Largest deviation of an output over its bound, on points and on inputs found by ascent."""

    pair: Pair
    domain: AdditiveDomain

    def __call__(self, rng: np.random.Generator) -> float:
        pair, x = self.pair, self.pair.inputs
        scale = torch.from_numpy(rng.lognormal(sigma=2.0, size=(x.shape[0], 1)))
        worst = 0.0
        for inputs in (x, scale * x, _climbed(pair, x[:50])):
            start = Deviation(inputs, torch.zeros_like(inputs))
            with torch.no_grad():
                bound = walk(pair.original, pair.pruned, self.domain, start).error
                seen = pair.gap(inputs).abs()
            # Both come from sums of at most a hundred products, of either sign.
            slack = 1e4 * EPS * (1.0 + float(seen.max()))
            worst = max(worst, float(((seen - slack).clamp_min(0.0) / bound.clamp_min(1e-300)).max()))
        return worst


def _climbed(pair: Pair, x: torch.Tensor) -> torch.Tensor:
    """Inputs moved uphill on the difference of the outputs."""
    for _ in range(20):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(pair.gap(x).abs().sum(), x)
        x = x + 0.1 * gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return x.detach()


def _additive(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        for name, pair in _pairs(workload):
            broken = {
                _SIGNED: AdditiveRatio(pair, SignedWeights()),
                _FORGOTTEN: AdditiveRatio(pair, LastLayerOnly()),
            }
            yield exact_scenario(workload, name, AdditiveRatio(pair, AdditiveDomain()), broken)


@dataclass(frozen=True)
class IntervalRatio:
    """Largest difference found in a box, by sign ascent, over the bound for the box."""

    pair: Pair
    domain: IntervalDomain
    radius: float

    def __call__(self, rng: np.random.Generator) -> float:
        centre = self.pair.inputs[:20]
        low, high, zeros = centre - self.radius, centre + self.radius, torch.zeros_like(centre)
        with torch.no_grad():
            box = walk(self.pair.original, self.pair.pruned, self.domain, Box(low, high, zeros, zeros))
        bound = torch.maximum(-box.least, box.most)
        best = torch.zeros_like(bound)
        for _ in range(4):
            corner = torch.from_numpy(rng.choice([-1.0, 1.0], size=tuple(centre.shape)))
            x = centre + self.radius * corner
            for _ in range(15):
                x = x.detach().requires_grad_(True)
                gap = self.pair.gap(x)
                best = torch.maximum(best, gap.detach().abs())
                (gradient,) = torch.autograd.grad(gap.abs().max(dim=1).values.sum(), x)
                x = centre + self.radius * torch.sign(gradient)
        slack = 1e4 * EPS * (1.0 + float(best.max()))
        return float(((best - slack).clamp_min(0.0) / bound.clamp_min(1e-300)).max())


def _interval(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        for name, pair in _pairs(workload):
            broken = {
                _RADIUS: IntervalRatio(pair, SignedRadius(), 0.1),
                _CENTRE: IntervalRatio(pair, CentreOnly(), 0.1),
            }
            yield exact_scenario(workload, name, IntervalRatio(pair, IntervalDomain(), 0.1), broken)


_SIGNED = ("signed weights", "deviations are multiplied by weights with their signs, so that they cancel")
_FORGOTTEN = ("earlier layers forgotten", "only the last layer's own change is counted")
_RADIUS = ("signed radius", "radii are multiplied by weights with their signs, so that they cancel")
_CENTRE = ("centre only", "the difference at the centre is taken for that in the whole box")

CHECKS = (
    Check(
        AdditiveDeviation(),
        "points, scaled points, and gradient ascent on the difference",
        dict([_SIGNED, _FORGOTTEN]),
        _additive,
    ),
    Check(
        IntervalDeviation(),
        "sign ascent inside the box from random corners",
        dict([_RADIUS, _CENTRE]),
        _interval,
    ),
)
