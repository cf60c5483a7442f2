"""A primal-dual interior-point method for the hinge loss, for problems on which Newton's steps are short.

With a large price lam, or separable classes, few points end within the margin, and a smoothed loss is stiff:
each Newton step meets the kink of some point and is cut. Here every constraint y (w.x + b) + xi >= 1 has a
slack s and a multiplier a in (0, cap), and xi >= 0 has cap - a; Newton's method is applied to a s = mu and
(cap - a) xi = mu, with mu led to 0 by Mehrotra's predictor and corrector. It takes some twenty-five
iterations whatever the price. Each reads all points six times and solves one system of d + 1 unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, lstsq

from coresets.svm._rows import rows_of
from coresets.svm.data import LabelledSet
from coresets.svm.dual import DualSums
from coresets.svm.objective import LinearModel, SVMObjective

__all__ = ["Interior"]

Floats: TypeAlias = npt.NDArray[np.float64]

_PASSES = 6  # reads of the points in one iteration
_INSIDE = 0.995  # of the way to the boundary
_FIRST = 10.0  # times the objective: complementarity at the start; with less of it first steps are short


@dataclass(frozen=True, eq=False)
class Interior:
    """A model, and strictly positive slacks and multipliers of all points of positive mass."""

    data: LabelledSet
    objective: SVMObjective
    model: LinearModel
    margins: Floats
    duals: Floats
    slacks: Floats  # s = margin + xi - 1
    hinges: Floats  # xi
    value: float
    sums: DualSums
    passes: int
    stalled: bool = False

    @classmethod
    def start(
        cls, data: LabelledSet, objective: SVMObjective, model: LinearModel, passes: int = 0
    ) -> Interior:
        """At a model, with all products equal; points without mass must have been left out."""
        scan = objective.scan(data, model)
        value = objective.regulariser(model) + scan.hinges
        caps = objective.lam * data.weights
        target = _FIRST * value / (2.0 * data.n)
        shares = _central((scan.margins - 1.0) * caps / target)
        duals = caps * shares
        slacks, hinges = target / duals, target / (caps * _central((1.0 - scan.margins) * caps / target))
        return cls(
            data,
            objective,
            model,
            scan.margins,
            duals,
            slacks,
            hinges,
            value,
            DualSums(_moments(data, duals), scan.radius, data.n),
            passes + 2,
        )

    def step(self) -> Interior:
        """One predictor and corrector."""
        caps = self.objective.lam * self.data.weights
        rest = caps - self.duals
        curvature = 1.0 / (self.slacks / self.duals + self.hinges / rest)
        if not np.isfinite(curvature).all():
            return replace(self, stalled=True)
        system = _System.of(self, curvature)
        products = self.duals * self.slacks, rest * self.hinges
        mean = float(products[0].sum() + products[1].sum()) / (2 * self.data.n)
        first = self._move(system, curvature, -products[0], -products[1])
        length = self._length(first, rest)
        ahead = (self.duals + length * first.duals) @ (self.slacks + length * first.slacks)
        ahead += (rest - length * first.duals) @ (self.hinges + length * first.hinges)
        goal = mean * min(1.0, float(ahead) / (2 * self.data.n * mean)) ** 3
        second = self._move(
            system,
            curvature,
            goal - products[0] - first.duals * first.slacks,
            goal - products[1] + first.duals * first.hinges,
        )
        length = _INSIDE * self._length(second, rest)
        return self._moved(second, length)

    def _move(self, system: _System, curvature: Floats, above: Floats, below: Floats) -> _Move:
        """Newton direction for right-hand sides of the two complementarities."""
        rest = self.objective.lam * self.data.weights - self.duals
        pull = curvature * (above / self.duals - below / rest)
        w, b = system.solve(_pulled(_moments(self.data, pull), self.objective))
        margins = self.data.signs * (np.asarray(self.data.points @ w, dtype=np.float64) + b)
        duals = pull - curvature * margins
        hinges = (below + self.hinges * duals) / rest
        return _Move(w, b, margins, duals, margins + hinges, hinges)

    def _length(self, move: _Move, rest: Floats) -> float:
        """Longest step, at most 1, after which nothing is negative."""
        limits = [
            _limit(self.duals, move.duals),
            _limit(rest, -move.duals),
            _limit(self.slacks, move.slacks),
            _limit(self.hinges, move.hinges),
        ]
        return min(1.0, *limits)

    def _moved(self, move: _Move, length: float) -> Interior:
        model = LinearModel(self.model.w + length * move.w, self.model.b + length * move.b)
        margins = self.margins + length * move.margins
        duals = self.duals + length * move.duals
        caps = self.objective.lam * self.data.weights
        value = self.objective.regulariser(model) + float(caps @ np.maximum(0.0, 1.0 - margins))
        return replace(
            self,
            model=model,
            margins=margins,
            duals=duals,
            slacks=self.slacks + length * move.slacks,
            hinges=self.hinges + length * move.hinges,
            value=value,
            sums=replace(self.sums, sums=_moments(self.data, duals)),
            passes=self.passes + _PASSES,
            stalled=length < 1e-8,
        )


@dataclass(frozen=True, eq=False)
class _Move:
    """A direction."""

    w: Floats
    b: float
    margins: Floats
    duals: Floats
    slacks: Floats
    hinges: Floats


@dataclass(frozen=True, eq=False)
class _System:
    """(R + Z^T D Z) dtheta = Z^T a - R theta + right-hand side, R the regulariser."""

    matrix: Floats
    factor: Any
    residual: Floats
    has_b: bool

    @classmethod
    def of(cls, state: Interior, curvature: Floats) -> _System:
        """Factored once for the predictor and the corrector."""
        intercept, d = state.objective.intercept, state.data.d
        matrix = rows_of(state.data.points).gram(np.arange(state.data.n), curvature)
        penalty = np.append(np.ones(d), 1.0 / intercept.scale**2 if intercept.scale > 0.0 else 0.0)
        matrix[np.arange(d + 1), np.arange(d + 1)] += penalty
        theta = np.append(state.model.w, state.model.b)
        residual = _pulled(state.sums.sums, state.objective) - penalty * theta
        has_b = intercept.free or intercept.scale > 0.0
        if not has_b:
            matrix[d], matrix[:, d], matrix[d, d], residual[d] = 0.0, 0.0, 1.0, 0.0
        try:
            factor = cho_factor(matrix)
        except np.linalg.LinAlgError:  # not positive definite to rounding
            factor = None
        return cls(matrix, factor, residual, has_b)

    def solve(self, right: Floats) -> tuple[Floats, float]:
        """The step in (w, b)."""
        full = self.residual + right
        found = cho_solve(self.factor, full) if self.factor is not None else lstsq(self.matrix, full)[0]
        return np.asarray(found[:-1]), float(found[-1]) if self.has_b else 0.0


def _central(ratios: Floats) -> Floats:
    """The root t in (0, 1) of (1 - 2 t) / (t (1 - t)) = ratio, without cancellation."""
    size = np.abs(ratios)
    small = 2.0 / (size + 2.0 + np.hypot(size, 2.0))
    return np.where(ratios >= 0.0, small, 1.0 - small)


def _limit(values: Floats, moves: Floats) -> float:
    """Largest step at which ``values`` are not negative."""
    worst = float(np.min(moves / values))
    return -1.0 / worst if worst < 0.0 else np.inf


def _moments(data: LabelledSet, weights: Floats) -> Floats:
    """Sums of weight * (x, 1) over the two classes."""
    return rows_of(data.points).moments(weights, (data.signs > 0).astype(np.int32), 2)


def _pulled(sums: Floats, objective: SVMObjective) -> Floats:
    """Positive class less negative one; nothing for b if there is none."""
    found = sums[1] - sums[0]
    if not (objective.intercept.free or objective.intercept.scale > 0.0):
        found[-1] = 0.0
    return np.asarray(found)
