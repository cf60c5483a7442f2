"""The draw with the smallest expected error, and errors through whole networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from nn import KeepRatio, PerLayer, prune
from nn.budgets import Dense
from nn.neurons import (
    Ball,
    ConvexGeometry,
    Drawing,
    MeasuredBall,
    NormBounded,
    TopScores,
    VarianceOptimal,
    composed_certificate,
)
from nn.neurons.norm_bounded import ERROR_OF


def perceptron(*widths: int, activation: nn.Module | None = None, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        modules += [nn.Linear(before, after), activation or nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def test_the_expected_squared_error_is_the_mean_over_independent_draws():
    network = perceptron(5, 12, 3).double()
    data = torch.randn(40, 5, dtype=torch.float64)
    method = VarianceOptimal()
    plan = prune(network, method, KeepRatio(0.5), calibration=[data], rng=0).plan
    (certificate,) = plan.groups["0"].certificates
    hidden, second = torch.relu(network[0](data)).detach(), network[2].weight.detach()
    adds = hidden[:, :, None] * second.T[None]  # what each unit adds, (examples, units, outputs)
    squares = adds.square().sum(2).mean(0)
    chances = (certificate.details["level"] * squares.sqrt() / squares.sqrt().sum()).clamp(max=1.0)
    exact = float((squares * (1.0 / chances - 1.0)).sum())
    assert certificate.value == pytest.approx(exact, rel=1e-9)
    # No other inclusion probabilities of the same sum have a smaller one.
    rng = np.random.default_rng(0)
    for _ in range(50):
        other = np.clip(chances.numpy() * rng.lognormal(sigma=0.3, size=12), 1e-3, 1.0)
        other *= float(chances.sum()) / other.sum()
        if other.max() <= 1.0:
            assert float((squares.numpy() * (1.0 / other - 1.0)).sum()) >= exact * (1.0 - 1e-12)


def test_windows_are_seen_as_they_are_summed():
    network = nn.Sequential(nn.Conv2d(1, 5, 2), nn.ReLU(), nn.Conv2d(5, 3, 2, bias=False)).double().eval()
    images = torch.rand(3, 1, 5, 5, dtype=torch.float64)
    plan = prune(network, VarianceOptimal(), KeepRatio(0.6), calibration=[images], rng=0).plan
    hidden = torch.relu(network[0](images)).detach()
    total = 0.0
    for unit in range(5):
        alone = torch.zeros_like(hidden)
        alone[:, unit] = hidden[:, unit]
        total += float(network[2](alone).detach().square().sum(1).mean())
    assert plan.groups["0"].certificates[0].details["sum of squares"] == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("drawing", [Drawing(), Drawing(TopScores())])
def test_composed_errors_bound_the_output_and_are_no_larger_than_the_chain_formula(drawing: Drawing):
    network = perceptron(4, 60, 40, 3).double()
    x = torch.randn(500, 4, dtype=torch.float64)
    shrunk = prune(network, NormBounded(MeasuredBall(), drawing), KeepRatio(0.7), calibration=[x], rng=0)
    certificate = composed_certificate(network, shrunk.plan, [x])
    assert float((shrunk.model(x) - network(x)).abs().max().detach()) <= certificate.value
    errors = [certificate.details[ERROR_OF + name] for name in ("2", "4")]
    masked = shrunk.plan.masked(network)
    growth = float(masked[4].weight.detach().abs().sum(1).max())
    assert certificate.value <= (errors[1] + growth * errors[0]) * (1.0 + 1e-12)
    assert certificate.confidence >= 0.8


def test_composed_errors_need_certificates_for_bounded_inputs():
    network, x = perceptron(4, 30, 3), torch.rand(5, 4)
    shrunk = prune(network, VarianceOptimal(), KeepRatio(0.5), calibration=[x], rng=0)
    with pytest.raises(ValueError, match="prune it by NormBounded"):
        composed_certificate(network, shrunk.plan, [x])


def test_groups_that_stay_whole_need_no_certificate():
    network, x = perceptron(4, 30, 20, 3), torch.rand(5, 4)
    budget = PerLayer({"0": KeepRatio(0.5), "2": Dense()})
    shrunk = prune(network, NormBounded(), budget, calibration=[x], rng=0)
    assert composed_certificate(network, shrunk.plan, [x]).value > 0.0


def largest_patch(images: torch.Tensor) -> torch.Tensor:
    """Norm of the largest patch of 3 by 3 of every image."""
    return nn.functional.unfold(images, 3, padding=1).norm(dim=1).amax(1)[:, None, None, None]


@pytest.mark.parametrize("drawing", [Drawing(), Drawing(TopScores())], ids=["drawn", "top"])
def test_largest_change_holds_behind_max_pooling_for_the_worst_input(drawing: Drawing):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 2, 2, bias=False)
    )
    network = network.double().eval().requires_grad_(False)
    seed = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    method = NormBounded(Ball(1.0), drawing)
    shrunk = prune(network, method, KeepRatio(0.7), calibration=[seed], rng=0)
    (certificate,) = shrunk.plan.groups["0"].certificates
    assert certificate.name == "largest change"
    assert any("max-pooling" in note for note in shrunk.plan.notes) == (
        not isinstance(drawing.sampler, TopScores)
    )
    images = seed.clone().requires_grad_(True)
    climbed = torch.zeros(())
    for _ in range(60):
        inside = images / largest_patch(images).clamp(min=1.0)
        change = (shrunk.model(inside) - network(inside)).abs().amax(dim=(1, 2, 3))
        climbed = torch.maximum(climbed, change.max().detach())
        (gradient,) = torch.autograd.grad(change.sum(), images)
        images = (images + 0.5 * gradient / gradient.norm()).detach().requires_grad_(True)
    assert 0.0 < float(climbed) <= certificate.value
    assert float(climbed) <= composed_certificate(network, shrunk.plan, [seed]).value


def test_shares_of_sums_are_not_claimed_behind_max_pooling():
    network = nn.Sequential(nn.Conv2d(1, 40, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(40, 2, 2)).eval()
    plan = prune(network, ConvexGeometry(), KeepRatio(0.5), calibration=[torch.rand(4, 1, 6, 6)], rng=0).plan
    assert not plan.groups["0"].certificates
    assert any("nothing is claimed: max-pooling" in note for note in plan.notes)
