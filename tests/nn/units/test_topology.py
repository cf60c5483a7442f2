"""Which units go together, on networks whose answer is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Conv2d, Linear, ReLU, Sequential
from torch.nn.utils import parametrizations

from nn.calibration import split_batch
from nn.units import Topology, UnitGroup, find_groups

VECTORS, TOKENS, IMAGES = torch.rand(3, 8), torch.rand(3, 5, 8), torch.rand(3, 4, 8, 8)


class Wired(torch.nn.Module):
    """Layers by name, and a function that runs them."""

    def __init__(self, run: Callable[[Any, torch.Tensor], Any], **layers: Any) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def topology(network: torch.nn.Module, batch: Any = VECTORS, **blocks: int) -> Topology:
    return find_groups(network, split_batch(batch), blocks or None)


def names(group: UnitGroup) -> tuple[set[str], set[str], set[str]]:
    producers, carriers, consumers = (
        {place.name for place in places} for places in (group.producers, group.carriers, group.consumers)
    )
    return producers, carriers, consumers


def test_residual_stream_is_one_group():
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        y = net.a(x)
        y = y + net.c(torch.relu(net.b(y)))
        return net.d(y)

    found = topology(Wired(run, a=Linear(8, 6), b=Linear(6, 5), c=Linear(5, 6), d=Linear(6, 3)))
    assert names(found.groups["a"]) == ({"a", "c"}, set(), {"b", "d"})
    assert names(found.groups["b"]) == ({"b"}, set(), {"c"})
    assert [refusal.layers for refusal in found.refused] == [("d",)]


def test_groups_come_in_the_order_in_which_they_are_read():
    found = topology(Sequential(*(Linear(8, 8) for _ in range(5))))
    assert list(found.groups) == ["0", "1", "2", "3"]


def test_concatenation_keeps_groups_apart_with_offsets():
    network = Wired(
        lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1)), a=Linear(8, 2), b=Linear(8, 3), c=Linear(5, 2)
    )
    groups = topology(network).groups
    assert groups["a"].consumers[0].positions.tolist() == [[0], [1]]
    assert groups["b"].consumers[0].positions.tolist() == [[2], [3], [4]]


def test_same_units_read_twice_have_all_their_columns():
    network = Wired(lambda net, x: net.b(torch.cat([net.a(x)] * 2, 1)), a=Linear(8, 3), b=Linear(6, 2))
    assert sorted(topology(network).groups["a"].consumers[0].positions.flatten().tolist()) == list(range(6))


def test_flattened_map_gives_every_channel_a_run_of_columns():
    network = Sequential(Conv2d(4, 3, 3), torch.nn.Flatten(), Linear(3 * 36, 2))
    positions = topology(network, IMAGES).groups["0"].consumers[0].positions
    assert torch.equal(positions, torch.arange(108).reshape(3, 36))


def gated(net: Any, x: torch.Tensor) -> torch.Tensor:
    value, gate = net.a(x).chunk(2, -1)
    return net.b(torch.sigmoid(gate) * value)


@pytest.mark.parametrize("batch", [VECTORS, TOKENS], ids=["vectors", "tokens"])
def test_halves_of_one_layer_that_meet_are_tied(batch: torch.Tensor):
    # Torch-Pruning keeps the first of the two origins and drops the other.
    (group,) = topology(Wired(gated, a=Linear(8, 6), b=Linear(3, 2)), batch).groups.values()
    assert group.producers[0].positions.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert group.consumers[0].positions.tolist() == [[0], [1], [2]]


def swapped(net: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = net.a(x).chunk(2, 1)
    return net.b(torch.cat([second, first], 1))


def test_halves_that_change_places_go_together():
    # Removing from one half alone would move the cut.
    (group,) = topology(Wired(swapped, a=Linear(8, 6), b=Linear(6, 2))).groups.values()
    assert group.producers[0].positions.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_concatenated_maps_that_are_flattened_keep_their_channels():
    # Torch-Pruning takes the columns of the linear layer for channels of the concatenation.
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.c(torch.cat([net.a(x), net.b(x)], 1).flatten(1))

    groups = topology(Wired(run, a=Conv2d(4, 2, 7), b=Conv2d(4, 3, 7), c=Linear(20, 2)), IMAGES).groups
    columns = {name: group.consumers[0].positions.flatten().tolist() for name, group in groups.items()}
    assert columns == {"a": list(range(8)), "b": list(range(8, 20))}


def test_parts_of_a_split_are_told_apart_whatever_the_order_of_use():
    # Torch-Pruning takes parts in the order in which it meets them.
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        first, second, third = net.a(x).chunk(3, 1)
        return net.b(third) + net.c(first) + net.d(second)

    network = Wired(run, a=Linear(8, 6), b=Linear(2, 3), c=Linear(2, 3), d=Linear(2, 3))
    (group,) = topology(network).groups.values()
    assert group.producers[0].positions.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert {place.name for place in group.consumers} == {"b", "c", "d"}
    assert all(place.positions.tolist() == [[0], [1]] for place in group.consumers)


def test_heads_of_a_fused_projection_hold_queries_keys_and_values():
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        parts = (part.view(*x.shape[:2], -1, 2).transpose(1, 2) for part in net.a(x).chunk(3, -1))
        return net.b(torch.nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))

    found = topology(Wired(run, a=Linear(8, 12), b=Linear(4, 3)), TOKENS, a=2)
    group = found.groups["a"]
    assert group.producers[0].positions.tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    assert group.consumers[0].positions.tolist() == [[0, 1], [2, 3]]


def test_depthwise_convolution_carries_and_grouped_one_ties():
    depthwise = Sequential(Conv2d(4, 6, 1), Conv2d(6, 6, 3, groups=6), Conv2d(6, 2, 1))
    (group,) = topology(depthwise, IMAGES).groups.values()
    assert names(group) == ({"0"}, {"1"}, {"2"})
    grouped = topology(Sequential(Conv2d(4, 6, 1), Conv2d(6, 8, 3, groups=2), Conv2d(8, 2, 1)), IMAGES).groups
    assert grouped["0"].producers[0].positions.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert grouped["1"].producers[0].positions.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.parametrize(
    "norm", [torch.nn.LayerNorm(6), torch.nn.RMSNorm(6), torch.nn.GroupNorm(2, 6)], ids=repr
)
def test_normalisations_over_units_mix(norm: torch.nn.Module):
    (group,) = topology(Sequential(Linear(8, 6), norm, Linear(6, 2))).groups.values()
    assert group.mixing
    assert names(group)[1] == {"1"}


def test_free_parameter_is_carried():
    network = Wired(
        lambda n, x: n.b(n.a(x) * n.g), a=Linear(8, 6), b=Linear(6, 2), g=torch.nn.Parameter(torch.rand(6))
    )
    assert names(topology(network).groups["a"])[1] == {"g"}


def test_frozen_and_masked_networks_have_the_same_groups():
    network = Sequential(Linear(8, 6), ReLU(), Linear(6, 2))
    frozen = topology(network.requires_grad_(False))
    assert list(frozen.groups) == ["0"]
    assert not any(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        assert list(topology(network).groups) == ["0"]


def shared() -> torch.nn.Module:
    network = Sequential(Linear(8, 8), ReLU(), Linear(8, 8), ReLU(), Linear(8, 2))
    network[2].weight = network[0].weight
    return network


def twice(network: Any, x: torch.Tensor) -> Any:
    hidden = network.a(x)
    return network.b(hidden), hidden


@pytest.mark.parametrize(
    ("network", "batch", "layer", "reason"),
    [
        (shared(), VECTORS, "0", "shared"),
        (Sequential(parametrizations.weight_norm(Linear(8, 6)), Linear(6, 2)), VECTORS, "0", "computed"),
        (Wired(twice, a=Linear(8, 6), b=Linear(6, 2)), VECTORS, "a", "outputs of the network"),
        (
            Wired(lambda n, x: n.b(n.m(n.a(x), n.a(x), n.a(x))[0]), a=Linear(8, 8),
                  m=torch.nn.MultiheadAttention(8, 2, batch_first=True), b=Linear(8, 2)),
            TOKENS, "a", "MultiheadAttention",
        ),
        (
            Wired(lambda n, x: n.b(n.m(n.a(x))[0]), a=Linear(8, 6), m=torch.nn.LSTM(6, 5, batch_first=True),
                  b=Linear(5, 2)),
            TOKENS, "a", "LSTM",
        ),
        (Sequential(Conv2d(4, 6, 1), torch.nn.ConvTranspose2d(6, 2, 2)), IMAGES, "0", "ConvTranspose2d"),
        (Sequential(Linear(8, 6), torch.nn.GLU(), Linear(3, 2)), VECTORS, "0", "not understood"),
        (
            Wired(lambda n, x: n.b(n.a(x)[:, :3]) + n.c(n.a(x)[:, 3:]), a=Linear(8, 6), b=Linear(3, 2),
                  c=Linear(3, 2)),
            VECTORS, "a", "not understood",
        ),
        (Wired(lambda n, x: n.b(n.a(x).detach()), a=Linear(8, 6), b=Linear(6, 2)), VECTORS, "a", "tracing"),
    ],
    ids=["shared", "computed", "output", "attention", "recurrent", "transposed", "glu", "slices", "detached"],
)  # fmt: skip
def test_what_cannot_be_removed_is_refused_with_a_reason(network, batch, layer: str, reason: str):
    found = topology(network, batch)
    assert layer not in found.groups
    assert reason in str(found.why_not(layer))


def test_pattern_of_a_coupled_layer_is_answered_with_its_group():
    network = Wired(lambda n, x: n.c(n.a(x) + n.b(x)), a=Linear(8, 6), b=Linear(8, 6), c=Linear(6, 2))
    assert "name that one" in str(topology(network).why_not("b"))
    assert topology(network).why_not("z") is None


def test_blocks_that_do_not_fit_are_refused():
    network = Sequential(Linear(8, 6), ReLU(), Linear(6, 2))
    with pytest.raises(ValueError, match="no blocks of 4"):
        find_groups(network, split_batch(VECTORS), {"0": 4})
    with pytest.raises(ValueError, match="'query'"):
        find_groups(network, split_batch(VECTORS), {"query": 2})
    with pytest.raises(ValueError, match="blocks"):
        find_groups(network, split_batch(VECTORS), {"0": 0})


def test_network_that_does_not_run_is_refused():
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such device")

    with pytest.raises(ValueError, match=r"tracing Wired .* no such device"):
        topology(Wired(run, a=Linear(8, 6)))
