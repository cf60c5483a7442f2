"""Error paths of units: which units to keep at every number of them, and at what error.

A consumer's output is X W, a sum over units of the columns X_u that read the unit times the weights W_u
(k rows a unit). With H = X^T X + lambda I the squared error of other weights Q is
tr((W - Q)^T H (W - Q)), and for several consumers such errors are added. Two greedy paths:

* forward, from no unit: the next unit is the one that lowers the error most when all kept weights are
  refitted. With C = H (W - Q) and H reduced by the kept columns the gain is tr(C_u^T H_uu^-1 C_u);
* backward, from all units: the next to go raises the error least when the others are refitted. The rise
  is tr(W_u^T (H^-1)_uu^-1 W_u), with the inverse and the weights reduced likewise.

They are one algorithm, block elimination, on H with the largest gains first and on its inverse with the
smallest ones first. The gains are exact, whatever the correlation of the columns of one unit.

Cost of a whole path, for m columns, n outputs and k columns a unit: about m^3 / 3 flops for the reduction
and 2 m^2 n for the gains; m^2 numbers of memory beside H. Backward, besides, m^3 for the inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from coresets.errors import SolverError
from nn.gram import cholesky
from nn.neurons._block_kernels import downdate, quotients
from nn.neurons._moments import factored, solved

__all__ = ["UnitPath", "UnitRegression", "backward_path", "better_path", "contributions", "forward_path"]

Matrix = npt.NDArray[np.float64]
Units = npt.NDArray[np.int64]

# So many entries of a matrix are worked on at a time, where a copy of it is not wanted.
_BLOCK_ENTRIES = 1 << 20
# A panel of the elimination has at least so many columns and steps.
_PANEL_COLUMNS, _LEAST_PANEL = 128, 16
# The lower triangle of the matrix is updated in so many slabs.
_SLABS = 8


@dataclass(frozen=True, eq=False)
class UnitRegression:
    """A consumer, or one group of a grouped convolution, as a least-squares problem in units.

    Parameters
    ----------
    matrix : array of shape (U k, U k)
        H, positive definite; the k columns of a unit are consecutive.
    weights : array of shape (U k, n)
        W, of n outputs.
    width : int
        k.
    scale : float
        What squared errors are multiplied by, so that those of several consumers can be added.
    """

    matrix: Matrix
    weights: Matrix
    width: int
    scale: float = 1.0

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.matrix) // self.width

    @cached_property
    def correlations(self) -> Matrix:
        """H W: of the columns with the outputs, of shape (U k, n)."""
        return np.asarray(self.matrix @ self.weights)

    @property
    def energy(self) -> float:
        """Squared error without any unit."""
        return max(0.0, self.scale * float(np.sum(self.weights * self.correlations)))

    def scaled(self, factor: float) -> UnitRegression:
        """The same with squared errors multiplied by a factor."""
        other = replace(self, scale=factor * self.scale)
        other.__dict__["correlations"] = self.correlations  # the same, and costly
        return other

    def columns(self, units: Units) -> Units:
        """Columns of some units, in their order."""
        return np.asarray((units[:, None] * self.width + np.arange(self.width)).reshape(-1))

    def squared_norms(self) -> Matrix:
        """Squared norms of what units add to the output, (U,): the diagonal of :meth:`contributions`."""
        inner = np.arange(self.units)
        blocks = self.matrix.reshape(self.units, self.width, self.units, self.width)[inner, :, inner, :]
        weights = self.weights.reshape(self.units, self.width, -1)
        return np.asarray(self.scale * np.sum(weights * (blocks @ weights), axis=(1, 2)))

    def contributions(self) -> Matrix:
        """K_uv = <X_u W_u, X_v W_v>, of shape (U, U): inner products of what units add to the output.

        As far as H is X^T X; with the ridge, those of rows that hold the ridge too.
        """
        found = np.empty((self.units, self.units))
        step = max(1, _BLOCK_ENTRIES // (self.width * len(self.matrix)))
        for start in range(0, self.units, step):
            rows = slice(start * self.width, (start + step) * self.width)
            products = self.matrix[rows] * (self.weights[rows] @ self.weights.T)
            by_unit = products.reshape(-1, self.width, len(self.matrix)).sum(axis=1)
            found[start : start + step] = by_unit.reshape(len(by_unit), self.units, self.width).sum(axis=2)
        return self.scale * found

    def squared_error(self, units: Units) -> float:
        """Least squared error with some units kept.

        That is tr(W_G^T (H_GG - H_GS H_SS^-1 H_SG) W_G) with S the columns that are kept and G the others.
        """
        gone = np.setdiff1d(np.arange(self.units), units)
        if not len(gone):
            return 0.0
        lost, kept = self.columns(gone), self.columns(np.asarray(units))
        weights = self.weights[lost]
        left = self.correlations[lost]
        if len(kept):
            # H_GG W_G is (H W)_G - H_GS W_S.
            beside = self.matrix[np.ix_(kept, lost)]
            moved = solved(factored(self.matrix[np.ix_(kept, kept)]), beside @ weights)
            left -= beside.T @ (self.weights[kept] + moved)
        return max(0.0, self.scale * float(np.sum(weights * left)))


@dataclass(frozen=True, eq=False)
class UnitPath:
    """Nested sets of units and their errors.

    Parameters
    ----------
    order : array of shape (L,) of int
        The set with k units is the first k.
    errors : array of shape (L + 1,)
        Squared error with k units; infinite where the path does not go.
    """

    order: Units
    errors: Matrix

    def keep(self, count: int, units: int) -> npt.NDArray[np.bool_]:
        """Which units the set of this size has."""
        kept = np.zeros(units, dtype=bool)
        kept[self.order[:count]] = True
        return kept


def contributions(parts: Sequence[UnitRegression]) -> Matrix:
    """K of several consumers together; see :meth:`UnitRegression.contributions`."""
    return np.asarray(np.sum([part.contributions() for part in parts], axis=0))


def forward_path(parts: Sequence[UnitRegression], steps: int) -> UnitPath:
    """Path of forward selection.

    Parameters
    ----------
    parts : sequence of UnitRegression
        Consumers of the same units; their errors are added.
    steps : int
        How far to go, at most the number of units.
    """
    starts = [np.sqrt(part.scale) * part.correlations for part in parts]
    total = sum(part.energy for part in parts)
    copies = [np.array(part.matrix, order="C") for part in parts]
    order, gains = _eliminate(copies, starts, [part.width for part in parts], 1.0, steps)
    errors = np.maximum(total - np.concatenate([[0.0], np.cumsum(gains)]), 0.0)
    return UnitPath(order, errors)


def backward_path(parts: Sequence[UnitRegression], least: int = 0) -> UnitPath:
    """Path of backward elimination.

    Parameters
    ----------
    parts : sequence of UnitRegression
        See :func:`forward_path`.
    least : int
        How many units are left at the end. Errors of fewer, but for none at all, are infinite.
    """
    units = parts[0].units
    # The transpose, which is the same, has contiguous rows.
    inverses = [torch.cholesky_inverse(factored(part.matrix)).mT.contiguous().numpy() for part in parts]
    widths = [part.width for part in parts]
    starts = [np.sqrt(part.scale) * part.weights for part in parts]
    removed, rises = _eliminate(inverses, starts, widths, -1.0, units - least)
    errors = np.full(units + 1, np.inf)
    errors[0] = sum(part.energy for part in parts)
    errors[least:] = np.concatenate([[0.0], np.cumsum(rises)])[::-1]
    others = np.setdiff1d(np.arange(units), removed)
    return UnitPath(np.concatenate([others, removed[::-1]]), errors)


def better_path(one: UnitPath, other: UnitPath, count: int) -> UnitPath:
    """The path with the smaller error at a number of units; the first one if they are equal."""
    return other if other.errors[count] < one.errors[count] else one


def _eliminate(
    matrices: Sequence[Matrix], starts: Sequence[Matrix], widths: Sequence[int], direction: float, steps: int
) -> tuple[Units, Matrix]:
    """Order and gains of greedy block elimination; of equal gains the earlier unit goes first.

    The matrices are worked on in place.
    """
    panel = max(_LEAST_PANEL, _PANEL_COLUMNS // max(widths))
    states = [_State(m, s, k, panel) for m, s, k in zip(matrices, starts, widths, strict=True)]
    units = np.arange(len(matrices[0]) // widths[0])  # the unit in each place of the working arrays
    alive = np.ones(len(units), dtype=bool)
    order, found = np.empty(steps, dtype=np.int64), np.empty(steps)
    for step in range(steps):
        if step and step % panel == 0:
            left = int(np.count_nonzero(alive))
            # The last units that are alive come into the places of those that are gone, the very last first.
            gone, last = np.flatnonzero(~alive[:left]), left + np.flatnonzero(alive[left:])
            moves = list(zip(gone.tolist(), last[::-1].tolist(), strict=True))
            for state in states:
                state.settle(moves, left)
            units[gone] = units[last[::-1]]
            units, alive = units[:left], np.ones(left, dtype=bool)
        gains = np.sum([state.gains() for state in states], axis=0)
        worth = np.where(alive, direction * gains, -np.inf)
        best = np.flatnonzero(worth == np.max(worth))
        place = int(best[np.argmin(units[best])])
        order[step], found[step] = units[place], max(0.0, float(gains[place]))
        alive[place] = False
        for state in states:
            state.eliminate(place)
    return order, found


class _State:
    """What the elimination has left of one matrix.

    Working arrays hold the units in places 0, 1, ...; those that go leave their places when a panel of steps
    is over. Until then the matrix and the values v are those of the beginning of the panel, and what has
    changed is kept as factors. Only the diagonal blocks B_u and P_u = v_u v_u^T are updated in every step; P
    is made afresh with each panel, since what is left of it may be far smaller than it was.
    """

    def __init__(self, matrix: Matrix, start: Matrix, width: int, panel: int) -> None:
        self._width, self._left = width, len(matrix) // width
        self._matrix = torch.from_numpy(matrix)  # the blocks below and on the diagonal are used
        self._values = torch.from_numpy(np.array(start, dtype=np.float64))
        inner = np.arange(self._left)
        split = matrix.reshape(self._left, width, self._left, width)
        self._blocks = np.ascontiguousarray(split[inner, :, inner, :].transpose(1, 2, 0))
        self._squares = np.empty_like(self._blocks)
        self._work = np.empty((width, width + 1, self._left))
        self._gains = np.empty(self._left)
        self._factors = torch.empty((len(matrix), panel * width), dtype=torch.float64)
        self._changes = torch.empty((panel * width, self._values.shape[1]), dtype=torch.float64)
        self._rows = 0
        self._square()

    def _square(self) -> None:
        by_unit = self._values[: self._left * self._width].reshape(self._left, self._width, -1)
        self._squares[..., : self._left] = (by_unit @ by_unit.transpose(1, 2)).permute(1, 2, 0).numpy()

    def gains(self) -> Matrix:
        """tr(v_u^T B_u^-1 v_u) for the unit u in every place; 0 where it is gone."""
        if not quotients(self._blocks, self._squares, self._work, self._gains, self._left):
            raise SolverError(
                "the columns of a unit depend on one another, or on those of units before, up to rounding; "
                "use a larger ridge"
            )
        return self._gains[: self._left].copy()

    def eliminate(self, place: int) -> None:
        """Reduce everything by the unit in a place."""
        width, count = self._width, self._left * self._width
        own = slice(place * width, (place + 1) * width)
        before, changes = self._factors[:count, : self._rows], self._changes[: self._rows]
        row = torch.empty((count, width), dtype=torch.float64)
        row[: own.start] = self._matrix[own, : own.start].T
        row[own.start :] = self._matrix[own.start : count, own]
        row.addmm_(before, before[own].T, alpha=-1.0)
        lower = torch.from_numpy(np.ascontiguousarray(cholesky(((row[own] + row[own].T) / 2.0).numpy())))
        factor = torch.linalg.solve_triangular(lower.T, row, upper=True, left=False)
        value = self._values[own] - before[own] @ changes
        value = torch.linalg.solve_triangular(lower, value, upper=False)
        # v_u becomes v_u - F_u z, and so P_u loses F_u T_u^T + T_u F_u^T with T = v z^T - F z z^T / 2.
        tilt = self._values[:count] @ value.T
        tilt.addmm_(before, changes @ value.T, alpha=-1.0)
        tilt.addmm_(factor, value @ value.T, alpha=-0.5)
        downdate(self._blocks, self._squares, self._by_entry(factor), self._by_entry(tilt), self._left)
        self._blocks[..., place], self._squares[..., place] = np.eye(width), 0.0  # else rounding
        self._factors[:count, self._rows : self._rows + width] = factor
        self._changes[self._rows : self._rows + width] = value
        self._rows += width

    def _by_entry(self, rows: torch.Tensor) -> Matrix:
        """(units k, k) as (k, k, units)."""
        blocks = rows.reshape(self._left, self._width, self._width).permute(1, 2, 0)
        return np.asarray(blocks.contiguous().numpy())

    def settle(self, moves: Sequence[tuple[int, int]], left: int) -> None:
        """End a panel: move units into the places of others, and bring all that is left up to date."""
        matrix, width = self._matrix, self._width
        for to, at in moves:
            into, out = (slice(place * width, (place + 1) * width) for place in (to, at))
            for rows in (self._values, self._factors):
                rows[into] = rows[out]
            for blocks in (self._blocks, self._squares):
                blocks[..., to] = blocks[..., at]
            matrix[into, : into.start] = matrix[out, : into.start]
            matrix[into.stop : out.start, into] = matrix[out, into.stop : out.start].T
            matrix[into, into] = matrix[out, out]
        self._left, count = left, left * width
        factors, changes = self._factors[:count, : self._rows], self._changes[: self._rows]
        self._values[:count].addmm_(factors, changes, alpha=-1.0)
        side = width * max(1, -(-left // _SLABS))
        for start in range(0, count, side):  # in slabs, so that little above the diagonal is worked on
            slab = slice(start, min(start + side, count))
            matrix[slab.start : count, slab].addmm_(factors[slab.start :], factors[slab].T, alpha=-1.0)
        self._rows = 0
        self._square()
