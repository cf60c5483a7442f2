"""Errors of pruned layers at the worst input: sums of positively homogeneous losses.

A function phi with phi(z) = a [z]_+ + b [-z]_+ is (a + b)/2 |z| + (a - b)/2 z, so a sum of them is a
sum of absolute values and a linear function. Both are linear on every cone of the arrangement of
the hyperplanes p.x = 0, and the error, a ratio of two such sums, is largest on an extreme ray of a
cone: in the plane there are two rays a point, and all are tried. In more dimensions subgradient
ascent runs from the points that matter most, their opposites, and spread directions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from proofs_check.oracles import orthonormal_columns

__all__ = ["ABSOLUTE", "IDENTITY", "RELU", "NeuronWorst", "Slopes"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Slopes:
    """A positively homogeneous function of one variable.

    Parameters
    ----------
    up, down : float
        Its values at 1 and at -1.
    """

    up: float
    down: float

    @property
    def even(self) -> float:
        """Coefficient of |z|."""
        return 0.5 * (self.up + self.down)

    @property
    def odd(self) -> float:
        """Coefficient of z."""
        return 0.5 * (self.up - self.down)

    def __call__(self, values: Floats) -> Floats:
        """Values of the function."""
        return self.even * np.abs(values) + self.odd * values


RELU = Slopes(1.0, 0.0)
ABSOLUTE = Slopes(1.0, 1.0)
IDENTITY = Slopes(1.0, -1.0)


@dataclass(frozen=True, eq=False)
class NeuronWorst:
    """Largest |z_k(x) - z~_k(x)| / N(x) over all inputs x and all outputs k.

    Here z_k(x) = sum v_k(p) phi(p.x), z~_k is the same sum with weights changed by a coreset, and
    N(x) = sum b(p) psi(p.x).

    Parameters
    ----------
    points : array of shape (n, d)
        Incoming weights p, one row a neuron.
    outgoing : array of shape (n, k)
        Outgoing weights v, of either sign.
    base : array of shape (n,)
        Non-negative b.
    link, measure : Slopes
        The functions phi and psi.
    starts, climbers, steps : int
        In three dimensions and more: points from which the ascent may start, how many of the best
        starts it runs from, and its steps.
    """

    points: Floats
    outgoing: Floats
    base: Floats
    link: Slopes
    measure: Slopes = ABSOLUTE
    starts: int = 6
    climbers: int = 2
    steps: int = 15
    rows: Floats = field(init=False)
    order: Indices = field(init=False)

    def __post_init__(self) -> None:
        rows = orthonormal_columns(self.points * self.base[:, None])
        # Coordinates of the points themselves: the same linear map, without the masses.
        rows = np.divide(rows, self.base[:, None], out=np.zeros_like(rows), where=self.base[:, None] > 0.0)
        angles = np.zeros(len(rows))
        if rows.shape[1] == 2:  # as lines: a point and its opposite bound the same two cones
            angles = np.mod(np.arctan2(rows[:, 1], rows[:, 0]), np.pi)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "order", np.argsort(angles, kind="stable"))

    def __call__(self, indices: Indices, factors: Floats) -> float:
        """Largest error of the coreset that keeps ``indices`` with weights multiplied by ``factors``."""
        excess = -np.ones(len(self.rows))
        excess[indices] += factors
        changes = excess[:, None] * self.outgoing
        rank = self.rows.shape[1]
        if rank == 0:  # every query costs nothing, whatever is kept
            return 0.0
        if rank == 1:
            return self._largest(changes, np.array([[1.0, -1.0]]))
        if rank == 2:
            return self._on_all_rays(changes)
        return max(self._climb(changes[:, k]) for k in range(changes.shape[1]))

    def _largest(self, changes: Floats, queries: Floats) -> float:
        """Largest error at given queries, one a column."""
        images = self.rows @ queries
        totals = self.base @ self.measure(images)
        seen = totals > 0.0
        off = np.abs(changes.T @ self.link(images))[:, seen] / totals[seen]
        return float(off.max(initial=0.0))

    def _on_all_rays(self, changes: Floats) -> float:
        """Error at the two queries orthogonal to each point, all of them at once by prefix sums."""
        rows = self.rows[self.order]
        # In the upper half plane, points are on the far side of a ray up to the one that it is
        # orthogonal to; the sign of a reflected point does not matter to an absolute value.
        below = (rows[:, 1] < 0.0) | ((rows[:, 1] == 0.0) & (rows[:, 0] < 0.0))
        upper = np.where(below[:, None], -rows, rows)
        rays = np.stack([-upper[:, 1], upper[:, 0]], axis=1)

        def absolute(coefficients: Floats) -> Floats:
            prefix = np.cumsum(upper * coefficients[self.order, None], axis=0)
            return np.sum((prefix[-1] - 2.0 * prefix) * rays, axis=1)

        def linear(coefficients: Floats) -> Floats:
            return rays @ (self.rows.T @ coefficients)

        largest = 0.0
        spread, lean = absolute(self.base), linear(self.base)
        for column in changes.T:
            sums, slope = absolute(column), linear(column)
            for side in (1.0, -1.0):
                totals = self.measure.even * spread + side * self.measure.odd * lean
                off = np.abs(self.link.even * sums + side * self.link.odd * slope)
                # A total that is only the rounding of its parts is zero, and so is the error.
                seen = totals > 1e-9 * spread
                largest = max(largest, float(np.max(off[seen] / totals[seen], initial=0.0)))
        return largest

    def _climb(self, change: Floats) -> float:
        """Subgradient ascent of the error of one output, in both signs, from the highest starts."""
        rank = self.rows.shape[1]
        heaviest = np.argsort(-np.abs(change) * np.linalg.norm(self.rows, axis=1))[: self.starts]
        # Fixed directions: within a check only the sampler may be random.
        spread = np.random.default_rng(0).standard_normal((rank, self.starts))
        starts = np.concatenate([np.eye(rank), self.rows[heaviest].T, spread], axis=1)
        starts = starts[:, np.any(starts != 0.0, axis=0)]
        starts = np.concatenate([starts, -starts], axis=1) / np.tile(np.linalg.norm(starts, axis=0), 2)
        order = np.argsort(self._ratios(change, starts)[0])
        above, below = starts[:, order[-self.climbers :]], starts[:, order[: self.climbers]]
        return max(self._ascend(change, above), self._ascend(-change, below))

    def _ratios(self, change: Floats, queries: Floats) -> tuple[Floats, Floats, Floats]:
        """Signed errors at queries, their images, and the totals that the errors are relative to."""
        images = self.rows @ queries
        totals = np.maximum(self.base @ self.measure(images), 1e-300)
        return (change @ self.link(images)) / totals, images, totals

    def _ascend(self, change: Floats, x: Floats) -> float:
        """Largest signed error on the way up."""
        largest = 0.0
        for step in range(self.steps):
            ratio, images, totals = self._ratios(change, x)
            largest = max(largest, float(ratio.max()))
            signs = np.sign(images)
            up = self.link.even * signs + self.link.odd
            down = self.measure.even * signs + self.measure.odd
            gradient = self.rows.T @ (change[:, None] * up - ratio * self.base[:, None] * down) / totals
            length = np.maximum(np.linalg.norm(gradient, axis=0), 1e-300)
            x = x + gradient / length / (1.0 + step) ** 0.75
            x /= np.linalg.norm(x, axis=0)
        return largest
