"""Draws from the sides of a layer, honest and broken, and their errors over what P3 and P4 certify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets.samplers import IID, Sampler
from nn.guarantees.edges import SampledLayer
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons, sensitivities
from proofs_check.checks._networks import EPS
from proofs_check.checks._populations import codes, drawn, off, over, sides, signed_weights
from proofs_check.workloads import Workload

__all__ = [
    "Counted",
    "Drawing",
    "Honest",
    "OldWeights",
    "SideErrors",
    "Truncating",
    "UniformDraws",
    "kept",
    "on_codes",
    "one_edge_a_patch",
    "optimistic",
    "partly_heavy",
]

Floats = npt.NDArray[np.float64]

_SLACK = 1e3 * EPS  # of sums of at most some thousand positive terms, relative to them


@dataclass(frozen=True, eq=False)
class Drawing:
    """Sides of a layer to be drawn from, and the vectors on which all of them are to be right.

    Parameters
    ----------
    own : array of shape (sides, edges)
        Weights.
    values : array of shape (sides, edges)
        Sensitivities, valid with K = 1: their sample is the population.
    inputs : array of shape (patches, edges)
        The patches of one input.
    size : int
        Draws from every side.
    neurons : int
        Of the layer; sides that no input reaches are left out, though they count as statements.
    """

    own: Floats
    values: Floats
    inputs: Floats
    size: int
    neurons: int

    @classmethod
    def of(cls, population: Neurons, patches: Floats, size: int) -> Drawing:
        """All sides of a layer, their sample being the population."""
        own = sides(population.weights)
        values = np.tile(sensitivities(population.weights, population.activations), (2, 1)) * (own > 0.0)
        reached = values.any(axis=1)
        return cls(own[reached], values[reached], patches, size, len(population.weights))

    def chances(self, sampler: Sampler) -> tuple[Floats, Floats]:
        """Sensitivity that is left to chance, and kappa, of every side."""
        if isinstance(sampler, IID):
            rest = self.values.sum(axis=1)
            return rest, self.size / rest
        drawn = sampler.draw(self.values, self.size, np.random.default_rng(0))
        chance = (drawn.probabilities < 1.0) & (self.values > 0.0)
        ratios = np.divide(drawn.probabilities, self.values, out=np.full(chance.shape, np.inf), where=chance)
        return np.where(chance, self.values, 0.0).sum(axis=1), ratios.min(axis=1)

    def bounds(self, sampler: Sampler, statements: int) -> Floats:
        """Errors of P3 at a delta shared by so many statements."""
        rest, kappa = self.chances(sampler)
        return SampledLayer().errors(rest, kappa, 1.0, DELTA / statements)

    @property
    def statements(self) -> int:
        """N."""
        return SampledLayer().statements(self.neurons, len(self.inputs), 1)


Draws = Callable[[Drawing, np.random.Generator], Floats]


@dataclass(frozen=True)
class Honest:
    """Factors of a sampler of the library."""

    sampler: Sampler

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        weights: Floats = self.sampler.draw(drawing.values, drawing.size, rng).weights
        return weights


@dataclass(frozen=True)
class UniformDraws:
    """Every edge of a side as often as every other."""

    sampler: Sampler

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        even = (drawing.values > 0.0).astype(np.float64)
        weights: Floats = self.sampler.draw(even, drawing.size, rng).weights
        return weights


@dataclass(frozen=True)
class OldWeights:
    """Kept edges keep their own weights."""

    sampler: Sampler

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        return (Honest(self.sampler)(drawing, rng) > 0.0).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Truncating:
    """The most sensitive edges, ``top``, where ``where`` says so, else draws."""

    where: npt.NDArray[np.bool_]
    top: Floats
    draws: Draws

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        return np.where(self.where[:, None], self.top, self.draws(drawing, rng))


@dataclass(frozen=True)
class Counted:
    """Draws with replacement by the law of their counts, for more draws than are made one by one."""

    def __call__(self, drawing: Drawing, rng: np.random.Generator) -> Floats:
        return drawn(drawing.own, drawing.values, np.full(len(drawing.own), float(drawing.size)), rng)


def kept(drawing: Drawing) -> Floats:
    """Factors that keep the most sensitive edges of every side."""
    order = np.argsort(-drawing.values, axis=1, kind="stable")[:, : drawing.size]
    factors = np.zeros(drawing.values.shape)
    np.put_along_axis(factors, order, 1.0, axis=1)
    return factors


@dataclass(frozen=True)
class SideErrors:
    """Largest error of a side on a patch, over the bound for the side."""

    drawing: Drawing
    draws: Draws
    bounds: Floats

    def __call__(self, rng: np.random.Generator) -> float:
        seen = off(self.drawing.own, self.draws(self.drawing, rng), self.drawing.inputs)
        return over(seen, self.bounds, _SLACK)


def on_codes(workload: Workload, weights: Floats, size: int) -> Drawing:
    """Neurons on codes; the patches of one of four inputs are those to be right on."""
    activations = codes(workload, weights.shape[1], 0.25, patches=16, inputs=4)
    return Drawing.of(Neurons(weights, activations), activations[0], size)


# The inverse of the released code: (a + sqrt(a^2 + 6 a)) / 2 with a = 2 b log / (3 m). The exact one is
# (a + sqrt(a^2 + 12 a)) / 2.
def optimistic(drawing: Drawing, sampler: Sampler) -> Floats:
    """Errors by the inverse of the released code."""
    _, kappa = drawing.chances(sampler)
    a = 2.0 * np.log(2.0 * drawing.statements / DELTA) / (3.0 * kappa)
    found: Floats = (a + np.sqrt(a * a + 6.0 * a)) / 2.0
    return found


def one_edge_a_patch(workload: Workload) -> Drawing:
    """Every patch has a single activation, so that scaled terms are 0 or b: the variance is all there is.

    More draws than edges, which saves nothing, but makes the law of a side nearly normal.
    """
    edges, neurons = 64, 256
    patches = np.unique(codes(workload, edges, 1.0 / edges, patches=1, inputs=600).reshape(-1, edges), axis=0)
    population = Neurons(signed_weights(workload, neurons, edges, 0.5), patches[None])
    return Drawing.of(population, patches, 400 * edges)


def partly_heavy(workload: Workload, size: int) -> Drawing:
    """Neurons of which every second one has a few large weights that say almost all."""
    weights = signed_weights(workload, 16, 2400, 0.05)
    powers = np.random.default_rng(0).uniform(0.0, 12.0, size=(8, 2400))
    weights[::2] *= 10.0**-powers
    return on_codes(workload, weights, size)
