from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from coresets import IID, Accuracy, AssumptionError, Poisson, UniformReducer, WeightedSet
from coresets.svm import LabelledSet

EPS = float(np.finfo(np.float64).eps)


def data(n: int = 500) -> WeightedSet:
    rng = np.random.default_rng(1)
    return WeightedSet(rng.standard_normal((n, 2)), rng.uniform(0.5, 2.0, n))


def test_a_sample_of_fixed_size_keeps_the_total_weight():
    everything = data()
    coreset = UniformReducer().reduce(everything, size=50, rng=2)
    assert coreset.support_size == 50
    # Every kept weight is total / 50 up to rounding: their sum has 50 terms, the total 500.
    assert coreset.total_weight == pytest.approx(everything.total_weight, rel=2000 * EPS)


def test_all_points_are_exact():
    everything = data()
    for request in ({"size": 500}, {"size": 501}, {"accuracy": Accuracy.exact()}):
        coreset = UniformReducer().reduce(everything, **request, rng=0)
        assert coreset.accuracy.is_exact
        assert np.array_equal(coreset.weights, everything.weights)


@pytest.mark.parametrize("sampler", [Poisson(), IID()], ids=["Poisson", "IID"])
def test_weights_are_unbiased(sampler):
    everything, values = data(20), np.arange(20.0)
    draws = 4000
    rng = np.random.default_rng(3)
    sums = []
    for _ in range(draws):
        coreset = UniformReducer(sampler).reduce(everything, size=10, rng=rng)
        sums.append(float(coreset.weights @ values[coreset.indices]))
    truth = float(everything.weights @ values)
    # Five standard errors: a false alarm in 2 of a million runs, and the seed is fixed.
    assert abs(np.mean(sums) - truth) < 5 * np.std(sums) / np.sqrt(draws)


def test_sparse_rows_and_any_number_of_classes_are_taken():
    labelled = LabelledSet(sparse.eye(30, format="csr"), np.arange(30) % 2)
    assert UniformReducer().reduce(labelled, size=7, rng=0).support_size == 7
    many = WeightedSet(np.eye(30), labels=np.arange(30) % 5)
    assert UniformReducer().reduce(many, size=7, rng=0).support_size == 7


def test_no_accuracy_is_promised():
    assert UniformReducer().reduce(data(), size=10, rng=0).accuracy.vacuous
    with pytest.raises(AssumptionError, match="no theorem promises"):
        UniformReducer().reduce(data(), accuracy=Accuracy(0.1, 0.1), rng=0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="exactly one"):
        UniformReducer().reduce(data(), rng=0)
    with pytest.raises(ValueError, match="size = 0"):
        UniformReducer().reduce(data(), size=0, rng=0)
    with pytest.raises(TypeError, match="WeightedSet"):
        UniformReducer().reduce(np.eye(3), size=1, rng=0)
    with pytest.raises(TypeError, match="sampler"):
        UniformReducer(sampler=IID)
