"""The tensors among what a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nn.calibration import Batch

__all__ = ["check_outputs", "tensors_of"]


def tensors_of(output: Any) -> list[torch.Tensor]:
    """All floating-point tensors of an output, however deep."""
    if torch.is_tensor(output):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return tensors_of(list(output.values()))
    if isinstance(output, (tuple, list)):
        return [tensor for part in output for tensor in tensors_of(part)]
    return tensors_of(list(vars(output).values())) if hasattr(output, "__dataclass_fields__") else []


def check_outputs(network: torch.nn.Module, example: Batch) -> None:
    """Refuse a network whose outputs say nothing.

    Raises
    ------
    ValueError
        If it has no floating-point outputs, or one of them is NaN.
    """
    with torch.no_grad():
        outputs = tensors_of(example.run(network))
    if not outputs:
        raise ValueError(f"{type(network).__name__} has no floating-point tensors among its outputs")
    if any(bool(torch.isnan(output).any()) for output in outputs):
        raise ValueError(f"{type(network).__name__} gives NaN on the first calibration batch")
