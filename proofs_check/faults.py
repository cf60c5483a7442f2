"""Samplers broken on purpose.

Each has the face of a sampler of :mod:`coresets.sampling` and makes one mistake that published
codes or a tired programmer have made. A check that lets one of them pass is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from coresets.sampling import sample_hybrid
from coresets.weighted_set import to_host

__all__ = [
    "FULL_DRAW_WEIGHTS",
    "LEAST_SENSITIVE",
    "SUCCESSIVE",
    "UNDIVIDED",
    "UNIFORM",
    "Draws",
    "FullDrawWeights",
    "LeastSensitive",
    "PlainDraw",
    "Successive",
    "Undivided",
    "Uniform",
]

UNDIVIDED = (
    "weights not divided by the probability",
    "kept points keep their own weights, as in the full sum",
)
UNIFORM = ("uniform draws", "every point has the same probability, whatever its sensitivity")
SUCCESSIVE = (
    "replacement weights without replacement",
    "points are drawn successively without replacement and weighted as if drawn with it",
)
LEAST_SENSITIVE = (
    "least sensitive points kept",
    "the order is reversed, so the most sensitive points are dropped",
)
FULL_DRAW_WEIGHTS = (
    "sure points counted among the draws",
    "the sampled part is divided by all m draws instead of the m - k that were made",
)


@dataclass(frozen=True)
class PlainDraw:
    """What an estimate needs of a draw, and the counts where they are known."""

    indices: npt.NDArray[np.intp]
    kept_weights: npt.NDArray[np.float64]
    kept_counts: npt.NDArray[np.int64] | None = None


class Draws(Protocol):
    """A sampler of :mod:`coresets.sampling`, or something with the same method."""

    def draw(self, sensitivities: Any, size: int, rng: Any) -> Any:
        """Draw; the result has ``indices``, ``kept_counts`` and ``kept_weights``."""


@dataclass(frozen=True)
class Undivided:
    """Weights are the counts: not divided by the probability."""

    sampler: Draws

    def draw(self, sensitivities: Any, size: int, rng: Any) -> PlainDraw:
        """Draw honestly, weigh wrongly."""
        draw = self.sampler.draw(sensitivities, size, rng)
        return PlainDraw(to_host(draw.indices), to_host(draw.kept_counts).astype(np.float64))


@dataclass(frozen=True)
class Uniform:
    """Sensitivities are ignored; the weights fit the uniform draw."""

    sampler: Draws

    def draw(self, sensitivities: Any, size: int, rng: Any) -> Any:
        """Draw with equal probabilities."""
        return self.sampler.draw(np.ones_like(sensitivities), size, rng)


@dataclass(frozen=True)
class Successive:
    """Successive draws without replacement, with the weights of draws with replacement."""

    def draw(self, sensitivities: Any, size: int, rng: np.random.Generator) -> PlainDraw:
        """Draw distinct points, weigh by t / (m s)."""
        probabilities = np.asarray(sensitivities, dtype=np.float64) / np.sum(sensitivities)
        size = min(size, int(np.count_nonzero(probabilities)))
        indices = np.sort(rng.choice(probabilities.size, size=size, replace=False, p=probabilities))
        return PlainDraw(indices, 1.0 / (size * probabilities[indices]))


@dataclass(frozen=True)
class LeastSensitive:
    """Keeps the least sensitive points."""

    def draw(self, sensitivities: Any, size: int, rng: object) -> PlainDraw:
        """Reverse the order."""
        indices = np.sort(np.argsort(sensitivities, kind="stable")[:size])
        return PlainDraw(indices, np.ones(size))


@dataclass(frozen=True)
class FullDrawWeights:
    """The hybrid scheme with the draws miscounted."""

    def draw(self, sensitivities: Any, size: int, rng: Any) -> PlainDraw:
        """Scale the sampled part by (m - k) / m."""
        draw = sample_hybrid(sensitivities, size, rng=rng)
        sure = draw.probabilities[draw.indices] == 1.0
        share = (size - np.count_nonzero(sure)) / size
        return PlainDraw(draw.indices, np.where(sure, 1.0, draw.kept_weights * share))
