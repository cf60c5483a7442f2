"""Gradients of a loss with respect to gates on units, one for every example.

A gate multiplies a unit wherever it is read, after normalisations and activation functions: at 1 the network
is as it was, at 0 the unit is removed. The gradient with respect to it is the sum, over all consumers and
positions, of activation times gradient (Theis et al. 2018), and costs one pass forward and one backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from nn.calibration import Batch, Calibration, device_of, evaluating, reduce_sum
from nn.copies import copied
from nn.units.method import UnitProblem
from nn.units.topology import Place, UnitGroup

__all__ = [
    "GivenLabels",
    "Labels",
    "LossFunction",
    "SampledLabels",
    "gate_gradients",
    "mean_over_examples",
]

LossFunction = Callable[[Any, Any], torch.Tensor]

_HALVES = (torch.float16, torch.bfloat16)


class Labels(Protocol):
    """Where the targets of the loss come from."""

    @property
    def random(self) -> bool:
        """Whether they are drawn."""

    def targets(self, output: Any, batch: Batch, rng: np.random.Generator | None) -> Any:
        """Targets for the output of a batch."""


@dataclass(frozen=True, slots=True)
class GivenLabels:
    """The targets of the calibration data: the empirical Fisher information."""

    @property
    def random(self) -> bool:
        """No."""
        return False

    def targets(self, output: Any, batch: Batch, rng: np.random.Generator | None) -> Any:
        """Those of the batch.

        Raises
        ------
        ValueError
            If it has none.
        """
        if batch.target is None:
            raise ValueError(
                "a loss is differentiated, and calibration batches have no targets; pass (inputs, target), "
                "or use Fisher(labels=SampledLabels()), which draws them from the network's own predictions"
            )
        return batch.target


@dataclass(frozen=True, slots=True)
class SampledLabels:
    """Classes drawn from the network's own predictions: the Fisher information of its distribution.

    The output must be logits of shape (batch, classes, ...), as cross-entropy takes them; no labels are used.
    """

    @property
    def random(self) -> bool:
        """Yes."""
        return True

    def targets(self, output: Any, batch: Batch, rng: np.random.Generator | None) -> Any:
        """One class for every example, and position if there are several."""
        assert rng is not None
        if not torch.is_tensor(output) or output.dim() < 2:
            raise ValueError("labels are drawn from logits of shape (batch, classes, ...), and this is none")
        chances = torch.softmax(output.detach().double(), dim=1).cumsum(dim=1).cpu()
        levels = torch.from_numpy(rng.random(tuple(chances[:, 0].shape))).unsqueeze(1)
        drawn = (chances < levels).sum(dim=1).clamp_(max=output.shape[1] - 1)
        return drawn.to(output.device)


def gate_gradients(
    network: torch.nn.Module,
    groups: Mapping[str, UnitGroup],
    data: Calibration,
    value: Callable[[Any, Batch], torch.Tensor],
    active: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """For every batch, the gradients of each example's loss with respect to the gates.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode while it runs; its parameters are left without gradients.
    groups : mapping of str to UnitGroup
        Its groups.
    data : Calibration
        Read once.
    value : callable
        ``value(output, batch)``, the mean over the examples of the batch of their losses.
    active : mapping of str to Tensor of bool, shape (units,), optional
        Units whose gates are open; the others are read as zeros.

    Yields
    ------
    dict of str to Tensor of shape (examples, units)
        In float64, on the device of the network.

    Raises
    ------
    ValueError
        If there are no data, the loss is no finite single number, or the first axis of what a consumer
        reads is not that of the examples.
    """
    runnable, precision = _runnable(network)
    modules = dict(runnable.named_modules())
    device = device_of(runnable)
    for parameter in runnable.parameters():
        parameter.requires_grad_(False)
    readers: dict[str, list[tuple[str, Place]]] = {}
    for name, group in groups.items():
        for place in group.consumers:
            readers.setdefault(place.name, []).append((name, place))
    gates: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Callable[..., Any]:
        def multiply(module: torch.nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            inputs = arguments[0] if arguments else keywords["input"]
            for group, place in readers[name]:
                inputs = _gated(module, inputs, gates[group], place, name)
            return ((inputs, *arguments[1:]), keywords) if arguments else ((), {**keywords, "input": inputs})

        return multiply

    with ExitStack() as stack:
        stack.enter_context(evaluating(runnable))
        for name in readers:
            handle = modules[name].register_forward_pre_hook(hook(name), with_kwargs=True)
            stack.callback(handle.remove)
        for batch in data:
            moved = _in_precision(batch.to(device), precision)
            for name, group in groups.items():
                gate = torch.ones((moved.size, group.units), dtype=_dtype(runnable), device=device)
                if active is not None:
                    gate *= active[name].to(device)
                gates[name] = gate.requires_grad_(True)
            with torch.enable_grad():
                loss = _checked(value(moved.run(runnable), moved))
                found = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
            # The loss is a mean: times their number it is the sum of the examples' own losses.
            yield {
                name: moved.size * _whole(gradient, gates[name]).double()
                for name, gradient in zip(gates, found, strict=True)
            }


def _whole(gradient: torch.Tensor | None, gate: torch.Tensor) -> torch.Tensor:
    """The gradient, zeros where the loss does not depend on the gate."""
    return torch.zeros_like(gate) if gradient is None else gradient.detach()


def _gated(
    module: torch.nn.Module, inputs: torch.Tensor, gate: torch.Tensor, place: Place, name: str
) -> torch.Tensor:
    """The inputs of a consumer with every unit multiplied by its gate."""
    linear = isinstance(module, torch.nn.Linear)
    axis = -1 if linear else -1 - _spatial(module)
    width = inputs.shape[axis]
    unit = torch.full((width,), gate.shape[1], dtype=torch.int64)
    positions = place.positions
    unit[positions.reshape(-1)] = torch.arange(len(positions)).repeat_interleave(positions.shape[1])
    ones = torch.ones((len(gate), 1), dtype=gate.dtype, device=gate.device)
    by_position = torch.cat([gate, ones], dim=1)[:, unit.to(gate.device)].to(inputs.dtype)
    shape = [1] * inputs.dim()
    shape[axis] = width
    if len(gate) > 1:
        if inputs.shape[0] != len(gate) or inputs.dim() + axis == 0:
            raise ValueError(
                f"layer {name!r} reads a tensor of shape {tuple(inputs.shape)} for {len(gate)} examples, so "
                "that its first axis is not that of the examples; pass calibration batches of one example"
            )
        shape[0] = len(gate)
    return inputs * by_position.reshape(shape)


def _spatial(module: torch.nn.Module) -> int:
    """Number of axes behind the channels."""
    kernel: Sequence[int] = module.kernel_size  # type: ignore[assignment]
    return len(kernel)


def _checked(loss: Any) -> torch.Tensor:
    if not torch.is_tensor(loss) or loss.numel() != 1:
        raise ValueError("the loss is no single number; pass a mean over examples")
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss on the calibration data is {float(loss.detach())}")
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on the units; look for torch.no_grad in the network")
    return loss


def _dtype(network: torch.nn.Module) -> torch.dtype:
    parameters = [p.dtype for p in network.parameters() if p.is_floating_point()]
    return torch.float64 if torch.float64 in parameters else torch.float32


def _runnable(network: torch.nn.Module) -> tuple[torch.nn.Module, torch.dtype | None]:
    """The network, or a copy in single precision: in half precision small gradients are zeros."""
    if not any(p.dtype in _HALVES for p in (*network.parameters(), *network.buffers())):
        return network, None
    return copied(network).float(), torch.float32


def _in_precision(batch: Batch, precision: torch.dtype | None) -> Batch:
    def converted(value: Any) -> Any:
        real = torch.is_tensor(value) and value.is_floating_point()
        return value.to(precision) if real and precision is not None else value

    return Batch(
        tuple(converted(v) for v in batch.arguments),
        {key: converted(v) for key, v in batch.keywords.items()},
        converted(batch.target),
    )


def mean_over_examples(
    batches: Iterator[dict[str, torch.Tensor]], of: Any, problem: UnitProblem
) -> dict[str, torch.Tensor]:
    """Mean over all examples, and processes, of a function of the gates' gradients."""
    device = device_of(problem.network)
    totals = {
        name: torch.zeros(group.units, dtype=torch.float64, device=device)
        for name, group in problem.groups.items()
    }
    count = 0
    for gradients in batches:
        count += len(next(iter(gradients.values())))
        for name, total in totals.items():
            total.add_(of(gradients[name]).sum(dim=0))
    everywhere = int(reduce_sum(torch.tensor(count, device=device)))
    return {name: reduce_sum(total) / everywhere for name, total in totals.items()}
