"""Lower bounds on the least cost of k centres, certified, without solving anything (guarantee KM-B).

Any number below the optimum makes the sensitivity bounds valid, and any cost over it certifies centres.

* :func:`forest_lower_bound`: the points are divided into groups; k centres split a group into at most k
  stars, and stars cost at least half the lightest forest of k trees. One pass, both powers, any dimension.
* :func:`spectral_lower_bound`: k centres lie in an affine space of dimension k - 1, so that the squares
  beyond the k - 1 leading principal components have to be paid. Squared distances only, needs d >= k.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._random import Rng, host_generator
from coresets._threads import one_blas_thread
from coresets._validate import check_integer
from coresets.clustering import _kernels as kernels
from coresets.clustering.powers import SQUARED, Power
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["forest_lower_bound", "optimum_lower_bound", "spectral_lower_bound"]

Floats: TypeAlias = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_MULTIPLES = (1.5, 2.0, 3.0, 4.0, 6.0)  # of k: sizes of groups that are tried
_PILOT = 4000  # points on which they are compared
_BLOCK = 8192  # rows of a Gram matrix at once


def host_points(data: WeightedSet) -> Any:
    """The points as NumPy array that the kernels can read."""
    return np.ascontiguousarray(to_host(data.points))


def _check(data: object, k: object) -> int:
    if not isinstance(data, WeightedSet):
        raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
    return check_integer(k, "k", at_least=1)


def forest_lower_bound(
    data: WeightedSet, k: int, power: Power = SQUARED, *, rng: Rng, group: int | None = None
) -> float:
    """Lower bound on the cost of any k centres, from lightest forests on groups of points.

    Parameters
    ----------
    data : WeightedSet
        n points.
    k : int
        Number of centres, at least 1.
    power : Power
        What a distance costs.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Divides the points into groups. The bound holds for every division.
    group : int, optional
        Points of a group, more than k; chosen on a part of the data by default.

    Returns
    -------
    float
        At least 0, rounding allowed for; 0 if there are at most k points.

    Notes
    -----
    O(n d g) for groups of g points. A group counts by its lightest point, so that points are grouped with
    those whose masses lie within the same factor of two, as far as possible.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> points = np.random.default_rng(0).standard_normal((1000, 10))
    >>> low = forest_lower_bound(WeightedSet(points), 1, rng=0)
    >>> optimum = np.square(points - points.mean(axis=0)).sum()
    >>> bool(0.4 * optimum < low <= optimum)
    True
    """
    k = _check(data, k)
    if group is not None:
        group = check_integer(group, "group", at_least=k + 1)
    generator = host_generator(rng)
    points, weights = host_points(data), np.asarray(to_host(data.weights), dtype=np.float64)
    rows = generator.permutation(np.flatnonzero(weights > 0.0))
    if rows.size <= k:
        return 0.0
    octaves = np.frexp(weights[rows])[1]
    if octaves.min() < octaves.max():
        rows = rows[np.argsort(-octaves, kind="stable")]
    if group is None:
        group = _best_group(points, weights, rows, k, power)
    return _forest(points, weights, rows, group, k, power)


def _forest(points: Any, weights: Floats, rows: Any, group: int, k: int, power: Power) -> float:
    group = min(group, rows.size)
    total = float(kernels.forests(points, weights, rows, group, k, power.exponent == 2))
    # Every distance has a relative error of at most d + 2 roundings, and so have nested sums.
    roundings = 4.0 * (points.shape[1] + group + rows.size / group + 8.0)
    return max(0.0, power.half(group - k) * total * (1.0 - roundings * _EPS))


def _best_group(points: Any, weights: Floats, rows: Any, k: int, power: Power) -> int:
    """Size of groups that gives most on a part of the data."""
    sizes = sorted({min(rows.size, max(k + 1, round(multiple * k))) for multiple in _MULTIPLES})
    stride = max(1, rows.size // _PILOT)
    few = rows[::stride]
    return max(sizes, key=lambda size: _forest(points, weights, few, size, k, power))


@one_blas_thread()
def spectral_lower_bound(data: WeightedSet, k: int) -> float:
    """Lower bound on the k-means cost: the squares beyond the k - 1 leading principal components.

    Parameters
    ----------
    data : WeightedSet
        n points in R^d.
    k : int
        Number of centres, at least 1.

    Returns
    -------
    float
        At least 0, rounding allowed for; 0 if d < k.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> spectral_lower_bound(WeightedSet([[0.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 2.0]]), 2)  # exact here
    4.0
    """
    k = _check(data, k)
    if data.d < k:
        return 0.0
    points, weights = host_points(data), np.asarray(to_host(data.weights), dtype=np.float64)
    mean = np.average(points[:_BLOCK].astype(np.float64), axis=0)  # near the data; the exact one follows
    gram, first, mass = np.zeros((data.d, data.d)), np.zeros(data.d), float(weights.sum())
    for start in range(0, data.n, _BLOCK):
        block = points[start : start + _BLOCK].astype(np.float64) - mean
        weighted = block * weights[start : start + _BLOCK, None]
        gram += weighted.T @ block
        first += weighted.sum(axis=0)
    trace = float(np.trace(gram))
    gram -= np.outer(first, first) / mass
    # Rounding in the Gram matrix shifts every eigenvalue by at most a multiple of the trace.
    slack = 4.0 * (data.d + _BLOCK + data.n / _BLOCK) * _EPS * trace
    values = np.linalg.eigvalsh(gram)[: data.d - k + 1]
    tail = float(np.maximum(values, 0.0).sum()) - (data.d - k + 1) * slack
    return tail if tail > 1e-9 * trace else 0.0


def optimum_lower_bound(data: WeightedSet, k: int, power: Power = SQUARED, *, rng: Rng) -> float:
    """The larger of the bounds that apply.

    Parameters
    ----------
    data : WeightedSet
        n points.
    k : int
        Number of centres, at least 1.
    power : Power
        What a distance costs.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Divides the points into groups.

    Returns
    -------
    float

    Examples
    --------
    >>> from coresets import WeightedSet
    >>> from coresets.clustering import Distance
    >>> round(optimum_lower_bound(WeightedSet([[0.0], [1.0], [4.0], [6.0]]), 3, Distance(), rng=0), 9)
    1.0
    """
    forest = forest_lower_bound(data, k, power, rng=rng)
    return max(forest, spectral_lower_bound(data, k)) if power.exponent == 2 else forest
