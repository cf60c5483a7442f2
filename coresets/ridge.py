"""Ridge regression: coresets whose size follows the effective dimension, with the achieved error.

The cost of coefficients x is sum w (p.x + b - y)^2 + penalty |x|^2; the coreset keeps the penalty exactly.
Ridge leverage scores are the exact sensitivities (guarantee RL) and add up to the effective dimension, which
is at most the rank and much less where the penalty outweighs the data in most directions. A matrix Chernoff
bound gives the size (MC-R), and generalised eigenvalues the error that a coreset really has. Cost O(n d^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from coresets._random import Rng
from coresets._validate import beside, check_real
from coresets.accuracy import Accuracy
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, Scheme
from coresets.guarantees import RidgeClass, RidgeMatrixChernoff
from coresets.least_squares import Extremes
from coresets.reduction import SensitivityReducer
from coresets.residuals import residual_rows, residuals
from coresets.samplers import Poisson, Sampler
from coresets.sensitivity import Sensitivities, leverage_scores, orthonormaliser
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["RidgeCoreset", "RidgeRegression"]

Array = Any


def _check_penalty(value: object, name: str) -> float:
    penalty = check_real(value, name)
    if penalty <= 0.0:
        raise ValueError(f"{name} = {penalty:g} is not positive; use LeastSquares() without a penalty")
    return penalty


@dataclass(frozen=True)
class RidgeRegression:
    """Sums of squared residuals beside a penalty on the coefficients, for all of these at once.

    The penalty is no part of the sum over points: :meth:`costs` leaves it out, and a model is fitted to the
    coreset with the same penalty as to the data. Errors are relative to the cost with the penalty.

    Parameters
    ----------
    penalty : float
        Price of |x|^2 against residuals of unit mass, positive; scikit-learn's ``Ridge(alpha=penalty)``.
        The intercept is not penalised.
    intercept : bool
        Whether the model has a constant term b.

    Raises
    ------
    ValueError
        If the penalty is not positive.
    TypeError
        If ``intercept`` is not a bool.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, RidgeRegression, SensitivityReducer, WeightedSet
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((20000, 30)) / np.arange(1, 31) ** 2  # singular values fall fast
    >>> data = WeightedSet(X, labels=X[:, 0] + rng.standard_normal(20000))
    >>> loss = RidgeRegression(penalty=100.0)
    >>> round(loss.sensitivities(data).total, 1)  # of 31 columns, the label included
    4.7
    >>> coreset = SensitivityReducer(loss).reduce(data, accuracy=Accuracy(0.2, 0.05), rng=1)
    >>> (evidence,) = coreset.certificates
    >>> evidence.value < evidence.bound  # achieved against claimed
    True
    """

    penalty: float
    intercept: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalty", _check_penalty(self.penalty, "penalty"))
        if not isinstance(self.intercept, bool):
            raise TypeError(f"intercept = {self.intercept!r}; pass True or False")

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Squared residuals at coefficients of shape (d,) or, with an intercept, (d + 1,); no penalty."""
        return array_namespace(data.points).square(residuals(data, query, intercept=self.intercept))

    def value(self, data: WeightedSet, query: Any) -> float:
        """Cost of the coefficients on weighted data, the penalty included."""
        xp = array_namespace(data.points)
        costs = xp.astype(self.costs(data, query), xp.float64)
        total = float(xp.sum(xp.astype(data.weights, xp.float64) * costs))
        return total + self.penalty * float(np.square(np.asarray(query, dtype=np.float64)[: data.d]).sum())

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Ridge leverage scores of the residual rows: the exact sensitivities."""
        rows, weights = self._with_penalty(data)
        return Sensitivities(leverage_scores(rows, weights)[: data.n])

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """The matrix Chernoff bound with the effective dimension, for any of the schemes that it covers."""
        guarantee = RidgeMatrixChernoff()
        if scheme not in guarantee.schemes:
            raise AssumptionError(
                f"no theorem promises a ridge-regression coreset by {scheme.value}; "
                "use IID, Poisson or FixedSize"
            )
        columns = data.d + self.intercept + (data.labels is not None)
        # Ridge leverage scores add up to the effective dimension; mixing only adds to the total.
        total = sensitivities.total
        return Claim(guarantee, RidgeClass(total, min(total, float(columns))))

    def certify(self, data: WeightedSet, coreset: Coreset) -> tuple[Certificate, ...]:
        """The exact relative error of this coreset, over all coefficients.

        Raises
        ------
        TypeError
            If the coreset has free points, which have no labels here.
        """
        if coreset.indices is None:
            raise TypeError("the coreset has free points; only kept rows of the data can be certified")
        low, high, rank = self._extremes(data, coreset)
        return (
            Certificate(
                name="penalised embedding",
                statement="largest relative error of the sum of squared residuals and penalty over all "
                "coefficients, up to the numerical rank",
                value=max(high - 1.0, 1.0 - low),
                bound=coreset.accuracy.epsilon,
                details={"rank": float(rank), "smallest_ratio": low, "largest_ratio": high},
            ),
        )

    def _with_penalty(self, data: WeightedSet) -> tuple[Array, Array]:
        """Residual rows and masses, then one row of mass ``penalty`` for each penalised coefficient."""
        rows = residual_rows(data, intercept=self.intercept)
        xp = array_namespace(rows)
        extra = xp.eye(data.d, int(rows.shape[1]), dtype=rows.dtype, device=device(rows))
        masses = xp.full((data.d,), self.penalty, dtype=xp.float64, device=device(rows))
        weights = xp.astype(beside(data.weights, rows, "weights"), xp.float64)
        return xp.concat([rows, extra], axis=0), xp.concat([weights, masses])

    def _extremes(self, data: WeightedSet, coreset: Coreset) -> Extremes:
        """Extreme ratios of the penalised sums, over the space of all rows."""
        rows, weights = self._with_penalty(data)
        everything = coreset.support_size == data.n
        if everything and np.array_equal(to_host(coreset.weights), to_host(data.weights)):
            return Extremes(1.0, 1.0, int(rows.shape[1]))  # the two sums are one and the same
        whitener = np.asarray(to_host(orthonormaliser(rows, weights)), dtype=np.float64)
        if whitener.shape[1] == 0:  # both sums are zero for every vector, hence equal
            return Extremes(1.0, 1.0, 0)
        xp = array_namespace(rows)
        kept = to_host(xp.take(rows, beside(coreset.indices, rows, "kept"), axis=0)).astype(np.float64)
        root = np.sqrt(to_host(coreset.weights).astype(np.float64))
        penalised = np.sqrt(self.penalty) * whitener[: data.d]
        values = np.linalg.svd(np.vstack([(kept @ whitener) * root[:, None], penalised]), compute_uv=False)
        rank = whitener.shape[1]
        least = float(values[-1]) ** 2 if values.size == rank else 0.0
        return Extremes(least, float(values[0]) ** 2, rank)


@dataclass(frozen=True)
class RidgeCoreset:
    """Ridge regression whose penalty is a price for each unit of mass, as a stream needs it.

    Data of total mass U cost sum w (p.x + b - y)^2 + U alpha |x|^2, which adds up over disjoint parts: each
    part carries its share of the penalty.

    Parameters
    ----------
    alpha : float
        Price of |x|^2 against the mean squared residual, positive.
    intercept : bool
        Whether the model has a constant term, which is not penalised.
    sampler : Sampler
        How to draw; Poisson sampling by default.
    delta : float
        Failure probability at which the accuracy of a coreset of given size is stated.

    Raises
    ------
    ValueError
        If ``alpha`` or ``delta`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import RidgeCoreset, WeightedSet
    >>> from coresets.streams import MergeReduce, NodeSize
    >>> X = np.random.default_rng(0).standard_normal((4000, 3))
    >>> reducer = RidgeCoreset(alpha=0.5)
    >>> stream = MergeReduce(reducer, NodeSize(400), block=1000, rng=1)
    >>> for block in np.split(X, 4):
    ...     stream.push(WeightedSet(block, labels=block.sum(axis=1)))
    >>> 300 < stream.result().data.n < 1000
    True
    """

    alpha: float
    intercept: bool = False
    sampler: Sampler = Poisson()
    delta: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _check_penalty(self.alpha, "alpha"))
        self.for_part(1.0)  # refuses what the reducer refuses

    def for_part(self, mass: float) -> SensitivityReducer:
        """The reducer for a part of the data whose own weights added up to ``mass``, which is positive."""
        mass = check_real(mass, "mass")
        if mass <= 0.0:
            raise ValueError(f"mass = {mass:g} is not positive")
        loss = RidgeRegression(self.alpha * mass, self.intercept)
        return SensitivityReducer(loss, self.sampler, delta=self.delta)

    def reduce(
        self,
        data: WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
    ) -> Coreset:
        """Draw a coreset of data that are a whole; see :meth:`SensitivityReducer.reduce`."""
        if not isinstance(data, WeightedSet):
            raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
        return self.for_part(data.total_weight).reduce(data, size=size, accuracy=accuracy, rng=rng)
