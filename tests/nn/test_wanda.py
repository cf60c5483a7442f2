"""Wanda ranks by weight times column length, neuron by neuron."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nn
from nn.edges.wanda import Wanda


def layer_and_data(seed: int) -> tuple[torch.nn.Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(8, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(5, 8, generator=generator))
    return layer, torch.randn(30, 8, generator=generator) * torch.rand(8, generator=generator) * 5


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_every_neuron_keeps_its_best_products(seed, count):
    layer, data = layer_and_data(seed)
    plan = nn.plan(layer, Wanda(), nn.KeepCount(count), calibration=list(data.split(11)))
    keep = plan.layers[""].keep
    places = keep.sum(1)
    assert int(places.sum()) == count
    assert int(places.max() - places.min()) <= 1
    scores = layer.weight.detach().double().abs() * data.double().norm(dim=0)
    for row, mask, k in zip(scores, keep, places.tolist(), strict=True):
        assert set(torch.nonzero(mask).reshape(-1).tolist()) == set(row.topk(k).indices.tolist())
    assert torch.equal(plan.layers[""].weight[keep], layer.weight.detach()[keep])


def test_inputs_of_one_length_make_it_magnitude_in_each_row():
    layer, _ = layer_and_data(0)
    plan = nn.plan(layer, Wanda(), nn.KeepCount(10), calibration=[torch.eye(8)])
    assert torch.equal(plan.layers[""].keep.nonzero()[:, 1].reshape(5, 2).sort(1).values,
                       layer.weight.detach().abs().topk(2, dim=1).indices.sort(1).values)  # fmt: skip


def test_a_whole_layer_competes_if_asked_to():
    layer, data = layer_and_data(1)
    plan = nn.plan(layer, Wanda(per_neuron=False), nn.KeepCount(13), calibration=[data])
    scores = (layer.weight.detach().double().abs() * data.double().norm(dim=0)).reshape(-1)
    expected = torch.zeros(40, dtype=torch.bool)
    expected[scores.topk(13).indices] = True
    assert torch.equal(plan.layers[""].keep.reshape(-1), expected)


def test_grouped_convolutions_use_the_patches_of_their_group():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 2, 2, groups=2, bias=False)
    images = torch.randn(20, 2, 4, 4)
    plan = nn.plan(conv, Wanda(), nn.KeepCount(2), calibration=[images])
    for channel in range(2):
        patches = torch.nn.functional.unfold(images[:, channel : channel + 1], 2)
        lengths = patches.double().square().sum((0, 2)).sqrt()
        best = int((conv.weight.detach()[channel].reshape(-1).abs() * lengths).argmax())
        assert plan.layers[""].keep[channel].reshape(-1).nonzero().item() == best


def test_weights_that_were_pruned_before_stay_away_and_counts_are_met():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.ReLU(), torch.nn.Linear(7, 5))
    first = nn.prune(net, nn.Random(), nn.KeepRatio(0.5), rng=0)
    second = nn.plan(first.model, Wanda(), nn.KeepCount(30), calibration=[torch.randn(20, 9)])
    assert second.kept == 30
    for name, layer in second.layers.items():
        assert not bool((layer.keep & ~first.plan.layers[name].keep).any())
    all_of_them = nn.plan(first.model, Wanda(), nn.KeepCount(90), calibration=[torch.randn(20, 9)])
    assert all_of_them.kept == first.plan.kept


def test_half_precision_sums_in_double():
    layer = torch.nn.Linear(2, 1, bias=False).half()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0]]))
    data = torch.full((4096, 2), 200.0).half()  # squares overflow half precision
    data[:, 0] += 1.0
    plan = nn.plan(layer, Wanda(), nn.KeepCount(1), calibration=[data])
    assert plan.layers[""].keep.tolist() == [[True, False]]


def test_data_are_needed():
    with pytest.raises(ValueError, match="calibration"):
        nn.plan(torch.nn.Linear(3, 2), Wanda(), nn.KeepCount(3))
