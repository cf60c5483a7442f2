"""What stays of a consumer, and collectors of the moments to fit it with.

The original network and the smaller one are run on the same batches. The outputs of the original layer are
left for the layer of the smaller network, which is then fed its own inputs; neither network is run further
than to the layer in question.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from nn.layers import EdgeLayer
from nn.neurons._moments import MomentSums, Sampling, vectors_of

__all__ = ["LeftTargets", "OwnTargets", "Pair", "PairedInputs", "Reached", "RunOrder", "Slot"]


@dataclass(frozen=True, eq=False)
class Slot:
    """A consumer, and the part of its weight that stays.

    Parameters
    ----------
    layer : EdgeLayer
        In the original network.
    rows : Tensor of int64, shape (neurons kept a group,)
        Outputs that stay, in each group of a grouped convolution.
    columns : Tensor of int64
        Columns of its matrix that stay.
    """

    layer: EdgeLayer
    rows: torch.Tensor
    columns: torch.Tensor

    def part(self, matrix: torch.Tensor) -> torch.Tensor:
        """What stays of (groups, neurons, edges)."""
        device = matrix.device
        return matrix[:, self.rows.to(device)][:, :, self.columns.to(device)]

    def targets(self, vectors: torch.Tensor, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Original outputs without bias, (groups, v, rows), of original inputs (groups, v, edges)."""
        kept = self.layer.matrix()[:, self.rows.to(vectors.device)].to(dtype)
        return vectors.to(dtype) @ kept.transpose(1, 2)

    def biases(self, layer: EdgeLayer) -> torch.Tensor:
        """Biases of the outputs that stay, in float64 on the host, (groups, rows)."""
        assert layer.bias is not None
        return layer.bias.double().cpu().reshape(layer.groups, -1)[:, self.rows]

    def updates(
        self, before: EdgeLayer, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Parameters of full size, with new values (groups, rows, columns) and (groups, rows)."""
        full = before.matrix().clone()
        rows, columns = self.rows.to(full.device), self.columns.to(full.device)
        full[:, rows[:, None], columns[None, :]] = weight
        found = {f"{before.name}.weight": before.like_weight(full)}
        if bias is not None:
            assert before.bias is not None
            biases = before.bias.reshape(before.groups, -1).clone()
            biases[:, rows] = bias
            found[f"{before.name}.bias"] = biases.reshape(-1)
        return found


class Reached(Exception):  # noqa: N818 - no error
    """The layer in question has run; the rest of the network need not."""


class Pair(torch.nn.Module):
    """Two networks that are run on the same batches, each as far as a collector wants it."""

    def __init__(self, original: torch.nn.Module, smaller: torch.nn.Module) -> None:
        super().__init__()
        self.original, self.smaller = original, smaller

    def forward(self, *arguments: Any, **keywords: Any) -> None:
        """Run the original, then the smaller network."""
        for network in (self.original, self.smaller):
            with suppress(Reached):
                network(*arguments, **keywords)


class RunOrder:
    """Notes the name of the layer each time that it runs."""

    def __init__(self, order: list[str]) -> None:
        self._order = order

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        self._order.append(layer.name)

    def reduce(self) -> None:
        """Nothing to combine."""


class OwnTargets:
    """Moments of kept columns of a layer's inputs with its own outputs."""

    def __init__(self, slot: Slot, sampling: Sampling) -> None:
        layer = slot.layer
        shape = (layer.groups, len(slot.columns), len(slot.rows))
        self._slot, self._sampling, self._seen = slot, sampling, 0
        self.sums = MomentSums(*shape, layer.weight.device)

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        for rows in self._sampling.vectors(layer, activations, self._seen):
            self.sums.add(rows[..., self._slot.columns.to(rows.device)], self._slot.targets(rows))
        self._seen += vectors_of(layer, activations)

    def reduce(self) -> None:
        self.sums.reduce()


class LeftTargets:
    """Leaves the original outputs of one batch for :class:`PairedInputs`, and stops there."""

    def __init__(self, slot: Slot, sampling: Sampling, calls: int, targets: deque[torch.Tensor]) -> None:
        self._slot, self._sampling, self._targets, self._calls = slot, sampling, targets, calls
        self._seen = 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        parts = self._sampling.vectors(layer, activations, self._seen)
        self._targets.append(torch.cat([self._slot.targets(rows) for rows in parts], dim=1))
        self._seen += vectors_of(layer, activations)
        if len(self._targets) == self._calls:
            raise Reached

    def reduce(self) -> None:
        """Nothing to combine."""


class PairedInputs:
    """Moments of a layer's inputs with the targets that were left for it."""

    def __init__(self, layer: EdgeLayer, sampling: Sampling, targets: deque[torch.Tensor]) -> None:
        groups, neurons, edges = layer.shape
        self._sampling, self._targets, self._seen = sampling, targets, 0
        self.sums = MomentSums(groups, edges, neurons, layer.weight.device)

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        targets, start = self._targets.popleft(), 0
        for rows in self._sampling.vectors(layer, activations, self._seen):
            self.sums.add(rows, targets[:, start : start + rows.shape[1]])
            start += int(rows.shape[1])
        self._seen += vectors_of(layer, activations)
        if not self._targets:
            raise Reached

    def reduce(self) -> None:
        self.sums.reduce()
