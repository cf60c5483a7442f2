"""The layers that read the units of a group, column by column.

Removing units removes columns of their consumers, and reweighting them rescales columns: what a
coreset of units changes is always the weight of a consumer. Here the columns of an
:class:`~nn.layers.EdgeLayer` are labelled by the unit that they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from nn.layers import EdgeLayer, find_layers
from nn.units.topology import Place, UnitGroup

__all__ = ["Consumer", "consumers_of", "multiplied"]

# So many weights are worked on at once.
_BLOCK_ENTRIES = 1 << 20


@dataclass(frozen=True, eq=False)
class Consumer:
    """One layer that reads the units of a group.

    Parameters
    ----------
    layer : EdgeLayer
        A ``Linear`` or ``Conv2d``.
    unit_of_column : Tensor of int64, shape (edges a neuron,)
        For each column of ``layer.matrix()`` the unit that it reads, or -1 if that unit is of another
        group, as after a concatenation. A unit has a column for each position of the kernel window, or
        of a flattened map; in a grouped convolution it holds the same columns in every group.
    units : int
        How many units the group has.
    """

    layer: EdgeLayer
    unit_of_column: torch.Tensor
    units: int

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.layer.name

    @cached_property
    def columns(self) -> torch.Tensor:
        """Columns of each unit, as int64 of shape (units, k)."""
        own = torch.nonzero(self.unit_of_column >= 0).reshape(-1)
        order = torch.argsort(self.unit_of_column[own], stable=True)
        return own[order].reshape(self.units, -1)

    def column_factors(self, factors: torch.Tensor) -> torch.Tensor:
        """A factor for each unit as one for each column; 1 for columns of other groups.

        Parameters
        ----------
        factors : Tensor of shape (units,)

        Returns
        -------
        Tensor of shape (edges a neuron,)
        """
        spread = torch.ones(self.unit_of_column.shape, dtype=factors.dtype, device=factors.device)
        own = (self.unit_of_column >= 0).to(factors.device)
        spread[own] = factors[self.unit_of_column.to(factors.device)[own]]
        return spread

    def rescaled(self, factors: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """A weight with the columns of every unit multiplied by a factor.

        Parameters
        ----------
        factors : Tensor of shape (units,)
        weight : Tensor, optional
            What other groups have made of the layer's weight, which it is by default.

        Returns
        -------
        Tensor
            Of the weight's shape, precision and device.
        """
        return multiplied(self.layer, self.column_factors(factors.to(torch.float64)), weight)

    def unit_norms(self, order: float = 2.0) -> torch.Tensor:
        """Norm of all weights that read a unit, in float64, of shape (units,)."""
        columns = self.columns.to(self.layer.weight.device)
        norms = [
            torch.linalg.vector_norm(rows.double()[..., columns], order, dim=(0, 1, 3))
            for rows in _blocks(self.layer.matrix())
        ]
        return torch.linalg.vector_norm(torch.stack(norms), order, dim=0)


def multiplied(layer: EdgeLayer, spread: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """A weight of a layer with each column multiplied in float64, a few neurons at a time.

    Parameters
    ----------
    layer : EdgeLayer
        The layer.
    spread : Tensor of shape (edges a neuron,)
        One factor a column.
    weight : Tensor, optional
        Of the shape of the layer's weight, which it is by default.
    """
    matrix = layer.matrix(weight)
    spread = spread.to(matrix.device)
    scaled = torch.empty_like(matrix)
    for rows, old in zip(_blocks(scaled), _blocks(matrix), strict=True):
        rows.copy_(old.double() * spread)
    return layer.like_weight(scaled)


def _blocks(matrix: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of a layer's matrix, a few neurons at a time."""
    return torch.split(matrix, max(1, _BLOCK_ENTRIES // (matrix.shape[0] * matrix.shape[2])), dim=1)


def consumers_of(network: torch.nn.Module, group: UnitGroup) -> Mapping[str, Consumer]:
    """The consumers of a group, by name.

    Parameters
    ----------
    network : torch.nn.Module
        The network, or a copy of it.
    group : UnitGroup
        One of its groups.

    Raises
    ------
    ValueError
        If a consumer is no ``Linear`` or ``Conv2d``, or its weight is shared or computed.

    Examples
    --------
    >>> import torch
    >>> from nn.calibration import split_batch
    >>> from nn.units.consumers import consumers_of
    >>> from nn.units.topology import find_groups
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.Conv2d(3, 5, 2))
    >>> group = find_groups(network, split_batch(torch.rand(2, 1, 4, 4))).groups["0"]
    >>> consumers_of(network, group)["1"].unit_of_column
    tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    """
    layers = find_layers(network, [place.name for place in group.consumers])
    missing = [place.name for place in group.consumers if place.name not in layers]
    if missing:
        raise ValueError(
            f"units of {group.name!r} are read by {', '.join(map(repr, missing))}, of a kind whose weights "
            "are not understood; leave the group out with PerLayer({...: Dense()})"
        )
    return {place.name: _consumer(layers[place.name], place, group.units) for place in group.consumers}


def _consumer(layer: EdgeLayer, place: Place, units: int) -> Consumer:
    groups, _, edges = layer.shape
    module = layer.module
    inputs = module.in_channels if isinstance(module, torch.nn.Conv2d) else edges
    share = inputs // groups  # inputs that a neuron reads
    window = edges // share
    unit_of_column = torch.full((share, window), -1, dtype=torch.int64)
    for unit, positions in enumerate(place.positions):
        unit_of_column[positions % share] = unit
    return Consumer(layer, unit_of_column.reshape(-1), units)
