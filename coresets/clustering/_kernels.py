"""Compiled passes over rows: nearest centres, sums over clusters, and forests on small groups.

Distances are sums of squared differences, never |p|^2 - 2 p.c + |c|^2, which loses its digits far from the
origin. The innermost loops run over centres (or points of a group), so that they vectorise without
reordering any sum, and need memory for one row of distances only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["assign", "forests", "own_squares"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any


def _compiled(function: F) -> F:
    """Compile on first use; no rule of floating-point arithmetic is relaxed."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True)(function))


@_compiled
def assign(
    points: Array, weights: Array, centres: Array, columns: Array, labels: Array, squares: Array, sums: Array
) -> None:
    """Nearest centre of every row, its squared distance, and sums over the clusters.

    ``centres`` is (k, d) and ``columns`` its transpose, contiguous. Row q of ``sums`` (k, d + 1) holds the
    sum of w (p - c_q) over the cluster and, last, its mass: differences, so that a mean far from the origin
    keeps its digits.
    """
    n, d = points.shape
    k = columns.shape[1]
    distances = np.empty(k)
    sums[:] = 0.0
    for i in range(n):
        distances[:] = 0.0
        for j in range(d):
            x = np.float64(points[i, j])
            for q in range(k):
                difference = x - columns[j, q]
                distances[q] += difference * difference
        best = 0
        for q in range(1, k):
            if distances[q] < distances[best]:
                best = q
        labels[i] = best
        squares[i] = distances[best]
        w = np.float64(weights[i])
        for j in range(d):
            sums[best, j] += w * (np.float64(points[i, j]) - centres[best, j])
        sums[best, d] += w


@_compiled
def own_squares(points: Array, labels: Array, centres: Array, squares: Array) -> None:
    """Squared distance of every row to the centre of its cluster."""
    n, d = points.shape
    for i in range(n):
        total = 0.0
        for j in range(d):
            difference = np.float64(points[i, j]) - centres[labels[i], j]
            total += difference * difference
        squares[i] = total


@_compiled
def forests(points: Array, weights: Array, order: Array, group: int, k: int, squared: bool) -> float:
    """Sum over groups of their lightest forests with k trees, times the least weight of the group.

    Consecutive entries of ``order`` form the groups; the last one may be smaller. Lengths of edges are
    distances or their squares. Prim's algorithm on the complete graph of a group gives its minimum spanning
    tree, of which the k - 1 longest edges are left out.
    """
    d = points.shape[1]
    columns = np.empty((d, group))
    lengths, nearest = np.empty(group), np.empty(group)
    waiting = np.empty(group, dtype=np.bool_)
    edges = np.empty(max(group - 1, 1))
    result = 0.0
    for start in range(0, order.size, group):
        size = min(group, order.size - start)
        if size <= k:
            break
        least = np.inf
        for a in range(size):
            i = order[start + a]
            least = min(least, np.float64(weights[i]))
            for j in range(d):
                columns[j, a] = np.float64(points[i, j])
        waiting[:size] = True
        nearest[:size] = np.inf
        last = 0
        for step in range(size - 1):
            waiting[last] = False
            lengths[:size] = 0.0
            for j in range(d):
                x = columns[j, last]
                for a in range(size):
                    difference = columns[j, a] - x
                    lengths[a] += difference * difference
            chosen = -1
            for a in range(size):
                if waiting[a]:
                    nearest[a] = min(nearest[a], lengths[a])
                    if chosen < 0 or nearest[a] < nearest[chosen]:
                        chosen = a
            edges[step] = nearest[chosen] if squared else np.sqrt(nearest[chosen])
            last = chosen
        kept = np.sort(edges[: size - 1])[: size - k]
        result += least * kept.sum()
    return result
