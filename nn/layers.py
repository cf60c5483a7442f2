"""What can be pruned: the linear maps of a network, seen as neurons with incoming edges.

A neuron is a coreset problem over its incoming edges, whatever kind of layer it sits in. An
:class:`EdgeLayer` shows a ``Linear`` or a ``Conv2d`` as that: a matrix with one row a neuron, and
the vectors that this matrix is multiplied with, one an example or one a patch. Grouped and
depthwise convolutions have one such matrix a group.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils import parametrize

from nn.masks import Mask

__all__ = ["EdgeLayer", "find_layers", "layer_sizes", "pad"]

# Unfolded patches are formed for so many examples at a time that a block has about so many entries.
_BLOCK_ENTRIES = 1 << 22


@dataclass(frozen=True, eq=False)
class EdgeLayer:
    """One linear map of a network.

    Parameters
    ----------
    name : str
        Its dotted name in the network.
    module : torch.nn.Linear or torch.nn.Conv2d
        The module itself.
    """

    name: str
    module: torch.nn.Module

    @property
    def weight(self) -> torch.Tensor:
        """The weight as the forward pass sees it, masks included, without gradient."""
        weight: torch.Tensor = self.module.weight  # type: ignore[assignment]
        return weight.detach()

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias, without gradient; None if there is none."""
        bias: torch.Tensor | None = self.module.bias  # type: ignore[assignment]
        return None if bias is None else bias.detach()

    @cached_property
    def groups(self) -> int:
        """Number of independent blocks of neurons."""
        return self.module.groups if isinstance(self.module, torch.nn.Conv2d) else 1

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Groups, neurons a group, edges a neuron."""
        weight = self.weight
        out = int(weight.shape[0])
        return self.groups, out // self.groups, math.prod(weight.shape[1:])

    @property
    def edges(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    def matrix(self, weight: torch.Tensor | None = None) -> torch.Tensor:
        """The weight, or a tensor of its shape, as (groups, neurons a group, edges a neuron)."""
        return (self.weight if weight is None else weight).reshape(self.shape)

    def like_weight(self, matrix: torch.Tensor) -> torch.Tensor:
        """Inverse of :meth:`matrix`."""
        return matrix.reshape(self.weight.shape)

    def patches(self, activations: torch.Tensor) -> int:
        """How many vectors one example contributes."""
        if not isinstance(self.module, torch.nn.Conv2d):
            return math.prod(activations.shape[1:-1])
        height, width = _output_size(self.module, activations)
        return height * width

    def inputs(self, activations: torch.Tensor) -> Iterator[torch.Tensor]:
        """The vectors that the neurons see, block by block.

        Parameters
        ----------
        activations : Tensor
            What the module is called with: (batch, ..., features), or (batch, channels, h, w).

        Yields
        ------
        Tensor of shape (groups, vectors, edges a neuron)
            Of consecutive examples; the patches of one example are in one block.
        """
        module = self.module
        if not isinstance(module, torch.nn.Conv2d):
            yield activations.reshape(1, -1, activations.shape[-1])
            return
        if activations.dim() == 3:  # an image without a batch
            activations = activations[None]
        step = max(1, _BLOCK_ENTRIES // max(1, self.patches(activations) * self.groups * self.shape[2]))
        for images in torch.split(activations, step):
            unfolded = torch.nn.functional.unfold(
                pad(module, images), module.kernel_size, module.dilation, 0, module.stride
            )
            batch, _, patches = unfolded.shape
            by_group = unfolded.reshape(batch, self.groups, self.shape[2], patches)
            yield by_group.permute(1, 0, 3, 2).reshape(self.groups, batch * patches, self.shape[2])

    def pads_with_zeros(self) -> bool:
        """Whether values from outside the input are zeros, as a bound on its entries may need."""
        return not isinstance(self.module, torch.nn.Conv2d) or self.module.padding_mode == "zeros"


def _padding(module: torch.nn.Conv2d) -> list[int]:
    """Padding left, right, top, bottom."""
    if isinstance(module.padding, str):
        if module.padding == "valid":
            return [0, 0, 0, 0]
        # "same": what the kernel overhangs, the odd one at the end.
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    vertical, horizontal = module.padding
    return [int(horizontal), int(horizontal), int(vertical), int(vertical)]


def pad(module: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """The images as the convolution pads them."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padding = _padding(module)
    return torch.nn.functional.pad(images, padding, mode=mode) if any(padding) else images


def _output_size(module: torch.nn.Conv2d, images: torch.Tensor) -> tuple[int, int]:
    left, right, top, bottom = _padding(module)
    padded = (images.shape[-2] + top + bottom, images.shape[-1] + left + right)
    height, width = (
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, dilation, kernel, stride in zip(
            padded, module.dilation, module.kernel_size, module.stride, strict=True
        )
    )
    return height, width


def layer_sizes(network: torch.nn.Module) -> dict[str, int]:
    """Number of weights of every ``Linear`` and ``Conv2d``, by name.

    Raises
    ------
    TypeError
        If ``network`` is not a module.
    """
    if not isinstance(network, torch.nn.Module):
        raise TypeError(f"network is a {type(network).__name__}; pass a torch.nn.Module")
    return {name: EdgeLayer(name, module).weight.numel() for name, module in _linear_maps(network)}


def _linear_maps(network: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, module in network.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            if isinstance(module._parameters.get("weight"), torch.nn.parameter.UninitializedParameter):  # noqa: SLF001
                raise ValueError(f"layer {name!r} has no weight yet; run one batch through the network first")
            yield name, module


def find_layers(network: torch.nn.Module, only: Collection[str] | None = None) -> Mapping[str, EdgeLayer]:
    """The prunable layers of a network, by name, in the order of registration.

    Parameters
    ----------
    network : torch.nn.Module
        Any module; itself a layer, with the name ``""``, if it is linear or a convolution.
    only : collection of str, optional
        Names of the layers wanted; all by default.

    Returns
    -------
    mapping of str to EdgeLayer
        All modules of type ``Linear`` and ``Conv2d``, subclasses included.

    Raises
    ------
    ValueError
        If a weight is not materialised (lazy modules); is computed from other parameters, by anything
        but a mask; or is shared with another module: pruned in one of them it would no longer be the
        same weight in the other.

    Examples
    --------
    >>> import torch
    >>> from nn.layers import find_layers
    >>> first, second = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=4)
    >>> layers = find_layers(torch.nn.Sequential(first, torch.nn.ReLU(), second))
    >>> {name: layer.shape for name, layer in layers.items()}
    {'0': (1, 8, 27), '2': (4, 2, 18)}
    """
    found = {name: EdgeLayer(name, m) for name, m in _linear_maps(network) if only is None or name in only}
    _refuse_shared(network, found)
    return found


def _refuse_shared(network: torch.nn.Module, layers: Mapping[str, EdgeLayer]) -> None:
    """Raise if the weight of a layer is a parameter of another module, too."""
    places: dict[int, list[str]] = defaultdict(list)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        places[id(parameter)].append(name)
    for name, layer in layers.items():
        shared = places[id(_stored(layer))]
        if len(shared) > 1:
            raise ValueError(
                f"the weight of layer {name!r} is shared: {', '.join(shared)} are one parameter; "
                f"untie them, or leave the layer out with PerLayer({{{name!r}: Dense()}})"
            )


def _stored(layer: EdgeLayer) -> torch.Tensor:
    """The parameter behind the weight, whether it is masked or not."""
    module: Any = layer.module
    if not parametrize.is_parametrized(module, "weight"):
        stored = module._parameters.get("weight")  # noqa: SLF001 - elsewhere it would be computed by hooks
    else:
        masked = all(isinstance(p, Mask) for p in module.parametrizations.weight)
        stored = module.parametrizations.weight.original if masked else None
    if stored is None:
        raise ValueError(
            f"the weight of layer {layer.name!r} is computed from other parameters (parametrised already, or "
            "by weight_norm or torch.nn.utils.prune); make it plain first, for instance with torch.nn.utils."
            "parametrize.remove_parametrizations, or leave the layer out with "
            f"PerLayer({{{layer.name!r}: Dense()}})"
        )
    weight: torch.Tensor = stored
    return weight
