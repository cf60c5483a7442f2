"""Which neurons, channels and heads must be removed together.

A unit is what can be taken out of a network as a whole: a neuron, a filter, a channel of a residual
stream, an attention head. Taking it out touches the layers that make it (rows of their weights),
those that carry it (normalisations, depthwise convolutions), and those that read it (columns of their
weights). Units that share layers form a group. The dependency graph of Torch-Pruning says which
layers belong together; here its answer is checked and turned into plain index tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch_pruning

from coresets._validate import check_integer
from nn.calibration import Batch
from nn.copies import sharing
from nn.masks import bake_in
from nn.units._dependencies import MAKERS, Dependencies, Found
from nn.units._outputs import tensors_of

__all__ = ["Place", "Refusal", "Topology", "UnitGroup", "find_groups"]


@dataclass(frozen=True, eq=False)
class Place:
    """Where the units of a group sit in one module or one free parameter.

    Parameters
    ----------
    name : str
        Dotted name of the module, or of the parameter.
    positions : Tensor of int64, shape (units, k)
        Indices of every unit along the axis in question; k is 1 for a neuron, the number of positions
        of a feature map where the map is flattened, the width of a head.
    axis : int
        Axis of the tensor, for a free parameter; 0 otherwise.
    """

    name: str
    positions: torch.Tensor
    axis: int = 0


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that are removed from the same layers.

    Parameters
    ----------
    name : str
        The first layer that makes them; what budgets call the group.
    units : int
        How many there are.
    producers : tuple of Place
        Layers whose outputs they are (rows of the weight).
    carriers : tuple of Place
        Modules that act on each unit alone, or normalise over all of them: batch, layer and group
        normalisation, depthwise convolutions, PReLU; and free parameters that are added to them.
    consumers : tuple of Place
        Layers that read them (columns of the weight); at least one.
    mixing : bool
        Whether a carrier normalises over several units, so that removing one changes the others.
    """

    name: str
    units: int
    producers: tuple[Place, ...]
    carriers: tuple[Place, ...]
    consumers: tuple[Place, ...]
    mixing: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of everything that shrinks with the group."""
        return tuple(p.name for p in (*self.producers, *self.carriers, *self.consumers))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the outputs of some layers cannot be removed.

    Parameters
    ----------
    layers : tuple of str
        The layers that make them.
    reason : str
        Half a sentence.
    ordinary : bool
        Whether every network has such layers: those that make its outputs.
    """

    layers: tuple[str, ...]
    reason: str
    ordinary: bool = False


@dataclass(frozen=True, eq=False)
class Topology:
    """The unit groups of a network, in the order in which they are read.

    Parameters
    ----------
    groups : mapping of str to UnitGroup
        By name.
    refused : tuple of Refusal
        What cannot be removed, and why.
    """

    groups: Mapping[str, UnitGroup]
    refused: tuple[Refusal, ...]

    def why_not(self, pattern: str) -> str | None:
        """The reason why no group has such a name, if there is a layer that has it."""
        for refusal in self.refused:
            if any(fnmatchcase(name, pattern) for name in refusal.layers):
                return refusal.reason
        for group in self.groups.values():
            if any(fnmatchcase(place.name, pattern) for place in group.producers):
                return f"its outputs are removed together with those of {group.name!r}; name that one"
        return None


def find_groups(
    network: torch.nn.Module, example: Batch, blocks: Mapping[str, int] | None = None
) -> Topology:
    """The units of a network that can be removed, by group.

    Parameters
    ----------
    network : torch.nn.Module
        Any network that runs on the example; frozen parameters do not matter.
    example : Batch
        A few examples on any device; two are enough.
    blocks : mapping of str to int, optional
        By layer name, with shell wildcards: how many consecutive outputs make one unit, for attention
        heads.

    Returns
    -------
    Topology

    Raises
    ------
    TypeError
        If ``blocks`` is no mapping.
    ValueError
        If the network cannot be traced, or ``blocks`` does not fit it.

    Examples
    --------
    >>> import torch
    >>> from nn.calibration import split_batch
    >>> from nn.units.topology import find_groups
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(36, 2)
    ... )
    >>> group = find_groups(network, split_batch(torch.rand(2, 1, 5, 5))).groups["0"]
    >>> group.units, group.layers, tuple(group.consumers[0].positions.shape)  # 9 columns a channel
    (4, ('0', '1', '3'), (4, 9))
    """
    if blocks is not None and not isinstance(blocks, Mapping):
        raise TypeError(f"blocks = {blocks!r}; pass a mapping from layer names to the width of a head")
    blocks = {
        pattern: check_integer(size, f"blocks[{pattern!r}]", at_least=1)
        for pattern, size in (blocks or {}).items()
    }
    plain = _traceable(network)
    order, graph = _traced(plain, example)
    groups: list[UnitGroup] = []
    refused: list[Refusal] = []
    used: set[str] = set()
    for found in Dependencies(graph, plain).groups(blocks):
        if found.reason is None:
            groups.append(_group(found))
            used.update(p for p in blocks if any(fnmatchcase(name, p) for name in found.makers))
        else:
            refused.append(Refusal(found.makers, found.reason, ordinary=found.ordinary))
    refused.extend(
        Refusal((name,), "tracing does not reach it, as where gradients are switched off")
        for name, module in plain.named_modules()
        if isinstance(module, MAKERS) and name in order and module not in graph.module2node
    )
    unused = set(blocks) - used
    if unused:
        raise ValueError(
            f"blocks names {', '.join(map(repr, sorted(unused)))}, and no removable layer is called that; "
            f"there are {', '.join(group.name for group in groups)}"
        )
    groups.sort(key=lambda group: min(order.get(place.name, len(order)) for place in group.consumers))
    return Topology({group.name: group for group in groups}, tuple(refused))


def _traceable(network: torch.nn.Module) -> torch.nn.Module:
    """A copy that autograd can trace: frozen parameters would hide the graph."""
    plain = sharing(network).eval()
    bake_in(plain)
    for parameter in plain.parameters():
        parameter.grad = None
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return plain


def _traced(network: torch.nn.Module, example: Batch) -> tuple[dict[str, int], Any]:
    """Order in which modules run, and Torch-Pruning's dependency graph."""
    order: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def look(*_: Any) -> None:
            order.setdefault(name, len(order))

        return look

    handles = [module.register_forward_pre_hook(note(name)) for name, module in network.named_modules()]
    graph = torch_pruning.DependencyGraph()
    try:
        with torch.enable_grad():
            graph.build_dependency(
                network,
                example_inputs=example,
                # Each output is an operation of its own, so that layers that make it are told by it.
                forward_fn=lambda model, batch: [value.clone() for value in tensors_of(batch.run(model))],
                verbose=False,
            )
    except Exception as error:
        raise ValueError(
            f"tracing {type(network).__name__} does not show which of its layers depend on one another "
            f"({type(error).__name__}: {error})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return order, graph


def _group(found: Found) -> UnitGroup:
    producers, carriers, consumers = (
        tuple(Place(name, _positions(found, origins), axis) for name, origins, axis in places)
        for places in (found.producers, found.carriers, found.consumers)
    )
    return UnitGroup(producers[0].name, found.units, producers, carriers, consumers, mixing=found.mixing)


def _positions(found: Found, origins: Mapping[int, int]) -> torch.Tensor:
    positions = found.by_unit(origins)
    assert positions is not None  # such groups have been refused
    return positions
