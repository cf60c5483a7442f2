"""Seeds at the edge of the library, where the same small number may have made the data.

``numpy.random.default_rng(0)`` draws the same numbers whoever calls it. Data made with it and a sample drawn
with it are not independent: a row may be kept or left out because of the very number that made it, and no
theorem holds then. The engine takes a caller's generator as it is. The command line and the estimators, whose
seeds are small numbers typed without a thought, mark theirs.
"""

from __future__ import annotations

__all__ = ["seed_words"]

_MARK = int.from_bytes(b"coresets", "big")


def seed_words(seed: int) -> list[int]:
    """Entropy for ``numpy.random.SeedSequence`` that no plain seed shares.

    Examples
    --------
    >>> import numpy as np
    >>> bool(np.random.default_rng(seed_words(0)).random() == np.random.default_rng(0).random())
    False
    """
    return [seed, _MARK]
