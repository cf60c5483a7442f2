"""Runs of walks and halvings, and the same broken on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantees import HalvingClass, HalvingFinite, SelfBalancingWalk
from coresets.halving import (
    Classes,
    Embedded,
    HalvedNodes,
    HalvedSums,
    HalvingReducer,
    InnerProducts,
    Provable,
    balanced_signs,
)
from coresets.halving.reducer import Halvings
from coresets.reduction import Reducer
from coresets.weighted_set import WeightedSet
from proofs_check.checks._streams import SameSeed, StreamTrial, Unscaled
from proofs_check.queries import WorstError

__all__ = [
    "HalvedInStep",
    "HalvedOnce",
    "HalvedUnscaled",
    "HalvingTrial",
    "InStepTrial",
    "LonePoints",
    "OffByOne",
    "WalkTrial",
    "forgetful",
    "honest_signs",
    "independent",
    "of_inner_products",
    "unbalanced",
    "undoubled",
]

Floats = npt.NDArray[np.float64]
Signs = npt.NDArray[np.int8]


# D1: signs of vectors.


def honest_signs(vectors: Floats, threshold: Provable, rng: np.random.Generator) -> Signs:
    """The library's, from the vectors themselves."""
    return balanced_signs(vectors, threshold, rng=rng).values


def of_inner_products(vectors: Floats, threshold: Provable, rng: np.random.Generator) -> Signs:
    """The library's, from inner products."""
    return balanced_signs(InnerProducts(vectors @ vectors.T), threshold, rng=rng).values


def independent(vectors: Floats, threshold: Provable, rng: np.random.Generator) -> Signs:
    """Fair coins."""
    return rng.choice(np.array([-1, 1], dtype=np.int8), len(vectors))


def forgetful(vectors: Floats, threshold: Provable, rng: np.random.Generator) -> Signs:
    """A walk that starts afresh after every forty steps."""
    parts = [honest_signs(part, threshold, rng) for part in np.array_split(vectors, len(vectors) // 40)]
    return np.concatenate(parts)


def unbalanced(vectors: Floats, threshold: Provable, rng: np.random.Generator) -> Signs:
    """The walk of the directions, as if no point had been reweighted."""
    lengths = np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
    return honest_signs(vectors / np.where(lengths > 0.0, lengths, 1.0), threshold, rng)


@dataclass(frozen=True)
class WalkTrial:
    """Mean square of sum eps_i f_i over some walks, in units of twice its bound, for the worst of some f.

    The mean square of sub-Gaussian numbers obeys the tail of a chi-squared variable, so the claim is that
    this is at most 1/2 but for delta, half of which pays for clips.
    """

    vectors: Floats
    functions: Floats  # (N, n)
    delta: float
    signs: Callable[[Floats, Provable, np.random.Generator], Signs] = honest_signs
    walks: int = 30

    def __call__(self, rng: np.random.Generator) -> float:
        threshold = self.threshold
        drawn = np.stack([self.signs(self.vectors, threshold, child) for child in rng.spawn(self.walks)])
        level = math.log(2.0 * len(self.functions) / self.delta)
        most = self.walks + 2.0 * math.sqrt(self.walks * level) + 2.0 * level
        squares = np.sum((drawn @ self.functions.T) ** 2, axis=0)
        return float(np.max(squares / self.proxies)) / (2.0 * most)

    @property
    def threshold(self) -> Provable:
        """That of every walk; all of them together clip with probability delta/2."""
        return Provable(0.5 * self.delta / self.walks)

    @cached_property
    def proxies(self) -> Floats:
        """V(f) of all f."""
        law, factor = SelfBalancingWalk(), self.threshold.factor(len(self.vectors))
        return np.asarray([law.proxy(self.vectors, f, factor=factor) for f in self.functions])


# D2 and D3: coresets.


@dataclass(frozen=True)
class HalvingTrial:
    """Halve once and measure; NaN, a failure, if there are more points than asked for."""

    data: WeightedSet
    reducer: Any  # a HalvingReducer, or something with the same method
    size: int
    error: WorstError

    def __call__(self, rng: np.random.Generator) -> float:
        found = self.reducer.reduce(self.data, size=self.size, rng=rng)
        if found.support_size > self.size:
            return float("nan")
        factors = np.asarray(found.weights) / np.asarray(self.data.weights)[found.indices]
        return self.error(found.indices, factors)


def undoubled(reducer: HalvingReducer) -> Unscaled:
    """Kept points keep their weights."""
    return Unscaled(reducer)


@dataclass(frozen=True)
class OffByOne:
    """Points of class k take part in k + 1 rounds, and are weighted for k."""

    reducer: HalvingReducer

    def reduce(self, data: WeightedSet, *, size: int, rng: Any) -> Any:
        """Halve to the size, and each class once more."""
        first = self.reducer.reduce(data, size=size, rng=rng)
        later = np.asarray(first.weights) > np.asarray(data.weights)[first.indices]
        part = WeightedSet(np.asarray(data.points)[first.indices[later]])
        again = self.reducer.reduce(part, size=max(1, part.n // 2), rng=rng).indices
        kept = np.sort(np.concatenate([first.indices[~later], first.indices[later][again]]))
        weights = np.asarray(first.weights)[np.searchsorted(first.indices, kept)]
        return replace(first, indices=kept, weights=weights)


@dataclass(frozen=True)
class LonePoints:
    """Mean answer of many halvings of four points, one of which has no partner in its class.

    Points 0 and 1 stay, point 2 stays with probability one half, nearly always as the odd one out.
    """

    claim: HalvingClass
    sensitivities: Floats
    embedded: Embedded
    shares: Floats
    odd: str = "fair"
    coresets: int = 400

    def epsilon(self, delta: float) -> float:
        """Error of the mean that D2 promises at the level of the classes."""
        law, of_each = HalvingFinite(), delta / self.coresets
        # The proxies of independent coresets add up; each pays for clips of its own.
        level = math.log(4.0 / delta) / math.log(4.0 / of_each)
        single = law.epsilon_at(self.claim, self.classes.kappa, of_each)
        return single * math.sqrt(level / self.coresets)

    @property
    def classes(self) -> Classes:
        """Levels 0, 0, 1 and 10."""
        return Classes.at(self.sensitivities, 0.8)

    def __call__(self, rng: np.random.Generator) -> float:
        classes, mean = self.classes, 0.0
        factor = SelfBalancingWalk().factor(4, 0.05 / self.coresets)
        for child in rng.spawn(self.coresets):
            found = Halvings.of(self.embedded, self.sensitivities, classes, factor, child)
            weights = np.zeros(4)
            weights[found.kept] = 2.0**found.doublings
            if self.odd == "dropped":
                weights[2] = 0.0
            elif self.odd == "kept":
                weights[2] = 2.0
            mean += float(weights @ self.shares) / self.coresets
        return abs(mean - 1.0)


# D5: streams.


@dataclass(frozen=True)
class HalvedOnce(HalvedSums):
    """Only blocks are halved, and further up all points are kept."""

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """The size, or one that nothing exceeds."""
        return {"size": self.size if level == 1 else 2**40}

    def promise(self, levels: int, blocks: int) -> Accuracy:
        """Of one level."""
        return super().promise(1, blocks)


@dataclass(frozen=True)
class HalvedInStep(HalvedOnce):
    """All reductions of a stream draw the same numbers."""

    seed: int = 0

    def prepare(self, reducer: Reducer) -> Reducer:
        """The honest reducer with one seed."""
        return SameSeed(super().prepare(reducer), self.seed)


@dataclass(frozen=True)
class InStepTrial:
    """A stream whose reductions share a seed, another one in every trial."""

    honest: StreamTrial
    nodes: HalvedOnce

    def __call__(self, rng: np.random.Generator) -> float:
        nodes, seed = self.nodes, int(rng.integers(2**31))
        budget = HalvedInStep(nodes.size, nodes.rows, nodes.queries, nodes.delta, seed)
        return replace(self.honest, budget=budget)(rng)


@dataclass(frozen=True)
class HalvedUnscaled:
    """A budget whose reductions do not double weights."""

    nodes: HalvedNodes

    @property
    def rows(self) -> int:
        """Those of the honest budget."""
        return self.nodes.rows

    def of(self, **place: int) -> Any:
        """The same size."""
        return self.nodes.of(**place)

    def prepare(self, reducer: Reducer) -> Reducer:
        """The honest reducer, without its weights."""
        return Unscaled(self.nodes.prepare(reducer))

    def promise(self, levels: int, blocks: int) -> Any:
        """What the honest one claims."""
        return self.nodes.promise(levels, blocks)
