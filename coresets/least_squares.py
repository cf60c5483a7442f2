"""Weighted least squares: coresets whose achieved error is computed exactly.

The cost of a coefficient vector x is sum w (p.x - y)^2 = ||A x'||^2 with A the rows
sqrt(w) (p, y) and x' = (x, -1), so keeping it for all x is keeping a subspace embedding of A.
Leverage scores are the exact sensitivities (guarantee LEV), the matrix Chernoff bound gives the
size (MC), and generalised eigenvalues give the error that a coreset really has. Cost O(n d^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from coresets._validate import beside
from coresets.calibration.moments import Moments, Polynomials, directions
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, Scheme
from coresets.guarantees import MatrixChernoff, SubspaceClass
from coresets.residuals import residual_rows, residuals
from coresets.sensitivity import Sensitivities, leverage_scores, orthonormaliser
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["LeastSquares", "embedding_extremes"]

Array = Any


_COORDINATES = 1e-10  # up to which computed coordinates make the Gram matrix the identity


class Extremes(NamedTuple):
    """Extreme ratios of two sums of squares, and the rank of the space over which they were taken."""

    least: float
    largest: float
    rank: int


def embedding_extremes(rows: Array, weights: Array, kept: Array, kept_weights: Array) -> Extremes:
    """Least and largest ratio of the coreset's sum of squares to the full one, over all vectors.

    Directions that rounding cannot tell from nothing are left out: the rank is the numerical one.
    The full data are read where they are; only the kept rows are moved to the host.

    Parameters
    ----------
    rows : array of shape (n, d)
        Full data.
    weights : array of shape (n,)
        Full weights.
    kept : integer array of shape (k,)
        Indices of the kept rows.
    kept_weights : array of shape (k,)
        Weights of the kept rows.

    Returns
    -------
    Extremes
        Extreme generalised eigenvalues of the pair of Gram matrices on the row space, and its rank.
    """
    # sqrt(w) rows @ whitener has orthonormal columns
    whitener = np.asarray(to_host(orthonormaliser(rows, weights)), dtype=np.float64)
    rank = whitener.shape[1]
    if rank == 0:  # both sums are zero for every vector, hence equal
        return Extremes(1.0, 1.0, 0)
    kept_rows = to_host(array_namespace(rows).take(rows, beside(kept, rows, "kept"), axis=0))
    root = np.sqrt(to_host(kept_weights).astype(np.float64))
    whitened = (kept_rows.astype(np.float64) @ whitener) * root[:, None]
    values = np.linalg.svd(whitened, compute_uv=False) if len(kept_rows) else np.zeros(0)
    least = float(values[-1]) ** 2 if values.size == rank else 0.0
    return Extremes(least, float(values[0]) ** 2 if values.size else 0.0, rank)


@dataclass(frozen=True)
class LeastSquares:
    """Sums of squared residuals, for all coefficients at once.

    Without labels the cost is sum w (p.x)^2; with labels, sum w (p.x + b - y)^2 for every scale
    of y as well, of which regression is a part.

    Parameters
    ----------
    intercept : bool
        Whether the model has a constant term b.
    """

    intercept: bool = False

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Squared residuals at coefficients of shape (d,) or, with an intercept, (d + 1,)."""
        return array_namespace(data.points).square(residuals(data, query, intercept=self.intercept))

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Leverage scores of the residual rows: the exact sensitivities."""
        return Sensitivities(leverage_scores(residual_rows(data, intercept=self.intercept), data.weights))

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """The matrix Chernoff bound, for any of the three random schemes that it covers."""
        guarantee = MatrixChernoff()
        if scheme not in guarantee.schemes:
            raise AssumptionError(
                f"no theorem promises a least-squares coreset by {scheme.value}; "
                "use IID, Poisson or FixedSize"
            )
        columns = data.d + self.intercept + (data.labels is not None)
        # Leverage scores add up to the rank, and defensive mixing adds exactly 1 to the total;
        # rounding the total down by less than one half recovers an upper bound on the rank.
        rank = min(columns, max(1, int(np.floor(sensitivities.total + 0.5))))
        return Claim(guarantee, SubspaceClass(sensitivities.total, rank))

    def moments(self, data: WeightedSet, sensitivities: Sensitivities) -> Polynomials:
        """Entries of the Gram matrix of the residual rows, and the total of the sensitivities.

        A coreset that keeps them answers every query exactly, up to rounding.
        """
        xp = array_namespace(data.points)
        # The root of the measure, so that s u u^T is w p p^T.
        root = xp.sqrt(sensitivities.values)
        rows = directions(residual_rows(data, intercept=self.intercept), xp.sqrt(data.weights), root)
        return Polynomials(rows, sensitivities.values, degrees=(2,))

    def calibrated_epsilon(self, moments: Moments, residual: float) -> float | None:
        """Largest relative error at any coefficients when the Gram matrix is kept up to a residual.

        In coordinates in which the Gram matrix is the identity, the norm of its error is at most that of its
        entries, those off the diagonal taken twice.
        """
        if not isinstance(moments, Polynomials) or 2 not in moments.degrees:
            return None
        return float(np.sqrt(2.0) * residual) + _COORDINATES

    def certify(self, data: WeightedSet, coreset: Coreset) -> tuple[Certificate, ...]:
        """The exact relative error of this coreset, over all coefficients.

        Raises
        ------
        TypeError
            If the coreset has free points, which have no labels here.
        """
        if coreset.indices is None:
            raise TypeError("the coreset has free points; only kept rows of the data can be certified")
        everything = coreset.support_size == data.n
        if everything and np.array_equal(to_host(coreset.weights), to_host(data.weights)):
            low, high, details = 1.0, 1.0, {}  # the two sums are one and the same
        else:
            rows = residual_rows(data, intercept=self.intercept)
            low, high, rank = embedding_extremes(rows, data.weights, coreset.indices, coreset.weights)
            details = {"rank": float(rank)}
        return (
            Certificate(
                name="subspace embedding",
                statement="largest relative error of the sum of squared residuals over all coefficients, "
                "up to the numerical rank of the data",
                value=max(high - 1.0, 1.0 - low),
                bound=coreset.accuracy.epsilon,
                details=details | {"smallest_ratio": low, "largest_ratio": high},
            ),
        )
