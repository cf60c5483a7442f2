r"""A primal-dual interior-point method for the design problem on few thousand rows.

Solves the optimality conditions of max ln det M(u) - k sum_i u_i over u >= 0, relaxed by mu > 0:

    omega_i(u) + s_i = k,    u_i s_i = mu,    u, s > 0.

A Newton step solves (K o K + diag(s/u)) du = mu/u + omega - k, with K o K the entrywise square of
Q M^-1 Q^T. It equals A A^T for the k(k+1)/2 columns of A that hold the products of two coordinates
of M^(-1/2) q_i, so that the system has the smaller of the sizes m and k(k+1)/2. The number of
iterations hardly depends on how many rows are nearly active, which is what stalls every method
that adds and removes rows one at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular

__all__ = ["MAX_ITERATIONS", "interior_point", "interior_point_flops"]

MAX_ITERATIONS = 60
_TYPICAL_ITERATIONS = 20
# What the array operations of one iteration cost beyond their flops, in flops of BLAS.
_OVERHEAD = 3e7
_TO_THE_BOUNDARY = 0.95  # share of the way to the boundary that a step may go


def interior_point_flops(m: int, k: int) -> float:
    """Price of a whole solve on m rows."""
    products = k * (k + 1) // 2
    small, large = min(m, products), max(m, products)
    return _TYPICAL_ITERATIONS * (small**3 / 3.0 + 2.0 * small * small * large + _OVERHEAD)


def _products(image: np.ndarray) -> np.ndarray:
    """Products of two coordinates of every row, (m, k(k+1)/2), such that A A^T = (image image^T)**2."""
    m, k = image.shape
    table = np.empty((m, k * (k + 1) // 2))
    start = 0
    for a in range(k):
        stop = start + k - a
        np.multiply(image[:, a:], image[:, a : a + 1], out=table[:, start:stop])
        table[:, start + 1 : stop] *= np.sqrt(2.0)
        start = stop
    return table


def _newton_system(image: np.ndarray, ratio: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Solver of (K o K + diag(1/ratio)) du = right with K = image image^T, factorised once."""
    m, k = image.shape
    if m <= k * (k + 1) // 2:
        matrix = image @ image.T
        np.multiply(matrix, matrix, out=matrix)
        matrix[np.diag_indices(m)] += 1.0 / ratio
        factor = cho_factor(matrix, overwrite_a=True, check_finite=False)
        return lambda right: np.asarray(cho_solve(factor, right, check_finite=False))
    table = _products(image)
    scaled = table * np.sqrt(ratio)[:, None]
    matrix = scaled.T @ scaled
    matrix[np.diag_indices_from(matrix)] += 1.0
    factor = cho_factor(matrix, overwrite_a=True, check_finite=False)

    def by_products(right: np.ndarray) -> np.ndarray:  # Sherman, Morrison and Woodbury
        inner = cho_solve(factor, table.T @ (ratio * right), check_finite=False)
        return np.asarray(ratio * (right - table @ inner))

    return by_products


def _image(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows times F with F F^T = M^-1."""
    lower = np.linalg.cholesky((rows * weights[:, None]).T @ rows)
    return np.asarray(solve_triangular(lower, rows.T, lower=True, check_finite=False).T)


def _length(values: np.ndarray, step: np.ndarray) -> float:
    """Longest step in (0, 1] that keeps the values positive, with a margin."""
    falling = step < 0.0
    if not falling.any():
        return 1.0
    return min(1.0, _TO_THE_BOUNDARY * float(np.min(-values[falling] / step[falling])))


def interior_point(rows: np.ndarray, weights: np.ndarray, gap: float) -> tuple[np.ndarray, int]:
    """Positive weights of sum 1 with max_i omega_i <= (1 + gap) k where possible, and the iterations made.

    Parameters
    ----------
    rows : array of shape (m, k)
    weights : array of shape (m,)
        A design to start from; its M must be regular.
    gap : float
    """
    m, k = rows.shape
    image = _image(rows, weights)
    forms = np.einsum("ij,ij->i", image, image)
    excess = max(float(forms.max()) / k - 1.0, gap)
    # A feasible start: a larger multiple of the design has smaller omega, and so has more weight anywhere.
    stretch = 1.0 + 2.0 * excess
    slack = k - forms / stretch
    mu = 2.0 * excess * k / m
    u = np.maximum(stretch * weights, mu / slack)
    best, best_gap = weights, excess
    for iteration in range(MAX_ITERATIONS):
        try:
            image = _image(rows, u)
        except np.linalg.LinAlgError:
            return best, iteration
        forms = np.einsum("ij,ij->i", image, image)
        reached = float(forms.max()) * float(u.sum()) / k - 1.0
        if reached < best_gap:
            best, best_gap = u / u.sum(), reached
        if reached <= gap:
            break
        if iteration == 0:
            slack = k - forms
        mu = float(u @ slack) / m
        try:
            solve = _newton_system(image, u / slack)
        except LinAlgError:
            return best, iteration
        # Predictor: straight for mu = 0. How far that gets says how much to centre.
        residual = forms + slack - k
        du = solve(residual - slack)
        ds = -slack - slack * du / u
        length_u, length_s = _length(u, du), _length(slack, ds)
        ahead = float((u + length_u * du) @ (slack + length_s * ds)) / m
        target = mu * max((ahead / mu) ** 3, 1e-3)
        # Corrector, with the product that the linear step leaves out.
        complement = target - du * ds
        du = solve(residual - slack + complement / u)
        ds = (complement - slack * du) / u - slack
        length = min(_length(u, du), _length(slack, ds))
        u = u + length * du
        slack = slack + length * ds
    return best, iteration
