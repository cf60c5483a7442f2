"""Logistic regression: objective, training and certificates against independent references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from coresets import AssumptionError, WeightedSet
from coresets.logistic import (
    AverageLogisticObjective,
    LogisticDual,
    LogisticObjective,
    kernel_logistic_bound,
    logistic_certificate,
    logistic_lower_bound,
    train_logistic,
)
from coresets.svm import (
    FreeIntercept,
    Intercept,
    LabelledSet,
    Linear,
    LinearModel,
    NoIntercept,
    RegularisedIntercept,
)

EPS = float(np.finfo(np.float64).eps)
INTERCEPTS: list[Intercept] = [
    FreeIntercept(),
    RegularisedIntercept(),
    RegularisedIntercept(3.0),
    NoIntercept(),
]
seeds = st.integers(0, 2**32 - 1)


def problem(n: int, d: int, seed: int, *, rare: float = 0.5) -> LabelledSet:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < rare, 1, -1)
    y[:2] = (-1, 1)
    return LabelledSet(rng.standard_normal((n, d)) + 0.6 * y[:, None], y, rng.uniform(0.2, 2.0, n))


def written_out(data: LabelledSet, objective: LogisticObjective, v: Any) -> float:
    """The objective, from its definition."""
    w, b = np.asarray(v[: data.d]), float(v[data.d]) if len(v) > data.d else 0.0
    losses = np.log1p(np.exp(-data.signs * (data.points @ w + b)))
    scale = objective.intercept.scale
    penalty = w @ w + ((b / scale) ** 2 if scale else 0.0)
    return float(0.5 * penalty + objective.lam * data.weights @ losses)


def reference_optimum(data: LabelledSet, objective: LogisticObjective) -> float:
    """Value attained by a general-purpose minimiser: an upper bound on the optimum, tight to its accuracy."""
    columns = data.d + (not isinstance(objective.intercept, NoIntercept))
    found = minimize(
        lambda v: written_out(data, objective, v), np.zeros(columns), method="BFGS", options={"gtol": 1e-9}
    )
    return float(found.fun)


def any_model(data: LabelledSet, objective: LogisticObjective, rng: np.random.Generator) -> LinearModel:
    b = 0.0 if isinstance(objective.intercept, NoIntercept) else float(rng.standard_normal())
    return LinearModel(rng.standard_normal(data.d), b)


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=str)
class TestAgainstAGeneralMinimiser:
    @pytest.mark.parametrize("lam", [0.01, 0.3, 5.0])
    def test_no_lower_bound_exceeds_the_optimum(self, intercept: Intercept, lam: float) -> None:
        data, objective = problem(80, 3, 1), LogisticObjective(lam, intercept)
        best = reference_optimum(data, objective)
        rng = np.random.default_rng(0)
        bounds = [
            logistic_lower_bound(data, objective, rng=0, pilot=20),
            kernel_logistic_bound(data, objective, Linear(), rng=0, block=8),
        ]
        for _ in range(20):
            found = objective.scan(data, any_model(data, objective, rng))
            bounds.append(LogisticDual.of(found).bound(intercept))
        assert min(bounds) >= 0.0
        assert max(bounds) <= best * (1.0 + 1e-12)
        assert bounds[0] > 0.5 * best

    @pytest.mark.parametrize("lam", [0.01, 0.3, 5.0, 1e4])
    def test_training_reaches_the_optimum_that_it_certifies(self, intercept: Intercept, lam: float) -> None:
        data, objective = problem(80, 3, 2), LogisticObjective(lam, intercept)
        found = train_logistic(data, objective, tightness=1e-6)
        assert found.dual <= reference_optimum(data, objective) * (1.0 + 1e-9)
        assert found.dual <= found.best_primal <= found.primal
        assert found.gap <= 1e-6
        assert found.passes < 60

    def test_the_certified_gap_is_near_the_true_one(self, intercept: Intercept) -> None:
        data, objective = problem(400, 4, 3), LogisticObjective(0.05, intercept)
        trained = train_logistic(data, objective)
        for factor in (0.0, 0.3, 0.8, 1.0, 1.5):
            model = LinearModel(factor * trained.best.w)
            found = logistic_certificate(data, model, objective, tightness=1e-4)
            true = objective.value(data, model) / trained.best_primal - 1.0
            # Tightness is how far the lower bound may be below the optimum.
            assert true - 1e-9 <= found.gap <= (1.0 + true) * 1.0001 - 1.0 + 1e-6
            assert found.best_primal <= trained.primal * (1.0 + 1.1e-4)

    def test_the_value_is_the_written_out_one(self, intercept: Intercept) -> None:
        data, objective = problem(50, 3, 4), LogisticObjective(0.7, intercept)
        model = any_model(data, objective, np.random.default_rng(1))
        expected = written_out(data, objective, np.append(model.w, model.b))
        assert objective.value(data, model) == pytest.approx(expected, rel=100 * EPS)

    def test_sparse_and_dense_rows_give_the_same(self, intercept: Intercept) -> None:
        dense = problem(300, 4, 5)
        rows = np.where(np.abs(dense.points) < 0.4, 0.0, dense.points)
        objective = LogisticObjective(0.5, intercept)
        found = [
            train_logistic(LabelledSet(points, dense.labels, dense.weights), objective)
            for points in (rows, sparse.csr_matrix(rows))
        ]
        assert found[0].primal == pytest.approx(found[1].primal, rel=1e-10)
        assert found[0].dual == pytest.approx(found[1].dual, rel=1e-10)

    def test_one_class_alone_is_a_problem_unless_the_intercept_is_free(self, intercept: Intercept) -> None:
        points = np.random.default_rng(0).standard_normal((50, 2)) + 1.0
        data = LabelledSet(points, np.ones(50), classes=np.array([-1.0, 1.0]))
        found = train_logistic(data, LogisticObjective(0.1, intercept), max_passes=20)
        if intercept.free:
            assert found.dual == 0.0
            assert found.gap == np.inf
        else:
            assert found.gap <= 1e-6


@pytest.mark.parametrize("intercept", [i for i in INTERCEPTS if not i.free], ids=str)
@settings(max_examples=25)
@given(seed=seeds, lam=st.floats(0.01, 10.0))
def test_the_dual_value_falls_short_by_half_the_squared_gradient(
    intercept: Intercept, seed: int, lam: float
) -> None:
    data, objective = problem(30, 2, seed), LogisticObjective(lam, intercept)
    model = any_model(data, objective, np.random.default_rng(seed))
    has_b = intercept.scale > 0.0
    z = np.column_stack([data.points, np.full(data.n, intercept.scale)])[:, : 2 + has_b] * data.signs[:, None]
    theta = np.append(model.w, model.b / intercept.scale) if has_b else model.w
    gradient = theta - lam * (data.weights * expit(-(z @ theta))) @ z
    promised = objective.value(data, model) - 0.5 * float(gradient @ gradient)
    bound = LogisticDual.of(objective.scan(data, model)).bound(intercept)
    # Scaling can only help; rounding is subtracted relative to the entropies and squared lengths.
    size = objective.value(data, model) + float(theta @ theta) + float(gradient @ gradient)
    assert bound >= max(0.0, promised - 1e5 * EPS * size)


@given(st.floats(-30.0, 30.0))
def test_the_loss_is_a_mean_of_hinges(v: float) -> None:
    """ln(1 + exp(-v)) = E max(0, T - v) for a logistic T: the identity behind LG."""
    tail = quad(lambda s: expit(-s), v, np.inf, epsabs=1e-12, epsrel=1e-12)[
        0
    ]  # E max(0, T - v) = int P(T > s)
    assert tail == pytest.approx(float(np.logaddexp(0.0, -v)), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("lam", [0.05, 2.0])
def test_scikit_learn_solves_the_same_problem(lam: float) -> None:
    data = problem(400, 3, 6, rare=0.2)
    solved = LogisticRegression(C=lam, tol=1e-10, max_iter=2000)
    solved.fit(data.points, data.labels, sample_weight=data.weights)
    model = LinearModel(solved.coef_, solved.intercept_)
    found = logistic_certificate(data, model, LogisticObjective(lam), max_passes=1)
    assert found.passes == 1
    assert found.gap < 1e-6
    trained = train_logistic(data, LogisticObjective(lam), tightness=1e-10)
    # F is strongly convex in w with constant 1: |w - w*|^2 <= 2 (F - OPT) for both.
    allowed = np.sqrt(2.0 * trained.primal * found.gap) + np.sqrt(2.0 * trained.primal * trained.gap)
    assert np.linalg.norm(trained.best.w - model.w) <= allowed


def test_single_precision_rows_are_read_in_double_precision() -> None:
    data = problem(500, 3, 7)
    single = LabelledSet(data.points.astype(np.float32), data.labels, data.weights)
    double = LabelledSet(single.points.astype(np.float64), data.labels, data.weights)
    found = [train_logistic(one, LogisticObjective(1.0)).primal for one in (single, double)]
    assert found[0] == found[1]


def test_many_columns_are_solved_by_conjugate_gradients() -> None:
    rng = np.random.default_rng(8)
    rows = sparse.random(300, 1600, 0.01, random_state=rng, format="csr")
    y = np.where(rng.random(300) < 0.5, 1, -1)
    for intercept in (FreeIntercept(), NoIntercept()):
        assert (
            train_logistic(LabelledSet(rows, y), LogisticObjective(1.0, intercept), tightness=1e-4).gap
            <= 1e-4
        )


@settings(max_examples=20)
@given(seed=seeds, lam=st.floats(0.01, 10.0))
def test_parts_with_their_shares_of_the_regulariser_add_up(seed: int, lam: float) -> None:
    data, whole = problem(30, 2, seed), LogisticObjective(lam)
    average = whole.averaged(data.total_weight)
    model = any_model(data, whole, np.random.default_rng(seed))
    parts = [data.take(rows, data.weights[rows]) for rows in np.split(np.arange(30), [7, 18])]
    shares = [part.total_weight / data.total_weight for part in parts]
    total = sum(
        share * average.of_mass(part.total_weight).value(part, model)
        for part, share in zip(parts, shares, strict=True)
    )
    assert total == pytest.approx(whole.value(data, model), rel=200 * EPS)


def test_a_weighted_set_with_labels_will_do() -> None:
    data = problem(60, 2, 9)
    plain = WeightedSet(data.points, data.weights, data.labels)
    assert (
        train_logistic(plain, LogisticObjective()).primal == train_logistic(data, LogisticObjective()).primal
    )


class TestRefusals:
    data = problem(20, 2, 0)

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: LogisticObjective(0.0), ValueError, "lam = 0 is not positive"),
            (lambda: LogisticObjective(1.0, FreeIntercept), TypeError, "pass FreeIntercept"),  # type: ignore[arg-type]
            (lambda: AverageLogisticObjective(-1.0), ValueError, "alpha = -1 is not positive"),
            (lambda: AverageLogisticObjective(1.0).of_mass(0.0), ValueError, "mass = 0 is not positive"),
        ],
    )
    def test_an_objective_names_what_is_wrong(self, make: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            make()

    def test_a_model_has_to_fit(self) -> None:
        with pytest.raises(ValueError, match="w has 3 coefficients, the points have 2 columns"):
            logistic_certificate(self.data, LinearModel(np.ones(3)), LogisticObjective())
        with pytest.raises(ValueError, match="b = 1, but the objective has no intercept"):
            logistic_certificate(
                self.data, LinearModel(np.ones(2), 1.0), LogisticObjective(1.0, NoIntercept())
            )

    @pytest.mark.parametrize("wrong", [{"gap": -1.0}, {"tightness": 0.0}, {"max_passes": 0}], ids=str)
    def test_numbers_are_in_range(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            logistic_certificate(self.data, LinearModel(np.ones(2)), LogisticObjective(), **wrong)

    def test_a_kernel_bound_needs_both_classes(self) -> None:
        one = LabelledSet(np.eye(2), [1, 1], classes=np.array([0, 1]))
        with pytest.raises(AssumptionError, match="one class has no mass"):
            kernel_logistic_bound(one, LogisticObjective(), Linear(), rng=0)
