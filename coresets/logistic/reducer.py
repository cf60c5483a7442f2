"""From many labelled rows to a few weighted ones, and to a logistic regression with a certificate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, Scheme
from coresets.logistic.bounds import LogisticShares, NormShares
from coresets.logistic.certificate import LogisticCertificate, logistic_certificate, train_logistic
from coresets.logistic.objective import AverageLogisticObjective, LogisticObjective
from coresets.samplers import Poisson, Sampler
from coresets.sensitivity import Sensitivities
from coresets.svm.data import LabelledSet
from coresets.svm.objective import LinearModel
from coresets.weighted_set import Coreset, WeightedSet

__all__ = ["LogisticCoreset", "LogisticFit"]


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """A model trained on a coreset.

    Parameters
    ----------
    model : LinearModel
        Coefficients.
    coreset : Coreset
        What it was trained on.
    training : LogisticCertificate
        How far it is from the optimum on the coreset.
    certificate : LogisticCertificate or None
        How far it is from the optimum on all the data, if that was asked for.
    classes : array of shape (2,)
        The negative and the positive label.
    """

    model: LinearModel
    coreset: Coreset
    training: LogisticCertificate
    certificate: LogisticCertificate | None
    classes: Any

    def predict(self, points: Any) -> Any:
        """Labels of points of shape (n, d)."""
        return self.classes[(self.model.decision(points) > 0.0).astype(np.intp)]

    def predict_proba(self, points: Any) -> Any:
        """Probabilities of both classes, (n, 2)."""
        decision = self.model.decision(points)
        positive = np.exp(-np.logaddexp(0.0, -decision))
        return np.column_stack([np.exp(-np.logaddexp(0.0, decision)), positive])


@dataclass(frozen=True)
class LogisticCoreset:
    """Coresets for logistic regression, with the regulariser kept exactly.

    Parameters
    ----------
    objective : LogisticObjective or AverageLogisticObjective
        The problem: price of the loss, and what the intercept costs. The second prices the mean loss, and is
        what a stream needs, whose total mass is not known.
    bounds : LogisticShares
        :class:`NormShares` (LG) by default: it assumes nothing, is free of the dimension and works for
        kernels, but its sizes grow with lam. :class:`ComplexityShares` (LG-M) does not depend on lam, and
        needs classes of bounded complexity.
    sampler : Sampler
        Poisson sampling by default, or draws with replacement: for both the error is bounded for all models
        at once.
    delta : float
        Failure probability at which the accuracy of a coreset of given size is stated.
    classes : tuple, optional
        The negative and the positive label. Found among the labels by default; parts of a stream, which may
        lack one of the classes, have to be told.

    Raises
    ------
    TypeError
        If the objective, the bounds or the sampler are of another kind.
    ValueError
        If ``delta`` is not strictly between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.logistic import LogisticCoreset, LogisticObjective
    >>> from coresets.svm import LabelledSet
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["no", "yes"], 20000, p=[0.9, 0.1])
    >>> X = rng.standard_normal((20000, 4)) + (y == "yes")[:, None]
    >>> fit = LogisticCoreset(LogisticObjective(lam=0.01)).fit(LabelledSet(X, y), size=2000, rng=1)
    >>> fit.certificate.gap < 0.02
    True
    """

    objective: LogisticObjective | AverageLogisticObjective = LogisticObjective()
    bounds: LogisticShares = NormShares()
    sampler: Sampler = Poisson()
    delta: float = 0.05
    classes: tuple[Any, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.objective, (LogisticObjective, AverageLogisticObjective)):
            raise TypeError(f"objective = {self.objective!r}; pass LogisticObjective(lam=C)")
        for name in ("sensitivities", "claim"):
            if isinstance(self.bounds, type) or not callable(getattr(self.bounds, name, None)):
                raise TypeError(f"bounds = {self.bounds!r} has no method {name}; pass NormShares()")
        if not isinstance(getattr(self.sampler, "scheme", None), Scheme) or isinstance(self.sampler, type):
            raise TypeError(f"sampler = {self.sampler!r}; pass Poisson() or IID()")
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))

    def for_part(self, mass: float) -> LogisticCoreset:
        """The reducer for a part of the data whose own weights added up to ``mass``.

        Raises
        ------
        TypeError
            If the objective prices the sum of the losses: the share of a part needs the total mass.
        """
        if not isinstance(self.objective, AverageLogisticObjective):
            raise TypeError(
                "the share of a part in the regulariser needs the total mass; pass AverageLogisticObjective("
                "alpha), or objective.averaged(total_weight)"
            )
        return replace(self, objective=self.objective.of_mass(mass))

    def sensitivities(self, data: LabelledSet | WeightedSet, *, rng: Rng) -> Sensitivities:
        """Bounds from which the draw is made."""
        labelled = self._labelled(data)
        return self.bounds.sensitivities(labelled, self._objective(labelled), resolve_rng(rng))

    def claim(self, sensitivities: Sensitivities) -> Claim:
        """Theorem and parameters, for asking about sizes beforehand.

        Raises
        ------
        AssumptionError
            If no theorem covers the bounds with this sampler.
        """
        return self.bounds.claim(sensitivities, self.sampler.scheme)

    def reduce(
        self,
        data: LabelledSet | WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
    ) -> Coreset:
        """Draw a coreset.

        Parameters
        ----------
        data : LabelledSet or WeightedSet
            n points of two classes.
        size : int, optional
            Draws, or (expected) kept points, at least 1. From n on all points are returned, exactly.
        accuracy : Accuracy, optional
            Relative error of F and failure probability, from which the size follows. Exactly one of size
            and accuracy must be given.
        rng : int, numpy.random.SeedSequence or numpy.random.Generator
            Source of randomness.

        Returns
        -------
        Coreset
            Its weights are the ``sample_weight`` for training with C = lam.

        Raises
        ------
        ValueError
            If both or neither of size and accuracy are given, or one is out of range.
        AssumptionError
            If no theorem covers the bounds with this sampler, or a hypothesis of it fails.
        """
        data = self._labelled(data)
        if (size is None) == (accuracy is None):
            raise ValueError(f"size = {size}, accuracy = {accuracy}; pass exactly one of the two")
        if accuracy is not None and not isinstance(accuracy, Accuracy):
            raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
        if size is not None:
            size = check_integer(size, "size", at_least=1)
        generator = resolve_rng(rng)
        if (accuracy is not None and accuracy.is_exact) or (size is not None and size >= data.n):
            return _everything(data, size or data.n)
        bounds = self.sensitivities(data, rng=generator)
        claim = self.claim(bounds)
        if size is None:
            assert accuracy is not None  # exactly one is given
            try:
                size = claim.size(accuracy)
            except OverflowError:  # more than any data have
                size = data.n
            if size >= data.n:
                return _everything(data, size)
        draw = self.sampler.draw(bounds.values, size, generator)
        return Coreset(
            indices=draw.indices,
            weights=data.weights[draw.indices] * draw.kept_weights,
            size=size,
            accuracy=accuracy if accuracy is not None else claim.accuracy(size, self.delta),
            certificates=bounds.certificates,
        )

    def fit(
        self,
        data: LabelledSet | WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
        certify: bool = True,
    ) -> LogisticFit:
        """Reduce, train on the coreset, and certify the model on all the data.

        Parameters
        ----------
        data, size, accuracy, rng
            As in :meth:`reduce`.
        certify : bool
            Whether to certify, which takes a few reads of the data.

        Returns
        -------
        LogisticFit

        Raises
        ------
        AssumptionError
            If the coreset has no point at all, as Poisson sampling to a tiny size may leave it.
        """
        data = self._labelled(data)
        objective = self._objective(data)
        coreset = self.reduce(data, size=size, accuracy=accuracy, rng=rng)
        if coreset.support_size == 0:
            raise AssumptionError(
                f"the coreset of size {coreset.size} is empty; pass a larger size, or IID()"
            )
        training = train_logistic(data.kept(coreset), objective)
        certificate = logistic_certificate(data, training.best, objective) if certify else None
        if certificate is not None:
            evidence = (*coreset.certificates, certificate.as_certificate())
            coreset = replace(coreset, certificates=evidence)
        return LogisticFit(training.best, coreset, training, certificate, data.classes)

    def _labelled(self, data: LabelledSet | WeightedSet) -> LabelledSet:
        if self.classes is None or isinstance(data, LabelledSet) or not isinstance(data, WeightedSet):
            return LabelledSet.of(data)
        if data.labels is None:
            raise ValueError("the data have no labels; pass WeightedSet(points, weights, labels)")
        return LabelledSet(data.points, data.labels, data.weights, np.asarray(self.classes))

    def _objective(self, data: LabelledSet) -> LogisticObjective:
        if isinstance(self.objective, AverageLogisticObjective):
            return self.objective.of_mass(data.total_weight)
        return self.objective


def _everything(data: LabelledSet, size: int) -> Coreset:
    return Coreset(indices=np.arange(data.n), weights=data.weights, size=size, accuracy=Accuracy.exact())
