"""The linear map that makes weighted columns orthonormal.

In these coordinates a sum of squares over the data is the squared length of the query, so errors
of coresets, worst queries and ellipsoids are read off directly.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from coresets._validate import beside, check_points, check_weights
from coresets.sensitivity._rows import Rows, default_rank_tolerance, whitener

__all__ = ["orthonormaliser"]

Array = Any


def orthonormaliser(points: Array, weights: Array | None = None) -> Array:
    """Matrix W such that the rows sqrt(w) p W form orthonormal columns.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows of any rank.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero; ones by default.

    Returns
    -------
    array of shape (d, r)
        Full column rank; r is the numerical rank of the weighted points. In float64, on the
        device of the points.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, or a weight is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.sensitivity import orthonormaliser
    >>> A = np.array([[3.0, 3.0], [4.0, 4.0]])
    >>> U = A @ orthonormaliser(A)
    >>> U.shape, bool(np.allclose(U.T @ U, 1.0))
    ((2, 1), True)
    """
    points = check_points(points)
    if points.ndim != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
    xp = array_namespace(points)
    root = None
    if weights is not None:
        masses = beside(check_weights(weights, points.shape[0]), points, "weights")
        root = xp.sqrt(xp.astype(masses, xp.float64))
    rows, whitening = whitener(Rows(points, root, xp.float64), default_rank_tolerance(*points.shape))
    # Columns of the image are orthonormal or zero, and the zero ones are dropped.
    squared_norms = xp.linalg.diagonal(rows.gram(whitening))
    kept = xp.nonzero(squared_norms > 0.5)[0]
    if rows.scale is not None:
        whitening = rows.scale[:, None] * whitening
    return xp.take(whitening, kept, axis=1)
