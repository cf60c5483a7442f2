"""How many different units some draws find: exact means and the law of the number, against F4."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nn.guarantees.pfp import DistinctUnits
from proofs_check.checks._common import DELTA
from proofs_check.checks._networks import EPS

__all__ = ["Enumerated", "Strayed", "all_alike", "no_duplicates"]

Floats = npt.NDArray[np.float64]

Expected = Callable[[Floats, int], float]


def as_proved(values: Floats, draws: int) -> float:
    """The theorem's."""
    return float(DistinctUnits().expected(values, draws))


def no_duplicates(values: Floats, draws: int) -> float:
    """As if every draw found another unit."""
    return float(min(len(values), draws))


def all_alike(values: Floats, draws: int) -> float:
    """The formula for equal probabilities."""
    return float(DistinctUnits().expected(np.ones_like(values), draws))


@dataclass(frozen=True)
class Enumerated:
    """Distance of a formula from the mean over all sequences of draws, over what rounding allows."""

    values: Floats
    draws: int
    expected: Expected = as_proved

    def __call__(self, rng: np.random.Generator) -> float:
        p = self.values / self.values.sum()
        sequences = itertools.product(range(len(p)), repeat=self.draws)
        exact = sum(len(set(one)) * float(np.prod(p[list(one)])) for one in sequences)
        rounding = len(p) ** self.draws * EPS * exact
        return abs(self.expected(self.values, self.draws) - exact) / rounding


@dataclass(frozen=True)
class Strayed:
    """How far the number of different units is from its expectation, over the bound."""

    values: Floats
    draws: int
    expected: Expected = as_proved
    of_one: bool = False

    def __call__(self, rng: np.random.Generator) -> float:
        counts = rng.multinomial(self.draws, self.values / self.values.sum())
        distance = abs(int(np.count_nonzero(counts)) - self.expected(self.values, self.draws))
        units = 1 if self.of_one else len(self.values)
        return distance / DistinctUnits().deviation(units, self.draws, DELTA)
