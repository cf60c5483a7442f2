"""Refitted consumers: what least squares promises, on every kind of topology."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.budgets import KeepRatio
from nn.layers import EdgeLayer
from nn.neurons import FilterNorm, RandomUnits, _refitting
from nn.neurons._chain import Chain
from nn.neurons._moments import InputMoments, Moments, MomentSums, Sampling, least_squares, vectors_of
from nn.neurons._paired import Pair
from nn.neurons._stored import Recorded, Replayed
from nn.neurons.refit import RefitConsumers

EPS = float(np.finfo(np.float64).eps)

seeds = st.integers(0, 2**32 - 1)


class Residual(torch.nn.Module):
    """A residual stream of 6 channels, read by a convolution, a grouped one and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(2, 6, 3, padding=1)
        self.inner = torch.nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.back = torch.nn.Conv2d(8, 6, 1)
        self.head = torch.nn.Linear(6 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream = torch.relu(self.stem(x))
        stream = stream + self.back(torch.relu(self.norm(self.inner(stream))))
        return self.head(torch.nn.functional.max_pool2d(torch.relu(stream), 2).flatten(1))


class Joined(torch.nn.Module):
    """Two convolutions whose outputs are concatenated and read by one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = torch.nn.Conv2d(2, 5, 3), torch.nn.Conv2d(2, 4, 3)
        self.join = torch.nn.Conv2d(9, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(torch.relu(torch.cat([self.left(x), self.right(x)], dim=1)))


def perceptron() -> torch.nn.Module:
    layers = [torch.nn.Linear(5, 9), torch.nn.ReLU(), torch.nn.Linear(9, 7), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(7, 3))


def grouped() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 6, 3, groups=2, bias=False)
    )


def case(name: str, seed: int) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """A network in float64 and its data."""
    torch.manual_seed(seed)
    makers = {"perceptron": perceptron, "residual": Residual, "joined": Joined, "grouped": grouped}
    network = makers[name]().double().eval()
    shape = (5,) if name == "perceptron" else (2, 8, 8)
    return network, [torch.randn(20, *shape, dtype=torch.float64) for _ in range(3)]


def outputs(network: torch.nn.Module, data: list[torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network(x) for x in data])


NETWORKS = ("perceptron", "residual", "joined", "grouped")


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_consumer_is_worse_than_with_the_weights_that_the_other_method_gave(name, sequential):
    network, data = case(name, 0)
    method = RefitConsumers(FilterNorm(), sequential=sequential)
    plan = nn.plan(network, method, KeepRatio(0.5), calibration=data)
    details = dict(plan.certificates[0].details)
    assert details.pop("before the refit") > 0.0
    layers = [key for key in details if not key.endswith(", before")]
    assert layers
    for layer in layers:
        assert details[layer] <= details[f"{layer}, before"] + 100 * EPS


@settings(max_examples=15)
@given(seeds, st.sampled_from([1e-8, 1e-2, 1.0]))
def test_the_output_of_one_hidden_layer_is_never_further_from_the_original(seed, ridge):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).double()
    data = [torch.randn(40, 4, dtype=torch.float64)]
    budget = KeepRatio(0.5)
    plain = nn.prune(network, RandomUnits(), budget, calibration=data, rng=seed)
    refitted = nn.prune(network, RefitConsumers(RandomUnits(), ridge), budget, calibration=data, rng=seed)
    target = outputs(network, data)
    before, after = (float((outputs(p.model, data) - target).square().sum()) for p in (plain, refitted))
    assert after <= before * (1.0 + 1e-9) + 1e-12


@pytest.mark.parametrize("name", ["perceptron", "grouped", "joined"])
def test_with_a_small_ridge_the_weights_are_those_of_a_plain_least_squares_solver(name):
    network, data = case(name, 1)
    method = RefitConsumers(FilterNorm(), ridge=1e-10, sequential=False, patches=1000)
    budget = nn.PerLayer({"0" if name != "joined" else "left": nn.KeepRatio(0.5)})
    pruned = nn.prune(network, method, budget, calibration=data)
    consumer = {"perceptron": "2", "grouped": "2", "joined": "join"}[name]
    seen, given_out = {}, {}

    def look(key):
        def hook(module, arguments, output):
            seen[key], given_out[key] = arguments[0].detach(), output.detach()

        return hook

    for key, model in (("old", network), ("new", pruned.model)):
        handle = model.get_submodule(consumer).register_forward_hook(look(key))
        outputs(model, [torch.cat(data)])
        handle.remove()
    # The new layer's inputs are the kept ones among the old, so the least residual can be solved for.
    layer = pruned.model.get_submodule(consumer)
    residual = given_out["new"] - given_out["old"]
    if isinstance(layer, torch.nn.Linear):
        rows = [seen["new"]]
        targets = [given_out["old"]]
    else:
        rows, targets = [], []
        for part, out in zip(
            seen["new"].chunk(layer.groups, 1), given_out["old"].chunk(layer.groups, 1), strict=True
        ):
            unfolded = torch.nn.functional.unfold(part, layer.kernel_size)
            rows.append(unfolded.transpose(1, 2).flatten(0, 1))
            targets.append(out.flatten(2).transpose(1, 2).flatten(0, 1))
    least = 0.0
    for x, y in zip(rows, targets, strict=True):
        constant = np.ones((len(x), 1 if layer.bias is not None else 0))
        columns = np.hstack([x.numpy(), constant])
        fit = np.linalg.lstsq(columns, y.numpy())[0]
        least += float(np.sum((y.numpy() - columns @ fit) ** 2))
    # A ridge of 1e-10 adds at most about that share of the squared target.
    assert float(residual.square().sum()) == pytest.approx(least, rel=1e-6, abs=1e-8)


def test_sequential_weights_make_up_for_what_earlier_layers_have_lost():
    network, data = case("perceptron", 2)
    budget, target = KeepRatio(0.4), outputs(network, data)
    errors = [
        float((outputs(nn.prune(network, m, budget, calibration=data).model, data) - target).square().sum())
        for m in (RefitConsumers(FilterNorm(), 1e-6, sequential=s) for s in (True, False))
    ]
    # The last layer's fit is best for the inputs that it really gets.
    assert errors[0] < errors[1]


@pytest.mark.parametrize("sequential", [False, True])
def test_units_that_repeat_others_are_removed_without_any_loss(sequential):
    torch.manual_seed(3)
    first, second = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)
    with torch.no_grad():
        first.weight[3:] = 2.0 * first.weight[:3]
        first.bias[3:] = 2.0 * first.bias[:3]
    network = torch.nn.Sequential(first, torch.nn.ReLU(), second).double()
    data = [torch.randn(50, 4, dtype=torch.float64)]
    method = RefitConsumers(FilterNorm(), ridge=1e-10, sequential=sequential)
    pruned = nn.prune(network, method, nn.KeepCount(3), calibration=data)
    fresh = torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(pruned.model(fresh), network(fresh), rtol=1e-6, atol=1e-6)


def test_the_network_its_mode_and_the_random_state_are_left_alone():
    network, data = case("residual", 4)
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    pruned = nn.prune(network, RefitConsumers(FilterNorm()), KeepRatio(0.5), calibration=data)
    assert network.training
    assert pruned.model.training
    assert torch.equal(state, torch.random.get_rng_state())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_precision_is_kept_and_overflow_is_refused():
    network, data = case("perceptron", 5)
    method = RefitConsumers(FilterNorm())
    half = network.to(torch.bfloat16)
    pruned = nn.prune(half, method, KeepRatio(0.5), calibration=[x.to(torch.bfloat16) for x in data])
    assert pruned.model[2].weight.dtype == torch.bfloat16


def test_data_that_can_be_read_once_only_are_refused_before_any_work():
    network, data = case("perceptron", 6)
    with pytest.raises(ValueError, match="more than once"):
        nn.plan(network, RefitConsumers(FilterNorm()), KeepRatio(0.5), calibration=iter(data))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"method": FilterNorm}, TypeError, "pass a method"),
        ({"method": nn.Magnitude()}, TypeError, "pass a method"),
        ({"method": FilterNorm(), "ridge": 0.0}, ValueError, "ridge"),
        ({"method": FilterNorm(), "patches": 0}, ValueError, "patches"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        RefitConsumers(**arguments)


@given(st.integers(1, 300), st.integers(1, 64))
def test_vectors_used_are_at_most_the_limit_and_visit_every_position(patches, limit):
    sampling = Sampling(limit)
    step = sampling.step(patches)
    assert np.gcd(step, patches) == 1
    assert step == 1 or patches / step <= limit
    stream = torch.arange(patches * step).reshape(1, -1, 1)
    # Cut at any place, the same vectors are used.
    cut = len(stream[0]) // 3
    whole = sampling.rows(stream, patches, 0)
    parts = [sampling.rows(stream[:, :cut], patches, 0), sampling.rows(stream[:, cut:], patches, cut)]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert sorted((whole % patches).flatten().tolist()) == list(range(patches))


@settings(max_examples=20)
@given(seeds, st.booleans())
def test_moments_give_the_errors_of_the_vectors_themselves(seed, constant):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 30, 4)), rng.normal(size=(2, 30, 3))
    sums = MomentSums(2, 4, 3, torch.device("cpu"))
    for part in (slice(0, 13), slice(13, 30)):
        sums.add(torch.from_numpy(x[:, part]), torch.from_numpy(y[:, part]))
    moments = sums.moments()
    weights = rng.normal(size=(2, 4, 3))
    bias = rng.normal(size=(2, 3)) if constant else None
    left = y - x @ weights - (bias[:, None] if constant else 0.0)
    assert moments.squared_error(weights, bias) == pytest.approx(float(np.sum(left**2)), rel=1e-10)
    centred = Moments.centred(moments)
    np.testing.assert_allclose(centred.products[0], 29 * np.cov(x[0].T), rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(seeds)
def test_inputs_that_say_nothing_leave_weights_as_they_were(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 30, 4))
    x[..., 2] = 0.0
    sums = MomentSums(1, 4, 2, torch.device("cpu"))
    sums.add(torch.from_numpy(x), torch.from_numpy(rng.normal(size=(1, 30, 2))))
    prior = rng.normal(size=(1, 4, 2))
    np.testing.assert_array_equal(least_squares(sums.moments(), prior, 0.01)[0, 2], prior[0, 2])


def test_a_layer_that_saw_nothing_is_named():
    layer = nn.layers.find_layers(torch.nn.Linear(2, 2))[""]
    with pytest.raises(ValueError, match="has seen no inputs"):
        InputMoments(Sampling(4)).moments(layer)


LAYERS = {
    "padded": (torch.nn.Conv2d(4, 8, 3, padding=1), (5, 4, 9, 9)),
    "strided": (torch.nn.Conv2d(4, 8, (3, 2), stride=(2, 1), dilation=(1, 2), groups=2), (5, 4, 9, 11)),
    "same": (torch.nn.Conv2d(4, 8, 3, padding="same", dilation=2), (7, 4, 9, 9)),
    "one image, reflected": (torch.nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), (4, 9, 9)),
    "pointwise": (torch.nn.Conv2d(4, 8, 1), (5, 4, 9, 9)),
    "tokens": (torch.nn.Linear(6, 3), (4, 50, 6)),
    "vectors": (torch.nn.Linear(6, 3), (4, 6)),
}


@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
@pytest.mark.parametrize("name", LAYERS)
def test_only_patches_that_are_used_are_formed_and_they_are_the_right_ones(name, limit):
    module, shape = LAYERS[name]
    layer, sampling, seen = EdgeLayer("layer", module), Sampling(limit), 13
    activations = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = torch.cat(list(sampling.vectors(layer, activations, seen)), dim=1)
    wanted, before = [], seen
    for block in layer.inputs(activations):
        wanted.append(sampling.rows(block, layer.patches(activations), before))
        before += block.shape[1]
    assert torch.equal(found, torch.cat(wanted, dim=1))
    assert vectors_of(layer, activations) == before - seen


class Shuffled:
    """Batches in a new order each time, as a loader gives them that shuffles."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches, self.turn = batches, 0

    def __iter__(self):
        self.turn += 1
        return iter(self.batches[self.turn % 3 :] + self.batches[: self.turn % 3])


@pytest.mark.parametrize("name", NETWORKS)
def test_stored_outputs_give_the_fit_that_the_original_at_the_side_gives(name, monkeypatch):
    network, data = case(name, 7)
    plans = []
    for limit in (_refitting._TARGET_BYTES, 2500, 0):  # all, those of some layers, none
        monkeypatch.setattr(_refitting, "_TARGET_BYTES", limit)
        plans.append(nn.plan(network, RefitConsumers(FilterNorm()), KeepRatio(0.5), calibration=data))
    for other in plans[1:]:
        assert other.updates.keys() == plans[0].updates.keys()
        for key, value in plans[0].updates.items():
            assert torch.equal(value, other.updates[key])


def chain() -> torch.nn.Sequential:
    """Modules one after the other, some in a sequence of their own, one that works in place, one twice."""
    relu = torch.nn.ReLU(inplace=True)
    inner = torch.nn.Sequential(torch.nn.Linear(9, 7), relu, torch.nn.Linear(7, 8))
    return torch.nn.Sequential(torch.nn.Linear(5, 9), relu, inner, relu, torch.nn.Linear(8, 3)).double()


def test_a_chain_of_modules_is_gone_through_once_and_fitted_as_any_other_network(monkeypatch):
    class Hidden(torch.nn.Module):
        """The same, so that it cannot be seen that it is a chain."""

        def __init__(self) -> None:
            super().__init__()
            self.inside = chain()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inside(x)

    runs = {Replayed: 0, Chain: 0}
    for kind in runs:

        def counted(self, *arguments, run=kind.forward, kind=kind):
            runs[kind] += 1
            run(self, *arguments)

        monkeypatch.setattr(kind, "forward", counted)
    torch.manual_seed(10)
    plain = chain()
    hidden = Hidden()
    hidden.inside.load_state_dict(plain.state_dict())
    data = [torch.randn(20, 5, dtype=torch.float64) for _ in range(3)]
    method = RefitConsumers(FilterNorm())
    updates = nn.plan(plain, method, KeepRatio(0.5), calibration=data).updates
    assert runs == {Replayed: 3, Chain: 6}  # three batches, three consumers
    other = nn.plan(hidden, method, KeepRatio(0.5), calibration=data).updates
    assert runs == {Replayed: 3 + 9, Chain: 6}
    assert other.keys() == {f"inside.{key}" for key in updates}
    for key, value in updates.items():
        assert torch.equal(value, other[f"inside.{key}"])
    monkeypatch.setattr(_refitting, "_TARGET_BYTES", 8 * 60 * 8)  # one layer's outputs or less
    short = nn.plan(plain, method, KeepRatio(0.5), calibration=data).updates
    for key, value in updates.items():
        assert torch.equal(value, short[key])


def test_a_sequence_with_hooks_is_no_chain():
    network = chain()
    assert len(Chain.of(network, 1).rest) == 7
    network[2].register_forward_hook(lambda module, arguments, output: 2.0 * output)
    assert len(Chain.of(network, 1).rest) == 5  # it runs as one piece
    assert Chain.of(network[0], 1) is None


def test_the_original_runs_once_and_if_outputs_are_not_stored_once_for_each_consumer(monkeypatch):
    network, data = case("perceptron", 8)
    counts = {Recorded: 0, Pair: 0}
    for kind in counts:

        def counted(self, *arguments, run=kind.forward, kind=kind):
            counts[kind] += 1
            run(self, *arguments)

        monkeypatch.setattr(kind, "forward", counted)
    for limit, batches in ((_refitting._TARGET_BYTES, [3, 0]), (0, [3, 6])):  # three batches, two consumers
        monkeypatch.setattr(_refitting, "_TARGET_BYTES", limit)
        counts.update(dict.fromkeys(counts, 0))
        nn.plan(network, RefitConsumers(FilterNorm()), KeepRatio(0.5), calibration=data)
        assert list(counts.values()) == batches


@pytest.mark.parametrize("name", NETWORKS)
def test_data_in_another_order_each_time_are_noticed(name):
    network, data = case(name, 9)
    method = RefitConsumers(FilterNorm())
    plain = nn.plan(network, method, KeepRatio(0.5), calibration=data)
    shuffled = nn.plan(network, method, KeepRatio(0.5), calibration=Shuffled(data))
    details = shuffled.certificates[0].details
    assert details.keys() == plain.certificates[0].details.keys()
    # Sampling aside the sums are the same; targets of other inputs would leave errors near 1.
    for key, value in plain.certificates[0].details.items():
        assert details[key] == pytest.approx(value, rel=0.05)
