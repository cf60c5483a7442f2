"""Attacks on edges drawn at random: Q2, Q3 and Q4.

The inputs are fixed before the draw, and those of a finite sample for which the draw varies most. Where terms
have the extreme law of the proof, the probability of failure is computed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim
from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler
from coresets.tails import BernoulliKL
from coresets.weighted_set import WeightedSet
from nn.guarantees.edges import EdgeInclusion, EdgeSampling, SideClass, SureInclusion
from proofs_check import faults
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import (
    DELTA,
    SHRUNK,
    DrawTrial,
    drawn_scenario,
    first_size_below,
    largest_useful_size,
    mean_scenario,
)
from proofs_check.checks._edges import neurons, sensitivities
from proofs_check.checks._networks import exact_scenario, usable
from proofs_check.faults import Draws
from proofs_check.queries import FiniteWorst
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["DRAWN"]

Floats = npt.NDArray[np.float64]

_EDGES = 2000  # of a neuron, on both of its sides
_QUERIES = 4  # inputs that a draw is tested on
_TARGET = 0.5  # epsilon that the sizes aim at
_EVEN, _HEAVY, _HEAVIEST = 1.5, 2.5, 3.0  # spread of the logarithms of the weights


# Q2 and Q4: draws from one side.


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a neuron: its edges' sensitivities, and the inputs that a draw is tested on."""

    workload: Workload
    values: Floats
    worst: FiniteWorst

    @property
    def parameters(self) -> SideClass:
        """Of Q2: shares of inputs that the sensitivities have seen are at most these."""
        return SideClass(float(self.values.sum()), statements=len(self.worst.shares))


def _side(workload: Workload, spread: float = _HEAVY) -> Side:
    """The positive side of a neuron, on the inputs for which one draw has the largest variances."""
    population = neurons(workload, 1, _EDGES, spread=spread)
    positive = population.weights[0] > 0.0
    values = sensitivities(population.weights, population.activations)[0, positive]
    found = population.shares()[:, 0, positive]
    used = values > 0.0
    values, found = values[used], found[:, used]
    order = np.argsort((found**2 / values).sum(axis=1))
    edges = population.activations[:50, 0, :][:, positive][:, used].T
    shown = Workload(f"{workload.name}, one side", workload.kind, WeightedSet(edges))
    return Side(shown, values, FiniteWorst(found[order[-_QUERIES:]]))


def _one_input(side: Side) -> Side:
    """The same side when its sample is a single input: sensitivities are shares, and their sum is 1."""
    share = side.worst.shares[-1]
    used = share > 0.0
    shown = Workload(f"{side.workload.name}, one input", side.workload.kind, side.workload.data)
    return Side(shown, share[used], FiniteWorst(share[None, used]))


_DRAWS = 20  # that are averaged


@dataclass(frozen=True)
class MeanOf:
    """Error of the mean answer of some draws, which shows biases that one draw's error hides."""

    sampler: Draws
    side: Side
    size: int

    def __call__(self, rng: np.random.Generator) -> float:
        worst = self.side.worst
        draws = [self.sampler.draw(self.side.values, self.size, child) for child in rng.spawn(_DRAWS)]
        ratios = [worst.ratios(draw.indices, draw.kept_weights) for draw in draws]
        return float(np.max(np.abs(np.mean(ratios, axis=0) - 1.0)))


def _averaged(
    side: Side, name: str, sampler: Sampler, size: int, epsilon: float, broken: Sequence[tuple[str, Draws]]
) -> Scenario:
    """The mean of draws against the epsilon for it."""
    return Scenario(
        workload=Workload(f"{side.workload.name}, {name}", side.workload.kind, side.workload.data),
        size=size,
        claimed=Accuracy(epsilon, DELTA),
        trial=MeanOf(sampler, side, size),
        faults=tuple(Fault(fault, MeanOf(draws, side, size)) for fault, draws in broken),
        note=f"mean of {_DRAWS} draws",
    )


def _weighing(sampler: Sampler) -> tuple[tuple[str, Draws], ...]:
    return ((faults.UNDIVIDED[0], faults.Undivided(sampler)), (faults.UNIFORM[0], faults.Uniform(sampler)))


def _with_replacement(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 6):
        side = _side(workload)
        claim = Claim(EdgeSampling(), side.parameters)
        size = first_size_below(claim, _TARGET, side.values.size)
        broken = _weighing(IID())
        yield drawn_scenario(side.workload, claim, IID(), side.values, side.worst, broken, size=size)
    for workload in usable(workloads, 1):
        side = _side(workload)
        claim = Claim(EdgeSampling(), side.parameters)
        size = first_size_below(claim, _TARGET, side.values.size)
        yield mean_scenario(side.workload, claim, IID(), side.values, side.worst, size=size)
    yield _extreme(ExtremeLaw(_exact_epsilon), {_OPTIMISTIC: ExtremeLaw(_optimistic)})


def _exact_epsilon(bound: float, draws: int, delta: float) -> float:
    return EdgeSampling().epsilon(SideClass(bound), draws, delta)


def _optimistic(bound: float, draws: int, delta: float) -> float:
    """The released code's error: half of a + sqrt(a^2 + 6 a) instead of half of a + sqrt(a^2 + 12 a)."""
    a = 2.0 * bound * math.log(2.0 / delta) / (3.0 * draws)
    return (a + math.sqrt(a * a + 6.0 * a)) / 2.0


@dataclass(frozen=True)
class ExtremeLaw:
    """Exact probability of failure, over delta, where a scaled term is either 0 or b.

    A neuron with b equal groups of edges and b inputs, each of which activates one group, has this law.
    """

    epsilon: Callable[[float, int, float], float]

    def __call__(self, rng: np.random.Generator) -> float:
        worst = 0.0
        for bound in (2.0, 5.0, 30.0):
            for delta in (1e-2, 1e-3, 1e-5):
                for draws in (200, 1000, 5000):
                    reach = self.epsilon(bound, draws, delta) * (1.0 + 1e-12)
                    law, mean = binom(draws, 1.0 / bound), draws / bound
                    above = law.sf(math.floor(mean * (1.0 + reach)))
                    below = law.cdf(math.ceil(mean * (1.0 - reach)) - 1)
                    worst = max(worst, float(above + below) / delta)
        return worst


def _extreme(honest: ExtremeLaw, broken: Mapping[tuple[str, str], Trial]) -> Scenario:
    groups = np.kron(np.eye(5), np.ones((20, 1)))
    shown = Workload("groups of edges", "adversarial", WeightedSet(groups))
    note = "exact probability of failure over delta"
    return exact_scenario(shown, "one for each input", honest, broken, note=note)


@dataclass(frozen=True)
class Overclaimed:
    """A trial whose claim is smaller than the one that it is compared with."""

    trial: Trial
    ratio: float

    def __call__(self, rng: np.random.Generator) -> float:
        return self.trial(rng) * self.ratio


def _inclusion(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        side = _side(workload)
        claim = Claim(EdgeInclusion(), side.parameters)
        size = first_size_below(claim, _TARGET, side.values.size)
        for name, sampler in (("Poisson", Poisson()), ("fixed size", FixedSize())):
            shown = Workload(f"{side.workload.name}, {name}", workload.kind, side.workload.data)
            broken: tuple[tuple[str, Draws], ...] = _weighing(sampler)
            if name == "fixed size":
                broken = (*broken, (faults.SUCCESSIVE[0], faults.Successive()))
            yield drawn_scenario(shown, claim, sampler, side.values, side.worst, broken, size=size)
        yield _against_entropy(_one_input(_side(workload, _EVEN)))
    for workload in usable(workloads, 1):
        # That weights are left as they are shows where no edge has most of the sum.
        side = _side(workload, _EVEN)
        size = first_size_below(Claim(EdgeInclusion(), side.parameters), _TARGET, side.values.size)
        epsilon = EdgeInclusion().mean_epsilon(side.parameters, size, DELTA, _DRAWS)
        for name, sampler in (("mean of Poisson", Poisson()), ("mean of fixed size", FixedSize())):
            yield _averaged(side, name, sampler, size, epsilon, _weighing(sampler)[:1])


def _against_entropy(side: Side) -> Scenario:
    """Poisson sampling with b = 1, where relative entropy, right for draws, leaves no error at all."""
    claim = Claim(EdgeInclusion(), side.parameters)
    size = largest_useful_size(side.values.size)
    scenario = drawn_scenario(side.workload, claim, Poisson(), side.values, side.worst, (), size=size)
    # b = 1 but for rounding, and 1 + 1e-9 is allowed.
    entropy = BernoulliKL(1.0, max(1.0, side.parameters.bound) + 1e-9).epsilon(size, DELTA)
    ratio = scenario.claimed.epsilon / max(float(entropy), 1e-6)
    return replace(scenario, faults=(Fault(_ENTROPY[0], Overclaimed(scenario.trial, ratio)),))


# Q3: sure edges.


@dataclass(frozen=True)
class Unsure:
    """Draws from all edges alike, with the claim for draws from the rest."""

    def draw(self, values: Floats, size: int, rng: np.random.Generator) -> faults.PlainDraw:
        """Draw with replacement, as often as the hybrid draws from the rest."""
        honest = Hybrid().draw(values, size, rng)
        rest = size - int(np.count_nonzero(honest.probabilities == 1.0))
        draw = IID().draw(values, max(1, rest), rng)
        return faults.PlainDraw(draw.indices, draw.kept_weights)


def _sure(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    samplers: dict[str, Sampler] = {"hybrid": Hybrid(), "Poisson": Poisson(), "fixed size": FixedSize()}
    for workload in usable(workloads, 4):
        side = _side(workload, _HEAVIEST)
        size = side.values.size // 4
        for name, sampler in samplers.items():
            epsilon = _sure_epsilon(side, size, sampler)
            trial = DrawTrial(sampler, side.values, size, side.worst)
            broken: tuple[tuple[str, Draws], ...] = ((_UNSURE[0], Unsure()),) if name == "hybrid" else ()
            yield Scenario(
                workload=Workload(f"{side.workload.name}, {name}", workload.kind, side.workload.data),
                size=size,
                claimed=Accuracy(epsilon, DELTA),
                trial=trial,
                faults=tuple(Fault(fault, replace(trial, sampler=draws)) for fault, draws in broken),
                vacuous="" if epsilon < 1.0 else f"epsilon = {epsilon:.2f}",
            )
    for workload in usable(workloads, 1):
        side = _side(workload, _HEAVIEST)
        size = side.values.size // 4
        for name, sampler in samplers.items():
            biased = _weighing(sampler)[:1]
            if name == "hybrid":
                biased = (*biased, (faults.FULL_DRAW_WEIGHTS[0], faults.FullDrawWeights()))
            epsilon = _sure_epsilon(side, size, sampler, draws=_DRAWS)
            yield _averaged(side, f"mean of {name}", sampler, size, epsilon, biased)


def _sure_epsilon(side: Side, size: int, sampler: Sampler, draws: int = 1) -> float:
    """Error promised for the mean of draws, from what is left to chance: it is the same in every one."""
    draw = sampler.draw(side.values, size, np.random.default_rng(0))
    chance = np.asarray(draw.probabilities) < 1.0
    rest = float(side.values[chance].sum())
    # Exponential moments multiply: the mean of several draws is as good as one that is so much larger.
    kappa = draws * (size - int(np.count_nonzero(~chance))) / rest
    delta = DELTA / len(side.worst.shares)
    return float(SureInclusion().errors(np.array([rest]), np.array([kappa]), 1.0, delta)[0])


_OPTIMISTIC = (
    "optimistic inverse",
    "the error of the released code, half of a + sqrt(a^2 + 6 a) instead of a + sqrt(a^2 + 12 a)",
)
_ENTROPY = ("relative entropy", "the bound for draws with replacement is claimed for Poisson sampling")
_UNSURE = ("nothing sure", "draws come from all edges, and the error is that of draws from the rest")

_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM])
_INPUTS = "the four inputs at which a draw varies most, fixed beforehand"

DRAWN = (
    Check(
        EdgeSampling(),
        f"{_INPUTS}; the extreme law exactly",
        _WEIGHING | dict([SHRUNK, _OPTIMISTIC]),
        _with_replacement,
    ),
    Check(SureInclusion(), _INPUTS, dict([faults.UNDIVIDED, faults.FULL_DRAW_WEIGHTS, _UNSURE]), _sure),
    Check(EdgeInclusion(), _INPUTS, _WEIGHING | dict([faults.SUCCESSIVE, _ENTROPY]), _inclusion),
)
