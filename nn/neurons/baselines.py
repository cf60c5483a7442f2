"""Units kept by what can be seen of them at once: norms of weights, or nothing at all.

These are the comparators of every evaluation. None of them looks at what a unit does to the output,
and none changes a weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from coresets._validate import check_real
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem, check_allocation, keep_best_units

__all__ = ["FilterNorm", "GeometricMedian", "RandomUnits"]

# So many weights are worked on at once.
_BLOCK_ENTRIES = 1 << 20


@dataclass(frozen=True, slots=True)
class RandomUnits:
    """Keep units drawn at random, in every group the same share of them by default.

    Parameters
    ----------
    allocation : Allocation
        How many in each group.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import RandomUnits
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> prune(network, RandomUnits(), KeepRatio(0.5), calibration=[torch.rand(4, 8)], rng=0).model[0]
    Linear(in_features=8, out_features=3, bias=True)
    """

    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Draw without replacement, group by group."""
        rng = problem.randomness(self)
        keep: dict[str, torch.Tensor] = {}
        for share in problem.shares:
            scores = {name: torch.from_numpy(rng.random(problem.sizes[name])) for name in share.layers}
            keep |= keep_best_units(scores, share, self.allocation)
        return UnitDecision({name: keep[name] for name in problem.groups})


@dataclass(frozen=True, slots=True)
class FilterNorm:
    """Keep the units with the largest norms of incoming weights, layer by layer (Li et al. 2017).

    Of coupled layers, such as those that write to one residual stream, the norms of the rows are taken
    together, as those of one long row.

    Parameters
    ----------
    order : float
        Of the norm: 1 or 2, as published, or any other at least 1.
    allocation : Allocation
        How many in each group. The same share by default: norms of different layers say nothing about
        one another.
    """

    order: float = 2.0
    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)
        if check_real(self.order, "order") < 1.0:
            raise ValueError(f"order = {self.order:g} is below 1, where there is no norm")

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Rank within the allocation's parts."""
        scores = {name: incoming_norms(problem, name, self.order) for name in problem.groups}
        keep: dict[str, torch.Tensor] = {}
        for share in problem.shares:
            keep |= keep_best_units(scores, share, self.allocation)
        return UnitDecision({name: keep[name] for name in problem.groups})


@dataclass(frozen=True, slots=True)
class GeometricMedian:
    """Remove the units whose incoming weights are nearest to all others (FPGM, He et al. 2019).

    A unit near the geometric median of its layer is taken to be replaceable by the others. The score of
    a unit is the sum of the distances from its row of weights to those of all units of the group.

    Parameters
    ----------
    allocation : Allocation
        How many in each group.
    """

    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Rank within the allocation's parts."""
        scores = {}
        for name in problem.groups:
            rows = incoming(problem, name)
            scores[name] = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
        keep: dict[str, torch.Tensor] = {}
        for share in problem.shares:
            keep |= keep_best_units(scores, share, self.allocation)
        return UnitDecision({name: keep[name] for name in problem.groups})


def incoming(problem: UnitProblem, name: str) -> torch.Tensor:
    """All weights that make a unit, as rows, in float64, of shape (units, weights a unit)."""
    return torch.cat([rows[positions].flatten(1).double() for rows, positions in _made(problem, name)], dim=1)


def incoming_norms(problem: UnitProblem, name: str, order: float) -> torch.Tensor:
    """Norms of the rows of :func:`incoming`, (units,), some units at a time."""
    norms = []
    for rows, positions in _made(problem, name):
        step = max(1, _BLOCK_ENTRIES // (rows.shape[1] * positions.shape[1]))
        blocks = (rows[part].flatten(1).double() for part in torch.split(positions, step))
        norms.append(torch.cat([torch.linalg.vector_norm(block, order, dim=1) for block in blocks]))
    return torch.linalg.vector_norm(torch.stack(norms), order, dim=0)


def _made(problem: UnitProblem, name: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """For every layer that makes the units, a row of weights an output, and the outputs of each unit."""
    for place in problem.groups[name].producers:
        module = problem.network.get_submodule(place.name)
        weight: torch.Tensor = module.weight.detach()  # type: ignore[operator]
        rows = weight.T if isinstance(module, torch.nn.Embedding) else weight.flatten(1)
        yield rows, place.positions.to(rows.device)
