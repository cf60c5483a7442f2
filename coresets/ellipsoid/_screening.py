"""One pass over all rows that finds the largest quadratic forms, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coresets.ellipsoid._rows import LiftedRows, row_blocks

__all__ = ["Candidates", "screen"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows with the largest forms |q_i F|^2.

    Parameters
    ----------
    indices : array of shape (m,)
        Row numbers, increasing.
    forms : array of shape (m,)
    rows : array of shape (m, k)
    rest : float
        No row left out has a larger form; 0 if none was left out.
    """

    indices: np.ndarray
    forms: np.ndarray
    rows: np.ndarray
    rest: float


def screen(rows: LiftedRows, factor: np.ndarray, limit: int) -> Candidates:
    """The ``limit`` rows of largest |q_i F|^2, in one pass and with memory for a few times as many."""
    forms_of = rows.evaluator(factor)
    keep_blocks = not isinstance(rows.points, np.ndarray)  # a second look would be a second pass
    indices, forms, images = np.empty(0, np.intp), np.empty(0), np.empty((0, rows.k))
    pool: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(indices, forms, images)]
    waiting, floor, rest = 0, -1.0, 0.0

    def settle() -> None:
        """Cut the pool to its largest rows and raise the floor accordingly."""
        nonlocal indices, forms, images, pool, waiting, floor, rest
        indices, forms, images = (np.concatenate(parts) for parts in zip(*pool, strict=True))
        if len(forms) > limit:
            order = np.argpartition(forms, len(forms) - limit)
            floor = float(forms[order[len(forms) - limit]])
            rest = floor  # ties included
            top = np.sort(order[len(forms) - limit :])
            indices, forms = indices[top], forms[top]
            images = images[top] if keep_blocks else images
        pool, waiting = [(indices, forms, images)], 0

    for part, block in row_blocks(rows.points, rows.n):
        values = forms_of(block)
        # Rows not above the floor are no larger than `rest`, which is at least the floor once there is one.
        if float(values.max()) > floor:
            high = np.flatnonzero(values > floor)
            image = rows.image(block[high]) if keep_blocks else images[:0]
            pool.append((part.start + high, values[high], image))
            waiting += len(high)
            if waiting > 2 * limit:
                settle()
    settle()
    return Candidates(indices, forms, images if keep_blocks else rows.take(indices), rest)
