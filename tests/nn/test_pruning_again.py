"""Pruning what is pruned already meets its budget, with every method that divides one among layers."""

from __future__ import annotations

import pytest
import torch

import nn
from nn.masks import mask_of

METHODS = [
    nn.Magnitude(nn.Uniform()),
    nn.Wanda(),
    nn.CoreNet(),
    nn.OLSForward(allocation=nn.Uniform()),
    nn.OBSBackward(allocation=nn.Uniform()),
    nn.BestPath(),
    nn.Feedback(allocation=nn.Uniform()),
    nn.Refit(nn.Wanda()),
    nn.SiPP(),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_budget_is_met_after_a_lopsided_pruning(method):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
    first = nn.PerLayer({"0": nn.KeepRatio(0.2), "2": nn.Dense()})
    once = nn.prune(net, nn.Magnitude(), first).model
    data = [torch.rand(200, 30)]
    twice = nn.prune(once, method, nn.KeepRatio(0.3), calibration=data, rng=0)
    assert twice.plan.kept == nn.KeepRatio(0.3).count(twice.plan.total)
    kept = twice.plan.layers["0"].keep
    assert torch.all(~kept | (once[0].weight != 0))


def test_layers_outside_the_second_plan_keep_their_masks(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4))
    once = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.3))
    twice = nn.prune(once.model, nn.Magnitude(), nn.PerLayer({"0": nn.Dense()}, rest=nn.KeepRatio(0.1)))
    first = once.plan.layers["0"].keep
    twice.save(tmp_path / "net.safetensors")
    for model in (twice.model, nn.load_pruned(tmp_path / "net.safetensors", net)):
        assert torch.equal(mask_of(model[0]), first)
        assert torch.equal(mask_of(model[2]), twice.plan.layers["2"].keep)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        model(torch.ones(3, 8)).sum().backward()
        optimiser.step()
        assert not model[0].weight[~first].any()  # nothing that was dropped grows back
