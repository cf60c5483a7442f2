"""Coordinates in which a Caratheodory reduction works, and what it has to keep in them.

A :class:`Frame` maps raw rows x to z = (x scale - origin) mixing, and a :class:`Lift` maps z to the
features whose weighted sum is kept. Elimination commutes with invertible maps, so a frame decides
on accuracy only, never on correctness: ``scale`` are powers of two, which make the first product
exact, and ``origin`` is a point near the mean, so that the difference is exact for columns far from
zero and is rounded relative to its own size otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coresets.recombination._kernels import gather, group_sums
from coresets.sensitivity._rows import Rows, default_rank_tolerance, whitener

__all__ = [
    "BLOCK",
    "Frame",
    "GroupSums",
    "Lift",
    "exact_sums",
    "finer_scale",
    "frame_of",
    "two_product",
    "two_sum",
]

Array = np.ndarray

_SAMPLE = 1024  # rows from which the first frame is made
BLOCK = 512  # rows of one block of outer products: coordinates and image stay in cache
_COARSE = 1e-4  # rounding of a column, in its standard deviations, beyond which it decides on no rank
_WIDEST = 1000  # exponents of scales stay below this power of two
_FAINT = 8.0  # machine epsilons of the data, or of the origin, that pass for rounding in a direction
_SPLIT = 134217729.0  # 2^27 + 1 (Veltkamp)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Rounded sum and its rounding error, which together are exact (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Rounded product and its rounding error, exact while nothing under- or overflows (Dekker)."""
    p = a * b
    a_high = _SPLIT * a - (_SPLIT * a - a)
    b_high = _SPLIT * b - (_SPLIT * b - b)
    a_low, b_low = a - a_high, b - b_high
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def exact_sums(*terms: Array) -> Array:
    """Correctly rounded sums of the columns of all the (m, k) terms together."""
    stacked = np.concatenate(terms, axis=0)
    return np.array([math.fsum(column) for column in stacked.T.tolist()])


@dataclass(frozen=True)
class Lift:
    """Features of coordinates z: any of the products z_a z_b, z itself and the constant 1."""

    quadratic: bool
    linear: bool
    constant: bool

    @property
    def centred(self) -> bool:
        """Whether the features of x - c are linear combinations of those of x."""
        return self.linear and self.constant

    def size(self, q: int) -> int:
        """Number of features of q coordinates."""
        return self.quadratic * (q * (q + 1) // 2) + self.linear * q + self.constant

    def features(self, z: Array) -> Array:
        """Features (m, k) of coordinates (m, q)."""
        parts = []
        if self.quadratic:
            a, b = np.triu_indices(z.shape[1])
            parts.append(z[:, a] * z[:, b])
        if self.linear:
            parts.append(z)
        if self.constant:
            parts.append(np.ones((z.shape[0], 1)))
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class GroupSums:
    """Masses (G,), feature sums (G, k) and sums of w z^2 (G, q) of groups."""

    masses: Array
    sums: Array
    squares: Array


@dataclass(frozen=True)
class _FrameRows(Rows):
    """Rows of the whitening module, moved to the coordinates of a frame block by block."""

    frame: Any = None

    def blocks(self, least_rows: int = 64) -> Iterator[tuple[slice, Array]]:
        """Consecutive row ranges and their rows."""
        plain = replace(self, root_weights=None, scale=None, frame=None)
        for part, block in Rows.blocks(plain, least_rows):
            rows = self.frame.coordinates(block)
            if self.root_weights is not None:
                rows = rows * self.root_weights[part, None]
            yield part, rows if self.scale is None else rows * self.scale


@dataclass(frozen=True)
class Frame:
    """The map z = (x scale - origin) mixing; no mixing is the identity."""

    scale: Array  # (d,)
    origin: Array  # (d,)
    mixing: Array | None = None  # (d, q)

    @property
    def q(self) -> int:
        """Number of coordinates."""
        return int(self.scale.size if self.mixing is None else self.mixing.shape[1])

    def coordinates(self, rows: Array) -> Array:
        """Coordinates (m, q) of raw rows (m, d), in float64."""
        z = rows * self.scale - self.origin
        return z if self.mixing is None else z @ self.mixing

    def chosen(self, rows: Array, indices: Array) -> Array:
        """Coordinates of the rows at the indices."""
        z = np.empty((indices.size, rows.shape[1]))
        gather(rows, indices, self.scale, self.origin, z)
        return z if self.mixing is None else z @ self.mixing

    def group_sums(self, rows: Array, weights: Array, starts: Array, lift: Lift) -> GroupSums:
        """Sums over groups of consecutive rows; an empty array of weights stands for ones."""
        groups = starts.size - 1
        masses, squares = np.empty(groups), np.empty((groups, self.q))
        sums = np.empty((groups, lift.size(self.q)))
        if not lift.quadratic:
            columns = np.empty((groups, self.q))
            group_sums(rows, weights, starts, self.scale, self.origin, masses, columns, squares)
            sums[:, : self.q] = columns
            if lift.constant:
                sums[:, -1] = masses
            return GroupSums(masses, sums, squares)
        step = groups if groups == 0 else max(1, BLOCK * groups // max(1, rows.shape[0]))
        for first in range(0, groups, step):  # many small groups at once, or a large one in blocks
            part = slice(first, min(first + step, groups))
            edges = starts[first : part.stop + 1]
            sums[part], masses[part], squares[part] = self._outer_sums(rows, weights, edges, lift)
        if lift.constant:
            sums[:, -1] = masses
        return GroupSums(masses, sums, squares)

    def _outer_sums(
        self, rows: Array, weights: Array, edges: Array, lift: Lift
    ) -> tuple[Array, Array, Array]:
        """Feature sums, masses and squares of a few groups."""
        sums = np.zeros((edges.size - 1, lift.size(self.q)))
        masses, squares = np.zeros(edges.size - 1), np.zeros((edges.size - 1, self.q))
        upper = np.triu_indices(self.q)
        for start in range(int(edges[0]), int(edges[-1]), BLOCK):
            part = slice(start, min(start + BLOCK, int(edges[-1])))
            z = self.coordinates(rows[part])
            u = weights[part] if weights.size else np.ones(z.shape[0])
            weighted = z * u[:, None]
            if masses.size > 1:  # all rows in one block, by construction
                offsets = edges[:-1] - start
                tables = lift.features(z) * u[:, None], u, weighted * z
                features, mass, square = (np.add.reduceat(table, offsets) for table in tables)
                return features, mass, square
            squares[0] += np.sum(weighted * z, axis=0)
            sums[0, : upper[0].size] += (weighted.T @ z)[upper]
            if lift.linear:
                sums[0, upper[0].size : upper[0].size + self.q] += weighted.sum(axis=0)
            masses[0] += u.sum()
        return sums, masses, squares

    def moved(self, shift: Array) -> Frame:
        """The frame whose origin is farther by ``shift``, in scaled units."""
        return replace(self, origin=self.origin + shift)

    def whitened(self, rows: Array, weights: Array) -> tuple[Frame, float, float]:
        """Frame with coordinates of unit second moment, its amplification of rounding, and what it lost.

        Columns of a frame have sizes near 1, so the amplification is the largest column sum of
        |mixing|: of the order of the condition number of the columns. Far from zero, entries of the data
        and the centre itself are rounded to machine epsilons of the origin: what is no larger is flat. If
        such a direction was left out, its moments are lost, which are of that size.
        """
        n, d = rows.shape
        root = np.sqrt(weights / weights.max()) if weights.size else None
        table: Rows = _FrameRows(rows, root, np.float64, frame=self)
        rounding = _FAINT * float(np.finfo(np.float64).eps) * np.maximum(1.0, np.abs(self.origin))
        # A column that is all but constant is taken as it is: its every digit would be rounding.
        faint = float(np.max(rounding, where=rounding < _COARSE, initial=0.0))
        table, matrix = whitener(table, max(default_rank_tolerance(min(n, 64 * d), d), faint))
        kept = np.any(matrix != 0.0, axis=0)
        matrix = matrix[:, kept] * math.sqrt(n if root is None else float(root @ root))
        if table.scale is not None:  # the rows were balanced first
            matrix = table.scale[:, None] * matrix
        amplification = float(np.max(np.sum(np.abs(matrix), axis=0), initial=1.0))
        lost = faint if matrix.shape[1] < np.count_nonzero(np.any(matrix != 0.0, axis=1)) else 0.0
        return replace(self, mixing=np.ascontiguousarray(matrix)), amplification, lost


def _power_of_two(size: Array) -> Array:
    """Powers of two near 1 / size, and 1 where the size is zero."""
    exponent = np.frexp(np.where(size > 0, size, 1.0))[1]
    return np.ldexp(1.0, np.clip(-exponent, -_WIDEST, _WIDEST))


def finer_scale(scale: Array, size: Array) -> Array:
    """Powers of two near 1 / size, smaller where their product with the scale would leave float64's range."""
    return np.minimum(_power_of_two(size), np.ldexp(1.0, _WIDEST) / np.maximum(scale, 1.0))


def frame_of(rows: Array, weights: Array, *, centred: bool, sample_size: int = _SAMPLE) -> Frame:
    """A first frame from a sample of evenly spaced rows: centre and sizes of the columns.

    The mean is taken relative to the first row of the sample, so that the centre of a constant
    column is that constant exactly. Without a centre, sizes are those of the columns themselves.
    """
    n, d = rows.shape
    step = max(1, n // sample_size)
    sample = np.asarray(rows[::step], dtype=np.float64)
    mass = weights[::step] if weights.size else np.ones(len(sample))
    mass = mass / mass.max() if mass.max() > 0 else np.ones(len(sample))
    scale = _power_of_two(np.max(np.abs(sample), axis=0))
    sample = sample * scale
    origin = np.zeros(d)
    if centred:
        anchor = sample[int(np.argmax(mass))]
        origin = anchor + (mass @ (sample - anchor)) / mass.sum()
    finer = finer_scale(scale, np.max(np.abs(sample - origin), axis=0))
    # A sample whose spread vanishes says nothing of that of the data.
    finer = np.minimum(finer, 2.0**500)
    return Frame(scale * finer, origin * finer)
