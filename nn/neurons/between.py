"""What lies between the layer that makes units and the layers that read them.

A statement about sums of neurons w(p) phi(p.x) needs to know phi, and that nothing else happens on the
way: batch normalisation in evaluation mode is an affine map, so it is folded into the rows p; dropout
and reshapes do nothing; averages, with coefficients that add up to at most 1, keep every bound on the
sums. Max-pooling does not: the largest of several sums is not the sum of the largest terms, so the
terms are no longer functions of one inner product each. What it keeps is a bound on each term, and with it
the triangle inequality. Whatever is not understood is named, and nothing is claimed about the group;
methods still run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn import functional

from nn.certify._pairs import traced
from nn.units.topology import UnitGroup

__all__ = ["Activation", "Between", "between"]


@dataclass(frozen=True, slots=True)
class Activation:
    """An entrywise function.

    Parameters
    ----------
    name : str
        As torch calls it; ``"Identity"`` if there is none.
    lipschitz : float
        A Lipschitz constant.
    at_zero : float
        phi(0).
    slope : float or None
        If phi(z) = z for z >= 0 and slope z below, with a slope in [-1, 1], that slope.
    """

    name: str
    lipschitz: float
    at_zero: float = 0.0
    slope: float | None = None


@dataclass(frozen=True, eq=False)
class Between:
    """How the outputs of a producer reach the consumers of its units.

    Parameters
    ----------
    activation : Activation or None
        phi; None where nothing is claimed.
    scale, shift : Tensor of float64, shape (outputs,), or None
        Folded batch normalisation: phi is applied to scale (p.x + b) + shift. None for no normalisation.
    averaged : bool
        Whether averages are taken on the way.
    reason : str
        Why nothing is claimed; empty if phi is known.
    pooled : str
        The max-pooling on the way, in words; empty if there is none. Each term is then some phi(p.x) of a
        window of inputs x, or an average of such terms.
    """

    activation: Activation | None
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    averaged: bool = False
    reason: str = ""
    pooled: str = ""

    @property
    def not_a_sum(self) -> str:
        """Why consumers read no sum of functions of one inner product each; empty if they do."""
        return self.reason or self.pooled


# Derivatives of GELU and SiLU reach 1.1290 and 1.0999.
_LIPSCHITZ: Mapping[type[nn.Module], float] = {
    nn.ReLU: 1.0,
    nn.ReLU6: 1.0,
    nn.Hardtanh: 1.0,
    nn.Tanh: 1.0,
    nn.Sigmoid: 0.25,
    nn.GELU: 1.13,
    nn.SiLU: 1.1,
}
_FUNCTIONS: Mapping[Any, type[nn.Module]] = {
    torch.relu: nn.ReLU,
    functional.relu: nn.ReLU,
    functional.relu6: nn.ReLU6,
    functional.leaky_relu: nn.LeakyReLU,
    torch.tanh: nn.Tanh,
    functional.tanh: nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
    functional.sigmoid: nn.Sigmoid,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_RESHAPES = (nn.Flatten, nn.Unflatten)
_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
# Concatenated with others, the units are still read by columns of their own.
_RESHAPE_FUNCTIONS = (torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.cat, torch.concat)
_RESHAPE_METHODS = ("flatten", "view", "reshape", "permute", "transpose", "contiguous")
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
_MAX_POOL_FUNCTIONS = (functional.max_pool1d, functional.max_pool2d, functional.adaptive_max_pool2d)
_AVERAGE_FUNCTIONS = (torch.mean, functional.avg_pool2d, functional.adaptive_avg_pool2d)
_DROPOUTS = (functional.dropout, functional.dropout2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def between(network: nn.Module, groups: Mapping[str, UnitGroup]) -> dict[str, Between]:
    """Find out for every group what happens between its producer and its consumers.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    groups : mapping of str to UnitGroup
        Its groups, by name.

    Returns
    -------
    dict of str to Between
        By group.

    Examples
    --------
    >>> import torch
    >>> from nn.calibration import split_batch
    >>> from nn.neurons.between import between
    >>> from nn.units.topology import find_groups
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2)).eval()
    >>> between(network, find_groups(network, split_batch(torch.rand(2, 3))).groups)["0"].activation
    Activation(name='GELU', lipschitz=1.13, at_zero=0.0, slope=None)
    """
    try:
        graph = traced(network)
    except ValueError:
        reason = "the network cannot be traced"
        return dict.fromkeys(groups, Between(None, reason=reason))
    return {name: _between(network, graph, group) for name, group in groups.items()}


class _UnclearError(Exception):
    """Nothing can be claimed, for the reason given."""


def _between(network: nn.Module, graph: torch.fx.Graph, group: UnitGroup) -> Between:
    try:
        return _Path(network, graph, group).followed()
    except _UnclearError as why:
        return Between(None, reason=str(why))


class _Path:
    """One group's way through the graph."""

    def __init__(self, network: nn.Module, graph: torch.fx.Graph, group: UnitGroup) -> None:
        self._network, self._graph, self._group = network, graph, group
        self._norm: tuple[torch.Tensor, torch.Tensor] | None = None
        self._reached: set[str] = set()
        self._averaged = False
        self._pooled = ""

    def followed(self) -> Between:
        """The answer."""
        group = self._group
        if len(group.producers) != 1:
            raise _UnclearError("several layers make its units")
        (producer,) = group.producers
        module = self._network.get_submodule(producer.name)
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            raise _UnclearError(f"{producer.name!r} is a {type(module).__name__}")
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            raise _UnclearError("its units see different inputs in a grouped convolution")
        if producer.positions.shape[1] != 1:
            raise _UnclearError("its units are blocks of several outputs")
        node, activation = self._activation(self._call(producer.name))
        self._spread(node)
        missing = {place.name for place in group.consumers} - self._reached
        if missing:
            raise _UnclearError(f"the way to {', '.join(sorted(missing))} is not understood")
        scale, shift = self._norm or (None, None)
        return Between(activation, scale, shift, self._averaged, pooled=self._pooled)

    def _call(self, name: str) -> torch.fx.Node:
        calls = [n for n in self._graph.nodes if n.op == "call_module" and n.target == name]
        if len(calls) != 1:
            raise _UnclearError(f"{name!r} runs {len(calls)} times")
        return calls[0]

    def _module(self, node: torch.fx.Node) -> nn.Module | None:
        return self._network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _activation(self, node: torch.fx.Node) -> tuple[torch.fx.Node, Activation]:
        """The node of the activation, with batch normalisation before it noted down."""
        while True:
            users = [n for n in node.users if not _of_sizes(n)]
            if len(users) != 1 or self._is_consumer(users[0]):
                return node, Activation("Identity", 1.0, 0.0, 1.0)  # read as it is
            (user,) = users
            module = self._module(user)
            if isinstance(module, _NORMS) and self._norm is None:
                self._norm = _folded(module)
            elif isinstance(module, _NOTHING) or _is_dropout(user):
                pass
            elif (function := _function(user, module)) is not None:
                return user, function
            else:
                return node, Activation("Identity", 1.0, 0.0, 1.0)
            node = user

    def _is_consumer(self, node: torch.fx.Node) -> bool:
        return node.op == "call_module" and any(place.name == node.target for place in self._group.consumers)

    def _spread(self, node: torch.fx.Node) -> None:
        """Follow activations to the consumers."""
        for user in node.users:
            if _of_sizes(user):
                continue
            module = self._module(user)
            if self._is_consumer(user):
                self._call(str(user.target))
                self._reached.add(str(user.target))
            elif isinstance(module, (*_NOTHING, *_RESHAPES)) or _is_dropout(user) or _reshapes(user):
                self._spread(user)
            elif _averages(user, module):
                self._averaged = True
                self._spread(user)
            elif _takes_maxima(user, module):
                self._pooled = self._pooled or f"{_words(user, module)} stands between it and its readers"
                self._spread(user)
            else:
                raise _UnclearError(f"{_words(user, module)} stands between it and its readers")


def _words(node: torch.fx.Node, module: nn.Module | None) -> str:
    if isinstance(module, _MAX_POOLS) or node.target in _MAX_POOL_FUNCTIONS:
        return f"max-pooling, {node.target!r}, which does not commute with sums,"
    return f"{node.target!r}" if module is None else f"{node.target!r}, a {type(module).__name__},"


def _folded(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    norm: Any = module
    if norm.running_var is None or norm.running_mean is None:
        raise _UnclearError("its batch normalisation keeps no statistics")
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def _function(node: torch.fx.Node, module: nn.Module | None) -> Activation | None:
    """The activation that a node applies, if it is one."""
    if module is None:
        kind = _FUNCTIONS.get(node.target)
        if kind is None or len(node.args) > 1:
            return None
        settings = {key: value for key, value in node.kwargs.items() if key not in ("inplace", "input")}
        module = kind(**settings)
    if isinstance(module, nn.LeakyReLU):
        slope = float(module.negative_slope)
        return Activation("LeakyReLU", max(1.0, abs(slope)), 0.0, slope if abs(slope) <= 1.0 else None)
    if isinstance(module, nn.ELU) and 0.0 <= module.alpha <= 1.0:
        return Activation("ELU", 1.0)
    for known, lipschitz in _LIPSCHITZ.items():
        if isinstance(module, known):
            at_zero = float(module(torch.zeros(1, dtype=torch.float64)))
            return Activation(known.__name__, lipschitz, at_zero, 0.0 if known is nn.ReLU else None)
    return None


def _of_sizes(node: torch.fx.Node) -> bool:
    """Whether a node asks for nothing but sizes."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "ndimension")
    return node.target is getattr and node.args[1:] == ("shape",)


def _is_dropout(node: torch.fx.Node) -> bool:
    training = node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True)
    return node.op == "call_function" and node.target in _DROPOUTS and training is False


def _reshapes(node: torch.fx.Node) -> bool:
    return (node.op == "call_method" and node.target in _RESHAPE_METHODS) or (
        node.op == "call_function" and node.target in _RESHAPE_FUNCTIONS
    )


def _takes_maxima(node: torch.fx.Node, module: nn.Module | None) -> bool:
    """Whether a node takes maxima over windows, each of which has an entry of the map itself.

    With a dilation there may be none, and the maximum would be minus infinity.
    """
    if isinstance(module, _MAX_POOLS):
        return getattr(module, "dilation", 1) in (1, (1,), (1, 1)) and not module.return_indices
    plain = len(node.args) <= 4 and not {"dilation", "return_indices"} & set(node.kwargs)
    return node.op == "call_function" and node.target in _MAX_POOL_FUNCTIONS and plain


def _averages(node: torch.fx.Node, module: nn.Module | None) -> bool:
    if isinstance(module, _AVERAGES):
        return getattr(module, "divisor_override", None) is None
    divisor = node.kwargs.get("divisor_override", node.args[6] if len(node.args) > 6 else None)
    called = node.op == "call_function" and node.target in _AVERAGE_FUNCTIONS
    return divisor is None and (called or (node.op == "call_method" and node.target == "mean"))
