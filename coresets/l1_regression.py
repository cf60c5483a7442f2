"""Weighted least absolute deviations: coresets by l1 Lewis weights.

The cost of x is sum w |p.x - y| = sum |a.x'| with a = w (p, y) and x' = (x, -1). Lewis weights
bound the sensitivities with a total of exactly the rank (guarantee LEWIS). In the norm that they
define every a has length at most its Lewis weight and every query length at most its cost, so the
dimension-free guarantees E4 and E4-P apply with h = 1. Cost O(n d^2) per fixed-point step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from coresets.calibration.moments import Polynomials, directions
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, SamplingGuarantee, Scheme
from coresets.guarantees import LipschitzClass, LipschitzIID, LipschitzPoisson
from coresets.residuals import residual_rows, residuals
from coresets.sensitivity import Sensitivities, lewis_weights
from coresets.weighted_set import WeightedSet

__all__ = ["L1Regression"]

Array = Any

_BY_SCHEME: dict[Scheme, SamplingGuarantee[LipschitzClass]] = {
    Scheme.WITH_REPLACEMENT: LipschitzIID(),
    Scheme.POISSON: LipschitzPoisson(),
}


@dataclass(frozen=True)
class L1Regression:
    """Sums of absolute residuals, for all coefficients at once.

    Parameters
    ----------
    intercept : bool
        Whether the model has a constant term.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import L1Regression, SensitivityReducer, WeightedSet
    >>> rng = np.random.default_rng(0)
    >>> data = WeightedSet(rng.standard_normal((50000, 2)), labels=rng.standard_normal(50000))
    >>> reducer = SensitivityReducer(L1Regression(), calibration=None)
    >>> round(reducer.reduce(data, size=5000, rng=0).accuracy.epsilon, 2)
    0.16
    """

    intercept: bool = False

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Absolute residuals at coefficients of shape (d,) or, with an intercept, (d + 1,)."""
        return array_namespace(data.points).abs(residuals(data, query, intercept=self.intercept))

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Certified l1 Lewis weights of the residual rows."""
        return lewis_weights(residual_rows(data, intercept=self.intercept), data.weights, p=1.0)

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """E4 for draws with replacement, E4-P for Poisson sampling."""
        if scheme not in _BY_SCHEME:
            raise AssumptionError(
                f"no theorem promises an l1-regression coreset by {scheme.value}; use Poisson or IID"
            )
        # Mixing only adds to the bounds, so the dual norms stay below them and h stays 1.
        return Claim(_BY_SCHEME[scheme], LipschitzClass(sensitivities.total, norm_ratio=1.0, range_ratio=1.0))

    def moments(self, data: WeightedSet, sensitivities: Sensitivities) -> Polynomials:
        """First moments of the residual rows, and the total of the sensitivities."""
        values = sensitivities.values
        rows = residual_rows(data, intercept=self.intercept)
        return Polynomials(directions(rows, data.weights, values), values)
