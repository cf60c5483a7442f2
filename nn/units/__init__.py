"""Removing whole units: neurons, filters, channels of residual streams, attention heads.

What is removed is really gone: the network that comes back is an ordinary, smaller module. Which
layers depend on one another is in :mod:`~nn.units.topology`, what a plan does to them in
:mod:`~nn.units.surgery`, and each method has a file of its own.
"""

from nn.units.activations import TopActivation
from nn.units.baselines import FilterNorm, GeometricMedian, RandomUnits
from nn.units.composition import composed_certificate
from nn.units.convex_geometry import ConvexGeometry
from nn.units.draws import Drawing, ExactPoisson, Pivotal, TopScores, UntilDistinct
from nn.units.fisher import AddedCost, CostRatio, Fisher, GivenLabels, NoCost, SampledLabels
from nn.units.greedy import GreedyForward
from nn.units.group_ols import BestGroupPath, GroupOBS, GroupOLS, Reconstruction
from nn.units.inputs import Ball, MeasuredBall, MeasuredEllipsoid
from nn.units.ispasp import ISpaSP
from nn.units.layer_bounds import Lewis, Peeled, RidgeLewis, Subspace
from nn.units.method import UnitDecision, UnitMethod, UnitProblem
from nn.units.norm_bounded import NormBounded, PublishedNormBounded
from nn.units.pfp import PFP, CommonError
from nn.units.plans import GroupPlan, UnitPlan
from nn.units.refit import RefitConsumers
from nn.units.shrunk import Shrunk, UnitSize, load_shrunk
from nn.units.surgery import Recipe
from nn.units.taylor import AbsoluteEffect, SquaredEffect, TaylorUnits
from nn.units.thinet import ThiNet
from nn.units.topology import Place, Topology, UnitGroup, find_groups
from nn.units.unit_scores import AbsoluteSum, ColumnNormalised, RowNorm, SignedSum, UnitScore
from nn.units.variance_optimal import VarianceOptimal
from nn.units.width import WidthScaling

__all__ = [
    "PFP",
    "AbsoluteEffect",
    "AbsoluteSum",
    "AddedCost",
    "Ball",
    "BestGroupPath",
    "ColumnNormalised",
    "CommonError",
    "ConvexGeometry",
    "CostRatio",
    "Drawing",
    "ExactPoisson",
    "FilterNorm",
    "Fisher",
    "GeometricMedian",
    "GivenLabels",
    "GreedyForward",
    "GroupOBS",
    "GroupOLS",
    "GroupPlan",
    "ISpaSP",
    "Lewis",
    "MeasuredBall",
    "MeasuredEllipsoid",
    "NoCost",
    "NormBounded",
    "Peeled",
    "Pivotal",
    "Place",
    "PublishedNormBounded",
    "RandomUnits",
    "Recipe",
    "Reconstruction",
    "RefitConsumers",
    "RidgeLewis",
    "RowNorm",
    "SampledLabels",
    "Shrunk",
    "SignedSum",
    "SquaredEffect",
    "Subspace",
    "TaylorUnits",
    "ThiNet",
    "TopActivation",
    "TopScores",
    "Topology",
    "UnitDecision",
    "UnitGroup",
    "UnitMethod",
    "UnitPlan",
    "UnitProblem",
    "UnitScore",
    "UnitSize",
    "UntilDistinct",
    "VarianceOptimal",
    "WidthScaling",
    "composed_certificate",
    "find_groups",
    "load_shrunk",
]
