"""The design problem on rows in memory: coordinate ascent, then Newton steps on the support.

Both maximise ln det M(u) - k sum_i u_i over u >= 0. Its maximiser has total 1 and is the optimal
design, and without the simplex constraint the exact step in one weight needs no other: it costs
4 k^2 flops, whatever the number of rows. Convergence is linear, at a rate set by the Hessian (the
entrywise square of Q M^-1 Q^T) on the support; where that is poor, a Newton step is cheap
beside the sweeps that it saves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import solve_triangular

from coresets.ellipsoid._ascent_kernels import sweep
from coresets.ellipsoid._interior import MAX_ITERATIONS, interior_point, interior_point_flops
from coresets.ellipsoid._newton import information, newton_flops, newton_step
from coresets.guarantees.geometry import SafeElimination

__all__ = ["WorkingSet"]

# Rows newly let in by one round of sweeps, in units of k: more would mostly be thrown out again.
_ENTRANTS = 5
# Sweeps between two refreshes of M^-1 and of all omega; rank-one updates drift, and rows wait outside.
_SWEEPS = 2
# A coordinate step makes k^2 memory-bound multiplications at about a tenth of the speed of BLAS.
_COMPILED_COST = 10.0
# Rounds in a row without any gain in the determinant after which there is none to be had.
_PATIENCE = 2
# What a round of array operations on little matrices costs, in flops of BLAS.
_OVERHEAD = 2e7
# Share of the requested gap by which a weight on the support may miss its own optimum.
_SLACK = 0.1
# Weights below this share of the mean are dropped after an interior-point solve.
_DUST = 1e-3


@dataclass
class WorkingSet:
    """Rows in memory with a design on them, and what follows from the design.

    ``forms`` are the omega_i, ``factor`` F has F F^T = M^-1, and ``information`` is M.
    """

    rows: np.ndarray
    weights: np.ndarray
    steps: int = 0
    forms: np.ndarray = field(init=False)
    factor: np.ndarray = field(init=False)
    information: np.ndarray = field(init=False)
    stalled: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.refresh()

    @property
    def k(self) -> int:
        """Dimension of the rows."""
        return int(self.rows.shape[1])

    @property
    def gap(self) -> float:
        """max_i omega_i / k - 1 over the rows of the set."""
        return float(self.forms.max()) / self.k - 1.0

    def refresh(self) -> None:
        """Normalise the weights and recompute everything that follows from them."""
        self.weights = self.weights / self.weights.sum()
        self.information = information(self.rows, self.weights)
        lower = np.linalg.cholesky(self.information)
        self.factor = solve_triangular(lower, np.eye(self.k), lower=True, check_finite=False).T
        image = self.rows @ self.factor
        self.forms = np.einsum("ij,ij->i", image, image)

    def climb(self, gap: float, max_steps: int, effort: float = math.inf) -> bool:
        """Improve the weights until the gap on the set is reached; whether it was.

        Stops early once ``max_steps`` steps were made in all, after about ``effort`` flops, or, with
        :attr:`stalled` set, when rounding leaves nothing to gain. Each of the three methods may spend
        what the next, dearer one would cost; so the whole is never much more expensive than the best.
        """
        spent = since_newton = since_interior = 0.0
        idle = 0
        while self.gap > gap:
            self.stalled = idle > _PATIENCE
            if self.steps >= max_steps or spent > effort or self.stalled:
                return False
            objective = self.objective
            cost = self._sweeps(gap, max_steps)
            since_newton += cost
            size = int(np.count_nonzero(self.weights))
            newton_cost = newton_flops(size, self.k)
            affordable = self.steps + size <= max_steps
            if self.gap > gap and affordable and (since_newton > newton_cost or idle):
                cost, since_newton = cost + newton_cost, 0.0
                self._newton()
            since_interior += cost
            if self.gap > gap:
                contenders = self._contenders()
                interior_cost = interior_point_flops(len(contenders), self.k)
                affordable = self.steps + MAX_ITERATIONS * len(contenders) <= max_steps
                if affordable and (since_interior > interior_cost or idle):
                    # Should it fail, the others have earned a longer turn.
                    cost, since_interior = cost + interior_cost, -2.0 * interior_cost
                    self._interior(contenders, gap)
            spent += cost
            idle = 0 if self.objective > objective else idle + 1
        return True

    @property
    def objective(self) -> float:
        """Logarithm of det M."""
        return -2.0 * float(np.sum(np.log(np.abs(np.diagonal(self.factor)))))

    def _contenders(self) -> np.ndarray:
        """Indices of the rows that may carry weight at the optimum (M7), and of those that do now."""
        level = SafeElimination().threshold(self.k, max(self.gap, 0.0))
        return np.flatnonzero((self.forms >= level * (1.0 - 1e-12)) | (self.weights > 0.0))

    def _newton(self) -> None:
        better = newton_step(self.rows, self.weights, self.factor)
        if better is not None:
            self.steps += int(np.count_nonzero(self.weights))
            self.weights = better
            self.refresh()

    def _interior(self, contenders: np.ndarray, gap: float) -> None:
        """Replace the design by that of an interior-point method, if it is better."""
        before = self.objective, self.weights
        found, iterations = interior_point(self.rows[contenders], self.weights[contenders], _SLACK * gap)
        self.steps += iterations * len(contenders)
        # Its weights are all positive. Those of inactive rows are dust, which would pass for support.
        found[found < _DUST / len(contenders)] = 0.0
        weights = np.zeros_like(self.weights)
        weights[contenders] = found
        self.weights = weights
        self.refresh()
        if self.objective < before[0]:
            self.weights = before[1]
            self.refresh()

    def _sweeps(self, gap: float, max_steps: int) -> float:
        """A few rounds of coordinate steps over the support and the worst violators; flops spent."""
        k = self.k
        outside = np.flatnonzero((self.weights == 0.0) & (self.forms > k * (1.0 + 0.5 * gap)))
        limit = _ENTRANTS * k
        if len(outside) > limit:
            outside = outside[np.argpartition(-self.forms[outside], limit)[:limit]]
        outside = outside[np.argsort(-self.forms[outside])]
        order = np.concatenate([outside, np.flatnonzero(self.weights)])
        inverse = self.factor @ self.factor.T
        moved = 0
        for _ in range(_SWEEPS):
            order = order[: max_steps - self.steps - moved]
            moved += sweep(self.rows, self.weights, inverse, order, _SLACK * gap)
            order = order[self.weights[order] > 0.0]
        self.steps += moved
        self.refresh()
        return _COMPILED_COST * 4.0 * moved * k * k + 4.0 * len(self.rows) * k * k + _OVERHEAD
