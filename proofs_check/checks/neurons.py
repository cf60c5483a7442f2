"""Attacks on the sizes for sums of neurons: T4, T4-P, T5, T5-P.

The worst input is searched for in full: in the plane on every ray on which an error can be largest,
elsewhere by ascent. The constant kappa of T5 is compared with the balance that a linear programme
attains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantees import BalancedReLUIID, BalancedReLUPoisson, HomogeneousIID, HomogeneousPoisson
from coresets.homogeneous import Absolute, AbsoluteSum, HomogeneousSum, LeakyReLU, ReLU, ReLUSum, relu_balance
from coresets.reduction import SensitivityReducer
from coresets.samplers import IID, Poisson, Sampler
from coresets.weighted_set import Coreset, WeightedSet
from proofs_check import faults
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import (
    DELTA,
    DrawTrial,
    drawn_scenario,
    first_size_below,
    largest_useful_size,
)
from proofs_check.checks._geometry import certain, named, renamed, small
from proofs_check.checks.reducers import UNSCALED, reducer_scenario
from proofs_check.faults import Draws
from proofs_check.linear_oracles import smallest_balance
from proofs_check.neuron_queries import ABSOLUTE, RELU, NeuronWorst, Slopes
from proofs_check.trials import ROUNDING
from proofs_check.workloads import Workload, leading, thinned

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_FEWEST = 20
_MANY = 1000  # points, so that a size for three columns is below half of them
_TARGET = 0.5  # epsilon that the sizes aim at, where half the points allow it
_LEAK = 0.25


def _broken(sampler: Sampler) -> tuple[tuple[str, Draws], ...]:
    return ((faults.UNDIVIDED[0], faults.Undivided(sampler)), (faults.UNIFORM[0], faults.Uniform(sampler)))


def _shown(workloads: Sequence[Workload], climbed: int) -> Iterator[Workload]:
    """Sets of two columns, where the search is exact and sizes are small; some of more, climbed."""
    many = [w for w in workloads if w.kind == "real" and w.n >= _MANY][:1]
    for workload in workloads:
        if workload.n >= _FEWEST:
            yield leading(workload, 2)
    for workload in many:
        yield thinned(leading(workload, 3), climbed)
    for workload in workloads:
        if workload.kind == "adversarial" and workload.d > 3:
            yield workload


def _layers(data: WeightedSet) -> Iterator[tuple[str, HomogeneousSum, Slopes]]:
    """Layers on the points: two outputs of either sign, and outputs that only add."""
    rng = np.random.default_rng(3)
    masses = np.asarray(data.weights)[:, None]
    signed = masses * rng.choice([-1.0, 1.0], (data.n, 2)) * rng.random((data.n, 2)) ** 2
    yield "signed", HomogeneousSum(signed, ReLU()), RELU
    adding = masses * rng.uniform(0.1, 1.0, (data.n, 1))
    yield "absolute", HomogeneousSum(adding, Absolute()), ABSOLUTE
    if data.d <= 2:
        yield "leaky", HomogeneousSum(adding, LeakyReLU(_LEAK)), Slopes(1.0, -_LEAK)


def _homogeneous(workloads: Sequence[Workload], profile: Profile, *, sampler: Sampler) -> Iterable[Scenario]:
    for workload in _shown(workloads, _MANY):
        for words, layer, link in _layers(workload.data):
            data = layer.data(workload.data.points)
            bounds = layer.sensitivities(data)
            claim = layer.claim(data, bounds, sampler.scheme)
            error = NeuronWorst(
                np.asarray(data.points, dtype=np.float64),
                np.asarray(layer.outgoing),
                np.asarray(data.weights),
                link,
            )
            size = first_size_below(claim, _TARGET, data.n)
            shown = Workload(f"{workload.name}, {words}", workload.kind, data)
            yield drawn_scenario(shown, claim, sampler, bounds.values, error, _broken(sampler), size=size)
    if sampler.scheme is Poisson().scheme:
        for workload in [w for w in _shown(workloads, _MANY) if w.n >= _MANY][:1]:
            yield from _through_the_reducer(workload)


def _through_the_reducer(workload: Workload) -> Iterable[Scenario]:
    """The same promise end to end: outgoing weights as the layer hands them out."""
    points = np.asarray(workload.data.points, dtype=np.float64)
    for words, layer, link in islice(_layers(workload.data), 2):
        data = layer.data(points)
        shown = Workload(f"{workload.name}, {words}", workload.kind, data)
        error = NeuronWorst(points, np.asarray(layer.outgoing), np.asarray(data.weights), link)
        yield reducer_scenario(shown, SensitivityReducer(layer), OnCoreset(layer, data, error), _TARGET)


@dataclass(frozen=True)
class OnCoreset:
    """Error of a coreset, whose outgoing weights are those that the layer hands out."""

    layer: HomogeneousSum
    data: WeightedSet
    error: NeuronWorst

    def __call__(self, coreset: Coreset) -> float:
        kept = np.asarray(coreset.indices)
        before = np.asarray(self.layer.outgoing)[kept]
        after = np.asarray(self.layer.reweighted(self.data, coreset))
        # One factor a point for all outputs, or the promise is another one.
        factors = after[:, 0] / before[:, 0]
        same = np.allclose(after, before * factors[:, None], rtol=1e-9, atol=0.0)
        return self.error(kept, factors) if same else float("nan")


# T5: a relative error for sums of ReLUs.


def _pairs() -> Workload:
    """Two points, opposite each other, that all queries along the last axis have to do with."""
    rng = np.random.default_rng(8)
    points = np.column_stack([rng.standard_normal(4000), np.zeros(4000)])
    points[1000], points[3000] = (0.0, 1.0), (0.0, -1.0)
    return named("a rare pair", points)


def _lopsided(count: int, every: int) -> Workload:
    """Few of the points on the other side: ReLU sums see no others in one direction."""
    rng = np.random.default_rng(9)
    side = np.where(np.arange(count) % every == 0, -1.0, 1.0)
    points = (side * rng.uniform(0.9, 1.1, count))[:, None]
    return named(f"one of {every} on the other side", points)


def _balanced_sets(workloads: Sequence[Workload], profile: Profile, sampler: Sampler) -> Iterator[Workload]:
    yield from _shown(workloads, profile.max_points // 2)
    yield _pairs()
    # What is proved for Poisson sampling suffers less from kappa, so more of it can be afforded.
    yield _lopsided(60_000, 40) if sampler.scheme is IID().scheme else _lopsided(140_000, 100)


def _relu_sums(workloads: Sequence[Workload], profile: Profile, *, sampler: Sampler) -> Iterable[Scenario]:
    loss = ReLUSum()
    for workload in _balanced_sets(workloads, profile, sampler):
        data = workload.data
        points, weights = np.asarray(data.points, dtype=np.float64), np.asarray(data.weights)
        try:
            bounds = loss.sensitivities(data)
        except AssumptionError:
            yield _one_sided(workload)
            continue
        claim = loss.claim(data, bounds, sampler.scheme)
        size = first_size_below(claim, _TARGET, data.n)
        error = NeuronWorst(points, weights[:, None], weights, RELU, RELU)
        shown = drawn_scenario(workload, claim, sampler, bounds.values, error, _broken(sampler), size=size)
        if not shown.vacuous:
            careless = AbsoluteSum().claim(data, AbsoluteSum().sensitivities(data), sampler.scheme)
            fewer = min(size, careless.size(shown.claimed))
            values = np.asarray(bounds.values)
            fault = Fault(_CARELESS[0], DrawTrial(sampler, values, fewer, error))
            shown = replace(shown, faults=(*shown.faults, fault))
        yield shown
    yield from _balances(workloads)


def _one_sided(workload: Workload) -> Scenario:
    """A set of which the theorem says nothing."""
    return Scenario(
        workload=workload,
        size=largest_useful_size(workload.n),
        claimed=Accuracy(1.0, DELTA),
        trial=_nothing,
        vacuous="kappa = 0: some input switches all neurons off, and no relative error is promised",
    )


def _nothing(rng: np.random.Generator) -> float:
    """The error of keeping nothing, which is all that is promised."""
    return 1.0


@dataclass(frozen=True)
class Balance:
    """The library's kappa, times a factor that is 1 unless something is broken."""

    data: WeightedSet
    factor: float = 1.0

    def __call__(self) -> float:
        return self.factor * relu_balance(self.data.points, self.data.weights).kappa


@dataclass(frozen=True)
class BalanceOver:
    """Claimed kappa over the balance that a query attains."""

    data: WeightedSet

    def __call__(self, kappa: float) -> float:
        attained = smallest_balance(np.asarray(self.data.points), np.asarray(self.data.weights))
        # Both are zero where the points lie on one side, but for rounding.
        return kappa / attained if attained > ROUNDING else kappa / ROUNDING


def _balances(workloads: Sequence[Workload]) -> Iterable[Scenario]:
    for workload in small(workloads, _PROGRAMMED):
        honest = Balance(workload.data)
        broken = {_DOUBLED[0]: Balance(workload.data, 2.0)}
        shown = renamed(workload, "kappa")
        yield certain(shown, honest, BalanceOver(workload.data), broken, note=_KAPPA)


_PROGRAMMED = 200  # points of every set whose balance is computed by a linear programme
_CARELESS = ("kappa not looked at", "as many draws as the error relative to the sum of |p.x| needs")
_DOUBLED = ("kappa doubled", "twice the balance of the points is claimed")
_KAPPA = "claimed kappa over the balance attained at a query"

_RAYS = "all inputs: every ray in the plane, else ascent"
_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM])
_BALANCED = _WEIGHING | dict([_CARELESS, _DOUBLED])

CHECKS = (
    Check(HomogeneousIID(), _RAYS, _WEIGHING, partial(_homogeneous, sampler=IID())),
    Check(
        HomogeneousPoisson(), _RAYS, _WEIGHING | dict([UNSCALED]), partial(_homogeneous, sampler=Poisson())
    ),
    Check(BalancedReLUIID(), _RAYS, _BALANCED, partial(_relu_sums, sampler=IID())),
    Check(BalancedReLUPoisson(), _RAYS, _BALANCED, partial(_relu_sums, sampler=Poisson())),
)
