"""How much of the costs at a query the features explain: the parameters of D6, by one regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._validate import check_non_negative
from coresets.calibration.moments import Moments
from coresets.errors import AssumptionError
from coresets.guarantees.calibration import CalibratedClass
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["calibrated_class"]

Array = Any
Floats = npt.NDArray[np.float64]

_ROWS = 4096
_EPS = float(np.finfo(np.float64).eps)


def calibrated_class(data: WeightedSet, moments: Moments, costs: Sequence[Array]) -> CalibratedClass:
    """Parameters of D6 for some queries: the features' leverage and the unexplained part of the costs.

    Parameters
    ----------
    data : WeightedSet
        The data.
    moments : Moments
        Features and their measure, the sensitivities.
    costs : sequence of arrays of shape (n,)
        Non-negative costs f(p, x) of all points at every query; queries that cost nothing are left out.

    Returns
    -------
    CalibratedClass
        Residuals that are rounding count as 0, so that a query in the span of the features is kept exactly.

    Raises
    ------
    AssumptionError
        If a point costs more than its sensitivity allows, which no sampler bounds.

    Examples
    --------
    Gaussian points, sums of |p.x|: first moments explain nothing but the mean, second ones nearly all. The
    trace of the second moments is a constant in these coordinates, so that nine features count and not ten.

    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> from coresets.calibration import calibrated_class
    >>> from coresets.homogeneous import AbsoluteSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((20000, 3)))
    >>> loss = AbsoluteSum()
    >>> moments = loss.moments(data, loss.sensitivities(data))
    >>> costs = [loss.costs(data, [1.0, 0.0, 0.0])]
    >>> first = calibrated_class(data, moments, costs)
    >>> second = calibrated_class(data, moments.to_degree(2), costs)
    >>> first.moments, second.moments, second.residual < 0.5 * first.residual
    (4, 9, True)
    """
    measure, n = moments.measure, data.n
    if measure.shape != (n,):
        raise ValueError(f"the moments are about {measure.shape[0]} points, the data have {n}")
    masses = np.asarray(to_host(data.weights), dtype=np.float64)
    shares = [_shares(masses, cost, measure, place) for place, cost in enumerate(costs)]
    targets = np.stack([share for share in shares if share is not None] or [np.zeros(n)], axis=1)

    gram, cross = np.zeros((moments.count, moments.count)), np.zeros((moments.count, targets.shape[1]))
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        q = moments.features(part)
        gram += (q * measure[part, None]).T @ q
        cross += (q * measure[part, None]).T @ targets[part]
    sizes = np.sqrt(np.diag(gram))
    sizes[sizes == 0.0] = 1.0
    values, vectors = np.linalg.eigh(gram / sizes / sizes[:, None])
    kept = values > len(values) * 64.0 * _EPS * values[-1]
    # Columns of ``whiten`` are features with sum s q q^T = 1.
    whiten = vectors[:, kept] / np.sqrt(values[kept]) / sizes[:, None]
    theta = whiten.T @ cross

    squares, leverage = np.zeros(targets.shape[1]), 0.0
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        q = moments.features(part) @ whiten
        seen = measure[part] > 0.0
        leverage = max(leverage, float(np.max(np.sum(q[seen] ** 2, axis=1), initial=0.0)))
        squares += measure[part] @ (targets[part] - q @ theta) ** 2
    full = measure @ targets**2
    rho = np.where(squares > (1e3 * _EPS) ** 2 * n * np.maximum(full, 1e-300), np.sqrt(squares), 0.0)
    return CalibratedClass(
        max(1.0, float(np.sum(measure))),
        int(np.count_nonzero(kept)),
        leverage,
        float(np.max(rho)),
        queries=targets.shape[1],
    )


def _shares(masses: Floats, cost: Array, measure: Floats, place: int) -> Floats | None:
    """Shares w f/(s F) of all points, None for a query that costs nothing."""
    found = np.asarray(to_host(check_non_negative(cost, name=f"costs[{place}]")), dtype=np.float64)
    if found.shape != masses.shape:
        raise ValueError(f"costs[{place}] has shape {found.shape}; expected {masses.shape}")
    weighted = masses * found
    total = float(np.sum(weighted))
    if total <= 0.0:
        return None
    weighted /= total
    over = weighted > measure * (1.0 + 1e-6) + len(masses) * _EPS
    if np.any(over):
        p = int(np.argmax(over))
        raise AssumptionError(
            f"point {p} has a share of {weighted[p]:.3g} in the cost of query {place}, above its sensitivity "
            f"{measure[p]:.3g}; pass moments measured by valid sensitivities"
        )
    shares = np.zeros_like(weighted)
    np.divide(weighted, measure, out=shares, where=measure > 0.0)
    return shares
