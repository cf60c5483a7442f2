"""Removing whole units: neurons, filters, channels of residual streams, attention heads.

What is removed is really gone: the network that comes back is an ordinary, smaller module. Which
layers depend on one another is in :mod:`~nn.units.topology`, what a plan does to them in
:mod:`~nn.units.surgery`, and each method has a file of its own.
"""

from nn.units.baselines import FilterNorm, GeometricMedian, RandomUnits
from nn.units.method import UnitDecision, UnitMethod, UnitProblem
from nn.units.plans import GroupPlan, UnitPlan
from nn.units.shrunk import Shrunk, load_shrunk
from nn.units.surgery import Recipe
from nn.units.topology import Place, Topology, UnitGroup, find_groups

__all__ = [
    "FilterNorm",
    "GeometricMedian",
    "GroupPlan",
    "Place",
    "RandomUnits",
    "Recipe",
    "Shrunk",
    "Topology",
    "UnitDecision",
    "UnitGroup",
    "UnitMethod",
    "UnitPlan",
    "UnitProblem",
    "find_groups",
    "load_shrunk",
]
