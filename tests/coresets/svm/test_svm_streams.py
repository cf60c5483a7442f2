"""Support vector machines in streams: shares of the regulariser, blocks of one class, resumption."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets import Accuracy, WeightedSet
from coresets.errors import AssumptionError
from coresets.samplers import IID, Poisson
from coresets.streams import KnownLength, MergeReduce, NodeSize
from coresets.streams.reducers import PartReducer
from coresets.svm import (
    RBF,
    AverageSVMObjective,
    ClusterBounds,
    FreeIntercept,
    LabelledSet,
    LinearModel,
    NoIntercept,
    NormBounds,
    RegularisedIntercept,
    SVMCoreset,
    SVMObjective,
    kernel_lower_bound,
    train_svm,
)

EPS = float(np.finfo(np.float64).eps)
INTERCEPTS = [RegularisedIntercept(), FreeIntercept(), NoIntercept()]


def rows(n: int, d: int, seed: int) -> WeightedSet:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.3, "yes", "no")
    y[:2] = ("yes", "no")
    return WeightedSet(rng.standard_normal((n, d)) + 0.5 * (y == "yes")[:, None], rng.uniform(0.5, 2.0, n), y)


def part(data: WeightedSet, which: slice) -> WeightedSet:
    return WeightedSet(data.points[which], data.weights[which], data.labels[which])


def pushed(stream: MergeReduce, data: WeightedSet, pieces: int = 7) -> MergeReduce:
    for place in np.array_split(np.arange(data.n), pieces):
        stream.push(part(data, slice(place[0], place[-1] + 1)))
    return stream


class TestAverageObjective:
    @given(st.floats(1e-6, 1e3), st.floats(1e-3, 1e9))
    @settings(max_examples=30)
    def test_averaging_and_a_mass_are_inverse_to_each_other(self, lam, mass):
        back = SVMObjective(lam, FreeIntercept()).averaged(mass).of_mass(mass)
        assert back.lam == pytest.approx(lam, rel=4 * EPS)
        assert back.intercept == FreeIntercept()

    def test_parts_with_their_shares_add_up_to_the_whole_and_full_regularisers_do_not(self):
        data, objective = LabelledSet.of(rows(90, 2, 0)), AverageSVMObjective(0.03)
        model, total = LinearModel([0.7, -0.2], 0.4), data.total_weight
        whole = objective.of_mass(total).value(data, model)
        shares = full = 0.0
        for places in (np.arange(30), np.arange(30, 90)):
            block = data.take(places, data.weights[places])
            share = block.total_weight / total
            shares += share * objective.of_mass(block.total_weight).value(block, model)
            full += objective.of_mass(total).value(block, model)
        assert shares == pytest.approx(whole, rel=300 * EPS)
        assert full == pytest.approx(whole + objective.of_mass(total).regulariser(model), rel=300 * EPS)

    @pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan])
    def test_prices_must_be_positive(self, alpha):
        with pytest.raises(ValueError, match="alpha"):
            AverageSVMObjective(alpha)

    def test_masses_must_be_positive(self):
        with pytest.raises(ValueError, match="mass = 0"):
            AverageSVMObjective(1.0).of_mass(0.0)
        with pytest.raises(ValueError, match="total_weight = 0"):
            SVMObjective().averaged(0.0)

    def test_offline_a_mean_price_is_that_of_the_mass_of_the_data(self):
        data = rows(3000, 2, 1)
        mean = SVMCoreset(AverageSVMObjective(0.01)).fit(data, size=200, rng=3)
        plain = SVMCoreset(SVMObjective.of_average(0.01, data.total_weight)).fit(data, size=200, rng=3)
        np.testing.assert_array_equal(mean.coreset.indices, plain.coreset.indices)
        np.testing.assert_array_equal(mean.model.w, plain.model.w)


class TestStreams:
    def test_a_price_without_a_mass_is_refused(self):
        assert isinstance(SVMCoreset(), PartReducer)
        stream = MergeReduce(SVMCoreset(SVMObjective(0.1)), NodeSize(20), block=50, rng=0)
        with pytest.raises(AssumptionError, match="averaged"):
            stream.push(rows(60, 2, 2))

    def test_parts_are_reduced_at_the_price_of_their_mass(self):
        data, reducer = rows(900, 2, 3), SVMCoreset(AverageSVMObjective(0.02))
        one = reducer.for_part(123.0).reduce(data, size=100, rng=5)
        two = SVMCoreset(SVMObjective.of_average(0.02, 123.0)).reduce(data, size=100, rng=5)
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.weights, two.weights)

    @pytest.mark.parametrize("intercept", INTERCEPTS, ids=lambda i: type(i).__name__)
    def test_a_stream_that_keeps_everything_is_the_whole_set(self, intercept):
        data, objective = rows(700, 2, 4), AverageSVMObjective(0.02, intercept)
        found = pushed(MergeReduce(SVMCoreset(objective), NodeSize(10_000), block=100, rng=0), data).result()
        np.testing.assert_array_equal(found.positions, np.arange(700))
        np.testing.assert_array_equal(found.data.weights, data.weights)
        assert found.ledger.accuracy.is_exact
        assert found.ledger.mass == pytest.approx(data.total_weight, rel=700 * EPS)
        here = train_svm(found.data, objective.of_mass(found.ledger.mass))
        there = train_svm(data, objective.of_mass(data.total_weight))
        assert here.best_primal == pytest.approx(there.best_primal, rel=1e-9)

    def test_one_block_is_one_offline_reduction(self):
        data, reducer = rows(600, 2, 5), SVMCoreset(AverageSVMObjective(0.02))
        found = pushed(MergeReduce(reducer, NodeSize(80), block=600, rng=11), data).result()
        seed = np.random.SeedSequence(11, spawn_key=(1, 0, 0))
        offline = reducer.for_part(found.ledger.mass).reduce(data, size=80, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(found.positions, offline.indices)
        np.testing.assert_allclose(found.data.weights, offline.weights, rtol=4 * EPS)
        assert found.ledger.accuracy == offline.accuracy

    def test_a_resumed_stream_ends_with_the_same_coreset(self, tmp_path):
        data, reducer = rows(2000, 2, 6), SVMCoreset(AverageSVMObjective(0.02), ClusterBounds(pilot=100))
        budget = NodeSize(100)
        straight = pushed(MergeReduce(reducer, budget, block=300, rng=1), data).result()
        first = MergeReduce(reducer, budget, block=300, rng=1)
        first.push(part(data, slice(0, 1111)))
        first.save(tmp_path / "stream.npz")
        again = MergeReduce.load(tmp_path / "stream.npz", reducer, budget)
        again.push(part(data, slice(again.rows, 2000)))
        found = again.result()
        np.testing.assert_array_equal(found.positions, straight.positions)
        np.testing.assert_array_equal(found.data.weights, straight.data.weights)
        np.testing.assert_array_equal(found.data.labels, data.labels[found.positions])
        assert found.ledger == straight.ledger

    def test_the_ledger_adds_up_what_the_reductions_state(self):
        data = rows(400, 1, 7)
        reducer = SVMCoreset(AverageSVMObjective(0.5), sampler=Poisson(), delta=0.01)
        stream = pushed(MergeReduce(reducer, NodeSize(60), block=100, rng=2), data)
        assert stream.ledger.reductions == 7
        assert stream.ledger.accuracy.delta == pytest.approx(0.07, rel=1e-9)
        assert stream.ledger.accuracy.epsilon > 0.0

    def test_an_accuracy_is_divided_among_the_reductions(self):
        data, wanted = rows(800, 1, 8), Accuracy(0.5, 0.1)
        stream = MergeReduce(SVMCoreset(AverageSVMObjective(0.5)), KnownLength(wanted, 800), block=200, rng=3)
        ledger = pushed(stream, data).ledger
        assert ledger.accuracy.epsilon <= wanted.epsilon
        assert ledger.accuracy.delta <= wanted.delta

    def test_a_trained_stream_is_close_to_the_optimum(self):
        data, objective = rows(16_000, 3, 9), AverageSVMObjective(0.01)
        found = pushed(MergeReduce(SVMCoreset(objective), NodeSize(1000), block=2000, rng=4), data).result()
        whole = objective.of_mass(data.total_weight)
        model = train_svm(found.data, objective.of_mass(found.ledger.mass)).best
        labelled = LabelledSet.of(data)
        best = train_svm(data, whole).best_primal
        assert whole.value(labelled, model) <= 1.05 * best


class TestOneClass:
    @pytest.mark.parametrize("intercept", INTERCEPTS, ids=lambda i: type(i).__name__)
    @pytest.mark.parametrize("bounds", [ClusterBounds(pilot=60), NormBounds()], ids=["clusters", "norms"])
    def test_streams_sorted_by_class_keep_both(self, intercept, bounds):
        data = rows(1200, 2, 10)
        order = np.argsort(data.labels, kind="stable")
        data = WeightedSet(data.points[order], data.weights[order], data.labels[order])
        reducer = SVMCoreset(AverageSVMObjective(0.02, intercept), bounds)
        found = pushed(MergeReduce(reducer, NodeSize(80), block=200, rng=5), data).result()
        assert set(found.data.labels.tolist()) == {"yes", "no"}
        np.testing.assert_array_equal(found.data.labels, data.labels[found.positions])

    @pytest.mark.parametrize("sampler", [None, IID(), Poisson()], ids=str)
    def test_one_class_with_a_priced_intercept_is_reduced(self, sampler):
        data = rows(500, 2, 11)
        alone = WeightedSet(data.points, data.weights, np.full(500, "no"))
        reducer = SVMCoreset(AverageSVMObjective(0.05), ClusterBounds(pilot=60), sampler)
        found = reducer.for_part(alone.total_weight).reduce(alone, size=50, rng=0)
        assert 20 <= found.support_size <= 90

    @pytest.mark.parametrize("intercept", [RegularisedIntercept(), NoIntercept()], ids=str)
    @pytest.mark.parametrize("bounds", [ClusterBounds(pilot=60), NormBounds()], ids=["clusters", "norms"])
    def test_shares_of_one_class_do_not_exceed_their_bounds(self, intercept, bounds):
        data = rows(150, 2, 12)
        alone = LabelledSet(data.points, np.ones(150), data.weights, (-1, 1))
        objective = SVMObjective(0.05, intercept)
        values = bounds.sensitivities(alone, objective, 0).values
        rng = np.random.default_rng(1)
        for _ in range(300):
            b = rng.standard_normal() * 3.0 if intercept.scale else 0.0
            model = LinearModel(rng.standard_normal(2) * 10.0 ** rng.uniform(-3, 1), b)
            losses = np.maximum(0.0, 1.0 - model.decision(alone.points))
            shares = objective.lam * alone.weights * losses / objective.value(alone, model)
            assert np.all(shares <= values * (1.0 + 1e-12))

    def test_kernel_bound_of_one_class_is_below_the_optimum(self):
        data = rows(60, 1, 13)
        kernel = RBF(0.5)
        alone = LabelledSet(data.points, np.ones(60), data.weights, (-1, 1))
        gram = kernel.matrix(alone.points, alone.points)
        root = np.linalg.cholesky(gram + 1e-10 * np.eye(60))
        images = LabelledSet(root, np.ones(60), data.weights, (-1, 1))
        for intercept in (RegularisedIntercept(2.0), NoIntercept()):
            objective = SVMObjective(0.3, intercept)
            bound = kernel_lower_bound(alone, objective, kernel, rng=0, block=16)
            assert 0.0 < bound <= train_svm(images, objective).best_primal * (1.0 + 1e-6)
        with pytest.raises(AssumptionError, match="free intercept"):
            kernel_lower_bound(alone, SVMObjective(0.3, FreeIntercept()), kernel, rng=0)

    def test_with_a_free_intercept_there_is_nothing_to_train_on(self):
        alone = LabelledSet(np.eye(2), [1, 1], classes=(0, 1))
        with pytest.raises(AssumptionError, match="free intercept"):
            train_svm(alone, SVMObjective(1.0, FreeIntercept()))

    def test_classes_that_are_given_must_be_two_and_cover_the_labels(self):
        with pytest.raises(ValueError, match="classes"):
            LabelledSet(np.eye(2), [1, 1], classes=(1, 1))
        with pytest.raises(AssumptionError, match="none of the classes"):
            LabelledSet(np.eye(2), [1, 3], classes=(1, 2))

    def test_points_without_mass_make_no_class(self):
        data = WeightedSet(np.eye(3), [1.0, 1.0, 0.0], [1, 1, 2])
        assert LabelledSet.of_part(data).class_weights == (0.0, 2.0)
