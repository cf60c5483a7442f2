"""Drawing an ellipse; the only module here that needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coresets._validate import check_points
from coresets.weighted_set import to_host

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from coresets.ellipsoid.ellipsoid import Ellipsoid

__all__ = ["draw_ellipse"]

_VERTICES = 361


def draw_ellipse(ellipse: Ellipsoid, ax: Axes | None, points: Any) -> Axes:
    """Outline, centre, and points with those of positive weight emphasised."""
    try:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError("plot needs matplotlib; install coresets[plots]") from error
    if points is not None:
        points = to_host(check_points(points))
        if points.shape != (ellipse.n, 2):
            raise ValueError(f"points has shape {points.shape}; pass the {ellipse.n} points of the ellipse")
    if ax is None:
        ax = plt.subplots()[1]
    center, axes = to_host(ellipse.center), to_host(ellipse.axes)
    angle = np.linspace(0.0, 2.0 * np.pi, _VERTICES)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline = center + circle[:, : len(axes)] @ axes
    ax.plot(outline[:, 0], outline[:, 1], color="C0", label="ellipse")
    ax.plot(*center, marker="+", markersize=10, color="C0", linestyle="none", label="centre")
    if points is not None:
        touched = to_host(ellipse.weights) > 0
        ax.scatter(points[~touched, 0], points[~touched, 1], s=10, color="0.6", label="points", zorder=1)
        ax.scatter(
            points[touched, 0],
            points[touched, 1],
            s=45,
            color="C1",
            edgecolor="black",
            label="support",
            zorder=3,
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend()
    return ax
