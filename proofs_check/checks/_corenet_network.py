"""Attacks on whole networks (C3): errors of all sides in the worst directions, and whole runs of CoreNet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from nn.edges.corenet import CoreNet
from nn.guarantees.corenet import CoreNetConstants, CoreNetSide, NetworkCompression
from proofs_check.check import Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons
from proofs_check.checks._networks import EPS, exact_scenario, first_points, network, seed_of, usable
from proofs_check.checks._populations import (
    conditions,
    drawn,
    found_on,
    over,
    rarity,
    sides,
    statistical,
    tame,
    unit_points,
)
from proofs_check.workloads import Workload

__all__ = ["FAULTS", "networks"]

Floats = npt.NDArray[np.float64]

_SLACK = 1e3 * EPS  # of sums of at most some thousand terms, relative to them


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
    for inputs, outputs in itertools.pairwise(widths):
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
            draws = np.array(
                [CoreNetSide().draws(float(t), self.constants, error) for t in values.sum(axis=1)]
            )
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


def _too_large(workload: Workload, trial: WorstOutput) -> Scenario:
    """What the theorem asks for of a small network, which is far more than there is."""
    points = first_points(workload)
    sizes = CoreNet().sizes(network([points.shape[1], 16, 12, 4], seed_of(workload)), [points])
    draws, edges = sum(size.draws for size in sizes.values()), sum(size.edges for size in sizes.values())
    scenario = statistical(workload, "four layers of neurons", edges, trial, {})
    return replace(scenario, vacuous=f"the theorem asks for {draws:.0e} draws from {edges} edges")


def networks(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
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
        yield _too_large(workload, honest)
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


_NO_CONDITIONS = ("no condition numbers", "every layer is given the error eps / (2 (L - 1))")
_OWN = ("own condition number", "the error of a layer is divided by its own condition number only")
_NOT_DIVIDED = ("not divided", "every layer is given all of the error that the layers have together")
_NARROW = ("width of the input left out", "eta* is the largest number of outputs, as in a public port")

FAULTS = dict([_NO_CONDITIONS, _OWN, _NOT_DIVIDED, _NARROW])
