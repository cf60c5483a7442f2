r"""l_p Lewis weights: sensitivities of sums of p-th powers of linear costs.

For rows a_i = w_i^(1/p) p_i of rank r, the Lewis weights are the fixed point of

    tau_i = (a_i^T M^+ a_i)^(p/2),    M = sum_j tau_j^(1 - 2/p) a_j a_j^T.

They sum to r, and for p <= 2 they bound the sensitivities
sup_x |a_i.x|^p / sum_j |a_j.x|^p, so their total is the rank however large n is.

Any positive tau yields a proved bound, whether converged or not (the certificate). Let
gamma = max_i (a_i^T M^+ a_i)^(p/2) / tau_i and |x|_M^2 = x^T M x, so that
|a_i.x|^p <= gamma tau_i |x|_M^p by Cauchy-Schwarz. It remains to bound |x|_M.

* p <= 2: split (a_j.x)^2 = |a_j.x|^p |a_j.x|^(2-p) in |x|_M^2 and bound the second factor by
  (gamma tau_j)^((2-p)/p) |x|_M^(2-p). The powers of tau_j cancel, and
  |x|_M^p <= gamma^(2/p - 1) sum_j |a_j.x|^p. Hence the bound gamma^(2/p) tau_i.
* p > 2: Hoelder with exponents p/2 and p/(p-2) gives
  |x|_M^p <= (sum_j tau_j)^(p/2 - 1) sum_j |a_j.x|^p. Hence the bound
  gamma tau_i (sum_j tau_j)^(p/2 - 1).

The iteration runs on logarithms, where it contracts by |1 - p/2| in the largest entry; this is
why p < 4. Cost: 4 n r^2 flops an iteration, r^2 <= d^2, and n r float64 numbers of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace, device

from coresets._threads import one_blas_thread
from coresets._validate import beside, check_integer, check_points, check_real, check_weights
from coresets.certificate import Certificate
from coresets.errors import SolverError
from coresets.sensitivity._rows import Rows, default_rank_tolerance, whitener
from coresets.sensitivity.sensitivities import Sensitivities

__all__ = ["lewis_weights"]

Array = Any


_LARGEST_EXPONENT = 700.0  # exp of more overflows


def _masked(values: Array, alive: Array) -> Array:
    """Values where alive, 0 elsewhere."""
    xp = array_namespace(values)
    return xp.where(alive, values, xp.zeros_like(values))


@dataclass(frozen=True)
class _Directions:
    """Rows of the whitened matrix, as directions of largest entry 1 and logarithms of lengths.

    Lewis weights do not change under an invertible map, so the whitened rows stand for the data:
    they have full column rank. Logarithms keep rows of any size in range. Zero rows have
    ``alive`` false and a zero direction.
    """

    units: Array  # (n, r)
    log_length: Array  # (n,)
    alive: Array  # (n,)

    @property
    def rank(self) -> int:
        return int(self.units.shape[1])

    def quadratic_forms(self, log_tau: Array, p: float) -> tuple[Array, Array]:
        """Logarithms of a_i^T M^-1 a_i and of the leverage scores tau_i^(1-2/p) a_i^T M^-1 a_i."""
        xp = array_namespace(self.units)
        log_root = (0.5 - 1.0 / p) * log_tau + self.log_length
        shift = xp.max(xp.where(self.alive, log_root, xp.full_like(log_root, -math.inf)))
        log_root = _masked(log_root - shift, self.alive)
        # M is well-conditioned (at most n^|1 - 2/p| at the fixed point): no direction is dropped.
        rows, whitening = whitener(Rows(self.units, xp.exp(log_root), xp.float64), 0.0)
        forms = replace(rows, root_weights=None).squared_norms(whitening, xp.float64)
        log_forms = xp.log(xp.where(self.alive, forms, xp.ones_like(forms)))
        return log_forms + 2.0 * (self.log_length - shift), log_forms + 2.0 * log_root


def _directions(points: Array, weights: Array | None, p: float) -> _Directions:
    """Whiten the rows w^(1/p) a in their numerical row space, in float64."""
    xp = array_namespace(points)
    root = None
    if weights is not None:
        weights = xp.astype(weights, xp.float64, copy=False)
        root = (weights / xp.max(weights)) ** (1.0 / p)
    n, d = int(points.shape[0]), int(points.shape[1])
    rows, whitening = whitener(Rows(points, root, xp.float64), default_rank_tolerance(n, d))
    basis = xp.take(whitening, xp.nonzero(xp.any(whitening != 0, axis=0))[0], axis=1)
    rank = int(basis.shape[1])

    units = xp.empty((n, rank), dtype=xp.float64, device=device(points))
    length = xp.zeros(n, dtype=xp.float64, device=device(points))
    if rank:
        for part, image in rows.images(basis):
            size = xp.max(xp.abs(image), axis=-1)
            length[part] = size
            units[part, :] = image / xp.where(size > 0, size, xp.ones_like(size))[:, None]
    alive = length > 0
    return _Directions(units, xp.log(xp.where(alive, length, xp.ones_like(length))), alive)


def _certified(rows: _Directions, log_tau: Array, p: float) -> tuple[float, Array]:
    """gamma, and the sensitivity bounds that it proves for these weights."""
    xp = array_namespace(log_tau)
    log_forms, _ = rows.quadratic_forms(log_tau, p)
    excess = _masked(0.5 * p * log_forms - log_tau, rows.alive)
    log_gamma = max(0.0, float(xp.max(excess)))
    total = float(xp.sum(_masked(xp.exp(log_tau), rows.alive)))
    factor = 2.0 / p * log_gamma if p <= 2.0 else log_gamma + (p / 2.0 - 1.0) * math.log(total)
    # A share is at most 1; for p > 2 the formula alone does not know it.
    bound = xp.exp(xp.clip(log_tau + factor, max=0.0))
    return math.exp(min(log_gamma, _LARGEST_EXPONENT)), _masked(bound, rows.alive)


@one_blas_thread()
def lewis_weights(
    points: Array,
    weights: Array | None = None,
    *,
    p: float = 1.0,
    tolerance: float = 1e-10,
    max_iter: int = 1000,
) -> Sensitivities:
    """Sensitivity bounds from l_p Lewis weights, with their certificate.

    The values bound ``sup_x w_i |p_i.x|^p / sum_j w_j |p_j.x|^p`` for every row. They hold for
    any tolerance, through the certificate; a loose one costs a slightly larger total.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows, n, d >= 1, of any array-API library; any rank. Work is done in float64
        on the device of the points.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero; ones by default.
    p : float
        Power of the cost, in (0, 4), where the iteration is proved to converge.
    tolerance : float
        Largest change of the logarithm of a weight at which the iteration stops, in (0, 1].
        About 1e-2 is enough for sampling and takes a fifth of the iterations of the default.
    max_iter : int
        Largest number of iterations, at least 1.

    Returns
    -------
    Sensitivities
        Values in [0, 1], up to rounding of the order of machine epsilon times n^|1 - 2/p|; 0
        for zero rows and zero weights. The total is the rank times 1 + O(tolerance) for p <= 2,
        and at most about rank^(p/2) for p > 2. The one certificate holds gamma, and in its details
        ``sum_of_weights`` (of the Lewis weights themselves, the rank), ``rank`` (numerical, as in
        :func:`leverage_scores`), ``iterations`` and ``residual``.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a weight is negative, all weights are zero, or
        p, the tolerance or the number of iterations is out of range.
    TypeError
        If an argument is not a number, or the entries are not real.
    SolverError
        If ``max_iter`` iterations did not reach the tolerance. The certificate carried is that of
        the weights reached, whose bound is valid but larger; ask for a looser tolerance to get it.

    Notes
    -----
    Departure from the plain fixed point [1]_: steps in log scale are stretched by 4/(2 + p), the
    best fixed step for the spectrum of the derivative, which lies between 0 and 1 - p/2. This takes
    the local rate from |2 - p|/2 to |2 - p|/(2 + p). Should the residual ever fall by less than the
    proved |2 - p|/2, plain steps are taken from there on, so convergence stays proved. The last
    step returns leverage scores of the reweighted rows, whose sum is the rank at any tolerance.

    References
    ----------
    .. [1] M. B. Cohen, R. Peng. L_p row sampling by Lewis weights. STOC 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.sensitivity import lewis_weights
    >>> bound = lewis_weights(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]))
    >>> bound.values.round(9)
    array([1.  , 0.25, 0.75])
    """
    points = check_points(points)
    if points.ndim != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
    xp = array_namespace(points)
    if weights is not None:
        weights = beside(check_weights(weights, int(points.shape[0])), points, "weights")
    p = check_real(p, "p")
    if not 0.0 < p < 4.0:
        raise ValueError(f"p = {p:g} is outside (0, 4), where the iteration is proved to converge")
    tolerance = check_real(tolerance, "tolerance")
    if not 0.0 < tolerance <= 1.0:
        raise ValueError(f"tolerance = {tolerance:g} is outside (0, 1]; it is a relative change")
    max_iter = check_integer(max_iter, "max_iter", at_least=1)

    rows = _directions(points, weights, p)
    if rows.rank == 0:  # no query has a cost
        none = Certificate("Lewis weights", "all rows are zero, and so are their sensitivities", 1.0, 1.0)
        return Sensitivities(xp.zeros(points.shape[0], dtype=points.dtype, device=device(points)), (none,))

    contraction, step, previous = abs(1.0 - p / 2.0), 4.0 / (2.0 + p), math.inf
    # Up to the ratio of two norms on R^r, the first image of constant weights.
    log_tau = p * rows.log_length
    residual, iterations = math.inf, 0
    while iterations < max_iter:
        iterations += 1
        log_forms, log_leverage = rows.quadratic_forms(log_tau, p)
        change = _masked(0.5 * p * log_forms - log_tau, rows.alive)
        residual = float(xp.max(xp.abs(change)))
        if not math.isfinite(residual):
            raise SolverError(f"Lewis weights for p = {p:g} left the range of float64; take p nearer to 2")
        if residual <= tolerance:
            break
        if residual > contraction * previous:
            step = 1.0
        previous = residual
        log_tau = log_tau + step * change

    gamma, values = _certified(rows, log_leverage, p)
    certificate = Certificate(
        "Lewis weights",
        "gamma, the largest ratio of (a^T M^-1 a)^(p/2) to the weight of its row, proves the values "
        "to be upper bounds of the sensitivities",
        gamma,
        # Leverage scores differ by 2/p residuals from the weights they came from, and the map by
        # |1 - p/2| of that; the plain tolerance on top covers rounding.
        bound=math.exp((2.0 * abs(1.0 - 2.0 / p) + 1.0) * tolerance),
        details={
            "p": p,
            "rank": rows.rank,
            "sum_of_weights": float(xp.sum(_masked(xp.exp(log_leverage), rows.alive))),
            "iterations": iterations,
            "residual": residual,
        },
    )
    if residual > tolerance:
        raise SolverError(
            f"Lewis weights changed by {residual:.3g} in iteration {max_iter}, more than the tolerance "
            f"{tolerance:g}; raise max_iter, or the tolerance (bounds are certified at any tolerance)",
            certificate,
        )
    if points.dtype != xp.float64:
        # Rounding to fewer digits must not go below the bound.
        values = xp.clip(values * (1.0 + float(xp.finfo(points.dtype).eps)), max=1.0)
    return Sensitivities(xp.astype(values, points.dtype, copy=False), (certificate,))
