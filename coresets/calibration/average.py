"""The exact mean square error of a coreset over random queries: a quadratic form, in blocks.

With v the weights of the coreset (0 for what was dropped) and w those of the data,
E err(x)^2 = (v - w)^T K (v - w). K has n^2 entries and is never stored. Cost O(n^2 r).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coresets.calibration.queries import QueryDistribution
from coresets.certificate import Certificate
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["average_case_error", "kernel_products", "spread_weights"]

Floats = npt.NDArray[np.float64]

_BLOCK = 1024  # a block of the kernel has the square of this
_FEW = 64  # whose block of the kernel is made for its diagonal
_EPS = float(np.finfo(np.float64).eps)


def spread_weights(data: WeightedSet, coreset: Coreset) -> Floats:
    """Weights of a coreset as a vector over all points of the data."""
    if not isinstance(data, WeightedSet):
        raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
    if not isinstance(coreset, Coreset):
        raise TypeError(f"coreset is a {type(coreset).__name__}; pass a Coreset of the data")
    if coreset.indices is None:
        raise TypeError("the coreset has free points; only kept rows of the data can be compared with them")
    kept = np.asarray(to_host(coreset.indices))
    if kept.size and int(kept[-1]) >= data.n:
        raise IndexError(f"index {int(kept[-1])} is outside the {data.n} points given")
    weights = np.zeros(data.n)
    weights[kept] = np.asarray(to_host(coreset.weights), dtype=np.float64)
    return weights


def kernel_products(law: QueryDistribution, rows: Floats, columns: Floats, vectors: Floats) -> Floats:
    """K(rows, columns) @ vectors, by blocks; shape (number of rows, number of vectors)."""
    found = np.zeros((len(rows), vectors.shape[1]))
    for i in range(0, len(rows), _BLOCK):
        for j in range(0, len(columns), _BLOCK):
            block = law.kernel(rows[i : i + _BLOCK], columns[j : j + _BLOCK])
            found[i : i + _BLOCK] += block @ vectors[j : j + _BLOCK]
    return found


def average_case_error(data: WeightedSet, coreset: Coreset, queries: QueryDistribution) -> Certificate:
    """Root mean square error of a coreset over random queries, exactly (D7).

    Parameters
    ----------
    data : WeightedSet
        The full data.
    coreset : Coreset
        Kept rows and any weights, however they were found.
    queries : QueryDistribution
        :class:`RotationInvariant` or :class:`EmpiricalQueries`, or one of your own.

    Returns
    -------
    Certificate
        Its value is the root of E err^2/E F^2. Details: ``mean_square_error``, ``mean_square_cost``, and
        ``rounding``, a bound on what floating-point sums can add to the value.

    Raises
    ------
    TypeError, ValueError, IndexError
        If an argument is of another kind, or they do not belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import SensitivityReducer, WeightedSet
    >>> from coresets.calibration import RotationInvariant, average_case_error
    >>> from coresets.homogeneous import Absolute, AbsoluteSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((2000, 3)))
    >>> coreset = SensitivityReducer(AbsoluteSum()).reduce(data, size=200, rng=0)
    >>> law = RotationInvariant.gaussian(Absolute(), np.eye(3))
    >>> average_case_error(data, coreset, law).value < 0.1
    True
    """
    after = spread_weights(data, coreset)
    if isinstance(queries, type) or not isinstance(queries, QueryDistribution):
        raise TypeError(f"queries = {queries!r}; pass RotationInvariant(...) or EmpiricalQueries(...)")
    before = np.asarray(to_host(data.weights), dtype=np.float64)
    rows = queries.embedded(data)
    moving = (before > 0.0) | (after > 0.0)
    rows, before, after = rows[moving], before[moving], after[moving]
    both = np.stack([after - before, before], axis=1)
    products = kernel_products(queries, rows, rows, both)
    error, cost = (float(both[:, k] @ products[:, k]) for k in range(2))
    error, cost = max(error, 0.0), max(cost, 0.0)  # a square, up to rounding
    # Cauchy-Schwarz in the kernel's space: |K(p, q)| <= |p|_K |q|_K, summed with absolute values.
    parts = (rows[i : i + _FEW] for i in range(0, len(rows), _FEW))
    lengths = np.sqrt(np.concatenate([np.diag(queries.kernel(part, part)) for part in parts]))
    rounding = 8.0 * _EPS * math.sqrt(len(rows)) * float(np.abs(both[:, 0]) @ lengths) ** 2
    return Certificate(
        "average-case error",
        "root mean square of the error over random queries, relative to that of the full cost",
        math.sqrt(error / cost) if cost > 0.0 else 0.0,
        details={
            "mean_square_error": error,
            "mean_square_cost": cost,
            "rounding": math.sqrt((error + rounding) / cost) - math.sqrt(error / cost) if cost > 0.0 else 0.0,
        },
    )
