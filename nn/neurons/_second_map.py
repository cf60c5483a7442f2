"""The map behind the units of a group, and what calibration data say about it.

The second map W is the consumers of a group side by side, each with the batch normalisation that directly
follows it: in evaluation mode that scales rows, and its shift cancels in every residual. Every consumer
reads activations of its own, so that a unit is a block of columns, and of rows of H, for each consumer.

Sums over examples need W h only, h being sums of patches, so that an iteration costs two products of W with
a vector whatever the number of examples. Norms need W G W^T, G being the second moments of the patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from nn.calibration import Calibration, Collector, observe, reduce_max, reduce_sum
from nn.layers import EdgeLayer, pad
from nn.units.consumers import Consumer

__all__ = ["Read", "SecondMap", "SumCollector", "read_consumers", "residual_gradient"]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# So many weights are worked on at once.
_BLOCK_ENTRIES = 1 << 20


class SecondMap(Protocol):
    """What a score makes of the consumers of one group.

    Attributes
    ----------
    sizes : array of shape (units,)
        a, by which units are kept.
    reads : sequence of Read
        The consumers.
    """

    sizes: Array
    reads: tuple[Read, ...]

    def importance(self, removed: Flags) -> Array:
        """Scores (units,) by which units are nominated when some are removed."""

    def residual(self, removed: Flags) -> float:
        """Norm of what the removed units add to the outputs of the second map."""


@dataclass(frozen=True, eq=False)
class Read:
    """One consumer with its statistics.

    Parameters
    ----------
    consumer : Consumer
        The layer.
    row_scales : Tensor of shape (groups, neurons a group)
        Factors of the normalisation behind it, float64; ones if there is none.
    statistics : Collector
        What the score collected.
    """

    consumer: Consumer
    row_scales: torch.Tensor
    statistics: Any

    def matrix(self) -> torch.Tensor:
        """W with its row scales, float64 on the CPU, (groups, neurons a group, edges a neuron)."""
        return self.consumer.layer.matrix().double().cpu() * self.row_scales[:, :, None]

    def unit_norms(self) -> torch.Tensor:
        """Frobenius norm of all columns of a unit, (units,)."""
        weight, columns = self.consumer.layer.matrix(), self.consumer.columns
        step = max(1, _BLOCK_ENTRIES // (weight.shape[0] * weight.shape[2]))
        parts = zip(torch.split(weight, step, 1), torch.split(self.row_scales, step, 1), strict=True)
        norms = [
            torch.linalg.vector_norm((rows.double().cpu() * scales[:, :, None])[..., columns], dim=(0, 1, 3))
            for rows, scales in parts
        ]
        return torch.linalg.vector_norm(torch.stack(norms), dim=0)

    def by_unit(self, columns: torch.Tensor) -> torch.Tensor:
        """Values of columns (groups, edges a neuron) added up by unit."""
        return columns.sum(dim=0)[self.consumer.columns].sum(dim=1)

    def spread(self, units: torch.Tensor) -> torch.Tensor:
        """Values of units as values of columns; 0 for columns of other groups."""
        own = self.consumer.unit_of_column
        return torch.where(own >= 0, units[own.clamp_min(0)], torch.zeros((), dtype=units.dtype))


class SumCollector:
    """Sums of a layer's inputs over examples and positions, in float64.

    The patches of a convolution are summed once for each offset of its kernel, over those output positions
    whose patch has that offset inside the image: a gradient that falls on padding reaches no activation.
    Activations between the strides of a convolution, which it never reads, do not count.
    """

    def __init__(self) -> None:
        self.hidden = torch.zeros(())
        self.patches = torch.zeros(())
        self.least = torch.zeros((), dtype=torch.float64)

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add one batch."""
        self.least = torch.minimum(self.least.to(activations.device), activations.min().double())
        module = layer.module
        if not isinstance(module, torch.nn.Conv2d):
            total = activations.reshape(-1, activations.shape[-1]).sum(dim=0, dtype=torch.float64)
            self._add(total, total[None, None])
            return
        images = activations if activations.dim() == 4 else activations[None]
        # Unfolding is linear: the sum of the patches is the patch of the sum.
        total = images.sum(dim=0, dtype=torch.float64)[None]
        vectors = torch.cat(list(layer.inputs(total)), dim=1)
        # Where every entry of every patch comes from, 0 for padding.
        places = 1.0 + torch.arange(total[0, 0].numel(), device=total.device, dtype=torch.float64)
        source = torch.nn.functional.unfold(
            pad(module, places.reshape(1, 1, *total.shape[2:])),
            module.kernel_size,
            module.dilation,
            0,
            module.stride,
        )[0]
        read = torch.unique(source[source > 0.0].long()) - 1
        inside = (source > 0.0).double()
        self._add(total[0].flatten(1)[:, read].sum(dim=1), torch.einsum("wp,gpm->wgm", inside, vectors))

    def _add(self, hidden: torch.Tensor, patches: torch.Tensor) -> None:
        self.hidden = self.hidden.to(hidden) + hidden
        self.patches = self.patches.to(patches) + patches

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        self.hidden, self.patches = reduce_sum(self.hidden), reduce_sum(self.patches)
        self.least = -reduce_max(-self.least)

    def unit_sums(self, consumer: Consumer) -> torch.Tensor:
        """Sum of all activations of each unit that are read, each counted once, (units,)."""
        groups, _, edges = consumer.layer.shape
        window = len(self.patches)
        share = edges // window  # inputs of a group
        by_input = self.hidden.cpu().reshape(groups, share).sum(dim=0)
        unit_of_input = consumer.unit_of_column.reshape(share, window)[:, 0]
        own = unit_of_input >= 0
        sums = torch.zeros(consumer.units, dtype=torch.float64)
        return sums.index_add(0, unit_of_input[own], by_input[own])


def read_consumers(
    network: torch.nn.Module,
    consumers: Mapping[str, Consumer],
    calibration: Calibration,
    collector: Callable[[], Collector],
) -> tuple[Read, ...]:
    """Run the data through a network once, for the statistics of a group's consumers.

    Parameters
    ----------
    network : torch.nn.Module
        With the units of earlier groups already removed or read with weight zero.
    consumers : mapping of str to Consumer
        Of one group, as layers of the network.
    calibration : Calibration
        The data.
    collector : callable
        Makes an empty collector.

    Raises
    ------
    ValueError
        See :func:`~nn.calibration.observe`.
    """
    collectors = {name: collector() for name in consumers}
    produced: dict[str, torch.Tensor] = {}
    behind: dict[str, torch.nn.Module] = {}

    def note(name: str) -> Callable[..., None]:
        def look(_module: torch.nn.Module, _arguments: Any, output: torch.Tensor) -> None:
            produced[name] = output

        return look

    def match(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        for name, output in produced.items():
            if arguments and arguments[0] is output:
                behind[name] = module

    with ExitStack() as stack:
        for name, consumer in consumers.items():
            handle = consumer.layer.module.register_forward_hook(note(name))
            stack.callback(handle.remove)
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the common base
                stack.callback(module.register_forward_pre_hook(match).remove)
        layers = {name: consumer.layer for name, consumer in consumers.items()}
        observe(network, layers, calibration, collectors)
    return tuple(
        Read(consumer, _row_scales(consumer.layer, behind.get(name)), collectors[name])
        for name, consumer in consumers.items()
    )


def _row_scales(layer: EdgeLayer, norm: Any) -> torch.Tensor:
    """Factors gamma / sqrt(var + eps) for each neuron; ones without a normalisation by running statistics."""
    groups, neurons, _ = layer.shape
    if norm is None or norm.running_var is None or norm.num_features != groups * neurons:
        return torch.ones((groups, neurons), dtype=torch.float64)
    scales = torch.rsqrt(norm.running_var.detach().double().cpu() + norm.eps)
    if norm.weight is not None:
        scales = scales * norm.weight.detach().double().cpu()
    return scales.reshape(groups, neurons)


def residual_gradient(
    second: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """The importance of i-SpaSP by differentiation, for a second map of any kind.

    Parameters
    ----------
    second : callable
        The second map, such as a convolution with its normalisation in evaluation mode.
    hidden : Tensor of shape (batch, units, ...)
        Activations.
    kept : Tensor of bool, shape (units,)
        The support.

    Returns
    -------
    Tensor of the shape of ``hidden``
        Gradient of half the squared residual in the activations of the whole network, those of the pruned
        one being held fixed. For a linear map it is W^T V.

    Examples
    --------
    >>> import torch
    >>> from nn.neurons._second_map import residual_gradient
    >>> residual_gradient(lambda h: 2.0 * h, torch.tensor([[1.0, 3.0]]), torch.tensor([True, False]))
    tensor([[ 0., 12.]])
    """
    shape = (1, -1, *(1,) * (hidden.dim() - 2))
    with torch.enable_grad():
        whole = hidden.detach().clone().requires_grad_()
        with torch.no_grad():
            pruned = second(hidden.detach() * kept.to(hidden).reshape(shape))
        loss = 0.5 * (second(whole) - pruned).square().sum()
        (gradient,) = torch.autograd.grad(loss, whole)
    return gradient
