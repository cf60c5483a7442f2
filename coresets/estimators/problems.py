"""What an estimator of scikit-learn minimises, as far as there are coresets with a guarantee for it.

The table at the end of this file is the only place that knows both vocabularies: parameters of estimators on
one side (C, alpha, loss, fit_intercept), objectives and losses of this library on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from coresets.certificate import Certificate
from coresets.clustering import ClusteringLoss, clustering_certificate
from coresets.errors import AssumptionError
from coresets.least_squares import LeastSquares
from coresets.logistic import LogisticCoreset, LogisticObjective, logistic_certificate
from coresets.reduction import Loss, Reducer, SensitivityReducer
from coresets.ridge import RidgeRegression
from coresets.samplers import IID
from coresets.svm import (
    FreeIntercept,
    Intercept,
    LabelledSet,
    LinearModel,
    NoIntercept,
    RegularisedIntercept,
    SVMCoreset,
    SVMObjective,
    svm_certificate,
)
from coresets.uniform import UniformReducer
from coresets.weighted_set import WeightedSet

__all__ = ["Problem", "accepts_sparse", "problem_of", "two_classes_only"]

Estimator = Any


class Problem(Protocol):
    """An objective that the library has coresets for."""

    @property
    def reducer(self) -> Reducer:
        """What makes the coresets."""

    def require(self, reducer: object) -> None:
        """Raise ValueError if a reducer of the same kind was made for other parameters."""

    def certificate(self, data: WeightedSet | LabelledSet, fitted: Estimator) -> Certificate | None:
        """How far a fitted estimator is from the optimum on all the data, if that can be told."""


def _require_same(own: object, reducer: object) -> None:
    """An objective or loss of the same class must be the same."""
    for name in ("objective", "loss"):
        theirs = getattr(reducer, name, None)
        if type(theirs) is type(own) and theirs != own:
            raise ValueError(
                f"the reducer is for {theirs!r}, the estimator minimises {own!r}; make them agree (parameter "
                f"reducer__{name}), or leave the reducer out"
            )


def _model(fitted: Estimator) -> LinearModel | None:
    """Coefficients of a linear model of two classes."""
    coefficients = getattr(fitted, "coef_", None)
    if coefficients is None or np.shape(coefficients)[0] != 1:
        return None
    if hasattr(coefficients, "toarray"):  # of SVC on sparse rows
        coefficients = coefficients.toarray()
    return LinearModel(coefficients, fitted.intercept_)


@dataclass(frozen=True)
class Hinge:
    """Linear support vector machines; C is the price of the hinge loss."""

    objective: SVMObjective

    @property
    def reducer(self) -> Reducer:
        """Cluster bounds."""
        return SVMCoreset(self.objective)

    def require(self, reducer: object) -> None:
        """Price and intercept must agree."""
        _require_same(self.objective, reducer)

    def certificate(self, data: WeightedSet | LabelledSet, fitted: Estimator) -> Certificate | None:
        """The duality gap of the coefficients."""
        if (model := _model(fitted)) is None:
            return None
        return svm_certificate(LabelledSet.of(data), model, self.objective).as_certificate()


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with a regulariser; C is the price of the loss."""

    objective: LogisticObjective

    @property
    def reducer(self) -> Reducer:
        """Bounds by norms, which assume nothing."""
        return LogisticCoreset(self.objective)

    def require(self, reducer: object) -> None:
        """Price and intercept must agree."""
        _require_same(self.objective, reducer)

    def certificate(self, data: WeightedSet | LabelledSet, fitted: Estimator) -> Certificate | None:
        """The duality gap of the coefficients."""
        if (model := _model(fitted)) is None:
            return None
        return logistic_certificate(LabelledSet.of(data), model, self.objective).as_certificate()


@dataclass(frozen=True)
class Residuals:
    """Sums of squared residuals, with or without a penalty.

    There is no certificate of a model: the optimum is no harder to find than it would be. The error of the
    coreset itself is among the coreset's certificates.
    """

    loss: Loss

    @property
    def reducer(self) -> Reducer:
        """Leverage scores."""
        return SensitivityReducer(self.loss)

    def require(self, reducer: object) -> None:
        """Penalty and intercept must agree."""
        _require_same(self.loss, reducer)

    def certificate(self, data: WeightedSet | LabelledSet, fitted: Estimator) -> Certificate | None:
        """None."""
        return None


@dataclass(frozen=True)
class Centres:
    """k-means."""

    loss: ClusteringLoss

    @property
    def reducer(self) -> Reducer:
        """Draws with replacement, for which the error is bounded for all centres at once."""
        return SensitivityReducer(self.loss, IID())

    def require(self, reducer: object) -> None:
        """The number of centres must agree."""
        _require_same(self.loss, reducer)

    def certificate(self, data: WeightedSet | LabelledSet, fitted: Estimator) -> Certificate | None:
        """Cost of the centres on all the data, and a lower bound on that of any."""
        if not isinstance(data, WeightedSet):
            return None
        found = clustering_certificate(data, fitted.cluster_centers_, self.loss.power, rng=0)
        return found.as_certificate()


def _refuse(estimator: Estimator, reason: str) -> AssumptionError:
    return AssumptionError(
        f"there is no coreset with a guarantee for {type(estimator).__name__} with {reason}; pass a reducer, "
        "such as UniformReducer(), which promises nothing"
    )


def _require_no_class_weights(estimator: Estimator) -> None:
    if estimator.class_weight is not None:
        raise _refuse(
            estimator,
            f"class_weight = {estimator.class_weight!r} (give every row its sample_weight instead)",
        )


def _linear_svc(estimator: Estimator) -> Problem:
    if estimator.loss != "hinge" or estimator.penalty != "l2":
        raise _refuse(
            estimator,
            f"loss = {estimator.loss!r} and penalty = {estimator.penalty!r} (the hinge loss and l2 have one)",
        )
    _require_no_class_weights(estimator)
    intercept: Intercept = NoIntercept()
    if estimator.fit_intercept:
        intercept = RegularisedIntercept(estimator.intercept_scaling)
    return Hinge(SVMObjective(estimator.C, intercept))


def _svc(estimator: Estimator) -> Problem:
    if estimator.kernel != "linear":
        raise _refuse(
            estimator,
            f"kernel = {estimator.kernel!r} by default (pass reducer = SVMCoreset(SVMObjective(C, "
            "FreeIntercept()), NormBounds(RBF(gamma))))",
        )
    _require_no_class_weights(estimator)
    return Hinge(SVMObjective(estimator.C, FreeIntercept()))


def _logistic_regression(estimator: Estimator) -> Problem:
    # The parameter penalty was given up for l1_ratio and C; its default then says that it is deprecated.
    if estimator.penalty not in {"l2", "deprecated"} or estimator.l1_ratio or not np.isfinite(estimator.C):
        raise _refuse(estimator, "another penalty than l2")
    _require_no_class_weights(estimator)
    intercept: Intercept = NoIntercept()
    if estimator.fit_intercept:
        liblinear = estimator.solver == "liblinear"
        intercept = RegularisedIntercept(estimator.intercept_scaling) if liblinear else FreeIntercept()
    return Logistic(LogisticObjective(estimator.C, intercept))


def _linear_regression(estimator: Estimator) -> Problem:
    if estimator.positive:
        raise _refuse(estimator, "positive = True")
    return Residuals(LeastSquares(intercept=bool(estimator.fit_intercept)))


def _ridge(estimator: Estimator) -> Problem:
    if estimator.positive:
        raise _refuse(estimator, "positive = True")
    if np.ndim(estimator.alpha) != 0 or estimator.alpha <= 0.0:
        raise _refuse(estimator, f"alpha = {estimator.alpha!r} (one positive number has one)")
    return Residuals(RidgeRegression(float(estimator.alpha), bool(estimator.fit_intercept)))


def _k_means(estimator: Estimator) -> Problem:
    return Centres(ClusteringLoss(estimator.n_clusters))


# By the name of the class, so that nothing of scikit-learn is imported to look something up.
_BY_NAME: dict[str, Callable[[Estimator], Problem]] = {
    "KMeans": _k_means,
    "LinearRegression": _linear_regression,
    "LinearSVC": _linear_svc,
    "LogisticRegression": _logistic_regression,
    "MiniBatchKMeans": _k_means,
    "Ridge": _ridge,
    "SVC": _svc,
}


def problem_of(estimator: Estimator) -> Problem | None:
    """The problem that an estimator of scikit-learn solves, or None if it is not among the known ones.

    Raises
    ------
    AssumptionError
        If the estimator is known, but not with its parameters.

    Examples
    --------
    >>> from sklearn.svm import LinearSVC
    >>> from coresets.estimators import problem_of
    >>> problem_of(LinearSVC(C=0.1, loss="hinge")).objective.lam
    0.1
    """
    kind = type(estimator)  # not its bases: a class derived from them may solve another problem
    if kind.__module__.startswith("sklearn.") and kind.__name__ in _BY_NAME:
        return _BY_NAME[kind.__name__](estimator)
    return None


def two_classes_only(reducer: object) -> bool:
    """Whether a reducer takes labels of exactly two classes."""
    return isinstance(reducer, (SVMCoreset, LogisticCoreset))


def accepts_sparse(reducer: object) -> bool:
    """Whether a reducer reads sparse rows as they are."""
    return isinstance(reducer, (SVMCoreset, LogisticCoreset, UniformReducer))
