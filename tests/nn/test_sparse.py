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


@pytest.mark.filterwarnings("ignore:.*enable_nested_tensor")
def test_transformer_in_sparse_storage_computes_the_same():
    torch.manual_seed(0)
    block = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    pruned = nn.prune(block, nn.Magnitude(), nn.KeepRatio(0.2))
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(to_sparse(pruned.model)(x), pruned.model(x))


class Doubling(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(x)


@pytest.mark.parametrize("layer", [Doubling(20, 10), torch.nn.Linear(20, 10).bfloat16()], ids=["own", "half"])
def test_layers_without_a_sparse_product_of_their_own_stay_as_they_are(layer: torch.nn.Module):
    net = torch.nn.Sequential(layer)
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.1))
    sparse = to_sparse(pruned.model)
    x = torch.randn(3, 20, dtype=layer.weight.dtype)
    assert torch.equal(sparse(x), pruned.model(x))
