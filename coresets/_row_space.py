"""Coordinates of weighted rows in their numerical row space, in float64 on the host.

Statements about linear functions of the rows do not change under an invertible map of the
columns, so algorithms that compare |p.x| over all x work on coordinates with orthonormal columns:
they have full column rank whatever the data, and are as well-conditioned as can be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coresets.sensitivity._rows import Rows, default_rank_tolerance, whitener

__all__ = ["RowSpace", "row_space"]

Floats = npt.NDArray[np.float64]


class RowSpace(NamedTuple):
    """Coordinates of the rows and the map that makes them."""

    coordinates: Floats
    """Matrix U with orthonormal columns, (n, r)."""
    basis: Floats
    """Matrix W with U = diag(factors) points W up to rounding, (d, r)."""


def row_space(points: Floats, factors: Floats | None = None) -> RowSpace:
    """Coordinates U = diag(factors) points W with orthonormal columns, one for each dimension of the span.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite rows.
    factors : array of shape (n,), optional
        Non-negative factors of the rows, not all zero; ones by default.

    Returns
    -------
    RowSpace
        r is the numerical rank, possibly 0. Rows of zeros stay zero exactly.
    """
    n, d = points.shape
    largest = 1.0 if factors is None else float(np.max(factors))
    scaled = None if factors is None else np.asarray(factors, dtype=np.float64) / largest
    rows, whitening = whitener(Rows(points, scaled, np.float64), default_rank_tolerance(n, d))
    basis = whitening[:, np.any(whitening != 0.0, axis=0)]
    coordinates = np.empty((n, basis.shape[1]))
    for part, image in rows.images(basis):
        coordinates[part] = image
    if rows.scale is not None:
        basis = rows.scale[:, None] * basis
    return RowSpace(coordinates, basis / largest)
