"""What Torch-Pruning says about a group of channels, checked and turned into tables of indices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch

__all__ = ["CONVOLUTIONS", "MAKERS", "NORMS", "Dependencies", "Found"]

CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_MIXING_NORMS = (torch.nn.LayerNorm, torch.nn.GroupNorm)
NORMS = (
    torch.nn.modules.batchnorm._BatchNorm,  # noqa: SLF001 - the one common base
    torch.nn.modules.instancenorm._InstanceNorm,  # noqa: SLF001
)
MAKERS = (torch.nn.Linear, *CONVOLUTIONS)
_CARRIERS = (torch.nn.Parameter, torch.nn.PReLU, *NORMS, *_MIXING_NORMS)

_Row = tuple[str, torch.Tensor, int]  # name, positions (channels, k), axis


@dataclass(eq=False)
class Found:
    """Everything that shrinks with the outputs of one layer, as it is collected.

    ``reason`` says why they cannot be removed; ``tied`` are the sets of channels that make one unit.
    """

    channels: int
    producers: list[_Row] = field(default_factory=list)
    carriers: list[_Row] = field(default_factory=list)
    consumers: list[_Row] = field(default_factory=list)
    mixing: bool = False
    reason: str | None = None
    tied: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tied = list(range(self.channels))

    @property
    def makers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs these are."""
        return tuple(name for name, _, _ in self.producers)

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self._members())

    def refuse(self, reason: str) -> None:
        """Note a reason; the first one stays."""
        self.reason = self.reason or reason

    def by_unit(self, positions: torch.Tensor) -> torch.Tensor:
        """Positions of channels, (channels, k), as positions of units, (units, k')."""
        return torch.stack([positions[members].reshape(-1).sort().values for members in self._members()])

    def _members(self) -> list[list[int]]:
        """Channels of each unit, in the order of their first ones."""
        units: dict[int, list[int]] = defaultdict(list)
        for channel in range(self.channels):
            units[self._root(channel)].append(channel)
        return list(units.values())

    def _root(self, channel: int) -> int:
        while self.tied[channel] != channel:
            channel = self.tied[channel]
        return channel

    def join(self, channels: Iterable[int]) -> None:
        """Make one unit of some channels."""
        roots = {self._root(channel) for channel in channels}
        for root in roots:
            self.tied[root] = min(roots)

    def tie(self, positions: torch.Tensor, width: int) -> None:
        """Make one unit of channels that hold the same place in the groups of a grouped module."""
        together: dict[int, list[int]] = defaultdict(list)
        for channel, places in enumerate(positions.tolist()):
            for position in places:
                together[position % width].append(channel)
        for channels in together.values():
            self.join(channels)


@dataclass(frozen=True, eq=False)
class Dependencies:
    """Reads the groups of a dependency graph.

    Parameters
    ----------
    graph : torch_pruning.DependencyGraph
        Of the network.
    network : torch.nn.Module
        The network that was traced.
    """

    graph: Any
    network: torch.nn.Module

    def read(self, items: Sequence[Any], blocks: Mapping[str, int]) -> Found:
        """One group."""
        found = Found(len(items[0].idxs))
        for item in items:
            if type(item.dep.target.module).__name__ == "_OutputOp":
                found.refuse("they are outputs of the network")
            place = self._place(item)
            if place is None:
                continue  # an operation without parameters
            positions = _positions(item, found.channels)
            if positions is None:
                found.refuse(f"how they reach {place[0]!r} is not understood")
            else:
                self._file(found, item, (place[0], positions, place[1]))
        order = {name: index for index, (name, _) in enumerate(self.network.named_modules())}
        found.producers.sort(key=lambda row: order[row[0]])
        if not found.consumers:
            found.refuse("no layer reads them")
        for pattern, size in blocks.items():
            if any(fnmatchcase(name, pattern) for name in found.makers):
                if found.channels % size:
                    raise ValueError(
                        f"{found.makers[0]!r} has {found.channels} outputs, which are no blocks of {size}"
                    )
                for start in range(0, found.channels, size):
                    found.join(range(start, start + size))
        return found

    def _place(self, item: Any) -> tuple[str, int] | None:
        """Name of the module or parameter, and the axis."""
        module = item.dep.target.module
        if isinstance(module, torch.nn.Parameter):
            name = next(name for name, value in self.network.named_parameters() if value is module)
            return name, int(item.dep.target.pruning_dim) % module.dim()
        return next(((name, 0) for name, value in self.network.named_modules() if value is module), None)

    def _file(self, found: Found, item: Any, row: _Row) -> None:
        """Add a place to the list that it belongs to."""
        module = item.dep.target.module
        writes = self.graph.is_out_channel_pruning_fn(item.dep.handler)
        groups = int(getattr(module, "groups", 1))
        if isinstance(module, _CARRIERS):
            found.carriers.append(row)
            found.mixing = found.mixing or isinstance(module, _MIXING_NORMS)
            if isinstance(module, torch.nn.GroupNorm):
                found.tie(row[1], module.num_channels // module.num_groups)
        elif isinstance(module, CONVOLUTIONS) and 1 < groups == module.in_channels == module.out_channels:
            found.carriers.append(row)
        elif isinstance(module, (*MAKERS, torch.nn.Embedding)) and writes:
            found.producers.append(row)
            if groups > 1:
                found.tie(row[1], int(module.out_channels) // groups)  # type: ignore[arg-type]
        elif isinstance(module, MAKERS):
            found.consumers.append(row)
            if groups > 1:
                found.tie(row[1], int(module.in_channels) // groups)  # type: ignore[arg-type]
        else:
            found.refuse(f"{row[0]!r} is a {type(module).__name__}, which cannot be made smaller here")


def _positions(item: Any, channels: int) -> torch.Tensor | None:
    """Positions of every channel of the root, (channels, k); None if they are not equally many."""
    places: dict[int, list[int]] = defaultdict(list)
    for position, root in zip(item.idxs, item.root_idxs, strict=True):
        places[int(root)].append(int(position))
    if len({len(found) for found in places.values()}) != 1 or set(places) != set(range(channels)):
        return None
    return torch.tensor([sorted(places[channel]) for channel in range(channels)], dtype=torch.int64)
