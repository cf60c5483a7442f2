"""The cost of k centres as a loss: sensitivities through clusters (KM), and the lightweight bound (KM-L).

Both are plain sums over points, so that they need nothing special in a stream; of the two, only the first
promises an error relative to the cost itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from coresets._validate import check_integer, check_open_unit, check_points
from coresets.certificate import Certificate
from coresets.clustering.lower import host_points, optimum_lower_bound
from coresets.clustering.partition import Partition, Seeding, find_centres, nearest_squares, weighted_mean
from coresets.clustering.powers import Power, SquaredDistance
from coresets.errors import AssumptionError
from coresets.finite_queries import claim_for_finite
from coresets.guarantee import Claim, Scheme
from coresets.guarantees import ClusterAllQueries, KCentresClass, LightweightAllQueries
from coresets.sensitivity import Sensitivities
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["ClusteringLoss", "LightweightLoss", "cluster_sensitivities"]

Floats: TypeAlias = npt.NDArray[np.float64]
Array = Any


def check_centres(data: WeightedSet, centres: Any, most: int | None = None) -> Floats:
    """Centres (k, d) on the host, at most ``most`` of them."""
    found = np.asarray(to_host(check_points(centres, name="centres")), dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != data.d:
        raise ValueError(f"centres has shape {found.shape}; expected (k, {data.d}), one row a centre")
    if most is not None and len(found) > most:
        raise ValueError(f"centres has {len(found)} rows; the loss is that of at most k = {most} centres")
    return found


def _beside(values: Floats, data: WeightedSet) -> Array:
    xp = array_namespace(data.points)
    return xp.asarray(values, dtype=data.points.dtype, device=device(data.points))


def _check_problem(loss: ClusteringLoss | LightweightLoss) -> None:
    object.__setattr__(loss, "k", check_integer(loss.k, "k", at_least=1))
    if isinstance(loss.power, type) or not isinstance(loss.power, Power):
        raise TypeError(
            f"power = {loss.power!r}; pass SquaredDistance() for k-means, Distance() for k-median"
        )


def _costs(data: WeightedSet, centres: Any, k: int, power: Power) -> Array:
    squares = nearest_squares(host_points(data), check_centres(data, centres, k))
    return _beside(np.asarray(power.of_squares(squares)), data)


def cluster_sensitivities(weights: Any, partition: Partition, low: float, power: Power) -> Floats:
    """Bounds of KM on the shares in the cost of k centres, at most 1 each.

    Parameters
    ----------
    weights : array of shape (n,)
        Masses.
    partition : Partition
        Any division of the points among centres; for squared distances these are the means.
    low : float
        Lower bound on the least cost of k centres, at least 0. For 0 only clusters whose points coincide
        have bounds below 1.
    power : Power
        What a distance costs.

    Returns
    -------
    array of shape (n,)
    """
    weights = np.asarray(weights, dtype=np.float64)
    safe = np.where(partition.masses > 0.0, partition.masses, np.inf)
    spreads, squares = (partition.costs / safe)[partition.labels], partition.squares
    masses = safe[partition.labels]
    if low > 0.0:
        with np.errstate(over="ignore"):
            bounds = weights * power.shares(squares, spreads, masses, low)
    else:
        bounds = np.where(squares + spreads > 0.0, 1.0, weights / masses)
    return np.asarray(np.where(weights > 0.0, np.minimum(bounds, 1.0), 0.0))


@dataclass(frozen=True)
class ClusteringLoss:
    """Cost of k centres: k-means by default, k-median with ``Distance()``.

    A query is an array (k', d) of at most k centres, and the cost of a point that to its nearest one. The
    sensitivities come from any centres and a certified lower bound on the optimum; the quality of both
    changes the size, never the validity.

    Parameters
    ----------
    k : int
        Number of centres, at least 1.
    power : Power
        :class:`SquaredDistance` or :class:`Distance`.
    seeding : Seeding
        How centres are looked for.

    Raises
    ------
    TypeError
        If the power is none.
    ValueError
        If k is below 1.

    Notes
    -----
    With draws with replacement the error is bounded for all sets of k centres at once (KM-A), hence for
    those that are trained on the coreset; with other samplers for each set that was fixed before (E1-P,
    E1-F, E1-H), or not by chance (TOP).

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import IID, SensitivityReducer, WeightedSet
    >>> from coresets.clustering import ClusteringLoss
    >>> rng = np.random.default_rng(0)
    >>> points = rng.standard_normal((20000, 2)) + 10.0 * rng.integers(0, 3, (20000, 1))
    >>> data = WeightedSet(points)
    >>> coreset = SensitivityReducer(ClusteringLoss(3), IID()).reduce(data, size=1000, rng=1)
    >>> from sklearn.cluster import KMeans
    >>> kept = coreset.of(data)
    >>> found = KMeans(3, n_init=3, random_state=0).fit(kept.points, sample_weight=kept.weights)
    >>> full = KMeans(3, n_init=3, random_state=0).fit(points)
    >>> loss = ClusteringLoss(3)
    >>> bool(loss.costs(data, found.cluster_centers_).sum() < 1.01 * full.inertia_)
    True
    """

    k: int
    power: Power = SquaredDistance()
    seeding: Seeding = Seeding()

    def __post_init__(self) -> None:
        _check_problem(self)
        if not isinstance(self.seeding, Seeding):
            raise TypeError(f"seeding = {self.seeding!r}; pass Seeding(...)")

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Costs of all points to their nearest centre; ``query`` has shape (k', d), 1 <= k' <= k."""
        return _costs(data, query, self.k, self.power)

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Bounds of KM, with the lower bound on the optimum as their certificate."""
        generator = np.random.default_rng(self.seeding.seed)
        low = optimum_lower_bound(data, self.k, self.power, rng=generator)
        points, weights = host_points(data), to_host(data.weights)
        found = find_centres(
            points, weights, self.k, self.power, low=low, seeding=self.seeding, rng=generator
        )
        values = cluster_sensitivities(weights, found, low, self.power)
        details = {"cost": found.cost, "clusters": float(len(found.centres)), "total": float(values.sum())}
        if low > 0.0 and np.isfinite(found.cost / low):
            details["ratio"] = found.cost / low
        evidence = Certificate(
            name="optimum from below",
            statement=f"no {self.k} centres cost less; 'ratio' is the cost of the centres used over it",
            value=low,
            details=details,
        )
        return Sensitivities(_beside(values, data), (evidence,))

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """KM-A for draws with replacement; for other schemes the theorem about one fixed query."""
        if scheme is Scheme.WITH_REPLACEMENT:
            return Claim(ClusterAllQueries(), KCentresClass(sensitivities.total, self.k, data.d))
        return claim_for_finite(sensitivities, 1, scheme)


@dataclass(frozen=True)
class LightweightLoss:
    """Lightweight coresets: one pass, and an additive error of half the cost of a single centre.

    Drawn in proportion to ``uniform_share`` w / U + (1 - ``uniform_share``) w f(p, mean) / F(mean). The error
    is at most epsilon times (F(C) + F(mean)) / 2 for all sets C of k centres at once (KM-L): small where k
    centres do not cost much less than one, and no promise where they do.

    Parameters
    ----------
    k : int
        Number of centres, at least 1; only the size depends on it.
    power : Power
        :class:`SquaredDistance` or :class:`Distance`.
    uniform_share : float
        In (0, 1); 1/2 is the published one. The size is smallest for 2/3 with squared distances, and for
        1/2 with distances.

    Notes
    -----
    Errors relative to more than the cost do not add up over a tree of reductions, so that a stream promises
    nothing with this loss (``additive_error``).

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import IID, SensitivityReducer, WeightedSet
    >>> from coresets.clustering import LightweightLoss
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((50000, 2)))
    >>> reducer = SensitivityReducer(LightweightLoss(2), IID())
    >>> reducer.sensitivities(data).total
    4.0
    >>> round(reducer.reduce(data, size=20000, rng=0).accuracy.epsilon, 2)
    0.6
    """

    k: int
    power: Power = SquaredDistance()
    uniform_share: float = 0.5

    additive_error: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_problem(self)
        object.__setattr__(self, "uniform_share", check_open_unit(self.uniform_share, "uniform_share"))

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Costs of all points to their nearest centre; ``query`` has shape (k', d), 1 <= k' <= k."""
        return _costs(data, query, self.k, self.power)

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Bounds on w f(p, C) / (F(C) + F(mean)), in proportion to the probabilities."""
        points, weights = host_points(data), np.asarray(to_host(data.weights), dtype=np.float64)
        squares = nearest_squares(points, weighted_mean(points, weights))
        own = weights * self.power.of_squares(squares)
        share, whole = self.uniform_share, float(own.sum())
        chances = share * weights / weights.sum()
        if whole > 0.0:
            chances += (1.0 - share) * own / whole
        total = max(self.power.exponent / share, 1.0 / (1.0 - share))
        return Sensitivities(_beside(total * chances, data))

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """KM-L, for draws with replacement only."""
        if scheme is not Scheme.WITH_REPLACEMENT:
            raise AssumptionError(f"no theorem promises a lightweight coreset by {scheme.value}; use IID()")
        return Claim(LightweightAllQueries(), KCentresClass(sensitivities.total, self.k, data.d))
