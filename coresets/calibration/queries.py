r"""Distributions of queries, through the second moments K(p, q) = E f(p, x) f(q, x) of the costs.

For f(p, x) = phi(p.x) with phi(z) = z for z >= 0 and slope z below, write phi = e |.| + o id with
e = (1 - slope)/2 and o = (1 + slope)/2. If x has a rotation-invariant law, with E x x^T = I, then mixed terms
vanish by symmetry and

    K(p, q) = |p| |q| ( e^2 (2/pi) (sqrt(1 - rho^2) + rho arcsin rho) + o^2 rho ),    rho = cos(p, q),

which is the arc-sine kernel for |.| and the arc-cosine kernel of degree one for ReLU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from coresets._validate import as_floating, check_finite
from coresets.sensitivity.orthonormal import orthonormaliser
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["EmpiricalQueries", "QueryDistribution", "RotationInvariant"]

Array = Any
Floats = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


@runtime_checkable
class QueryDistribution(Protocol):
    """A law of queries x, of which second moments of the costs are known."""

    def embedded(self, data: WeightedSet) -> Floats:
        """What :meth:`kernel` needs of every point, one row a point."""

    def kernel(self, first: Floats, second: Floats) -> Floats:
        """E f(p, x) f(q, x) of two groups of embedded points, shape (rows of first, rows of second)."""


class _Slope(Protocol):
    @property
    def slope(self) -> float: ...


def _matrix(value: object, name: str) -> Floats:
    given = as_floating(value, name)
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; pass a matrix")
    check_finite(given, name)
    return np.asarray(to_host(given), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class RotationInvariant:
    """Queries x = root y with y of a rotation-invariant law, E y y^T = I; costs are phi(p.x).

    Any such law gives the same second moments as the standard Gaussian, since phi is homogeneous: for y
    uniform on a sphere, the radius has to be the root of the dimension.

    Parameters
    ----------
    link : Link
        phi: ``Absolute()``, ``ReLU()``, ``LeakyReLU(slope)`` or ``Identity()`` of ``coresets.homogeneous``.
    root : array of shape (d, r)
        A matrix with root root^T = E x x^T.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.calibration import RotationInvariant
    >>> from coresets.homogeneous import ReLU
    >>> law = RotationInvariant(ReLU(), np.eye(2))
    >>> law.kernel(np.array([[3.0, 0.0]]), np.array([[3.0, 0.0], [-1.0, 0.0]]))  # 9 E [z]_+^2, and 0
    array([[4.5, 0. ]])
    """

    link: _Slope
    root: Array

    def __post_init__(self) -> None:
        if isinstance(self.link, type) or not hasattr(self.link, "slope"):
            raise TypeError(f"link = {self.link!r} is no link; pass Absolute(), ReLU() or another one")
        object.__setattr__(self, "root", _matrix(self.root, "root"))

    @classmethod
    def gaussian(cls, link: _Slope, covariance: Array) -> RotationInvariant:
        """Gaussian queries of mean zero.

        Parameters
        ----------
        link : Link
            phi.
        covariance : array of shape (d, d)
            Symmetric and positive semidefinite.
        """
        matrix = _matrix(covariance, "covariance")
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"covariance has shape {matrix.shape}; pass a square matrix")
        size = float(np.max(np.abs(matrix)))
        if float(np.max(np.abs(matrix - matrix.T))) > 1e3 * _EPS * size:
            raise ValueError("covariance is not symmetric; pass (C + C.T)/2")
        values, vectors = np.linalg.eigh(matrix)
        if float(values[0]) < -1e3 * len(values) * _EPS * size:
            raise ValueError(
                f"covariance has the eigenvalue {float(values[0]):.3g}; pass a semidefinite matrix"
            )
        return cls(link, vectors * np.sqrt(np.maximum(values, 0.0)))

    @classmethod
    def whitened(
        cls, link: _Slope, data: WeightedSet, sensitivities: Array | None = None
    ) -> RotationInvariant:
        """Queries that are isotropic in the coordinates in which the data are.

        Parameters
        ----------
        link : Link
            phi.
        data : WeightedSet
            The data.
        sensitivities : array of shape (n,), optional
            s: the matrix sum (w p)(w p)^T/s becomes the identity; without them sum w p p^T does.
        """
        weights = np.asarray(to_host(data.weights), dtype=np.float64)
        if sensitivities is not None:
            below = np.asarray(to_host(sensitivities), dtype=np.float64)
            squares = np.zeros_like(weights)
            np.divide(weights * weights, below, out=squares, where=below > 0.0)
            weights = squares
        points = np.asarray(to_host(data.points), dtype=np.float64)
        return cls(link, np.asarray(orthonormaliser(points, weights)))

    def embedded(self, data: WeightedSet) -> Floats:
        """Points in the coordinates of y."""
        if data.d != self.root.shape[0]:
            raise ValueError(f"root has {self.root.shape[0]} rows, the data {data.d} columns")
        return np.asarray(to_host(data.points), dtype=np.float64) @ np.asarray(self.root)

    def kernel(self, first: Floats, second: Floats) -> Floats:
        """The closed form above."""
        lengths, others = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        product = np.outer(lengths, others)
        inner = first @ second.T
        cosine = np.zeros_like(inner)
        np.divide(inner, product, out=cosine, where=product > 0.0)
        cosine = np.clip(cosine, -1.0, 1.0)
        even, odd = 0.5 * (1.0 - self.link.slope), 0.5 * (1.0 + self.link.slope)
        root = np.sqrt((1.0 - cosine) * (1.0 + cosine))
        absolute = (2.0 / math.pi) * (root + cosine * np.arcsin(cosine))
        found: Floats = product * (even * even * absolute + odd * odd * cosine)
        return found


class _HasCosts(Protocol):
    def costs(self, data: WeightedSet, query: Any) -> Array: ...


@dataclass(frozen=True, eq=False)
class EmpiricalQueries:
    """Every row of a matrix with the same probability, and any loss.

    Parameters
    ----------
    loss : Loss
        Anything with a method ``costs(data, query)``.
    queries : array of shape (N, ...)
        The queries, one a row.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import LeastSquares, WeightedSet
    >>> from coresets.calibration import EmpiricalQueries
    >>> law = EmpiricalQueries(LeastSquares(), np.array([[1.0], [2.0]]))
    >>> rows = law.embedded(WeightedSet(np.array([[1.0], [3.0]])))
    >>> law.kernel(rows, rows)  # (1 + 16)/2 times the squares of the points
    array([[  8.5,  76.5],
           [ 76.5, 688.5]])
    """

    loss: _HasCosts
    queries: Array

    def __post_init__(self) -> None:
        if isinstance(self.loss, type) or not callable(getattr(self.loss, "costs", None)):
            raise TypeError(f"loss = {self.loss!r} has no costs; pass a loss")
        given = as_floating(self.queries, "queries")
        if given.ndim < 1 or 0 in given.shape:
            raise ValueError(f"queries has shape {tuple(given.shape)}; pass at least one query, one a row")
        check_finite(given, "queries")
        object.__setattr__(self, "queries", given)

    def embedded(self, data: WeightedSet) -> Floats:
        """Costs at all queries over the root of their number, (n, N)."""
        columns = [np.asarray(to_host(self.loss.costs(data, x)), dtype=np.float64) for x in self.queries]
        return np.stack(columns, axis=1) / math.sqrt(len(columns))

    def kernel(self, first: Floats, second: Floats) -> Floats:
        """Mean of products of costs."""
        found: Floats = first @ second.T
        return found
