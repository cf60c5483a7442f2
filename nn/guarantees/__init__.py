"""The theorems behind pruning and certifying networks, one value each."""

from __future__ import annotations

from coresets.guarantee import Guarantee
from nn.guarantees.certificates import (
    AdditiveDeviation,
    FixedSequence,
    HeldOutLimit,
    IntervalDeviation,
    OccamBound,
)
from nn.guarantees.flow import FlowConservation, FlowCut, FlowSteps

__all__ = [
    "GUARANTEES",
    "AdditiveDeviation",
    "FixedSequence",
    "FlowConservation",
    "FlowCut",
    "FlowSteps",
    "HeldOutLimit",
    "IntervalDeviation",
    "OccamBound",
]

GUARANTEES: tuple[Guarantee, ...] = (
    FlowConservation(),
    FlowCut(),
    FlowSteps(),
    AdditiveDeviation(),
    IntervalDeviation(),
    HeldOutLimit(),
    FixedSequence(),
    OccamBound(),
)
