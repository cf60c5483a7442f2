"""Halving in streams: what the ledger states, when it withdraws it, and how little streaming costs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coresets import (
    Accuracy,
    AssumptionError,
    LeastSquares,
    SensitivityReducer,
    WeightedSet,
)
from coresets.certificate import Certificate
from coresets.guarantees import FeatureBound, HalvingClass, HalvingStream, HalvingStreamClass
from coresets.halving import (
    Aggressive,
    BoundedSum,
    GramFeatures,
    HalvedNodes,
    HalvedSquares,
    HalvedSums,
    HalvingReducer,
    MappedFeatures,
    Provable,
)
from coresets.streams import BareReducer, MergeReduce, NodeSize, TreeLaw

SQUARES = HalvingReducer(LeastSquares(), GramFeatures())
ROWS = MappedFeatures(lambda data: np.asarray(data.points))
SUMS = HalvingReducer(BoundedSum(), ROWS)


def rows(n: int, d: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def circle(n: int, seed: int = 0) -> np.ndarray:
    points = rows(n, 2, seed)
    return points / np.linalg.norm(points, axis=1, keepdims=True) / (1.0 + 1e-12)


def test_the_ledger_states_d5_for_the_levels_that_there_are() -> None:
    nodes = HalvedSquares(200, rows=10**5, queries=3, delta=0.1, columns=2)
    stream = MergeReduce(SQUARES, nodes, block=800, rng=0)
    stream.push(WeightedSet(rows(800 * 5)))
    node = HalvingClass(2.0, 10**5, FeatureBound(spread=2.0**0.5), 3)
    expected = HalvingStream().epsilon(HalvingStreamClass(node, (1.0,) * 3), 200, 0.1)
    assert stream.ledger.accuracy == Accuracy(expected, 0.1)
    assert stream.result().accuracy == stream.ledger.accuracy
    # One failure probability for the whole, however many reductions there are.
    assert {accuracy.delta for _, _, accuracy in stream.ledger.nodes} == {0.1}


def test_frozen_sums_cost_no_more_with_depth() -> None:
    nodes = HalvedSums(64, rows=10**6)
    epsilons = [nodes.promise(levels, 2 ** (levels - 1)).epsilon for levels in range(1, 12)]
    assert epsilons[-1] < 2.0**0.5 * epsilons[0] * (1.0 + 1e-9)
    assert epsilons == sorted(epsilons)
    squares = HalvedSquares(1000, rows=10**6, columns=1)
    assert squares.promise(12, 2**11).epsilon > 3.0 * squares.promise(1, 1).epsilon


def test_the_mass_of_every_node_is_kept() -> None:
    stream = MergeReduce(SUMS, HalvedSums(64, rows=10**5), block=256, rng=0)
    stream.push(WeightedSet(circle(256 * 11)))
    assert stream.result().data.total_weight == 256.0 * 11
    assert 0.0 < stream.ledger.accuracy.epsilon < 1.0


def test_streaming_costs_a_factor_of_about_the_root_of_three_halves() -> None:
    """Mean squares of 100 runs of each arm, over 4 directions: 3/2, with a spread of about a tenth."""
    data = WeightedSet(circle(2**12))
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]])
    full = data.points.sum(axis=0)
    factor = Provable(0.025, steps=2**12)
    offline, streamed = [], []
    for seed in range(100):
        coreset = replace(SUMS, threshold=factor).reduce(data, size=64, rng=seed)
        offline.append(directions @ (coreset.weights @ data.points[coreset.indices] - full))
        stream = MergeReduce(SUMS, HalvedSums(64, rows=2**12), block=128, rng=seed)
        stream.push(data)
        found = stream.result().data
        streamed.append(directions @ (found.weights @ found.points - full))
    ratio = float(np.mean(np.square(streamed)) / np.mean(np.square(offline)))
    assert 1.0 < ratio < 2.1


def test_uneven_weights_void_a_promise_about_the_mass() -> None:
    stream = MergeReduce(SUMS, HalvedSums(64, rows=10**5), block=256, rng=0)
    stream.push(WeightedSet(circle(256), np.linspace(1.0, 2.0, 256)))
    assert stream.ledger.accuracy.epsilon == math.inf
    stream.push(WeightedSet(circle(256)))
    assert stream.ledger.accuracy.epsilon == math.inf


def test_more_columns_than_were_announced_void_the_promise() -> None:
    nodes = HalvedSquares(100, rows=10**5, columns=1)
    stream = MergeReduce(SQUARES, nodes, block=400, rng=0)
    stream.push(WeightedSet(rows(400, 6)))
    assert stream.ledger.accuracy.epsilon == math.inf


@pytest.mark.parametrize(
    "reducer",
    [
        SensitivityReducer(LeastSquares()),
        replace(SQUARES, threshold=Aggressive()),
        SUMS,
        replace(SQUARES, features=ROWS),
    ],
    ids=["no halving", "aggressive", "relative to the mass", "other features"],
)
def test_what_d5_does_not_cover_is_refused(reducer: Any) -> None:
    with pytest.raises(AssumptionError, match="NodeSize"):
        MergeReduce(reducer, HalvedSquares(10, rows=100, columns=2), block=40, rng=0)


def test_more_rows_than_share_the_threshold_are_refused() -> None:
    stream = MergeReduce(SQUARES, HalvedSquares(10, rows=100, columns=2), block=40, rng=0)
    stream.push(WeightedSet(rows(100)))
    with pytest.raises(ValueError, match="101 rows are pushed"):
        stream.push(WeightedSet(rows(1)))
    assert stream.rows == 100


def test_a_resumed_stream_ends_with_the_same_coreset_and_promise(tmp_path: Path) -> None:
    nodes, data = HalvedSquares(50, rows=10**4, columns=2), rows(1500)
    whole = MergeReduce(SQUARES, nodes, block=200, rng=3)
    whole.push(WeightedSet(data))
    part = MergeReduce(SQUARES, nodes, block=200, rng=3)
    part.push(WeightedSet(data[:700]))
    part.save(tmp_path / "stream.npz")
    resumed = MergeReduce.load(tmp_path / "stream.npz", SQUARES, nodes)
    resumed.push(WeightedSet(data[700:]))
    assert np.array_equal(resumed.result().positions, whole.result().positions)
    assert resumed.ledger == whole.ledger


def test_halving_without_a_law_is_added_up_or_promises_nothing() -> None:
    plain = MergeReduce(SQUARES, NodeSize(200), block=800, rng=0)
    plain.push(WeightedSet(rows(1600)))
    assert math.isfinite(plain.ledger.accuracy.epsilon)
    unproved = MergeReduce(replace(SQUARES, threshold=Aggressive()), NodeSize(200), block=800, rng=0)
    unproved.push(WeightedSet(rows(1600)))
    assert unproved.ledger.accuracy.epsilon == math.inf


class Counting(LeastSquares):
    """Counts how often it certifies."""

    calls = 0

    def certify(self, data: WeightedSet, coreset: Any) -> tuple[Certificate, ...]:
        Counting.calls += 1
        return super().certify(data, coreset)


@pytest.mark.parametrize(
    "reducer",
    [SensitivityReducer(Counting()), HalvingReducer(Counting(), GramFeatures())],
    ids=["sampling", "halving"],
)
def test_trees_do_not_certify_what_they_discard(reducer: Any) -> None:
    assert isinstance(reducer, BareReducer)
    Counting.calls = 0
    stream = MergeReduce(reducer, NodeSize(100), block=400, rng=0)  # type: ignore[arg-type]
    stream.push(WeightedSet(rows(4000)))
    assert Counting.calls == 0
    certified = reducer.reduce(WeightedSet(rows(400)), size=100, rng=0)  # type: ignore[attr-defined]
    bare = reducer.without_certificates().reduce(WeightedSet(rows(400)), size=100, rng=0)
    assert Counting.calls == 1
    assert len(certified.certificates) == len(bare.certificates) + 1
    assert np.array_equal(certified.indices, bare.indices)
    assert np.array_equal(certified.weights, bare.weights)


def test_budgets_are_laws_and_bad_ones_are_named() -> None:
    assert isinstance(HalvedSums(4, rows=10), TreeLaw)
    assert not isinstance(NodeSize(4), TreeLaw)
    assert issubclass(HalvedSquares, HalvedNodes)
    for make, message in (
        (lambda: HalvedSums(0, rows=10), "size = 0"),
        (lambda: HalvedSums(4, rows=0), "rows = 0"),
        (lambda: HalvedSums(4, rows=10, delta=1.0), "delta = 1"),
        (lambda: HalvedSquares(4, rows=10, columns=0), "columns = 0"),
        (lambda: HalvingStreamClass(HalvingClass(2.0, 10), ()), "at least one"),
        (lambda: HalvingStreamClass(HalvingClass(2.0, 10), (1.5,)), r"share in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
