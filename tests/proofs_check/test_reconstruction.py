"""The oracles of B1, B2, B3 and B5 are right, and every planted fault is caught somewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from nn.edges._paths import backward_paths, forward_paths  # noqa: E402
from nn.edges.feedback import sweep  # noqa: E402
from nn.guarantees.reconstruction import BackwardElimination  # noqa: E402
from proofs_check.checks._reconstruction import (  # noqa: E402
    Fed,
    Worst,
    eliminate,
    fed,
    feed_back,
    nested_errors,
    patched,
    small_units,
)
from proofs_check.checks.reconstruction import CHECKS  # noqa: E402
from proofs_check.judge import ScenarioTest, run_scenario  # noqa: E402
from proofs_check.results import Verdict  # noqa: E402
from proofs_check.runner import PROFILES  # noqa: E402
from proofs_check.workloads import Workload, adversarial, real  # noqa: E402

SEEDS = st.integers(0, 2**32 - 1)


def layer(seed: int, n: int = 7, m: int = 5, ridge: float = 0.01) -> Fed:
    rng = np.random.default_rng(seed)
    return Fed(np.abs(rng.normal(size=(n, m))), np.abs(rng.normal(size=(3, m))), ridge)


def weights(seed: int, m: int = 5) -> np.ndarray:
    return np.random.default_rng(seed + 1).normal(size=(4, m))


def refitted_error(rows: np.ndarray, w: np.ndarray, support: np.ndarray) -> float:
    """Squared error of the least squares fit on the rows themselves."""
    target = rows @ w
    if not len(support):
        return float(target @ target)
    fit = np.linalg.lstsq(rows[:, support], target, rcond=None)[0]
    return float(np.sum((target - rows[:, support] @ fit) ** 2))


@given(SEEDS)
def test_nested_errors_are_those_of_least_squares(seed):
    data, w = layer(seed), weights(seed)
    order = np.stack([np.random.default_rng(seed + i).permutation(5) for i in range(4)])
    errors = nested_errors(data.matrix, w, order)
    for row in range(4):
        for k in range(6):
            expected = refitted_error(data.rows, w[row], order[row, :k])
            # Condition numbers of H up to 1e4 and squares: about 1e-11 of the whole error.
            assert errors[row, k] == pytest.approx(expected, abs=1e-10 * errors[row, 0])


@given(SEEDS)
def test_the_attacked_path_is_forward_selection_by_brute_force(seed):
    data, w = layer(seed), weights(seed)
    order = forward_paths(data.matrix, w, np.ones(w.shape, dtype=bool), 5).order
    errors = nested_errors(data.matrix, w, order)
    for row in range(4):
        for k in range(5):
            rest = order[row, k:]
            best = min(refitted_error(data.rows, w[row], np.append(order[row, :k], j)) for j in rest)
            assert errors[row, k + 1] == pytest.approx(best, abs=1e-10 * errors[row, 0])


@given(SEEDS)
def test_plain_elimination_is_the_attacked_one_and_its_saliencies_telescope(seed):
    data, w = layer(seed), weights(seed)
    order, sums = eliminate(data.inverse, w, lambda q, d: q**2 / d)
    paths = backward_paths(data.inverse, w, np.ones(w.shape, dtype=bool))
    scale = data.squared(w)[:, None]
    np.testing.assert_allclose(sums / scale, paths.errors / scale, atol=1e-10)
    np.testing.assert_allclose(nested_errors(data.matrix, w, order) / scale, sums / scale, atol=1e-10)


@given(SEEDS, st.floats(0.0, 3.0))
def test_the_plain_sweep_is_the_attacked_one(seed, level):
    data, w = layer(seed), weights(seed)
    new, scores = feed_back(data.rows, w, level)
    expected, theirs = sweep(data.gram, w[None], lambda score, _: score >= level)
    near = np.abs(theirs[0] - level) < 1e-9  # which of two sides it falls on is up to rounding
    if not near.any():
        np.testing.assert_allclose(new, expected[0], atol=1e-9)
        np.testing.assert_allclose(scores, theirs[0], atol=1e-9)


def test_equal_contributions_without_correlation_attain_b2():
    columns = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 6)))[0]
    data = Fed(columns, columns, 0.01)
    w = data.special[:1]
    errors = nested_errors(data.matrix, w, np.arange(6)[None])[0]
    bounds = [BackwardElimination().relative_squared_error(6, k, 1.0) for k in range(7)]
    np.testing.assert_allclose(errors / errors[0], bounds, atol=1e-12)


@given(SEEDS)
@settings(max_examples=5)
def test_the_search_finds_a_direction_that_is_known(seed):
    # The ratio of two quadratic forms is largest at an eigenvector, which is among the special weights.
    data = layer(seed)
    largest = np.linalg.eigvalsh(data.matrix)[-1]
    found = Worst(data, lambda w: data.squared(w) / np.sum(w**2, axis=1))(np.random.default_rng(seed))
    assert found == pytest.approx(largest, rel=1e-9)


def test_inputs_are_non_negative_and_halved():
    data = fed(adversarial()[0], 6)
    assert data.inputs.min() >= 0.0
    assert data.inputs.shape[1] == 6
    assert abs(len(data.inputs) - len(data.fresh)) <= 1


def test_patches_are_those_that_torch_unfolds_and_keep_their_units():
    layer = patched(adversarial()[0])
    images = torch.from_numpy(layer.images)
    unfolded = torch.nn.functional.unfold(images, 2).transpose(1, 2).reshape(-1, 16).numpy()
    np.testing.assert_array_equal(layer.inputs, unfolded)
    small = small_units(layer)
    factor = small.inputs[layer.inputs > 0] / layer.inputs[layer.inputs > 0]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-12)
    np.testing.assert_allclose(small.images, factor[0] * layer.images, rtol=1e-12)
    assert small.ridge == layer.ridge


@pytest.fixture(scope="module")
def shown() -> list[Workload]:
    wanted = {"breast cancer", "diabetes", "iris"}
    return [workload for workload in real(300) if workload.name in wanted]


@pytest.mark.parametrize("check", CHECKS, ids=[check.key for check in CHECKS])
def test_the_theorem_stands_and_every_planted_fault_is_caught_somewhere(check, shown):
    profile = PROFILES["quick"]
    test = ScenarioTest(profile, false_alarm=1e-6, fault_miss=1e-3, seed=0, check=check)
    results = [run_scenario(scenario, test) for scenario in check.scenarios(shown, profile)]
    assert all(result.honest.verdict is Verdict.CONSISTENT for result in results)
    caught = {fault.name for result in results for fault in result.faults if fault.required}
    assert caught == set(check.faults)
