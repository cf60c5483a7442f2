"""Few points that keep the largest inner products, and the sensitivities that follow (T1, T2, T6)."""

from __future__ import annotations

from coresets.linf.constructions import (
    DesignSupport,
    InscribedVertices,
    LInfConstruction,
    LInfCoreset,
    LInfSelection,
    SymmetricSupport,
    linf_coreset,
)
from coresets.linf.peeling import (
    CertifiedPeeling,
    PeelingRule,
    PublishedPeeling,
    peeling_sensitivities,
)

__all__ = [
    "CertifiedPeeling",
    "DesignSupport",
    "InscribedVertices",
    "LInfConstruction",
    "LInfCoreset",
    "LInfSelection",
    "PeelingRule",
    "PublishedPeeling",
    "SymmetricSupport",
    "linf_coreset",
    "peeling_sensitivities",
]
