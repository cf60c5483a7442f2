"""End to end: a reducer, as a user calls it, against the accuracy that it states.

The other scenarios draw by hand; these go through :class:`coresets.SensitivityReducer`, with its
sensitivities, its claim, its weights and its indices, on data with weights of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from coresets.reduction import SensitivityReducer
from coresets.weighted_set import Coreset, WeightedSet
from proofs_check.check import Fault, Scenario
from proofs_check.checks._common import DELTA, first_size_below
from proofs_check.workloads import Workload

__all__ = ["UNSCALED", "reducer_scenario"]

UNSCALED = ("coreset with the weights of the data", "the rows come back with the weights that they had")


@dataclass(frozen=True)
class ReducerTrial:
    """Reduce once and measure the error of the coreset at the worst query."""

    reducer: SensitivityReducer
    data: WeightedSet
    size: int
    worst: Callable[[Coreset], float]
    scaled: bool = True

    def __call__(self, rng: np.random.Generator) -> float:
        # The theorem is about the weights of the draw; what calibration makes of it has checks of its own.
        reducer = replace(self.reducer, calibration=None)
        coreset = reducer.reduce(self.data, size=self.size, rng=rng)
        if not self.scaled:
            coreset = replace(coreset, weights=self.data.weights[coreset.indices])
        return self.worst(coreset)


def reducer_scenario(
    workload: Workload, reducer: SensitivityReducer, worst: Callable[[Coreset], float], target: float
) -> Scenario:
    """Scenario for a reducer at the size that promises the target, or at half the points."""
    data = workload.data
    claim = reducer.claim(data)
    size = first_size_below(claim, target, data.n)
    claimed = claim.accuracy(size, DELTA)
    honest = ReducerTrial(reducer, data, size, worst)
    return Scenario(
        workload=Workload(f"{workload.name}, through the reducer", workload.kind, data),
        size=size,
        claimed=claimed,
        trial=honest,
        faults=(Fault(UNSCALED[0], replace(honest, scaled=False)),),
        vacuous=f"epsilon = {claimed.epsilon:.2f} at {size} of {data.n} points" if claimed.vacuous else "",
    )
