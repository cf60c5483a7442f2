"""Attacks on what a tree of reductions promises, through MergeReduce as a user calls it: MR and MR-V.

A deterministic choice of the top drops as much as it may at every reduction and always to one side, so
that errors add up as in the worst case of the theorem, and one run decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.finite_queries import FiniteQueries
from coresets.guarantee import Claim
from coresets.guarantees import MatrixChernoff, MergeAndReduce, StreamClass, StreamVariance, SubspaceClass
from coresets.least_squares import LeastSquares
from coresets.reduction import SensitivityReducer
from coresets.samplers import Poisson, Top
from coresets.streams import KnownLength, UnknownLength
from coresets.weighted_set import WeightedSet
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._streams import (
    DrawnByCost,
    FullRegulariser,
    LevelSize,
    OriginalWeights,
    RecomputedMass,
    Regularised,
    RegularisedError,
    SameSeed,
    StreamTrial,
    Undivided,
    Unlabelled,
    Unscaled,
    WithWeights,
    positive,
)
from proofs_check.faults import UNDIVIDED
from proofs_check.queries import FiniteWorst, SquaresWorst
from proofs_check.workloads import Workload, leading

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_SHARED = ("shared seed", "every reduction of the tree draws the same numbers")
_ORIGINAL = ("weights of the original rows", "merged nodes are reduced as if no row had been reweighted")
_UNDIVIDED_BUDGET = ("budgets not divided", "every reduction may err by as much as the whole tree")
_FULL = ("full regulariser in every part", "every part of the data is given the regulariser of the whole")
_RECOMPUTED = ("mass recomputed", "the mass of a node is the sum of the weights that were sampled")


def _scenario(
    workload: Workload, name: str, honest: StreamTrial, claimed: Accuracy, size: int, **broken: StreamTrial
) -> Scenario:
    return Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, workload.data),
        size=size,
        claimed=claimed,
        trial=honest,
        faults=tuple(Fault(_NAMES[key], trial) for key, trial in broken.items()),
        vacuous=f"epsilon = {claimed.epsilon:.2f}" if claimed.vacuous else "",
    )


_NAMES = {
    "shared": _SHARED[0],
    "original": _ORIGINAL[0],
    "unscaled": UNDIVIDED[0],
    "undivided": _UNDIVIDED_BUDGET[0],
    "full": _FULL[0],
    "recomputed": _RECOMPUTED[0],
}


def _real(workloads: Sequence[Workload], fewest: int) -> list[Workload]:
    return [w for w in workloads if w.kind == "real" and w.n >= fewest]


# MR: all queries, by dividing the accuracy.


def _squares(workload: Workload, epsilon: float) -> Iterable[Scenario]:
    """Least squares on as many levels as leave nodes smaller than a third of a block."""
    shown = leading(workload, 2)
    data = WeightedSet(shown.data.points, shown.data.weights)
    wanted, tree = Accuracy(epsilon, DELTA), MergeAndReduce()
    for blocks in (8, 4, 2):
        block = data.n // blocks
        each = tree.of_each(wanted, rows=data.n, block=block)
        size = Claim(MatrixChernoff(), SubspaceClass(2.0, 2)).size(each)
        if 3 * size <= block:
            break
    else:
        return
    reducer = Unlabelled(SensitivityReducer(LeastSquares()))
    honest = StreamTrial(
        data, lambda _: reducer, KnownLength(wanted, data.n), block, WithWeights(data, SquaresWorst(data))
    )
    original = replace(honest, reducer=lambda _: OriginalWeights(reducer.reducer))
    yield _scenario(shown, f"squares, {blocks} blocks", honest, wanted, size, original=original)


def _top(workload: Workload) -> Iterable[Scenario]:
    """The top of one query: nothing is random, and every reduction loses all that it may."""
    data = WeightedSet(np.asarray(workload.data.points)[:, :1], workload.data.weights)
    loss = FiniteQueries(_absolute, [np.ones(1)])
    error = WithWeights(data, FiniteWorst.of(data, [loss.costs(data, x) for x in loss.queries]))
    wanted = Accuracy(0.3, DELTA)
    reducer = Unlabelled(SensitivityReducer(loss, Top()))
    for name, budget in (
        ("length known", KnownLength(wanted, data.n)),
        ("length unknown", UnknownLength(wanted)),
    ):
        honest = StreamTrial(data, lambda _: reducer, budget, data.n // 8, error)
        broken = replace(honest, budget=Undivided(wanted))
        claimed = Accuracy(wanted.epsilon, 0.0)
        yield _scenario(workload, f"top, {name}", honest, claimed, data.n // 8, undivided=broken)


def _absolute(data: WeightedSet, query: Floats) -> Floats:
    found: Floats = np.abs(np.asarray(data.points) @ query)
    return found


def _regularised(workload: Workload) -> Iterable[Scenario]:
    """A regulariser as large as the rest of the cost."""
    data = WeightedSet(np.asarray(workload.data.points)[:, :1], workload.data.weights)
    ridge = float(data.weights @ positive(data)) / data.total_weight
    wanted, block = Accuracy(0.2, DELTA), data.n // 8
    honest = StreamTrial(
        data,
        lambda _: Regularised(ridge),
        KnownLength(wanted, data.n),
        block,
        RegularisedError(data, ridge),
    )
    full = replace(honest, reducer=lambda _: FullRegulariser(ridge, data.total_weight))
    recomputed = replace(
        honest,
        reducer=lambda _: RecomputedMass(ridge),
        measure=RegularisedError(data, ridge, recomputed=True),
    )
    claimed = Accuracy(wanted.epsilon, 0.0)
    yield _scenario(workload, "regularised", honest, claimed, block, full=full, recomputed=recomputed)


def _divided(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in _real(workloads, 1000)[:2]:
        yield from _squares(workload, 0.7)
    for workload in _real(workloads, 400)[:5]:
        yield from _top(workload)
        yield from _regularised(workload)


# MR-V: each query of a finite set, by variances.


def _equal_blocks(workload: Workload, blocks: int, rows: int, size: int) -> Scenario:
    """The same rows again and again, reduced once: errors of the blocks average out."""
    block = np.abs(np.asarray(workload.data.points)[:rows, :1]) + 1.0
    data = WeightedSet(np.tile(block, (blocks, 1)))
    error = WithWeights(data, FiniteWorst.of(data, [positive(data)]))
    claim = Claim(StreamVariance(), StreamClass(1.0, shares=(1.0 / blocks,)))
    honest = StreamTrial(data, lambda _: DrawnByCost(), LevelSize(size, 1), rows, error)
    return _scenario(
        Workload(workload.name, workload.kind, data),
        f"{blocks} equal blocks",
        honest,
        claim.accuracy(size, DELTA),
        size,
        shared=replace(honest, reducer=lambda seed: SameSeed(DrawnByCost(), seed)),
    )


def _whole_tree(workload: Workload, blocks: int, epsilon: float) -> Scenario:
    """One query through all levels, most of whose cost is in the last block, as the rows are sorted."""
    points = np.asarray(workload.data.points)
    order = np.argsort(points[:, 0], kind="stable")
    data = WeightedSet(points[order][:, :1], np.asarray(workload.data.weights)[order])
    loss = FiniteQueries(_far, [float(np.quantile(points[:, 0], 0.5))])
    error = WithWeights(data, FiniteWorst.of(data, [loss.costs(data, x) for x in loss.queries]))
    claim = Claim(StreamVariance(), StreamClass(1.0, shares=(1.0,) * blocks.bit_length()))
    size = claim.size(Accuracy(epsilon, DELTA))
    reducer = Unlabelled(SensitivityReducer(loss, Poisson()))
    honest = StreamTrial(data, lambda _: reducer, LevelSize(size, 64), data.n // blocks, error)
    return _scenario(
        workload,
        f"{blocks} blocks, sorted",
        honest,
        claim.accuracy(size, DELTA),
        size,
        original=replace(honest, reducer=lambda _: OriginalWeights(reducer.reducer)),
        unscaled=replace(honest, reducer=lambda _: Unscaled(reducer)),
    )


def _far(data: WeightedSet, level: float) -> Floats:
    found: Floats = np.maximum(np.asarray(data.points)[:, 0] - level, 0.0)
    return found


def _variances(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for place, workload in enumerate(_real(workloads, 1000)[:2]):
        if place == 0:
            yield _equal_blocks(workload, blocks=64, rows=128, size=12)
        yield _whole_tree(workload, 8 if workload.n > 2000 else 4, 0.6)
    for workload in [w for w in _real(workloads, 400) if np.ptp(np.asarray(w.data.weights)) > 0.0][:1]:
        yield _whole_tree(workload, 2, 0.6)


CHECKS = (
    Check(
        MergeAndReduce(),
        "all sums of squares, by eigenvalues; the query that the top was chosen for",
        dict([_ORIGINAL, _UNDIVIDED_BUDGET, _FULL, _RECOMPUTED]),
        _divided,
    ),
    Check(
        StreamVariance(),
        "the listed queries, by enumeration",
        dict([_SHARED, _ORIGINAL, UNDIVIDED]),
        _variances,
    ),
)
