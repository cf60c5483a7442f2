"""What the dependency graph says about a group of channels, checked and turned into tables of indices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch

from nn.units._closure import Closure, Reached

__all__ = [
    "CONVOLUTIONS",
    "MAKERS",
    "MIXING_NORMS",
    "NORMS",
    "Dependencies",
    "Found",
    "inputs_of",
    "outputs_of",
]

CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
MIXING_NORMS = (torch.nn.LayerNorm, torch.nn.RMSNorm, torch.nn.GroupNorm)
NORMS = (
    torch.nn.modules.batchnorm._BatchNorm,  # noqa: SLF001 - the one common base
    torch.nn.modules.instancenorm._InstanceNorm,  # noqa: SLF001
)
MAKERS = (torch.nn.Linear, *CONVOLUTIONS)
_CARRIERS = (torch.nn.Parameter, torch.nn.PReLU, *NORMS, *MIXING_NORMS)

_Row = tuple[str, Mapping[int, int], int]  # name, channel of the root by position, axis


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
    ordinary: bool = False
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
        return len({self._root(channel) for channel in range(self.channels)})

    def refuse(self, reason: str, *, ordinary: bool = False) -> None:
        """Note a reason; the first one stays. Of every network some are refused for ordinary ones."""
        if self.reason is None:
            self.reason, self.ordinary = reason, ordinary

    def by_unit(self, origins: Mapping[int, int]) -> torch.Tensor | None:
        """Positions of each unit, as (units, k), in the order of first channels; None if unequally many."""
        units: dict[int, list[int]] = {self._root(channel): [] for channel in range(self.channels)}
        for position in sorted(origins):
            units[self._root(origins[position])].append(position)
        counts = {len(positions) for positions in units.values()}
        if len(counts) != 1 or 0 in counts:
            return None
        return torch.tensor(list(units.values()), dtype=torch.int64)

    def _root(self, channel: int) -> int:
        while self.tied[channel] != channel:
            self.tied[channel] = self.tied[self.tied[channel]]
            channel = self.tied[channel]
        return channel

    def join(self, channels: Iterable[int]) -> None:
        """Make one unit of some channels."""
        roots = {self._root(channel) for channel in channels}
        for root in roots:
            self.tied[root] = min(roots)

    def tie(self, row: _Row, groups: int, size: int) -> None:
        """Make one unit of channels that hold the same place in the groups of a grouped module."""
        together: dict[int, list[int]] = defaultdict(list)
        for position, channel in row[1].items():
            together[position % (size // groups)].append(channel)
        for channels in together.values():
            if len(channels) != groups:
                self.refuse(f"they reach only some of the groups of {row[0]!r}")
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

    @cached_property
    def _closure(self) -> Closure:
        return Closure(self.graph)

    @cached_property
    def _names(self) -> Mapping[int, str]:
        """Names of modules and parameters, by identity."""
        pairs = (*self.network.named_modules(), *self.network.named_parameters())
        return {id(value): name for name, value in reversed(pairs)}

    @cached_property
    def _owners(self) -> Mapping[int, set[int]]:
        """Which modules hold a parameter, both by identity."""
        owners: dict[int, set[int]] = defaultdict(set)
        for module in self.network.modules():
            for parameter in module.parameters(recurse=False):
                owners[id(parameter)].add(id(module))
        return owners

    @cached_property
    def _parents(self) -> Mapping[int, torch.nn.Module]:
        """A module that holds a parameter, by its identity."""
        return {id(p): module for module in self.network.modules() for p in module.parameters(recurse=False)}

    def groups(self, blocks: Mapping[str, int]) -> list[Found]:
        """All groups, in no particular order."""
        groups: list[Found] = []
        seen: set[str] = set()
        for module in list(self.graph.module2node):
            if isinstance(module, MAKERS) and self._names[id(module)] not in seen:
                groups.append(self.read(module, blocks))
                seen.add(self._names[id(module)])
                seen.update(groups[-1].makers)
                seen.update(name for name, _, _ in groups[-1].carriers)
        return groups

    def read(self, layer: Any, blocks: Mapping[str, int]) -> Found:
        """The group of the outputs of one layer."""
        reached, met = self._closure.of(layer)
        found = Found(outputs_of(layer))
        for pair in met:
            found.join(pair)
        for place in reached:
            if type(place.module).__name__ == "_OutputOp":
                found.refuse("they are outputs of the network", ordinary=True)
            elif id(place.module) in self._names:  # and no operation without parameters
                self._file(found, place)
        order = {name: index for index, (name, _) in enumerate(self.network.named_modules())}
        found.producers.sort(key=lambda row: order[row[0]])
        if not found.producers:
            found.refuse("they are inputs of the network", ordinary=True)
        if not found.consumers:
            found.refuse("no layer reads them", ordinary=True)
        for pattern, size in blocks.items():
            if any(fnmatchcase(name, pattern) for name in found.makers):
                if found.channels % size:
                    raise ValueError(
                        f"{found.makers[0]!r} has {found.channels} outputs, which are no blocks of {size}"
                    )
                for start in range(0, found.channels, size):
                    found.join(range(start, start + size))
        for name, origins, _ in (*found.producers, *found.carriers, *found.consumers):
            if found.by_unit(origins) is None:
                found.refuse(f"how they reach {name!r} is not understood")
        return found

    def _file(self, found: Found, place: Reached) -> None:
        """Add a place to the list that it belongs to."""
        module: Any = place.module
        name = self._names[id(module)]
        if isinstance(self._parents.get(id(module)), torch.nn.RMSNorm):  # Torch-Pruning does not know it
            module, name = self._parents[id(module)], name.rpartition(".")[0]
        if isinstance(module, torch.nn.Parameter):
            row, size = (name, place.origins, place.axis % module.dim()), module.shape[place.axis]
        else:
            row, size = (name, place.origins, 0), 0
        groups = int(getattr(module, "groups", 1))
        if isinstance(module, torch.nn.PReLU) and module.num_parameters == 1:
            return
        if isinstance(module, _CARRIERS):
            found.carriers.append(row)
            found.mixing = found.mixing or isinstance(module, MIXING_NORMS)
            size = size or outputs_of(module)
            if isinstance(module, torch.nn.GroupNorm):
                found.tie(row, module.num_groups, size)
        elif isinstance(module, CONVOLUTIONS) and 1 < groups == module.in_channels == module.out_channels:
            found.carriers.append(row)
            size = outputs_of(module)
        elif isinstance(module, (*MAKERS, torch.nn.Embedding)):
            (found.producers if place.writes else found.consumers).append(row)
            size = outputs_of(module) if place.writes else inputs_of(module)
            if groups > 1:
                found.tie(row, groups, size)
        else:
            found.refuse(f"{name!r} is a {type(module).__name__}, which cannot be made smaller here")
            return
        if not all(0 <= position < size for position in place.origins):
            found.refuse(f"how they reach {name!r} is not understood")
        self._check_weights(found, name, module)

    def _check_weights(self, found: Found, name: str, module: Any) -> None:
        """Refuse weights that are computed, or that are those of another module, too."""
        own = (module,) if isinstance(module, torch.nn.Parameter) else module.parameters(recurse=False)
        if any(len(self._owners[id(parameter)]) > 1 for parameter in own):
            found.refuse(f"parameters of {name!r} are shared with another module; untie them first")
        if isinstance(module, MAKERS) and module._parameters.get("weight") is None:  # noqa: SLF001
            found.refuse(
                f"the weight of {name!r} is computed from other parameters; make it plain first, for "
                "instance with torch.nn.utils.parametrize.remove_parametrizations"
            )
        if isinstance(module, torch.nn.Embedding) and module.max_norm is not None:
            found.refuse(f"{name!r} scales its rows to max_norm, over all their entries")


def outputs_of(module: Any) -> int:
    """Number of outputs of a layer, or of channels of what acts on single channels."""
    for attribute in ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim"):
        if hasattr(module, attribute):
            return int(getattr(module, attribute))
    if isinstance(module, (torch.nn.LayerNorm, torch.nn.RMSNorm)):
        return int(module.normalized_shape[-1])
    return int(module.weight.shape[0])


def inputs_of(module: Any) -> int:
    """Number of inputs of a layer."""
    return int(module.in_features if isinstance(module, torch.nn.Linear) else module.in_channels)
