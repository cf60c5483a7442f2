"""Attacks on units kept or drawn by their sensitivities: F1, F2, F3, and F4 about counts.

A layer reads units of several columns each, as a convolution reads channels through a window. Its inputs are
a finite population made from real points, so that the assumption of Q1 is counted, not believed, and the
worst input is found by looking at all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler
from nn.guarantees.edges import SensitivityTransfer, SideClass
from nn.guarantees.pfp import DistinctUnits, UnitInclusion, UnitSampling, UnitTruncation
from nn.layers import find_layers
from nn.neurons.sensitivities import collect_unit_sensitivities
from nn.units.consumers import Consumer
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, features, shares
from proofs_check.checks._networks import EPS, exact_scenario, usable
from proofs_check.checks._populations import (
    codes,
    least_factor,
    off,
    over,
    sides,
    signed_weights,
    statistical,
)
from proofs_check.checks._unit_counts import Enumerated, Strayed, all_alike, no_duplicates
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_SLACK = 1e3 * EPS  # of sums of at most some thousand positive terms, relative to them
_WINDOW = 4  # columns of a unit
_RARITY = 3.0


@dataclass(frozen=True, eq=False)
class Units(Neurons):
    """Neurons that read units of ``window`` consecutive columns each."""

    window: int = _WINDOW

    def by_unit(self) -> Floats:
        """Shares of units on every patch, of shape (inputs, patches, neurons, units)."""
        found = shares(self.weights, self.activations)
        summed: Floats = found.reshape(*found.shape[:-1], -1, self.window).sum(axis=-1)
        return summed

    def shares(self) -> Floats:
        """Largest share over patches and neurons, of shape (inputs, units)."""
        found: Floats = self.by_unit().max(axis=(1, 2))
        return found


Measure = Callable[[Units], Floats]


def measured(seen: Units) -> Floats:
    """What the library measures, an array of shape (units,)."""
    neurons, columns = seen.weights.shape
    layer = torch.nn.Linear(columns, neurons, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(seen.weights))
    units = columns // seen.window
    labels = torch.arange(units).repeat_interleave(seen.window)
    consumer = Consumer(find_layers(layer)[""], labels, units)
    found = collect_unit_sensitivities(layer, {"": {"": consumer}}, [torch.from_numpy(seen.activations)])
    values: Floats = found[""].values.numpy()
    return values


def mean_of_patches(seen: Units) -> Floats:
    """Means over the patches."""
    found: Floats = seen.by_unit().mean(axis=1).max(axis=(0, 1))
    return found


def single_entries(seen: Units) -> Floats:
    """Largest entry of the window, as the released code takes it."""
    found = shares(seen.weights, seen.activations).max(axis=(0, 1, 2))
    largest: Floats = found.reshape(-1, seen.window).max(axis=1)
    return largest


def first_neuron(seen: Units) -> Floats:
    """Shares in one neuron instead of all that read the unit."""
    found: Floats = seen.by_unit()[:, :, 0].max(axis=(0, 1))
    return found


# F3: truncation.


@dataclass(frozen=True)
class Lost:
    """Largest share that a sum loses without the least sensitive units, over what was certified.

    ``examples`` is the size of the sample that is seen, all inputs if None, and ``factor`` is K.
    """

    population: Units
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
        gone = np.argsort(np.where(values > 0.0, values, np.inf), kind="stable")[: self.dropped]
        factors = np.ones(values.shape)
        factors[gone] = 0.0
        factors[values == 0.0] = 0.0
        own = sides(whole.weights)
        spread = np.broadcast_to(np.repeat(factors, whole.window), own.shape)
        lost = off(own, spread, whole.activations.reshape(-1, own.shape[1]))
        certified = UnitTruncation().errors(values[factors == 0.0].sum(), self.factor)
        return over(lost, np.asarray(certified), _SLACK)


def _population(workload: Workload) -> Units:
    columns = 16 * _WINDOW
    weights = signed_weights(workload, 6, columns, 0.5)
    return Units(weights, features(workload, columns, patches=4, inputs=100))


def _truncations(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        population = _population(workload)
        for dropped in (1, 4):
            honest = Lost(population, dropped)
            broken: dict[tuple[str, str], Trial] = {}
            if dropped == 1:
                broken = {
                    fault: replace(honest, measure=measure)
                    for fault, measure in (
                        (_PATCH_MEAN, mean_of_patches),
                        (_SINGLE, single_entries),
                        (_FIRST, first_neuron),
                    )
                }
            yield exact_scenario(workload, f"inputs seen, {dropped} dropped", honest, broken)
        factor = least_factor(population, _RARITY)
        examples = SensitivityTransfer().examples(population.shares().shape[1], DELTA, _RARITY)
        fresh = Lost(population, 1, examples, factor)
        yield statistical(workload, "fresh inputs", examples, fresh, {_ONE: replace(fresh, factor=1.0)})


# F1 and F2: draws.


@dataclass(frozen=True, eq=False)
class Drawing:
    """A layer whose units are drawn, the patches of one input, and the sensitivities for the draw."""

    population: Units
    patches: Floats
    values: Floats
    size: int

    @classmethod
    def of(cls, population: Units, size: int, measure: Measure = measured) -> Drawing:
        """The sample is the population; the patches are those of its first input."""
        return cls(population, population.activations[0], measure(population), size)

    def statements(self, *, patches: bool = True) -> int:
        """N, or what it would be for a single patch."""
        count = len(self.patches) if patches else 1
        return UnitSampling().statements(len(self.population.weights), count)

    def bound(self, sampler: Sampler, statements: int) -> float:
        """Error of F1 or F2."""
        if isinstance(sampler, IID):
            parameters = SideClass(float(self.values.sum()), statements=statements)
            return UnitSampling().epsilon(parameters, self.size, DELTA)
        rest, kappa = self.chance(sampler)
        law = UnitInclusion().errors(np.array([rest]), np.array([kappa]), 1.0, DELTA / statements)
        return float(law[0])

    def chance(self, sampler: Sampler) -> tuple[float, float]:
        """Sensitivity that is left to chance, and kappa."""
        drawn = sampler.draw(self.values, self.size, np.random.default_rng(0))
        chance = (np.asarray(drawn.probabilities) < 1.0) & (self.values > 0.0)
        rest = float(self.values[chance].sum())
        return rest, (self.size - int(np.count_nonzero(~chance & (self.values > 0.0)))) / rest


Draws = Callable[[Drawing, np.random.Generator], Floats]


@dataclass(frozen=True)
class Honest:
    """Factors of a sampler of the library."""

    sampler: Sampler

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        weights: Floats = self.sampler.draw(drawing.values, drawing.size, rng).weights
        return weights


@dataclass(frozen=True)
class OldWeights:
    """Kept units are not multiplied."""

    sampler: Sampler

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        return (Honest(self.sampler)(drawing, rng) > 0.0).astype(np.float64)


@dataclass(frozen=True)
class Unsure:
    """As many draws as are left to chance, but from all units."""

    sampler: Sampler

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        rest, kappa = drawing.chance(self.sampler)
        weights: Floats = IID().draw(drawing.values, max(1, round(kappa * rest)), rng).weights
        return weights


@dataclass(frozen=True)
class SumErrors:
    """Largest relative error of a sum on a patch, over the bound."""

    drawing: Drawing
    draws: Draws
    bound: float

    def __call__(self, rng: np.random.Generator) -> float:
        population = self.drawing.population
        own = sides(population.weights)
        factors = np.repeat(self.draws(self.drawing, rng), population.window)
        seen = off(own, np.broadcast_to(factors, own.shape), self.drawing.patches)
        return over(seen, np.asarray(self.bound), _SLACK)


def _on_codes(workload: Workload, size: int, measure: Measure = measured) -> Drawing:
    """Units of two columns that respond together, with nearly equal weights: two-valued shares."""
    units, window = 1200, 2
    activations: Floats = np.repeat(codes(workload, units, 0.25, patches=16, inputs=2), window, axis=-1)
    weights = signed_weights(workload, 1, units * window, 0.05)
    population = Units(np.abs(np.tile(weights, (4, 1))), activations, window)
    return Drawing.of(population, size, measure)


def _one_unit_a_patch(measure: Measure = measured) -> Drawing:
    """Every patch has a single active unit, so that scaled terms are 0 or b: the variance is all there is.

    More draws than units, which saves nothing, but makes the law of a sum nearly normal.
    """
    units = 256
    activations: Floats = np.repeat(np.eye(units), _WINDOW, axis=1)[None]
    weights = np.ones((1, units * _WINDOW))
    return Drawing.of(Units(weights, activations), 400 * units, measure)


def _heavy(workload: Workload) -> Drawing:
    """Some units with most of every sum, which are sure, and a long tail of others."""
    units = 800
    sizes = np.random.default_rng(0).lognormal(sigma=2.5, size=units)
    weights: Floats = np.abs(signed_weights(workload, 2, units * 2, 0.2)) * np.repeat(sizes, 2)
    activations: Floats = np.repeat(codes(workload, units, 0.5, patches=8, inputs=2), 2, axis=-1)
    return Drawing.of(Units(weights, activations, 2), units // 4)


def _sampled(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    sampler = IID()
    for workload in usable(workloads, 2):
        drawing = _on_codes(workload, 150)
        honest = SumErrors(drawing, Honest(sampler), drawing.bound(sampler, drawing.statements()))
        broken: dict[tuple[str, str], Trial] = {_OLD_WEIGHTS: replace(honest, draws=OldWeights(sampler))}
        yield statistical(workload, "even units", drawing.size, honest, broken)
    for workload in usable(workloads, 1):
        drawing = _one_unit_a_patch()
        honest = SumErrors(drawing, Honest(sampler), drawing.bound(sampler, drawing.statements()))
        without = drawing.bound(sampler, drawing.statements(patches=False))
        broken = {_NO_PATCHES: replace(honest, bound=without)}
        for fault, measure in ((_SINGLE, single_entries), (_PATCH_MEAN, mean_of_patches)):
            wrong = _one_unit_a_patch(measure)
            broken[fault] = SumErrors(wrong, Honest(sampler), wrong.bound(sampler, wrong.statements()))
        yield statistical(workload, "one unit a patch", drawing.size, honest, broken)


def _included(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    samplers: dict[str, Sampler] = {"hybrid": Hybrid(), "Poisson": Poisson(), "fixed size": FixedSize()}
    for workload in usable(workloads, 2):
        even, heavy = _on_codes(workload, 150), _heavy(workload)
        for name, sampler in samplers.items():
            honest = SumErrors(even, Honest(sampler), even.bound(sampler, even.statements()))
            broken: dict[tuple[str, str], Trial] = {_OLD_WEIGHTS: replace(honest, draws=OldWeights(sampler))}
            yield statistical(workload, f"even units, {name}", even.size, honest, broken)
            honest = SumErrors(heavy, Honest(sampler), heavy.bound(sampler, heavy.statements()))
            broken = {_UNSURE: replace(honest, draws=Unsure(sampler))}
            yield statistical(workload, f"some heavy units, {name}", heavy.size, honest, broken)


# F4: counts.


def _counted(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        values = measured(_population(workload))
        few = Enumerated(values[:4] ** 2, 6)
        broken: dict[tuple[str, str], Trial] = {
            fault: replace(few, expected=formula)
            for fault, formula in ((_DUPLICATES, no_duplicates), (_ALIKE, all_alike))
        }
        yield exact_scenario(workload, "all sequences", few, broken)
        many = np.concatenate([values, values**3] * 20)
        honest = Strayed(many, len(many) // 2)
        broken = {
            _DUPLICATES: replace(honest, expected=no_duplicates),
            _ROOT: replace(honest, of_one=True),
        }
        yield statistical(workload, "many draws", honest.draws, honest, broken)
        # The other of the two deviations: units are fewer than draws, and each is missed by chance.
        honest = Strayed(many**0.1, 2 * len(many))
        broken = {_DUPLICATES: replace(honest, expected=no_duplicates), _ROOT: replace(honest, of_one=True)}
        yield statistical(workload, "more draws than units", honest.draws, honest, broken)


_PATCH_MEAN = ("means over patches", "sensitivities are means over the patches instead of maxima")
_SINGLE = ("single kernel entries", "the largest entry of a window counts instead of its sum")
_FIRST = ("one neuron", "shares are taken in one neuron instead of all that read the unit")
_ONE = ("K = 1", "what a sample shows is taken for the largest share of all inputs")
_OLD_WEIGHTS = ("multiplier missing", "what reads the drawn units is not multiplied")
_NO_PATCHES = ("union without patches", "delta is divided among neurons and signs, but not among patches")
_UNSURE = ("nothing sure", "draws come from all units, and the error is that of draws from the rest")
_DUPLICATES = ("no duplicates", "every draw is expected to find another unit")
_ALIKE = ("equal probabilities", "the formula for uniform draws is used for all")
_ROOT = ("deviation of one draw", "the deviation does not grow with the number of units")

CHECKS = (
    Check(
        UnitSampling(),
        "all patches of an input on which shares are two-valued, the worst case of the inequality",
        dict([_OLD_WEIGHTS, _NO_PATCHES, _SINGLE, _PATCH_MEAN]),
        _sampled,
    ),
    Check(
        UnitInclusion(),
        "all patches of inputs with two-valued shares, some with few heavy units",
        dict([_OLD_WEIGHTS, _UNSURE]),
        _included,
    ),
    Check(
        UnitTruncation(),
        "all inputs of a population",
        dict([_PATCH_MEAN, _SINGLE, _FIRST, _ONE]),
        _truncations,
    ),
    Check(
        DistinctUnits(),
        "all sequences of draws, and the law of their number",
        dict([_DUPLICATES, _ALIKE, _ROOT]),
        _counted,
    ),
)
