"""Sensitivities that hold for all inputs, and what draws in proportion to them promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

from coresets.linf import InscribedVertices, PublishedPeeling
from coresets.sensitivity import lewis_weights
from nn import KeepRatio, prune
from nn.budgets import Share
from nn.calibration import Calibration, split_batch
from nn.neurons import (
    ConvexGeometry,
    Drawing,
    Lewis,
    NormBounded,
    Peeled,
    RidgeLewis,
    Subspace,
    TopScores,
    _lewis,
    points,
)
from nn.neurons._lewis import Rows, blocked_lewis, independent, ridge_lewis
from nn.neurons.points import Neurons, neurons_of
from nn.units import find_groups
from nn.units.method import UnitProblem

PUBLISHED = Subspace(3, Peeled(InscribedVertices(), PublishedPeeling()))


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


@pytest.mark.parametrize("drawing", [Drawing(), Drawing(TopScores())])
def test_no_input_at_all_moves_an_output_further_than_lewis_weights_promise(drawing: Drawing):
    network = perceptron(2, 3000, 2).double()
    data = [torch.zeros(2, 2, dtype=torch.float64)]
    shrunk = prune(network, ConvexGeometry(drawing=drawing), KeepRatio(0.5), calibration=data, rng=1)
    x = torch.randn(2000, 2, dtype=torch.float64) * torch.logspace(-3, 3, 2000, dtype=torch.float64)[:, None]
    masses = network[2].weight.abs().amax(0)
    normaliser = network[0](x).abs() @ masses
    change = (shrunk.model(x) - network(x)).abs().amax(1).detach()
    ratios = change / normaliser.detach()
    for certificate in shrunk.plan.groups["0"].certificates:
        assert float(ratios.max()) <= certificate.value
        if "kappa" in certificate.details:
            activations = torch.relu(network[0](x)) @ masses
            bound = certificate.details["relative to the sum of activations"]
            assert bool((change <= bound * activations).all())


def test_promises_use_the_true_sensitivities_as_a_lower_bound():
    """Every Lewis and ridge bound is at least the share that a linear programme attains."""
    torch.manual_seed(3)
    points, masses = torch.randn(12, 3, dtype=torch.float64), torch.rand(12, dtype=torch.float64) + 0.1
    rows = (points * masses[:, None]).numpy()
    lewis = Lewis().of_points(points, masses).values
    ridge = RidgeLewis(0.5).of_points(points, masses)
    for extra, bounds in (
        (np.zeros((0, 3)), lewis),
        (ridge.details["mu"] * np.eye(3), ridge.values),
    ):
        everything = np.concatenate([rows, extra])
        for row, bound in zip(rows, bounds, strict=True):
            assert _largest_share(row, everything) <= float(bound) * (1.0 + 1e-9)


def _largest_share(row: np.ndarray, rows: np.ndarray) -> float:
    """Largest row.x over sum |rows.x|: maximise row.x with slacks of sum 1."""
    n, d = rows.shape
    solved = scipy.optimize.linprog(
        np.concatenate([-row, np.zeros(n)]),
        A_ub=np.block([[rows, -np.eye(n)], [-rows, -np.eye(n)], [np.zeros((1, d)), np.ones((1, n))]]),
        b_ub=np.concatenate([np.zeros(2 * n), [1.0]]),
        bounds=[(None, None)] * d + [(0, None)] * n,
    )
    return float(-solved.fun)


def test_block_by_block_lewis_weights_are_those_of_the_engine():
    own = only(perceptron(7, 60, 3), torch.rand(2, 7))
    got = blocked_lewis(own)
    want = lewis_weights(own.dense().numpy(), own.masses.numpy())
    # Both are upper bounds, the looser one by its certified ratio.
    np.testing.assert_allclose(got.values / got.gamma**2, want.values, rtol=2e-2)
    assert float(got.values.sum()) == pytest.approx(8.0, rel=0.05)


@pytest.mark.parametrize("shape", [(6, 15), (15, 15), (40, 9)], ids=["wide", "square", "tall"])
def test_ridge_weights_by_the_small_side_are_those_of_the_augmented_rows(shape: tuple[int, int]):
    torch.manual_seed(4)
    n, d = shape
    rows = torch.randn(n, d, dtype=torch.float64)
    got = ridge_lewis(Rows.whole(rows), 0.7)
    want = lewis_weights(np.concatenate([rows.numpy(), 0.7 * np.eye(d)])).values[:n]
    np.testing.assert_allclose(got.values / got.gamma**2, want, rtol=2e-2)


@pytest.mark.parametrize("widths", [(7, 60), (60, 7)], ids=["tall", "wide"])
def test_blocks_change_nothing_about_ridge_weights(monkeypatch: pytest.MonkeyPatch, widths: tuple[int, int]):
    own = only(perceptron(*widths, 3), torch.rand(2, widths[0]))
    whole = RidgeLewis().of_points(own.dense(), own.masses).values
    for module in (points, _lewis):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", 40)  # a row, or a few columns
    blocked = RidgeLewis().bounds(None, {"0": own})["0"].values
    # Sums in another order, through a factor whose condition is that of the ridge.
    np.testing.assert_allclose(blocked, whole, rtol=1e-9)


def test_the_total_of_ridge_weights_is_at_most_the_rank_and_falls():
    torch.manual_seed(5)
    points, masses = torch.randn(8, 20, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    totals = [float(RidgeLewis(r).of_points(points, masses).values.sum()) for r in (1e-3, 0.1, 1.0, 10.0)]
    assert totals[0] <= 8.0 * 1.05
    assert all(b < a for a, b in itertools.pairwise(totals))


def test_no_more_neurons_than_inputs_is_said_aloud_and_drawn_by_the_fallback():
    network, data = perceptron(20, 15, 2), [torch.rand(4, 20)]
    first = prune(network, ConvexGeometry(), KeepRatio(0.5), calibration=data, rng=3)
    second = prune(network, NormBounded(), KeepRatio(0.5), calibration=data, rng=3)
    assert torch.equal(first.plan.groups["0"].keep, second.plan.groups["0"].keep)
    assert any("in the span of the others" in n and "NormBounded" in n for n in first.plan.notes)


def test_independence_is_decided_by_the_rank_of_the_points_with_their_biases():
    network = perceptron(6, 4, 2)
    assert independent(only(network, torch.rand(2, 6)))
    with torch.no_grad():
        network[0].weight[3], network[0].bias[3] = 2.0 * network[0].weight[0], 2.0 * network[0].bias[0]
    assert not independent(only(network, torch.rand(2, 6)))
    with torch.no_grad():
        network[0].bias[3] += 1.0
    assert independent(only(network, torch.rand(2, 6)))


def test_peeling_of_too_few_points_says_so():
    network, data = perceptron(6, 20, 2), [torch.rand(30, 6)]
    for rank in (3, 5):  # with 2 * 3^2 points one set is peeled, and 2 * 3^1.5 / 2 is still above 1
        method = ConvexGeometry(Subspace(rank, PUBLISHED.inner))
        plan = prune(network, method, KeepRatio(0.5), calibration=data, rng=0).plan
        assert any("too few to peel" in note for note in plan.notes)
    certified = ConvexGeometry(Subspace(3, Peeled()))
    plan = prune(network, certified, KeepRatio(0.5), calibration=data, rng=0).plan
    assert not any("too few to peel" in note for note in plan.notes)


def test_a_subspace_that_holds_all_inputs_leaves_nothing_over():
    data = torch.randn(50, 2) @ torch.randn(2, 12)
    network = perceptron(12, 100, 2)
    plan = prune(network, ConvexGeometry(Subspace(3)), KeepRatio(0.5), calibration=[data], rng=0).plan
    for certificate in plan.groups["0"].certificates[:1]:
        assert certificate.details["residual"] == pytest.approx(0.0, abs=1e-5)
        assert certificate.details["dimension"] == 3.0


@pytest.mark.parametrize("sensitivities", [Lewis(), Subspace(3)], ids=["all inputs", "a subspace"])
def test_what_is_certified_in_a_subspace_is_not_said_of_all_inputs(sensitivities):
    torch.manual_seed(0)
    data = torch.randn(50, 2, dtype=torch.float64) @ torch.randn(2, 12, dtype=torch.float64)
    network = perceptron(12, 600, 2).double().requires_grad_(False)
    method = ConvexGeometry(sensitivities)
    shrunk = prune(network, method, KeepRatio(0.5), calibration=[data], rng=0)
    certain = next(c for c in shrunk.plan.groups["0"].certificates if c.name == "largest change")
    # Far away and orthogonal to the data, where a projection shows nothing of the input.
    away = torch.cat([1e4 * torch.linalg.svd(data).Vh[-1], torch.ones(1, dtype=torch.float64)])
    seen = torch.cat([data, torch.ones(50, 1, dtype=torch.float64)], dim=1)
    basis = torch.linalg.svd(seen, full_matrices=False).Vh[:3]
    points = torch.cat([network[0].weight, network[0].bias[:, None]], dim=1)
    somewhere = basis.T @ (basis @ away) if isinstance(sensitivities, Subspace) else away
    allowed = certain.value * float((points @ somewhere).abs() @ network[2].weight.abs().amax(dim=0))
    moved = float((shrunk.model(away[None, :-1]) - network(away[None, :-1])).abs().max())
    assert (moved > allowed) == isinstance(sensitivities, Subspace)
    assert ("only (x, 1) in the span of 3 principal directions" in certain.statement) == (moved > allowed)


def test_the_ridge_has_an_entry_for_the_bias_and_errors_are_relative_to_it():
    torch.manual_seed(0)
    network = perceptron(2, 400, 1).double().requires_grad_(False)
    data = [torch.zeros(2, 2, dtype=torch.float64)]
    shrunk = prune(network, ConvexGeometry(RidgeLewis(1.0)), KeepRatio(0.5), calibration=data, rng=0)
    promised = next(c for c in shrunk.plan.groups["0"].certificates if "RG" in c.name)
    assert promised.statement.endswith("mu |(x, 1)|_1")
    rows = torch.cat([network[0].weight, network[0].bias[:, None]], dim=1) * network[2].weight.T.abs()
    assert promised.details["mu"] == pytest.approx(float(rows.abs().sum()) / 3.0)
