"""Dead units of a pruned network, taken out without changing what it computes.

Pruning single weights leaves units behind that nobody reads, and units that nothing reaches. The
first kind changes no output, so that its incoming weights and its bias can go. The second kind is a
constant, what its bias becomes on the way: it is added to the biases of the layers that read it,
and their weights for it can go. Each may make further units dead, in both directions. This is the
clean-up that goes with CoreNet, for the outcome of any method.

Where a constant cannot be folded it stays: if the reader has no bias, or pads with zeros next to a
constant that is none, so that its filters see another value at the border. Layers that are called
several times, or share their bias, are left alone. Units whose outputs go
anywhere but through activations, normalisation, pooling and flattening into layers are left alone.

Cost: a forward pass of one batch for each round, and as many rounds as layers at most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from nn.calibration import device_of, evaluating
from nn.certify._pairs import check_faithful, has_hooks, traced
from nn.certify.graph import in_float64
from nn.layers import EdgeLayer, find_layers
from nn.masks import bake_in, put_on
from nn.plans import copied

__all__ = ["CleanUp", "without_dead_units"]


@dataclass(frozen=True, eq=False)
class CleanUp:
    """A network without dead units, and what was taken out.

    Parameters
    ----------
    model : torch.nn.Module
        A copy, masked where the network was; weights that were taken out are masked, too.
    dropped : mapping of str to int
        Nonzero weights taken out, by layer name; layers that lost none are not listed.
    unread, constant : mapping of str to tuple of int
        Units that nobody reads any more, and units that nothing reaches and whose constants were
        folded into at least one reader, by layer name.
    """

    model: torch.nn.Module
    dropped: Mapping[str, int]
    unread: Mapping[str, tuple[int, ...]]
    constant: Mapping[str, tuple[int, ...]]


def without_dead_units(network: torch.nn.Module, example: torch.Tensor) -> CleanUp:
    """A copy of a network that computes the same without its dead units.

    Parameters
    ----------
    network : torch.nn.Module
        Pruned, masked or not; not changed. Its graph must not depend on values.
    example : Tensor
        A batch of inputs, which tells shapes and the values of constants; its own values do not
        matter, but the result is for inputs of this shape, in batches of any size.

    Returns
    -------
    CleanUp
        In evaluation mode its model gives the same outputs for every input for which no activation
        overflows: bit by bit up to the order of summation where no constant was folded, and up to the
        rounding of a bias where one was.

    Raises
    ------
    TypeError
        If ``example`` is no tensor.
    ValueError
        If the example is empty, or the network cannot be copied or traced, has hooks, or computes
        something else than its graph.

    Examples
    --------
    >>> import torch
    >>> from nn.edges.dead_units import without_dead_units
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> _ = network[0].weight.data[0].zero_()  # nothing reaches the first unit
    >>> _ = network[2].weight.data[0, 1].zero_()  # nobody reads the second one
    >>> clean = without_dead_units(network, torch.zeros(1, 2))
    >>> dict(clean.dropped), dict(clean.constant)
    ({'2': 1, '0': 2}, {'0': (0,)})
    >>> x = torch.randn(5, 2)
    >>> torch.allclose(clean.model(x), network(x), atol=1e-6)
    True
    """
    if not torch.is_tensor(example):
        raise TypeError(f"example is a {type(example).__name__}; pass a batch of inputs, a tensor")
    if not example.numel():
        raise ValueError(f"example has shape {tuple(example.shape)}; pass at least one input")
    model = copied(network)
    masks = bake_in(model)
    _refuse_hooks(model)
    example = example.detach().to(device_of(model))
    with evaluating(model), torch.no_grad():
        check_faithful(in_float64(model), example.double() if example.is_floating_point() else example)
        work = _Work(model)
        while work.fold_constants(example) | work.drop_unread():
            pass
    put_on(model, {n: keep & ~work.gone[n] if n in work.gone else keep for n, keep in masks.items()})
    return CleanUp(model, dict(work.dropped), _sorted(work.unread), _sorted(work.constant))


def _refuse_hooks(network: torch.nn.Module) -> None:
    for name, module in network.named_modules():
        if has_hooks(module):
            raise ValueError(
                f"{name!r} has forward hooks, or a forward of its own, which may change what passes; remove "
                "them first"
            )


def _sorted(units: Mapping[str, set[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(sorted(found)) for name, found in units.items() if found}


@dataclass(frozen=True, eq=False)
class _Reader:
    """A layer that reads the units of another one.

    Parameters
    ----------
    layer : EdgeLayer
        The layer.
    node : torch.fx.Node
        Where it is called.
    units : int
        Units of the other layer: its features, or channels.
    """

    layer: EdgeLayer
    node: torch.fx.Node
    units: int

    def place(self, unit: int) -> tuple[slice, tuple[Any, ...]]:
        """The outputs that may read a unit, and where in the weight it is read."""
        weight = self.layer.weight
        if not isinstance(self.layer.module, torch.nn.Conv2d):
            block = weight.shape[1] // self.units
            return slice(None), (slice(None), slice(unit * block, (unit + 1) * block))
        each, outputs = self.units // self.layer.groups, weight.shape[0] // self.layer.groups
        group, own = divmod(unit, each)
        rows = slice(group * outputs, (group + 1) * outputs)
        return rows, (rows, own)

    def reads(self) -> torch.Tensor:
        """For which units it has a nonzero weight, of shape (units,)."""
        nonzero, groups = self.layer.weight != 0, self.layer.groups
        if not isinstance(self.layer.module, torch.nn.Conv2d):
            return nonzero.any(0).reshape(self.units, -1).any(1)
        by_group = nonzero.flatten(2).any(2).reshape(groups, -1, self.units // groups)
        return by_group.any(1).flatten()

    def shift(self, unit: int, inputs: torch.Tensor) -> torch.Tensor | None:
        """What a constant unit adds to each output, in float64; None if that is no constant."""
        module, weight = self.layer.module, self.layer.weight[self.place(unit)[1]]
        if isinstance(module, torch.nn.Conv2d):
            values = inputs[0, unit].double()
            value = float(values.flatten()[0])
            inside = bool((values == value).all()) and (
                value == 0.0 or module.padding_mode != "zeros" or module.padding in {"valid", (0, 0)}
            )
            shift = value * weight.double().flatten(1).sum(1) if inside else None
        else:
            block = weight.shape[1]
            vector = inputs.reshape(-1, inputs.shape[-1])[0, unit * block : (unit + 1) * block]
            shift = weight.double() @ vector.double()
        return shift if shift is not None and bool(torch.isfinite(shift).all()) else None


class _Work:
    """A network that is being cleaned, in place, with its graph."""

    def __init__(self, model: torch.nn.Module) -> None:
        # Inside a container, so that a network that is itself a layer is a layer of the graph.
        self._root = torch.nn.Sequential(model)
        self._graph = traced(self._root)
        called = Counter(node.target for node in self._graph.nodes if node.op == "call_module")
        # Of other layers the weight is used twice, or by something that is no call of the layer.
        read = {str(node.target).rpartition(".")[0] for node in self._graph.nodes if node.op == "get_attr"}
        # A bias that another module has, too, cannot take up a constant for one of them.
        owners = Counter(id(p) for _, p in self._root.named_parameters(remove_duplicate=False))
        self._layers = {
            name: layer
            for name, layer in find_layers(self._root).items()
            if called[name] == 1 and name not in read and owners[id(layer.module.bias)] < 2
        }
        self.gone: dict[str, torch.Tensor] = {}
        self.dropped: dict[str, int] = defaultdict(int)
        self.unread: dict[str, set[int]] = defaultdict(set)
        self.constant: dict[str, set[int]] = defaultdict(set)
        self._seen: _Record | None = None

    def fold_constants(self, example: torch.Tensor) -> bool:
        """Fold units that nothing reaches into the biases of their readers; whether there were any."""
        self._seen = _Record(self._root, self._graph)
        self._seen.run(example.clone())
        changed = False
        for name, readers in self._producers():
            weight = self._layers[name].weight
            silent = ~weight.flatten(1).any(1)
            for reader in readers or ():
                folded = self._fold(reader, torch.nonzero(silent & reader.reads()).flatten().tolist())
                self.constant[_own(name)].update(folded)
                changed = changed or bool(folded)
        return changed

    def _fold(self, reader: _Reader, units: list[int]) -> list[int]:
        """Fold those units that can be; their total is rounded once."""
        assert self._seen is not None
        bias = reader.layer.bias
        total = torch.zeros(
            reader.layer.weight.shape[0], dtype=torch.float64, device=reader.layer.weight.device
        )
        folded = []
        for unit in units:
            shift = reader.shift(unit, self._seen.inputs[reader.node])
            if shift is None or (bias is None and bool(shift.any())):
                continue
            rows, place = reader.place(unit)
            total[rows] += shift
            self._drop(reader.layer, place)
            folded.append(unit)
        if bias is not None:
            bias.copy_((bias.double() + total).to(bias.dtype))
        return folded

    def drop_unread(self) -> bool:
        """Take out what leads to units that nobody reads; whether there was anything."""
        changed = False
        for name, readers in self._producers():
            layer = self._layers[name]
            if not readers:
                continue
            unread = ~torch.stack([reader.reads() for reader in readers]).any(0)
            leading = layer.weight.flatten(1).any(1)
            if layer.bias is not None:
                leading |= layer.bias != 0
            for unit in torch.nonzero(unread & leading).flatten().tolist():
                self._drop(layer, (unit,))
                if layer.bias is not None:
                    layer.bias[unit] = 0.0
                self.unread[_own(name)].add(unit)
                changed = True
        return changed

    def _drop(self, layer: EdgeLayer, place: tuple[Any, ...]) -> None:
        """Set some of a layer's weights to zero, and remember which."""
        name, weight = _own(layer.name), layer.weight[place]  # a view, as all places here give
        if name not in self.gone:
            self.gone[name] = torch.zeros_like(layer.weight, dtype=torch.bool)
        self.gone[name][place] |= weight != 0
        if count := int((weight != 0).sum()):
            self.dropped[name] += count
        weight.zero_()

    def _producers(self) -> Iterator[tuple[str, list[_Reader] | None]]:
        """Layers in the order of the graph, with their readers; None where these are not known."""
        for node in self._graph.nodes:
            if node.op == "call_module" and node.target in self._layers:
                name, axes = str(node.target), len(self._shape(node))
                # Units are the second of four axes, or the last one of two or three.
                image = isinstance(self._layers[name].module, torch.nn.Conv2d)
                usual = axes == 4 if image else axes in {2, 3}
                units = int(self._layers[name].weight.shape[0])
                yield name, self._readers(node, units) if usual else None

    def _readers(self, node: torch.fx.Node, units: int) -> list[_Reader] | None:
        """Layers that read a node; None if something else does."""
        found: list[_Reader] = []
        for user in node.users:
            if _is_size(user):
                continue
            if user.op == "call_module" and user.target in self._layers:
                reader = self._reader(node, user, units)
                own = None if reader is None else [reader]
            else:
                own = self._readers(user, units) if self._keeps_units(node, user) else None
            if own is None:
                return None
            found += own
        return found or None  # an output that nobody uses is none of a layer

    def _reader(self, node: torch.fx.Node, user: torch.fx.Node, units: int) -> _Reader | None:
        layer, shape = self._layers[str(user.target)], self._shape(node)
        if isinstance(layer.module, torch.nn.Conv2d):
            fits = len(shape) == 4 and shape[1] == units
        else:
            fits = len(shape) == 2 or (len(shape) == 3 and shape[2] == units)
            fits = fits and shape[-1] % units == 0
        return _Reader(layer, user, units) if fits else None

    def _keeps_units(self, node: torch.fx.Node, user: torch.fx.Node) -> bool:
        """Whether an operation works on each unit alone."""
        if [n for n in user.all_input_nodes if not _is_size(n)] != [node] or user.op == "output":
            return False
        target: Any = user.target
        kind = type(self._root.get_submodule(str(target))) if user.op == "call_module" else target
        before, after = self._shape(node), self._shape(user)
        if kind in _ENTRYWISE:
            return True
        if kind in _BY_CHANNEL:
            return len(before) in (2, 4) and len(before) == len(after)
        if kind in _MEANS:
            axes = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim")
            both = isinstance(axes, (tuple, list)) and {axis % 4 for axis in axes} == {2, 3}
            return len(before) == 4 and both
        flat = len(before) in (2, 4) and after == (before[0], before[1:].numel())
        return kind in _RESHAPES and flat

    def _shape(self, node: torch.fx.Node) -> torch.Size:
        assert self._seen is not None
        return self._seen.shapes[node]


class _Record(torch.fx.Interpreter):
    """Shapes of all activations, and the inputs of layers, for one batch."""

    def __init__(self, root: torch.nn.Module, graph: torch.fx.Graph) -> None:
        super().__init__(root, garbage_collect_values=True, graph=graph)
        self.shapes: dict[torch.fx.Node, torch.Size] = {}
        self.inputs: dict[torch.fx.Node, torch.Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run a node, with notes."""
        if n.op == "call_module":
            arguments, keywords = self.fetch_args_kwargs_from_env(n)
            first = arguments[0] if arguments else keywords.get("input")
            if torch.is_tensor(first):
                self.inputs[n] = first.clone()  # it may be overwritten later
        result = super().run_node(n)
        self.shapes[n] = result.shape if torch.is_tensor(result) else torch.Size()
        return result


def _own(name: str) -> str:
    """A layer's name in the network, from that in the container around it."""
    return name[2:]


def _is_size(node: torch.fx.Node) -> bool:
    """Whether a node is a shape, which tells nothing of values, or computed of shapes."""
    if node.op == "call_method" and node.target in {"size", "dim"}:
        return True
    if node.target is getattr:
        return node.args[1] == "shape"
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and all(map(_is_size, inputs))


def _with_functions(modules: tuple[Any, ...], names: str) -> frozenset[Any]:
    """Modules, with the functions and methods of these names."""
    owners = (torch, torch.nn.functional)
    functions = [getattr(owner, name) for name in names.split() for owner in owners if hasattr(owner, name)]
    return frozenset((*modules, *functions, *names.split()))


_NN = torch.nn
_ENTRYWISE = _with_functions(
    (
        *(_NN.Identity, _NN.Dropout, _NN.Dropout2d, _NN.ReLU, _NN.ReLU6, _NN.Hardtanh, _NN.Tanh, _NN.Sigmoid),
        *(_NN.Softplus, _NN.GELU, _NN.SiLU, _NN.Mish, _NN.SELU, _NN.ELU, _NN.LeakyReLU, _NN.Hardswish),
    ),
    "relu relu6 hardtanh tanh sigmoid softplus gelu silu mish selu elu leaky_relu hardswish contiguous",
)
# Of four axes, or of two for normalisation: on more, a linear layer's units are not the second one.
_BY_CHANNEL = _with_functions(
    (
        *(_NN.MaxPool2d, _NN.AvgPool2d, _NN.AdaptiveAvgPool2d, _NN.AdaptiveMaxPool2d),
        *(_NN.BatchNorm1d, _NN.BatchNorm2d),
    ),
    "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d",
)
_MEANS = frozenset((torch.mean, "mean"))
_RESHAPES = _with_functions((_NN.Flatten,), "flatten reshape view")
