"""Attacks on certificates from examples: Q10, Q10-S and C5.

Candidates err where a random projection of the workload's points is largest, so that their errors
are those of real, dependent classifiers and their true rates are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from nn.budgets import KeepRatio
from nn.calibration import Calibration
from nn.certify import Certified, ClassChange, HeldOut, description_bits, held_out, smallest_certified
from nn.guarantees.certificates import FixedSequence, HeldOutLimit, OccamBound
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._networks import RATIO, first_points, seed_of, usable
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]


class Errs(torch.nn.Module):
    """Predicts class 0, and class 1 for the examples that one column of the inputs marks."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        wrong = x[:, self.column]
        return torch.stack([torch.full_like(wrong, 0.5), wrong], dim=1)


@dataclass(frozen=True, eq=False)
class Population:
    """Marks of every point for several candidate networks, from which held-out examples are drawn."""

    marks: torch.Tensor

    @property
    def rates(self) -> torch.Tensor:
        """True probability of a violation, for every candidate."""
        return self.marks.mean(dim=0)

    def sample(self, n: int, rng: np.random.Generator) -> Calibration:
        """Independent examples, the last column of zeros for a network without errors."""
        drawn = self.marks[torch.from_numpy(rng.integers(self.marks.shape[0], size=n))]
        return Calibration([torch.cat([drawn, torch.zeros(n, 1)], dim=1)])

    def network(self, candidate: int) -> torch.nn.Module:
        """A candidate; -1 is the one without errors."""
        return Errs(candidate % (self.marks.shape[1] + 1))


def _population(workload: Workload, rate: float, candidates: int) -> Population:
    """Violations where a random projection of the points is largest: real, dependent errors."""
    points = np.asarray(workload.data.points, dtype=np.float64)
    rng = np.random.default_rng(seed_of(workload))
    scores = points @ rng.standard_normal((points.shape[1], candidates)) + 1e-9 * rng.standard_normal(
        (points.shape[0], candidates)
    )
    ranks = np.argsort(np.argsort(-scores, axis=0), axis=0)
    marks = ranks < max(1, round(rate * points.shape[0]))
    return Population(torch.from_numpy(marks.astype(np.float32)))


Evidence = Callable[[Population, Calibration], tuple[HeldOut | None, int]]


@dataclass(frozen=True)
class FalseLimit:
    """1 if the certified violation is below the true one, else 0."""

    population: Population
    examples: int
    evidence: Evidence

    def __call__(self, rng: np.random.Generator) -> float:
        evidence, candidate = self.evidence(self.population, self.population.sample(self.examples, rng))
        if evidence is None:
            return 0.0
        return float(evidence.violation < float(self.population.rates[candidate]))


def _limit(population: Population, data: Calibration) -> tuple[HeldOut, int]:
    original, pruned = population.network(-1), population.network(0)
    return held_out(original, pruned, data, confidence=1.0 - DELTA), 0


def _rule_of_three(population: Population, data: Calibration) -> tuple[HeldOut, int]:
    honest, candidate = _limit(population, data)
    limit = HeldOutLimit().limit(0, honest.examples, honest.confidence)
    return HeldOut(honest.error, 0.0, limit, honest.confidence, honest.examples, honest.failures), candidate


def _best_on_held_out(population: Population, data: Calibration) -> tuple[HeldOut, int]:
    original = population.network(-1)
    found = [
        held_out(original, population.network(c), data, confidence=1.0 - DELTA)
        for c in range(population.marks.shape[1])
    ]
    candidate = min(range(len(found)), key=lambda c: found[c].failures)
    return found[candidate], candidate


def _held_out_scenario(
    workload: Workload, population: Population, honest: Evidence, broken: Mapping[tuple[str, str], Evidence]
) -> Scenario:
    examples = 150
    return Scenario(
        workload=workload,
        size=examples,
        claimed=Accuracy(0.5, DELTA),
        trial=FalseLimit(population, examples, honest),
        faults=tuple(Fault(f[0], FalseLimit(population, examples, e)) for f, e in broken.items()),
        note="1 if the certified violation is below the true one",
    )


def _limits(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in [w for w in usable(workloads, 5) if w.n >= 100]:
        population = _population(workload, 0.08, _CANDIDATES)
        broken = {_RULE: _rule_of_three, _REUSED: _best_on_held_out}
        yield _held_out_scenario(workload, population, _limit, broken)


_CANDIDATES = 30  # enough that one of them passes by luck nearly always
_STATEMENT = Certified(ClassChange(), 0.0, violation=0.079, confidence=1.0 - DELTA, candidates=_CANDIDATES)


@dataclass(frozen=True)
class _Candidate:
    model: torch.nn.Module
    position: int


def _in_order(population: Population, data: Calibration) -> tuple[HeldOut | None, int]:
    ratios = list(_STATEMENT.sequence())

    def prune_to(ratio: KeepRatio) -> _Candidate:
        position = ratios.index(ratio)
        return _Candidate(population.network(position), position)

    try:
        found, evidence = smallest_certified(population.network(-1), prune_to, _STATEMENT, data)
    except AssumptionError:
        return None, 0
    return evidence, found.position


def _any_pass(population: Population, data: Calibration) -> tuple[HeldOut | None, int]:
    original = population.network(-1)
    for candidate in reversed(range(population.marks.shape[1])):
        evidence = _STATEMENT.test(original, population.network(candidate), data)
        if evidence is not None:
            return evidence, candidate
    return None, 0


def _own_limit(population: Population, data: Calibration) -> tuple[HeldOut | None, int]:
    evidence, candidate = _any_pass(population, data)
    if evidence is None:
        return None, 0
    return held_out(population.network(-1), population.network(candidate), data, confidence=0.5), candidate


def _sequences(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in [w for w in usable(workloads, 5) if w.n >= 100]:
        population = _population(workload, 0.08, _CANDIDATES)
        broken = {_ANY_PASS: _any_pass, _OWN: _own_limit}
        yield _held_out_scenario(workload, population, _in_order, broken)


@dataclass(frozen=True)
class Excess:
    """Largest true error minus error seen, over its bound, for all short linear classifiers.

    Labels are coin flips, so that the true error of every classifier is one half.
    """

    columns: torch.Tensor
    bits: Callable[[int, int], float]

    def __call__(self, rng: np.random.Generator) -> float:
        n, d = self.columns.shape
        labels = torch.from_numpy(rng.choice([-1.0, 1.0], size=n))
        worst = 0.0
        singles = (self.columns * labels[:, None] > 0).double().mean(0)
        best = torch.maximum(singles, 1.0 - singles).max()
        worst = (float(best) - 0.5) / OccamBound().excess(self.bits(d, 1), n, DELTA)
        i, j = np.triu_indices(d, 1)
        for sign in (1.0, -1.0):
            agree = ((self.columns[:, i] + sign * self.columns[:, j]) * labels[:, None] > 0).double().mean(0)
            best = torch.maximum(agree, 1.0 - agree).max()
            worst = max(worst, (float(best) - 0.5) / OccamBound().excess(self.bits(d, 2), n, DELTA))
        return worst


def _description(d: int, kept: int) -> float:
    layer = torch.nn.Linear(d, 1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :kept] = 1.0
    return float(description_bits(layer, 1))  # a sign


def _values_only(d: int, kept: int) -> float:
    return float(kept)


def _nothing(d: int, kept: int) -> float:
    return 0.0


def _occam(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        points = first_points(workload)
        generator = torch.Generator().manual_seed(seed_of(workload))
        # Random features of the points: many different classifiers, whatever the dimension.
        columns = points @ torch.randn(points.shape[1], 48, generator=generator, dtype=torch.float64)
        columns = columns - columns.median(dim=0).values
        yield Scenario(
            workload=workload,
            size=int(points.shape[0]),
            claimed=Accuracy(1.0, DELTA),
            trial=Excess(columns, _description),
            faults=(
                Fault(_PLACES[0], Excess(columns, _values_only)),
                Fault(_NO_BITS[0], Excess(columns, _nothing)),
            ),
            note=RATIO,
        )


_RULE = ("rule of three", "the limit for no violation is quoted, whatever was seen")
_REUSED = (
    "selected on held-out data",
    "of thirty networks the best on the held-out data is certified on them",
)
_ANY_PASS = ("any pass", "the smallest candidate that passes is returned, whatever failed before it")
_OWN = ("any pass, own limit", "as before, with a limit of the candidate's own at half the confidence")
_PLACES = ("places not counted", "the description counts values but not where they stand")
_NO_BITS = ("no description", "the bound for one network fixed beforehand is used for the best of many")

CHECKS = (
    Check(HeldOutLimit(), "fresh held-out examples each time", dict([_RULE, _REUSED]), _limits),
    Check(FixedSequence(), "candidates all slightly worse than claimed", dict([_ANY_PASS, _OWN]), _sequences),
    Check(
        OccamBound(), "the best of all short classifiers of random labels", dict([_PLACES, _NO_BITS]), _occam
    ),
)
