"""Attacks on the statements about sensitivities themselves: LEV and LEWIS.

Nothing here is random: a single share above its bound refutes. The figure reported as the error
is the largest share found, divided by the bound claimed for it; 1 means that the bound is attained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantees import LeverageSensitivity, LewisSensitivity
from coresets.sensitivity import leverage_scores, lewis_weights
from coresets.weighted_set import WeightedSet
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.oracles import LargestPowerShares, largest_absolute_shares, largest_square_shares
from proofs_check.workloads import Workload, thinned

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]
Bounds = Callable[[WeightedSet], Floats]
Shares = Callable[[WeightedSet], Floats]

_POINTS = 40  # of every set, for which exact shares are computed, one programme each

_NOTE = "largest share over bound; 1 is attained, more refutes"


class AttainedShares:
    """Largest shares of a data set, computed when first asked for and then kept."""

    def __init__(self, data: WeightedSet, oracle: Shares) -> None:
        self.data = data
        self._oracle = oracle

    @cached_property
    def values(self) -> Floats:
        """Largest share of every point."""
        return self._oracle(self.data)


@dataclass(frozen=True)
class ShareTrial:
    """Largest ratio of an attained share to its claimed bound."""

    attained: AttainedShares
    bounds: Bounds

    def __call__(self, rng: np.random.Generator) -> float:
        shares, bounds = self.attained.values, self.bounds(self.attained.data)
        positive = shares > 0.0
        if not positive.any():
            return 0.0
        with np.errstate(divide="ignore"):
            return float(np.max(shares[positive] / bounds[positive]))


def _leverage(data: WeightedSet) -> Floats:
    return np.asarray(leverage_scores(data.points, data.weights))


def _unweighted_leverage(data: WeightedSet) -> Floats:
    return np.asarray(leverage_scores(data.points))


def _mean_score(data: WeightedSet) -> Floats:
    return np.full(data.n, _leverage(data).mean())


@dataclass(frozen=True)
class LewisBound:
    """Certified Lewis weights of one power, times a factor that is 1 unless something is broken."""

    power: float
    factor: float = 1.0

    def __call__(self, data: WeightedSet) -> Floats:
        return self.factor * np.asarray(lewis_weights(data.points, data.weights, p=self.power).values)


@dataclass(frozen=True)
class ScoresForSquares:
    """Leverage scores of the scaled rows: right for squares, wrong for other powers."""

    power: float

    def __call__(self, data: WeightedSet) -> Floats:
        scale = np.asarray(data.weights) ** (1.0 / self.power)
        return np.asarray(leverage_scores(np.asarray(data.points) * scale[:, None]))


def _scenario(workload: Workload, shares: Shares, honest: Bounds, broken: dict[str, Bounds]) -> Scenario:
    attained = AttainedShares(workload.data, shares)
    return Scenario(
        workload=workload,
        size=workload.n,
        claimed=Accuracy(1.0, 0.0),
        trial=ShareTrial(attained, honest),
        faults=tuple(Fault(name, ShareTrial(attained, bounds)) for name, bounds in broken.items()),
        note=_NOTE,
    )


def _squares(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    broken: dict[str, Bounds] = {_IGNORED[0]: _unweighted_leverage, _MEAN[0]: _mean_score}
    for workload in workloads:
        yield _scenario(thinned(workload, 2000), largest_square_shares, _leverage, broken)


def _powers(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in workloads:
        shown = thinned(workload, _POINTS)
        yield _scenario(shown, largest_absolute_shares, LewisBound(1.0), _broken_lewis(1.0))
    for power in (1.5, 3.0):
        for workload in [w for w in workloads if w.kind != "degenerate"][:4]:
            shown = thinned(workload, _POINTS)
            named = Workload(f"{workload.name}, power {power:g}", workload.kind, shown.data)
            yield _scenario(named, LargestPowerShares(power), LewisBound(power), _broken_lewis(power))


def _broken_lewis(power: float) -> dict[str, Bounds]:
    return {_HALF[0]: LewisBound(power, 0.5), _SQUARES[0]: ScoresForSquares(power)}


_IGNORED = ("weights ignored", "leverage scores of the points without their weights")
_MEAN = ("mean score", "every point is given the average score")
_HALF = ("half the bound", "Lewis weights divided by two")
_SQUARES = ("leverage scores", "scores that are right for squares, used for another power")

CHECKS = (
    Check(
        LeverageSensitivity(),
        "the maximising query of every point, in closed form",
        dict([_IGNORED, _MEAN]),
        _squares,
    ),
    Check(
        LewisSensitivity(),
        "the exact sensitivity of every point, one linear or convex programme each",
        dict([_HALF, _SQUARES]),
        _powers,
    ),
)
