"""From a million labelled rows to a few thousand weighted ones, and to a trained model with a certificate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, Scheme
from coresets.reduction import Reducer
from coresets.samplers import IID, FixedSize, Sampler
from coresets.sensitivity import Sensitivities
from coresets.svm.bounds import ClusterBounds, HingeBounds, check_share
from coresets.svm.certificate import SVMCertificate, svm_certificate
from coresets.svm.data import LabelledSet
from coresets.svm.objective import AverageSVMObjective, LinearModel, SVMObjective
from coresets.svm.training import train_svm
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["SVMCoreset", "SVMFit"]

_ATTEMPTS = 1000  # draws with replacement until both classes are there


@dataclass(frozen=True, eq=False)
class SVMFit:
    """A model trained on a coreset.

    Parameters
    ----------
    model : LinearModel
        Coefficients.
    coreset : Coreset
        What it was trained on.
    training : SVMCertificate
        How far it is from the optimum on the coreset.
    certificate : SVMCertificate or None
        How far it is from the optimum on all the data, if that was asked for.
    classes : array of shape (2,)
        The negative and the positive label.
    """

    model: LinearModel
    coreset: Coreset
    training: SVMCertificate
    certificate: SVMCertificate | None
    classes: Any

    def predict(self, points: Any) -> Any:
        """Labels of points of shape (n, d)."""
        return self.classes[(self.model.decision(points) > 0.0).astype(np.intp)]


@dataclass(frozen=True)
class SVMCoreset:
    """Coresets for support vector machines, with the regulariser kept exactly.

    Parameters
    ----------
    objective : SVMObjective or AverageSVMObjective
        The problem: price of the hinge loss, and what the intercept costs. The price of the mean loss is
        meant for the mass of whatever data are given, and is what a stream needs.
    bounds : HingeBounds
        :class:`ClusterBounds` (S1) by default; :class:`NormBounds` (S3) is free of the dimension and works
        for kernels.
    sampler : Sampler, optional
        By default draws with replacement to an *accuracy*, for which the error is bounded for all models at
        once; and to a *size* whatever is better in practice, which is without replacement: fixed sizes with
        :class:`ClusterBounds`, whose error is bounded for each model, and Poisson sampling with
        :class:`NormBounds`, for all models.
    uniform_share : float
        Share of the total sensitivity that is spread in proportion to the masses, in [0, 1). It makes the
        guaranteed size larger by 1 / (1 - share), and bounds the weights of kept points.
    delta : float
        Failure probability at which the accuracy of a coreset of given size is stated.

    Raises
    ------
    TypeError
        If the bounds or the sampler lack a method.
    ValueError
        If a number is out of range.

    Notes
    -----
    Both classes are always present. Under Poisson and fixed-size sampling the most sensitive point of each
    class is kept for certain, by enlarging its bound. Draws with replacement are repeated until both are
    there, and the failure probability is divided by that of success.

    In :class:`~coresets.streams.MergeReduce` every part of the data carries its share of the regulariser
    (:meth:`for_part`). Train on what a stream ends with at the objective of the mass in its ledger:
    ``train_svm(found.data, objective.of_mass(found.ledger.mass))``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import LabelledSet, SVMCoreset, SVMObjective
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["no", "yes"], 20000, p=[0.98, 0.02])
    >>> X = rng.standard_normal((20000, 4)) + (y == "yes")[:, None]
    >>> data = LabelledSet(X, y)
    >>> fit = SVMCoreset(SVMObjective(lam=0.01)).fit(data, size=1000, rng=1)
    >>> fit.certificate.gap < 0.05
    True
    >>> set(y[fit.coreset.indices].tolist()) == {"no", "yes"}
    True
    """

    objective: SVMObjective | AverageSVMObjective = SVMObjective()
    bounds: HingeBounds = ClusterBounds()
    sampler: Sampler | None = None
    uniform_share: float = 0.1
    delta: float = 0.05

    def __post_init__(self) -> None:
        if not isinstance(self.objective, (SVMObjective, AverageSVMObjective)):
            raise TypeError(
                f"objective = {self.objective!r}; pass SVMObjective(lam=C) or AverageSVMObjective(alpha)"
            )
        for name in ("sensitivities", "claim"):
            if isinstance(self.bounds, type) or not callable(getattr(self.bounds, name, None)):
                raise TypeError(f"bounds = {self.bounds!r} has no method {name}; pass ClusterBounds()")
        known = isinstance(getattr(self.sampler, "scheme", None), Scheme) and not isinstance(
            self.sampler, type
        )
        if self.sampler is not None and not known:
            raise TypeError(f"sampler = {self.sampler!r}; pass IID(), Poisson() or FixedSize()")
        object.__setattr__(self, "uniform_share", check_share(self.uniform_share, "uniform_share"))
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))

    def at(self, mass: float) -> SVMCoreset:
        """The same for data of the total mass ``mass``, with the price that it gives to the hinge loss."""
        if isinstance(self.objective, SVMObjective):
            return self
        return replace(self, objective=self.objective.of_mass(mass))

    def for_part(self, mass: float) -> Reducer:
        """The reducer for a part of the data whose own weights added up to ``mass``.

        The part carries its share of the regulariser, in proportion to its mass: with the whole one in
        every part it would be counted once for each. A part may hold one class only: if the intercept is
        free, so that its optimum is 0, all its points are kept.

        Parameters
        ----------
        mass : float
            Sum of the weights that its points had at first; what a coreset's weights add up to is only
            near it.

        Raises
        ------
        AssumptionError
            If the objective is a :class:`SVMObjective`, whose price is meant for all the data.
        """
        if isinstance(self.objective, SVMObjective):
            raise AssumptionError(
                f"{self.objective!r} does not say for which total mass lam is meant, so that no share of the "
                "regulariser can be given to a part; pass AverageSVMObjective(alpha), or "
                "SVMObjective(lam).averaged(total_weight)"
            )
        return _PartOfSVM(self.at(mass))

    def _resolved(self, data: LabelledSet) -> tuple[SVMCoreset, SVMObjective]:
        found = self.at(data.total_weight)
        assert isinstance(found.objective, SVMObjective)  # of a mass
        return found, found.objective

    def _sampler(self, accuracy: Accuracy | None) -> Sampler:
        """How to draw to a size, or to an accuracy."""
        if self.sampler is not None:
            return self.sampler
        return IID() if accuracy is not None else getattr(self.bounds, "sampler", FixedSize())

    def sensitivities(self, data: LabelledSet | WeightedSet, *, rng: Rng) -> Sensitivities:
        """Bounds from which the draw is made, the uniform share included."""
        data = LabelledSet.of(data)
        bounds = self.bounds.sensitivities(data, self._resolved(data)[1], resolve_rng(rng))
        if self.uniform_share == 0.0:
            return bounds
        spread = self.uniform_share / (1.0 - self.uniform_share) * bounds.total / data.total_weight
        return Sensitivities(bounds.values + spread * data.weights, bounds.certificates)

    def claim(self, data: LabelledSet | WeightedSet, sensitivities: Sensitivities) -> Claim:
        """Theorem and parameters, for asking about sizes beforehand: draws with replacement by default.

        Raises
        ------
        AssumptionError
            If no theorem covers the bounds with this sampler.
        """
        return self._claim(LabelledSet.of(data), sensitivities, self.sampler or IID())

    def _claim(self, data: LabelledSet, sensitivities: Sensitivities, sampler: Sampler) -> Claim:
        return self.bounds.claim(data, self._resolved(data)[1], sensitivities, sampler.scheme)

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
            Draws, or (expected) kept points; at least 2. From n on all points are returned, exactly.
        accuracy : Accuracy, optional
            Relative error of F and failure probability, from which the size follows. Exactly one of size
            and accuracy must be given.
        rng : int, numpy.random.SeedSequence or numpy.random.Generator
            Source of randomness.

        Returns
        -------
        Coreset
            Its weights are the ``sample_weight`` for training with C = lam. The accuracy is that of F; where
            it is stated for one fixed model only (E1-P, E1-F), the claim's guarantee says so.

        Raises
        ------
        ValueError
            If both or neither of size and accuracy are given, or one is out of range.
        AssumptionError
            If no theorem covers the bounds with this sampler, or the data are not two classes.
        """
        data = LabelledSet.of(data)
        if (size is None) == (accuracy is None):
            raise ValueError(f"size = {size}, accuracy = {accuracy}; pass exactly one of the two")
        if accuracy is not None and not isinstance(accuracy, Accuracy):
            raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
        if size is not None:
            size = check_integer(size, "size", at_least=2)
        generator = resolve_rng(rng)
        if (accuracy is not None and accuracy.is_exact) or (size is not None and size >= data.n):
            return _everything(data, size or data.n)
        sampler = self._sampler(accuracy)
        bounds = self.sensitivities(data, rng=generator)
        if size is None:
            assert accuracy is not None  # exactly one is given
            size = self._size(data, bounds, accuracy, sampler)
            if size >= data.n:
                return _everything(data, size)
        if sampler.scheme is Scheme.WITH_REPLACEMENT:
            indices, factors, chance = _draw_both(data, bounds, sampler, size, generator)
        else:
            bounds, chance = _with_both(data, bounds, size), 1.0
            draw = sampler.draw(bounds.values, size, generator)
            indices, factors = draw.indices, draw.kept_weights
        delta = accuracy.delta if accuracy is not None else self.delta
        stated = self._claim(data, bounds, sampler).accuracy(size, delta)
        stated = Accuracy(stated.epsilon, min(1.0, delta / chance))
        return Coreset(
            indices=indices,
            weights=data.weights[indices] * factors,
            size=size,
            accuracy=stated,
            certificates=bounds.certificates,
        )

    def _size(self, data: LabelledSet, bounds: Sensitivities, accuracy: Accuracy, sampler: Sampler) -> int:
        """Size for an accuracy, with the two points that are kept for certain."""
        try:
            size = self._claim(data, bounds, sampler).size(accuracy)
            if sampler.scheme is not Scheme.WITH_REPLACEMENT and size < data.n:
                # Bounds are enlarged in dependence on the size, by at most 2 / (size - 2) of the total.
                larger = Sensitivities(bounds.values * (1.0 + 2.0 / max(1, size - 2)))
                size = max(3, self._claim(data, larger, sampler).size(accuracy))
            return max(2, size)
        except OverflowError:  # more than any data have
            return data.n

    def fit(
        self,
        data: LabelledSet | WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
        certify: bool = True,
    ) -> SVMFit:
        """Reduce, train on the coreset, and certify the model on all the data.

        Parameters
        ----------
        data, size, accuracy, rng
            As in :meth:`reduce`.
        certify : bool
            Whether to certify, which takes a few passes over the data.

        Returns
        -------
        SVMFit
        """
        data = LabelledSet.of(data)
        reducer, objective = self._resolved(data)
        coreset = reducer.reduce(data, size=size, accuracy=accuracy, rng=rng)
        training = train_svm(data.kept(coreset), objective)
        certificate = svm_certificate(data, training.best, objective) if certify else None
        if certificate is not None:
            evidence = (*coreset.certificates, certificate.as_certificate())
            coreset = replace(coreset, certificates=evidence)
        return SVMFit(training.best, coreset, training, certificate, data.classes)


@dataclass(frozen=True)
class _PartOfSVM:
    """What reduces a part of a stream, of one or of two classes."""

    reducer: SVMCoreset

    def reduce(
        self, data: WeightedSet, *, size: int | None = None, accuracy: Accuracy | None = None, rng: Rng
    ) -> Coreset:
        """Reduce to a size or to an accuracy."""
        labelled = LabelledSet.of_part(data)
        if min(labelled.class_weights) == 0.0 and self.reducer.objective.intercept.free:
            return _everything(labelled, size or labelled.n)
        return self.reducer.reduce(labelled, size=size, accuracy=accuracy, rng=rng)


def _draw_both(
    data: LabelledSet, bounds: Sensitivities, sampler: Sampler, size: int, generator: np.random.Generator
) -> tuple[Any, Any, float]:
    """Draw with replacement until both classes are there, and the probability of that in one draw."""
    present = sum(mass > 0.0 for mass in data.class_weights)
    positive = float(bounds.values @ (data.signs > 0)) / bounds.total
    missing = [(1.0 - share) ** size for share in (positive, 1.0 - positive)] if present == 2 else []
    for _ in range(_ATTEMPTS):
        draw = sampler.draw(bounds.values, size, generator)
        if np.unique(data.signs[draw.indices]).size == present:
            return draw.indices, draw.kept_weights, max(0.0, 1.0 - sum(missing))
    raise AssumptionError(
        f"{_ATTEMPTS} draws of {size} points missed a class; pass a larger size, or FixedSize()"
    )


def _everything(data: LabelledSet, size: int) -> Coreset:
    return Coreset(indices=np.arange(data.n), weights=data.weights, size=size, accuracy=Accuracy.exact())


def _with_both(data: LabelledSet, bounds: Sensitivities, size: int) -> Sensitivities:
    """Bounds under which the most sensitive point of each class is kept for certain.

    With r the total of the others, a bound of r / (size - 2) for each of the two makes the total at most
    r size / (size - 2), so that the level size / total times that bound is at least 1.
    """
    values = np.array(to_host(bounds.values), dtype=np.float64)
    present = [sign for sign, mass in zip((-1, 1), data.class_weights, strict=True) if mass > 0.0]
    tops = [int(np.argmax(np.where(data.signs == sign, values, -1.0))) for sign in present]
    rest = bounds.total - float(values[tops].sum())
    # A little more, against rounding in the sampler's level.
    values[tops] = np.maximum(values[tops], (1.0 + 1e-9) * rest / max(size - 2, 1e-3))
    return Sensitivities(values, bounds.certificates)
