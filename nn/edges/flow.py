"""The flow of a network: the total of all its paths, and every weight's share in it.

With weights replaced by their absolute values and everything else by something positive, the sum R
of the outputs for an input of ones is a sum over paths of products of weights. It is linear in each
weight (up to the routing of max-pooling), so weight times derivative is the part of R that passes
through that weight. Everything is in float64: R is a product over layers and leaves the range of
float32 after some twenty of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

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
    """The network in which flow is measured: non-negative, linear on non-negative inputs but for pooling.

    Parameters
    ----------
    network : torch.nn.Module
        Not changed.
    names : sequence of str
        Layers whose weights get scores.
    example : Tensor
        Input of ones, in float64.

    Attributes
    ----------
    notes : list of str
        What was replaced by something that a reader might not expect.
    scales : bool
        Whether twice the input gives twice the flow. If not, something in the network was not made
        linear, and nothing is known about what a cut costs.
    """

    def __init__(self, network: torch.nn.Module, names: Sequence[str], example: torch.Tensor) -> None:
        self._network = copy.deepcopy(network).double().eval()
        self.notes: list[str] = []
        for parameter in self._network.parameters():
            parameter.requires_grad_(False).abs_()
        for name, module in list(self._network.named_modules()):
            self._replace(name, module, example.device)
        self._layers: Mapping[str, EdgeLayer] = find_layers(self._network, names)
        self._weights: dict[str, Any] = {}
        self._magnitudes: dict[str, torch.Tensor] = {}
        for name, layer in self._layers.items():
            self._weights[name] = layer.module.weight
            self._magnitudes[name] = layer.weight.clone()
            self._weights[name].requires_grad_(True)
        self._example = example
        total = self._total(example)
        if not _SMALLEST < total < 1.0 / _SMALLEST:
            self._rescale()
            total = self._total(example)
        self.scales = math.isclose(self._total(2.0 * example), 2.0 * total, rel_tol=1e-9)
        if not self.scales:
            self.notes.append(
                "the flow does not grow in proportion to the input, since products, clamps or normalisations "
                "are left in the network; no cut ratio is certified"
            )

    def _total(self, example: torch.Tensor) -> float:
        with torch.no_grad():
            return float(self._output(example).sum())

    def _output(self, example: torch.Tensor) -> torch.Tensor:
        with _Linearised():
            output = self._network(example)
        if not torch.is_tensor(output):
            raise ValueError(f"the network returns a {type(output).__name__}; flow is defined for one tensor")
        return output

    def _rescale(self) -> None:
        """Divide every layer by its largest row sum."""
        with torch.no_grad():
            for name, layer in self._layers.items():
                sums = layer.matrix(self._magnitudes[name]).sum(dim=-1)
                self._magnitudes[name] /= sums.max().clamp_min(torch.finfo(torch.float64).tiny)
                self._weights[name].copy_(self._magnitudes[name])
        self.notes.append(
            "the flow overflowed or all but vanished, so that every layer was divided by a constant; where "
            "each path crosses each layer once this changes no ranking"
        )

    def _replace(self, name: str, module: torch.nn.Module, device: torch.device) -> None:
        if isinstance(module, torch.nn.MultiheadAttention):
            raise ValueError(f"{name!r} is attention, {_NO_ATTENTION}")
        replacement: torch.nn.Module | None = None
        if isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)):  # noqa: SLF001 - the common base
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, torch.nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
            replacement = _scaling_of(module, device)
        elif isinstance(module, _NORMALISATIONS):
            self.notes.append(f"{name}: normalisation by the data is passed over when flow is measured")
            replacement = torch.nn.Identity()
        elif own := [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]:
            self.notes.append(f"{', '.join(own)}: replaced by absolute values when flow is measured")
        if replacement is not None and name:
            parent, _, own_name = name.rpartition(".")
            setattr(self._network.get_submodule(parent), own_name, replacement)

    def flow(self, masks: Masks) -> Flow:
        """R and all scores at some masks.

        Raises
        ------
        ValueError
            If R overflows float64, or a score is negative since the network subtracts.
        """
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self._magnitudes[name] * masks[name].to(weight.device))
        with torch.enable_grad():
            total = self._output(self._example).sum()
            if not bool(torch.isfinite(total)):
                raise ValueError("the flow overflows float64 even after every layer was scaled")
            gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
                total, list(self._weights.values()), allow_unused=True
            )
        scores = {
            name: torch.zeros_like(weight) if gradient is None else (gradient * weight).detach()
            for (name, weight), gradient in zip(self._weights.items(), gradients, strict=True)
        }
        value = float(total.detach())
        for name, score in scores.items():
            if float(score.min()) < -1e-9 * abs(value):
                raise ValueError(
                    f"flow through layer {name!r} is negative; the network subtracts what it carries"
                )
        return Flow(value, {name: score.clamp_min(0.0) for name, score in scores.items()})


_NO_ATTENTION = "through which no flow is defined; leave it out or use another method"

# Beyond this, or its inverse, flow is brought back into the middle of the range of float64.
_SMALLEST = 1e-250

_NORMALISATIONS = (
    torch.nn.LayerNorm,
    torch.nn.RMSNorm,
    torch.nn.GroupNorm,
    torch.nn.modules.instancenorm._InstanceNorm,  # noqa: SLF001 - the common base of all of them
    torch.nn.LocalResponseNorm,
)

# What modules and networks call; on non-negative values each is the identity, or is replaced by it.
_PASSED_OVER = (
    *("relu6", "gelu", "silu", "elu", "selu", "celu", "mish", "softplus", "hardswish", "prelu", "rrelu"),
    *("tanh", "sigmoid", "logsigmoid", "hardsigmoid", "hardtanh", "softmax", "log_softmax", "softmin"),
    *("layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
)
_IDENTITIES = frozenset(
    getattr(owner, name + ending)
    for owner in (torch, torch.Tensor, torch.nn.functional)
    for name in _PASSED_OVER
    for ending in ("", "_")
    if hasattr(owner, name + ending)
)


class _Linearised(TorchFunctionMode):
    """While it is active, activations return their input, whether they are modules or functions."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = {} if kwargs is None else kwargs
        if func in _IDENTITIES:
            return args[0] if args else keywords["input"]
        if func is torch.nn.functional.scaled_dot_product_attention:
            raise ValueError(f"the network computes attention, {_NO_ATTENTION}")
        return func(*args, **keywords)


class _Scaling(torch.nn.Module):
    """Channels times positive constants."""

    scale: torch.Tensor

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Scale along the second axis."""
        return values * self.scale.reshape(-1, *([1] * (values.dim() - 2)))


def _scaling_of(norm: Any, device: torch.device) -> torch.nn.Module:
    """Positive scaling of batch normalisation: |gamma| / sqrt(var + eps), without the shift."""
    if norm.running_var is None:
        variance = torch.ones(norm.num_features, dtype=torch.float64, device=device)
    else:
        variance = norm.running_var
    gamma = torch.ones_like(variance) if norm.weight is None else norm.weight.detach().abs()
    return _Scaling(gamma / torch.sqrt(variance + norm.eps))
