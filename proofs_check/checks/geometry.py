"""Attacks on what ellipsoids give: T1, T2, T6, and on what nothing can give: T7.

Exact factors and sensitivities come from one linear programme a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from coresets.guarantees import (
    LInfFactor,
    OneSidedFactor,
    PeelingSensitivity,
    VacuousSensitivity,
)
from coresets.homogeneous import vacuity
from coresets.linf import DesignSupport, InscribedVertices, SymmetricSupport, linf_coreset
from coresets.linf.peeling import (
    CertifiedPeeling,
    PeelingRule,
    PublishedPeeling,
    peeling_sensitivities,
)
from coresets.weighted_set import WeightedSet
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._geometry import CERTAIN, certain, named, renamed, small, tight, unweighted
from proofs_check.checks.sensitivity import AttainedShares, Bounds, ShareTrial
from proofs_check.geometry_oracles import Frame
from proofs_check.linear_oracles import largest_relu_shares, linf_factor, one_sided_factor
from proofs_check.oracles import largest_absolute_shares
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_POINTS = 32  # of every set, for which linear programmes are solved, one a point


@dataclass(frozen=True)
class Chosen:
    """Points said to keep the largest |p.x|, and the largest [p.x]_+, up to factors."""

    indices: Indices
    factor: float
    one_sided: float = math.inf  # nothing is claimed


@dataclass(frozen=True)
class Selection:
    """The library's choice, by one of its constructions."""

    points: Floats
    construction: Any
    gap: float = 0.01

    def __call__(self) -> Chosen:
        found = linf_coreset(self.points, construction=self.construction, gap=self.gap)
        one_sided = math.inf if found.one_sided_factor is None else found.one_sided_factor
        return Chosen(np.asarray(found.indices, dtype=np.intp), found.factor, one_sided)


@dataclass(frozen=True)
class WithoutContact:
    """The honest choice without the point of largest weight in the design."""

    honest: Selection

    def __call__(self) -> Chosen:
        gap = self.honest.gap
        found = linf_coreset(self.honest.points, construction=self.honest.construction, gap=gap)
        heaviest = int(np.argmax(found.weights))
        return replace(self.honest(), indices=np.delete(np.asarray(found.indices, dtype=np.intp), heaviest))


@dataclass(frozen=True)
class Anywhere:
    """As many points as the honest choice has, chosen blindly, with its factor."""

    honest: Selection

    def __call__(self) -> Chosen:
        found = self.honest()
        blind = np.random.default_rng(0).choice(len(self.honest.points), found.indices.size, replace=False)
        return replace(found, indices=np.sort(blind))


@dataclass(frozen=True)
class FactorOver:
    """Exact factor of the kept points over the certified one; too many points refute as well."""

    points: Floats
    most: float
    one_sided: bool = False

    def __call__(self, found: Chosen) -> float:
        if found.indices.size > self.most:
            return math.inf
        if not self.one_sided:
            return linf_factor(self.points, found.indices) / found.factor
        if math.isinf(found.one_sided):  # nothing is claimed
            return 0.0
        return one_sided_factor(self.points, found.indices) / found.one_sided


def _ranks(points: Floats) -> tuple[int, int]:
    """Dimensions of the span and of the affine hull."""
    frames = (Frame.of(points, symmetric=symmetric) for symmetric in (True, False))
    span, hull = (frame.rank for frame in frames)
    return span, hull


def _factors(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    """The three constructions of T1 on every set."""
    for workload in small([*unweighted(workloads), *tight()], _POINTS):
        points = np.asarray(workload.data.points, dtype=np.float64)
        span, hull = _ranks(points)
        theorem = LInfFactor()
        constructions: dict[str, tuple[Any, int]] = {
            "centred design": (SymmetricSupport(), theorem.symmetric_size(span)),
            "free design": (DesignSupport(), theorem.lifted_size(hull)),
            "vertices": (InscribedVertices(), theorem.vertices_size(hull)),
        }
        for name, (construction, most) in constructions.items():
            honest = Selection(points, construction)
            broken: dict[str, Callable[[], Chosen]] = {
                _CONTACT[0]: WithoutContact(honest),
                _BLIND[0]: Anywhere(honest),
            }
            measure = FactorOver(points, most)
            yield certain(renamed(workload, name), honest, measure, broken, note=_FACTOR)


def _one_sided(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    """Sets about the origin, where there is a factor, and the same sets moved away from it."""
    for workload in small(unweighted(workloads), _POINTS):
        if workload.kind == "degenerate" or workload.n < 10:
            continue
        points = np.asarray(workload.data.points, dtype=np.float64)
        centred = points - points.mean(axis=0)
        for words, moved in (
            ("about the origin", centred),
            ("moved aside", centred + _ASIDE * points.std(axis=0)),
        ):
            honest = Selection(moved, DesignSupport())
            broken: dict[str, Callable[[], Chosen]] = {
                _OUTSIDE[0]: Outside(honest),
                _CONTACT[0]: WithoutContact(honest),
            }
            measure = FactorOver(moved, len(moved), one_sided=True)
            yield certain(renamed(workload, words), honest, measure, broken, note=_FACTOR)


@dataclass(frozen=True)
class Outside:
    """The factor R^2 of inputs with c.x >= 0, claimed wherever the origin is."""

    honest: Selection

    def __call__(self) -> Chosen:
        found = self.honest()
        return replace(found, one_sided=found.factor**2)


@dataclass(frozen=True)
class PeelingBound:
    """Bounds from peeling, times a factor that is 1 unless something is broken."""

    construction: Any = SymmetricSupport()
    rule: PeelingRule = CertifiedPeeling()

    def __call__(self, data: WeightedSet) -> Floats:
        found = peeling_sensitivities(
            data.points, data.weights, construction=self.construction, rule=self.rule
        )
        return np.asarray(found.values)


@dataclass(frozen=True)
class FromTheOtherEnd:
    """The bounds of the rounds in reverse: the points that were peeled last get the largest."""

    honest: PeelingBound

    def __call__(self, data: WeightedSet) -> Floats:
        values = self.honest(data)
        rounds, place = np.unique(values[values > 0.0], return_inverse=True)
        values[values > 0.0] = rounds[::-1][place]
        return values


@dataclass(frozen=True)
class HalfShares:
    """Half of the true sensitivities."""

    attained: AttainedShares

    def __call__(self, data: WeightedSet) -> Floats:
        return 0.5 * self.attained.values


def _peeling(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    rules = {
        "certified": PeelingBound(),
        "free designs": PeelingBound(DesignSupport()),
        "two rounds": PeelingBound(rule=CertifiedPeeling(2)),
        "as published": PeelingBound(InscribedVertices(), PublishedPeeling()),
    }
    for workload in small(workloads, _SHARES):
        attained = AttainedShares(workload.data, largest_absolute_shares)
        for name, honest in rules.items():
            broken: dict[str, Bounds] = {
                _HALF[0]: HalfShares(attained),
                _OTHER_END[0]: FromTheOtherEnd(honest),
            }
            yield Scenario(
                workload=renamed(workload, name),
                size=workload.n,
                claimed=CERTAIN,
                trial=ShareTrial(attained, honest),
                faults=tuple(Fault(key, ShareTrial(attained, bounds)) for key, bounds in broken.items()),
                note=_SHARE,
            )


_SHARES = 36  # points of every set whose exact sensitivities are computed
_HALF = ("half the sensitivity", "half of the true sensitivities is claimed as a bound")
_OTHER_END = ("rounds counted from the other end", "what was peeled last gets the largest bound")
_SHARE = "largest share over bound; 1 is attained, more refutes"

_ASIDE = 1.0  # standard deviations, in every coordinate
_CONTACT = ("a contact point lost", "the heaviest point of the design is not kept, and the factor is claimed")
_BLIND = ("points chosen blindly", "as many points as the design has, chosen at random, with its factor")
_OUTSIDE = ("origin not looked at", "the factor for inputs on the side of the centre is claimed for all")
_FACTOR = "exact factor, by linear programmes, over the certified one; 0 where none is claimed"


# T7: points that no others can stand for.


@dataclass(frozen=True)
class Shares:
    """Exact shares of a set, and what the theorem says they are at most."""

    data: WeightedSet
    one_sided: bool

    @cached_property
    def attained(self) -> Floats:
        """Largest share of every point that has one."""
        found = largest_relu_shares(self.data) if self.one_sided else largest_absolute_shares(self.data)
        return found[self.moving]

    @property
    def moving(self) -> npt.NDArray[np.bool_]:
        """Points with mass that are not zero."""
        return np.any(self.rows != 0.0, axis=1)

    @property
    def rows(self) -> Floats:
        """Points times masses."""
        return np.asarray(self.data.points) * np.asarray(self.data.weights)[:, None]

    @cached_property
    def bounds(self) -> Floats:
        """Bound of every point from its combination of the others; 1 if it is none of them."""
        rows = self.rows[self.moving]
        lengths = np.linalg.norm(rows, axis=1)
        out = np.ones(len(rows))
        for i in range(len(rows)):
            others, target = np.delete(rows, i, axis=0), rows[i] / lengths[i]
            matrix = others.T / lengths[i]
            if self.one_sided:
                found, off = nnls(matrix, target) if len(others) else (np.zeros(0), 1.0)
            else:
                found = np.linalg.lstsq(matrix, target, rcond=None)[0]
                off = float(np.linalg.norm(matrix @ found - target))
            if off <= _IN_SPAN:
                out[i] = VacuousSensitivity().bound(found)
        return out


@dataclass(frozen=True)
class Alone:
    """Number of points said to have a share of 1, and bounds for all."""

    count: int
    bounds: Floats


@dataclass(frozen=True)
class Diagnosis:
    """The library's count; the theorem's bounds."""

    shares: Shares

    def __call__(self) -> Alone:
        bounds = self.shares.bounds
        if self.shares.one_sided:
            return Alone(int(np.count_nonzero(bounds == 1.0)), bounds)
        found = vacuity(self.shares.data.points, self.shares.data.weights)
        return Alone(found.alone, bounds)


@dataclass(frozen=True)
class Miscounted:
    """The honest diagnosis, with some points too many."""

    honest: Diagnosis
    more: int

    def __call__(self) -> Alone:
        found = self.honest()
        return Alone(min(found.count + self.more, found.bounds.size), found.bounds)


@dataclass(frozen=True)
class Unnoticed:
    """The best combinations of other points, though they are not the point."""

    honest: Diagnosis

    def __call__(self) -> Alone:
        return Alone(0, np.minimum(self.honest().bounds, _LARGEST))


@dataclass(frozen=True)
class AloneOver:
    """One over the share of a point said to have the whole; share over bound for the others."""

    shares: Shares

    def __call__(self, found: Alone) -> float:
        attained = np.sort(self.shares.attained)[::-1]
        if found.count > attained.size:
            return math.inf
        # Attained shares of 1 fall short of it by the tolerance of the linear programmes.
        whole = 1.0 / max(float(attained[found.count - 1]), 1e-300) if found.count else 0.0
        over = float(np.max(self.shares.attained / found.bounds, initial=0.0))
        return max(whole / (1.0 + _SOLVED), over)


def _alone(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    rng = np.random.default_rng(5)
    generic = [
        named("fewer points than columns", rng.standard_normal((6, 9)), rng.uniform(0.5, 2.0, 6)),
        named("one point too many", rng.standard_normal((5, 4))),
        named(
            "two alone",
            np.block([[rng.standard_normal((8, 2)), np.zeros((8, 2))], [rng.random((2, 2)), np.eye(2)]]),
        ),
    ]
    for workload in [*generic, *small(workloads, _SHARES)]:
        for one_sided, words in ((False, "two sides"), (True, "one side")):
            shares = Shares(workload.data, one_sided)
            honest = Diagnosis(shares)
            broken: dict[str, Callable[[], Alone]] = {
                _COUNTED[0]: Miscounted(honest, 1),
                _MISSED[0]: Unnoticed(honest),
            }
            yield certain(renamed(workload, words), honest, AloneOver(shares), broken, note=_ALONE)


_IN_SPAN = 1e-8  # distance of a point from the span or the cone of the others, relative to its length
_SOLVED = 1e-6  # of a share: ten times the feasibility tolerance of the linear programmes
_LARGEST = 0.999
_COUNTED = ("a point in the span counted", "one more point than there are is said to have a share of 1")
_MISSED = ("a point alone not noticed", "a point outside the span of the others gets a bound below 1")
_ALONE = "largest of: 1 over the share of a point said to have it all, share over bound"

_PROGRAMMES = "the exact answer for every point, one linear programme each"

CHECKS = (
    Check(LInfFactor(), _PROGRAMMES, dict([_CONTACT, _BLIND]), _factors),
    Check(PeelingSensitivity(), _PROGRAMMES, dict([_HALF, _OTHER_END]), _peeling),
    Check(OneSidedFactor(), _PROGRAMMES, dict([_OUTSIDE, _CONTACT]), _one_sided),
    Check(VacuousSensitivity(), _PROGRAMMES, dict([_COUNTED, _MISSED]), _alone),
)
