"""From scores to masks with an exact count.

Thresholds keep too many or too few where scores tie. Here the highest scores are kept by count, in
a stable order: of equal ones the earlier layer, and in it the earlier weight, wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from nn.budgets import Share

__all__ = ["Allocation", "Global", "Uniform", "keep_best", "largest_remainder", "split_alive"]


class Allocation(Protocol):
    """How a count over several layers is divided among them."""

    def split(self, share: Share, sizes: Mapping[str, int]) -> Sequence[Share]:
        """Shares inside which scores compete."""


@dataclass(frozen=True, slots=True)
class Global:
    """All layers compete: one threshold for the whole share."""

    def split(self, share: Share, sizes: Mapping[str, int]) -> Sequence[Share]:
        """The share itself."""
        return (share,)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every layer keeps the same ratio of its weights, rounded so that the count is met."""

    def split(self, share: Share, sizes: Mapping[str, int]) -> Sequence[Share]:
        """One share a layer."""
        counts = largest_remainder(np.array([float(sizes[name]) for name in share.layers]), share.count)
        return tuple(Share((name,), int(count)) for name, count in zip(share.layers, counts, strict=True))


def largest_remainder(weights: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Integers in proportion to ``weights`` that add up to ``count``.

    Parameters
    ----------
    weights : array of shape (n,)
        Non-negative, not all zero.
    count : int
        At least 0.

    Returns
    -------
    array of shape (n,)
        Each within one of its exact share; no more than the weight if ``count`` is at most the sum
        of integral weights.

    Examples
    --------
    >>> import numpy as np
    >>> largest_remainder(np.array([2.0, 1.0, 1.0]), 6)
    array([3, 2, 1])
    """
    exact = weights * (count / weights.sum())
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")  # largest remainder first
    whole[order[: count - int(whole.sum())]] += 1
    return whole


def split_alive(
    allocation: Allocation, share: Share, sizes: Mapping[str, int], alive: Mapping[str, torch.Tensor]
) -> Sequence[Share]:
    """Shares of an allocation, in which nothing is left over for weights that are there no more.

    Parameters
    ----------
    allocation : Allocation
        Divides the count by the sizes of the layers.
    share : Share
        What it divides.
    sizes : mapping of str to int
        Number of weights of every layer.
    alive : mapping of str to Tensor of bool
        Weights that may be kept. Where a part has fewer of them than places, the others take the
        surplus, in proportion to the weights that they would otherwise drop.

    Returns
    -------
    sequence of Share
        Their counts add up to that of ``share``, or to all that is alive if that is less.
    """
    parts = allocation.split(share, sizes)
    room = np.array([sum(int(alive[name].sum()) for name in part.layers) for part in parts])
    counts = np.minimum([part.count for part in parts], room)
    surplus = min(share.count, int(room.sum())) - int(counts.sum())
    if surplus > 0:
        counts = counts + largest_remainder((room - counts).astype(np.float64), surplus)
    return tuple(Share(part.layers, int(count)) for part, count in zip(parts, counts, strict=True))


def keep_best(
    scores: Mapping[str, torch.Tensor], share: Share, alive: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Masks of the ``share.count`` best-scored weights of the share's layers.

    Parameters
    ----------
    scores : mapping of str to Tensor
        Higher is better; of the weights' shapes, on any device.
    share : Share
        Which layers compete, and for how many places.
    alive : mapping of str to Tensor of bool
        Weights that may be kept: those that an earlier pruning has left. If there are fewer of them
        than places, all are kept.

    Returns
    -------
    dict of str to Tensor of bool
        On the devices of the scores.

    Raises
    ------
    ValueError
        If a score is NaN.
    """
    flat, places = [], []
    for name in share.layers:
        values = scores[name].detach().cpu().reshape(-1)
        if bool(torch.isnan(values).any()):
            raise ValueError(f"scores of layer {name!r} are NaN; look for NaN weights or activations in it")
        place = alive[name].cpu().reshape(-1)
        flat.append(values[place])
        places.append(place)
    exact = torch.float64 if any(values.dtype == torch.float64 for values in flat) else torch.float32
    joined = torch.cat([values.to(exact) for values in flat])
    best = torch.zeros(joined.shape, dtype=torch.bool)
    best[_best(joined, min(share.count, joined.numel()))] = True
    kept = {}
    parts = torch.split(best, [values.numel() for values in flat])
    for name, place, part in zip(share.layers, places, parts, strict=True):
        keep = torch.zeros(place.shape, dtype=torch.bool)
        keep[place] = part
        kept[name] = keep.reshape(scores[name].shape).to(scores[name].device)
    return kept


def _best(values: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the largest values, earlier ones first among equals, without a full sort."""
    if count == 0:
        return torch.zeros(0, dtype=torch.int64)
    if count >= values.numel():
        return torch.arange(values.numel())
    place = values.numel() - count
    threshold = float(np.partition(values.numpy(), place)[place])
    above = torch.nonzero(values > threshold).reshape(-1)
    ties = torch.nonzero(values == threshold).reshape(-1)
    return torch.cat([above, ties[: count - above.numel()]])
