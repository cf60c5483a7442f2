"""Attacks on the guarantees of k-means and k-median: KM, KM-B, KM-A, KM-L."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.clustering import (
    ClusteringLoss,
    Distance,
    LightweightLoss,
    Partition,
    Power,
    Seeding,
    SquaredDistance,
    cluster_sensitivities,
    find_centres,
    forest_lower_bound,
    optimum_lower_bound,
    spectral_lower_bound,
)
from coresets.clustering import _kernels as kernels
from coresets.guarantees.clustering import (
    ClusterAllQueries,
    ClusterOptimumBelow,
    ClusterSensitivity,
    LightweightAllQueries,
)
from coresets.samplers import IID
from coresets.weighted_set import WeightedSet
from proofs_check import faults
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._clustering import (
    CentresWorst,
    SmallSet,
    large_sets,
    largest_shares,
    least_cost,
    small_sets,
)
from proofs_check.checks._common import DrawTrial, drawn_scenario, first_size_below
from proofs_check.checks._geometry import certain
from proofs_check.faults import Draws
from proofs_check.workloads import Workload, leading, thinned

__all__ = ["CHECKS"]

Floats: TypeAlias = npt.NDArray[np.float64]

_TARGET = 0.9  # epsilon that the sizes aim at: constants of all sets of centres are large
_POINTS = 16_000
_FEWEST = 2500  # points of a real set, below which half of them promise nothing

# KM


@dataclass(frozen=True, eq=False)
class Exact:
    """Shares that are attained, computed when first asked for."""

    small: SmallSet

    @cached_property
    def shares(self) -> Floats:
        """Of every point."""
        return largest_shares(self.small)

    def over(self, bounds: Floats) -> float:
        """Largest ratio of a share to its bound; infinite where a bound of 0 is exceeded."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(self.shares > 0.0, self.shares / bounds, 0.0)
        return float(ratios.max())


def _partition(small: SmallSet, clusters: int) -> Partition:
    points, weights = np.asarray(small.data.points), np.asarray(small.data.weights)
    return find_centres(points, weights, clusters, small.power, low=0.0, seeding=Seeding(rounds=1), rng=0)


def _bounds(small: SmallSet, clusters: int, optimum: Callable[[SmallSet], float]) -> Floats:
    found = _partition(small, clusters)
    return cluster_sensitivities(small.data.weights, found, optimum(small), small.power)


def _massless(small: SmallSet) -> Floats:
    """The term of the cluster's mass left out."""
    found = _partition(small, small.k)
    endless = Partition(found.labels, found.centres, found.masses * 1e12, found.squares, found.costs * 1e12)
    return cluster_sensitivities(small.data.weights, endless, least_cost(small), small.power)


def _whole_mass(small: SmallSet) -> Floats:
    """The mass of all points in place of the cluster's, with the cluster's spread."""
    found = _partition(small, small.k)
    factors = found.masses.sum() / found.masses
    whole = Partition(
        found.labels, found.centres, found.masses * factors, found.squares, found.costs * factors
    )
    return cluster_sensitivities(small.data.weights, whole, least_cost(small), small.power)


def _single(small: SmallSet) -> float:
    """The cost of a single centre, as if it bounded that of k."""
    return least_cost(SmallSet(small.name, small.data, 1, small.power))


def _plain(small: SmallSet) -> Floats:
    """Distances where squares are asked for."""
    found = _partition(small, small.k)
    rooted = np.sqrt(found.squares)
    costs = np.zeros(len(found.costs))
    np.add.at(costs, found.labels, small.data.weights * rooted)
    plain = Partition(found.labels, found.centres, found.masses, rooted, costs)
    return cluster_sensitivities(small.data.weights, plain, least_cost(small), small.power)


def _sensitivities(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for small in small_sets():
        exact = Exact(small)
        broken: dict[str, Callable[[], Floats]] = {_MASSLESS[0]: partial(_massless, small)}
        if small.k > 1:
            broken[_WHOLE[0]] = partial(_whole_mass, small)
            broken[_SINGLE[0]] = partial(_bounds, small, small.k, _single)
        if small.power.exponent == 2:
            broken[_PLAIN[0]] = partial(_plain, small)
        for clusters in (small.k, small.k + 2):
            name = f"{small.name}, {clusters} clusters"
            shown = Workload(name, "adversarial", small.data)
            honest = partial(_bounds, small, clusters, least_cost)
            yield certain(
                shown,
                honest,
                exact.over,
                broken if clusters == small.k else {},
                note="largest share over bound",
            )


_MASSLESS = ("cluster's mass forgotten", "the term 1 / W_Q is left out")
_WHOLE = ("mass of all points", "the mass of all points stands for that of the cluster")
_SINGLE = ("one centre for k", "the cost of one centre is taken for a lower bound on that of k")
_PLAIN = ("distances not squared", "distances where the squares are asked for")

# KM-B


def _forest(small: SmallSet, group: int, factor: float = 1.0) -> float:
    return factor * forest_lower_bound(small.data, small.k, small.power, rng=0, group=group)


def _long_forest(small: SmallSet, group: int) -> float:
    """Lightest forest with one tree too few."""
    points, weights = np.ascontiguousarray(small.data.points), np.asarray(small.data.weights)
    rows = np.random.default_rng(0).permutation(small.data.n)
    squared = small.power.exponent == 2
    found = kernels.forests(points, weights, rows, group, small.k - 1, squared)
    return small.power.half(group - small.k) * float(found)


def _spectral(small: SmallSet, k: int) -> float:
    return spectral_lower_bound(small.data, k)


def _uncentred(small: SmallSet) -> float:
    """Singular values of the points about the origin, all but k - 1."""
    rows = np.sqrt(np.asarray(small.data.weights))[:, None] * np.asarray(small.data.points)
    return float(np.square(np.linalg.svd(rows, compute_uv=False)[small.k - 1 :]).sum())


def _over(optimum: float, claimed: float) -> float:
    return claimed / optimum


def _pairs() -> Iterable[SmallSet]:
    """Sets on which the bounds are attained or nearly so."""
    corners = np.array([[0.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 2.0]])
    yield SmallSet("corners, 2 centres, squares", WeightedSet(corners + 5.0), 2, SquaredDistance())
    pairs = np.array([0.0, 1.0, 1000.0, 1001.0])[:, None]
    for power, words in ((SquaredDistance(), "squares"), (Distance(), "distances")):
        yield SmallSet(f"a pair and others, 3 centres, {words}", WeightedSet(pairs), 3, power)
        yield SmallSet(f"two pairs, 2 centres, {words}", WeightedSet(pairs), 2, power)
    simplex = WeightedSet(np.eye(6) + 1.0)
    yield SmallSet("simplex, 1 centre, squares", simplex, 1, SquaredDistance())
    yield SmallSet("simplex, 3 centres, squares", simplex, 3, SquaredDistance())


def _lower(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for small in (*_pairs(), *small_sets()):
        optimum = least_cost(small)
        measure = partial(_over, optimum)
        for group in sorted({small.k + 1, min(2 * small.k + 1, small.data.n), small.data.n}):
            broken: dict[str, Callable[[], float]] = {
                _HALF[0]: partial(_forest, small, group, 1.0 / small.power.half(group - small.k))
            }
            if small.k > 1:
                broken[_LONG[0]] = partial(_long_forest, small, group)
            shown = Workload(f"{small.name}, groups of {group}", "adversarial", small.data)
            yield certain(
                shown, partial(_forest, small, group), measure, broken, note="lower bound over optimum"
            )
        if small.power.exponent == 2 and small.data.d >= small.k:
            honest = partial(_spectral, small, small.k)
            wrong: dict[str, Callable[[], float]] = {_UNCENTRED[0]: partial(_uncentred, small)}
            if small.k > 1:
                wrong[_EARLY[0]] = partial(_spectral, small, small.k - 1)
            shown = Workload(f"{small.name}, singular values", "adversarial", small.data)
            yield certain(shown, honest, measure, wrong, note="lower bound over optimum")
    for workload in workloads:
        if workload.kind == "real" and workload.n >= _LEAST:
            yield from _found(thinned(workload, 2000))


def _found(workload: Workload) -> Iterable[Scenario]:
    """Bounds against the best centres that a search finds, which cost at least the optimum."""
    powers: tuple[tuple[str, Power], ...] = (("squares", SquaredDistance()), ("distances", Distance()))
    points, weights = np.asarray(workload.data.points), np.asarray(workload.data.weights)
    for words, power in powers:
        for k in (2, 8):
            search = Seeding(sample=workload.n, rounds=1, steps=20)
            best = find_centres(points, weights, k, power, low=0.0, seeding=search, rng=0)
            shown = Workload(f"{workload.name}, {k} centres, {words}", workload.kind, workload.data)
            honest = partial(optimum_lower_bound, workload.data, k, power, rng=0)
            note = "lower bound over the best cost found"
            yield certain(shown, honest, partial(_over, best.cost), {}, note=note)


_LEAST = 100  # points of a real set on which centres are searched for
_HALF = ("half forgotten", "stars are said to cost as much as spanning trees")
_LONG = ("a tree too few", "forests of k - 1 trees, one edge too many")
_EARLY = ("a direction too early", "all but k - 2 singular values")
_UNCENTRED = ("not centred", "singular values of the data as they are, not about their mean")

# KM-A, KM-L


@dataclass(frozen=True)
class WithoutMass:
    """Draws in proportion to costs alone, with weights that fit: what costs nothing is never drawn."""

    costs: Floats

    def draw(self, sensitivities: Floats, size: int, rng: np.random.Generator) -> object:
        """Draw with replacement."""
        return IID().draw(self.costs, size, rng)


def _draws(
    workloads: Sequence[Workload],
    profile: Profile,
    *,
    loss: type[ClusteringLoss] | type[LightweightLoss],
) -> Iterable[Scenario]:
    additive = loss is LightweightLoss
    powers: tuple[tuple[str, Power], ...] = (("squares", SquaredDistance()), ("distances", Distance()))
    for words, power in powers:
        real = [(w.name, leading(w, 1).data, 1) for w in workloads if w.kind == "real" and w.n >= _FEWEST]
        for name, data, k in (*large_sets(_POINTS), *real):
            kind = "real" if name in {w.name for w in workloads} else "adversarial"
            problem = loss(k, power)
            found = problem.sensitivities(data)
            claim = problem.claim(data, found, IID.scheme)
            size = first_size_below(claim, _TARGET, data.n)
            error = CentresWorst(data, k, power, additive)
            shown = Workload(f"{name}, {words}", kind, data)
            broken: tuple[tuple[str, Draws], ...] = (
                (faults.UNDIVIDED[0], faults.Undivided(IID())),
                (faults.UNIFORM[0], faults.Uniform(IID())),
            )
            scenario = drawn_scenario(shown, claim, IID(), found.values, error, broken, size=size)
            points, weights = np.asarray(data.points), np.asarray(data.weights)
            mean = np.average(points, axis=0, weights=weights)
            costs = weights * power.of_squares(np.square(points - mean).sum(axis=1))
            unmixed = Fault(_COSTS[0], DrawTrial(WithoutMass(costs), costs, size, error))
            yield replace(scenario, faults=(*scenario.faults, unmixed))


_COSTS = ("masses forgotten", "points are drawn in proportion to their cost about the mean alone")
_CENTRES = "all sets of centres: the best known, with one moved, far ones, and Lloyd's on the coreset"
_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM, _COSTS])

CHECKS = (
    Check(
        ClusterSensitivity(),
        "all divisions of a few points, centres moving away from each",
        dict([_MASSLESS, _WHOLE, _SINGLE, _PLAIN]),
        _sensitivities,
    ),
    Check(
        ClusterOptimumBelow(),
        "the optimum, by trying all divisions; on real sets the best centres found",
        dict([_HALF, _LONG, _EARLY, _UNCENTRED]),
        _lower,
    ),
    Check(ClusterAllQueries(), _CENTRES, _WEIGHING, partial(_draws, loss=ClusteringLoss)),
    Check(LightweightAllQueries(), _CENTRES, _WEIGHING, partial(_draws, loss=LightweightLoss)),
)
