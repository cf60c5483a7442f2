"""Errors at the worst query: exact where linear algebra gives it, searched for otherwise.

Each class is built once from the full data and then measures many coresets, given as indices and
factors by which the kept weights are multiplied. Random queries are the weakest attack there is,
so none of these relies on them alone.

=======================  =============================================  ============================
class                    queries                                        worst one
=======================  =============================================  ============================
:class:`FiniteWorst`     a fixed finite list                            exact, by enumeration
:class:`SquaresWorst`    all x, sum w (p.x)^2                           exact, by eigenvalues
:class:`HalfLineWorst`   all c with F(c) >= U/2, mass of {p >= c}       exact, by sorting
:class:`AbsoluteWorst`   all x, sum w |p.x|                             exact for d <= 2, else ascent
=======================  =============================================  ============================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from coresets.sensitivity import lewis_weights, orthonormaliser
from coresets.weighted_set import WeightedSet
from proofs_check.oracles import orthonormal_columns

__all__ = ["AbsoluteWorst", "FiniteWorst", "HalfLineWorst", "SquaresWorst", "WorstError"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class WorstError(Protocol):
    """Largest relative error over a family of queries."""

    def __call__(self, indices: Indices, factors: Floats) -> float:
        """Error of the coreset that keeps ``indices`` with weights multiplied by ``factors``."""


@dataclass(frozen=True, eq=False)
class FiniteWorst:
    """Finitely many queries, by enumeration.

    Parameters
    ----------
    shares : array of shape (k, n)
        Row x holds the shares w f(p, x) / F(x), which add up to 1.
    """

    shares: Floats

    @classmethod
    def of(cls, data: WeightedSet, costs: list[Floats]) -> FiniteWorst:
        """Shares of the weighted costs; queries that cost nothing are left out."""
        weighted = np.stack([data.weights * cost for cost in costs])
        totals = weighted.sum(axis=1, keepdims=True)
        keep = totals[:, 0] > 0.0
        return cls(weighted[keep] / totals[keep])

    def ratios(self, indices: Indices, factors: Floats) -> Floats:
        """Answer of the coreset to every query, relative to the full answer."""
        return self.shares[:, indices] @ factors

    def __call__(self, indices: Indices, factors: Floats) -> float:
        """Largest relative error of the coreset."""
        return float(np.max(np.abs(self.ratios(indices, factors) - 1.0), initial=0.0))


@dataclass(frozen=True, eq=False)
class SquaresWorst:
    """All linear queries under sums of squares: extreme eigenvalues in whitened coordinates.

    The whitening is not the one that the leverage scores came from: a direction that both missed
    would be missed by the sampler and by the attack on it.
    """

    data: WeightedSet
    whitened: Floats = field(init=False)

    def __post_init__(self) -> None:
        rows = np.asarray(self.data.points, dtype=np.float64)
        weights = np.asarray(self.data.weights, dtype=np.float64)
        object.__setattr__(self, "whitened", orthonormal_columns(rows * np.sqrt(weights)[:, None]))

    def __call__(self, indices: Indices, factors: Floats) -> float:
        """Largest relative error of the coreset."""
        if self.whitened.shape[1] == 0:  # every query costs nothing, whatever is kept
            return 0.0
        kept = self.whitened[indices] * np.sqrt(factors)[:, None]
        values = np.linalg.eigvalsh(kept.T @ kept)
        return float(max(values[-1] - 1.0, 1.0 - values[0]))


@dataclass(frozen=True, eq=False)
class HalfLineWorst:
    """Masses of the half-lines {p >= c} that hold at least half the total, all c at once."""

    data: WeightedSet
    order: Indices = field(init=False)
    mass: Floats = field(init=False)
    ends: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        values = np.asarray(self.data.points)[:, 0]
        order = np.argsort(-values, kind="stable")
        mass = np.cumsum(np.asarray(self.data.weights)[order])
        # A half-line ends where the next value is smaller, not between equal values.
        ends = np.append(np.diff(values[order]) < 0.0, True)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "mass", mass)
        object.__setattr__(self, "ends", ends & (mass >= 0.5 * mass[-1]))

    def __call__(self, indices: Indices, factors: Floats) -> float:
        """Largest relative error of the coreset."""
        weights = np.zeros(self.data.n)
        weights[indices] = np.asarray(self.data.weights)[indices] * factors
        estimate = np.cumsum(weights[self.order])
        return float(np.max(np.abs(estimate[self.ends] / self.mass[self.ends] - 1.0)))


@dataclass(frozen=True, eq=False)
class AbsoluteWorst:
    """All linear queries under sums of absolute values.

    The ratio of the two sums is quasi-linear on every cone of the arrangement of the hyperplanes
    p.x = 0, so its extremes lie on extreme rays. In two dimensions there is one ray a point, and
    all are tried, by prefix sums over the points sorted by angle. In more, subgradient ascent runs
    from the axes of the Lewis ellipsoid, from the points of largest factor, and from random
    starts, in coordinates in which the ellipsoid is a ball.
    """

    data: WeightedSet
    starts: int = 4
    climbers: int = 3
    steps: int = 16
    rows: Floats = field(init=False)
    order: Indices = field(init=False)

    def __post_init__(self) -> None:
        points = np.asarray(self.data.points, dtype=np.float64)
        rows = points * np.asarray(self.data.weights, dtype=np.float64)[:, None]
        if rows.any():
            tau = np.asarray(lewis_weights(rows).values, dtype=np.float64)
            scale = np.zeros_like(tau)
            np.divide(1.0, tau, out=scale, where=tau > 0.0)
            rows = rows @ orthonormaliser(rows, scale)
        else:
            rows = rows[:, :0]
        if rows.shape[1] == 2:  # in the upper half plane: absolute values do not see the sign
            below = (rows[:, 1] < 0.0) | ((rows[:, 1] == 0.0) & (rows[:, 0] < 0.0))
            rows = np.where(below[:, None], -rows, rows)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(
            self, "order", np.argsort(np.arctan2(rows[:, 1], rows[:, 0])) if rows.shape[1] == 2 else None
        )

    def __call__(self, indices: Indices, factors: Floats) -> float:
        """Largest relative error of the coreset."""
        if self.rows.shape[1] == 0:  # every query costs nothing, whatever is kept
            return 0.0
        if len(indices) == 0:
            return 1.0
        excess = -np.ones(self.rows.shape[0])  # factor - 1: the error is sum excess |a.x| / sum |a.x|
        excess[indices] += factors
        if self.rows.shape[1] == 2:
            return self._on_all_rays(excess)
        directions = np.ones((1, 1))  # on a line, all queries are multiples of one
        if self.rows.shape[1] > 1:
            starts = self._directions(excess)
            images = np.abs(self.rows @ starts)
            order = np.argsort((excess @ images) / np.sum(images, axis=0))
            # Climbing is dear: upwards from the highest starts, downwards from the lowest.
            above, below = starts[:, order[-self.climbers :]], starts[:, order[: self.climbers]]
            directions = np.concatenate([self._ascend(above, excess), self._ascend(below, -excess)], axis=1)
        absolute = np.abs(self.rows @ directions)
        return float(np.max(np.abs(excess @ absolute) / np.sum(absolute, axis=0)))

    def _on_all_rays(self, excess: Floats) -> float:
        """Error at the queries orthogonal to each point, which are all extreme rays in the plane."""
        rows = self.rows[self.order]
        rays = np.stack([-rows[:, 1], rows[:, 0]], axis=1)

        def sums(coefficients: Floats) -> Floats:
            # p.x is negative for the points before the one that x is orthogonal to, else positive.
            prefix = np.cumsum(rows * coefficients[self.order, None], axis=0)
            return np.sum((prefix[-1] - 2.0 * prefix) * rays, axis=1)

        totals = sums(np.ones(len(rows)))
        seen = totals > 0.0
        return float(np.max(np.abs(sums(excess)[seen]) / totals[seen]))

    def _directions(self, excess: Floats) -> Floats:
        """Starting queries, one a column."""
        r = self.rows.shape[1]
        top = self.rows[np.argsort(-np.abs(excess) * np.linalg.norm(self.rows, axis=1))[: self.starts]]
        # Fixed directions: within a check only the sampler may be random.
        spread = np.random.default_rng(0).standard_normal((r, self.starts))
        starts = np.concatenate([np.eye(r), top.T, spread], axis=1)
        return starts[:, np.any(starts != 0.0, axis=0)]  # a row of zeros is no direction

    def _ascend(self, directions: Floats, excess: Floats) -> Floats:
        """Projected subgradient ascent of the ratio, all starts at once; the best iterate of each."""
        x = directions / np.linalg.norm(directions, axis=0)
        best, best_ratio = x.copy(), np.full(x.shape[1], -np.inf)
        for step in range(self.steps):
            images = self.rows @ x
            absolute = np.abs(images)
            total = absolute.sum(axis=0)
            ratio = (excess @ absolute) / total
            better = ratio > best_ratio
            best[:, better], best_ratio[better] = x[:, better], ratio[better]
            signs = np.sign(images)
            gradient = (self.rows.T @ (signs * excess[:, None]) - (self.rows.T @ signs) * ratio) / total
            length = np.linalg.norm(gradient, axis=0)
            x = x + gradient / np.maximum(length, 1e-300) / (1.0 + step) ** 0.75
            x /= np.linalg.norm(x, axis=0)
        return best
