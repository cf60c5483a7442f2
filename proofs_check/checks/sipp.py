"""Attacks on what SiPP promises for a layer: P2, P3 and P4.

Inputs are a finite population made from real points, so that the assumption of Q1 is counted, not believed,
and the worst input is found by looking at all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from coresets.samplers import IID, FixedSize, Poisson, Sampler
from nn.budgets import KeepRatio
from nn.edges.sipp import Deterministic, Hybrid, Randomised, SiPP, Transfer, Variant
from nn.guarantees.edges import HybridLayer, SampledLayer, SensitivityTransfer, TruncatedLayer
from nn.pruning import prune
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, features, sensitivities, shares
from proofs_check.checks._networks import EPS, exact_scenario, usable
from proofs_check.checks._populations import (
    codes,
    least_factor,
    off,
    over,
    rarity,
    sides,
    signed_weights,
    statistical,
)
from proofs_check.checks._side_draws import (
    Counted,
    Honest,
    OldWeights,
    SideErrors,
    Truncating,
    UniformDraws,
    kept,
    on_codes,
    one_edge_a_patch,
    optimistic,
    partly_heavy,
)
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]
Measure = Callable[[Neurons], Floats]

_SLACK = 1e3 * EPS  # of sums of at most some thousand positive terms, relative to them


def measured(seen: Neurons) -> Floats:
    """What the library measures."""
    return sensitivities(seen.weights, seen.activations)


def mean_of_patches(seen: Neurons) -> Floats:
    """Means over the patches, as the released deterministic variant takes them."""
    found: Floats = shares(seen.weights, seen.activations).mean(axis=1).max(axis=0)
    return found


def signs_together(seen: Neurons) -> Floats:
    """Shares in the sum of both sides."""
    found: Floats = shares(np.abs(seen.weights), seen.activations).max(axis=(0, 1))
    return found


def halves(population: Neurons) -> Neurons:
    """The same with the positive and the negative parts of the inputs as patches."""
    inputs = population.activations
    parts = np.concatenate([np.maximum(inputs, 0.0), np.maximum(-inputs, 0.0)], axis=1)
    return replace(population, activations=parts)


# P2: truncation.


def top(weights: Floats, values: Floats, dropped: int) -> Floats:
    """Factors that drop the least sensitive edges of every side, so many of those with a sensitivity."""
    factors = np.ones(weights.shape)
    for own in (weights > 0.0, weights < 0.0):
        ranked = np.where(own & (values > 0.0), values, np.inf)
        order = np.argsort(ranked, axis=1, kind="stable")[:, :dropped]
        lost = np.take_along_axis(np.isfinite(ranked), order, axis=1)
        np.put_along_axis(factors, order, np.where(lost, 0.0, 1.0), axis=1)
        factors[own & (values == 0.0)] = 0.0
    return factors


@dataclass(frozen=True)
class Lost:
    """Largest share that a side of a truncated layer loses, over what was certified for the side.

    Parameters
    ----------
    population : Neurons
        Inputs, possibly of either sign.
    dropped : int
        Edges to drop from every side.
    examples : int or None
        Size of the sample that is seen; all inputs if None.
    factor : float
        K.
    measure : callable
        How sensitivities are measured.
    """

    population: Neurons
    dropped: int
    examples: int | None = None
    factor: float = 1.0
    measure: Measure = measured

    def __call__(self, rng: np.random.Generator) -> float:
        whole, seen = self.population, self.population
        if self.examples is not None:
            drawn = rng.integers(len(whole.activations), size=self.examples)
            seen = replace(whole, activations=whole.activations[drawn])
        values = self.measure(seen)
        factors = top(whole.weights, values, self.dropped)
        own = sides(whole.weights)
        lost = (np.tile(values * (factors == 0.0), (2, 1)) * (own > 0.0)).sum(axis=1)
        inputs = halves(whole).activations.reshape(-1, whole.weights.shape[1])
        certified: Floats = TruncatedLayer().errors(lost, self.factor)
        return over(off(own, np.tile(factors, (2, 1)), inputs), certified, _SLACK)


@dataclass(frozen=True)
class PrunedBySiPP:
    """Largest error of a side of a layer pruned by :class:`SiPP`, over the certificate of the layer.

    Parameters
    ----------
    population : Neurons
        Inputs to draw the calibration data from, and then a fresh one.
    variant : Variant
        Of SiPP.
    transfer : Transfer
        K and K'.
    ratio : float
        Share of the weights to keep.
    examples : int
        Calibration inputs.
    """

    population: Neurons
    variant: Variant
    transfer: Transfer
    ratio: float
    examples: int

    def __call__(self, rng: np.random.Generator) -> float:
        weights, inputs = self.population.weights, self.population.activations
        layer = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights))
        drawn = torch.from_numpy(inputs[rng.integers(len(inputs), size=self.examples)])
        method = SiPP(self.variant, self.transfer, delta=_HALF)
        pruned = prune(layer, method, KeepRatio(self.ratio), calibration=[drawn], rng=rng)
        (certificate,) = pruned.plan.layers[""].certificates
        if certificate.value >= 1.0:
            return float("nan")  # a vacuous certificate would be no test
        after = next(pruned.finalize().parameters()).detach().numpy()
        factors = np.divide(after, weights, out=np.ones_like(weights), where=weights != 0.0)
        # Deterministic pruning promises all inputs, draws a fresh one.
        tested = inputs if not self.variant.random else inputs[rng.integers(len(inputs), size=1)]
        seen = off(sides(weights), np.tile(factors, (2, 1)), tested.reshape(-1, weights.shape[1]))
        return over(seen, np.array(certificate.value), _SLACK)


_HALF = DELTA / 2.0


def _pruned(workload: Workload, variant: Variant, ratio: float) -> Scenario:
    """A layer on a population of codes, sensitivities from a sample of the size that Q1 asks for."""
    activations = codes(workload, 600, 0.5, patches=2, inputs=100)
    population = Neurons(signed_weights(workload, 2, 600, 0.05), activations)
    factor = 1.5
    needed, pairs = rarity(population, factor)
    examples = SensitivityTransfer().examples(pairs, _HALF, needed)
    trial = PrunedBySiPP(population, variant, Transfer(factor, needed), ratio, examples)
    return replace(statistical(workload, "pruned by SiPP", examples, trial, {}), trials=60)


def _truncations(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        weights = signed_weights(workload, 6, 24, 1.0)
        rectified = Neurons(weights, features(workload, 24, patches=4, inputs=100))
        signed = Neurons(weights, _signed_features(workload, 24))
        for name, population in (("rectified", rectified), ("of either sign", signed)):
            for dropped in (1, 6):
                honest = Lost(population, dropped)
                broken = (
                    {_PATCH_MEAN: replace(honest, measure=mean_of_patches)} if name == "rectified" else {}
                )
                if dropped == 6:
                    broken[_TOGETHER] = replace(honest, measure=_together(name))
                yield exact_scenario(workload, f"inputs seen, {name}, {dropped} dropped", honest, broken)
        factor = least_factor(rectified, _RARITY)
        pairs = int(np.count_nonzero(rectified.shares().max(axis=0)))
        examples = SensitivityTransfer().examples(pairs, DELTA, _RARITY)
        fresh = Lost(rectified, 1, examples, factor)
        yield statistical(workload, "fresh inputs", examples, fresh, {_ONE: replace(fresh, factor=1.0)})
    for workload in usable(workloads, 1):
        yield _pruned(workload, Deterministic(), 0.9)


_RARITY = 3.0


def _together(name: str) -> Measure:
    return signs_together if name == "rectified" else _signs_of_inputs_together


def _signs_of_inputs_together(seen: Neurons) -> Floats:
    return signs_together(replace(seen, activations=np.abs(seen.activations)))


def _signed_features(workload: Workload, edges: int) -> Floats:
    """Features before they are rectified."""
    ahead = features(workload, edges, patches=4, inputs=100)
    back = np.roll(ahead, 1, axis=0)
    found: Floats = ahead - back
    return found


# P3 and P4: draws.


_SAMPLERS: Mapping[str, Sampler] = {
    "with replacement": IID(),
    "Poisson": Poisson(),
    "fixed size": FixedSize(),
}


def _sampled(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for number, workload in enumerate(usable(workloads, 2)):
        even = on_codes(workload, signed_weights(workload, 16, 2400, 0.05), 150)
        uneven = on_codes(workload, signed_weights(workload, 16, 2400, 1.5), 500)
        for name, sampler in _SAMPLERS.items():
            bounds = even.bounds(sampler, even.statements)
            honest = SideErrors(even, Honest(sampler), bounds)
            broken: dict[tuple[str, str], Trial] = {
                _ONE_SIDE: replace(honest, bounds=even.bounds(sampler, 1)),
                _OLD_WEIGHTS: replace(honest, draws=OldWeights(sampler)),
            }
            yield statistical(workload, f"{name}, even weights", even.size, honest, broken)
            if number == 0:
                honest = SideErrors(uneven, Honest(sampler), uneven.bounds(sampler, uneven.statements))
                broken = {_UNIFORM: replace(honest, draws=UniformDraws(sampler))}
                yield statistical(workload, f"{name}, uneven weights", uneven.size, honest, broken)
        single = one_edge_a_patch(workload)
        honest = SideErrors(single, Counted(), single.bounds(IID(), single.statements))
        broken = {
            _OPTIMISTIC: replace(honest, bounds=optimistic(single, IID())),
            _ONE_SIDE: replace(honest, bounds=single.bounds(IID(), 1)),
        }
        yield statistical(workload, "one edge a patch", single.size, honest, broken)
    for workload in usable(workloads, 1):
        yield _pruned(workload, Randomised(), 0.6)


def _hybrids(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        drawing = partly_heavy(workload, 250)
        top_edges = kept(drawing)
        for name, sampler in _SAMPLERS.items():
            by_chance = drawing.bounds(sampler, drawing.statements)
            dropped = np.where(top_edges == 0.0, drawing.values, 0.0).sum(axis=1)
            certain: Floats = TruncatedLayer().errors(dropped, 1.0)
            truncate = certain <= by_chance
            bounds = np.minimum(certain, by_chance)
            honest = SideErrors(drawing, Truncating(truncate, top_edges, Honest(sampler)), bounds)
            broken: dict[tuple[str, str], Trial] = {
                _ALWAYS_TOP: replace(
                    honest, draws=Truncating(np.ones_like(truncate), top_edges, Honest(sampler))
                ),
                _ALWAYS_DRAWN: replace(honest, draws=Honest(sampler)),
            }
            yield statistical(workload, name, drawing.size, honest, broken)
    for workload in usable(workloads, 1):
        yield _pruned(workload, Hybrid(), 0.6)


_PATCH_MEAN = ("means over patches", "sensitivities are means over the patches instead of maxima")
_TOGETHER = ("signs together", "shares are taken in the sum of both sides of a neuron")
_ONE = ("K = 1", "what a sample shows is taken for the largest share of all inputs")
_OPTIMISTIC = ("optimistic inverse", "the error of the released code, up to a root of two too small")
_ONE_SIDE = ("one statement", "delta is not divided among sides and patches")
_OLD_WEIGHTS = ("old weights", "kept edges keep their weights instead of being divided by a probability")
_UNIFORM = ("uniform draws", "every edge has the same probability, whatever its sensitivity")
_ALWAYS_TOP = ("always truncated", "all sides are truncated, with the smaller one of both errors claimed")
_ALWAYS_DRAWN = ("always drawn", "all sides are drawn from, with the smaller one of both errors claimed")

CHECKS = (
    Check(TruncatedLayer(), "all inputs of a population", dict([_PATCH_MEAN, _TOGETHER, _ONE]), _truncations),
    Check(
        SampledLayer(),
        "all patches of inputs with two-valued shares, the worst case of the inequality",
        dict([_OPTIMISTIC, _ONE_SIDE, _OLD_WEIGHTS, _UNIFORM]),
        _sampled,
    ),
    Check(
        HybridLayer(),
        "all patches of inputs with two-valued shares, some sides with few large weights",
        dict([_ALWAYS_TOP, _ALWAYS_DRAWN]),
        _hybrids,
    ),
)
