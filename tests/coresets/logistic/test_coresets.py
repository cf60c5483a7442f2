"""Coresets of logistic regressions: shares, complexity, draws, streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from coresets import IID, Accuracy, AssumptionError, FixedSize, Poisson, Sensitivities, WeightedSet
from coresets.guarantees import LogisticComplexityIID
from coresets.logistic import (
    AverageLogisticObjective,
    ComplexityShares,
    LogisticCoreset,
    LogisticObjective,
    NormShares,
    complexity,
    complexity_from_multipliers,
    train_logistic,
)
from coresets.sensitivity import lewis_weights
from coresets.streams import MergeReduce, NodeSize, PartReducer
from coresets.svm import (
    RBF,
    FreeIntercept,
    Intercept,
    LabelledSet,
    Linear,
    LinearModel,
    NoIntercept,
    RegularisedIntercept,
)

EPS = float(np.finfo(np.float64).eps)
INTERCEPTS: list[Intercept] = [FreeIntercept(), RegularisedIntercept(2.0), NoIntercept()]
BOUNDS = [NormShares(), ComplexityShares()]
seeds = st.integers(0, 2**32 - 1)


def name_of(value: object) -> str:
    return type(value).__name__


def overlapping(n: int, d: int, seed: int) -> LabelledSet:
    """Two classes whose labels are nearly coin tosses, in equal numbers on both sides."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((n // 2, d))
    points = np.concatenate([half, half + 0.3 * rng.standard_normal((n // 2, d))])
    y = np.repeat([-1, 1], n // 2)
    return LabelledSet(points, y, rng.uniform(0.5, 2.0, n))


def rows_of(data: LabelledSet, intercept: Intercept) -> np.ndarray:
    rows = np.asarray(data.points)
    if intercept.free or intercept.scale > 0.0:
        rows = np.column_stack([rows, np.ones(data.n)])
    return rows * data.signs[:, None]


def attained_shares(data: LabelledSet, objective: LogisticObjective, *, regularised: bool) -> np.ndarray:
    """Largest shares over many models: multiples of rows, of random directions, and around the optimum."""
    rows = rows_of(data, objective.intercept)
    rng = np.random.default_rng(0)
    best = train_logistic(data, objective).best
    start = np.append(best.w, best.b)[: rows.shape[1]]
    directions = np.vstack([-rows, rng.standard_normal((300, rows.shape[1])), start])
    lengths = np.append(0.0, np.geomspace(1e-2, 1e4, 40))
    models = (lengths[:, None, None] * directions).reshape(-1, rows.shape[1])
    models = np.vstack([models, start + 0.3 * directions])
    losses = objective.lam * data.weights * np.logaddexp(0.0, -(models @ rows.T))
    total = losses.sum(axis=1)
    if regularised:
        prices = np.ones(rows.shape[1])
        if objective.intercept.free or objective.intercept.scale > 0.0:
            scale = objective.intercept.scale
            prices[-1] = 1.0 / scale**2 if scale else 0.0
        total = total + 0.5 * np.square(models) @ prices
    return np.asarray((losses / total[:, None]).max(axis=0))


# ---- shares


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=name_of)
@pytest.mark.parametrize("lam", [0.01, 1.0, 30.0])
def test_no_share_that_is_attained_exceeds_its_bound(intercept: Intercept, lam: float) -> None:
    data, objective = overlapping(60, 2, 1), LogisticObjective(lam, intercept)
    rng = np.random.default_rng(0)
    by_norms = NormShares().sensitivities(data, objective, rng).values
    assert np.all(attained_shares(data, objective, regularised=True) <= by_norms * (1.0 + 1e-12))
    by_complexity = ComplexityShares().sensitivities(data, objective, rng).values
    assert np.all(attained_shares(data, objective, regularised=False) <= by_complexity * (1.0 + 1e-12))


def test_the_bound_by_complexity_is_nearly_attained() -> None:
    """One small point against many on the other side of the origin takes the share (1 + mu) tau."""
    data = LabelledSet(np.append(np.full(40, 1e3), 100.0)[:, None], np.append(np.ones(40), -1.0))
    objective = LogisticObjective(1.0, NoIntercept())
    bound = ComplexityShares().sensitivities(data, objective, 0).values[-1]
    share = attained_shares(data, objective, regularised=False)[-1]
    # Its own part is 1 of the bound, the constant part (1 + 400) / 82; both are computed by hand.
    assert bound == pytest.approx(1.0 + 401.0 / 82.0, rel=1e-6)
    assert share == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("bounds", BOUNDS, ids=name_of)
@pytest.mark.parametrize("intercept", INTERCEPTS, ids=name_of)
class TestLawsOfTheBounds:
    def values(self, bounds: Any, data: LabelledSet, intercept: Intercept) -> np.ndarray:
        found = bounds.sensitivities(data, LogisticObjective(0.3, intercept), 0)
        return np.asarray(found.values)

    def test_they_do_not_depend_on_the_order(self, bounds: Any, intercept: Intercept) -> None:
        data = overlapping(80, 2, 2)
        order = np.random.default_rng(0).permutation(80)
        moved = self.values(bounds, data.take(order, data.weights[order]), intercept)
        assert moved == pytest.approx(self.values(bounds, data, intercept)[order], rel=1e-6)

    def test_exchanging_the_classes_changes_nothing(self, bounds: Any, intercept: Intercept) -> None:
        data = overlapping(80, 2, 3)
        other = LabelledSet(data.points, -data.signs, data.weights)
        assert self.values(bounds, other, intercept) == pytest.approx(
            self.values(bounds, data, intercept), rel=1e-6
        )

    def test_two_copies_of_half_the_mass_share_the_bound(self, bounds: Any, intercept: Intercept) -> None:
        data = overlapping(80, 2, 4)
        twice = LabelledSet(
            np.tile(data.points, (2, 1)), np.tile(data.labels, 2), np.tile(0.5 * data.weights, 2)
        )
        both = self.values(bounds, twice, intercept)
        assert both[:80] + both[80:] == pytest.approx(self.values(bounds, data, intercept), rel=1e-6)

    def test_points_without_mass_have_none(self, bounds: Any, intercept: Intercept) -> None:
        data = overlapping(80, 2, 5)
        weights = np.where(np.arange(80) % 7 == 3, 0.0, data.weights)
        values = self.values(bounds, LabelledSet(data.points, data.labels, weights), intercept)
        assert np.all((values == 0.0) == (weights == 0.0))

    def test_sparse_rows_give_the_same(self, bounds: Any, intercept: Intercept) -> None:
        data = overlapping(80, 2, 6)
        thin = LabelledSet(sparse.csr_matrix(data.points), data.labels, data.weights)
        assert self.values(bounds, thin, intercept) == pytest.approx(
            self.values(bounds, data, intercept), rel=1e-6
        )


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=name_of)
def test_a_linear_kernel_bounds_no_less_than_the_points_themselves(intercept: Intercept) -> None:
    data, objective = overlapping(60, 2, 7), LogisticObjective(0.1, intercept)
    shares = NormShares(kernel=Linear()).sensitivities(data, objective, 0)
    assert np.all(attained_shares(data, objective, regularised=True) <= shares.values)


def test_images_of_one_length_are_drawn_by_mass() -> None:
    data = overlapping(60, 2, 8)
    shares = NormShares(kernel=RBF(1.0)).sensitivities(data, LogisticObjective(0.1), 0)
    assert shares.values / data.weights == pytest.approx(np.full(60, shares.values[0] / data.weights[0]))


@pytest.mark.parametrize("bounds", BOUNDS, ids=name_of)
def test_the_shares_of_the_parts_are_those_that_the_claim_uses(bounds: Any) -> None:
    data = overlapping(80, 2, 9)
    reducer = LogisticCoreset(LogisticObjective(0.1), bounds)
    found = reducer.sensitivities(data, rng=0)
    shares = reducer.claim(found).parameters.shares
    assert sum(shares) == pytest.approx(1.0, abs=1e-12)
    if isinstance(bounds, ComplexityShares):
        assert shares == pytest.approx((0.5 / 3.5, 3.0 / 3.5), rel=1e-6)  # rank 3 with the constant
    mixed = found.with_defensive_mixing(data.weights)
    assert sum(reducer.claim(mixed).parameters.shares) == pytest.approx(found.total / mixed.total)


# ---- complexity


def brute_force_complexity(rows: np.ndarray, weights: np.ndarray) -> float:
    """Ratios are quasi-linear between the lines on which a point changes sides, so these are enough."""
    rays = rows @ np.array([[0.0, -1.0], [1.0, 0.0]]) if rows.shape[1] == 2 else np.ones((1, 1))
    images = weights[:, None] * (rows @ np.vstack([rays, -rays]).T)
    return float((np.maximum(images, 0.0).sum(axis=0) / np.maximum(-images, 0.0).sum(axis=0)).max())


@pytest.mark.parametrize("intercept", [True, False])
@settings(max_examples=25)
@given(seed=seeds)
def test_complexity_is_that_of_all_directions(intercept: bool, seed: int) -> None:
    data = overlapping(20, 1 if intercept else 2, seed)
    rows = rows_of(data, FreeIntercept() if intercept else NoIntercept())
    expected = brute_force_complexity(rows, data.weights)
    found = complexity(data, intercept=intercept)
    # The solver's feasibility tolerance is 1e-7, the margins are of order 1.
    assert found.attained <= expected * (1.0 + 1e-12) <= found.mu * (1.0 + 2e-12)
    assert found.mu == pytest.approx(expected, rel=1e-5)
    residual = (data.weights * found.multipliers) @ rows
    assert np.abs(residual).max() <= 1e3 * EPS * float(data.weights @ found.multipliers) * np.abs(rows).max()


@settings(max_examples=10)
@given(seed=seeds)
def test_any_multipliers_bound_the_complexity(seed: int) -> None:
    data = overlapping(60, 2, seed)
    mu = complexity(data).mu
    rng = np.random.default_rng(seed)
    assert complexity_from_multipliers(data, rng.uniform(0.9, 1.1, 60)) >= mu * (1.0 - 1e-8)
    steep = LogisticObjective(1e6)
    margins = steep.scan(data, train_logistic(data, steep).best).margins
    assert np.inf > complexity_from_multipliers(data, 1.0 / (1.0 + np.exp(margins))) >= mu * (1.0 - 1e-8)


def test_complexity_does_not_see_a_change_of_coordinates() -> None:
    data = overlapping(60, 2, 10)
    moved = LabelledSet(data.points @ np.array([[2.0, 1.0], [0.0, -30.0]]) + 5.0, data.labels, data.weights)
    assert complexity(moved).mu == pytest.approx(complexity(data).mu, rel=1e-6)


def test_classes_that_nothing_tells_apart_have_complexity_one() -> None:
    points = np.random.default_rng(0).standard_normal((30, 2))
    data = LabelledSet(np.vstack([points, points]), np.repeat([0, 1], 30))
    assert complexity(data).mu == pytest.approx(1.0, abs=1e-6)
    assert train_logistic(data, LogisticObjective(1e6)).dual == pytest.approx(
        1e6 * 60 * np.log(2.0), rel=1e-6
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_model_costs_less_than_complexity_allows(seed: int) -> None:
    data = overlapping(60, 2, seed)
    best = train_logistic(data, LogisticObjective(1e6)).primal / 1e6  # the regulariser only adds
    assert LogisticComplexityIID.least_cost(complexity(data).mu, data.total_weight) <= best


@pytest.mark.parametrize(
    "points",
    [[-1.0, -2.0, 1.0, 3.0], [0.0, -2.0, 0.0, 3.0], [-1.0, -1.0, 1.0, 1.0]],
    ids=["apart", "touching", "two places"],
)
def test_separable_classes_are_refused_with_a_way_out(points: list[float]) -> None:
    data = LabelledSet(np.array(points)[:, None], [0, 0, 1, 1])
    with pytest.raises(AssumptionError, match=r"separable.*use NormShares\(\)"):
        complexity(data)
    with pytest.raises(AssumptionError, match="separable"):
        LogisticCoreset(LogisticObjective(), ComplexityShares()).reduce(data, size=2, rng=0)
    assert LogisticCoreset().reduce(data, size=2, rng=0).size == 2


# ---- coresets


@pytest.mark.parametrize("sampler", [IID(), Poisson()], ids=name_of)
@pytest.mark.parametrize("bounds", BOUNDS, ids=name_of)
def test_errors_stay_within_what_is_promised(bounds: Any, sampler: Any) -> None:
    data = overlapping(6000, 1, 11)
    objective = LogisticObjective(1e-5, NoIntercept())
    reducer = LogisticCoreset(objective, bounds, sampler, delta=0.01)
    coreset = reducer.reduce(data, size=2500, rng=3)
    assert coreset.accuracy.epsilon < 1.0
    kept = data.kept(coreset)
    for w in (-1e4, -3.0, -0.1, 0.0, 0.2, 10.0, 1e4):
        full, few = (objective.value(one, LinearModel(np.array([w]))) for one in (data, kept))
        assert abs(few / full - 1.0) <= coreset.accuracy.epsilon


def test_an_accuracy_is_met_by_the_size_of_the_theorem() -> None:
    data = overlapping(6000, 1, 12)
    reducer = LogisticCoreset(LogisticObjective(1e-5, NoIntercept()))
    claim = reducer.claim(reducer.sensitivities(data, rng=np.random.default_rng(1)))
    coreset = reducer.reduce(data, accuracy=Accuracy(0.5, 0.1), rng=np.random.default_rng(1))
    assert coreset.size == claim.size(Accuracy(0.5, 0.1)) < data.n
    assert coreset.accuracy == Accuracy(0.5, 0.1)


@pytest.mark.parametrize("request_", [{"size": 5000}, {"accuracy": Accuracy(1e-9, 1e-9)}], ids=str)
def test_what_all_points_are_needed_for_returns_all_points(request_: Any) -> None:
    data = overlapping(500, 2, 13)
    coreset = LogisticCoreset().reduce(data, **request_, rng=0)
    assert coreset.accuracy.is_exact
    assert np.array_equal(coreset.weights, data.weights)


def test_fitting_on_a_coreset_comes_with_a_certificate_for_all_the_data() -> None:
    rng = np.random.default_rng(14)
    y = np.where(rng.random(20000) < 0.1, "yes", "no")
    X = rng.standard_normal((20000, 3)) + (y == "yes")[:, None]
    data = WeightedSet(X, labels=y)
    fit = LogisticCoreset(LogisticObjective(0.01)).fit(data, size=2000, rng=1)
    best = train_logistic(data, LogisticObjective(0.01))
    true = LogisticObjective(0.01).value(LabelledSet.of(data), fit.model) / best.primal - 1.0
    assert fit.certificate is not None
    assert true - 1e-6 <= fit.certificate.gap <= true + 2e-3
    assert fit.coreset.certificates[-1].value == fit.certificate.gap
    probabilities = fit.predict_proba(X[:50])
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(50), abs=4 * EPS)
    assert np.array_equal(fit.predict(X[:50]), np.where(probabilities[:, 1] > 0.5, "yes", "no"))


def test_the_same_seed_draws_the_same() -> None:
    data = overlapping(1000, 2, 15)
    first, second = (LogisticCoreset().reduce(data, size=50, rng=7) for _ in range(2))
    assert np.array_equal(first.indices, second.indices)
    assert np.array_equal(first.weights, second.weights)


# ---- streams


def test_a_stream_whose_blocks_lack_a_class_answers_like_the_whole() -> None:
    data = overlapping(8000, 1, 16)  # the classes arrive one after the other
    average = AverageLogisticObjective(1.0, RegularisedIntercept())
    reducer = LogisticCoreset(average, classes=(-1, 1))
    assert isinstance(reducer, PartReducer)
    stream = MergeReduce(reducer, NodeSize(800), block=1600, rng=1)
    for rows in np.split(np.arange(8000), 8):
        stream.push(WeightedSet(data.points[rows], data.weights[rows], data.labels[rows]))
    result = stream.result()
    kept = LabelledSet.of(result.data)
    whole = average.of_mass(data.total_weight)
    for v in ((0.0, 0.0), (1.0, -0.5), (-3.0, 2.0)):
        model = LinearModel(np.array(v[:1]), v[1])
        # Seven reductions to 800 points of shares that are nearly even: each errs by about 1/30.
        assert whole.value(kept, model) == pytest.approx(whole.value(data, model), rel=0.3)


def test_a_part_is_priced_by_its_own_mass() -> None:
    reducer = LogisticCoreset(AverageLogisticObjective(0.25))
    assert reducer.for_part(20.0).objective == LogisticObjective(0.2)
    assert reducer.for_part(20.0).bounds == reducer.bounds
    data = overlapping(100, 2, 17)
    whole = LogisticCoreset(AverageLogisticObjective(0.25).of_mass(data.total_weight))
    assert np.array_equal(
        whole.reduce(data, size=30, rng=2).weights, reducer.reduce(data, size=30, rng=2).weights
    )


# ---- refusals


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LogisticCoreset(1.0), TypeError, r"objective = 1.0; pass LogisticObjective\(lam=C\)"),  # type: ignore[arg-type]
        (lambda: LogisticCoreset(bounds=NormShares), TypeError, r"pass NormShares\(\)"),  # type: ignore[arg-type]
        (lambda: LogisticCoreset(sampler=IID), TypeError, r"pass Poisson\(\) or IID\(\)"),  # type: ignore[arg-type]
        (lambda: LogisticCoreset(delta=1.0), ValueError, "delta = 1 is not strictly between"),
        (lambda: LogisticCoreset().for_part(2.0), TypeError, "needs the total mass"),
        (lambda: NormShares(low=0.0), ValueError, "low = 0 is not positive"),
        (lambda: NormShares(pilot=1), ValueError, "pilot = 1 is too small"),
        (lambda: ComplexityShares(0.9), ValueError, "mu = 0.9 is below 1"),
    ],
)
def test_wrong_parts_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_wrong_requests_are_named() -> None:
    data = overlapping(40, 2, 18)
    with pytest.raises(ValueError, match="pass exactly one of the two"):
        LogisticCoreset().reduce(data, rng=0)
    with pytest.raises(TypeError, match=r"pass Accuracy\(epsilon, delta\)"):
        LogisticCoreset().reduce(data, accuracy=0.1, rng=0)  # type: ignore[arg-type]
    with pytest.raises(AssumptionError, match=r"no theorem promises.*dependent rounding.*use IID or Poisson"):
        LogisticCoreset(sampler=FixedSize()).reduce(data, size=5, rng=0)
    with pytest.raises(AssumptionError, match="do not say of which parts"):
        LogisticCoreset().claim(Sensitivities(np.ones(40)))
    with pytest.raises(TypeError, match="data is a ndarray"):
        LogisticCoreset().reduce(data.points, size=5, rng=0)
    with pytest.raises(ValueError, match="the data have no labels"):
        LogisticCoreset(classes=(0, 1)).reduce(WeightedSet(data.points), size=5, rng=0)
    with pytest.raises(ValueError, match=r"multipliers has shape \(3,\); pass 40"):
        complexity_from_multipliers(data, np.ones(3))
    one = LabelledSet(data.points, np.ones(40), classes=np.array([0.0, 1.0]))
    with pytest.raises(AssumptionError, match="one class has no mass"):
        LogisticCoreset().reduce(one, size=5, rng=0)


def test_lewis_weights_do_not_see_the_signs() -> None:
    data = overlapping(60, 2, 19)
    shares = ComplexityShares(mu=3.0).sensitivities(data, LogisticObjective(), 0).values
    plain = lewis_weights(np.column_stack([data.points, np.ones(60)]), data.weights).values
    expected = 4.0 * (plain + data.weights / (2.0 * data.total_weight))
    assert shares == pytest.approx(expected, rel=1e-8)
