"""What operations count for when units are removed one by one: terms beside the loss (Theis et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from coresets._validate import check_real

__all__ = ["AddedCost", "CostRatio", "CostTerm", "NoCost"]


class CostTerm(Protocol):
    """What operations count for, when the next unit to remove is chosen."""

    def priority(self, loss: float, saved: float) -> float:
        """The smaller, the sooner a unit goes.

        Parameters
        ----------
        loss : float
            By how much its removal raises the loss, estimated.
        saved : float
            Operations that go with it, as a share of those of the original network.
        """


@dataclass(frozen=True, slots=True)
class NoCost:
    """The loss alone."""

    def priority(self, loss: float, saved: float) -> float:
        """The loss."""
        return loss


@dataclass(frozen=True, slots=True)
class AddedCost:
    """Loss plus beta times operations.

    Parameters
    ----------
    beta : float
        What all operations of the original network would be worth, in units of the loss; at least 0.
    """

    beta: float

    def __post_init__(self) -> None:
        if check_real(self.beta, "beta") < 0.0:
            raise ValueError(f"beta = {self.beta:g} is negative; operations saved are no loss")

    def priority(self, loss: float, saved: float) -> float:
        """Change of the objective."""
        return loss - self.beta * saved


@dataclass(frozen=True, slots=True)
class CostRatio:
    """Loss for each operation saved: the smallest beta for which some removal lowers the objective."""

    def priority(self, loss: float, saved: float) -> float:
        """Loss over operations."""
        return loss / saved if saved > 0.0 else math.inf
