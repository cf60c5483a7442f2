"""Sensitivities of units: the largest share that each ever has in a sum of a layer that reads it.

A consumer's neuron i adds up, on a patch, the contributions of the units that it reads, each the sum over the
unit's columns: a kernel window, the positions of a flattened map, the width of a head. Split by the signs
of the weights (and of the inputs, where those have both) contributions are non-negative, and unit j has the
share g_j(x) = sum over its columns / sum over all columns, in [0, 1]. Its sensitivity s_j is the
largest share over the inputs seen, their patches, both signs, all neurons and all consumers.

Cost: one product of the weights with the activations a sign, for the denominators, and one more for the
contributions of the units one by one. Memory: one number a unit, beside some blocks of fixed size; for units
of one column that of some rows of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nn.calibration import Calibration, observe, reduce_max, reduce_sum
from nn.kernels.dispatch import default_kernel
from nn.layers import EdgeLayer
from nn.units.consumers import Consumer

__all__ = ["UnitSensitivities", "UnitSensitivityCollector", "collect_unit_sensitivities"]

# Neurons and vectors are taken so many at a time that blocks have about so many entries.
_WEIGHTS_AT_ONCE = 1 << 18
_SUMS_AT_ONCE = 1 << 21
# Shares are formed so many at a time: on a device, and on the host, where they must stay in the cache.
_SHARES_AT_ONCE = (1 << 24, 1 << 16)


@dataclass(frozen=True, eq=False)
class UnitSensitivities:
    """Sensitivities of the units of one group.

    Parameters
    ----------
    values : Tensor of shape (units,)
        s, in [0, 1], in float64 and on the host. Zero for a unit that never contributed anything.
    examples : int
        Number of inputs seen, |S|.
    statements : int
        How many sums one input has: two signs of the weights of every neuron of every consumer, on every
        patch, for each part of a signed input.
    """

    values: torch.Tensor
    examples: int
    statements: int


class UnitSensitivityCollector:
    """Takes in the inputs of one layer and keeps the largest shares; a :class:`~nn.calibration.Collector`.

    Parameters
    ----------
    consumers : mapping of str to Consumer
        The layer as a consumer of one or more groups, by group name; after a concatenation it reads several.
        Shares are in the sum over all its columns.
    """

    def __init__(self, consumers: Mapping[str, Consumer]) -> None:
        self._consumers = consumers
        self._values: dict[str, torch.Tensor] = {}
        self._neurons, self._patches, self._halves, self._examples = 0, 1, 1, 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Take in one batch."""
        # Half precisions have too little range for reciprocals.
        dtype = torch.float64 if layer.weight.dtype == torch.float64 else torch.float32
        device = activations.device
        if not self._values:
            for group, consumer in self._consumers.items():
                self._values[group] = torch.zeros(consumer.units, dtype=dtype, device=device)
        self._neurons = layer.shape[0] * layer.shape[1]
        patches = layer.patches(activations)
        self._patches = max(self._patches, patches)
        for block in layer.inputs(activations.to(dtype)):
            if block.shape[1] == 0:
                continue
            self._examples += int(block.shape[1]) // patches
            halves = [block]
            if bool((block < 0).any()):
                self._halves = 2
                halves = [block.clamp_min(0.0), block.neg().clamp_min_(0.0)]
            for half in halves:
                sizes = _largest_of_examples(half, patches)
                for part in range(layer.shape[0]):  # groups of a convolution
                    self._take(layer.matrix()[part].to(dtype), half[part], sizes)

    def _take(self, weights: torch.Tensor, inputs: torch.Tensor, sizes: torch.Tensor) -> None:
        """Raise the values to the shares of inputs (vectors, edges) >= 0 in neurons (neurons, edges)."""
        vectors, edges = inputs.shape
        columns = {group: c.columns.to(inputs.device) for group, c in self._consumers.items()}
        several = {group: own for group, own in columns.items() if own.shape[1] > 1}
        by_unit = {group: inputs[:, own].transpose(0, 1).contiguous() for group, own in several.items()}
        step = max(1, min(_WEIGHTS_AT_ONCE // edges, _SUMS_AT_ONCE // vectors))
        for start in range(0, len(weights), step):
            own = weights[start : start + step]
            for side in (own.clamp_min(0.0), own.neg().clamp_min_(0.0)):
                factors = _reciprocals(inputs @ side.T, sizes, side.sum(dim=1))
                for group, values in self._values.items():
                    if group in by_unit:
                        windows = side[:, columns[group]].permute(1, 2, 0).contiguous()
                        shares = _windows(by_unit[group], windows, factors)
                    else:
                        shares = _single(inputs, side, factors, columns[group][:, 0])
                    torch.maximum(values, shares, out=values)

    def reduce(self) -> None:
        """Combine with other processes."""
        for group, values in self._values.items():
            reduce_max(values)
            shape = reduce_max(torch.tensor([self._patches, self._halves], device=values.device))
            self._patches, self._halves = int(shape[0]), int(shape[1])
            if group == next(iter(self._values)):
                examples = torch.tensor(self._examples, device=values.device)
                self._examples = int(reduce_sum(examples))

    def sensitivities(self) -> dict[str, UnitSensitivities]:
        """The result for every group, once all has been seen.

        Raises
        ------
        ValueError
            If nothing was seen.
        """
        if not self._examples:
            raise ValueError("the layer has seen no inputs yet; observe some batches first")
        statements = 2 * self._neurons * self._patches * self._halves
        return {
            # Shares of sums with rounding errors may exceed 1 by some units.
            group: UnitSensitivities(values.double().cpu().clamp_(max=1.0), self._examples, statements)
            for group, values in self._values.items()
        }


def _largest_of_examples(block: torch.Tensor, patches: int) -> torch.Tensor:
    """Largest entry of the example that each vector is of; of shape (vectors,)."""
    groups, vectors, edges = block.shape
    largest = block.reshape(groups, vectors // patches, patches * edges).amax(dim=(0, 2))
    return largest.repeat_interleave(patches)


def _reciprocals(sums: torch.Tensor, sizes: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """1 / sums of shape (vectors, neurons), and 0 where they are no more than rounding of the inputs."""
    info = torch.finfo(sums.dtype)
    negligible = (sizes[:, None] * (info.eps * norms)[None, :]).clamp_min_(4 * info.tiny)
    return (1.0 / sums).masked_fill_(sums <= negligible, 0.0)


def _single(
    inputs: torch.Tensor, side: torch.Tensor, factors: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Largest shares of units that have one column each, of shape (units,)."""
    largest = torch.zeros_like(side)
    default_kernel(inputs.device)(inputs, factors, largest)
    return largest.mul_(side).amax(dim=0)[columns]


def _windows(inputs: torch.Tensor, weights: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Largest shares of units that have several columns, of shape (units,).

    Parameters
    ----------
    inputs : Tensor of shape (units, vectors, k)
    weights : Tensor of shape (units, k, neurons)
    factors : Tensor of shape (vectors, neurons)
    """
    units, vectors, _ = inputs.shape
    neurons = weights.shape[2]
    found = torch.zeros(units, dtype=inputs.dtype, device=inputs.device)
    most = _SHARES_AT_ONCE[inputs.device.type == "cpu"]
    rows = max(1, min(vectors, most // neurons))
    step = max(1, most // (rows * neurons))
    # The same memory again and again: fresh memory costs more than what is done in it.
    scratch = torch.empty(step * rows * neurons, dtype=inputs.dtype, device=inputs.device)
    for first in range(0, vectors, rows):
        scale = factors[first : first + rows]
        for start in range(0, units, step):
            part = found[start : start + step]
            shares = scratch[: len(part) * len(scale) * neurons].view(len(part), len(scale), neurons)
            own = slice(start, start + step)
            torch.bmm(inputs[own, first : first + rows], weights[own], out=shares)
            torch.maximum(part, shares.mul_(scale).amax(dim=(1, 2)), out=part)
    return found


def collect_unit_sensitivities(
    network: torch.nn.Module,
    consumers: Mapping[str, Mapping[str, Consumer]],
    calibration: Calibration | Any,
) -> dict[str, UnitSensitivities]:
    """Sensitivities of the units of some groups, from one pass over the data.

    Parameters
    ----------
    network : torch.nn.Module
        Run in evaluation mode, and left as it was.
    consumers : mapping of str to mapping of str to Consumer
        By group name, the layers of the network that read the group, as
        :func:`~nn.units.consumers.consumers_of` returns them.
    calibration : iterable of batches
        See :class:`~nn.calibration.Calibration`.

    Returns
    -------
    dict of str to UnitSensitivities
        By group name; the largest over all consumers.

    Raises
    ------
    ValueError
        If there are no data, an activation is NaN or infinite, or a consumer never runs.

    Examples
    --------
    >>> import torch
    >>> from nn.calibration import split_batch
    >>> from nn.units.consumers import consumers_of
    >>> from nn.neurons.sensitivities import collect_unit_sensitivities
    >>> from nn.units.topology import find_groups
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> _ = network[0].weight.data.fill_(1.0), network[0].bias.data.zero_()
    >>> _ = network[2].weight.data.copy_(torch.tensor([[1.0, 3.0, -2.0]]))
    >>> group = find_groups(network, split_batch(torch.ones(2, 2))).groups["0"]
    >>> readers = {"0": consumers_of(network, group)}
    >>> collect_unit_sensitivities(network, readers, [torch.ones(2, 2)])["0"].values
    tensor([0.2500, 0.7500, 1.0000], dtype=torch.float64)
    """
    by_layer: dict[str, dict[str, Consumer]] = {}
    for group, readers in consumers.items():
        for name, consumer in readers.items():
            by_layer.setdefault(name, {})[group] = consumer
    collectors = {name: UnitSensitivityCollector(readers) for name, readers in by_layer.items()}
    layers = {name: next(iter(readers.values())).layer for name, readers in by_layer.items()}
    observe(network, layers, Calibration.of(calibration), collectors)
    found: dict[str, list[UnitSensitivities]] = {group: [] for group in consumers}
    for collector in collectors.values():
        for group, one in collector.sensitivities().items():
            found[group].append(one)
    return {
        group: UnitSensitivities(
            torch.stack([one.values for one in parts]).amax(dim=0),
            min(one.examples for one in parts),
            sum(one.statements for one in parts),
        )
        for group, parts in found.items()
    }
