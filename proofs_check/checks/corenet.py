"""Attacks on what CoreNet promises: C1 to C3, and amplification.

Two things make these statements hard to test: their constants are so large that little could ever go wrong,
and they rest on assumptions about the distribution of inputs. So the populations are finite, where the
assumptions are counted, and samples are set to the worst that the events of the proofs allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from nn.guarantees.corenet import (
    AmplifiedSide,
    ConditionEstimate,
    CoreNetConstants,
    CoreNetSide,
    NetworkCompression,
)
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks import _corenet_amplified, _corenet_network
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, features, sensitivities
from proofs_check.checks._networks import EPS, exact_scenario, seed_of, usable
from proofs_check.checks._populations import (
    codes,
    conditions,
    drawn,
    found_on,
    off,
    over,
    sides,
    signed_weights,
    statistical,
    tame,
)
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_SLACK = 1e3 * EPS  # of sums of at most some thousand positive terms, relative to them
# C1: draws for inputs that are themselves approximate.


@dataclass(frozen=True, eq=False)
class PerturbedShares:
    """Largest share of an edge on perturbed inputs over what C1 says of it.

    The worst perturbation for an edge is 3/2 for its input and 1/2 for all others.
    """

    population: Neurons
    constants: CoreNetConstants
    factor: float = 1.0

    def __call__(self, rng: np.random.Generator) -> float:
        exact = self.population.shares()
        worst = 1.5 * exact / (0.5 + exact)
        # The worst sample that the event of Q1 allows shows 1/K of every largest share.
        shown = exact.max(axis=0) / self.constants.factor
        side = CoreNetSide().side(1.0, self.constants)
        return over(worst, self.factor * side.factor * shown, _SLACK)


@dataclass(frozen=True, eq=False)
class PerturbedSums:
    """Largest error of a side on perturbed inputs over epsilon.

    Parameters
    ----------
    population : Neurons
        All inputs.
    values : array of shape (sides, edges)
        Sensitivities that the event of Q1 just allows.
    draws : array of shape (sides,)
        How many from every side.
    epsilon : float
        The error claimed.
    even : bool
        Whether edges are drawn evenly, whatever their sensitivities.
    """

    population: Neurons
    values: Floats
    draws: Floats
    epsilon: float
    even: bool = False

    def __call__(self, rng: np.random.Generator) -> float:
        own = sides(self.population.weights)
        values = (self.values > 0.0).astype(np.float64) if self.even else self.values
        factors = drawn(own, values, self.draws, rng)
        inputs = self.population.activations
        x = inputs[rng.integers(len(inputs)), 0]
        # A quarter of the sum at 3/2 and the rest at 1/2 has the largest variance, 4/3 of the exact input's.
        perturbed = x * np.where(rng.random(x.size) < 0.25, 1.5, 0.5)
        return over(off(own, factors, perturbed[None]), np.array(self.epsilon), _SLACK)


def _approximate_inputs(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        activations = codes(workload, 2400, 0.25, patches=1, inputs=64)
        constants = CoreNetConstants(1, 48, 2400, Accuracy(0.5, 2.0 * DELTA))
        even = Neurons(signed_weights(workload, 48, 2400, 0.05), activations)
        shares = PerturbedShares(replace(even, weights=even.weights[:4]), constants)
        without = {_FACTOR: replace(shares, factor=1.0 / 3.0), _HALF_FACTOR: replace(shares, factor=0.5)}
        yield exact_scenario(workload, "largest shares", shares, without)
        for name, tail in (("even weights", 0.05), ("uneven weights", 2.0)):
            population = replace(even, weights=signed_weights(workload, 48, 2400, tail))
            values = np.tile(sensitivities(population.weights, activations) / constants.factor, (2, 1))
            values *= sides(population.weights) > 0.0
            honest = PerturbedSums(population, values, _draws(values, constants), constants.accuracy.epsilon)
            broken = (
                {_UNIFORM: replace(honest, even=True)}
                if tail > 1.0
                else {_NO_K: replace(honest, draws=np.ceil(honest.draws / constants.factor))}
            )
            # Each of the 2 eta sides fails with probability at most delta / (4 eta).
            size = int(honest.draws.max())
            yield statistical(workload, f"draws, {name}", size, honest, broken)


def _draws(values: Floats, constants: CoreNetConstants) -> Floats:
    """What C1 asks for, a side."""
    epsilon = constants.accuracy.epsilon
    return np.array([CoreNetSide().draws(float(t), constants, epsilon) for t in values.sum(axis=1)])


# C2: condition numbers.


def leaning(workload: Workload, neurons: int, population: Floats, scale: float) -> Neurons:
    """Neurons whose weights lean to the positive just enough for the assumption on condition numbers."""
    weights = np.random.default_rng(seed_of(workload)).standard_normal((neurons, population.shape[2]))
    for lean in np.arange(0.0, 10.0, 0.1):
        found = Neurons(weights + lean, population)
        if tame(conditions(found), scale):
            return found
    raise ValueError("no lean makes the condition numbers sub-exponential; pass other activations")


Estimate = Callable[[Floats, CoreNetConstants], Floats]


def _mean_and_kappa(mean: Floats, constants: CoreNetConstants) -> Floats:
    return mean + constants.kappa


def _mean(mean: Floats, constants: CoreNetConstants) -> Floats:
    return mean


@dataclass(frozen=True, eq=False)
class FreshCondition:
    """Largest condition number of a neuron at a fresh input over its estimate from a sample."""

    population: Neurons
    constants: CoreNetConstants
    estimate: Estimate = _mean_and_kappa

    def __call__(self, rng: np.random.Generator) -> float:
        inputs = self.population.activations
        found = found_on(self.population, inputs[rng.integers(len(inputs), size=self.constants.examples)])
        assert found.mean_condition is not None
        mean = found.mean_condition[0].numpy()
        fresh = inputs[rng.integers(len(inputs), size=1)]
        seen = conditions(replace(self.population, activations=fresh))[0]
        return over(seen, self.estimate(mean, self.constants), _SLACK)


def _fresh_conditions(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    neurons, edges = 96, 16
    constants = CoreNetConstants(1, neurons, neurons, Accuracy(0.5, 0.9))
    for workload in usable(workloads, 3):
        activations = features(workload, edges, inputs=1000)
        honest = FreshCondition(leaning(workload, neurons, activations, constants.factor / 2.0), constants)
        crossing = np.random.default_rng(seed_of(workload)).standard_normal((neurons, edges))
        broken = {
            _NO_KAPPA: replace(honest, estimate=_mean),
            _CROSSING: replace(honest, population=Neurons(crossing, activations)),
        }
        yield statistical(workload, f"{neurons} neurons", constants.examples, honest, broken)


_FACTOR = ("factor of three dropped", "inputs are taken for exact: shares at most K times the sensitivities")
_HALF_FACTOR = ("three halves", "only the edge's own input is counted as perturbed, not the sum")
_NO_K = ("K = 1", "the size without K: what the sample shows is taken for the largest share")
_UNIFORM = ("uniform draws", "every edge has the same probability, whatever its sensitivity")
_NO_KAPPA = ("no kappa", "the mean over the sample is taken for a bound at a fresh input")
_CROSSING = ("sums that cross zero", "neurons whose sums change sign, which the assumption excludes")

CHECKS = (
    Check(
        CoreNetSide(),
        "the worst perturbations, and the worst sample that Q1 allows",
        dict([_FACTOR, _HALF_FACTOR, _NO_K, _UNIFORM]),
        _approximate_inputs,
    ),
    Check(
        ConditionEstimate(),
        "fresh inputs, weights that only just obey the assumption",
        dict([_NO_KAPPA, _CROSSING]),
        _fresh_conditions,
    ),
    Check(
        NetworkCompression(),
        "errors of all sides in the worst directions; inputs that are rare",
        _corenet_network.FAULTS,
        _corenet_network.networks,
    ),
    Check(
        AmplifiedSide(),
        "inputs with the same errors, for which a run is good or bad as a whole",
        _corenet_amplified.FAULTS,
        _corenet_amplified.amplified,
    ),
)
