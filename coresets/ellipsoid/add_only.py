r"""Khachiyan's method: add one point at a time, never remove one, and so keep a small core-set.

From the start of Kumar and Yildirim on k rows, each step moves weight to the row with the largest
omega_i = (1 + e) k, by exact line search, and raises ln det M by at least ln(1 + e) - e / (1 + e).
Guarantee M5 counts the steps that this leaves, k ln ln k + 4 k / gap and terms of lower order, and
the support is at most k larger than that. It is usually a hundred times smaller.

Cost: a step is 2 m k flops on the m rows of largest form, which stand for all of them until a
bound on the others expires; then one pass over the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from coresets.ellipsoid._rows import LiftedRows
from coresets.ellipsoid._screening import screen
from coresets.ellipsoid._solver import Design
from coresets.ellipsoid._start import kumar_yildirim_start
from coresets.guarantees.geometry import AddOnlyAscent

__all__ = ["AddOnly"]

_DEFAULT_STEPS = 100_000
# Rank-one updates are replaced by a factorisation after so many.
_REFRESH = 50
_POOL = 2000


@dataclass(frozen=True)
class AddOnly:
    """Frank-Wolfe additions by exact line search: a small core-set at a moderate gap.

    ``max_iter`` counts additions. The default is 100,000, or the number proved sufficient
    (:class:`~coresets.guarantees.AddOnlyAscent`) if that is smaller. Take :class:`Ascent` for gaps below
    about 1e-3: the number of additions grows like 1/gap.

    References
    ----------
    L. G. Khachiyan. Rounding of polytopes in the real number model of computation. Mathematics of
    Operations Research 21, 1996.
    P. Kumar, E. A. Yildirim. Minimum-volume enclosing ellipsoids and core sets. JOTA 126, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import AddOnly, loewner_ellipsoid
    >>> points = np.random.default_rng(0).standard_normal((1000, 4))
    >>> coarse = loewner_ellipsoid(points, gap=1.0, solver=AddOnly())
    >>> len(coarse.support) <= 5 + coarse.iterations
    True
    """

    def solve(self, rows: LiftedRows, *, gap: float, max_iter: int | None = None) -> Design:
        """Design with max_i omega_i <= (1 + gap) k, or the one that ``max_iter`` additions gave."""
        k = rows.k
        if max_iter is None:
            max_iter = min(_DEFAULT_STEPS, AddOnlyAscent().steps(k, gap))
        state = _State(rows, kumar_yildirim_start(rows))
        steps = 0
        while steps < max_iter and not state.reaches(gap):
            state.add()
            steps += 1
        largest = state.screen()  # the last word is a factorisation and all rows, not the updates
        return Design(state.design(rows.n), steps, largest <= (1.0 + gap) * k, largest)


class _State:
    """A design on its support, and the rows that may have the largest form."""

    def __init__(self, rows: LiftedRows, start: np.ndarray) -> None:
        self._rows = rows
        self._position = {int(index): place for place, index in enumerate(start)}
        self._support = list(rows.take(start))
        self._weights = [1.0 / len(start)] * len(start)
        self.screen()

    def _factor(self) -> np.ndarray:
        """Normalise the weights and factorise: F with F F^T = M^-1."""
        k = self._rows.k
        share = np.array(self._weights)
        share /= share.sum()
        self._weights = list(share)
        root = np.array(self._support) * np.sqrt(share)[:, None]
        lower = np.linalg.cholesky(root.T @ root)
        factor = solve_triangular(lower, np.eye(k), lower=True).T
        self._inverse, self._age = factor @ factor.T, 0
        return np.asarray(factor)

    def screen(self) -> float:
        """Recompute everything from the weights, with one pass; the largest form of all rows."""
        self._pool = screen(self._rows, self._factor(), _POOL)
        self._forms = self._pool.forms.copy()
        self._outside = self._pool.rest  # no row outside the pool has a larger form
        return float(self._forms.max())

    def reaches(self, gap: float) -> bool:
        """Whether all forms are at most (1 + gap) k; looks at all rows if the pool cannot tell."""
        if self._age >= _REFRESH:
            image = self._pool.rows @ self._factor()
            self._forms = np.einsum("ij,ij->i", image, image)
        largest = float(self._forms.max())
        if self._outside > largest:
            largest = self.screen()
        return largest <= (1.0 + gap) * self._rows.k

    def add(self) -> None:
        """Move weight to the row of largest form, by exact line search."""
        k = self._rows.k
        top = int(np.argmax(self._forms))
        omega, row, index = float(self._forms[top]), self._pool.rows[top], int(self._pool.indices[top])
        beta = (omega - k) / (k * (omega - 1.0))
        self._weights = [(1.0 - beta) * weight for weight in self._weights]
        if index in self._position:
            self._weights[self._position[index]] += beta
        else:
            self._position[index] = len(self._support)
            self._support.append(row)
            self._weights.append(beta)
        image = self._inverse @ row
        ratio = beta / (1.0 - beta + beta * omega)
        self._forms = (self._forms - ratio * (self._pool.rows @ image) ** 2) / (1.0 - beta)
        self._inverse = (self._inverse - ratio * np.outer(image, image)) / (1.0 - beta)
        self._outside /= 1.0 - beta  # since the new M is at least (1 - beta) times the old
        self._age += 1

    def design(self, n: int) -> np.ndarray:
        """The weights over all n rows."""
        weights = np.zeros(n)
        weights[list(self._position)] = self._weights
        return weights
