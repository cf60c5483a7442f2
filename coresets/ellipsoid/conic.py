r"""The reference: a conic program, solved by Clarabel through cvxpy.

    maximise ln det H   subject to   q_i^T H q_i <= 1,  H positive definite.

The multipliers of the constraints, divided by their sum, are an optimal design. The solver's status is
not relied on: the forms of the weights are computed on all rows, and they decide whether it converged.

Cost: Clarabel keeps the n k (k + 1) / 2 coefficients of the constraints and a dense block of the
semidefinite cone, of about (2 k^2)^2 entries, in several copies. Sets that would need more than a given
memory are refused.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._validate import check_real
from coresets.ellipsoid._rows import LiftedRows
from coresets.ellipsoid._solver import Design

__all__ = ["Conic"]

Floats = npt.NDArray[np.float64]

# Bytes for each coefficient and for each entry of the cone's block, all copies together. Calibrated on
# solves of less than 1 GiB, where the estimate is about twice the peak.
_BYTES_PER_COEFFICIENT = 400.0
_BYTES_PER_CONE_ENTRY = 60.0
_DEFAULT_ITERATIONS = 200
# Shares of the largest multiplier below which weights are tried as zero, the boldest first.
_DUST = (1e-4, 1e-6, 1e-8, 1e-10, 0.0)
# Accuracies to ask of Clarabel, one after the other until the weights meet the gap. A gap of e needs an
# objective within e^2 / 5 of the optimum; how far Clarabel gets below 1e-9 depends on the data.
_ACCURACIES = (1e-9, 1e-13)
_CRUDE_ROUNDS = 20


@dataclass(frozen=True)
class Conic:
    """Interior-point solution of the conic program; for checking others, on small sets.

    ``max_iter`` limits Clarabel's iterations in each of at most two attempts, 200 by default.

    Parameters
    ----------
    memory : float
        Largest estimated memory in bytes, positive; 4 GiB by default. Larger sets are refused with
        ``ValueError`` before any work.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import Conic, loewner_ellipsoid
    >>> square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> loewner_ellipsoid(square, solver=Conic()).shape.round(6) + 0.0
    array([[2., 0.],
           [0., 2.]])
    """

    memory: float = 4.0 * 2**30

    def __post_init__(self) -> None:
        if check_real(self.memory, "memory") <= 0.0:
            raise ValueError(f"memory = {self.memory:g} is not positive; pass a number of bytes")

    @staticmethod
    def estimated_memory(n: int, k: int) -> float:
        """Bytes that n rows of k coordinates are expected to need, within a factor of about two."""
        return n * k * (k + 1) / 2 * _BYTES_PER_COEFFICIENT + 4.0 * float(k) ** 4 * _BYTES_PER_CONE_ENTRY

    def solve(self, rows: LiftedRows, *, gap: float, max_iter: int | None) -> Design:
        """Solve on the host; see :class:`Solver`.

        Raises
        ------
        ValueError
            If the set is too large.
        """
        needed = self.estimated_memory(rows.n, rows.k)
        if needed > self.memory:
            raise ValueError(
                f"the conic program of {rows.n} rows of {rows.k} coordinates needs about "
                f"{needed / 2**30:.2g} GiB, more than the {self.memory / 2**30:.2g} allowed; use Ascent() "
                "or raise Conic(memory=...)"
            )
        q = rows.dense()
        best = np.full(rows.n, 1.0 / rows.n)
        least, iterations = _largest_form(q, best), 0
        even = _evened(q)
        for accuracy in _ACCURACIES:
            multipliers, steps = _multipliers(
                even, accuracy, _DEFAULT_ITERATIONS if max_iter is None else max_iter
            )
            iterations += steps
            for share in _DUST:
                weights = np.where(multipliers > share * np.max(multipliers), multipliers, 0.0)
                if not np.sum(weights) > 0.0:
                    break
                weights /= np.sum(weights)
                largest = _largest_form(q, weights)
                if largest < least:
                    best, least = weights, largest
                if least <= rows.k * (1.0 + gap):
                    return Design(best, iterations, True, least)
        return Design(best, iterations, False, least)


def _largest_form(rows: Floats, weights: Floats) -> float:
    """max_i omega_i; infinite if the design is singular."""
    try:
        factor = np.linalg.cholesky((rows * weights[:, None]).T @ rows)
    except np.linalg.LinAlgError:
        return np.inf
    return float(np.max(np.sum(np.linalg.solve(factor, rows.T) ** 2, axis=0)))


def _evened(rows: Floats) -> Floats:
    """Rows in coordinates in which all have about the same length, so that no constraint dwarfs others.

    The multipliers do not depend on coordinates. These are those of a crude design, after a few rounds of
    u_i <- u_i omega_i / k.
    """
    weights = np.full(len(rows), 1.0 / len(rows))
    for _ in range(_CRUDE_ROUNDS):
        factor = np.linalg.cholesky((rows * weights[:, None]).T @ rows)
        weights *= np.sum(np.linalg.solve(factor, rows.T) ** 2, axis=0)
        weights /= np.sum(weights)
    factor = np.linalg.cholesky((rows * weights[:, None]).T @ rows)
    return np.asarray(np.linalg.solve(factor, rows.T).T / np.sqrt(rows.shape[1]), order="C")


def _multipliers(rows: Floats, accuracy: float, max_iter: int) -> tuple[Floats, int]:
    """Multipliers of the constraints, all zero if there are none to be had, and Clarabel's iterations."""
    cp: Any = importlib.import_module("cvxpy")  # takes a second, and only the reference needs it
    n, k = rows.shape
    shape = cp.Variable((k, k), PSD=True)
    constraint = cp.sum(cp.multiply(rows @ shape, rows), axis=1) <= 1.0
    problem = cp.Problem(cp.Maximize(cp.log_det(shape)), [constraint])
    options = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), accuracy)
    with warnings.catch_warnings():
        # "Solution may be inaccurate": so it may, and the caller computes how good it is.
        warnings.simplefilter("ignore", UserWarning)
        try:
            problem.solve(solver=cp.CLARABEL, max_iter=max_iter, **options)
        except cp.SolverError:
            return np.zeros(n), max_iter
    multipliers = np.zeros(n) if constraint.dual_value is None else np.maximum(constraint.dual_value, 0.0)
    finite = np.where(np.isfinite(multipliers), multipliers, 0.0).astype(np.float64)
    return np.asarray(finite), int(problem.solver_stats.num_iters or 0)
