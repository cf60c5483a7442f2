"""Any non-negative loss over finitely many queries that are known beforehand.

The sensitivities are then plain maxima, s(p) = max over x of w(p) f(p, x) / F(x), their total is
at most the number of queries, and the guarantees E1 to E1-H apply without any assumption on the
loss. Cost O(n |X|).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from coresets._validate import beside, check_non_negative
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, SamplingGuarantee, Scheme
from coresets.guarantees import (
    FiniteClass,
    FiniteFixedSize,
    FiniteHybrid,
    FiniteIID,
    FinitePoisson,
    SensitivityProfile,
    TopRemainder,
)
from coresets.sensitivity import Sensitivities
from coresets.weighted_set import WeightedSet

__all__ = ["FiniteQueries", "claim_for_finite"]

Array = Any

_BY_TOTAL: dict[Scheme, SamplingGuarantee[FiniteClass]] = {
    Scheme.WITH_REPLACEMENT: FiniteIID(),
    Scheme.POISSON: FinitePoisson(),
    Scheme.FIXED_SIZE: FiniteFixedSize(),
}
_BY_PROFILE: dict[Scheme, SamplingGuarantee[SensitivityProfile]] = {
    Scheme.HYBRID: FiniteHybrid(),
    Scheme.TOP: TopRemainder(),
}


def claim_for_finite(sensitivities: Sensitivities, queries: int, scheme: Scheme) -> Claim:
    """Theorem for finitely many queries that covers the scheme.

    Parameters
    ----------
    sensitivities : Sensitivities
        Upper bounds, valid for all the queries.
    queries : int
        How many queries are to be answered at once.
    scheme : Scheme
        How the coreset is drawn; every scheme is covered.
    """
    if scheme in _BY_PROFILE:
        return Claim(_BY_PROFILE[scheme], SensitivityProfile(sensitivities.values, queries))
    if scheme in _BY_TOTAL:
        return Claim(_BY_TOTAL[scheme], FiniteClass(sensitivities.total, queries))
    raise AssumptionError(f"no theorem for finitely many queries covers {scheme}")


@dataclass(frozen=True, eq=False)  # queries may be arrays, whose comparison is no truth value
class FiniteQueries:
    """A loss and the queries to be answered.

    Parameters
    ----------
    loss : callable
        ``loss(data, query)`` returns the non-negative losses of all points, shape (n,); those of
        another array library are moved beside the points.
    queries : sequence
        The queries, at least one; any objects that ``loss`` understands.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, FiniteQueries, SensitivityReducer, WeightedSet
    >>> data = WeightedSet(np.random.default_rng(0).exponential(size=(5000, 1)))
    >>> above = FiniteQueries(lambda data, c: np.maximum(data.points[:, 0] - c, 0.0), [0.0, 0.5, 1.0])
    >>> coreset = SensitivityReducer(above).reduce(data, accuracy=Accuracy(0.2, 0.01), rng=0)
    >>> kept = coreset.of(data)
    >>> full = float(np.sum(above.costs(data, 0.5)))
    >>> abs(float(np.sum(kept.weights * above.costs(kept, 0.5))) / full - 1.0) < 0.2
    True
    """

    loss: Callable[[WeightedSet, Any], Array]
    queries: Sequence[Any]

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise TypeError(f"loss = {self.loss!r} is not callable; pass a function of (data, query)")
        object.__setattr__(self, "queries", tuple(self.queries))
        if not self.queries:
            raise ValueError("queries is empty; pass at least one query")

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Losses of all points at one query, checked to be non-negative."""
        costs = check_non_negative(self.loss(data, query), name="loss")
        if tuple(costs.shape) != (data.n,):
            raise ValueError(f"loss has shape {tuple(costs.shape)}; expected ({data.n},), one value a point")
        return beside(costs, data.points, "loss")

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Exact sensitivities, the largest share over the queries; free queries are skipped."""
        xp = array_namespace(data.points)
        worst = xp.zeros_like(data.weights)
        # Scaled to a maximum of 1 first: the shares do not change and their sum cannot overflow.
        masses = data.weights / xp.max(data.weights)
        for query in self.queries:
            costs = self.costs(data, query)
            largest = xp.max(costs)
            if float(largest) > 0.0:
                weighted = masses * (costs / largest)
                total = xp.sum(weighted)
                if float(total) > 0.0:
                    worst = xp.maximum(worst, weighted / total)
        return Sensitivities(worst)

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """One of E1, E1-P, E1-F, E1-H and TOP, by the scheme."""
        return claim_for_finite(sensitivities, len(self.queries), scheme)
