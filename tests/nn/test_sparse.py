"""Sparse storage computes the same and takes what it says; weights on no path are found."""

from __future__ import annotations

import pytest
import torch

import nn
from nn.masks import bake_in
from nn.sparse import SparseLinear, live_weights, storage, to_sparse


def pruned(ratio: float) -> torch.nn.Module:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.ReLU(), torch.nn.Linear(30, 20))
    return nn.prune(net, nn.Magnitude(nn.Uniform()), nn.KeepRatio(ratio)).model


@pytest.mark.parametrize("shape", [(7, 40), (2, 3, 40), (40,)])
def test_sparse_network_computes_the_same(shape: tuple[int, ...]):
    net = pruned(0.1)
    x = torch.randn(shape)
    # Sums of at most 40 products in another order, twice.
    torch.testing.assert_close(to_sparse(net)(x), net(x), rtol=1e-5, atol=1e-5)


def test_dense_layers_stay_dense():
    assert not any(isinstance(m, SparseLinear) for m in to_sparse(pruned(0.5)).modules())
    assert sum(isinstance(m, SparseLinear) for m in to_sparse(pruned(0.1)).modules()) == 2


def test_storage_counts_bytes():
    net = pruned(0.1)
    size = storage(net)
    assert size.dense == 4 * (40 * 30 + 30 + 30 * 20 + 20)
    kept = 120 + 60  # values and columns of four bytes each, and starts of rows
    assert size.sparse == 8 * kept + 4 * (31 + 21) + 4 * 50


def test_sparse_state_loads_without_pickle(tmp_path):
    sparse = to_sparse(pruned(0.1))
    torch.save(sparse.state_dict(), tmp_path / "sparse.pt")
    state = torch.load(tmp_path / "sparse.pt", weights_only=True)
    assert torch.equal(state["0.values"], sparse[0].values)


def test_single_layer_becomes_sparse():
    layer = nn.prune(torch.nn.Linear(10, 5), nn.Magnitude(), nn.KeepRatio(0.2)).model
    assert isinstance(to_sparse(layer), SparseLinear)


def test_weights_that_lead_nowhere_are_not_live():
    net = pruned(0.03)
    live = live_weights(net, (40,))
    first, second = net[0].weight != 0, net[2].weight != 0
    leads_out, fed = second.any(0), first.any(1)
    assert live == {"0": int(first[leads_out].sum()), "2": int(second[:, fed].sum())}
    assert sum(live.values()) < int(first.sum() + second.sum())


def test_dropping_dead_weights_changes_no_output():
    net = pruned(0.03)
    with torch.no_grad():
        for module in (net[0], net[2]):
            module.bias.zero_()
    x = torch.randn(50, 40)
    before = net(x)
    bake_in(net)
    with torch.no_grad():
        net[0].weight[~(net[2].weight != 0).any(0)] = 0.0
        net[2].weight[:, ~(net[0].weight != 0).any(1)] = 0.0
    torch.testing.assert_close(net(x), before)
