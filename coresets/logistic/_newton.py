"""Newton's method for logistic regression, two reads of the data a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, lstsq
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit

from coresets.logistic._pass import Pass, gram, images, scan
from coresets.logistic.objective import LogisticObjective
from coresets.svm.data import LabelledSet
from coresets.svm.objective import LinearModel

__all__ = ["State"]

Floats: TypeAlias = npt.NDArray[np.float64]

_DIRECT = 1500  # columns from which systems are solved by conjugate gradients
_BISECTIONS = 30


@dataclass(frozen=True, eq=False)
class State:
    """A model, and the read of the data at it."""

    data: LabelledSet
    objective: LogisticObjective
    model: LinearModel
    found: Pass
    passes: int

    @property
    def value(self) -> float:
        return self.objective.regulariser(self.model) + self.found.loss

    @property
    def caps(self) -> Floats:
        return np.asarray(self.objective.lam * self.data.weights)

    def gradient(self) -> Floats:
        """Of F, in (w, b); the last entry is 0 if there is no intercept."""
        negative, positive = self.found.sums
        gradient = np.append(self.model.w, 0.0) - (positive - negative)
        intercept = self.objective.intercept
        if intercept.scale > 0.0:
            gradient[-1] += self.model.b / intercept.scale**2
        elif not intercept.free:
            gradient[-1] = 0.0
        return gradient

    def direction(self, gradient: Floats) -> Floats:
        """Newton's."""
        q, d, intercept = expit(-self.found.margins), self.data.d, self.objective.intercept
        curvature = self.caps * q * (1.0 - q)
        price = 1.0 / intercept.scale**2 if intercept.scale > 0.0 else 0.0
        # Where probabilities are 0 or 1 nothing holds a free intercept: a price that vanishes at the optimum.
        price += abs(float(gradient[-1])) * 1e-3 + 1e-12 if intercept.free else 0.0
        if d > _DIRECT:
            return _conjugate(self.data.points, curvature, gradient, price)
        hessian = gram(self.data.points, curvature)
        hessian[np.arange(d), np.arange(d)] += 1.0
        if price > 0.0:
            hessian[d, d] += price
        else:
            hessian[d], hessian[:, d], hessian[d, d] = 0.0, 0.0, 1.0
        try:
            return np.asarray(-cho_solve(cho_factor(hessian), gradient))
        except np.linalg.LinAlgError:  # not positive definite to rounding
            return np.asarray(-lstsq(hessian, gradient)[0])

    def step(self) -> State | None:
        """The next model, or None if rounding leaves no way down."""
        gradient = self.gradient()
        move = self.direction(gradient)
        fall = -float(gradient @ move)
        if not np.isfinite(move).all() or fall <= 0.0:
            return None
        rise = self.data.signs * images(self.data.points, move[:-1], float(move[-1]))
        length = self._length(move, rise, fall)
        model = LinearModel(self.model.w + length * move[:-1], self.model.b + length * float(move[-1]))
        margins = self.found.margins + length * rise
        found = scan(self.data.points, self.data.signs, self.caps, margins)
        return State(self.data, self.objective, model, found, self.passes + 2)

    def _length(self, move: Floats, rise: Floats, fall: float) -> float:
        """1 if that lowers F enough; else the minimiser along the line: margins are linear."""
        scale = self.objective.intercept.scale
        weight = np.append(np.ones(move.size - 1), 1.0 / scale**2 if scale > 0.0 else 0.0)
        here = np.append(self.model.w, self.model.b)
        linear, square = float((weight * here) @ move), float((weight * move) @ move)
        margins, caps = self.found.margins, self.caps
        full = float((caps * np.logaddexp(0.0, -(margins + rise))).sum())
        if linear + 0.5 * square + full - self.found.loss <= -0.25 * fall:
            return 1.0

        def slope(t: float) -> float:
            return linear + square * t - float((caps * rise) @ expit(-(margins + t * rise)))

        low, high = 0.0, 1.0
        while slope(high) < 0.0 and high < 2.0**20:
            low, high = high, 2.0 * high
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if slope(middle) > 0.0 else (middle, high)
        return low if low > 0.0 else high


def _conjugate(points: Any, curvature: Floats, gradient: Floats, price: float) -> Floats:
    """The same system by conjugate gradients, for many columns."""

    def product(x: Floats) -> Floats:
        mapped = curvature * (points @ x[:-1] + x[-1])
        return np.append(x[:-1] + points.T @ mapped, mapped.sum() + price * x[-1] if price > 0.0 else x[-1])

    operator = LinearOperator((gradient.size, gradient.size), matvec=product, dtype=np.float64)
    return np.asarray(-cg(operator, gradient, rtol=1e-4, maxiter=300)[0])
