"""A network with fewer units, its plan and its certificates."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from coresets.certificate import Certificate
from nn._records import read_record, write_record, written_certificates
from nn.pruned import Size
from nn.units.plans import UnitPlan
from nn.units.surgery import Recipe, digest

__all__ = ["Shrunk", "UnitSize", "load_shrunk"]


@dataclass(frozen=True, slots=True)
class UnitSize(Size):
    """How large a network is from which units are gone.

    Parameters
    ----------
    kept, total : int
        Units kept, and units there were, in the groups of the plan.
    parameters : int
        Parameters of the smaller network.
    all_parameters : int
        Those of the original network.
    """

    def __str__(self) -> str:
        return (
            f"{self.kept:,} of {self.total:,} units ({self.keep_ratio:.2%}); "
            f"{self.parameters:,} of {self.all_parameters:,} parameters are left."
        )


@dataclass(frozen=True, eq=False)
class Shrunk:
    """What :func:`nn.prune` returns for a method that removes units.

    Parameters
    ----------
    model : torch.nn.Module
        A smaller copy of the network, of the same class: an ordinary module, to be trained, compiled
        and exported like any other.
    plan : UnitPlan
        What was decided, and the a priori evidence.
    certificates : sequence of Certificate
        Evidence computed from this very network.
    """

    model: torch.nn.Module
    plan: UnitPlan
    certificates: Sequence[Certificate] = ()

    @property
    def size(self) -> UnitSize:
        """Units kept, and parameters left."""
        before, after = self.plan.costs
        return UnitSize(self.plan.kept, self.plan.total, after.parameters, before.parameters)

    def finalize(self) -> torch.nn.Module:
        """A copy of the model, which has no masks."""
        return copy.deepcopy(self.model)

    def with_certificates(self, *certificates: Certificate) -> Shrunk:
        """The same network with more evidence."""
        return replace(self, certificates=(*self.certificates, *certificates))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the smaller network and the recipe that leads to its shape to one safetensors file.

        The keys are those of the network's state dict, so the weights can also be read without this
        library; the recipe is in the file's metadata, as JSON, and so is a digest of the state. The
        write is atomic.

        Raises
        ------
        ValueError
            If the state dict has entries that are no tensors.
        """
        state = self.model.state_dict()
        other = [key for key, value in state.items() if not torch.is_tensor(value)]
        if other:
            raise ValueError(
                f"the state of the network has {', '.join(map(repr, other))}, which are no tensors and "
                "cannot be saved without running code when they are read"
            )
        record = {
            "recipe": self.plan.recipe.to_dict(),
            "digest": digest(self.model),
            "title": list(self.plan.title),
            "certificates": written_certificates(self.certificates),
        }
        write_record(path, "shrunk", state, record)


def load_shrunk(path: str | os.PathLike[str], network: torch.nn.Module) -> torch.nn.Module:
    """A smaller network from what :meth:`Shrunk.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    network : torch.nn.Module
        A network of the original class and size, freshly made; it is not changed.

    Returns
    -------
    torch.nn.Module
        A copy of ``network``, made smaller by the recipe, with the saved state, in the precision in
        which it was saved.

    Raises
    ------
    ValueError
        If the file holds no such network, the recipe does not fit ``network``, or the digest of the
        loaded state is not the one that was saved.
    FileNotFoundError
        If there is no such file.
    """
    tensors, record = read_record(path, "shrunk")
    if not isinstance(record.get("recipe"), dict):
        raise ValueError(f"{os.fspath(path)} has no recipe")
    try:
        smaller = Recipe.from_dict(record["recipe"]).replay(network)
    except TypeError as error:
        raise ValueError(f"{os.fspath(path)} was saved from another network: {error}") from error
    own = smaller.state_dict()
    with torch.no_grad():
        for name, parameter in (*smaller.named_parameters(), *smaller.named_buffers()):
            if name in tensors and tensors[name].dtype != parameter.dtype:
                parameter.data = parameter.data.to(tensors[name].dtype)
    if own.keys() != tensors.keys():
        different = ", ".join(sorted(own.keys() ^ tensors.keys()))
        raise ValueError(f"{os.fspath(path)} was saved from another network: {different}")
    try:
        smaller.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{os.fspath(path)} was saved from another network: {error}") from error
    if digest(smaller) != record.get("digest"):
        raise ValueError(f"{os.fspath(path)} is damaged: its state does not have the digest that was saved")
    return smaller
