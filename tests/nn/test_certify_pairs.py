"""Bounds are carried only through networks that differ in weights and do what their graphs say."""

from __future__ import annotations

import copy
import types

import pytest
import torch

from nn.certify import additive, additive_certificate, interval, interval_certificate

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
IMAGES = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def moved(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """A copy with other weights."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return other


def linear(out: int = 4) -> torch.nn.Linear:
    return torch.nn.Linear(4, out, dtype=torch.float64)


def test_activation_in_place_gives_the_bounds_of_the_one_that_is_not():
    torch.manual_seed(0)
    first, last = torch.nn.Linear(4, 30, dtype=torch.float64), torch.nn.Linear(30, 3, dtype=torch.float64)
    nets = [torch.nn.Sequential(first, torch.nn.ReLU(inplace=flag), last) for flag in (False, True)]
    bounds = [interval(net, moved(net), X - 0.5, X + 0.5) for net in nets]
    for plain, in_place in zip(*bounds, strict=True):
        assert torch.equal(plain, in_place)


def test_inputs_are_not_overwritten():
    net = torch.nn.Sequential(torch.nn.ReLU(inplace=True), linear())
    x = X.clone()
    additive(net, moved(net), x)
    additive_certificate(net, moved(net), [x])
    interval(net, moved(net), x, x)
    assert torch.equal(x, X)


class Residual(torch.nn.Module):
    """Adds what an activation has overwritten, in one of three ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.way = linear(), linear(), way
        self.act = torch.nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        if self.way == "module":
            return self.b(self.act(x)) + x
        if self.way == "view":
            y = x.view(-1, 2, 2)
            return torch.flatten(torch.nn.functional.relu(y, True), 1) + x
        y = x
        y += self.b(x)
        return x + self.b(y)


@pytest.mark.parametrize("way", ["module", "view", "sum"])
def test_value_that_is_used_after_it_was_overwritten_is_refused(way: str):
    net = Residual(way)
    with pytest.raises(ValueError, match="overw"):
        additive(net, moved(net), X)
    with pytest.raises(ValueError, match="overw"):
        interval(net, moved(net), X, X)


def conv(mode: str) -> torch.nn.Conv2d:
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode, dtype=torch.float64)


PAIRS = {
    "activations": (torch.nn.ReLU(), torch.nn.Identity(), X),
    "slopes": (torch.nn.LeakyReLU(0.1), torch.nn.LeakyReLU(0.2), X),
    "identity and layer": (torch.nn.Identity(), linear(), X),
    "padding": (conv("zeros"), conv("circular"), IMAGES),
    "averages": (torch.nn.AvgPool2d(3, 1, 1), torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False), IMAGES),
    "lengths": (torch.nn.Sequential(linear()), torch.nn.Sequential(linear(), torch.nn.ReLU()), X),
}


@pytest.mark.parametrize("name", PAIRS)
def test_networks_that_differ_in_more_than_weights_are_refused(name: str):
    before, after, x = PAIRS[name]
    with pytest.raises(ValueError, match=r"networks? "):
        additive(before, after, x)


def test_layer_with_a_hook_is_refused_by_name():
    net = torch.nn.Sequential(linear(), torch.nn.ReLU())
    other = copy.deepcopy(net)
    other[0].register_forward_hook(lambda module, arguments, output: 2.0 * output)
    with pytest.raises(ValueError, match="'0' has forward hooks"):
        additive(net, other, X)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bound_that_is_no_number_is_refused(value: float):
    net = linear()
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.weight[0, 0] = value
    with pytest.raises(ValueError, match="NaN"):
        additive_certificate(net, broken, [X, torch.zeros_like(X)])
    with pytest.raises(ValueError, match="NaN"):
        additive_certificate(net, moved(net), [X * value])


class Drops(torch.nn.Module):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.a, self.always = linear(), training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(self.a(x), 0.5, self.always)


def test_dropout_that_is_always_on_is_refused():
    with pytest.raises(ValueError, match=r"dropout|networks? "):
        additive(Drops(True), Drops(True), X)
    net = Drops(False)
    other = moved(net)
    assert torch.all((other(X) - net(X)).abs() <= additive(net, other, X) + 1e-12)


class TanhGELU(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self.a(x), approximate="tanh")


def test_settings_of_functional_activations_are_kept():
    net = TanhGELU()
    module = torch.nn.Sequential(net.a, torch.nn.GELU(approximate="tanh"))
    last = [torch.nn.Sequential(part, linear()) for part in (net, module)]
    last[1][1].load_state_dict(last[0][1].state_dict())
    bounds = [additive(both, moved(both), X) for both in last]
    assert torch.equal(*bounds)


def test_average_with_a_divisor_of_its_own_is_refused():
    net = torch.nn.Sequential(conv("zeros"), torch.nn.AvgPool2d(2, divisor_override=-1))
    with pytest.raises(ValueError, match="AvgPool2d"):
        additive(net, moved(net), IMAGES)


def test_box_is_formed_in_double_precision():
    first, second = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        first.weight.fill_(1.0)
        second.weight.fill_(2.0)
    # In single precision 1e8 + 1 is 1e8.
    assert interval_certificate(first, second, torch.tensor([[1e8]]), 1.0).value == 1e8 + 1.0


class Unseen(torch.nn.Module):
    """Adds to a value in place, which tracing records as a sum that leaves it as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        self.outer = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        y = x
        y += torch.relu(y)
        return self.outer(x + y)


class Out(Unseen):
    """The same by an argument, which tracing shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        y = torch.add(x, torch.relu(x), out=x)
        return self.outer(x + y)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sum_in_place_is_seen_although_all_is_zero_in_the_middle_of_the_box(sign: float):
    net = Unseen()
    torch.nn.init.constant_(net.inner.weight, sign)
    ones = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="something else than its graph"):
        interval(net, moved(net), -ones, ones)


def test_results_that_are_written_over_an_argument_are_refused():
    net, ones = Out().requires_grad_(False), torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"leave out=\.\.\. away"):
        additive(net, moved(net), ones)


def test_a_layer_with_a_forward_of_its_own_is_refused_by_name():
    net = torch.nn.Sequential(linear(), torch.nn.ReLU(), linear(2))

    def fivefold(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return 5.0 * torch.nn.functional.linear(x, self.weight, self.bias)

    net[2].forward = types.MethodType(fivefold, net[2])
    with pytest.raises(ValueError, match="'2' has forward hooks, or a forward of its own"):
        additive(net, moved(net), X)


@pytest.mark.parametrize("beta", [1e-7, 0.05])
def test_a_softplus_that_jumps_at_its_threshold_is_refused(beta: float):
    net = torch.nn.Sequential(linear(), torch.nn.Softplus(beta=beta))
    with pytest.raises(ValueError, match="jumps"):
        additive(net, moved(net), X)


def test_boxes_that_are_none_are_refused():
    net = linear()
    for inputs, radius in ((X[:0], 0.1), (X, -0.1)):
        with pytest.raises(ValueError, match="give no box"):
            interval_certificate(net, moved(net), inputs, radius)


def test_bounds_say_that_they_are_about_double_precision():
    net = torch.nn.Linear(4, 3).to(torch.bfloat16)
    for found in (additive_certificate(net, moved(net), [X]), interval_certificate(net, moved(net), X, 0.1)):
        assert found.statement.endswith("both computed in double precision")
