"""Real shrinkage: a recipe of what stays in every layer, carried out on a copy of a network.

A recipe is plain data: for every module that shrinks, the outputs and the inputs that stay. It can be
written down, and replayed on a fresh network of the same class without tracing it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nn.copies import copied, separated, sharing
from nn.masks import bake_in
from nn.units._dependencies import CONVOLUTIONS, NORMS, inputs_of, outputs_of
from nn.units.topology import Place, UnitGroup

__all__ = ["Recipe", "carry_out", "digest", "recipe_of", "silence"]


@dataclass(frozen=True)
class Recipe:
    """What stays of a network.

    Parameters
    ----------
    outputs : mapping of str to sequence of int
        By module name, the output positions that stay; for normalisations and depthwise convolutions,
        all of whose axes shrink together, too.
    inputs : mapping of str to sequence of int
        By module name, the input positions that stay.
    parameters : mapping of str to (int, sequence of int)
        By name of a free parameter, the axis and the positions along it that stay.

    Examples
    --------
    >>> import torch
    >>> from nn.units.surgery import Recipe
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> smaller = Recipe(outputs={"0": (0, 2, 3)}, inputs={"2": (0, 2, 3)}).replay(network)
    >>> smaller[0], smaller[2]
    (Linear(in_features=3, out_features=3, bias=True), Linear(in_features=3, out_features=2, bias=True))
    """

    outputs: Mapping[str, Sequence[int]]
    inputs: Mapping[str, Sequence[int]]
    parameters: Mapping[str, tuple[int, Sequence[int]]] = field(default_factory=dict)

    def replay(self, network: torch.nn.Module) -> torch.nn.Module:
        """A smaller copy of a network, in which every other parameter is as it was.

        Raises
        ------
        ValueError
            If the network lacks a module of the recipe, or one of its positions.
        TypeError
            If a module is of a kind that cannot be made smaller.
        """
        smaller = sharing(network)
        bake_in(smaller)
        carry_out(self, smaller)
        return separated(smaller, network.parameters())

    def masked(self, network: torch.nn.Module) -> torch.nn.Module:
        """A copy of unchanged shape that computes the same: what is removed is read with weight zero.

        Not the same where a normalisation acts over several units of a group.

        Raises
        ------
        ValueError
            If the network lacks a module of the recipe.
        """
        masked = copied(network)
        bake_in(masked)
        silence(self, masked)
        return masked

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "outputs": {name: list(kept) for name, kept in self.outputs.items()},
            "inputs": {name: list(kept) for name, kept in self.inputs.items()},
            "parameters": {name: [axis, list(kept)] for name, (axis, kept) in self.parameters.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Recipe:
        """From what :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            return cls(
                {str(name): _integers(kept) for name, kept in record["outputs"].items()},
                {str(name): _integers(kept) for name, kept in record["inputs"].items()},
                {str(n): (int(axis), _integers(kept)) for n, (axis, kept) in record["parameters"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the recipe is damaged: {error}") from error


def carry_out(recipe: Recipe, network: torch.nn.Module) -> None:
    """Make a network without masks smaller in place; see :meth:`Recipe.replay`.

    Nothing is written into its parameters: those that shrink are replaced.
    """
    modules = dict(network.named_modules())
    with torch.no_grad():
        for name, kept in recipe.outputs.items():
            _shrink_outputs(name, _found(modules, name), _index(kept))
        for name, kept in recipe.inputs.items():
            _shrink_inputs(name, _found(modules, name), _index(kept))
        for name, (axis, kept) in recipe.parameters.items():
            owner, _, last = name.rpartition(".")
            _keep(_found(modules, owner), last, axis, _index(kept), name)


def silence(recipe: Recipe, network: torch.nn.Module) -> None:
    """Set weights that read what a recipe removes to zero, in place; see :meth:`Recipe.masked`."""
    modules = dict(network.named_modules())
    with torch.no_grad():
        for name, kept in recipe.inputs.items():
            weight: torch.Tensor = _found(modules, name).weight  # type: ignore[assignment]
            reads = torch.zeros(weight.shape[1], dtype=torch.bool)
            reads[_index(kept) % weight.shape[1]] = True  # in a grouped convolution, of every group
            weight[:, ~reads.to(weight.device)] = 0.0


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
        raise ValueError(f"{list(values)!r} are not positions")
    return tuple(values)


def recipe_of(
    groups: Mapping[str, UnitGroup], keep: Mapping[str, torch.Tensor], network: torch.nn.Module
) -> Recipe:
    """The recipe that keeps some units of every group.

    Parameters
    ----------
    groups : mapping of str to UnitGroup
        As :func:`~nn.units.topology.find_groups` returns them.
    keep : mapping of str to Tensor of bool, shape (units,)
        By group name; groups that are not named stay whole.
    network : torch.nn.Module
        The network, for the sizes of its layers.
    """
    outputs: dict[str, set[int]] = {}
    inputs: dict[str, set[int]] = {}
    parameters: dict[str, tuple[int, set[int]]] = {}
    free = dict(network.named_parameters())
    for name, kept in keep.items():
        if bool(kept.all()):
            continue
        group = groups[name]
        for place in (*group.producers, *group.carriers):
            gone = _gone(place, kept)
            if place.name in free:
                parameters.setdefault(place.name, (place.axis, set()))[1].update(gone)
            else:
                outputs.setdefault(place.name, set()).update(gone)
        for place in group.consumers:
            inputs.setdefault(place.name, set()).update(_gone(place, kept))
    modules = dict(network.named_modules())
    return Recipe(
        {name: _left(outputs_of(modules[name]), gone) for name, gone in outputs.items()},
        {name: _left(inputs_of(modules[name]), gone) for name, gone in inputs.items()},
        {name: (axis, _left(free[name].shape[axis], gone)) for name, (axis, gone) in parameters.items()},
    )


def _gone(place: Place, kept: torch.Tensor) -> list[int]:
    positions: list[int] = place.positions[~kept.cpu()].reshape(-1).tolist()
    return positions


def _left(size: int, gone: set[int]) -> tuple[int, ...]:
    return tuple(position for position in range(size) if position not in gone)


def digest(network: torch.nn.Module) -> str:
    """SHA-256 of names, precisions, shapes and bytes of everything in the state of a network."""
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _found(modules: Mapping[str, torch.nn.Module], name: str) -> torch.nn.Module:
    if name not in modules:
        raise ValueError(f"the recipe makes a module {name!r} smaller; the network has none")
    return modules[name]


def _index(kept: Sequence[int]) -> torch.Tensor:
    return torch.tensor(list(kept), dtype=torch.int64)


def _keep(owner: torch.nn.Module, attribute: str, axis: int, kept: torch.Tensor, name: str) -> None:
    """Keep some positions of a parameter or buffer along one axis."""
    value = getattr(owner, attribute, None)
    if value is None and axis == 0 and hasattr(owner, attribute):
        return  # no bias, no running statistics
    if not torch.is_tensor(value):
        raise ValueError(f"the recipe makes a parameter {name!r} smaller; the network has none")
    size = value.shape[axis] if 0 <= axis < value.dim() else 0
    if len(kept) == 0 or int(kept.max()) >= size or int(kept.min()) < 0:
        raise ValueError(f"the recipe keeps positions {kept.tolist()} of {name!r}, which has {size}")
    chosen = value.detach().index_select(axis, kept.to(value.device))
    for layout, dimensions in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if value.dim() == dimensions and value.is_contiguous(memory_format=layout):
            chosen = chosen if value.is_contiguous() else chosen.contiguous(memory_format=layout)
    if isinstance(value, torch.nn.Parameter):
        setattr(owner, attribute, torch.nn.Parameter(chosen, requires_grad=value.requires_grad))
    else:
        setattr(owner, attribute, chosen)


def _shrink_outputs(name: str, module: torch.nn.Module, kept: torch.Tensor) -> None:
    """Keep some outputs of a module; whatever acts on single channels keeps those."""
    count = len(kept)
    for attribute in ("weight", "bias"):
        if isinstance(module, torch.nn.Embedding):
            continue
        if isinstance(module, torch.nn.PReLU) and module.num_parameters == 1:
            continue
        if hasattr(module, attribute):
            _keep(module, attribute, 0, kept, name)
    if isinstance(module, torch.nn.Linear):
        module.out_features = count
    elif isinstance(module, CONVOLUTIONS):
        _shrink_convolution(name, module, kept)
    elif isinstance(module, NORMS):
        module.num_features = count
        for attribute in ("running_mean", "running_var"):
            _keep(module, attribute, 0, kept, name)
    elif isinstance(module, (torch.nn.LayerNorm, torch.nn.RMSNorm)):
        if len(module.normalized_shape) != 1:
            raise TypeError(f"{name!r} normalises over several axes, {module.normalized_shape}")
        module.normalized_shape = (count,)
    elif isinstance(module, torch.nn.GroupNorm):
        module.num_channels = count
    elif isinstance(module, torch.nn.PReLU):
        module.num_parameters = count if module.num_parameters > 1 else 1
    elif isinstance(module, torch.nn.Embedding):
        _keep(module, "weight", 1, kept, name)
        module.embedding_dim = count
    else:
        raise TypeError(f"{name!r} is a {type(module).__name__}, which cannot be made smaller here")


def _shrink_convolution(name: str, module: Any, kept: torch.Tensor) -> None:
    if module.groups > 1 and module.groups == module.in_channels == module.out_channels:
        module.groups = module.in_channels = len(kept)  # depthwise: the channel goes on both sides
    elif module.groups > 1:
        share = module.out_channels // module.groups
        counts = torch.bincount(kept // share, minlength=module.groups)
        if int(counts.min()) != int(counts.max()):
            raise ValueError(f"the groups of {name!r} would keep unequally many outputs: {counts.tolist()}")
    module.out_channels = len(kept)


def _shrink_inputs(name: str, module: Any, kept: torch.Tensor) -> None:
    if isinstance(module, torch.nn.Linear):
        _keep(module, "weight", 1, kept, name)
        module.in_features = len(kept)
        return
    if not isinstance(module, CONVOLUTIONS):
        raise TypeError(f"{name!r} is a {type(module).__name__}, whose inputs cannot be made fewer here")
    share = module.in_channels // module.groups
    by_group = [kept[kept // share == group] - group * share for group in range(module.groups)]
    if any(not torch.equal(own, by_group[0]) for own in by_group):
        raise ValueError(f"the groups of {name!r} would keep different inputs")
    _keep(module, "weight", 1, by_group[0], name)
    module.in_channels = len(kept)
