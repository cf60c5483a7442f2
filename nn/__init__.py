"""Coresets for neural networks: pruning of edges and neurons on the engine of :mod:`coresets`.

A neuron is a coreset problem (keep few incoming edges and reweight them), and so is a layer (keep
few neurons and reweight the next layer). The modules of this package need PyTorch, which the extra
``nn`` installs; the package itself imports without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nn.budgets import Budget, Dense, KeepCount, KeepFlops, KeepParameters, KeepRatio, PerLayer
    from nn.calibration import Calibration
    from nn.certify import Certified, ClassChange, HeldOut, OutputDifference, additive, held_out, interval
    from nn.edges import (
        SNIP,
        Adaptive,
        BestPath,
        CoreNet,
        Exponential,
        Feedback,
        GraSP,
        Magnitude,
        OBSBackward,
        OLSForward,
        Random,
        Refit,
        SiPP,
        SynFlow,
        Taylor,
        Wanda,
        without_dead_units,
    )
    from nn.plans import LayerPlan, Plan, PruningWarning
    from nn.pruned import Pruned, load_pruned
    from nn.pruning import plan, prune
    from nn.selection import ERK, LAMP, Global, Uniform

__all__ = [
    "ERK",
    "LAMP",
    "SNIP",
    "Adaptive",
    "BestPath",
    "Budget",
    "Calibration",
    "Certified",
    "ClassChange",
    "CoreNet",
    "Dense",
    "Exponential",
    "Feedback",
    "Global",
    "GraSP",
    "HeldOut",
    "KeepCount",
    "KeepFlops",
    "KeepParameters",
    "KeepRatio",
    "LayerPlan",
    "Magnitude",
    "OBSBackward",
    "OLSForward",
    "OutputDifference",
    "PerLayer",
    "Plan",
    "Pruned",
    "PruningWarning",
    "Random",
    "Refit",
    "SiPP",
    "SynFlow",
    "Taylor",
    "Uniform",
    "Wanda",
    "additive",
    "held_out",
    "interval",
    "load_pruned",
    "plan",
    "prune",
    "without_dead_units",
]

# Where each public name lives. They are imported when asked for, since this package has to import
# where torch is not installed.
_HOMES = {
    "nn.budgets": ("Budget", "Dense", "KeepCount", "KeepFlops", "KeepParameters", "KeepRatio", "PerLayer"),
    "nn.calibration": ("Calibration",),
    "nn.certify": (
        "Certified",
        "ClassChange",
        "HeldOut",
        "OutputDifference",
        "additive",
        "held_out",
        "interval",
    ),
    "nn.edges": (
        "Adaptive",
        "BestPath",
        "CoreNet",
        "Exponential",
        "Feedback",
        "GraSP",
        "Magnitude",
        "OBSBackward",
        "OLSForward",
        "Random",
        "Refit",
        "SNIP",
        "SiPP",
        "SynFlow",
        "Taylor",
        "Wanda",
        "without_dead_units",
    ),
    "nn.plans": ("LayerPlan", "Plan", "PruningWarning"),
    "nn.pruned": ("Pruned", "load_pruned"),
    "nn.pruning": ("plan", "prune"),
    "nn.selection": ("ERK", "Global", "LAMP", "Uniform"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # so that the next access is a plain one
    return value
