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
from proofs_check.oracles import largest_power_shares, largest_square_shares
from proofs_check.workloads import Workload, thinned

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]
Bounds = Callable[[WeightedSet], Floats]
Shares = Callable[[WeightedSet], Floats]

_POINTS = 40  # of every set, for which exact shares are computed, one linear programme each

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


def _lewis(data: WeightedSet) -> Floats:
    return np.asarray(lewis_weights(data.points, data.weights).values)


def _half_lewis(data: WeightedSet) -> Floats:
    return 0.5 * _lewis(data)


def _squared_weights_leverage(data: WeightedSet) -> Floats:
    """Leverage scores of the weighted rows: right for squares, wrong for absolute values."""
    return np.asarray(leverage_scores(np.asarray(data.points) * np.asarray(data.weights)[:, None]))


def _scenarios(
    shares: Shares, honest: Bounds, broken: dict[str, Bounds], count: int
) -> Callable[[Sequence[Workload], Profile], Iterable[Scenario]]:
    def scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
        for workload in workloads:
            shown = thinned(workload, count)
            data = shown.data
            attained = AttainedShares(data, shares)
            yield Scenario(
                workload=shown,
                size=data.n,
                claimed=Accuracy(1.0, 0.0),
                trial=ShareTrial(attained, honest),
                faults=tuple(Fault(name, ShareTrial(attained, bounds)) for name, bounds in broken.items()),
                note=_NOTE,
            )

    return scenarios


CHECKS = (
    Check(
        LeverageSensitivity(),
        "the maximising query of every point, in closed form",
        {
            "weights ignored": "leverage scores of the points without their weights",
            "mean score": "every point is given the average score",
        },
        _scenarios(
            largest_square_shares,
            _leverage,
            {"weights ignored": _unweighted_leverage, "mean score": _mean_score},
            2000,
        ),
    ),
    Check(
        LewisSensitivity(),
        "the exact sensitivity of every point, one linear programme each",
        {
            "half the bound": "Lewis weights divided by two",
            "leverage scores": "scores that are right for squares, used for absolute values",
        },
        _scenarios(
            largest_power_shares,
            _lewis,
            {"half the bound": _half_lewis, "leverage scores": _squared_weights_leverage},
            _POINTS,
        ),
    ),
)
