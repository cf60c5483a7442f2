"""Residuals of linear models: what least squares and l1 regression share.

The residual p.x + b - y is the inner product of the row (p, 1, y) with (x, b, -1), so a bound for
all linear functions of these rows covers regression on any of its columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from coresets._validate import as_floating, beside
from coresets.weighted_set import WeightedSet

__all__ = ["residual_rows", "residuals"]

Array = Any


def residual_rows(data: WeightedSet, *, intercept: bool) -> Array:
    """Rows (p, 1, y) whose inner product with (x, b, -1) is the residual of p.

    Parameters
    ----------
    data : WeightedSet
        Points (n, d), with labels or without.
    intercept : bool
        Whether to add the constant column.

    Returns
    -------
    array of shape (n, d'), d <= d' <= d + 2
        The points themselves when there is nothing to add.

    Raises
    ------
    TypeError
        If the labels are not real numbers.
    ValueError
        If the labels are on another device than the points, in the same library.
    """
    xp = array_namespace(data.points)
    columns = [data.points]
    if intercept:
        columns.append(xp.ones_like(data.points[:, :1]))
    if data.labels is not None:
        labels = data.labels
        if isinstance(labels, np.ndarray) and labels.dtype.kind not in "biuf":
            raise TypeError(f"labels have dtype {labels.dtype}; regression needs real numbers")
        labels = beside(as_floating(labels, "labels"), data.points, "labels")
        columns.append(xp.astype(labels, data.points.dtype)[:, None])
    return xp.concat(columns, axis=1) if len(columns) > 1 else data.points


def residuals(data: WeightedSet, query: Any, *, intercept: bool) -> Array:
    """Residuals of all points at one vector of coefficients.

    Parameters
    ----------
    data : WeightedSet
        Points (n, d), with labels or without.
    query : array of shape (d,), or (d + 1,) with an intercept
        Coefficients, the constant last.
    intercept : bool
        Whether the model has a constant term.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    ValueError
        If the number of coefficients is wrong.
    """
    xp = array_namespace(data.points)
    rows = residual_rows(data, intercept=intercept)
    coefficients = xp.asarray(query, dtype=rows.dtype, device=device(rows))
    expected = data.d + intercept
    if tuple(coefficients.shape) != (expected,):
        raise ValueError(f"query has shape {tuple(coefficients.shape)}; expected ({expected},) coefficients")
    if data.labels is not None:
        coefficients = xp.concat([coefficients, -xp.ones_like(coefficients[:1])])
    return rows @ coefficients
