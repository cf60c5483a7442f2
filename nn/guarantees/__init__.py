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
from nn.guarantees.conformal import ConformalFactor
from nn.guarantees.corenet import AmplifiedSide, ConditionEstimate, CoreNetSide, NetworkCompression
from nn.guarantees.edges import (
    ComposedError,
    EdgeInclusion,
    EdgeSampling,
    EdgeTruncation,
    HybridLayer,
    SampledLayer,
    SensitivityTransfer,
    SideClass,
    SignedNeuron,
    SureInclusion,
    TruncatedLayer,
)
from nn.guarantees.flow import FlowConservation, FlowCut, FlowSteps
from nn.guarantees.reconstruction import BackwardElimination, EveryInput, ForwardSelection, HardFeedback

__all__ = [
    "GUARANTEES",
    "AdditiveDeviation",
    "AmplifiedSide",
    "BackwardElimination",
    "ComposedError",
    "ConditionEstimate",
    "ConformalFactor",
    "CoreNetSide",
    "EdgeInclusion",
    "EdgeSampling",
    "EdgeTruncation",
    "EveryInput",
    "FixedSequence",
    "FlowConservation",
    "FlowCut",
    "FlowSteps",
    "ForwardSelection",
    "HardFeedback",
    "HeldOutLimit",
    "HybridLayer",
    "IntervalDeviation",
    "NetworkCompression",
    "OccamBound",
    "SampledLayer",
    "SensitivityTransfer",
    "SideClass",
    "SignedNeuron",
    "SureInclusion",
    "TruncatedLayer",
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
    SensitivityTransfer(),
    EdgeSampling(),
    SureInclusion(),
    EdgeInclusion(),
    EdgeTruncation(),
    SignedNeuron(),
    ComposedError(),
    CoreNetSide(),
    ConditionEstimate(),
    NetworkCompression(),
    AmplifiedSide(),
    TruncatedLayer(),
    SampledLayer(),
    HybridLayer(),
    ConformalFactor(),
    ForwardSelection(),
    BackwardElimination(),
    EveryInput(),
    HardFeedback(),
)
