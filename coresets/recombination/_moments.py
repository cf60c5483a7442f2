"""Running moments of a stream in twice the working precision.

A number is a pair (high, low) of float64 whose sum it is, stacked along the first axis. Moments of a
block are taken about a centre of its own, where nothing cancels, and moved to the common origin and
added in pairs. So their error stays that of the blocks, however many there are and however far the
blocks lie from each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coresets.recombination._frame import BLOCK, Frame, Lift, exact_sums, frame_of, two_product, two_sum

__all__ = ["Moments", "mapped", "moments_of", "pair", "times"]

Array = np.ndarray

_CHUNK = 8192  # rows of a block that are summed at once


def pair(values: Array | float) -> Array:
    """The pair of a float64 array."""
    high = np.asarray(values, dtype=np.float64)
    return np.stack([high, np.zeros_like(high)])


def added(a: Array, b: Array) -> Array:
    """Sum of two pairs."""
    high, low = two_sum(a[0], b[0])
    return np.stack(two_sum(high, low + (a[1] + b[1])))


def times(a: Array, b: Array) -> Array:
    """Product of two pairs."""
    high, low = two_product(a[0], b[0])
    return np.stack(two_sum(high, low + (a[0] * b[1] + a[1] * b[0])))


def _outer(a: Array, b: Array, full: bool) -> Array:
    """All products of two vectors of pairs, or those of equal position."""
    return times(a[:, :, None], b[:, None, :]) if full else times(a, b)


def mapped(matrix: Array, mixing: Array) -> Array:
    """The pairs ``matrix`` (2, d, m), multiplied from the left by the transpose of ``mixing`` (d, q)."""
    total = pair(np.zeros((mixing.shape[1], matrix.shape[2])))
    for row in range(mixing.shape[0]):
        total = added(total, _outer(pair(mixing[row]), matrix[:, row], True))
    return total


@dataclass(frozen=True)
class Moments:
    """Mass, first and second moments of x scale about an origin, as pairs.

    ``second`` is (2, d, d), or (2, d) for the squares alone. ``spread`` is (d,), the sum over blocks of
    the squares about the centre of each: rounding errors of the blocks' sums are small multiples of it,
    and moving them adds none.
    """

    scale: Array
    origin: Array
    mass: Array
    first: Array
    second: Array
    spread: Array

    def about(self, origin: Array) -> Moments:
        """The same moments about another origin."""
        # With x - o' = (x - o) + h and h = o - o'.
        shift = np.stack(two_sum(self.origin, -origin))
        full = self.second.ndim == 3
        moved = times(self.mass[:, None], shift)
        cross = _outer(self.first, shift, full)
        transposed = _outer(shift, self.first, full)
        second = added(self.second, added(added(cross, transposed), _outer(shift, moved, full)))
        return Moments(self.scale, origin, self.mass, added(self.first, moved), second, self.spread)

    def plus(self, other: Moments) -> Moments:
        """Moments of both sets, about the origin of this one."""
        moved = other.about(self.origin)
        return Moments(
            self.scale,
            self.origin,
            added(self.mass, moved.mass),
            added(self.first, moved.first),
            added(self.second, moved.second),
            self.spread + moved.spread,
        )

    @property
    def mean(self) -> Array:
        """Mean of x scale, rounded to float64."""
        return self.origin + self.first[0] / self.mass[0]


def moments_of(rows: Array, weights: Array, scale: Array | None, lift: Lift) -> Moments:
    """Moments of a block about a centre of its own; with no scale, one that suits the block is chosen."""
    frame = frame_of(rows, weights, centred=True)
    if scale is None:
        scale = frame.scale
    d = scale.size
    frame = Frame(scale, frame.origin * (scale / frame.scale))
    n = rows.shape[0]
    step = BLOCK if lift.quadratic else _CHUNK
    starts = np.append(np.arange(0, n, step), n)
    a, b = np.triu_indices(d)
    wanted = Lift(quadratic=lift.quadratic, linear=True, constant=True)
    groups = frame.group_sums(rows, weights, starts, wanted)
    sums = exact_sums(groups.sums)
    mass, second = exact_sums(groups.masses[:, None])[0], exact_sums(groups.squares)
    spread = second
    if lift.quadratic:
        second = np.empty((d, d))
        second[a, b] = second[b, a] = sums[: a.size]
    return Moments(scale, frame.origin, pair(mass), pair(sums[-1 - d : -1]), pair(second), spread)
