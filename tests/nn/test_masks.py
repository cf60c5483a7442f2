"""Masked networks are ordinary networks: they train, copy, save and load."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parametrize

from nn.masks import bake_in, mask_of, put_on


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))


def masked() -> tuple[torch.nn.Sequential, torch.Tensor]:
    net = network()
    keep = torch.rand(4, 5) < 0.5
    put_on(net, {"0": keep})
    return net, keep


def test_mask_sets_dropped_weights_to_zero_in_the_forward_pass():
    net, keep = masked()
    assert torch.equal(net[0].weight != 0, keep)
    assert torch.equal(mask_of(net[0]), keep)
    assert mask_of(net[2]) is None


def test_training_moves_kept_weights_only():
    net, keep = masked()
    before = net[0].weight.detach().clone()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        net(torch.randn(16, 5)).square().sum().backward()
        optimiser.step()
    after = net[0].weight.detach()
    assert torch.all(after[~keep] == 0)
    assert torch.all(after[keep] != before[keep])


def test_overflow_behind_the_mask_stays_there():
    net, keep = masked()
    net[0].parametrizations.weight.original.data[~keep] = float("inf")
    assert torch.isfinite(net(torch.randn(2, 5))).all()


def test_baking_in_a_copy_leaves_the_original_masked():
    net, keep = masked()
    copied = copy.deepcopy(net)
    bake_in(copied)
    assert type(copied[0]) is torch.nn.Linear
    assert parametrize.is_parametrized(net[0])
    assert torch.equal(net[0].weight, copied[0].weight)
    bake_in(net)
    assert torch.equal(net[0].weight != 0, keep)


def test_baked_in_network_has_the_parameters_of_a_plain_one_in_their_order():
    net, _ = masked()
    bake_in(net)
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in network().named_parameters()]


def test_baking_in_keeps_weights_frozen():
    net = network().requires_grad_(False)
    put_on(net, {"0": torch.rand(4, 5) < 0.5})
    bake_in(net)
    assert not net[0].weight.requires_grad


def test_second_mask_replaces_the_first():
    net, _ = masked()
    second = torch.ones(4, 5, dtype=torch.bool)
    put_on(net, {"0": second})
    assert torch.equal(mask_of(net[0]), second)
    assert len(net[0].parametrizations.weight) == 1


def test_state_dict_of_a_masked_network_loads_without_pickle(tmp_path: Path):
    net, keep = masked()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other = network()
    put_on(other, {"0": torch.ones(4, 5, dtype=torch.bool)})
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    x = torch.randn(7, 5)
    assert torch.equal(other(x), net(x))
    assert torch.equal(mask_of(other[0]), keep)


def test_mask_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"'0' has shape \(5, 4\)"):
        put_on(network(), {"0": torch.ones(5, 4, dtype=torch.bool)})


def test_other_parametrisation_is_refused():
    net = network()
    torch.nn.utils.parametrizations.weight_norm(net[0])
    with pytest.raises(ValueError, match="parametrised already"):
        put_on(net, {"0": torch.ones(4, 5, dtype=torch.bool)})


def test_masks_of_two_networks_are_independent():
    keep = torch.ones(4, 5, dtype=torch.bool)
    first, second = network(), network()
    for net in (first, second):
        put_on(net, {"0": keep})
    state = first.state_dict()
    state["0.parametrizations.weight.0.keep"] = torch.zeros(4, 5, dtype=torch.bool)
    first.load_state_dict(state)
    assert not mask_of(first[0]).any()
    assert mask_of(second[0]).all()
    assert keep.all()


def test_a_masked_layer_with_another_parametrised_tensor_is_refused_before_it_is_taken_apart():
    class Negative(torch.nn.Module):
        def forward(self, bias: torch.Tensor) -> torch.Tensor:
            return -bias

    net, _ = masked()
    parametrize.register_parametrization(net[0], "bias", Negative())
    before = net(torch.ones(1, 5))
    with pytest.raises(ValueError, match="other parametrised tensors \\(bias\\)"):
        bake_in(net)
    assert torch.equal(net(torch.ones(1, 5)), before)
