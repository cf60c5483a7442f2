"""Compiled loops of the Caratheodory reduction: sums over groups of rows, and elimination.

Matrices are C-contiguous for speed; other layouts work. Sums are float64 whatever the rows are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["CHAIN", "eliminate_rows", "gather", "group_sums"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any

# Rows summed plainly before the compensated sum takes over. The rounding error of a group is then
# that of a chain of CHAIN / 4 + 4 additions, however many rows it has.
CHAIN = 256

# A difference of sizes below this share of the size is rounding: the sum of weights times sizes is
# kept whichever way the elimination moves.
_LEVEL = 1e-9


def _compiled(function: F) -> F:
    """Compile on first use. Products may be fused with sums, which only removes roundings."""
    fastmath: Any = {"contract"}
    try:
        return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True, fastmath=fastmath)(function))


@_compiled
def _add_rows(
    rows: Array,
    weights: Array,
    start: int,
    stop: int,
    scale: Array,
    origin: Array,
    first: Array,
    second: Array,
) -> float:
    """Add w z and w z^2 of the rows z = x scale - origin to the columns; the mass of the rows."""
    d = rows.shape[1]
    unit = weights.size == 0
    mass = 0.0
    i = start
    while i + 4 <= stop:  # four rows for one update of the running sums
        a = 1.0 if unit else np.float64(weights[i])
        b = 1.0 if unit else np.float64(weights[i + 1])
        c = 1.0 if unit else np.float64(weights[i + 2])
        e = 1.0 if unit else np.float64(weights[i + 3])
        mass += (a + b) + (c + e)
        for j in range(d):
            p, o = scale[j], origin[j]
            u = np.float64(rows[i, j]) * p - o
            v = np.float64(rows[i + 1, j]) * p - o
            w = np.float64(rows[i + 2, j]) * p - o
            z = np.float64(rows[i + 3, j]) * p - o
            au, bv, cw, ez = a * u, b * v, c * w, e * z
            first[j] += (au + bv) + (cw + ez)
            second[j] += (au * u + bv * v) + (cw * w + ez * z)
        i += 4
    while i < stop:
        a = 1.0 if unit else np.float64(weights[i])
        mass += a
        for j in range(d):
            u = np.float64(rows[i, j]) * scale[j] - origin[j]
            first[j] += a * u
            second[j] += a * u * u
        i += 1
    return mass


@_compiled
def _two_sum(total: float, value: float) -> tuple[float, float]:
    """Rounded sum and its rounding error (Knuth)."""
    s = total + value
    t = s - total
    return s, (total - (s - t)) + (value - t)


@_compiled
def group_sums(
    rows: Array,
    weights: Array,
    starts: Array,
    scale: Array,
    origin: Array,
    masses: Array,
    sums: Array,
    squares: Array,
) -> None:
    """Masses and weighted sums of the rows z = x scale - origin of contiguous groups.

    Group g has the rows ``starts[g]`` to ``starts[g + 1]``. An empty array of weights stands for
    ones. ``squares`` (G, d) receives the sums of w z^2.
    """
    d = rows.shape[1]
    first, second, lost = np.empty(d), np.empty(d), np.empty(d)
    for g in range(starts.size - 1):
        mass, lost_mass = 0.0, 0.0
        lost[:] = 0.0
        sums[g, :] = 0.0
        squares[g, :] = 0.0
        for start in range(starts[g], starts[g + 1], CHAIN):
            first[:] = 0.0
            second[:] = 0.0
            stop = min(start + CHAIN, starts[g + 1])
            part = _add_rows(rows, weights, start, stop, scale, origin, first, second)
            mass, error = _two_sum(mass, part)
            lost_mass += error
            for j in range(d):
                total, error = _two_sum(sums[g, j], first[j])
                sums[g, j] = total
                lost[j] += error
                squares[g, j] += second[j]
        masses[g] = mass + lost_mass
        for j in range(d):
            sums[g, j] += lost[j]


@_compiled
def gather(rows: Array, indices: Array, scale: Array, origin: Array, out: Array) -> None:
    """Write z = x scale - origin of the chosen rows, without a temporary."""
    for i in range(indices.size):
        for j in range(out.shape[1]):
            out[i, j] = np.float64(rows[indices[i], j]) * scale[j] - origin[j]


@_compiled
def _leaving(tableau_row: Array, basis_weights: Array, sign: float) -> tuple[int, float]:
    """First basic row whose weight vanishes when weights change by ``sign`` times the tableau row."""
    chosen, step = -1, np.inf
    for j in range(basis_weights.size):
        slope = -sign * tableau_row[j]
        if slope > 0.0 and basis_weights[j] < step * slope:
            step = basis_weights[j] / slope
            chosen = j
    return chosen, step


@_compiled
def eliminate_rows(
    tableau: Array,
    basis: Array,
    basis_weights: Array,
    basis_sizes: Array,
    rows: Array,
    weights: Array,
    sizes: Array,
) -> None:
    """Move the weights of ``rows`` onto the basis, keeping the weighted sum, one elimination a row.

    Row i equals sum_j tableau[i, j] basis row j, so (1 at i, -tableau[i] at the basis) is a null
    vector. Moving along it until a weight vanishes eliminates either row i or a basic row, whose
    place row i takes; the later rows of the tableau then follow by one Gauss-Jordan step. All
    arrays of the basis and the tableau are overwritten.

    Moving towards row i by 1 changes the sum of weights times sizes by ``slope``. Moving only
    where it does not grow keeps all weights bounded. Where it is constant (sizes 1 and the mass
    among what is kept) both ways are open, and the larger pivot is the accurate one.
    """
    m, r = tableau.shape
    for i in range(m):
        y = tableau[i]
        slope = -sizes[i]
        scale = sizes[i]
        for j in range(r):
            slope += y[j] * basis_sizes[j]
            scale += abs(y[j]) * basis_sizes[j]
        out, step = _leaving(y, basis_weights, 1.0)
        back, back_step = _leaving(y, basis_weights, -1.0)
        if slope <= _LEVEL * scale and (out < 0 or step >= weights[i]):
            for j in range(r):  # row i gives all its weight to the basis
                basis_weights[j] = max(0.0, basis_weights[j] + weights[i] * y[j])
            continue
        forward = out >= 0 and slope <= _LEVEL * scale
        if forward and slope >= -_LEVEL * scale and back >= 0:
            forward = abs(y[out]) >= abs(y[back])
        if not forward:
            out, step = back, -back_step
        for j in range(r):
            basis_weights[j] = max(0.0, basis_weights[j] + step * y[j])
        basis[out], basis_sizes[out] = rows[i], sizes[i]
        basis_weights[out] = weights[i] - step  # the weight that vanished is gone, exactly
        for t in range(i + 1, m):
            z = tableau[t]
            factor = z[out] / y[out]
            if factor != 0.0:
                for j in range(r):
                    z[j] -= factor * y[j]
            z[out] = factor
