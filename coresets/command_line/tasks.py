"""What ``--task`` may be: a small object each, which knows its reducer, its theorem and its certificate."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from coresets._random import Rng
from coresets.certificate import Certificate
from coresets.clustering import ClusteringLoss, Distance, clustering_certificate
from coresets.command_line.task import Facts, Label, Settings, Shape, Task
from coresets.errors import AssumptionError
from coresets.guarantee import Claim
from coresets.guarantees import (
    ClusterAllQueries,
    HingeAllQueries,
    HingeClass,
    KCentresClass,
    LipschitzClass,
    LipschitzPoisson,
    MatrixChernoff,
    RidgeClass,
    RidgeMatrixChernoff,
    SubspaceClass,
)
from coresets.l1_regression import L1Regression
from coresets.least_squares import LeastSquares, embedding_extremes
from coresets.logistic import (
    AverageLogisticObjective,
    LogisticCoreset,
    LogisticObjective,
    logistic_certificate,
    train_logistic,
)
from coresets.reduction import Loss, SensitivityReducer
from coresets.residuals import residual_rows
from coresets.ridge import RidgeCoreset, RidgeRegression
from coresets.samplers import IID, Poisson, Sampler
from coresets.svm import (
    LabelledSet,
    LinearModel,
    SVMCoreset,
    SVMObjective,
    svm_certificate,
    train_svm,
)
from coresets.uniform import UniformReducer
from coresets.weighted_set import WeightedSet

__all__ = ["TASKS"]


class _Sampled(Task):
    """A loss without a regulariser."""

    sampler: ClassVar[Sampler] = Poisson()

    @abstractmethod
    def loss(self, settings: Settings) -> Loss:
        """The loss."""

    def reducer(self, settings: Settings) -> Any:
        return SensitivityReducer(self.loss(settings), self.sampler, delta=settings.delta)

    def stream_reducer(self, settings: Settings, facts: Facts | None) -> Any:
        # Calibrated weights state a larger error, which would add up over the levels.
        return SensitivityReducer(self.loss(settings), self.sampler, delta=settings.delta, calibration=None)

    def claim_of(self, settings: Settings, data: WeightedSet, rng: Rng) -> Claim:
        return SensitivityReducer(self.loss(settings), self.sampler).claim(data)


class SupportVectorMachine(Task):
    """The hinge loss with its regulariser."""

    name = "svm"
    summary = "linear support vector machine: hinge loss, price --C"
    label = Label.CLASSES
    priced = True

    def objective(self, settings: Settings) -> SVMObjective:
        """Price and intercept, the latter as in LinearSVC by default."""
        return SVMObjective(settings.price, settings.intercept_or("regularised"))

    def reducer(self, settings: Settings) -> Any:
        return SVMCoreset(self.objective(settings), delta=settings.delta)

    def stream_reducer(self, settings: Settings, facts: Facts | None) -> Any:
        assert facts is not None  # the task is priced
        return SVMCoreset(self.objective(settings).averaged(facts.mass), delta=settings.delta)

    def claim(self, settings: Settings, shape: Shape) -> Claim:
        total = shape.total_or_refuse(self.name)
        return Claim(HingeAllQueries(), HingeClass(total, shape.columns, settings.has_intercept))

    def claim_of(self, settings: Settings, data: WeightedSet, rng: Rng) -> Claim:
        reducer = self.reducer(settings)
        labelled = LabelledSet.of(data)
        return reducer.claim(labelled, reducer.sensitivities(labelled, rng=rng))

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        trained = train_svm(LabelledSet.of(kept), self.objective(settings))
        return self.certify_model(settings, data, trained.best)

    def certify_model(self, settings: Settings, data: WeightedSet, model: LinearModel) -> Certificate:
        return svm_certificate(LabelledSet.of(data), model, self.objective(settings)).as_certificate()


class LogisticRegression(Task):
    """The logistic loss with its regulariser."""

    name = "logistic"
    summary = "logistic regression with an l2 penalty, price --C"
    label = Label.CLASSES
    priced = True

    def objective(self, settings: Settings) -> LogisticObjective:
        """Price and intercept, the latter as in scikit-learn by default."""
        return LogisticObjective(settings.price, settings.intercept_or("free"))

    def reducer(self, settings: Settings) -> Any:
        return LogisticCoreset(self.objective(settings), delta=settings.delta)

    def stream_reducer(self, settings: Settings, facts: Facts | None) -> Any:
        assert facts is not None  # the task is priced
        objective: AverageLogisticObjective = self.objective(settings).averaged(facts.mass)
        low, high = facts.classes
        return LogisticCoreset(objective, delta=settings.delta, classes=(low, high))

    def claim_of(self, settings: Settings, data: WeightedSet, rng: Rng) -> Claim:
        reducer = self.reducer(settings)
        return reducer.claim(reducer.sensitivities(data, rng=rng))

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        trained = train_logistic(LabelledSet.of(kept), self.objective(settings))
        return self.certify_model(settings, data, trained.best)

    def certify_model(self, settings: Settings, data: WeightedSet, model: LinearModel) -> Certificate:
        return logistic_certificate(LabelledSet.of(data), model, self.objective(settings)).as_certificate()


def _embedding(settings: Settings, data: WeightedSet, kept: WeightedSet, penalty: float = 0.0) -> Certificate:
    """The error of a coreset's sum of squared residuals, over all coefficients; the penalty is exact."""
    own, theirs = (residual_rows(one, intercept=settings.has_intercept) for one in (data, kept))
    prices = np.eye(data.d if penalty else 0, own.shape[1])  # one row a penalised coefficient
    rows = np.concatenate([own, prices, theirs])
    price = np.full(len(prices), penalty)
    weights = np.concatenate([data.weights, price, np.zeros(kept.n)])
    kept_weights = np.concatenate([price, kept.weights])
    low, high, rank = embedding_extremes(rows, weights, np.arange(data.n, len(rows)), kept_weights)
    return Certificate(
        "penalised embedding" if penalty else "subspace embedding",
        f"largest relative error of the sum of squared residuals{' and penalty' if penalty else ''} over "
        "all coefficients, up to the numerical rank of the data",
        max(high - 1.0, 1.0 - low),
        details={"rank": float(rank), "smallest_ratio": low, "largest_ratio": high},
    )


class LeastSquaresTask(_Sampled):
    """Sums of squared residuals."""

    name = "least-squares"
    summary = "linear regression; without --label, the sums of squares of all projections"
    label = Label.TARGET
    needs_label = False

    def loss(self, settings: Settings) -> LeastSquares:
        return LeastSquares(intercept=settings.has_intercept)

    def claim(self, settings: Settings, shape: Shape) -> Claim:
        rank = shape.columns + settings.has_intercept + 1
        return Claim(MatrixChernoff(), SubspaceClass(shape.total or float(rank), rank))

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        return _embedding(settings, data, kept)


class RidgeTask(_Sampled):
    """Sums of squared residuals with a penalty."""

    name = "ridge"
    summary = "ridge regression, penalty --penalty"
    label = Label.TARGET
    priced = True

    def loss(self, settings: Settings) -> RidgeRegression:
        return RidgeRegression(settings.penalty, settings.has_intercept)

    def stream_reducer(self, settings: Settings, facts: Facts | None) -> Any:
        assert facts is not None  # the task is priced
        return RidgeCoreset(settings.penalty / facts.mass, settings.has_intercept, delta=settings.delta)

    def claim(self, settings: Settings, shape: Shape) -> Claim:
        # Without data, the rank bounds the effective dimension.
        total = shape.total or float(shape.columns + settings.has_intercept + 1)
        return Claim(RidgeMatrixChernoff(), RidgeClass(total, total))

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        return _embedding(settings, data, kept, settings.penalty)


class LeastAbsoluteDeviations(_Sampled):
    """Sums of absolute residuals."""

    name = "l1"
    summary = "least absolute deviations"
    label = Label.TARGET

    def loss(self, settings: Settings) -> L1Regression:
        return L1Regression(intercept=settings.has_intercept)

    def claim(self, settings: Settings, shape: Shape) -> Claim:
        total = shape.total or float(shape.columns + settings.has_intercept + 1)
        return Claim(LipschitzPoisson(), LipschitzClass(total, norm_ratio=1.0, range_ratio=1.0))


class KMeansTask(_Sampled):
    """Squared distances to the nearest of k centres."""

    name = "k-means"
    summary = "k-means with --clusters centres"
    label = Label.NONE
    needs_label = False
    sampler = IID()  # for it the error is bounded for all centres at once

    def loss(self, settings: Settings) -> ClusteringLoss:
        return ClusteringLoss(settings.clusters)

    def claim(self, settings: Settings, shape: Shape) -> Claim:
        total = shape.total_or_refuse(self.name)
        return Claim(ClusterAllQueries(), KCentresClass(total, settings.clusters, shape.columns))

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        from sklearn.cluster import KMeans  # noqa: PLC0415 - a second of import that only this needs

        found = KMeans(settings.clusters, n_init=3, random_state=0)
        found.fit(kept.points, sample_weight=kept.weights)
        return clustering_certificate(data, found.cluster_centers_, rng=0).as_certificate()


class KMedianTask(KMeansTask):
    """Distances to the nearest of k centres."""

    name = "k-median"
    summary = "k-median with --clusters centres"

    def loss(self, settings: Settings) -> ClusteringLoss:
        return ClusteringLoss(settings.clusters, Distance())

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        raise AssumptionError("there is no certificate for a coreset of k-median")


class Uniform(Task):
    """No loss at all."""

    name = "uniform"
    summary = "a uniform sample, which promises nothing: for comparison"
    label = Label.OPTIONAL
    needs_label = False

    def reducer(self, settings: Settings) -> Any:
        return UniformReducer()


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SupportVectorMachine(),
        LogisticRegression(),
        LeastSquaresTask(),
        RidgeTask(),
        LeastAbsoluteDeviations(),
        KMeansTask(),
        KMedianTask(),
        Uniform(),
    )
}
