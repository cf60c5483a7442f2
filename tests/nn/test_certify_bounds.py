"""Bounds carried through the layers hold for what the networks compute, and one layer attains them."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.certify import additive, additive_certificate, interval, interval_certificate

# Results are sums of at most a few hundred products of numbers of order one.
ROUNDING = 1e4 * torch.finfo(torch.float64).eps


class Residual(torch.nn.Module):
    """A little of everything that the walk understands."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")
        self.norm = torch.nn.BatchNorm2d(4)
        self.branch = torch.nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.down = torch.nn.Conv2d(8, 3, 1, stride=2)
        self.head = torch.nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.nn.functional.max_pool2d(x + torch.tanh(self.branch(x)), 3, stride=2, padding=1)
        x = torch.cat([x, torch.nn.functional.avg_pool2d(x, 3, 1, 1)], 1)
        x = torch.nn.functional.relu(self.down(x)).mean((2, 3))
        return self.head(torch.nn.functional.dropout(x, training=self.training))


def mlp(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 7),
        torch.nn.LeakyReLU(0.1),
        torch.nn.Linear(7, 3),
    )


def residual(seed: int) -> Residual:
    torch.manual_seed(seed)
    net = Residual()
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return net.eval()


NETWORKS = {"mlp": (mlp, (6,)), "residual": (residual, (2, 8, 8))}


def pruned_pair(kind: str, seed: int, ratio: float):
    build, shape = NETWORKS[kind]
    net = build(seed)
    pruned = nn.prune(net, nn.Random(), nn.KeepRatio(ratio), rng=seed).model
    with torch.no_grad():  # reweighted, too, and with another bias
        for parameter in pruned.parameters():
            parameter.mul_(1.0 + 0.1 * torch.randn_like(parameter))
    return net, pruned, shape


def difference(net: torch.nn.Module, pruned: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    baked = copy.deepcopy(pruned).double().eval()
    return (baked(x.double()) - copy.deepcopy(net).double().eval()(x.double())).detach()


@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), ratio=st.floats(0.1, 0.99))
def test_additive_bound_holds_on_every_given_input(kind: str, seed: int, ratio: float):
    net, pruned, shape = pruned_pair(kind, seed, ratio)
    x = 3.0 * torch.randn(16, *shape)
    bound = additive(net, pruned, x)
    assert torch.all(difference(net, pruned, x).abs() <= bound * (1.0 + ROUNDING) + ROUNDING)


@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), ratio=st.floats(0.1, 0.99), radius=st.floats(0.0, 2.0))
def test_interval_bound_holds_all_over_the_box(kind: str, seed: int, ratio: float, radius: float):
    net, pruned, shape = pruned_pair(kind, seed, ratio)
    centre = torch.randn(1, *shape)
    least, most = interval(net, pruned, centre - radius, centre + radius)
    inside = centre + radius * (2.0 * torch.rand(64, *shape) - 1.0)
    corners = centre + radius * torch.sign(torch.randn(64, *shape))
    # The box is formed in float32, so points may leave it by one rounding of that.
    slack = ROUNDING + 1e-4 * float(torch.maximum(-least, most).max())
    for x in (inside, corners):
        found = difference(net, pruned, x)
        assert torch.all(found >= least - slack)
        assert torch.all(found <= most + slack)


def worst_in_box(net, pruned, centre: torch.Tensor, radius: float) -> float:
    """Largest output difference found by gradient ascent from many corners."""
    net, pruned = (copy.deepcopy(n).double().eval() for n in (net, pruned))
    best = 0.0
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        x = centre + radius * torch.sign(torch.randn(centre.shape, generator=generator, dtype=torch.float64))
        for _ in range(30):
            x = x.detach().requires_grad_(True)
            gap = (pruned(x) - net(x)).abs().max()
            best = max(best, float(gap.detach()))
            (gradient,) = torch.autograd.grad(gap, x)
            x = centre + radius * torch.sign(gradient)
    return best


@pytest.mark.parametrize("kind", NETWORKS)
def test_interval_bound_is_not_beaten_by_gradient_ascent(kind: str):
    for seed in range(5):
        net, pruned, shape = pruned_pair(kind, seed, 0.7)
        centre = torch.randn(1, *shape, dtype=torch.float64)
        bound = interval_certificate(net, pruned, centre, 0.1).value
        assert worst_in_box(net, pruned, centre, 0.1) <= bound * (1.0 + ROUNDING)


def test_bounds_are_attained_by_one_layer():
    first, second = torch.nn.Linear(4, 3).double(), torch.nn.Linear(4, 3).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(additive(first, second, x), (second(x) - first(x)).abs().detach())
    least, most = interval(first, second, x - 1.0, x + 1.0)
    change = (second.weight - first.weight).detach()
    centre = (second(x) - first(x)).detach()
    torch.testing.assert_close(most, centre + change.abs().sum(1))
    torch.testing.assert_close(least, centre - change.abs().sum(1))


def test_box_of_radius_zero_gives_no_more_than_the_additive_bound():
    net, pruned, shape = pruned_pair("mlp", 3, 0.6)
    x = torch.randn(5, *shape)
    least, most = interval(net, pruned, x, x)
    assert torch.all(torch.maximum(-least, most) <= additive(net, pruned, x) * (1.0 + ROUNDING) + ROUNDING)


@pytest.mark.parametrize("kind", NETWORKS)
def test_equal_networks_differ_by_nothing(kind: str):
    build, shape = NETWORKS[kind]
    net = build(0)
    x = torch.randn(3, *shape)
    assert torch.all(additive(net, copy.deepcopy(net), x) == 0)


def test_certificate_shows_the_observed_error_beside_the_bound():
    net, pruned, shape = pruned_pair("residual", 0, 0.8)
    certificate = additive_certificate(net, pruned, [torch.randn(4, *shape), torch.randn(2, *shape)])
    assert 0.0 < certificate.details["observed"] <= certificate.value
    assert certificate.details["examples"] == 6


def test_networks_are_not_changed():
    net, pruned, shape = pruned_pair("residual", 0, 0.8)
    net.train()
    before = {k: v.clone() for k, v in pruned.state_dict().items()}
    additive(net, pruned, torch.randn(2, *shape))
    assert net.training
    assert all(torch.equal(v, pruned.state_dict()[k]) for k, v in before.items())


class Reshaped(torch.nn.Module):
    """A convolution, a way to flatten, a linear layer."""

    def __init__(self, flatten, features: int = 36, pool=None) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(features, 3)
        self.flatten, self.pool = flatten, pool or (lambda x: torch.nn.functional.max_pool2d(x, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.nn.functional.relu(self.norm(self.conv(x))))
        return self.head(self.flatten(x))


FLATTENINGS = {
    "view by size": lambda x: x.view(x.size(0), -1),
    "view by all sizes": lambda x: x.view(x.size()[0], x.size(1) * x.size(2) * x.size(3)),
    "view by named dimension": lambda x: x.view(x.size(dim=0), -1),
    "reshape by shape": lambda x: x.reshape(x.shape[0], -1),
    "reshape by a part of the shape": lambda x: x.reshape(x.shape[:1] + (-1,)),  # noqa: RUF005 - tracing knows no unpacking
    "reshape by a quotient": lambda x: x.reshape(-1, x.shape[1] * (x.shape[-1] // 1) * x.shape[2]),
    "torch.flatten": lambda x: torch.flatten(x, 1),
    "torch.flatten by name": lambda x: torch.flatten(input=x, start_dim=1),
    "method": lambda x: x.flatten(1),
    "function of rank": lambda x: x.flatten(x.dim() - 3),
}
F = torch.nn.functional
POOLS = {
    "maximum": lambda x: F.max_pool2d(x, 2),
    "maximum by name": lambda x: F.max_pool2d(input=x, kernel_size=2, stride=2),
    "average": lambda x: F.avg_pool2d(x, 2),
    "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (3, 3)),
    "adaptive average to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive average module": torch.nn.AdaptiveAvgPool2d(1),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, 1),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
}


def assert_bounds_hold(net: torch.nn.Module, shape: tuple[int, ...]) -> None:
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    pruned = nn.prune(net.eval(), nn.Random(), nn.KeepRatio(0.6), rng=0).model
    x = torch.randn(16, *shape)
    bound = additive(net, pruned, x)
    found = difference(net, pruned, x)
    assert bound.shape == found.shape
    assert float(found.abs().max()) > 0.0
    assert torch.all(found.abs() <= bound * (1.0 + ROUNDING) + ROUNDING)
    centre = x.double()[:1]
    least, most = interval(net, pruned, centre - 0.1, centre + 0.1)
    inside = difference(net, pruned, centre + 0.1 * (2.0 * torch.rand(64, *shape, dtype=torch.float64) - 1.0))
    assert torch.all((inside >= least - ROUNDING) & (inside <= most + ROUNDING))


@pytest.mark.parametrize("kind", FLATTENINGS)
def test_bounds_pass_every_way_to_flatten(kind: str):
    torch.manual_seed(0)
    assert_bounds_hold(Reshaped(FLATTENINGS[kind]), (1, 6, 6))


@pytest.mark.parametrize("kind", POOLS)
def test_bounds_pass_every_pooling(kind: str):
    torch.manual_seed(0)
    features = 36 if kind in ("maximum", "maximum by name", "average", "adaptive average") else 4
    assert_bounds_hold(Reshaped(lambda x: x.view(x.size(0), -1), features, POOLS[kind]), (1, 6, 6))


def test_bounds_pass_residual_sums_of_any_kind():
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.add(x, F.relu(input=self.first(x)))
            x = self.second(x).add(x) + x
            return x.reshape(x.shape)

    torch.manual_seed(0)
    assert_bounds_hold(Block(), (6,))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x + x.size(0), "size"),
        (lambda x: x.view(x.size(0), -1) * 2, "mul"),
        (lambda x: x[:, :2], "getitem"),
        (lambda x: x.relu_(), "relu_"),
        (lambda x: x.to(x.device), "device|getattr"),
        (lambda x: F.softmax(x, 1), "softmax"),
        (lambda x: x.size(0), "size"),
    ],
)
def test_function_that_is_not_understood_is_named(function, message: str):
    class Then(torch.nn.Linear):
        def forward(self, x: torch.Tensor):
            return function(F.relu(x))

    with pytest.raises(ValueError, match=message):
        additive(Then(6, 6), Then(6, 6), torch.randn(2, 6))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (torch.nn.LayerNorm(6), "LayerNorm"),
        (torch.nn.Softmax(dim=1), "Softmax"),
    ],
)
def test_layer_that_is_not_understood_is_named(module: torch.nn.Module, message: str):
    net = torch.nn.Sequential(torch.nn.Linear(6, 6), module)
    with pytest.raises(ValueError, match=message):
        additive(net, net, torch.randn(2, 6))


def test_gelu_has_its_own_lipschitz_constant_and_no_intervals():
    net = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.GELU())
    pruned = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.5)).model
    x = torch.randn(200, 6)
    assert torch.all(difference(net, pruned, x).abs() <= additive(net, pruned, x) + ROUNDING)
    with pytest.raises(ValueError, match="not monotone"):
        interval(net, pruned, x, x)


def test_networks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="another shape"):
        additive(torch.nn.Linear(3, 4), torch.nn.Linear(3, 5), torch.randn(2, 3))
    with pytest.raises(ValueError, match="corners"):
        interval(torch.nn.Linear(3, 4), torch.nn.Linear(3, 4), torch.ones(1, 3), torch.zeros(1, 3))


def test_control_flow_by_values_is_refused():
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="held-out"):
        additive(Branching(), Branching(), torch.randn(2, 3))
