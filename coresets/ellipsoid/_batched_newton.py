r"""Primal-dual interior-point steps on many small design problems at once.

Over u > 0, the minimum of -ln det M(u) + k sum_i u_i, M(u) = sum_i u_i q_i q_i^T, has total 1 and solves
max ln det M over the simplex. With multipliers s > 0 the conditions of the optimum are

    k - omega_i(u) - s_i = 0,    u_i s_i = mu -> 0,    omega_i = q_i^T M^-1 q_i.

The derivative of omega is -K o K, the entrywise square of K = Q M^-1 Q^T, so a Newton step solves
(K o K + diag(s / u)) du = omega - k + mu / u. About fifteen steps reach a gap of 1e-9.

Nothing here is trusted: whoever calls checks the weights on all points.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

__all__ = ["design_forms", "interior_point"]

Array = Any

_STEPS = 40
_TO_BOUNDARY = 0.95  # share of the way to the boundary that a step may go
# Share of the gap to solve to: weights of rows off the support, which go, are that small.
_FURTHER = 1e-3
_CENTRING = 0.1  # share of the mean complementarity that a step aims at
# Duplicated points make K o K singular on the support; relative to its unit diagonal.
_RIDGE = 1e-13


def design_forms(rows: Array, weights: Array, surplus: Array) -> Array:
    """Forms omega (B, m) of rows (B, m, k) for designs (B, m); surplus (B, k) is 1 on unused coordinates."""
    image = rows @ _inverse(rows, weights, surplus)
    xp = array_namespace(rows)
    return xp.sum(image * rows, axis=-1)


def _inverse(rows: Array, weights: Array, surplus: Array) -> Array:
    """M^-1, with M completed by the identity on unused coordinates."""
    xp = array_namespace(rows)
    moment = xp.matrix_transpose(rows) @ (rows * weights[..., :, None])
    k = int(rows.shape[-1])
    moment = moment + surplus[..., None] * xp.eye(k, dtype=rows.dtype, device=device(rows))
    # Scaled to unit diagonal, and never exactly singular: a failure must stay with its member.
    root = xp.sqrt(xp.linalg.diagonal(moment))
    root = xp.where(root > 0.0, root, xp.ones_like(root))
    scaled = moment / (root[..., :, None] * root[..., None, :])
    ridge = 1e-15 * xp.eye(k, dtype=rows.dtype, device=device(rows))
    return xp.linalg.inv(scaled + ridge) / (root[..., :, None] * root[..., None, :])


def _room(values: Array, change: Array) -> Array:
    """Largest step lengths (B,) up to 1 that keep values + length * change positive."""
    xp = array_namespace(values)
    falling = change < 0.0
    ratio = xp.where(
        falling, -values / xp.where(falling, change, -xp.ones_like(change)), xp.full_like(values, 2.0)
    )
    return xp.clip(_TO_BOUNDARY * xp.min(ratio, axis=-1), max=1.0)


def interior_point(
    rows: Array, start: Array, dimension: Array, surplus: Array, gap: float
) -> tuple[Array, int]:
    """Designs (B, m) on the given rows, and the number of steps.

    Parameters
    ----------
    rows : array of shape (B, m, k)
        Full column rank but for coordinates that are unused.
    start : array of shape (B, m)
        Designs to start from; mixed with the uniform one.
    dimension : array of shape (B,)
        Number of used coordinates, k of each member.
    surplus : array of shape (B, k)
        1 on unused coordinates, 0 on others.
    gap : float
        Goal for the designs on all rows, which are solved somewhat further than that.

    Returns
    -------
    sparse, dense : arrays of shape (B, m)
        In the first, rows whose multiplier outweighs their weight have weight 0. Where weight and multiplier
        vanish together, as on points that touch the ellipsoid without need, that may be too many.
    """
    xp = array_namespace(rows)
    m = int(rows.shape[-2])
    target = dimension[:, None]
    u = 0.5 * start / xp.sum(start, axis=-1, keepdims=True) + 0.5 / m
    s = target - design_forms(rows, u, surplus)
    s = xp.where(s > 0.1 * target, s, 0.1 * target)
    for _ in range(_STEPS):
        inverse = _inverse(rows, u, surplus)
        image = rows @ inverse
        gram = image @ xp.matrix_transpose(rows)
        omega = xp.linalg.diagonal(gram)
        # k s^T u / k bounds the gap on these rows once the residual is gone.
        residual = xp.max(xp.abs(target - omega - s), axis=-1)
        complementarity = xp.sum(u * s, axis=-1)
        if bool(xp.all((residual + complementarity <= _FURTHER * gap * dimension) | ~xp.isfinite(residual))):
            break
        mu = _CENTRING * complementarity[:, None] / m
        system = gram * gram
        barrier = s / u
        scale = 1.0 / xp.sqrt(xp.linalg.diagonal(system) + barrier)
        system = system * scale[:, :, None] * scale[:, None, :]
        extra = barrier * scale * scale + _RIDGE
        system = system + extra[:, :, None] * xp.eye(m, dtype=rows.dtype, device=device(rows))
        right = (omega - target + mu / u) * scale
        change = xp.linalg.solve(system, right[:, :, None])[:, :, 0] * scale
        slack_change = (mu - s * change) / u - s
        length = xp.minimum(_room(u, change), _room(s, slack_change))[:, None]
        moved = xp.isfinite(length)
        u = xp.where(moved, u + length * change, u)
        s = xp.where(moved, s + length * slack_change, s)
    # Weights that matter less than the rounding of the gap are dust of the interior.
    dense = xp.where(u * target > 1e-3 * gap / m, u, xp.zeros_like(u))
    sparse = xp.where(u * target * target > s, u, xp.zeros_like(u))
    return tuple(found / xp.sum(found, axis=-1, keepdims=True) for found in (sparse, dense))
