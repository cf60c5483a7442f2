"""What is measured between a network and its pruned copy, one number an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from coresets._validate import check_integer, check_real

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
    """Whether the predicted class, that of the largest output, changes: 0 or 1.

    With more than one prediction an example, as in segmentation, the share of them that change. A
    network with a single output has no classes; write an error of your own for its threshold.

    Parameters
    ----------
    axis : int, optional
        Axis of the classes, not 0. By default the last one, and to be given for outputs of four axes or
        more, which may be images with their channels first.

    Examples
    --------
    >>> import torch
    >>> from nn.certify import ClassChange
    >>> ClassChange()(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]]))
    tensor([1.], dtype=torch.float64)
    """

    axis: int | None = None

    def __post_init__(self) -> None:
        if self.axis is not None and check_integer(self.axis, "axis", at_least=-16) == 0:
            raise ValueError("axis = 0 is that of the examples; pass the axis of the classes, such as 1")

    def __repr__(self) -> str:
        return "ClassChange()" if self.axis is None else f"ClassChange(axis={self.axis})"

    def __call__(self, original: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
        """Errors of all examples, in float64.

        Raises
        ------
        ValueError
            If the axis is not clear or not there, or has fewer than two classes, of which the largest
            would never change.
        """
        axis, axes = -1 if self.axis is None else self.axis, original.dim()
        if self.axis is None and axes > 3:
            raise ValueError(
                f"outputs of shape {tuple(original.shape)} may have their classes along the last axis or "
                "another; pass ClassChange(axis=1) for channels first, or ClassChange(axis=-1)"
            )
        if axes < 2 or not -axes < axis < axes or original.shape[axis] < 2:
            place = "last axis" if axis == -1 else f"axis {axis}"
            raise ValueError(
                f"outputs of shape {tuple(original.shape)} have no two classes along their {place}; measure "
                "OutputDifference(...), or an error of your own"
            )
        changed = original.argmax(dim=axis) != pruned.argmax(dim=axis)
        # A pruned output that is not a number predicts nothing.
        lost = torch.isnan(pruned).any(dim=axis)
        return (changed | lost).double().reshape(original.shape[0], -1).mean(dim=1)
