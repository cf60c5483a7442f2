"""Networks of every shape, really smaller: the same function, and an ordinary module in every respect."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import nn
from examples import topologies
from examples.networks import resnet20, vgg16_bn
from nn.neurons import FilterNorm, RandomUnits
from nn.units import Shrunk, find_groups, load_shrunk
from nn.units.surgery import digest


def images(size: int) -> torch.Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))


WORDS = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    make: Callable[[], torch.nn.Module]
    batch: Any
    blocks: dict[str, int] = field(default_factory=dict)
    streams: tuple[str, ...] = ()  # groups that shortcuts add to

    def network(self, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
        torch.manual_seed(0)
        network = self.make()
        for module in network.modules():  # statistics as after training, none of them 0 or 1
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0.0, 0.2)
        return network.to(dtype)

    def data(self, dtype: torch.dtype = torch.float64) -> Any:
        return self.batch.to(dtype) if torch.is_tensor(self.batch) else self.batch

    def run(self, network: torch.nn.Module) -> torch.Tensor:
        dtype = next(network.parameters()).dtype
        with torch.no_grad():
            return network(**self.batch) if isinstance(self.batch, dict) else network(self.batch.to(dtype))

    def prune(self, budget: nn.Budget, dtype: torch.dtype = torch.float64) -> tuple[torch.nn.Module, Shrunk]:
        network = self.network(dtype).eval()
        data = [self.data(dtype)]
        return network, nn.prune(
            network, RandomUnits(), budget, calibration=data, blocks=self.blocks or None, rng=1
        )


SEPARATE = {"*.query": 4}
CASES = {
    "mlp": Case(topologies.mlp, torch.rand(3, 16, generator=torch.Generator().manual_seed(0))),
    "vgg-16": Case(lambda: vgg16_bn(width=4), images(32)),
    "resnet-20": Case(lambda: resnet20(width=4), images(16), streams=("0", "6.body.3", "9.body.3")),
    "resnet-56": Case(
        lambda: topologies.resnet56(width=4), images(8), streams=("0", "12.body.3", "21.body.3")
    ),
    "bottlenecks": Case(
        lambda: topologies.bottleneck_resnet(width=4),
        images(16),
        streams=("3.body.6", "5.body.6", "7.body.6"),
    ),
    "grouped": Case(topologies.resnext, images(16), streams=("3.body.6", "4.body.6")),
    "depthwise": Case(lambda: topologies.mobilenet_v2(width=4), images(16), streams=("0", "4.body.6")),
    "dense": Case(topologies.DenseNet, images(16), streams=("stem",)),
    "vision transformer": Case(topologies.VisionTransformer, images(16), SEPARATE, ("patches",)),
    "fused vision transformer": Case(
        lambda: topologies.VisionTransformer(fused=True), images(16), {"*.projections": 4}, ("patches",)
    ),
    "encoder": Case(topologies.Bert, {"input_ids": WORDS}, SEPARATE, ("words",)),
    "gated": Case(topologies.GatedPerceptron, images(8).flatten(2)[..., :8], streams=("stem",)),
    "fused gated": Case(
        lambda: topologies.GatedPerceptron(fused=True), images(8).flatten(2)[..., :8], streams=("stem",)
    ),
}
MIXING = {"patches", "words"}  # streams under a layer normalisation
PLAIN = [name for name, case in CASES.items() if not MIXING & set(case.streams)]


def close(one: torch.Tensor, other: torch.Tensor, operations: int) -> bool:
    """Equal up to one rounding an operation."""
    eps = torch.finfo(one.dtype).eps
    return bool(((one - other).abs() <= operations * eps * other.abs().max()).all())


def smaller(name: str, dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Module, Shrunk]:
    return CASES[name].prune(nn.KeepRatio(0.5), dtype)


@pytest.mark.parametrize("name", CASES)
def test_half_of_all_groups_computes_what_masking_does(name: str):
    network, shrunk = smaller(name, torch.float64)
    before, after = shrunk.plan.costs
    assert after.parameters < before.parameters
    assert after.flops < before.flops
    masked = shrunk.plan.masked(network)
    assert close(CASES[name].run(shrunk.model), CASES[name].run(masked), before.flops)
    assert not close(CASES[name].run(shrunk.model), CASES[name].run(network), before.flops)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.streams])
def test_inner_units_alone_leave_the_stream_as_it_is(name: str):
    case = CASES[name]
    whole = nn.PerLayer({stream: nn.Dense() for stream in case.streams}, rest=nn.KeepRatio(0.5))
    budget = nn.KeepRatio(0.5) if MIXING & set(case.streams) else whole
    network, shrunk = case.prune(budget)
    assert not set(case.streams) & set(shrunk.plan.groups)
    assert close(case.run(shrunk.model), case.run(shrunk.plan.masked(network)), shrunk.plan.costs[0].flops)


@pytest.mark.parametrize("name", PLAIN)
def test_one_unit_a_group_computes_what_masking_does(name: str):
    case = CASES[name]
    network = case.network()
    groups = find_groups(network, nn.calibration.split_batch(case.data()), case.blocks or None).groups
    network, shrunk = case.prune(nn.PerLayer(dict.fromkeys(groups, nn.KeepCount(1))))
    assert {group.kept for group in shrunk.plan.groups.values()} == {1}
    assert close(case.run(shrunk.model), case.run(shrunk.plan.masked(network)), shrunk.plan.costs[0].flops)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if MIXING & set(case.streams)])
def test_stream_under_a_layer_normalisation_shrinks_where_it_is_named(name: str):
    case = CASES[name]
    (stream,) = case.streams
    network, shrunk = case.prune(nn.PerLayer({stream: nn.KeepCount(5)}, rest=nn.KeepRatio(0.5)))
    norms = [m for m in shrunk.model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.normalized_shape for norm in norms} == {(5,)}
    assert case.run(shrunk.model).shape == case.run(network).shape


def test_heads_that_are_not_named_are_refused_by_name():
    case = CASES["fused vision transformer"]
    with pytest.raises(ValueError, match=r"'layers.0.attention.projections'.*blocks=") as error:
        nn.prune(case.network().eval(), FilterNorm(), nn.KeepRatio(0.5), calibration=[case.data()])
    assert "perceptron" not in str(error.value)  # the sound groups are not blamed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_bit_equal(name: str, dtype: torch.dtype, tmp_path: Path):
    case = CASES[name]
    network, shrunk = smaller(name, dtype)
    shrunk.save(tmp_path / "net.safetensors")
    torch.manual_seed(99)
    loaded = load_shrunk(tmp_path / "net.safetensors", case.make()).eval()
    assert digest(loaded) == digest(shrunk.model)
    assert torch.equal(case.run(loaded), case.run(shrunk.model))
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert type(loaded) is type(network)


@pytest.mark.parametrize("name", CASES)
def test_smaller_network_copies_trains_and_exports(name: str):
    case = CASES[name]
    _, shrunk = smaller(name)
    model = shrunk.model
    expected = case.run(model)
    assert torch.equal(case.run(copy.deepcopy(model)), expected)
    fresh = shrunk.plan.recipe.replay(case.make()).eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(case.run(fresh), expected)
    data = case.data(torch.float32)
    arguments, keywords = ((), data) if isinstance(data, dict) else ((data,), {})
    exported = torch.export.export(model, arguments, keywords).module()
    assert close(exported(*arguments, **keywords), expected, 10**4)
    copied = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(copied.parameters(), lr=0.1)
    copied(*arguments, **keywords).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in copied.parameters())
    optimiser.step()
    assert not torch.equal(case.run(copied.eval()), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"resnet-56"}))  # blocks as in resnet-20, but slow
def test_onnx_gives_the_same_outputs_to_single_precision(name: str):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    case = CASES[name]
    _, shrunk = smaller(name)
    exact = case.run(copy.deepcopy(shrunk.model).double())
    data = case.data(torch.float32)
    arguments, keywords = ((), data) if isinstance(data, dict) else ((data,), {})
    program = torch.onnx.export(shrunk.model, arguments, kwargs=keywords, dynamo=True, verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    session = runtime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {session.get_inputs()[0].name: (*arguments, *keywords.values())[0].numpy()})
    unit = torch.finfo(torch.float32).eps * exact.abs().max()
    rounding = (case.run(shrunk.model).double() - exact).abs().max() + unit
    assert (torch.from_numpy(value).double() - exact).abs().max() <= 8 * rounding


@pytest.mark.parametrize("name", ["resnet-20", "gated"])
def test_smaller_network_compiles(name: str):
    case = CASES[name]
    _, shrunk = smaller(name)
    compiled = torch.compile(shrunk.model, backend="aot_eager", fullgraph=True)
    assert close(case.run(compiled), case.run(shrunk.model), 10**4)


def test_frozen_network_is_really_made_smaller_and_stays_frozen():
    case = CASES["resnet-20"]
    network = case.network().eval().requires_grad_(False)
    network[0].weight.requires_grad_(True)
    shrunk = nn.prune(network, FilterNorm(), nn.KeepRatio(0.5), calibration=[case.data()])
    assert shrunk.size.parameters < 0.3 * sum(p.numel() for p in network.parameters())
    trained = [name for name, p in shrunk.model.named_parameters() if p.requires_grad]
    assert trained == ["0.weight"]


def test_network_and_everything_around_it_is_left_alone():
    case = CASES["depthwise"]
    network = case.network().train()
    network[1].eval()
    network[0].weight.grad = torch.ones_like(network[0].weight)
    calls: list[int] = []
    network[0].register_forward_hook(lambda *_: calls.append(1))
    before, state = copy.deepcopy(network), torch.random.get_rng_state()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(case.data()), 2, shuffle=True)
    shrunk = nn.prune(network, FilterNorm(), nn.KeepRatio(0.5), calibration=loader)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert digest(network) == digest(before)
    assert [m.training for m in network.modules()] == [m.training for m in before.modules()]
    assert [m.training for m in shrunk.model.modules()] == [m.training for m in before.modules()]
    assert torch.equal(network[0].weight.grad, torch.ones_like(network[0].weight))
    assert all(p.grad is None for p in shrunk.model.parameters())
    assert len(network[0]._forward_hooks) == len(shrunk.model[0]._forward_hooks) == 1
    calls.clear()
    case.run(shrunk.model.eval())
    assert calls == [1]


def test_memory_layout_of_weights_is_kept():
    network = CASES["resnet-20"].network().to(memory_format=torch.channels_last)
    shrunk = nn.prune(network, FilterNorm(), nn.KeepRatio(0.5), calibration=[CASES["resnet-20"].data()])
    weight = shrunk.model[3].body[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_file_holds_the_plain_state_and_no_code(tmp_path: Path):
    _, shrunk = smaller("depthwise")
    shrunk.save(tmp_path / "net")
    tensors = safetensors.torch.load_file(tmp_path / "net")
    state = shrunk.model.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


def test_network_whose_state_is_no_tensor_is_not_saved(tmp_path: Path):
    class Counting(torch.nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    network = torch.nn.Sequential(Counting(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    shrunk = nn.prune(network, FilterNorm(), nn.KeepCount(2), calibration=[torch.rand(2, 4)])
    with pytest.raises(ValueError, match="_extra_state"):
        shrunk.save(tmp_path / "net")


def test_damaged_file_and_another_network_are_refused(tmp_path: Path):
    case = CASES["mlp"]
    _, shrunk = smaller("mlp")
    shrunk.save(tmp_path / "net")
    content = bytearray((tmp_path / "net").read_bytes())
    content[-3] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(ValueError, match="digest"):
        load_shrunk(tmp_path / "damaged", case.make())
    with pytest.raises(ValueError, match="recipe"):
        load_shrunk(tmp_path / "net", topologies.mlp((16, 2, 8, 4)))
    with pytest.raises(ValueError, match="another network"):
        load_shrunk(tmp_path / "net", topologies.mlp((16, 12, 8, 4, 4)))
    with pytest.raises(ValueError, match="another network"):
        load_shrunk(tmp_path / "net", torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(5))))
    with pytest.raises(FileNotFoundError):
        load_shrunk(tmp_path / "absent", case.make())


def test_shrunk_network_can_be_shrunk_again():
    case = CASES["resnet-20"]
    _, first = smaller("resnet-20", torch.float64)
    second = nn.prune(first.model, FilterNorm(), nn.KeepRatio(0.5), calibration=[case.data()])
    assert second.plan.total == first.plan.kept
    assert close(case.run(second.model), case.run(second.plan.masked(first.model)), first.plan.costs[0].flops)
