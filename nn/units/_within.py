"""How many units of each group a budget of parameters or operations leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nn.budgets import CostBudget
from nn.calibration import Batch
from nn.copies import sharing
from nn.cost import Cost, cost
from nn.units.surgery import carry_out, recipe_of
from nn.units.topology import UnitGroup

__all__ = ["Sized", "counts_within"]

Counts = Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Sized:
    """A network as it would be with fewer units.

    Parameters
    ----------
    network : torch.nn.Module
        Without masks; run in evaluation mode.
    groups : mapping of str to UnitGroup
        Its groups.
    example : Batch
        What it is run on to count operations.
    """

    network: torch.nn.Module
    groups: Mapping[str, UnitGroup]
    example: Batch

    def cost(self, counts: Counts) -> Cost:
        """Exact cost with so many units in each group; groups that are not named are whole.

        Which units they are does not matter: the shapes are the same.
        """
        keep = {name: torch.arange(self.groups[name].units) < count for name, count in counts.items()}
        smaller = sharing(self.network)
        carry_out(recipe_of(self.groups, keep, self.network), smaller)
        try:
            return cost(smaller, self.example)
        except Exception as error:  # whatever a forward pass may raise
            raise ValueError(
                f"{type(self.network).__name__} does not run with fewer units, so that its operations cannot "
                f"be counted ({type(error).__name__}: {error}); its forward pass may rely on fixed sizes. "
                "Leave groups out with PerLayer({...: Dense()}, rest=...)"
            ) from error


def counts_within(budget: CostBudget, sized: Sized, sizes: Counts, fixed: Counts) -> dict[str, int]:
    """The largest common share of some groups with which the network stays within a budget.

    Parameters
    ----------
    budget : CostBudget
        Of the network as a whole.
    sized : Sized
        The network.
    sizes : mapping of str to int
        Units of the groups that share the budget.
    fixed : mapping of str to int
        Units that other groups keep.

    Returns
    -------
    dict of str to int
        Units to keep: in every group the same share, rounded down, at least one; and one more, the largest
        remainder first, wherever the budget has room for it. The cost is within the budget, and with the
        next larger share of all groups it would not be.

    Raises
    ------
    ValueError
        If not even one unit in every group is.
    """
    before = sized.cost({})
    limit = budget.limit(before)

    def fits(counts: Counts) -> bool:
        return budget.spent(sized.cost({**fixed, **counts})) <= limit

    steps = max(sizes.values())

    def at(step: int) -> dict[str, int]:
        return {name: max(1, size * step // steps) for name, size in sizes.items()}

    if not fits(at(0)):
        least = budget.spent(sized.cost({**fixed, **at(0)}))
        ratio = math.ceil(1e4 * least / budget.spent(before)) / 1e4
        raise ValueError(
            f"{budget!r} allows {limit:,} {budget.counted}, and with a single unit in every group that may "
            f"shrink there are {least:,} of {budget.spent(before):,}; ask for a ratio of at least "
            f"{ratio:g}, or let other groups shrink"
        )
    low, high = 0, steps + 1  # at(low) fits; high is beyond, or does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(at(middle)) else (low, middle)
    counts = at(low)
    for name in sorted(sizes, key=lambda name: -(sizes[name] * low % steps)):
        more = {**counts, name: counts[name] + 1}
        if more[name] <= sizes[name] and fits(more):
            counts = more
    return counts
