"""Budgets resolve to exact counts, and say what is wrong with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.budgets import Budget, Dense, KeepCount, KeepRatio, PerLayer, Share, shares

SIZES = {"conv1": 90, "conv2": 900, "head": 100}


@given(st.floats(1e-6, 1.0), st.integers(1, 10**9))
def test_ratio_gives_the_nearest_count_and_at_least_one(ratio: float, total: int):
    count = KeepRatio(ratio).count(total)
    assert 1 <= count <= total
    assert abs(count - ratio * total) <= 0.5 + 1e-6 or count == 1


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.5, float("nan")])
def test_ratio_outside_its_range_is_refused(ratio: float):
    with pytest.raises(ValueError, match=r"ratio"):
        KeepRatio(ratio)


def test_one_budget_is_one_share_of_all_layers():
    assert shares(KeepRatio(0.1), SIZES) == (Share(("conv1", "conv2", "head"), 109),)


def test_layers_with_their_own_budget_leave_the_rest():
    budget = PerLayer({"conv1": KeepCount(45), "head": Dense()}, rest=KeepRatio(0.1))
    assert shares(budget, SIZES) == (Share(("conv1",), 45), Share(("conv2",), 90))


def test_wildcards_give_every_fitting_layer_a_count_of_its_own():
    assert shares(PerLayer({"conv*": KeepRatio(0.5)}), SIZES) == (
        Share(("conv1",), 45),
        Share(("conv2",), 450),
    )


def test_first_fitting_pattern_wins():
    budget = PerLayer({"conv2": Dense(), "conv*": KeepCount(3)})
    assert shares(budget, SIZES) == (Share(("conv1",), 3),)


@pytest.mark.parametrize(
    ("budget", "error", "message"),
    [
        (KeepCount(1091), ValueError, "of only 1090"),
        (PerLayer({"fc": KeepRatio(0.5)}), ValueError, "no layer is named 'fc'"),
        (0.1, TypeError, "KeepRatio"),
        (KeepRatio, TypeError, "KeepRatio"),
    ],
)
def test_impossible_budgets_are_refused(budget: Budget, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        shares(budget, SIZES)


def test_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="no Linear or Conv2d"):
        shares(KeepRatio(0.5), {})


@pytest.mark.parametrize("inner", [0.5, KeepRatio, PerLayer({})])
def test_budget_of_a_layer_must_be_a_plain_one(inner: object):
    with pytest.raises(TypeError, match="'conv1'"):
        PerLayer({"conv1": inner})  # type: ignore[dict-item]
