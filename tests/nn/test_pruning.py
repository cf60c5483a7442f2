"""The front door: exact budgets, nothing changed in place, and plans that can be kept."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nn
from coresets import Certificate


def conv_net(dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3, groups=4, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, 10),
    ).to(dtype)


IMAGES = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(1))
METHODS = [
    nn.Magnitude(),
    nn.Magnitude(nn.Uniform()),
    nn.Random(),
    nn.SynFlow(input_shape=(1, 6, 6)),
    nn.SynFlow(nn.Exponential(5), input_shape=(1, 6, 6)),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@given(ratio=st.floats(0.05, 1.0))
@pytest.mark.filterwarnings("ignore::nn.PruningWarning")
def test_budget_is_met_exactly(method, ratio: float):
    net = conv_net()
    pruned = nn.prune(net, method, nn.KeepRatio(ratio), rng=0)
    assert pruned.plan.kept == nn.KeepRatio(ratio).count(pruned.plan.total)
    layers = {name: pruned.model.get_submodule(name).weight for name in pruned.plan.layers}
    assert sum(int((weight != 0).sum()) for weight in layers.values()) == pruned.plan.kept


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_network_and_random_state_are_left_alone(method):
    net = conv_net().train()
    net[2].eval()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before, state = copy.deepcopy(net), torch.random.get_rng_state()
    nn.prune(net, method, nn.KeepRatio(0.3), rng=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    for (name, old), (_, new) in zip(before.state_dict().items(), net.state_dict().items(), strict=True):
        assert torch.equal(old, new), name
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))


def test_training_mode_hooks_and_precision_are_carried_over():
    net = conv_net(torch.bfloat16).train()
    net[2].eval()
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.5)).model
    assert [m.training for m in pruned] == [m.training for m in net]
    pruned(IMAGES.bfloat16())
    assert calls == [1]
    assert {p.dtype for p in pruned.parameters()} == {torch.bfloat16}


def test_frozen_network_is_pruned_and_stays_frozen():
    net = conv_net().requires_grad_(False)
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.5))
    assert pruned.plan.kept < pruned.plan.total
    assert not any(p.requires_grad for p in pruned.model.parameters())


def test_kept_weights_of_magnitude_dominate_the_dropped_ones():
    net = conv_net()
    plan = nn.plan(net, nn.Magnitude(), nn.KeepRatio(0.3))
    kept = torch.cat([net.get_submodule(n).weight[p.keep].abs() for n, p in plan.layers.items()])
    dropped = torch.cat([net.get_submodule(n).weight[~p.keep].abs() for n, p in plan.layers.items()])
    assert kept.min() >= dropped.max()


def test_pruning_a_pruned_network_brings_nothing_back():
    first = nn.prune(conv_net(), nn.Random(), nn.KeepRatio(0.5), rng=0)
    second = nn.prune(first.model, nn.Random(), nn.KeepRatio(0.25), rng=1)
    for name, layer in second.plan.layers.items():
        assert torch.all(first.plan.layers[name].keep | ~layer.keep)
    assert second.plan.kept == nn.KeepRatio(0.25).count(second.plan.total)


def test_dense_layers_are_not_in_the_plan():
    budget = nn.PerLayer({"6": nn.Dense()}, rest=nn.KeepRatio(0.5))
    pruned = nn.prune(conv_net(), nn.Magnitude(), budget)
    assert set(pruned.plan.layers) == {"0", "3"}
    assert torch.equal(pruned.model[6].weight, conv_net()[6].weight)


def test_seed_decides_random_pruning():
    keep = [
        nn.plan(conv_net(), nn.Random(), nn.KeepRatio(0.5), rng=seed).layers["6"].keep for seed in (0, 0, 1)
    ]
    assert torch.equal(keep[0], keep[1])
    assert not torch.equal(keep[0], keep[2])


def test_random_method_without_randomness_is_refused():
    with pytest.raises(ValueError, match="rng="):
        nn.prune(conv_net(), nn.Random(), nn.KeepRatio(0.5))


def test_data_driven_method_without_data_is_refused():
    with pytest.raises(ValueError, match="calibration="):
        nn.prune(conv_net(), nn.SNIP(), nn.KeepRatio(0.5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_layer(value: float):
    net = conv_net()
    with torch.no_grad():
        net[3].weight[0] = value
    with pytest.raises(ValueError, match="layer '3'"):
        nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.5))


def test_method_that_is_a_class_is_refused():
    with pytest.raises(TypeError, match="Magnitude"):
        nn.prune(conv_net(), nn.Magnitude, nn.KeepRatio(0.5))  # type: ignore[arg-type]


def test_call_that_changes_nothing_says_so():
    with pytest.warns(nn.PruningWarning, match="changes nothing"):
        nn.prune(conv_net(), nn.Magnitude(), nn.KeepRatio(1.0))


def test_collapsed_layer_is_named():
    net = conv_net()
    with torch.no_grad():
        net[3].weight.mul_(1e-9)
    with pytest.warns(nn.PruningWarning, match="keeps no weight of '3'"):
        pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.1))
    assert pruned.plan.collapsed == ("3",)


def test_plan_survives_saving(tmp_path: Path):
    decided = nn.plan(conv_net(), nn.SynFlow(input_shape=(1, 6, 6)), nn.KeepRatio(0.3))
    decided.save(tmp_path / "plan.safetensors")
    loaded = nn.Plan.load(tmp_path / "plan.safetensors")
    assert str(loaded) == str(decided)
    assert loaded.certificates == decided.certificates
    for name, layer in decided.layers.items():
        assert torch.equal(layer.keep, loaded.layers[name].keep)
        assert torch.equal(layer.weight, loaded.layers[name].weight)


def test_plan_says_what_it_keeps():
    text = str(nn.plan(conv_net(), nn.Magnitude(), nn.KeepRatio(0.5)))
    assert text.startswith("Magnitude(allocation=Global()), KeepRatio(ratio=0.5): 756 of 1,512 weights kept")
    assert re.search(r"^ +6 +\d+ of +1,440", text, re.MULTILINE)


def test_plan_for_another_network_is_refused():
    decided = nn.plan(conv_net(), nn.Magnitude(), nn.KeepRatio(0.5))
    with pytest.raises(ValueError, match="layer '0'"):
        decided.apply(torch.nn.Sequential(torch.nn.Linear(3, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_saved_network_gives_bit_equal_outputs(tmp_path: Path, dtype: torch.dtype):
    net = conv_net(dtype).eval()
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.3))
    evidence = Certificate("size", "weights kept", 1.0)
    pruned.with_certificates(evidence).save(tmp_path / "net.safetensors")
    loaded = nn.load_pruned(tmp_path / "net.safetensors", conv_net(dtype).eval())
    images = IMAGES.to(dtype)
    assert torch.equal(loaded(images), pruned.model(images))
    assert torch.equal(pruned.finalize()(images), pruned.model(images))
    for name, layer in pruned.plan.layers.items():
        assert torch.equal(nn.masks.mask_of(loaded.get_submodule(name)), layer.keep)


PRECISIONS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("saved", PRECISIONS)
@pytest.mark.parametrize("own", PRECISIONS)
def test_network_of_another_precision_is_refused_by_the_name_of_a_tensor(tmp_path: Path, saved, own):
    pruned = nn.prune(conv_net(saved), nn.Magnitude(), nn.KeepRatio(0.3))
    pruned.save(tmp_path / "net.safetensors")
    network = conv_net(own)
    if saved == own:
        nn.load_pruned(tmp_path / "net.safetensors", network)
        return
    with pytest.raises(ValueError, match=rf"'0\.weight' in {saved}.*network\.to\({saved}\)"):
        nn.load_pruned(tmp_path / "net.safetensors", network)
    assert all(p.dtype == own for p in network.parameters())


def test_a_buffer_of_another_precision_is_refused_like_a_weight(tmp_path: Path):
    pruned = nn.prune(conv_net(), nn.Magnitude(), nn.KeepRatio(0.3))
    pruned.save(tmp_path / "net.safetensors")
    network = conv_net()
    network[1].running_var = network[1].running_var.double()
    with pytest.raises(
        ValueError, match=r"'1\.running_var' in torch\.float32, the network in torch\.float64"
    ):
        nn.load_pruned(tmp_path / "net.safetensors", network)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_statistics_and_counters_of_normalisation_are_saved_bit_by_bit(tmp_path: Path, dtype: torch.dtype):
    net = conv_net(dtype)
    net[1](net[0](IMAGES.to(dtype)))  # in training mode, so that the statistics move
    pruned = nn.prune(net.eval(), nn.Random(), nn.KeepRatio(0.3), rng=0)
    pruned.save(tmp_path / "net.safetensors")
    loaded = nn.load_pruned(tmp_path / "net.safetensors", conv_net(dtype).eval())
    for name, buffer in pruned.model.named_buffers():
        assert torch.equal(loaded.get_buffer(name), buffer), name
        assert loaded.get_buffer(name).dtype == buffer.dtype, name
    assert int(loaded[1].num_batches_tracked) == 1
    images = IMAGES.to(dtype)
    assert torch.equal(loaded(images), pruned.model(images))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path):
    pruned = nn.prune(conv_net(), nn.Magnitude(), nn.KeepRatio(0.3))
    path = tmp_path / "net.safetensors"
    pruned.save(path)
    with pytest.raises(ValueError, match="not a saved plan"):
        nn.Plan.load(path)
    with pytest.raises(ValueError, match="another network"):
        nn.load_pruned(path, torch.nn.Linear(3, 2))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a saved pruned"):
        nn.load_pruned(path, conv_net())
    with pytest.raises(FileNotFoundError):
        nn.load_pruned(tmp_path / "none", conv_net())


def test_size_counts_what_the_forward_pass_sees():
    pruned = nn.prune(conv_net(), nn.Magnitude(), nn.KeepRatio(0.5))
    with torch.no_grad():  # behind the masks, where nothing is seen
        pruned.model[6].parametrizations.weight.original.fill_(1.0)
    size = pruned.size
    assert (size.kept, size.total) == (756, 1512)
    assert size.all_parameters == sum(p.numel() for p in conv_net().parameters())
    assert "Masked weights still take" in str(size)


def test_copy_of_a_pruned_network_is_independent():
    pruned = nn.prune(conv_net(), nn.Magnitude(), nn.KeepRatio(0.5))
    copied = copy.deepcopy(pruned.model)
    pruned.finalize()
    assert torch.equal(copied[6].weight, pruned.model[6].weight)


def test_uniform_pruning_of_a_pruned_network_meets_the_budget():
    net = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    with torch.no_grad():
        net[1].weight.mul_(1e-3)
    first = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.5))  # leaves next to nothing of the second layer
    for method in (nn.Magnitude(nn.Uniform()), nn.Random()):
        assert nn.prune(first.model, method, nn.KeepRatio(0.25), rng=0).plan.kept == 800


def test_network_of_which_all_is_dense_is_refused():
    with pytest.raises(ValueError, match="leaves every layer dense"):
        nn.prune(conv_net(), nn.Magnitude(), nn.PerLayer({"*": nn.Dense()}))


def test_network_without_values_is_refused():
    with pytest.raises(ValueError, match="meta device"):
        nn.prune(conv_net().to("meta"), nn.Magnitude(), nn.KeepRatio(0.5))


def test_plans_and_budgets_can_be_copied():
    decided = nn.plan(conv_net(), nn.Magnitude(), nn.KeepRatio(0.5))
    copied = copy.deepcopy(decided)
    assert str(copied) == str(decided)
    assert torch.equal(copied.layers["6"].keep, decided.layers["6"].keep)
    budget = nn.PerLayer({"6": nn.Dense()}, rest=nn.KeepRatio(0.5))
    assert copy.deepcopy(budget) == budget
    assert hash(nn.PerLayer({"a": nn.Dense(), "b": nn.KeepCount(1)})) == hash(
        nn.PerLayer({"b": nn.KeepCount(1), "a": nn.Dense()})
    )
