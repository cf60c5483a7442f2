"""Leverage scores: the sensitivities of squared linear costs.

For rows a_i with weights w_i, the worst share sup_x w_i (a_i.x)^2 / sum_j w_j (a_j.x)^2 equals
w_i a_i^T (A^T W A)^+ a_i, and these scores sum to the rank of the rows with positive weight.

Cost: 3 n d^2 flops and two passes over the data when they are well-conditioned, at most one
blocked QR decomposition more otherwise; memory beyond the input is one score a row and one block.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from coresets._threads import one_blas_thread
from coresets._validate import as_floating, beside, check_non_negative, check_points, check_real
from coresets.sensitivity._rows import Rows, default_rank_tolerance, whitener

__all__ = ["leverage_scores"]

Array = Any


def _checked_weights(weights: object, points: Array) -> Array:
    """Masses of shape (n,) or (..., n) in the library and on the device of the points."""
    n = int(points.shape[-2])
    masses = as_floating(weights, "weights")
    if masses.ndim < 1 or masses.shape[-1] != n:
        raise ValueError(
            f"weights has shape {tuple(masses.shape)}; expected ({n},) or (..., {n}), one mass a row"
        )
    masses = check_non_negative(masses, name="weights")
    own = array_namespace(masses)
    if bool(own.any(own.max(masses, axis=-1) == 0)):
        raise ValueError("weights are all zero; at least one point needs a positive mass")
    batches = tuple(masses.shape[:-1]), tuple(points.shape[:-2])
    for i in range(1, 1 + min(len(batches[0]), len(batches[1]))):
        if batches[0][-i] != batches[1][-i] and 1 not in (batches[0][-i], batches[1][-i]):
            raise ValueError(
                f"weights has shape {tuple(masses.shape)}, which does not match points of shape "
                f"{tuple(points.shape)}; pass ({n},) or one row of weights for each batch entry"
            )
    return beside(masses, points, "weights")


def _weighted_rows(points: Array, weights: Array | None) -> Rows:
    """Rows sqrt(w) a, with the weights first scaled to a maximum of 1: scores do not see it."""
    xp = array_namespace(points)
    if weights is None:
        return Rows(points, None, points.dtype)
    weights = xp.astype(weights, xp.float64, copy=False)
    root = xp.sqrt(weights) / xp.sqrt(xp.max(weights, axis=-1, keepdims=True))
    return Rows(points, xp.astype(root, points.dtype, copy=False), points.dtype)


@one_blas_thread()
def leverage_scores(
    points: Array, weights: Array | None = None, *, rank_tolerance: float | None = None
) -> Array:
    """Leverage scores of weighted rows, the l2 sensitivities.

    The score of row i is ``w_i a_i^T (A^T W A)^+ a_i``, its worst share of a sum of squared
    linear costs over all queries.

    Parameters
    ----------
    points : array of shape (..., n, d)
        Finite real rows, n, d >= 1, of any array-API library; n < d and any rank are allowed.
    weights : array of shape (n,) or (..., n), optional
        Non-negative finite masses, not all zero; leading axes broadcast against those of
        ``points``. Ones by default.
    rank_tolerance : float, optional
        Singular values up to this multiple of the largest one count as zero, after columns are
        scaled to similar norms; in [0, 1). The default, max(n, d) times the machine epsilon
        of float64, takes the entries as exact whatever their dtype.

    Returns
    -------
    array of shape (..., n)
        Scores in [0, 1], with sum the numerical rank; 0 exactly for zero rows and zero weights.
        Same library and device as ``points``, in float32 for float32, else float64.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a weight is negative, all weights are zero, or
        the tolerance lies outside [0, 1).
    TypeError
        If the entries are not real numbers.

    Notes
    -----
    The d x d Gram matrix is accumulated over blocks of rows and its inverse square root W
    applied to them: scores are the squared row norms of A W. The condition number, measured on
    the Gram matrix, chooses the route: up to 5 this is all; up to 1e6 a second Gram matrix, of
    A W, repairs W (CholeskyQR2 [1]_); beyond, and when the rank must be decided, W comes from the
    singular values of a blocked QR factor. The error is that of Householder QR, of the order of
    machine epsilon times the condition number. float32 rows that are not nearly orthonormal up to
    scale are worked on in float64, block by block.

    References
    ----------
    .. [1] Y. Yamamoto, Y. Nakatsukasa, Y. Yanagisawa, T. Fukaya. Roundoff error analysis of the
       CholeskyQR2 algorithm. Electronic Transactions on Numerical Analysis 44, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.sensitivity import leverage_scores
    >>> leverage_scores(np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 2.0]])).round(12)
    array([1. , 0.5, 0.5])
    >>> leverage_scores(np.ones((2, 1)), weights=[3.0, 1.0]).round(12)
    array([0.75, 0.25])
    """
    points = check_points(points)
    xp = array_namespace(points)
    n, d = int(points.shape[-2]), int(points.shape[-1])
    if weights is not None:
        weights = _checked_weights(weights, points)
    if rank_tolerance is None:
        tolerance = default_rank_tolerance(n, d)
    else:
        tolerance = check_real(rank_tolerance, "rank_tolerance")
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"rank_tolerance = {tolerance:g} is outside [0, 1); pass a relative size")

    rows, whitening = whitener(_weighted_rows(points, weights), tolerance)
    # Rounding can carry a score of 1 just past it.
    return xp.clip(rows.squared_norms(whitening, points.dtype), max=1.0)
