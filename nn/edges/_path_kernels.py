"""Compiled loops behind :mod:`nn.edges._paths`: greedy elimination, and the convex form of a path.

Eliminating pivot after pivot from a positive definite matrix is Cholesky's factorisation; here the
next pivot is chosen by what the factorisation has left so far. Only the choice needs every step's
result, so the matrix itself is updated for :data:`PANEL` steps at once (the pivoted Cholesky of
LAPACK does likewise), in its upper triangle. The tests hold the loops to plain references.

Matrices are C-contiguous float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["PANEL", "convexify", "eliminate", "merge"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any

PANEL = 8  # steps whose updates of the matrix are done in one pass; a multiple of four

# A residual diagonal entry this small, over the original one, is rounding: the column depends on those
# already eliminated.
_DEPENDENT = 1e-12


def _compiled(function: F) -> F:
    """Compile on first use; sums may be reassociated, there are no NaNs, infinities keep their meaning."""
    fastmath: Any = {"reassoc", "nsz", "nnan", "contract"}
    try:
        return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True, fastmath=fastmath)(function))


@_compiled
def _update(S: Array, V: Array, r: int) -> None:
    """S -= V^T V in the upper triangle of the leading r x r block, for PANEL rows of V."""
    # Slices, so that the compiler sees indices that cannot be negative; two rows by four, whose eight
    # factors and six vectors 16 registers hold; all in one function, where the compiler sees that all
    # rows belong to two arrays. Each of these is needed for vector instructions at full speed.
    for i in range(0, r - 1, 2):
        s, t = S[i, i:r], S[i + 1, i:r]  # t[0] is below the diagonal, where nobody reads
        for p in range(0, PANEL, 4):
            u, v, w, x = V[p, i:r], V[p + 1, i:r], V[p + 2, i:r], V[p + 3, i:r]
            a, b, c, d = u[0], v[0], w[0], x[0]
            e, f, g, h = u[1], v[1], w[1], x[1]
            for j in range(r - i):
                uj, vj, wj, xj = u[j], v[j], w[j], x[j]
                s[j] -= a * uj + b * vj + c * wj + d * xj
                t[j] -= e * uj + f * vj + g * wj + h * xj
    if r % 2:
        for p in range(PANEL):
            S[r - 1, r - 1] -= V[p, r - 1] * V[p, r - 1]


@_compiled
def _column(S: Array, V: Array, filled: int, position: int, column: Array) -> None:
    """Column of the residual matrix: of S, which lacks the updates by the first rows of V."""
    r = column.size
    for i in range(position):
        column[i] = S[i, position]
    column[position:] = S[position, position:r]
    p = 0
    while p + 4 <= filled:
        w0, w1, w2, w3 = V[p, :r], V[p + 1, :r], V[p + 2, :r], V[p + 3, :r]
        a0, a1, a2, a3 = w0[position], w1[position], w2[position], w3[position]
        for i in range(r):
            column[i] -= a0 * w0[i] + a1 * w1[i] + a2 * w2[i] + a3 * w3[i]
        p += 4
    while p < filled:
        w0 = V[p, :r]
        a0 = w0[position]
        for i in range(r):
            column[i] -= a0 * w0[i]
        p += 1


@_compiled
def _subtract(target: Array, factor: float, vector: Array) -> None:
    for i in range(target.size):
        target[i] -= factor * vector[i]


@_compiled
def _subtract_squares(target: Array, vector: Array) -> None:
    for i in range(target.size):
        target[i] -= vector[i] * vector[i]


@_compiled
def _rank(c: Array, diagonal: Array, floor: Array, rank: Array) -> None:
    """Ranks c^2 / d; 0 for columns that depend on those eliminated."""
    for i in range(c.size):
        rank[i] = c[i] * c[i] / diagonal[i] if diagonal[i] > floor[i] else 0.0


@_compiled
def _best(rank: Array, bias: Array, direction: float) -> int:
    """First position with the largest direction * rank + bias."""
    best = -np.inf
    for i in range(rank.size):  # without the position, so that it is vectorised
        best = max(best, direction * rank[i] + bias[i])
    for i in range(rank.size):
        if direction * rank[i] + bias[i] == best:
            return i
    return -1


@_compiled
def _compress(S: Array, T: Array, where: Array, vectors: tuple[Array, ...], index: Array) -> None:
    """Move what is left of the matrix and of the vectors to the front."""
    for a in range(where.size):
        i = where[a]
        index[a] = index[i]
        for vector in vectors:
            vector[a] = vector[i]
        # Both start at the same address, and nothing is read after it was written.
        source, target = S[i], T[a]
        for b in range(a, where.size):
            target[b] = source[where[b]]


@_compiled
def eliminate(
    matrix: Array,
    starts: Array,
    first: Array,
    never: Array,
    direction: float,
    deferred: bool,
    order: Array,
    gains: Array,
) -> None:
    """Eliminate columns of a positive definite matrix greedily, for each of several right-hand sides.

    The rank of column j is c_j^2 / d_j, c being the residual right-hand side and d the residual
    diagonal. A step eliminates the column of the largest rank (``direction`` 1) or of the smallest
    one (-1): c -= (c_j / d_j) S_j and S -= S_j S_j^T / d_j.

    Parameters
    ----------
    matrix : (m, m)
        The same for all right-hand sides.
    starts : (n, m)
        Right-hand sides.
    first, never : (n, m) of bool
        Columns that are eliminated before all others, and columns that are not.
    direction : float
        1 or -1.
    deferred : bool
        Never update the matrix, but every column when it is needed: less work if few columns are
        eliminated, and more if many are.
    order, gains : (n, steps)
        Filled with the columns in the order of their elimination, and their ranks when eliminated;
        -1 and 0 after the last one.
    """
    m = matrix.shape[0]
    steps = order.shape[1]
    memory = np.empty(m * m)
    V = np.empty((steps if deferred else PANEL, m))
    index = np.empty(m, np.int64)
    c, diagonal, floor, rank, bias = np.empty(m), np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    for n in range(starts.shape[0]):
        r = 0
        for j in range(m):
            if not never[n, j]:
                index[r] = j
                r += 1
        S = memory[: r * r].reshape(r, r)
        for a in range(r):
            source, target = matrix[index[a]], S[a]
            for b in range(a, r):
                target[b] = source[index[b]]
            c[a] = starts[n, index[a]]
            diagonal[a] = target[a]
            floor[a] = _DEPENDENT * target[a]
            bias[a] = np.inf if first[n, index[a]] else 0.0
        _rank(c[:r], diagonal[:r], floor[:r], rank[:r])
        total, filled, gone = min(r, steps), 0, 0
        order[n, total:] = -1
        gains[n, total:] = 0.0
        for t in range(total):
            place = _best(rank[:r], bias[:r], direction)
            order[n, t] = index[place]
            gains[n, t] = rank[place]
            bias[place] = -np.inf
            gone += 1
            if diagonal[place] <= floor[place]:
                continue  # it depends on what has gone before: nothing is left of it to take away
            v = V[filled, :r]
            _column(S, V, filled, place, v)
            root = np.sqrt(diagonal[place])
            for i in range(r):
                v[i] /= root
            _subtract(c[:r], c[place] / root, v)
            _subtract_squares(diagonal[:r], v)
            _rank(c[:r], diagonal[:r], floor[:r], rank[:r])
            filled += 1
            if filled == PANEL and not deferred:
                _update(S, V, r)
                filled = 0
                if 12 * gone >= r or gone >= 48:
                    where = np.flatnonzero(bias[:r] > -np.inf)
                    r, gone = where.size, 0
                    T = memory[: r * r].reshape(r, r)
                    _compress(S, T, where, (c, diagonal, floor, rank, bias), index)
                    S = T


@_compiled
def merge(
    orders: tuple[Array, Array], gains: tuple[Array, Array], direction: float, order: Array, gain: Array
) -> None:
    """Greedy elimination of two sets of columns without coupling, from that of each.

    What is eliminated from one set does not change the ranks in the other, so the next column is the
    better one of the two heads. Unused places hold -1 and 0.
    """
    first, second = orders
    gain_first, gain_second = gains
    for n in range(order.shape[0]):
        a = b = 0
        for t in range(order.shape[1]):
            has_first = a < first.shape[1] and first[n, a] >= 0
            has_second = b < second.shape[1] and second[n, b] >= 0
            if has_first and not (
                has_second and direction * gain_second[n, b] > direction * gain_first[n, a]
            ):
                order[n, t], gain[n, t] = first[n, a], gain_first[n, a]
                a += 1
            elif has_second:
                order[n, t], gain[n, t] = second[n, b], gain_second[n, b]
                b += 1
            else:
                order[n, t:] = -1
                gain[n, t:] = 0.0
                break


@_compiled
def convexify(errors: Array, lengths: Array, gains: Array) -> None:
    """Gains of the greatest convex function below each row of errors.

    Neighbouring gains are pooled to their mean wherever a later one is larger, which yields the
    slopes of the lower convex hull.

    Parameters
    ----------
    errors : (n, L + 1)
        Row n is defined up to ``lengths[n]``.
    lengths : (n,)
        At most L.
    gains : (n, L)
        Filled with minus the slopes, which do not increase; minus infinity after the length.
    """
    total = np.empty(gains.shape[1])
    size = np.empty(gains.shape[1], np.int64)
    for n in range(errors.shape[0]):
        pools = 0
        for k in range(lengths[n]):
            total[pools] = errors[n, k] - errors[n, k + 1]
            size[pools] = 1
            # means compared by products, since sizes are positive
            while pools > 0 and total[pools] * size[pools - 1] > total[pools - 1] * size[pools]:
                total[pools - 1] += total[pools]
                size[pools - 1] += size[pools]
                pools -= 1
            pools += 1
        k = 0
        for p in range(pools):
            mean = total[p] / size[p]
            for _ in range(size[p]):
                gains[n, k] = mean
                k += 1
        gains[n, k:] = -np.inf
