"""Drawing exact numbers of units in proportion to scores.

Budgets are exact, and theorems for all inputs are about independent draws, whose number of kept units
is random. :class:`ExactPoisson` has both: it repeats Poisson sampling until the number is right. What
fails with probability at most delta' fails, given the number, with probability at most delta' over the
probability of the number, which is computed exactly; it enters bounds by its logarithm only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from coresets._validate import check_open_unit
from coresets.guarantee import Scheme
from coresets.sampling import poisson_from_probabilities, sample_fixed_size, sample_poisson, sample_top
from nn.neurons._arguments import check_flag
from nn.selection import Allocation, Uniform
from nn.units.method import check_allocation

__all__ = [
    "Drawing",
    "ExactPoisson",
    "Pivotal",
    "TopScores",
    "UnitDraw",
    "UnitSampler",
    "UntilDistinct",
    "whole",
]

Floats = npt.NDArray[np.float64]

# Scores below this share of the largest one are raised to it: any number of units can then be kept.
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class UnitDraw:
    """Which units are kept, and by which factors what reads them is multiplied.

    Parameters
    ----------
    keep : Tensor of bool, shape (units,)
        On the host.
    factors : Tensor of float64, shape (units,)
        On the host; 0 where dropped.
    scheme : Scheme
        How it was drawn.
    level : float
        kappa, if inclusion probabilities are min(1, kappa s) for scores s of sum 1; infinite if all are 1.
    chance : float
        Probability of the number kept, on which the draw is conditional; 1 if that is always the same.
    """

    keep: torch.Tensor
    factors: torch.Tensor
    scheme: Scheme
    level: float = math.inf
    chance: float = 1.0

    @property
    def everything(self) -> bool:
        """Whether nothing is dropped."""
        return bool(self.keep.all())


@runtime_checkable
class UnitSampler(Protocol):
    """A way to draw units."""

    @property
    def random(self) -> bool:
        """Whether a generator is needed."""

    def draw(self, scores: torch.Tensor, count: int, rng: np.random.Generator | None) -> UnitDraw:
        """Keep exactly ``count`` units, given scores of shape (units,)."""


def _positive(scores: torch.Tensor) -> Floats:
    """Scores of sum 1, none of them 0."""
    values = scores.detach().double().cpu().numpy()
    if not np.all(np.isfinite(values)) or np.any(values < 0.0):
        raise ValueError("scores of units are negative or not finite; look for huge weights")
    largest = float(values.max(initial=0.0))
    values = np.maximum(values / largest, _LEAST) if largest > 0.0 else np.ones(len(values))
    return np.asarray(values / values.sum())


def _all(units: int, scheme: Scheme) -> UnitDraw:
    return UnitDraw(torch.ones(units, dtype=torch.bool), torch.ones(units, dtype=torch.float64), scheme)


def _made(
    mask: npt.NDArray[np.bool_], factors: Floats, scheme: Scheme, level: float, chance: float
) -> UnitDraw:
    kept = torch.from_numpy(np.array(mask))
    return UnitDraw(kept, torch.from_numpy(np.where(mask, factors, 0.0)), scheme, level, chance)


def _level(probabilities: Floats, scores: Floats) -> float:
    """The kappa with probabilities min(1, kappa scores)."""
    below = probabilities < 1.0
    return float((probabilities[below] / scores[below]).min()) if below.any() else math.inf


def whole(level: float) -> int:
    """A level as the expected size that theorems ask for, at least 1; rounded down."""
    return max(1, int(level * (1.0 + 1e-12)))  # a level is a quotient, which may fall short by rounding


@dataclass(frozen=True, slots=True)
class ExactPoisson:
    """Poisson sampling, repeated until it keeps the number asked for.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from nn.neurons.draws import ExactPoisson
    >>> draw = ExactPoisson().draw(torch.ones(4), 2, np.random.default_rng(0))
    >>> int(draw.keep.sum()), draw.level, draw.chance  # 2 of 4 coins
    (2, 2.0, 0.375)
    """

    random = True

    def draw(self, scores: torch.Tensor, count: int, rng: np.random.Generator | None) -> UnitDraw:
        """Draw again and again; the mean number is ``count``, so a few dozen times are enough."""
        values = _positive(scores)
        if count >= len(values):
            return _all(len(values), Scheme.POISSON)
        draw = sample_poisson(values, count, rng=rng)
        probabilities = np.asarray(draw.probabilities, dtype=np.float64)
        while draw.support_size != count:
            draw = poisson_from_probabilities(probabilities, rng=rng)
        # The count is a mode of the number kept, as its mean is an integer: the chance is not small.
        chance = _chance(probabilities, count)
        return _made(draw.mask, draw.weights, Scheme.POISSON, _level(probabilities, values), chance)


def _chance(probabilities: Floats, count: int) -> float:
    """Probability that exactly ``count`` of independent events occur."""
    sure = int((probabilities >= 1.0).sum())
    left = count - sure
    # Events go in about sqrt(n) groups side by side, whose distributions are then convolved. Events of
    # probability 0 fill the last group; every term is positive, so nothing cancels.
    open_ones = probabilities[probabilities < 1.0]
    steps = max(1, math.isqrt(len(open_ones)))
    groups = np.zeros((-(-len(open_ones) // steps), steps))
    groups.flat[: len(open_ones)] = open_ones
    chances = np.zeros((len(groups), steps + 1))
    chances[:, 0] = 1.0
    for p in groups.T[:, :, None]:
        chances[:, 1:] = chances[:, 1:] * (1.0 - p) + chances[:, :-1] * p
        chances[:, :1] *= 1.0 - p
    total = np.ones(1)
    for group in chances:
        total = np.convolve(total, group)[: left + 1]
    return float(total[left])


@dataclass(frozen=True, slots=True)
class Pivotal:
    """Dependent rounding to the exact number; for all inputs at once nothing is proved for it."""

    random = True

    def draw(self, scores: torch.Tensor, count: int, rng: np.random.Generator | None) -> UnitDraw:
        """One pass of :func:`~coresets.sampling.sample_fixed_size`."""
        values = _positive(scores)
        if count >= len(values):
            return _all(len(values), Scheme.FIXED_SIZE)
        draw = sample_fixed_size(values, count, rng=rng)
        probabilities = np.asarray(draw.probabilities, dtype=np.float64)
        return _made(draw.mask, draw.weights, Scheme.FIXED_SIZE, _level(probabilities, values), 1.0)


@dataclass(frozen=True, slots=True)
class TopScores:
    """The highest scores, with their own weights: nothing random."""

    random = False

    def draw(self, scores: torch.Tensor, count: int, rng: np.random.Generator | None) -> UnitDraw:
        """Of equal scores the earlier."""
        values = _positive(scores)
        if count >= len(values):
            return _all(len(values), Scheme.TOP)
        draw = sample_top(values, count)
        return _made(draw.mask, np.ones(len(values)), Scheme.TOP, math.inf, 1.0)


@dataclass(frozen=True, slots=True)
class UntilDistinct:
    """Draws with replacement until enough different units have come up, as published; a comparator.

    The number of draws depends on what is drawn, so the weights are not those of a fixed number of draws
    and no theorem here covers them.
    """

    random = True

    def draw(self, scores: torch.Tensor, count: int, rng: np.random.Generator | None) -> UnitDraw:
        """Jump from one new unit to the next: repetitions in between are multinomial."""
        assert rng is not None  # those who call see to it
        values = _positive(scores)
        if count >= len(values):
            return _all(len(values), Scheme.WITH_REPLACEMENT)
        counts = np.zeros(len(values))
        for _ in range(count):
            seen = counts > 0.0
            fresh = np.where(seen, 0.0, values)
            again = rng.geometric(min(1.0, float(fresh.sum()))) - 1
            if again:
                old = np.where(seen, values, 0.0)
                counts += rng.multinomial(again, old / old.sum())
            counts[rng.choice(len(values), p=fresh / fresh.sum())] += 1.0
        factors = counts / (counts.sum() * values)
        return _made(counts > 0.0, factors, Scheme.WITH_REPLACEMENT, math.inf, 1.0)


@dataclass(frozen=True)
class Drawing:
    """How units are taken once they have scores.

    Parameters
    ----------
    sampler : UnitSampler
        :class:`ExactPoisson`, :class:`Pivotal`, :class:`TopScores` or :class:`UntilDistinct`.
    reweighted : bool
        Whether what reads a drawn unit is multiplied by its factor, without which no theorem about draws
        holds. No difference to :class:`TopScores`, whose factors are 1.
    allocation : Allocation
        How many in each group; with :class:`~nn.selection.Global` groups compete with their shares of
        their own totals.
    delta : float
        Probability with which the promise of one group may fail.
    """

    sampler: UnitSampler = ExactPoisson()
    reweighted: bool = True
    allocation: Allocation = Uniform()
    delta: float = 0.1

    def __post_init__(self) -> None:
        check_allocation(self.allocation)
        check_flag(self.reweighted, "reweighted")
        if isinstance(self.sampler, type) or not isinstance(self.sampler, UnitSampler):
            raise TypeError(f"sampler = {self.sampler!r} draws no units; pass ExactPoisson() or TopScores()")
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))
