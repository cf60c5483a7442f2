"""Attacks on statements about sparsified neurons: Q1 to Q7.

Sides are those of neurons with heavy-tailed weights on random features of real points. The worst input of a
finite population, which is found by enumeration, is the worst of all its conic combinations, too: a share
of a sum of inputs is a mean of their shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.weighted_set import WeightedSet
from nn.guarantees.edges import EdgeTruncation, SensitivityTransfer
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, neurons, over, sensitivities, shares
from proofs_check.checks._edges_composed import COMPOSED
from proofs_check.checks._edges_drawn import DRAWN
from proofs_check.checks._networks import EPS, RATIO, exact_scenario, usable
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

# Q1: from a sample to all inputs.

_K = 3.0

Measure = Callable[[Neurons], Floats]


def _measured(seen: Neurons) -> Floats:
    return sensitivities(seen.weights, seen.activations)


def _mean_of_inputs(seen: Neurons) -> Floats:
    mean: Floats = seen.shares().mean(axis=0)
    return mean


def _mean_of_patches(seen: Neurons) -> Floats:
    largest: Floats = shares(seen.weights, seen.activations).mean(axis=1).max(axis=0)
    return largest


@dataclass(frozen=True)
class Transferred:
    """Largest share in a population over K times its sensitivity in a sample of it."""

    population: Neurons
    largest: Floats
    examples: int
    factor: float = _K
    measure: Measure = _measured

    def __call__(self, rng: np.random.Generator) -> float:
        drawn = rng.integers(len(self.population.activations), size=self.examples)
        seen = replace(self.population, activations=self.population.activations[drawn])
        return over(self.largest, self.factor * self.measure(seen), 100.0 * EPS)


def _rarity(population: Neurons) -> tuple[float, int]:
    """The least K' for which the assumption holds, and the number of shares that can be underestimated."""
    found = population.shares()
    largest = found.max(axis=0)
    often = (found > largest / _K).mean(axis=0)[largest > 0.0]
    rare = often[often < 1.0]  # others exceed 1/K of their largest value on any input
    return float(np.max(-1.0 / np.log1p(-rare))), int(rare.size)


def _independent_edges(count: int) -> Neurons:
    """Neurons with one edge that is always active and one that is on 3 of 10 inputs, independently."""
    rng = np.random.default_rng(5)
    activations = np.ones((5000, 1, count + 1))
    activations[:, 0, :count] = rng.permuted(np.arange(5000)[:, None] * np.ones(count) < 1500, axis=0)
    return Neurons(np.column_stack([np.eye(count), np.ones(count)]), activations)


def _transfers(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 5):
        population = neurons(workload, 3, 40, patches=4)
        rarity, pairs = _rarity(population)
        examples = SensitivityTransfer().examples(pairs, DELTA, rarity)
        honest = Transferred(population, population.shares().max(axis=0), examples)
        broken: dict[tuple[str, str], Trial] = {
            _ONE: replace(honest, factor=1.0),
            _INPUT_MEAN: replace(honest, measure=_mean_of_inputs),
            _PATCH_MEAN: replace(honest, measure=_mean_of_patches),
        }
        yield _statistical(workload, "inputs of four patches", examples, honest, broken)
    population = _independent_edges(30)
    rarity, pairs = _rarity(population)
    examples = SensitivityTransfer().examples(pairs, DELTA, rarity)
    honest = Transferred(population, population.shares().max(axis=0), examples)
    few = replace(honest, examples=SensitivityTransfer().examples(1, DELTA, rarity))
    shown = Workload("edges", "adversarial", WeightedSet(population.activations[:200, 0]))
    yield _statistical(shown, "active independently", examples, honest, {_ONE_SHARE: few})


def _statistical(
    workload: Workload, name: str, size: int, honest: Trial, broken: Mapping[tuple[str, str], Trial]
) -> Scenario:
    """A claim that observed over certified exceeds 1 with probability at most delta."""
    return Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, workload.data),
        size=size,
        claimed=Accuracy(1.0, DELTA),
        trial=honest,
        faults=tuple(Fault(fault[0], trial) for fault, trial in broken.items()),
        note=RATIO,
    )


# Q5: edges dropped.


@dataclass(frozen=True)
class Dropped:
    """Largest share of a side that is lost, over the certified one, for many choices of edges."""

    neurons: Neurons
    values: Floats
    factor: float
    tail: Callable[[Floats], Floats]

    def __call__(self, rng: np.random.Generator) -> float:
        found = shares(self.neurons.weights, self.neurons.activations)
        worst = 0.0
        for side in (self.neurons.weights > 0.0, self.neurons.weights < 0.0):
            ranks = np.argsort(np.argsort(np.where(side, -self.values, 1.0), axis=1), axis=1)
            kept = [ranks < count for count in (2, 5, 10)]
            kept += [rng.random(self.values.shape) < rng.random() for _ in range(10)]
            kept += [ranks != rank for rank in range(10)]  # a single edge dropped: nothing is given away
            for keep in kept:
                # Edges that no input has used have no sensitivity, and nothing is said about them.
                gone = side & ~keep & (self.values > 0.0)
                lost = np.where(gone, found, 0.0).sum(axis=-1)
                certified = EdgeTruncation().errors(self.tail(np.where(gone, self.values, 0.0)), self.factor)
                worst = max(worst, over(lost, certified, 100.0 * EPS))
        return worst


def _all(values: Floats) -> Floats:
    total: Floats = values.sum(axis=-1)
    return total


def _first(values: Floats) -> Floats:
    largest: Floats = values.max(axis=-1)
    return largest


def _truncations(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 6):
        population = neurons(workload, 3, 40, patches=4)
        values = _measured(population)
        honest = Dropped(population, values, 1.0, _all)
        broken: dict[tuple[str, str], Trial] = {
            _FORGOTTEN: replace(honest, tail=_first),
            _INPUT_MEAN: replace(honest, values=_mean_of_inputs(population)),
            _PATCH_MEAN: replace(honest, values=_mean_of_patches(population)),
        }
        yield exact_scenario(workload, "inputs of the sample", honest, broken)
        half = replace(population, activations=population.activations[::2])
        values, largest = _measured(half), population.shares().max(axis=0)
        # The least constant for which the assumption holds for all inputs.
        factor = float(np.max(largest[values > 0.0] / values[values > 0.0]))
        fresh = Dropped(population, values, factor, _all)
        yield exact_scenario(
            workload, f"fresh inputs, C = {factor:.2f}", fresh, {_ONE: replace(fresh, factor=1.0)}
        )


_ONE = ("K = 1", "shares of fresh inputs are taken to be at most their sensitivities")
_INPUT_MEAN = ("mean over inputs", "sensitivities are means of shares over the inputs, not maxima")
_PATCH_MEAN = ("mean over patches", "shares are averaged over patches, as in the released deterministic code")
_ONE_SHARE = ("one share counted", "the sample is large enough for one share, not for all")
_FORGOTTEN = ("tail forgotten", "of the dropped edges only the most sensitive one is counted")

_POPULATION = "every input of a finite population, and with it all their combinations"

CHECKS = (
    Check(SensitivityTransfer(), _POPULATION, dict([_ONE, _INPUT_MEAN, _PATCH_MEAN, _ONE_SHARE]), _transfers),
    *DRAWN,
    Check(EdgeTruncation(), _POPULATION, dict([_FORGOTTEN, _INPUT_MEAN, _PATCH_MEAN, _ONE]), _truncations),
    *COMPOSED,
)
