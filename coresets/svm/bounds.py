"""Bounds on the sensitivities of the hinge loss: S1 by clusters, S3 by norms, and the published formula.

The sensitivity of a point is the largest share lam u h / F that its hinge loss can have in the objective,
the regulariser included. All bounds need a *lower* bound o on the optimum: they fall as o grows, so an
estimate from above would protect too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_real
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, SamplingGuarantee, Scheme
from coresets.guarantees import (
    FiniteClass,
    FiniteFixedSize,
    FinitePoisson,
    HingeAllQueries,
    HingeClass,
    HingeNormClass,
    HingeNormIID,
    HingeNormPoisson,
)
from coresets.samplers import Poisson, Sampler
from coresets.sensitivity import Sensitivities
from coresets.svm import _kernels as kernels
from coresets.svm._rows import rows_of
from coresets.svm.clusters import Clusters, choose_clusters
from coresets.svm.data import LabelledSet
from coresets.svm.dual import solver_free_bound
from coresets.svm.kernels import Kernel, kernel_lower_bound
from coresets.svm.objective import SVMObjective
from coresets.svm.training import pilot_lower_bound, train_pilot

__all__ = [
    "ClusterBounds",
    "HingeBounds",
    "NormBounds",
    "PublishedBounds",
    "cluster_sensitivities",
    "published_sensitivities",
]

Floats: TypeAlias = npt.NDArray[np.float64]


class HingeBounds(Protocol):
    """A way to bound sensitivities, and the theorem that turns them into a size."""

    def sensitivities(self, data: LabelledSet, objective: SVMObjective, rng: Rng) -> Sensitivities:
        """Bounds on the share of every point's hinge loss in the objective."""

    def claim(
        self, data: LabelledSet, objective: SVMObjective, sensitivities: Sensitivities, scheme: Scheme
    ) -> Claim:
        """Theorem and parameters for a scheme; ``AssumptionError`` if none covers it."""


_BAND = 1.0  # width across which a point counts as within the pilot's margin, whose own error moves it


def check_share(share: float, name: str) -> float:
    """A part of the total that may be spent otherwise, in [0, 1)."""
    number = check_real(share, name)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} = {number:g} is outside [0, 1)")
    return number


def _check_low(low: float) -> float:
    number = check_real(low, "low")
    if number <= 0.0:
        raise ValueError(f"low = {number:g} is not positive; pass a lower bound on the optimum")
    return number


def cluster_sensitivities(
    data: LabelledSet, clusters: Clusters, objective: SVMObjective, low: float, *, regulariser: bool = False
) -> Floats:
    """S1: u / U_Q + lam u G(D, alpha, o), at most 1.

    Parameters
    ----------
    data : LabelledSet
        n points.
    clusters : Clusters
        Clusters within classes, with their weighted means.
    objective : SVMObjective
        The problem, with any intercept.
    low : float
        Lower bound o on the optimum, positive.
    regulariser : bool
        Whether each point carries its share of the regulariser, |w|^2 / (2 U). By default it does not: a
        coreset keeps the regulariser exactly.

    Returns
    -------
    array of shape (n,)
        Bounds on the shares.
    """
    low = _check_low(low)
    masses, total = clusters.masses, data.total_weight
    rest = (total - masses) / total if regulariser else np.ones(masses.size)
    alpha = np.maximum(rest, 0.0) / (2.0 * objective.lam * masses)
    distances = rows_of(data.points).distances(clusters.labels, clusters.means)
    out = np.empty(data.n)
    kernels.cluster_shares(
        distances, clusters.labels, data.weights, 1.0 / masses, alpha, objective.lam, low, out
    )
    return out


def published_sensitivities(
    data: LabelledSet, clusters: Clusters, objective: SVMObjective, optimum: float
) -> Floats:
    """The published formula, for losses that carry the regulariser: a baseline, not a bound.

    It takes an *upper* approximation of the optimum, and is exceeded by true sensitivities if that is 1.5
    times too large; see the page of S1.

    Parameters
    ----------
    data, clusters, objective
        As in :func:`cluster_sensitivities`.
    optimum : float
        Approximate value of the optimum, positive.

    Returns
    -------
    array of shape (n,)
        What the formula gives, not capped.
    """
    optimum = _check_low(optimum)
    masses, total = clusters.masses, data.total_weight
    alpha = ((total - masses) / (2.0 * objective.lam * total * masses))[clusters.labels]
    squared = np.square(rows_of(data.points).distances(clusters.labels, clusters.means))
    root = np.sqrt(4.0 * alpha**2 + 2.0 * squared / (9.0 * optimum)) - 2.0 * alpha
    rise = 4.5 * np.maximum(4.0 * alpha / 9.0, root)
    return np.asarray(data.weights * (1.0 / masses[clusters.labels] + objective.lam * rise))


def _low_certificate(low: float) -> Certificate:
    return Certificate("optimum from below", "every model has at least this objective on all the data", low)


@dataclass(frozen=True)
class ClusterBounds:
    """S1: clusters within each class, tried on a geometric grid of numbers.

    Parameters
    ----------
    most : int
        Largest number of clusters a class, at least 1.
    pilot : int
        Points of a pilot whose model gives a good lower bound on the optimum, in three passes over the
        data; 0 to rest on the class means alone, which is cheaper, and costs guaranteed size.
    low : float, optional
        A lower bound on the optimum that is known already, positive.
    pilot_share : float
        Share of the total, in [0, 1), that goes to the points within the margin of the pilot's model, in
        proportion to mass and norm: only they pull at a model like it. Larger bounds are bounds too; the
        guaranteed size grows by 1 / (1 - share), and measured errors fall, by a factor of ten and more
        where few points are within the margin.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    most: int = 16
    pilot: int = 2000
    low: float | None = None
    pilot_share: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "most", check_integer(self.most, "most", at_least=1))
        object.__setattr__(self, "pilot", check_integer(self.pilot, "pilot", at_least=0))
        object.__setattr__(self, "pilot_share", check_share(self.pilot_share, "pilot_share"))
        if self.low is not None:
            object.__setattr__(self, "low", _check_low(self.low))

    def sensitivities(self, data: LabelledSet, objective: SVMObjective, rng: Rng) -> Sensitivities:
        """Bounds from the number of clusters whose total, on a subsample, is smallest."""
        generator = resolve_rng(rng)
        low, pulls = self.low, np.zeros(0)
        if self.pilot and (low is None or self.pilot_share > 0.0):
            pilot = train_pilot(data, objective, self.pilot, rng=generator)
            low = max(low or 0.0, pilot.dual)
            if self.pilot_share > 0.0:
                w, b = pilot.best.w, pilot.best.b
                pulls = rows_of(data.points).pulls(data.signs, data.weights, w, b, _BAND)
        if self.low is None:
            low = max(low or 0.0, solver_free_bound(data, objective))
        assert low is not None  # given, or found
        clusters = choose_clusters(data, objective.lam, low, most=self.most, rng=generator)
        values = cluster_sensitivities(data, clusters, objective, low)
        if pulls.any():
            more = self.pilot_share / (1.0 - self.pilot_share) * float(values.sum())
            values += more / float(pulls.sum()) * pulls
        return Sensitivities(values, (_low_certificate(low),))

    def claim(
        self, data: LabelledSet, objective: SVMObjective, sensitivities: Sensitivities, scheme: Scheme
    ) -> Claim:
        """S2 (E2), for all models at once, with replacement; else E1-P and E1-F, for one fixed model."""
        finite: dict[Scheme, SamplingGuarantee[FiniteClass]] = {
            Scheme.POISSON: FinitePoisson(),
            Scheme.FIXED_SIZE: FiniteFixedSize(),
        }
        if scheme is Scheme.WITH_REPLACEMENT:
            constant = objective.intercept.free or objective.intercept.scale > 0.0
            return Claim(HingeAllQueries(), HingeClass(sensitivities.total, data.d, constant))
        if scheme in finite:
            return Claim(finite[scheme], FiniteClass(sensitivities.total))
        raise AssumptionError(
            f"no theorem promises an SVM coreset by {scheme.value}; use IID, Poisson or FixedSize"
        )


@dataclass(frozen=True)
class NormBounds:
    """S3: lam u (1/o + sqrt(2/o) |z|), free of the dimension, with or without a kernel.

    Parameters
    ----------
    kernel : Kernel, optional
        The linear one by default.
    low : float, optional
        A lower bound on the optimum that is known already, positive.
    """

    kernel: Kernel | None = None
    low: float | None = None

    sampler: ClassVar[Sampler] = Poisson()
    """How to draw to a size unless told otherwise: no theorem covers fixed sizes."""

    def __post_init__(self) -> None:
        if self.low is not None:
            object.__setattr__(self, "low", _check_low(self.low))

    def sensitivities(self, data: LabelledSet, objective: SVMObjective, rng: Rng) -> Sensitivities:
        """Bounds from norms; with a free intercept, from distances to the mean and the lighter class."""
        low = self.low
        if low is None and self.kernel is None:
            low = solver_free_bound(data, objective)
            low = max(low, pilot_lower_bound(data, objective, 2000, rng=rng))
        elif low is None:
            assert self.kernel is not None
            low = kernel_lower_bound(data, objective, self.kernel, rng=rng)
        lam, slope = objective.lam, np.sqrt(2.0 / low)
        norms, radius = self._norms(data, objective)
        values = 1.0 / low + slope * norms
        if objective.intercept.free:
            values = values + 1.0 / (lam * min(data.class_weights)) + slope * radius
        # Not capped: the theorem needs them as bounds on norms as well.
        return Sensitivities(lam * data.weights * values, (_low_certificate(low),))

    def _norms(self, data: LabelledSet, objective: SVMObjective) -> tuple[Floats, float]:
        """Norms of the (lifted, or centred) images, and a bound on those of the two class means."""
        intercept, groups = objective.intercept, (data.signs > 0).astype(np.int32)
        if self.kernel is not None:
            squares = np.asarray(self.kernel.diagonal(data.points), dtype=np.float64)
            norms = np.sqrt(squares + intercept.scale**2)
            mass = data.weights * norms
            masses = np.asarray(data.class_weights)
            means = np.bincount(groups, weights=mass, minlength=2) / np.where(masses > 0.0, masses, np.inf)
            return norms, float(means.max())
        rows = rows_of(data.points)
        if not intercept.free:
            return np.hypot(rows.norms(), intercept.scale), 0.0
        sums = rows.moments(data.weights, groups, 2)
        centre = sums[:, :-1].sum(axis=0) / sums[:, -1].sum()
        means = sums[:, :-1] / sums[:, -1:] - centre
        distances = rows.distances(np.zeros(data.n, dtype=np.int32), centre[None, :])
        return distances, float(np.sqrt(np.square(means).sum(axis=1).max()))

    def claim(
        self, data: LabelledSet, objective: SVMObjective, sensitivities: Sensitivities, scheme: Scheme
    ) -> Claim:
        """S3 with replacement, S3-P for Poisson sampling."""
        covered: dict[Scheme, SamplingGuarantee[HingeNormClass]] = {
            Scheme.WITH_REPLACEMENT: HingeNormIID(),
            Scheme.POISSON: HingeNormPoisson(),
        }
        if scheme not in covered:
            raise AssumptionError(
                f"no theorem promises a coreset from norms by {scheme.value}; use IID or Poisson"
            )
        parameters = HingeNormClass(sensitivities.total, free_intercept=objective.intercept.free)
        return Claim(covered[scheme], parameters)


@dataclass(frozen=True)
class PublishedBounds:
    """The published formula with the published way to its optimum: a baseline that promises nothing.

    Parameters
    ----------
    optimum : float
        Approximation of the optimum, as the formula asks for.
    clusters : int
        Clusters a class, at least 1.
    """

    optimum: float
    clusters: int = 1

    def sensitivities(self, data: LabelledSet, objective: SVMObjective, rng: Rng) -> Sensitivities:
        """What the formula gives."""
        found = Clusters.fit(data, check_integer(self.clusters, "clusters", at_least=1), rng=rng)
        return Sensitivities(published_sensitivities(data, found, objective, self.optimum))

    def claim(
        self, data: LabelledSet, objective: SVMObjective, sensitivities: Sensitivities, scheme: Scheme
    ) -> Any:
        """Refused."""
        raise AssumptionError("the published formula is no bound in general; use ClusterBounds for a promise")
