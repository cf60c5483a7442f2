"""Descriptions count all that may depend on the examples."""

from __future__ import annotations

import pytest
import torch

import nn
from coresets import AssumptionError
from nn.certify import description_bits, occam


def test_running_statistics_are_counted():
    layer, norm = torch.nn.Linear(7, 4, bias=False), torch.nn.BatchNorm1d(4, affine=False)
    alone = description_bits(layer)
    # Two float32 vectors of length 4, and one counter of 64 bits.
    assert description_bits(torch.nn.Sequential(layer, norm)) == alone + 2 * 4 * 32 + 64


def test_values_take_the_bits_of_their_type():
    layer = torch.nn.Linear(7, 1, bias=False)
    assert description_bits(layer) == 3 + 7 * (3 + 32)
    assert description_bits(layer.double()) == 3 + 7 * (3 + 64)
    assert description_bits(layer, 8) == 3 + 7 * (3 + 8)


def test_masks_cost_nothing_beside_the_places_of_the_kept_weights():
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.25))
    assert description_bits(pruned.model) == description_bits(pruned.finalize()) < description_bits(net)
    certificate = occam(pruned.model, 0.1, 10_000)
    assert certificate.details["bits"] == description_bits(pruned.model)


def test_more_values_than_the_bits_can_tell_apart_are_refused():
    net = torch.nn.Sequential(torch.nn.Linear(8, 6, bias=False), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    with pytest.raises(AssumptionError, match=r"'0.weight' has 48 different values, which 5 bits"):
        occam(net, 0.1, 10_000, bits_per_value=5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.sign_()
        net[0].weight[0] = 0.0  # dropped weights are not written
    assert occam(net, 0.1, 10_000, bits_per_value=1).value > 0.1


def test_the_name_of_a_network_that_is_a_layer_is_no_obstacle():
    layer = torch.nn.Linear(9, 1)
    with pytest.raises(AssumptionError, match="'weight' has 9"):
        description_bits(layer, 3)
