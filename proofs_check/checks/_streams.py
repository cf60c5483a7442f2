"""One run of a stream, and reducers and budgets broken on purpose: the tree itself is the library's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.errors import SolverError
from coresets.reduction import Reducer
from coresets.sampling import sample_poisson
from coresets.streams import Budget, MergeReduce, StreamCoreset
from coresets.weighted_set import Coreset, WeightedSet
from proofs_check.queries import WorstError

__all__ = [
    "DrawnByCost",
    "FullRegulariser",
    "LevelSize",
    "OriginalWeights",
    "RecomputedMass",
    "Regularised",
    "RegularisedError",
    "SameSeed",
    "StreamTrial",
    "Undivided",
    "Unlabelled",
    "Unscaled",
    "WithWeights",
    "positive",
]

Floats = npt.NDArray[np.float64]


class Measure(Protocol):
    """Error of what a stream came to."""

    def __call__(self, found: StreamCoreset) -> float:
        """At the worst query."""


@dataclass(frozen=True)
class WithWeights:
    """Error of a coreset whose factors are its weights over those of the data."""

    data: WeightedSet
    worst: WorstError

    def __call__(self, found: StreamCoreset) -> float:
        factors = np.asarray(found.data.weights) / np.asarray(self.data.weights)[found.positions]
        return self.worst(found.positions, factors)


@dataclass(frozen=True)
class DrawnByCost:
    """Poisson sampling by exact shares in the cost sum w [p]_+, without a statement on its own error."""

    def reduce(
        self, data: WeightedSet, *, size: int | None = None, accuracy: Accuracy | None = None, rng: Any
    ) -> Coreset:
        """Draw, or keep all rows."""
        if size is None:
            raise ValueError("pass a size")
        if size >= data.n:
            return Coreset(np.arange(data.n), data.weights, size, Accuracy.exact())
        costs = data.weights * positive(data)
        draw = sample_poisson(costs / costs.sum(), size, rng=rng)
        return Coreset(draw.indices, data.weights[draw.indices] * draw.kept_weights, size, Accuracy(1.0, 1.0))


@dataclass(frozen=True)
class SameSeed:
    """A reducer that draws the same numbers each time."""

    reducer: Reducer
    seed: int

    def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
        """Reduce, whatever generator is handed over."""
        return self.reducer.reduce(data, **(asked | {"rng": self.seed}))


@dataclass(frozen=True)
class OriginalWeights:
    """A reducer that reads the weights that the rows had at first, from their labels."""

    reducer: Reducer

    def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
        """Reduce the rows with their first weights."""
        return self.reducer.reduce(WeightedSet(data.points, data.labels), **asked)


@dataclass(frozen=True)
class Unscaled:
    """A reducer whose weights are those of its input, not divided by the probability."""

    reducer: Reducer

    def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
        """Draw honestly, weigh wrongly."""
        drawn = self.reducer.reduce(data, **asked)
        return replace(drawn, weights=data.weights[drawn.indices])


@dataclass(frozen=True)
class Undivided:
    """The accuracy of the whole for every reduction."""

    accuracy: Accuracy

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """The accuracy."""
        return {"accuracy": self.accuracy}


@dataclass(frozen=True)
class LevelSize:
    """So many points at the first ``levels`` levels, and all of them further up."""

    size: int
    levels: int

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """The size."""
        return {"size": self.size if level <= self.levels else 2**40}


@dataclass(frozen=True)
class StreamTrial:
    """Push the rows in uneven pieces and measure the result; NaN, a failure, if a node came out empty."""

    data: WeightedSet
    reducer: Callable[[int], Any]  # of a seed that is drawn once a trial
    budget: Budget
    block: int
    measure: Measure

    def __call__(self, rng: np.random.Generator) -> float:
        seed = int(rng.integers(2**31))
        stream = MergeReduce(self.reducer(seed), self.budget, block=self.block, rng=rng)
        cuts = np.cumsum(np.resize([1, 97, 13, 1500], self.data.n))
        points, weights = np.asarray(self.data.points), np.asarray(self.data.weights)
        try:
            for part in np.split(np.arange(self.data.n), cuts[cuts < self.data.n]):
                stream.push(WeightedSet(points[part], weights[part], weights[part]))
        except SolverError:
            return float("nan")
        return self.measure(stream.result())


@dataclass(frozen=True)
class Unlabelled:
    """The honest reducer, which does not look at the first weights."""

    reducer: Reducer

    def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
        """Reduce the rows with their present weights."""
        return self.reducer.reduce(WeightedSet(data.points, data.weights), **asked)


def positive(data: WeightedSet) -> Floats:
    """The positive part of the first column."""
    found: Floats = np.maximum(np.asarray(data.points)[:, 0], 0.0)
    return found


@dataclass(frozen=True)
class Regularised:
    """Top choice for the cost scale (U r + sum w [p]_+): a regulariser that belongs to all the data.

    Parameters
    ----------
    ridge : float
        r, the regulariser per unit of mass.
    mass : float
        U of the part.
    """

    ridge: float
    mass: float = 0.0

    def for_part(self, mass: float) -> Reducer:
        """With the regulariser of a part."""
        return replace(self, mass=mass)

    def reduce(
        self, data: WeightedSet, *, size: int | None = None, accuracy: Accuracy | None = None, rng: Any
    ) -> Coreset:
        """Drop points, the cheapest first, as long as they cost at most epsilon times the whole."""
        if accuracy is None:
            raise ValueError("pass an accuracy")
        costs = np.asarray(data.weights) * positive(data)
        order = np.argsort(costs, kind="stable")
        lost = np.cumsum(costs[order])
        dropped = int(np.count_nonzero(lost <= accuracy.epsilon * (self.mass * self.ridge + lost[-1])))
        kept = np.sort(order[min(dropped, data.n - 1) :])
        return Coreset(
            indices=kept, weights=np.asarray(data.weights)[kept], size=kept.size, accuracy=accuracy
        )


@dataclass(frozen=True)
class FullRegulariser(Regularised):
    """Every part has the mass of the whole."""

    def for_part(self, mass: float) -> Reducer:
        """The whole, whatever the part."""
        return self


@dataclass(frozen=True)
class RecomputedMass(Regularised):
    """The mass of a part is what its weights add up to now."""

    def for_part(self, mass: float) -> Reducer:
        """The same for every part: it will look at the weights."""
        return self

    def reduce(
        self, data: WeightedSet, *, size: int | None = None, accuracy: Accuracy | None = None, rng: Any
    ) -> Coreset:
        """Reduce with the sum of the present weights."""
        part = Regularised(self.ridge, float(np.sum(data.weights)))
        return part.reduce(data, accuracy=accuracy, rng=rng)


@dataclass(frozen=True)
class RegularisedError:
    """Error of the cost with its regulariser."""

    data: WeightedSet
    ridge: float
    recomputed: bool = False

    def __call__(self, found: StreamCoreset) -> float:
        mass = float(np.sum(found.data.weights)) if self.recomputed else found.ledger.mass
        full = self.data.total_weight * self.ridge + float(self.data.weights @ positive(self.data))
        return abs(mass * self.ridge + float(found.data.weights @ positive(found.data)) - full) / full
