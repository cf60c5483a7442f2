"""Attacks on reductions that keep moments: CAR and M3.

Moments before and after are compared as fractions, without any rounding of the comparison's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets.guarantees import CaratheodoryTheorem, DesignReduction
from coresets.recombination import CaratheodoryStream, ConeSum, Mean, SecondMoment, caratheodory
from coresets.weighted_set import WeightedSet
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._geometry import certain, named, renamed, small, tight
from proofs_check.checks._views import View, views
from proofs_check.geometry_faults import eliminate, fixed_point, grouped
from proofs_check.geometry_oracles import Kept, exact_rank, moment_residual
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_SUMS = ("sums of groups", "groups are represented by the sums of their points, not by weighted means")


# CAR: few points with the same mean.


@dataclass(frozen=True)
class Task:
    """Weighted points, and whether mass and mean or the sum is to be kept."""

    data: WeightedSet
    mass: bool

    @property
    def points(self) -> Floats:
        """The points."""
        return np.asarray(self.data.points, dtype=np.float64)

    @property
    def weights(self) -> Floats:
        """Their masses."""
        return np.asarray(self.data.weights, dtype=np.float64)

    @property
    def rows(self) -> Floats:
        """What is summed: the points, and a one if the mass is kept."""
        return np.hstack([self.points, np.ones((self.data.n, int(self.mass)))])

    def measure(self, after: Floats) -> float:
        """Points over the number that suffices, or the error of a moment over that of rounding."""
        rank = exact_rank(self.rows) - int(self.mass)
        most = CaratheodoryTheorem().support(rank, mass=self.mass)
        residual = moment_residual(self.points, self.weights, after, Kept((1,), self.mass))
        return max(np.count_nonzero(after) / most, residual / _RESIDUAL)


@dataclass(frozen=True)
class AtOnce:
    """The library's reduction of points in memory."""

    task: Task

    def __call__(self) -> Floats:
        preserve = Mean() if self.task.mass else ConeSum()
        found = caratheodory(self.task.points, self.task.weights, preserve=preserve)
        after = np.zeros(self.task.data.n)
        after[np.asarray(found.indices)] = found.weights
        return after


@dataclass(frozen=True)
class InAStream:
    """The library's reduction of points that arrive in uneven blocks."""

    task: Task

    def __call__(self) -> Floats:
        stream = CaratheodoryStream(preserve=Mean() if self.task.mass else ConeSum())
        cuts = np.cumsum(np.resize([5, 1, 40, 17], self.task.data.n))
        cuts = cuts[cuts < self.task.data.n]
        for points, weights in zip(
            np.split(self.task.points, cuts), np.split(self.task.weights, cuts), strict=True
        ):
            stream.push(points, weights)
        after = np.zeros(self.task.data.n)
        try:
            found = stream.result()
        except ValueError:  # no point is left, which keeps a sum of zero and no other
            return after
        after[stream.indices] = found.weights
        same = np.array_equal(self.task.points[stream.indices], found.points)
        return after if same else np.full_like(after, np.inf)


@dataclass(frozen=True)
class Broken:
    """The textbook's reduction with one mistake in it."""

    task: Task
    mistake: str

    def __call__(self) -> Floats:
        task = self.task
        if self.mistake == _SUMS[0]:
            return eliminate(task.rows, grouped(task.rows, task.weights, sums=True))
        if self.mistake == _STALE[0]:
            after = eliminate(task.rows, task.weights, update=False)
            return after * (task.weights.sum() / after.sum())
        if self.mistake == _CONE[0]:
            return eliminate(task.points, task.weights)
        after = eliminate(task.rows, task.weights)
        after[np.argmax(after)] = 0.0
        return after


def _means(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    """Means and sums, in memory and in a stream."""
    for workload in [*small([*workloads, *tight()], _MANY), *_integers()]:
        for mass, words in ((True, "mean"), (False, "sum")):
            task = Task(workload.data, mass)
            mistakes = [_STALE[0], _POINT[0]]
            if mass:
                mistakes += [_CONE[0]]
                if workload.n > 4 * (workload.d + 1):
                    mistakes += [_SUMS[0]]
            broken = {mistake: Broken(task, mistake) for mistake in mistakes}
            yield certain(renamed(workload, words), AtOnce(task), task.measure, broken, note=_EXACT)
            # The measure is the same, so one fault is enough to show that it still sees them.
            lost = {_POINT[0]: broken[_POINT[0]]}
            shown = renamed(workload, f"{words} of a stream")
            yield certain(shown, InAStream(task), task.measure, lost, note=_EXACT)


def _integers() -> Iterable[Workload]:
    """Sets of small whole numbers, with duplicates, ties and masses of zero."""
    rng = np.random.default_rng(11)
    yield named("whole numbers", rng.integers(-3, 4, (150, 3)), rng.integers(0, 5, 150))
    yield named("a grid", np.stack(np.meshgrid(range(6), range(5)), axis=-1).reshape(-1, 2))
    yield named("flat whole numbers", rng.integers(-4, 5, (90, 2)) @ np.array([[1, 2, -1, 0], [0, 1, 3, 1]]))


_MANY = 120  # points of every set whose moments are added up as fractions
_RESIDUAL = 1e-13  # standard deviations, what a reduction promises to keep a mean to
_STALE = ("weights not updated", "a point is dropped and the weights of the others are only scaled")
_POINT = ("a point lost", "the heaviest of the points kept is dropped")
_CONE = ("mass not lifted", "the sum of the points is kept without their mass")
_EXACT = "points kept over the number that suffices; moments as fractions, to 1e-13 standard deviations"


# M3: few points with the moments of a design.


@dataclass(frozen=True)
class Reduced:
    """A design brought down to few points."""

    view: View
    design: Callable[[View], Floats]

    def __call__(self) -> Floats:
        before = self.design(self.view)
        found = caratheodory(self.view.points, before, preserve=SecondMoment(mean=not self.view.symmetric))
        after = np.zeros_like(before)
        after[np.asarray(found.indices)] = found.weights
        return after


@dataclass(frozen=True)
class Thinned:
    """An honest reduction that loses the last of its points."""

    honest: Reduced

    def __call__(self) -> Floats:
        after = self.honest()
        after[np.flatnonzero(after)[-1]] = 0.0
        return after / after.sum()


@dataclass(frozen=True)
class Plain:
    """The textbook's reduction of the same design, with groups represented by sums or with means."""

    view: View
    design: Callable[[View], Floats]
    sums: bool

    def __call__(self) -> Floats:
        rows = _second_moments(self.view)
        before = self.design(self.view)
        after = grouped(rows, before, sums=self.sums)
        return eliminate(rows, after)


def _second_moments(view: View) -> Floats:
    """Products of two coordinates, one of them constant if the ellipsoid is free, and a one."""
    first, second = np.triu_indices(view.rows.shape[1])
    products = view.rows[:, first] * view.rows[:, second]
    # The last product of a free problem is that of the constant with itself.
    return np.hstack([products, np.ones((len(products), 1))]) if view.symmetric else products


@dataclass(frozen=True)
class MomentsKept:
    """Points kept over the number that suffices, or the error of a moment over what rounding allows."""

    view: View
    design: Callable[[View], Floats]

    def __call__(self, after: Floats) -> float:
        rank = self.view.frame.rank
        most = DesignReduction().support(rank, mean=not self.view.symmetric)
        kept = Kept((2,) if self.view.symmetric else (1, 2))
        residual = moment_residual(self.view.points, self.design(self.view), after, kept)
        # In the coordinates of the data a moment is a sum of rank^2 moments of whitened ones, and these
        # lose as many digits as the columns are nearly dependent.
        rounding = rank**2 * max(_MOMENT, float(np.finfo(np.float64).eps) * self.view.condition)
        return max(np.count_nonzero(after) / most, residual / rounding)


def _equal_weights(view: View) -> Floats:
    return np.full(len(view.points), 1.0 / len(view.points))


def _after_steps(view: View) -> Floats:
    """A design with uneven weights on all points."""
    return fixed_point(view.rows, 5)


def _designs(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload, view in views(workloads, _MANY):
        for words, design in (("equal weights", _equal_weights), ("uneven weights", _after_steps)):
            honest = Reduced(view, design)
            broken: dict[str, Callable[[], Floats]] = {_LAST[0]: Thinned(honest)} if workload.n > 1 else {}
            if workload.n > 4 * _second_moments(view).shape[1]:
                broken[_SUMS[0]] = Plain(view, design, sums=True)
            measure = MomentsKept(view, design)
            yield certain(renamed(workload, words), honest, measure, broken, note=_KEPT)


_MOMENT = 1e-12  # of the mass, in coordinates of unit second moment: rounding of a few thousand terms
_LAST = ("a point lost", "the last of the points kept is dropped, and the others grow to the same mass")
_KEPT = "points kept over the number that suffices; moments as fractions, to rounding"

_FRACTIONS = "moments of the points kept, as fractions"

CHECKS = (
    Check(CaratheodoryTheorem(), _FRACTIONS, dict([_SUMS, _STALE, _POINT, _CONE]), _means),
    Check(DesignReduction(), _FRACTIONS, dict([_LAST, _SUMS]), _designs),
)
