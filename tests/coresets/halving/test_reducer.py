"""Weighted halving: classes, sizes, means, what features explain, and what is promised or withdrawn."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import (
    AbsoluteSum,
    Accuracy,
    AssumptionError,
    L1Regression,
    LeastSquares,
    WeightedSet,
)
from coresets.guarantees import FeatureBound, HalvingClass, HalvingFinite, HalvingSubspaceClass
from coresets.halving import (
    AbsoluteFeatures,
    Aggressive,
    BoundedSum,
    Classes,
    Embedded,
    GramFeatures,
    HalvingReducer,
    KernelFeatures,
    LinearFeatures,
    LinearSum,
    MappedFeatures,
    Provable,
    Walked,
)
from coresets.halving.reducer import HALVING, Halvings
from coresets.sensitivity import Sensitivities

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def skewed(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.minimum(1.0, rng.pareto(1.0, n) / n) * (rng.random(n) > 0.1)


def heavy(n: int = 2000, d: int = 3, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    return WeightedSet(rng.standard_normal((n, d)) * rng.standard_t(3, (n, 1)), rng.uniform(0.5, 2.0, n))


# ---- classes


@given(seed=seeds, n=st.integers(2, 300), kappa=st.floats(1e-3, 1e4))
def test_classes_at_a_level_keep_points_with_the_least_power_of_half_above_kappa_s(
    seed: int, n: int, kappa: float
) -> None:
    values = skewed(seed, n)
    classes = Classes.at(values, kappa)
    for s, k in zip(values, classes.levels, strict=True):
        if s == 0.0:
            assert k == -1
            continue
        wanted = min(Fraction(1), Fraction(kappa * s))
        assert Fraction(1, 2 ** int(k)) >= wanted
        assert k == 0 or Fraction(1, 2 ** int(k)) < 2 * wanted
    assert classes.expected_size <= 2.0 * kappa * values.sum() * (1.0 + n * EPS)


@given(seed=seeds, n=st.integers(5, 300), share=st.floats(0.01, 0.9))
def test_classes_within_a_size_use_it_and_keep_the_level(seed: int, n: int, share: float) -> None:
    values = skewed(seed, n) + 1e-6
    size = max(1, int(share * n))
    classes = Classes.within(values, size)
    assert classes.expected_size <= size * (1.0 + n * EPS)
    assert classes.kappa >= 0.5 * size / values.sum() * (1.0 - 4.0 * EPS)
    probabilities = 2.0 ** -classes.levels.astype(np.float64)
    assert np.all(probabilities >= np.minimum(1.0, classes.kappa * values) * (1.0 - 4.0 * EPS))
    if math.isfinite(classes.kappa):  # no larger level would do
        larger = Classes.at(values, classes.kappa * (1.0 + 1e-9))
        assert larger.expected_size > size * (1.0 - 1e-12)


def test_equal_points_fill_any_size() -> None:
    classes = Classes.within(np.full(4000, 1.0 / 4000), 1500)
    assert classes.expected_size == 1500.0
    assert list(classes.counts()) == [0, 2000, 2000]
    assert classes.kappa == pytest.approx(1000.0, rel=4 * EPS)


# ---- sizes and means


def halved(values: np.ndarray, classes: Classes, seed: int) -> Halvings:
    units = np.random.default_rng(seed).standard_normal((len(values), 2))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    embedded = Embedded(Walked(units, np.array([0.0, 1.0, 0.0])), FeatureBound(), 2)
    return Halvings.of(embedded, values, classes, 12.0, np.random.default_rng(seed))


@settings(max_examples=60)
@given(seed=seeds, n=st.integers(2, 200), share=st.floats(0.02, 0.9))
def test_the_size_is_within_one_of_the_expected_one_and_weights_are_powers_of_two(
    seed: int, n: int, share: float
) -> None:
    values = skewed(seed, n) + 1e-9
    size = max(1, int(share * n))
    classes = Classes.within(values, size)
    found = halved(values, classes, seed)
    assert abs(found.kept.size - classes.expected_size) < 1.0
    assert found.kept.size <= size
    assert np.array_equal(found.doublings, classes.levels[found.kept])
    assert found.steps <= n + classes.rounds


def test_every_weight_has_its_mean_odd_ones_included() -> None:
    """Means over 4000 runs, of each of 23 points, within 5 standard deviations of one."""
    values = np.concatenate([np.full(9, 0.09), np.full(7, 0.045), np.full(5, 0.02), [0.3, 1.0]])
    classes = Classes.at(values, 3.0)
    runs, total = 4000, np.zeros(values.size)
    for seed in range(runs):
        found = halved(values, classes, seed)
        total[found.kept] += 2.0**found.doublings
    deviation = np.sqrt((2.0**classes.levels - 1.0) / runs)
    assert np.all(np.abs(total / runs - 1.0) <= 5.0 * deviation)


def test_points_without_sensitivity_are_dropped_and_sure_ones_keep_their_weight() -> None:
    data = WeightedSet(np.vstack([np.eye(3), np.zeros((5, 3)), np.tile([[0.0, 0.0, 1e-3]], (50, 1))]))
    coreset = HalvingReducer(LeastSquares(), GramFeatures()).reduce(data, size=20, rng=0)
    assert {0, 1, 2} <= set(coreset.indices.tolist())
    assert not set(coreset.indices.tolist()) & set(range(3, 8))
    assert coreset.weights[:3].tolist() == [1.0, 1.0, 1.0]


# ---- what the features explain


def vectorised(units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    n = len(units)
    return np.hstack(
        [
            np.full((n, 1), weights[0] ** 0.5),
            weights[1] ** 0.5 * units,
            weights[2] ** 0.5 * (units[:, :, None] * units[:, None, :]).reshape(n, -1),
        ]
    )


@pytest.mark.parametrize("d", [1, 2, 5])
def test_squares_are_explained_exactly_by_gram_features(d: int) -> None:
    data, rng = heavy(300, d), np.random.default_rng(1)
    loss = LeastSquares()
    bounds = loss.sensitivities(data)
    embedded = GramFeatures().embed(data, bounds)
    psi = vectorised(embedded.walked.units, embedded.walked.coefficients)  # type: ignore[arg-type]
    assert np.max(np.linalg.norm(psi, axis=1)) <= 1.0 + 1e3 * EPS
    assert embedded.dimension == d * (d + 1) // 2
    for x in rng.standard_normal((4, d)):
        costs = data.weights * loss.costs(data, x)
        scaled = costs / costs.sum() / bounds.values
        xi, *_ = np.linalg.lstsq(psi, scaled, rcond=None)
        assert psi @ xi == pytest.approx(scaled, abs=1e5 * EPS)
        assert np.linalg.norm(xi) <= embedded.bound.norm * (1.0 + 1e6 * EPS)


@pytest.mark.parametrize("uniform", [False, True], ids=["lewis", "shares of the mass"])
def test_linear_functions_are_explained_exactly_whatever_the_bounds(uniform: bool) -> None:
    data, rng = heavy(300, 3), np.random.default_rng(1)
    bounds = LinearSum().sensitivities(data)
    if uniform:
        bounds = Sensitivities(bounds.values + data.weights / data.weights.sum())
    embedded = LinearFeatures().embed(data, bounds)
    units = embedded.walked.units
    assert np.max(np.linalg.norm(units, axis=1)) <= 1.0 + 1e3 * EPS
    for x in rng.standard_normal((4, 3)):
        images = data.weights * (data.points @ x)
        scaled = images / np.abs(images).sum() / bounds.values
        xi, *_ = np.linalg.lstsq(units, scaled, rcond=None)
        assert units @ xi == pytest.approx(scaled, abs=1e5 * EPS)
        assert np.linalg.norm(xi) <= embedded.bound.norm * (1.0 + 1e-6)


def test_absolute_values_are_explained_up_to_the_residual_that_is_stated() -> None:
    data, rng = heavy(300, 3), np.random.default_rng(1)
    loss = AbsoluteSum()
    bounds = loss.sensitivities(data)
    embedded = AbsoluteFeatures().embed(data, bounds)
    psi = vectorised(embedded.walked.units, embedded.walked.coefficients)  # type: ignore[arg-type]
    assert np.max(np.linalg.norm(psi, axis=1)) <= 1.0 + 1e3 * EPS
    for x in rng.standard_normal((4, 3)):
        costs = data.weights * loss.costs(data, x)
        scaled = costs / costs.sum() / bounds.values
        linear = np.linalg.lstsq(embedded.walked.units, data.weights * (data.points @ x) / bounds.values)[0]
        y = linear / np.linalg.norm(linear)
        size = np.linalg.norm(linear) / costs.sum()
        xi = size * np.concatenate(
            [[17.0**0.5 / 8.0], np.zeros(3), (17.0 / 8.0) ** 0.5 * np.outer(y, y).ravel()]
        )
        assert np.max(np.abs(psi @ xi - scaled)) <= embedded.bound.residual + 1e6 * EPS
        assert np.linalg.norm(xi) <= embedded.bound.norm * (1.0 + 1e6 * EPS)


# ---- promises


@pytest.mark.parametrize(
    ("loss", "features"),
    [
        (LeastSquares(), GramFeatures()),
        (LeastSquares(intercept=True), GramFeatures(intercept=True)),
        (LinearSum(), LinearFeatures()),
    ],
    ids=["squares", "with an intercept", "linear"],
)
def test_an_accuracy_is_reached_by_the_size_that_the_theorem_gives(loss: Any, features: Any) -> None:
    data = heavy(4000)
    reducer = HalvingReducer(loss, features)
    wanted = Accuracy(0.25, 0.1)
    coreset = reducer.reduce(data, accuracy=wanted, rng=0)
    assert coreset.accuracy == wanted
    claim = HalvingReducer(loss, features).claim(data)
    assert isinstance(claim.parameters, HalvingSubspaceClass)
    assert coreset.support_size <= claim.size(wanted) < data.n
    if isinstance(loss, LeastSquares):
        evidence = coreset.certificates[-1]
        assert evidence.holds
        assert evidence.value < 0.25


def test_absolute_sums_are_promised_in_the_residual_form_only() -> None:
    data = heavy(3000)
    for loss in (AbsoluteSum(), L1Regression()):
        with pytest.raises(AssumptionError, match="leave a residual"):
            HalvingReducer(loss, AbsoluteFeatures()).claim(data)
        reducer = HalvingReducer(loss, AbsoluteFeatures(), queries=10)
        parameters = reducer.claim(data).parameters
        assert parameters.features.residual >= 0.125
    # Four times the points halve the error at most, as with independent draws.
    errors = [HalvingFinite().epsilon(parameters, m, 0.1) for m in (10**7, 4 * 10**7)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=1e-2)


def test_what_no_theorem_covers_has_an_infinite_epsilon_and_refuses_accuracies() -> None:
    data = heavy(500)
    for reducer in (
        HalvingReducer(LeastSquares(), GramFeatures(), Aggressive()),
        HalvingReducer(AbsoluteSum(), LinearFeatures()),
        HalvingReducer(LeastSquares(intercept=True), GramFeatures()),
    ):
        assert reducer.reduce(data, size=100, rng=0).accuracy.epsilon == math.inf
        with pytest.raises(AssumptionError):
            reducer.reduce(data, accuracy=Accuracy(0.5, 0.1), rng=0)


def test_a_clip_withdraws_the_promise_and_is_certified() -> None:
    data = WeightedSet(np.ones((4000, 1)))
    features = MappedFeatures(lambda data: np.asarray(data.points))

    class Tight(Provable):
        def factor(self, steps: int) -> float:
            return 0.1

    alternating = WeightedSet(np.resize([1.0, -1.0], (4000, 1)))
    coreset = HalvingReducer(BoundedSum(), features, Tight()).reduce(alternating, size=500, rng=0)
    (evidence,) = (c for c in coreset.certificates if c.name == HALVING)
    assert evidence.value > 0.0
    assert evidence.holds is False
    assert coreset.accuracy.epsilon == math.inf
    honest = HalvingReducer(BoundedSum(), features).reduce(data, size=500, rng=0)
    (evidence,) = (c for c in honest.certificates if c.name == HALVING)
    assert evidence.holds
    assert evidence.details["rounds"] == 3.0
    assert evidence.details["points kept with probability 2^-3"] == 4000.0
    assert honest.accuracy.epsilon < 1.0


def test_aggressive_walks_are_certified_without_a_bound() -> None:
    coreset = HalvingReducer(LeastSquares(), GramFeatures(), Aggressive()).reduce(heavy(), size=300, rng=0)
    (evidence,) = (c for c in coreset.certificates if c.name == HALVING)
    assert evidence.bound is None


@pytest.mark.parametrize("kappa", [0.7, 3.0, 80.0])
def test_the_level_for_an_accuracy_is_the_inverse_of_the_error_at_a_level(kappa: float) -> None:
    law = HalvingFinite()
    for features in (FeatureBound(), FeatureBound(1.5, 0.125, 1.5)):
        parameters = HalvingClass(5.0, 1000, features, 20)
        epsilon = law.epsilon_at(parameters, kappa, 0.1)
        assert law.kappa(parameters, Accuracy(epsilon, 0.1)) == pytest.approx(kappa, rel=100 * EPS)


# ---- the coreset as a value


def test_sizes_at_the_edges_return_everything() -> None:
    data = heavy(50)
    reducer = HalvingReducer(LeastSquares(), GramFeatures())
    for asked in ({"size": 50}, {"size": 99}, {"accuracy": Accuracy.exact()}):
        coreset = reducer.reduce(data, rng=0, **asked)
        assert coreset.accuracy.is_exact
        assert coreset.support_size == 50
    zero = WeightedSet(np.zeros((9, 2)))
    assert reducer.reduce(zero, size=3, rng=0).accuracy.is_exact
    assert HalvingReducer(LeastSquares(), GramFeatures()).reduce(data, size=1, rng=0).support_size <= 1


@settings(max_examples=10)
@given(seed=seeds, factor=st.sampled_from([0.25, 8.0]))
def test_scaling_points_or_weights_by_powers_of_two_changes_nothing(seed: int, factor: float) -> None:
    data = heavy(200, seed=seed)
    for loss, features in ((LeastSquares(), GramFeatures()), (LinearSum(), LinearFeatures())):
        reducer = HalvingReducer(loss, features)
        plain = reducer.reduce(data, size=40, rng=seed)
        scaled = reducer.reduce(WeightedSet(data.points, factor * data.weights), size=40, rng=seed)
        assert np.array_equal(plain.indices, scaled.indices)
        assert np.array_equal(factor * plain.weights, scaled.weights)


def test_the_same_seed_gives_the_same_coreset_and_another_one_another() -> None:
    reducer, data = HalvingReducer(LeastSquares(), GramFeatures()), heavy()
    first, again, other = (reducer.reduce(data, size=200, rng=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.indices, again.indices)
    assert not np.array_equal(first.indices, other.indices)


def test_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    data = heavy()
    tensors = WeightedSet(torch.from_numpy(data.points), torch.from_numpy(data.weights))
    for loss, features in ((LeastSquares(), GramFeatures()), (LinearSum(), LinearFeatures())):
        reducer = HalvingReducer(loss, features)
        found, expected = reducer.reduce(tensors, size=100, rng=3), reducer.reduce(data, size=100, rng=3)
        assert isinstance(found.weights, torch.Tensor)
        assert np.array_equal(found.indices.numpy(), expected.indices)
        assert np.array_equal(found.weights.numpy(), expected.weights)


def test_kernels_and_rows_with_the_same_inner_products_keep_the_same_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((600, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    data = WeightedSet(points)
    by_rows = HalvingReducer(BoundedSum(), MappedFeatures(lambda data: np.asarray(data.points)))
    by_kernel = HalvingReducer(BoundedSum(), KernelFeatures(lambda x, y: x @ y.T), queries=5)
    rows, kernel = (reducer.reduce(data, size=150, rng=4) for reducer in (by_rows, by_kernel))
    assert np.array_equal(rows.indices, kernel.indices)
    assert rows.total_weight == 600.0
    assert kernel.accuracy.epsilon < 1.0


def test_halving_beats_independent_choices_for_what_is_explained() -> None:
    """Mean squares of 60 runs; those of independent signs are about ten times as large."""
    data = WeightedSet(np.resize([1.0, -1.0], (4096, 1)))
    features = MappedFeatures(lambda data: np.asarray(data.points))
    errors = {}
    for threshold in (Provable(), Aggressive(1.0), Aggressive(1e12)):
        reducer = HalvingReducer(BoundedSum(), features, threshold)
        sums = []
        for seed in range(60):
            coreset = reducer.reduce(data, size=512, rng=seed)
            sums.append(float(coreset.weights @ data.points[coreset.indices, 0]))
        errors[type(threshold).__name__, getattr(threshold, "c", 0.0)] = float(np.mean(np.square(sums)))
    provable, aggressive, coins = errors.values()
    assert 5.0 * provable < coins
    assert aggressive < provable


def reduced(**asked: Any) -> Any:
    return HalvingReducer(LeastSquares(), GramFeatures()).reduce(heavy(50), rng=0, **asked)


def mapped(rows: np.ndarray) -> Any:
    data = WeightedSet(np.ones((10, 1)))
    return HalvingReducer(BoundedSum(), MappedFeatures(lambda _: rows)).reduce(data, size=3, rng=0)


def kernel(function: Any, **settings: Any) -> Any:
    data = WeightedSet(np.ones((10, 1)))
    return HalvingReducer(BoundedSum(), KernelFeatures(function, **settings)).reduce(data, size=3, rng=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HalvingReducer(object(), GramFeatures()), TypeError, "lacks a method"),  # type: ignore[arg-type]
        (lambda: HalvingReducer(LeastSquares, GramFeatures()), TypeError, "pass an instance"),  # type: ignore[arg-type]
        (lambda: HalvingReducer(LeastSquares(), GramFeatures), TypeError, "features = "),  # type: ignore[arg-type]
        (lambda: HalvingReducer(LeastSquares(), GramFeatures(), 0.1), TypeError, "pass Provable"),  # type: ignore[arg-type]
        (lambda: HalvingReducer(LeastSquares(), GramFeatures(), queries=0), ValueError, "queries = 0"),
        (lambda: HalvingReducer(LeastSquares(), GramFeatures(), certify=1), TypeError, "certify = 1"),  # type: ignore[arg-type]
        (lambda: reduced(size=0), ValueError, "size = 0 is too small"),
        (reduced, ValueError, "exactly one of the two"),
        (lambda: reduced(accuracy=0.1), TypeError, "pass Accuracy"),
        (lambda: reduced(accuracy=Accuracy(1.5, 0.1)), ValueError, "epsilon = 1.5"),
        (lambda: reduced(accuracy=Accuracy(0.5, 0.0)), ValueError, "delta = 0"),
        (lambda: MappedFeatures(3), TypeError, "not callable"),  # type: ignore[arg-type]
        (lambda: MappedFeatures(np.ones, 0.0), ValueError, "length = 0.0"),
        (lambda: mapped(np.full((10, 1), 2.0)), ValueError, "a feature has length 2"),
        (lambda: mapped(np.ones((3, 1))), ValueError, r"expected \(10, k\)"),
        (lambda: kernel(lambda x, y: 2.0 * np.eye(10)), ValueError, "exceeds 1"),
        (lambda: kernel(lambda x, y: np.eye(3)), ValueError, r"expected \(10, 10\)"),
        (lambda: kernel(lambda x, y: np.eye(10), most=5), ValueError, "in a stream"),
        (lambda: kernel(lambda x, y: -0.1 + 1.1 * np.eye(10), non_negative=True), ValueError, "negative"),
        (lambda: FeatureBound(norm=0.0), ValueError, "norm = 0 is not positive"),
        (lambda: FeatureBound(residual=-1.0), ValueError, "residual = -1 is negative"),
        (lambda: FeatureBound(spread=3.0), ValueError, r"spread = 3 is outside \[1, 2\]"),
        (
            lambda: HalvingSubspaceClass(2.0, 10, FeatureBound(residual=0.1)),
            ValueError,
            "explain the losses exactly",
        ),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
