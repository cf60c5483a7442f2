"""Masks on the weights of ordinary modules, by ``torch.nn.utils.parametrize``.

A masked layer keeps its class, its state dict grows by the mask, and its forward pass multiplies
the weight with it; so optimisers may move the weight behind the mask, and the network computed is
still the pruned one. Copies and checkpoints of masked networks work as those of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils import parametrize

__all__ = ["Mask", "bake_in", "mask_of", "put_on"]


class Mask(torch.nn.Module):
    """Parametrisation that keeps some entries of a weight and sets the others to zero.

    Parameters
    ----------
    keep : Tensor of bool
        True where the weight is kept.
    """

    keep: torch.Tensor

    def __init__(self, keep: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight where it is kept, zero elsewhere."""
        # Not a product: a weight that has overflowed behind the mask would make it NaN.
        return torch.where(self.keep, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """What to store so that :meth:`forward` gives ``weight``, which is zero off the mask."""
        return weight


def _on(module: torch.nn.Module) -> list[Mask]:
    if not parametrize.is_parametrized(module, "weight"):
        return []
    return [p for p in module.parametrizations.weight if isinstance(p, Mask)]  # type: ignore[union-attr]


def mask_of(module: torch.nn.Module) -> torch.Tensor | None:
    """The mask on the module's weight, or None if there is none."""
    masks = _on(module)
    return masks[-1].keep if masks else None


def put_on(network: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Mask layers of a network, in place; an earlier mask of the same layer is replaced.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.
    masks : mapping of str to Tensor of bool
        By layer name, each of the shape of the layer's weight.

    Raises
    ------
    ValueError
        If a shape does not fit, or the weight has a parametrisation that is no mask.
    """
    for name, keep in masks.items():
        module = network.get_submodule(name)
        weight: torch.Tensor = module.weight  # type: ignore[assignment]
        if keep.shape != weight.shape:
            raise ValueError(
                f"the mask of {name!r} has shape {tuple(keep.shape)}, its weight {tuple(weight.shape)}"
            )
        # A copy: loading a state dict writes into the mask, which may be that of a plan.
        keep = keep.to(device=weight.device, dtype=torch.bool, copy=True)  # noqa: PLW2901 - the same mask
        if parametrize.is_parametrized(module, "weight"):
            earlier = _on(module)
            if not earlier:
                raise ValueError(f"the weight of {name!r} is parametrised already; remove that first")
            earlier[-1].keep = keep
        elif parametrize.is_parametrized(module):
            raise ValueError(f"layer {name!r} is parametrised already; remove that first")
        else:
            # `unsafe` skips a trial run of the parametrisation, whose checks hold by construction.
            parametrize.register_parametrization(module, "weight", Mask(keep), unsafe=True)


def bake_in(network: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """Replace masked weights by plain ones with zeros, in place.

    Returns
    -------
    mapping of str to Tensor of bool
        The masks that were there, by layer name.

    Raises
    ------
    ValueError
        If another tensor of a masked layer is parametrised, too.
    """
    removed: dict[str, torch.Tensor] = {}
    for name, module in list(network.named_modules()):
        masks = _on(module)
        if masks:
            removed[name] = masks[-1].keep
            _take_off(module)
    return removed


def _take_off(module: torch.nn.Module) -> None:
    """Give a masked module its own class and a plain weight back.

    Departure from ``torch.nn.utils.parametrize.remove_parametrizations``: that deletes the property
    from the class, which deep copies share, so all copies of the module would lose their weight.
    """
    masked: Any = module  # a parametrised class is made at run time, so types know nothing of it
    others = [name for name in masked.parametrizations if name != "weight"]
    if others:
        raise ValueError(
            f"a masked layer, {type(module).__bases__[0].__name__}, has other parametrised tensors "
            f"({', '.join(others)}); make them plain first, with "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    requires_grad = bool(masked.parametrizations.weight.original.requires_grad)
    weight = torch.nn.Parameter(masked.weight.detach().clone(), requires_grad=requires_grad)
    rest = dict(module._parameters)  # noqa: SLF001 - the order of parameters is part of a module
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for key in rest:
        del module._parameters[key]  # noqa: SLF001
    module.register_parameter("weight", weight)
    for key, parameter in rest.items():
        module.register_parameter(key, parameter)
