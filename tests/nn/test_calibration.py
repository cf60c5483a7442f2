"""Activations are streamed once, to the right collector, and leave no trace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from nn.calibration import Calibration, evaluating, observe, reduce_max, reduce_sum, split_batch
from nn.layers import EdgeLayer, find_layers


class Keep:
    """Collector that keeps everything, which no real one may."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []
        self.reduced = 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        self.seen.append(activations.clone())

    def reduce(self) -> None:
        self.reduced += 1


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3)
    )


def test_every_collector_sees_the_inputs_of_its_layer_in_order():
    net = network().train()
    batches = [torch.randn(6, 5), torch.randn(2, 5)]
    layers = find_layers(net)
    collectors = {name: Keep() for name in layers}
    assert observe(net, layers, Calibration(batches), collectors) == 8
    assert torch.equal(torch.cat(collectors["0"].seen), torch.cat(batches))
    expected = torch.relu(net[0](torch.cat(batches)))  # in evaluation mode: nothing is dropped out
    torch.testing.assert_close(torch.cat(collectors["3"].seen), expected)
    assert [c.reduced for c in collectors.values()] == [1, 1]
    assert net.training
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_mixed_training_modes_are_put_back():
    net = network().train()
    net[2].eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net] == [True, True, False, True]


def test_hooks_are_removed_when_the_network_fails():
    net = network()
    with pytest.raises(RuntimeError):
        observe(net, find_layers(net), Calibration([torch.randn(2, 9)]), {"0": Keep()})
    assert not net[0]._forward_pre_hooks


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused_by_layer(value: float):
    net = network()
    with pytest.raises(ValueError, match="layer '0'"):
        observe(net, find_layers(net), Calibration([torch.full((2, 5), value)]), {"0": Keep()})


def test_layer_that_never_runs_is_refused():
    class Idle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = torch.nn.Linear(5, 4), torch.nn.Linear(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    net = Idle()
    layers = find_layers(net)
    with pytest.raises(ValueError, match="never runs 'idle'"):
        observe(net, layers, Calibration([torch.randn(2, 5)]), {name: Keep() for name in layers})


def test_empty_data_and_used_up_iterators_are_refused():
    with pytest.raises(ValueError, match="empty"):
        list(Calibration([]))
    once = Calibration(iter([torch.zeros(1, 5)]))
    list(once)
    with pytest.raises(ValueError, match="used up"):
        list(once)


def test_a_tensor_is_no_iterable_of_batches():
    with pytest.raises(TypeError, match="a list with one tensor"):
        Calibration(torch.zeros(3, 5))


def test_batches_of_the_usual_shapes_are_taken_apart():
    x, y = torch.zeros(3, 5), torch.zeros(3)
    assert split_batch(x).target is None
    assert split_batch((x,)).arguments == (x,)
    assert split_batch([x, y]).target is y
    batch = split_batch({"input": x, "labels": y})
    assert (batch.target, batch.size) == (y, 3)
    assert batch.keywords == {"input": x}
    with pytest.raises(TypeError, match="split"):
        split_batch((x, y, y))


def _statistics(rank: int, world: int, port: int, directory: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    generator = torch.Generator().manual_seed(3)
    data = torch.randn(8, 5, generator=generator).split(4)[rank]

    class Moments:
        def __init__(self) -> None:
            self.largest, self.total = torch.zeros(5), torch.zeros(5)

        def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
            self.largest = torch.maximum(self.largest, activations.amax(0))
            self.total = self.total + activations.sum(0)

        def reduce(self) -> None:
            reduce_max(self.largest)
            reduce_sum(self.total)

    net, moments = network(), Moments()
    examples = observe(net, find_layers(net), Calibration([data]), {"0": moments})
    torch.save({"n": examples, "max": moments.largest, "sum": moments.total}, Path(directory) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_statistics, (2, port, str(tmp_path)), nprocs=2)
    data = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["n"] == 8
        assert torch.equal(found["max"], data.amax(0).clamp_min(0))
        torch.testing.assert_close(found["sum"], data.sum(0))


def test_layer_that_is_called_by_keyword_is_observed():
    class ByKeyword(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(input=x)

    class Last:
        def update(self, layer, activations: torch.Tensor) -> None:
            self.seen = activations

        def reduce(self) -> None:
            pass

    net, x, collector = ByKeyword(), torch.randn(2, 4), Last()
    assert observe(net, find_layers(net), Calibration([x]), {"layer": collector}) == 2
    assert torch.equal(collector.seen, x)


def test_examples_are_counted_along_the_first_input_that_has_any():
    assert split_batch({"scale": torch.tensor(2.0), "x": torch.zeros(5, 3)}).size == 5
