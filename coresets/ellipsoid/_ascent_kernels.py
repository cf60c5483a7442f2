"""Compiled coordinate ascent on ln det M(u) - k sum_i u_i, u >= 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["sweep"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any


def _compiled(function: F) -> F:
    """Compile on first use; sums may be reassociated, which vectorises them."""
    fastmath: Any = {"reassoc", "nsz", "contract"}
    try:
        return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True, fastmath=fastmath)(function))


@_compiled
def sweep(rows: Array, weights: Array, inverse: Array, order: Array, tolerance: float) -> int:
    """Maximise over one weight after the other, exactly; return the number of weights that moved.

    With omega = q^T M^-1 q, adding delta to the weight of q changes the objective by
    ln(1 + delta omega) - k delta, largest at delta = 1/k - 1/omega, or at the bound delta = -u.

    ``weights`` (m,) and ``inverse`` = M^-1 (k, k) are updated in place; ``order`` lists the rows to
    visit. Rows whose omega is within the relative ``tolerance`` of k already are passed over.
    """
    k = rows.shape[1]
    image = np.empty(k)
    moved = 0
    for position in range(order.size):
        i = order[position]
        q = rows[i]
        omega = 0.0
        for a in range(k):
            row = inverse[a]
            product = 0.0
            for b in range(k):
                product += row[b] * q[b]
            image[a] = product
            omega += product * q[a]
        if not omega > 0.0:  # a row of zeros, or of rounding errors
            continue
        delta = 1.0 / k - 1.0 / omega
        if abs(delta * omega) <= tolerance:
            continue
        if delta < -weights[i]:
            if weights[i] == 0.0:
                continue
            delta = -weights[i]
        growth = delta * omega
        if growth <= -0.999999:
            # Without this row M would be singular to rounding; a sequence of halves is safe.
            delta *= 0.5
            growth *= 0.5
        weights[i] = max(0.0, weights[i] + delta)
        factor = delta / (1.0 + growth)
        for a in range(k):  # Sherman and Morrison
            row = inverse[a]
            scaled = factor * image[a]
            for b in range(k):
                row[b] -= scaled * image[b]
        moved += 1
    return moved
