"""Statements about units chosen greedily by what they add to the layers that read them: B1-U and GF.

Throughout, the output of the layers that read U units is a sum of contributions, one a unit, in the
space of all outputs on the calibration inputs (with the ridge, and weighted, where layers are several).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._validate import check_integer
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status
from nn.guarantees.reconstruction import ForwardSelection

__all__ = ["GreedyHull", "UnitSelection"]

Array = npt.NDArray[np.float64]

_FORWARD = ForwardSelection()


class UnitSelection(Guarantee):
    """B1-U: the squared error of forward selection of units with refitted consumers, at every number of them.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.guarantees.greedy import UnitSelection
    >>> theorem = UnitSelection()
    >>> rho = theorem.spread(np.full(20, 0.5), 5.0)  # 20 units that add equally much, without correlation
    >>> float(rho), float(theorem.relative_squared_error(rho, 60))
    (20.0, 0.25)
    """

    key = "B1-U"
    title = "forward selection of units reaches a relative squared error of rho / (k + rho) with k units"
    statement = (
        "Let a_u be the norm of what unit u adds to the outputs of all its consumers, A = sum_u a_u, and "
        "rho = A^2 / e_0 with e_0 the squared norm of the sum. Forward selection of units with refitted "
        "consumers has a squared error of at most A^2 / (k + rho) after k steps, and each step lowers the "
        "squared error e by at least e^2 / A^2, whatever the correlation of the columns of one unit."
    )
    citation = Citation(
        "jones1992", "Jones 1992, the rate of greedy approximation; the block form is on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the ridge lambda is positive, so that H is positive definite", "Gram"),
        Assumption("every step refits all weights that read kept units, with exact block gains", "GroupOLS"),
    )
    quantifier = Quantifier.FOR_ALL

    def spread(self, norms: Any, energy: Any) -> Array:
        """rho, at least 1: how evenly the energy of a group is spread over its units.

        Parameters
        ----------
        norms : array of shape (..., U)
            a_u.
        energy : array of shape (...)
            e_0; where it is 0, rho is 1.
        """
        norms = np.asarray(norms, dtype=np.float64)
        return _FORWARD.spread(norms, np.ones_like(norms), energy)

    def relative_squared_error(self, spread: Any, kept: Any) -> Array:
        """The bound, rho / (k + rho), for k kept units."""
        return _FORWARD.relative_squared_error(spread, kept)

    def least_gain(self, norms: Any, squared_error: Any) -> Array:
        """e^2 / A^2: what the next step gains at least."""
        total = np.sum(np.asarray(norms, dtype=np.float64), axis=-1)
        error = np.asarray(squared_error, dtype=np.float64)
        return np.where(total > 0.0, error**2 / np.where(total > 0.0, total, 1.0) ** 2, 0.0)

    def size(self, spread: float, epsilon: float) -> int:
        """Least number of units for which the theorem promises the relative error epsilon (not squared).

        Raises
        ------
        ValueError
            If ``spread`` is not positive, or ``epsilon`` not in (0, 1].
        """
        return _FORWARD.size(spread, epsilon)


class GreedyHull(Guarantee):
    """GF: the rate of greedy selection with repetition in a convex hull.

    Examples
    --------
    >>> from nn.guarantees.greedy import GreedyHull
    >>> theorem = GreedyHull()
    >>> theorem.squared_error(12.0, 4)
    3.0
    >>> theorem.excess(12.0, 4)  # where the target is not in the hull
    6.25
    """

    key = "GF"
    title = "n greedy steps with repetition leave a squared error of at most Var / n"
    statement = (
        "Let f* = sum_i p_i phi_i be a convex combination, Var = sum_i p_i |phi_i - f*|^2, and let step n "
        "replace f by the best of (1 - 1/n) f + phi_i / n. Then |f_n - y|^2 <= Var / n for y = f*, and "
        "|f_n - y|^2 - |f* - y|^2 <= Var (1 + 1/2 + ... + 1/n) / n for every y."
    )
    citation = Citation(
        "ye2020", "Ye et al. 2020, good subnetworks provably exist; constants proved on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the outputs are a mean of terms, which weights count / (n p_i) make of any sum"),
        Assumption("every step tries all units, those chosen before included", "GreedyForward"),
    )
    quantifier = Quantifier.FOR_ALL

    def variance(self, squares: Any, energy: float, probabilities: Any | None = None) -> float:
        """Var for y = sum of contributions c_i and phi_i = c_i / p_i.

        Parameters
        ----------
        squares : array of shape (U,)
            |c_i|^2.
        energy : float
            |y|^2.
        probabilities : array of shape (U,), optional
            p, equal by default; where it is 0, the contribution has to be 0.
        """
        squares = np.asarray(squares, dtype=np.float64)
        weights = np.full(squares.shape, 1.0 / squares.size) if probabilities is None else probabilities
        positive = np.asarray(weights) > 0.0
        terms = np.where(positive, squares / np.where(positive, weights, 1.0), 0.0)
        return max(0.0, float(np.sum(terms)) - energy)

    def squared_error(self, variance: float, steps: int) -> float:
        """Var / n, for a target in the hull.

        Parameters
        ----------
        variance : float
            Var.
        steps : int
            n, at least 1.
        """
        return variance / check_integer(steps, "steps", at_least=1)

    def excess(self, variance: float, steps: int) -> float:
        """Var (1 + 1/2 + ... + 1/n) / n, beyond the error of f*, for any target."""
        steps = check_integer(steps, "steps", at_least=1)
        return variance * float(np.sum(1.0 / np.arange(1, steps + 1))) / steps
