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

__all__ = ["Allocation", "Global", "Uniform", "keep_best", "largest_remainder"]


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
    flat = []
    for name in share.layers:
        values = scores[name].detach().to(device="cpu", dtype=torch.float64).reshape(-1)
        if bool(torch.isnan(values).any()):
            raise ValueError(f"scores of layer {name!r} are NaN; look for NaN weights or activations in it")
        flat.append(torch.where(alive[name].reshape(-1).cpu(), values, -torch.inf))
    joined = torch.cat(flat)
    places = min(share.count, sum(int(alive[name].sum()) for name in share.layers))
    kept = torch.zeros(joined.shape, dtype=torch.bool)
    kept[_best(joined, places)] = True
    parts = torch.split(kept, [values.numel() for values in flat])
    return {
        name: part.reshape(scores[name].shape).to(scores[name].device)
        for name, part in zip(share.layers, parts, strict=True)
    }


def _best(values: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the largest values, earlier ones first among equals, without a full sort."""
    if count == 0:
        return torch.zeros(0, dtype=torch.int64)
    if count >= values.numel():
        return torch.arange(values.numel())
    threshold = torch.kthvalue(values, values.numel() - count + 1).values
    above = torch.nonzero(values > threshold).reshape(-1)
    ties = torch.nonzero(values == threshold).reshape(-1)
    return torch.cat([above, ties[: count - above.numel()]])
