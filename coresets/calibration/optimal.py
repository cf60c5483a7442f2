"""The non-negative weights on the kept points with the least mean square error over random queries (D7).

In factors c = v/v0 of the drawn weights the error is c^T H c - 2 b.c + const with H = V0 K V0 and b = V0 K w.
A ridge towards c = 1 is added, whose value at the drawn weights is zero: the optimum can only be better than
they are. After a Cholesky factor of H it is a non-negative least-squares problem. Cost O(n m r + m^3).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from coresets._validate import beside, check_real
from coresets.calibration.average import kernel_products, spread_weights
from coresets.calibration.calibrate import changed_accuracy, largest_change
from coresets.calibration.queries import QueryDistribution
from coresets.certificate import Certificate
from coresets.errors import SolverError
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["average_case_weights"]

Array = Any
Floats = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_GAP = 1e-6  # of the optimality conditions, relative to the largest gradient of either part


def average_case_weights(
    data: WeightedSet, coreset: Coreset, queries: QueryDistribution, *, ridge: float = 1e-4
) -> Coreset:
    """Give the kept points the weights that err least on average over random queries.

    Parameters
    ----------
    data : WeightedSet
        The full data.
    coreset : Coreset
        Kept rows and their drawn weights.
    queries : QueryDistribution
        The law of the queries.
    ridge : float
        Positive penalty on |v/v0 - 1|^2, in units of the mean diagonal entry of H. It keeps weights near the
        drawn ones along directions that the queries hardly see.

    Returns
    -------
    Coreset
        The points whose weight is positive. For queries of the law the mean square error is never more than
        that of the drawn weights. For *all* queries nothing better is known than (epsilon + eta (1 +
        epsilon), delta), as for calibrated weights, and eta is at least 1 as soon as a point is dropped. The
        certificate ``"average-case weights"`` holds root mean square errors before and after, both relative
        to that of the full cost, eta, and the violation of the optimality conditions.

    Raises
    ------
    SolverError
        If the weights found are not optimal to 1e-6.
    TypeError, ValueError, IndexError
        If an argument is of another kind or out of range, or nothing was kept.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import SensitivityReducer, WeightedSet
    >>> from coresets.calibration import RotationInvariant, average_case_weights
    >>> from coresets.homogeneous import Absolute, AbsoluteSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((2000, 3)))
    >>> coreset = SensitivityReducer(AbsoluteSum(), calibration=None).reduce(data, size=200, rng=0)
    >>> law = RotationInvariant.gaussian(Absolute(), np.eye(3))
    >>> evidence = average_case_weights(data, coreset, law).certificates[-1]
    >>> evidence.value < 0.3 * evidence.details["before"]
    True
    """
    drawn = spread_weights(data, coreset)
    if isinstance(queries, type) or not isinstance(queries, QueryDistribution):
        raise TypeError(f"queries = {queries!r}; pass RotationInvariant(...) or EmpiricalQueries(...)")
    ridge = check_real(ridge, "ridge")
    if ridge <= 0.0:
        raise ValueError(f"ridge = {ridge:g} is not positive; two kept points may be one and the same")
    kept = np.flatnonzero(drawn > 0.0)
    if kept.size == 0:
        raise ValueError("no point has been kept with a positive weight; draw a larger coreset")

    masses = np.asarray(to_host(data.weights), dtype=np.float64)
    rows, v0 = queries.embedded(data), drawn[kept]
    image = kernel_products(queries, rows[kept], rows, masses[:, None])[:, 0]
    gram = queries.kernel(rows[kept], rows[kept])
    gram = 0.5 * (gram + gram.T) * np.outer(v0, v0)
    wanted = v0 * image
    others = np.flatnonzero(masses > 0.0)
    cost = float(
        masses[others] @ kernel_products(queries, rows[others], rows[others], masses[others, None])[:, 0]
    )

    penalty = max(ridge, len(kept) * _EPS) * float(np.mean(np.diag(gram)))
    if penalty == 0.0:  # the law does not see the kept points at all
        factors = np.ones(len(kept))
        violation = 0.0
    else:
        factors, violation = _least(gram + penalty * np.eye(len(kept)), wanted + penalty)

    def error(values: Floats) -> float:
        square = float(values @ gram @ values - 2.0 * wanted @ values) + cost
        return math.sqrt(max(square, 0.0) / cost) if cost > 0.0 else 0.0

    evidence = Certificate(
        "average-case weights",
        "root mean square of the error over random queries, relative to that of the full cost, at the best "
        "non-negative weights",
        error(factors),
        bound=error(np.ones(len(kept))),
        details={
            "before": error(np.ones(len(kept))),
            "violation": violation,
            "dropped": int(np.count_nonzero(factors == 0.0)),
            "eta": largest_change(np.ones(len(kept)), factors),
        },
    )
    if violation > _GAP:
        raise SolverError(
            f"the weights miss the conditions of optimality by {violation:.2g}", evidence, coreset
        )
    return _rebuilt(coreset, kept, v0 * factors, evidence)


def _least(hessian: Floats, linear: Floats) -> tuple[Floats, float]:
    """Minimiser of c^T H c - 2 b.c over c >= 0, and the violation of its optimality conditions."""
    lower = np.linalg.cholesky(hessian)
    factors, _ = nnls(lower.T, solve_triangular(lower, linear, lower=True), maxiter=30 * len(linear))
    gradient = hessian @ factors - linear
    scale = float(np.max(np.abs(linear)))
    # Zero gradient where c > 0, and none that points downwards where c = 0.
    off = np.where(factors > 0.0, np.abs(gradient), np.maximum(-gradient, 0.0))
    return factors, float(np.max(off)) / scale


def _rebuilt(coreset: Coreset, kept: npt.NDArray[np.intp], weights: Floats, evidence: Certificate) -> Coreset:
    """The coreset of the points of positive weight."""
    alive = weights > 0.0
    xp = array_namespace(coreset.weights)
    change = evidence.details["eta"]
    indices = coreset.indices
    return Coreset(
        indices=beside(kept[alive], indices, "indices"),
        weights=xp.astype(beside(weights[alive], coreset.weights, "weights"), coreset.weights.dtype),
        size=coreset.size,
        accuracy=changed_accuracy(coreset.accuracy, change),
        certificates=(*coreset.certificates, evidence),
    )
