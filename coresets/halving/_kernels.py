"""Compiled walks: vectors given as polynomials of unit rows, or by their inner products.

A step has the vector v = a psi_p - b psi_q for a pair (p, q), or v = a psi_p where q is -1, with scales a
and b. The plain reference is in :mod:`coresets.halving._reference`; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ["gram_lengths", "gram_walk", "polynomial_lengths", "polynomial_walk"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any


def _compiled(function: F) -> F:
    """Compile on first use, sums reassociated so that they are vectorised."""
    options: Any = {"nogil": True, "fastmath": {"reassoc", "nsz", "contract"}}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(**options)(function))


@_compiled
def _dot(x: Array, y: Array) -> float:
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@_compiled
def polynomial_lengths(
    units: Array, coefficients: Array, scales: Array, first: Array, second: Array, lengths: Array
) -> None:
    """Squared lengths of the vectors of all steps, under the kernel c0 + c1 z + c2 z^2, z = u.u'."""
    c0, c1, c2 = coefficients[0], coefficients[1], coefficients[2]
    for i in range(first.size):
        p, q = first[i], second[i]
        z = _dot(units[p], units[p])
        total = scales[p] * scales[p] * (c0 + c1 * z + c2 * z * z)
        if q >= 0:
            z = _dot(units[q], units[q])
            total += scales[q] * scales[q] * (c0 + c1 * z + c2 * z * z)
            z = _dot(units[p], units[q])
            total -= 2.0 * scales[p] * scales[q] * (c0 + c1 * z + c2 * z * z)
        lengths[i] = max(total, 0.0)


@_compiled
def _add_square(square: Array, u: Array, factor: float) -> None:
    """Add factor u u^T to the upper triangle."""
    for i in range(u.size):
        x = factor * u[i]
        for j in range(i, u.size):
            square[i, j] += x * u[j]


@_compiled
def _form(square: Array, u: Array) -> float:
    """u^T S u for the symmetric matrix with this upper triangle."""
    total = 0.0
    for i in range(u.size):
        rest = 0.0
        for j in range(i + 1, u.size):
            rest += square[i, j] * u[j]
        total += u[i] * (square[i, i] * u[i] + 2.0 * rest)
    return total


@_compiled
def polynomial_walk(
    units: Array,
    coefficients: Array,
    scales: Array,
    first: Array,
    second: Array,
    threshold: float,
    uniforms: Array,
    signs: Array,
) -> tuple[int, float]:
    """Walk with the kernel c0 + c1 z + c2 z^2; clips and the largest inner product met.

    The sum of the vectors is kept as a number, a row and a matrix, so that no vector of d (d + 1)/2
    entries is ever formed.
    """
    c0, c1, c2 = coefficients[0], coefficients[1], coefficients[2]
    d = units.shape[1]
    constant = 0.0
    linear = np.zeros(d)
    square = np.zeros((d, d)) if c2 > 0.0 else np.zeros((0, 0))
    clips, largest = 0, 0.0
    for i in range(first.size):
        p, q = first[i], second[i]
        a = scales[p]
        b = scales[q] if q >= 0 else 0.0
        other = q if q >= 0 else p
        inner = c0 * constant * (a - b)
        inner += c1 * (a * _dot(linear, units[p]) - b * _dot(linear, units[other]))
        if c2 > 0.0:
            inner += c2 * a * _form(square, units[p])
            if q >= 0:
                inner -= c2 * b * _form(square, units[q])
        largest = max(largest, abs(inner))
        clips += 1 if abs(inner) > threshold else 0
        sign = 1.0 if uniforms[i] < 0.5 - 0.5 * inner / threshold else -1.0
        signs[i] = 1 if sign > 0.0 else -1
        constant += sign * (a - b)
        for j in range(d):
            linear[j] += sign * (a * units[p, j] - b * units[other, j])
        if c2 > 0.0:
            _add_square(square, units[p], sign * a)
            if q >= 0:
                _add_square(square, units[q], -sign * b)
    return clips, largest


@_compiled
def gram_lengths(gram: Array, scales: Array, first: Array, second: Array, lengths: Array) -> None:
    """Squared lengths of the vectors of all steps, from inner products of all points."""
    for i in range(first.size):
        p, q = first[i], second[i]
        total = scales[p] * scales[p] * gram[p, p]
        if q >= 0:
            total += scales[q] * (scales[q] * gram[q, q] - 2.0 * scales[p] * gram[p, q])
        lengths[i] = max(total, 0.0)


@_compiled
def gram_walk(
    gram: Array,
    scales: Array,
    first: Array,
    second: Array,
    threshold: float,
    uniforms: Array,
    signs: Array,
) -> tuple[int, float]:
    """Walk from inner products of all points; clips and the largest inner product met."""
    n = gram.shape[0]
    images = np.zeros(n)  # inner products of the sum so far with all points
    clips, largest = 0, 0.0
    for i in range(first.size):
        p, q = first[i], second[i]
        inner = scales[p] * images[p]
        if q >= 0:
            inner -= scales[q] * images[q]
        largest = max(largest, abs(inner))
        clips += 1 if abs(inner) > threshold else 0
        sign = 1.0 if uniforms[i] < 0.5 - 0.5 * inner / threshold else -1.0
        signs[i] = 1 if sign > 0.0 else -1
        x = sign * scales[p]
        row = gram[p]
        for j in range(n):
            images[j] += x * row[j]
        if q >= 0:
            x = -sign * scales[q]
            row = gram[q]
            for j in range(n):
                images[j] += x * row[j]
    return clips, largest
