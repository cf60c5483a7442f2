"""Error paths: for each neuron, which edges to keep at every number of them, and at what error.

Two greedy paths, of weights w under the matrix H (the squared error of weights q is
(w - q)^T H (w - q)):

* forward, from no edge: the next edge is the one that lowers the error most when all kept weights
  are refitted. With c = H(w - q) the residual correlations and H reduced by the kept columns, the
  gain is c_j^2 / H_jj;
* backward, from all edges: the next to go raises the error least when the others are refitted. The
  rise is w_j^2 / (H^-1)_jj with the inverse reduced likewise.

They are one algorithm, greedy elimination, on H with largest gains first and on its inverse with
smallest ones first. Cost of a whole path: about m^3 / 3 flops a neuron, and m^2 numbers of memory
in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nn.edges._path_kernels import eliminate, merge

__all__ = ["Paths", "backward_paths", "forward_paths", "lower_envelope"]

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Cost of a flop when columns are computed on demand over that of one in a panel update, as measured for
# 784 edges.
_PANEL_SPEED = 1.6


@dataclass(frozen=True, eq=False)
class Paths:
    """Supports and errors of several neurons with m edges.

    Parameters
    ----------
    order : array of shape (neurons, L) of int
        The support with k edges is the first k entries; -1 past the length.
    errors : array of shape (neurons, L + 1)
        Squared error with k edges, for k = 0 to the length; infinite beyond.
    lengths : array of shape (neurons,) of int
        How far each path is known.
    """

    order: npt.NDArray[np.int64]
    errors: Matrix
    lengths: npt.NDArray[np.int64]

    def support(self, neuron: int, kept: int) -> npt.NDArray[np.int64]:
        """Edges of the support with ``kept`` edges, sorted."""
        return np.sort(self.order[neuron, :kept])

    def replaced(self, rows: npt.NDArray[np.int64], others: Paths) -> Paths:
        """These paths with some rows taken from longer ones."""
        grown = self._widened(max(self.order.shape[1], others.order.shape[1]))
        wide = others._widened(grown.order.shape[1])
        grown.order[rows], grown.errors[rows], grown.lengths[rows] = wide.order, wide.errors, wide.lengths
        return grown

    def _widened(self, steps: int) -> Paths:
        missing = ((0, 0), (0, steps - self.order.shape[1]))
        return Paths(
            np.pad(self.order, missing, constant_values=-1),
            np.pad(self.errors, missing, constant_values=np.inf),
            self.lengths.copy(),
        )


def forward_paths(matrix: Matrix, weights: Matrix, alive: Mask, steps: int) -> Paths:
    """Paths of forward selection.

    Parameters
    ----------
    matrix : array of shape (m, m)
        H, positive definite.
    weights : array of shape (neurons, m)
        w; zero where not alive.
    alive : array of shape (neurons, m) of bool
        Edges that may be kept.
    steps : int
        How far to go at most.
    """
    correlations = weights @ matrix
    totals = np.maximum(np.einsum("nm,nm->n", correlations, weights), 0.0)
    never = ~alive
    order, gains = _greedy(matrix, correlations, 1.0, np.zeros_like(never), never, steps)
    lengths = (order >= 0).sum(axis=1)
    errors = np.maximum(totals[:, None] - np.cumsum(gains, axis=1), 0.0)
    errors[np.arange(errors.shape[1]) >= lengths[:, None]] = np.inf
    return Paths(order, np.concatenate([totals[:, None], errors], axis=1), lengths)


def backward_paths(inverse: Matrix, weights: Matrix, alive: Mask) -> Paths:
    """Paths of backward elimination, as far as edges are alive.

    Parameters
    ----------
    inverse : array of shape (m, m)
        H^-1.
    weights, alive
        See :func:`forward_paths`.
    """
    # Weights that are zero already go first, at no cost.
    dead = ~alive
    removed, rises = _greedy(inverse, weights, -1.0, dead, np.zeros_like(dead), inverse.shape[0])
    order = np.ascontiguousarray(removed[:, ::-1])
    errors = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(rises, axis=1)], axis=1)[:, ::-1].copy()
    lengths = alive.sum(axis=1)
    columns = np.arange(order.shape[1])
    order[columns >= lengths[:, None]] = -1
    errors[:, 1:][columns >= lengths[:, None]] = np.inf
    return Paths(order, errors, lengths)


def lower_envelope(first: Paths, second: Paths) -> tuple[Matrix, Mask]:
    """The smaller error at each number of edges, and where the second path has it."""
    steps = max(first.order.shape[1], second.order.shape[1])
    one, two = first._widened(steps).errors, second._widened(steps).errors  # noqa: SLF001 - of this module
    return np.minimum(one, two), two < one


def _greedy(
    matrix: Matrix, starts: Matrix, direction: float, first: Mask, never: Mask, steps: int
) -> tuple[npt.NDArray[np.int64], Matrix]:
    """Order and gains of greedy elimination; see :func:`nn.edges._path_kernels.eliminate`."""
    # A column without coupling to others, as an input that is always zero has, takes no part in the
    # elimination: its rank is known from the start.
    coupled = np.count_nonzero(matrix, axis=1) > 1
    together, apart = np.flatnonzero(coupled), np.flatnonzero(~coupled)
    n, r = len(starts), len(together)
    inner = np.ascontiguousarray(matrix[np.ix_(together, together)])
    order = np.empty((n, min(steps, r)), dtype=np.int64)
    gains = np.empty(order.shape)
    take = np.ascontiguousarray
    for part in _blocks(n, r):
        eliminate(
            inner, take(starts[part][:, together]), take(first[part][:, together]),
            take(never[part][:, together]), direction, _deferred(r, steps), order[part], gains[part],
        )  # fmt: skip
    order = np.where(order >= 0, together[order], -1) if r else order
    if not len(apart):
        return order, gains
    single = _sorted_singles(matrix, starts, direction, first, never, apart)
    # Of two equal heads the coupled column goes first, as those of zero rank have to that are no choice.
    merged = np.empty((n, min(steps, matrix.shape[0])), dtype=np.int64)
    merged_gains = np.empty(merged.shape)
    merge((order, single[0]), (gains, single[1]), direction, merged, merged_gains)
    return merged, np.maximum(merged_gains, 0.0)


def _sorted_singles(
    matrix: Matrix, starts: Matrix, direction: float, first: Mask, never: Mask, apart: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Matrix]:
    """Elimination order and gains of the columns without coupling."""
    gains = starts[:, apart] ** 2 / np.diagonal(matrix)[apart]
    gains = np.where(first[:, apart], -1.0, gains)
    keys = np.where(never[:, apart], np.inf, -direction * gains)
    ranking = np.argsort(keys, axis=1, kind="stable")
    allowed = np.take_along_axis(~never[:, apart], ranking, axis=1)
    order = np.where(allowed, apart[ranking], -1)
    return order, np.where(allowed, np.take_along_axis(gains, ranking, axis=1), 0.0)


def _blocks(neurons: int, edges: int) -> Iterator[slice]:
    """Slices of neurons of some seconds of work each, so that a long path can be interrupted."""
    step = max(1, int(1e10 / max(1, edges) ** 3))
    for start in range(0, neurons, step):
        yield slice(start, start + step)


def _deferred(edges: int, steps: int) -> bool:
    """Whether computing columns on demand takes less time than updating the matrix."""
    steps = min(steps, edges)
    updates = (edges**3 - (edges - steps) ** 3) / 3.0
    return _PANEL_SPEED * steps**2 * edges < updates
