"""Scores become masks with exact counts, whatever ties there are."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nn
from nn.budgets import Share
from nn.selection import (
    ERK,
    LAMP,
    Global,
    Uniform,
    keep_best,
    lamp_scores,
    largest_remainder,
    refuse_ranking,
    split_alive,
)


def alive_like(scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.ones_like(values, dtype=torch.bool) for name, values in scores.items()}


@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)),
    hnp.arrays(np.int8, st.integers(1, 30), elements=st.integers(0, 3)),
    st.data(),
)
def test_the_best_scores_are_kept_and_of_equal_ones_the_earlier(first, second, data):
    scores = {"a": torch.from_numpy(first), "b": torch.from_numpy(second)}
    flat = np.concatenate([first.ravel(), second.ravel()])
    count = data.draw(st.integers(0, flat.size))
    masks = keep_best(scores, Share(("a", "b"), count), alive_like(scores))
    kept = np.concatenate([masks["a"].numpy().ravel(), masks["b"].numpy().ravel()])
    expected = np.zeros(flat.size, dtype=bool)
    expected[np.argsort(-flat.astype(int), kind="stable")[:count]] = True
    np.testing.assert_array_equal(kept, expected)


def test_dropped_weights_never_come_back():
    scores = {"a": torch.tensor([5.0, 4.0, 3.0, 2.0])}
    alive = {"a": torch.tensor([False, True, False, True])}
    assert keep_best(scores, Share(("a",), 1), alive)["a"].tolist() == [False, True, False, False]
    assert torch.equal(keep_best(scores, Share(("a",), 4), alive)["a"], alive["a"])


def test_score_that_is_nan_is_refused_by_layer():
    scores = {"a": torch.tensor([1.0, float("nan")])}
    with pytest.raises(ValueError, match="layer 'a'"):
        keep_best(scores, Share(("a",), 1), alive_like(scores))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any), st.data())
def test_largest_remainder_adds_up_and_stays_within_one(sizes: list[int], data: st.DataObject):
    count = data.draw(st.integers(0, sum(sizes)))
    weights = np.array(sizes, dtype=np.float64)
    parts = largest_remainder(weights, count)
    assert parts.sum() == count
    assert np.all(np.abs(parts - weights * count / weights.sum()) < 1.0)
    assert np.all(parts <= weights)


def test_uniform_allocation_gives_every_layer_the_same_ratio():
    split = Uniform().split(Share(("a", "b"), 33), {"a": 100, "b": 10})
    assert split == (Share(("a",), 30), Share(("b",), 3))


def test_global_allocation_leaves_the_share_whole():
    share = Share(("a", "b"), 33)
    assert Global().split(share, {"a": 100, "b": 10}) == (share,)


def test_weights_that_are_gone_stay_gone_even_with_the_best_scores():
    alive = {"a": torch.tensor([False, False, True, True])}
    for scores in (torch.full((4,), -torch.inf), torch.tensor([9.0, 9.0, -torch.inf, -torch.inf])):
        kept = keep_best({"a": scores}, Share(("a",), 2), alive)
        assert torch.equal(kept["a"], alive["a"])


SHAPES = st.lists(
    st.one_of(
        st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 6)] * 2, *[st.integers(1, 3)] * 2)
    ),
    min_size=1,
    max_size=6,
)


def erk_counts(shapes: list[tuple[int, ...]], count: int) -> list[int]:
    names = [str(i) for i in range(len(shapes))]
    sizes = {n: math.prod(shape) for n, shape in zip(names, shapes, strict=True)}
    parts = ERK().split(Share(tuple(names), count), sizes, dict(zip(names, shapes, strict=True)))
    assert [part.layers for part in parts] == [(n,) for n in names]
    return [part.count for part in parts]


def exact_erk(shapes: list[tuple[int, ...]], count: int) -> list[Fraction]:
    """Counts before rounding, by trying every set of layers that are full: the definition."""
    sizes, sides = [math.prod(s) for s in shapes], [sum(s) for s in shapes]
    n = len(shapes)
    for full in range(2**n):
        whole = [bool(full >> i & 1) for i in range(n)]
        rest = count - sum(size for size, w in zip(sizes, whole, strict=True) if w)
        open_sides = sum(side for side, w in zip(sides, whole, strict=True) if not w)
        if rest < 0 or (open_sides == 0 and rest > 0):
            continue
        scale = Fraction(rest, open_sides) if open_sides else None
        counts = [
            Fraction(size) if w else scale * side for size, side, w in zip(sizes, sides, whole, strict=True)
        ]
        # A layer is full exactly if the common factor would give it all of its weights.
        least = [Fraction(size, side) for size, side in zip(sizes, sides, strict=True)]
        consistent = scale is None or all(
            (ratio <= scale) if w else (ratio > scale) for ratio, w in zip(least, whole, strict=True)
        )
        if consistent:
            return counts
    raise AssertionError("no set of full layers is consistent")


@given(SHAPES, st.data())
def test_erk_counts_are_the_exact_ones_rounded_by_less_than_one(shapes, data):
    total = sum(math.prod(shape) for shape in shapes)
    count = data.draw(st.integers(0, total))
    found, exact = erk_counts(shapes, count), exact_erk(shapes, count)
    assert sum(found) == count
    assert all(0 <= k <= math.prod(shape) for k, shape in zip(found, shapes, strict=True))
    # A remainder that a full layer cannot take may go to a neighbour, never more than one each.
    assert all(abs(k - x) <= 1 for k, x in zip(found, exact, strict=True))


def test_erk_gives_published_densities_of_lenet():
    # Densities in proportion to (300 + 784) / (300 784), ...; the last layer would exceed 1 and is dense.
    shapes = [(300, 784), (100, 300), (10, 100)]
    count = 26_620  # a tenth
    last, rest = 1000, 26_620 - 1000
    expected = [rest * 1084 / 1484, rest * 400 / 1484, last]
    assert np.abs(np.array(erk_counts(shapes, count)) - expected).max() < 1


def test_erk_meets_counts_where_layers_were_pruned_before():
    alive = {"a": torch.zeros(6, 4, dtype=torch.bool), "b": torch.ones(3, 6, dtype=torch.bool)}
    alive["a"][0, :2] = True
    parts = split_alive(ERK(), Share(("a", "b"), 12), {"a": 24, "b": 18}, alive)
    assert [part.count for part in parts] == [2, 10]


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=4), st.data())
def test_lamp_keeps_the_best_of_its_definition(layers, data):
    total = sum(map(len, layers))
    count = data.draw(st.integers(0, total))
    flat = []
    for layer, values in enumerate(layers):
        order = sorted(range(len(values)), key=lambda j, v=values: (-v[j], j))
        for rank, j in enumerate(order):
            tail = sum(values[i] ** 2 for i in order[: rank + 1])
            flat.append((-Fraction(values[j] ** 2, tail or 1), layer, j))
    expected = sorted(flat)[:count]
    scores = {str(i): torch.tensor(values, dtype=torch.float32) for i, values in enumerate(layers)}
    (part,) = split_alive(
        LAMP(), Share(tuple(scores), count), {n: len(v) for n, v in scores.items()}, alive_like(scores)
    )
    kept = keep_best(scores, part, alive_like(scores))
    mine = [
        (layer, j) for layer, values in enumerate(layers) for j in range(len(values)) if kept[str(layer)][j]
    ]
    # Which of two equal scores of different layers is first depends on the last bit of a logarithm.
    threshold = expected[-1][0] if expected else -2
    sure = {(layer, j) for value, layer, j in flat if value < threshold}
    allowed = {(layer, j) for value, layer, j in flat if value <= threshold}
    assert len(mine) == count
    assert sure <= set(mine) <= allowed


@given(st.integers(0, 10**6), st.floats(2.0**-60, 2.0**60))
def test_lamp_ignores_the_scale_of_layers_and_keeps_their_order(seed, scale):
    values = torch.rand(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores = lamp_scores(values)
    assert torch.equal(torch.argsort(scores), torch.argsort(values))
    assert torch.allclose(lamp_scores(scale * values), scores, rtol=0.0, atol=1e-12)
    assert float(scores.max()) == 0.0


def test_lamp_leaves_every_layer_a_weight_where_a_global_threshold_does_not():
    network = torch.nn.Sequential(*(torch.nn.Linear(30, 30) for _ in range(4)))
    with torch.no_grad():
        for layer, scale in zip(network, (1.0, 1e-3, 1e-30, 1e10), strict=True):
            layer.weight.mul_(scale)
    with pytest.warns(nn.PruningWarning, match="keeps no weight"):
        nn.prune(network, nn.Magnitude(), nn.KeepCount(4))
    assert [
        layer.kept for layer in nn.plan(network, nn.Magnitude(LAMP()), nn.KeepCount(4)).layers.values()
    ] == [
        1,
        1,
        1,
        1,
    ]


def test_lamp_of_equal_weights_keeps_one_of_each_layer():
    # With all equal scores in each other's sums, as it is sometimes written, each of the hundred has
    # 1/100, and the layer would vanish before two weights of the other one, with 1 and 1/2, do.
    scores = {"equal": torch.ones(100), "other": torch.tensor([1.0, 1.0 - 1e-6])}
    (part,) = LAMP().split(Share(("equal", "other"), 2), {})
    kept = keep_best(scores, part, alive_like(scores))
    assert [int(mask.sum()) for mask in kept.values()] == [1, 1]


def test_lamp_looks_at_weights_that_are_alive_only():
    scores = {"a": torch.tensor([100.0, 2.0, 1.0]), "b": torch.tensor([3.0, 2.9])}
    alive = {"a": torch.tensor([False, True, True]), "b": torch.tensor([True, True])}
    (part,) = LAMP().split(Share(("a", "b"), 3), {})
    # In a: 1 and 1/5; in b: 1 and about 0.48.
    kept = keep_best(scores, part, alive)
    assert kept["a"].tolist() == [False, True, False]
    assert kept["b"].tolist() == [True, True]


@pytest.mark.parametrize("allocation", [ERK(), LAMP()], ids=repr)
def test_budgets_are_met_with_methods_that_rank_weights(allocation):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5)
    )
    data = [(torch.randn(8, 1, 6, 6), torch.randint(5, (8,)))]
    methods = (
        nn.Magnitude(allocation),
        nn.SNIP(allocation=allocation, steps=3),
        nn.Taylor(allocation=allocation),
        nn.Random(allocation),
        nn.Wanda(per_neuron=False, allocation=allocation),
    )
    for method in methods:
        plan = nn.plan(network, method, nn.KeepRatio(0.3), calibration=data, rng=0)
        assert plan.kept == nn.KeepRatio(0.3).count(plan.total)
    assert "ERK()" in str(plan) or "LAMP()" in str(plan)


def test_lamp_is_refused_where_nothing_non_negative_is_ranked():
    for method in (nn.OLSForward, nn.OBSBackward, nn.BestPath, nn.Feedback, nn.CoreNet, nn.Wanda):
        with pytest.raises(TypeError, match=f"{method.__name__} divides its count"):
            method(allocation=LAMP())
        method(allocation=ERK())
    refuse_ranking(Global(), nn.Magnitude())
    with pytest.raises(TypeError, match="shapes of their layers"):
        ERK().split(Share(("a",), 1), {"a": 2})
    for bad in (-1.0, math.inf):
        with pytest.raises(ValueError, match="negative or infinite"):
            lamp_scores(torch.tensor([1.0, bad]))
    assert lamp_scores(torch.zeros(3)).tolist() == [-math.inf] * 3
    assert lamp_scores(torch.zeros(0)).shape == (0,)
