"""Removing whole units from a network, whoever chose them: neurons, filters, channels, attention heads.

What is removed is really gone: the network that comes back is an ordinary, smaller module. Which
layers depend on one another is in :mod:`~nn.units.topology`, what a plan does to them in
:mod:`~nn.units.surgery`. The methods that choose are in :mod:`nn.neurons`.
"""

from nn.units.method import UnitDecision, UnitMethod, UnitProblem
from nn.units.plans import GroupPlan, UnitPlan
from nn.units.shrunk import Shrunk, UnitSize, load_shrunk
from nn.units.surgery import Recipe
from nn.units.topology import Place, Topology, UnitGroup, find_groups

__all__ = [
    "GroupPlan",
    "Place",
    "Recipe",
    "Shrunk",
    "Topology",
    "UnitDecision",
    "UnitGroup",
    "UnitMethod",
    "UnitPlan",
    "UnitProblem",
    "UnitSize",
    "find_groups",
    "load_shrunk",
]
