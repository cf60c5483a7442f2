"""How much each reduction of a stream may keep, or lose (MR; for unbiased draws also MR-V)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from coresets._validate import check_epsilon, check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.guarantees.streams import MergeAndReduce
from coresets.reduction import Reducer

__all__ = ["Budget", "KnownLength", "NodeSize", "TreeLaw", "UnknownLength"]


@runtime_checkable
class Budget(Protocol):
    """What a reduction is asked for: keywords ``size`` or ``accuracy`` of :meth:`Reducer.reduce`."""

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """For the reduction of a shard with this number, from 1, that makes a node of a level, from 1."""


@runtime_checkable
class TreeLaw(Budget, Protocol):
    """A budget with a theorem about the whole tree, which takes the place of adding up accuracies (MR)."""

    @property
    def rows(self) -> int:
        """Rows that will be pushed at most; one more is refused."""
        ...

    def prepare(self, reducer: Reducer) -> Reducer:
        """The reducer as the theorem needs it; an infinite epsilon of one of its coresets voids the promise.

        Raises
        ------
        AssumptionError
            If the theorem does not cover the reducer.
        """

    def promise(self, levels: int, blocks: int) -> Accuracy:
        """Accuracy of a stream of so many levels and blocks, at one time fixed before the draws."""


@dataclass(frozen=True, slots=True)
class NodeSize:
    """Every reduction keeps the same number of points; the ledger says what that is worth.

    Parameters
    ----------
    size : int
        Points of a node, at most half of a block: otherwise the first reduction gains little.
    """

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_integer(self.size, "size", at_least=1))

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """The size."""
        return {"size": self.size}


@dataclass(frozen=True, slots=True)
class KnownLength:
    """An accuracy for the whole, divided over the levels of a stream of known length (MR).

    Parameters
    ----------
    accuracy : Accuracy
        Of the result; epsilon in (0, 1], delta in (0, 1).
    rows : int
        Rows that will be pushed at most; one more is refused.
    """

    accuracy: Accuracy
    rows: int

    def __post_init__(self) -> None:
        _check(self.accuracy)
        object.__setattr__(self, "rows", check_integer(self.rows, "rows", at_least=1))

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """The same accuracy each time."""
        return {"accuracy": MergeAndReduce().of_each(self.accuracy, rows=self.rows, block=block)}


@dataclass(frozen=True, slots=True)
class UnknownLength:
    """An accuracy for the whole, divided over a stream of any length (MR).

    Sizes grow with the logarithm of the length, since ever less error is left for higher levels.

    Parameters
    ----------
    accuracy : Accuracy
        Of the result; epsilon in (0, 1], delta in (0, 1).
    """

    accuracy: Accuracy

    def __post_init__(self) -> None:
        _check(self.accuracy)

    def of(self, *, level: int, reduction: int, shard: int, block: int) -> Mapping[str, Any]:
        """Less for every further level, reduction and shard."""
        return {
            "accuracy": MergeAndReduce().of_next(self.accuracy, level=level, reduction=reduction, shard=shard)
        }


def _check(accuracy: object) -> None:
    if not isinstance(accuracy, Accuracy):
        raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
    check_epsilon(accuracy.epsilon)
    check_open_unit(accuracy.delta, "delta")
