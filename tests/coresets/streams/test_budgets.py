"""Budgets of a tree and the two theorems about it: exact sums, brute-force trees, simulated variances."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import (
    Accuracy,
    AssumptionError,
    Coreset,
    FiniteQueries,
    Poisson,
    SensitivityReducer,
    WeightedSet,
)
from coresets.guarantee import Scheme
from coresets.guarantees import (
    FiniteClass,
    FinitePoisson,
    MergeAndReduce,
    StreamClass,
    StreamVariance,
)
from coresets.streams import KnownLength, MergeReduce, NodeSize, PartReducer, UnknownLength

TREE, LAW = MergeAndReduce(), StreamVariance()
accuracies = st.builds(Accuracy, st.floats(1e-3, 1.0), st.floats(1e-9, 0.99))


@dataclass
class Tree:
    """Levels and reductions of a stream of so many blocks, by carrying them out."""

    blocks: int

    def walk(self) -> list[int]:
        """Level of every reduction, in order."""
        found, levels = [], set()
        for _ in range(self.blocks):
            level = 1
            found.append(level)
            while level in levels:
                levels.remove(level)
                level += 1
                found.append(level)
            levels.add(level)
        return found


@given(blocks=st.integers(1, 600), left=st.integers(0, 6), accuracy=accuracies)
def test_shares_of_a_known_length_fit_the_whole(blocks: int, left: int, accuracy: Accuracy) -> None:
    walk = Tree(blocks).walk()
    assert TREE.levels(7 * blocks + left, 7) == max(walk)
    each = TREE.of_each(accuracy, rows=7 * blocks + left, block=7)
    whole = (1 + Fraction(each.epsilon)) ** max(walk) - 1
    assert whole <= Fraction(accuracy.epsilon) <= whole * (1 + Fraction(1, 10**9))
    assert len(walk) * Fraction(each.delta) <= Fraction(accuracy.delta)
    assert (
        2 * len(walk) * Fraction(each.delta) >= Fraction(accuracy.delta) * (1 - Fraction(1, 10**9))
        or blocks == 1
    )


@settings(max_examples=10)
@given(accuracy=accuracies)
def test_shares_of_an_unknown_length_fit_the_whole(accuracy: Accuracy) -> None:
    levels = [TREE.of_next(accuracy, level=level, reduction=1).epsilon for level in range(1, 60)]
    assert math.prod(1.0 + e for e in levels) <= 1.0 + accuracy.epsilon
    spent = math.fsum(
        TREE.of_next(accuracy, level=1, reduction=j, shard=i).delta for i in range(40) for j in range(1, 40)
    )
    assert 0.9 * accuracy.delta < spent <= accuracy.delta
    # What is left is the product of two tails of the sum of inverse squares.
    tail = math.pi**2 / 6 - math.fsum(1.0 / i**2 for i in range(1, 41))
    assert spent >= accuracy.delta * (1.0 - 2.0 * 6.0 / math.pi**2 * (tail + 1.0 / 1600))


def test_later_shards_get_less() -> None:
    deltas = [TREE.of_next(Accuracy(0.1, 0.1), level=1, reduction=1, shard=i).delta for i in range(3)]
    assert deltas[0] / deltas[1] == pytest.approx(4.0)
    assert deltas[0] / deltas[2] == pytest.approx(9.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: NodeSize(0),
        lambda: KnownLength(Accuracy(0.0, 0.1), 10),
        lambda: KnownLength(Accuracy(0.1, 0.0), 10),
        lambda: KnownLength(Accuracy(0.1, 0.1), 0),
        lambda: UnknownLength(Accuracy(1.5, 0.1)),
        lambda: TREE.of_next(Accuracy(0.1, 0.1), level=0, reduction=1),
        lambda: TREE.of_next(Accuracy(0.1, 0.1), level=1, reduction=1, shard=-1),
        lambda: StreamClass(2.0, shares=()),
        lambda: StreamClass(2.0, shares=(0.5, 1.5)),
        lambda: StreamClass(2.0, shares=(1.0,), queries=0),
    ],
)
def test_bad_budgets_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match=r"="):
        call()


def test_an_accuracy_is_not_a_number() -> None:
    with pytest.raises(TypeError, match="pass Accuracy"):
        UnknownLength(0.1)  # type: ignore[arg-type]
    with pytest.raises(AssumptionError, match="below 1"):
        StreamClass(0.5, shares=(1.0,))


# ---- MR-V


@given(levels=st.integers(1, 30), t=st.floats(1.0, 50.0), size=st.integers(1, 10**6))
def test_the_variance_of_any_order_is_a_power(levels: int, t: float, size: int) -> None:
    found = LAW.variance(StreamClass(t, (1.0,) * levels), size)
    assert found == pytest.approx((1.0 + t / size) ** levels - 1.0, rel=1e-9)


@given(levels=st.integers(1, 12), size=st.integers(10, 10**5))
def test_the_variance_of_spread_costs_is_that_of_the_recursion_over_the_tree(levels: int, size: int) -> None:
    """S <= (1 + v)(S_1 + S_2) + v F_b^2, node by node, on 2^(L - 1) equal blocks."""
    v = 2.0 / size
    s, cost = 0.0, 1.0 / 2 ** (levels - 1)
    for level in range(levels):
        if level:
            s, cost = 2.0 * s, 2.0 * cost
        s = (1.0 + v) * s + v * cost**2
    shares = tuple(2.0 ** (level - levels + 1) for level in range(levels))
    assert LAW.variance(StreamClass(2.0, shares), size) >= s * (1.0 - 1e-12)
    # The theorem bounds the powers of 1 + v by those of the longest path, here that of all nodes.
    assert LAW.variance(StreamClass(2.0, shares), size) == pytest.approx(s, rel=1e-9)


@settings(max_examples=40)
@given(
    t=st.floats(1.0, 50.0),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12),
    queries=st.integers(1, 1000),
    accuracy=st.builds(Accuracy, st.floats(0.01, 1.0), st.floats(1e-6, 0.9)),
)
def test_size_and_epsilon_are_exact_inverses(
    t: float, shares: list[float], queries: int, accuracy: Accuracy
) -> None:
    parameters = StreamClass(t, tuple(shares), queries)
    size = LAW.size(parameters, accuracy)
    assert LAW.epsilon(parameters, size, accuracy.delta) <= accuracy.epsilon
    if size > 1:
        assert LAW.epsilon(parameters, size - 1, accuracy.delta) > accuracy.epsilon
    again = LAW.epsilon(parameters, size, accuracy.delta)
    assert LAW.size(parameters, Accuracy(min(1.0, again), accuracy.delta)) <= size


@settings(max_examples=40)
@given(
    kappa=st.floats(0.5, 1e4),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6),
    epsilon=st.floats(0.01, 1.0),
)
def test_the_exponent_is_the_best_of_all_thetas(kappa: float, shares: list[float], epsilon: float) -> None:
    """Against a direct search in the form of the theorem, at the delta where it is tight."""
    later = len(shares) - 1
    variance = (shares[0] + later * (1.0 + epsilon) ** 2) / kappa
    bound = ((1.0 + epsilon) if later else shares[0]) / kappa
    theta = np.linspace(0.0, 60.0, 200_001) / bound
    exponent = float(
        np.max(theta * epsilon - variance * (np.expm1(theta * bound) - theta * bound) / bound**2)
    )
    delta = 2.0 * math.exp(-exponent)
    if not 1e-9 < delta < 0.5:
        return
    size = 10**6
    parameters = StreamClass(size / kappa, tuple(shares)) if size / kappa >= 1.0 else None
    assert parameters is not None
    found = LAW.epsilon(parameters, size, delta)
    chebyshev = math.sqrt(LAW.variance(parameters, size) / delta)
    assert found == pytest.approx(min(epsilon, chebyshev), rel=1e-4)


def test_one_level_of_everything_is_bennett_for_a_single_draw() -> None:
    one, plain = StreamClass(3.0, (1.0,)), FiniteClass(3.0)
    for delta in (0.1, 1e-3):
        assert LAW.epsilon(one, 500, delta) <= FinitePoisson().epsilon(plain, 500, delta)


def test_streams_pay_for_levels_with_their_root_and_not_in_full() -> None:
    wanted = Accuracy(0.1, 0.05)
    few, many = (LAW.size(StreamClass(2.0, (1.0,) * levels), wanted) for levels in (4, 16))
    assert 4.0 < many / few < (1.0 + 15.0 * 1.1**2) / (1.0 + 3.0 * 1.1**2)  # the ratio of V
    each = TREE.of_each(wanted, rows=2**15, block=1)
    assert FinitePoisson().size(FiniteClass(2.0), each) > 30 * many


def test_means_of_streams_use_variances_only() -> None:
    parameters = StreamClass(2.0, (1.0,) * 5)
    one = LAW.mean_epsilon(parameters, 400, 0.01, 1)
    assert one == LAW.epsilon(parameters, 400, 0.01)
    hundred = LAW.mean_epsilon(parameters, 400, 0.01, 100)
    assert hundred == pytest.approx(math.sqrt(LAW.variance(parameters, 400) / 100 / 0.01))


def test_a_choice_of_the_top_is_not_covered() -> None:
    with pytest.raises(AssumptionError, match="MR-V"):
        LAW.require(Scheme.TOP)


def test_the_variance_of_a_stream_is_at_most_that_of_the_theorem() -> None:
    """Poisson sampling of one query on equal blocks."""
    data = WeightedSet(np.ones((256, 1)))
    loss = FiniteQueries(lambda data, x: data.points[:, 0], [0.0])
    answers = []
    for seed in range(150):
        stream = MergeReduce(SensitivityReducer(loss, Poisson()), NodeSize(16), block=64, rng=seed)
        stream.push(data)
        found = stream.result().data
        answers.append(float(found.weights @ found.points[:, 0]) / 256.0)
    allowed = LAW.variance(StreamClass(1.0, (0.25, 0.5, 1.0)), 16)
    # Of a chi-square with 149 degrees of freedom, the factor is exceeded with probability 1e-6.
    assert np.var(answers, ddof=1) < 1.65 * allowed
    assert np.var(answers, ddof=1) > 0.25 * allowed  # half of what is merged is kept, so half is lost
    assert abs(np.mean(answers) - 1.0) < 5.0 * math.sqrt(allowed / len(answers))


# ---- a term of the cost that belongs to all the data


@dataclass(frozen=True)
class Ridge:
    """Keeps the dearest points of U r + sum w f, f the first column, up to epsilon of the whole."""

    per_mass: float
    mass: float = math.nan
    seen: Any = None

    def for_part(self, mass: float) -> Ridge:
        if self.seen is not None:
            self.seen.append(mass)
        return replace(self, mass=mass)

    def reduce(self, data: WeightedSet, *, accuracy: Accuracy, rng: Any) -> Coreset:
        costs = data.weights * data.points[:, 0]
        order = np.argsort(costs)
        lost = np.cumsum(costs[order])
        dropped = np.count_nonzero(lost <= accuracy.epsilon * (self.mass * self.per_mass + lost[-1]))
        kept = np.sort(order[min(dropped, data.n - 1) :])
        return Coreset(indices=kept, weights=data.weights[kept], size=kept.size, accuracy=accuracy)


def test_parts_are_told_their_original_masses() -> None:
    seen: list[float] = []
    rng = np.random.default_rng(0)
    data = WeightedSet(rng.exponential(size=(80, 1)), rng.exponential(size=80))
    reducer = Ridge(1.0, seen=seen)
    assert isinstance(reducer, PartReducer)
    stream = MergeReduce(reducer, UnknownLength(Accuracy(0.9, 0.1)), block=20, rng=0)
    stream.push(data)
    blocks = data.weights.reshape(4, 20).sum(axis=1)
    expected = [blocks[0], blocks[1], blocks[:2].sum(), blocks[2], blocks[3], blocks[2:].sum(), blocks.sum()]
    assert np.allclose(seen, expected, rtol=1e-14)
    assert stream.result().data.weights.sum() < 0.9 * data.weights.sum()
    assert np.isclose(stream.ledger.mass, data.weights.sum(), rtol=1e-14)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), per_mass=st.floats(0.0, 5.0), blocks=st.integers(1, 17))
def test_a_shared_regulariser_keeps_the_error_within_the_accuracy(
    seed: int, per_mass: float, blocks: int
) -> None:
    rng = np.random.default_rng(seed)
    n = 20 * blocks
    data = WeightedSet(rng.pareto(2.0, size=(n, 1)), rng.exponential(size=n) + 1e-3)
    stream = MergeReduce(Ridge(per_mass), KnownLength(Accuracy(0.3, 0.1), n), block=20, rng=0)
    stream.push(data)
    found = stream.result()
    common = per_mass * data.weights.sum()
    exact = common + data.weights @ data.points[:, 0]
    answer = per_mass * found.ledger.mass + found.data.weights @ found.data.points[:, 0]
    assert abs(answer - exact) <= found.accuracy.epsilon * exact * (1.0 + 1e-12)
    assert found.accuracy.epsilon <= 0.3
