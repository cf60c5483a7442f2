"""Bounds on the optimum from both sides, drawn together until a rule is met: training and certificates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from coresets.errors import AssumptionError
from coresets.svm._interior import Interior
from coresets.svm._newton import DIRECT, Newton
from coresets.svm.data import LabelledSet
from coresets.svm.dual import DualSums, rounding
from coresets.svm.objective import LinearModel, SVMObjective

__all__ = ["Found", "Stop", "search"]

_PATIENCE = 25  # passes after which Newton's steps are too short, and interior points are better


@dataclass(frozen=True, slots=True)
class Stop:
    """When to stop.

    Parameters
    ----------
    tightness : float
        The bounds on the optimum are so close, relative to it.
    gap : float
        So much is certified for the given model.
    relative : bool
        Stop as well when what is certified for the given model is at most twice its true excess plus
        ``tightness``. The best model met so far bounds the true excess from below.
    """

    tightness: float
    gap: float = 0.0
    relative: bool = False

    def reached(self, found: Found) -> bool:
        """Whether to."""
        excess = found.primal / found.best_value - 1.0 if self.relative else 0.0
        close = found.best_value * (1.0 + excess) <= (1.0 + 2.0 * excess + self.tightness) * found.dual
        return close or found.primal <= (1.0 + self.gap) * found.dual


@dataclass(frozen=True, eq=False)
class Found:
    """The value of the given model, rounded up, and the best bounds on the optimum."""

    primal: float
    best: LinearModel
    best_value: float
    dual: float
    point: DualSums
    passes: int

    def seen(self, state: Newton | Interior) -> Found:
        """With what a state of the search adds."""
        intercept = state.objective.intercept
        candidates = (state.sums, self.point.joined(state.sums, intercept))
        point = max(candidates, key=lambda one: one.bound(intercept))
        better = state.value < self.best_value
        return replace(
            self,
            best=state.model if better else self.best,
            best_value=state.value if better else self.best_value,
            dual=max(self.dual, point.bound(intercept)),
            point=point,
            passes=state.passes,
        )


def search(
    data: LabelledSet, objective: SVMObjective, model: LinearModel, stop: Stop, max_passes: int
) -> Found:
    """Newton's steps on a smoothed loss, then interior points if they take too long.

    Parameters
    ----------
    data : LabelledSet
        n points.
    objective : SVMObjective
        The problem.
    model : LinearModel
        Where to start, and what is certified.
    stop : Stop
        When to stop.
    max_passes : int
        No further step is begun after so many reads of the data.

    Raises
    ------
    AssumptionError
        If the intercept is free and a class has no mass, so that the optimum is 0.
    """
    if objective.intercept.free and min(data.class_weights) == 0.0:
        raise AssumptionError(
            "one class has no mass: with a free intercept the optimum is 0; pass points of both classes"
        )
    first = Newton.start(data, objective, model, stop.tightness)
    primal = first.value * (1.0 + 4.0 * rounding(data.n, data.d)) + _margin_error(data, first)
    state: Newton | Interior = first
    found = Found(primal, model, state.value, 0.0, state.sums, state.passes)
    while True:
        found = found.seen(state)
        if stop.reached(found) or state.passes >= max_passes:
            break
        if isinstance(state, Interior):
            if state.stalled:
                break
            state = state.step()
        elif (state.stalled or state.passes >= _PATIENCE) and data.d <= DIRECT:
            state = Interior.start(_with_mass(data), objective, found.best, state.passes)
        elif state.stalled:
            break
        else:
            state = state.step(found.best_value - found.dual)
    if isinstance(state, Interior) and found.best is not model:
        # Margins were added up step by step; the value that is returned is computed afresh.
        found = replace(found, best_value=objective.value(data, found.best), passes=found.passes + 1)
    return found


def _with_mass(data: LabelledSet) -> LabelledSet:
    if data.weights.min() > 0.0:
        return data
    chosen = np.flatnonzero(data.weights > 0.0)
    return data.take(chosen, data.weights[chosen])


def _margin_error(data: LabelledSet, state: Newton) -> float:
    """Bound on the rounding of the margins' contribution to the primal value."""
    size = float(np.linalg.norm(state.model.w)) * state.scan.radius + abs(state.model.b) + 1.0
    # Only points of positive hinge loss contribute, and those near the margin.
    return (data.d + 4) * float(np.finfo(np.float64).eps) * size * state.objective.lam * data.total_weight
