"""The methods that the study of unit pruning compares, and how they look in plots."""

from __future__ import annotations

from collections.abc import Mapping

from coresets.linf import InscribedVertices
from coresets.linf.peeling import PublishedPeeling
from coresets.samplers import IID, FixedSize, Hybrid
from nn.neurons import (
    PFP,
    AbsoluteSum,
    AddedCost,
    BestGroupPath,
    ColumnNormalised,
    ConvexGeometry,
    CostRatio,
    Drawing,
    FilterNorm,
    Fisher,
    GeometricMedian,
    GreedyForward,
    GroupOBS,
    GroupOLS,
    ISpaSP,
    Lewis,
    MeasuredEllipsoid,
    NormBounded,
    Peeled,
    PublishedNormBounded,
    RandomUnits,
    RefitConsumers,
    RidgeLewis,
    RowNorm,
    SignedSum,
    Subspace,
    TaylorUnits,
    ThiNet,
    TopActivation,
    TopScores,
    VarianceOptimal,
    WidthScaling,
)
from nn.selection import Global, Uniform
from nn.units import UnitMethod

__all__ = ["METHODS", "PROVABLE", "STYLES"]

_OWN_WEIGHTS = Drawing(reweighted=False)
_TOP = Drawing(TopScores())

_AS_THEY_ARE: Mapping[str, UnitMethod] = {
    "random": RandomUnits(),
    "width scaling": WidthScaling(),
    "l1 norm": FilterNorm(order=1.0),
    "l2 norm": FilterNorm(),
    "l2 norm, global": FilterNorm(allocation=Global()),
    "geometric median": GeometricMedian(),
    "top activation": TopActivation(),
    "top activation, column-normalised": TopActivation(ColumnNormalised()),
    "ThiNet": ThiNet(),
    "Taylor": TaylorUnits(),
    "Fisher": Fisher(),
    "Fisher, cost ratio": Fisher(cost=CostRatio()),
    "Fisher, added cost": Fisher(cost=AddedCost(1.0)),
    "Loewner and Caratheodory": ConvexGeometry(Peeled(InscribedVertices(), PublishedPeeling())),
    "symmetric support": ConvexGeometry(Peeled()),
    "Lewis": ConvexGeometry(Lewis()),
    "ridge Lewis": ConvexGeometry(RidgeLewis()),
    "ridge Lewis, own weights": ConvexGeometry(RidgeLewis(), _OWN_WEIGHTS),
    "ridge Lewis, top": ConvexGeometry(RidgeLewis(), _TOP),
    "subspace Lewis": ConvexGeometry(Subspace()),
    "norm bounded": NormBounded(),
    "norm bounded, own weights": NormBounded(drawing=_OWN_WEIGHTS),
    "norm bounded, top": NormBounded(drawing=_TOP),
    "norm bounded, ellipsoid": NormBounded(MeasuredEllipsoid()),
    "norm bounded, published": PublishedNormBounded(),
    "variance-optimal": VarianceOptimal(),
    "variance-optimal, own weights": VarianceOptimal(_OWN_WEIGHTS),
    "variance-optimal, top": VarianceOptimal(_TOP),
    "PFP": PFP(),
    "PFP, randomised": PFP(IID()),
    "PFP, partially derandomised": PFP(Hybrid()),
    "PFP, fixed size": PFP(FixedSize()),
    "PFP, fixed size, own weights": PFP(FixedSize(), reweighted=False),
    "i-SpaSP": ISpaSP(SignedSum()),
    "i-SpaSP, absolute": ISpaSP(AbsoluteSum()),
    "i-SpaSP, row norm": ISpaSP(RowNorm()),
    "i-SpaSP, column-normalised": ISpaSP(ColumnNormalised()),
    "greedy": GreedyForward(),
    "group OLS": GroupOLS(),
    "group OBS": GroupOBS(),
    "best group path": BestGroupPath(),
    "best group path, uniform": BestGroupPath(allocation=Uniform()),
}

# The best of each family; a refit replaces the weights of every one, so the drawn ones need no factors.
_TO_REFIT = (
    "random",
    "l2 norm",
    "geometric median",
    "top activation",
    "top activation, column-normalised",
    "ThiNet",
    "Taylor",
    "Fisher",
    "Loewner and Caratheodory",
    "Lewis",
    "ridge Lewis, top",
    "norm bounded",
    "norm bounded, top",
    "variance-optimal",
    "variance-optimal, top",
    "PFP",
    "PFP, fixed size",
    "i-SpaSP",
    "i-SpaSP, column-normalised",
    "greedy",
)

METHODS: Mapping[str, UnitMethod] = {
    **_AS_THEY_ARE,
    **{f"{name}, refitted": RefitConsumers(_AS_THEY_ARE[name]) for name in _TO_REFIT},
}
"""Every method by its name in tables; all are values, and serve every network."""

PROVABLE = (
    "group OLS",
    "best group path",
    "best group path, uniform",
    "greedy",
    "Lewis",
    "ridge Lewis",
    "norm bounded",
    "PFP",
    "PFP, randomised",
    "i-SpaSP",
    "i-SpaSP, column-normalised",
)
"""Those with a theorem about the very weights that they give: B1-U, GF, T4, RG, N2, F1, F3, IS-A, IS-B."""

# Colour, line style and width: one colour a family, refitted weights are solid and stand out.
STYLES: Mapping[str, tuple[str, str, float]] = {
    "random": ("black", ":", 1.2),
    "l2 norm": ("black", "--", 1.6),
    "l2 norm, refitted": ("black", "-", 1.8),
    "top activation": ("tab:gray", "--", 1.2),
    "ThiNet": ("tab:olive", "--", 1.2),
    "Fisher": ("tab:red", "--", 1.2),
    "Fisher, cost ratio": ("tab:red", ":", 1.2),
    "Fisher, refitted": ("tab:red", "-", 1.8),
    "Loewner and Caratheodory": ("tab:pink", "--", 1.2),
    "Lewis": ("tab:purple", "--", 1.2),
    "norm bounded": ("tab:brown", "--", 1.2),
    "norm bounded, refitted": ("tab:brown", "-", 1.8),
    "variance-optimal, top": ("tab:cyan", "--", 1.2),
    "PFP": ("tab:green", "--", 1.2),
    "PFP, randomised": ("tab:green", ":", 1.2),
    "PFP, refitted": ("tab:green", "-", 1.8),
    "i-SpaSP": ("tab:orange", "--", 1.2),
    "i-SpaSP, column-normalised": ("tab:orange", ":", 1.2),
    "i-SpaSP, refitted": ("tab:orange", "-", 1.8),
    "greedy": ("goldenrod", "--", 1.6),
    "group OLS": ("tab:blue", "--", 1.8),
    "best group path, uniform": ("tab:blue", "-.", 1.8),
    "best group path": ("tab:blue", "-", 2.4),
}
