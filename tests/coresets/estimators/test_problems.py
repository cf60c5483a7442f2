"""What an estimator of scikit-learn minimises, and which reducer goes with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.svm import SVC, LinearSVC

from coresets import (
    AssumptionError,
    LeastSquares,
    RidgeRegression,
    SensitivityReducer,
    UniformReducer,
)
from coresets.clustering import ClusteringLoss
from coresets.estimators import CoresetEstimator, problem_of
from coresets.logistic import LogisticObjective
from coresets.svm import (
    FreeIntercept,
    LabelledSet,
    NoIntercept,
    RegularisedIntercept,
    SVMCoreset,
    SVMObjective,
)

MACHINE = LinearSVC(loss="hinge", C=0.05, max_iter=100_000, random_state=0)


def classes(n: int = 3000, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y = rng.choice(["no", "yes"], n, p=[0.8, 0.2])
    return rng.standard_normal((n, 3)) + 1.5 * (y == "yes")[:, None], y


def targets(n: int = 3000) -> tuple[Any, Any]:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, 3))
    return X, X @ [1.0, -2.0, 0.5] + 3.0 + rng.standard_normal(n)


@pytest.mark.parametrize(
    ("inner", "objective"),
    [
        (LinearSVC(loss="hinge", C=3.0), SVMObjective(3.0, RegularisedIntercept(1.0))),
        (LinearSVC(loss="hinge", intercept_scaling=2.0), SVMObjective(1.0, RegularisedIntercept(2.0))),
        (LinearSVC(loss="hinge", fit_intercept=False), SVMObjective(1.0, NoIntercept())),
        (SVC(kernel="linear", C=2.0), SVMObjective(2.0, FreeIntercept())),
    ],
    ids=["C", "scaling", "none", "free"],
)
def test_the_problem_of_an_estimator_is_the_one_that_it_solves(inner: Any, objective: SVMObjective):
    assert problem_of(inner).objective == objective
    X, y = classes(300)
    fitted = clone(inner).set_params(tol=1e-8, max_iter=2_000_000).fit(X, y)
    found = problem_of(inner).certificate(LabelledSet(X, y), fitted)
    assert found.value < 0.01  # it is near the optimum of that objective


@pytest.mark.parametrize(
    ("inner", "objective"),
    [
        (LogisticRegression(C=0.5), LogisticObjective(0.5, FreeIntercept())),
        (
            LogisticRegression(solver="liblinear", intercept_scaling=2.0),
            LogisticObjective(1.0, RegularisedIntercept(2.0)),
        ),
        (LogisticRegression(fit_intercept=False), LogisticObjective(1.0, NoIntercept())),
    ],
    ids=["C", "liblinear", "none"],
)
def test_logistic_regression_minimises_the_objective_that_it_is_certified_for(
    inner: Any, objective: LogisticObjective
):
    X, y = classes(500)
    assert problem_of(inner).objective == objective
    model = CoresetEstimator(inner, size=10**6).fit(X, y)
    assert model.certificate_.value < 0.01
    assert CoresetEstimator(inner, size=200, random_state=0).fit(X, y).coreset_.support_size < 300


def test_ridge_and_centres_have_coresets_of_their_own():
    X, y = targets()
    assert problem_of(Ridge(3.0)).loss == RidgeRegression(3.0, intercept=True)
    model = CoresetEstimator(Ridge(3.0), size=500, random_state=0).fit(X, y)
    assert model.coreset_.certificates[-1].name == "penalised embedding"
    assert np.array_equal(
        CoresetEstimator(Ridge(3.0), size=10**6).fit(X, y).estimator_.coef_, Ridge(3.0).fit(X, y).coef_
    )
    clusters = CoresetEstimator(KMeans(3, n_init=2, random_state=0), size=500, random_state=0).fit(X)
    everything = KMeans(3, n_init=2, random_state=0).fit(X)
    assert clusters.certificate_.value <= 1.1 * everything.inertia_
    assert clusters.certificate_.details["lower_bound"] <= everything.inertia_
    with pytest.raises(ValueError, match="make them agree"):
        CoresetEstimator(KMeans(2), SensitivityReducer(ClusteringLoss(5)), size=50).fit(X)


@pytest.mark.parametrize(
    "inner",
    [
        LogisticRegression(class_weight="balanced"),
        LogisticRegression(l1_ratio=0.5, solver="saga"),
        Ridge(0.0),
        Ridge(positive=True),
        LinearSVC(),
        LinearSVC(loss="hinge", class_weight="balanced"),
        SVC(kernel="rbf"),
        LinearRegression(positive=True),
    ],
    ids=[
        "balanced logistic",
        "elastic net",
        "no penalty",
        "positive ridge",
        "squared hinge",
        "balanced machine",
        "kernel",
        "positive",
    ],
)
def test_an_estimator_without_a_theorem_is_refused_and_served_by_a_reducer(inner: Any):
    X, y = classes(200)
    y = (y == "yes").astype(float)
    with pytest.raises(AssumptionError, match=r"pass a reducer|by default"):
        CoresetEstimator(inner, size=50).fit(X, y)
    model = CoresetEstimator(inner, UniformReducer(), size=150, random_state=0).fit(X, y)
    assert model.certificate_ is None
    assert model.predict(X).shape == (200,)


def test_a_reducer_for_another_price_is_refused():
    X, y = classes(200)
    with pytest.raises(ValueError, match="make them agree"):
        CoresetEstimator(MACHINE, SVMCoreset(SVMObjective(7.0)), size=50).fit(X, y)
    reducer = SensitivityReducer(LeastSquares())
    with pytest.raises(ValueError, match="make them agree"):
        CoresetEstimator(LinearRegression(), reducer, size=50).fit(X, X[:, 0])
