"""From error paths to counts: the allocation of a budget that minimises the summed error.

Every neuron has a path of errors e(k), k its number of edges. The counts k_n that minimise the sum
of all e_n(k_n) under a total are found by greed when the paths are convex: always spend the next
edge where it lowers the error most. Paths are first replaced by the greatest convex functions below
them, and edges are spent segment by segment, so that all neurons but at most one end where the
convex function touches the path. For that total the sum of the convex errors is then a lower bound
of what any allocation along the paths can reach, and the reached sum exceeds it by what that one
neuron lacks.

Cost: linear in the number of edges of all paths, and one selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nn.edges._path_kernels import convexify

__all__ = ["Spent", "spend", "stacked"]

Matrix = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spent:
    """A budget spent on neurons with error paths.

    Parameters
    ----------
    counts : array of shape (neurons,) of int
        Edges of each neuron.
    least : float
        Sum of the convex errors: no allocation along the paths has a smaller sum.
    needed : array of shape (neurons,)
        A path that is known up to here, or to its end, has proved its count; see :func:`spend`.
    """

    counts: Counts
    least: float
    needed: Matrix


def spend(errors: Matrix, lengths: Counts, count: int) -> Spent | None:
    """Spend ``count`` edges, or say that the paths are too short by returning None.

    Parameters
    ----------
    errors : array of shape (neurons, L + 1)
        Errors of k = 0, 1, ... edges, not increasing, up to the length of each.
    lengths : array of shape (neurons,) of int
        How far each path is known.
    count : int
        Edges to spend.

    Notes
    -----
    A path may be known in part only. With theta the gain of the last edge spent, the count k is
    optimal whatever follows if the line of slope -theta through the point of k stays below the path;
    errors are not negative, so that it does beyond k + e(k) / theta.
    """
    if count > int(lengths.sum()):
        return None
    gains = np.empty((errors.shape[0], errors.shape[1] - 1))
    convexify(np.ascontiguousarray(errors), np.ascontiguousarray(lengths, dtype=np.int64), gains)
    chosen = _largest(gains.reshape(-1), count).reshape(gains.shape)
    counts = chosen.sum(axis=1)
    lowered = np.sum(gains, axis=1, where=chosen)
    left = np.maximum(errors[:, 0] - lowered, 0.0)
    theta = float(gains[chosen].min()) if count else np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = counts + np.where(left > 0.0, left / theta, 0.0)
    return Spent(counts, float(left.sum()), needed)


def _largest(values: Matrix, count: int) -> npt.NDArray[np.bool_]:
    """Which values are the ``count`` largest, earlier ones first among equals."""
    chosen = np.zeros(values.shape, dtype=bool)
    if count:
        threshold = np.partition(values, values.size - count)[values.size - count]
        chosen = values > threshold
        ties = np.flatnonzero(values == threshold)
        chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


def stacked(parts: Sequence[Matrix], fill: float) -> Matrix:
    """Rows of matrices of different widths under one another, filled up on the right."""
    width = max(part.shape[1] for part in parts)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=fill) for p in parts]
    return np.concatenate(padded, axis=0)
