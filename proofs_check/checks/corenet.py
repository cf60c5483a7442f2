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
import torch

from coresets.accuracy import Accuracy
from nn.guarantees.corenet import (
    AmplifiedSide,
    ConditionEstimate,
    CoreNetConstants,
    CoreNetSide,
    NetworkCompression,
)
from nn.guarantees.edges import SideClass
from nn.layers import find_layers
from nn.sensitivities import Sensitivities, collect_sensitivities
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, features, sensitivities
from proofs_check.checks._networks import EPS, exact_scenario, seed_of, usable
from proofs_check.checks._populations import (
    codes,
    off,
    over,
    rarity,
    sides,
    signed_weights,
    statistical,
    tame,
    unit_points,
)
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_SLACK = 1e3 * EPS  # of sums of at most some thousand positive terms, relative to them
_MOST_DRAWS = 2.0**62


def drawn(own: Floats, values: Floats, draws: Floats, rng: np.random.Generator) -> Floats:
    """Factors of draws with replacement from every side, by the law of their counts."""
    totals = values.sum(axis=1, keepdims=True)
    probabilities = np.divide(values, totals, out=np.zeros(values.shape), where=totals > 0.0)
    probabilities[totals[:, 0] == 0.0, 0] = 1.0
    counts = rng.multinomial(np.minimum(draws, _MOST_DRAWS).astype(np.int64), probabilities)
    expected = draws[:, None] * probabilities
    return np.divide(counts, expected, out=np.zeros(own.shape), where=expected * own > 0.0)


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
    for workload in usable(workloads, 3):
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


def conditions(population: Neurons) -> Floats:
    """Condition numbers by the definition, of shape (inputs, neurons)."""
    weights, inputs = population.weights, population.activations[:, 0]
    total, signed = inputs @ np.abs(weights).T, np.abs(inputs @ weights.T)
    with np.errstate(divide="ignore"):
        return np.divide(total, signed, out=np.ones_like(total), where=total > 0.0)


def found_on(population: Neurons, inputs: Floats) -> Sensitivities:
    """What the library measures on inputs of shape (inputs, patches, edges)."""
    neurons, edges = population.weights.shape
    layer = torch.nn.Linear(edges, neurons, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(population.weights))
    (found,) = collect_sensitivities(
        layer, find_layers(layer), [torch.from_numpy(inputs)], conditions=True
    ).values()
    return found


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
    for workload in usable(workloads, 4):
        activations = features(workload, edges, inputs=1000)
        honest = FreshCondition(
            leaning(workload, neurons, activations, constants.factor / 2.0), constants
        )
        crossing = np.random.default_rng(seed_of(workload)).standard_normal((neurons, edges))
        broken = {
            _NO_KAPPA: replace(honest, estimate=_mean),
            _CROSSING: replace(honest, population=Neurons(crossing, activations)),
        }
        yield statistical(workload, f"{neurons} neurons", constants.examples, honest, broken)


# C3: the whole network.


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers with rectifiers between them and without biases.

    Parameters
    ----------
    weights : tuple of arrays of shape (outputs, inputs)
        First layer first.
    """

    weights: tuple[Floats, ...]

    def forward(self, x: Floats, factors: Sequence[tuple[Floats, Floats]] | None = None) -> list[Floats]:
        """Sums of all layers for one input, their sides multiplied with factors."""
        sums = []
        for layer, weights in enumerate(self.weights):
            up, down = np.maximum(weights, 0.0) @ x, np.maximum(-weights, 0.0) @ x
            if factors is not None:
                up, down = up * factors[layer][0], down * factors[layer][1]
            sums.append(up - down)
            x = np.maximum(sums[-1], 0.0)
        return sums

    def conditions(self, x: Floats) -> list[float]:
        """Largest condition number of every layer for one input."""
        found = []
        for weights in self.weights:
            found.append(float((np.abs(weights) @ x / np.abs(weights @ x)).max()))
            x = np.maximum(weights @ x, 0.0)
        return found

    def worst(self, x: Floats, errors: Sequence[float]) -> float:
        """Largest relative error of an output when sides are off by so much, in the worst directions."""
        exact = self.forward(x)
        largest = 0.0
        for output in range(len(exact[-1])):
            for push in (1.0, -1.0):
                directions = self._directions(exact, output, push)
                factors = [(1.0 + e * d, 1.0 - e * d) for e, d in zip(errors, directions, strict=True)]
                off_by = self.forward(x, factors)[-1][output] - exact[-1][output]
                largest = max(largest, abs(float(off_by / exact[-1][output])))
        return largest

    def _directions(self, sums: list[Floats], output: int, push: float) -> list[Floats]:
        """Sign of the derivative of an output by every sum, up to ``push``."""
        slope = np.zeros(len(sums[-1]))
        slope[output] = push
        found = [np.sign(slope)]
        for weights, below in zip(self.weights[:0:-1], sums[-2::-1], strict=True):
            slope = (weights.T @ slope) * (below > 0.0)
            found.append(np.sign(slope))
        return found[::-1]


Division = Callable[[CoreNetConstants, Sequence[float]], list[float]]


def _divided(constants: CoreNetConstants, found: Sequence[float]) -> list[float]:
    # Means are such that the estimates are exactly the condition numbers: the worst that C2's event allows.
    return constants.layer_errors([one - constants.kappa for one in found])


def _no_conditions(constants: CoreNetConstants, found: Sequence[float]) -> list[float]:
    return [constants.accuracy.epsilon / (2.0 * constants.layers)] * constants.layers


def _own_condition(constants: CoreNetConstants, found: Sequence[float]) -> list[float]:
    return [constants.accuracy.epsilon / (2.0 * constants.layers) / one for one in found]


def _not_divided(constants: CoreNetConstants, found: Sequence[float]) -> list[float]:
    return [constants.layers * error for error in _divided(constants, found)]


@dataclass(frozen=True, eq=False)
class WorstOutput:
    """Largest error of an output over inputs and directions, over what the proof of C3 arrives at."""

    chain: Chain
    inputs: Floats
    constants: CoreNetConstants
    division: Division = _divided

    def __call__(self, rng: np.random.Generator) -> float:
        certified = NetworkCompression().output_error(self.constants)
        worst = 0.0
        for x in self.inputs:
            found = self.chain.conditions(x)
            if np.isfinite(found).all():
                worst = max(worst, self.chain.worst(x, self.division(self.constants, found)) / certified)
        return worst - _SLACK


def _alike(workload: Workload, widths: Sequence[int]) -> Chain:
    """Neurons of a layer nearly alike, so that none is better conditioned than the worst one."""
    rng = np.random.default_rng(seed_of(workload))
    layers = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        row = rng.permutation(np.where(np.arange(inputs) < 0.7 * inputs, 1.0, -1.0))
        layers.append(row * (1.0 + 1e-3 * rng.standard_normal((outputs, inputs))))
    return Chain(tuple(layers))


@dataclass(frozen=True, eq=False)
class Compressed:
    """Largest relative error of an output at a fresh input over epsilon, for one run of CoreNet.

    Parameters
    ----------
    chain : Chain
        The network.
    inputs : array of shape (inputs, edges)
        The population.
    constants : CoreNetConstants
        Those used.
    """

    chain: Chain
    inputs: Floats
    constants: CoreNetConstants

    def __call__(self, rng: np.random.Generator) -> float:
        sample = self.inputs[rng.integers(len(self.inputs), size=self.constants.examples)]
        layers, seen = [], sample
        for weights in self.chain.weights:
            layers.append(Neurons(weights, seen[:, None]))
            seen = np.maximum(seen @ weights.T, 0.0)
        found = [found_on(layer, layer.activations) for layer in layers]
        means = [float(one.mean_condition.max()) for one in found if one.mean_condition is not None]
        errors = self.constants.layer_errors(means)
        fresh = self.inputs[rng.integers(len(self.inputs))]
        exact, x = self.chain.forward(fresh)[-1], fresh
        for position, (layer, one, error) in enumerate(zip(layers, found, errors, strict=True)):
            own = sides(layer.weights)
            values = np.tile(one.values[0].numpy(), (2, 1)) * (own > 0.0)
            draws = np.array([CoreNetSide().draws(float(t), self.constants, error) for t in values.sum(axis=1)])
            sums = (own * drawn(own, values, draws, rng)) @ x
            up, down = np.split(sums, 2)
            x = up - down if position == len(layers) - 1 else np.maximum(up - down, 0.0)
        return over(np.abs(x - exact), self.constants.accuracy.epsilon * np.abs(exact), 0.0)


def loud(workload: Workload, edges: int, share: float) -> Floats:
    """Activations 1 for the points that a feature responds to most, 0 for others, and a constant.

    Every feature is as rare as Q1 allows, so that samples must be as large as it says.

    Returns
    -------
    array of shape (inputs, edges)
    """
    points = unit_points(workload, 400)
    rng = np.random.default_rng(seed_of(workload))
    responses = points @ rng.standard_normal((points.shape[1], edges - 1))
    ranks = np.argsort(np.argsort(-responses, axis=0), axis=0)
    active = (ranks < np.ceil(share * len(points))).astype(np.float64)
    # The constant keeps sums alike, and so the shares of an edge wherever it is active.
    return np.column_stack([active, np.full(len(active), 30.0)])


def _assumed(chain: Chain, inputs: Floats, constants: CoreNetConstants) -> bool:
    """Whether both assumptions of C3 hold for equally likely inputs."""
    for weights in chain.weights:
        layer = Neurons(weights, inputs[:, None])
        if rarity(layer, constants.factor)[0] > constants.factor:
            return False
        if not tame(conditions(layer), constants.factor / 2.0):
            return False
        inputs = np.maximum(inputs @ weights.T, 0.0)
    return True


def _networks(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        widths = [20, 10, 10, 10]
        inputs = unit_points(workload, 30)
        rng = np.random.default_rng(seed_of(workload))
        inputs = 1.0 + 0.1 * inputs @ rng.standard_normal((inputs.shape[1], widths[0]))
        constants = CoreNetConstants(3, 30, 20, Accuracy(0.1, DELTA))
        honest = WorstOutput(_alike(workload, widths), inputs, constants)
        broken = {
            _NO_CONDITIONS: replace(honest, division=_no_conditions),
            _OWN: replace(honest, division=_own_condition),
            _NOT_DIVIDED: replace(honest, division=_not_divided),
        }
        yield exact_scenario(workload, "worst directions", honest, broken)
    for workload in usable(workloads, 2):
        widths = [512, 4, 2]
        constants = CoreNetConstants(2, 6, 512, Accuracy(0.005, DELTA))
        share = 1.05 * -np.expm1(-1.0 / constants.factor)
        activations = loud(workload, widths[0], share)
        rng = np.random.default_rng(seed_of(workload))
        chain = Chain((rng.uniform(0.5, 1.5, (4, 512)), 2.0 + rng.standard_normal((2, 4))))
        if not _assumed(chain, activations, constants):
            continue
        run = Compressed(chain, activations, constants)
        narrow = CoreNetConstants(2, 6, 4, constants.accuracy)
        yield statistical(
            workload,
            "rare inputs, more draws than edges",
            constants.examples,
            run,
            {_NARROW: replace(run, constants=narrow)},
        )


# Amplification.

Choice = Callable[[Floats, Floats, npt.NDArray[np.bool_]], npt.NDArray[np.intp]]


def _best(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Run with the smallest mean error over the inputs judged on."""
    found: npt.NDArray[np.intp] = (judged @ errors).argmin(axis=0)
    return found


def _last(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    return np.full(errors.shape[2], len(errors) - 1)


def _worst(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    found: npt.NDArray[np.intp] = (judged @ errors).argmax(axis=0)
    return found


def _one_group(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    return _best(errors, judged * group, group)


@dataclass(frozen=True, eq=False)
class Amplified:
    """Largest mean error of a chosen sparsification over its bound.

    Parameters
    ----------
    own, values : array of shape (sides, edges)
        Weights, and sensitivities with C = 1.
    inputs : array of shape (inputs, edges)
        The population.
    group : array of bool of shape (inputs,)
        Some of them.
    draws : int
        Draws that the bound counts.
    made : int
        Draws that are made.
    choice : callable
        Which run is chosen, given the errors of shape (runs, inputs, sides).
    """

    own: Floats
    values: Floats
    inputs: Floats
    group: npt.NDArray[np.bool_]
    draws: int
    made: int
    choice: Choice = _best
    even: bool = False

    def __call__(self, rng: np.random.Generator) -> float:
        delta = DELTA / len(self.own)
        runs = AmplifiedSide().candidates(delta)
        values = (self.values > 0.0).astype(np.float64) if self.even else self.values
        made = np.full(len(self.own), float(self.made))
        errors = np.stack(
            [
                np.minimum(off(self.own, drawn(self.own, values, made, rng), self.inputs), 1.0)
                for _ in range(runs)
            ]
        )
        equal = np.full(len(self.inputs), 1.0 / len(self.inputs))
        judged = rng.multinomial(_JUDGES, equal) / _JUDGES
        chosen = self.choice(errors, judged, self.group)
        means = errors.mean(axis=1)[chosen, np.arange(len(self.own))]
        certified = [
            AmplifiedSide().mean_error(SideClass(float(t)), self.draws, _JUDGES, delta)
            for t in self.values.sum(axis=1)
        ]
        return over(means, np.array(certified), _SLACK)


_JUDGES = 100_000  # fresh inputs that runs are judged on


def _grouped(workload: Workload, edges: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Inputs of which two thirds use the same edges, most others the same others, and the rest all edges.

    Errors are then the same for most inputs, so that a run is good or bad as a whole.
    """
    own = codes(workload, edges, 0.25, patches=1, inputs=100)[:, 0]
    ranks = np.argsort(np.argsort(unit_points(workload, len(own))[: len(own), 1]))
    quarter = edges // 4
    first, second = ranks < 0.68 * len(own), ranks >= 0.69 * len(own)
    own[first], own[second] = np.arange(edges) < quarter, np.arange(edges) >= 3 * quarter
    return own, second


def _amplified(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 1):
        weights = np.abs(signed_weights(workload, 16, 120, 0.05))
        inputs, group = _grouped(workload, 120)
        honest = _run(weights, inputs, group, 100)
        broken = {
            _LAST: replace(honest, choice=_last),
            _WORST: replace(honest, choice=_worst),
            _ONE_GROUP: replace(honest, choice=_one_group),
        }
        yield statistical(workload, "two kinds of inputs", honest.draws, honest, broken)
        weights = np.abs(signed_weights(workload, 8, 160, 1.5))
        inputs = codes(workload, 160, 0.25, patches=1, inputs=60)[:, 0]
        honest = _run(weights, inputs, np.ones(len(inputs), dtype=bool), 250)
        runs = AmplifiedSide().candidates(DELTA / len(weights))
        broken = {
            _SHARED: replace(honest, made=max(1, honest.draws // runs)),
            _UNIFORM: replace(honest, even=True),
        }
        yield statistical(workload, "many kinds of inputs", honest.draws, honest, broken)


def _run(own: Floats, inputs: Floats, group: npt.NDArray[np.bool_], draws: int) -> Amplified:
    values = sensitivities(own, inputs[:, None])
    return Amplified(own, values, inputs, group, draws, draws)


_FACTOR = ("factor of three dropped", "inputs are taken for exact: shares at most K times the sensitivities")
_HALF_FACTOR = ("three halves", "only the edge's own input is counted as perturbed, not the sum")
_NO_K = ("K = 1", "the size without K: what the sample shows is taken for the largest share")
_UNIFORM = ("uniform draws", "every edge has the same probability, whatever its sensitivity")
_NO_KAPPA = ("no kappa", "the mean over the sample is taken for a bound at a fresh input")
_CROSSING = ("sums that cross zero", "neurons whose sums change sign, which the assumption excludes")
_NO_CONDITIONS = ("no condition numbers", "every layer is given the error eps / (2 (L - 1))")
_OWN = ("own condition number", "the error of a layer is divided by its own condition number only")
_NOT_DIVIDED = ("not divided", "every layer is given all of the error that the layers have together")
_NARROW = ("width of the input left out", "eta* is the largest number of outputs, as in a public port")
_LAST = ("last run", "the last sparsification is taken instead of the best one")
_WORST = ("worst run", "the largest mean error is chosen")
_ONE_GROUP = ("judged on one class", "all inputs that runs are judged on are of one kind, as in sorted files")
_SHARED = ("draws shared", "the draws are divided among the runs")

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
        dict([_NO_CONDITIONS, _OWN, _NOT_DIVIDED, _NARROW]),
        _networks,
    ),
    Check(
        AmplifiedSide(),
        "inputs with the same errors, for which a run is good or bad as a whole",
        dict([_LAST, _WORST, _ONE_GROUP, _SHARED, _UNIFORM]),
        _amplified,
    ),
)
