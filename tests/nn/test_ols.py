"""Forward selection: its paths, its bound, the allocation along paths, and networks pruned with it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.edges import _path_kernels, _paths
from nn.edges._allocation import spend
from nn.edges._paths import Paths, forward_paths
from nn.edges.ols import OLSForward
from nn.gram import Gram
from nn.guarantees.reconstruction import ForwardSelection

EPS = float(np.finfo(np.float64).eps)

seeds = st.integers(0, 2**32 - 1)


def correlated(rng: np.random.Generator, vectors: int, m: int, silent: int = 0) -> np.ndarray:
    """H of inputs with common factors; some are always zero."""
    inputs = rng.normal(size=(vectors, m)) + 2.0 * rng.normal(size=(vectors, 2)) @ rng.normal(size=(2, m))
    inputs[:, rng.permutation(m)[:silent]] = 0.0
    return Gram.of(inputs[None]).matrix[0]


def error(H: np.ndarray, w: np.ndarray, support) -> float:
    """Least squared error on a support, by a solver that knows nothing of H's structure."""
    support = np.asarray(support, dtype=int)
    root = np.linalg.cholesky(H).T
    fit = root[:, support] @ np.linalg.lstsq(root[:, support], root @ w)[0] if len(support) else 0.0
    return float(np.sum((root @ w - fit) ** 2))


def greedy(H: np.ndarray, w: np.ndarray, alive: np.ndarray, steps: int) -> list[int]:
    """Forward selection by trying every edge."""
    chosen: list[int] = []
    for _ in range(min(steps, alive.sum())):
        rest = [j for j in np.flatnonzero(alive) if j not in chosen]
        chosen.append(min(rest, key=lambda j: error(H, w, [*chosen, j])))
    return chosen


@settings(max_examples=20)
@given(seeds, st.integers(1, 10), st.integers(0, 4))
def test_each_step_adds_the_edge_that_lowers_the_error_most(seed, m, silent):
    rng = np.random.default_rng(seed)
    H = correlated(rng, 15, m, min(silent, m - 1))
    alive = rng.random((3, m)) < 0.8
    weights = np.where(alive, rng.normal(size=(3, m)), 0.0)
    paths = forward_paths(H, weights, alive, m)
    for n in range(3):
        length = paths.lengths[n]
        assert length == alive[n].sum()
        assert paths.order[n, :length].tolist() == greedy(H, weights[n], alive[n], m)


@pytest.mark.parametrize("deferred", [True, False])
@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 40, 151])
def test_the_error_path_is_the_refit_error_of_every_support(m, deferred, monkeypatch):
    monkeypatch.setattr(_paths, "_deferred", lambda *_: deferred)
    rng = np.random.default_rng(m)
    H = correlated(rng, 2 * m, m, silent=m // 5)
    weights = rng.normal(size=(2, m))
    paths = forward_paths(H, weights, np.ones((2, m), dtype=bool), m)
    energy = np.einsum("nm,mk,nk->n", weights, H, weights)
    condition = np.linalg.cond(H)
    for n, k in itertools.product(range(2), range(0, m + 1, max(1, m // 10))):
        exact = error(H, weights[n], paths.support(n, k))
        # m steps of rounding, amplified by the condition number, relative to the energy
        assert paths.errors[n, k] == pytest.approx(exact, abs=10 * m * condition * EPS * energy[n])


def test_a_short_path_is_the_start_of_a_long_one():
    rng = np.random.default_rng(0)
    H, weights = correlated(rng, 100, 60), rng.normal(size=(4, 60))
    alive = np.ones((4, 60), dtype=bool)
    long = forward_paths(H, weights, alive, 60)
    for steps in (1, 8, 13, 59):
        short = forward_paths(H, weights, alive, steps)
        np.testing.assert_array_equal(short.order, long.order[:, :steps])
        np.testing.assert_allclose(short.errors, long.errors[:, : steps + 1], atol=1e-10 * long.errors.max())


def test_scaling_inputs_and_weights_scales_the_errors():
    rng = np.random.default_rng(1)
    H, weights = correlated(rng, 30, 20), rng.normal(size=(2, 20))
    alive = np.ones((2, 20), dtype=bool)
    one, other = forward_paths(H, weights, alive, 20), forward_paths(4.0 * H, 8.0 * weights, alive, 20)
    np.testing.assert_array_equal(one.order, other.order)
    np.testing.assert_allclose(other.errors, 256.0 * one.errors, rtol=1e-9)


def test_permuted_edges_give_the_permuted_path():
    rng = np.random.default_rng(2)
    H, weights, shuffle = correlated(rng, 40, 25), rng.normal(size=(2, 25)), rng.permutation(25)
    alive = np.ones((2, 25), dtype=bool)
    one = forward_paths(H, weights, alive, 25)
    other = forward_paths(H[np.ix_(shuffle, shuffle)], weights[:, shuffle], alive, 25)
    np.testing.assert_array_equal(shuffle[other.order], one.order)


def test_repeated_inputs_are_no_obstacle():
    rng = np.random.default_rng(3)
    inputs = np.repeat(rng.normal(size=(1, 30, 5)), 4, axis=2)
    H = Gram.of(inputs, ridge=1e-10).matrix[0]
    weights = rng.normal(size=(2, 20))
    paths = forward_paths(H, weights, np.ones((2, 20), dtype=bool), 20)
    assert np.all(np.sort(paths.order, axis=1) == np.arange(20))
    # after one copy of each input, only the ridge is left
    assert np.all(paths.errors[:, 5] <= 1e-8 * paths.errors[:, 0])


@given(seeds, st.integers(1, 10))
def test_b1_bounds_every_point_of_every_path(seed, m):
    rng = np.random.default_rng(seed)
    H, theorem = correlated(rng, rng.integers(1, 20), m), ForwardSelection()
    weights = rng.normal(size=(4, m)) * rng.random((4, m)) ** 4
    paths = forward_paths(H, weights, np.ones((4, m), dtype=bool), m)
    rho = theorem.spread(weights, np.diagonal(H), paths.errors[:, 0])
    bound = paths.errors[:, :1] * theorem.relative_squared_error(rho[:, None], np.arange(m + 1))
    assert np.all(paths.errors <= bound * (1 + 1e-9))


def hull(errors: np.ndarray) -> np.ndarray:
    """Greatest convex function below a sequence, by definition: the least over all chords."""
    k = np.arange(len(errors))
    values = errors.copy()
    for a, b in itertools.combinations(k, 2):
        inside = (k >= a) & (k <= b)
        chord = errors[a] + (errors[b] - errors[a]) * (k - a) / (b - a)
        values = np.where(inside, np.minimum(values, chord), values)
    return values


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_the_convex_form_is_the_lower_hull(falls):
    errors = np.concatenate([np.cumsum(falls[::-1])[::-1], [0]]).astype(float)
    gains = np.empty((1, len(falls)))
    _path_kernels.convexify(errors[None], np.array([len(falls)]), gains)
    np.testing.assert_allclose(errors[0] - np.cumsum(gains[0]), hull(errors)[1:], atol=1e-12)
    assert np.all(np.diff(gains[0]) <= 1e-12)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_no_allocation_has_a_smaller_sum_of_convex_errors(falls, data):
    lengths = np.array([len(f) for f in falls])
    count = data.draw(st.integers(0, int(lengths.sum())))
    errors = np.full((len(falls), lengths.max() + 1), np.inf)
    for n, f in enumerate(falls):
        errors[n, : len(f) + 1] = np.concatenate([np.cumsum(f[::-1])[::-1], [0]])
    spent = spend(errors, lengths, count)
    assert spent is not None
    assert spent.counts.sum() == count
    every = (c for c in itertools.product(*(range(n + 1) for n in lengths)) if sum(c) == count)
    best = min(sum(errors[n, k] for n, k in enumerate(c)) for c in every)
    reached = sum(errors[n, k] for n, k in enumerate(spent.counts))
    assert spent.least <= best + 1e-9
    # At most one neuron is off its convex form; and where none is, the allocation is optimal.
    convex = [hull(errors[n, : k + 1]) for n, k in enumerate(lengths)]
    off = [n for n, k in enumerate(spent.counts) if errors[n, k] > convex[n][k] + 1e-9]
    assert len(off) <= 1
    assert reached == pytest.approx(best) or off


def test_paths_that_are_too_short_for_the_count_are_sent_back():
    errors = np.array([[4.0, 1.0, 0.0], [2.0, 1.0, np.inf]])
    assert spend(errors, np.array([2, 1]), 4) is None


def test_a_path_known_as_far_as_needed_gives_the_counts_of_the_whole_path():
    rng = np.random.default_rng(5)
    H, weights = correlated(rng, 300, 200), rng.normal(size=(20, 200)) ** 3
    alive = np.ones(weights.shape, dtype=bool)
    whole = forward_paths(H, weights, alive, 200)
    for count in (20, 200, 1000):
        full = spend(whole.errors, whole.lengths, count)
        steps = int(np.ceil(full.needed.max()))
        part = forward_paths(H, weights, alive, steps)
        short = spend(part.errors, part.lengths, count)
        np.testing.assert_array_equal(short.counts, full.counts)
        assert steps < 200


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=6), min_size=2, max_size=4), st.data())
def test_what_a_path_hides_beyond_what_is_needed_changes_nothing(falls, data):
    lengths = np.array([len(f) for f in falls])
    errors = np.full((len(falls), lengths.max() + 1), np.inf)
    for n, f in enumerate(falls):
        errors[n, : len(f) + 1] = np.concatenate([np.cumsum(f[::-1])[::-1], [0]])
    known = np.array([data.draw(st.integers(1, int(n))) for n in lengths])
    cut = np.where(np.arange(errors.shape[1]) <= known[:, None], errors, np.inf)
    count = data.draw(st.integers(1, int(known.sum())))
    spent = spend(cut, known, count)
    if np.all((known == lengths) | (spent.needed <= known)):
        assert spent.least == pytest.approx(spend(errors, lengths, count).least)


def test_a_path_that_falls_late_is_not_trusted_before_it_has_fallen():
    errors = np.array([[10.0, 9.5, 0.0], [10.0, 8.0, 6.0]])  # the second edge of a pair makes the difference
    assert spend(errors, np.array([2, 2]), 2).counts.tolist() == [2, 0]
    cut = np.array([[10.0, 9.5, np.inf], [10.0, 8.0, 6.0]])
    spent = spend(cut, np.array([1, 2]), 2)
    assert spent.counts.tolist() == [0, 2]
    assert spent.needed[0] > 1


def test_rows_are_replaced_by_longer_ones():
    short = Paths(np.array([[0], [1]]), np.array([[1.0, 0.5], [2.0, 1.0]]), np.array([1, 1]))
    longer = Paths(np.array([[1, 0]]), np.array([[2.0, 1.0, 0.0]]), np.array([2]))
    joined = short.replaced(np.array([1]), longer)
    assert joined.order.tolist() == [[0, -1], [1, 0]]
    assert joined.errors.tolist() == [[1.0, 0.5, np.inf], [2.0, 1.0, 0.0]]
    assert joined.lengths.tolist() == [1, 2]


# --- whole networks -----------------------------------------------------------------------------


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3, groups=4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 6, 1, groups=2),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * 16, 10),
    )


def images(n: int = 200) -> list[torch.Tensor]:
    return list(torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1)).split(64))


@pytest.mark.parametrize("ratio", [0.001, 0.1, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("allocation", [nn.Global(), nn.Uniform()], ids=repr)
@pytest.mark.filterwarnings("ignore::nn.plans.PruningWarning")
def test_counts_are_met_exactly_and_b1_holds_on_networks(ratio, allocation):
    pruned = nn.prune(network(), OLSForward(allocation=allocation), nn.KeepRatio(ratio), calibration=images())
    assert pruned.plan.kept == nn.KeepRatio(ratio).count(pruned.plan.total)
    for layer in pruned.plan.layers.values():
        assert all(c.holds for c in layer.certificates)


def test_less_error_than_magnitude_at_the_same_count():
    from nn.edges.refit import Refit  # noqa: PLC0415 - only this test compares

    values = []
    for method in (OLSForward(), Refit(nn.Magnitude())):
        decided = nn.plan(network(), method, nn.KeepRatio(0.2), calibration=images())
        values.append(decided.certificates[0].value)
    assert values[0] < 0.7 * values[1]


def test_the_least_error_along_the_paths_is_reported_and_nearly_reached():
    decided = nn.plan(network(), OLSForward(), nn.KeepRatio(0.2), calibration=images())
    certificate = decided.certificates[0]
    least = certificate.details["least along the paths"]
    assert least <= certificate.value * (1 + 1e-6)  # float32 weights may fall short of it by rounding
    assert certificate.value <= 1.05 * least


def test_weights_that_were_pruned_before_stay_away():
    first = nn.prune(network(), nn.Random(), nn.KeepRatio(0.5), rng=0)
    second = nn.prune(first.model, OLSForward(), nn.KeepRatio(0.2), calibration=images())
    assert second.plan.kept == nn.KeepRatio(0.2).count(second.plan.total)
    for name, layer in second.plan.layers.items():
        assert not bool((layer.keep & ~first.plan.layers[name].keep).any())


def test_a_budget_above_what_is_alive_keeps_what_is_alive():
    first = nn.prune(network(), nn.Random(), nn.KeepRatio(0.3), rng=0)
    second = nn.plan(first.model, OLSForward(), nn.KeepRatio(0.6), calibration=images())
    assert second.kept == first.plan.kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_frozen_weights_work(dtype):
    net = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).to(dtype)
    net.requires_grad_(False)
    pruned = nn.prune(net, OLSForward(), nn.KeepRatio(0.3), calibration=[torch.randn(99, 12).to(dtype)])
    assert pruned.model[0].weight.dtype == dtype
    assert pruned.plan.kept == 36


def test_dead_layers_and_neurons_are_pruned_without_complaint():
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    with torch.no_grad():
        net[0].weight[2] = 0.0
        net[0].bias.fill_(-100.0)  # nothing reaches the second layer
    decided = nn.plan(net, OLSForward(), nn.KeepCount(20), calibration=[torch.randn(40, 6)])
    assert decided.kept == 20
    assert any("'2' are zero" in note for note in decided.notes)
    assert decided.layers["0"].keep[2].sum() == 0
    # the silent layer is pruned by magnitude
    kept = decided.layers["2"].keep
    weight = net[2].weight.abs()
    assert weight[kept].min() >= weight[~kept].max()


def test_too_few_data_are_noted():
    decided = nn.plan(
        torch.nn.Linear(20, 4), OLSForward(), nn.KeepRatio(0.5), calibration=[torch.randn(30, 20)]
    )
    assert any(
        "fewer than 5 calibration vectors" in note and "use more data" in note for note in decided.notes
    )
    decided = nn.plan(
        torch.nn.Linear(20, 4), OLSForward(), nn.KeepRatio(0.5), calibration=[torch.randn(300, 20)]
    )
    assert not decided.notes


def test_missing_data_wide_layers_and_bad_values_are_refused():
    layer = torch.nn.Linear(20, 4)
    with pytest.raises(ValueError, match="calibration"):
        nn.prune(layer, OLSForward(), nn.KeepRatio(0.5))
    with pytest.raises(ValueError, match=r"20 edges a neuron.*Feedback"):
        nn.prune(layer, OLSForward(max_edges=19), nn.KeepRatio(0.5), calibration=[torch.randn(9, 20)])
    with pytest.raises(ValueError, match="NaN"):
        nn.prune(layer, OLSForward(), nn.KeepRatio(0.5), calibration=[torch.full((9, 20), torch.nan)])
    with pytest.raises(ValueError, match="ridge"):
        OLSForward(ridge=0.0)


def test_an_allocation_on_extended_paths_is_that_on_whole_ones(monkeypatch):
    from nn.edges import _searches  # noqa: PLC0415 - its constants are changed

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(150, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
    with torch.no_grad():
        net[0].weight[:3] *= 20.0  # a few neurons want far more than their share
    data = [torch.randn(400, 150) @ torch.randn(150, 150) / 12.0]
    plans = []
    for reach in (100.0, 0.01):
        monkeypatch.setattr(_searches, "_REACH", reach)
        monkeypatch.setattr(_searches, "_SHORT", 4)
        plans.append(nn.plan(net, OLSForward(), nn.KeepRatio(0.15), calibration=data))
    for name in plans[0].layers:
        assert torch.equal(plans[0].layers[name].keep, plans[1].layers[name].keep)
