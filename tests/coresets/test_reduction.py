"""The reducer: its arguments, its shortcuts, reproducibility, libraries, and user-defined losses."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from coresets import (
    IID,
    Accuracy,
    AssumptionError,
    Claim,
    Coreset,
    FiniteQueries,
    FixedSize,
    Hybrid,
    L1Regression,
    LeastSquares,
    Loss,
    Poisson,
    Sampler,
    Scheme,
    Sensitivities,
    SensitivityReducer,
    Top,
    WeightedSet,
)
from coresets.finite_queries import claim_for_finite
from coresets.guarantees import VCIID, VCClass
from coresets.weighted_set import to_host

EPS = float(np.finfo(np.float64).eps)
SAMPLERS: list[Sampler] = [IID(), Poisson(), FixedSize(), Hybrid(), Top()]

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def name_of(value: object) -> str:
    return type(value).__name__


def regression(n: int = 400, d: int = 3, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    points = rng.standard_t(3, (n, d))
    return WeightedSet(points, rng.uniform(0.5, 2.0, n), points.sum(axis=1) + rng.standard_normal(n))


class Thresholds:
    """A caller's own loss, the excess over each of three thresholds, written against the protocol."""

    queries = (0.0, 0.5, 1.0)

    def costs(self, data: WeightedSet, query: float) -> Any:
        return np.maximum(data.points[:, 0] - query, 0.0)

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        shares = [data.weights * self.costs(data, q) for q in self.queries]
        return Sensitivities(np.max([s / (s.sum() or 1.0) for s in shares], axis=0))

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        return claim_for_finite(sensitivities, len(self.queries), scheme)


def total(loss: Loss, data: WeightedSet, query: Any) -> float:
    return float(np.sum(data.weights * loss.costs(data, query)))


# ---- arguments


def test_exactly_one_of_size_and_accuracy_is_needed() -> None:
    reducer = SensitivityReducer(LeastSquares())
    with pytest.raises(ValueError, match="size = None, accuracy = None; pass exactly one of the two"):
        reducer.reduce(regression(), rng=0)
    with pytest.raises(ValueError, match=r"size = 5, accuracy = Accuracy.*; pass exactly one of the two"):
        reducer.reduce(regression(), size=5, accuracy=Accuracy(0.1, 0.1), rng=0)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0])
def test_a_delta_out_of_range_is_refused_on_construction(delta: float) -> None:
    with pytest.raises(ValueError, match=r"delta = .* is not strictly between 0 and 1"):
        SensitivityReducer(LeastSquares(), delta=delta)


def test_a_loss_without_one_of_the_methods_is_a_type_error() -> None:
    for missing in ("costs", "sensitivities", "claim"):
        kind = type(
            "Partial", (), {k: v for k, v in vars(Thresholds).items() if k != missing and k[0] != "_"}
        )
        assert not isinstance(kind(), Loss)
        with pytest.raises(TypeError, match="lacks one of the methods costs, sensitivities, claim"):
            SensitivityReducer(kind())  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", [Hybrid(), Top()], ids=name_of)
def test_least_squares_names_the_samplers_that_its_theorem_covers(sampler: Sampler) -> None:
    with pytest.raises(AssumptionError, match="use IID, Poisson or FixedSize"):
        SensitivityReducer(LeastSquares(), sampler).reduce(regression(), size=50, rng=0)


@pytest.mark.parametrize("sampler", [FixedSize(), Hybrid(), Top()], ids=name_of)
def test_l1_regression_names_the_samplers_that_its_theorems_cover(sampler: Sampler) -> None:
    with pytest.raises(AssumptionError, match="use Poisson or IID"):
        SensitivityReducer(L1Regression(), sampler).reduce(regression(), size=50, rng=0)


# ---- shortcuts


@pytest.mark.parametrize("loss", [LeastSquares(), L1Regression(), Thresholds()], ids=name_of)
@pytest.mark.parametrize("request_", [{"size": 60}, {"size": 10**6}, {"accuracy": Accuracy.exact()}], ids=str)
def test_asking_for_everything_returns_everything_exactly(loss: Loss, request_: dict[str, Any]) -> None:
    data = regression(60)
    coreset = SensitivityReducer(loss).reduce(data, rng=0, **request_)
    assert coreset.accuracy.is_exact
    assert coreset.indices.tolist() == list(range(60))
    assert coreset.weights.tolist() == data.weights.tolist()
    assert coreset.size == request_.get("size", 60)
    assert all(c.holds is not False for c in coreset.certificates)


def test_an_accuracy_that_needs_more_points_than_there_are_returns_everything() -> None:
    data = regression(60)
    coreset = SensitivityReducer(LeastSquares()).reduce(data, accuracy=Accuracy(0.01, 0.01), rng=0)
    assert coreset.accuracy.is_exact
    assert coreset.size > data.n == coreset.support_size


def test_data_that_cost_nothing_are_returned_whole() -> None:
    coreset = SensitivityReducer(LeastSquares()).reduce(WeightedSet(np.zeros((5, 2))), size=2, rng=0)
    assert coreset.accuracy.is_exact
    assert coreset.support_size == 5
    assert coreset.certificates[0].value == 0.0


# ---- what is promised, and what comes back


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
def test_the_promise_is_that_of_the_claim(sampler: Sampler) -> None:
    data, reducer = regression(), SensitivityReducer(Thresholds(), sampler, delta=0.1)
    claim = reducer.claim(data)
    assert sampler.scheme in claim.guarantee.schemes
    by_size = reducer.reduce(data, size=40, rng=0)
    delta = 0.0 if sampler.scheme is Scheme.TOP else 0.1  # nothing is random about the top
    assert by_size.accuracy == claim.accuracy(40, delta)
    wanted = Accuracy(0.9, 0.5)
    by_accuracy = reducer.reduce(data, accuracy=wanted, rng=0)
    assert by_accuracy.size == claim.size(wanted)
    assert by_accuracy.accuracy == (wanted if by_accuracy.size < data.n else Accuracy.exact())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize("rng", [5, np.random.SeedSequence(5)], ids=name_of)
def test_a_seed_gives_the_same_coreset_each_time(sampler: Sampler, rng: Any) -> None:
    reducer = SensitivityReducer(Thresholds(), sampler)
    first, second = (reducer.reduce(regression(), size=30, rng=rng) for _ in range(2))
    assert first.indices.tolist() == second.indices.tolist()
    assert first.weights.tolist() == second.weights.tolist()


def test_a_generator_moves_on() -> None:
    generator, reducer = np.random.default_rng(0), SensitivityReducer(Thresholds())
    first, second = (reducer.reduce(regression(), size=30, rng=generator) for _ in range(2))
    assert first.indices.tolist() != second.indices.tolist()


@pytest.mark.parametrize("loss", [LeastSquares(), LeastSquares(intercept=True), L1Regression()], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_float32_data_keep_their_dtype(loss: Loss, dtype: type) -> None:
    data = regression()
    single = WeightedSet(data.points.astype(dtype), data.weights.astype(dtype), data.labels.astype(dtype))
    coreset = SensitivityReducer(loss).reduce(single, size=50, rng=0)
    assert coreset.weights.dtype == dtype
    assert coreset.of(single).points.dtype == dtype


@needs_torch
@pytest.mark.parametrize("loss", [LeastSquares(intercept=True), L1Regression()], ids=repr)
@pytest.mark.parametrize("sampler", [IID(), Poisson()], ids=name_of)
def test_torch_data_give_the_indices_of_numpy_data(loss: Loss, sampler: Sampler) -> None:
    torch = pytest.importorskip("torch")
    data = regression()
    tensors = WeightedSet(*(torch.tensor(a) for a in (data.points, data.weights, data.labels)))
    reducer = SensitivityReducer(loss, sampler)
    ours, theirs = reducer.reduce(data, size=60, rng=3), reducer.reduce(tensors, size=60, rng=3)
    assert type(theirs.weights) is torch.Tensor
    assert to_host(theirs.indices).tolist() == ours.indices.tolist()
    # Sensitivities are leverage scores of a well-conditioned set, or 60 fixed-point steps on them.
    np.testing.assert_allclose(to_host(theirs.weights), ours.weights, rtol=1e6 * EPS)


# ---- metamorphic laws


@pytest.mark.parametrize("loss", [LeastSquares(), L1Regression(), Thresholds()], ids=name_of)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(8, 80))
def test_permuting_the_points_permutes_the_sensitivities(loss: Loss, seed: int, n: int) -> None:
    data, order = regression(n, 3, seed), np.random.default_rng(seed).permutation(n)
    shuffled = WeightedSet(data.points[order], data.weights[order], data.labels[order])
    before, after = loss.sensitivities(data), loss.sensitivities(shuffled)
    # Heavy-tailed rows with n >= 2 d: condition numbers stay below 1e3. Lewis weights stop at a
    # certified ratio of their own, so their order of summation matters at that level.
    tolerance = 1e-3 if isinstance(loss, L1Regression) else 1e5 * EPS
    np.testing.assert_allclose(after.values, before.values[order], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("loss", [LeastSquares(), L1Regression(), Thresholds()], ids=name_of)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(8, 80), share=st.floats(0.1, 0.9))
def test_splitting_a_weight_splits_the_sensitivity_and_leaves_the_size(
    loss: Loss, seed: int, n: int, share: float
) -> None:
    data = regression(n, 3, seed)
    weights = np.append(data.weights, (1.0 - share) * data.weights[0])
    weights[0] *= share
    split = WeightedSet(
        np.vstack([data.points, data.points[:1]]), weights, np.append(data.labels, data.labels[0])
    )
    before, after = loss.sensitivities(data), loss.sensitivities(split)
    tolerance = 1e-3 if isinstance(loss, L1Regression) else 1e5 * EPS
    merged = np.append(after.values[0] + after.values[-1], after.values[1:-1])
    np.testing.assert_allclose(merged, before.values, rtol=tolerance, atol=tolerance)
    assert after.total == pytest.approx(before.total, rel=10 * tolerance)


@pytest.mark.parametrize("loss", [LeastSquares(), L1Regression()], ids=name_of)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.25, 2.0, 1024.0]))
def test_rescaling_all_rows_or_all_weights_changes_nothing(loss: Loss, seed: int, scale: float) -> None:
    data = regression(40, 3, seed)
    before = loss.sensitivities(data).values
    tolerance = 1e-3 if isinstance(loss, L1Regression) else 1e5 * EPS
    for scaled in (
        WeightedSet(scale * data.points, data.weights, scale * data.labels),
        WeightedSet(data.points, scale * data.weights, data.labels),
    ):
        np.testing.assert_allclose(loss.sensitivities(scaled).values, before, rtol=tolerance, atol=tolerance)


# ---- defensive mixing


def test_defensive_mixing_gives_free_points_a_chance_and_a_total_of_one_more() -> None:
    data = WeightedSet(np.array([[-1.0]] * 50 + [[2.0]] * 50))  # the first fifty cost nothing
    plain, mixed = (SensitivityReducer(Thresholds(), defensive=d) for d in (False, True))
    assert np.all(plain.sensitivities(data).values[:50] == 0.0)
    assert np.all(mixed.sensitivities(data).values > 0.0)
    assert mixed.sensitivities(data).total == pytest.approx(
        plain.sensitivities(data).total + 1.0, rel=100 * EPS
    )
    assert np.any(mixed.reduce(data, size=40, rng=0).indices < 50)
    assert np.all(plain.reduce(data, size=40, rng=0).indices >= 50)


# ---- a caller's own loss, and the estimates themselves


def test_a_loss_of_the_callers_own_plugs_in() -> None:
    data, loss = regression(5000), Thresholds()
    coreset = SensitivityReducer(loss).reduce(data, accuracy=Accuracy(0.2, 0.01), rng=0)
    assert coreset.support_size < data.n
    kept = coreset.of(data)
    for query in loss.queries:
        assert total(loss, kept, query) == pytest.approx(total(loss, data, query), rel=0.2)


@pytest.mark.parametrize("sampler", [IID(), Poisson(), FixedSize(), Hybrid()], ids=name_of)
def test_estimates_are_unbiased(sampler: Sampler) -> None:
    """A z-test on the mean of 1500 estimates.

    False alarms: two-sided 1e-6 for each of 4 samplers. Missed: the estimate has a relative
    standard deviation of at most 0.2 at size 60 (t <= 3, variance <= t / m), so its mean is known
    to 0.0052; a bias of 5% is 9.6 standard errors off and missed with probability below 1e-5.
    """
    data, loss = regression(300), Thresholds()
    reducer = SensitivityReducer(loss, sampler)
    generator = np.random.default_rng(12345)
    trials = 1500
    weighted = data.weights * loss.costs(data, 0.5)
    bounds = reducer.sensitivities(data).values
    estimates = np.empty(trials)
    for trial in range(trials):
        draw = sampler.draw(bounds, 60, generator)
        estimates[trial] = np.sum(weighted[draw.indices] * draw.kept_weights) / weighted.sum()
    error = float(estimates.std(ddof=1)) / np.sqrt(trials)
    assert error < 0.2 / np.sqrt(trials)
    assert abs(float(estimates.mean()) - 1.0) <= norm.isf(0.5e-6) * error
    # The weights of a coreset are those of a draw times the masses.
    coreset = reducer.reduce(data, size=60, rng=9)
    draw = sampler.draw(bounds, 60, np.random.default_rng(9))
    np.testing.assert_allclose(coreset.weights, draw.kept_weights * data.weights[draw.indices], rtol=4 * EPS)


def test_top_keeps_the_masses_and_its_error_stays_within_its_bound() -> None:
    data, loss = regression(300), Thresholds()
    coreset = SensitivityReducer(loss, Top()).reduce(data, size=60, rng=0)
    assert isinstance(coreset, Coreset)
    assert coreset.weights.tolist() == data.weights[coreset.indices].tolist()
    for query in loss.queries:
        error = abs(total(loss, coreset.of(data), query) / total(loss, data, query) - 1.0)
        assert error <= coreset.accuracy.epsilon + data.n * EPS


def test_finite_queries_is_such_a_loss() -> None:
    ours = FiniteQueries(Thresholds().costs, Thresholds.queries)
    data = regression()
    np.testing.assert_allclose(
        ours.sensitivities(data).values, Thresholds().sensitivities(data).values, rtol=100 * EPS
    )


def test_a_loss_that_names_a_theorem_for_another_sampler_is_refused() -> None:
    class Careless(LeastSquares):
        def claim(self, data: WeightedSet, sensitivities: Any, scheme: Scheme) -> Claim:
            return Claim(VCIID(), VCClass(sensitivities.total, 3))  # whatever the scheme

    data = WeightedSet(np.random.default_rng(0).standard_normal((50, 2)))
    with pytest.raises(AssumptionError, match="is not proved for independent inclusion"):
        SensitivityReducer(Careless(), Poisson()).reduce(data, size=10, rng=0)
