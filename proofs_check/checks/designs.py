"""Attacks on the statements about designs and how they are found: M4 to M7.

The best design is that of a conic solver, and starts, steps and averages are compared with it in
coordinates of the attack's own, in which all of these statements are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from coresets.ellipsoid import AddOnly, FixedPoint
from coresets.ellipsoid._rows import lift
from coresets.ellipsoid._start import kumar_yildirim_start, start_among
from coresets.guarantees import (
    AddOnlyAscent,
    LeverageIteration,
    SafeElimination,
    SpreadingStart,
)
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._geometry import certain, named, renamed
from proofs_check.checks._views import View, views
from proofs_check.geometry_faults import ascend, fixed_point, spread_start
from proofs_check.geometry_oracles import variances
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_POINTS = 120  # of every set: the conic solver factorises a matrix of that order in every step


# M4: the start.


@dataclass(frozen=True)
class Start:
    """Equal weights on the rows that the library starts from."""

    view: View
    streamed: bool

    def __call__(self) -> Floats:
        weights = np.zeros(len(self.view.points))
        if self.streamed:
            chosen = kumar_yildirim_start(lift(self.view.points, symmetric=self.view.symmetric))
        else:
            chosen = start_among(self.view.rows)
        weights[chosen] = 1.0 / self.view.rows.shape[1]
        return weights


@dataclass(frozen=True)
class Nearest:
    """The points that reach least in every new direction."""

    view: View

    def __call__(self) -> Floats:
        return spread_start(self.view.rows, nearest=True)


@dataclass(frozen=True)
class First:
    """The first points that are independent, in the order of the file."""

    view: View

    def __call__(self) -> Floats:
        chosen: list[int] = []
        rows = self.view.rows
        for i in range(len(rows)):
            if np.linalg.matrix_rank(rows[[*chosen, i]]) > len(chosen):
                chosen.append(i)
        weights = np.zeros(len(rows))
        weights[chosen] = 1.0 / rows.shape[1]
        return weights


@dataclass(frozen=True)
class Behind:
    """Distance of a start from the best design in ln det over the bound; no distance on a line."""

    view: View

    def __call__(self, weights: Floats) -> float:
        k = self.view.rows.shape[1]
        if np.count_nonzero(weights) > k or abs(weights.sum() - 1.0) > _ROUNDED:
            return math.inf
        behind = self.view.log_det(self.view.best) - self.view.log_det(weights)
        proved = SpreadingStart().log_det_gap(k)
        return max(0.0, behind) / proved if proved else float(behind > _CONIC)


def _starts(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload, view in views(workloads, _POINTS):
        broken: dict[str, Callable[[], Floats]] = {_NEAREST[0]: Nearest(view), _FIRST[0]: First(view)}
        for words, streamed in (("in memory", False), ("row by row", True)):
            honest = Start(view, streamed)
            yield certain(renamed(workload, words), honest, Behind(view), broken, note=_BEHIND)


_ROUNDED = 1e-12  # relative, of sums of weights and of variances
_CONIC = 1e-3  # of ln det: what the conic solver may miss
_NEAREST = ("nearest points", "in each new direction the point that reaches least is taken")
_FIRST = ("first points", "the first independent points of the file are taken")
_BEHIND = "distance from the best design in ln det over the bound"


# M5: steps and points of an ascent that only adds.


@dataclass(frozen=True)
class Ascended:
    """Designs after every one of the first steps, and the one that reached the gap."""

    first: tuple[Floats, ...]
    last: Floats
    steps: int


@dataclass(frozen=True)
class LibraryAscent:
    """The library's add-only ascent."""

    view: View
    gap: float

    def __call__(self) -> Ascended:
        rows = lift(self.view.points, symmetric=self.view.symmetric)
        first = [AddOnly().solve(rows, gap=self.gap, max_iter=count).weights for count in range(1, _TRACED)]
        found = AddOnly().solve(rows, gap=self.gap, max_iter=None)
        return Ascended(tuple(first), found.weights, found.iterations)


@dataclass(frozen=True)
class PlainAscent:
    """The textbook's add-only ascent, broken."""

    view: View
    gap: float
    scale: float = 1.0
    nearest: bool = False

    def __call__(self) -> Ascended:
        start = spread_start(self.view.rows)
        limit = AddOnlyAscent().steps(self.view.rows.shape[1], self.gap)

        def after(steps: int) -> tuple[Floats, int]:
            return ascend(
                self.view.rows, start, steps=steps, gap=self.gap, scale=self.scale, nearest=self.nearest
            )

        last, steps = after(limit)
        return Ascended(tuple(after(count)[0] for count in range(1, _TRACED)), last, steps)


@dataclass(frozen=True)
class StepsOver:
    """Steps and points over their bounds, and the gain that a step promises over what it brought."""

    view: View
    gap: float

    def __call__(self, found: Ascended) -> float:
        k, rows = self.view.rows.shape[1], self.view.rows
        if variances(rows, found.last).max() > k * (1.0 + self.gap) * (1.0 + _ROUNDED * k):
            return math.inf
        guarantee = AddOnlyAscent()
        steps = found.steps / max(1, guarantee.steps(k, self.gap))
        points = np.count_nonzero(found.last) / guarantee.support(k, self.gap)
        gains = [self._promised(a) / max(self._gained(a, b), 1e-300) for a, b in self._pairs(found.first)]
        return max(steps, points, *gains)

    def _pairs(self, designs: tuple[Floats, ...]) -> list[tuple[Floats, Floats]]:
        """Designs one step apart, until the gap is reached and nothing moves."""
        return [(a, b) for a, b in pairwise(designs) if self._excess(a) > self.gap]

    def _excess(self, weights: Floats) -> float:
        return float(variances(self.view.rows, weights).max()) / self.view.rows.shape[1] - 1.0

    def _gained(self, before: Floats, after: Floats) -> float:
        return self.view.log_det(after) - self.view.log_det(before)

    def _promised(self, before: Floats) -> float:
        excess = self._excess(before)
        return math.log1p(excess) - excess / (1.0 + excess)


def _ascents(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload, view in views(workloads, _POINTS):
        for gap in (1.0, 0.05):
            broken = {
                _HALF_STEP[0]: PlainAscent(view, gap, 0.5),
                _INWARDS[0]: PlainAscent(view, gap, nearest=True),
            }
            shown = renamed(workload, f"gap {gap:g}")
            yield certain(shown, LibraryAscent(view, gap), StepsOver(view, gap), broken, note=_STEPS)


_TRACED = 8  # steps whose gains are compared
_HALF_STEP = ("half a step", "every step is half as long as the best one")
_INWARDS = ("smallest variance", "weight is added to the point of smallest variance")
_STEPS = "the largest of: steps over their bound, points over theirs, promised gain of a step over its gain"


# M6: the averaged leverage iteration.


@dataclass(frozen=True)
class LibraryAverage:
    """The library's fixed-point iteration alone, stopped after so many steps."""

    view: View
    steps: int

    def __call__(self) -> Floats:
        rows = lift(self.view.points, symmetric=self.view.symmetric)
        return np.asarray(FixedPoint(first_finish=None).solve(rows, gap=_NEVER, max_iter=self.steps).weights)


@dataclass(frozen=True)
class PlainAverage:
    """The textbook's iteration, broken."""

    view: View
    steps: int
    weighted: bool = True

    def __call__(self) -> Floats:
        return fixed_point(self.view.rows, self.steps, weighted=self.weighted)


@dataclass(frozen=True)
class VarianceOver:
    """Largest variance over the certified one."""

    view: View
    steps: int

    def __call__(self, weights: Floats) -> float:
        n, k = self.view.rows.shape
        proved = k * (1.0 + LeverageIteration().gap(n, k, self.steps))
        return float(variances(self.view.rows, weights).max()) / proved


def _averages(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload, view in views(workloads, _POINTS):
        for steps in (1, 10, 100):
            broken: dict[str, Callable[[], Floats]] = {
                _UNWEIGHTED[0]: PlainAverage(view, steps, weighted=False)
            }
            if steps > 1:
                broken[_HALF_WAY[0]] = PlainAverage(view, steps // 2)
            shown = renamed(workload, f"{steps} steps")
            honest = LibraryAverage(view, steps)
            yield certain(shown, honest, VarianceOver(view, steps), broken, note=_VARIANCE)


_NEVER = 1e-15  # a gap that is not reached
_UNWEIGHTED = ("leverage of unweighted rows", "scores are computed once, without the weights of the iterate")
_HALF_WAY = ("half the iterations", "the average of half as many iterates, with the gap of all")
_VARIANCE = "largest variance over the certified one"


# M7: rows that can be left out.


@dataclass(frozen=True)
class Threshold:
    """The library's threshold, or a broken one, at a dimension and a gap."""

    rule: Callable[[int, float], float]

    def __call__(self) -> Callable[[int, float], float]:
        return self.rule


def _honest_rule(dimension: int, gap: float) -> float:
    return SafeElimination().threshold(dimension, gap)


def _relative_rule(dimension: int, gap: float) -> float:
    root = math.sqrt(gap * (4.0 + gap - 4.0 / dimension))
    return dimension * (1.0 + 0.5 * gap - 0.5 * root)


def _dimension_rule(dimension: int, gap: float) -> float:
    return float(dimension)


@dataclass(frozen=True)
class LeastInSupport:
    """Threshold over the least variance of a point that carries weight in the best design.

    The variances are those of designs on the way to the best one, from the start of M4, and of
    designs that give one contact point much more than its share.
    """

    view: View

    def __call__(self, rule: Callable[[int, float], float]) -> float:
        rows, best = self.view.rows, self.view.best
        k = rows.shape[1]
        carrying = np.flatnonzero((best > _CARRYING) & (variances(rows, best) > k * (1.0 - _CONIC)))
        largest = 0.0
        for design in self._designs(carrying):
            found = variances(rows, design)
            threshold = rule(k, max(0.0, float(found.max()) / k - 1.0))
            largest = max(largest, threshold / float(found[carrying].min()))
        return largest

    def _designs(self, carrying: npt.NDArray[np.intp]) -> Iterator[Floats]:
        start = spread_start(self.view.rows)
        for steps in (0, 1, 3, 10, 30, 100):
            yield ascend(self.view.rows, start, steps=steps)[0]
        for point in carrying[:5]:
            for share in (0.1, 0.5, 0.9):
                design = (1.0 - share) * self.view.best
                design[point] += share
                yield design


def _eliminations(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    sets = [*views(workloads, _POINTS)]
    wide = named("cross-polytope of ten", np.eye(10))
    sets.append((renamed(wide, "centred"), View(wide.data.points, True)))
    for workload, view in sets:
        broken = {_RELATIVE[0]: Threshold(_relative_rule), _WHOLE[0]: Threshold(_dimension_rule)}
        yield certain(workload, Threshold(_honest_rule), LeastInSupport(view), broken, note=_THRESHOLD)


_CARRYING = 1e-3  # a weight that is no trace of the conic solver's interior path
_RELATIVE = ("relative excess", "the formula's absolute excess is taken relative to the rank")
_WHOLE = ("below the rank", "every row with a variance below the rank is left out")
_THRESHOLD = "threshold over the least variance of a point that carries weight in the best design"


_BEST = "compared with the design of a conic solver"

CHECKS = (
    Check(SpreadingStart(), _BEST, dict([_NEAREST, _FIRST]), _starts),
    Check(
        AddOnlyAscent(),
        "all steps to a gap, and the gain of every one of the first",
        dict([_HALF_STEP, _INWARDS]),
        _ascents,
    ),
    Check(LeverageIteration(), "the variances of all points", dict([_UNWEIGHTED, _HALF_WAY]), _averages),
    Check(
        SafeElimination(),
        "designs on the way to the best one, and with a contact point far too heavy",
        dict([_RELATIVE, _WHOLE]),
        _eliminations,
    ),
)
