"""Scores become masks with exact counts, whatever ties there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nn.budgets import Share
from nn.selection import Global, Uniform, keep_best, largest_remainder


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
