"""The engine's theorems, one value each.

``GUARANTEES`` lists them all; every one has a page in the documentation and a check in
``proofs_check`` under the same key.
"""

from __future__ import annotations

from coresets.guarantee import Guarantee
from coresets.guarantees.deterministic import LeverageSensitivity, LewisSensitivity
from coresets.guarantees.finite import (
    DefensiveMixing,
    FiniteFixedSize,
    FiniteHybrid,
    FiniteIID,
    FinitePoisson,
    FiniteRelativeEntropy,
    TopRemainder,
)
from coresets.guarantees.geometry import (
    AddOnlyAscent,
    AffineRounding,
    CaratheodoryTheorem,
    DesignReduction,
    LeverageIteration,
    SafeElimination,
    SpreadingStart,
    SymmetricRounding,
)
from coresets.guarantees.matrix import MatrixChernoff
from coresets.guarantees.maxima import LInfFactor, OneSidedFactor, PeelingSensitivity, VacuousSensitivity
from coresets.guarantees.neurons import (
    BalancedClass,
    BalancedReLUIID,
    BalancedReLUPoisson,
    HomogeneousClass,
    HomogeneousIID,
    HomogeneousPoisson,
)
from coresets.guarantees.parameters import (
    FiniteClass,
    LipschitzClass,
    SensitivityProfile,
    SubspaceClass,
    VCClass,
)
from coresets.guarantees.streams import MergeAndReduce, StreamClass, StreamVariance
from coresets.guarantees.svm import (
    DualityGap,
    HingeAllQueries,
    HingeClass,
    HingeClusterSensitivity,
    HingeLowerBound,
    HingeNormClass,
    HingeNormIID,
    HingeNormPoisson,
    TrainingOnCoreset,
)
from coresets.guarantees.uniform import VCIID, LipschitzIID, LipschitzPoisson

__all__ = [
    "GUARANTEES",
    "VCIID",
    "AddOnlyAscent",
    "AffineRounding",
    "BalancedClass",
    "BalancedReLUIID",
    "BalancedReLUPoisson",
    "CaratheodoryTheorem",
    "DefensiveMixing",
    "DesignReduction",
    "DualityGap",
    "FiniteClass",
    "FiniteFixedSize",
    "FiniteHybrid",
    "FiniteIID",
    "FinitePoisson",
    "FiniteRelativeEntropy",
    "HingeAllQueries",
    "HingeClass",
    "HingeClusterSensitivity",
    "HingeLowerBound",
    "HingeNormClass",
    "HingeNormIID",
    "HingeNormPoisson",
    "HomogeneousClass",
    "HomogeneousIID",
    "HomogeneousPoisson",
    "LInfFactor",
    "LeverageIteration",
    "LeverageSensitivity",
    "LewisSensitivity",
    "LipschitzClass",
    "LipschitzIID",
    "LipschitzPoisson",
    "MatrixChernoff",
    "MergeAndReduce",
    "OneSidedFactor",
    "PeelingSensitivity",
    "SafeElimination",
    "SensitivityProfile",
    "SpreadingStart",
    "StreamClass",
    "StreamVariance",
    "SubspaceClass",
    "SymmetricRounding",
    "TopRemainder",
    "TrainingOnCoreset",
    "VCClass",
    "VacuousSensitivity",
]

GUARANTEES: tuple[Guarantee, ...] = (
    FiniteIID(),
    FiniteRelativeEntropy(),
    FinitePoisson(),
    FiniteFixedSize(),
    FiniteHybrid(),
    TopRemainder(),
    DefensiveMixing(),
    VCIID(),
    LipschitzIID(),
    LipschitzPoisson(),
    MatrixChernoff(),
    LeverageSensitivity(),
    LewisSensitivity(),
    SymmetricRounding(),
    AffineRounding(),
    DesignReduction(),
    SpreadingStart(),
    AddOnlyAscent(),
    LeverageIteration(),
    SafeElimination(),
    CaratheodoryTheorem(),
    LInfFactor(),
    PeelingSensitivity(),
    HomogeneousIID(),
    HomogeneousPoisson(),
    BalancedReLUIID(),
    BalancedReLUPoisson(),
    OneSidedFactor(),
    VacuousSensitivity(),
    MergeAndReduce(),
    StreamVariance(),
    HingeClusterSensitivity(),
    HingeAllQueries(),
    HingeNormIID(),
    HingeNormPoisson(),
    HingeLowerBound(),
    TrainingOnCoreset(),
    DualityGap(),
)
