"""A plan is tried out before it is returned: the smaller network has to compute what the masked one does.

Which layers depend on one another is read off a trace, and a trace does not show everything: sizes written
into a forward pass, scales that depend on a width, positions behind a reshape. Whether a recipe is right does
not depend on the weights, so the trial moves all of them at random: a head that starts at zero, a dead ReLU
or equal weights would otherwise hide a fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nn.calibration import Batch
from nn.copies import copied, sharing
from nn.units._dependencies import MIXING_NORMS
from nn.units._outputs import tensors_of
from nn.units.plans import UnitPlan
from nn.units.surgery import Recipe, carry_out, recipe_of, silence
from nn.units.topology import UnitGroup

__all__ = ["try_out"]

_HALF = (torch.float16, torch.bfloat16)
_DRAWS = 3  # of weights: with a single one a narrow layer of ReLUs may be dead on all examples
_Stage = tuple[torch.nn.Module, Batch]


@dataclass(frozen=True, eq=False)
class _Fault:
    """What came of a trial; ``error`` if the smaller network did not even run."""

    error: Exception | None = None


def try_out(
    plan: UnitPlan, groups: Mapping[str, UnitGroup], network: torch.nn.Module, example: Batch
) -> torch.nn.Module:
    """The smaller network, once a copy with other weights has shown that it computes what it should.

    Only to be run: what stays whole shares its memory with the network.

    Raises
    ------
    ValueError
        If it cannot be made, does not run, or computes something else; the groups at fault are named.
    """
    shrinking = [name for name, group in plan.groups.items() if group.kept < group.total]
    if shrinking:
        fault = _fault(plan.recipe, network, example)
        if fault is not None:
            alone = {
                name: _fault(_recipe_alone(plan, groups, name, network), network, example)
                for name in shrinking
            }
            blamed = {name: own for name, own in alone.items() if own is not None}
            raise _refusal(network, blamed or dict.fromkeys(shrinking, fault))
    smaller = plan.preview(network)
    try:
        with torch.no_grad():
            example.run(smaller)
    except Exception as error:  # whatever a forward pass may raise
        raise _refusal(network, dict.fromkeys(shrinking, _Fault(error))) from error
    return smaller


def _recipe_alone(
    plan: UnitPlan, groups: Mapping[str, UnitGroup], name: str, network: torch.nn.Module
) -> Recipe:
    """The recipe of one group of a plan."""
    return recipe_of({name: groups[name]}, {name: plan.groups[name].keep}, network)


def _refusal(network: torch.nn.Module, blamed: Mapping[str, _Fault]) -> ValueError:
    names = ", ".join(map(repr, blamed))
    error = next((fault.error for fault in blamed.values() if fault.error is not None), None)
    remedy = (
        "Attention heads must be named, as blocks={layer: width of a head}; leave other groups out with "
        "PerLayer({...: Dense()})"
    )
    if error is None:
        return ValueError(
            f"{type(network).__name__} computes something else without the units of {names} than with their "
            f"weights at zero: its layers depend on one another in a way that tracing does not show. {remedy}"
        )
    return ValueError(
        f"{type(network).__name__} does not run without the units of {names}: {type(error).__name__}: {error}"
        f". Its forward pass may rely on fixed sizes. {remedy}"
    )


def _stage(network: torch.nn.Module, example: Batch, generator: torch.Generator) -> _Stage | None:
    """A copy with other weights, and data in its precision: at least single precision where that runs.

    None if it does not run, or gives numbers that are not finite.
    """
    found = None
    if any(parameter.dtype in _HALF for parameter in network.parameters()):
        found = _sound((_shaken(network, generator).float(), _single(example)))
    return found or _sound((_shaken(network, generator), example))


def _sound(stage: _Stage) -> _Stage | None:
    """The stage itself, if it runs and its outputs are finite."""
    try:
        with torch.no_grad():
            outputs = tensors_of(stage[1].run(stage[0]))
    except Exception:
        return None
    return stage if all(bool(output.isfinite().all()) for output in outputs) else None


def _single(example: Batch) -> Batch:
    def single(value: Any) -> Any:
        return value.float() if torch.is_tensor(value) and value.dtype in _HALF else value

    return Batch(
        tuple(map(single, example.arguments)), {key: single(value) for key, value in example.keywords.items()}
    )


def _shaken(network: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """A copy with noise on all parameters, of the size that weights have at a usual start."""

    def noisy(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
        size = 0.5 / math.sqrt(math.prod(parameter.shape[1:])) if parameter.dim() > 1 else 0.1
        noise = torch.randn(parameter.shape, generator=generator).mul_(size)
        noise = noise.to(parameter.device, parameter.dtype).add_(parameter.detach())
        return torch.nn.Parameter(noise, requires_grad=parameter.requires_grad)

    return copied(network, {p: noisy(p) for p in network.parameters() if p.is_floating_point()})


def _unmixed(network: torch.nn.Module) -> torch.nn.Module:
    """The network, whose normalisations over units now act on each alone, by a bounded function.

    So that masking and removing are the same there, too.
    """

    def alone(module: Any, arguments: tuple[torch.Tensor, ...], _: Any) -> torch.Tensor:
        squashed = torch.tanh(arguments[0])
        shape = (-1,) + (1,) * (squashed.dim() - 2) if isinstance(module, torch.nn.GroupNorm) else (-1,)
        if module.weight is not None and module.weight.dim() == 1:
            squashed = squashed * module.weight.reshape(shape)
        if getattr(module, "bias", None) is not None and module.bias.dim() == 1:
            squashed = squashed + module.bias.reshape(shape)
        return squashed

    for module in network.modules():
        if isinstance(module, MIXING_NORMS):
            module.register_forward_hook(alone)
    return network


def _fault(recipe: Recipe, network: torch.nn.Module, example: Batch) -> _Fault | None:
    """What is wrong with a recipe, if anything is; there is one copy for the trial at a time."""
    plain = _unmixed(sharing(network))
    generator = torch.Generator().manual_seed(0)
    tried = False
    for _ in range(_DRAWS):
        stage = _stage(plain, example, generator)
        if stage is not None:
            tried = True
            fault = _fault_on(recipe, *stage)
            if fault is not None:
                return fault
        del stage  # before the next one is made
    return None if tried else _fault_on(recipe, copied(plain), example)


def _fault_on(recipe: Recipe, network: torch.nn.Module, example: Batch) -> _Fault | None:
    """What is wrong with a recipe, if anything is; weights that read what is removed become zeros."""
    with torch.no_grad():
        whole = tensors_of(example.run(network))
        silence(recipe, network)
        expected = tensors_of(example.run(network))
        smaller = sharing(network)
        try:
            carry_out(recipe, smaller)
            after = tensors_of(example.run(smaller))
        except Exception as error:
            return _Fault(error)
    if len(after) != len(expected):
        return _Fault()
    for one, other, dense in zip(after, expected, whole, strict=True):
        if one.shape != other.shape:
            return _Fault()
        # Only the order of summation differs: half the digits are far more than rounding takes.
        scale = (
            float(torch.stack([other, dense]).nan_to_num(0.0, 0.0, 0.0).abs().max()) if one.numel() else 0.0
        )
        near = (one - other).abs() <= torch.finfo(other.dtype).eps ** 0.5 * scale
        if not bool((near | (one == other)).all()):
            return _Fault()
    return None
