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
and m^2 n (1 + 1 / k) for the gains; 2 m^2 numbers of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.linalg

from coresets.errors import SolverError
from nn.gram import cholesky

__all__ = ["UnitPath", "UnitRegression", "backward_path", "better_path", "contributions", "forward_path"]

Matrix = npt.NDArray[np.float64]
Units = npt.NDArray[np.int64]

# Removed units are dropped from the working arrays once they are this share of them.
_DEAD_SHARE = 0.1


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

    def contributions(self) -> Matrix:
        """K_uv = <X_u W_u, X_v W_v>, of shape (U, U): inner products of what units add to the output.

        As far as H is X^T X; with the ridge, those of rows that hold the ridge too.
        """
        shape = (self.units, self.width, self.units, self.width)
        products = self.scale * self.matrix * (self.weights @ self.weights.T)
        return np.asarray(products.reshape(shape).sum(axis=(1, 3)))

    def squared_error(self, units: Units) -> float:
        """Least squared error with some units kept, from its definition."""
        gone = np.setdiff1d(np.arange(self.units), units)
        if not len(gone):
            return 0.0
        kept = self.columns(np.asarray(units))
        difference = self.weights.copy()
        if len(kept):
            factor = (cholesky(self.matrix[np.ix_(kept, kept)]), True)
            wanted = self.correlations[kept]
            difference[kept] -= scipy.linalg.cho_solve(factor, wanted, check_finite=False)
        return max(0.0, self.scale * float(np.sum(difference * (self.matrix @ difference))))


@dataclass(frozen=True, eq=False)
class UnitPath:
    """Nested sets of units and their errors.

    Parameters
    ----------
    order : array of shape (L,) of int
        The set with k units is the first k.
    errors : array of shape (L + 1,)
        Squared error with k units.
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
    order, gains = _eliminate([p.matrix for p in parts], starts, [p.width for p in parts], 1.0, steps)
    errors = np.maximum(total - np.concatenate([[0.0], np.cumsum(gains)]), 0.0)
    return UnitPath(order, errors)


def backward_path(parts: Sequence[UnitRegression]) -> UnitPath:
    """Path of backward elimination, down to no unit; see :func:`forward_path`."""
    inverses = [_inverse(part.matrix) for part in parts]
    widths = [part.width for part in parts]
    starts = [np.sqrt(part.scale) * part.weights for part in parts]
    removed, rises = _eliminate(inverses, starts, widths, -1.0, parts[0].units)
    errors = np.concatenate([[0.0], np.cumsum(rises)])[::-1]
    return UnitPath(np.ascontiguousarray(removed[::-1]), np.ascontiguousarray(errors))


def better_path(one: UnitPath, other: UnitPath, count: int) -> UnitPath:
    """The path with the smaller error at a number of units; the first one if they are equal."""
    return other if other.errors[count] < one.errors[count] else one


def _inverse(matrix: Matrix) -> Matrix:
    """H^-1, exactly symmetric."""
    inverse, _ = scipy.linalg.lapack.dpotri(cholesky(matrix), lower=1, overwrite_c=1)
    lower = np.tril(inverse)
    return np.asarray(lower + np.tril(inverse, -1).T)


def _eliminate(
    matrices: Sequence[Matrix], starts: Sequence[Matrix], widths: Sequence[int], direction: float, steps: int
) -> tuple[Units, Matrix]:
    """Order and gains of greedy block elimination; of equal gains the earlier unit goes first."""
    states = [_State(m, s, k, steps) for m, s, k in zip(matrices, starts, widths, strict=True)]
    active = np.arange(len(matrices[0]) // widths[0])
    alive = np.ones(len(active), dtype=bool)
    order, found = np.empty(steps, dtype=np.int64), np.empty(steps)
    for step in range(steps):
        gains = np.sum([state.gains() for state in states], axis=0)
        place = int(np.argmax(np.where(alive, direction * gains, -np.inf)))
        order[step], found[step] = active[place], max(0.0, float(gains[place]))
        alive[place] = False
        for state in states:
            state.eliminate(place)
        if np.count_nonzero(~alive) > _DEAD_SHARE * len(alive):
            for state in states:
                state.compact(alive)
            active, alive = active[alive], alive[alive]
    return order, found


class _State:
    """What the elimination has left of one matrix, for units that are still in the working arrays."""

    def __init__(self, matrix: Matrix, start: Matrix, width: int, steps: int) -> None:
        self._matrix, self._width = matrix, width
        units = len(matrix) // width
        self._columns = np.arange(len(matrix))
        self._values = start.reshape(units, width, -1).copy()
        inner = np.arange(units)
        self._blocks = matrix.reshape(units, width, units, width)[inner, :, inner, :].copy()
        self._factors = np.empty((steps * width, len(matrix)))  # rows of the triangular factor so far
        self._rows = 0

    def gains(self) -> Matrix:
        """tr(v_u^T B_u^-1 v_u) for every unit u, with v the values and B the diagonal blocks."""
        if self._width == 1:
            return np.asarray(np.einsum("akn,akn->a", self._values, self._values) / self._blocks[:, 0, 0])
        products = self._values @ self._values.transpose(0, 2, 1)
        try:
            solved = np.linalg.solve(self._blocks, products)
        except np.linalg.LinAlgError as error:
            raise SolverError(
                f"the columns of a unit depend on one another up to rounding ({error}); use a larger ridge"
            ) from error
        return np.asarray(solved.trace(axis1=1, axis2=2))

    def eliminate(self, place: int) -> None:
        """Reduce everything by the unit in a place of the working arrays."""
        own = slice(place * self._width, (place + 1) * self._width)
        before = self._factors[: self._rows, : len(self._columns)]
        row = self._matrix[np.ix_(self._columns[own], self._columns)]
        row -= before[:, own].T @ before
        lower = cholesky((row[:, own] + row[:, own].T) / 2.0)
        solved = scipy.linalg.solve_triangular(
            lower, np.hstack([row, self._values[place]]), lower=True, check_finite=False
        )
        factor, value = solved[:, : len(self._columns)], solved[:, len(self._columns) :]
        units = len(self._values)
        self._values -= (factor.T @ value).reshape(self._values.shape)
        by_unit = factor.reshape(self._width, units, self._width).transpose(1, 0, 2)
        self._blocks -= by_unit.transpose(0, 2, 1) @ by_unit
        self._blocks[place] = np.eye(self._width)  # what is left of the unit itself is rounding
        self._factors[self._rows : self._rows + self._width, : len(self._columns)] = factor
        self._rows += self._width

    def compact(self, alive: npt.NDArray[np.bool_]) -> None:
        """Drop the units that are gone from the working arrays."""
        columns = np.repeat(alive, self._width)
        left = self._factors[: self._rows, : len(self._columns)][:, columns]
        self._factors[: self._rows, : left.shape[1]] = left
        self._columns = self._columns[columns]
        self._values, self._blocks = self._values[alive], self._blocks[alive]
