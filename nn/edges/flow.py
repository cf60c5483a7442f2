"""The flow of a network: the total of all its paths, and every weight's share in it.

With weights replaced by their absolute values and everything else by something positive, the sum R
of the outputs for an input of ones is a sum over paths of products of weights. It is linear in each
weight (up to the routing of max-pooling), so weight times derivative is the part of R that passes
through that weight. Everything is in float64: R is a product over layers and leaves the range of
float32 after some twenty of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nn.edges.gradual import Masks
from nn.layers import EdgeLayer, find_layers

__all__ = ["Flow", "Surrogate"]


@dataclass(frozen=True, eq=False)
class Flow:
    """R and the scores of all weights, at some masks.

    Parameters
    ----------
    total : float
        R; positive exactly if a path from the input to the output is left.
    scores : mapping of str to Tensor
        Of the weights' shapes, in float64, non-negative.
    """

    total: float
    scores: Mapping[str, torch.Tensor]


class Surrogate:
    """The network in which flow is measured: non-negative, linear on non-negative inputs but for pooling."""

    def __init__(self, network: torch.nn.Module, names: Sequence[str], example: torch.Tensor) -> None:
        self._network = copy.deepcopy(network).double().eval()
        self.notes: list[str] = []
        for name, module in list(self._network.named_modules()):
            self._replace(name, module)
        self._layers: Mapping[str, EdgeLayer] = find_layers(self._network, names)
        self._weights: dict[str, Any] = {}
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)
        self._magnitudes: dict[str, torch.Tensor] = {}
        for name, layer in self._layers.items():
            self._weights[name] = layer.module.weight
            self._magnitudes[name] = layer.weight.abs().clone()
            self._weights[name].requires_grad_(True)
        self._example = example
        self._scale_if_needed()

    def _scale_if_needed(self) -> None:
        """Divide every layer by its largest row sum if the flow overflows otherwise."""
        with torch.no_grad():
            output = self._network(self._example)
            if not torch.is_tensor(output) or bool(torch.isfinite(output.sum())):
                return
        for name, layer in self._layers.items():
            sums = layer.matrix(self._magnitudes[name]).sum(dim=-1)
            self._magnitudes[name] /= sums.max().clamp_min(torch.finfo(torch.float64).tiny)
        self.notes.append(
            "the flow overflowed, so that every layer was divided by a constant; where each path crosses "
            "each layer once this changes no ranking"
        )

    def _replace(self, name: str, module: torch.nn.Module) -> None:
        if isinstance(module, torch.nn.MultiheadAttention):
            raise ValueError(
                f"{name!r} is attention, through which no flow is defined; leave it out or use another method"
            )
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
            with torch.no_grad():
                module.weight.abs_()
                if module.bias is not None:
                    module.bias.zero_()
            return
        replacement: torch.nn.Module | None = None
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the common base of all of them
            replacement = _scaling_of(module)
        elif isinstance(module, (torch.nn.LayerNorm, torch.nn.GroupNorm)):
            self.notes.append(f"{name}: normalisation by the data is passed over when flow is measured")
            replacement = torch.nn.Identity()
        elif isinstance(module, _PASSED_OVER):
            replacement = torch.nn.Identity()
        if replacement is not None and name:
            parent, _, own = name.rpartition(".")
            setattr(self._network.get_submodule(parent), own, replacement)

    def flow(self, masks: Masks) -> Flow:
        """R and all scores at some masks.

        Raises
        ------
        ValueError
            If R overflows float64, or is not differentiable in a weight.
        """
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self._magnitudes[name] * masks[name].to(weight.device))
        with torch.enable_grad():
            output = self._network(self._example)
            if not torch.is_tensor(output):
                raise ValueError(
                    f"the network returns a {type(output).__name__}; flow is defined for one tensor"
                )
            total = output.sum()
            if not bool(torch.isfinite(total)):
                raise ValueError("the flow overflows float64 even after every layer was scaled")
            gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
                total, list(self._weights.values()), allow_unused=True
            )
        scores = {
            name: torch.zeros_like(weight) if gradient is None else (gradient * weight).detach()
            for (name, weight), gradient in zip(self._weights.items(), gradients, strict=True)
        }
        return Flow(float(total.detach()), {name: score.clamp_min(0.0) for name, score in scores.items()})


_PASSED_OVER = (
    torch.nn.GELU,
    torch.nn.SiLU,
    torch.nn.ELU,
    torch.nn.SELU,
    torch.nn.Tanh,
    torch.nn.Sigmoid,
    torch.nn.Hardswish,
    torch.nn.Hardsigmoid,
    torch.nn.Hardtanh,
    torch.nn.ReLU6,
    torch.nn.Mish,
    torch.nn.Softplus,
    torch.nn.Softmax,
    torch.nn.LogSoftmax,
    torch.nn.Dropout,
)


class _Scaling(torch.nn.Module):
    """Channels times positive constants."""

    scale: torch.Tensor

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Scale along the second axis."""
        return values * self.scale.reshape(-1, *([1] * (values.dim() - 2)))


def _scaling_of(norm: Any) -> torch.nn.Module:
    """Positive scaling of batch normalisation: |gamma| / sqrt(var + eps), without the shift."""
    variance = (
        torch.ones(norm.num_features, dtype=torch.float64) if norm.running_var is None else norm.running_var
    )
    gamma = torch.ones_like(variance) if norm.weight is None else norm.weight.detach().abs()
    return _Scaling(gamma / torch.sqrt(variance + norm.eps))
