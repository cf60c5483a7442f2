"""What a coreset can be made to keep exactly: sums over the points of a few functions of each.

With s the sensitivities from which a coreset was drawn, a feature vector q(p) contributes s(p) q(p), and
the moment of the full data is T = sum s q. The measure s makes features comparable: a loss with
w f <= s F has w f/(s F) in [0, 1], and it is this share that low-degree features have to explain (D6).
The first feature is always the constant 1, whose moment is the total sensitivity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from coresets._validate import as_floating, check_finite, check_integer, check_non_negative
from coresets.sensitivity.orthonormal import orthonormaliser
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["CalibratedLoss", "Contributions", "Moments", "Polynomials", "directions"]

Array = Any
Floats = npt.NDArray[np.float64]

_ROWS = 4096  # features of so many points are held at once


class Moments(Protocol):
    """Features of the points, and the measure in which they are added up."""

    @property
    def measure(self) -> Floats:
        """The measure s, shape (n,); no feature matters where it is 0."""
        ...

    @property
    def count(self) -> int:
        """Number k of features, the constant included."""
        ...

    def features(self, rows: Any) -> Floats:
        """Features q of some points (indices or a slice), the constant first, shape (number, k)."""
        ...

    def totals(self) -> Floats:
        """Moments T = sum s q of the full data, shape (k,)."""
        ...

    def sizes(self) -> Floats:
        """Sums of s |q| over the full data, shape (k,), which errors of moments are measured against."""
        ...


@runtime_checkable
class CalibratedLoss(Protocol):
    """A loss that knows which moments explain much of its costs."""

    def moments(self, data: WeightedSet, sensitivities: Any) -> Moments:
        """Moments of the data, measured by the sensitivities from which a coreset is drawn."""


def _measure(values: object, n: int | None = None) -> Floats:
    measure = np.asarray(to_host(check_non_negative(values, name="measure")), dtype=np.float64)
    if measure.ndim != 1 or (n is not None and measure.shape != (n,)):
        expected = "(n,)" if n is None else f"({n},)"
        raise ValueError(f"measure has shape {measure.shape}; expected {expected}, one value a point")
    if not np.any(measure > 0.0):
        raise ValueError("measure is zero everywhere; there is nothing to calibrate")
    return measure


def directions(rows: Array, factors: Array, measure: Array) -> Floats:
    """Rows ``factors p / measure``, and zero where the measure is.

    Parameters
    ----------
    rows : array of shape (n, d)
        Points.
    factors, measure : arrays of shape (n,)
        Non-negative factors, and the measure.
    """
    host = np.asarray(to_host(rows), dtype=np.float64)
    scale = np.asarray(to_host(factors), dtype=np.float64).copy()
    below = np.asarray(to_host(measure), dtype=np.float64)
    np.divide(scale, below, out=scale, where=below > 0.0)
    scale[below == 0.0] = 0.0
    return host * scale[:, None]


@dataclass(frozen=True, eq=False)
class Polynomials:
    """The constant and the monomials of chosen degrees in one direction a point.

    Parameters
    ----------
    directions : array of shape (n, d)
        Finite directions u. They are replaced by coordinates in which sum s u u^T is t times the
        identity, t the sum of s; columns that depend on others drop out, and the span of the features
        stays the same.
    measure : array of shape (n,)
        Non-negative measure s, not all zero.
    degrees : tuple of int
        Degrees of the monomials, of 1 and 2, without repetition. With r the rank of the directions
        there are r of degree one and r (r + 1)/2 of degree two.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.calibration import Polynomials
    >>> u = np.random.default_rng(0).standard_normal((100, 3))
    >>> Polynomials(u, np.ones(100)).count, Polynomials(u, np.ones(100), (1, 2)).count
    (4, 10)
    """

    directions: Array
    measure: Array
    degrees: tuple[int, ...] = (1,)
    _coordinates: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = as_floating(self.directions, "directions")
        if given.ndim != 2 or 0 in given.shape:
            raise ValueError(f"directions has shape {tuple(given.shape)}; pass (n, d), one row a point")
        check_finite(given, "directions")
        host = np.asarray(to_host(given), dtype=np.float64)
        measure = _measure(self.measure, len(host))
        degrees = tuple(check_integer(degree, "degrees", at_least=1) for degree in self.degrees)
        if not degrees or len(set(degrees)) < len(degrees) or max(degrees) > 2:
            raise ValueError(f"degrees = {self.degrees!r}; pass (1,), (2,) or (1, 2)")
        coordinates = host @ np.asarray(orthonormaliser(host, measure))
        object.__setattr__(self, "directions", host)
        object.__setattr__(self, "measure", measure)
        object.__setattr__(self, "degrees", tuple(sorted(degrees)))
        object.__setattr__(self, "_coordinates", coordinates * np.sqrt(float(np.sum(measure))))

    @property
    def rank(self) -> int:
        """Dimension r of the span of the directions."""
        return int(self._coordinates.shape[1])

    @property
    def count(self) -> int:
        """Number of features, the constant included."""
        r = self.rank
        return 1 + sum(r if degree == 1 else r * (r + 1) // 2 for degree in self.degrees)

    def to_degree(self, degree: int) -> Polynomials:
        """All monomials up to a degree of 1 or 2."""
        return replace(self, degrees=tuple(range(1, check_integer(degree, "degree", at_least=1) + 1)))

    def features(self, rows: Any) -> Floats:
        """Features of some points, the constant first."""
        u = self._coordinates[rows]
        parts = [np.ones((len(u), 1))]
        if 1 in self.degrees:
            parts.append(u)
        if 2 in self.degrees:
            first, second = np.triu_indices(self.rank)
            parts.append(u[:, first] * u[:, second])
        return np.hstack(parts)

    def totals(self) -> Floats:
        """Moments of the full data."""
        return self._sums(absolute=False)

    def sizes(self) -> Floats:
        """Sums of s |q| over the full data."""
        return self._sums(absolute=True)

    def _sums(self, *, absolute: bool) -> Floats:
        """Sums of s q or s |q|: those of degree two are a matrix product, and never made as features."""
        first, second = np.zeros(self.rank), np.zeros((self.rank, self.rank))
        for start in range(0, len(self.measure), _ROWS):
            part = slice(start, start + _ROWS)
            u = np.abs(self._coordinates[part]) if absolute else self._coordinates[part]
            weighted = u * self.measure[part, None]
            first += weighted.sum(axis=0)
            if 2 in self.degrees:
                second += weighted.T @ u
        parts = [np.array([np.sum(self.measure)])]
        if 1 in self.degrees:
            parts.append(first)
        if 2 in self.degrees:
            parts.append(second[np.triu_indices(self.rank)])
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Contributions:
    """Moments given by what every point adds to them, such as its costs at a few queries.

    Parameters
    ----------
    values : array of shape (n, k - 1)
        What point p adds to each moment of the full data, its mass included; finite.
    measure : array of shape (n,)
        Sensitivities s from which a coreset is drawn. A point with s = 0 is never drawn, so its row of
        ``values`` has to be zero.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, or a point without measure contributes.
    """

    values: Array
    measure: Array

    def __post_init__(self) -> None:
        given = as_floating(self.values, "values")
        if given.ndim != 2 or 0 in given.shape:
            raise ValueError(f"values has shape {tuple(given.shape)}; pass (n, k), one row a point")
        check_finite(given, "values")
        host = np.asarray(to_host(given), dtype=np.float64)
        measure = _measure(self.measure, len(host))
        lost = np.any(host != 0.0, axis=1) & (measure == 0.0)
        if np.any(lost):
            raise ValueError(
                f"values[{int(np.argmax(lost))}] is not zero, but its measure is: such a point is never "
                "drawn; pass sensitivities that bound its share"
            )
        object.__setattr__(self, "values", host)
        object.__setattr__(self, "measure", measure)

    @property
    def count(self) -> int:
        """Number of features, the constant included."""
        return 1 + int(self.values.shape[1])

    def features(self, rows: Any) -> Floats:
        """Features of some points, the constant first."""
        measure, values = self.measure[rows], self.values[rows]
        shares = np.zeros_like(values)
        np.divide(values, measure[:, None], out=shares, where=measure[:, None] > 0.0)
        return np.hstack([np.ones((len(values), 1)), shares])

    def totals(self) -> Floats:
        """Moments of the full data."""
        totals: Floats = np.append(np.sum(self.measure), np.sum(self.values, axis=0))
        return totals

    def sizes(self) -> Floats:
        """Sums of s |q| over the full data."""
        sizes: Floats = np.append(np.sum(self.measure), np.sum(np.abs(self.values), axis=0))
        return sizes
