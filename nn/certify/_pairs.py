"""Whether a bound may be carried through two networks at once: what the walk takes for granted.

The walk follows the graph of the original network and takes only the weights of the other one. That
is right if both do the same with their weights, nothing happens that the graph does not show, and no
value is overwritten while it is still needed. Each is checked here and refused by name.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx

__all__ = ["check_faithful", "check_pair", "has_hooks", "traced"]

# Settings that change nothing in evaluation mode, where results are not written over their inputs.
_INERT = ("inplace", "p")
# What these return may be their input itself, or share its memory.
_VIEWS = (torch.nn.Identity, torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.Flatten, torch.nn.Unflatten)
_VIEW_FUNCTIONS = (
    torch.flatten,
    torch.reshape,
    torch.permute,
    torch.transpose,
    torch.nn.functional.dropout,
    torch.nn.functional.dropout2d,
    "flatten",
    "view",
    "reshape",
    "permute",
    "transpose",
    "contiguous",
)

# Functions whose second argument, if it is given by position, asks for the result in place.
_INPLACE_SECOND = (torch.nn.functional.relu, torch.nn.functional.relu6, torch.nn.functional.silu)


def traced(network: torch.nn.Module) -> torch.fx.Graph:
    """The graph of a network.

    Raises
    ------
    ValueError
        If it has none, since what it does depends on the values, say.
    """
    try:
        return torch.fx.symbolic_trace(network).graph
    except Exception as error:  # tracing runs the network's own code, which may raise anything
        raise ValueError(f"the network cannot be traced ({error}); use a held-out certificate") from error


def check_pair(before: torch.nn.Module, after: torch.nn.Module, graph: torch.fx.Graph) -> None:
    """Refuse two networks through which no bound can be carried together.

    Parameters
    ----------
    before, after : torch.nn.Module
        The networks, without masks.
    graph : torch.fx.Graph
        That of ``before``.

    Raises
    ------
    ValueError
        If they differ in more than weights, have hooks, or overwrite a value that is used later.
    """
    for network in (before, after):
        _refuse_hooks(network)
    _refuse_other_graph(graph, traced(after))
    for node in graph.nodes:
        if node.op == "call_module":
            name = str(node.target)
            _refuse_other_settings(name, before.get_submodule(name), after.get_submodule(name))
    _refuse_overwritten(before, graph)


def check_faithful(network: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Refuse a network that computes something else on some inputs than its graph says.

    Tracing does not see everything: ``x += y`` is recorded as a sum that leaves ``x`` as it was.

    Parameters
    ----------
    network : torch.nn.Module
        In float64 and evaluation mode.
    inputs : Tensor
        A batch in float64; not changed.

    Raises
    ------
    ValueError
        If the results differ.
    """
    graph = torch.fx.GraphModule(network, traced(network))
    with torch.no_grad():
        # Copies, since a network may overwrite its input.
        own, shown = network(inputs.clone()), graph(inputs.clone())
    # What is no tensor is refused by the walk.
    if torch.is_tensor(own) and not torch.allclose(own, shown, rtol=1e-9, atol=1e-9, equal_nan=True):
        raise ValueError(
            "the network computes something else than its graph; look for values that are overwritten in "
            "place, or use a held-out certificate"
        )


def _refuse_hooks(network: torch.nn.Module) -> None:
    for name, module in network.named_modules():
        if has_hooks(module):
            raise ValueError(
                f"{name.removeprefix('0.')!r} has forward hooks, or a forward of its own, which may change "
                "what passes; remove them from a copy of the network"
            )


def has_hooks(module: torch.nn.Module) -> bool:
    """Whether a module may compute something else than its class: by hooks, or a ``forward`` of its own."""
    hooks = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001 - there is no public way to ask
    return bool(hooks) or "forward" in vars(module)


def _refuse_other_graph(graph: torch.fx.Graph, other: torch.fx.Graph) -> None:
    nodes, others = list(graph.nodes), list(other.nodes)
    for mine, its in zip(nodes, others, strict=False):
        if _content(mine) != _content(its):
            raise ValueError(
                f"the networks do different things: {mine.format_node()} in one, {its.format_node()} in the "
                "other"
            )
    if len(nodes) != len(others):
        raise ValueError(f"one network takes {len(nodes)} steps, the other {len(others)}")


def _content(node: torch.fx.Node) -> tuple[Any, ...]:
    """What a node does, comparable between graphs: arguments that are nodes print as their names."""
    return node.op, node.target, repr(node.args), repr(node.kwargs)


def _refuse_other_settings(name: str, before: torch.nn.Module, after: torch.nn.Module) -> None:
    normalisation = torch.nn.modules.batchnorm._BatchNorm  # noqa: SLF001 - the common base of all of them
    if isinstance(before, normalisation) and isinstance(after, normalisation):
        return  # all settings are folded into its weights
    if type(before) is not type(after) or _settings(before) != _settings(after):
        raise ValueError(f"{name.removeprefix('0.')!r} is {before} in one network and {after} in the other")


def _settings(module: Any) -> dict[str, Any]:
    sizes = ("in_features", "out_features", "in_channels", "out_channels")  # the walk compares shapes itself
    names = [n for n in getattr(module, "__constants__", ()) if n not in (*_INERT, *sizes)]
    return {name: getattr(module, name, None) for name in names}


def _refuse_overwritten(network: torch.nn.Module, graph: torch.fx.Graph) -> None:
    """Raise if a value is used after an in-place operation has replaced it."""
    place = {node: position for position, node in enumerate(graph.nodes)}
    memory: dict[torch.fx.Node, torch.fx.Node] = {}  # the node whose result a node may share memory with
    for node in graph.nodes:
        inputs = node.all_input_nodes
        shares = inputs and (_overwrites(network, node) or _is_view(network, node))
        memory[node] = memory[inputs[0]] if shares else node
    for node in graph.nodes:
        if node.kwargs.get("out") is not None:
            raise ValueError(f"{node.format_node()} writes over {node.kwargs['out']}; leave out=... away")
    for node in filter(lambda n: _overwrites(network, n), graph.nodes):
        for other in graph.nodes:
            for value in other.all_input_nodes:
                stale = memory[value] is memory[node] and place[value] < place[node] < place[other]
                if stale:
                    raise ValueError(
                        f"{node.format_node()} overwrites its input, which {other.format_node()} uses later; "
                        "use the operation that is not in place"
                    )


def _overwrites(network: torch.nn.Module, node: torch.fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    positional = node.target in _INPLACE_SECOND and len(node.args) > 1 and bool(node.args[1])
    return node.op == "call_function" and (positional or bool(node.kwargs.get("inplace", False)))


def _is_view(network: torch.nn.Module, node: torch.fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), _VIEWS)
    return node.target in _VIEW_FUNCTIONS
