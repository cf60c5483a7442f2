"""The fast solver: exact coordinate steps on a working set, checked against all rows.

Three ideas carry it.

* Few rows matter. The design is improved on a working set (:mod:`._working_set`), and a pass over all
  rows finds those that violate max_i omega_i <= k most; they join the set, and rows without
  weight leave it.
* Rows left out need no second look while M changes little. If omega_i <= rest for them at M, then
  omega_i <= rest / lambda_min(M^(-1/2) M' M^(-1/2)) at M'. Two to three passes do on generic data.
* Each further round doubles the working set and what may be spent on it, so that data with very many
  nearly active rows cost a logarithmic number of passes.

Cost: a pass is 2 n k^2 flops by BLAS. Memory: the working set, (m, k) with m about 2 k^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coresets.ellipsoid._rows import LiftedRows
from coresets.ellipsoid._screening import Candidates, screen
from coresets.ellipsoid._solver import Design
from coresets.ellipsoid._start import kumar_yildirim_start, start_among
from coresets.ellipsoid._working_set import WorkingSet

__all__ = ["Ascent"]

_DEFAULT_STEPS = 10_000_000
_MAX_ROUNDS = 60
# Flops to spend on the first working set, in passes. It is only to tell which rows matter.
_FIRST_EFFORT = 4.0
_MORE_EFFORT = 4.0
# Rounds aim at this share of the gap, to leave room for rounding.
_AIM = 0.5


def _first_rows(k: int) -> int:
    """Size of the first working set; the support of Gaussian data is about half of it."""
    return int(2 * k * math.sqrt(k)) + 4 * k


def _working_rows(k: int) -> int:
    """Size of the second working set; the support has at most k(k+1)/2 rows for some optimum."""
    return max(500, min(3 * k * (k + 1) // 2, 10_000))


@dataclass(frozen=True)
class Ascent:
    """Exact coordinate ascent on a working set, with Newton and interior-point steps where they pay.

    The default. Its ``max_iter`` counts steps in one weight; a Newton or interior-point step counts
    once for each weight that it moves. The default of ten million is reached by no data we know of.

    Notes
    -----
    Departures from Wolfe and Atwood: a step maximises ln det M(u) - k sum_i u_i, whose maximiser is the
    optimal design without a constraint on the sum. So a step in the weight of one row does not touch the
    others, costs 4 k^2 flops however many rows there are, and removes weight as readily as it adds it
    (this is their away step). Steps are taken in sweeps over the support and the worst violators, not
    greedily.

    References
    ----------
    M. J. Todd. Minimum-Volume Ellipsoids: Theory and Algorithms. SIAM, 2016.
    R. Harman, L. Pronzato. Improvements on removing nonoptimal support points in D-optimum design
    algorithms. Statistics and Probability Letters 77, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import Ascent, loewner_ellipsoid
    >>> corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> found = loewner_ellipsoid(corners, solver=Ascent())
    >>> bool(abs(found.shape - 2.0 * np.eye(2)).max() < 1e-3)
    True
    """

    def solve(self, rows: LiftedRows, *, gap: float, max_iter: int | None = None) -> Design:
        """Design with max_i omega_i <= (1 + gap) k, or the best one that ``max_iter`` steps gave."""
        max_steps = _DEFAULT_STEPS if max_iter is None else max_iter
        if rows.n <= max(_working_rows(rows.k), _first_rows(rows.k)):
            indices, matrix = np.arange(rows.n), rows.dense()
            work = WorkingSet(matrix, _uniform_on(start_among(matrix), rows.n))
            converged = work.climb(gap, max_steps)
            return _design(rows, indices, work, converged, float(work.forms.max()))
        indices, work = _first_set(rows)
        limit, effort = _working_rows(rows.k), _FIRST_EFFORT * 2.0 * rows.n * rows.k**2
        outside: _Outside | None = None
        converged, largest = False, math.inf
        for _ in range(_MAX_ROUNDS):
            inside = work.climb(_AIM * gap, max_steps, effort)
            if inside and outside is not None and outside.covers(work):
                converged, largest = True, float(work.forms.max())
                break
            candidates = screen(rows, work.factor, limit)
            largest = float(candidates.forms.max())
            converged = largest <= (1.0 + gap) * rows.k
            stuck = work.stalled and _adds_nothing(work, indices, candidates, gap)
            if converged or stuck or work.steps >= max_steps:
                break
            outside = _Outside(work.factor, candidates.rest)
            if largest > float(work.forms.max()) * (1.0 + gap):
                limit, effort = 2 * limit, _MORE_EFFORT * effort
            else:  # no row outside is worse than those inside: the set is large enough
                effort = math.inf
            indices, work = _merged(indices, work, candidates)
        return _design(rows, indices, work, converged, largest)


@dataclass(frozen=True, eq=False)
class _Outside:
    """The rows outside the working set: none had a form above ``rest`` for M^-1 = factor factor^T."""

    factor: np.ndarray
    rest: float

    def covers(self, work: WorkingSet) -> bool:
        """Whether they are proved to stay below k for the present M."""
        shrink = float(np.linalg.eigvalsh(self.factor.T @ work.information @ self.factor)[0])
        return self.rest <= work.k * shrink


def _uniform_on(start: np.ndarray, n: int) -> np.ndarray:
    """Equal weights on the start, none elsewhere."""
    weights = np.zeros(n)
    weights[start] = 1.0 / len(start)
    return weights


def _first_set(rows: LiftedRows) -> tuple[np.ndarray, WorkingSet]:
    """The rows of largest leverage, and extreme ones in every direction that these leave uncovered."""
    candidates = screen(rows, np.eye(rows.k), _first_rows(rows.k))
    indices, matrix = candidates.indices, candidates.rows
    start = start_among(matrix)
    if len(start) < rows.k:
        extremes = kumar_yildirim_start(rows)
        indices = np.union1d(indices, extremes)
        matrix = rows.take(indices)
        start = np.searchsorted(indices, extremes)
    return indices, WorkingSet(matrix, _uniform_on(start, len(indices)))


def _adds_nothing(work: WorkingSet, indices: np.ndarray, candidates: Candidates, gap: float) -> bool:
    """Whether all violators were in the working set already."""
    violators = candidates.indices[candidates.forms > (1.0 + gap) * work.k]
    return bool(np.all(np.isin(violators, indices)))


def _merged(indices: np.ndarray, work: WorkingSet, candidates: Candidates) -> tuple[np.ndarray, WorkingSet]:
    """The support and the candidates as the next working set."""
    support = np.flatnonzero(work.weights)
    fresh = ~np.isin(candidates.indices, indices[support])
    weights = np.concatenate([work.weights[support], np.zeros(np.count_nonzero(fresh))])
    matrix = np.concatenate([work.rows[support], candidates.rows[fresh]])
    merged = np.concatenate([indices[support], candidates.indices[fresh]])
    return merged, WorkingSet(matrix, weights, work.steps)


def _design(
    rows: LiftedRows, indices: np.ndarray, work: WorkingSet, converged: bool, largest: float
) -> Design:
    """Weights of the working set, spread over all rows."""
    weights = np.zeros(rows.n)
    weights[indices] = work.weights
    return Design(weights, work.steps, converged, largest)
