"""Operations of a network as a function of how many units every group has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from nn.calibration import Batch, device_of, evaluating
from nn.units._dependencies import MAKERS
from nn.units.topology import UnitGroup

__all__ = ["Flops"]


@dataclass(frozen=True)
class _Layer:
    """One layer: operations are ``each`` times outputs times inputs, over ``groups``.

    ``fixed`` are the outputs and inputs that belong to no group, ``outputs`` and ``inputs`` how many each
    unit of a group makes up.
    """

    each: int
    groups: int
    fixed: tuple[int, int]
    outputs: Mapping[str, int]
    inputs: Mapping[str, int]

    def flops(self, counts: Mapping[str, int]) -> int:
        made = self.fixed[0] + sum(width * counts[name] for name, width in self.outputs.items())
        read = self.fixed[1] + sum(width * counts[name] for name, width in self.inputs.items())
        return self.each * made * read // self.groups


@dataclass(frozen=True)
class Flops:
    """Operations of all linear maps and convolutions for one example, counted as by :func:`nn.cost.cost`.

    Products of activations with activations, as in attention, are not among them.
    """

    layers: Mapping[str, _Layer]

    @classmethod
    def of(cls, network: torch.nn.Module, groups: Mapping[str, UnitGroup], batch: Batch) -> Flops:
        """From one pass over a batch."""
        positions = _positions(network, batch)
        modules: Mapping[str, Any] = dict(network.named_modules())
        made: dict[str, dict[str, int]] = {name: {} for name in positions}
        read: dict[str, dict[str, int]] = {name: {} for name in positions}
        for name, group in groups.items():
            writers = [p for p in (*group.producers, *group.carriers) if p.name in positions]
            for places, table in ((writers, made), (group.consumers, read)):
                for place in places:
                    if place.name in positions:
                        table[place.name][name] = int(place.positions.shape[1])
        layers = {}
        for name, times in positions.items():
            module = modules[name]
            linear = isinstance(module, torch.nn.Linear)
            out = module.out_features if linear else module.out_channels
            into = module.in_features if linear else module.in_channels
            window = 1 if linear else math.prod(module.kernel_size)
            parts = 1 if linear else module.groups
            if 1 < parts == into == out:  # depthwise: every output has one input
                into = parts = 1
            free = tuple(
                total - sum(width * groups[group].units for group, width in table[name].items())
                for total, table in ((out, made), (into, read))
            )
            layers[name] = _Layer(2 * times * window, parts, (free[0], free[1]), made[name], read[name])
        return cls(layers)

    def total(self, counts: Mapping[str, int]) -> int:
        """Operations with so many units in each group."""
        return sum(layer.flops(counts) for layer in self.layers.values())

    def saved(self, group: str, counts: Mapping[str, int]) -> int:
        """Operations that go with one more unit of a group."""
        fewer = {**counts, group: counts[group] - 1}
        return sum(
            layer.flops(counts) - layer.flops(fewer)
            for layer in self.layers.values()
            if group in layer.outputs or group in layer.inputs
        )


def _positions(network: torch.nn.Module, batch: Batch) -> dict[str, int]:
    """How many vectors of outputs every layer makes for one example."""
    found: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def look(module: Any, _: Any, output: torch.Tensor) -> None:
            out = module.out_features if isinstance(module, torch.nn.Linear) else module.out_channels
            found[name] = found.get(name, 0) + output.numel() // int(out)

        return look

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(torch.no_grad())
        for name, module in network.named_modules():
            if isinstance(module, MAKERS):
                stack.callback(module.register_forward_hook(hook(name)).remove)
        batch.to(device_of(network)).run(network)
    return {name: count // batch.size for name, count in found.items()}
