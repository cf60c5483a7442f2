"""Dead units go, and what a network computes stays."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.edges.dead_units import without_dead_units
from nn.layers import find_layers
from nn.masks import mask_of
from nn.sparse import live_weights

pytestmark = pytest.mark.filterwarnings("ignore::nn.PruningWarning")
F = torch.nn.functional


def mlp(bias: bool = True) -> torch.nn.Sequential:
    widths, layers = (6, 12, 9, 10, 3), []
    for a, b in itertools.pairwise(widths):
        layers += [torch.nn.Linear(a, b, bias=bias), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


class Images(torch.nn.Module):
    """Convolutions with and without padding, in groups and by channel, with normalisation and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(2, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.grouped = torch.nn.Conv2d(8, 8, 3, groups=2)
        self.padded = torch.nn.Conv2d(8, 6, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(6, 6, 2, groups=6)
        self.circular = torch.nn.Conv2d(6, 5, 3, padding=1, padding_mode="circular", bias=False)
        self.wide, self.head = torch.nn.Linear(5 * 4, 9), torch.nn.Linear(9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = torch.sigmoid(self.grouped(x))
        x = F.max_pool2d(torch.relu(self.padded(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.depthwise(x)), 2, 1, 1)
        x = F.adaptive_avg_pool2d(self.circular(x), 2)
        return self.head(torch.relu(self.wide(x.view(x.size(0), -1))))


class Residual(torch.nn.Module):
    """A sum, whose units are read from two sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = torch.nn.Linear(6, 8), torch.nn.Linear(8, 8)
        self.inner, self.head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.head(x + self.branch(torch.relu(self.inner(x))))


NETWORKS = {
    "mlp": (mlp, (6,)),
    "mlp without biases": (lambda: mlp(bias=False), (6,)),
    "tokens": (mlp, (5, 6)),
    "images": (Images, (2, 12, 12)),
    "residual": (Residual, (6,)),
}


def pruned_network(kind: str, seed: int, ratio: float) -> tuple[torch.nn.Module, tuple[int, ...]]:
    build, shape = NETWORKS[kind]
    torch.manual_seed(seed)
    net = build().double().eval()
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return nn.prune(net, nn.Random(nn.Global()), nn.KeepRatio(ratio), rng=seed).model, shape


def assert_same(first: torch.nn.Module, second: torch.nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(20, *shape, dtype=torch.float64)
    # Sums of at most a hundred terms of order one, through six layers.
    torch.testing.assert_close(second(x), first(x), rtol=0.0, atol=1e4 * torch.finfo(torch.float64).eps)


@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), ratio=st.floats(0.02, 0.6))
def test_outputs_are_those_of_the_network(kind: str, seed: int, ratio: float):
    net, shape = pruned_network(kind, seed, ratio)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    clean = without_dead_units(net, torch.randn(2, *shape, dtype=torch.float64))
    assert_same(net, clean.model, shape)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    # What was dropped is masked, and nothing that was masked has come back.
    layers, old = find_layers(clean.model), find_layers(net)
    for name, layer in layers.items():
        kept, earlier = layer.weight != 0, old[name].weight != 0
        assert not bool((kept & ~earlier).any())
        assert int(earlier.sum()) - int(kept.sum()) == clean.dropped.get(name, 0)
        assert not bool((kept & ~mask_of(clean.model.get_submodule(name))).any())


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), ratio=st.floats(0.05, 0.5))
def test_what_is_left_of_a_chain_is_on_live_paths(seed: int, ratio: float):
    net, _ = pruned_network("mlp", seed, ratio)
    clean = without_dead_units(net, torch.zeros(1, 6, dtype=torch.float64))
    layers = find_layers(clean.model)
    assert {n: int((layer.weight != 0).sum()) for n, layer in layers.items()} == live_weights(
        clean.model, (6,)
    )
    # As many as there were on live paths before: no other weight could go.
    assert live_weights(clean.model, (6,)) == live_weights(net, (6,))


@given(seed=st.integers(0, 10**6))
def test_a_second_cleaning_finds_nothing(seed: int):
    net, shape = pruned_network("images", seed, 0.1)
    example = torch.zeros(1, *shape, dtype=torch.float64)
    again = without_dead_units(without_dead_units(net, example).model, example)
    assert not again.dropped
    assert not again.constant


def test_a_constant_passes_activation_normalisation_and_flattening_into_the_bias():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 2),
        torch.nn.BatchNorm2d(2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 1),
    ).double()
    with torch.no_grad():
        net[0].weight[0] = 0.0
        net[0].bias.copy_(torch.tensor([3.0, 0.5]))
        net[1].running_mean.fill_(1.0)
        net[1].running_var.fill_(4.0 - net[1].eps)
        net[4].weight.copy_(torch.arange(1.0, 9.0)[None])
        net[4].bias.fill_(0.25)
    net.eval()
    clean = without_dead_units(net, torch.zeros(1, 1, 3, 3, dtype=torch.float64))
    # (3 - 1) / 2 = 1 at each of four places, times 1 + 2 + 3 + 4.
    assert clean.model[4].bias.item() == pytest.approx(10.25, rel=1e-12)
    assert torch.equal(clean.model[4].weight[0, :4], torch.zeros(4, dtype=torch.float64))
    assert clean.model[0].bias[0].item() == 0.0
    assert clean.constant == {"0": (0,)}
    assert_same(net, clean.model, (1, 3, 3))


def chain(second: torch.nn.Module, constant: float) -> torch.nn.Sequential:
    first = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        first.weight[0] = 0.0
        first.bias[0] = constant
    return torch.nn.Sequential(first, torch.nn.ReLU(), second).double().eval()


@pytest.mark.parametrize(
    ("second", "constant", "legal"),
    [
        (torch.nn.Conv2d(2, 1, 3), 2.0, True),
        (torch.nn.Conv2d(2, 1, 3, padding=1), 2.0, False),  # the border would see zeros
        (torch.nn.Conv2d(2, 1, 3, padding=1), -2.0, True),  # rectified, the constant is zero itself
        (torch.nn.Conv2d(2, 1, 3, padding="same"), 2.0, False),
        (torch.nn.Conv2d(2, 1, 3, padding="valid"), 2.0, True),
        (torch.nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect"), 2.0, True),
        (torch.nn.Conv2d(2, 1, 3, bias=False), 2.0, False),  # nowhere to fold into
        (torch.nn.Conv2d(2, 1, 3, bias=False), -2.0, True),
    ],
)
def test_a_constant_is_folded_where_that_is_legal_and_kept_elsewhere(second, constant: float, legal: bool):
    net = chain(second, constant)
    clean = without_dead_units(net, torch.zeros(1, 1, 5, 5, dtype=torch.float64))
    assert bool(clean.constant) == legal
    assert bool((clean.model[2].weight[:, 0] != 0).any()) != legal
    assert clean.model[0].bias[0].item() == (0.0 if legal else constant)
    assert_same(net, clean.model, (1, 5, 5))


def test_a_layer_that_lost_everything_becomes_a_constant_and_so_does_the_network():
    torch.manual_seed(0)
    net = mlp().double()
    with torch.no_grad():
        net[2].weight.zero_()
    clean = without_dead_units(net, torch.zeros(1, 6, dtype=torch.float64))
    assert all(not bool(layer.weight.any()) for layer in find_layers(clean.model).values())
    assert_same(net, clean.model, (6,))


def test_units_that_anything_else_reads_are_left_alone():
    class Returned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x)
            return torch.cat([self.second(hidden), hidden], 1)

    net = Returned().double()
    with torch.no_grad():
        net.second.weight[:, 0] = 0.0
        net.first.weight[1] = 0.0
    clean = without_dead_units(net, torch.zeros(1, 3, dtype=torch.float64))
    assert not clean.dropped
    assert_same(net, clean.model, (3,))


def test_a_layer_that_is_called_twice_is_left_alone():
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.layer(torch.relu(self.layer(x)))))

    net = Twice().double()
    with torch.no_grad():
        net.layer.weight[0] = 0.0
        net.layer.weight[:, 1] = 0.0
    clean = without_dead_units(net, torch.zeros(1, 4, dtype=torch.float64))
    assert not clean.dropped
    assert_same(net, clean.model, (4,))


def test_a_layer_that_is_called_by_keyword_is_followed():
    class Keyword(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(input=torch.relu(self.first(input=x)))

    net = Keyword().double()
    with torch.no_grad():
        net.first.weight[1] = 0.0
        net.first.bias[1] = 2.0
        net.second.weight[:, 3] = 0.0
    clean = without_dead_units(net, torch.zeros(1, 3, dtype=torch.float64))
    assert clean.constant == {"first": (1,)}
    assert clean.dropped == {"second": 2, "first": 3}
    assert_same(net, clean.model, (3,))


def test_weights_in_use_outside_their_layer_are_left_alone():
    class Outside(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(x))) + F.linear(x, self.first.weight)[:, :2]

    net = Outside().double()
    with torch.no_grad():
        net.second.weight[:, 0] = 0.0
    clean = without_dead_units(net, torch.zeros(1, 3, dtype=torch.float64))
    assert not clean.dropped
    assert_same(net, clean.model, (3,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_training_mode_and_gradients_are_kept(dtype: torch.dtype):
    torch.manual_seed(0)
    net = nn.prune(mlp().to(dtype).train(), nn.Random(), nn.KeepRatio(0.2), rng=0).model
    clean = without_dead_units(net, torch.zeros(1, 6, dtype=dtype)).model
    assert {p.dtype for p in clean.parameters()} == {dtype}
    assert clean.training
    assert all(p.requires_grad for p in clean.parameters())
    x = torch.randn(20, 6, dtype=dtype)
    # A bias is rounded once a layer, of four, and sums of ten terms are ordered anew.
    torch.testing.assert_close(clean(x), net(x), rtol=0.0, atol=100 * torch.finfo(dtype).eps)
    clean(x).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in clean.parameters())


def test_an_unmasked_network_stays_without_masks():
    net = copy.deepcopy(pruned_network("mlp", 0, 0.1)[0])
    nn.masks.bake_in(net)
    clean = without_dead_units(net, torch.zeros(1, 6, dtype=torch.float64))
    assert mask_of(clean.model[0]) is None
    assert_same(net, clean.model, (6,))


def test_networks_that_cannot_be_followed_are_refused():
    net = mlp()
    net[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="'1' has forward hooks"):
        without_dead_units(net, torch.zeros(1, 6))
    with pytest.raises(TypeError, match="example is a list"):
        without_dead_units(mlp(), [torch.zeros(1, 6)])  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="at least one input"):
        without_dead_units(mlp(), torch.zeros(0, 6))

    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="cannot be traced"):
        without_dead_units(Branching(), torch.zeros(1, 6))


def test_clean_up_follows_corenet_and_changes_no_output():
    torch.manual_seed(0)
    net = mlp().double()
    data = [torch.rand(50, 6, dtype=torch.float64)]
    pruned = nn.prune(net, nn.CoreNet(), nn.KeepRatio(0.15), calibration=data, rng=0)
    clean = without_dead_units(pruned.model, data[0])
    assert sum(clean.dropped.values()) > 0
    assert_same(pruned.model, clean.model, (6,))


class SharedBias(torch.nn.Module):
    """Two layers with weights of their own and one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one = torch.nn.Linear(4, 5), torch.nn.Linear(5, 5)
        self.other, self.head = torch.nn.Linear(5, 5), torch.nn.Linear(5, 2)
        self.other.bias = self.one.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.other(torch.tanh(self.one(torch.relu(self.first(x)))))))


def test_a_bias_that_two_layers_share_takes_up_no_constant_and_loses_none():
    torch.manual_seed(0)
    net = SharedBias().double()
    with torch.no_grad():
        net.first.weight[0], net.first.bias[0] = 0.0, 1.0  # a constant for `one`
        net.other.weight[:, 2] = 0.0  # a unit of `one` that nobody reads
    assert_same(net, without_dead_units(net, torch.zeros(1, 4, dtype=torch.float64)).model, (4,))
