"""From scores to masks with an exact count.

Thresholds keep too many or too few where scores tie. Here the highest scores are kept by count, in
a stable order: of equal ones the earlier layer, and in it the earlier weight, wins.

How a count is divided among layers is a value: :class:`Global`, :class:`Uniform`, :class:`ERK`,
:class:`LAMP`, or one of your own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from nn.allocation import bounded_shares, rounded
from nn.budgets import Share

__all__ = [
    "ERK",
    "LAMP",
    "Allocation",
    "Global",
    "Uniform",
    "keep_best",
    "lamp_scores",
    "largest_remainder",
    "refuse_ranking",
    "split_alive",
]

Sizes = Mapping[str, int]  # numbers of weights, by layer name
Shapes = Mapping[str, Sequence[int]]  # of the weights as tensors


class Allocation(Protocol):
    """How a count over several layers is divided among them."""

    def split(self, share: Share, sizes: Sizes, shapes: Shapes | None = None) -> Sequence[Share]:
        """Shares inside which scores compete.

        Parameters
        ----------
        share : Share
            What to divide.
        sizes : mapping of str to int
            How many weights, or whatever is counted, every layer has.
        shapes : mapping of str to sequence of int, optional
            Shapes of the weights, where it is weights that are counted.
        """


@dataclass(frozen=True, slots=True)
class Global:
    """All layers compete: one threshold for the whole share."""

    def split(self, share: Share, sizes: Sizes, shapes: Shapes | None = None) -> Sequence[Share]:
        """The share itself."""
        return (share,)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every layer keeps the same ratio of its weights, rounded so that the count is met."""

    def split(self, share: Share, sizes: Sizes, shapes: Shapes | None = None) -> Sequence[Share]:
        """One share a layer."""
        return _one_each(share, largest_remainder(_values(share, sizes), share.count))


@dataclass(frozen=True, slots=True)
class ERK:
    """Densities of layers as in a random graph of Erdos and Renyi, kernel sizes included.

    A layer's density is proportional to the sum of the sides of its weight over their product, so that
    its count is proportional to the sum: c_out + c_in + h + w for a convolution, n_out + n_in for a
    linear layer. Narrow layers stay dense where others thin out. What exceeds a layer's weights goes to
    the others, until no layer exceeds its own; counts are exact.

    References
    ----------
    Evci, Gale, Menick, Castro and Elsen 2020, rigging the lottery; Mocanu et al. 2018 without kernels.

    Examples
    --------
    >>> from nn.budgets import Share
    >>> from nn.selection import ERK
    >>> sizes, shapes = {"wide": 300, "narrow": 20}, {"wide": (30, 10), "narrow": (2, 10)}
    >>> parts = ERK().split(Share(("wide", "narrow"), 70), sizes, shapes)
    >>> [part.count for part in parts]  # in proportion 40 to 12, where uniform keeps 66 and 4
    [54, 16]
    """

    def split(self, share: Share, sizes: Sizes, shapes: Shapes | None = None) -> Sequence[Share]:
        """One share a layer.

        Raises
        ------
        TypeError
            If there are no shapes.
        """
        if shapes is None:
            raise TypeError("ERK() divides weights by the shapes of their layers, and here none are counted")
        sides = _values(share, {name: sum(shapes[name]) for name in share.layers})
        limits = _values(share, sizes)
        count = min(share.count, int(limits.sum()))
        return _one_each(share, rounded(bounded_shares(sides, limits, count), limits, count))


@dataclass(frozen=True, slots=True)
class LAMP:
    """All layers compete, by scores that are normalised within each (layer-adaptive magnitude pruning).

    A score s counts as s^2 over the sum of the squares of its layer's scores that are no smaller: the
    share that it would have if everything below were gone. The largest of each layer has 1, so that no
    layer with a nonzero score collapses before all the others have one weight. The ranking inside a
    layer stays as it is.

    Published for magnitudes; here for any scores that are not negative. Methods that rank no weights,
    such as :class:`~nn.OLSForward`, refuse it.

    References
    ----------
    Lee, Park, Mo, Ahn and Shin 2021, layer-adaptive sparsity for the magnitude-based pruning. As there,
    equal scores are ordered, and only the first of them counts in full.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepCount, Magnitude, prune
    >>> from nn.selection import LAMP
    >>> network = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
    >>> _ = network[2].weight.data.mul_(1e-6)
    >>> [layer.kept > 0 for layer in prune(network, Magnitude(LAMP()), KeepCount(2)).plan.layers.values()]
    [True, True]
    """

    def split(self, share: Share, sizes: Sizes, shapes: Shapes | None = None) -> Sequence[Share]:
        """The share itself, in which normalised scores compete."""
        return (_Normalised(share.layers, share.count),)


@dataclass(frozen=True, slots=True)
class _Normalised(Share):
    """A share whose layers' scores are normalised before they compete."""


def _values(share: Share, numbers: Mapping[str, int]) -> npt.NDArray[np.float64]:
    return np.array([float(numbers[name]) for name in share.layers])


def _one_each(share: Share, counts: npt.NDArray[np.int64]) -> Sequence[Share]:
    return tuple(Share((name,), int(count)) for name, count in zip(share.layers, counts, strict=True))


def refuse_ranking(allocation: Allocation, method: object) -> None:
    """Refuse an allocation that compares scores, on behalf of a method that ranks no weights.

    Raises
    ------
    TypeError
        If it is one.
    """
    if isinstance(allocation, LAMP):
        raise TypeError(
            f"{allocation!r} compares scores of weights, and {type(method).__name__} divides its count "
            "without any; pass Global(), Uniform() or ERK()"
        )


def lamp_scores(scores: torch.Tensor) -> torch.Tensor:
    """Logarithms of the normalised scores of one layer; see :class:`LAMP`.

    Parameters
    ----------
    scores : Tensor of shape (n,)
        Non-negative.

    Returns
    -------
    Tensor of shape (n,)
        In float64; minus infinity for a score of zero.

    Raises
    ------
    ValueError
        If a score is negative or infinite.

    Examples
    --------
    >>> import torch
    >>> from nn.selection import lamp_scores
    >>> lamp_scores(torch.tensor([3.0, 4.0, 0.0])).exp()
    tensor([0.3600, 1.0000, 0.0000], dtype=torch.float64)
    """
    values = scores.double()
    if not bool(((values >= 0.0) & torch.isfinite(values)).all()):
        raise ValueError(
            "LAMP() squares scores, and some are negative or infinite; pass another allocation, such as "
            "Global()"
        )
    ordered, order = torch.sort(values, descending=True, stable=True)
    if not len(ordered) or not bool(ordered[0] > 0.0):
        return torch.full_like(values, -torch.inf)
    # In logarithms, in which no square of a small score vanishes and with it the order of the layer.
    tails = torch.cumsum((ordered / ordered[0]) ** 2, 0)
    logarithms = 2.0 * (torch.log(ordered) - torch.log(ordered[0])) - torch.log(tails)
    return torch.empty_like(values).scatter_(0, order, logarithms)


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
    shapes = {name: tuple(alive[name].shape) for name in share.layers}
    parts = allocation.split(share, sizes, shapes)
    room = np.array([sum(int(alive[name].sum()) for name in part.layers) for part in parts])
    counts = np.minimum([part.count for part in parts], room)
    surplus = min(share.count, int(room.sum())) - int(counts.sum())
    if surplus > 0:
        counts = counts + largest_remainder((room - counts).astype(np.float64), surplus)
    return tuple(replace(part, count=int(count)) for part, count in zip(parts, counts, strict=True))


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
        flat.append(lamp_scores(values[place]) if isinstance(share, _Normalised) else values[place])
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
