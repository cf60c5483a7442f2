"""What a sampler returns: which items were kept, how often, and by which factor their masses grow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from coresets._sampling_kernels import invert_kept
from coresets.guarantee import Scheme

__all__ = ["Draw", "Size", "draw_of", "row_draw", "thinned_draw"]

Array = Any
Size = Any  # a number, or an array of one number per row


@dataclass(frozen=True, eq=False)
class _Dense:
    """Draw stored per item; ``tally`` is a mask where no item can be drawn twice."""

    tally: Array
    weights: Array
    probabilities: Array

    @cached_property
    def mask(self) -> Array:
        return self.tally if _is_mask(self.tally) else self.tally > 0

    @cached_property
    def counts(self) -> Array:
        xp = array_namespace(self.tally)
        return xp.astype(self.tally, xp.int64) if _is_mask(self.tally) else self.tally

    @cached_property
    def indices(self) -> Array:
        return array_namespace(self.mask).nonzero(self.mask)[0]

    def kept(self, values: Array) -> Array:
        return array_namespace(values).take(values, self.indices, axis=0)

    @property
    def kept_counts(self) -> Array:
        return self.kept(self.counts)

    @cached_property
    def kept_weights(self) -> Array:
        return self.kept(self.weights)

    @property
    def support_size(self) -> Array:
        xp = array_namespace(self.mask)
        return xp.sum(xp.astype(self.mask, xp.int64), axis=-1)


@dataclass(frozen=True, eq=False)
class _Sparse:
    """Draw from one NumPy row stored per kept item; probabilities are ``scores / total``."""

    indices: np.ndarray
    kept_counts: np.ndarray
    kept_weights: np.ndarray
    scores: np.ndarray
    total: float

    def _spread(self, values: np.ndarray) -> np.ndarray:
        dense = np.zeros(self.scores.shape, dtype=values.dtype)
        dense[self.indices] = values
        return dense

    @cached_property
    def mask(self) -> np.ndarray:
        return self._spread(np.ones(self.indices.shape, dtype=bool))

    @cached_property
    def counts(self) -> np.ndarray:
        return self._spread(self.kept_counts)

    @cached_property
    def weights(self) -> np.ndarray:
        return self._spread(self.kept_weights)

    @cached_property
    def probabilities(self) -> np.ndarray:
        return self.scores if self.total == 1.0 else _ratio(self.scores, self.total)

    @property
    def support_size(self) -> int:
        return int(self.indices.size)


@dataclass(frozen=True, eq=False, repr=False)
class Draw:
    """What a sampler kept, and by which factor the kept masses grow.

    Parameters
    ----------
    scheme : Scheme
        How it was drawn; the guarantees that apply name their schemes.
    size : number, or array of shape (...)
        Size that was asked for.

    Attributes
    ----------
    mask : boolean array of shape (..., n)
        Which items were kept.
    counts : int64 array of shape (..., n)
        How often each was drawn: 0 or 1, but for draws with replacement.
    weights : array of shape (..., n)
        Factors for the masses, 0 where dropped: count over expected count.
    probabilities : array of shape (..., n)
        Inclusion probabilities; for draws with replacement the probability of one draw. In a
        hybrid draw the sure items have 1 and the others their probability of one draw.
    indices, kept_weights, kept_counts : arrays of shape (support_size,)
        The kept items in increasing order, for a draw from a single row.
    support_size : int, or int64 array of shape (...)
        Number of items that were kept.

    Notes
    -----
    A draw from one NumPy row stores the kept items only; arrays of length n are made when first
    asked for. Input arrays are referred to, not copied: do not overwrite them while a draw is in use.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.sampling import sample_top
    >>> draw = sample_top(np.array([0.5, 3.0, 0.0, 2.0]), 2)
    >>> draw.indices, draw.kept_weights
    (array([1, 3]), array([1., 1.]))
    >>> draw.mask
    array([False,  True, False,  True])
    """

    scheme: Scheme
    size: Size
    _stored: _Dense | _Sparse

    @property
    def mask(self) -> Array:
        """Which items were kept, (..., n)."""
        return self._stored.mask

    @property
    def counts(self) -> Array:
        """How often each item was drawn, (..., n)."""
        return self._stored.counts

    @property
    def weights(self) -> Array:
        """Factors for the masses, (..., n)."""
        return self._stored.weights

    @property
    def probabilities(self) -> Array:
        """Inclusion or per-draw probabilities, (..., n)."""
        return self._stored.probabilities

    @property
    def support_size(self) -> Any:
        """Number of items kept, per row."""
        support = self._stored.support_size
        return support if getattr(support, "ndim", 0) else int(support)

    @property
    def indices(self) -> Array:
        """Kept items of a single row, increasing."""
        return self._row("indices").indices

    @property
    def kept_weights(self) -> Array:
        """Weights of the kept items of a single row."""
        return self._row("kept_weights").kept_weights

    @property
    def kept_counts(self) -> Array:
        """Counts of the kept items of a single row."""
        return self._row("kept_counts").kept_counts

    def _row(self, name: str) -> _Dense | _Sparse:
        if isinstance(self._stored, _Dense) and self._stored.tally.ndim != 1:
            raise ValueError(
                f"{name} of a batch of shape {tuple(self._stored.tally.shape)} would be ragged; "
                "use mask and weights, or draw from one row"
            )
        return self._stored

    def __repr__(self) -> str:
        return f"Draw(scheme={self.scheme}, size={self.size}, support_size={self.support_size})"


def _is_mask(tally: Array) -> bool:
    return bool(array_namespace(tally).isdtype(tally.dtype, "bool"))


def _ratio(scores: np.ndarray, total: float) -> np.ndarray:
    """Quotient in float64, in the dtype of ``scores``."""
    quotient: np.ndarray = np.divide(scores, total, dtype=np.float64).astype(scores.dtype, copy=False)
    return quotient


def draw_of(scheme: Scheme, size: Size, tally: Array, weights: Array, probabilities: Array) -> Draw:
    """Pack counts or a mask, weights and probabilities of shape (..., n)."""
    if not isinstance(tally, np.ndarray) or tally.ndim != 1:
        return Draw(scheme, size, _Dense(tally, weights, probabilities))
    indices = np.flatnonzero(tally)
    counts = tally[indices].astype(np.int64)
    return Draw(scheme, size, _Sparse(indices, counts, weights[indices], probabilities, 1.0))


def thinned_draw(scheme: Scheme, size: Size, mask: Array, probabilities: Array) -> Draw:
    """Pack a mask of items kept at most once, whose weights are inverse probabilities."""
    if not isinstance(mask, np.ndarray):
        xp = array_namespace(mask)
        one = xp.ones_like(probabilities)
        weights = xp.where(mask, one / xp.where(mask, probabilities, one), xp.zeros_like(probabilities))
    elif mask.ndim == 1:
        indices = np.flatnonzero(mask)
        kept_weights = np.reciprocal(probabilities[indices])
        ones = np.ones(indices.shape, dtype=np.int64)
        return Draw(scheme, size, _Sparse(indices, ones, kept_weights, probabilities, 1.0))
    else:
        weights = np.empty(probabilities.shape, dtype=probabilities.dtype)
        flat = np.ascontiguousarray(probabilities).reshape(-1)
        invert_kept(mask.reshape(-1), flat, weights.reshape(-1))
    return Draw(scheme, size, _Dense(mask, weights, probabilities))


def row_draw(
    scheme: Scheme,
    size: Size,
    kept: tuple[np.ndarray, np.ndarray, np.ndarray],
    scores: np.ndarray,
    total: float,
) -> Draw:
    """Pack indices, counts and weights of the kept items of one row with probabilities scores / total."""
    return Draw(scheme, size, _Sparse(*kept, scores, total))
