"""Compiled loops behind :mod:`nn.neurons._elimination`: small symmetric blocks, one for each unit.

Blocks are stored entry by entry, (k, k, units), so that every loop runs over all units at once. Of
symmetric ones only the lower triangle is kept. Arrays are C-contiguous float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["downdate", "quotients"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any


def _compiled(function: F) -> F:
    """Compile on first use; products and sums may be contracted, nothing else."""
    fastmath: Any = {"contract"}
    try:
        return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath, error_model="numpy")(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True, fastmath=fastmath, error_model="numpy")(function))


@_compiled
def downdate(blocks: Array, squares: Array, factor: Array, tilt: Array, left: int) -> None:
    """B_u -= F_u F_u^T and P_u -= F_u T_u^T + T_u F_u^T for the first ``left`` units.

    ``factor`` and ``tilt`` hold F and T, also as (k, k, units); T is F times half of a symmetric matrix less
    than what P is made of, see the caller.
    """
    for i in range(len(blocks)):
        for j in range(i + 1):
            b, p = blocks[i, j, :left], squares[i, j, :left]
            for c in range(len(blocks)):
                f, g = factor[i, c, :left], factor[j, c, :left]
                t, s = tilt[i, c, :left], tilt[j, c, :left]
                for u in range(left):
                    b[u] -= f[u] * g[u]
                    p[u] -= f[u] * s[u] + t[u] * g[u]


@_compiled
def _inverted(blocks: Array, work: Array, left: int) -> bool:
    """M_u = L_u^-1 for B_u = L_u L_u^T, into ``work``; False if a B_u is not positive definite."""
    k = len(blocks)
    definite = True
    row = work[0, k, :left]
    # L column by column; its diagonal is inverted at once.
    for j in range(k):
        pivot = work[j, j, :left]
        pivot[:] = blocks[j, j, :left]
        for c in range(j):
            v = work[j, c, :left]
            for u in range(left):
                pivot[u] -= v[u] * v[u]
        for u in range(left):
            definite &= pivot[u] > 0.0
            pivot[u] = 1.0 / pivot[u] ** 0.5
        for i in range(j + 1, k):
            w = work[i, j, :left]
            w[:] = blocks[i, j, :left]
            for c in range(j):
                v, x = work[i, c, :left], work[j, c, :left]
                for u in range(left):
                    w[u] -= v[u] * x[u]
            for u in range(left):
                w[u] *= pivot[u]
    # M in the place of L, row by row: M_ij = -M_ii (L_ij M_jj + ... + L_i,i-1 M_i-1,j).
    for i in range(k):
        pivot = work[i, i, :left]
        for j in range(i):
            row[:] = 0.0
            for c in range(j, i):  # L_ij itself is not needed once j has been passed
                v, x = work[i, c, :left], work[c, j, :left]
                for u in range(left):
                    row[u] += v[u] * x[u]
            w = work[i, j, :left]
            for u in range(left):
                w[u] = -pivot[u] * row[u]
    return definite


@_compiled
def quotients(blocks: Array, squares: Array, work: Array, found: Array, left: int) -> bool:
    """tr(B_u^-1 P_u) for the first ``left`` units into ``found``; whether all B_u are positive definite.

    ``work`` has the shape of the blocks and one more column, (k, k + 1, units).
    """
    k = len(blocks)
    if not _inverted(blocks, work, left):
        return False
    total, row = found[:left], work[0, k, :left]
    total[:] = 0.0
    # tr(M P M^T), row by row of M; entries below the diagonal of P count twice.
    for i in range(k):
        for a in range(i + 1):
            row[:] = 0.0
            for c in range(a):
                v, x = work[i, c, :left], squares[a, c, :left]
                for u in range(left):
                    row[u] += v[u] * x[u]
            v, x = work[i, a, :left], squares[a, a, :left]
            for u in range(left):
                total[u] += v[u] * (2.0 * row[u] + v[u] * x[u])
    return True
