"""Attacks on the statements about ellipsoids: M1 and M2, by every route through the code.

An ellipsoid is judged by what it claims: that it encloses the points with the gap that is stated,
that it lies in their hull once shrunk, and that its volume is close to the least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets.ellipsoid import AddOnly, Blocks, Conic, Ellipsoid, FixedPoint, loewner_ellipsoid
from coresets.guarantees import AffineRounding, SymmetricRounding
from coresets.weighted_set import to_host
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import OnTorch
from proofs_check.checks._geometry import certain, renamed, small, tight, unweighted
from proofs_check.checks._views import Rounded, View
from proofs_check.geometry_faults import ascend
from proofs_check.geometry_oracles import best_design, variances
from proofs_check.workloads import Workload, leading

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_WORKING = 2500  # points of a set that does not fit a working set
_BLOCK = 67  # points of a block, of which three are read; the last one is shorter
_POINTS = 200  # of every set: the conic solver factorises a matrix of that order in every step
_FINE, _COARSE = 1e-6, 0.2  # gaps asked for; the coarse one leaves room for a volume too large


Route = Callable[[Floats, bool, float], Ellipsoid]


@dataclass(frozen=True)
class Library:
    """The library's ellipsoid by one of its routes."""

    view: View
    route: Route
    gap: float

    def __call__(self) -> Rounded:
        found = self.route(self.view.points, self.view.symmetric, self.gap)
        details = found.certificate.details
        center, shape, weights = (to_host(part) for part in (found.center, found.shape, found.weights))
        if center.ndim == 2:  # of a batch, whose certificate is that of the worst
            center, shape, weights = center[-1], shape[-1], weights[-1]
        gap, rounding, error = (details[name] for name in ("gap", "rounding", "containment_error"))
        return Rounded(center, shape, weights, gap, rounding, error)


@dataclass(frozen=True)
class By:
    """The usual road, with a solver of choice."""

    solver: Any = None

    def __call__(self, points: Floats, symmetric: bool, gap: float) -> Ellipsoid:
        return loewner_ellipsoid(points, symmetric=symmetric, gap=gap, solver=self.solver)


def in_blocks(points: Floats, symmetric: bool, gap: float) -> Ellipsoid:
    """Points that come block by block, the last one shorter."""
    blocks = [points[i : i + _BLOCK] for i in range(0, len(points), _BLOCK)]
    return loewner_ellipsoid(Blocks(blocks), symmetric=symmetric, gap=gap)


def without_last_block(points: Floats, symmetric: bool, gap: float) -> Ellipsoid:
    """The same, but the last block is not read."""
    read = (len(points) - 1) // _BLOCK * _BLOCK
    found = in_blocks(points[:read], symmetric, gap)
    return replace(found, weights=np.append(found.weights, np.zeros(len(points) - read)))


def in_batch(points: Floats, symmetric: bool, gap: float) -> Ellipsoid:
    """Three sets at once, of which the last one counts."""
    stack = np.stack([2.0 * points, np.roll(points, 1, axis=1), points])
    return loewner_ellipsoid(stack, symmetric=symmetric, gap=gap)


def of_another(points: Floats, symmetric: bool, gap: float) -> Ellipsoid:
    """The ellipsoid of another set of the batch."""
    return in_batch(np.roll(points, -1, axis=1), symmetric, gap)


def on_tensors(points: Floats, symmetric: bool, gap: float) -> Ellipsoid:
    """Points in a tensor, on a GPU if there is one."""
    torch = import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return loewner_ellipsoid(torch.asarray(points, device=device), symmetric=symmetric, gap=gap)


def _routes() -> Iterator[tuple[str, Route, float]]:
    """Every other road through the code, with the gap that it can be asked for."""
    yield "conic solver", By(Conic()), _COARSE
    yield "fixed point", By(FixedPoint()), 1e-2
    yield "add-only", By(AddOnly()), 1e-2
    yield "in blocks", in_blocks, _FINE
    yield "in a batch", in_batch, 1e-2
    if OnTorch.available():
        yield "tensors", on_tensors, 1e-2


def _uniform(view: View) -> Floats:
    return np.full(len(view.rows), 1.0 / len(view.rows))


@dataclass(frozen=True)
class Stopped:
    """A design whose steps have become small, said to have a gap as small as asked for."""

    view: View
    gap: float

    def __call__(self) -> Rounded:
        weights = _uniform(self.view)
        for _ in range(200):
            after, _ = ascend(self.view.rows, weights, steps=1)
            if np.max(np.abs(after - weights)) < _SMALL_STEP:
                break
            weights = after
        return self.view.claimed(weights, self.gap)


@dataclass(frozen=True)
class Subsampled:
    """The ellipsoid of every third point, with the gap that it has on these."""

    view: View

    def __call__(self) -> Rounded:
        part = self.view.rows[::3]
        design = best_design(part)
        gap = max(0.0, float(variances(part, design).max()) / part.shape[1] - 1.0)
        weights = np.zeros(len(self.view.rows))
        weights[::3] = design
        return self.view.claimed(weights, gap)


@dataclass(frozen=True)
class Ungrown:
    """The honest ellipsoid of a coarse gap, not grown until it encloses the points."""

    view: View

    def __call__(self) -> Rounded:
        weights, _ = ascend(self.view.rows, _uniform(self.view), steps=500, gap=_COARSE)
        gap = float(variances(self.view.rows, weights).max()) / self.view.rows.shape[1] - 1.0
        found = self.view.claimed(weights, gap)
        shrink = found.rounding / self.view.frame.rank
        return Rounded(found.center, found.shape / shrink, weights, gap, found.rounding)


@dataclass(frozen=True)
class Lost:
    """The honest ellipsoid without its heaviest contact point."""

    honest: Library

    def __call__(self) -> Rounded:
        found = self.honest()
        weights = np.where(np.arange(found.weights.size) == np.argmax(found.weights), 0.0, found.weights)
        return Rounded(found.center, found.shape, weights, found.gap, found.rounding)


@dataclass(frozen=True)
class HalfRounded:
    """A free ellipsoid, said to lie in the hull after a shrinkage that only a centred one affords."""

    honest: Library

    def __call__(self) -> Rounded:
        found = self.honest()
        return Rounded(found.center, found.shape, found.weights, found.gap, math.sqrt(found.rounding))


_SMALL_STEP = 1e-2
_STEP = (
    "stopped at a small step",
    "the design stops when its weights change little, and the gap asked for is claimed",
)
_SUBSAMPLE = (
    "gap of a third of the points",
    "design and gap of every third point are taken for those of all",
)
_UNGROWN = ("not grown by the gap", "the ellipsoid of the optimum, though the design is not optimal")
_LOST = ("a contact point lost", "the heaviest point of the design is left out of the support")
_HALF = ("shrunken as if centred", "a free ellipsoid is shrunk by the root of the ratio that it needs")

_UNREAD = ("last block not read", "the last block of points is not looked at, also when certifying")
_ANOTHER = ("another set of the batch", "the ellipsoid of another member of the batch is returned")
_ROUTE_FAULTS: dict[Route, tuple[str, Route]] = {
    in_blocks: (_UNREAD[0], without_last_block),
    in_batch: (_ANOTHER[0], of_another),
}

_ENCLOSED = "largest variance over the certified one, which is computed, so 1 is usual; also enclosure"
_INSCRIBED = "reach of the inscribed ellipsoid over the distance to the hull of the contact points"
_VOLUME = "excess of the logarithm of the volume over its bound"


def _roundings(workloads: Sequence[Workload], profile: Profile, *, symmetric: bool) -> Iterable[Scenario]:
    """The three statements on every set, and all of them at once by every other route."""
    sets = [*small(unweighted(workloads), _POINTS), *tight()]
    for workload in sets:
        view = View(workload.data.points, symmetric)
        fine, coarse = Library(view, By(), _FINE), Library(view, By(), _COARSE)
        many = workload.n > 20 and workload.kind != "degenerate"
        enclosed: dict[str, Callable[[], Rounded]] = {}
        if many:
            enclosed = {
                _STEP[0]: Stopped(view, _FINE),
                _SUBSAMPLE[0]: Subsampled(view),
                _UNGROWN[0]: Ungrown(view),
            }
        inscribed: dict[str, Callable[[], Rounded]] = {_LOST[0]: Lost(fine)}
        if not symmetric:
            inscribed[_HALF[0]] = HalfRounded(fine)
        stopped: dict[str, Callable[[], Rounded]] = {_STEP[0]: Stopped(view, _COARSE / 100.0)} if many else {}
        yield certain(renamed(workload, "enclosed"), fine, view.enclosed, enclosed, note=_ENCLOSED)
        yield certain(renamed(workload, "inscribed"), fine, view.inscribed, inscribed, note=_INSCRIBED)
        yield certain(renamed(workload, "volume"), coarse, view.volume, stopped, note=_VOLUME)
    # Beyond a few thousand points the library works on some of them and screens the others.
    for workload in [w for w in workloads if w.n > _WORKING][:2]:
        shown = leading(workload, 3)
        view = View(shown.data.points, symmetric)
        honest = Library(view, By(), _FINE)
        yield certain(
            renamed(shown, "all points"),
            honest,
            view.rounded,
            {_LOST[0]: Lost(honest)},
            note="without the volume",
        )
    # What differs by another route is the code, so one set with many contact points is enough.
    for workload in [w for w in sets if w.n >= 100][:1]:
        view = View(workload.data.points, symmetric)
        for name, route, gap in _routes():
            honest = Library(view, route, gap)
            broken: dict[str, Callable[[], Rounded]] = {
                _STEP[0]: Stopped(view, gap / 100.0),
                _SUBSAMPLE[0]: Subsampled(view),
            }
            if route in _ROUTE_FAULTS:
                fault, wrong = _ROUTE_FAULTS[route]
                broken[fault] = Library(view, wrong, gap)
            yield certain(
                renamed(workload, name), honest, view.everything, broken, note="the largest of three figures"
            )


_SEARCHED = "all points, all facets of the hull of the contact points, and the ellipsoid of a conic solver"
_FAULTS = dict([_STEP, _SUBSAMPLE, _UNGROWN, _LOST, _UNREAD, _ANOTHER])

CHECKS = (
    Check(SymmetricRounding(), _SEARCHED, _FAULTS, partial(_roundings, symmetric=True)),
    Check(AffineRounding(), _SEARCHED, _FAULTS | dict([_HALF]), partial(_roundings, symmetric=False)),
)
