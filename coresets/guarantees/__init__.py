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
from coresets.guarantees.matrix import MatrixChernoff
from coresets.guarantees.parameters import (
    FiniteClass,
    LipschitzClass,
    SensitivityProfile,
    SubspaceClass,
    VCClass,
)
from coresets.guarantees.uniform import VCIID, LipschitzIID, LipschitzPoisson

__all__ = [
    "GUARANTEES",
    "VCIID",
    "DefensiveMixing",
    "FiniteClass",
    "FiniteFixedSize",
    "FiniteHybrid",
    "FiniteIID",
    "FinitePoisson",
    "FiniteRelativeEntropy",
    "LeverageSensitivity",
    "LewisSensitivity",
    "LipschitzClass",
    "LipschitzIID",
    "LipschitzPoisson",
    "MatrixChernoff",
    "SensitivityProfile",
    "SubspaceClass",
    "TopRemainder",
    "VCClass",
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
)
