"""What an ellipsoid solver is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from coresets.ellipsoid._rows import LiftedRows

__all__ = ["Design", "Solver"]

Array = Any


@dataclass(frozen=True, eq=False)
class Design:
    """An approximate maximiser of ln det sum_i u_i q_i q_i^T over the simplex.

    Parameters
    ----------
    weights : array of shape (n,)
        The design u in float64: non-negative, of sum 1, exactly zero off its support.
    iterations : int
        Steps taken, in the unit that the solver's ``max_iter`` counts.
    converged : bool
        Whether max_i omega_i <= (1 + gap) k was seen, omega_i = q_i^T (sum_j u_j q_j q_j^T)^-1 q_i.
    largest_form : float or None
        max_i omega_i over all rows for exactly these weights, if the solver has computed it.
    """

    weights: Array
    iterations: int
    converged: bool
    largest_form: float | None = None


@runtime_checkable
class Solver(Protocol):
    """Finds a design for the centred problem in full rank."""

    def solve(self, rows: LiftedRows, *, gap: float, max_iter: int | None) -> Design:
        """Return a design with max_i omega_i <= (1 + gap) k, or the best one found.

        Parameters
        ----------
        rows : LiftedRows
            The rows q_i of R^k, of full column rank, k >= 1, and nearly orthonormal columns (up to the
            factor sqrt(n)), so that conditioning is no concern of the solver.
        gap : float
            Relative excess to reach, positive.
        max_iter : int or None
            Largest number of iterations in the solver's own unit; None for its default.

        Returns
        -------
        Design
            With ``converged`` false if ``max_iter`` was reached first. Solvers do not raise for that.
        """
        ...
