"""What a method that removes units decides, before anything is changed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from coresets.certificate import Certificate
from nn._records import read_certificates, read_record, under, write_record, written_certificates
from nn.copies import separated, sharing
from nn.cost import Cost
from nn.masks import bake_in
from nn.plans import PruningWarning
from nn.units.surgery import Recipe, carry_out

__all__ = ["GroupPlan", "UnitPlan"]


@dataclass(frozen=True, eq=False)
class GroupPlan:
    """What becomes of one group of units.

    Parameters
    ----------
    keep : Tensor of bool, shape (units,)
        True where a unit stays.
    certificates : sequence of Certificate
        Evidence for this group alone.
    """

    keep: torch.Tensor
    certificates: Sequence[Certificate] = ()

    def __post_init__(self) -> None:
        if self.keep.dim() != 1 or self.keep.dtype != torch.bool:
            raise ValueError(
                f"keep is {self.keep.dtype} of shape {tuple(self.keep.shape)}; expected bool, one a unit"
            )
        object.__setattr__(self, "certificates", tuple(self.certificates))

    @property
    def kept(self) -> int:
        """Number of units that stay."""
        return int(self.keep.sum())

    @property
    def total(self) -> int:
        """Number of units."""
        return self.keep.numel()


@dataclass(frozen=True, eq=False)
class UnitPlan:
    """What a method decided for a network and a budget.

    Parameters
    ----------
    groups : mapping of str to GroupPlan
        By group name.
    recipe : Recipe
        What stays of every layer.
    updates : mapping of str to Tensor
        New values of parameters, of their shapes before anything is removed.
    title : tuple of (str, str)
        The method and the budget, as they print.
    costs : tuple of (Cost, Cost)
        Before and after.
    certificates : sequence of Certificate
        A priori evidence for the whole network.
    notes : sequence of str
        What a reader should know, such as a vacuous bound.
    """

    groups: Mapping[str, GroupPlan]
    recipe: Recipe
    updates: Mapping[str, torch.Tensor]
    title: tuple[str, str]
    costs: tuple[Cost, Cost]
    certificates: Sequence[Certificate] = ()
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))
        object.__setattr__(self, "updates", MappingProxyType(dict(self.updates)))
        object.__setattr__(self, "certificates", tuple(self.certificates))
        object.__setattr__(self, "notes", tuple(self.notes))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be copied
        return UnitPlan, (
            dict(self.groups),
            self.recipe,
            dict(self.updates),
            self.title,
            self.costs,
            self.certificates,
            self.notes,
        )

    @property
    def method(self) -> str:
        """The method, as it prints."""
        return self.title[0]

    @property
    def budget(self) -> str:
        """The budget, as it prints."""
        return self.title[1]

    @property
    def kept(self) -> int:
        """Number of units that stay."""
        return sum(group.kept for group in self.groups.values())

    @property
    def total(self) -> int:
        """Number of units in the groups of the plan."""
        return sum(group.total for group in self.groups.values())

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """A smaller copy of the network; the network itself is not changed.

        Parameters
        ----------
        network : torch.nn.Module
            The network that the plan was made for, or one with the same layers.

        Returns
        -------
        torch.nn.Module
            An ordinary module of the same class, on the same device, in the same precision and mode.

        Raises
        ------
        ValueError
            If a layer is missing or has another size.

        Warns
        -----
        PruningWarning
            If the plan changes nothing.
        """
        smaller = separated(self.preview(network), self._shared(network))
        if self.kept == self.total and not self.updates:
            warnings.warn(
                f"{self.method} with {self.budget} changes nothing: every unit is kept as it was",
                PruningWarning,
                stacklevel=3,
            )
        return smaller

    def masked(self, network: torch.nn.Module) -> torch.nn.Module:
        """A copy of unchanged shape that computes the same: removed units are read with weight zero.

        Parameters
        ----------
        network : torch.nn.Module
            See :meth:`apply`. Not the same where a normalisation acts over several units of a group.
        """
        return self.recipe.masked(self.updated(network))

    def updated(self, network: torch.nn.Module) -> torch.nn.Module:
        """A copy with the new values, before anything is removed; see :meth:`apply`."""
        return separated(self._updated(network), self._shared(network))

    def preview(self, network: torch.nn.Module) -> torch.nn.Module:
        """What :meth:`apply` returns, to be run only: what stays whole shares memory with the network."""
        smaller = self._updated(network)
        carry_out(self.recipe, smaller)
        return smaller

    def _updated(self, network: torch.nn.Module) -> torch.nn.Module:
        """The new values in a copy that shares memory with the network and with them."""
        updated = sharing(network)
        bake_in(updated)
        parameters = dict(updated.named_parameters())
        for name, value in self.updates.items():
            own = parameters.get(name)
            if own is None or own.shape != value.shape:
                raise ValueError(
                    f"the plan has a parameter {name!r} of shape {tuple(value.shape)}; the network not"
                )
            new = value.detach().to(own.device, own.dtype)
            own.data = new if new.stride() == own.stride() else torch.empty_like(own).copy_(new)
        return updated

    def _shared(self, network: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        """What a copy may share memory with."""
        return (*network.parameters(), *self.updates.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to one safetensors file, atomically."""
        tensors = {f"{name}:keep": group.keep for name, group in self.groups.items()}
        tensors |= {f"update:{name}": value for name, value in self.updates.items()}
        record = {
            "title": list(self.title),
            "recipe": self.recipe.to_dict(),
            "costs": [c.to_dict() for c in self.costs],
            "notes": list(self.notes),
            "certificates": written_certificates(self.certificates),
            "groups": {n: written_certificates(group.certificates) for n, group in self.groups.items()},
        }
        write_record(path, "unit plan", tensors, record)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> UnitPlan:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file holds no such plan, or one of another format.
        FileNotFoundError
            If there is no such file.
        """
        tensors, record = read_record(path, "unit plan")
        try:
            groups = {
                name: GroupPlan(tensors[f"{name}:keep"], read_certificates(certificates))
                for name, certificates in record["groups"].items()
            }
            method, budget = record["title"]
            before, after = (Cost.from_dict(c) for c in record["costs"])
            return cls(
                groups,
                Recipe.from_dict(record["recipe"]),
                under("update:", tensors),
                (str(method), str(budget)),
                (before, after),
                read_certificates(record["certificates"]),
                record["notes"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)} holds a damaged plan: {error}") from error

    def __str__(self) -> str:
        width = max((len(name) for name in self.groups), default=5)
        before, after = self.costs
        head = f"{self.method}, {self.budget}: {self.kept:,} of {self.total:,} units kept"
        left = f"{after.parameters:,} of {before.parameters:,} parameters"
        lines = [f"{head}, {left}, {after.flops:,} of {before.flops:,} operations an example"]
        for name, group in self.groups.items():
            share = group.kept / group.total
            lines.append(f"  {name.ljust(width)}  {group.kept:>8,} of {group.total:>8,}  {share:8.2%}")
        lines.extend(f"  {c.name}: {c.statement}" for c in self.certificates)
        lines.extend(f"  note: {note}" for note in self.notes)
        return "\n".join(lines)
