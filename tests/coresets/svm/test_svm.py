"""Support vector machines: objective, bounds, coresets and certificates against independent references."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.svm import LinearSVC

from coresets import Accuracy, WeightedSet
from coresets.errors import AssumptionError
from coresets.samplers import IID, FixedSize, Hybrid, Poisson
from coresets.svm import (
    RBF,
    ClusterBounds,
    Clusters,
    FreeIntercept,
    LabelledSet,
    Linear,
    LinearModel,
    NoIntercept,
    NormBounds,
    RegularisedIntercept,
    SVMCoreset,
    SVMObjective,
    cluster_sensitivities,
    kernel_lower_bound,
    lower_bound,
    pilot_lower_bound,
    published_sensitivities,
    solver_free_bound,
    svm_certificate,
    train_svm,
)
from coresets.svm._rows import BlockRows, DenseRows

INTERCEPTS = [RegularisedIntercept(), RegularisedIntercept(3.0), FreeIntercept(), NoIntercept()]
EPS = float(np.finfo(np.float64).eps)


def problem(n: int, d: int, seed: int, *, rare: float = 0.5) -> LabelledSet:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < rare, 1, -1)
    y[:2] = (-1, 1)
    return LabelledSet(rng.standard_normal((n, d)) + 0.6 * y[:, None], y, rng.uniform(0.2, 2.0, n))


def reference_optimum(data: LabelledSet, objective: SVMObjective) -> float:
    """Value attained at the conic solver's model: an upper bound on the optimum, tight to its accuracy."""
    w, b = cp.Variable(data.d), cp.Variable()
    loss = cp.pos(1 - cp.multiply(data.signs, data.points @ w + b))
    penalty = cp.sum_squares(w)
    constraints = []
    if objective.intercept.scale > 0.0:
        penalty += cp.square(b / objective.intercept.scale)
    elif not objective.intercept.free:
        constraints = [b == 0]
    total = 0.5 * penalty + objective.lam * cp.sum(cp.multiply(data.weights, loss))
    cp.Problem(cp.Minimize(total), constraints).solve(solver=cp.CLARABEL)
    no_b = isinstance(objective.intercept, NoIntercept)
    return objective.value(data, LinearModel(w.value, 0.0 if no_b else float(b.value)))


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=str)
class TestAgainstTheConicSolver:
    @pytest.mark.parametrize("lam", [0.01, 0.3, 5.0])
    def test_no_lower_bound_exceeds_the_optimum(self, intercept, lam):
        data, objective = problem(80, 3, 1), SVMObjective(lam, intercept)
        best = reference_optimum(data, objective)
        rng = np.random.default_rng(0)
        bounds = [solver_free_bound(data, objective), pilot_lower_bound(data, objective, 20, rng=0)]
        for width in (0.0, 0.5):
            for _ in range(10):
                b = 0.0 if isinstance(intercept, NoIntercept) else float(rng.standard_normal())
                bounds.append(lower_bound(data, objective, LinearModel(rng.standard_normal(3), b), width))
        bounds.append(kernel_lower_bound(data, SVMObjective(lam, FreeIntercept()), Linear(), rng=0, block=8))
        if not isinstance(intercept, FreeIntercept):  # its optimum is the smallest of the three
            bounds.pop()
        assert max(bounds) <= best * (1.0 + 1e-9)

    @pytest.mark.parametrize("lam", [0.01, 0.3, 5.0])
    def test_training_reaches_the_optimum_that_it_certifies(self, intercept, lam):
        data, objective = problem(80, 3, 2), SVMObjective(lam, intercept)
        found = train_svm(data, objective, tightness=1e-3)
        best = reference_optimum(data, objective)
        assert found.dual <= best * (1.0 + 1e-9)
        assert found.best_primal >= found.dual
        assert found.gap <= 1e-3 * (1.0 + 1e-9)

    def test_certified_gap_is_at_most_twice_the_true_one_and_half_a_percent(self, intercept):
        data, objective = problem(400, 4, 3), SVMObjective(0.05, intercept)
        best = reference_optimum(data, objective)
        for factor in (0.3, 0.8, 1.0, 1.5):
            model = LinearModel(factor * train_svm(data, objective).best.w)
            found = svm_certificate(data, model, objective)
            true = objective.value(data, model) / best - 1.0
            assert true - 1e-9 <= found.gap <= 2.0 * true + 0.005


def test_kernel_bound_is_below_the_optimum_of_a_free_intercept():
    data, objective = problem(80, 3, 1), SVMObjective(0.1, FreeIntercept())
    bound = kernel_lower_bound(data, objective, Linear(), rng=0, block=16)
    assert 0.0 < bound <= reference_optimum(data, objective) * (1.0 + 1e-9)


def test_objective_is_that_of_scikit_learn():
    data, objective = problem(300, 3, 4), SVMObjective(0.5)
    clf = LinearSVC(loss="hinge", C=objective.C, max_iter=200_000, tol=1e-8, random_state=0)
    clf.fit(data.points, data.labels, sample_weight=data.weights)
    found = svm_certificate(data, LinearModel(clf.coef_, clf.intercept_), objective, tightness=1e-4)
    assert found.gap < 5e-4


def test_duplicated_points_and_masses_of_two_are_the_same_problem():
    data = problem(40, 2, 5)
    twice = LabelledSet(
        np.repeat(data.points, 2, axis=0), np.repeat(data.labels, 2), np.repeat(data.weights, 2)
    )
    double = LabelledSet(data.points, data.labels, 2.0 * data.weights)
    model, objective = LinearModel([0.3, -0.2], 0.1), SVMObjective(0.7)
    assert objective.value(twice, model) == pytest.approx(objective.value(double, model), rel=200 * EPS)


def test_objectives_of_blocks_add_up_to_the_whole():
    data, objective, model = (
        problem(60, 2, 6),
        SVMObjective(0.4, FreeIntercept()),
        LinearModel([0.5, 0.1], -0.2),
    )
    total, parts = data.total_weight, 0.0
    for rows in (np.arange(20), np.arange(20, 60)):
        block = data.take(rows, data.weights[rows])
        part = objective.for_block(block.total_weight, total)
        parts += block.total_weight / total * part.value(block, model)
    assert parts == pytest.approx(objective.value(data, model), rel=200 * EPS)


@given(st.integers(1, 2500), st.integers(1, 7), st.booleans(), st.integers(0, 99))
@settings(max_examples=15)
def test_compiled_passes_equal_plain_blocks(n, d, single, seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d)).astype(np.float32 if single else np.float64)
    signs, caps, w = rng.choice(np.array([-1, 1], np.int8), n), rng.random(n), rng.standard_normal(d)
    for width in (0.0, 0.7):
        one = DenseRows(points).scan(signs, caps, w, 0.3, width)
        two = BlockRows(points.astype(np.float64)).scan(signs, caps, w, 0.3, width)
        three = BlockRows(sparse.csr_matrix(points.astype(np.float64))).scan(signs, caps, w, 0.3, width)
        scale = float(caps.sum()) * (1.0 + float(np.abs(points).max())) * (1.0 + float(np.abs(w).sum()))
        tolerance = 4.0 * (n + d) * EPS * scale
        for other in (two, three):
            np.testing.assert_allclose(one.margins, other.margins, atol=tolerance)
            np.testing.assert_allclose(one.hinges, other.hinges, atol=tolerance)
            # An indicator may fall either way on the margin; a share across a band moves by its slope.
            np.testing.assert_allclose(one.sums, other.sums, atol=tolerance / (width or 1.0))
            assert one.radius == pytest.approx(other.radius, rel=1e-12)


class TestSensitivities:
    def test_published_formula_is_exceeded_on_its_counter_example_and_ours_is_not(self):
        x, lam = np.array([-2.43902, 5.62913, 8.27756, 8.09173])[:, None], 0.0197894
        data, objective = LabelledSet(x, [-1, 1, 1, 1]), SVMObjective(lam, FreeIntercept())
        clusters = Clusters.of_classes(data)
        found = train_svm(data, objective, tightness=1e-5)
        grid = np.linspace(-1.0, 1.0, 4001)
        best = 0.0
        for kink in range(4):
            b = data.signs[kink] - grid * x[kink]
            losses = lam * np.maximum(0.0, 1.0 - data.signs * (grid[:, None] * x[:, 0] + b[:, None]))
            shares = (grid**2 / 8 + losses[:, 1]) / (grid**2 / 2 + losses.sum(axis=1))
            best = max(best, float(shares.max()))
        assert best > 0.5032
        formula = published_sensitivities(data, clusters, objective, 1.5 * found.best_primal)
        assert formula[1] < best - 0.02
        assert cluster_sensitivities(data, clusters, objective, found.dual, regulariser=True)[1] >= best

    def test_two_points_attain_the_bound(self):
        data, objective = LabelledSet(np.array([[-1.0], [1.0]]), [0, 1]), SVMObjective(0.4, FreeIntercept())
        values = cluster_sensitivities(data, Clusters.of_classes(data), objective, 0.1)
        np.testing.assert_array_equal(values, [1.0, 1.0])

    @pytest.mark.parametrize("intercept", INTERCEPTS, ids=str)
    @pytest.mark.parametrize("bounds", [ClusterBounds(), NormBounds()], ids=["clusters", "norms"])
    def test_no_share_at_random_models_exceeds_its_bound(self, intercept, bounds):
        data, objective = problem(100, 2, 7, rare=0.1), SVMObjective(0.05, intercept)
        values = bounds.sensitivities(data, objective, 0).values
        rng = np.random.default_rng(1)
        for _ in range(500):
            w = rng.standard_normal(2) * 10.0 ** rng.uniform(-3, 2)
            b = (
                0.0
                if isinstance(intercept, NoIntercept)
                else rng.standard_normal() * 10.0 ** rng.uniform(-2, 4)
            )
            model = LinearModel(w, float(b))
            losses = np.maximum(0.0, 1.0 - data.signs * model.decision(data.points))
            shares = objective.lam * data.weights * losses / objective.value(data, model)
            assert np.all(shares <= values * (1.0 + 1e-12))

    def test_means_are_exact_on_all_points(self):
        data = problem(5000, 3, 8)
        clusters = Clusters.fit(data, 4, rng=0)
        for k in range(len(clusters.masses)):
            own = clusters.labels == k
            mean = np.average(data.points[own], axis=0, weights=data.weights[own])
            np.testing.assert_allclose(clusters.means[k], mean, rtol=0, atol=1e-12)
            assert np.unique(data.signs[own]).size == 1

    def test_dense_and_sparse_bounds_agree(self):
        data, objective = problem(500, 4, 9), SVMObjective(0.1)
        thin = LabelledSet(sparse.csr_matrix(data.points), data.labels, data.weights)
        for bounds in (ClusterBounds(low=1.0), NormBounds(low=1.0)):
            left, right = (bounds.sensitivities(one, objective, 3).values for one in (data, thin))
            np.testing.assert_allclose(left, right, rtol=1e-6)


class TestCoreset:
    @pytest.mark.parametrize("sampler", [IID(), Poisson(), FixedSize()], ids=str)
    @pytest.mark.parametrize("size", [5, 40])
    def test_both_classes_are_always_there(self, sampler, size):
        data = problem(3000, 3, 10, rare=0.002)
        for seed in range(20):
            coreset = SVMCoreset(SVMObjective(0.01), ClusterBounds(pilot=0), sampler).reduce(
                data, size=size, rng=seed
            )
            assert set(data.signs[coreset.indices]) == {-1, 1}

    def test_weights_are_unbiased(self):
        data, objective = problem(500, 2, 11), SVMObjective(0.01)
        reducer = SVMCoreset(objective, ClusterBounds(pilot=0))
        model = LinearModel([0.4, 0.4])
        truth = objective.value(data, model)
        values = [objective.value(data.kept(reducer.reduce(data, size=50, rng=s)), model) for s in range(400)]
        assert abs(np.mean(values) - truth) <= 4.5 * np.std(values) / np.sqrt(400)  # 1e-5 a priori

    def test_size_of_all_points_is_exact(self):
        data = problem(50, 2, 12)
        coreset = SVMCoreset().reduce(data, size=50, rng=0)
        assert coreset.accuracy.is_exact
        np.testing.assert_array_equal(coreset.weights, data.weights)

    def test_same_seed_same_coreset(self):
        data = problem(2000, 3, 13)
        one, two = (SVMCoreset().reduce(data, size=100, rng=5) for _ in range(2))
        np.testing.assert_array_equal(one.indices, two.indices)

    def test_accuracy_gives_the_size_of_the_theorem(self):
        data = problem(4000, 1, 14)
        reducer = SVMCoreset(SVMObjective(1e-4), uniform_share=0.0)
        claim = reducer.claim(data, reducer.sensitivities(data, rng=0))
        coreset = reducer.reduce(data, accuracy=Accuracy(0.9, 0.1), rng=0)
        assert coreset.size == claim.size(Accuracy(0.9, 0.1))

    def test_schemes_without_a_theorem_are_refused(self):
        data = problem(200, 2, 15)
        with pytest.raises(AssumptionError, match=r"hybrid|sure inclusion"):
            SVMCoreset(sampler=Hybrid()).reduce(data, size=50, rng=0)
        with pytest.raises(AssumptionError, match="IID or Poisson"):
            SVMCoreset(bounds=NormBounds(), sampler=FixedSize()).reduce(data, size=50, rng=0)

    def test_weighted_sets_with_any_two_labels_and_sparse_rows_are_accepted(self):
        data = problem(3000, 4, 16)
        words = np.where(data.signs > 0, "yes", "no")
        dense = SVMCoreset().fit(WeightedSet(data.points, data.weights, words), size=500, rng=0)
        assert set(dense.predict(data.points[:100])) <= {"yes", "no"}
        thin = LabelledSet(sparse.csr_matrix(data.points), words, data.weights)
        assert SVMCoreset().fit(thin, size=500, rng=0).certificate.gap < 0.2

    def test_rbf_norms_draw_by_mass(self):
        data = problem(1000, 2, 17)
        values = NormBounds(RBF(0.5)).sensitivities(data, SVMObjective(0.1), 0).values
        np.testing.assert_allclose(values / data.weights, (values / data.weights)[0], rtol=1e-12)


class TestBundledSets:
    @pytest.mark.parametrize("lam", [1e-3, 1e-2])
    @pytest.mark.parametrize("intercept", INTERCEPTS, ids=str)
    def test_certified_gap_is_at_most_twice_the_true_one_and_half_a_percent(self, lam, intercept):
        cancer, iris = load_breast_cancer(), load_iris()
        scaled = (cancer.data - cancer.data.mean(axis=0)) / cancer.data.std(axis=0)
        for points, labels in ((scaled, cancer.target), (iris.data, iris.target == 1)):
            data, objective = LabelledSet(points, labels), SVMObjective(lam, intercept)
            fit = SVMCoreset(objective).fit(data, size=60, rng=0)
            true = objective.value(data, fit.model) / reference_optimum(data, objective) - 1.0
            assert true - 1e-7 <= fit.certificate.gap <= 2.0 * true + 0.005


class TestRefusals:
    def test_one_class_is_refused(self):
        with pytest.raises(AssumptionError, match="exactly two"):
            LabelledSet(np.eye(2), [1, 1])
        with pytest.raises(AssumptionError, match="no mass"):
            LabelledSet(np.eye(2), [0, 1], [1.0, 0.0])

    @pytest.mark.parametrize("lam", [0.0, -1.0, np.inf])
    def test_prices_must_be_positive(self, lam):
        with pytest.raises(ValueError, match="lam"):
            SVMObjective(lam)

    def test_models_must_fit(self):
        data = problem(10, 2, 18)
        with pytest.raises(ValueError, match="3 coefficients"):
            SVMObjective().value(data, LinearModel([1.0, 2.0, 3.0]))
        with pytest.raises(ValueError, match="no intercept"):
            SVMObjective(1.0, NoIntercept()).value(data, LinearModel([1.0, 2.0], 1.0))

    def test_strings_are_no_intercepts(self):
        with pytest.raises(TypeError, match="FreeIntercept"):
            SVMObjective(1.0, "free")
