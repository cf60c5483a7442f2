"""Attacks on factors of sensitivities that are calibrated on fresh inputs: Q9.

A network is fed the points of a workload, which are all there is: what a factor covers among them is known
exactly, and so is the law of an order statistic of independent draws from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch

from coresets.accuracy import Accuracy
from nn.calibration import Calibration, observe
from nn.certify.conformal import Conformal, RatioCollector, ShareFactor, conformal_factor
from nn.guarantees.conformal import ConformalFactor
from nn.layers import find_layers
from nn.sensitivities import EdgeSensitivities, collect_sensitivities
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._networks import exact_scenario, first_points, network, seed_of, usable
from proofs_check.workloads import Workload

__all__ = ["CHECKS", "ExactRisk", "Population"]

Floats = npt.NDArray[np.float64]

Q9 = ConformalFactor()

_VIOLATION = 0.1
_SEEN = 40  # inputs of the sensitivities
_FRESH = 80  # calibration inputs


@dataclass(frozen=True, eq=False)
class Population:
    """A network, and all inputs there are; draws are independent and with replacement."""

    network: torch.nn.Module
    inputs: torch.Tensor

    def draw(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Independent inputs."""
        return self.inputs[torch.from_numpy(rng.integers(len(self.inputs), size=n))]

    def sensitivities(self, inputs: torch.Tensor) -> dict[str, EdgeSensitivities]:
        """Sensitivities of some inputs."""
        return collect_sensitivities(self.network, find_layers(self.network), [inputs])

    def ratios(self, found: ShareFactor) -> Floats:
        """R of every input there is, for sensitivities with their floor."""
        layers = find_layers(self.network)
        collectors = {name: RatioCollector(found.sensitivities[name]) for name in layers}
        observe(self.network, layers, Calibration([self.inputs]), collectors)
        return np.asarray(np.max([collector.ratios().numpy() for collector in collectors.values()], axis=0))


def _population(workload: Workload) -> Population:
    points = first_points(workload)
    return Population(network([points.shape[1], 12, 6], seed_of(workload)), points)


Rank = Callable[[int, float, float | None], int]  # of examples, violation and confidence
Order = Callable[[int, int], int]  # which order statistic stands for a rank among so many; 0 for the limit


def _exact_limit(n: int, k: int) -> int:
    return 0 if k > n else k


def _largest_value(n: int, k: int) -> int:
    return min(n, k)


def _without_one(n: int, violation: float, confidence: float | None) -> int:
    return max(1, math.ceil(n * (1.0 - violation)))


def _marginal(n: int, violation: float, confidence: float | None) -> int:
    return Q9.rank(n, violation)


@dataclass(frozen=True, eq=False)
class ExactRisk:
    """Probabilities that a factor from independent draws falls short, over those promised; by enumeration.

    Parameters
    ----------
    ratios : array of shape (n,)
        R of all inputs there are, equally likely.
    rank : callable
        Which order statistic is the factor.
    order : callable
        What is taken where there is none of that rank.
    """

    ratios: Floats
    rank: Rank
    order: Order = _exact_limit

    @cached_property
    def _values(self) -> tuple[Floats, Floats]:
        """Distinct ratios, and the share of inputs that are at most each."""
        values, counts = np.unique(self.ratios, return_counts=True)
        return values, np.cumsum(counts) / len(self.ratios)

    def law(self, n: int, k: int) -> Floats:
        """Probability that the k-th smallest of n draws is each of the distinct ratios."""
        _, below = self._values
        return np.diff(scipy.stats.binom.sf(k - 1, n, below), prepend=0.0)

    def __call__(self, rng: np.random.Generator) -> float:
        """The largest quotient over numbers of inputs, violations and confidences."""
        _, coverage = self._values
        worst = 0.0
        for n in (1, 4, 9, 15, 22, 40, 100):
            for violation in (0.05, 0.1, 0.3):
                k = self.order(n, self.rank(n, violation, None))
                if k:
                    risk = float(self.law(n, k) @ (1.0 - coverage))
                    worst = max(worst, risk / violation)
                for confidence in (0.7, 0.9, 0.99):
                    k = self.order(n, self.rank(n, violation, confidence))
                    if k:
                        # Coverages are multiples of 1/N: no rounding decides.
                        short = coverage < 1.0 - violation - 1e-9
                        risk = float(self.law(n, k)[short].sum())
                        worst = max(worst, risk / (1.0 - confidence))
        return worst


def _enumerated(workload: Workload, population: Population) -> Scenario:
    rng = np.random.default_rng(seed_of(workload))
    found = population.sensitivities(population.draw(_SEEN, rng))
    ratios = population.ratios(conformal_factor(population.network, found, [population.draw(_FRESH, rng)]))
    broken = {
        _LARGEST: ExactRisk(ratios, Q9.rank, _largest_value),
        _NO_ONE: ExactRisk(ratios, _without_one),
        _MARGINAL: ExactRisk(ratios, _marginal),
    }
    note = "probability of falling short over that promised, the largest over sizes and levels"
    return exact_scenario(workload, "enumerated", ExactRisk(ratios, Q9.rank), broken, note=note)


Construct = Callable[[Population, torch.Tensor, torch.Tensor], tuple[ShareFactor, float]]

_STATEMENT = Conformal(violation=_VIOLATION, confidence=1.0 - DELTA)


def _calibrated(population: Population, seen: torch.Tensor, fresh: torch.Tensor) -> tuple[ShareFactor, float]:
    found = conformal_factor(population.network, population.sensitivities(seen), [fresh], _STATEMENT)
    return found, found.factor


def _reused(population: Population, seen: torch.Tensor, fresh: torch.Tensor) -> tuple[ShareFactor, float]:
    return _calibrated(population, fresh, fresh)


def _one(population: Population, seen: torch.Tensor, fresh: torch.Tensor) -> tuple[ShareFactor, float]:
    return _calibrated(population, seen, fresh)[0], 1.0


@dataclass(frozen=True)
class Uncovered:
    """1 if more inputs than allowed have a larger ratio than the factor, else 0."""

    population: Population
    construct: Construct

    def __call__(self, rng: np.random.Generator) -> float:
        population = self.population
        seen, fresh = population.draw(_SEEN, rng), population.draw(_FRESH, rng)
        found, factor = self.construct(population, seen, fresh)
        # Ratios of one input may differ by rounding between batches of different shape.
        larger = population.ratios(found) > factor * (1.0 + 1e-9)
        return float(larger.mean() > _VIOLATION + 1e-9)


def _scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in [w for w in usable(workloads, 4) if w.n >= 100]:
        population = _population(workload)
        yield _enumerated(workload, population)
        broken = {_REUSED: _reused, _FACTOR_ONE: _one}
        yield Scenario(
            workload=Workload(f"{workload.name}, fresh data", workload.kind, workload.data),
            size=_FRESH,
            claimed=Accuracy(0.5, DELTA),
            trial=Uncovered(population, _calibrated),
            faults=tuple(Fault(name[0], Uncovered(population, c)) for name, c in broken.items()),
            note="1 if more inputs than allowed have a ratio above the factor",
        )


_LARGEST = ("largest value", "where the rank exceeds the number of inputs, their largest ratio is taken")
_NO_ONE = ("rank without the 1", "the rank is n (1 - alpha), rounded up")
_MARGINAL = ("marginal rank", "the rank for the mean coverage is claimed for given calibration inputs")
_REUSED = ("calibrated on the sensitivities' inputs", "the sensitivities are measured on the same inputs")
_FACTOR_ONE = ("factor 1", "sensitivities are taken for bounds as they are")

CHECKS = (
    Check(
        Q9,
        "the law of the factor, by enumeration, and all inputs there are",
        dict([_LARGEST, _NO_ONE, _MARGINAL, _REUSED, _FACTOR_ONE]),
        _scenarios,
    ),
)
