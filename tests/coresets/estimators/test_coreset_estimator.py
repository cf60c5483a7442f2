from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone, is_classifier, is_clusterer, is_regressor
from sklearn.cluster import DBSCAN, KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from coresets import (
    Accuracy,
    AssumptionError,
    LeastSquares,
    SensitivityReducer,
    UniformReducer,
    WeightedSet,
    caratheodory,
)
from coresets.estimators import CoresetEstimator
from coresets.svm import (
    ClusterBounds,
    LabelledSet,
    LinearModel,
    SVMCoreset,
    SVMObjective,
    svm_certificate,
)

EPS = float(np.finfo(np.float64).eps)
MACHINE = LinearSVC(loss="hinge", C=0.05, max_iter=100_000, random_state=0)


def classes(n: int = 3000, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y = rng.choice(["no", "yes"], n, p=[0.8, 0.2])
    return rng.standard_normal((n, 3)) + 1.5 * (y == "yes")[:, None], y


def targets(n: int = 3000) -> tuple[Any, Any]:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, 3))
    return X, X @ [1.0, -2.0, 0.5] + 3.0 + rng.standard_normal(n)


@pytest.mark.parametrize("extra", [0, 1, 10**6])
def test_from_as_many_points_as_rows_on_the_coefficients_are_those_of_all_the_rows(extra: int):
    X, y = classes()
    whole = clone(MACHINE).fit(X, y)
    model = CoresetEstimator(MACHINE, size=len(y) + extra, random_state=0).fit(X, y)
    assert np.array_equal(model.estimator_.coef_, whole.coef_)
    assert np.array_equal(model.estimator_.intercept_, whole.intercept_)
    assert model.coreset_.accuracy.is_exact


def test_the_model_of_a_coreset_has_nearly_the_objective_of_the_one_of_all_rows():
    X, y = classes(20_000)
    data, objective = LabelledSet(X, y), SVMObjective(MACHINE.C)
    whole, model = clone(MACHINE).fit(X, y), CoresetEstimator(MACHINE, size=1000, random_state=0).fit(X, y)
    best, found = (
        objective.value(data, LinearModel(one.coef_, one.intercept_)) for one in (whole, model.estimator_)
    )
    # The certificate bounds the excess; a wrong C convention (by n, or by the mean weight) exceeds it by far.
    assert found <= (1.0 + model.certificate_.value) * best
    assert model.certificate_.value < 0.05
    assert model.coreset_.support_size <= 1000


def test_the_certificate_is_that_of_the_fitted_coefficients_on_all_the_rows():
    X, y = classes()
    model = CoresetEstimator(MACHINE, size=300, random_state=0).fit(X, y)
    again = svm_certificate(
        LabelledSet(X, y),
        LinearModel(model.estimator_.coef_, model.estimator_.intercept_),
        SVMObjective(0.05),
    )
    assert model.certificate_.value == again.gap
    assert CoresetEstimator(MACHINE, size=300, certify=False).fit(X, y).certificate_ is None


def test_masses_of_the_rows_multiply_into_the_weights():
    X, y = targets(400)
    masses = np.random.default_rng(3).integers(1, 5, 400)
    weighted = CoresetEstimator(LinearRegression(), size=10**6).fit(X, y, sample_weight=masses)
    repeated = LinearRegression().fit(np.repeat(X, masses, axis=0), np.repeat(y, masses))
    # Two orders of summing 1000 rows of a well conditioned system.
    assert np.allclose(weighted.estimator_.coef_, repeated.coef_, rtol=0, atol=1e5 * EPS)
    drawn = CoresetEstimator(LinearRegression(), size=50, random_state=0).fit(X, y, sample_weight=masses)
    data = WeightedSet(X, masses, y)
    reducer = SensitivityReducer(LeastSquares(intercept=True))
    assert drawn.coreset_.total_weight == pytest.approx(data.total_weight, rel=0.5)
    assert reducer.claim(data).guarantee.key == "MC"


def test_rows_without_mass_are_never_seen_by_the_estimator():
    X, y = classes(200)
    masses = np.ones(200)
    masses[:50], X[:50] = 0.0, 1e12
    model = CoresetEstimator(MACHINE, size=10**6).fit(X, y, sample_weight=masses)
    assert np.array_equal(model.estimator_.coef_, clone(MACHINE).fit(X[50:], y[50:]).coef_)


@pytest.mark.parametrize(
    ("inner", "kind"),
    [(MACHINE, is_classifier), (LinearRegression(), is_regressor), (KMeans(2), is_clusterer)],
)
def test_the_kind_is_that_of_the_estimator_inside(inner: Any, kind: Any):
    kinds = [check for check in (is_classifier, is_regressor, is_clusterer) if check(CoresetEstimator(inner))]
    assert kinds == [kind]


@pytest.mark.parametrize(
    ("inner", "there", "missing"),
    [
        (MACHINE, {"predict", "decision_function", "score"}, {"predict_proba", "transform", "set_output"}),
        (LinearRegression(), {"predict", "score"}, {"decision_function", "fit_predict"}),
        (LogisticRegression(), {"predict_proba", "predict_log_proba"}, {"transform"}),
        (
            KMeans(2),
            {"transform", "fit_transform", "fit_predict", "get_feature_names_out"},
            {"predict_proba"},
        ),
    ],
    ids=["svm", "regression", "logistic", "clusters"],
)
def test_methods_are_those_of_the_estimator_inside(inner: Any, there: set[str], missing: set[str]):
    model = CoresetEstimator(inner, UniformReducer(), size=10)
    assert {name for name in there | missing if hasattr(model, name)} == there


def test_no_method_drops_rows():
    X, _ = targets(300)
    model = CoresetEstimator(KMeans(3, n_init=1, random_state=0), UniformReducer(), size=30, random_state=0)
    assert model.fit_transform(X).shape == (300, 3)
    assert model.fit_predict(X).shape == model.labels_.shape == (300,)
    assert np.array_equal(model.transform(X), model.estimator_.transform(X))
    assert model.score(X) == model.estimator_.score(X)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_transforms_come_in_the_container_asked_for(container: str):
    frames = pytest.importorskip(container)
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(targets(60)[0], columns=["a", "b", "c"], index=np.arange(60) + 7)
    model = CoresetEstimator(KMeans(2, n_init=1), UniformReducer(), size=30).set_output(transform=container)
    found = clone(model).fit_transform(X)
    assert isinstance(found, frames.DataFrame)
    assert list(found.columns) == ["kmeans0", "kmeans1"]
    if container == "pandas":
        assert found.index.tolist() == X.index.tolist()
    assert model.fit(X).feature_names_in_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_are_accepted_and_their_names_are_checked(kind: str):
    frames = pytest.importorskip(kind)
    X, y = classes(300)
    frame = frames.DataFrame({name: X[:, j] for j, name in enumerate("abc")})
    model = CoresetEstimator(MACHINE, size=100, random_state=0).fit(frame, y)
    plain = CoresetEstimator(MACHINE, size=100, random_state=0).fit(X, y)
    assert np.array_equal(model.estimator_.coef_, plain.estimator_.coef_)
    assert np.array_equal(model.predict(frame), plain.predict(X))
    assert model.n_features_in_ == 3
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c"]])


def test_sparse_rows_give_the_coreset_of_dense_ones():
    rng = np.random.default_rng(4)
    X = sparse.random(600, 20, 0.2, "csr", random_state=5)
    y = np.asarray(X.sum(axis=1)).ravel() + 0.3 * rng.standard_normal(600) > 2.0
    model = CoresetEstimator(MACHINE, size=200, random_state=0).fit(X, y)
    assert model.coreset_.support_size <= 200
    assert model.certificate_.value < 1.0
    uniform = CoresetEstimator(LogisticRegression(), UniformReducer(), size=200, random_state=0)
    dense = clone(uniform).fit(X.toarray(), y)
    assert np.array_equal(uniform.fit(X, y).coreset_.indices, dense.coreset_.indices)
    squares = CoresetEstimator(LinearRegression(), size=100, random_state=0).fit(X, y.astype(float))
    assert squares.coreset_.support_size < 200


def test_a_pipeline_and_a_grid_search_reach_both_estimator_and_reducer():
    X, y = classes(600)
    pipeline = make_pipeline(StandardScaler(), CoresetEstimator(MACHINE, size=100, random_state=0))
    grid = {"coresetestimator__estimator__C": [0.01, 0.1], "coresetestimator__size": [50, 100]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert set(search.best_params_) == set(grid)
    best = search.best_estimator_[-1]
    assert best.coreset_.size == search.best_params_["coresetestimator__size"]
    assert search.score(X, y) > 0.8

    model = CoresetEstimator(SVC(kernel="rbf"), SVMCoreset(), size=100, random_state=0)
    search = GridSearchCV(model, {"reducer__uniform_share": [0.1, 0.5]}, cv=2).fit(X, y)
    assert search.best_estimator_.reducer.uniform_share in {0.1, 0.5}
    assert np.isfinite(cross_val_score(model, X, y, cv=2)).all()


def test_parameters_of_the_reducer_are_set_by_making_a_new_value():
    reducer = SVMCoreset(SVMObjective(0.1), ClusterBounds())
    model = CoresetEstimator(MACHINE, reducer, size=10)
    assert model.get_params()["reducer__objective__lam"] == 0.1
    model.set_params(reducer__objective__lam=3.0, reducer__delta=0.2)
    assert (model.reducer.objective.lam, model.reducer.delta) == (3.0, 0.2)
    assert (reducer.objective.lam, reducer.delta) == (0.1, 0.05)
    both = model.set_params(reducer=reducer, reducer__delta=0.3)
    assert (both.reducer.objective.lam, both.reducer.delta) == (0.1, 0.3)
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        model.set_params(reducer__nothing=1)


def test_a_clone_and_a_seed_give_the_same_model():
    X, y = classes(800)
    model = CoresetEstimator(MACHINE, size=60, random_state=7)
    first, second = clone(model).fit(X, y), clone(model).fit(X, y)
    assert np.array_equal(first.coreset_.indices, second.coreset_.indices)
    other = clone(model).set_params(random_state=8).fit(X, y)
    assert not np.array_equal(first.coreset_.indices, other.coreset_.indices)
    for state in (np.random.RandomState(0), np.random.default_rng(0), None):
        assert clone(model).set_params(random_state=state).fit(X, y).coreset_.support_size


def test_no_fit_touches_the_global_generator():
    X, y = classes(800)
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - what is tested
    CoresetEstimator(LinearRegression(), size=60).fit(X, (y == "yes").astype(float))
    after = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
    assert np.array_equal(before, after)


def test_a_seed_that_made_the_data_is_not_the_seed_of_the_draws():
    # Uniforms of default_rng(0) decide the label here; Poisson sampling by the same ones never kept a "yes".
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) > 0.9).astype(float)
    X = rng.standard_normal((20_000, 2)) + y[:, None]
    model = CoresetEstimator(LinearRegression(), size=1000, random_state=0).fit(X, y)
    kept = y[model.coreset_.indices]
    assert 0.05 < kept.mean() < 0.5


def test_more_than_two_classes_are_refused_for_machines_and_served_one_against_the_rest():
    rng = np.random.default_rng(6)
    y = rng.integers(0, 3, 900)
    X = rng.standard_normal((900, 2)) + 4.0 * np.array([[0, 0], [0, 1], [1, 0]])[y]
    model = CoresetEstimator(MACHINE, size=200, random_state=0)
    with pytest.raises(ValueError, match=r"Only binary classification.*OneVsRestClassifier"):
        model.fit(X, y)
    several = OneVsRestClassifier(model).fit(X, y)
    assert several.score(X, y) > 0.9
    assert len({tuple(one.coreset_.indices) for one in several.estimators_}) == 3
    tree = CoresetEstimator(DecisionTreeClassifier(), UniformReducer(), size=200, random_state=0).fit(X, y)
    assert tree.classes_.tolist() == [0, 1, 2]


def test_metadata_routing_hands_masses_to_the_coreset():
    X, y = classes(400)
    masses = np.random.default_rng(7).uniform(0.5, 2.0, 400)
    model = CoresetEstimator(MACHINE, size=100, random_state=0)
    direct = clone(model).fit(X, y, sample_weight=masses)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = clone(model).set_fit_request(sample_weight=True)
        scaler = StandardScaler(with_mean=False, with_std=False).set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, asked)
        routed.fit(X, y, sample_weight=masses)
    assert np.array_equal(routed[-1].coreset_.weights, direct.coreset_.weights)


def test_an_accuracy_may_be_asked_for_instead_of_a_size():
    X, y = targets(20_000)
    model = CoresetEstimator(LinearRegression(), accuracy=Accuracy(0.3, 0.05), random_state=0).fit(X, y)
    assert model.coreset_.accuracy == Accuracy(0.3, 0.05)
    (evidence,) = model.coreset_.certificates
    assert evidence.value < 0.3


def test_mistakes_are_named_with_a_remedy():
    X, y = classes(200)
    for request in ({}, {"size": 10, "accuracy": Accuracy(0.1, 0.1)}):
        with pytest.raises(ValueError, match="exactly one of the two"):
            CoresetEstimator(MACHINE, **request).fit(X, y)
    with pytest.raises(ValueError, match="takes no sample_weight"):
        CoresetEstimator(KNeighborsClassifier(), UniformReducer(), size=10).fit(X, y)
    with pytest.raises(ValueError, match="its last step"):
        CoresetEstimator(make_pipeline(StandardScaler(), MACHINE), UniformReducer(), size=10).fit(X, y)
    with pytest.raises(AssumptionError, match="no reducer is known for DecisionTreeClassifier"):
        CoresetEstimator(DecisionTreeClassifier(), size=10).fit(X, y)
    with pytest.raises(TypeError, match="reducer ="):
        CoresetEstimator(MACHINE, UniformReducer, size=10).fit(X, y)
    with pytest.raises(ValueError, match="Negative values"):
        CoresetEstimator(MACHINE, size=10).fit(X, y, sample_weight=-np.ones(200))
    with pytest.raises(ValueError, match="1 class"):
        CoresetEstimator(MACHINE, size=10).fit(X, np.ones(200))
    with pytest.raises(AttributeError, match="predict"):
        CoresetEstimator(DBSCAN(), UniformReducer(), size=10).predict(X)


def test_a_class_that_the_coreset_misses_is_an_error():
    y = np.zeros(1000, dtype=int)
    y[0] = 1
    with pytest.raises(AssumptionError, match="no row of class"):
        CoresetEstimator(DecisionTreeClassifier(), UniformReducer(), size=5, random_state=0).fit(
            np.eye(1000, 2), y
        )


def test_free_points_serve_estimators_without_labels():
    class Means:
        def reduce(self, data, *, size=None, accuracy=None, rng):
            exact = caratheodory(data.points, data.weights)
            return type(exact)(
                indices=None,
                points=data.points[exact.indices],
                weights=exact.weights,
                size=4,
                accuracy=Accuracy(0.9, 0.1),
            )

    X, y = targets(50)
    model = CoresetEstimator(KMeans(2, n_init=1), Means(), size=4).fit(X)
    assert model.labels_.shape == (50,)
    with pytest.raises(TypeError, match="free points"):
        CoresetEstimator(LinearRegression(), Means(), size=4).fit(X, y)
