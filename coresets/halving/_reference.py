"""The walk as it is written down, one vector a step: what the compiled ones are tested against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["reference_walk"]

Floats = npt.NDArray[np.float64]


def reference_walk(
    vectors: Floats, threshold: float, uniforms: Floats
) -> tuple[npt.NDArray[np.int8], int, float]:
    """Signs, clips and largest inner product of the self-balancing walk.

    Parameters
    ----------
    vectors : array of shape (n, k)
        One row a step.
    threshold : float
        a > 0.
    uniforms : array of shape (n,)
        One number in [0, 1) a step.
    """
    total = np.zeros(vectors.shape[1])
    signs = np.empty(len(vectors), dtype=np.int8)
    clips, largest = 0, 0.0
    for i, v in enumerate(vectors):
        inner = float(total @ v)
        clips += abs(inner) > threshold
        largest = max(largest, abs(inner))
        signs[i] = 1 if uniforms[i] < 0.5 - 0.5 * inner / threshold else -1
        total += signs[i] * v
    return signs, clips, largest
