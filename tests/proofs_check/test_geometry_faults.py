"""The plain constructions are right where nothing is broken, and wrong as described where something is."""

from __future__ import annotations

import numpy as np
import pytest

from proofs_check.geometry_faults import ascend, eliminate, fixed_point, grouped, spread_start
from proofs_check.geometry_oracles import best_design, log_det, variances

ROUNDING = 1e5 * float(np.finfo(np.float64).eps)


def cloud(n: int = 60, k: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(2.0, (n, k))


def uniform(rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), 1.0 / len(rows))


def determinant(rows: np.ndarray, weights: np.ndarray) -> float:
    return log_det(rows.T @ (weights[:, None] * rows))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_spread_start_is_within_k_ln_k_of_the_best(k: int) -> None:
    rows = cloud(k=k)
    start = spread_start(rows)
    assert np.count_nonzero(start) == k
    assert start.sum() == pytest.approx(1.0, rel=ROUNDING)
    assert determinant(rows, best_design(rows)) - determinant(rows, start) <= k * np.log(k) + ROUNDING


def test_the_nearest_points_are_a_worse_start() -> None:
    rows = cloud()
    assert determinant(rows, spread_start(rows, nearest=True)) < determinant(rows, spread_start(rows))


def test_ascent_reaches_the_gap_and_says_in_how_many_steps() -> None:
    rows = cloud()
    weights, steps = ascend(rows, spread_start(rows), steps=5000, gap=0.1)
    assert variances(rows, weights).max() <= 3.3
    assert weights.sum() == pytest.approx(1.0, rel=ROUNDING)
    assert np.count_nonzero(weights) <= 3 + steps < 5000


def test_the_exact_step_is_the_best_one() -> None:
    rows = cloud()
    gains = [
        determinant(rows, ascend(rows, uniform(rows), steps=1, scale=scale)[0]) for scale in (0.9, 1.0, 1.1)
    ]
    assert gains[1] > max(gains[0], gains[2])


def test_adding_the_nearest_point_does_not_close_the_gap() -> None:
    rows = np.random.default_rng(0).standard_normal((60, 3))
    weights, steps = ascend(rows, spread_start(rows), steps=300, gap=0.1, nearest=True)
    assert steps == 300
    assert not variances(rows, weights).max() <= 3.3


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_the_mean_iterate_has_the_promised_variances(steps: int) -> None:
    rows = cloud()
    weights = fixed_point(rows, steps)
    assert weights.sum() == pytest.approx(1.0, rel=ROUNDING)
    assert variances(rows, weights).max() / 3.0 <= 20.0 ** (1.0 / steps) * (1.0 + ROUNDING)


def test_without_weights_in_the_variances_the_iteration_does_not_settle() -> None:
    rows = cloud()
    assert variances(rows, fixed_point(rows, 60, weighted=False)).max() / 3.0 > 20.0 ** (1.0 / 60.0)


class TestCaratheodory:
    @pytest.mark.parametrize("lifted", [True, False])
    def test_elimination_keeps_the_sum_with_as_many_points_as_the_rank(self, lifted: bool) -> None:
        rows = np.hstack([cloud(), np.ones((60, 1))]) if lifted else np.abs(cloud())
        weights = np.random.default_rng(1).uniform(0.1, 2.0, 60)
        after = eliminate(rows, weights)
        assert np.count_nonzero(after) <= rows.shape[1]
        assert np.all(after >= 0.0)
        assert after @ rows == pytest.approx(weights @ rows, rel=ROUNDING)

    def test_independent_rows_are_all_kept(self) -> None:
        assert eliminate(np.eye(3), np.ones(3)) == pytest.approx(np.ones(3), abs=0.0)

    def test_dependent_columns_leave_as_many_points_as_the_rank(self) -> None:
        rows = cloud(k=2) @ np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
        rows = np.hstack([rows, np.ones((60, 1))])
        after = eliminate(rows, np.ones(60))
        assert np.count_nonzero(after) <= 3
        assert after @ rows == pytest.approx(rows.sum(axis=0), rel=ROUNDING)

    def test_weights_that_are_not_updated_lose_the_mass(self) -> None:
        rows = np.hstack([cloud(), np.ones((60, 1))])
        assert eliminate(rows, np.ones(60), update=False).sum() <= 4.0

    def test_groups_by_means_keep_the_moments_and_by_sums_do_not(self) -> None:
        rows = np.hstack([cloud(), np.ones((60, 1))])
        weights = np.random.default_rng(1).uniform(0.1, 2.0, 60)
        honest, broken = grouped(rows, weights), grouped(rows, weights, sums=True)
        assert np.count_nonzero(honest) <= 32
        assert honest @ rows == pytest.approx(weights @ rows, rel=ROUNDING)
        assert broken.sum() == pytest.approx(weights.sum(), rel=ROUNDING)
        assert np.abs(broken @ rows - weights @ rows).max() > 0.1
