"""Iterated selection of a support: nominate by importance, keep by size.

Departure from CoSaMP, of which this is a relative: the sizes of all units are known, so that nothing is
estimated before the support is cut down to s units.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["pursue", "ranked"]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Units that are nominated, in multiples of those that are kept; IS-A holds for any multiple from 1 on.
_NOMINATED = 2


def ranked(values: Array) -> npt.NDArray[np.intp]:
    """Indices from the largest value to the smallest; of equal ones the earlier comes first."""
    return np.argsort(-values, kind="stable")


def pursue(
    sizes: Array, importance: Callable[[Flags], Array], count: int, iterations: int
) -> tuple[Flags, ...]:
    """The supports of all iterations, until one repeats.

    Parameters
    ----------
    sizes : array of shape (n,)
        a, which decide who stays among the candidates.
    importance : callable
        From the removed units, bool of shape (n,), to the scores of all units, which decide who becomes a
        candidate.
    count : int
        s, from 1 to n.
    iterations : int
        Most iterations, at least 1.

    Returns
    -------
    tuple of array of bool, shape (n,)
        True where a unit is kept, one array an iteration. A repeated support is a fixed point, because each
        one is a function of the one before; it is not listed again.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.neurons._support import pursue
    >>> second = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # nothing reads the third unit
    >>> a = np.array([2.0, 1.0, 9.0])
    >>> pursue(a, lambda gone: second.T @ second @ (a * gone), 1, 20)
    (array([ True, False, False]),)
    """
    order = ranked(sizes)
    kept = np.zeros(sizes.shape, dtype=bool)
    supports: list[Flags] = []
    for _ in range(iterations):
        candidates = kept.copy()
        candidates[ranked(importance(~kept))[: _NOMINATED * count]] = True
        chosen = np.zeros_like(kept)
        chosen[order[candidates[order]][:count]] = True
        if supports and np.array_equal(chosen, kept):
            break
        kept = chosen
        supports.append(kept)
    return tuple(supports)
