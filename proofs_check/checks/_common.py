"""Parts that the checks share: a trial that draws, and a scenario with its error curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim
from coresets.samplers import Sampler
from coresets.weighted_set import to_host
from proofs_check.attack import Trial
from proofs_check.check import Fault, Scenario
from proofs_check.faults import Draws
from proofs_check.queries import WorstError
from proofs_check.workloads import Workload

__all__ = ["DELTA", "DrawTrial", "OnTorch", "drawn_scenario", "largest_useful_size"]

Floats = npt.NDArray[np.float64]

DELTA = 0.1  # claimed failure probability of every check; the smaller, the more trials a design needs


@dataclass(frozen=True)
class DrawTrial:
    """Draw once and measure the error at the worst query."""

    sampler: Draws
    sensitivities: Floats
    size: int
    error: WorstError

    def __call__(self, rng: np.random.Generator) -> float:
        draw = self.sampler.draw(self.sensitivities, self.size, rng)
        return self.error(to_host(draw.indices), to_host(draw.kept_weights))


@dataclass(frozen=True)
class OnTorch:
    """The same sampler on tensors, on a GPU if there is one."""

    sampler: Sampler

    @staticmethod
    def available() -> bool:
        """Whether torch is installed."""
        return find_spec("torch") is not None

    def draw(self, sensitivities: Floats, size: int, rng: np.random.Generator) -> Any:
        """Move the sensitivities to a tensor and draw there."""
        torch = import_module("torch")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return self.sampler.draw(torch.asarray(sensitivities, device=device), size, rng)


@dataclass(frozen=True)
class AtSize:
    """The same construction and claim at another size."""

    claim: Claim
    sampler: Draws
    sensitivities: Floats
    error: WorstError

    def __call__(self, size: int) -> tuple[Trial, float]:
        trial = DrawTrial(self.sampler, self.sensitivities, size, self.error)
        return trial, self.claim.accuracy(size, DELTA).epsilon


def drawn_scenario(
    workload: Workload,
    claim: Claim,
    sampler: Draws,
    sensitivities: npt.ArrayLike,
    error: WorstError,
    broken: Sequence[tuple[str, Draws]],
    *,
    size: int,
    note: str = "",
) -> Scenario:
    """Scenario for a sampler, its claim at a size, and broken versions that claim the same."""
    values = np.asarray(sensitivities, dtype=np.float64)
    claimed = claim.accuracy(size, DELTA)
    reason = ""
    if claimed.vacuous:
        reason = f"epsilon = {claimed.epsilon:.2f} at {size} of {workload.n} points"
    return Scenario(
        workload=workload,
        size=size,
        claimed=claimed,
        trial=DrawTrial(sampler, values, size, error),
        faults=tuple(Fault(name, DrawTrial(draws, values, size, error)) for name, draws in broken),
        at_size=AtSize(claim, sampler, values, error),
        note=note,
        vacuous=reason,
    )


def largest_useful_size(n: int) -> int:
    """Half the points: a coreset that keeps more is hardly one."""
    return max(1, n // 2)


def first_size_below(claim: Claim, epsilon: float, n: int) -> int:
    """Size at which the claim reaches ``epsilon``, or half the points if that is fewer."""
    return min(claim.size(Accuracy(epsilon, DELTA)), largest_useful_size(n))
