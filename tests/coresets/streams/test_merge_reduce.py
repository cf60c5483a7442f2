"""Merge-and-reduce: the tree, its independence of pushing, merging, weights, labels, refusals, memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import (
    IID,
    Accuracy,
    AssumptionError,
    Coreset,
    FiniteQueries,
    FixedSize,
    L1Regression,
    LeastSquares,
    Poisson,
    Sampler,
    SensitivityReducer,
    SolverError,
    WeightedSet,
)
from coresets.homogeneous import AbsoluteSum, HomogeneousSum
from coresets.streams import KnownLength, MergeReduce, NodeSize, StreamCoreset, UnknownLength


def above(data: WeightedSet, level: float) -> np.ndarray:
    return np.maximum(data.points[:, 0] - level, 0.0)


_FIXED = FixedSize()


def reducer(sampler: Sampler = _FIXED) -> SensitivityReducer:
    return SensitivityReducer(FiniteQueries(above, [-10.0, 0.0]), sampler)


def stream(block: int = 32, size: int = 12, seed: Any = 3, shard: int = 0, **changes: Any) -> MergeReduce:
    return MergeReduce(
        changes.get("reducer", reducer()),
        changes.get("budget", NodeSize(size)),
        block=block,
        rng=seed,
        shard=shard,
    )


def rows(n: int, seed: int = 0, dtype: Any = np.float64) -> WeightedSet:
    rng = np.random.default_rng(seed)
    return WeightedSet(
        rng.standard_normal((n, 2)).astype(dtype), rng.exponential(size=n), rng.integers(0, 3, n)
    )


def cut(data: WeightedSet, start: int, stop: int) -> WeightedSet:
    part = slice(start, stop)
    labels = None if data.labels is None else data.labels[part]
    return WeightedSet(data.points[part], data.weights[part], labels)


def pushed(into: MergeReduce, data: WeightedSet, cuts: Iterable[int] = ()) -> MergeReduce:
    ends = [0, *sorted(cuts), data.n]
    for start, stop in pairwise(ends):
        if stop > start:
            into.push(cut(data, start, stop))
    return into


def assert_same(one: StreamCoreset, other: StreamCoreset) -> None:
    assert one.data.points.dtype == other.data.points.dtype
    for name in ("points", "weights", "labels"):
        assert np.array_equal(getattr(one.data, name), getattr(other.data, name))
    assert np.array_equal(one.positions, other.positions)
    assert one.ledger == other.ledger
    assert one.accuracy == other.accuracy


# ---- the tree


@settings(max_examples=20)
@given(n=st.integers(1, 400), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_the_result_does_not_depend_on_how_the_rows_are_pushed(n: int, cuts: list[int]) -> None:
    data = rows(n)
    expected = pushed(stream(), data)
    found = pushed(stream(), data, [min(c, n) for c in cuts])
    assert_same(found.result(), expected.result())


def test_rows_pushed_one_by_one_give_the_tree_of_rows_pushed_at_once() -> None:
    data = rows(150)
    assert_same(pushed(stream(), data, range(150)).result(), pushed(stream(), data).result())


@settings(max_examples=12)
@given(blocks=st.integers(0, 70), more=st.integers(0, 3))
def test_levels_are_the_binary_digits_of_the_number_of_full_blocks(blocks: int, more: int) -> None:
    s = stream(block=4, size=2)
    if 4 * blocks + more:
        s.push(rows(4 * blocks + more))
    ledger = s.ledger
    assert [level for level, _, _ in ledger.nodes] == [
        place + 1 for place in reversed(range(7)) if blocks >> place & 1
    ]
    assert ledger.rows == s.rows == 4 * blocks + more
    assert ledger.reductions == 2 * blocks - blocks.bit_count()
    if ledger.rows:
        assert s.result().data.n == 2 * len(ledger.nodes) + more


def test_every_block_passes_one_reduction_a_level_with_data_of_its_own_rows() -> None:
    """The tree by hand: every reduction called again on the union of its two inputs."""
    data, b = rows(4 * 32), reducer()
    s = pushed(stream(), data)

    def reduced(part: WeightedSet, key: tuple[int, int, int]) -> WeightedSet:
        seed = np.random.SeedSequence(3, spawn_key=key)
        return b.reduce(part, size=12, rng=np.random.default_rng(seed)).of(part)

    def union(one: WeightedSet, other: WeightedSet) -> WeightedSet:
        return WeightedSet(
            *(np.concatenate([getattr(p, k) for p in (one, other)]) for k in ("points", "weights", "labels"))
        )

    leaves = [reduced(cut(data, 32 * i, 32 * i + 32), (1, 0, i)) for i in range(4)]
    pairs = [reduced(union(*leaves[i : i + 2]), (2, 0, i)) for i in (0, 2)]
    root = reduced(union(*pairs), (3, 0, 0))
    found = s.result().data
    order = np.lexsort(found.points.T)
    expected = np.lexsort(root.points.T)
    assert np.array_equal(found.points[order], root.points[expected])
    assert np.array_equal(found.weights[order], root.weights[expected])


def test_no_two_reductions_share_a_seed_and_the_seed_alone_decides() -> None:
    seen: list[bytes] = []

    @dataclass(frozen=True)
    class Spying:
        def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
            seen.append(asked["rng"].bytes(16))
            return reducer().reduce(data, size=2, rng=0)

    shards = [pushed(stream(block=4, shard=i, reducer=Spying()), rows(30 + i)) for i in range(4)]
    for other in shards[1:]:
        shards[0].merge(other)
    shards[0].push(rows(50))
    assert len(seen) == len(set(seen)) == shards[0].ledger.reductions > 20


def test_the_mass_of_the_ledger_is_that_of_the_rows_and_not_of_the_sample() -> None:
    data = rows(500)
    s = pushed(stream(reducer=reducer(Poisson()), size=20), data)
    ledger = s.ledger
    assert np.isclose(ledger.mass, data.weights.sum(), rtol=1e-14)
    assert not np.isclose(s.result().data.weights.sum(), ledger.mass, rtol=1e-3)


def test_kept_rows_are_rows_of_the_stream_with_their_labels() -> None:
    data = rows(333)
    found = pushed(stream(), data).result()
    assert np.array_equal(found.data.points, data.points[found.positions])
    assert np.array_equal(found.data.labels, data.labels[found.positions])
    assert np.all(np.diff(found.positions) > 0)
    assert found.coreset().of(data).n == found.data.n


def test_labels_may_be_strings_of_any_width() -> None:
    s = stream(block=8, size=4)
    names = np.array(["a", "bb", "cccc"])
    data = rows(40)
    labels = names[data.labels]
    for start in range(0, 40, 5):
        part = cut(data, start, start + 5)
        width = max(len(name) for name in labels[start : start + 5])
        s.push(WeightedSet(part.points, part.weights, labels[start : start + 5].astype(f"<U{width}")))
    found = s.result()
    assert np.array_equal(found.data.labels, labels[found.positions])


def test_dtypes_are_kept() -> None:
    s = pushed(stream(reducer=SensitivityReducer(LeastSquares()), size=20), rows(200, dtype=np.float32))
    found = s.result().data
    assert found.points.dtype == np.float32
    assert found.labels.dtype == np.int64


def test_the_callers_arrays_may_be_reused_and_are_not_changed() -> None:
    expected = pushed(stream(), rows(300), range(0, 300, 7)).result()
    s, buffer = stream(), np.empty((7, 2))
    data = rows(300)
    for start in range(0, 300, 7):
        stop = min(300, start + 7)
        buffer[: stop - start] = data.points[start:stop]
        s.push(WeightedSet(buffer[: stop - start], data.weights[start:stop], data.labels[start:stop]))
        buffer[:] = np.nan
    assert_same(s.result(), expected)


def test_a_block_without_mass_makes_no_node() -> None:
    data = rows(96)
    weights = data.weights.copy()
    weights[32:64] = 0.0
    s = stream()
    s.push(WeightedSet(data.points, weights, data.labels))
    found = s.result()
    assert s.ledger.reductions == 3
    assert [level for level, _, _ in s.ledger.nodes] == [2]
    assert not np.any((found.positions >= 32) & (found.positions < 64))


def test_one_row_is_its_own_coreset() -> None:
    s = stream()
    s.push(WeightedSet([[1.0, 2.0]], [3.0], ["x"]))
    found = s.result()
    assert found.data.n == 1
    assert found.data.weights[0] == 3.0
    assert found.accuracy.is_exact
    assert found.ledger.nodes == ()


def test_answers_are_unbiased_over_seeds() -> None:
    data = rows(320)
    exact = float(data.weights @ above(data, 0.0))
    answers = []
    for seed in range(80):
        found = pushed(stream(reducer=reducer(Poisson()), size=16, seed=seed), data).result().data
        answers.append(float(found.weights @ above(found, 0.0)))
    assert abs(np.mean(answers) - exact) < 5.0 * np.std(answers) / np.sqrt(len(answers))


# ---- shards


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4), more=st.integers(1, 90))
def test_merged_shards_hold_all_rows_and_go_on(sizes: list[int], more: int) -> None:
    data = rows(sum(sizes) + more)
    ends = np.cumsum([0, *sizes])
    shards = [pushed(stream(shard=i), cut(data, int(ends[i]), int(ends[i + 1]))) for i in range(len(sizes))]
    before = [shard.result() for shard in shards]
    whole = shards[0]
    for shard in shards[1:]:
        whole.merge(shard)
    for shard, result in zip(shards[1:], before[1:], strict=True):
        assert_same(shard.result(), result)  # those merged are not changed
    whole.push(cut(data, sum(sizes), data.n))
    found = whole.result()
    assert found.ledger.rows == data.n
    assert np.isclose(found.ledger.mass, data.weights.sum(), rtol=1e-13)
    assert np.array_equal(found.data.points, data.points[found.positions])
    levels = [level for level, _, _ in found.ledger.nodes]
    assert len(set(levels)) == len(levels)


def test_shards_draw_different_numbers() -> None:
    data = rows(64)
    one, other = (pushed(stream(shard=i), data).result() for i in (0, 1))
    assert not np.array_equal(one.positions, other.positions)


def test_a_shared_shard_is_refused() -> None:
    one, other = pushed(stream(), rows(40)), pushed(stream(), rows(40, seed=1))
    with pytest.raises(ValueError, match="both streams have shard 0"):
        one.merge(other)
    with pytest.raises(ValueError, match="both streams have shard 0"):
        one.merge(one)
    third = pushed(stream(shard=1), rows(40))
    one.merge(third)
    with pytest.raises(ValueError, match="both streams have shard 1"):
        one.merge(third)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 4}, {"block": 16}, {"size": 11}, {"reducer": reducer(Poisson())}],
    ids=lambda changed: next(iter(changed)),
)
def test_streams_that_were_made_differently_are_not_merged(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the streams differ"):
        stream().merge(stream(shard=1, **changes))


def test_a_copy_goes_its_own_way() -> None:
    s = pushed(stream(), rows(100))
    other, before = s.copy(), s.result()
    other.push(rows(100, seed=1))
    assert_same(s.result(), before)
    s.push(rows(100, seed=1))
    assert_same(s.result(), other.result())


# ---- budgets and promises


@pytest.mark.parametrize("budget", [KnownLength(Accuracy(0.9, 0.2), 4000), UnknownLength(Accuracy(0.9, 0.2))])
@pytest.mark.parametrize("block", [500, 700, 2000, 3999, 5000])
def test_the_ledger_never_exceeds_the_accuracy_that_was_asked_for(budget: Any, block: int) -> None:
    s = stream(block=block, budget=budget, reducer=reducer(Poisson()))
    for start in range(0, 4000, 250):
        s.push(rows(250, seed=start))
        spent = s.ledger.accuracy
        assert spent.epsilon <= 0.9
        assert spent.delta <= 0.2


def test_shards_together_stay_within_the_accuracy() -> None:
    for budget in (KnownLength(Accuracy(0.9, 0.2), 12000), UnknownLength(Accuracy(0.9, 0.2))):
        shards = [
            pushed(
                stream(block=900, budget=budget, reducer=reducer(Poisson()), shard=i), rows(3000 - 100 * i, i)
            )
            for i in range(4)
        ]
        for shard in shards[1:]:
            shards[0].merge(shard)
        spent = shards[0].ledger.accuracy
        assert 0.0 < spent.epsilon <= 0.9
        assert 0.0 < spent.delta <= 0.2


def test_the_ledger_is_the_algebra_of_the_reductions() -> None:
    data = rows(4 * 64)
    b = SensitivityReducer(FiniteQueries(above, [-10.0]), Poisson(), delta=1e-3)
    s = pushed(stream(block=64, size=30, reducer=b), data)
    one = b.claim(cut(data, 0, 64)).accuracy(30, 1e-3)  # the total of one query is 1, whatever the node
    leaf = one
    pair = Accuracy.union([leaf, leaf]).then(one)
    root = Accuracy.union([pair, pair]).then(one)
    (node,) = s.ledger.nodes
    assert np.isclose(node[2].epsilon, root.epsilon, rtol=1e-9)
    assert np.isclose(s.result().accuracy.delta, 7e-3, rtol=1e-12)


def test_one_row_more_than_was_told_is_refused_and_nothing_is_lost() -> None:
    s = stream(budget=KnownLength(Accuracy(0.5, 0.1), 100))
    s.push(rows(100))
    before = s.result()
    with pytest.raises(ValueError, match="101 rows are pushed"):
        s.push(rows(1))
    assert_same(s.result(), before)
    one, other = (
        pushed(stream(budget=KnownLength(Accuracy(0.5, 0.1), 100), shard=i), rows(60)) for i in (0, 1)
    )
    with pytest.raises(ValueError, match="120 rows are pushed"):
        one.merge(other)
    assert one.rows == 60


def test_losses_whose_errors_are_relative_to_more_than_the_cost_get_no_promise() -> None:
    @dataclass(frozen=True)
    class Additive(AbsoluteSum):
        additive_error = True

    loss = SensitivityReducer(Additive())
    for budget in (KnownLength(Accuracy(0.5, 0.1), 100), UnknownLength(Accuracy(0.5, 0.1))):
        with pytest.raises(AssumptionError, match="do not add up over a tree"):
            stream(reducer=loss, budget=budget)
    s = pushed(stream(reducer=loss, size=10), rows(100))
    assert s.ledger.accuracy.epsilon == np.inf
    few = pushed(stream(reducer=loss, size=1000), rows(100))  # all rows are kept: nothing is spent
    assert few.ledger.accuracy.is_exact


def test_relative_losses_compose() -> None:
    for loss in (AbsoluteSum(), L1Regression(), LeastSquares()):
        s = stream(reducer=SensitivityReducer(loss), budget=UnknownLength(Accuracy(0.5, 0.1)))
        s.push(rows(100))
        assert s.ledger.accuracy.epsilon <= 0.5


def test_outgoing_weights_of_other_rows_are_refused_by_the_loss() -> None:
    layer = HomogeneousSum(np.ones(100))
    s = stream(reducer=SensitivityReducer(layer))
    with pytest.raises(ValueError, match="outgoing has 100 rows; the data have 32 points"):
        s.push(layer.data(rows(100).points))
    assert s.rows == 0


# ---- failures leave the stream as it was


@dataclass
class Fails:
    after: int

    def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
        self.after -= 1
        if self.after < 0:
            raise SolverError("not today")
        return reducer().reduce(data, **asked)


def test_whatever_a_reduction_raises_the_stream_is_as_it_was() -> None:
    for after in range(7):
        failing = Fails(after + 1)
        s = stream(reducer=failing)
        s.push(rows(40))
        before = s.result()
        failing.after = after
        with pytest.raises(SolverError):
            s.push(rows(120, seed=1))
        assert_same(s.result(), before)
        failing.after = 100
        s.push(rows(120, seed=1))
        expected = pushed(stream(), rows(40))
        expected.push(rows(120, seed=1))
        assert_same(s.result(), expected.result())


def test_an_empty_draw_is_an_error_that_says_what_to_do() -> None:
    s = stream(block=4, size=1, reducer=reducer(Poisson()))
    with pytest.raises(SolverError, match="kept nothing"):
        s.push(rows(400))


def test_free_points_are_refused() -> None:
    class Free:
        def reduce(self, data: WeightedSet, **asked: Any) -> Coreset:
            return Coreset(
                indices=None, points=data.points, weights=data.weights, size=1, accuracy=Accuracy.exact()
            )

    with pytest.raises(TypeError, match="free points"):
        stream(reducer=Free()).push(rows(40))


@pytest.mark.parametrize(
    ("second", "error", "words"),
    [
        (WeightedSet(np.ones((2, 3)), labels=[1, 2]), ValueError, "3 columns; those before had 2"),
        (WeightedSet(np.ones((2, 2))), ValueError, "some rows have labels"),
        (WeightedSet(np.ones((2, 2), np.float32), labels=[1, 2]), TypeError, "dtype float32"),
        (WeightedSet(np.ones((2, 2)), labels=[0.5, 2.0]), TypeError, "labels have dtype float64"),
        (WeightedSet(np.ones((2, 2)), labels=["a", "b"]), TypeError, "labels have dtype text"),
    ],
)
def test_rows_that_do_not_fit_are_refused(second: WeightedSet, error: type[Exception], words: str) -> None:
    s = pushed(stream(), rows(33))
    with pytest.raises(error, match=words):
        s.push(second)
    other = stream(shard=1)
    other.push(second)
    with pytest.raises(error, match=words):
        s.merge(other)
    assert s.rows == 33


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="labels are Python objects"):
        stream().push(WeightedSet(np.ones((2, 2)), labels=np.array([1, "a"], dtype=object)))
    with pytest.raises(TypeError, match="wrap the points in a WeightedSet"):
        stream().push(np.ones((3, 2)))
    with pytest.raises(TypeError, match="pass another MergeReduce"):
        stream().merge("shard")
    with pytest.raises(ValueError, match="nothing was pushed"):
        stream().result()
    with pytest.raises(TypeError, match="pass a reducer"):
        stream(reducer=SensitivityReducer)
    with pytest.raises(TypeError, match="pass NodeSize"):
        stream(budget=Accuracy(0.1, 0.1))
    with pytest.raises(ValueError, match="block = 1"):
        stream(block=1)
    with pytest.raises(ValueError, match="shard = -1"):
        stream(shard=-1)
    with pytest.raises(TypeError, match="rng"):
        stream(seed=None)
    with pytest.raises(TypeError, match="not spawned"):
        stream(seed=np.random.SeedSequence(1).spawn(1)[0])


def test_seeds_of_all_kinds_are_taken() -> None:
    data = rows(100)
    expected = pushed(stream(seed=9), data).result()
    assert_same(pushed(stream(seed=np.random.SeedSequence(9)), data).result(), expected)
    first, second = (stream(seed=np.random.default_rng(9)) for _ in range(2))
    assert_same(pushed(first, data).result(), pushed(second, data).result())


# ---- memory and time


def test_pushing_many_rows_copies_no_more_than_a_few_blocks() -> None:
    data = WeightedSet(np.ones((100_000, 16)) + np.arange(100_000)[:, None] % 7)
    s = stream(block=4000, size=100, reducer=SensitivityReducer(FiniteQueries(above, [0.0]), IID()))
    s.push(cut(data, 0, 4000))
    tracemalloc.start()
    s.push(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * data.points.nbytes
    assert sum(points for _, points, _ in s.ledger.nodes) <= 100 * 7


def test_waiting_rows_are_joined_once() -> None:
    """Rows that come one by one: the work is that of one join a block, not one a push."""
    s = stream(block=20_000, size=10, reducer=SensitivityReducer(FiniteQueries(above, [-10.0]), IID()))
    point = WeightedSet([[1.0, 2.0]])
    tracemalloc.start()
    for _ in range(2000):
        s.push(point)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size + 100_000  # no second copy of what waits was ever made
    assert s.rows == 2000


def test_iid_draws_stream_too() -> None:
    s = pushed(stream(reducer=reducer(IID())), rows(300))
    assert s.result().data.n <= 12 * len(s.ledger.nodes) + 300 % 32
