"""Coresets by self-balancing halving: fewer points than independent draws, for what features explain."""

from coresets.halving.classes import Classes
from coresets.halving.features import (
    AbsoluteFeatures,
    BoundedSum,
    Embedded,
    Features,
    GramFeatures,
    KernelFeatures,
    LinearFeatures,
    LinearSum,
    MappedFeatures,
)
from coresets.halving.reducer import HalvingReducer, WithSensitivities
from coresets.halving.streams import HalvedNodes, HalvedSquares, HalvedSums
from coresets.halving.walk import (
    Aggressive,
    InnerProducts,
    Provable,
    Signs,
    Threshold,
    Walked,
    balanced_signs,
)

__all__ = [
    "AbsoluteFeatures",
    "Aggressive",
    "BoundedSum",
    "Classes",
    "Embedded",
    "Features",
    "GramFeatures",
    "HalvedNodes",
    "HalvedSquares",
    "HalvedSums",
    "HalvingReducer",
    "InnerProducts",
    "KernelFeatures",
    "LinearFeatures",
    "LinearSum",
    "MappedFeatures",
    "Provable",
    "Signs",
    "Threshold",
    "Walked",
    "WithSensitivities",
    "balanced_signs",
]
