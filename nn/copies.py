"""Copies of networks: private ones, and such that share the memory of their parameters.

A network may fill most of a machine's memory. What only runs a copy, or replaces whole parameters of it,
needs none of its own for the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch

__all__ = ["copied", "separated", "sharing"]


def copied(
    network: torch.nn.Module, instead: Mapping[torch.nn.Parameter, torch.nn.Parameter] | None = None
) -> torch.nn.Module:
    """A deep copy.

    Parameters
    ----------
    network : torch.nn.Module
        Not changed.
    instead : mapping of Parameter to Parameter, optional
        What the copy has in the place of some parameters, by identity; those are not copied.

    Raises
    ------
    ValueError
        If there cannot be one, as with weights that hooks compute.
    """
    memo: dict[int, Any] = {id(old): new for old, new in (instead or {}).items()}
    try:
        return copy.deepcopy(network, memo)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the network cannot be copied, and pruning never works in place; weights computed by torch.nn."
            f"utils.prune or weight_norm are made plain by their remove functions ({error})"
        ) from error


def sharing(network: torch.nn.Module) -> torch.nn.Module:
    """A copy whose parameters are objects of their own, over the memory of the original ones.

    It may be run in evaluation mode, differentiated, and given other parameters; nothing may be written into
    those that it has. Buffers are copied, since a forward pass may write into them.

    Raises
    ------
    ValueError
        See :func:`copied`.

    Examples
    --------
    >>> import torch
    >>> from nn.copies import sharing
    >>> network = torch.nn.Linear(2, 3)
    >>> other = sharing(network)
    >>> other.weight is network.weight, other.weight.data_ptr() == network.weight.data_ptr()
    (False, True)
    """
    plain = (p for p in network.parameters() if type(p) is torch.nn.Parameter)  # a subclass knows how to copy
    return copied(network, {p: torch.nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in plain})


def separated(network: torch.nn.Module, others: Iterable[torch.Tensor]) -> torch.nn.Module:
    """The network itself, with memory of its own for every parameter that shares that of another tensor.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place; its parameters stay the same objects, so that what is tied stays tied.
    others : iterable of Tensor
        Tensors from which it is to be separate.

    Examples
    --------
    >>> import torch
    >>> from nn.copies import separated, sharing
    >>> network = torch.nn.Linear(2, 3)
    >>> other = separated(sharing(network), network.parameters())
    >>> other.weight.data_ptr() == network.weight.data_ptr(), torch.equal(other.weight, network.weight)
    (False, True)
    """
    taken = {tensor.untyped_storage().data_ptr() for tensor in others}
    for parameter in network.parameters():
        if parameter.untyped_storage().data_ptr() in taken:
            parameter.data = parameter.detach().clone()
    return network
