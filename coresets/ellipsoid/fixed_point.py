r"""Leverage iteration for many design problems at once, on any array-API library and device.

Start with u = 1/n and repeat u_i <- u_i omega_i / k, omega_i = q_i^T M(u)^-1 q_i: each weight becomes its
share of the leverage. ln omega_i is convex in u, so after T rounds the average of the iterates has
max_i omega_i <= k (n / k)^(1/T) (Cohen, Cousins, Lee and Yang 2019; guarantee M6), and
T = ln(n/k) / ln(1 + gap) rounds are enough for any data. Every round is one product of batched matrices.

A gap of 1e-6 would take millions of rounds, so after the first ones, and again whenever their number has
quadrupled, the rows with the largest omega are solved to the end by an interior-point method, in about
fifteen systems of that many equations. Whether the weights found are good is measured on all rows, and the
rows that violate the bound join the next attempt; if no attempt succeeds, the rounds go on.

Cost: n k^2 a round and member; m^3 a Newton step, m = 4 k + 16 rows at first, twice as many each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from coresets._validate import check_integer
from coresets.ellipsoid._batched_newton import design_forms, interior_point
from coresets.ellipsoid._rows import LiftedRows
from coresets.ellipsoid._solver import Design
from coresets.guarantees.geometry import LeverageIteration

__all__ = ["FixedPoint"]

Array = Any

# Entries of the batched Newton systems that are formed at once: 64 MiB.
_SYSTEM_ENTRIES = 1 << 23


@dataclass(frozen=True)
class FixedPoint:
    """Leverage iteration with interior-point finishes; batched, for arrays of any library.

    ``max_iter`` counts rounds of the leverage iteration; by default as many as M6 says are enough.

    Parameters
    ----------
    first_finish : int or None
        Round after which the first finish is tried, at least 1; None for the plain iteration, with the
        proved number of rounds and nothing else.
    largest_finish : int
        Most rows that a finish may take, at least 2: each needs memory for the square of it.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import FixedPoint, loewner_ellipsoid
    >>> batch = np.random.default_rng(0).standard_normal((4, 30, 2))
    >>> found = loewner_ellipsoid(batch, solver=FixedPoint())
    >>> found.center.shape, bool(np.all(found.gap <= 1e-6))
    ((4, 2), True)
    """

    first_finish: int | None = 8
    largest_finish: int = 2048

    def __post_init__(self) -> None:
        if self.first_finish is not None:
            check_integer(self.first_finish, "first_finish", at_least=1)
        check_integer(self.largest_finish, "largest_finish", at_least=2)

    def solve(self, rows: LiftedRows, *, gap: float, max_iter: int | None) -> Design:
        """Solve one problem on the host; the rows are held in memory."""
        weights, iterations, excess = self.solve_batch(
            rows.dense()[None], np.asarray([rows.k]), gap=gap, max_iter=max_iter
        )
        largest = rows.k * (1.0 + float(excess[0]))
        return Design(weights[0], iterations, bool(excess[0] <= gap), largest)

    def solve_batch(
        self, rows: Array, dimension: Array, *, gap: float, max_iter: int | None
    ) -> tuple[Array, int, Array]:
        """Solve a batch of problems.

        Parameters
        ----------
        rows : array of shape (B, n, k)
            float64. Coordinates that a member does not use are zero.
        dimension : integer array of shape (B,)
            Number of coordinates used: the rank of each member's rows, at least 1.
        gap : float
            Relative excess to reach, positive.
        max_iter : int or None
            Largest number of rounds.

        Returns
        -------
        weights : array of shape (B, n)
            The best designs found.
        iterations : int
            Rounds taken.
        gaps : array of shape (B,)
            max_i omega_i / k - 1 of the weights.
        """
        xp = array_namespace(rows)
        members = xp.arange(rows.shape[0], dtype=xp.int64, device=device(rows))
        state = _State.start(rows, dimension)
        limit = _proved_rounds(int(rows.shape[-2]), dimension, gap)
        limit = limit if max_iter is None else min(limit, max_iter)
        done: list[tuple[Array, Array, Array]] = []
        finish, size, rounds = self.first_finish, 0, 0
        while True:
            state.consider_current()
            if finish is not None and rounds >= min(finish, limit):
                finish = 4 * finish
                size = 2 * size if size else 4 * int(rows.shape[-1]) + 16
                state.finish(min(size, self.largest_finish), gap)
            elif _is_power_of_two(rounds) or rounds == limit:
                state.consider_average()
            reached = state.best_gap <= gap
            if rounds == limit or bool(xp.all(reached)):
                done.append((members, state.best, state.best_gap))
                break
            if bool(xp.any(reached)):  # go on with the others alone
                gone, left = xp.nonzero(reached)[0], xp.nonzero(~reached)[0]
                done.append(
                    (xp.take(members, gone), xp.take(state.best, gone, axis=0), xp.take(state.best_gap, gone))
                )
                members, state = xp.take(members, left), state.take(left)
            state.step()
            rounds += 1
        order = xp.argsort(xp.concat([part[0] for part in done]))
        weights = xp.take(xp.concat([part[1] for part in done], axis=0), order, axis=0)
        return weights, rounds, xp.take(xp.concat([part[2] for part in done]), order)


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _proved_rounds(n: int, dimension: Array, gap: float) -> int:
    """Rounds after which M6 promises the gap for every member."""
    least = int(array_namespace(dimension).min(dimension))
    return LeverageIteration().iterations(n, min(least, n), gap)


class _State:
    """Iterates of the members that have not converged yet."""

    def __init__(self, rows: Array, dimension: Array, weights: Array) -> None:
        xp = array_namespace(rows)
        self.rows, self.dimension, self.weights = rows, dimension, weights
        k = int(rows.shape[-1])
        used = xp.any(rows != 0.0, axis=-2)
        self.surplus = xp.astype(~used, rows.dtype) if k else rows[..., 0, :]
        self.total, self.rounds = weights, 1
        self.omega = design_forms(rows, weights, self.surplus)
        self.best = weights
        self.best_gap = xp.full_like(dimension, xp.inf)

    @classmethod
    def start(cls, rows: Array, dimension: Array) -> _State:
        """Uniform weights."""
        xp = array_namespace(rows)
        batch, n = int(rows.shape[0]), int(rows.shape[-2])
        weights = xp.full((batch, n), 1.0 / n, dtype=rows.dtype, device=device(rows))
        return cls(rows, xp.astype(dimension, rows.dtype), weights)

    def take(self, members: Array) -> _State:
        """The state of some members."""
        xp = array_namespace(self.rows)
        part = object.__new__(_State)
        part.rounds = self.rounds
        for name in ("rows", "dimension", "weights", "surplus", "total", "omega", "best", "best_gap"):
            setattr(part, name, xp.take(getattr(self, name), members, axis=0))
        return part

    def step(self) -> None:
        """One round; sum_i u_i omega_i = k, so the weights keep their sum, and rounding is taken out."""
        xp = array_namespace(self.rows)
        weights = self.weights * self.omega
        self.weights = weights / xp.sum(weights, axis=-1, keepdims=True)
        self.total = self.total + self.weights
        self.rounds += 1
        self.omega = design_forms(self.rows, self.weights, self.surplus)

    def _consider(self, weights: Array, goal: float = 0.0) -> None:
        """Keep the weights of members that have not reached the goal, where they are better."""
        xp = array_namespace(weights)
        omega = self.omega if weights is self.weights else design_forms(self.rows, weights, self.surplus)
        gap = xp.max(omega, axis=-1) / self.dimension - 1.0
        better = (gap < self.best_gap) & (self.best_gap > goal)  # false for NaN
        self.best = xp.where(better[:, None], weights, self.best)
        self.best_gap = xp.where(better, gap, self.best_gap)

    def consider_current(self) -> None:
        """Look at the last iterate."""
        self._consider(self.weights)

    def consider_average(self) -> None:
        """Look at the average of the iterates, for which the number of rounds is proved."""
        self._consider(self.total / self.rounds)

    def finish(self, size: int, gap: float) -> None:
        """Solve the rows that look active to the end, and keep the result where it is better."""
        xp = array_namespace(self.rows)
        n = int(self.rows.shape[-2])
        size = min(size, n)
        chunk = max(1, _SYSTEM_ENTRIES // (size * size))
        sparse: list[Array] = []
        dense: list[Array] = []
        batch = int(self.rows.shape[0])
        for start in range(0, batch, chunk):
            part = slice(start, min(batch, start + chunk))
            rows, best, surplus = self.rows[part, ...], self.best[part, ...], self.surplus[part, ...]
            order = xp.argsort(-design_forms(rows, best, surplus), axis=-1)
            chosen = _gather(xp.concat([rows, best[..., None]], axis=-1), order[:, :size])
            found = interior_point(chosen[..., :-1], chosen[..., -1], self.dimension[part, ...], surplus, gap)
            back = xp.argsort(order, axis=-1)
            for pieces, weights in zip((sparse, dense), found, strict=True):
                rest = xp.zeros((weights.shape[0], n - size), dtype=weights.dtype, device=device(weights))
                pieces.append(_gather(xp.concat([weights, rest], axis=-1)[..., None], back)[..., 0])
        for pieces in (sparse, dense):
            if not bool(xp.all(self.best_gap <= gap)):
                self._consider(xp.concat(pieces, axis=0), gap)


def _gather(rows: Array, indices: Array) -> Array:
    """Take rows (B, n, k) at the indices (B, m) of each member."""
    xp = array_namespace(rows)
    batch, n, k = (int(size) for size in rows.shape)
    first = n * xp.arange(batch, dtype=xp.int64, device=device(rows))
    flat = xp.reshape(indices + first[:, None], (-1,))
    return xp.reshape(
        xp.take(xp.reshape(rows, (batch * n, k)), flat, axis=0), (batch, int(indices.shape[1]), k)
    )
