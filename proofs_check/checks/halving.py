"""Attacks on self-balancing halving: D1 for the walk, D2 and D3 for coresets, D5 for streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantees import (
    FeatureBound,
    HalvingAllQueries,
    HalvingClass,
    HalvingFinite,
    HalvingStream,
    SelfBalancingWalk,
)
from coresets.halving import (
    Aggressive,
    BoundedSum,
    Embedded,
    GramFeatures,
    HalvedSquares,
    HalvingReducer,
    LinearFeatures,
    LinearSum,
    MappedFeatures,
    Provable,
    Walked,
)
from coresets.least_squares import LeastSquares
from coresets.streams import StreamCoreset
from coresets.weighted_set import WeightedSet
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._halving import (
    HalvedOnce,
    HalvedUnscaled,
    HalvingTrial,
    InStepTrial,
    LonePoints,
    OffByOne,
    WalkTrial,
    forgetful,
    independent,
    of_inner_products,
    unbalanced,
    undoubled,
)
from proofs_check.checks._streams import StreamTrial, WithWeights
from proofs_check.queries import FiniteWorst, SquaresWorst
from proofs_check.trials import Trial
from proofs_check.workloads import Workload, leading

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_INDEPENDENT = ("independent signs", "fair coins instead of a walk")
_FORGETFUL = ("walk started afresh", "the sum is forgotten after every forty steps")
_OLD = ("weights of the first round", "the walk is made for vectors that were not reweighted")
_UNDOUBLED = ("weights not doubled", "kept points keep the weights that they had")
_OFF = ("classes off by one", "points of class k take part in k + 1 rounds and are weighted for k")
_DROPPED = ("odd one out dropped", "a point without a partner is always dropped")
_KEPT = ("odd one out kept", "a point without a partner is always kept, with twice its weight")
_SHARED = ("shared seed", "every reduction of the tree draws the same numbers")

_STEPS = 800  # of a walk
_SIDES = 5000  # points of a set of two values
_BLOCKS, _ROWS, _SIGNS = 32, 512, 4  # equal blocks, rows of each, and columns
_TRIALS = 50  # of streams, which take long
_HALVED = Aggressive(1e12)  # a walk so slow that its signs are fair coins


def _usable(workloads: Sequence[Workload], fewest: int, count: int) -> list[Workload]:
    return [w for w in workloads if w.kind == "real" and w.n >= fewest][:count]


# D1


def _unit_rows(workload: Workload, columns: int) -> Floats:
    """Rows of length at most 1, about its square root of one half on average, in no order."""
    points = np.asarray(leading(workload, columns).data.points, dtype=np.float64)
    order = np.random.default_rng(3).permutation(len(points))[:_STEPS]
    points = points[order] - points[order].mean(axis=0)
    lengths = np.sqrt(np.sum(points**2, axis=1, keepdims=True))
    lengths = np.where(lengths > 0.0, lengths, 1.0)
    return points / lengths


def _functions(vectors: Floats) -> Floats:
    """Explained by the vectors, not explained at all, and in between."""
    rng = np.random.default_rng(4)
    directions = np.eye(vectors.shape[1])
    alien = rng.choice([-1.0, 1.0], len(vectors))
    explained = vectors @ directions
    return np.stack([*explained.T, alien, np.abs(vectors[:, 0])])


def _walks(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for place, workload in enumerate(_usable(workloads, 500, 2)):
        rows = _unit_rows(workload, 3)
        yield _walk_scenario(
            workload,
            "unit rows",
            rows,
            {_INDEPENDENT: independent, _FORGETFUL: forgetful},
        )
        scaled = rows * 2.0 ** -np.random.default_rng(5).integers(0, 3, (len(rows), 1)).astype(np.float64)
        yield _walk_scenario(workload, "scaled rows", scaled, {_OLD: unbalanced})
        if place == 0:
            yield _walk_scenario(workload, "inner products", scaled[:200], {}, of_inner_products)


def _walk_scenario(
    workload: Workload, name: str, vectors: Floats, broken: dict[tuple[str, str], Any], signs: Any = None
) -> Scenario:
    honest = WalkTrial(vectors, _functions(vectors), DELTA)
    honest = honest if signs is None else replace(honest, signs=signs)
    data = WeightedSet(vectors)
    return Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, data),
        size=data.n,
        claimed=Accuracy(0.5, DELTA),
        trial=honest,
        faults=tuple(Fault(fault, replace(honest, signs=draw)) for (fault, _), draw in broken.items()),
        note="mean square of 30 walks over twice its bound",
    )


# D2 and D3


def _squares_queries(data: WeightedSet) -> FiniteWorst:
    """For the point of largest leverage the query that is its own, each axis, and the diagonal."""
    points = np.asarray(data.points, dtype=np.float64)
    whitening = np.linalg.pinv((points * np.asarray(data.weights)[:, None]).T @ points)
    largest = int(np.argmax(np.sum((points @ whitening) * points, axis=1)))
    queries = np.vstack([whitening @ points[largest], np.eye(data.d), np.ones(data.d)])
    return FiniteWorst.of(data, [(points @ x) ** 2 for x in queries])


def _coreset_scenario(
    workload: Workload, name: str, reducer: HalvingReducer, error: Any, size: int
) -> Iterable[Scenario]:
    data = workload.data
    claimed = reducer.reduce(data, size=size, rng=0).accuracy
    if claimed.is_exact:
        return
    honest = HalvingTrial(data, reducer, size, error)
    broken: dict[str, Trial] = {
        _UNDOUBLED[0]: replace(honest, reducer=undoubled(reducer)),
        _OFF[0]: replace(honest, reducer=OffByOne(reducer)),
    }
    if reducer.queries is None:
        broken[_INDEPENDENT[0]] = replace(honest, reducer=replace(reducer, threshold=_HALVED, certify=False))
    yield Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, data),
        size=size,
        claimed=Accuracy(claimed.epsilon, DELTA),
        trial=honest,
        faults=tuple(Fault(fault, trial) for fault, trial in broken.items()),
        vacuous=f"epsilon = {claimed.epsilon:.2f}" if claimed.vacuous else "",
    )


def _plain(workload: Workload) -> Workload:
    """Two columns, with the weights of the set."""
    shown = leading(workload, 2)
    data = WeightedSet(shown.data.points, shown.data.weights)
    return Workload(shown.name, shown.kind, data)


def _finite(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in _usable(workloads, 400, 4):
        shown = _plain(workload)
        error = _squares_queries(shown.data)
        reducer = HalvingReducer(
            LeastSquares(), GramFeatures(), Provable(0.5 * DELTA), queries=len(error.shares), certify=False
        )
        yield from _coreset_scenario(shown, "squares", reducer, error, shown.n // 4)
    for workload in _usable(workloads, 400, 1):
        yield _lone_scenario(workload)


def _lone_scenario(workload: Workload) -> Scenario:
    """Four points, of which one is alone in its class; the answer's mean over many coresets."""
    sensitivities = np.array([1.0, 1.0, 0.6, 0.6 * 2.0**-9])
    shares = np.array([0.4, 0.0, 0.6, 0.0])
    bound = FeatureBound(norm=float(np.linalg.norm(shares / sensitivities)))
    embedded = Embedded(Walked(np.eye(4), np.array([0.0, 1.0, 0.0])), bound, 4)
    honest = LonePoints(HalvingClass(float(sensitivities.sum()), 4, bound), sensitivities, embedded, shares)
    return Scenario(
        workload=Workload(f"{workload.name}, lone points", "adversarial", WeightedSet(np.eye(4))),
        size=3,
        claimed=Accuracy(honest.epsilon(DELTA), DELTA),
        trial=honest,
        faults=(
            Fault(_DROPPED[0], replace(honest, odd="dropped")),
            Fault(_KEPT[0], replace(honest, odd="kept")),
        ),
        trials=30,
        note="mean of 400 coresets",
    )


@dataclass(frozen=True, eq=False)
class LinearWorst:
    """Error of sums of w p.x relative to sum w |p.x|, at the query that a whitened error points to."""

    data: WeightedSet
    inverse: Floats = field(init=False)

    def __post_init__(self) -> None:
        rows = np.asarray(self.data.points) * np.asarray(self.data.weights)[:, None]
        lengths = np.sqrt(np.sum(rows**2, axis=1))
        lengths = np.where(lengths > 0.0, lengths, 1.0)
        object.__setattr__(self, "inverse", np.linalg.pinv((rows / lengths[:, None]).T @ rows))

    def __call__(self, indices: npt.NDArray[np.intp], factors: Floats) -> float:
        """Lower bound on the largest relative error."""
        points, weights = np.asarray(self.data.points), np.asarray(self.data.weights)
        error = (weights[indices] * factors) @ points[indices] - weights @ points
        query = self.inverse @ error
        normaliser = float(weights @ np.abs(points @ query))
        return abs(float(error @ query)) / normaliser if normaliser > 0.0 else 0.0


def _all_queries(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    threshold = Provable(0.5 * DELTA)
    for place, workload in enumerate(_usable(workloads, 400, 4)):
        shown = _plain(workload)
        squares = HalvingReducer(LeastSquares(), GramFeatures(), threshold, certify=False)
        yield from _coreset_scenario(shown, "squares", squares, SquaresWorst(shown.data), shown.n // 2)
        if place == 0:
            linear = HalvingReducer(LinearSum(), LinearFeatures(), threshold)
            sides = _sides(np.asarray(shown.data.points))
            for name, one in (
                ("linear", shown.data),
                ("sides", WeightedSet(np.resize(sides, (_SIDES, 1)))),
            ):
                case = Workload(shown.name, shown.kind, one)
                yield from _coreset_scenario(case, name, linear, LinearWorst(one), one.n // 4)


# D5


@dataclass(frozen=True)
class MassError:
    """Error of sums of features relative to the mass, at the worst of the axes."""

    features: MappedFeatures
    data: WeightedSet

    def __call__(self, found: StreamCoreset) -> float:
        full = np.asarray(self.features.function(self.data)).sum(axis=0)
        kept = found.data.weights @ np.asarray(self.features.function(found.data))
        return float(np.max(np.abs(kept - full))) / self.features.length / self.data.n


def _sides(points: Floats) -> Floats:
    """-1 for nearly half of the first column, else 1: pairs differ by nothing or by all they may."""
    ranks = np.argsort(np.argsort(points[:, 0], kind="stable"), kind="stable")
    return np.where(20 * ranks < 9 * len(points), -1.0, 1.0)[:, None]


def _as_they_are(data: WeightedSet) -> Floats:
    found: Floats = np.asarray(data.points)
    return found


def _equal_blocks(workload: Workload) -> Scenario:
    """The same rows again and again: errors of the blocks average out, unless all draw the same numbers."""
    sides = _sides(np.asarray(workload.data.points)[:_ROWS])[:, 0]
    # Columns of their own order, so that the walk has as many directions, each of them a chance to err.
    block = np.stack([np.random.default_rng(j).permutation(sides) for j in range(_SIGNS)], axis=1)
    block /= _SIGNS**0.5
    data = WeightedSet(np.tile(block, (_BLOCKS, 1)))
    features = MappedFeatures(_as_they_are)
    nodes = HalvedOnce(128, rows=data.n, queries=_SIGNS, delta=DELTA)
    reducer = HalvingReducer(BoundedSum(), features)
    honest = StreamTrial(data, lambda _: reducer, nodes, _ROWS, MassError(features, data))
    return _stream_scenario(
        workload,
        "equal blocks",
        honest,
        nodes.promise(1, _BLOCKS),
        {
            _SHARED[0]: InStepTrial(honest, nodes),
            _UNDOUBLED[0]: replace(honest, budget=HalvedUnscaled(nodes)),
        },
    )


def _tree_of_squares(workload: Workload) -> Scenario:
    """Sums of squares through all levels, in the order of the first column.

    The labels that a trial pushes along are one column more.
    """
    points = np.asarray(workload.data.points)[:, :2]
    data = WeightedSet(points[np.argsort(points[:, 0], kind="stable")])
    error = _squares_queries(data)
    block = data.n // 4
    nodes = HalvedSquares(block // 2, data.n, len(error.shares), DELTA, columns=3)
    reducer = HalvingReducer(LeastSquares(), GramFeatures())
    honest = StreamTrial(data, lambda _: reducer, nodes, block, WithWeights(data, error))
    return _stream_scenario(
        Workload(workload.name, workload.kind, data),
        "squares",
        honest,
        nodes.promise(3, 4),
        {_UNDOUBLED[0]: replace(honest, budget=HalvedUnscaled(nodes))},
    )


def _stream_scenario(
    workload: Workload, name: str, honest: StreamTrial, claimed: Accuracy, broken: dict[str, Trial]
) -> Scenario:
    return Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, honest.data),
        size=honest.block // 2,
        claimed=claimed,
        trial=honest,
        faults=tuple(Fault(fault, trial) for fault, trial in broken.items()),
        trials=_TRIALS,
        vacuous=f"epsilon = {claimed.epsilon:.2f}" if claimed.vacuous else "",
    )


def _streams(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in _usable(workloads, 1024, 1):
        yield _equal_blocks(workload)
    for workload in _usable(workloads, 500, 2):
        yield _tree_of_squares(workload)


CHECKS = (
    Check(
        SelfBalancingWalk(),
        "functions that the vectors explain, in part and not at all",
        dict([_INDEPENDENT, _FORGETFUL, _OLD]),
        _walks,
    ),
    Check(
        HalvingFinite(),
        "the query of the most sensitive point, the axes, the diagonal",
        dict([_UNDOUBLED, _OFF, _DROPPED, _KEPT]),
        _finite,
    ),
    Check(
        HalvingAllQueries(),
        "all sums of squares, by eigenvalues; linear sums, at the query that the error points to",
        dict([_UNDOUBLED, _OFF, _INDEPENDENT]),
        _all_queries,
    ),
    Check(
        HalvingStream(),
        "the listed queries, by enumeration",
        dict([_SHARED, _UNDOUBLED]),
        _streams,
    ),
)
