"""Layers on bounded inputs, their worst input, and the ways to draw from them that are attacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nn.neurons.draws import ExactPoisson
from proofs_check.faults import PlainDraw
from proofs_check.workloads import Workload, leading, thinned

__all__ = [
    "GELU",
    "RELU",
    "SIGMOID",
    "BoundedLayer",
    "BoundedWorst",
    "Exactly",
    "Link",
    "from_points",
    "planted",
]

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Link:
    """An activation, its derivative, and its Lipschitz constant."""

    value: Function
    slope: Function
    lipschitz: float

    @property
    def at_zero(self) -> float:
        """phi(0)."""
        return float(self.value(np.zeros(1))[0])


def _gelu(z: Floats) -> Floats:
    return np.asarray(torch.nn.functional.gelu(torch.from_numpy(z)).numpy())


def _gelu_slope(z: Floats) -> Floats:
    normal = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    return np.asarray(torch.special.ndtr(torch.from_numpy(z)).numpy() + z * normal)


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


RELU = Link(lambda z: np.maximum(z, 0.0), lambda z: (z > 0.0).astype(np.float64), 1.0)
GELU = Link(_gelu, _gelu_slope, 1.13)
SIGMOID = Link(_sigmoid, lambda z: _sigmoid(z) * (1.0 - _sigmoid(z)), 0.25)


@dataclass(frozen=True, eq=False)
class BoundedLayer:
    """Neurons (n, d) with biases (n,) and outgoing weights (n, K), on the ball of a radius."""

    points: Floats
    bias: Floats
    outgoing: Floats
    link: Link
    radius: float = 1.0

    @property
    def masses(self) -> Floats:
        """max_k |w_k|."""
        return np.asarray(np.abs(self.outgoing).max(axis=1))

    @property
    def shares(self) -> Floats:
        """Q."""
        lengths = self.radius * np.linalg.norm(self.points, axis=1) + np.abs(self.bias)
        return np.asarray(self.masses * lengths)

    @property
    def without_bias(self) -> Floats:
        """Q with the bias left out of the length."""
        return np.asarray(self.masses * self.radius * np.linalg.norm(self.points, axis=1))

    @property
    def of_outgoing(self) -> Floats:
        """Q with outgoing weights in place of incoming ones."""
        return np.asarray(self.masses * np.linalg.norm(self.outgoing, axis=1))


@dataclass(frozen=True, eq=False)
class BoundedWorst:
    """Largest error over the ball, relative to L sum q, by projected ascent from the heaviest neurons.

    Parameters
    ----------
    layer : BoundedLayer
        The full layer.
    moved : bool
        Whether phi(0) of what is lost is moved into the bias.
    starts, steps : int
        Of the ascent.
    """

    layer: BoundedLayer
    moved: bool = True
    starts: int = 5
    steps: int = 10

    def __call__(self, indices: npt.NDArray[np.intp], factors: Floats) -> float:
        layer = self.layer
        excess = -np.ones(len(layer.points))
        np.add.at(excess, indices, factors)
        total = layer.link.lipschitz * float(layer.shares.sum())
        worst = 0.0
        for k in range(layer.outgoing.shape[1]):
            change = excess * layer.outgoing[:, k]
            constant = layer.link.at_zero * float(change.sum()) if self.moved else 0.0
            worst = max(worst, self._climbed(change, -constant))
        return worst / total

    def _climbed(self, change: Floats, constant: float) -> float:
        layer = self.layer
        heavy = np.argsort(-np.abs(change) * np.linalg.norm(layer.points, axis=1))[: self.starts]
        # Fixed directions: within a check only the sampler may be random.
        spread = np.random.default_rng(0).standard_normal((layer.points.shape[1], self.starts))
        sums = (layer.points.T @ change)[:, None]
        x = np.concatenate([layer.points[heavy].T, spread, sums], axis=1)
        x = self._onto_sphere(np.concatenate([x, -x, 1e-3 * x[:, :1]], axis=1))
        worst = 0.0
        for step in range(self.steps):
            images = layer.points @ x + layer.bias[:, None]
            values = change @ layer.link.value(images) + constant
            worst = max(worst, float(np.abs(values).max()))
            slopes = layer.points.T @ (change[:, None] * layer.link.slope(images)) * np.sign(values)
            slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 1e-300)
            x = self._into_ball(x + layer.radius * slopes / (1.0 + step) ** 0.5)
        return worst

    def _onto_sphere(self, x: Floats) -> Floats:
        return np.asarray(self.layer.radius * x / np.maximum(np.linalg.norm(x, axis=0), 1e-300))

    def _into_ball(self, x: Floats) -> Floats:
        lengths = np.linalg.norm(x, axis=0)
        return np.asarray(x * np.minimum(1.0, self.layer.radius / np.maximum(lengths, 1e-300)))


@dataclass(frozen=True)
class Exactly:
    """The library's draw of an exact number, as the checks see draws."""

    def draw(self, sensitivities: Floats, size: int, rng: np.random.Generator) -> PlainDraw:
        """Keep ``size`` units."""
        draw = ExactPoisson().draw(torch.from_numpy(sensitivities), size, rng)
        kept = np.flatnonzero(draw.keep.numpy())
        return PlainDraw(kept, draw.factors.numpy()[kept], np.ones(len(kept), dtype=np.int64))


def from_points(workload: Workload, link: Link, count: int, *, adding: bool = False) -> BoundedLayer:
    """A layer whose incoming weights and biases are the points of a workload."""
    points = np.asarray(thinned(leading(workload, 3), count).data.points, dtype=np.float64)
    scale = max(float(np.abs(points).max()), 1e-300)
    points = points / scale
    rng = np.random.default_rng(5)
    outgoing = rng.lognormal(size=(len(points), 1 if adding else 2))
    if not adding:
        outgoing *= rng.choice([-1.0, 1.0], outgoing.shape)
    return BoundedLayer(points[:, :-1], points[:, -1], outgoing, link)


def planted(name: str, link: Link, count: int) -> BoundedLayer:
    """A layer of parallel neurons with one thing in it that a fault overlooks."""
    rng = np.random.default_rng(6)
    points = np.column_stack([rng.uniform(0.5, 1.5, count), np.zeros(count)])
    bias, outgoing = np.zeros(count), np.ones((count, 1))
    if name == "one long":
        points[count // 3] = (0.0, 20.0 * count)
    elif name == "one biased":
        bias[count // 3] = 20.0 * count
    elif name == "half short":
        points[::2] *= 1e-4
    elif name == "signs":  # nothing is learnt from one neuron about another: the variance is all there is
        outgoing = rng.choice([-1.0, 1.0], (count, 4))
    return BoundedLayer(points, bias, outgoing, link)
