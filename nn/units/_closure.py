"""What goes with the outputs of a layer, followed through Torch-Pruning's graph.

Torch-Pruning's own search remembers one origin for every position and forgets the others where paths meet,
as in a gated perceptron whose two halves are one layer; and it takes the parts of a split in the order in
which they were traced. Here every meeting of two origins is noted, and parts are told apart by the number
that autograd gives them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from torch_pruning import ops
from torch_pruning.dependency import shape_infer

__all__ = ["Closure", "Reached"]

_SPLITS = (ops.OPTYPE.SPLIT, ops.OPTYPE.UNBIND)
_Bounds = list[tuple[int, int]]


class _Index(NamedTuple):
    """A position, and the channel of the root from which it was reached; named as Torch-Pruning does."""

    idx: int
    root_idx: int


class Reached(NamedTuple):
    """Positions in a module, or along an axis of a free parameter, and the channels that lead to them."""

    module: Any
    writes: bool  # whether they are outputs of the module
    axis: int
    origins: Mapping[int, int]


class Closure:
    """Searches a dependency graph.

    Parameters
    ----------
    graph : torch_pruning.DependencyGraph
        Of a network.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._windows: dict[int, tuple[int, int]] = {}  # by identity of an edge: into a part
        self._offsets: dict[int, int] = {}  # likewise: into the whole
        self._widths: dict[Any, int] = {}  # of equal parts, by split
        for node in graph.module2node.values():
            if node.type in _SPLITS:
                self._note_split(node, _split_bounds(graph, node))
            elif node.type == ops.OPTYPE.CONCAT:
                self._note_join(node, _joined_bounds(graph, node))

    def _note_split(self, node: Any, bounds: _Bounds) -> None:
        if len({high - low for low, high in bounds}) == 1:
            self._widths[node] = bounds[0][1]
        for reader in dict.fromkeys(node.outputs if bounds else ()):
            steps = getattr(reader.grad_fn, "next_functions", ())
            parts = [bounds[number] for step, number in steps if step is node.grad_fn]
            away, back = _edges(node, reader), _edges(reader, node)
            if len(away) == len(back) == len(parts):  # all in the order of the reader's arguments
                for one, other, part in zip(away, back, parts, strict=True):
                    self._windows[id(one)] = part
                    self._offsets[id(other)] = part[0]

    def _note_join(self, node: Any, bounds: _Bounds) -> None:
        for maker in dict.fromkeys(node.inputs if bounds else ()):
            parts = [part for part, own in zip(bounds, node.inputs, strict=True) if own is maker]
            for one, other, part in zip(_edges(maker, node), _edges(node, maker), parts, strict=False):
                self._offsets[id(one)] = part[0]
                self._windows[id(other)] = part

    def of(self, layer: Any) -> tuple[list[Reached], list[tuple[int, int]]]:
        """All that is reached from the outputs of a layer, and pairs of outputs that met on the way."""
        pruner = self._graph.get_pruner_of_module(layer)
        start = [_Index(channel, channel) for channel in range(pruner.get_out_channels(layer))]
        waiting = [(self._graph.module2node[layer], pruner.prune_out_channels, start)]
        origins: dict[tuple[Any, Any], dict[int, int]] = defaultdict(dict)
        met: list[tuple[int, int]] = []
        while waiting:
            node, handler, arriving = waiting.pop()
            own = origins[node, handler]
            new = []
            for index in arriving:
                if index.idx not in own:
                    own[index.idx] = index.root_idx
                    new.append(index)
                elif own[index.idx] != index.root_idx:  # the way ahead has been followed already
                    met.append((own[index.idx], index.root_idx))
            if new:
                waiting.extend(
                    (edge.target, edge.handler, self._mapped(edge, new))
                    for edge in node.dependencies
                    if edge.is_triggered_by(handler)
                )
        for (node, _), own in origins.items():
            if node in self._widths:  # parts stay equally wide only if the same goes from each
                met.extend(_aligned(own, self._widths[node]))
        reached = [
            Reached(node.module, self._graph.is_out_channel_pruning_fn(handler), int(node.pruning_dim), own)
            for (node, handler), own in origins.items()
            if own
        ]
        return reached, met

    def _mapped(self, edge: Any, indices: list[_Index]) -> list[_Index]:
        """The positions at the far end of an edge."""
        window, offset = self._windows.get(id(edge)), self._offsets.get(id(edge))
        if window is not None:
            low, high = window
            indices = [_Index(idx - low, root) for idx, root in indices if low <= idx < high]
        known = (window is not None) + (offset is not None)
        for mapping in edge.index_mapping if known == 0 else (_reshaping(edge),):
            if mapping is not None:
                indices = mapping(indices)
        if offset is not None:
            indices = [_Index(index.idx + offset, index.root_idx) for index in indices]
        return indices


def _reshaping(edge: Any) -> Any:
    """What a reshape at an edge does to positions, if there is one."""
    mapping = edge.index_mapping[0]
    return mapping if type(mapping).__name__ == "_FlattenIndexMapping" else None


def _edges(source: Any, target: Any) -> list[Any]:
    return [edge for edge in source.dependencies if edge.target is target]


def _aligned(origins: Mapping[int, int], width: int) -> Iterator[tuple[int, int]]:
    """Pairs of channels that lead to the same place in different parts."""
    first: dict[int, int] = {}
    for position, channel in origins.items():
        yield first.setdefault(position % width, channel), channel


def _channels(graph: Any, node: Any) -> int | None:
    channels: int | None = shape_infer.infer_out_channels_recursively(graph, node, [0])
    return channels


def _axis(made: Any) -> int:
    """The dimension of a split or concatenation; autograd shows -1 without its sign."""
    axis = int(made._saved_dim)  # noqa: SLF001 - autograd offers no other way
    return axis - 2**64 if axis >= 2**63 else axis


def _shape(step: Any, number: int) -> tuple[int, ...]:
    """Shape of an output of an operation."""
    return tuple(step._input_metadata[number].shape)  # noqa: SLF001 - likewise


def _intervals(sizes: Iterable[int]) -> _Bounds:
    return list(pairwise(accumulate(sizes, initial=0)))


def _split_bounds(graph: Any, node: Any) -> _Bounds:
    """Where the parts of a split begin and end, if it divides the channels; else nothing."""
    made = node.grad_fn
    channels = _channels(graph, node.inputs[0]) if node.inputs else None
    if channels is None:
        return []
    if node.type == ops.OPTYPE.UNBIND:
        # As Torch-Pruning: channels viewed as (parts, ...) and the parts brought to the front.
        count = len(made._input_metadata)  # noqa: SLF001
        return _intervals([channels // count] * count) if _axis(made) == 0 and channels % count == 0 else []
    sizes = [_shape(made, number)[_axis(made)] for number in range(len(made._input_metadata))]  # noqa: SLF001
    return _intervals(sizes) if sum(sizes) == channels else []  # or along tokens or pixels


def _joined_bounds(graph: Any, node: Any) -> _Bounds:
    """Where the parts of a concatenation begin and end, if it joins channels; else nothing."""
    made = node.grad_fn
    steps = made.next_functions
    axis = _axis(made)
    if len(steps) != len(node.inputs) or any(step is None for step, _ in steps):
        return []  # some part is a constant
    sizes = [_shape(step, number)[axis] for step, number in steps]
    if len(_shape(made, 0)) == 2:
        return _intervals(sizes) if axis in (1, -1) else []
    channels = [_channels(graph, maker) for maker in node.inputs]
    fits = all(count in (None, size) for count, size in zip(channels, sizes, strict=True))
    return _intervals(sizes) if fits else []  # or tokens, or pixels
