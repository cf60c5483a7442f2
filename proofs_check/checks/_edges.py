"""Neurons with known shares: activations of random features of real points, and weights with heavy tails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nn.layers import find_layers
from nn.sensitivities import collect_sensitivities
from proofs_check.checks._networks import seed_of
from proofs_check.workloads import Workload, thinned

__all__ = ["Neurons", "features", "neurons", "over", "sensitivities", "shares"]

Floats = npt.NDArray[np.float64]


def over(observed: Floats, certified: Floats, slack: Floats | float = 0.0) -> float:
    """Largest observed value, less what rounding may add, over the certified one."""
    excess = np.maximum(observed - slack, 0.0)
    ratios = np.zeros(np.broadcast_shapes(excess.shape, np.shape(certified)))
    with np.errstate(divide="ignore"):
        np.divide(excess, certified, out=ratios, where=excess > 0.0)
    return float(np.max(ratios, initial=0.0))


def features(workload: Workload, edges: int, *, patches: int = 1, inputs: int = 200) -> Floats:
    """Rectified random features of a workload's points, of shape (inputs, patches, edges).

    Consecutive points are the patches of one input.
    """
    points = np.asarray(thinned(workload, inputs * patches).data.points, dtype=np.float64)
    count = points.shape[0] // patches
    rng = np.random.default_rng(seed_of(workload))
    directions = rng.standard_normal((points.shape[1], edges)) / np.sqrt(points.shape[1])
    found = np.maximum(points[: count * patches] @ directions + 0.3 * rng.standard_normal(edges), 0.0)
    return found.reshape(count, patches, edges)


def shares(weights: Floats, activations: Floats) -> Floats:
    """Share of every edge in its side, by the definition; 0 where the side's sum is 0.

    Parameters
    ----------
    weights : array of shape (neurons, edges)
        Of either sign.
    activations : array of shape (..., edges)
        Non-negative.

    Returns
    -------
    array of shape (..., neurons, edges)
    """
    found = np.zeros((*activations.shape[:-1], *weights.shape))
    for side in (np.maximum(weights, 0.0), np.maximum(-weights, 0.0)):
        terms = activations[..., None, :] * side
        total = terms.sum(axis=-1, keepdims=True)
        np.divide(terms, total, out=terms, where=total > 0.0)
        found += terms
    return found


def sensitivities(weights: Floats, activations: Floats) -> Floats:
    """What the library measures on (inputs, patches, edges); an array of shape (neurons, edges)."""
    layer = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
    found = collect_sensitivities(layer, find_layers(layer), [torch.from_numpy(activations)])
    values: Floats = found[""].values[0].numpy()
    return values


@dataclass(frozen=True, eq=False)
class Neurons:
    """Some neurons, and the inputs that there are.

    Parameters
    ----------
    weights : array of shape (neurons, edges)
        Of either sign.
    activations : array of shape (inputs, patches, edges)
        Non-negative.
    """

    weights: Floats
    activations: Floats

    def shares(self) -> Floats:
        """Largest share over the patches, of shape (inputs, neurons, edges)."""
        found: Floats = shares(self.weights, self.activations).max(axis=1)
        return found


def neurons(workload: Workload, count: int, edges: int, *, patches: int = 1, spread: float = 1.5) -> Neurons:
    """Neurons on features of a workload, their weights log-normal with random signs."""
    rng = np.random.default_rng(seed_of(workload) + 1)
    weights = rng.choice([-1.0, 1.0], (count, edges)) * rng.lognormal(sigma=spread, size=(count, edges))
    return Neurons(weights, features(workload, edges, patches=patches))
