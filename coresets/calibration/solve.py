"""Factors that turn drawn weights into calibrated ones: the generalised regression estimator, with bounds.

With drawn factors c0 of the kept points (weights over masses), measure s and features q, the factors

    c = c0 clip(1 + lambda.q, low, high),    sum_C c s q = T,

are those closest to c0 in sum_C s (c - c0)^2/c0 among all that keep the moments and lie in
[low c0, high c0]. Where no bound is active this is one k x k system, lambda = G^-1 (T - That) with
G = sum_C c0 s q q^T; elsewhere Newton's method on the dual, which is convex and piecewise quadratic.
Cost O(m k^2) a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets._validate import check_real

__all__ = ["Bounds", "Solution", "solve"]

Floats = npt.NDArray[np.float64]

_STEPS = 60  # of Newton's method; where weights exist it needs about ten
_NEAR = 1e-6  # gap, relative to the size of the moments, from which on convergence is quadratic
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Range of the factor by which calibration may change a weight.

    Parameters
    ----------
    low : float
        In [0, 1). The default of 0 keeps weights non-negative.
    high : float
        Above 1, possibly infinite.

    Examples
    --------
    >>> from coresets.calibration import Bounds
    >>> Bounds(0.5, 2.0)  # no weight changes by more than a factor of two
    Bounds(low=0.5, high=2.0)
    """

    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        low = check_real(self.low, "low")
        high = math.inf if self.high == math.inf else check_real(self.high, "high")
        if not 0.0 <= low < 1.0:
            raise ValueError(f"low = {low:g} is outside [0, 1); weights may not be negative, nor all grow")
        if high <= 1.0:
            raise ValueError(f"high = {high:g} is not above 1; some weights have to grow")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)


@dataclass(frozen=True, eq=False)
class Solution:
    """Factors of the drawn weights, and how well they do.

    Attributes
    ----------
    factors : array of shape (m,)
        c/c0.
    residual : float
        Norm of sum_C c s q - T, every entry relative to sum s |q| over the full data.
    condition : float
        Condition number of G, scaled, on the directions that the kept points can tell apart. What they
        cannot stays in the residual.
    bounded : int
        Number of points at a bound.
    steps : int
        Newton steps, 1 for the plain estimator.
    """

    factors: Floats
    residual: float
    condition: float
    bounded: int
    steps: int


def _newton(hessian: Floats, gap: Floats) -> tuple[Floats, float]:
    """Least-squares solution of the system, and its condition number on the space that it can reach."""
    values, vectors = np.linalg.eigh(hessian)
    largest = float(values[-1])
    if largest <= 0.0:
        return np.zeros_like(gap), math.inf
    seen = values > len(values) * 4.0 * _EPS * largest
    along = vectors.T @ gap
    step = vectors[:, seen] @ (along[seen] / values[seen])
    return step, largest / float(values[seen][0])


def solve(features: Floats, base: Floats, target: Floats, scale: Floats, bounds: Bounds) -> Solution:
    """Factors with sum base factors features = target, within the bounds where that is possible.

    Parameters
    ----------
    features : array of shape (m, k)
        Features q of the kept points.
    base : array of shape (m,)
        c0 s, non-negative.
    target : array of shape (k,)
        T.
    scale : array of shape (k,)
        sum s |q| over the full data: what a residual is measured against.
    bounds : Bounds
        Range of the factors.
    """
    unit = np.where(scale > 0.0, scale, 1.0)
    # Columns in units of their size, so that one tolerance fits all features.
    q, wanted, mass = features / unit * unit[0], target / unit, base / unit[0]
    multiplier = np.zeros(q.shape[1])

    def at(values: Floats) -> tuple[Floats, Floats, Floats]:
        raw = 1.0 + q @ values
        clipped = np.clip(raw, bounds.low, bounds.high)
        return raw, clipped, wanted - (mass * clipped) @ q

    def potential(raw: Floats, clipped: Floats, values: Floats) -> float:
        # Its gradient is -gap: the integral of clip, linear beyond the bounds.
        bulk = clipped * raw - 0.5 * clipped**2
        return float(mass @ bulk - wanted @ values)

    raw, clipped, gap = at(multiplier)
    condition, steps = 1.0, 0
    for steps in range(1, _STEPS + 1):
        inside = (raw > bounds.low) & (raw < bounds.high)
        hessian = (q[inside] * mass[inside, None]).T @ q[inside]
        step, found = _newton(hessian, gap)
        condition = found if steps == 1 else condition
        if not np.any(step):
            break
        length, before = 1.0, potential(raw, clipped, multiplier)
        slope = float(gap @ step)
        while length > 1e-8:
            trial = multiplier + length * step
            raw_new, clipped_new, gap_new = at(trial)
            if potential(raw_new, clipped_new, trial) <= before - 1e-4 * length * slope + 64.0 * _EPS * abs(
                before
            ):
                break
            length *= 0.5
        else:
            break
        before_step, after_step = float(np.linalg.norm(gap)), float(np.linalg.norm(gap_new))
        if before_step <= _NEAR and after_step > 0.5 * before_step:
            break  # so near, Newton's method squares the gap: only rounding is left
        multiplier, raw, clipped, gap = trial, raw_new, clipped_new, gap_new
        if float(np.linalg.norm(gap)) <= _EPS:
            break
    at_bound = int(np.count_nonzero((raw <= bounds.low) | (raw >= bounds.high)))
    return Solution(clipped, float(np.linalg.norm(gap)), condition, at_bound, steps)
