"""A pruned network with its plan and its certificates."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from coresets.certificate import Certificate
from nn._records import read_record, under, write_record, written_certificates
from nn.layers import find_layers
from nn.masks import bake_in, put_on
from nn.plans import Plan

__all__ = ["Pruned", "Size", "load_pruned"]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a pruned network is.

    Parameters
    ----------
    kept, total : int
        Weights kept, and weights there were, in the layers of the plan.
    parameters : int
        Nonzero parameters of the whole network, biases and other layers included.
    all_parameters : int
        All its parameters.
    """

    kept: int
    total: int
    parameters: int
    all_parameters: int

    @property
    def keep_ratio(self) -> float:
        """Share of the weights in the plan that is kept; 1 if there are none."""
        return self.kept / self.total if self.total else 1.0

    def __str__(self) -> str:
        return (
            f"{self.kept:,} of {self.total:,} weights in the pruned layers ({self.keep_ratio:.2%}); "
            f"{self.parameters:,} of {self.all_parameters:,} parameters are not zero. "
            "Masked weights still take their memory and time."
        )


@dataclass(frozen=True, eq=False)
class Pruned:
    """What :func:`nn.prune` returns.

    Parameters
    ----------
    model : torch.nn.Module
        A masked copy of the network: train it, copy it, or :meth:`finalize` it.
    plan : Plan
        What was decided, and the a priori evidence.
    certificates : sequence of Certificate
        Evidence computed from this very network.
    """

    model: torch.nn.Module
    plan: Plan
    certificates: Sequence[Certificate] = ()

    @property
    def size(self) -> Size:
        """Counts of weights, as the forward pass sees them."""
        with torch.no_grad():
            baked = self.finalize()
            parameters = [parameter.detach() for parameter in baked.parameters()]
            layers = find_layers(baked, tuple(self.plan.layers)).values()
        return Size(
            kept=sum(int((layer.weight != 0).sum()) for layer in layers),
            total=self.plan.total,
            parameters=sum(int((parameter != 0).sum()) for parameter in parameters),
            all_parameters=sum(parameter.numel() for parameter in parameters),
        )

    def finalize(self) -> torch.nn.Module:
        """A copy without masks, in which the dropped weights are zeros."""
        model = copy.deepcopy(self.model)
        bake_in(model)
        return model

    def with_certificates(self, *certificates: Certificate) -> Pruned:
        """The same network with more evidence."""
        return replace(self, certificates=(*self.certificates, *certificates))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network and the masks to one safetensors file, atomically.

        The keys are those of the plain network's state dict after ``state:``, so the weights can also be
        read without this library; masks are stored beside them, and the class of the network is not.
        """
        plain = copy.deepcopy(self.model)
        masks = bake_in(plain)  # those of earlier plans, too
        tensors = {f"state:{key}": value for key, value in plain.state_dict().items()}
        tensors |= {f"keep:{name}": keep for name, keep in masks.items()}
        record = {
            "certificates": written_certificates(self.certificates),
            "method": self.plan.method,
            "budget": self.plan.budget,
            "layers": list(self.plan.layers),
        }
        write_record(path, "pruned", tensors, record)


def load_pruned(path: str | os.PathLike[str], network: torch.nn.Module) -> torch.nn.Module:
    """A masked network from what :meth:`Pruned.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    network : torch.nn.Module
        A network of the same class, shape and precision, freshly made; it is not changed.

    Returns
    -------
    torch.nn.Module
        A copy of ``network`` with the saved weights and masks, bit by bit.

    Raises
    ------
    ValueError
        If the file holds no pruned network, or the network does not fit. A network of another precision
        does not: its weights would be rounded, or its outputs would be computed more finely than those
        that were certified. Convert it first, with ``network.to(torch.bfloat16)`` for instance, and
        the loaded one afterwards if another precision is wanted.
    FileNotFoundError
        If there is no such file.
    """
    tensors, _ = read_record(path, "pruned")
    loaded = copy.deepcopy(network)
    bake_in(loaded)
    state = under("state:", tensors)
    _refuse_other_precision(path, state, loaded)
    try:
        loaded.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{os.fspath(path)} was saved from another network: {error}") from error
    put_on(loaded, under("keep:", tensors))
    return loaded


def _refuse_other_precision(
    path: str | os.PathLike[str], saved: Mapping[str, torch.Tensor], network: torch.nn.Module
) -> None:
    """Raise if loading would convert a parameter or a buffer, which torch does without a word."""
    for name, own in network.state_dict().items():
        if name in saved and saved[name].dtype != own.dtype:
            raise ValueError(
                f"{os.fspath(path)} has {name!r} in {saved[name].dtype}, the network in {own.dtype}; make "
                f"the network as the saved one was, for instance with network.to({saved[name].dtype})"
            )
