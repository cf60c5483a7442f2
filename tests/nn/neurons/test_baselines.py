"""The comparators, against their definitions spelt out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import BatchNorm2d, Conv2d, Linear, ReLU, Sequential

import nn
from examples.networks import resnet20
from nn.neurons import FilterNorm, GeometricMedian, RandomUnits, baselines
from nn.neurons.baselines import IncomingRows, distance_sums
from nn.units.method import keep_best_units, split_units

IMAGES = torch.rand(2, 3, 8, 8)


def conv_net() -> Sequential:
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 6, 3), BatchNorm2d(6), ReLU(), Conv2d(6, 5, 3), ReLU(), Conv2d(5, 2, 1))


def kept(method: nn.units.UnitMethod, network: torch.nn.Module, count: int) -> list[int]:
    budget = nn.PerLayer({"0": nn.KeepCount(count)})
    keep = nn.plan(network, method, budget, calibration=[IMAGES], rng=0).groups["0"].keep
    return torch.nonzero(keep).reshape(-1).tolist()


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
def test_filters_of_largest_norm_stay(order: float):
    network = conv_net()
    norms = [float((row.abs() ** order).sum()) for row in network[0].weight.detach().double()]
    expected = sorted(sorted(range(6), key=lambda unit: -norms[unit])[:3])
    assert kept(FilterNorm(order), network, 3) == expected


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
def test_norms_are_the_same_for_blocks_of_any_size(order: float, monkeypatch: pytest.MonkeyPatch):
    network = resnet20(width=4)
    whole = nn.plan(network, FilterNorm(order), nn.KeepRatio(0.5), calibration=[IMAGES])
    monkeypatch.setattr("nn.neurons.baselines._BLOCK_ENTRIES", 1)
    blocks = nn.plan(network, FilterNorm(order), nn.KeepRatio(0.5), calibration=[IMAGES])
    assert all(torch.equal(whole.groups[name].keep, blocks.groups[name].keep) for name in whole.groups)


def test_norms_of_a_stream_are_taken_over_all_that_write_to_it():
    network = resnet20(width=4)
    writers = [network[0], *(network[i].body[3] for i in (3, 4, 5))]
    squares = sum(layer.weight.detach().double().square().sum(dim=(1, 2, 3)) for layer in writers)
    assert kept(FilterNorm(), network, 2) == sorted(squares.argsort(descending=True)[:2].tolist())


def test_geometric_median_removes_the_filter_nearest_to_all():
    network = conv_net()
    rows = network[0].weight.detach().double().flatten(1)
    sums = [sum(float((a - b).norm()) for b in rows) for a in rows]
    assert kept(GeometricMedian(), network, 5) == [unit for unit in range(6) if sums[unit] != min(sums)]


@pytest.mark.parametrize("kind", ["apart", "near", "twins"])
def test_sums_of_distances_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, kind: str):
    torch.manual_seed(1)
    rows = torch.randn(37, 9, dtype=torch.float64)
    if kind == "near":  # distances that vanish beside the lengths
        rows = 1e6 + rows
    if kind == "twins":
        rows[30:] = rows[3]
    monkeypatch.setattr(baselines, "_BLOCK_ENTRIES", 9 * 8)
    found = distance_sums(IncomingRows([(rows, torch.arange(37)[:, None])]))
    every = (rows[:, None] - rows[None]).square().sum(2).sqrt().sum(1)
    # Squared distances have errors of some units of their cancellation bound.
    torch.testing.assert_close(found, every, rtol=100 * torch.finfo(torch.float64).eps / 1e-8, atol=0.0)
    if kind == "twins":
        assert bool((found[30:] == found[3]).all())


def test_order_below_one_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        FilterNorm(0.5)


@given(st.integers(1, 6), st.integers(0, 5))
def test_random_units_are_exactly_as_many_as_asked(count: int, seed: int):
    network = Sequential(Linear(4, 6), ReLU(), Linear(6, 2))
    method = RandomUnits()
    shrunk = nn.plan(network, method, nn.KeepCount(count), calibration=[torch.rand(2, 4)], rng=seed)
    assert shrunk.kept == count


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30), min_size=1), st.data())
def test_shares_sum_to_the_count_and_leave_no_group_empty(sizes: dict[str, int], data: st.DataObject):
    count = data.draw(st.integers(len(sizes), sum(sizes.values())))
    for allocation in (nn.Uniform(), nn.Global()):
        parts = split_units(allocation, nn.budgets.Share(tuple(sizes), count), sizes)
        assert sum(part.count for part in parts) == count
        for part in parts:
            assert len(part.layers) <= part.count <= sum(sizes[name] for name in part.layers)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.data())
def test_kept_scores_dominate_except_for_the_best_of_each_group(scores: list[int], data: st.DataObject):
    values = {"a": torch.tensor(scores, dtype=torch.float64), "b": torch.tensor([0.5, 1.5])}
    count = data.draw(st.integers(2, len(scores) + 2))
    keep = keep_best_units(values, nn.budgets.Share(("a", "b"), count), nn.Global())
    assert sum(int(k.sum()) for k in keep.values()) == count
    free = [float(values[n][u]) for n in values for u in range(len(values[n]))
            if keep[n][u] and u != int(values[n].argmax())]  # fmt: skip
    dropped = [float(v) for n in values for v in values[n][~keep[n]]]
    assert not free or not dropped or min(free) >= max(dropped)


def test_scores_that_are_nan_are_refused():
    with pytest.raises(ValueError, match="'a' are NaN"):
        keep_best_units({"a": torch.tensor([1.0, torch.nan])}, nn.budgets.Share(("a",), 1), nn.Uniform())
