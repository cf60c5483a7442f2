"""Methods that choose which neurons, filters and channels to keep, one file a method.

They are coresets of a layer's units: drawn by sensitivities, chosen by what the next layer reads, or by
what can be rebuilt from the others. What becomes of the network is the business of :mod:`nn.units`.
"""

from nn.neurons._gates import GivenLabels, SampledLabels
from nn.neurons.activations import TopActivation
from nn.neurons.baselines import FilterNorm, GeometricMedian, RandomUnits
from nn.neurons.composition import composed_certificate
from nn.neurons.convex_geometry import ConvexGeometry
from nn.neurons.cost_terms import AddedCost, CostRatio, NoCost
from nn.neurons.draws import Drawing, ExactPoisson, Pivotal, TopScores, UntilDistinct
from nn.neurons.fisher import Fisher
from nn.neurons.greedy import GreedyForward
from nn.neurons.group_ols import BestGroupPath, GroupOBS, GroupOLS, Reconstruction
from nn.neurons.inputs import Ball, MeasuredBall, MeasuredEllipsoid
from nn.neurons.ispasp import ISpaSP
from nn.neurons.layer_bounds import Lewis, Peeled, RidgeLewis, Subspace
from nn.neurons.norm_bounded import NormBounded, PublishedNormBounded
from nn.neurons.pfp import PFP, CommonError
from nn.neurons.refit import RefitConsumers
from nn.neurons.taylor import AbsoluteEffect, SquaredEffect, TaylorUnits
from nn.neurons.thinet import ThiNet
from nn.neurons.unit_scores import AbsoluteSum, ColumnNormalised, RowNorm, SignedSum, UnitScore
from nn.neurons.variance_optimal import VarianceOptimal
from nn.neurons.width import WidthScaling

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
    "ISpaSP",
    "Lewis",
    "MeasuredBall",
    "MeasuredEllipsoid",
    "NoCost",
    "NormBounded",
    "Peeled",
    "Pivotal",
    "PublishedNormBounded",
    "RandomUnits",
    "Reconstruction",
    "RefitConsumers",
    "RidgeLewis",
    "RowNorm",
    "SampledLabels",
    "SignedSum",
    "SquaredEffect",
    "Subspace",
    "TaylorUnits",
    "ThiNet",
    "TopActivation",
    "TopScores",
    "UnitScore",
    "UntilDistinct",
    "VarianceOptimal",
    "WidthScaling",
    "composed_certificate",
]
