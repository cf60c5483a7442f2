"""From validated input to the host, and from a reduction to evidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from coresets._validate import beside
from coresets.certificate import Certificate
from coresets.errors import SolverError
from coresets.recombination._reduction import Reduction
from coresets.recombination.preserve import Preserve
from coresets.weighted_set import to_host

__all__ = ["check_reached", "evidence", "host_rows"]

Array = Any


def evidence(reduction: Reduction, preserve: Preserve) -> Certificate:
    """What the weights were found to keep, against what rounding allows."""
    return Certificate(
        "moments",
        f"largest error of a preserved moment over the mass, in {preserve.unit}; rounding errors of this "
        "evaluation included",
        # Infinite when a coordinate that was 0 throughout is so no longer.
        min(reduction.residual + reduction.rounding, float(np.finfo(np.float64).max)),
        bound=reduction.promise,
        details={
            "mass_error": reduction.mass_error,
            "rounding": reduction.rounding,
            "feature_rank": reduction.rank,
            "support_size": reduction.indices.size,
            "rank_tolerance": reduction.tolerance,
        },
    )


def check_reached(certificate: Certificate) -> None:
    """Raise unless the moments were kept to rounding."""
    if not certificate.holds:
        raise SolverError(
            f"the moments were kept to {certificate.value:.3g} only, in the unit of the certificate, "
            f"and not to {certificate.bound:.3g}; centre the columns, or remove rows many orders larger "
            "than the others",
            certificate,
        )


def host_rows(points: Array, weights: Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) as they are and weights in float64, on the host; no weights stand for ones."""
    rows = to_host(points)
    if weights is None:
        return rows, np.empty(0)
    weights = to_host(beside(weights, points, "weights"))
    return rows, np.ascontiguousarray(weights, dtype=np.float64)
