"""Caratheodory reduction by a tree of groups.

Given rows A_i in R^k of rank r and weights w_i >= 0, find weights with the same sum w_i A_i and at
most r positive ones. One level splits the rows into G groups, replaces each by its weighted mean
with the mass of the group, eliminates all but r of the groups, and multiplies the weights in group
g by (new mass) / (old mass); then it goes on with the rows of the groups that are left.

Elimination among N rows finds r independent rows by a QR decomposition with column pivoting, which
also gives every other row as a combination of these: a null space, of which the identity part is
left implicit. Compiled code then moves along null vectors, each to the first weight that vanishes.

Cost: n q to read the rows once, q coordinates a row, then a geometric series of smaller levels
with O(G k^2) each; G is a small multiple of k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, qr, solve_triangular

from coresets.recombination._frame import Frame, GroupSums, Lift, exact_sums, two_product
from coresets.recombination._kernels import eliminate_rows

__all__ = [
    "EPS",
    "Elimination",
    "Target",
    "eliminate",
    "refined",
    "residual",
    "starts_of",
    "survivors",
    "target_of",
    "units_of",
]

Array = np.ndarray

# Groups a level. More of them make the next level smaller and cost O(k^2) each: cheap when k is
# small. About _GROUPS were fastest for 11 and 51 features, within these multiples of k.
_GROUPS = 800
_LEAST_BRANCHING, _MOST_BRANCHING = 8, 48

# Fewest rows eliminated between two fresh factorisations of the basis.
_CHUNK = 256

_REFINEMENTS = 3

EPS = float(np.finfo(np.float64).eps)


class Elimination(NamedTuple):
    """Positions of the rows with positive weights, these weights, and the numerical rank."""

    positions: Array
    weights: Array
    rank: int


@dataclass(frozen=True)
class Target:
    """What is kept: feature sums (k,), and the unit in which each is measured.

    Units are mass times a standard deviation for coordinates (mass times a root mean square if the
    mass itself is not kept), and mass for products of whitened coordinates and for the constant. A
    unit is 0 for a coordinate that is 0 throughout. ``offset`` is the largest ratio of the root
    mean square of a coordinate to its standard deviation: large when the origin is far from the data.
    """

    sums: Array
    units: Array
    mass: float
    offset: float
    rounding: float  # bound of the rounding errors of the sums, in units

    @property
    def scaling(self) -> Array:
        """Factors that bring feature means to units; 1 for coordinates that are 0."""
        alive = self.units > 0.0
        return np.where(alive, self.mass / np.where(alive, self.units, 1.0), 1.0)


def branching(k: int) -> int:
    """Number of groups of one level, divided by k."""
    return min(max(_GROUPS // k, _LEAST_BRANCHING), _MOST_BRANCHING)


def starts_of(n: int, k: int) -> Array:
    """First rows of the groups of one level, and n."""
    groups = branching(k) * k
    if n <= 2 * groups:  # a level more would hardly make the next one smaller
        groups = n
    return np.linspace(0, n, groups + 1).astype(np.int64)


def _solved(matrix: Array, right: Array) -> Array:
    """Solution of a square system, or zeros if the matrix is singular to working precision."""
    with np.errstate(all="ignore"):
        try:
            solution = np.linalg.solve(matrix, right)
        except np.linalg.LinAlgError:
            return np.zeros_like(right)
    return solution if np.isfinite(solution).all() else np.zeros_like(right)


def eliminate(rows: Array, weights: Array, sizes: Array, tolerance: float) -> Elimination:
    """Weights with the same weighted sum of ``rows`` (N, k), at most rank many of them positive.

    Directions in which the rows extend by at most ``tolerance`` times their largest size are taken
    for rounding and are not kept.
    """
    n = rows.shape[0]
    factor, order = qr(rows.T, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(factor))
    rank = int(np.sum(diagonal > tolerance * diagonal[0])) if diagonal[0] > 0.0 else 0
    if rank == 0:
        return Elimination(np.empty(0, np.int64), np.empty(0), 0)
    columns = factor[:rank]  # coordinates of the rows in a basis of their span, in pivoted order
    basis, rest = np.arange(rank), np.arange(rank, n)
    rest = rest[weights[order[rest]] > 0.0]
    kept, kept_sizes = weights[order[:rank]], sizes[order[:rank]]
    chunk = max(_CHUNK, rank)
    for start in range(0, rest.size, chunk):
        entering = rest[start : start + chunk]
        if start == 0:
            tableau = solve_triangular(columns[:, :rank], columns[:, entering], check_finite=False)
        else:
            tableau = _solved(columns[:, basis], columns[:, entering])
        eliminate_rows(
            np.ascontiguousarray(tableau.T),
            basis,
            kept,
            kept_sizes,
            entering,
            weights[order[entering]],
            sizes[order[entering]],
        )
    alive = kept > 0.0
    return Elimination(order[basis[alive]], kept[alive], rank)


def units_of(sums: Array, squares: Array, mass: float, lift: Lift, noise: float) -> tuple[Array, float]:
    """Units of the features and the offset; variances below ``noise`` squared means are rounding."""
    units = np.full(sums.size, mass)
    if lift.quadratic or not lift.linear:
        return units, 1.0
    q = squares.size
    spread = squares / mass
    mean = sums[:q] / mass if lift.constant else np.zeros(q)
    variance = np.maximum(spread - mean * mean, 0.0)
    constant = variance <= noise * mean * mean
    # A column that is constant up to rounding is measured by its size.
    deviation = np.sqrt(np.where(constant, spread, variance))
    units[:q] = mass * deviation
    ratios = np.sqrt(spread / np.where(variance > 0.0, variance, 1.0))
    ratios[constant] = np.where(spread[constant] > 0.0, np.inf, 1.0)
    return units, float(np.max(ratios, initial=1.0))


def target_of(groups: GroupSums, lift: Lift, chain: int) -> Target:
    """Sums over all groups, and units; ``chain`` is the number of terms of a plain sum in a group."""
    mass = float(exact_sums(groups.masses[:, None])[0])
    sums = exact_sums(groups.sums)
    units, offset = units_of(sums, groups.squares.sum(axis=0), mass, lift, chain * EPS)
    # A chain of additions, the product and the coordinate; by Cauchy-Schwarz sum w |z| is at most
    # the mass times the root mean square. Eight more for the compensated parts.
    rounding = (chain + 8) * EPS / 2.0 * (offset if math.isfinite(offset) else 1.0)
    return Target(sums, units, mass, offset, rounding)


def _differences(target: Target, features: Array, weights: Array) -> Array:
    """Target less the feature sums of weighted rows, correctly rounded."""
    high, low = two_product(features, weights[:, None])
    return exact_sums(target.sums[None, :], -high, -low)


def residual(target: Target, features: Array, weights: Array) -> tuple[float, float]:
    """Largest error of a kept moment, in units, and the relative error of the mass.

    A coordinate that is 0 throughout must stay so exactly; otherwise the error is infinite.
    """
    errors = np.abs(_differences(target, features, weights))
    alive = target.units > 0.0
    ratios = errors / np.where(alive, target.units, 1.0)
    ratios[~alive & (errors > 0.0)] = np.inf
    mass_error = abs(float(exact_sums(np.array([[target.mass]]), -weights[:, None])[0])) / target.mass
    return float(np.max(ratios, initial=0.0)), mass_error


def refined(target: Target, features: Array, weights: Array) -> Array:
    """Weights corrected to the target by residuals in extended precision, if that lowers the residual."""
    if weights.size == 0:
        return weights
    balance = target.scaling / target.mass
    # Independent rows, so that the system has full column rank; more equations than unknowns if
    # the data have not.
    basis, triangle = qr((features * balance).T, mode="economic", check_finite=False)
    best = residual(target, features, weights)[0]
    for _ in range(_REFINEMENTS):
        error = _differences(target, features, weights) * balance
        with np.errstate(all="ignore"):
            try:
                step = solve_triangular(triangle, basis.T @ error, check_finite=False)
            except LinAlgError:
                break
            corrected = np.maximum(weights + step, 0.0)
        if not np.isfinite(corrected).all():
            break
        reached = residual(target, features, corrected)[0]
        if reached >= best:
            break
        best, weights = reached, corrected
    return weights


def _sizes(groups: GroupSums, lift: Lift, scaling: Array) -> Array:
    """Sizes of the groups, so that the sum of mass times size never grows in the elimination.

    Kept weights are rounded: the sum above, times machine epsilon, is what that can cost. With the mass
    kept, 1 + |z|^2 bounds it by the second moment of the data; without, the root mean square of |z|
    does. Second moments are features themselves if the lift is quadratic.
    """
    if lift.quadratic:
        return np.ones(groups.masses.size)
    square = groups.squares @ scaling[: groups.squares.shape[1]] ** 2
    square /= np.where(groups.masses > 0.0, groups.masses, 1.0)
    return 1.0 + square if lift.constant else np.sqrt(square)


def survivors(
    points: Array,
    weights: Array,
    frame: Frame,
    lift: Lift,
    groups: GroupSums,
    scaling: Array,
    tolerance: float,
) -> Elimination:
    """Run the tree from the sums of its first level down to single rows.

    ``groups`` belong to :func:`starts_of`, ``scaling`` brings features to units. The positions are row
    numbers of ``points``, increasing.
    """
    n, k = points.shape[0], lift.size(frame.q)
    starts = starts_of(n, k)
    indices: Array | None = None  # all rows, in their order
    z = np.empty((0, frame.q))
    local = Frame(np.ones(frame.q), np.zeros(frame.q))
    while True:
        positive = np.flatnonzero(groups.masses > 0.0)
        means = groups.sums[positive] / groups.masses[positive, None] * scaling
        sizes = _sizes(groups, lift, scaling)[positive]
        kept = eliminate(means, groups.masses[positive], sizes, tolerance)
        chosen = positive[kept.positions]
        sort = np.argsort(chosen)
        chosen, factors = chosen[sort], kept.weights[sort] / groups.masses[chosen[sort]]
        lengths = starts[chosen + 1] - starts[chosen]
        # Rows of the groups that are left, one range after another.
        ends = np.cumsum(lengths)
        local_rows = np.arange(ends[-1] if ends.size else 0) + np.repeat(
            starts[chosen] - ends + lengths, lengths
        )
        factors = np.repeat(factors, lengths)
        if indices is None:
            indices = local_rows
            weights = factors * weights[indices] if weights.size else factors
            alive = weights > 0.0
            indices, weights = indices[alive], weights[alive]
            z = frame.chosen(points, indices)
        else:
            weights = weights[local_rows] * factors
            alive = weights > 0.0
            local_rows, weights = local_rows[alive], weights[alive]
            indices, z = indices[local_rows], z[local_rows]
        if lengths.size == 0 or int(lengths.max()) == 1:
            return Elimination(indices, weights, kept.rank)
        starts = starts_of(indices.size, k)
        groups = local.group_sums(z, weights, starts, lift)
