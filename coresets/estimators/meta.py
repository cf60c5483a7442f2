"""Any estimator of scikit-learn that takes weights, fitted on a coreset.

Cost: one reduction of all rows, one fit on the kept ones, and where a certificate is known a few more passes.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.utils import get_tags
from sklearn.utils._set_output import _wrap_data_with_container  # what set_output of transformers calls
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from coresets._random import Rng
from coresets._seeds import seed_words
from coresets._validate import check_integer
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.estimators._parameters import fields_of, with_fields
from coresets.estimators.problems import Problem, accepts_sparse, problem_of, two_classes_only
from coresets.reduction import Reducer
from coresets.svm import LabelledSet
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["CoresetEstimator"]

Array = Any
F = TypeVar("F", bound=Callable[..., Any])

_DENSE_LIMIT = 2**31  # bytes of a dense copy that a reducer without sparse rows may be given


def _if_estimator_has(name: str) -> Callable[[F], F]:
    """Mark a method that only some estimators have: where it is missing, the error is theirs."""

    def check(self: CoresetEstimator) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self.estimator, name)
        return True

    marked: Callable[[F], F] = available_if(check)
    return marked


class CoresetEstimator(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Fits an estimator on a coreset of the rows, with the coreset's weights.

    One class serves classifiers, regressors, clusterers and transformers, as ``Pipeline`` and
    ``GridSearchCV`` do: its kind, its tags and its methods are those of the estimator inside, and there is no
    choice to make that could contradict it.

    Parameters
    ----------
    estimator : estimator
        What is fitted; its ``fit`` takes ``sample_weight``. It is cloned.
    reducer : Reducer, optional
        What makes the coreset. By default that of the estimator's own problem, with its own parameters
        (``C``, ``fit_intercept``, ...), so that a search over these changes both.
    size : int, optional
        Points of the coreset; from the number of rows on, all are taken.
    accuracy : Accuracy, optional
        Relative error and failure probability, from which the size follows. Exactly one of size and
        accuracy must be given.
    certify : bool
        Whether to compute :attr:`certificate_`, which takes a few passes over all rows.
    random_state : int, RandomState, Generator or None
        Which coreset. None draws anew each time, and never from the global generator.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    coreset_ : Coreset
        Indices of the kept rows, weights, accuracy, certificates.
    certificate_ : Certificate or None
        How far the fitted estimator is from the optimum on all the rows, if that is known.
    classes_ : array
        Labels, for classifiers.
    labels_ : array of shape (n,)
        Clusters of all rows, for clusterers.
    n_features_in_, feature_names_in_
        Columns seen in ``fit``.

    Raises
    ------
    ValueError
        In ``fit``: if both or neither of size and accuracy are given, or the estimator takes no weights.
    AssumptionError
        In ``fit``: if no reducer was passed and none is known, or a class is missing from the coreset.

    Notes
    -----
    ``sample_weight`` are the masses of the rows; the coreset's weights have taken them in. No method but
    ``fit`` looks at the coreset: ``predict``, ``transform`` and ``labels_`` have a row for every row given.
    Preprocessing comes before, in a pipeline whose last step this is. With metadata routing, the only
    metadata is ``sample_weight``, which this estimator consumes: ``set_fit_request(sample_weight=True)``.

    Reducers for support vector machines take two classes; for more, wrap the whole in
    ``sklearn.multiclass.OneVsRestClassifier``, so that every class has a coreset of its own.

    Parameters of the reducer have names like ``reducer__delta`` and ``reducer__objective__lam``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from coresets.estimators import CoresetEstimator
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 20000)
    >>> X = rng.standard_normal((20000, 5)) + y[:, None]
    >>> machine = LinearSVC(loss="hinge", C=0.01, max_iter=100_000)
    >>> model = CoresetEstimator(machine, size=2000, random_state=0).fit(X, y)
    >>> model.coreset_.support_size <= 2000, model.certificate_.value < 0.02
    (True, True)
    >>> round(model.score(X, y), 2)
    0.87
    """

    _sklearn_auto_wrap_output_keys = frozenset({"transform"})

    def __init__(
        self,
        estimator: Any,
        reducer: Reducer | None = None,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        certify: bool = True,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.reducer = reducer
        self.size = size
        self.accuracy = accuracy
        self.certify = certify
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, those of the estimator and of the reducer included if ``deep``."""
        found: dict[str, Any] = super().get_params(deep=deep)
        return found | fields_of(self.reducer, "reducer") if deep else found

    def set_params(self, **params: Any) -> CoresetEstimator:
        """Set parameters; the reducer is a value, and is replaced by a changed one."""
        start = "reducer__"
        inner = {name.removeprefix(start): params.pop(name) for name in [*params] if name.startswith(start)}
        super().set_params(**params)
        if inner:
            self.reducer = with_fields(self.reducer, inner, "reducer")
        return self

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        for name in ("estimator_type", "classifier_tags", "regressor_tags", "transformer_tags"):
            setattr(tags, name, deepcopy(getattr(inner, name)))
        tags.target_tags.required = inner.target_tags.required
        tags.target_tags.positive_only = inner.target_tags.positive_only
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.positive_only = inner.input_tags.positive_only
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
            if self._two_classes():
                tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Array, y: Array = None, sample_weight: Array = None) -> CoresetEstimator:
        """Reduce the rows and fit the estimator on the coreset.

        Parameters
        ----------
        X : array, data frame or sparse matrix of shape (n, d)
            Finite numbers.
        y : array of shape (n,), optional
            Labels or targets, if the estimator needs them.
        sample_weight : array of shape (n,), optional
            Masses of the rows, not negative; ones by default.
        """
        request = self._request()
        if not has_fit_parameter(self.estimator, "sample_weight"):
            raise ValueError(
                f"{type(self.estimator).__name__}.fit takes no sample_weight, and so cannot be fitted on a "
                "coreset; in a pipeline, make the CoresetEstimator its last step"
            )
        X, y = self._validated(X, y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if weights.min() < 0.0 or not weights.any():
            raise ValueError(
                "Negative values in data passed to `sample_weight`, or zeros alone; pass non-negative masses"
            )
        problem = problem_of(self.estimator) if self.reducer is None else self._known_problem()
        reducer = self._reducer(problem)
        data = self._data(X, y, weights, reducer)
        coreset: Coreset = reducer.reduce(data, **request, rng=self._generator())
        self.estimator_ = self._fitted(X, y, weights, coreset)
        self.coreset_ = coreset
        wanted = self.certify and problem is not None
        self.certificate_ = problem.certificate(data, self.estimator_) if wanted else None  # type: ignore[union-attr]
        if get_tags(self.estimator).estimator_type == "clusterer":
            self.labels_ = self.estimator_.predict(X)
        return self

    @property
    def classes_(self) -> Array:
        """Labels of the classifier."""
        return self.estimator_.classes_

    @_if_estimator_has("predict")
    def predict(self, X: Array) -> Array:
        """Predictions of the fitted estimator, one a row."""
        return self._ask("predict", X)

    @_if_estimator_has("predict_proba")
    def predict_proba(self, X: Array) -> Array:
        """Probabilities of the classes, by the fitted estimator."""
        return self._ask("predict_proba", X)

    @_if_estimator_has("predict_log_proba")
    def predict_log_proba(self, X: Array) -> Array:
        """Logarithms of the probabilities, by the fitted estimator."""
        return self._ask("predict_log_proba", X)

    @_if_estimator_has("decision_function")
    def decision_function(self, X: Array) -> Array:
        """Decision function of the fitted estimator."""
        return self._ask("decision_function", X)

    @_if_estimator_has("score_samples")
    def score_samples(self, X: Array) -> Array:
        """Score of every row, by the fitted estimator."""
        return self._ask("score_samples", X)

    @_if_estimator_has("score")
    def score(self, X: Array, y: Array = None, sample_weight: Array = None) -> float:
        """Score of the fitted estimator on the rows given."""
        given = {} if sample_weight is None else {"sample_weight": sample_weight}
        return float(self.estimator_.score(self._seen(X), y, **given))

    @_if_estimator_has("transform")
    def transform(self, X: Array) -> Array:
        """Transform of the fitted estimator: a row for every row given."""
        return _wrap_data_with_container("transform", self._ask("transform", X), X, self)

    @_if_estimator_has("transform")
    def fit_transform(self, X: Array, y: Array = None, sample_weight: Array = None) -> Array:
        """Fit, and transform all rows, those outside the coreset as well."""
        return self.fit(X, y, sample_weight).transform(X)

    @_if_estimator_has("fit_predict")
    def fit_predict(self, X: Array, y: Array = None, sample_weight: Array = None) -> Array:
        """Fit, and predict for all rows, those outside the coreset as well."""
        return self.fit(X, y, sample_weight).predict(X)

    @_if_estimator_has("get_feature_names_out")
    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns that ``transform`` returns."""
        check_is_fitted(self, "estimator_")
        seen = getattr(self, "feature_names_in_", None)
        if input_features is None:
            input_features = seen
        elif seen is not None and not np.array_equal(np.asarray(input_features, dtype=object), seen):
            raise ValueError("input_features is not equal to feature_names_in_")
        return self.estimator_.get_feature_names_out(input_features)

    @_if_estimator_has("transform")
    def set_output(self, *, transform: str | None = None) -> CoresetEstimator:
        """Container of what ``transform`` returns: "default", "pandas" or "polars"; None changes nothing."""
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def _ask(self, method: str, X: Array) -> Array:
        check_is_fitted(self, "estimator_")
        return getattr(self.estimator_, method)(self._seen(X))

    def _seen(self, X: Array) -> Array:
        """Rows like those of ``fit``."""
        check_is_fitted(self, "estimator_")
        return validate_data(self, X, reset=False, **self._rules())

    def _rules(self) -> dict[str, Any]:
        takes_sparse = get_tags(self.estimator).input_tags.sparse
        return {"accept_sparse": "csr" if takes_sparse else False, "dtype": [np.float64, np.float32]}

    def _request(self) -> dict[str, Any]:
        """What the reducer is asked for."""
        if (self.size is None) == (self.accuracy is None):
            raise ValueError(f"size = {self.size}, accuracy = {self.accuracy}; pass exactly one of the two")
        if self.size is None:
            return {"accuracy": self.accuracy}
        return {"size": check_integer(self.size, "size", at_least=1)}

    def _validated(self, X: Array, y: Array) -> tuple[Array, Array]:
        if y is None and not get_tags(self.estimator).target_tags.required:
            return validate_data(self, X, **self._rules()), None
        X, y = validate_data(
            self, X, y, **self._rules(), y_numeric=is_regressor(self.estimator), multi_output=False
        )
        y = column_or_1d(y, warn=True)
        if is_classifier(self.estimator):
            check_classification_targets(y)
            kind = type_of_target(y, input_name="y", raise_unknown=True)
            if self._two_classes() and np.unique(y).size == 1:
                raise ValueError(f"y has 1 class, {y[0]!r}; two classes are needed")
            if self._two_classes() and kind != "binary":
                raise ValueError(
                    f"Only binary classification is supported. The type of the target is {kind}. "
                    "For more classes, use OneVsRestClassifier(CoresetEstimator(...))"
                )
        return X, y

    def _two_classes(self) -> bool:
        """Whether the reducer takes no more than two classes."""
        try:
            return two_classes_only(self._reducer(problem_of(self.estimator)))
        except ValueError:  # no reducer for these parameters; fit will say so
            return False

    def _known_problem(self) -> Problem | None:
        """The problem, for its certificate alone: the reducer is the caller's, and must be for no other."""
        try:
            problem = problem_of(self.estimator)
        except AssumptionError:
            return None
        if problem is not None:
            problem.require(self.reducer)
        return problem

    def _reducer(self, problem: Problem | None) -> Reducer:
        if self.reducer is not None:
            if isinstance(self.reducer, type) or not callable(getattr(self.reducer, "reduce", None)):
                raise TypeError(f"reducer = {self.reducer!r}; pass a reducer, such as UniformReducer()")
            return self.reducer
        if problem is None:
            raise AssumptionError(
                f"no reducer is known for {type(self.estimator).__name__}; pass one, such as "
                "UniformReducer(), which promises nothing"
            )
        return problem.reducer

    def _generator(self) -> Rng:
        """A generator of NumPy for any of scikit-learn's states."""
        if isinstance(self.random_state, np.random.RandomState):
            return np.random.default_rng(self.random_state.randint(2**32, size=4, dtype=np.uint32))
        if isinstance(self.random_state, (int, np.integer)):
            return np.random.default_rng(seed_words(int(self.random_state)))
        return np.random.default_rng(self.random_state)

    @staticmethod
    def _data(X: Array, y: Array, weights: Array, reducer: Reducer) -> Any:
        """The rows as the reducer takes them: a WeightedSet, or a LabelledSet if they are sparse."""
        if not sparse.issparse(X):
            return WeightedSet(X, weights, y)
        if accepts_sparse(reducer) and y is not None and np.unique(y).size == 2:
            return LabelledSet(X, y, weights)
        if X.shape[0] * X.shape[1] * X.dtype.itemsize > _DENSE_LIMIT:
            raise ValueError(
                f"{type(reducer).__name__} reads dense rows, and X of shape {X.shape} is too large for that; "
                "pass fewer columns, or SVMCoreset or UniformReducer, which read sparse ones"
            )
        return WeightedSet(X.toarray(), weights, y)

    def _fitted(self, X: Array, y: Array, weights: Array, coreset: Coreset) -> Any:
        """A clone of the estimator, fitted on the coreset."""
        masses = to_host(coreset.weights).astype(np.float64)
        if coreset.indices is None:
            if y is not None:
                raise TypeError("the coreset has free points, which have no labels; use another reducer")
            return clone(self.estimator).fit(to_host(coreset.points), sample_weight=masses)
        indices = to_host(coreset.indices)
        indices, masses = indices[masses > 0.0], masses[masses > 0.0]
        if indices.size == 0:
            raise ValueError("the coreset is empty; ask for a larger size")
        labels = None if y is None else y[indices]
        if labels is not None and is_classifier(self.estimator):
            missing = np.setdiff1d(y[weights > 0.0], labels)
            if missing.size:
                raise AssumptionError(
                    f"the coreset has no row of class {missing[0]!r}; ask for a larger size, or use a "
                    "reducer that keeps every class"
                )
        return clone(self.estimator).fit(X[indices], labels, sample_weight=masses)
