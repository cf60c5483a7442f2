"""Parameters and operations, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Conv2d, Linear, Sequential

from nn.cost import Cost, cost, latency


def test_convolutions_count_two_operations_a_weight_and_pixel():
    network = Conv2d(4, 6, 3, padding=1, groups=2)
    assert cost(network, torch.rand(5, 4, 7, 7)) == Cost(6 * 2 * 9 + 6, 2 * 6 * 2 * 9 * 49)


def test_operations_are_those_of_one_example():
    network = Sequential(Linear(8, 6), Linear(6, 2))
    assert {cost(network, torch.rand(n, 8)) for n in (1, 2, 7)} == {Cost(54 + 14, 2 * (48 + 12))}


def test_shared_parameters_count_once():
    network = Sequential(Linear(4, 4), Linear(4, 4))
    network[1].weight = network[0].weight
    assert cost(network, torch.rand(2, 4)).parameters == 16 + 8


def test_network_keeps_its_mode_and_costs_survive_json():
    network = Sequential(Linear(4, 4), torch.nn.Dropout()).train()
    network[1].eval()
    found = cost(network, torch.rand(2, 4))
    latency(network, torch.rand(2, 4), seconds=0.01)
    assert [m.training for m in network.modules()] == [True, True, False]
    assert Cost.from_dict(found.to_dict()) == found


def test_latency_is_a_positive_time_and_refuses_nonsense():
    network = Linear(4, 4)
    assert 0.0 < latency(network, torch.rand(2, 4), seconds=0.01) < 1.0
    with pytest.raises(ValueError, match="seconds"):
        latency(network, torch.rand(2, 4), seconds=0.0)
    with pytest.raises(ValueError, match="threads"):
        latency(network, torch.rand(2, 4), threads=0)
