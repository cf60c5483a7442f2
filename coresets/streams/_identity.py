"""What tells streams apart: the seed, and descriptions of reducer and budget."""

from __future__ import annotations

import re

import numpy as np

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer

__all__ = ["description", "entropy"]


def description(value: object) -> str:
    """Representation without addresses in memory, which are others in the next process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def entropy(rng: Rng) -> int | list[int]:
    """The seed of all reductions, as JSON can hold it.

    Raises
    ------
    TypeError
        If it is no source of randomness, or a seed sequence that others may have been spawned beside.
    ValueError
        If a seed is negative.
    """
    if isinstance(rng, np.random.SeedSequence):
        if rng.entropy is None or rng.spawn_key:
            raise TypeError("pass a seed sequence that was not spawned from another, or an integer")
        rng = rng.entropy
    if isinstance(rng, np.random.Generator):
        return [int(word) for word in rng.integers(0, 2**32, size=4, dtype=np.uint64)]
    if isinstance(rng, (list, tuple)):  # the words of a seed sequence, or of a file
        return [check_integer(word, "rng", at_least=0) for word in rng]
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        resolve_rng(rng)  # refuses negative ones
        return int(rng)
    raise TypeError(f"rng = {rng!r}; pass a seed, a SeedSequence or numpy.random.default_rng(seed)")
