"""Backward elimination, and the better of two paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.edges import _paths
from nn.edges._paths import backward_paths, forward_paths, lower_envelope
from nn.edges._reconstruction import Target, refitted
from nn.edges._searches import Searches
from nn.edges.obs import BestPath, OBSBackward
from nn.edges.ols import OLSForward
from nn.gram import Gram, collect_grams
from nn.guarantees.reconstruction import BackwardElimination
from nn.layers import find_layers

seeds = st.integers(0, 2**32 - 1)


def problem(seed: int, m: int, silent: int = 0, neurons: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(3 * m, m)) + rng.normal(size=(3 * m, 2)) @ rng.normal(size=(2, m))
    inputs[:, rng.permutation(m)[:silent]] = 0.0
    return Gram.of(inputs[None]).matrix[0], rng.normal(size=(neurons, m))


def error(H: np.ndarray, w: np.ndarray, support) -> float:
    support = np.asarray(support, dtype=int)
    root = np.linalg.cholesky(H).T
    fit = root[:, support] @ np.linalg.lstsq(root[:, support], root @ w)[0] if len(support) else 0.0
    return float(np.sum((root @ w - fit) ** 2))


@settings(max_examples=30)
@given(seeds, st.integers(1, 11), st.integers(0, 3))
def test_each_step_removes_the_edge_whose_loss_costs_least(seed, m, silent):
    H, weights = problem(seed, m, min(silent, m - 1))
    alive = np.random.default_rng(seed + 1).random(weights.shape) < 0.8
    weights = np.where(alive, weights, 0.0)
    paths = backward_paths(np.linalg.inv(H), weights, alive)
    for n in range(len(weights)):
        left = list(np.flatnonzero(alive[n]))
        assert paths.lengths[n] == len(left)
        for k in range(len(left), 0, -1):
            assert sorted(left) == paths.support(n, k).tolist()
            # the saliency is the rise of the error above that of the edges left so far
            left.remove(min(left, key=lambda j: error(H, weights[n], [i for i in left if i != j])))


@pytest.mark.parametrize("m", [1, 8, 9, 50, 130])
def test_removed_saliencies_add_up_to_the_refit_error(m):
    H, weights = problem(m, m, m // 6, neurons=2)
    paths = backward_paths(np.linalg.inv(H), weights, np.ones((2, m), dtype=bool))
    for n in range(2):
        for k in range(0, m + 1, max(1, m // 8)):
            exact = error(H, weights[n], paths.support(n, k))
            assert paths.errors[n, k] == pytest.approx(exact, rel=1e-8, abs=1e-10 * paths.errors[n, 0])
        assert paths.errors[n, 0] == pytest.approx(weights[n] @ H @ weights[n], rel=1e-9)


def test_uncorrelated_inputs_make_both_searches_one():
    rng = np.random.default_rng(0)
    H, weights = np.diag(rng.random(12) + 0.1), rng.normal(size=(3, 12))
    alive = np.ones((3, 12), dtype=bool)
    forward, backward = forward_paths(H, weights, alive, 12), backward_paths(np.linalg.inv(H), weights, alive)
    np.testing.assert_array_equal(forward.order, backward.order)
    np.testing.assert_allclose(forward.errors, backward.errors, atol=1e-12 * forward.errors.max())


@pytest.mark.parametrize("silent", [(), (2, 5), (2,), (5,)], ids=str)
def test_zero_weights_that_are_alive_outlive_those_that_are_not(silent):
    inputs = np.random.default_rng(3).normal(size=(1, 30, 8))
    inputs[:, :, list(silent)] = 0.0  # edges on inputs without any coupling take another way
    H, weights = Gram.of(inputs).matrix[0], np.random.default_rng(4).normal(size=(3, 8))
    alive = np.ones((3, 8), dtype=bool)
    alive[:, 5] = False
    weights[:, [2, 5]] = 0.0
    paths = backward_paths(np.linalg.inv(H), weights, alive)
    assert np.all(paths.lengths == 7)
    assert not np.any(paths.order == 5)
    assert np.all(paths.order[:, 6] == 2)


@given(seeds, st.integers(1, 10))
def test_b2_bounds_every_point_of_every_path(seed, m):
    H, weights = problem(seed, m)
    paths = backward_paths(np.linalg.inv(H), weights, np.ones(weights.shape, dtype=bool))
    roots = np.sqrt(np.diagonal(H))
    mu = float(np.linalg.eigvalsh(H / np.outer(roots, roots))[0])
    bound = [BackwardElimination().relative_squared_error(m, k, mu) for k in range(m + 1)]
    assert np.all(paths.errors <= paths.errors[:, :1] * np.array(bound) * (1 + 1e-9) + 1e-12)


def test_the_envelope_takes_the_smaller_error_and_says_whose():
    H, weights = problem(4, 20)
    alive = np.ones(weights.shape, dtype=bool)
    forward, backward = forward_paths(H, weights, alive, 6), backward_paths(np.linalg.inv(H), weights, alive)
    errors, second = lower_envelope(forward, backward)
    assert errors.shape == (3, 21)
    assert np.all(second[:, 7:])
    known = forward.errors[:, :7]
    np.testing.assert_array_equal(errors[:, :7], np.minimum(known, backward.errors[:, :7]))


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, groups=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 10)
    )


def images() -> list[torch.Tensor]:
    return [torch.randn(150, 2, 6, 6, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize("method", [OBSBackward(), BestPath(), BestPath(allocation=nn.Uniform())], ids=repr)
@pytest.mark.parametrize("ratio", [0.05, 0.4, 0.98])
def test_counts_are_met_exactly_and_bounds_hold(method, ratio):
    decided = nn.plan(network(), method, nn.KeepRatio(ratio), calibration=images())
    assert decided.kept == nn.KeepRatio(ratio).count(decided.total)
    assert all(c.holds for layer in decided.layers.values() for c in layer.certificates)


def test_supports_have_the_smaller_error_of_the_two_paths():
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, groups=2)).double()
    layer = find_layers(net)["0"]
    gram = collect_grams(net, {"0": layer}, [torch.randn(40, 4, 5, 5, dtype=torch.float64).cumsum(3)])["0"]
    weights = layer.matrix().numpy()
    target = Target(layer, gram, weights, np.ones(weights.shape, dtype=bool))
    searches = Searches.of(target, forward=True, backward=True, reach=1.0)
    counts = np.random.default_rng(0).integers(1, 18, size=6)
    reached = gram.squared_errors(weights - refitted(target, searches.keep(counts))).reshape(-1)
    paths = (searches.forward.errors, searches.backward.errors)
    least = np.minimum(*paths)[np.arange(6), counts]
    np.testing.assert_allclose(reached, least, rtol=1e-9)
    assert not np.allclose(paths[0][np.arange(6), counts], paths[1][np.arange(6), counts])


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_the_better_path_is_no_worse_than_either(ratio):
    least = {
        type(method): nn.plan(network(), method, nn.KeepRatio(ratio), calibration=images())
        .certificates[0]
        .details["least along the paths"]
        for method in (BestPath(), OBSBackward(), OLSForward())
    }
    assert least[BestPath] <= min(least[OBSBackward], least[OLSForward]) * (1 + 1e-9)


def test_weights_that_were_pruned_before_stay_away():
    first = nn.prune(network(), nn.Random(), nn.KeepRatio(0.5), rng=0)
    for method in (OBSBackward(), BestPath()):
        second = nn.plan(first.model, method, nn.KeepRatio(0.2), calibration=images())
        for name, layer in second.layers.items():
            assert not bool((layer.keep & ~first.plan.layers[name].keep).any())


def test_paths_are_followed_in_blocks_of_neurons_without_a_seam(monkeypatch):
    H, weights = problem(6, 15, neurons=7)
    alive = np.ones(weights.shape, dtype=bool)
    whole = backward_paths(np.linalg.inv(H), weights, alive)
    monkeypatch.setattr(_paths, "_blocks", lambda n, _: (slice(i, i + 2) for i in range(0, n, 2)))
    blocks = backward_paths(np.linalg.inv(H), weights, alive)
    np.testing.assert_array_equal(whole.order, blocks.order)


@pytest.mark.parametrize("method", [OBSBackward, BestPath])
def test_bad_values_are_refused(method):
    with pytest.raises(ValueError, match="ridge"):
        method(ridge=0.0)
    with pytest.raises(ValueError, match=r"edges a neuron.*max_edges=64"):
        nn.prune(network(), method(max_edges=63), nn.KeepRatio(0.5), calibration=images())
