"""One budget over all sides of all neurons, so that the sum of their errors is smallest.

A side with constant A keeps n of its edges with an error of err(n) = u + sqrt(u^2 + 6 u), u = A / n, the
inverse of Bernstein's inequality (Q2); dropped as a whole it has the error 1, kept as a whole none. The
published objective is the sum of c_r err_r(n_r). Without the cap at 1 it is convex, and one multiplier
decides: all sides have the same slope. With the cap it is not, and the slope is that of the lower convex
hull of (0, 1), the curve, and (edges, 0).

Cost: a bisection on the multiplier, with one on u for each step; no solver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets._validate import check_integer, check_non_negative

__all__ = ["SideErrors", "allocate", "bounded_shares", "rounded", "sampling_error"]

Array = npt.NDArray[np.float64]

_STEPS = 56  # halvings; down to a few units in the last place of the widest bracket


def sampling_error(u: Array) -> Array:
    """U + sqrt(u^2 + 6 u): relative error at A / n = u."""
    return u + np.sqrt(u) * np.sqrt(u + 6.0)  # not of the product, which may overflow


def _decline(u: Array) -> Array:
    """-A err'(n) as a function of u = A / n; increasing."""
    return u * u * (1.0 + (u + 3.0) / np.sqrt(u * u + 6.0 * u))


# The line from (0, 1) touches the curve at n = 17.486 A, where the error is sqrt(7) - 2.
_TOUCH = float((np.sqrt(7.0) - 2.0) ** 2 / (2.0 * (np.sqrt(7.0) - 2.0) + 6.0))


@dataclass(frozen=True, eq=False)
class SideErrors:
    """Sides that compete for a budget.

    Parameters
    ----------
    constants : array of shape (sides,)
        A = b ln(2 / delta) / 3, non-negative; a side with 0 has no error and gets nothing.
    edges : array of shape (sides,)
        How many edges each has, at least 0.
    costs : array of shape (sides,)
        Weights c of the errors, non-negative.
    capped : bool
        Whether errors above 1 count as 1, the error of an empty side.
    """

    constants: Array
    edges: Array
    costs: Array
    capped: bool = False

    def __post_init__(self) -> None:
        for name in ("constants", "edges", "costs"):
            values = np.asarray(check_non_negative(getattr(self, name), name=name), dtype=np.float64)
            object.__setattr__(self, name, values)
        if not self.constants.shape == self.edges.shape == self.costs.shape:
            raise ValueError("constants, edges and costs differ in shape; pass one of each a side")

    def errors(self, counts: Array) -> Array:
        """Errors at a number of draws a side; none for a side that is kept as a whole."""
        counts = np.asarray(counts, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(counts > 0, sampling_error(self.constants / counts), np.inf)
        if self.capped:
            found = np.minimum(found, 1.0)
        return np.where((counts >= self.edges) | (self.constants == 0.0), 0.0, found)

    def objective(self, counts: Array) -> float:
        """Sum of c err."""
        return float(self.costs @ self.errors(counts))


def allocate(sides: SideErrors, budget: int) -> npt.NDArray[np.int64]:
    """Edges to keep in every side.

    Parameters
    ----------
    sides : SideErrors
        Who competes.
    budget : int
        How many edges to keep in all, at least 0; at most as many as there are.

    Returns
    -------
    array of shape (sides,)
        Integers that add up to the budget, each at most the side's edges.

    Examples
    --------
    >>> import numpy as np
    >>> sides = SideErrors(np.array([1.0, 4.0]), np.array([500.0, 500.0]), np.ones(2))
    >>> allocate(sides, 300)
    array([114, 186])
    """
    budget = check_integer(budget, "budget", at_least=0)
    if budget > int(sides.edges.sum()):
        raise ValueError(f"budget = {budget} exceeds the {int(sides.edges.sum())} edges that there are")
    useful = (sides.constants > 0.0) & (sides.costs > 0.0) & (sides.edges > 0.0)
    counts = np.zeros(sides.edges.shape)
    places = float(min(budget, sides.edges[useful].sum()))
    if places > 0.0:
        A, N, c = sides.constants[useful], sides.edges[useful], sides.costs[useful]
        counts[useful] = (_capped if sides.capped else _uncapped)(A, N, c, places)
    # What the useful sides cannot take goes to the others, in proportion to their edges.
    rest = ~useful
    if budget > places:
        counts[rest] = bounded_shares(sides.edges[rest], sides.edges[rest], budget - int(places))
    return rounded(counts, sides.edges, budget)


def _bisect_u(slope: Array, low: Array, high: Array) -> Array:
    """U in [low, high] at which the decline is the slope, clipped to the ends."""
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        below = _decline(middle) < slope
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _uncapped(A: Array, N: Array, c: Array, budget: float) -> Array:
    """Counts with equal slopes, those that exceed their sides cut off."""
    # In logarithms: slopes span many orders of magnitude.
    smallest = A / N

    def at(log_slope: float) -> Array:
        slope = np.exp(log_slope) * A / c
        # The decline is at least u^1.5 and at least 2 u^2 from there on, so that the root is below both.
        high = np.maximum(np.maximum(slope ** (2.0 / 3.0), np.sqrt(slope)), smallest)
        return A / _bisect_u(slope, smallest, high)

    ends = np.log(c * _decline(smallest) / A)
    low, high = float(ends.min()) - 1.0, float(ends.max()) + 1.0
    while at(high).sum() > budget:
        high += 4.0
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if at(middle).sum() > budget:
            low = middle
        else:
            high = middle
    counts = at(high)
    # Of what rounding has left over nobody is entitled to more than the others.
    return counts * min(1.0, budget / counts.sum())


def _capped(A: Array, N: Array, c: Array, budget: float) -> Array:
    """Counts on the lower convex hulls; at most one side inside a straight piece."""
    first, last = _hull(A, N)
    straight = first >= N
    # Declines of the first straight piece, from (0, 1), and of the last one, to (N, 0).
    steep = np.where(straight, 1.0, 1.0 - sampling_error(A / first)) / first
    flat = np.where(straight, steep, sampling_error(A / last) / np.where(straight, 1.0, N - last))

    def at(log_slope: float) -> Array:
        slope = np.exp(log_slope) / c
        inside = A / _bisect_u(slope * A, A / last, A / first)
        counts = np.where(slope > steep, 0.0, np.clip(inside, first, last))
        return np.where(slope < flat, N, counts)

    low, high = float(np.log(np.minimum(steep, flat) * c).min()) - 1.0, float(np.log(steep * c).max()) + 1.0
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if at(middle).sum() > budget:
            low = middle
        else:
            high = middle
    counts, more = at(high), at(low)
    # Between both slopes some sides jump along a straight piece; they take it one after the other.
    for side in np.flatnonzero(more > counts):
        counts[side] += min(more[side] - counts[side], max(0.0, budget - counts.sum()))
    wasted = (counts > 0.0) & (counts < first) & (first > 8.0 * A)
    if bool(wasted.any()) and wasted.size > 1:
        # Inside the first piece a side's error is still about 1: perhaps the others make more of its places.
        others = ~wasted
        moved = np.zeros_like(counts)
        moved[others] = _capped(A[others], N[others], c[others], min(budget, float(N[others].sum())))
        trial = SideErrors(A, N, c, capped=True)
        counts = min(counts, moved, key=trial.objective)
    return counts


def _hull(A: Array, N: Array) -> tuple[Array, Array]:
    """Where the curved part of the hull begins and ends; both at N if there is none."""
    first = np.minimum(A / _TOUCH, N)
    low, high = first.copy(), N.copy()
    for _ in range(_STEPS):  # the tangent from (N, 0): err(n) = -err'(n) (N - n)
        n = 0.5 * (low + high)
        u = A / n
        beyond = sampling_error(u) * A > _decline(u) * (N - n)
        low, high = np.where(beyond, low, n), np.where(beyond, n, high)
    last = high
    u = A / first
    straight = (first >= N) | (sampling_error(u) * A >= _decline(u) * (N - first))
    return np.where(straight, N, first), np.where(straight, N, last)


def bounded_shares(weights: Array, limits: Array, budget: int) -> Array:
    """Shares of a budget in proportion to weights, none above its limit.

    Parameters
    ----------
    weights, limits : array of shape (n,)
        Non-negative. Entries of weight 0 get something only when all others are at their limits.
    budget : int
        At most the sum of the limits.

    Returns
    -------
    array of shape (n,)
        Not rounded; they add up to the budget.

    Examples
    --------
    >>> import numpy as np
    >>> bounded_shares(np.array([8.0, 1.0, 1.0]), np.array([4.0, 9.0, 9.0]), 10)
    array([4., 3., 3.])
    """
    counts = np.zeros(weights.shape)
    for active in (weights > 0.0, weights <= 0.0):
        own = np.where(weights > 0.0, weights, limits)
        open_ = active & (limits > 0.0)
        left = min(budget - counts.sum(), limits[active].sum())
        while left > 0.0 and bool(open_.any()):
            scale = left / own[open_].sum()
            full = open_ & (scale * own >= limits)
            if not bool(full.any()):
                counts[open_] = scale * own[open_]
                break
            counts[full] = limits[full]
            left -= float(limits[full].sum())
            open_ &= ~full
    return counts


def rounded(counts: Array, limits: Array, budget: int) -> npt.NDArray[np.int64]:
    """Integers that add up to the budget, by the largest remainder and within the limits.

    Parameters
    ----------
    counts, limits : array of shape (n,)
        Counts that add up to about the budget, and integral limits.
    budget : int
        At most the sum of the limits.
    """
    whole = np.minimum(np.floor(counts + 1e-9), limits).astype(np.int64)
    missing = budget - int(whole.sum())
    while missing > 0:
        remainder = np.where(whole < limits, counts - whole, -np.inf)
        order = np.argsort(-remainder, kind="stable")
        chosen = order[: min(missing, int((whole < limits).sum()))]
        whole[chosen] += 1
        missing = budget - int(whole.sum())
    while missing < 0:  # floors of counts that exceeded the budget by rounding
        surplus = np.where(whole > 0, counts - whole, np.inf)
        whole[int(np.argmin(surplus))] -= 1
        missing += 1
    return whole
