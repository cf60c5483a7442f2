"""Points divided among centres, and centres that are good enough to bound sensitivities with.

The centres come from samples: a first sample in proportion to mass and cost about the mean, then one in
proportion to mass and cost within the clusters found, which sees what the first missed. On a sample, D^2
seeding and a few steps of Lloyd's iteration (Weiszfeld's for distances) are cheap. Whatever centres result,
the bounds that are computed from them are valid; bad ones only make them larger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._random import Rng, host_generator
from coresets._validate import check_integer
from coresets.clustering import _kernels as kernels
from coresets.clustering.powers import Power

__all__ = ["Partition", "Seeding", "find_centres", "nearest_squares", "weighted_mean"]

Floats: TypeAlias = npt.NDArray[np.float64]

_WORTH = 0.9  # of the total before: more clusters than that cost more than they save
_MOST = 16  # times k clusters at most


@dataclass(frozen=True, eq=False)
class Partition:
    """Points divided among centres.

    Parameters
    ----------
    labels : int32 array of shape (n,)
        Cluster of every point.
    centres : array of shape (b, d)
        Centres; for squared distances the means of the clusters.
    masses : array of shape (b,)
        Mass of every cluster.
    squares : array of shape (n,)
        Squared distances of the points to the centres of their clusters.
    costs : array of shape (b,)
        Cost of every cluster about its centre.
    """

    labels: Any
    centres: Floats
    masses: Floats
    squares: Floats
    costs: Floats
    cost: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cost", float(self.costs.sum()))

    @classmethod
    def around(cls, points: Any, weights: Any, centres: Floats, power: Power) -> Partition:
        """Every point goes to its nearest centre, and, for squared distances, centres move to the means.

        Parameters
        ----------
        points : array of shape (n, d)
            NumPy, float32 or float64.
        weights : array of shape (n,)
            Masses.
        centres : array of shape (b, d)
            Where to start from.
        power : Power
            What a distance costs.
        """
        centres = np.ascontiguousarray(centres, dtype=np.float64)
        labels, squares, sums = _assigned(points, weights, centres)
        masses = sums[:, -1].copy()
        if power.exponent == 2:
            safe = np.where(masses > 0.0, masses, 1.0)
            centres = centres + sums[:, :-1] / safe[:, None]
            kernels.own_squares(points, labels, centres, squares)
        own = np.asarray(weights, dtype=np.float64) * power.of_squares(squares)
        costs = np.bincount(labels, own, minlength=len(centres)).astype(np.float64, copy=False)
        return cls(labels, centres, masses, squares, costs)


def _assigned(points: Any, weights: Any, centres: Floats) -> tuple[Any, Floats, Floats]:
    n, d = points.shape
    labels, squares = np.empty(n, dtype=np.int32), np.empty(n)
    sums = np.empty((len(centres), d + 1))
    kernels.assign(points, weights, centres, np.ascontiguousarray(centres.T), labels, squares, sums)
    return labels, squares, sums


@dataclass(frozen=True, slots=True)
class Seeding:
    """How centres are looked for. None of it matters for validity, all of it for the size of the bounds.

    Parameters
    ----------
    sample : int
        Points drawn in every round, at least 2; at least 20 for each centre are taken.
    rounds : int
        Samples, at least 1; each is drawn around the centres of the one before.
    repeats : int
        Seedings of every sample, of which the best is kept.
    steps : int
        Lloyd's or Weiszfeld's steps after each seeding.
    seed : int
        Of the random choices. A loss has no generator of its own; the bounds hold whatever the seed is, so
        that nodes of a stream may share it.
    """

    sample: int = 4000
    rounds: int = 2
    repeats: int = 3
    steps: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"sample": 2, "rounds": 1, "repeats": 1, "steps": 0, "seed": 0}
        for name, bound in least.items():
            object.__setattr__(self, name, check_integer(getattr(self, name), name, at_least=bound))


def find_centres(
    points: Any, weights: Any, k: int, power: Power, *, low: float, seeding: Seeding, rng: Rng
) -> Partition:
    """Partition around k or more centres, their number chosen for a small total of the bounds.

    Parameters
    ----------
    points : array of shape (n, d)
        NumPy, float32 or float64.
    weights : array of shape (n,)
        Masses.
    k : int
        Fewest centres, unless there are fewer points.
    power : Power
        What a distance costs.
    low : float
        Lower bound on the optimum, from which the benefit of more centres is estimated; at least 0.
    seeding : Seeding
        How to look for them.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Source of randomness.
    """
    generator = host_generator(rng)
    masses = np.asarray(weights, dtype=np.float64)
    best = Partition.around(points, masses, weighted_mean(points, masses), power)
    for last in range(seeding.rounds - 1, -1, -1):
        rows, own = _sampled(best, masses, max(seeding.sample, 20 * k), power, generator)
        sample = np.ascontiguousarray(points[rows], dtype=np.float64)
        count, (cost, centres) = k, _fitted(sample, own, k, power, seeding, generator)
        total = _total(cost, k, power, low)
        while not last and 2 * count <= min(_MOST * k, len(sample) // 20) and cost > 0.0:
            found = _fitted(sample, own, 2 * count, power, seeding, generator)
            more = _total(found[0], 2 * count, power, low)
            if more >= _WORTH * total:
                break
            count, (cost, centres), total = 2 * count, found, more
        tried = Partition.around(points, masses, centres, power)
        if low > 0.0 and len(best.centres) >= k:
            before, after = (_total(p.cost, len(p.centres), power, low) for p in (best, tried))
        else:
            before, after = best.cost, tried.cost
        if after < before:
            best = tried
    return best


def nearest_squares(points: Any, centres: Floats) -> Floats:
    """Squared distances of points (n, d) to the nearest of the centres (b, d)."""
    return _assigned(points, np.zeros(points.shape[0]), np.ascontiguousarray(centres, dtype=np.float64))[1]


def weighted_mean(points: Any, weights: Floats) -> Floats:
    """Weighted mean of points (n, d), as (1, d)."""
    start = np.asarray(points[int(np.argmax(weights))], dtype=np.float64)[None, :]
    sums = _assigned(points, weights, start)[2]
    return np.asarray(start + sums[:, :-1] / sums[:, -1:])


def _total(cost: float, count: int, power: Power, low: float) -> float:
    """Bound on the total of the sensitivities, to compare partitions with."""
    ratio = 2.0 * cost / low if low > 0.0 else (np.inf if cost > 0.0 else 0.0)
    return float((np.sqrt(ratio) + np.sqrt(count)) ** 2 if power.exponent == 2 else ratio + count)


def _sampled(
    partition: Partition, masses: Floats, size: int, power: Power, generator: np.random.Generator
) -> tuple[Any, Floats]:
    """Rows drawn in proportion to mass within their cluster and to cost, and their weights."""
    if masses.size <= size:
        rows = np.flatnonzero(masses > 0.0)  # everything
        return rows, masses[rows]
    filled = partition.masses > 0.0
    safe = np.where(filled, partition.masses, 1.0)
    chances = masses / safe[partition.labels] / np.count_nonzero(filled)
    if partition.cost > 0.0:
        chances += masses * power.of_squares(partition.squares) / partition.cost
    cumulative = np.cumsum(chances)
    drawn = np.searchsorted(cumulative, generator.random(size) * cumulative[-1], side="right")
    rows, counts = np.unique(np.minimum(drawn, masses.size - 1), return_counts=True)
    rows, counts = rows[chances[rows] > 0.0], counts[chances[rows] > 0.0]
    return rows, counts * masses[rows] * (cumulative[-1] / size) / chances[rows]


def _fitted(
    points: Floats, weights: Floats, k: int, power: Power, seeding: Seeding, generator: np.random.Generator
) -> tuple[float, Floats]:
    """Best of several seedings with some steps each: its cost, and its centres."""
    found: list[tuple[float, Floats]] = []
    for _ in range(seeding.repeats):
        centres = _seeds(points, weights, k, power, generator)
        for _ in range(seeding.steps):
            _, squares, sums = _assigned(points, weights, centres)
            if power.exponent == 1:
                sums = _assigned(points, power.pulls(weights, squares), centres)[2]
            safe = np.where(sums[:, -1] > 0.0, sums[:, -1], 1.0)
            centres = centres + sums[:, :-1] / safe[:, None]
        _, squares, _ = _assigned(points, weights, centres)
        found.append((float(weights @ power.of_squares(squares)), centres))
    return min(found, key=lambda pair: pair[0])


def _seeds(points: Floats, weights: Floats, k: int, power: Power, generator: np.random.Generator) -> Floats:
    """D^z seeding: each further centre is drawn in proportion to its cost; fewer if all costs are zero."""
    chosen = [int(generator.choice(len(points), p=weights / weights.sum()))]
    squares = np.square(points - points[chosen[0]]).sum(axis=1)
    while len(chosen) < k:
        costs = weights * power.of_squares(squares)
        total = float(costs.sum())
        if total == 0.0:
            break
        chosen.append(int(generator.choice(len(points), p=costs / total)))
        np.minimum(squares, np.square(points - points[chosen[-1]]).sum(axis=1), out=squares)
    return np.ascontiguousarray(points[chosen])
