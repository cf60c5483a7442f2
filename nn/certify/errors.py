"""What is measured between a network and its pruned copy, one number an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from coresets._validate import check_real

__all__ = ["ClassChange", "OutputDifference", "OutputError"]


@runtime_checkable
class OutputError(Protocol):
    """An error of every example's output; at least 0."""

    def __call__(self, original: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
        """Errors, shape (batch,)."""


@dataclass(frozen=True)
class OutputDifference:
    """Norm of the difference of the outputs.

    Parameters
    ----------
    order : float
        Of the norm: 2, 1, ``math.inf`` or another number of at least 1.
    relative : bool
        Divide by the same norm of the original output; 0 over 0 is 0.

    Examples
    --------
    >>> import torch
    >>> from nn.certify import OutputDifference
    >>> OutputDifference(relative=True)(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.5]]))
    tensor([0.1000], dtype=torch.float64)
    """

    order: float = 2.0
    relative: bool = False

    def __post_init__(self) -> None:
        if self.order != float("inf") and check_real(self.order, "order") < 1.0:
            raise ValueError(f"order = {self.order:g} is below 1, where the norm is none")
        if not isinstance(self.relative, bool):
            raise TypeError(f"relative = {self.relative!r}; pass True or False")

    def __call__(self, original: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
        """Errors of all examples, in float64."""
        before = original.detach().double().reshape(original.shape[0], -1)
        after = pruned.detach().double().reshape(pruned.shape[0], -1)
        difference: torch.Tensor = torch.linalg.vector_norm(after - before, self.order, dim=1)
        if not self.relative:
            return difference
        scale = torch.linalg.vector_norm(before, self.order, dim=1)
        return torch.where(difference == 0.0, difference, difference / scale)


@dataclass(frozen=True)
class ClassChange:
    """Whether the predicted class, the largest output along the last axis, changes: 0 or 1.

    With more than one prediction an example, as in segmentation, the share of them that change. A
    network with a single output has no classes; write an error of your own for its threshold.

    Examples
    --------
    >>> import torch
    >>> from nn.certify import ClassChange
    >>> ClassChange()(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]]))
    tensor([1.], dtype=torch.float64)
    """

    def __call__(self, original: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
        """Errors of all examples, in float64.

        Raises
        ------
        ValueError
            If there are fewer than two classes, of which the largest would never change.
        """
        if original.dim() < 2 or original.shape[-1] < 2:
            raise ValueError(
                f"outputs of shape {tuple(original.shape)} have no two classes along their last axis; "
                "measure OutputDifference(...), or an error of your own"
            )
        changed = original.argmax(dim=-1) != pruned.argmax(dim=-1)
        # A pruned output that is not a number predicts nothing.
        lost = torch.isnan(pruned).any(dim=-1)
        return (changed | lost).double().reshape(original.shape[0], -1).mean(dim=1)
