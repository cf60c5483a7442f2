"""One Caratheodory reduction of rows in memory: frame, tree, refinement, evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from coresets.recombination._frame import BLOCK, Frame, GroupSums, Lift, finer_scale, frame_of
from coresets.recombination._kernels import CHAIN
from coresets.recombination._tree import (
    EPS,
    Target,
    refined,
    residual,
    starts_of,
    survivors,
    target_of,
)

__all__ = ["Reduction", "frame_for", "reduce_rows"]

Array = np.ndarray

# Directions this small, times the number of features and machine epsilon, are taken for rounding.
_RANK_FACTOR = 64.0

_LARGEST_TOLERANCE = 1e-6

# Residuals that a correct reduction stays below, in units, up to 100 features and per feature beyond.
_PROMISE, _PROMISE_PER_FEATURE = 1e-13, 1e-15

_LARGEST_PROMISE = 1e-3  # what is known no better than this was not kept

_OFFSET = 4.0  # an origin so many standard deviations from the mean is good enough
_CENTRINGS = 4


@dataclass(frozen=True)
class Reduction:
    """Rows kept, their weights, and what was measured on them."""

    indices: Array
    weights: Array
    rank: int  # of the features
    residual: float  # largest error of a kept moment, in units
    mass_error: float
    rounding: float
    promise: float
    tolerance: float  # relative, at which the rank was decided


def _finite(target: Target) -> bool:
    return math.isfinite(target.mass) and bool(
        np.isfinite(target.sums).all() and np.isfinite(target.units).all()
    )


def _first_pass(points: Array, weights: Array, lift: Lift) -> tuple[Frame, GroupSums, Target]:
    """Frame without mixing whose origin is near the mean, and the sums of a linear lift in it."""
    k = lift.size(points.shape[1])
    starts = starts_of(points.shape[0], k)
    frame = frame_of(points, weights, centred=lift.centred)
    for attempt in range(_CENTRINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            groups = frame.group_sums(points, weights, starts, lift)
            target = target_of(groups, lift, CHAIN // 4)
        if not _finite(target):  # the sample missed rows of another magnitude
            frame = frame_of(points, weights, centred=lift.centred, sample_size=points.shape[0])
        elif lift.centred and target.offset > _OFFSET and attempt + 1 < _CENTRINGS:
            frame = frame.moved(target.sums[: frame.q] / target.mass)
        else:
            break
    return frame, groups, target


def frame_for(points: Array, weights: Array, lift: Lift) -> tuple[Frame, GroupSums, Target, float]:
    """Frame of the data, the first level's sums in it, their total, and the amplification of rounding."""
    if not lift.quadratic:
        return *_first_pass(points, weights, lift), 1.0
    frame, _, first = _first_pass(points, weights, Lift(False, True, lift.centred))
    sizes = first.units[: frame.q] / first.mass
    factor = finer_scale(frame.scale, sizes)
    frame = Frame(frame.scale * factor, frame.origin * factor)
    frame, amplification, lost = frame.whitened(points, weights)
    starts = starts_of(points.shape[0], lift.size(frame.q))
    groups = frame.group_sums(points, weights, starts, lift)
    longest = int(np.max(np.diff(starts)))
    # Each of the two coordinates of a product is rounded, and the mixing makes that larger.
    chain = min(longest, BLOCK) + longest // BLOCK + math.ceil(4.0 * amplification)
    target = target_of(groups, lift, chain)
    return frame, groups, replace(target, rounding=target.rounding + lost), amplification


def reduce_rows(
    points: Array,
    weights: Array,
    lift: Lift,
    known: tuple[Frame, Target, float] | None = None,
) -> Reduction:
    """Reduce rows (n, d) with weights (n,), none for ones, to at most as many as their features' rank.

    ``known`` holds a frame, a target and the amplification of rounding: work in that frame and keep that
    target instead of the sums of the very rows, from which it differs by rounding.
    """
    if known is None:
        frame, groups, target, amplification = frame_for(points, weights, lift)
    else:
        frame, target, amplification = known
        groups = frame.group_sums(points, weights, starts_of(points.shape[0], lift.size(frame.q)), lift)
    k = lift.size(frame.q)
    goal = max(_PROMISE, k * _PROMISE_PER_FEATURE)
    # Never less than what the sums themselves are known to.
    promise = min(max(goal * amplification, 4.0 * target.rounding), _LARGEST_PROMISE)

    best: Reduction | None = None
    # If leaving out what looks like rounding costs accuracy, it was none: keep more points.
    for tolerance in (min(_RANK_FACTOR * k * EPS * amplification, _LARGEST_TOLERANCE), 0.0):
        kept = survivors(points, weights, frame, lift, groups, target.scaling, tolerance)
        features = lift.features(frame.chosen(points, kept.positions))
        new = refined(target, features, kept.weights)
        alive = new > 0.0
        error, mass_error = residual(target, features[alive], new[alive])
        reached = Reduction(
            kept.positions[alive],
            new[alive],
            kept.rank,
            error,
            mass_error,
            target.rounding,
            promise,
            tolerance,
        )
        if best is None or reached.residual < best.residual:
            best = reached
        if best.residual <= goal / 2.0:
            break
    assert best is not None  # two attempts were made
    return best
