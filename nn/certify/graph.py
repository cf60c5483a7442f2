"""One walk through two networks of the same shape, with any kind of bound carried along.

A bound on the difference between a network and its pruned copy is carried from layer to layer: what
differs is how the bound looks (a number an activation, an interval) and what each kind of layer does
to it. The walk is the same: the graph of the original network, with the layers of both at hand.
Networks of linear layers, convolutions, batch normalisation, the usual activations, pooling, sums
and concatenations are understood, and reshapes by sizes of activations, as in ``x.view(x.size(0), -1)``;
anything else is refused by name, never passed over.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.fx

from nn.calibration import device_of
from nn.certify._pairs import check_pair, traced
from nn.layers import pad
from nn.masks import bake_in

__all__ = ["Affine", "Domain", "Linear", "in_float64", "walk"]

S = TypeVar("S")

Linear = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine layer as a function of its input, its weight and its bias.

    Parameters
    ----------
    apply : callable
        ``apply(x, weight, bias)``; linear in the weight and the bias, and in x for bias None.
    weight : Tensor
        Weight, in float64.
    bias : Tensor or None
        Bias, in float64.
    """

    apply: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer itself."""
        return self.apply(x, self.weight, self.bias)

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        """The layer without its bias."""
        return self.apply(x, self.weight, None)

    def absolute(self, x: torch.Tensor) -> torch.Tensor:
        """The layer with absolute weights and no bias: what it does to bounds."""
        return self.apply(x, self.weight.abs(), None)

    def minus(self, other: Affine) -> Affine:
        """The difference of two layers of the same kind."""
        bias = None
        if self.bias is not None or other.bias is not None:
            own, others = (
                b if b is not None else torch.zeros_like(_some(self.bias, other.bias))
                for b in (self.bias, other.bias)
            )
            bias = own - others
        return Affine(self.apply, self.weight - other.weight, bias)


def _some(*values: torch.Tensor | None) -> torch.Tensor:
    return next(v for v in values if v is not None)


class Domain(Protocol[S]):
    """How a bound passes each kind of layer; ``before`` and ``after`` are those of the two networks."""

    def affine(self, before: Affine, after: Affine, state: S) -> S:
        """A layer that may differ between the networks."""

    def activation(self, function: Linear, lipschitz: float, monotone: bool, state: S) -> S:
        """An entrywise function that both networks share."""

    def pool(self, function: Linear, state: S) -> S:
        """Max-pooling."""

    def same(self, function: Linear, state: S) -> S:
        """A linear map with non-negative coefficients that both networks share: averages, reshapes."""

    def add(self, states: Sequence[S]) -> S:
        """Sum of several branches."""

    def join(self, function: Callable[[Sequence[torch.Tensor]], torch.Tensor], states: Sequence[S]) -> S:
        """Concatenation of several branches."""

    def shape(self, state: S) -> torch.Size:
        """Shape of the activations that the bound is about."""


# Lipschitz constant, and whether the function is monotone. GELU and SiLU are neither 1-Lipschitz nor
# monotone: their derivatives reach 1.1290 and 1.0999.
_ACTIVATIONS: Mapping[type[torch.nn.Module], tuple[float, bool]] = {
    torch.nn.ReLU: (1.0, True),
    torch.nn.ReLU6: (1.0, True),
    torch.nn.Hardtanh: (1.0, True),
    torch.nn.Tanh: (1.0, True),
    torch.nn.Sigmoid: (0.25, True),
    torch.nn.Softplus: (1.0, True),
    torch.nn.GELU: (1.13, False),
    torch.nn.SiLU: (1.1, False),
}
_FUNCTIONS: Mapping[Any, type[torch.nn.Module]] = {
    torch.relu: torch.nn.ReLU,
    torch.nn.functional.relu: torch.nn.ReLU,
    torch.tanh: torch.nn.Tanh,
    torch.sigmoid: torch.nn.Sigmoid,
    torch.nn.functional.relu6: torch.nn.ReLU6,
    torch.nn.functional.gelu: torch.nn.GELU,
    torch.nn.functional.silu: torch.nn.SiLU,
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
}
# Softplus with its usual settings falls by 2.1e-9, which counts as rounding.
_SMALL_JUMP = 1e-8
_MAX_POOLS = (torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.AdaptiveMaxPool2d)
_MAX_POOL_FUNCTIONS = (
    torch.nn.functional.max_pool1d,
    torch.nn.functional.max_pool2d,
    torch.nn.functional.adaptive_max_pool2d,
)
_SAME = (
    torch.nn.Identity,
    torch.nn.Dropout,
    torch.nn.Dropout2d,
    torch.nn.Flatten,
    torch.nn.Unflatten,
    torch.nn.AvgPool1d,
    torch.nn.AvgPool2d,
    torch.nn.AdaptiveAvgPool1d,
    torch.nn.AdaptiveAvgPool2d,
)
_SAME_FUNCTIONS = (
    torch.flatten,
    torch.reshape,
    torch.mean,
    torch.permute,
    torch.transpose,
    torch.nn.functional.avg_pool2d,
    torch.nn.functional.adaptive_avg_pool2d,
    "flatten",
    "view",
    "reshape",
    "mean",
    "permute",
    "transpose",
    "contiguous",
)
_DROPOUTS = (torch.nn.functional.dropout, torch.nn.functional.dropout2d)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
# What networks compute of the sizes of activations, for a reshape.
_OF_SIZES = (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv)


def walk(original: torch.nn.Module, pruned: torch.nn.Module, domain: Domain[S], start: S) -> S:
    """Carry a bound from the inputs of two networks to their outputs.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        Networks with the same graph, masked or not; neither is changed.
    domain : Domain
        What the bound is and how it passes each layer.
    start : S
        The bound at the input.

    Raises
    ------
    ValueError
        If a graph cannot be traced, the networks differ in more than weights, one has hooks, a value is
        overwritten that is still needed, or an operation is not understood.
    """
    # Inside a container, so that a network that is itself a layer is a layer of the graph.
    before, after = (torch.nn.Sequential(in_float64(network)) for network in (original, pruned))
    after.to(device_of(before))
    graph = traced(before)
    check_pair(before, after, graph)
    for module in before.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - bounds of several nodes may be one tensor
    return _Walk(before, after, domain).run(graph, start)


def in_float64(network: torch.nn.Module) -> torch.nn.Module:
    """A copy in double precision and evaluation mode, with masks baked in and nothing to train."""
    plain = copy.deepcopy(network).double().eval().requires_grad_(False)
    bake_in(plain)
    return plain


def _shown(name: str) -> str:
    """A layer by its own name: the networks are walked inside a sequence of one."""
    return name.removeprefix("0.")


class _Walk(Generic[S]):
    """The state at every node of the graph."""

    def __init__(self, before: torch.nn.Module, after: torch.nn.Module, domain: Domain[S]) -> None:
        self._before, self._after, self._domain = before, after, domain
        self._states: dict[torch.fx.Node, S] = {}
        self._sizes: dict[torch.fx.Node, Any] = {}  # integers, and shapes

    def run(self, graph: torch.fx.Graph, start: S) -> S:
        started = False
        for node in graph.nodes:
            if node.op == "placeholder":
                if started:
                    raise ValueError("the network has several inputs; the bound is defined for one")
                self._states[node], started = start, True
            elif node.op == "output":
                (result,) = node.args
                if not isinstance(result, torch.fx.Node):
                    raise ValueError("the network returns several values; the bound is defined for one")
                return self._of(result, node)
            elif node.op == "call_module":
                self._states[node] = self._module(node)
            elif (size := self._size(node)) is not None:
                self._sizes[node] = size
            else:
                self._states[node] = self._function(node)
        raise ValueError("the network returns nothing")

    def _size(self, node: torch.fx.Node) -> Any:
        """Sizes of activations, and what is computed of them alone; None if the node is neither.

        They depend on the shape of the input and on no value, so that they are the same in both networks.
        """
        target: Any = node.target
        first = node.args[0] if node.args else None
        if isinstance(first, torch.fx.Node) and first in self._states:
            shape = self._domain.shape(self._states[first])
            if target is getattr and node.args[1:] == ("shape",):
                return shape
            if node.op == "call_method" and target == "size":
                dimension = _argument(node, "dim", 1)
                return shape if dimension is None else shape[dimension]
            if node.op == "call_method" and target in ("dim", "ndimension"):
                return len(shape)
        inputs = node.all_input_nodes
        if target in _OF_SIZES and inputs and all(n in self._sizes for n in inputs):
            return target(*self._resolved(node.args))
        return None

    def _resolved(self, values: Any) -> Any:
        """Arguments with sizes in place of the nodes that compute them."""
        return torch.fx.node.map_arg(values, lambda n: self._sizes.get(n, n))

    def _module(self, node: torch.fx.Node) -> S:
        name = str(node.target)
        before, after = self._before.get_submodule(name), self._after.get_submodule(name)
        state = self._state(node)
        layers = _affine(before), _affine(after)
        if layers[0] is not None and layers[1] is not None:
            if layers[0].weight.shape != layers[1].weight.shape:
                raise ValueError(
                    f"layer {_shown(name)!r} has another shape in the pruned network; of a network with "
                    "fewer units pass plan.masked(network), which computes the same in the original shape"
                )
            return self._domain.affine(layers[0], layers[1], state)
        if isinstance(before, _SAME) and getattr(before, "divisor_override", None) is None:
            return self._domain.same(before, state)
        if isinstance(before, _MAX_POOLS):
            return self._domain.pool(before, state)
        return self._activation(before, name, state)

    def _activation(self, module: torch.nn.Module, name: str, state: S) -> S:
        if isinstance(module, torch.nn.LeakyReLU) and abs(module.negative_slope) <= 1.0:
            return self._domain.activation(module, 1.0, module.negative_slope >= 0.0, state)
        if isinstance(module, torch.nn.ELU) and 0.0 <= module.alpha <= 1.0:
            return self._domain.activation(module, 1.0, True, state)
        if isinstance(module, torch.nn.Softplus) and _jump(module) > _SMALL_JUMP:
            raise ValueError(f"{_shown(name)!r} is {module}, which jumps where it turns into the identity")
        for kind, (lipschitz, monotone) in _ACTIVATIONS.items():
            if isinstance(module, kind):
                return self._domain.activation(module, lipschitz, monotone, state)
        raise ValueError(f"{_shown(name)!r} is a {type(module).__name__}, through which no bound is carried")

    def _function(self, node: torch.fx.Node) -> S:
        target: Any = node.target
        nodes = [a for a in node.args if isinstance(a, torch.fx.Node)]
        if target in _SUMS and len(nodes) == 2 and "alpha" not in node.kwargs:
            return self._domain.add([self._of(n, node) for n in nodes])
        if target in (torch.cat, torch.concat) and node.args and isinstance(node.args[0], (list, tuple)):
            parts: Any = node.args[0]
            rest = node.args[1:]
            return self._domain.join(
                lambda tensors: torch.cat(list(tensors), *rest, **node.kwargs),  # type: ignore[arg-type]
                [self._of(n, node) for n in parts],
            )
        state = self._state(node)
        if target in _DROPOUTS and _argument(node, "training", 2) is False:
            return state
        if target in _FUNCTIONS:
            settings = {k: v for k, v in node.kwargs.items() if k not in ("inplace", "input")}
            return self._activation(_FUNCTIONS[target](**settings), str(target), state)
        function = self._bound(node)
        if target in _MAX_POOL_FUNCTIONS:
            return self._domain.pool(function, state)
        if target in _SAME_FUNCTIONS and _argument(node, "divisor_override", 6) is None:
            return self._domain.same(function, state)
        raise ValueError(f"{node.format_node()}: no bound is carried through {target}")

    def _state(self, node: torch.fx.Node) -> S:
        first = node.args[0] if node.args else node.kwargs.get("input")
        if any(n is not first and n not in self._sizes for n in node.all_input_nodes):
            raise ValueError(f"{node.format_node()}: values computed on the way are not followed")
        return self._of(first, node)

    def _of(self, value: Any, user: torch.fx.Node) -> S:
        """The bound on an activation."""
        if not isinstance(value, torch.fx.Node) or value not in self._states:
            raise ValueError(f"{user.format_node()}: {value} is no activation that a bound is known of")
        return self._states[value]

    def _bound(self, node: torch.fx.Node) -> Linear:
        """The node as a function of its first argument."""
        rest = self._resolved(node.args[1:])
        keywords = {k: v for k, v in self._resolved(node.kwargs).items() if node.args or k != "input"}
        target: Any = node.target
        if node.op == "call_method":
            return lambda x: getattr(x, target)(*rest, **keywords)
        return lambda x: target(x, *rest, **keywords)


def _jump(module: torch.nn.Softplus) -> float:
    """By how much it falls where it turns into the identity."""
    return math.log1p(math.exp(-module.threshold)) / module.beta if module.beta > 0.0 else math.inf


def _argument(node: torch.fx.Node, name: str, position: int) -> Any:
    """An argument of a function, None if it is left out."""
    positional = node.args[position] if len(node.args) > position else None
    return node.kwargs.get(name, positional)


def _affine(module: torch.nn.Module) -> Affine | None:
    """The module as an affine layer, None if it is none."""
    layer: Any = module
    if isinstance(module, torch.nn.Linear):
        return Affine(torch.nn.functional.linear, layer.weight, layer.bias)
    if isinstance(module, torch.nn.Conv2d):

        def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            # Padding, by zeros or by copies, is linear with non-negative coefficients.
            padded = pad(layer, x)
            return torch.nn.functional.conv2d(
                padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups
            )

        return Affine(convolve, layer.weight, layer.bias)
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and layer.running_var is not None:  # noqa: SLF001
        scale = torch.rsqrt(layer.running_var + layer.eps)
        scale = scale if layer.weight is None else scale * layer.weight
        shift = -layer.running_mean * scale
        shift = shift if layer.bias is None else shift + layer.bias

        def rescale(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            sizes = (-1, *([1] * (x.dim() - 2)))
            scaled = x * weight.reshape(sizes)
            return scaled if bias is None else scaled + bias.reshape(sizes)

        return Affine(rescale, scale, shift)
    return None
