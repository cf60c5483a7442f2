"""Lengths of neurons on bounded inputs, and what draws in proportion to them promise."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from nn import KeepRatio, PerLayer, prune
from nn.budgets import Dense, Share
from nn.calibration import Calibration, split_batch
from nn.layers import EdgeLayer
from nn.neurons import Ball, Drawing, MeasuredBall, MeasuredEllipsoid, NormBounded, TopScores
from nn.neurons.input_samples import InputSample
from nn.neurons.norm_bounded import ERROR_OF
from nn.neurons.points import Neurons, neurons_of
from nn.units import find_groups
from nn.units.method import UnitProblem


def problem_of(network: nn.Module, inputs: torch.Tensor) -> UnitProblem:
    groups = find_groups(network.eval(), split_batch(inputs)).groups
    return UnitProblem(network, groups, (Share(tuple(groups), len(groups)),), Calibration.of([inputs]))


def only(network: nn.Module, inputs: torch.Tensor) -> Neurons:
    (found,) = neurons_of(problem_of(network, inputs)).values()
    return found


def perceptron(*widths: int, activation: nn.Module | None = None, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        modules += [nn.Linear(before, after), activation or nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def test_lengths_on_a_ball_are_attained():
    own = only(perceptron(4, 6, 2), torch.rand(3, 4))
    lengths = Ball(1.5).lengths(problem_of(perceptron(4, 6, 2), torch.rand(3, 4)), {"0": own})["0"].values
    points = own.dense()
    for row, length in zip(points, lengths, strict=True):
        direction = 1.5 * row[:-1] / row[:-1].norm() * (1.0 if row[-1] >= 0 else -1.0)
        assert float(row[:-1] @ direction + row[-1]) == pytest.approx(
            math.copysign(float(length), float(row[-1])), rel=1e-12
        )


@pytest.mark.parametrize("inputs", [MeasuredBall(), MeasuredEllipsoid(), MeasuredEllipsoid(1e-6)])
def test_measured_sets_contain_the_inputs_that_were_seen(inputs: MeasuredBall | MeasuredEllipsoid):
    network, data = perceptron(5, 30, 2), torch.randn(200, 5) * torch.tensor([1.0, 5.0, 0.1, 1.0, 0.0])
    problem = problem_of(network, data)
    own = neurons_of(problem)["0"]
    lengths = inputs.lengths(problem, {"0": own})["0"].values
    images = network[0](data).detach().double().abs().amax(dim=0)
    assert bool((images <= lengths * (1.0 + 1e-5)).all())


def test_an_ellipsoid_is_smaller_than_the_ball_for_inputs_that_vary_in_few_directions():
    data = torch.randn(300, 2) @ torch.randn(2, 20) + 3.0
    problem = problem_of(perceptron(20, 40, 2), data)
    neurons = neurons_of(problem)
    ball, ellipsoid = (s.lengths(problem, neurons)["0"].values for s in (MeasuredBall(), MeasuredEllipsoid()))
    assert float(ellipsoid.sum()) < float(ball.sum())


def test_the_ellipsoid_without_its_matrix_is_the_one_with_it():
    data = torch.randn(60, 4, dtype=torch.float64)
    problem = problem_of(perceptron(4, 9, 2).double(), data)
    neurons = neurons_of(problem)
    got = MeasuredEllipsoid(0.1).lengths(problem, neurons)["0"].values
    centred = data - data.mean(0)
    moments = centred.T @ centred / 60
    shape = moments + 0.1 * moments.trace() / 4 * torch.eye(4, dtype=torch.float64)
    reach = (centred @ torch.linalg.inv(shape) * centred).sum(1).max()
    points = neurons["0"].dense()
    quadratic = (points[:, :-1] @ shape * points[:, :-1]).sum(1) * reach
    want = quadratic.sqrt() + (points[:, :-1] @ data.mean(0) + points[:, -1]).abs()
    torch.testing.assert_close(got, want)


def worst_change(network: nn.Sequential, smaller: nn.Module, radius: float) -> float:
    """Largest change of an output over the ball, by projected ascent."""
    x = torch.randn(64, network[0].in_features, dtype=torch.float64)
    worst = 0.0
    for step in range(40):
        x = (x * (radius / x.norm(dim=1, keepdim=True)).clamp(max=1.0)).detach().requires_grad_(True)
        change = (smaller(x) - network(x)).abs().amax(dim=1)
        worst = max(worst, float(change.max().detach()))
        (slope,) = torch.autograd.grad(change.sum(), x)
        x = x + radius * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-300) / math.sqrt(1.0 + step)
    return worst


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.3)])
@pytest.mark.parametrize("drawing", [Drawing(), Drawing(TopScores()), Drawing(reweighted=False)])
def test_no_input_of_the_ball_moves_an_output_further_than_promised(activation: nn.Module, drawing: Drawing):
    network = perceptron(6, 200, 3, activation=activation).double()
    data = [torch.zeros(2, 6, dtype=torch.float64)]
    shrunk = prune(network, NormBounded(Ball(2.0), drawing), KeepRatio(0.5), calibration=data, rng=1)
    seen = worst_change(network, shrunk.model, 2.0)
    for certificate in shrunk.plan.groups["0"].certificates:
        assert seen <= certificate.details[ERROR_OF + "2"]


def test_constants_of_a_sigmoid_are_moved_into_the_next_bias():
    # Biases so large that every unit is saturated: without the correction half the sum would be lost.
    network = perceptron(3, 50, 2, activation=nn.Sigmoid()).double()
    with torch.no_grad():
        network[0].weight.mul_(1e-3)
        network[0].bias.mul_(1e-3)
    x = torch.rand(20, 3, dtype=torch.float64)
    shrunk = prune(network, NormBounded(Ball(2.0), Drawing(TopScores())), KeepRatio(0.2), calibration=[x])
    assert float((shrunk.model(x) - network(x)).abs().max().detach()) < 1e-2 * float(
        network[2].weight.detach().abs().sum()
    )
    assert "2.bias" in shrunk.plan.updates


def test_a_sigmoid_before_a_padded_convolution_is_not_claimed():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 2, 3, padding=1)).eval()
    plan = prune(network, NormBounded(), KeepRatio(0.5), calibration=[torch.rand(2, 1, 8, 8)], rng=0).plan
    assert any("cannot be put into a bias" in note for note in plan.notes)


def test_windows_are_counted_in_the_promise_of_a_convolution():
    network = nn.Sequential(nn.Conv2d(1, 60, 1), nn.ReLU(), nn.Conv2d(60, 2, 3)).eval()
    images = torch.rand(4, 1, 6, 6)
    shrunk = prune(network, NormBounded(), KeepRatio(0.5), calibration=[images], rng=0)
    seen = float((shrunk.model(images) - network(images)).abs().max().detach())
    (by_chance, certain) = shrunk.plan.groups["0"].certificates
    assert by_chance.details[ERROR_OF + "2"] == pytest.approx(
        9 * by_chance.value * by_chance.details["total"]
    )
    assert seen <= certain.value


def test_what_is_promised_of_one_group_does_not_depend_on_the_others():
    network, x = perceptron(4, 40, 30, 3), torch.rand(5, 4)
    method = NormBounded(Ball(1.0), Drawing(TopScores()))
    alone, both = (
        prune(network, method, PerLayer({"0": first, "2": KeepRatio(0.5)}), calibration=[x]).plan.groups["2"]
        for first in (Dense(), KeepRatio(0.3))
    )
    assert torch.equal(alone.keep, both.keep)
    assert [c.value for c in alone.certificates] == [c.value for c in both.certificates]


def test_sampled_inputs_are_spread_evenly_and_between_once_and_twice_as_many_as_wanted():
    layer = EdgeLayer("", nn.Linear(1, 1))
    for sizes in ([1] * 500, [7] * 90, [1000], [3, 500, 1, 64]):
        sample = InputSample(20)
        start = 0
        for size in sizes:
            sample.update(layer, torch.arange(start, start + size, dtype=torch.float32)[:, None])
            start += size
        seen = sample.vectors()[:, 0]
        assert 20 <= len(seen) < 40
        gaps = seen[1:] - seen[:-1]
        assert float(seen[0]) == 0.0
        assert float(gaps.min()) == float(gaps.max())
        assert start - float(seen[-1]) <= float(gaps[0])
        assert sample.largest == start - 1
