"""Exponents of the classical tails, accurate where the plain formulas cancel or overflow."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["bennett_h", "bennett_rate", "bernoulli_kl"]

Floats: TypeAlias = npt.NDArray[np.float64]

# Inside the radius the terms left out are below 0.05^12 / 78, relative to the first, 1 / 2.
_SERIES_RADIUS = 0.05
_SERIES_TERMS = 12
# Beyond these, Bennett's function and its asymptotes differ by less than one rounding.
_TINY_U, _HUGE_U = 1e-8, 1e17


def bennett_h(u: npt.ArrayLike) -> Floats:
    """Bennett's function (1 + u) ln(1 + u) - u for u >= -1, accurate near zero.

    Examples
    --------
    >>> float(bennett_h(0.0))
    0.0
    """
    u = np.asarray(u, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        direct = np.where(u > -1.0, (1.0 + u) * np.log1p(np.maximum(u, -1.0)), 0.0) - u
    near = np.abs(u) < _SERIES_RADIUS
    if not np.any(near):
        return np.asarray(direct)
    # Near zero both terms cancel, so take the series, the sum of (-u)^k / (k (k - 1)) over k >= 2.
    small = np.where(near, u, 0.0)
    series = np.zeros_like(small)
    for k in range(_SERIES_TERMS + 1, 1, -1):
        series = 1.0 / (k * (k - 1)) - small * series
    return np.where(near, small * small * series, direct)


def bennett_rate(e: Floats, v: Floats, b: Floats) -> Floats:
    """(v / b^2) h(b e / v) without overflow or underflow on the way, and never above the true value.

    At both ends h is replaced by a lower bound that equals it to machine precision there:
    u^2 / 2 - u^3 / 6 near zero, and u (ln u - 1) at infinity, with ln u from its three terms.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        log_u = np.log(e) + np.log(b) - np.log(v)
        product = b * e
        u = np.where((product > 1e-290) & (product < np.inf), product / v, np.exp(log_u))
        tiny = e * (e / v) * (0.5 - u / 6.0)
        huge = (e / b) * (log_u - 1.0)
        middle = (e / b) * (bennett_h(np.clip(u, _TINY_U, _HUGE_U)) / np.clip(u, _TINY_U, _HUGE_U))
        rate = np.where(log_u < np.log(_TINY_U), tiny, np.where(log_u > np.log(_HUGE_U), huge, middle))
        return np.where(e > 0.0, rate, 0.0)


def bernoulli_kl(shift: Floats, p: Floats) -> Floats:
    """Relative entropy of Bernoulli(p + shift) to Bernoulli(p); infinite when p + shift leaves [0, 1].

    Written as p h(shift / p) + (1 - p) h(-shift / (1 - p)): the linear parts of the two terms of
    the definition cancel exactly, which in floating point they would not.
    """
    q = p + shift
    inside = (q >= 0.0) & (q <= 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ones = np.maximum(shift / p, -1.0)
        zeros = np.where(p < 1.0, np.maximum(-shift / (1.0 - p), -1.0), 0.0)
    divergence = p * bennett_h(ones) + (1.0 - p) * bennett_h(zeros)
    # At p = 1 any other law is infinitely far; the formula above would read 0 * h(...).
    return np.where(inside & ((p < 1.0) | (shift == 0.0)), divergence, np.inf)
