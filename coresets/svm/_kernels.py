"""Compiled passes over the rows of a dense problem, and over arrays of one number a point.

Sums are taken in chunks of ``CHUNK`` rows and the chunks are added up, so that a sum of n terms carries
the rounding of CHUNK + n / CHUNK additions instead of n. The same passes on blocks, in plain NumPy, are
in :mod:`coresets.svm._rows`, where they serve sparse matrices; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["CHUNK", "assign", "band_gap", "cluster_shares", "norms", "pulls", "scan", "scores", "slope"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any

CHUNK = 1024


def _compiled(function: F) -> F:
    """Compile on first use; sums may be reassociated, NaN and infinity keep their meaning."""
    fastmath: Any = {"reassoc", "nsz", "contract"}
    try:
        return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True, fastmath=fastmath)(function))


@_compiled
def scan(
    points: Array, signs: Array, caps: Array, w: Array, b: float, width: float, out: Array, sums: Array
) -> tuple[float, float]:
    """One pass at (w, b): margins into ``out``, class sums into ``sums``.

    Returns the sum of cap * hinge, and the largest norm of a row.

    The dual variable of a point is cap times clip((1 + width/2 - margin) / width, 0, 1), and the indicator
    of margin < 1 for width 0. Row 0 of ``sums`` (2, d + 1) holds sum a x of the negative class and, last,
    sum a; row 1 those of the positive one.
    """
    n, d = points.shape
    hinges, largest = 0.0, 0.0
    local = np.empty_like(sums)
    for start in range(0, n, CHUNK):
        local[:] = 0.0
        hinge = 0.0
        for i in range(start, min(start + CHUNK, n)):
            image, square = 0.0, 0.0
            for j in range(d):
                x = np.float64(points[i, j])
                image += x * w[j]
                square += x * x
            largest = max(largest, square)
            margin = signs[i] * (image + b)
            out[i] = margin
            slack = 1.0 - margin
            if slack > 0.0:
                hinge += caps[i] * slack
            if width > 0.0:
                share = min(1.0, max(0.0, 0.5 + slack / width))
            else:
                share = 1.0 if slack > 0.0 else 0.0
            if share > 0.0:
                a = caps[i] * share
                side = local[1] if signs[i] > 0 else local[0]
                for j in range(d):
                    side[j] += a * points[i, j]
                side[d] += a
        hinges += hinge
        for k in range(2):
            for j in range(d + 1):
                sums[k, j] += local[k, j]
    return hinges, np.sqrt(largest)


@_compiled
def slope(margins: Array, moves: Array, caps: Array, width: float, step: float) -> float:
    """Derivative, at ``step``, of the sum of cap * smoothed hinge(margin + step * move)."""
    total = 0.0
    for i in range(margins.size):
        slack = 1.0 - margins[i] - step * moves[i]
        total -= caps[i] * moves[i] * min(1.0, max(0.0, 0.5 + slack / width))
    return total


@_compiled
def band_gap(margins: Array, caps: Array, width: float) -> float:
    """Duality gap due to the smoothing: sum of cap * (hinge - share * (1 - margin))."""
    total = 0.0
    for i in range(margins.size):
        slack = 1.0 - margins[i]
        share = min(1.0, max(0.0, 0.5 + slack / width))
        total += caps[i] * (max(slack, 0.0) - share * slack)
    return total


@_compiled
def norms(points: Array, out: Array) -> None:
    """Euclidean norms of the rows."""
    for i in range(points.shape[0]):
        total = 0.0
        for j in range(points.shape[1]):
            x = np.float64(points[i, j])
            total += x * x
        out[i] = np.sqrt(total)


@_compiled
def pulls(points: Array, signs: Array, weights: Array, w: Array, b: float, width: float, out: Array) -> None:
    """Length of every point's pull on the model (w, b): weight * share * |(x, 1)|.

    The share is 1 within the margin by width / 2 and falls linearly to 0 as far outside it.
    """
    for i in range(points.shape[0]):
        image, square = b, 1.0
        for j in range(points.shape[1]):
            x = np.float64(points[i, j])
            image += x * w[j]
            square += x * x
        share = min(1.0, max(0.0, 0.5 + (1.0 - signs[i] * image) / width))
        out[i] = weights[i] * share * np.sqrt(square)


@_compiled
def assign(
    points: Array, weights: Array, signs: Array, centres: Array, first: Array, labels: Array, sums: Array
) -> None:
    """Nearest centre of the own class; sums (k, d + 1) collect weight * point and, last, weight.

    ``centres`` holds those of the negative class in rows first[0] to first[1] - 1, those of the positive
    one from first[1] to first[2] - 1. Negative labels are assigned, others are taken as they are.
    """
    n, d = points.shape
    local = np.empty_like(sums)
    for start in range(0, n, CHUNK):
        local[:] = 0.0
        for i in range(start, min(start + CHUNK, n)):
            best = labels[i]
            if best < 0:
                side = 1 if signs[i] > 0 else 0
                best, nearest = first[side], np.inf
                for k in range(first[side], first[side + 1]):
                    if first[side + 1] - first[side] == 1:
                        break
                    distance = 0.0
                    for j in range(d):
                        gap = points[i, j] - centres[k, j]
                        distance += gap * gap
                    if distance < nearest:
                        best, nearest = k, distance
                labels[i] = best
            target, u = local[best], weights[i]
            for j in range(d):
                target[j] += u * points[i, j]
            target[d] += u
        for k in range(sums.shape[0]):
            for j in range(d + 1):
                sums[k, j] += local[k, j]


@_compiled
def scores(points: Array, labels: Array, means: Array, out: Array) -> None:
    """Distance of every point to the mean of its cluster."""
    d = points.shape[1]
    for i in range(points.shape[0]):
        mean = means[labels[i]]
        total = 0.0
        for j in range(d):
            gap = points[i, j] - mean[j]
            total += gap * gap
        out[i] = np.sqrt(total)


@_compiled
def cluster_shares(
    distances: Array,
    labels: Array,
    weights: Array,
    inverse_masses: Array,
    halves: Array,
    lam: float,
    low: float,
    out: Array,
) -> None:
    """Bounds min(1, u / U_Q + lam u G(D, alpha, o)) with ``halves`` = alpha of every cluster; see S1."""
    root = np.sqrt(2.0 * low)
    for i in range(distances.size):
        k, distance = labels[i], distances[i]
        alpha = halves[k]
        if distance == 0.0:
            rise = 0.0
        elif distance <= 2.0 * alpha * root:
            rise = distance * distance / (4.0 * alpha * low)
        else:
            rise = (distance * root - 2.0 * alpha * low) / low
        out[i] = min(1.0, weights[i] * (inverse_masses[k] + lam * rise))
