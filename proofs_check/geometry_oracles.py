"""Ellipsoids, hulls and moments by independent means, for small sets.

An ellipsoid enters by its support function only, so that no inverse of its shape is needed; hulls
are enumerated facet by facet; moments are compared as fractions, without any rounding. As with the
other oracles, a figure that contradicts a claim is evaluated at a direction, a point or a design
that is at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial import ConvexHull

from coresets.errors import SolverError
from proofs_check.oracles import orthonormal_columns

__all__ = [
    "Frame",
    "Kept",
    "best_design",
    "exact_rank",
    "facet_normals",
    "inscribed_ratio",
    "log_det",
    "moment_residual",
    "variances",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates of the hull of a set in which uniform weights have the identity for covariance.

    Parameters
    ----------
    origin : array of shape (d,)
        The mean of the points, or zero if ellipsoids are centred there.
    map : array of shape (d, r)
        Takes (x - origin) to its coordinates.
    back : array of shape (r, d)
        Takes coordinates to x - origin.
    points : array of shape (n, r)
        Coordinates of the set.
    """

    origin: Floats
    map: Floats
    back: Floats
    points: Floats

    @classmethod
    def of(cls, points: npt.ArrayLike, *, symmetric: bool) -> Frame:
        """Frame of a set: of its linear span if ``symmetric``, else of its affine hull."""
        points = np.asarray(points, dtype=np.float64)
        origin = np.zeros(points.shape[1]) if symmetric else points.mean(axis=0)
        moved = points - origin
        if not symmetric:  # a constant column leaves the rounding of its mean
            moved[:, np.ptp(points, axis=0) == 0.0] = 0.0
        coordinates = (
            orthonormal_columns(moved) * np.sqrt(len(points)) if moved.any() else np.zeros((len(points), 0))
        )
        scale = np.maximum(np.abs(moved).max(axis=0), 1e-300)
        rank = coordinates.shape[1]
        rcond = max(moved.shape) * float(np.finfo(np.float64).eps)
        forward = np.zeros((points.shape[1], rank))
        if rank:
            forward = np.linalg.lstsq(moved / scale, coordinates, rcond=rcond)[0] / scale[:, None]
        return cls(origin, forward, coordinates.T @ moved / len(points), coordinates)

    @property
    def rank(self) -> int:
        """Dimension r of the hull."""
        return int(self.points.shape[1])

    def center(self, center: npt.ArrayLike) -> Floats:
        """Coordinates of a centre."""
        return (np.asarray(center, dtype=np.float64) - self.origin) @ self.map

    def shape(self, shape: npt.ArrayLike) -> Floats:
        """A shape matrix Q in these coordinates."""
        return self.map.T @ np.asarray(shape, dtype=np.float64) @ self.map

    def off_hull(self, center: npt.ArrayLike, shape: npt.ArrayLike) -> float:
        """Part of an ellipsoid outside the hull of the points, relative to the extent of the points."""
        extent = np.abs(self.points @ self.back).max(axis=0)
        # A column without extent is compared with the others; one point, with its own place.
        extent[extent == 0.0] = extent.max() or max(1.0, float(np.abs(self.origin).max()))
        moved = np.asarray(center, dtype=np.float64) - self.origin
        drift = np.abs(moved - self.center(center) @ self.back) / extent
        spread = np.asarray(shape, dtype=np.float64) - self.back.T @ self.shape(shape) @ self.back
        thickness = np.sqrt(np.abs(np.diagonal(spread))) / extent
        # Of the shape, which is squared, half of the digits are left.
        return float(max(drift.max(), np.square(thickness).max()))


def log_det(matrix: Floats) -> float:
    """Logarithm of the determinant; minus infinity unless it is positive."""
    sign, value = np.linalg.slogdet(matrix)
    return float(value) if sign > 0 else float("-inf")


def variances(points: Floats, weights: Floats) -> Floats:
    """x^T M^-1 x of every row, with M = sum u x x^T; infinite where M is singular.

    Parameters
    ----------
    points : array of shape (n, r)
        Rows x, lifted by a constant if the ellipsoid is free to move.
    weights : array of shape (n,)
        The design u.
    """
    matrix = points.T @ (weights[:, None] * points)
    try:
        solved = cho_solve(cho_factor(matrix), points.T)
    except np.linalg.LinAlgError:
        return np.full(len(points), np.inf)
    return np.einsum("ij,ji->i", points, solved)


def best_design(points: Floats) -> Floats:
    """Design u that maximises ln det sum u x x^T, by a conic solver; sums to 1.

    It is a design whatever the solver's accuracy, so its determinant is attained.

    Raises
    ------
    SolverError
        If the conic programme is not solved.
    """
    import cvxpy as cp  # noqa: PLC0415 - a second of import that only this oracle needs

    design = cp.Variable(len(points), nonneg=True)
    # The annotations of cvxpy leave out the atoms.
    matrix = points.T @ cp.diag(design) @ points  # type: ignore[attr-defined]
    largest = cp.Maximize(cp.log_det(matrix))  # type: ignore[attr-defined]
    problem = cp.Problem(largest, [cp.sum(design) == 1.0])  # type: ignore[attr-defined]
    problem.solve(solver=cp.CLARABEL)  # type: ignore[no-untyped-call]
    if design.value is None:
        raise SolverError(f"the design of {len(points)} points was not found: {problem.status}")
    found: Floats = np.maximum(np.asarray(design.value, dtype=np.float64), 0.0)
    return found / found.sum()


def facet_normals(points: Floats) -> Floats:
    """Outer normals of the facets of the convex hull, shape (facets, r).

    Raises
    ------
    ValueError
        If the hull is flat.
    """
    rank = points.shape[1]
    if len(points) == 0 or np.linalg.matrix_rank(points - points.mean(axis=0)) < rank:
        raise ValueError(f"the hull of these points has fewer than {rank} dimensions")
    if rank == 1:
        return np.array([[1.0], [-1.0]])
    normals: Floats = ConvexHull(points).equations[:, :-1]
    return normals


def inscribed_ratio(center: Floats, shape: Floats, points: Floats) -> float:
    """Largest ratio of an ellipsoid's half-width to the distance of the hull's boundary.

    The ellipsoid {c + y : y^T Q^-1 y <= 1} lies in the hull of the points exactly if no facet is
    nearer to c than the ellipsoid reaches in its direction. The ratio is evaluated with the points,
    not with Qhull's offsets, so that it is attained.

    Returns
    -------
    float
        At most 1 if the ellipsoid lies in the hull; infinite if its centre does not.
    """
    try:
        normals = facet_normals(points)
    except ValueError:
        return float("inf") if shape.any() else 0.0
    reach = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", normals, shape, normals), 0.0))
    room = np.max((points - center) @ normals.T, axis=0)
    return float("inf") if np.any(room <= 0.0) else float(np.max(reach / room))


def _fractions(array: npt.ArrayLike) -> list[Any]:
    """The same numbers as fractions: a float is one, and none of its digits is lost."""
    return [
        [Fraction(float(v)) for v in row] if np.ndim(row) else Fraction(float(row))
        for row in np.asarray(array, dtype=np.float64)
    ]


def exact_rank(rows: npt.ArrayLike) -> int:
    """Rank of a matrix of floats, by elimination with fractions."""
    matrix, rank = _fractions(np.atleast_2d(rows)), 0
    for column in range(len(matrix[0])):
        pivot = next((i for i in range(rank, len(matrix)) if matrix[i][column]), None)
        if pivot is None:
            continue
        matrix[rank], matrix[pivot] = matrix[pivot], matrix[rank]
        for i in range(rank + 1, len(matrix)):
            factor = matrix[i][column] / matrix[rank][column]
            if factor:
                matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[rank], strict=True)]
        rank += 1
    return rank


@dataclass(frozen=True)
class Kept:
    """Which moments a reduction promises to keep.

    Parameters
    ----------
    degrees : tuple of int
        1 for sums of coordinates, 2 for sums of products of two.
    mass : bool
        Whether the sum of the weights is kept as well.
    """

    degrees: tuple[int, ...]
    mass: bool = True


def moment_residual(points: npt.ArrayLike, before: npt.ArrayLike, after: npt.ArrayLike, kept: Kept) -> float:
    """Largest difference between the moments of two weightings of the same points.

    Everything is computed with fractions, so the figure is that of the weights and none of its own
    rounding. Where mass and first moments are kept, moments are taken about the mean of the
    weighting ``before``, for then a distant origin hides nothing; else about the origin. They are
    relative to the mass, and in units of the root mean square of each coordinate.

    Parameters
    ----------
    points : array of shape (n, d)
        The points.
    before, after : array of shape (n,)
        Two weightings; the first has a positive sum.
    kept : Kept
        The moments that are compared.
    """
    rows, old, new = _fractions(points), _fractions(before), _fractions(after)
    total, columns = sum(old), range(len(rows[0]))
    if kept.mass and 1 in kept.degrees:
        mean = [sum(w * row[j] for w, row in zip(old, rows, strict=True)) / total for j in columns]
        rows = [[value - center for value, center in zip(row, mean, strict=True)] for row in rows]
    squares = [sum(w * row[j] ** 2 for w, row in zip(old, rows, strict=True)) / total for j in columns]
    change = [b - a for a, b in zip(old, new, strict=True)]
    residuals = [abs(float(sum(change) / total))] if kept.mass else []
    for degree in kept.degrees:
        for chosen in combinations_with_replacement(columns, degree):
            moment = sum(
                w * math.prod(row[j] for j in chosen) for w, row in zip(change, rows, strict=True) if w
            )
            # Squared while it is a fraction, lest tiny units underflow.
            off = (moment / total) ** 2
            unit = math.prod(squares[j] for j in chosen)
            residuals.append(math.sqrt(off / unit) if unit else (float("inf") if off else 0.0))
    return max(residuals)
