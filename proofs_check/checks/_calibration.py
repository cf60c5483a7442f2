"""Calibrated draws, honest and broken, and references that share no formula with the library."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.calibration import Moments, RotationInvariant, calibrate
from coresets.errors import SolverError
from coresets.reduction import SensitivityReducer
from coresets.sampling import sample_poisson
from coresets.weighted_set import Coreset, WeightedSet
from proofs_check.queries import WorstError

__all__ = [
    "FEW",
    "NO_CONSTANT",
    "SAMPLE",
    "TWICE",
    "Broken",
    "CalibratedTrial",
    "OnTheCircle",
    "StatedTrial",
    "factors_of",
    "half_error",
    "plain_greg",
]

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-9

SAMPLE = (
    "moments of the sample as target",
    "the weights are made to keep the unweighted sums of the kept points",
)
NO_CONSTANT = (
    "features without the constant",
    "the moments are kept, but not the total of the sensitivities",
)
TWICE = ("weights applied twice", "the drawn weights are multiplied by calibrated ones instead of replaced")
FEW = ("fewer points than moments", "half as many points as moments are drawn, which cannot keep them")


def factors_of(data: WeightedSet, coreset: Coreset) -> Floats:
    """Weights of the kept points over their masses."""
    masses = np.asarray(data.weights)[coreset.indices]
    factors = np.zeros(len(masses))
    np.divide(coreset.weights, masses, out=factors, where=masses > 0.0)
    return factors


def plain_greg(features: Floats, base: Floats, drawn: Floats, target: Floats) -> Floats:
    """The textbook's generalised regression estimator, without bounds on the weights."""
    gram = (features * base[:, None]).T @ features
    multiplier = np.linalg.lstsq(gram, target - base @ features, rcond=None)[0]
    found: Floats = drawn * (1.0 + features @ multiplier)
    return found


@dataclass(frozen=True)
class CalibratedTrial:
    """Poisson sampling and the library's calibration; NaN, a failure, if no weights keep the moments."""

    data: WeightedSet
    moments: Moments
    size: int
    worst: WorstError

    def draw(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.intp], Floats]:
        """Kept points, and by what their masses grow."""
        draw = sample_poisson(self.moments.measure, self.size, rng=rng)
        return np.asarray(draw.indices), np.asarray(draw.kept_weights)

    def __call__(self, rng: np.random.Generator) -> float:
        kept, grown = self.draw(rng)
        weights = np.asarray(self.data.weights)[kept] * grown
        try:
            drawn = Coreset(indices=kept, weights=weights, size=self.size, accuracy=Accuracy(1.0, 1.0))
            coreset = calibrate(self.data, drawn, self.moments)
        except SolverError:
            return float("nan")
        return self.worst(kept, factors_of(self.data, coreset))


@dataclass(frozen=True)
class Broken:
    """The same with the textbook's estimator and one mistake."""

    honest: CalibratedTrial
    mistake: str

    def __call__(self, rng: np.random.Generator) -> float:
        trial, moments = self.honest, self.honest.moments
        if self.mistake == FEW[0]:
            trial = replace(trial, size=max(1, moments.count // 2))
        kept, grown = trial.draw(rng)
        features, base = moments.features(kept), grown * moments.measure[kept]
        target = moments.totals()
        if self.mistake == SAMPLE[0]:
            target = moments.measure[kept] @ features
        if self.mistake == NO_CONSTANT[0]:
            features, target = features[:, 1:], target[1:]
        factors = plain_greg(features, base, grown, target)
        if self.mistake == TWICE[0]:
            factors = factors * grown
        return self.honest.worst(kept, factors)


class CoresetError(Protocol):
    """Error of a coreset at the worst query."""

    def __call__(self, coreset: Coreset) -> float: ...


@dataclass(frozen=True)
class StatedTrial:
    """Reduce once; the error in units of what the coreset itself states, times what is claimed here."""

    reducer: SensitivityReducer
    data: WeightedSet
    size: int
    claimed: float
    worst: CoresetError
    broken: Callable[[Coreset, WeightedSet], Coreset] | None = None

    def __call__(self, rng: np.random.Generator) -> float:
        coreset = self.reducer.reduce(self.data, size=self.size, rng=rng)
        stated = coreset.accuracy.epsilon
        if self.broken is not None:
            coreset = self.broken(coreset, self.data)
        return self.claimed * self.worst(coreset) / stated


def half_error(data: WeightedSet, coreset: Coreset) -> float:
    """Largest |2 error of ReLU - error of |.|| over the sum of |.|, at many queries.

    Queries are orthogonal to points, where ReLUs switch, and spread.
    """
    points, weights = np.asarray(data.points, dtype=np.float64), np.asarray(data.weights)
    after = np.zeros(data.n)
    after[coreset.indices] = coreset.weights
    spread = np.random.default_rng(0).standard_normal((64, data.d))
    if data.d == 2:
        spread = np.vstack([spread, np.stack([-points[:, 1], points[:, 0]], axis=1), points])
    spread = np.vstack([spread, -spread])
    images = points @ spread.T
    off = after - weights
    full = weights @ np.abs(images)
    relu, absolute = off @ np.maximum(images, 0.0), off @ np.abs(images)
    # A sum that is only the rounding of its parts is zero, and so are the errors.
    seen = full > _ROUNDING * np.linalg.norm(spread, axis=1) * (weights @ np.linalg.norm(points, axis=1))
    return float(np.max(np.abs(2.0 * relu - absolute)[seen] / full[seen], initial=0.0))


@dataclass(frozen=True, eq=False)
class OnTheCircle:
    """Mean square errors over Gaussian queries of the plane, by Gauss-Legendre between the kinks.

    With x = root y the cost of a point is phi of one coordinate of y, and its kinks are at two angles.
    Between neighbouring kinks the error is a wave, whose square 24 nodes integrate to rounding.
    """

    data: WeightedSet
    law: RotationInvariant

    def mean_square(self, excess: Floats) -> float:
        """E (sum of excess f)^2."""
        rows = self.law.embedded(self.data)
        turns = np.arctan2(rows[:, 1], rows[:, 0]) + 0.5 * math.pi
        kinks = np.unique(np.concatenate([[0.0, math.pi], np.mod(turns, math.pi)]))
        kinks = np.concatenate([kinks, kinks[1:] + math.pi])
        nodes, heights = np.polynomial.legendre.leggauss(24)
        half = 0.5 * np.diff(kinks)
        angles = ((kinks[:-1] + half)[:, None] + half[:, None] * nodes).ravel()
        images = rows @ np.stack([np.cos(angles), np.sin(angles)])
        costs = np.where(images > 0.0, images, self.law.link.slope * images)
        square = (excess @ costs) ** 2
        # The squared length of y has the mean 2 and is independent of the angle.
        return float(square @ (half[:, None] * heights).ravel() / math.pi)
