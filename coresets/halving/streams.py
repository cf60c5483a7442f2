"""Halving in streams: variances add up along the tree, and errors hardly grow with its depth (D5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from coresets._random import Rng
from coresets._validate import check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantees import FeatureBound, HalvingClass, HalvingStream, HalvingStreamClass
from coresets.halving.features import BoundedSum
from coresets.halving.reducer import HALVING, HalvingReducer
from coresets.halving.walk import Provable
from coresets.least_squares import LeastSquares
from coresets.reduction import Reducer
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["HalvedNodes", "HalvedSquares", "HalvedSums"]

_ROUNDING = 1e-9  # of totals and masses, which are sums


@dataclass(frozen=True)
class HalvedNodes:
    """What the two budgets of halving streams have in common: nodes of one size, and D5 in the ledger.

    Parameters
    ----------
    size : int
        Points of a node, at most half of a block.
    rows : int
        Rows that will be pushed at most; one more is refused. They share the probability of a clip, which
        costs a logarithm, so that a generous bound does no harm.
    queries : int
        Queries that the accuracy is for, fixed beforehand.
    delta : float
        Failure probability; half of it pays for clips.
    """

    size: int
    rows: int
    queries: int = 1
    delta: float = 0.05

    def __post_init__(self) -> None:
        for name in ("size", "rows", "queries"):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, at_least=1))
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))

    @property
    def counted(self) -> int:
        """2 kappa t, which for D5 is the size of a node."""
        return self.size

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """The size."""
        return {"size": self.size}

    def node_class(self) -> HalvingClass:
        """What every node has to be within."""
        raise NotImplementedError

    def stream_class(self, levels: int, blocks: int) -> HalvingStreamClass:
        """Parameters of D5."""
        raise NotImplementedError

    def covers(self, loss: Any) -> bool:
        """Whether D5 is about this loss, in the form that this budget states."""
        raise NotImplementedError

    def keeps(self, data: WeightedSet, coreset: Coreset) -> bool:
        """Whether a reduction left the normaliser as D5 wants it."""
        return True

    def prepare(self, reducer: Reducer) -> Reducer:
        """The reducer with the threshold that all rows share, which watches the assumptions.

        Raises
        ------
        AssumptionError
            If it is no halving, has an aggressive threshold, or D5 does not cover its loss and features.
        """
        if not isinstance(reducer, HalvingReducer):
            raise AssumptionError(
                f"{reducer!r} does not halve; pass a HalvingReducer, or ask for NodeSize(...)"
            )
        if not isinstance(reducer.threshold, Provable):
            raise AssumptionError(
                f"no theorem covers {reducer.threshold!r}; use Provable(), or NodeSize(...)"
            )
        if not (self.covers(reducer.loss) and reducer.features.covers(reducer.loss)):
            raise AssumptionError(
                f"D5 does not cover {reducer.loss!r} with {reducer.features!r} here; use HalvedSquares for "
                "LeastSquares with GramFeatures, HalvedSums for BoundedSum, or NodeSize(...), with no promise"
            )
        threshold = Provable(0.5 * self.delta, steps=self.rows)
        return _Watched(replace(reducer, threshold=threshold, queries=self.queries), self)

    def promise(self, levels: int, blocks: int) -> Accuracy:
        """Accuracy by D5 of a stream of so many levels and blocks."""
        return Accuracy(_epsilon(self, levels, blocks), self.delta)


@lru_cache(maxsize=1024)  # asked for at every reduction, and found by bisection
def _epsilon(nodes: HalvedNodes, levels: int, blocks: int) -> float:
    return HalvingStream().epsilon(nodes.stream_class(levels, blocks), nodes.counted, nodes.delta)


@dataclass(frozen=True)
class HalvedSquares(HalvedNodes):
    """For :class:`~coresets.LeastSquares` with :class:`GramFeatures`, relative to the cost of a query.

    Parameters
    ----------
    size, rows, queries, delta
        As for all halved nodes.
    columns : int
        Columns of the residual rows (intercept and label included), which bound the total of every node.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import LeastSquares, WeightedSet
    >>> from coresets.halving import GramFeatures, HalvedSquares, HalvingReducer
    >>> from coresets.streams import MergeReduce
    >>> nodes = HalvedSquares(1000, rows=10**6, columns=3)
    >>> stream = MergeReduce(HalvingReducer(LeastSquares(), GramFeatures()), nodes, block=4000, rng=1)
    >>> rows = np.random.default_rng(0)
    >>> for _ in range(16):
    ...     stream.push(WeightedSet(rows.standard_normal((4000, 3))))
    >>> stream.ledger.accuracy.delta, round(stream.ledger.accuracy.epsilon, 2)
    (0.05, 0.12)
    """

    columns: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "columns", check_integer(self.columns, "columns", at_least=1))

    def node_class(self) -> HalvingClass:
        """Leverage scores of total at most the number of columns."""
        exact = FeatureBound(spread=math.sqrt(2.0))
        return HalvingClass(float(self.columns), self.rows, exact, self.queries)

    def stream_class(self, levels: int, blocks: int) -> HalvingStreamClass:
        """Shares of 1, since a block may have all the cost of a query."""
        return HalvingStreamClass(self.node_class(), (1.0,) * levels)

    def covers(self, loss: Any) -> bool:
        """Least squares."""
        return isinstance(loss, LeastSquares)


@dataclass(frozen=True)
class HalvedSums(HalvedNodes):
    """For :class:`BoundedSum`; errors are relative to the mass, which no reduction changes.

    All rows must have the same weight, and a block must be a power of two times the size: then every pair has
    equal weights, the mass of every node stays what it was, and errors grow by the root of 3/2 over those of
    one halving of all rows. A node whose mass changes voids the promise.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> from coresets.halving import BoundedSum, HalvedSums, HalvingReducer, MappedFeatures
    >>> from coresets.streams import MergeReduce
    >>> waves = MappedFeatures(lambda data: np.cos(data.points * np.arange(1, 4)), length=3**0.5)
    >>> nodes = HalvedSums(512, rows=10**6, queries=100)
    >>> stream = MergeReduce(HalvingReducer(BoundedSum(), waves), nodes, block=2048, rng=1)
    >>> stream.push(WeightedSet(np.random.default_rng(0).standard_normal((2**16, 1))))
    >>> round(stream.ledger.accuracy.epsilon, 3)  # of the mass, for 100 queries
    0.042
    """

    @property
    def counted(self) -> int:
        """Twice the size: equal points are all of one class, so that kappa is the size itself."""
        return 2 * self.size

    def node_class(self) -> HalvingClass:
        """Shares in the mass, of total 1."""
        return HalvingClass(1.0, self.rows, FeatureBound(), self.queries)

    def stream_class(self, levels: int, blocks: int) -> HalvingStreamClass:
        """Shares of nodes in the mass of equal blocks."""
        shares = tuple(min(1.0, 2.0 ** (level - 1) / blocks) for level in range(1, levels + 1))
        return HalvingStreamClass(self.node_class(), shares, frozen=True)

    def covers(self, loss: Any) -> bool:
        """Bounded sums."""
        return isinstance(loss, BoundedSum)

    def keeps(self, data: WeightedSet, coreset: Coreset) -> bool:
        """Whether the weights were equal, and the mass is what it was."""
        weights = to_host(data.weights)
        change = abs(coreset.total_weight - data.total_weight)
        return float(np.ptp(weights)) == 0.0 and change <= _ROUNDING * data.total_weight


@dataclass(frozen=True)
class _Watched:
    """Halving inside a stream; a coreset that is not within what D5 assumes has an infinite epsilon."""

    reducer: HalvingReducer
    nodes: HalvedNodes

    @property
    def additive_error(self) -> bool:
        return self.reducer.additive_error

    def without_certificates(self) -> _Watched:
        return replace(self, reducer=self.reducer.without_certificates())

    def reduce(
        self, data: WeightedSet, *, size: int | None = None, accuracy: Accuracy | None = None, rng: Rng
    ) -> Coreset:
        coreset = self.reducer.reduce(data, size=size, accuracy=accuracy, rng=rng)
        if coreset.accuracy.is_exact or self._within(data, coreset):
            return coreset
        return replace(coreset, accuracy=Accuracy(math.inf, coreset.accuracy.delta))

    def _within(self, data: WeightedSet, coreset: Coreset) -> bool:
        node = self.nodes.node_class()
        (found,) = (c.details for c in coreset.certificates if c.name == HALVING)
        more = 1.0 + _ROUNDING
        return (
            found["kappa"] * more >= self.nodes.counted / (2.0 * node.total_sensitivity)
            and found["norm"] <= node.features.norm * more
            and found["spread"] <= node.features.spread * more
            and self.nodes.keeps(data, coreset)
        )
