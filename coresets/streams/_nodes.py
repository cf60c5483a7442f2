"""Rows of a stream, and the nodes of its tree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coresets.accuracy import Accuracy
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["Arrived", "Layout", "Node", "Rows", "joined"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What all rows of a stream have in common: columns, type of the points, type of the labels."""

    columns: int
    points: str
    labels: str | None

    def require(self, other: Layout) -> None:
        """Raise if rows of another layout do not fit.

        Otherwise what a reduction sees would depend on which rows it happens to see together.
        """
        if other.columns != self.columns:
            raise ValueError(f"points have {other.columns} columns; those before had {self.columns}")
        if other.points != self.points:
            raise TypeError(
                f"points have dtype {other.points}; those before had {self.points}; convert them alike"
            )
        if (other.labels is None) != (self.labels is None):
            raise ValueError("some rows have labels and others not")
        if other.labels != self.labels:
            raise TypeError(
                f"labels have dtype {other.labels}; those before had {self.labels}; convert them alike"
            )


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a stream, with their present weights.

    ``positions`` are their places in the stream.
    """

    points: np.ndarray
    weights: np.ndarray
    labels: np.ndarray | None
    positions: np.ndarray

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.positions)

    @property
    def mass(self) -> float:
        """Sum of the weights, rounded once, so that it does not depend on how the rows came."""
        return math.fsum(self.weights)

    def data(self) -> WeightedSet:
        """As data to reduce."""
        return WeightedSet(self.points, self.weights, self.labels)

    def cut(self, start: int, stop: int) -> Rows:
        """Consecutive rows, in the same memory."""
        return self._at(slice(start, stop))

    def copied(self) -> Rows:
        """In memory of their own, so that what they were cut from can go."""
        return self._at(np.arange(self.count))

    def ordered(self) -> Rows:
        """By position."""
        return self._at(np.argsort(self.positions, kind="stable"))

    def taken(self, indices: np.ndarray, weights: np.ndarray) -> Rows:
        """Some of them, copied, with other weights."""
        return replace(self._at(indices), weights=weights)

    def shifted(self, by: int) -> Rows:
        """The same at later positions."""
        return replace(self, positions=self.positions + by)

    def _at(self, indices: np.ndarray | slice) -> Rows:
        return Rows(
            self.points[indices],
            self.weights[indices],
            None if self.labels is None else self.labels[indices],
            self.positions[indices],
        )

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """For a file."""
        found = {"points": self.points, "weights": self.weights, "positions": self.positions}
        if self.labels is not None:
            found["labels"] = self.labels
        return {f"{name}_{key}": value for key, value in found.items()}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> Rows:
        """From what :meth:`arrays` gave.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If they differ in length.
        """
        labels = arrays.get(f"{name}_labels")
        found = cls(arrays[f"{name}_points"], arrays[f"{name}_weights"], labels, arrays[f"{name}_positions"])
        lengths = {len(array) for array in (found.points, found.weights, found.positions)}
        if len(lengths | ({len(labels)} if labels is not None else set())) != 1:
            raise ValueError(f"the arrays of {name} differ in length")
        return found


@dataclass(frozen=True, eq=False)
class Arrived:
    """Rows at the door: the caller's arrays, on the host, of which nothing was copied yet."""

    points: np.ndarray
    weights: np.ndarray
    labels: np.ndarray | None
    first: int

    @classmethod
    def of(cls, data: WeightedSet, first: int) -> Arrived:
        """Of a weighted set whose first row is at position ``first``."""
        labels = None if data.labels is None else to_host(data.labels)
        if labels is not None and labels.dtype == object:
            raise TypeError("labels are Python objects, which cannot be saved; make them numbers or strings")
        return cls(to_host(data.points), to_host(data.weights), labels, first)

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.points)

    @property
    def layout(self) -> Layout:
        """Columns and types; strings of any width are of one type."""
        labels = None
        if self.labels is not None:
            kind = self.labels.dtype.kind
            labels = {"U": "text", "S": "bytes"}.get(kind, str(self.labels.dtype))
        return Layout(self.points.shape[1], str(self.points.dtype), labels)

    def cut(self, start: int, stop: int) -> Rows:
        """Consecutive rows; points and labels are still the caller's."""
        part = slice(start, stop)
        return Rows(
            self.points[part],
            self.weights[part].astype(np.float64),
            None if self.labels is None else self.labels[part],
            np.arange(self.first + start, self.first + stop, dtype=np.int64),
        )

    def kept(self, start: int, stop: int) -> Rows:
        """Consecutive rows, copied, since the caller may reuse the arrays."""
        rows = self.cut(start, stop)
        return replace(
            rows, points=rows.points.copy(), labels=None if rows.labels is None else rows.labels.copy()
        )


@dataclass(frozen=True, eq=False)
class Node:
    """A coreset of 2^(level - 1) blocks.

    ``place`` is the shard and the number of the first of them, ``mass`` the sum of the weights that
    the rows had when they were pushed, which sampling keeps only on average.
    """

    rows: Rows
    level: int
    place: tuple[int, int]
    mass: float
    accuracy: Accuracy

    def shifted(self, by: int) -> Node:
        """The same, with its rows at later positions."""
        return replace(self, rows=self.rows.shifted(by))

    def to_dict(self) -> dict[str, Any]:
        """All but the rows, for JSON."""
        return {
            "level": self.level,
            "place": list(self.place),
            "mass": self.mass.hex(),
            "accuracy": [self.accuracy.epsilon, self.accuracy.delta],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], rows: Rows) -> Node:
        """From what :meth:`to_dict` gave."""
        shard, block = record["place"]
        return cls(
            rows,
            int(record["level"]),
            (int(shard), int(block)),
            float.fromhex(record["mass"]),
            Accuracy(*record["accuracy"]),
        )


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of several parts."""
    if len(parts) == 1:
        return parts[0]
    labels = [part.labels for part in parts if part.labels is not None]
    return Rows(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate(labels) if labels else None,
        np.concatenate([part.positions for part in parts]),
    )
