"""Vacuity: lone directions, sizes against the theorems, what is said in words, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import Accuracy, Poisson, SensitivityReducer, WeightedSet
from coresets.homogeneous import AbsoluteSum, ReLUSum, vacuity

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=20)
@given(seeds, st.integers(1, 20), st.integers(0, 30))
def test_no_more_points_than_columns_in_general_position_are_all_alone(seed: int, n: int, more: int) -> None:
    report = vacuity(np.random.default_rng(seed).standard_normal((n, n + more)))
    assert (report.n, report.rank, report.alone, report.hopeless) == (n, n, n, True)
    assert report.lewis_total == pytest.approx(n, rel=1e-6)
    assert report.kappa <= 1e-12
    assert "Every data-independent bound is 1, because n <= rank" in str(report)


@settings(max_examples=20)
@given(seeds, st.integers(1, 8))
def test_one_point_more_than_the_rank_leaves_none_alone(seed: int, d: int) -> None:
    report = vacuity(np.random.default_rng(seed).standard_normal((d + 1, d)))
    assert (report.alone, report.hopeless) == (0, False)


def test_rows_alone_in_a_direction_are_counted_whatever_their_length() -> None:
    points = np.zeros((23, 4))
    points[:20, :2] = np.random.default_rng(0).standard_normal((20, 2))
    points[20] = [1.0, 1.0, 1e-7, 0.0]  # alone
    points[21:, 3] = [1e9, 1.0]  # in the span of each other, one of them long
    assert vacuity(points).alone == 1
    assert vacuity(points * [1.0, 1e5, 1.0, 1e-5]).alone == 1


def test_weights_do_not_change_spans_but_zeros_do() -> None:
    points = np.vstack([np.eye(2), np.eye(2)])
    assert vacuity(points, [1.0, 1e6, 1e-6, 1.0]).alone == 0
    assert vacuity(points, [1.0, 1.0, 0.0, 1.0]).alone == 1
    assert vacuity(points, [1.0, 1.0, 0.0, 1.0]).n == 3


@settings(max_examples=10)
@given(seeds)
def test_sizes_are_those_of_the_reducers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = WeightedSet(rng.standard_t(3, (200, 3)) + 0.1, rng.uniform(0.5, 2.0, 200))
    accuracy = Accuracy(0.3, 0.05)
    report = vacuity(data.points, data.weights, accuracy=accuracy)
    for loss, size in ((AbsoluteSum(), report.absolute_size), (ReLUSum(), report.relu_size)):
        # Totals and kappa are computed in other coordinates, equal up to their tolerances.
        expected = SensitivityReducer(loss, Poisson()).claim(data).size(accuracy)
        assert size == pytest.approx(expected, rel=1e-5)


def test_sizes_below_n_are_useful_and_others_are_called_vacuous() -> None:
    few, many = np.random.default_rng(1).standard_normal((2, 20_000, 2))
    small, large = vacuity(few[:200]), vacuity(many)
    assert small.absolute_vacuous
    assert small.relu_vacuous
    assert "vacuous; allow a larger error" in str(small)
    assert not large.absolute_vacuous
    assert not large.relu_vacuous
    assert "of 20000 points suffice" in str(large)


def test_a_vanishing_relu_sum_has_no_size() -> None:
    report = vacuity(np.abs(np.random.default_rng(2).standard_normal((100, 2))))
    assert report.kappa == 0.0
    assert math.isinf(report.relu_size)
    assert "measure it relative to the sum of |p.x|" in str(report)
    assert not report.hopeless


def test_sizes_beyond_all_integers_are_infinite() -> None:
    report = vacuity(np.random.default_rng(3).standard_normal((20, 2)), accuracy=Accuracy(1e-9, 0.1))
    assert math.isinf(report.absolute_size)
    assert report.absolute_vacuous


def test_points_without_cost_have_nothing_to_say() -> None:
    report = vacuity(np.zeros((3, 2)))
    assert (report.n, report.rank, report.lewis_total) == (0, 0, 0.0)
    assert str(report) == "No point has a cost: all rows or masses are zero."


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"accuracy": 0.1}, TypeError, "accuracy = 0.1; pass Accuracy"),
        ({"accuracy": Accuracy(2.0, 0.1)}, ValueError, "epsilon = 2"),
        ({"weights": [1.0, -1.0]}, ValueError, "negative"),
        ({"weights": [1.0]}, ValueError, "weights has shape"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vacuity(np.eye(2), **arguments)


def test_bad_points_are_refused() -> None:
    for points in (np.zeros(3), [[math.nan]]):
        with pytest.raises(ValueError, match="points"):
            vacuity(points)


def test_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    points = np.random.default_rng(4).standard_normal((50, 2))
    assert vacuity(torch.asarray(points)) == vacuity(points)
