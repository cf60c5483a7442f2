"""Small sets whose divisions can all be tried, and the worst centres for a coreset of a large one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.clustering import Distance, Partition, Power, Seeding, SquaredDistance, find_centres
from coresets.weighted_set import WeightedSet

__all__ = [
    "CentresWorst",
    "SmallSet",
    "divisions",
    "large_sets",
    "largest_shares",
    "least_cost",
    "small_sets",
]

Floats: TypeAlias = npt.NDArray[np.float64]

_FAR = 1e7  # stands for an infinite distance, in units of the spread
_STEPS = 4  # of Lloyd's iteration on a coreset
_STARTS = 3


@dataclass(frozen=True, eq=False)
class SmallSet:
    """A set small enough to try every division of it among k centres."""

    name: str
    data: WeightedSet
    k: int
    power: Power


def divisions(n: int, k: int) -> Iterator[npt.NDArray[np.intp]]:
    """Labels of every division of n points into at most k parts, each once."""
    labels = np.zeros(n, dtype=np.intp)

    def fill(place: int, used: int) -> Iterator[npt.NDArray[np.intp]]:
        if place == n:
            yield labels.copy()
            return
        for label in range(min(used + 1, k)):
            labels[place] = label
            yield from fill(place + 1, max(used, label + 1))

    yield from fill(0, 0)


def _centre(points: Floats, weights: Floats, power: Power) -> Floats:
    """Best single centre; for distances on a line only."""
    if power.exponent == 2:
        return np.asarray(weights @ points / weights.sum())
    order = np.argsort(points[:, 0])
    half = np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())
    return points[order[half]]


def _costs(points: Floats, centres: Floats, power: Power) -> Floats:
    """Costs of all points at sets of centres (s, k, d), as (s, n)."""
    squares = np.square(points[None, :, None, :] - centres[:, None, :, :]).sum(axis=3).min(axis=2)
    return np.asarray(power.of_squares(squares))


def _optimal(points: Floats, weights: Floats, labels: npt.NDArray[np.intp], power: Power) -> Floats:
    """Best centres of a division."""
    return np.stack([_centre(points[labels == q], weights[labels == q], power) for q in np.unique(labels)])


def least_cost(small: SmallSet) -> float:
    """The optimum, by trying every division; exact but for rounding."""
    points, weights = np.asarray(small.data.points), np.asarray(small.data.weights)
    return min(
        float(weights @ _costs(points, _optimal(points, weights, labels, small.power)[None], small.power)[0])
        for labels in divisions(small.data.n, small.k)
    )


def largest_shares(small: SmallSet) -> Floats:
    """Shares that are attained: for every division, the centre of a point's part moves away from the point.

    For squared distances the best distance to move is known for a fixed division, so that with one centre
    the result is the sensitivity itself; for distances a grid of them is tried.
    """
    points, weights = np.asarray(small.data.points), np.asarray(small.data.weights)
    spread = float(np.abs(points - points.mean(axis=0)).max())
    best = np.zeros(small.data.n)
    for labels in divisions(small.data.n, small.k):
        centres = _optimal(points, weights, labels, small.power)
        whole = float(weights @ _costs(points, centres[None], small.power)[0])
        tried = [centres]
        for p in range(small.data.n):
            own = centres[labels[p]]
            away = own - points[p]
            length = float(np.linalg.norm(away))
            unit = away / length if length > 0.0 else np.eye(points.shape[1])[0]
            reach = whole / (float(weights[labels == labels[p]].sum()) * max(length, 1e-12 * spread))
            for step in (min(reach, _FAR * spread), _FAR * spread, *(spread * np.geomspace(0.01, 100.0, 9))):
                moved = centres.copy()
                moved[labels[p]] = own + step * unit
                tried.append(moved)
        costs = weights * _costs(points, np.stack(tried), small.power)
        totals = costs.sum(axis=1, keepdims=True)
        shares = np.divide(costs, totals, out=np.zeros_like(costs), where=totals > 0.0)
        np.maximum(best, shares.max(axis=0), out=best)
    return best


def small_sets() -> Iterator[SmallSet]:
    """One or two centres, on a line and in the plane, with masses, far clusters and coinciding points."""
    rng = np.random.default_rng(3)
    for power, words in ((SquaredDistance(), "squares"), (Distance(), "distances")):
        for k in (1, 2, 3):
            line = WeightedSet(100.0 * rng.standard_normal((8 if k < 3 else 7, 1)))
            yield SmallSet(f"a line, {k} centres, {words}", line, k, power)
        masses = WeightedSet(50.0 * rng.standard_normal((7, 1)), rng.uniform(0.1, 4.0, 7))
        yield SmallSet(f"masses, 2 centres, {words}", masses, 2, power)
        far = np.array([0.0, 0.0, 0.0, 30.0, 1e4, 1e4])[:, None]
        yield SmallSet(f"a far cluster, 2 centres, {words}", WeightedSet(far), 2, power)
        lonely = np.array([-3.0, -1.0, 1.0, 2.0, 4.0, 1e4])[:, None]
        yield SmallSet(f"a lonely point, 1 centre, {words}", WeightedSet(lonely), 1, power)
    plane = WeightedSet(40.0 * rng.standard_normal((7, 2)), rng.uniform(0.5, 2.0, 7))
    yield SmallSet("the plane, 2 centres, squares", plane, 2, SquaredDistance())
    space = WeightedSet(40.0 * rng.standard_normal((7, 5)))
    yield SmallSet("five columns, 3 centres, squares", space, 3, SquaredDistance())


def large_sets(points: int) -> Iterator[tuple[str, WeightedSet, int]]:
    """Sets on a line, and numbers of centres: clusters, a lonely far point, most of the mass in one place."""
    rng = np.random.default_rng(6)
    yield "one cluster", WeightedSet(rng.standard_normal((points, 1))), 1
    both = rng.standard_normal((points, 1)) + 6.0 * (np.arange(points) % 3 == 0)[:, None]
    yield "two clusters", WeightedSet(both), 2
    lonely = rng.standard_normal((points, 1))
    lonely[points // 2] = 1e5
    yield "a lonely point", WeightedSet(lonely), 1
    place = np.zeros((points, 1))
    place[: points // 50, 0] = 100.0 * np.sign(rng.random(points // 50) - 0.5) + rng.standard_normal(
        points // 50
    )
    yield "most of the mass in one place", WeightedSet(place), 1


@dataclass(frozen=True, eq=False)
class CentresWorst:
    """Largest error over sets of centres: prepared ones, and those that are best for the coreset.

    The prepared ones are the best centres known, these with one of them moved far away or onto another
    point, all of them far away, and the points farthest from the mean.

    Parameters
    ----------
    data : WeightedSet
        All the points.
    k : int
        Number of centres.
    power : Power
        What a distance costs.
    additive : bool
        Whether errors are relative to the mean of the cost and that of a single centre, the mean (KM-L).
    """

    data: WeightedSet
    k: int
    power: Power
    additive: bool = False
    costs: Floats = field(init=False)
    totals: Floats = field(init=False)
    norms: Floats = field(init=False)
    single: float = field(init=False)

    def __post_init__(self) -> None:
        points, weights = np.asarray(self.data.points), np.asarray(self.data.weights)
        mean = np.average(points, axis=0, weights=weights)
        spread = float(np.abs(points - mean).max())
        best = find_centres(points, weights, self.k, self.power, low=0.0, seeding=Seeding(), rng=0)
        base = best.centres[: self.k]
        order = np.argsort(np.abs(points - mean).sum(axis=1))
        others = [*points[order[-4:]], *points[order[:: max(1, len(points) // 6)]]]
        others += [mean, mean + _FAR * spread, mean - 3.0 * spread, mean + 3.0 * spread]
        rows = [base, *(np.repeat(other[None], self.k, axis=0) for other in others)]
        for q in range(len(base)):
            for other in others:
                moved = base.copy()
                moved[q] = other
                rows.append(moved)
        own = np.stack([weights * self._at(row) for row in rows])
        own = own[own.sum(axis=1) > 0.0]
        object.__setattr__(self, "single", float(weights @ self._at(mean[None])))
        object.__setattr__(self, "costs", own)
        object.__setattr__(self, "totals", own.sum(axis=1))
        object.__setattr__(self, "norms", self._norm(self.totals))

    def _at(self, centres: Floats) -> Floats:
        """Costs of all points, without the masses."""
        points = np.asarray(self.data.points)
        squares = np.full(len(points), np.inf)
        for centre in centres:
            np.minimum(squares, np.square(points - centre).sum(axis=1), out=squares)
        return np.asarray(self.power.of_squares(squares))

    def _norm(self, costs: Floats) -> Floats:
        return 0.5 * (costs + self.single) if self.additive else costs

    def __call__(self, indices: npt.NDArray[np.intp], factors: Floats) -> float:
        """Error of the coreset that keeps ``indices`` with weights multiplied by ``factors``."""
        errors = np.abs(self.costs[:, indices] @ factors - self.totals) / self.norms
        worst = float(errors.max())
        if len(indices) == 0:
            return worst
        weights = np.asarray(self.data.weights)
        kept = np.ascontiguousarray(np.asarray(self.data.points)[indices])
        masses = weights[indices] * factors
        starts = np.random.default_rng(0)  # within a check only the sampler may be random
        for _ in range(_STARTS):
            centres = kept[starts.choice(len(kept), min(self.k, len(kept)), replace=False)]
            for _ in range(_STEPS):
                centres = Partition.around(kept, masses, centres, SquaredDistance()).centres
            costs = weights * self._at(centres)
            if costs.sum() > 0.0:
                error = abs(float(costs[indices] @ factors) - float(costs.sum()))
                worst = max(worst, error / float(self._norm(costs.sum())))
        return worst
