"""SNIP, Taylor and GraSP rank by the derivatives that they are named after."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

import nn


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (20, 30)  # unequal on purpose: a mean of batch means would be wrong
    return [
        (
            torch.randn(n, 4, generator=generator, dtype=torch.float64),
            torch.randint(3, (n,), generator=generator),
        )
        for n in sizes
    ]


X, Y = (torch.cat(parts) for parts in zip(*batches(), strict=True))


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([net[0].weight.reshape(-1), net[2].weight.reshape(-1)])


def with_weights(values: torch.Tensor) -> torch.nn.Sequential:
    net = copy.deepcopy(network())
    with torch.no_grad():
        net[0].weight.copy_(values[:20].reshape(5, 4))
        net[2].weight.copy_(values[20:].reshape(3, 5))
    return net


def gradient(values: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    net = with_weights(values)
    value = cross_entropy(net(X) / temperature, Y)
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, [net[0].weight, net[2].weight])])


def kept(method, count: int) -> torch.Tensor:
    plan = nn.plan(network(), method, nn.KeepCount(count), calibration=batches())
    return torch.cat([layer.keep.reshape(-1) for layer in plan.layers.values()])


def best(scores: torch.Tensor, count: int) -> torch.Tensor:
    keep = torch.zeros_like(scores, dtype=torch.bool)
    keep[scores.argsort(descending=True)[:count]] = True
    return keep


@pytest.mark.parametrize("count", [1, 10, 25])
def test_snip_keeps_the_largest_products_of_gradient_and_weight(count: int):
    w = weights(network()).detach()
    assert torch.equal(kept(nn.SNIP(), count), best((gradient(w) * w).abs(), count))


def test_grasp_keeps_what_carries_the_gradient_norm():
    w = weights(network()).detach()
    base, step = gradient(w, 200.0), 1e-5
    # Change of the squared gradient norm per unit of removal, by central differences.
    change = torch.stack(
        [
            (
                gradient(w - step * w * e, 200.0).square().sum()
                - gradient(w + step * w * e, 200.0).square().sum()
            )
            / (2 * step)
            for e in torch.eye(w.numel(), dtype=torch.float64)
        ]
    )
    # Removal lowers the norm by 2 w (Hg); those whose removal lowers it most are kept.
    assert torch.equal(kept(nn.GraSP(), 10), best(-change, 10))
    assert base.square().sum() > 0


def test_taylor_averages_squares_over_batches():
    w = weights(network()).detach()
    total = torch.zeros_like(w)
    for x, y in batches():
        net = with_weights(w)
        value = cross_entropy(net(x), y)
        gradients = torch.autograd.grad(value, [net[0].weight, net[2].weight])
        total += torch.cat([g.reshape(-1) for g in gradients]).square()
    assert torch.equal(kept(nn.Taylor(), 10), best(total * w**2, 10))


@pytest.mark.parametrize("method", [nn.SNIP(steps=4), nn.GraSP(steps=4), nn.Taylor(steps=4)], ids=repr)
def test_steps_meet_the_budget_and_keep_original_weights(method):
    net = network()
    plan = nn.plan(net, method, nn.KeepRatio(0.3), calibration=batches())
    assert plan.kept == nn.KeepRatio(0.3).count(plan.total)
    for name, layer in plan.layers.items():
        assert torch.equal(layer.weight[layer.keep], net.get_submodule(name).weight[layer.keep])


def test_frozen_network_has_gradients_on_the_copy_only():
    net = network().requires_grad_(False)
    plan = nn.plan(net, nn.SNIP(), nn.KeepRatio(0.3), calibration=batches())
    assert plan.kept == nn.KeepRatio(0.3).count(plan.total)
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


def test_batches_without_labels_are_refused():
    with pytest.raises(ValueError, match="need \\(inputs, target\\)"):
        nn.plan(network(), nn.SNIP(), nn.KeepRatio(0.3), calibration=[X])


def test_loss_that_is_not_finite_is_refused():
    data = [(torch.full((4, 4), float("nan"), dtype=torch.float64), torch.zeros(4, dtype=torch.int64))]
    with pytest.raises(ValueError, match="loss on the calibration data is nan"):
        nn.plan(network(), nn.SNIP(), nn.KeepRatio(0.3), calibration=data)


def test_loss_that_is_no_single_number_is_refused():
    data = [(torch.randn(8, 5), torch.randint(3, (8,)))]
    method = nn.SNIP(loss=lambda output, target: (output.sum(1) - target).square())
    with pytest.raises(ValueError, match="no single number"):
        nn.plan(torch.nn.Linear(5, 3), method, nn.KeepRatio(0.5), calibration=data)


def test_outputs_that_cannot_be_tempered_are_refused():
    class Pair(torch.nn.Linear):
        def forward(self, x: torch.Tensor):
            return super().forward(x), x

    data = [(torch.randn(8, 5), torch.randint(3, (8,)))]
    with pytest.raises(ValueError, match="tuple"):
        nn.plan(Pair(5, 3), nn.GraSP(), nn.KeepRatio(0.5), calibration=data)


METHODS = [nn.SNIP(), nn.Taylor(), nn.GraSP(), nn.SNIP(steps=3)]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_ranked_as_its_weights_are_in_single(method, half: torch.dtype):
    net = network().to(half)
    single = copy.deepcopy(net).float()
    data = [(x.to(half), y) for x, y in batches()]
    plan = nn.plan(net, method, nn.KeepCount(12), calibration=data)
    expected = nn.plan(single, method, nn.KeepCount(12), calibration=[(x.float(), y) for x, y in data])
    for name, layer in plan.layers.items():
        weight = net.get_submodule(name).weight
        assert torch.equal(layer.keep, expected.layers[name].keep)
        assert layer.weight.dtype == half
        assert torch.equal(layer.weight[layer.keep], weight[layer.keep])
    assert all(p.dtype == half for p in net.parameters())


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_gradients_below_the_range_of_half_precision_still_rank(method):
    # A network that is sure of its labels: in float16 all gradients are below the least number.
    net = network().half()
    with torch.no_grad():
        net[2].bias.copy_(torch.tensor([30.0, 0.0, 0.0]))
    x = batches()[0][0].half()
    labels = torch.zeros(len(x), dtype=torch.int64)
    value = cross_entropy(net(x), labels)
    assert all(bool((g == 0).all()) for g in torch.autograd.grad(value, [net[0].weight, net[2].weight]))
    plan = nn.plan(net, method, nn.KeepCount(12), calibration=[(x, labels)])
    # Ties would keep the first weights of the network.
    kept = torch.cat([layer.keep.reshape(-1) for layer in plan.layers.values()])
    assert int(kept.sum()) == 12
    assert not bool(kept[:12].all())


def test_normalisation_in_half_precision_is_differentiated_and_left_as_it_was():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
    ).bfloat16()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    pruned = nn.prune(
        net, nn.SNIP(), nn.KeepRatio(0.5), calibration=[(x.bfloat16(), y) for x, y in batches()]
    )
    assert {p.dtype for p in pruned.model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())


def test_refit_after_gradients_keeps_the_half_precision_of_the_layer():
    net = network().bfloat16()
    data = [(x.bfloat16(), y) for x, y in batches()]
    plan = nn.plan(net, nn.Refit(nn.SNIP()), nn.KeepCount(12), calibration=data)
    assert {layer.weight.dtype for layer in plan.layers.values()} == {torch.bfloat16}


@pytest.mark.parametrize("method", [nn.SNIP(), nn.Taylor(), nn.GraSP()], ids=repr)
def test_an_empty_batch_counts_for_nothing(method):
    torch.manual_seed(0)
    net, inputs, labels = torch.nn.Linear(6, 3), torch.randn(20, 6), torch.randint(3, (20,))
    whole, empty = (inputs, labels), (inputs[:0], labels[:0])
    plans = [
        nn.plan(net, method, nn.KeepRatio(0.5), calibration=data) for data in ([whole], [empty, whole, empty])
    ]
    assert torch.equal(plans[0].layers[""].keep, plans[1].layers[""].keep)
    with pytest.raises(ValueError, match="empty batches only"):
        nn.plan(net, method, nn.KeepRatio(0.5), calibration=[empty])
