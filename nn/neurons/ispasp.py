"""Units by iterated support selection in the map behind them: i-SpaSP (Wolfe and Kyrillidis 2022).

What is proved of it: IS-A and IS-B with the isometry of the map behind, which IS-A3 checks; decay of the
residual IS-A1, exactness IS-A2, monotony IS-A4; a chain of layers IS-ML.

Departures from the published code: batch normalisation is frozen in the dense and in the pruned branch,
sums are in float64, gradients that fall on padding are dropped, and counts are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from coresets._validate import check_integer
from nn.neurons._isometry import certificate
from nn.neurons._second_map import SecondMap, read_consumers
from nn.neurons._support import pursue
from nn.neurons.unit_scores import ColumnNormalised, UnitScore
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem, check_allocation, keep_best_units, split_units

__all__ = ["ISpaSP", "counts_of", "in_order"]

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class ISpaSP:
    """Keep units whose removal is nominated by the residual of the next map, and decided by their size.

    For each group, front to back behind the groups that are already smaller: nominate twice as many units
    as are to be kept, those with the largest gradients of the squared residual of the second map; of these
    and the ones kept so far keep the largest; repeat. No weight is changed.

    Parameters
    ----------
    score : UnitScore
        How units are measured; :class:`~nn.neurons.SignedSum` is the published form.
    iterations : int
        Most iterations; one that changes nothing is the last.
    allocation : Allocation
        How many in each group: the same share by default. With :class:`~nn.selection.Global` groups compete
        with the sizes of their units, as shares of what the group has in all, in the network as it was; that
        takes another pass over the data for each group.

    Notes
    -----
    The second map is all consumers of the group, each with the batch normalisation directly behind it, in
    evaluation mode. :class:`~nn.guarantees.SummedPursuit` and
    :class:`~nn.guarantees.BlockPursuit` bound the residual where the second map is close enough to an
    isometry; the plan has a certificate for such groups and a note for the others. They bound that of
    :class:`~nn.neurons.TopActivation`, which does not iterate, just as well.

    The data are read once for each group.

    References
    ----------
    Wolfe and Kyrillidis 2022, i-SpaSP: structured neural pruning via sparse signal recovery.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import ISpaSP
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4))
    >>> prune(network, ISpaSP(), KeepRatio(0.5), calibration=[torch.rand(16, 8)]).model[0]
    Linear(in_features=8, out_features=3, bias=True)
    """

    score: UnitScore = field(default_factory=ColumnNormalised)
    iterations: int = 20
    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_score(self.score)
        check_integer(self.iterations, "iterations", at_least=1)
        check_allocation(self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Group by group, in the order in which the network reads them."""
        keep, certificates, notes = {}, {}, []
        for name, count, second in in_order(problem, self):
            supports = pursue(second.sizes, second.importance, count, self.iterations)
            keep[name] = torch.from_numpy(supports[-1])
            found, reason = certificate(second, supports, self.iterations)
            certificates[name] = () if found is None else (found,)
            if reason is not None:
                notes.append(f"{name}: no bound on the residual that says something, because {reason}")
            remove(problem, name, keep[name])
        return UnitDecision(
            {name: keep[name] for name in problem.groups}, group_certificates=certificates, notes=notes
        )


def check_score(score: object) -> None:
    """Raise unless it is a score.

    Raises
    ------
    TypeError
        If so.
    """
    if not isinstance(score, UnitScore) or isinstance(score, type):
        raise TypeError(
            f"score is {score!r}; pass SignedSum(), AbsoluteSum(), RowNorm() or ColumnNormalised()"
        )


class _Scored(Protocol):
    """A method with a score and an allocation."""

    @property
    def score(self) -> UnitScore:
        """How units are measured."""

    @property
    def allocation(self) -> Allocation:
        """How counts are divided among groups."""


def counts_of(problem: UnitProblem, method: _Scored) -> dict[str, int]:
    """Number of units to keep of every group."""
    counts: dict[str, int] = {}
    for share in problem.shares:
        parts = split_units(method.allocation, share, problem.sizes)
        if all(len(part.layers) == 1 for part in parts):
            counts |= {part.layers[0]: part.count for part in parts}
            continue
        sizes = {name: np.abs(_second_map(problem, method, name).sizes) for name in share.layers}
        shares = {name: torch.from_numpy(own / max(float(own.sum()), _TINY)) for name, own in sizes.items()}
        kept = keep_best_units(shares, share, method.allocation)
        counts |= {name: int(keep.sum()) for name, keep in kept.items()}
    return counts


def _second_map(problem: UnitProblem, method: _Scored, name: str) -> SecondMap:
    """The map behind a group of the network as it is now, with what the data say about it."""
    consumers = problem.consumers(name)
    reads = read_consumers(problem.network, consumers, problem.calibration, method.score.collector)
    second = method.score.second_map(reads)
    if not bool(np.all(np.isfinite(second.sizes))):
        raise ValueError(f"activations of {name!r} add up to NaN or infinity; scale the inputs down")
    return second


def in_order(problem: UnitProblem, method: _Scored) -> Iterator[tuple[str, int, SecondMap]]:
    """Every group with its count and second map, whose data have passed what :func:`remove` has left.

    Raises
    ------
    ValueError
        If activations or weights are not finite, so that units cannot be ranked; or there are several
        groups, and data that can be read only once.
    """
    if len(problem.groups) > 1:
        problem.rereadable(method)
    counts = counts_of(problem, method)
    for name in problem.groups:
        yield name, counts[name], _second_map(problem, method, name)


def remove(problem: UnitProblem, name: str, kept: torch.Tensor) -> None:
    """Let the problem's own network read the removed units of a group with weight zero."""
    with torch.no_grad():
        for consumer in problem.consumers(name).values():
            weight: torch.Tensor = consumer.layer.module.weight  # type: ignore[assignment]
            weight.copy_(consumer.rescaled(kept.to(weight.dtype)))
