"""Units kept by what can be seen of them at once: norms of weights, or nothing at all.

These are the comparators of every evaluation. None of them looks at what a unit does to the output,
and none changes a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from coresets._validate import check_real
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem, check_allocation, keep_best_units

__all__ = ["FilterNorm", "GeometricMedian", "RandomUnits"]

# So many weights are worked on at once.
_BLOCK_ENTRIES = 1 << 20
# Squared distances below this share of both squared lengths lose half their digits to cancellation, or more.
_NEAR = 1e-8


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

    Cost: n^2 d operations for n units of d weights, and memory for some rows at a time.

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
        scores = {name: distance_sums(IncomingRows.of(problem, name)) for name in problem.groups}
        keep: dict[str, torch.Tensor] = {}
        for share in problem.shares:
            keep |= keep_best_units(scores, share, self.allocation)
        return UnitDecision({name: keep[name] for name in problem.groups})


@dataclass(frozen=True, eq=False)
class IncomingRows:
    """All weights that make each unit of a group, as rows that are put together some at a time.

    Parameters
    ----------
    parts : sequence of (Tensor, Tensor)
        For every layer that makes the units a row of weights an output, and int64 of shape (units, k), the
        outputs of each unit.
    """

    parts: Sequence[tuple[torch.Tensor, torch.Tensor]]

    @classmethod
    def of(cls, problem: UnitProblem, name: str) -> IncomingRows:
        """Those of one group of a problem."""
        parts = []
        for place in problem.groups[name].producers:
            module = problem.network.get_submodule(place.name)
            weight: torch.Tensor = module.weight.detach()  # type: ignore[operator]
            rows = weight.T if isinstance(module, torch.nn.Embedding) else weight.flatten(1)
            parts.append((rows, place.positions.to(rows.device)))
        return cls(parts)

    @property
    def units(self) -> int:
        """How many rows."""
        return len(self.parts[0][1])

    @property
    def width(self) -> int:
        """Entries of a row."""
        return sum(rows.shape[1] * positions.shape[1] for rows, positions in self.parts)

    def memory(self) -> list[torch.Tensor]:
        """What :meth:`blocks` works in: for a block in float64, and for some outputs of every layer."""
        step = min(self.units, max(1, _BLOCK_ENTRIES // self.width))
        scratch = torch.empty((step, self.width), dtype=torch.float64, device=self.parts[0][0].device)
        return [scratch, *(rows.new_empty(step * rows.shape[1]) for rows, _ in self.parts)]

    def blocks(self, memory: Sequence[torch.Tensor] | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Rows in float64, of shape (some units, width), in memory that the next ones overwrite."""
        # The same memory again and again: an allocator may not find the gaps that blocks leave.
        scratch, *gathered = self.memory() if memory is None else memory
        step = len(scratch)
        for start in range(0, self.units, step):
            part = slice(start, min(self.units, start + step))
            block = scratch[: part.stop - start]
            column = 0
            for (rows, positions), buffer in zip(self.parts, gathered, strict=True):
                own = buffer[: len(block) * rows.shape[1]].view(len(block), rows.shape[1])
                for outputs in positions[part].unbind(1):
                    torch.index_select(rows, 0, outputs, out=own)
                    block[:, column : column + rows.shape[1]] = own
                    column += rows.shape[1]
            yield part, block


def incoming_norms(problem: UnitProblem, name: str, order: float) -> torch.Tensor:
    """Norms of the rows of a group, (units,)."""
    blocks = IncomingRows.of(problem, name).blocks()
    return torch.cat([torch.linalg.vector_norm(block, order, dim=1) for _, block in blocks])


def distance_sums(rows: IncomingRows) -> torch.Tensor:
    """Sums of the distances from every row to all rows, (units,); the same for rows that are the same.

    Distances come from inner products, twenty times as fast as from differences. Blocks in which pairs are
    so near that those would cancel are worked out from differences.
    """
    squares = torch.cat([torch.linalg.vector_norm(block, dim=1) for _, block in rows.blocks()]).square()
    sums = torch.zeros_like(squares)
    twins = torch.arange(len(squares), device=squares.device)
    outer, inner = rows.memory(), rows.memory()
    for part, block in rows.blocks(outer):
        for other, against in rows.blocks(inner):
            scale = squares[part, None] + squares[other]
            distances = torch.addmm(scale, block, against.T, alpha=-2.0)
            near = distances <= _NEAR * scale
            if part == other:
                near.fill_diagonal_(fill_value=False)
            if bool(near.any()):
                distances = torch.cdist(block, against, compute_mode="donot_use_mm_for_euclid_dist")
                first = torch.where(distances == 0.0, twins[other], len(twins)).amin(1)
                twins[part] = torch.minimum(twins[part], first)
            else:
                distances = distances.clamp_(min=0.0).sqrt_()
            if part == other:
                distances.fill_diagonal_(0.0)
            sums[part] += distances.sum(1)
    return sums[twins]
