"""Error feedback: what a sweep does, theorem B5, and networks pruned with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.edges import feedback
from nn.edges.feedback import Feedback, sweep
from nn.edges.refit import Refit
from nn.gram import Gram
from nn.guarantees.reconstruction import HardFeedback

seeds = st.integers(0, 2**32 - 1)


def by_vectors(inputs: np.ndarray, ridge: float, w: np.ndarray, threshold: float):
    """The sweep as it is defined: with the error vector itself, for inputs extended by the ridge."""
    m = len(w)
    columns = np.concatenate([inputs, np.sqrt(ridge) * np.eye(m)])
    u, q, scores = np.zeros(len(columns)), np.zeros(m), np.zeros(m)
    for j in range(m):
        h = columns[:, j] @ columns[:, j]
        z = w[j] + columns[:, j] @ u / h
        scores[j] = abs(z) * np.sqrt(h)
        q[j] = z if scores[j] >= threshold else 0.0
        u = u + (w[j] - q[j]) * columns[:, j]
    return q, scores


@pytest.mark.parametrize("m", [1, 5, 64, 65, 150])
def test_a_sweep_on_the_moments_is_that_on_the_vectors(m):
    rng = np.random.default_rng(m)
    inputs, weights = rng.normal(size=(2, 40, m)), rng.normal(size=(2, 3, m))
    gram = Gram.of(inputs)
    threshold = 0.8 * float(np.sqrt(gram.diagonal.mean()))
    new, scores = sweep(gram, weights, lambda score, _: score >= threshold)
    for g in range(2):
        for n in range(3):
            q, expected = by_vectors(inputs[g], gram.ridge, weights[g, n], threshold)
            np.testing.assert_allclose(new[g, n], q, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(scores[g, n], expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(seeds, st.integers(1, 12), st.floats(0.0, 3.0))
def test_b5_bounds_the_error_of_every_sweep(seed, m, level):
    rng = np.random.default_rng(seed)
    gram = Gram.of(rng.normal(size=(1, rng.integers(1, 15), m)))
    weights = rng.normal(size=(1, 4, m))
    threshold = level * float(np.sqrt(gram.diagonal.mean()))
    new, scores = sweep(gram, weights, lambda score, _: score >= threshold)
    dropped = np.where(scores < threshold, scores, 0.0)
    reached = gram.squared_errors(weights - new)
    bound = HardFeedback().squared_error(dropped)
    assert np.all(reached <= bound * (1 + 1e-9) + 1e-12)
    for n in range(4):
        count = int((scores[0, n] < threshold).sum())
        assert bound[0, n] <= HardFeedback().squared_error_from_threshold(threshold, count) + 1e-12


def test_nothing_dropped_is_nothing_changed():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, 3, 70))
    new, _ = sweep(Gram.of(rng.normal(size=(1, 50, 70))), weights, lambda score, _: score >= 0.0)
    np.testing.assert_array_equal(new, weights)


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, groups=4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 20),
        torch.nn.ReLU(),
        torch.nn.Linear(20, 5),
    )


def images() -> list[torch.Tensor]:
    return [torch.randn(150, 4, 6, 6, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize("ratio", [0.002, 0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("allocation", [nn.Global(), nn.Uniform()], ids=repr)
@pytest.mark.filterwarnings("ignore::nn.plans.PruningWarning")
def test_counts_are_met_exactly_and_b5_holds_on_networks(ratio, allocation):
    pruned = nn.prune(network(), Feedback(allocation=allocation), nn.KeepRatio(ratio), calibration=images())
    assert pruned.plan.kept == nn.KeepRatio(ratio).count(pruned.plan.total)
    assert all(c.holds for layer in pruned.plan.layers.values() for c in layer.certificates)


def test_a_single_sweep_still_meets_the_count():
    decided = nn.plan(network(), Feedback(sweeps=1), nn.KeepRatio(0.1), calibration=images())
    assert decided.kept == nn.KeepRatio(0.1).count(decided.total)


def test_feedback_beats_its_scores_alone_and_a_refit_beats_feedback():
    from nn.edges.wanda import Wanda  # noqa: PLC0415 - only this test compares

    scores = Refit(Wanda(per_neuron=False))
    before = nn.plan(network(), scores, nn.KeepRatio(0.3), calibration=images())
    fed = nn.plan(network(), Feedback(allocation=nn.Uniform()), nn.KeepRatio(0.3), calibration=images())
    both = nn.plan(network(), Refit(Feedback()), nn.KeepRatio(0.3), calibration=images())
    plain = sum(layer.certificates[0].details["before the refit"] for layer in before.layers.values())
    assert fed.certificates[0].value < plain
    assert both.certificates[0].value < fed.certificates[0].value


def test_weights_that_were_pruned_before_stay_away():
    first = nn.prune(network(), nn.Random(), nn.KeepRatio(0.5), rng=0)
    second = nn.plan(first.model, Feedback(), nn.KeepRatio(0.2), calibration=images())
    assert second.kept == nn.KeepRatio(0.2).count(second.total)
    for name, layer in second.layers.items():
        assert not bool((layer.keep & ~first.plan.layers[name].keep).any())
        assert all(c.holds for c in layer.certificates)


def test_edges_with_long_input_columns_are_visited_first():
    layer = torch.nn.Linear(3, 2).double()
    data = torch.randn(50, 3, dtype=torch.float64) * torch.tensor([1.0, 100.0, 10.0])
    visited: list[float] = []
    original = feedback.sweep

    def spy(gram, weights, keep):
        visited.extend(gram.diagonal[0].tolist())
        return original(gram, weights, keep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feedback, "sweep", spy)
        nn.plan(layer, Feedback(sweeps=1), nn.KeepCount(3), calibration=[data])
    assert visited[:3] == sorted(visited[:3], reverse=True)


def test_a_dead_layer_and_missing_data():
    layer = torch.nn.Linear(6, 4)
    decided = nn.plan(layer, Feedback(), nn.KeepCount(7), calibration=[torch.zeros(9, 6)])
    assert decided.kept == 7
    assert any("are zero on the calibration data" in note for note in decided.notes)
    with torch.no_grad():
        layer.weight.zero_()
    assert nn.plan(layer, Feedback(), nn.KeepCount(7), calibration=[torch.ones(9, 6)]).kept == 7
    with pytest.raises(ValueError, match="calibration"):
        nn.plan(layer, Feedback(), nn.KeepCount(7))
    with pytest.raises(ValueError, match="sweeps"):
        Feedback(sweeps=0)
