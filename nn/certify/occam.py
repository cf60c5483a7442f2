"""A generalisation bound from the length of a description (guarantee C5).

A pruned network is described by what is left of it: for every neuron how many edges it keeps, for
every kept edge its place among those of the neuron and its value in so many bits. The shape of the
network and everything that pruning left alone are taken as known beforehand, so the code must be
fixed before the examples are seen. All that training may have set is counted: biases and other
parameters, and buffers such as the running statistics of normalisation, in full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from coresets._validate import check_integer, check_open_unit, check_probability
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from nn.guarantees.certificates import OccamBound
from nn.layers import find_layers
from nn.masks import bake_in
from nn.plans import copied

__all__ = ["description_bits", "occam"]


def description_bits(network: torch.nn.Module, bits_per_value: int | None = None) -> int:
    """Length of a prefix code for the network's parameters and buffers.

    Parameters
    ----------
    network : torch.nn.Module
        Pruned, masked or not.
    bits_per_value : int, optional
        Bits with which a value is written, if the network has been quantised to so many; those of its
        type by default. What the bits stand for must have been fixed before the examples were seen.

    Returns
    -------
    int
        Over all neurons, the number of bits for the count of edges kept, and for each of them place and
        value; and the value of every other parameter and of every buffer.

    Raises
    ------
    AssumptionError
        If a tensor has more different values than so many bits can tell apart.

    Examples
    --------
    >>> import torch
    >>> from nn.certify import description_bits
    >>> layer = torch.nn.Linear(7, 1, bias=False)
    >>> _ = layer.weight.data[0, 2:].zero_()
    >>> description_bits(layer, 8)  # 3 bits for the count, and twice 3 + 8
    25
    """
    if bits_per_value is not None:
        bits_per_value = check_integer(bits_per_value, "bits_per_value", at_least=1)

    def width(tensor: torch.Tensor) -> int:
        return 8 * tensor.element_size() if bits_per_value is None else bits_per_value

    plain = copied(network)
    bake_in(plain)
    layers = find_layers(plain)
    if bits_per_value is not None:
        _refuse_more_values(plain, bits_per_value, {name: layer.weight for name, layer in layers.items()})
    total = 0
    for layer in layers.values():
        groups, neurons, edges = layer.shape
        place = math.ceil(math.log2(edges)) if edges > 1 else 0
        count = math.ceil(math.log2(edges + 1))
        kept = int((layer.weight != 0).sum())
        total += groups * neurons * count + kept * (place + width(layer.weight))
    coded = {id(layer.module.weight) for layer in layers.values()}
    others = (t for t in (*plain.parameters(), *plain.buffers()) if id(t) not in coded)
    return total + sum(other.numel() * width(other) for other in others)


def _refuse_more_values(network: torch.nn.Module, bits: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise if values cannot have been written with so many bits; zeros of a coded weight are not written."""
    coded = {f"{name}.weight".removeprefix(".") for name in weights}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        different = torch.unique(tensor.detach())
        count = int((different != 0).sum()) if name in coded else different.numel()
        if count > 2**bits:
            raise AssumptionError(
                f"{name!r} has {count} different values, which {bits} bits cannot tell apart; quantise the "
                "network first, or leave bits_per_value away"
            )


def occam(
    network: torch.nn.Module,
    error: float,
    examples: int,
    *,
    bits_per_value: int | None = None,
    delta: float = 0.05,
) -> Certificate:
    """Bound the true error of a pruned network by its error on the training examples.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    error : float
        Share of the examples that it gets wrong, in [0, 1].
    examples : int
        Number of independent examples, which may be those that it was trained and pruned on.
    bits_per_value : int, optional
        See :func:`description_bits`.
    delta : float
        Failure probability over the examples.

    Returns
    -------
    Certificate
        Its value is the bound; 1 or more says nothing, and is the rule unless very little is kept.
    """
    error = check_probability(error, "error")
    delta = check_open_unit(delta, "delta")
    bits = description_bits(network, bits_per_value)
    bound = error + OccamBound().excess(bits, examples, delta)
    vacuous = "; 1 or more says nothing" if bound >= 1.0 else ""
    return Certificate(
        "description length",
        f"with confidence {1.0 - delta:g} over the {examples} examples, the error on fresh ones is at most "
        f"{bound:.4g}{vacuous}",
        value=bound,
        confidence=1.0 - delta,
        details={"bits": float(bits), "error": error, "examples": float(examples)},
    )
