"""The checks, one a guarantee, in the order in which the theory builds up.

Those about networks need torch and are left out where it is not installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from proofs_check.check import Check
from proofs_check.checks import (
    calibration,
    clustering,
    designs,
    ellipsoid,
    finite,
    geometry,
    halving,
    logistic,
    moments,
    neurons,
    ridge,
    sensitivity,
    streams,
    svm,
    uniform,
)

__all__ = ["CHECKS"]

_NETWORKS = (
    "edges",
    "corenet",
    "sipp",
    "reconstruction",
    "flow",
    "deviations",
    "conformal",
    "held_out",
    "neuron_pruning",
    "unit_selection",
    "ispasp",
    "ispasp_bounds",
    "pfp",
)

CHECKS: tuple[Check, ...] = (
    *finite.CHECKS,
    *uniform.CHECKS,
    *sensitivity.CHECKS,
    *moments.CHECKS,
    *ellipsoid.CHECKS,
    *designs.CHECKS,
    *geometry.CHECKS,
    *neurons.CHECKS,
    *streams.CHECKS,
    *halving.CHECKS,
    *calibration.CHECKS,
    *svm.CHECKS,
    *logistic.CHECKS,
    *ridge.CHECKS,
    *clustering.CHECKS,
    *(
        check
        for name in (_NETWORKS if find_spec("torch") is not None else ())
        for check in import_module(f"proofs_check.checks.{name}").CHECKS
    ),
)
