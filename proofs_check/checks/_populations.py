"""Layers on finite populations of inputs, where assumptions can be counted instead of believed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from coresets.accuracy import Accuracy
from nn.layers import find_layers
from nn.sensitivities import EdgeSensitivities, collect_sensitivities
from proofs_check.check import Fault, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import Neurons
from proofs_check.checks._networks import RATIO, seed_of
from proofs_check.trials import Trial
from proofs_check.workloads import Workload, thinned

__all__ = [
    "codes",
    "conditions",
    "drawn",
    "found_on",
    "least_factor",
    "off",
    "over",
    "rarity",
    "sides",
    "signed_weights",
    "statistical",
    "tame",
    "unit_points",
]

Floats = npt.NDArray[np.float64]

_MOST_DRAWS = 2.0**62


def over(observed: Floats, certified: Floats, slack: float = 0.0) -> float:
    """Largest observed value, less what rounding may add, over the certified one of its place."""
    excess = np.maximum(observed - slack, 0.0)
    ratios = np.zeros(np.broadcast_shapes(excess.shape, certified.shape))
    with np.errstate(divide="ignore"):
        np.divide(excess, certified, out=ratios, where=excess > 0.0)
    return float(np.max(ratios, initial=0.0))


def sides(weights: Floats) -> Floats:
    """Positive and negative parts of the weights, of shape (2 neurons, edges)."""
    return np.concatenate([np.maximum(weights, 0.0), np.maximum(-weights, 0.0)])


def off(own: Floats, factors: Floats, inputs: Floats) -> Floats:
    """Relative errors of sides whose weights are multiplied with factors, of shape (inputs, sides).

    A sum of 0 has no error: nothing that is multiplied makes it another.
    """
    exact = inputs @ own.T
    distance = np.abs(inputs @ (own * factors).T - exact)
    found: Floats = np.divide(distance, exact, out=np.zeros_like(exact), where=exact > 0.0)
    return found


def unit_points(workload: Workload, count: int) -> Floats:
    """Points of a workload with a coordinate of 1 put in front, scaled to unit length."""
    points = np.asarray(thinned(workload, count).data.points, dtype=np.float64)
    points = np.column_stack([np.ones(len(points)), points])
    lengths: Floats = points / np.linalg.norm(points, axis=1, keepdims=True)
    return lengths


def codes(workload: Workload, edges: int, share: float, *, patches: int, inputs: int) -> Floats:
    """Activations 1 of the features that respond most to a point, 0 of all others.

    For such inputs shares are as good as two-valued, which is the worst case of Bernstein's inequality.

    Parameters
    ----------
    workload : Workload
        Consecutive points are the patches of one input.
    edges : int
        Number of random features.
    share : float
        How many of them respond.
    patches, inputs : int
        At most so many.

    Returns
    -------
    array of shape (inputs, patches, edges)
    """
    points = unit_points(workload, inputs * patches)
    count = len(points) // patches
    points = points[: count * patches]
    rng = np.random.default_rng(seed_of(workload))
    responses = points @ rng.standard_normal((points.shape[1], edges))
    winners = np.argpartition(-responses, round(share * edges), axis=1)[:, : round(share * edges)]
    found = np.zeros((len(points), edges))
    np.put_along_axis(found, winners, 1.0, axis=1)
    return found.reshape(count, patches, edges)


def signed_weights(workload: Workload, neurons: int, edges: int, tail: float) -> Floats:
    """Weights of random signs and log-normal sizes, of shape (neurons, edges)."""
    rng = np.random.default_rng(seed_of(workload) + 2)
    signs = rng.choice([-1.0, 1.0], (neurons, edges))
    found: Floats = signs * rng.lognormal(sigma=tail, size=(neurons, edges))
    return found


def _loud(population: Neurons) -> tuple[Floats, Floats]:
    """Shares that are ever positive, of shape (inputs, pairs), and their largest values."""
    found = population.shares().reshape(len(population.activations), -1)
    largest = found.max(axis=0)
    used = largest > 0.0
    return found[:, used], largest[used]


def least_factor(population: Neurons, rarity: float) -> float:
    """Least K for which each share exceeds 1/K of its largest value as often as Q1 assumes; infinite if none.

    Parameters
    ----------
    population : Neurons
        All inputs that there are, equally likely.
    rarity : float
        K'.
    """
    found, largest = _loud(population)
    needed = math.ceil(len(found) * -math.expm1(-1.0 / rarity))
    level = np.sort(found, axis=0)[-needed]
    if not bool((level > 0.0).all()):
        return math.inf
    return float((largest / level).max()) * (1.0 + 1e-9)


def rarity(population: Neurons, factor: float) -> tuple[float, int]:
    """Least K' for a given K, and the number of shares that are ever positive."""
    found, largest = _loud(population)
    often = (found > largest / factor).mean(axis=0)
    with np.errstate(divide="ignore"):
        return float(np.max(-1.0 / np.log1p(-often))), int(often.size)


def conditions(population: Neurons) -> Floats:
    """Condition numbers by the definition, of shape (inputs, neurons)."""
    weights, inputs = population.weights, population.activations[:, 0]
    total, signed = inputs @ np.abs(weights).T, np.abs(inputs @ weights.T)
    with np.errstate(divide="ignore"):
        found: Floats = np.divide(total, signed, out=np.ones_like(total), where=total > 0.0)
    return found


def found_on(population: Neurons, inputs: Floats) -> EdgeSensitivities:
    """What the library measures on inputs of shape (inputs, patches, edges)."""
    neurons, edges = population.weights.shape
    layer = torch.nn.Linear(edges, neurons, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(population.weights))
    (found,) = collect_sensitivities(
        layer, find_layers(layer), [torch.from_numpy(inputs)], conditions=True
    ).values()
    return found


def tame(values: Floats, scale: float) -> bool:
    """Whether equally likely values are sub-exponential with parameters (scale^2, scale).

    That is ln E exp(u (X - E X) / scale) <= u^2 / 2 for |u| <= 1, on a grid; near 0 it is the variance.

    Parameters
    ----------
    values : array of shape (n, variables)
        For each variable all its values.
    scale : float
        Lambda.
    """
    centred = (values - values.mean(axis=0)) / scale
    if not bool(np.isfinite(centred).all()) or float((centred**2).mean(axis=0).max()) > 1.0:
        return False
    for u in np.linspace(-1.0, 1.0, 82):
        largest = (u * centred).max(axis=0)
        logs = largest + np.log(np.exp(u * centred - largest).mean(axis=0))
        if float(logs.max()) > 0.5 * u * u:
            return False
    return True


def drawn(own: Floats, values: Floats, draws: Floats, rng: np.random.Generator) -> Floats:
    """Factors of draws with replacement from every side, by the law of their counts."""
    totals = values.sum(axis=1, keepdims=True)
    probabilities = np.divide(values, totals, out=np.zeros(values.shape), where=totals > 0.0)
    probabilities[totals[:, 0] == 0.0, 0] = 1.0
    counts = rng.multinomial(np.minimum(draws, _MOST_DRAWS).astype(np.int64), probabilities)
    expected = draws[:, None] * probabilities
    factors: Floats = np.divide(counts, expected, out=np.zeros(own.shape), where=expected * own > 0.0)
    return factors


def statistical(
    workload: Workload, name: str, size: int, honest: Trial, broken: Mapping[tuple[str, str], Trial]
) -> Scenario:
    """A claim that observed over certified exceeds 1 with probability at most delta."""
    return Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, workload.data),
        size=size,
        claimed=Accuracy(1.0, DELTA),
        trial=honest,
        faults=tuple(Fault(fault[0], trial) for fault, trial in broken.items()),
        note=RATIO,
    )
