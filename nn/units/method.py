"""What a method that removes units is: a frozen value that turns a problem into a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from coresets.certificate import Certificate
from nn.budgets import Share
from nn.calibration import Calibration
from nn.selection import ERK, LAMP, Allocation, largest_remainder
from nn.units.consumers import Consumer, consumers_of
from nn.units.topology import UnitGroup

__all__ = ["UnitDecision", "UnitMethod", "UnitProblem", "keep_best_units", "split_units"]


@dataclass(frozen=True, eq=False)
class UnitProblem:
    """A network to make smaller, as methods see it.

    Parameters
    ----------
    network : torch.nn.Module
        A copy in evaluation mode, which may be run, differentiated and changed.
    groups : mapping of str to UnitGroup
        The groups that take part, in the order in which the network reads them.
    shares : sequence of Share
        Disjoint sets of groups with the number of units to keep in each.
    calibration : Calibration
        Data; the network was traced with their first batch.
    rng : numpy.random.Generator or None
        Randomness, if there is any.
    """

    network: torch.nn.Module
    groups: Mapping[str, UnitGroup]
    shares: Sequence[Share]
    calibration: Calibration
    rng: np.random.Generator | None = None

    def randomness(self, method: object) -> np.random.Generator:
        """The generator.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.rng is None:
            raise ValueError(f"{method!r} draws at random; pass rng=..., a seed or a NumPy generator")
        return self.rng

    def rereadable(self, method: object) -> Calibration:
        """The data, for a method that reads them more than once.

        Raises
        ------
        ValueError
            If they can be read only once.
        """
        batches = self.calibration.batches
        if iter(batches) is batches:
            raise ValueError(
                f"{method!r} reads the calibration data more than once, and this iterator can be read once "
                "only; pass a list of batches or a DataLoader"
            )
        return self.calibration

    @property
    def sizes(self) -> dict[str, int]:
        """Number of units of every group."""
        return {name: group.units for name, group in self.groups.items()}

    def consumers(self, group: str) -> Mapping[str, Consumer]:
        """The layers that read a group's units, as layers of ``network``."""
        return consumers_of(self.network, self.groups[group])


@dataclass(frozen=True, eq=False)
class UnitDecision:
    """What a method returns.

    Parameters
    ----------
    keep : mapping of str to Tensor of bool, shape (units,)
        One for each group of the problem.
    updates : mapping of str to Tensor
        New values of parameters, by their names in the network (``"fc2.weight"``), of the shapes that
        they have before anything is removed. Columns that are removed do not matter.
    group_certificates : mapping of str to sequence of Certificate
        Evidence for single groups.
    certificates : sequence of Certificate
        A priori evidence for the whole network.
    notes : sequence of str
        What a reader should know, such as a bound that is vacuous.
    """

    keep: Mapping[str, torch.Tensor]
    updates: Mapping[str, torch.Tensor] = field(default_factory=dict)
    group_certificates: Mapping[str, Sequence[Certificate]] = field(default_factory=dict)
    certificates: Sequence[Certificate] = ()
    notes: Sequence[str] = ()


@runtime_checkable
class UnitMethod(Protocol):
    """A way to remove units."""

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Keep exactly the counts of the problem's shares, and at least one unit of every group."""


def split_units(allocation: Allocation, share: Share, sizes: Mapping[str, int]) -> Sequence[Share]:
    """Shares of an allocation that leave every group at least one unit.

    Parameters
    ----------
    allocation : Allocation
        Divides the count by the sizes of the groups.
    share : Share
        What it divides; at least as many units as groups.
    sizes : mapping of str to int
        Number of units of every group.

    Raises
    ------
    ValueError
        If there are more groups than units to keep.

    Examples
    --------
    >>> from nn.budgets import Share
    >>> from nn.selection import Uniform
    >>> from nn.units.method import split_units
    >>> [part.count for part in split_units(Uniform(), Share(("a", "b"), 10), {"a": 96, "b": 4})]
    [9, 1]
    """
    check_none_vanishes(share)
    parts = allocation.split(share, sizes)
    least = np.array([len(part.layers) for part in parts])
    counts = np.array([part.count for part in parts])
    short = np.maximum(least - counts, 0)
    if short.any():  # what the small ones are given is taken from the others, in proportion
        spare = np.maximum(counts - least, 0).astype(np.float64)
        counts = counts + short - largest_remainder(spare, int(short.sum()))
    return tuple(Share(part.layers, int(count)) for part, count in zip(parts, counts, strict=True))


def check_allocation(allocation: object) -> None:
    """Refuse what does not divide numbers of units.

    Raises
    ------
    TypeError
        If it is no allocation, or one that is about single weights.
    """
    if isinstance(allocation, (type, str)) or not hasattr(allocation, "split"):  # strings have one, too
        raise TypeError(f"allocation = {allocation!r} divides nothing; pass Uniform() or Global()")
    if isinstance(allocation, (ERK, LAMP)):
        raise TypeError(f"{allocation!r} is about single weights, not units; pass Uniform() or Global()")


def check_none_vanishes(share: Share) -> None:
    """Refuse a count with which a group would lose all its units.

    Raises
    ------
    ValueError
        If so.
    """
    if share.count < len(share.layers):
        raise ValueError(
            f"{share.count} units are to be kept in {len(share.layers)} groups, so that "
            f"{', '.join(map(repr, share.layers[share.count :]))} would vanish; keep at least one of each"
        )


def keep_best_units(
    scores: Mapping[str, torch.Tensor], share: Share, allocation: Allocation
) -> dict[str, torch.Tensor]:
    """The best-scored units of a share, and at least the best one of every group.

    Parameters
    ----------
    scores : mapping of str to Tensor of shape (units,)
        Higher is better; of equal ones the earlier is kept.
    share : Share
        Which groups compete, and for how many places.
    allocation : Allocation
        How the count is divided among them.

    Returns
    -------
    dict of str to Tensor of bool

    Raises
    ------
    ValueError
        If a score is NaN, or a group would vanish.

    Examples
    --------
    >>> import torch
    >>> from nn.budgets import Share
    >>> from nn.selection import Global
    >>> from nn.units.method import keep_best_units
    >>> scores = {"a": torch.tensor([5.0, 4.0, 3.0]), "b": torch.tensor([1.0, 2.0])}
    >>> keep_best_units(scores, Share(("a", "b"), 3), Global())
    {'a': tensor([ True,  True, False]), 'b': tensor([False,  True])}
    """
    kept: dict[str, torch.Tensor] = {}
    for part in split_units(allocation, share, {name: len(scores[name]) for name in share.layers}):
        values = {name: scores[name].detach().double().cpu() for name in part.layers}
        for name, own in values.items():
            if bool(torch.isnan(own).any()):
                raise ValueError(f"scores of {name!r} are NaN; look for NaN weights or activations in it")
            kept[name] = torch.zeros(own.shape, dtype=torch.bool)
            kept[name][int(own.argmax())] = True
        joined = torch.cat([values[name].masked_fill(kept[name], -torch.inf) for name in part.layers])
        places = [(name, unit) for name in part.layers for unit in range(len(values[name]))]
        order = torch.sort(joined, descending=True, stable=True).indices
        for index in order[: part.count - len(part.layers)].tolist():
            name, unit = places[index]
            kept[name][unit] = True
    return {name: kept[name] for name in share.layers}
