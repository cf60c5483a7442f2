"""How good some centres are, on all the data: a certified ratio to the optimum, and the coreset's answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from coresets._random import Rng
from coresets.certificate import Certificate
from coresets.clustering.losses import check_centres
from coresets.clustering.lower import host_points, optimum_lower_bound
from coresets.clustering.partition import nearest_squares
from coresets.clustering.powers import SQUARED, Power
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["ClusteringCertificate", "clustering_certificate"]


@dataclass(frozen=True, slots=True)
class ClusteringCertificate:
    """What some centres cost.

    Parameters
    ----------
    cost : float
        On all the data.
    lower_bound : float
        No other centres, of the same number, cost less (KM-B).
    coreset_cost : float or None
        On the coreset, if one was given.
    """

    cost: float
    lower_bound: float
    coreset_cost: float | None = None

    @property
    def ratio(self) -> float:
        """Certified bound on cost over optimum, at least 1; infinite if nothing is known from below."""
        if self.cost == 0.0:
            return 1.0
        return max(1.0, self.cost / self.lower_bound) if self.lower_bound > 0.0 else math.inf

    @property
    def coreset_error(self) -> float | None:
        """Relative error of the coreset at these centres, exactly; None without a coreset."""
        if self.coreset_cost is None:
            return None
        if self.cost == 0.0:
            return 0.0 if self.coreset_cost == 0.0 else math.inf
        return abs(self.coreset_cost / self.cost - 1.0)

    def as_certificate(self) -> Certificate:
        """For a coreset's list of certificates; the value is the cost."""
        details = {"lower_bound": self.lower_bound}
        if math.isfinite(self.ratio):
            details["ratio"] = self.ratio
        if self.coreset_cost is not None:
            details["coreset_cost"] = self.coreset_cost
        return Certificate(
            name="cost of centres",
            statement="cost of the centres on all the data; no centres cost less than 'lower_bound'",
            value=self.cost,
            details=details,
        )


def clustering_certificate(
    data: WeightedSet,
    centres: Any,
    power: Power = SQUARED,
    *,
    rng: Rng,
    coreset: Coreset | None = None,
) -> ClusteringCertificate:
    """Certify centres, however they were found.

    Parameters
    ----------
    data : WeightedSet
        All the data, n points.
    centres : array of shape (k, d)
        The centres.
    power : Power
        What a distance costs.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Divides the points into groups for the lower bound, which holds for every division.
    coreset : Coreset, optional
        A coreset of the data, whose answer is compared.

    Returns
    -------
    ClusteringCertificate

    Raises
    ------
    ValueError
        If the centres do not fit the data.
    TypeError
        If the data or the coreset are none.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> from coresets.clustering import clustering_certificate
    >>> rng = np.random.default_rng(0)
    >>> points = rng.standard_normal((6000, 10)) + 20.0 * rng.integers(0, 2, (6000, 1))
    >>> found = clustering_certificate(WeightedSet(points), [[0.0] * 10, [20.0] * 10], rng=1)
    >>> found.ratio < 1.7
    True
    """
    if not isinstance(data, WeightedSet):
        raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
    if coreset is not None and not isinstance(coreset, Coreset):
        raise TypeError(f"coreset is a {type(coreset).__name__}; pass a Coreset or None")
    found = check_centres(data, centres)

    def cost(of: WeightedSet) -> float:
        squares = nearest_squares(host_points(of), found)
        return float(np.asarray(to_host(of.weights), dtype=np.float64) @ power.of_squares(squares))

    low = optimum_lower_bound(data, len(found), power, rng=rng)
    answer = None
    if coreset is not None:
        answer = cost(coreset.of(data)) if coreset.support_size else 0.0
    return ClusteringCertificate(cost(data), low, answer)
