"""Units by iterated support selection in the map behind them: i-SpaSP (Wolfe and Kyrillidis 2022).

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
from nn.selection import Uniform
from nn.units.method import UnitDecision, UnitProblem, split_units

__all__ = ["ISpaSP", "counts_of", "in_order"]


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

    Notes
    -----
    The second map is all consumers of the group, each with the batch normalisation directly behind it, in
    evaluation mode. Counts are the same share of every group of a budget; a
    :class:`~nn.budgets.PerLayer` budget sets them apart. :class:`~nn.guarantees.SummedPursuit` and
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

    def __post_init__(self) -> None:
        check_score(self.score)
        check_integer(self.iterations, "iterations", at_least=1)

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


def counts_of(problem: UnitProblem) -> dict[str, int]:
    """Number of units to keep of every group, the same share of all groups of a budget."""
    return {
        part.layers[0]: part.count
        for share in problem.shares
        for part in split_units(Uniform(), share, problem.sizes)
    }


class _Scored(Protocol):
    """A method with a score."""

    @property
    def score(self) -> UnitScore:
        """How units are measured."""


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
    counts = counts_of(problem)
    for name in problem.groups:
        consumers = problem.consumers(name)
        reads = read_consumers(problem.network, consumers, problem.calibration, method.score.collector)
        second = method.score.second_map(reads)
        if not bool(np.all(np.isfinite(second.sizes))):
            raise ValueError(f"activations of {name!r} add up to NaN or infinity; scale the inputs down")
        yield name, counts[name], second


def remove(problem: UnitProblem, name: str, kept: torch.Tensor) -> None:
    """Let the problem's own network read the removed units of a group with weight zero."""
    with torch.no_grad():
        for consumer in problem.consumers(name).values():
            weight: torch.Tensor = consumer.layer.module.weight  # type: ignore[assignment]
            weight.copy_(consumer.rescaled(kept.to(weight.dtype)))
