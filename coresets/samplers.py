"""The ways to draw as values, for reducers: ``SensitivityReducer(loss, sampler=FixedSize())``.

A sampler names the scheme that guarantees refer to, and draws by the function of
:mod:`coresets.sampling` that does the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from coresets._draw import Draw
from coresets._random import Rng
from coresets.guarantee import Scheme
from coresets.sampling import sample_fixed_size, sample_hybrid, sample_iid, sample_poisson, sample_top

__all__ = ["IID", "FixedSize", "Hybrid", "Poisson", "Sampler", "Top"]

Array = Any


class Sampler(Protocol):
    """A way to draw, passed to reducers as a value."""

    @property
    def scheme(self) -> Scheme:
        """The scheme that guarantees refer to."""
        ...

    def draw(self, sensitivities: Array, size: Any, rng: Rng) -> Draw:
        """Draw ``size`` items from sensitivities of shape (..., n)."""
        ...


@dataclass(frozen=True, slots=True)
class IID:
    """Independent draws with replacement: :func:`sample_iid`."""

    scheme: ClassVar[Scheme] = Scheme.WITH_REPLACEMENT

    def draw(self, sensitivities: Array, size: int, rng: Rng) -> Draw:
        """Call :func:`sample_iid`."""
        return sample_iid(sensitivities, size, rng=rng)


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent inclusion: :func:`sample_poisson`."""

    scheme: ClassVar[Scheme] = Scheme.POISSON

    def draw(self, sensitivities: Array, size: Any, rng: Rng) -> Draw:
        """Call :func:`sample_poisson`."""
        return sample_poisson(sensitivities, size, rng=rng)


@dataclass(frozen=True, slots=True)
class FixedSize:
    """Pivotal sampling to an exact size: :func:`sample_fixed_size`."""

    scheme: ClassVar[Scheme] = Scheme.FIXED_SIZE

    def draw(self, sensitivities: Array, size: Any, rng: Rng) -> Draw:
        """Call :func:`sample_fixed_size`."""
        return sample_fixed_size(sensitivities, size, rng=rng)


@dataclass(frozen=True, slots=True)
class Hybrid:
    """Sure inclusion of the top, draws from the rest: :func:`sample_hybrid`."""

    scheme: ClassVar[Scheme] = Scheme.HYBRID

    def draw(self, sensitivities: Array, size: int, rng: Rng) -> Draw:
        """Call :func:`sample_hybrid`."""
        return sample_hybrid(sensitivities, size, rng=rng)


@dataclass(frozen=True, slots=True)
class Top:
    """The largest sensitivities: :func:`sample_top`."""

    scheme: ClassVar[Scheme] = Scheme.TOP

    def draw(self, sensitivities: Array, size: Any, rng: Rng = None) -> Draw:
        """Call :func:`sample_top`; ``rng`` is not used."""
        return sample_top(sensitivities, size)
