"""Squared lengths |(x - c) F + f|^2 of all rows of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["NARROW", "squared_lengths"]

Function = TypeVar("Function", bound=Callable[..., Any])
Array = Any
Floats = npt.NDArray[np.float64]

_LANES = 64  # rows side by side: the tile of a narrow block stays in the first-level cache
# Below this width the compiled loop wins (2.5 times at 10 columns), beyond about 40 BLAS does.
NARROW = 32


def _compiled(function: Function) -> Function:
    """Compile on first use; products may be fused."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, fastmath={"contract"})(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(Function, numba.njit(nogil=True, fastmath={"contract"})(function))


@_compiled
def _narrow_lengths(rows: Array, center: Array, factor: Array, offset: Array, lengths: Array) -> None:
    """Tile by tile, transposed, so that the inner loops run over rows and vectorise."""
    n, d = rows.shape
    tile, image, total = np.zeros((d, _LANES)), np.empty(_LANES), np.empty(_LANES)
    for start in range(0, n, _LANES):
        count = min(_LANES, n - start)
        for i in range(count):
            row = rows[start + i]
            for j in range(d):
                tile[j, i] = row[j] - center[j]
        total[:] = 0.0
        for column in range(factor.shape[1]):
            image[:] = offset[column]
            j = 0
            while j + 3 < d:  # four rows of the factor a sweep: fewer reads and writes of the image
                f0, f1, f2, f3 = (
                    factor[j, column],
                    factor[j + 1, column],
                    factor[j + 2, column],
                    factor[j + 3, column],
                )
                y0, y1, y2, y3 = tile[j], tile[j + 1], tile[j + 2], tile[j + 3]
                for lane in range(_LANES):
                    image[lane] += f0 * y0[lane] + f1 * y1[lane] + f2 * y2[lane] + f3 * y3[lane]
                j += 4
            while j < d:
                f0, y0 = factor[j, column], tile[j]
                for lane in range(_LANES):
                    image[lane] += f0 * y0[lane]
                j += 1
            for lane in range(_LANES):
                total[lane] += image[lane] * image[lane]
        for i in range(count):
            lengths[start + i] = total[i]


def squared_lengths(rows: np.ndarray, center: Floats, factor: Floats, offset: Floats | None = None) -> Floats:
    """Squared lengths |(x - c) F + f|^2 in float64.

    Parameters
    ----------
    rows : array of shape (b, d)
        Points x, float32 or float64; a block that fits the cache if d is large.
    center : array of shape (d,)
        c, subtracted before the product, so that a distant origin costs no digits.
    factor : array of shape (d, r)
        F.
    offset : array of shape (r,), optional
        f; zero by default.

    Returns
    -------
    array of shape (b,)
    """
    if rows.shape[1] <= NARROW:
        lengths = np.empty(len(rows))
        shift = np.zeros(factor.shape[1]) if offset is None else np.ascontiguousarray(offset)
        _narrow_lengths(rows, center, np.ascontiguousarray(factor), shift, lengths)
        return lengths
    image = np.subtract(rows, center, dtype=np.float64) @ factor
    if offset is not None:
        image += offset
    return np.asarray(np.einsum("ij,ij->i", image, image))
