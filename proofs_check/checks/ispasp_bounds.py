"""Attacks on the bounds around iterated selection: IS-A1, IS-A3, IS-A4 and IS-ML."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nn.guarantees.chains import PrunedInOrder
from nn.guarantees.ispasp import (
    CoherenceIsometry,
    Isometry,
    MonotoneSupports,
    PolynomialDecay,
    SummedPursuit,
)
from nn.layers import EdgeLayer
from nn.neurons._isometry import products
from nn.neurons._second_map import Read
from nn.neurons._support import pursue, ranked
from nn.units.consumers import Consumer
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._ispasp import (
    STEPS,
    Instance,
    Matrix,
    Worst,
    activations,
    brute_force,
    instances,
)
from proofs_check.checks._networks import exact_scenario, first_points, network, seed_of, usable
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

A, A1, A3 = SummedPursuit(), PolynomialDecay(), CoherenceIsometry()
A4, ML = MonotoneSupports(), PrunedInOrder()

Ratio = Callable[[Instance], float]


@dataclass(frozen=True)
class Decay:
    """Tail and residual over their bounds, for a map that is an isometry, over p and s."""

    sizes: Callable[[float], Matrix]
    magnitude: Callable[[Matrix, float], float] = A1.magnitude
    tail: Callable[[float, float, int], float] = A1.tail
    factor: float = 1.0

    def __call__(self, rng: np.random.Generator) -> float:
        worst = 0.0
        for p in (0.3, 0.5, 0.7, 0.9):
            sizes = self.sizes(p)
            radius = self.magnitude(sizes, p)
            for s in (1, 3, 10, 30, 100):
                if 2 * s >= len(sizes):
                    continue
                kept = pursue(sizes, lambda gone, a=sizes: a * gone, s, STEPS)[-1]  # type: ignore[misc]
                level = self.tail(radius, p, s)
                isometry = Isometry(s, 0.0, 0.0)
                bound = A1.residual(isometry, radius, p) / A1.tail(radius, p, s) * level
                worst = max(worst, A.tail(sizes, s) / level, float(np.linalg.norm(sizes[~kept])) / bound)
        return worst * (1.0 - 1e-12)


def _power(p: float) -> Matrix:
    return np.asarray(np.arange(1.0, 20_001.0) ** (-1.0 / p))


def _flat_top(p: float) -> Matrix:
    return np.asarray(np.maximum(np.arange(1.0, 20_001.0) / 20.0, 1.0) ** (-1.0 / p))


def _always(sizes: Matrix) -> Callable[[float], Matrix]:
    return lambda _: sizes


def _squared_tail(magnitude: float, p: float, units: int) -> float:
    return A1.tail(magnitude, p, units) * float(units) ** (0.5 - 1.0 / p)


def _no_sum(magnitude: float, p: float, units: int) -> float:
    return A1.tail(magnitude, p, units) / A1.tail_constant(p) * float(np.sqrt(p / (2.0 - p)))


def _first(sizes: Matrix, p: float) -> float:
    return float(sizes.max())


def _decays(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        real = activations(workload, 60).sum(axis=1)
        broken = {
            _SQUARED: Decay(_always(real), tail=_squared_tail),
            _FIRST: Decay(_always(real), magnitude=_first),
        }
        yield exact_scenario(workload, "its activations", Decay(_always(real)), broken)
    for workload in usable(workloads, 1)[:1]:
        for name, sizes in (("powers", _power), ("a flat top", _flat_top)):
            broken = {
                _SQUARED: Decay(sizes, tail=_squared_tail),
                _NO_SUM: Decay(sizes, tail=_no_sum),
                _FIRST: Decay(sizes, magnitude=_first),
            }
            yield exact_scenario(workload, name, Decay(sizes), broken)


def _read(second: Matrix, block: int) -> Read:
    layer = torch.nn.Linear(second.shape[1], second.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(second))
    units = second.shape[1] // block
    consumer = Consumer(EdgeLayer("", layer), torch.arange(units).repeat_interleave(block), units)
    return Read(consumer, torch.ones((1, len(second)), dtype=torch.float64), None)


def _coherent(*, halved: bool = False, mean: bool = False, unscaled: bool = False) -> Ratio:
    def ratio(instance: Instance) -> float:
        table, scale = products((_read(instance.second, instance.block),), normalised=False)
        second = instance.second / scale
        if mean:
            table = np.full_like(table, table[~np.eye(len(table), dtype=bool)].mean())
        if unscaled:
            np.fill_diagonal(table, 0.0)
        worst = 0.0
        for order in range(1, min(instance.units, 5) + 1):
            bound = A3.constant(table, (order + 1) // 2 if halved else order)
            seen = brute_force(second, instance.block, order) - 1e-12
            worst = max(worst, seen / max(bound, 1e-12))
        return worst

    return ratio


def _simplex(units: int) -> Instance:
    """Unit columns with equal negative inner products: the bound is attained."""
    gram = np.full((units, units), -0.9 / (units - 1))
    np.fill_diagonal(gram, 1.0)
    return Instance(np.linalg.cholesky(gram).T, np.ones((units, 1)), 1)


def _coherences(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        for block in (1, 2):
            start = [*instances(workload, block=block), *([_simplex(6)] if block == 1 else [])]
            broken = {
                _ORDER: Worst(start, _coherent(halved=True)),
                _MEAN: Worst(start, _coherent(mean=True)),
                _UNSCALED: Worst(start, _coherent(unscaled=True)),
            }
            yield exact_scenario(workload, f"blocks of {block}", Worst(start, _coherent()), broken)


def _shrinks(values: Sequence[float], scale: float) -> float:
    """2 if a sequence ever falls by more than rounding, else 1."""
    return 2.0 if any(b < a - 1e-12 * scale for a, b in itertools.pairwise(values)) else 1.0


def _monotone(instance: Instance) -> float:
    sizes = instance.norms
    most = A4.most_iterations(instance.units, instance.kept)
    supports = pursue(sizes, instance.normed, instance.kept, most + 2)
    sums = [float(sizes[support].sum()) for support in supports]
    norms = [-float(np.linalg.norm(sizes[~support])) for support in supports]
    late = 2.0 if len(supports) > most else 0.0
    return max(_shrinks(sums, sizes.sum()), _shrinks(norms, sizes.sum()), late)


def _residual_monotone(instance: Instance) -> float:
    supports = pursue(instance.norms, instance.normed, instance.kept, STEPS)
    residuals = [-float(np.linalg.norm(instance.left(~support))) for support in supports]
    return _shrinks(residuals, -min(residuals))


def _by_hand(*, estimated: bool = False, forgetful: bool = False) -> Ratio:
    """The iteration with sizes estimated by least squares, or without the previous support."""

    def ratio(instance: Instance) -> float:
        sizes, s = instance.norms, instance.kept
        kept, sums = np.zeros(instance.units, dtype=bool), []
        outputs = instance.left(~kept)
        for _ in range(STEPS):
            candidates = np.zeros_like(kept) if forgetful else kept.copy()
            candidates[ranked(instance.normed(~kept))[: 2 * s]] = True
            values = np.where(candidates, sizes, -1.0)
            if estimated:
                columns = np.repeat(candidates, instance.block)
                solved = np.zeros_like(instance.hidden)
                solved[columns] = np.linalg.lstsq(instance.second[:, columns], outputs, rcond=None)[0]
                values = np.where(candidates, instance.rows(solved), -1.0)
            kept = np.isin(np.arange(instance.units), ranked(values)[:s])
            sums.append(float(sizes[kept].sum()))
        return _shrinks(sums, float(sizes.sum()))

    return ratio


def _far_from_isometric(workload: Workload) -> list[Instance]:
    rng = np.random.default_rng(seed_of(workload))
    hidden = activations(workload, 12, signed=True)
    return [
        Instance(rng.standard_normal((outputs, 12)) * np.exp(rng.standard_normal(12)), hidden, kept)
        for outputs, kept in itertools.product((2, 4, 8), (1, 2, 3, 4))
        for _ in range(5)
    ]


def _monotonicity(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        start = _far_from_isometric(workload)
        broken = {
            _RESIDUAL: Worst(start, _residual_monotone),
            _ESTIMATED: Worst(start, _by_hand(estimated=True)),
            _FORGETFUL: Worst(start, _by_hand(forgetful=True)),
        }
        note = "2 if a step loses size, or there are too many, 1 if not"
        yield exact_scenario(workload, "any map", Worst(start, _monotone), broken, note=note)


@dataclass(frozen=True)
class Composed:
    """Error of a network over the sum of residuals, behind pruned layers and behind original ones."""

    workload: Workload
    skipped: int = 0  # norms that are left out of each product, those nearest to the residual first

    def __call__(self, rng: np.random.Generator) -> float:
        worst = 0.0
        inputs = first_points(self.workload)[:24]
        inputs = inputs / inputs.abs().amax().clamp_min(1e-12)
        for widths, gain in itertools.product(([9, 7, 4], [8, 8, 6, 3], [6, 1, 1, 1]), (1.0, 6.0)):
            net = network([inputs.shape[1], *widths], seed_of(self.workload))
            maps = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
            with torch.no_grad():
                for layer in maps[1:]:
                    layer.weight.mul_(gain)
            keeps = [
                torch.rand(width, generator=torch.Generator().manual_seed(width)) > 0.4 for width in widths
            ]
            whole, behind = _forward(maps, inputs, None)
            pruned, along = _forward(maps, inputs, keeps)
            norms = [float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) for layer in maps[1:]]
            for left in (behind, along):
                residuals = [
                    float(((h * ~keep) @ layer.weight.detach().t()).norm())
                    for h, keep, layer in zip(left, keeps[:-1], maps[1:], strict=True)
                ]
                bound = ML.error(residuals, norms)
                if self.skipped:
                    short = [norms[0], *norms[2:], 1.0] if self.skipped == 1 else [1.0] * len(norms)
                    bound = ML.error(residuals, short)
                error = float((whole - pruned).norm())
                worst = max(worst, error * (1.0 - 1e-12) / max(bound, 1e-300) if error > 1e-12 else 0.0)
        return worst


def _forward(
    maps: Sequence[torch.nn.Linear], inputs: torch.Tensor, keeps: Sequence[torch.Tensor] | None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Output, and the activations of hidden layers before anything is removed from them."""
    seen, x = [], inputs
    with torch.no_grad():
        for index, layer in enumerate(maps[:-1]):
            x = torch.relu(layer(x))
            seen.append(x)
            x = x if keeps is None else x * keeps[index]
        return maps[-1](x), seen


def _composed(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        broken = {_NO_NORMS: Composed(workload, 2), _LATE: Composed(workload, 1)}
        yield exact_scenario(workload, "chains", Composed(workload), broken)


_ORDER = ("isometry of half the order", "a constant of order s is quoted for sets of 2s units")
_SQUARED = ("twice the exponent", "the decay of the squared norm is quoted for the norm")
_NO_SUM = ("no sum in the tail", "the constant is that of the norm of the tail alone")
_FIRST = ("largest size for R", "the magnitude is the largest size, whatever the others are")
_MEAN = ("mean coherence", "all inner products are taken to be the mean one")
_UNSCALED = ("columns taken for unit ones", "the deviation of their norms from 1 is left out")
_RESIDUAL = ("residual claimed monotone", "the residual is said never to grow")
_ESTIMATED = ("estimated sizes", "supports are cut down by least-squares estimates, as in CoSaMP")
_FORGETFUL = ("previous support left out", "candidates are the nominated units alone")
_NO_NORMS = ("no norms", "the residuals are added up as they are")
_LATE = ("products one map short", "the map after the residual's own is left out")

CHECKS = (
    Check(A1, "exact powers, for which the tail is attained", dict([_SQUARED, _NO_SUM, _FIRST]), _decays),
    Check(A3, "all sets of columns, simplices", dict([_ORDER, _MEAN, _UNSCALED]), _coherences),
    Check(A4, "maps far from isometric", dict([_RESIDUAL, _ESTIMATED, _FORGETFUL]), _monotonicity),
    Check(ML, "chains with wide and narrow layers", dict([_NO_NORMS, _LATE]), _composed),
)
