"""Parts that the checks share: a trial that draws, and a scenario with its error curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim, Scheme
from coresets.samplers import Sampler
from coresets.sampling import Draw
from coresets.weighted_set import to_host
from proofs_check.check import Fault, Scenario
from proofs_check.faults import Draws, PlainDraw
from proofs_check.queries import FiniteWorst, WorstError
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = [
    "DELTA",
    "SHRUNK",
    "DrawTrial",
    "InBatch",
    "MeanTrial",
    "OnTorch",
    "drawn_scenario",
    "first_size_below",
    "largest_useful_size",
    "mean_scenario",
]

Floats = npt.NDArray[np.float64]

DELTA = 0.1  # claimed failure probability of every check; the smaller, the more trials a design needs


@dataclass(frozen=True)
class DrawTrial:
    """Draw once and measure the error at the worst query; NaN, a failure, if the size is wrong."""

    sampler: Draws
    sensitivities: Floats
    size: int
    error: WorstError

    def __call__(self, rng: np.random.Generator) -> float:
        draw = self.sampler.draw(self.sensitivities, self.size, rng)
        if isinstance(draw, Draw) and not self._keeps_its_size(draw):
            return float("nan")
        return self.error(to_host(draw.indices), to_host(draw.kept_weights))

    def _keeps_its_size(self, draw: Draw) -> bool:
        """Whether as many points were drawn, or are expected to be, as the theorem counts."""
        wanted = min(self.size, int(np.count_nonzero(self.sensitivities)))
        if draw.scheme is Scheme.POISSON:
            expected = float(to_host(draw.probabilities).sum())
            return (
                abs(expected - wanted) <= self.sensitivities.size * float(np.finfo(np.float64).eps) * wanted
            )
        drawn = int(to_host(draw.kept_counts).sum())
        return drawn == self.size or (draw.scheme is not Scheme.WITH_REPLACEMENT and drawn == wanted)


@dataclass(frozen=True)
class MeanTrial:
    """Error of the mean answer of many independent draws.

    A single draw may be off by its whole epsilon, so a bias of that order passes unseen. The mean
    of many draws has a far smaller epsilon.
    """

    sampler: Draws
    sensitivities: Floats
    size: int
    error: FiniteWorst
    factor: float = 1.0

    def __call__(self, rng: np.random.Generator) -> float:
        ratios = np.zeros(self.error.shares.shape[0])
        for child in rng.spawn(_DRAWS):
            draw = self.sampler.draw(self.sensitivities, self.size, child)
            ratios += self.error.ratios(to_host(draw.indices), to_host(draw.kept_weights))
        return float(np.max(np.abs(self.factor * ratios / _DRAWS - 1.0)))


def mean_scenario(
    workload: Workload, claim: Claim, sampler: Draws, sensitivities: Floats, error: FiniteWorst, *, size: int
) -> Scenario:
    """Test of the mean of many draws, with weights a fifth too small as the planted fault."""
    epsilon = claim.guarantee.mean_epsilon(claim.parameters, size, _MEAN_DELTA, _DRAWS)
    honest = MeanTrial(sampler, sensitivities, size, error)
    small = replace(honest, factor=TOO_SMALL)
    # The honest mean is within epsilon of 1 but for delta, and then the shrunken one is this far off.
    certain = (1.0 - TOO_SMALL) - TOO_SMALL * epsilon > epsilon
    return Scenario(
        workload=Workload(f"{workload.name}, mean of {_DRAWS} draws", workload.kind, workload.data),
        size=size,
        claimed=Accuracy(epsilon, _MEAN_DELTA),
        trial=honest,
        faults=(Fault(SHRUNK[0], small, power=1.0 - _MEAN_DELTA),) if certain else (),
        trials=1,
        vacuous="" if epsilon < 1.0 else f"epsilon = {epsilon:.2f}",
    )


TOO_SMALL = 0.8
SHRUNK = ("weights a fifth too small", "all weights are multiplied by 0.8, a bias below one draw's error")
_DRAWS = 100  # whose mean is taken
_MEAN_DELTA = 1e-8  # failure probability of the mean: with one trial, also its false-alarm rate


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
class InBatch:
    """The same sampler on a batch of equal rows, of which the last one counts."""

    sampler: Sampler

    def draw(self, sensitivities: Floats, size: int, rng: np.random.Generator) -> PlainDraw:
        """Draw for three rows at once."""
        batch = self.sampler.draw(np.stack([sensitivities] * 3), size, rng)
        kept = np.flatnonzero(batch.mask[-1])
        return PlainDraw(kept, batch.weights[-1, kept], batch.counts[-1, kept])


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
        vacuous=reason,
    )


def largest_useful_size(n: int) -> int:
    """Half the points: a coreset that keeps more is hardly one."""
    return max(1, n // 2)


def first_size_below(claim: Claim, epsilon: float, n: int) -> int:
    """Size at which the claim reaches ``epsilon``, or half the points if that is fewer."""
    return min(claim.size(Accuracy(epsilon, DELTA)), largest_useful_size(n))
