"""What a pruner decides, before anything is changed: kept weights, reasons, guarantees.

A plan is pure data. It can be printed, saved, compared, and applied to the network that it was made
for or to a copy of it, which is never changed in place.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from coresets.certificate import Certificate
from nn._records import read_certificates, read_record, write_record, written_certificates
from nn.copies import copied
from nn.masks import bake_in, put_on

__all__ = ["LayerPlan", "Plan", "PruningWarning", "copied"]


class PruningWarning(UserWarning):
    """A pruned network is not what its user may expect: a layer collapsed, or nothing changed."""


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """What becomes of one layer.

    Parameters
    ----------
    keep : Tensor of bool
        True where a weight is kept.
    weight : Tensor
        The weight to use, in the layer's own precision; zero where it is not kept.
    certificates : sequence of Certificate
        Evidence for this layer alone.
    """

    keep: torch.Tensor
    weight: torch.Tensor
    certificates: Sequence[Certificate] = ()

    def __post_init__(self) -> None:
        if self.keep.shape != self.weight.shape or self.keep.dtype != torch.bool:
            raise ValueError(
                f"keep is {self.keep.dtype} of shape {tuple(self.keep.shape)}; expected bool of the "
                f"weight's shape {tuple(self.weight.shape)}"
            )
        if bool((self.weight[~self.keep] != 0).any()):
            raise ValueError("a weight that is not kept is not zero")
        object.__setattr__(self, "certificates", tuple(self.certificates))

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        return int(self.keep.sum())

    @property
    def total(self) -> int:
        """Number of weights."""
        return self.keep.numel()


@dataclass(frozen=True, eq=False)
class Plan:
    """What a method decided for a network and a budget.

    Parameters
    ----------
    layers : mapping of str to LayerPlan
        By layer name.
    method : str
        The method, as it prints.
    budget : str
        The budget, as it prints.
    certificates : sequence of Certificate
        A priori evidence for the whole network: the method's own error for the budget used.
    notes : sequence of str
        What a reader should know, such as a vacuous bound.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, plan
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> decided = plan(network, Magnitude(), KeepRatio(0.5))
    >>> decided.kept, decided.total
    (9, 18)
    """

    layers: Mapping[str, LayerPlan]
    method: str
    budget: str
    certificates: Sequence[Certificate] = ()
    notes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "certificates", tuple(self.certificates))
        object.__setattr__(self, "notes", tuple(self.notes))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be copied
        return Plan, (dict(self.layers), self.method, self.budget, self.certificates, self.notes)

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        return sum(layer.kept for layer in self.layers.values())

    @property
    def total(self) -> int:
        """Number of weights in the layers of the plan."""
        return sum(layer.total for layer in self.layers.values())

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Names of layers that keep nothing."""
        return tuple(name for name, layer in self.layers.items() if layer.kept == 0)

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """A masked copy of the network; the network itself is not changed.

        Parameters
        ----------
        network : torch.nn.Module
            The network that the plan was made for, or one with the same layers.

        Returns
        -------
        torch.nn.Module
            On the same device, in the same precision and training mode. Layers that are not in the plan
            keep the masks that they had.

        Raises
        ------
        ValueError
            If a layer is missing or has another shape.

        Warns
        -----
        PruningWarning
            If a layer keeps no weight, or the plan changes nothing.
        """
        pruned = copied(network)
        masks = dict(bake_in(pruned))
        modules = dict(pruned.named_modules())
        changed = False
        for name, layer in self.layers.items():
            weight = getattr(modules.get(name), "weight", None)
            if weight is None or weight.shape != layer.weight.shape:
                raise ValueError(
                    f"the plan has a layer {name!r} of shape {tuple(layer.weight.shape)}; the network not"
                )
            with torch.no_grad():
                new = layer.weight.to(device=weight.device, dtype=weight.dtype)
                changed = changed or not torch.equal(new, weight)
                weight.copy_(new)
        # Masks of layers that are not in the plan stay on.
        put_on(pruned, masks | {name: layer.keep for name, layer in self.layers.items()})
        self._warn(changed)
        return pruned

    def _warn(self, changed: bool) -> None:
        if self.collapsed:
            warnings.warn(
                f"{self.method} keeps no weight of {', '.join(map(repr, self.collapsed))}: "
                "the network no longer depends on what comes before",
                PruningWarning,
                stacklevel=4,
            )
        if not changed:
            warnings.warn(
                f"{self.method} with {self.budget} changes nothing: every kept weight is as it was and "
                "every dropped one was zero",
                PruningWarning,
                stacklevel=4,
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write masks, weights and all else to one safetensors file, atomically."""
        tensors = {}
        for name, layer in self.layers.items():
            tensors[f"{name}:keep"] = layer.keep
            tensors[f"{name}:weight"] = layer.weight
        record = {
            "method": self.method,
            "budget": self.budget,
            "notes": list(self.notes),
            "certificates": written_certificates(self.certificates),
            "layers": {n: written_certificates(layer.certificates) for n, layer in self.layers.items()},
        }
        write_record(path, "plan", tensors, record)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file holds no plan, or one of another format.
        FileNotFoundError
            If there is no such file.
        """
        tensors, record = read_record(path, "plan")
        try:
            layers = {
                name: LayerPlan(
                    tensors[f"{name}:keep"],
                    tensors[f"{name}:weight"],
                    read_certificates(certificates),
                )
                for name, certificates in record["layers"].items()
            }
            return cls(
                layers,
                record["method"],
                record["budget"],
                read_certificates(record["certificates"]),
                tuple(record["notes"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)} holds a damaged plan: {error}") from error

    def __str__(self) -> str:
        width = max((len(name) for name in self.layers), default=5)
        lines = [f"{self.method}, {self.budget}: {self.kept:,} of {self.total:,} weights kept"]
        for name, layer in self.layers.items():
            share = layer.kept / layer.total
            lines.append(f"  {name.ljust(width)}  {layer.kept:>12,} of {layer.total:>12,}  {share:8.3%}")
        lines.extend(f"  {c.name}: {c.statement}" for c in self.certificates)
        lines.extend(f"  note: {note}" for note in self.notes)
        return "\n".join(lines)
