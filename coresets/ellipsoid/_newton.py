"""Newton steps on the support of a design."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

__all__ = ["information", "log_determinant", "newton_flops", "newton_step"]

# Added to the unit-diagonal Hessian: duplicated rows make it singular, and more rows than k(k+1)/2 always do.
_RIDGE = 1e-11
# What array operations on little matrices cost beyond their flops.
_OVERHEAD = 4e7


def information(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """M(u) = sum_i u_i q_i q_i^T from the rows of positive weight."""
    support = np.flatnonzero(weights)
    root = rows[support] * np.sqrt(weights[support])[:, None]
    return np.asarray(root.T @ root)


def log_determinant(rows: np.ndarray, weights: np.ndarray) -> float:
    """Logarithm of det M(u); minus infinity if M is singular."""
    sign, value = np.linalg.slogdet(information(rows, weights))
    return float(value) if sign > 0 else -math.inf


def newton_flops(size: int, k: int) -> float:
    """Price of one step on a support of the given size, in flops of BLAS on large matrices."""
    return size**3 + 6.0 * size**2 * k + _OVERHEAD


def newton_step(rows: np.ndarray, weights: np.ndarray, inverse_root: np.ndarray) -> np.ndarray | None:
    """Weights after one projected Newton step on their support, or None if it does not climb.

    On ln det M(u) - k sum_i u_i the gradient is omega - k and the Hessian minus K o K, the entrywise
    square of K = Q M^-1 Q^T.

    Parameters
    ----------
    rows : array of shape (m, k)
    weights : array of shape (m,)
        Sum 1.
    inverse_root : array of shape (k, k)
        F with F F^T = M^-1.
    """
    k = rows.shape[1]
    support = np.flatnonzero(weights)
    image = rows[support] @ inverse_root
    hessian = image @ image.T
    omega = np.diagonal(hessian).copy()
    np.multiply(hessian, hessian, out=hessian)
    hessian[np.diag_indices_from(hessian)] *= 1.0 + _RIDGE
    try:
        factor = cho_factor(hessian, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return None
    step = cho_solve(factor, omega - k, check_finite=False)
    here = log_determinant(rows, weights) - k
    current = weights[support]
    falling = step < 0.0
    room = np.min(-current[falling] / step[falling]) if falling.any() else math.inf
    trials = [1.0] if room >= 1.0 else [1.0, 0.3, 0.995 * float(room)]
    for length in trials:
        moved = np.zeros_like(weights)
        moved[support] = np.maximum(current + length * step, 0.0)
        total = float(moved.sum())
        # The best multiple of a design has total 1, at which the penalty is k.
        if total > 0.0 and log_determinant(rows, moved / total) - k > here:
            return moved / total
    return None
