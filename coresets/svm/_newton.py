"""Newton's method for the hinge loss smoothed across a band around the margin, one pass a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lstsq
from scipy.sparse.linalg import LinearOperator, cg

from coresets.svm import _kernels as kernels
from coresets.svm._rows import Pass, rows_of
from coresets.svm.data import LabelledSet
from coresets.svm.dual import DualSums
from coresets.svm.objective import LinearModel, SVMObjective

__all__ = ["DIRECT", "Newton"]

DIRECT = 1500  # columns from which systems are solved by conjugate gradients
_LOOK = 50_000  # margins from which the width is chosen
_WIDEST, _NARROWEST = 4.0, 1e-7
_OWN = 0.3  # of the distance of the bounds is due to smoothing: time for a narrower band
_SHRINK = 0.25  # of the width, then
_BISECTIONS, _MOST_BISECTIONS = 12, 50  # the latter until any step downhill is found
_STALLED = 6  # steps without progress, all at the narrowest width


@dataclass(frozen=True, eq=False)
class Newton:
    """A model, the pass over the data at it, and the width of the band."""

    data: LabelledSet
    objective: SVMObjective
    model: LinearModel
    scan: Pass
    width: float
    passes: int
    idle: int = 0

    @classmethod
    def start(
        cls, data: LabelledSet, objective: SVMObjective, model: LinearModel, tightness: float
    ) -> Newton:
        """Two passes: margins at the model tell the width, and the second one uses it."""
        first = objective.scan(data, model)
        caps = objective.lam * data.weights
        value = objective.regulariser(model) + first.hinges
        width = _width(first.margins, caps, 0.25 * tightness * value)
        scan = objective.scan(data, model, width)
        return cls(data, objective, model, scan, width, 2)

    @property
    def value(self) -> float:
        """F at the model."""
        return self.objective.regulariser(self.model) + self.scan.hinges

    @property
    def sums(self) -> DualSums:
        """Of the dual point that the band suggests."""
        return DualSums.of(self.scan)

    @property
    def stalled(self) -> bool:
        """Whether more steps would not help."""
        return self.idle >= _STALLED

    @property
    def caps(self) -> Any:
        """Largest dual variables, (n,)."""
        return self.objective.lam * self.data.weights

    def smoothed(self) -> float:
        """Smoothed objective at the model, up to nothing: the hinge parts inside the band are replaced."""
        slack = 1.0 - self.scan.margins
        inside = np.abs(slack) < 0.5 * self.width
        near = slack[inside]
        extra = 0.5 * self.width * np.square(0.5 + near / self.width) - np.maximum(near, 0.0)
        return self.value + float(self.caps[inside] @ extra)

    def step(self, apart: float) -> Newton:
        """The next model: a Newton step, shortened where it leads too far.

        Before it, the band is made narrower if smoothing is what keeps the bounds apart.

        Parameters
        ----------
        apart : float
            Distance of the best bounds so far.
        """
        state = self
        own = kernels.band_gap(self.scan.margins, self.caps, self.width)
        if own > _OWN * apart and self.width > _NARROWEST:
            state = self.at_width(max(_NARROWEST, _SHRINK * self.width))
        gradient = state.gradient()
        direction = state.direction(gradient)
        fall = -float(gradient @ direction)
        if not np.isfinite(direction).all() or fall <= 0.0:
            return replace(state, idle=_STALLED)
        return state.moved(direction, fall)

    def at_width(self, width: float) -> Newton:
        """Same model, another band: the margins are known, but the sums have to be made again."""
        scan = self.objective.scan(self.data, self.model, width)
        return replace(self, scan=scan, width=width, passes=self.passes + 1)

    def gradient(self) -> Any:
        """Of the smoothed objective, in (w, b)."""
        negative, positive = self.scan.sums
        gradient = np.append(self.model.w, 0.0) - (positive - negative)
        scale, free = self.objective.intercept.scale, self.objective.intercept.free
        if scale > 0.0:
            gradient[-1] += self.model.b / scale**2
        elif not free:
            gradient[-1] = 0.0
        return gradient

    def direction(self, gradient: Any) -> Any:
        """Newton direction of the smoothed objective."""
        chosen = np.flatnonzero(np.abs(1.0 - self.scan.margins) < 0.5 * self.width)
        curvature = self.caps[chosen] / self.width
        d, intercept = self.data.d, self.objective.intercept
        price = 1.0 / intercept.scale**2 if intercept.scale > 0.0 else 0.0
        has_b = intercept.free or intercept.scale > 0.0
        if d > DIRECT:
            return _conjugate(self.data.points[chosen], curvature, gradient, price, has_b)
        hessian = rows_of(self.data.points).gram(chosen, curvature)
        hessian[np.arange(d), np.arange(d)] += 1.0
        if has_b:
            # With few points in the band nothing holds a free intercept. A price in proportion to its own
            # gradient keeps its step below 1, and vanishes at the optimum.
            hessian[d, d] += price or abs(float(gradient[d])) + 1e-10
        else:
            hessian[d], hessian[:, d], hessian[d, d] = 0.0, 0.0, 1.0
        try:
            return -cho_solve(cho_factor(hessian), gradient)
        except np.linalg.LinAlgError:  # not positive definite to rounding
            return -lstsq(hessian, gradient)[0]

    def moved(self, direction: Any, fall: float) -> Newton:
        """After a step along the direction, shortened if it does not lower the smoothed objective enough."""
        before = self.smoothed()
        moved = self.at(1.0, direction)
        if moved.smoothed() <= before - 1e-4 * fall:
            return moved.after(before)
        # Margins are linear along the step, so the best length is found without reading the data.
        length = self._length(direction, moved.scan.margins - self.scan.margins)
        return replace(self, passes=moved.passes).at(length, direction).after(before)

    def at(self, length: float, direction: Any) -> Newton:
        """After a step of the given length."""
        model = LinearModel(
            self.model.w + length * direction[:-1], self.model.b + length * float(direction[-1])
        )
        scan = self.objective.scan(self.data, model, self.width)
        return replace(self, model=model, scan=scan, passes=self.passes + 1)

    def after(self, before: float) -> Newton:
        """Count steps that gained nothing at the narrowest width."""
        stuck = self.smoothed() >= before * (1.0 - 1e-12) and self.width <= _NARROWEST
        return replace(self, idle=self.idle + 1 if stuck else 0)

    def _length(self, direction: Any, moves: Any) -> float:
        """Root of the derivative along the step, by bisection."""
        w, b, scale = self.model.w, self.model.b, self.objective.intercept.scale
        linear, square = float(w @ direction[:-1]), float(direction[:-1] @ direction[:-1])
        if scale > 0.0:
            linear += b * float(direction[-1]) / scale**2
            square += float(direction[-1]) ** 2 / scale**2
        low, high = 0.0, 1.0
        for round_ in range(_MOST_BISECTIONS):
            if round_ >= _BISECTIONS and low > 0.0:
                break
            middle = 0.5 * (low + high)
            rise = kernels.slope(self.scan.margins, moves, self.caps, self.width, middle)
            low, high = (low, middle) if linear + square * middle + rise > 0.0 else (middle, high)
        return low


def _width(margins: Any, caps: Any, target: float) -> float:
    """Widest band whose smoothing gap is at most ``target``, as far as some of the margins tell."""
    stride = max(1, margins.size // _LOOK)
    shown, masses = np.ascontiguousarray(margins[::stride]), np.ascontiguousarray(caps[::stride]) * stride
    low, high = _NARROWEST, _WIDEST
    if kernels.band_gap(shown, masses, high) <= target:
        return high
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if kernels.band_gap(shown, masses, middle) <= target else (low, middle)
    return low


def _conjugate(points: Any, curvature: Any, gradient: Any, price: float, has_b: bool) -> Any:
    """The same system by conjugate gradients, for many columns."""

    def product(x: Any) -> Any:
        images = curvature * (points @ x[:-1] + x[-1])
        out = np.append(
            x[:-1] + points.T @ images, images.sum() + (price or abs(float(gradient[-1])) + 1e-10) * x[-1]
        )
        out[-1] = out[-1] if has_b else x[-1]
        return out

    if not has_b:
        flat = gradient.copy()
        flat[-1] = 0.0
        gradient = flat
    size = gradient.size
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    return -cg(operator, gradient, rtol=1e-3, maxiter=200)[0]
