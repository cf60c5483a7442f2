"""The columns that read a unit, against a network in which only that unit speaks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Conv1d, Conv2d, Flatten, Linear, Sequential

from nn.calibration import split_batch
from nn.units import find_groups
from nn.units.consumers import Consumer, consumers_of

IMAGES = torch.rand(2, 3, 5, 5, dtype=torch.float64)
NETWORKS = {
    "linear": Sequential(Flatten(), Linear(75, 4), Linear(4, 3)),
    "window": Sequential(Conv2d(3, 4, 1), Conv2d(4, 5, 3)),
    "flattened": Sequential(Conv2d(3, 4, 2), Flatten(), Linear(64, 3)),
    "grouped": Sequential(Conv2d(3, 4, 1), Conv2d(4, 6, 2, groups=2)),
}


def only(kind: str) -> tuple[Sequential, Consumer]:
    network = NETWORKS[kind].double()
    (group,) = find_groups(network, split_batch(IMAGES)).groups.values()
    (consumer,) = consumers_of(network, group).values()
    return network, consumer


@pytest.mark.parametrize("kind", NETWORKS)
def test_rescaled_columns_act_as_rescaled_units(kind: str):
    network, consumer = only(kind)
    factors = torch.linspace(0.5, 3.0, consumer.units, dtype=torch.float64)
    maker = next(m for m in network if hasattr(m, "weight"))
    with torch.no_grad():
        maker.bias.zero_()
        rescaled = consumer.rescaled(factors)
        assert rescaled.shape == consumer.layer.weight.shape
        weight = consumer.layer.weight.clone()
        consumer.layer.module.weight.copy_(rescaled)
        found = network(IMAGES)
        consumer.layer.module.weight.copy_(weight)
        rows = torch.arange(maker.weight.shape[0]) % consumer.units  # in groups, the same place in each
        maker.weight.mul_(factors[rows].reshape(-1, *[1] * (maker.weight.dim() - 1)))
        expected = network(IMAGES)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", NETWORKS)
def test_columns_and_labels_are_inverse_to_each_other(kind: str):
    _, consumer = only(kind)
    assert torch.equal(
        consumer.unit_of_column[consumer.columns],
        torch.arange(consumer.units)[:, None].expand_as(consumer.columns),
    )
    assert consumer.columns.numel() == int((consumer.unit_of_column >= 0).sum())
    norms = consumer.layer.matrix()[:, :, consumer.columns].square().sum(dim=(0, 1, 3)).sqrt()
    assert torch.allclose(consumer.unit_norms(), norms, rtol=1e-14)


def test_columns_of_other_groups_are_marked_and_left_alone():
    class Join(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = Linear(4, 2), Linear(4, 3), Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.cat([self.a(x), self.b(x)], 1))

    network = Join()
    group = find_groups(network, split_batch(torch.rand(2, 4))).groups["b"]
    consumer = consumers_of(network, group)["c"]
    assert consumer.unit_of_column.tolist() == [-1, -1, 0, 1, 2]
    rescaled = consumer.rescaled(torch.zeros(3))
    assert torch.equal(rescaled[:, :2], network.c.weight[:, :2])
    assert not rescaled[:, 2:].any()


def test_consumer_that_is_not_understood_is_named():
    network = Sequential(Conv1d(3, 4, 1), Conv1d(4, 2, 1))
    group = find_groups(network, split_batch(torch.rand(2, 3, 5))).groups["0"]
    with pytest.raises(ValueError, match="'1', of a kind"):
        consumers_of(network, group)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
def test_neurons_may_be_worked_on_in_blocks_of_any_size(
    kind: str, order: float, monkeypatch: pytest.MonkeyPatch
):
    _, consumer = only(kind)
    factors = torch.linspace(0.5, 3.0, consumer.units, dtype=torch.float64)
    norms, rescaled = consumer.unit_norms(order), consumer.rescaled(factors)
    monkeypatch.setattr("nn.units.consumers._BLOCK_ENTRIES", 1)
    assert torch.equal(rescaled, consumer.rescaled(factors))
    torch.testing.assert_close(consumer.unit_norms(order), norms, rtol=1e-13, atol=0.0)  # sums of < 100 terms
