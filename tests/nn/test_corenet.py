"""CoreNet: exact budgets, its theoretical sizes, and amplification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from coresets import Accuracy
from coresets.samplers import IID, FixedSize, Hybrid, Poisson
from nn.edges.corenet import Amplification, CoreNet
from nn.layers import find_layers

pytestmark = pytest.mark.filterwarnings("ignore::nn.PruningWarning")


def mlp() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(12, 10),
        torch.nn.ReLU(),
        torch.nn.Linear(10, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 3),
    )


def data(seed: int, n: int = 40) -> torch.Tensor:
    return torch.rand(n, 12, generator=torch.Generator().manual_seed(seed))


METHODS = [
    CoreNet(),
    CoreNet(Poisson()),
    CoreNet(IID()),
    CoreNet(Hybrid()),
    CoreNet(allocation=nn.Global()),
    CoreNet(IID(), amplification=Amplification([data(9)], delta=0.4)),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@settings(max_examples=15)
@given(ratio=st.floats(0.01, 1.0))
def test_budget_is_met_exactly(method, ratio):
    budget = nn.KeepRatio(ratio)
    plan = nn.plan(mlp(), method, budget, calibration=[data(1)], rng=0)
    assert plan.kept == budget.count(plan.total)


def test_layers_keep_the_same_ratio_by_default():
    plan = nn.plan(mlp(), CoreNet(), nn.KeepRatio(0.5), calibration=[data(1)], rng=0)
    assert [layer.kept for layer in plan.layers.values()] == [60, 40, 12]


def test_the_theorems_sizes_across_layers_starve_the_last_ones():
    with pytest.warns(nn.PruningWarning, match="keeps no weight of '2', '4'"):
        nn.prune(mlp(), CoreNet(allocation=nn.Global()), nn.KeepRatio(0.5), calibration=[data(1)], rng=0)


def test_estimates_are_unbiased_on_every_input():
    torch.manual_seed(1)
    layer, x = torch.nn.Linear(12, 5, bias=False, dtype=torch.float64), data(1).double()
    exact, trials = layer(x).detach(), 300
    outputs = torch.stack(
        [
            x @ nn.plan(layer, CoreNet(), nn.KeepCount(30), calibration=[x], rng=seed).layers[""].weight.t()
            for seed in range(trials)
        ]
    )
    # Five standard errors of the mean of 300 draws; 200 means, of which one exceeds that with odds of 1e-4.
    slack = 5.0 * outputs.std(dim=0) / trials**0.5 + 1e-12
    assert bool(((outputs.mean(dim=0) - exact).abs() <= slack).all())


def test_theoretical_sizes_are_vacuous_and_grow_with_accuracy():
    net, method = mlp(), CoreNet()
    sizes = method.sizes(net, [data(1)])
    assert all(size.vacuous for size in sizes.values())
    assert sizes["0"].draws > sizes["2"].draws > sizes["4"].draws
    assert [size.edges for size in sizes.values()] == [120, 80, 24]
    finer = method.sizes(net, [data(1)], Accuracy(0.25, 0.1))
    for name, size in sizes.items():
        # Draws grow like 1 / eps^2, up to the rounding of each side.
        assert finer[name].draws == pytest.approx(4.0 * size.draws, rel=1e-6)


def test_too_small_a_sample_is_said_and_the_promise_is_marked_vacuous():
    plan = nn.plan(mlp(), CoreNet(), nn.KeepRatio(0.5), calibration=[data(1)], rng=0)
    assert any("40 inputs were seen; the theorem asks for" in note for note in plan.notes)
    assert plan.certificates[0].details["vacuous"] == 1.0


def test_amplification_lowers_the_error_on_fresh_inputs():
    torch.manual_seed(1)
    layer, fresh = torch.nn.Linear(12, 5, bias=False, dtype=torch.float64), data(7, 200).double()
    exact = layer(fresh).detach()

    def error(method: CoreNet, seed: int) -> float:
        plan = nn.plan(layer, method, nn.KeepCount(20), calibration=[data(1).double()], rng=seed)
        return float((fresh @ plan.layers[""].weight.t() - exact).abs().mean())

    many = CoreNet(amplification=Amplification([data(9).double()]))
    assert np.mean([error(many, seed) for seed in range(10)]) < np.mean(
        [error(CoreNet(), s) for s in range(10)]
    )


def test_amplification_refuses_the_calibration_data():
    x = data(1)
    with pytest.raises(ValueError, match="calibration"):
        nn.plan(mlp(), CoreNet(amplification=Amplification([x])), nn.KeepRatio(0.5), calibration=[x], rng=0)


def test_number_of_candidates_is_that_of_the_theorem():
    assert Amplification([data(9)]).candidates == 29


def test_masked_weights_never_come_back():
    net = nn.prune(mlp(), nn.Magnitude(), nn.KeepRatio(0.5)).model
    alive = {name: layer.weight != 0 for name, layer in find_layers(net).items()}
    plan = nn.plan(net, CoreNet(FixedSize()), nn.KeepRatio(0.3), calibration=[data(1)], rng=0)
    assert all(not bool((layer.keep & ~alive[name]).any()) for name, layer in plan.layers.items())


def test_data_and_randomness_are_asked_for():
    with pytest.raises(ValueError, match="calibration"):
        nn.plan(mlp(), CoreNet(), nn.KeepRatio(0.5), rng=0)
    with pytest.raises(ValueError, match="rng"):
        nn.plan(mlp(), CoreNet(), nn.KeepRatio(0.5), calibration=[data(1)])
