"""From a loss to a coreset: sensitivities, a theorem, a draw, and evidence.

A problem enters the engine through one protocol, :class:`Loss`: what a query costs, upper bounds
on the sensitivities, and the theorem that turns them into a size for a given sampler.
:class:`SensitivityReducer` does the rest, for the losses of this library and for a caller's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from array_api_compat import array_namespace, device

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.certificate import Certificate
from coresets.guarantee import Claim, Scheme
from coresets.samplers import Poisson, Sampler
from coresets.sensitivity import Sensitivities
from coresets.weighted_set import Coreset, WeightedSet

__all__ = ["CertifyingLoss", "Loss", "Reducer", "SensitivityReducer"]

Array = Any


@runtime_checkable
class Loss(Protocol):
    """What a coreset must answer: a non-negative loss of every point at every query."""

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """Losses f(p, query) >= 0 of all points, without the weights, shape (n,)."""

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Upper bounds on every point's worst share of the cost."""

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """The theorem that covers the scheme, with its parameters for these data.

        Raises
        ------
        AssumptionError
            If no theorem covers the scheme.
        """


@runtime_checkable
class CertifyingLoss(Loss, Protocol):
    """A loss whose achieved error can be computed, not only bounded."""

    def certify(self, data: WeightedSet, coreset: Coreset) -> Sequence[Certificate]:
        """Evidence for one coreset of the data."""


class Reducer(Protocol):
    """Anything that turns data into a coreset."""

    def reduce(
        self,
        data: WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
    ) -> Coreset:
        """Reduce to a size or to an accuracy, exactly one of which is given."""


def _check_data(data: object) -> None:
    if not isinstance(data, WeightedSet):
        raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")


@dataclass(frozen=True)
class SensitivityReducer:
    """Importance sampling in proportion to sensitivity bounds.

    Parameters
    ----------
    loss : Loss
        The problem.
    sampler : Sampler
        How to draw; Poisson sampling by default.
    defensive : bool
        Add each point's share of the mass to its sensitivity. The total grows by 1 and no point
        with mass is out of reach. The stated accuracy is that of the loss; ask ``DefensiveMixing``
        for a size that keeps the total weight as well.
    delta : float
        Failure probability at which the accuracy of a coreset of given *size* is stated.

    Raises
    ------
    TypeError
        If the loss or the sampler lacks a method or is a class, or ``defensive`` is not a bool.
    ValueError
        If ``delta`` is not strictly between 0 and 1.
    AssumptionError
        On :meth:`reduce`, if no theorem covers the loss with this sampler.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, LeastSquares, SensitivityReducer, WeightedSet
    >>> rng = np.random.default_rng(0)
    >>> points = rng.standard_normal((20000, 3))
    >>> data = WeightedSet(points, labels=points.sum(axis=1) + rng.standard_normal(20000))
    >>> coreset = SensitivityReducer(LeastSquares()).reduce(data, accuracy=Accuracy(0.2, 0.05), rng=1)
    >>> coreset.size
    1020
    >>> (evidence,) = coreset.certificates
    >>> evidence.value < evidence.bound  # achieved against claimed
    True
    """

    loss: Loss
    sampler: Sampler = Poisson()
    defensive: bool = False
    delta: float = 0.05

    def __post_init__(self) -> None:
        if not isinstance(self.loss, Loss):
            raise TypeError(f"loss = {self.loss!r} lacks one of the methods costs, sensitivities, claim")
        for name, value in (("loss", self.loss), ("sampler", self.sampler)):
            if isinstance(value, type):
                kind = value.__name__
                raise TypeError(f"{name} is the class {kind}; pass an instance of it, {kind}(...)")
        scheme, draw = getattr(self.sampler, "scheme", None), getattr(self.sampler, "draw", None)
        if not (isinstance(scheme, Scheme) and callable(draw)):
            raise TypeError(
                f"sampler = {self.sampler!r} lacks a scheme or a method draw; pass IID(), Poisson(), "
                "FixedSize(), Hybrid() or Top()"
            )
        if not isinstance(self.defensive, bool):
            raise TypeError(f"defensive = {self.defensive!r}; pass True or False")
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))

    def claim(self, data: WeightedSet, sensitivities: Sensitivities | None = None) -> Claim:
        """Theorem and parameters that apply to the data, for asking about sizes beforehand.

        Parameters
        ----------
        data : WeightedSet
            The data.
        sensitivities : Sensitivities, optional
            The bounds, if already computed, with mixing included.
        """
        _check_data(data)
        if sensitivities is None:
            sensitivities = self.sensitivities(data)
        elif not isinstance(sensitivities, Sensitivities):
            raise TypeError(
                f"sensitivities is a {type(sensitivities).__name__}; wrap the bounds in Sensitivities"
            )
        scheme = self.sampler.scheme
        claim = self.loss.claim(data, sensitivities, scheme)
        claim.guarantee.require(scheme)  # a loss of the caller's own may have named another theorem
        return claim

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Sensitivity bounds from which the draw is made, mixing included."""
        _check_data(data)
        bounds = self.loss.sensitivities(data)
        return bounds.with_defensive_mixing(data.weights) if self.defensive else bounds

    def reduce(
        self,
        data: WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
    ) -> Coreset:
        """Draw a coreset of the data.

        Parameters
        ----------
        data : WeightedSet
            Points, weights and labels.
        size : int, optional
            Number of draws or (expected) kept points, at least 1. A size that reaches the number
            of points returns all of them, exactly. Poisson sampling of a very small size may keep
            nothing at all.
        accuracy : Accuracy, optional
            Relative error and failure probability; the size follows from the theorem, and all
            points are returned when that is no less than their number. Exactly one of size and
            accuracy must be given.
        rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
            Source of randomness.

        Returns
        -------
        Coreset
            Indices into ``data``, weights, the promised accuracy, and the loss's certificates.

        Raises
        ------
        ValueError
            If both or neither of size and accuracy are given, or one is out of range.
        AssumptionError
            If no theorem covers the loss with this sampler.
        """
        _check_data(data)
        if (size is None) == (accuracy is None):
            raise ValueError(f"size = {size}, accuracy = {accuracy}; pass exactly one of the two")
        if accuracy is not None and not isinstance(accuracy, Accuracy):
            raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
        if size is not None:
            size = check_integer(size, "size", at_least=1)
        generator = resolve_rng(rng)
        if accuracy is not None and accuracy.is_exact:
            return self._everything(data, data.n)

        bounds = self.sensitivities(data)
        if bounds.total == 0.0:  # every query costs nothing, whatever is kept
            return self._everything(data, size or data.n)
        claim = self.claim(data, bounds)
        if size is None:
            assert accuracy is not None  # exactly one is given
            try:
                size = claim.size(accuracy)
            except OverflowError:  # more than any data have
                size = data.n
        if size >= data.n:
            return self._everything(data, size)
        if accuracy is None:
            # Nothing is random about a choice of the top, so nothing can fail.
            delta = 0.0 if self.sampler.scheme is Scheme.TOP else self.delta
            accuracy = claim.accuracy(size, delta)
        draw = self.sampler.draw(bounds.values, size, generator)
        coreset = Coreset(
            indices=draw.indices,
            weights=array_namespace(data.weights).take(data.weights, draw.indices) * draw.kept_weights,
            size=size,
            accuracy=accuracy,
        )
        return self._with_certificates(data, coreset, bounds.certificates)

    def _everything(self, data: WeightedSet, size: int) -> Coreset:
        """All points with their own weights: the only exact coreset that needs no computation."""
        xp = array_namespace(data.points)
        everything = Coreset(
            indices=xp.arange(data.n, dtype=xp.int64, device=device(data.points)),
            weights=data.weights,
            size=size,
            accuracy=Accuracy.exact(),
        )
        return self._with_certificates(data, everything, ())

    def _with_certificates(
        self, data: WeightedSet, coreset: Coreset, evidence: tuple[Certificate, ...]
    ) -> Coreset:
        if isinstance(self.loss, CertifyingLoss):
            evidence = (*evidence, *self.loss.certify(data, coreset))
        return Coreset(
            indices=coreset.indices,
            weights=coreset.weights,
            size=coreset.size,
            accuracy=coreset.accuracy,
            certificates=evidence,
        )
