"""Statements about weights that are refitted to calibration inputs: B1, B2, B3, B5. No chance is involved.

Throughout, X holds the calibration inputs of a neuron with weights w, H = X^T X + lambda I with
lambda > 0, h_j = H_jj, and |v|_H^2 = v^T H v. An error is *relative* to |w|_H.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._validate import check_epsilon, check_integer, check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status, least_integer

__all__ = ["BackwardElimination", "EveryInput", "ForwardSelection", "HardFeedback"]

Array = npt.NDArray[np.float64]

_POSITIVE = Assumption("the ridge lambda is positive, so that H is positive definite", "Gram")


class ForwardSelection(Guarantee):
    """B1: the squared error of forward selection with refitting, at every number of edges.

    Examples
    --------
    >>> from nn.guarantees.reconstruction import ForwardSelection
    >>> theorem = ForwardSelection()
    >>> float(theorem.relative_squared_error(20.0, 60))
    0.25
    >>> theorem.size(20.0, 0.5)  # edges of a neuron with rho = 20 for half the error
    60
    """

    key = "B1"
    title = "forward selection reaches a relative squared error of rho / (k + rho) with k edges"
    statement = (
        "Let A = sum_j |w_j| sqrt(h_j) and rho = A^2 / |w|_H^2. Forward selection with refitted weights "
        "has |w - q|_H^2 <= A^2 / (k + rho) after k steps, a relative squared error of at most "
        "rho / (k + rho)."
    )
    citation = Citation(
        "jones1992", "Jones 1992, the rate of greedy approximation; with these constants on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (_POSITIVE, Assumption("every step refits all kept weights", "OLSForward"))
    quantifier = Quantifier.FOR_ALL

    def spread(self, weights: Any, diagonal: Any, energy: Any) -> Array:
        """rho, at least 1: how evenly the energy of a neuron is spread over its edges.

        Parameters
        ----------
        weights : array of shape (..., m)
            w.
        diagonal : array of shape (..., m)
            h.
        energy : array of shape (...)
            |w|_H^2; where it is 0, rho is 1.
        """
        total = np.sum(np.abs(weights) * np.sqrt(diagonal), axis=-1)
        energy = np.asarray(energy, dtype=np.float64)
        positive = energy > 0.0
        return np.where(positive, total**2 / np.where(positive, energy, 1.0), 1.0)

    def relative_squared_error(self, spread: Any, kept: Any) -> Array:
        """The bound, rho / (k + rho).

        Parameters
        ----------
        spread : array
            rho, positive.
        kept : array of int
            k, at least 0.
        """
        spread = np.asarray(spread, dtype=np.float64)
        return spread / (np.asarray(kept) + spread)

    def size(self, spread: float, epsilon: float) -> int:
        """Least number of edges for which the theorem promises the relative error epsilon (not squared).

        Raises
        ------
        ValueError
            If ``spread`` is not positive, or ``epsilon`` not in (0, 1].
        """
        if check_real(spread, "spread") <= 0.0:
            raise ValueError(f"spread = {spread:g} is not positive")
        target = check_epsilon(epsilon) ** 2
        if target >= 1.0:
            return 0
        estimate = spread * (1.0 / target - 1.0)
        return least_integer(lambda k: bool(self.relative_squared_error(spread, k) <= target), estimate)


class BackwardElimination(Guarantee):
    """B2: the squared error of backward elimination with refitting; informative for weak correlations.

    Examples
    --------
    >>> from nn.guarantees.reconstruction import BackwardElimination
    >>> round(BackwardElimination().relative_squared_error(100, 75, 1.0), 12)  # uncorrelated inputs
    0.25
    """

    key = "B2"
    title = "backward elimination removes at most a share 1 / (p mu) of what is left, of p edges"
    statement = (
        "Let mu be the least eigenvalue of the correlation form of H (scaled to a unit diagonal). "
        "Backward elimination with refitted weights, from m edges down to k, has a relative squared error "
        "of at most 1 - prod_{p=k+1}^m max(0, 1 - 1/(p mu)), which is at most ln(m/k) / mu; it is the sum "
        "of the removed saliencies."
    )
    citation = Citation(
        "hassibi1993", "Hassibi and Stork 1993 for the step; the bound is proved on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (_POSITIVE, Assumption("every step refits all kept weights", "OBSBackward"))
    quantifier = Quantifier.FOR_ALL

    def relative_squared_error(self, edges: int, kept: int, eigenvalue: float) -> float:
        """The bound for ``kept`` of ``edges``.

        Parameters
        ----------
        edges, kept : int
            m and k.
        eigenvalue : float
            mu, in (0, 1].

        Raises
        ------
        ValueError
            If an argument is out of range.
        """
        edges = check_integer(edges, "edges", at_least=0)
        if check_integer(kept, "kept", at_least=0) > edges:
            raise ValueError(f"kept = {kept} exceeds edges = {edges}")
        if check_real(eigenvalue, "eigenvalue") <= 0.0:
            raise ValueError(f"eigenvalue = {eigenvalue:g} is not positive; that of a correlation form is")
        sizes = np.arange(kept + 1, edges + 1, dtype=np.float64)
        left = np.maximum(0.0, 1.0 - 1.0 / (sizes * min(eigenvalue, 1.0)))
        return float(1.0 - np.prod(left))


class EveryInput(Guarantee):
    """B3: the change of a neuron's output at any input, however its new weights were found.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.gram import Gram
    >>> from nn.guarantees.reconstruction import EveryInput
    >>> gram = Gram.of(np.random.default_rng(0).normal(size=(1, 50, 3)))  # what the layer was fed
    >>> change = np.array([[[0.1, 0.0, -0.2]]])  # of its weights
    >>> fresh = np.array([[[1.0, 5.0, 3.0]]])  # any other input
    >>> bound = EveryInput().error(gram.leverages(fresh), gram.squared_errors(change))
    >>> bool(abs(change[0, 0] @ fresh[0, 0]) <= bound[0, 0])
    True
    """

    key = "B3"
    title = "the output at any input changes by at most its leverage times the error"
    statement = (
        "For every input a and all weights w, q: |a.(w - q)| <= sqrt(a^T H^-1 a) |w - q|_H; some a "
        "attains it."
    )
    citation = Citation("cauchy1821", "Cauchy-Schwarz in the inner product of H")
    status = Status.DERIVED_HERE
    assumptions = (_POSITIVE,)
    quantifier = Quantifier.FOR_ALL

    def error(self, leverage: Any, squared_error: Any) -> Array:
        """sqrt(a^T H^-1 a) |w - q|_H.

        Parameters
        ----------
        leverage : array
            a^T H^-1 a; see :meth:`nn.gram.Gram.leverages`.
        squared_error : array
            |w - q|_H^2; see :meth:`nn.gram.Gram.squared_errors`. The two are broadcast.
        """
        product = np.asarray(leverage, dtype=np.float64) * np.asarray(squared_error, dtype=np.float64)
        return np.sqrt(product)


class HardFeedback(Guarantee):
    """B5: the squared error of thresholding with error feedback.

    Examples
    --------
    >>> from nn.guarantees.reconstruction import HardFeedback
    >>> HardFeedback().squared_error_from_threshold(0.5, 8)
    2.0
    """

    key = "B5"
    title = "with error feedback, only the dropped contributions add to the squared error"
    statement = (
        "Process the edges in any order; with u the accumulated output error, z_j = w_j + <X_j, u>/h_j is "
        "kept as it is or dropped. Then |w - q|_H^2 is at most the sum of z_j^2 h_j over the dropped "
        "edges, hence at most kappa^2 times their number if all dropped have |z_j| sqrt(h_j) <= kappa."
    )
    citation = Citation(
        "lybrand2021", "after Lybrand and Saab 2021 (greedy path following); proved on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (_POSITIVE, Assumption("kept weights take the fed-back value z_j", "Feedback"))
    quantifier = Quantifier.FOR_ALL

    def squared_error(self, scores: Any) -> Array:
        """Bound from the dropped contributions.

        Parameters
        ----------
        scores : array of shape (..., m)
            |z_j| sqrt(h_j) of the dropped edges, and 0 for the others.
        """
        return np.sum(np.square(np.asarray(scores, dtype=np.float64)), axis=-1)

    def squared_error_from_threshold(self, threshold: float, dropped: int) -> float:
        """kappa^2 times the number of dropped edges."""
        if check_real(threshold, "threshold") < 0.0:
            raise ValueError(f"threshold = {threshold:g} is negative")
        return threshold**2 * check_integer(dropped, "dropped", at_least=0)
