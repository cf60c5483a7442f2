r"""Features that explain scaled losses, and so say what halving is better at than independent draws.

With a = w p, sensitivities s, M = sum a a^T/s and u = M^(-1/2) a/s (or, for squares, with the rows that
have orthonormal columns), a loss that is homogeneous in p.x has the scaled form link(u.y), y a unit vector,
times a number of at most 1. A kernel c0 + c1 z + c2 z^2 in z = u.u' explains linear functions and squares
exactly, |z| up to 1/8 and [z]_+ up to 1/16: for the last two only the residual form of D2 is left, whose
size grows as 1/eps^2, and in high dimension no method has a size of 1/eps for all x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from coresets._validate import as_floating, check_finite
from coresets.guarantees import FeatureBound
from coresets.halving.walk import InnerProducts, Walked
from coresets.homogeneous import AbsoluteSum
from coresets.l1_regression import L1Regression
from coresets.least_squares import LeastSquares
from coresets.residuals import residual_rows
from coresets.sensitivity import Sensitivities, lewis_weights, orthonormaliser, uniform_sensitivities
from coresets.weighted_set import WeightedSet, to_host

__all__ = [
    "AbsoluteFeatures",
    "BoundedSum",
    "Embedded",
    "Features",
    "GramFeatures",
    "KernelFeatures",
    "LinearFeatures",
    "LinearSum",
    "MappedFeatures",
]

Array = Any
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Embedded:
    """Features of the points of one set.

    Parameters
    ----------
    walked : Walked
        Features psi of every point, of length at most 1.
    bound : FeatureBound
        How well they explain the scaled losses.
    dimension : int or None
        Dimension of the features; None if it is not known or has no bound.
    """

    walked: Walked
    bound: FeatureBound
    dimension: int | None


@runtime_checkable
class Features(Protocol):
    """Features of points, with what they explain."""

    def embed(self, data: WeightedSet, sensitivities: Sensitivities) -> Embedded:
        """Features of all points, relative to these sensitivities."""

    def covers(self, loss: Any) -> bool:
        """Whether they explain the loss as their bound says."""


@dataclass(frozen=True)
class LinearSum:
    """Sums of w p.x, whose errors are relative to sum w |p.x| (guarantee D3 with :class:`LinearFeatures`).

    Parameters
    ----------
    intercept : bool
        Whether a constant column is added, for affine functions.
    """

    intercept: bool = False
    additive_error = True  # relative to more than the sum, which may vanish

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Certified l1 Lewis weights, whose total is the rank."""
        return lewis_weights(residual_rows(data, intercept=self.intercept), data.weights, p=1.0)


@dataclass(frozen=True)
class BoundedSum:
    """Sums of w <phi(p), x> for a map of bounded length, with errors relative to U sup|phi| |x|, U the mass.

    Means, moments and kernel means are of this kind. The sensitivities are the shares in the mass.
    """

    additive_error = True  # relative to the mass

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Shares in the mass, of total 1."""
        return uniform_sensitivities(data.weights)


def _lewis_units(data: WeightedSet, sensitivities: Sensitivities, intercept: bool) -> tuple[Floats, float]:
    """Rows u/nu of length at most 1, and nu^2, which bounds the length of y over sum w |p.x|, times nu."""
    rows = residual_rows(data, intercept=intercept)
    points, weights = to_host(rows).astype(np.float64), to_host(data.weights).astype(np.float64)
    values = to_host(sensitivities.values).astype(np.float64)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > 0.0)
    # Masses are scaled to a maximum of 1: u does not change, and no square overflows.
    weights = weights / np.max(weights)
    masses = weights * weights * inverse
    if not np.any(masses > 0.0):
        return np.zeros((data.n, 1)), 1.0
    units = (points @ np.asarray(orthonormaliser(points, masses))) * (weights * inverse)[:, None]
    longest = max(1.0, math.sqrt(float(np.max(np.sum(units * units, axis=1)))))
    return np.ascontiguousarray(units / longest), longest * longest


def _polynomial(units: Floats, weights: tuple[float, float, float], bound: FeatureBound) -> Embedded:
    r = units.shape[1]
    parts = (1, r, r * (r + 1) // 2)
    dimension = sum(part for part, weight in zip(parts, weights, strict=True) if weight > 0.0)
    return Embedded(Walked(units, np.asarray(weights)), bound, dimension)


@dataclass(frozen=True)
class LinearFeatures:
    """u itself: explains sums of w p.x exactly (:class:`LinearSum`), relative to sum w |p.x|.

    Parameters
    ----------
    intercept : bool
        As that of the loss.
    """

    intercept: bool = False

    def embed(self, data: WeightedSet, sensitivities: Sensitivities) -> Embedded:
        """Whitened directions; the bound is 1 for certified Lewis weights, and computed for others."""
        units, norm = _lewis_units(data, sensitivities, self.intercept)
        return _polynomial(units, (0.0, 1.0, 0.0), FeatureBound(norm))

    def covers(self, loss: Any) -> bool:
        """Linear sums with the same intercept."""
        return isinstance(loss, LinearSum) and loss.intercept == self.intercept


@dataclass(frozen=True)
class GramFeatures:
    """u u^T: explains sums of squares exactly (:class:`LeastSquares`).

    Parameters
    ----------
    intercept : bool
        As that of the loss.
    """

    intercept: bool = False

    def embed(self, data: WeightedSet, sensitivities: Sensitivities) -> Embedded:
        """Rows with orthonormal columns, divided by the root of the sensitivity."""
        rows = residual_rows(data, intercept=self.intercept)
        points, weights = to_host(rows).astype(np.float64), to_host(data.weights).astype(np.float64)
        whitened = points @ np.asarray(orthonormaliser(points, weights))
        values = to_host(sensitivities.values).astype(np.float64)
        masses = np.divide(weights, values, out=np.zeros_like(values), where=values > 0.0)
        units = np.ascontiguousarray(whitened * np.sqrt(masses)[:, None])
        longest = float(np.max(np.sum(units * units, axis=1), initial=0.0))
        # Leverage scores are the squared lengths themselves; others must not be below them.
        norm = max(1.0, longest)
        units /= math.sqrt(norm)
        if units.shape[1] == 0:
            units = np.zeros((data.n, 1))
        return _polynomial(units, (0.0, 0.0, 1.0), FeatureBound(norm, spread=math.sqrt(2.0)))

    def covers(self, loss: Any) -> bool:
        """Least squares with the same intercept."""
        return isinstance(loss, LeastSquares) and loss.intercept == self.intercept


@dataclass(frozen=True)
class AbsoluteFeatures:
    """1, u and u u^T: explain |z| by 1/8 + z^2 up to 1/8, and [z]_+ by 1/16 + z/2 + z^2/2 up to 1/16.

    The claim is for sums of |p.x|, and of the residual form only. Sums of [p.x]_+ profit as well: up to the
    linear part, which is balanced too, they are half of it.

    Parameters
    ----------
    intercept : bool
        As that of the loss.
    """

    intercept: bool = False

    def embed(self, data: WeightedSet, sensitivities: Sensitivities) -> Embedded:
        """Whitened directions under the kernel (1 + 8 z + 8 z^2)/17."""
        units, norm = _lewis_units(data, sensitivities, self.intercept)
        # |xi|^2 = (1/8)^2/c0 + 1/c2 with c0 = 1/17, c2 = 8/17; the kernel is at least -1/17.
        length = math.sqrt(17.0 / 64.0 + 17.0 / 8.0)
        bound = FeatureBound(norm * length, norm / 8.0, math.sqrt(2.0 + 2.0 / 17.0))
        return _polynomial(units, (1.0 / 17.0, 8.0 / 17.0, 8.0 / 17.0), bound)

    def covers(self, loss: Any) -> bool:
        """Sums of |p.x| and of absolute residuals."""
        if isinstance(loss, L1Regression):
            return loss.intercept == self.intercept
        return isinstance(loss, AbsoluteSum) and not self.intercept


@dataclass(frozen=True)
class MappedFeatures:
    """Features of the caller's own, phi(data)/length; explain :class:`BoundedSum` exactly.

    Parameters
    ----------
    function : callable
        ``function(data)`` returns rows of shape (n, k).
    length : float
        Length that no row exceeds, for any data.
    """

    function: Callable[[WeightedSet], Array]
    length: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function = {self.function!r} is not callable; pass a function of the data")
        if not self.length > 0.0 or not math.isfinite(self.length):
            raise ValueError(f"length = {self.length!r} is not positive and finite")

    def embed(self, data: WeightedSet, sensitivities: Sensitivities) -> Embedded:
        """The rows that the function returns.

        Raises
        ------
        ValueError
            If there is not one row a point, or one is longer than promised.
        """
        rows = as_floating(self.function(data), "features")
        if rows.ndim != 2 or rows.shape[0] != data.n or rows.shape[1] < 1:
            raise ValueError(f"features have shape {tuple(rows.shape)}; expected ({data.n}, k)")
        check_finite(rows, "features")
        units = np.ascontiguousarray(to_host(rows), dtype=np.float64) / self.length
        longest = float(np.max(np.sqrt(np.sum(units * units, axis=1))))
        if longest > 1.0 + 1e-9:
            raise ValueError(
                f"a feature has length {longest * self.length:.6g}, above length = {self.length:g}; raise it"
            )
        return _polynomial(units, (0.0, 1.0, 0.0), FeatureBound())

    def covers(self, loss: Any) -> bool:
        """Bounded sums."""
        return isinstance(loss, BoundedSum)


@dataclass(frozen=True)
class KernelFeatures:
    """Features given by a kernel with K(p, p) <= 1; explain :class:`BoundedSum` exactly.

    All inner products are held at once: 8 n^2 bytes.

    Parameters
    ----------
    kernel : callable
        ``kernel(points, points)`` returns inner products of shape (n, n).
    non_negative : bool
        Whether no inner product is negative, which is then checked.
    most : int
        Points above which the reduction is refused, for their inner products take 8 n^2 bytes.
    """

    kernel: Callable[[Array, Array], Array]
    non_negative: bool = False
    most: int = 20_000

    def __post_init__(self) -> None:
        if not callable(self.kernel):
            raise TypeError(f"kernel = {self.kernel!r} is not callable; pass a function of two arrays")

    def embed(self, data: WeightedSet, sensitivities: Sensitivities) -> Embedded:
        """Inner products of all points.

        Raises
        ------
        ValueError
            If there are too many points, or the inner products are not those of a kernel with K(p, p) <= 1.
        """
        if data.n > self.most:
            raise ValueError(f"{data.n:,} points have {data.n**2:,} inner products; reduce them in a stream")
        matrix = InnerProducts(self.kernel(data.points, data.points)).matrix
        if matrix.shape[0] != data.n:
            raise ValueError(f"kernel has shape {matrix.shape}; expected ({data.n}, {data.n})")
        if float(np.max(np.diagonal(matrix))) > 1.0 + 1e-9:
            raise ValueError("K(p, p) exceeds 1; divide the kernel by its largest value")
        if self.non_negative and float(np.min(matrix)) < 0.0:
            raise ValueError("an inner product is negative; pass non_negative=False")
        spread = math.sqrt(2.0) if self.non_negative else 2.0
        return Embedded(Walked(matrix), FeatureBound(spread=spread), None)

    def covers(self, loss: Any) -> bool:
        """Bounded sums."""
        return isinstance(loss, BoundedSum)
