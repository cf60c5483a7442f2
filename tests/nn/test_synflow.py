"""Flow is conserved, steps with a small cut leave a path, and the adaptive schedule never collapses."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nn
from nn.edges.flow import Surrogate
from nn.edges.gradual import targets
from nn.guarantees.flow import FlowSteps
from nn.layers import find_layers


def mlp(widths: list[int], seed: int = 0, bias: bool = True) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    modules: list[torch.nn.Module] = []
    for a, b in itertools.pairwise(widths):
        modules += [torch.nn.Linear(a, b, bias=bias), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def surrogate(net: torch.nn.Module, shape: tuple[int, ...]) -> Surrogate:
    return Surrogate(net, list(find_layers(net)), torch.ones((1, *shape), dtype=torch.float64))


def all_alive(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in find_layers(net).items()}


WIDTHS = st.lists(st.integers(1, 12), min_size=2, max_size=6)


@given(WIDTHS, st.integers(0, 1000))
def test_scores_of_every_layer_add_up_to_the_flow_and_match_the_closed_form(widths, seed):
    net = mlp(widths, seed)
    flow = surrogate(net, (widths[0],)).flow(all_alive(net))
    weights = [layer.weight.abs().double() for layer in find_layers(net).values()]
    # Sums of up to 12^5 path products, each rounded a few times.
    tolerance = 100 * torch.finfo(torch.float64).eps
    for position, score in enumerate(flow.scores.values()):
        assert float(score.sum()) == pytest.approx(flow.total, rel=tolerance)
        before = torch.ones(widths[0], dtype=torch.float64)
        for weight in weights[:position]:
            before = weight @ before
        after = torch.ones(widths[-1], dtype=torch.float64)
        for weight in reversed(weights[position + 1 :]):
            after = weight.T @ after
        expected = after[:, None] * weights[position] * before
        torch.testing.assert_close(score, expected, rtol=tolerance, atol=0.0)


@given(st.integers(0, 100), st.data())
def test_removing_a_set_costs_at_most_its_score_and_one_weight_exactly_its_score(seed, data):
    net = mlp([4, 6, 5, 3], seed)
    flows, alive = surrogate(net, (4,)), all_alive(net)
    flow = flows.flow(alive)
    cut = {name: torch.rand(keep.shape) < data.draw(st.floats(0.0, 0.5)) for name, keep in alive.items()}
    removed = sum(float(flow.scores[name][cut[name]].sum()) for name in cut)
    left = flows.flow({name: ~cut[name] for name in cut}).total
    assert left >= flow.total - removed - 1e-12 * flow.total
    name = data.draw(st.sampled_from(sorted(alive)))
    single = {n: keep.clone() for n, keep in alive.items()}
    single[name][0, 0] = False
    expected = flow.total - float(flow.scores[name][0, 0])
    assert flows.flow(single).total == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("widths", [[20, 100, 5, 100, 10], [3, 3, 3], [50, 2, 50], [7, 4]])
def test_adaptive_schedule_goes_down_to_one_weight_a_layer_on_one_path(widths):
    net = mlp(widths)
    layers = len(widths) - 1
    pruned = nn.prune(net, nn.SynFlow(), nn.KeepCount(layers))
    assert [layer.kept for layer in pruned.plan.layers.values()] == [1] * layers
    (certificate,) = pruned.plan.certificates
    assert certificate.holds
    assert certificate.details["flow left"] > 0.0
    kept = [torch.nonzero(layer.keep)[0] for layer in pruned.plan.layers.values()]
    assert all(int(a[0]) == int(b[1]) for a, b in itertools.pairwise(kept))


def test_single_cut_collapses_where_steps_do_not():
    net = mlp([20, 1000, 5, 1000, 10])
    budget = nn.KeepRatio(0.01)
    with pytest.warns(nn.PruningWarning, match="keeps no weight"):
        single = nn.prune(net, nn.SynFlow(nn.Exponential(1)), budget)
    assert not single.plan.certificates[0].holds
    # L ln(rho) = 4 ln(100) = 18.4 steps are enough for every network of four layers.
    gradual = nn.prune(net, nn.SynFlow(nn.Exponential(math.ceil(4 * math.log(100)))), budget)
    assert gradual.plan.collapsed == ()
    assert gradual.plan.certificates[0].holds


def test_ranking_ignores_the_scale_of_layers_and_of_neurons():
    net, scaled = mlp([6, 8, 4]), mlp([6, 8, 4])
    factors = torch.exp(torch.randn(8))
    with torch.no_grad():
        scaled[0].weight.mul_(7.0 * factors[:, None])
        scaled[2].weight.div_(factors)
    masks = [nn.plan(n, nn.SynFlow(), nn.KeepRatio(0.4)).layers for n in (net, scaled)]
    for name in masks[0]:
        assert torch.equal(masks[0][name].keep, masks[1][name].keep)


def test_biases_and_shifts_of_normalisation_do_not_enter():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    )
    shifted = torch.nn.Sequential(*net)
    reference = surrogate(net, (1, 6, 6)).flow(all_alive(net))
    with torch.no_grad():
        shifted[0].bias.fill_(3.0)
        shifted[1].running_mean.fill_(50.0)
        shifted[1].bias.fill_(-4.0)
    flow = surrogate(shifted, (1, 6, 6)).flow(all_alive(shifted))
    assert flow.total == reference.total
    for name, score in flow.scores.items():
        assert torch.equal(score, reference.scores[name])
        assert float(score.sum()) == pytest.approx(flow.total, rel=1e-12)


def test_batch_normalisation_scales_by_gamma_over_the_deviation():
    net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    with torch.no_grad():
        net[0].weight.fill_(2.0)
        net[1].weight.fill_(-3.0)
        net[1].running_var.fill_(4.0)
    flow = surrogate(net, (1,)).flow(all_alive(net))
    assert flow.total == pytest.approx(2.0 * 3.0 / math.sqrt(4.0 + net[1].eps), rel=1e-6)


def test_flow_beyond_float64_is_scaled_and_said_so():
    net = mlp([128] * 300)
    with torch.no_grad():
        for layer in find_layers(net).values():
            torch.nn.init.kaiming_normal_(layer.module.weight)
    plan = nn.plan(net, nn.SynFlow(nn.Exponential(3)), nn.KeepRatio(0.5))
    assert plan.collapsed == ()
    assert any("overflowed" in note for note in plan.notes)


def test_single_precision_would_overflow_on_ordinary_depths():
    net = mlp([512] * 31)
    with torch.no_grad():
        for layer in find_layers(net).values():
            torch.nn.init.kaiming_normal_(layer.module.weight)
            layer.module.weight.abs_()
    assert torch.isinf(net(torch.ones(1, 512)).sum())
    flow = surrogate(net, (512,)).flow(all_alive(net))
    assert math.isfinite(flow.total)
    assert flow.total > torch.finfo(torch.float32).max


def test_network_without_a_known_input_shape_needs_one():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
    with pytest.raises(ValueError, match="input_shape"):
        nn.prune(net, nn.SynFlow(), nn.KeepRatio(0.5))
    nn.prune(net, nn.SynFlow(), nn.KeepRatio(0.5), calibration=[torch.zeros(2, 1, 5, 5)])


def test_attention_is_refused_by_name():
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.attention = torch.nn.MultiheadAttention(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.attention(x, x, x)[0]

    budget = nn.PerLayer({"first": nn.KeepRatio(0.5)})
    with pytest.raises(ValueError, match="'attention'"):
        nn.prune(Block(), nn.SynFlow(), budget)


@given(st.integers(1, 10**6), st.integers(1, 200), st.data())
def test_exponential_counts_fall_and_end_at_the_budget(total, steps, data):
    final = data.draw(st.integers(1, total))
    counts = targets(total, final, steps)
    assert len(counts) == steps
    assert counts[-1] == final
    assert all(a >= b for a, b in itertools.pairwise([total, *counts]))


class Head(torch.nn.Module):
    """Two layers and a function on top."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.last(torch.nn.functional.gelu(self.first(x))))


HEADS = {
    "log_softmax": lambda x: torch.nn.functional.log_softmax(x, dim=1),
    "softmax": lambda x: x.softmax(dim=1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("name", HEADS)
def test_functions_are_passed_over_like_modules(name: str):
    plain, headed = Head(lambda x: x), Head(HEADS[name])
    flows = [surrogate(net, (6,)).flow(all_alive(net)) for net in (plain, headed)]
    assert flows[0].total == flows[1].total == pytest.approx(float(flows[0].scores["first"].sum()))
    pruned = nn.prune(headed, nn.SynFlow(), nn.KeepCount(2))
    assert pruned.plan.collapsed == ()
    assert pruned.plan.certificates[0].holds


def test_flow_is_conserved_through_transposed_convolutions_and_instance_normalisation():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.InstanceNorm2d(4, affine=True),
        torch.nn.ConvTranspose2d(4, 2, 3),
        torch.nn.PReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(72, 3),
    )
    flow = surrogate(net, (1, 6, 6)).flow(all_alive(net))
    for score in flow.scores.values():
        assert float(score.sum()) == pytest.approx(flow.total, rel=1e-12)


class Gated(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = torch.nn.Linear(4, 5), torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) * torch.sigmoid(self.gate(x))


def test_nothing_is_certified_about_networks_that_are_not_linear_in_the_flow():
    decided = nn.plan(Gated(), nn.SynFlow(), nn.KeepRatio(0.5))
    assert decided.certificates == ()
    assert any("no cut ratio is certified" in note for note in decided.notes)


class Difference(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) - self.gate(x)


def test_network_that_subtracts_its_flow_is_refused():
    with pytest.raises(ValueError, match="negative"):
        nn.plan(Difference(), nn.SynFlow(), nn.KeepRatio(0.5))


def test_network_without_a_path_has_no_certificate_that_holds():
    net = mlp([4, 5, 3])
    with torch.no_grad():
        net[2].weight.zero_()
    (certificate,) = nn.plan(net, nn.SynFlow(), nn.KeepRatio(0.5)).certificates
    assert not certificate.holds
    assert "no path" in certificate.statement


def test_steps_are_strictly_more_than_a_quotient_that_is_an_integer():
    for layers in (2, 3, 5):
        for power in range(1, 40):
            assert FlowSteps().steps(layers, (layers / (layers - 1)) ** power) >= power + 1
