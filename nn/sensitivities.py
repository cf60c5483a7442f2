"""Sensitivities of edges: the largest share that each weight ever has in its neuron.

A neuron's sum splits by the signs of its weights (and of its inputs, where those have both) into sums of
non-negative terms, its sides. In each of them an edge j has the share g_j(x) = w_j a_j(x) / sum_k w_k a_k(x)
for an input x, in [0, 1]; its sensitivity s_j is the largest share over the inputs seen, and over the patches
of each where the neuron is a filter.

Cost: one product of the weights with the activations a sign, for the denominators, and one max-times product
a sign (:func:`nn.kernels.max_product`). Memory: that of the weights, whatever the number of inputs; both are
done for some outputs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from coresets._validate import check_real
from nn.calibration import Calibration, observe, reduce_max, reduce_sum
from nn.kernels.dispatch import Kernel, default_kernel
from nn.layers import EdgeLayer

__all__ = ["EdgeSensitivities", "SensitivityCollector", "collect_sensitivities"]

# Outputs are taken so many at a time that their weights and their denominators have about so many entries.
_WEIGHTS_AT_ONCE = 1 << 18
_SUMS_AT_ONCE = 1 << 21

# With fewer neurons a group than this, groups are done together and neurons one by one.
_FEW_NEURONS = 8


@dataclass(frozen=True, eq=False)
class EdgeSensitivities:
    """Sensitivities of the edges of one layer, and what else its inputs have shown.

    Parameters
    ----------
    values : Tensor of shape (groups, neurons, edges)
        s, in [0, 1]: for each edge, within the side of its weight's sign. Zero for zero weights.
    examples : int
        Number of inputs seen, |S|.
    patches : int
        Largest number of vectors that one input was seen as, 1 for plain linear layers.
    halves : int
        2 if some activation was negative, so that inputs count by their positive and negative parts; else 1.
    mean_condition, worst_condition : Tensor of shape (groups, neurons), or None
        Mean and maximum over the inputs of Delta(x) = sum_k |w_k a_k(x)| / |sum_k w_k a_k(x)|, the largest
        over the patches; 1 for an input that does not reach the neuron, infinite where terms cancel exactly.
    """

    values: torch.Tensor
    examples: int
    patches: int
    halves: int
    mean_condition: torch.Tensor | None = None
    worst_condition: torch.Tensor | None = None


class SensitivityCollector:
    """Takes in the inputs of one layer and keeps the largest shares; a :class:`~nn.calibration.Collector`.

    Parameters
    ----------
    signed : bool
        Whether weights of different signs are different sides, as every theorem here needs. If not, shares
        are those of |w_j a_j| in sum_k |w_k a_k|, which costs half as much.
    conditions : bool
        Whether to keep the condition numbers Delta, too.
    negligible : float, optional
        A side's sum counts as zero if it is at most this times the largest that it could be for inputs of
        this size, |w|_1 max_j a_j; by default the rounding unit. The activations have rounding errors of
        that order themselves, so that a share in such a sum says nothing.
    kernel : callable, optional
        Implementation of the max-times product; see :func:`~nn.kernels.max_product`.
    """

    def __init__(
        self,
        *,
        signed: bool = True,
        conditions: bool = False,
        negligible: float | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        if negligible is not None and not 0.0 <= check_real(negligible, "negligible") < 1.0:
            raise ValueError(f"negligible = {negligible:g} is outside [0, 1)")
        self._signed, self._conditions = signed, conditions
        self._negligible, self._kernel = negligible, kernel
        self._layer: EdgeLayer | None = None
        self._patches, self._halves, self._examples = 1, 1, 0

    def _start(self, layer: EdgeLayer, device: torch.device) -> None:
        self._layer = layer
        self._patches, self._halves, self._examples = 1, 1, 0
        weight = layer.weight
        # Half precisions have too little range for reciprocals.
        self._dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        self._values = torch.zeros(layer.shape, dtype=self._dtype, device=device)
        self._scratch = torch.empty(0, dtype=self._dtype, device=device)
        if self._conditions:
            self._sum = torch.zeros(layer.shape[:2], dtype=torch.float64, device=device)
            self._worst = torch.ones(layer.shape[:2], dtype=torch.float64, device=device)

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Take in one batch."""
        if self._layer is None:
            self._start(layer, activations.device)
        patches = layer.patches(activations)
        self._patches = max(self._patches, patches)
        weights = layer.matrix().to(self._dtype)
        for block in layer.inputs(activations.to(self._dtype)):
            if block.shape[1] == 0:
                continue
            self._examples += int(block.shape[1]) // patches
            smallest, sizes = _range_of_examples(block, patches)
            halves = [(block, sizes)]
            if bool((smallest < 0).any()):
                self._halves = 2
                positive, negative = block.clamp_min(0.0), block.neg().clamp_min_(0.0)
                halves = [(positive, sizes.clamp_min(0.0)), (negative, smallest.neg().clamp_min_(0.0))]
            for part in self._parts(layer, int(block.shape[1])):
                self._take(weights, part, halves, patches)

    def _parts(self, layer: EdgeLayer, vectors: int) -> Iterator[tuple[slice, slice]]:
        """Groups and neurons to do together: one group and some neurons, or one neuron of all groups."""
        groups, neurons, edges = layer.shape
        if groups > 1 and neurons < _FEW_NEURONS:
            for i in range(neurons):
                yield slice(None), slice(i, i + 1)
            return
        step = max(1, min(_WEIGHTS_AT_ONCE // edges, _SUMS_AT_ONCE // vectors))
        for group in range(groups):
            for start in range(0, neurons, step):
                yield slice(group, group + 1), slice(start, min(start + step, neurons))

    def _take(
        self,
        weights: torch.Tensor,
        part: tuple[slice, slice],
        halves: list[tuple[torch.Tensor, torch.Tensor]],
        patches: int,
    ) -> None:
        """Update the shares of some neurons, and their condition numbers."""
        own, values = weights[part], self._values[part]
        total: Any = 0.0
        signed: Any = 0.0
        for turn, (half, sizes) in enumerate(halves):
            inputs = half[part[0]]
            if not self._signed:
                self._one_side(inputs, own.abs(), sizes, values)
                continue
            up = self._one_side(inputs, own.clamp_min(0.0), sizes, values)
            down = self._one_side(inputs, own.neg().clamp_min_(0.0), sizes, values)
            if self._conditions:
                total, signed = total + (up + down), signed + (1 - 2 * turn) * (up - down)
        if self._conditions and self._signed:
            self._condition(part, total, signed, patches)

    def _one_side(
        self, inputs: torch.Tensor, weights: torch.Tensor, sizes: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Raise the values to the shares in one side; its sums, of shape (groups, vectors, neurons).

        Weights of the other side are zeros here, and so are their shares.
        """
        sums = inputs @ weights.transpose(1, 2)
        factors = self._reciprocals(sums, sizes, weights.sum(dim=2))
        if inputs.shape[0] > 1:  # one neuron of each group
            largest = (inputs * factors).amax(dim=1, keepdim=True)
        else:
            largest = self._zeros(weights.shape)
            kernel = self._kernel or default_kernel(inputs.device)
            kernel(inputs[0], factors[0], largest[0])
        torch.maximum(values, largest.mul_(weights), out=values)
        return sums

    def _reciprocals(self, sums: torch.Tensor, sizes: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """1 / sums, and 0 where they are negligible."""
        info = torch.finfo(self._dtype)
        relative = info.eps if self._negligible is None else self._negligible
        # Neither 1 / z nor a / z may overflow, whence the least normal number.
        norms, least = (relative * norms).clamp_min_(4 * info.tiny), 4 * info.tiny
        if float(sums.min()) > max(float(norms.max()) * float(sizes.max()), least):
            factors = 1.0 / sums
        else:
            negligible = (sizes[None, :, None] * norms[:, None, :]).clamp_min_(least)
            factors = (1.0 / sums).masked_fill_(sums <= negligible, 0.0)
        return factors

    def _zeros(self, shape: torch.Size) -> torch.Tensor:
        """Zeros in memory that is used again and again: fresh memory costs more than what is done in it."""
        if self._scratch.numel() < shape.numel():
            self._scratch = self._values.new_empty(shape.numel())
        return self._scratch[: shape.numel()].view(shape).zero_()

    def _condition(self, part: tuple[slice, slice], total: Any, signed: Any, patches: int) -> None:
        """Delta of every vector, the largest of each example, its sum and maximum over examples."""
        total, signed = total.double(), signed.double().abs()
        delta = torch.where(total > 0.0, total / signed, 1.0).clamp_min_(1.0)
        groups, vectors, neurons = delta.shape
        by_example = delta.reshape(groups, vectors // patches, patches, neurons).amax(dim=2)
        self._sum[part] += by_example.sum(dim=1)
        self._worst[part] = torch.maximum(self._worst[part], by_example.amax(dim=1))

    def reduce(self) -> None:
        """Combine with other processes."""
        if self._layer is None:
            return
        device = self._values.device
        reduce_max(self._values)
        shape = reduce_max(torch.tensor([self._patches, self._halves], device=device))
        self._patches, self._halves = int(shape[0]), int(shape[1])
        self._examples = int(reduce_sum(torch.tensor(self._examples, device=device)))
        if self._conditions:
            reduce_sum(self._sum)
            reduce_max(self._worst)

    def sensitivities(self) -> EdgeSensitivities:
        """The result, once all has been seen; the collector hands it over and starts anew.

        Raises
        ------
        ValueError
            If nothing was seen.
        """
        if self._layer is None or self._examples == 0:
            raise ValueError("the layer has seen no inputs yet; observe some batches first")
        self._layer = None
        return EdgeSensitivities(
            # Shares of sums with rounding errors may exceed 1 by some units.
            values=self._values.clamp_(max=1.0),
            examples=self._examples,
            patches=self._patches,
            halves=self._halves,
            mean_condition=self._sum / self._examples if self._conditions else None,
            worst_condition=self._worst if self._conditions else None,
        )


def _range_of_examples(block: torch.Tensor, patches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest entry of the example that each vector is of; two of shape (vectors,)."""
    groups, vectors, edges = block.shape
    examples = block.reshape(groups, vectors // patches, patches * edges)
    # Two passes, since torch.aminmax takes ten times as long as both.
    smallest, largest = examples.amin(dim=(0, 2)), examples.amax(dim=(0, 2))
    return smallest.repeat_interleave(patches), largest.repeat_interleave(patches)


def collect_sensitivities(
    network: torch.nn.Module,
    layers: Mapping[str, EdgeLayer],
    calibration: Calibration | Any,
    *,
    conditions: bool = False,
) -> dict[str, EdgeSensitivities]:
    """Sensitivities of the edges of layers, from one pass over the data.

    Parameters
    ----------
    network : torch.nn.Module
        Run in evaluation mode, and left as it was.
    layers : mapping of str to EdgeLayer
        Layers of the network, as :func:`~nn.layers.find_layers` returns them.
    calibration : iterable of batches
        See :class:`~nn.calibration.Calibration`.
    conditions : bool
        Whether to keep the condition numbers of the neurons, too.

    Returns
    -------
    dict of str to EdgeSensitivities
        By layer name.

    Raises
    ------
    ValueError
        If there are no data, an activation is NaN or infinite, or a layer never runs.

    Examples
    --------
    >>> import torch
    >>> from nn.layers import find_layers
    >>> from nn.sensitivities import collect_sensitivities
    >>> neuron = torch.nn.Linear(3, 1, bias=False)
    >>> _ = neuron.weight.data.copy_(torch.tensor([[1.0, 3.0, -2.0]]))
    >>> found = collect_sensitivities(neuron, find_layers(neuron), [torch.ones(1, 3)])
    >>> found[""].values  # the negative weight is alone on its side
    tensor([[[0.2500, 0.7500, 1.0000]]])
    """
    collectors = {name: SensitivityCollector(conditions=conditions) for name in layers}
    observe(network, layers, Calibration.of(calibration), collectors)
    return {name: collector.sensitivities() for name, collector in collectors.items()}
