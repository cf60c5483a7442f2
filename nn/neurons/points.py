"""The units of a group as points of a coreset problem: incoming weights, and the masses of outgoing ones.

A neuron is the point p = (incoming weights, bias), with batch normalisation folded in, at which an
input x has the product p.(x, 1). What it adds to the outputs k of all its consumers is
w_k(p) phi(p.(x, 1)): each row of a consumer's weight and each column of the unit in it (kernel entries,
positions of a flattened map) is an output of its own, and an output of the layer is the sum of at most
``window`` of them. The mass of a neuron is max_k |w_k(p)|.

Layers may be large: weights are referred to and not copied, and worked on in float64 block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from nn.neurons.between import Between, between
from nn.units.consumers import Consumer
from nn.units.method import UnitProblem
from nn.units.topology import UnitGroup

__all__ = ["BLOCK_ENTRIES", "Neurons", "neurons_of"]

# Rows are turned into float64 for so many entries at a time: 8 MiB, of which a few are held at once.
BLOCK_ENTRIES = 1 << 20


@dataclass(frozen=True, eq=False)
class Neurons:
    """One group of units.

    Parameters
    ----------
    name : str
        Of the group.
    rows : Tensor of shape (units, d)
        Incoming weights before batch normalisation, in the precision of the network; those of all
        producers side by side if there are several.
    scale, bias : Tensor of float64, shape (units,)
        The neuron is p = (scale row, bias).
    masses : Tensor of float64, shape (units,)
        max_k |w_k(p)|.
    outputs : int
        K: rows of the consumers' weights times columns a unit.
    consumers : mapping of str to Consumer
        By layer name.
    between : Between
        What lies between.
    producer : str
        The layer that makes the units; the first of them.
    """

    name: str
    rows: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor
    masses: torch.Tensor
    outputs: int
    consumers: Mapping[str, Consumer]
    between: Between
    producer: str

    @property
    def units(self) -> int:
        """How many."""
        return len(self.rows)

    @property
    def inputs(self) -> int:
        """d, without the bias."""
        return int(self.rows.shape[1])

    def windows(self) -> dict[str, int]:
        """Columns of a unit in every consumer."""
        return {name: int(consumer.columns.shape[1]) for name, consumer in self.consumers.items()}

    def parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Blocks of the points p, bias included, in float64 of shape (some units, d + 1).

        They may be changed, and are in memory that the next one overwrites.
        """
        step = min(self.units, max(1, BLOCK_ENTRIES // (self.inputs + 1)))
        scratch = torch.empty((step, self.inputs + 1), dtype=torch.float64, device=self.rows.device)
        for start in range(0, self.units, step):
            part = slice(start, min(self.units, start + step))
            block = scratch[: part.stop - start]
            block[:, :-1] = self.rows[part]
            block[:, :-1] *= self.scale[part, None]
            block[:, -1] = self.bias[part]
            yield part, block

    def columns(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Blocks of their coordinates, (units, some of d + 1) in float64, in memory as in :meth:`parts`."""
        width = self.inputs + 1
        step = min(width, max(1, BLOCK_ENTRIES // self.units))
        scratch = torch.empty((self.units, step), dtype=torch.float64, device=self.rows.device)
        for start in range(0, width, step):
            part = slice(start, min(width, start + step))
            block = scratch[:, : part.stop - start]
            own = self.rows[:, part]  # one column short if the block has that of the biases
            block[:, : own.shape[1]] = own
            block[:, : own.shape[1]] *= self.scale[:, None]
            block[:, own.shape[1] :] = self.bias[:, None]
            yield part, block

    def dense(self) -> torch.Tensor:
        """All points in float64, (units, d + 1)."""
        points = torch.empty((self.units, self.inputs + 1), dtype=torch.float64, device=self.rows.device)
        for part, block in self.parts():
            points[part] = block
        return points

    def row_norms(self) -> torch.Tensor:
        """Euclidean norms of the incoming weights, bias left out, (units,)."""
        norms = [torch.linalg.vector_norm(block[:, :-1], dim=1) for _, block in self.parts()]
        return torch.cat(norms)


def neurons_of(problem: UnitProblem) -> dict[str, Neurons]:
    """The groups of a problem, by name.

    Parameters
    ----------
    problem : UnitProblem
        Its network is only looked at.

    Examples
    --------
    >>> import torch
    >>> from nn.budgets import Share
    >>> from nn.calibration import Calibration, split_batch
    >>> from nn.units.method import UnitProblem
    >>> from nn.neurons.points import neurons_of
    >>> from nn.units.topology import find_groups
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 2)
    ... ).eval()
    >>> images = torch.rand(2, 1, 6, 6)
    >>> groups = find_groups(network, split_batch(images)).groups
    >>> found = neurons_of(UnitProblem(network, groups, (Share(("0",), 2),), Calibration.of([images])))["0"]
    >>> found.units, found.inputs, found.outputs  # five filters with a window of four
    (4, 9, 20)
    """
    ways = between(problem.network, problem.groups)
    return {
        name: _neurons(problem.network, group, problem.consumers(name), ways[name])
        for name, group in problem.groups.items()
    }


def _neurons(
    network: torch.nn.Module, group: UnitGroup, consumers: Mapping[str, Consumer], way: Between
) -> Neurons:
    rows, bias = _rows(network, group)
    scale = torch.ones(group.units, dtype=torch.float64, device=rows.device)
    if way.scale is not None and way.shift is not None:
        order = group.producers[0].positions[:, 0].to(rows.device)
        scale = way.scale[order]
        bias = bias * scale + way.shift[order]
    masses = torch.zeros(group.units, dtype=torch.float64, device=rows.device)
    outputs = 0
    for consumer in consumers.values():
        masses = torch.maximum(masses, _largest(consumer).to(masses.device))
        heads, neurons, _ = consumer.layer.shape
        outputs += heads * neurons * int(consumer.columns.shape[1])
    return Neurons(group.name, rows, scale, bias, masses, outputs, consumers, way, group.producers[0].name)


def _rows(network: torch.nn.Module, group: UnitGroup) -> tuple[torch.Tensor, torch.Tensor]:
    """Incoming weights and biases; a view where there is one producer whose outputs are in order.

    Where a unit is no single neuron, the length of all its biases stands for the bias.
    """
    parts, biases = [], []
    for place in group.producers:
        module = network.get_submodule(place.name)
        weight: torch.Tensor = module.weight.detach()  # type: ignore[operator]
        flat = weight.T if isinstance(module, torch.nn.Embedding) else weight.flatten(1)
        positions = place.positions.to(flat.device)
        in_order = positions.shape[1] == 1 and len(positions) == len(flat) and _ascending(positions[:, 0])
        parts.append(flat if in_order else flat[positions].flatten(1))
        bias = getattr(module, "bias", None)
        if torch.is_tensor(bias):
            biases.append(bias.detach().double()[positions])
    joined = torch.cat(biases, dim=1) if biases else parts[0].new_zeros((group.units, 1), dtype=torch.float64)
    single = joined[:, 0] if joined.shape[1] == 1 else torch.linalg.vector_norm(joined, dim=1)
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)), single


def _ascending(positions: torch.Tensor) -> bool:
    return torch.equal(positions, torch.arange(len(positions), device=positions.device))


def _largest(consumer: Consumer) -> torch.Tensor:
    """Largest absolute weight that reads a unit, (units,), without a copy of the layer."""
    matrix = consumer.layer.matrix().flatten(0, 1)
    step = max(1, BLOCK_ENTRIES // max(1, matrix.shape[1]))
    largest = torch.zeros(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    for part in torch.split(matrix, step):
        largest = torch.maximum(largest, part.abs().amax(dim=0))
    return largest.double()[consumer.columns.to(matrix.device)].amax(dim=1)
