"""Bad input: every entry point names the offending value and the remedy, before any work."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import (
    IID,
    Accuracy,
    FixedSize,
    L1Regression,
    LeastSquares,
    Poisson,
    Sampler,
    SensitivityReducer,
    WeightedSet,
    leverage_scores,
    lewis_weights,
    sample_fixed_size,
    sample_hybrid,
    sample_iid,
    sample_poisson,
    sample_top,
    uniform_sensitivities,
)
from coresets.sensitivity import orthonormaliser

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 40) | st.sampled_from([1000, 5000]), st.integers(1, 6))
LOSSES = [LeastSquares(), LeastSquares(intercept=True), L1Regression()]


class Untouchable:
    """A loss that no invalid call may reach."""

    def costs(self, data: WeightedSet, query: Any) -> Any:
        raise AssertionError("work was done before the arguments were checked")

    sensitivities = claim = costs


def top_without_rng(sensitivities: Any, size: int, *, rng: Any) -> Any:
    return sample_top(sensitivities, size)


# Functions of points and weights.
OF_POINTS: dict[str, Callable[[Any, Any], Any]] = {
    "WeightedSet": WeightedSet,
    "leverage_scores": leverage_scores,
    "lewis_weights": lewis_weights,
    "orthonormaliser": orthonormaliser,
}
SAMPLE: dict[str, Callable[..., Any]] = {
    "sample_poisson": sample_poisson,
    "sample_fixed_size": sample_fixed_size,
    "sample_iid": sample_iid,
    "sample_hybrid": sample_hybrid,
    "sample_top": top_without_rng,
}
over_points = pytest.mark.parametrize("function", OF_POINTS.values(), ids=OF_POINTS.keys())
over_samplers = pytest.mark.parametrize("sample", SAMPLE.values(), ids=SAMPLE.keys())


class Problem(NamedTuple):
    points: np.ndarray
    weights: np.ndarray
    place: tuple[int, int]


def problem(seed: int, size: tuple[int, int]) -> Problem:
    rng = np.random.default_rng(seed)
    n, d = size
    place = (int(rng.integers(n)), int(rng.integers(d)))
    return Problem(rng.standard_normal(size), rng.uniform(0.5, 2.0, n), place)


@over_points
@settings(max_examples=25)
@given(seed=seeds, size=sizes, bad=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_point_that_is_not_finite_is_located(
    function: Any, seed: int, size: tuple[int, int], bad: float
) -> None:
    points, weights, (i, j) = problem(seed, size)
    points[i, j] = bad
    with pytest.raises(ValueError, match=rf"points\[{i}, {j}\] = {bad} is not finite; remove or impute"):
        function(points, weights)


@over_points
@settings(max_examples=25)
@given(seed=seeds, size=sizes, bad=st.sampled_from([math.nan, math.inf, -1.0, -1e-300]))
def test_a_weight_that_is_no_mass_is_located(
    function: Any, seed: int, size: tuple[int, int], bad: float
) -> None:
    points, weights, (i, _) = problem(seed, size)
    weights[i] = bad
    with pytest.raises(
        ValueError, match=rf"weights\[{i}\] = .* (is not finite; remove|is negative; pass non-neg)"
    ):
        function(points, weights)


@over_points
@pytest.mark.parametrize(
    ("points", "weights", "message"),
    [
        (np.ones((3, 2)), np.zeros(3), "weights are all zero; at least one point needs a positive mass"),
        (np.ones((3, 2)), np.ones(2), r"weights has shape \(2,\); expected \(3,\).*, one mass a (point|row)"),
        (np.ones((3, 2)), np.ones((3, 1)), r"weights has shape \(3, 1\); expected \(3,\)"),
        (np.ones(3), None, r"points has shape \(3,\); pass \(n, d\), one row a point"),
        (np.float64(3.0), None, r"points has shape \(\); pass \(n, d\)"),
        (np.ones((0, 2)), None, r"points has shape \(0, 2\); at least one row and one column are needed"),
        (np.ones((2, 0)), None, r"points has shape \(2, 0\); at least one row and one column are needed"),
        ([[1.0, 2.0], [3.0]], None, "points is not a regular array"),
    ],
)
def test_wrong_shapes_and_empty_sets_are_refused(
    function: Any, points: Any, weights: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(points, weights)


@over_points
@pytest.mark.parametrize(
    "points", [[["a"]], np.ones((2, 2), dtype=complex), [[None, 1.0]]], ids=["str", "complex", "None"]
)
def test_points_that_are_no_real_numbers_are_a_type_error(function: Any, points: Any) -> None:
    with pytest.raises(TypeError, match=r"points has .*; pass real numbers"):
        function(points, None)


@over_samplers
@settings(max_examples=25)
@given(seed=seeds, n=st.integers(1, 3000), bad=st.sampled_from([math.nan, math.inf, -1.0]))
def test_a_sensitivity_that_is_none_is_refused(sample: Any, seed: int, n: int, bad: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.exponential(size=n)
    values[rng.integers(n)] = bad
    with pytest.raises(ValueError, match=r"sensitivities.*(not finite|negative|finite)"):
        sample(values, 1, rng=0)


@over_samplers
@pytest.mark.parametrize(
    "values", [np.zeros(4), np.zeros(0), np.ones((2, 0))], ids=["zero", "empty", "empty rows"]
)
def test_sensitivities_from_which_nothing_can_be_drawn_are_refused(sample: Any, values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="sensitivities"):
        sample(values, 1, rng=0)


@over_samplers
@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_one_is_refused(sample: Any, size: int) -> None:
    with pytest.raises(ValueError, match=f"size.*{size}"):
        sample(np.ones(4), size, rng=0)


@pytest.mark.parametrize("rng", [None, "seed", 1.5, True, [1, 2], np.random], ids=repr)
@pytest.mark.parametrize("name", [n for n in SAMPLE if n != "sample_top"])
def test_what_is_no_source_of_randomness_is_a_type_error(name: str, rng: Any) -> None:
    with pytest.raises(TypeError, match=r"rng = .* is not a source of randomness; pass a seed"):
        SAMPLE[name](np.ones(4), 2, rng=rng)
    with pytest.raises(TypeError, match=r"rng = .* is not a source of randomness; pass a seed"):
        SensitivityReducer(Untouchable()).reduce(WeightedSet(np.eye(3)), size=2, rng=rng)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="rng = -1 is negative; pass a seed of at least 0"):
        SensitivityReducer(Untouchable()).reduce(WeightedSet(np.eye(3)), size=2, rng=-1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, "size = 0 is too small; pass at least 1"),
        ({"size": -5}, ValueError, "size = -5 is too small"),
        ({"size": 2.0}, TypeError, r"size = 2\.0 is not an integer"),
        ({"size": True}, TypeError, "size = True is not an integer"),
        ({"accuracy": 0.1}, TypeError, r"accuracy = 0\.1; pass Accuracy\(epsilon, delta\)"),
        ({}, ValueError, "size = None, accuracy = None; pass exactly one"),
    ],
)
def test_the_reducer_checks_its_arguments_before_any_work(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SensitivityReducer(Untouchable()).reduce(WeightedSet(np.eye(3)), rng=0, **arguments)


@pytest.mark.parametrize("data", [np.eye(3), [[1.0]], None], ids=["array", "list", "None"])
def test_the_reducer_wants_a_weighted_set(data: Any) -> None:
    with pytest.raises(TypeError, match=r"data is a .*; wrap the points in a WeightedSet"):
        SensitivityReducer(Untouchable()).reduce(data, size=2, rng=0)


@pytest.mark.parametrize(
    ("epsilon", "delta", "message"),
    [
        (0.0, 0.1, r"epsilon = 0 is outside \(0, 1\]; ask for a relative error in that range"),
        (1.5, 0.1, r"epsilon = 1\.5 is outside"),
        (math.inf, 0.1, "epsilon = inf is not finite"),
        (0.1, 0.0, "delta = 0 is not strictly between 0 and 1"),
        (0.1, 1.0, "delta = 1 is not strictly between 0 and 1"),
    ],
)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_an_accuracy_for_which_no_size_is_proved_is_refused(
    loss: Any, epsilon: float, delta: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SensitivityReducer(loss).reduce(WeightedSet(np.eye(3)), accuracy=Accuracy(epsilon, delta), rng=0)


# ---- unusual input with a documented, correct answer


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("sampler", [IID(), Poisson()], ids=lambda s: type(s).__name__)
@settings(max_examples=10)
@given(seed=seeds, size=sizes)
def test_any_valid_set_of_any_size_is_reduced(
    loss: Any, sampler: Sampler, seed: int, size: tuple[int, int]
) -> None:
    points, weights, (i, j) = problem(seed, size)
    if size[1] > 1:
        points[:, j] = 0.0  # a column of zeros; n < d is among the sizes
    if size[0] > 1:
        weights[i] = 0.0  # a point without mass
    data = WeightedSet(points, weights)
    coreset = SensitivityReducer(loss, sampler).reduce(data, size=max(1, size[0] // 2), rng=seed)
    assert coreset.support_size <= data.n
    assert np.all(np.isfinite(coreset.weights))
    if not coreset.accuracy.is_exact:
        assert i not in coreset.indices  # without mass, without cost


@pytest.mark.parametrize(
    "function", [leverage_scores, lewis_weights], ids=["leverage_scores", "lewis_weights"]
)
@settings(max_examples=10)
@given(seed=seeds, n=st.integers(1, 5), extra=st.integers(1, 5))
def test_fewer_points_than_dimensions_have_sensitivity_one(
    function: Any, seed: int, n: int, extra: int
) -> None:
    points = np.random.default_rng(seed).standard_normal((n, n + extra))
    result = function(points)
    # Rounding enters with the square of the condition number; Lewis weights stop at 1e-10 besides.
    tolerance = 100 * np.finfo(np.float64).eps * np.linalg.cond(points) ** 2 + 1e-9
    np.testing.assert_allclose(np.asarray(getattr(result, "values", result)), 1.0, atol=tolerance, rtol=0.0)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_integers_give_what_floats_give_and_float32_nearly(loss: Any) -> None:
    points = np.random.default_rng(0).integers(-9, 10, (200, 3))
    reducer = SensitivityReducer(loss, FixedSize() if isinstance(loss, LeastSquares) else Poisson())
    double = reducer.reduce(WeightedSet(points.astype(np.float64)), size=40, rng=0)
    whole = reducer.reduce(WeightedSet(points), size=40, rng=0)
    assert whole.indices.tolist() == double.indices.tolist()
    assert whole.weights.tolist() == double.weights.tolist()
    values = loss.sensitivities(WeightedSet(points.astype(np.float64))).values
    single = loss.sensitivities(WeightedSet(points.astype(np.float32))).values
    np.testing.assert_allclose(single, values, rtol=1e3 * np.finfo(np.float32).eps)


def test_uniform_sensitivities_refuse_what_is_no_mass() -> None:
    with pytest.raises(ValueError, match=r"weights\[1\] = -1 is negative"):
        uniform_sensitivities([1.0, -1.0])
    with pytest.raises(ValueError, match="weights are all zero"):
        uniform_sensitivities(np.zeros(3))
    with pytest.raises(ValueError, match="weights has shape"):
        uniform_sensitivities(np.ones((2, 2)))
