"""What lies between the layer that makes units and those that read them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nn.budgets import Share
from nn.calibration import Calibration, split_batch
from nn.neurons.between import Between, between
from nn.neurons.points import Neurons, neurons_of
from nn.units.method import UnitProblem
from nn.units.topology import find_groups


def problem_of(network: nn.Module, inputs: torch.Tensor) -> UnitProblem:
    network.eval()
    groups = find_groups(network, split_batch(inputs)).groups
    return UnitProblem(network, groups, (Share(tuple(groups), len(groups)),), Calibration.of([inputs]))


def way(*modules: nn.Module) -> Between:
    network = nn.Sequential(nn.Linear(3, 4), *modules, nn.Linear(4, 2)).eval()
    return between(network, find_groups(network, split_batch(torch.rand(2, 3))).groups)["0"]


@pytest.mark.parametrize(
    ("module", "lipschitz", "at_zero", "slope"),
    [
        (nn.ReLU(), 1.0, 0.0, 0.0),
        (nn.LeakyReLU(0.2), 1.0, 0.0, 0.2),
        (nn.LeakyReLU(2.0), 2.0, 0.0, None),
        (nn.Tanh(), 1.0, 0.0, None),
        (nn.GELU(), 1.13, 0.0, None),
        (nn.SiLU(), 1.1, 0.0, None),
        (nn.Sigmoid(), 0.25, 0.5, None),
        (nn.Identity(), 1.0, 0.0, 1.0),
    ],
)
def test_activations_are_known_with_their_constants(
    module: nn.Module, lipschitz: float, at_zero: float, slope: float | None
):
    found = way(module).activation
    assert found is not None
    assert (found.lipschitz, found.at_zero, found.slope) == (lipschitz, at_zero, slope)
    z = torch.linspace(-6.0, 6.0, 20001, dtype=torch.float64)
    slopes = (module(z)[1:] - module(z)[:-1]).abs() / (z[1] - z[0])
    assert float(slopes.max()) <= lipschitz * (1.0 + 1e-9)


def test_normalisation_dropout_and_averages_are_passed():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 2),
    ).eval()
    found = between(network, find_groups(network, split_batch(torch.rand(2, 1, 8, 8))).groups)["0"]
    assert found.reason == ""
    assert found.averaged
    assert found.scale is not None


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([nn.ReLU(), nn.BatchNorm1d(4)], "BatchNorm1d, stands between"),
        ([nn.Softmax(dim=1)], "Softmax, stands between"),
        ([nn.PReLU(4)], "PReLU, stands between"),
    ],
)
def test_what_is_not_understood_is_named(modules: list[nn.Module], words: str):
    found = way(*modules)
    assert found.activation is None
    assert words in found.reason


def test_max_pooling_leaves_the_terms_bounded_but_no_sum():
    found = way(nn.ReLU(), nn.MaxPool1d(1))
    assert found.activation is not None
    assert not found.reason
    assert "max-pooling, '2', which does not commute" in found.pooled
    assert found.not_a_sum == found.pooled
    dilated = way(nn.ReLU(), nn.MaxPool1d(1, dilation=2))  # a window may lie beside the map
    assert dilated.activation is None


class Branches(nn.Module):
    """Two layers whose sum is read, and one that is read beside another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(3, 5)
        self.out = nn.Linear(9, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([torch.relu(self.a(x) + self.b(x)), functional.gelu(self.c(x))], dim=1))


def test_sums_of_layers_are_no_single_neurons_and_concatenations_are_passed():
    problem = problem_of(Branches(), torch.rand(2, 3))
    ways = between(problem.network, problem.groups)
    assert ways["a"].reason == "several layers make its units"
    assert ways["c"].activation is not None
    assert ways["c"].activation.name == "GELU"


def only(network: nn.Module, inputs: torch.Tensor) -> Neurons:
    (found,) = neurons_of(problem_of(network, inputs)).values()
    return found


def randomised(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        if value.is_floating_point():
            value.data.uniform_(0.5 if "var" in name else -1.0, 2.0, generator=generator)
    return norm


def test_points_are_the_neurons_with_normalisation_folded_in():
    network = nn.Sequential(
        nn.Linear(3, 5), randomised(nn.BatchNorm1d(5)), nn.ReLU(), nn.Linear(5, 2)
    ).double()
    inputs = torch.randn(7, 3, dtype=torch.float64)
    points = only(network, inputs).dense()
    ones = torch.ones(7, 1, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([inputs, ones], dim=1) @ points.T, network[:2](inputs))


def test_masses_are_the_largest_weights_at_any_place_of_the_window():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 2))
    found = only(network, torch.rand(2, 1, 8, 8))
    second = network[2].weight.detach().double()
    torch.testing.assert_close(found.masses, second.abs().amax(dim=(0, 2, 3)))
    assert found.outputs == 6 * 4
    assert found.windows() == {"2": 4}


def test_units_of_a_grouped_producer_see_different_inputs():
    network = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.ReLU(), nn.Conv2d(6, 6, 1))
    assert "grouped convolution" in only(network, torch.rand(2, 4, 3, 3)).between.reason
