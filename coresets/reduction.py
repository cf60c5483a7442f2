"""From a loss to a coreset: sensitivities, a theorem, a draw, and evidence.

A problem enters the engine through one protocol, :class:`Loss`: what a query costs, upper bounds
on the sensitivities, and the theorem that turns them into a size for a given sampler.
:class:`SensitivityReducer` does the rest, for the losses of this library and for a caller's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from array_api_compat import array_namespace, device

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.calibration.calibrate import Automatic, Calibration, adjust
from coresets.calibration.moments import CalibratedLoss, Moments
from coresets.certificate import Certificate
from coresets.guarantee import Claim, Scheme
from coresets.samplers import Poisson, Sampler
from coresets.sensitivity import Sensitivities
from coresets.weighted_set import Coreset, WeightedSet

__all__ = [
    "CertifyingLoss",
    "ClaimsWhenCalibrated",
    "ComputedWhenCalibrated",
    "Loss",
    "Reducer",
    "SensitivityReducer",
]

Array = Any

# Share of epsilon left to the drawn weights, for calibrated requests by accuracy; halved from try to try.
_DRAWN_SHARE = 0.75


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


@runtime_checkable
class ClaimsWhenCalibrated(CalibratedLoss, Protocol):
    """A loss with a theorem of its own about calibrated weights."""

    def calibrated_claim(self, claim: Claim, scheme: Scheme, *, change: float, drift: float) -> Claim | None:
        """The theorem, or None where there is none; ``claim`` is that of the drawn weights.

        ``change`` is the largest relative change of a weight, ``drift`` the norm of the error of the moments
        in coordinates in which the directions have sum s u u^T = 1.
        """


@runtime_checkable
class ComputedWhenCalibrated(CalibratedLoss, Protocol):
    """A loss whose costs are combinations of its moments, so that no theorem about draws is needed."""

    def calibrated_epsilon(self, moments: Moments, residual: float) -> float | None:
        """Largest relative error at any query, None if these moments do not decide it.

        ``residual`` is the Euclidean norm of the errors of all moments, over the total of the measure.
        """


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
    calibration : Automatic or Calibration or None
        Whether weights are changed after the draw so that moments of the data are kept exactly (D6). By
        default for requests by size, of losses that offer moments, with at least five points a moment.
        Errors are smaller then, as a rule, but what is *stated* is larger: epsilon + eta (1 + epsilon), eta
        the largest relative change of a weight; least squares, whose moments are all there is to them, state
        what is left by rounding. None keeps the drawn weights, which the theorem is about;
        the same seed gives the same points either way. ``Calibration()`` calibrates always, and draws more
        points for a request by accuracy, so that what is stated is what was asked for.
    certify : bool
        Whether a loss that can be certified is, which may take longer than the draw.

    Raises
    ------
    TypeError
        If the loss or the sampler lacks a method or is a class, or ``defensive`` or ``certify`` is no bool.
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
    calibration: Automatic | Calibration | None = Automatic()
    certify: bool = True

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
        if not isinstance(self.certify, bool):
            raise TypeError(f"certify = {self.certify!r}; pass True or False")
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))
        if not (self.calibration is None or isinstance(self.calibration, (Automatic, Calibration))):
            raise TypeError(f"calibration = {self.calibration!r}; pass Automatic(), Calibration(...) or None")
        if isinstance(self.calibration, Calibration) and not isinstance(self.loss, CalibratedLoss):
            raise TypeError(f"loss = {self.loss!r} has no method moments, by which it could be calibrated")

    def without_certificates(self) -> SensitivityReducer:
        """The same, leaving out what the loss certifies; streams ask for it inside their trees."""
        return replace(self, certify=False)

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
            if isinstance(self.calibration, Calibration):
                return self._calibrated_to(data, bounds, claim, accuracy, generator)
            size = _size_or(claim, accuracy, data.n)
        if size >= data.n:
            return self._everything(data, size)
        by_size = accuracy is None
        if accuracy is None:
            # Nothing is random about a choice of the top, so nothing can fail.
            delta = 0.0 if self.sampler.scheme is Scheme.TOP else self.delta
            accuracy = claim.accuracy(size, delta)
        coreset = self._drawn(data, bounds, size, accuracy, generator)
        policy = self._policy(size) if by_size else None
        if policy is not None and coreset.support_size:
            coreset = self._calibrated(data, bounds, claim, coreset, policy)
        return self._with_certificates(data, coreset, bounds.certificates)

    def _drawn(
        self, data: WeightedSet, bounds: Sensitivities, size: int, accuracy: Accuracy, rng: Any
    ) -> Coreset:
        draw = self.sampler.draw(bounds.values, size, rng)
        return Coreset(
            indices=draw.indices,
            weights=array_namespace(data.weights).take(data.weights, draw.indices) * draw.kept_weights,
            size=size,
            accuracy=accuracy,
        )

    def _policy(self, size: int) -> Calibration | None:
        """How a coreset of a given size is calibrated, if at all; too few points are found out later."""
        if isinstance(self.calibration, Calibration) or self.calibration is None:
            return self.calibration
        random = self.sampler.scheme is not Scheme.TOP
        return Calibration() if random and isinstance(self.loss, CalibratedLoss) else None

    def _calibrated(
        self, data: WeightedSet, bounds: Sensitivities, claim: Claim, coreset: Coreset, policy: Calibration
    ) -> Coreset:
        """Calibrated weights, with the accuracy that is proved for them."""
        moments = policy.moments(self.loss, data, bounds)
        if isinstance(self.calibration, Automatic) and not self.calibration.applies(moments, coreset.size):
            return coreset
        found = adjust(data, coreset, moments, policy.bounds, policy.otherwise)
        if isinstance(self.loss, ComputedWhenCalibrated):
            computed = self.loss.calibrated_epsilon(moments, found.residual)
            if computed is not None:
                return replace(found.coreset, accuracy=Accuracy(computed, 0.0))
        better = None
        if isinstance(self.loss, ClaimsWhenCalibrated):
            drift = found.residual * bounds.total**0.5
            scheme = self.sampler.scheme
            better = self.loss.calibrated_claim(claim, scheme, change=found.change, drift=drift)
        delta = coreset.accuracy.delta
        if better is None or not 0.0 < delta < 1.0:
            return found.coreset
        # Fixed before anything is drawn: choosing the smaller of two bounds afterwards would cost a delta.
        return replace(found.coreset, accuracy=better.accuracy(coreset.size, delta))

    def _calibrated_to(
        self, data: WeightedSet, bounds: Sensitivities, claim: Claim, wanted: Accuracy, rng: Any
    ) -> Coreset:
        """Draw and calibrate until the accuracy that can be stated is the one asked for.

        How much calibration changes weights is seen afterwards. A further try has half the failure
        probability, so that all of them together have the one asked for, and four times the points.
        """
        policy = self.calibration
        assert isinstance(policy, Calibration)
        first = claim
        if isinstance(self.loss, ClaimsWhenCalibrated):
            scheme = self.sampler.scheme
            first = self.loss.calibrated_claim(claim, scheme, change=0.0, drift=0.0) or claim
        share, delta = _DRAWN_SHARE, 0.5 * wanted.delta
        while True:
            size = _size_or(first, Accuracy(share * wanted.epsilon, delta), data.n)
            if size >= data.n:
                return self._everything(data, size)
            drawn = self._drawn(data, bounds, size, claim.accuracy(size, delta), rng)
            if drawn.support_size:
                coreset = self._calibrated(data, bounds, claim, drawn, policy)
                if coreset.accuracy.epsilon <= wanted.epsilon:
                    # All tries together fail with the probability asked for; what was computed never does.
                    failing = wanted.delta if coreset.accuracy.delta > 0.0 else 0.0
                    coreset = replace(coreset, accuracy=Accuracy(coreset.accuracy.epsilon, failing))
                    return self._with_certificates(data, coreset, bounds.certificates)
            share, delta = 0.5 * share, 0.5 * delta

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
        if self.certify and isinstance(self.loss, CertifyingLoss):
            evidence = (*evidence, *self.loss.certify(data, coreset))
        return replace(coreset, certificates=(*evidence, *coreset.certificates))


def _size_or(claim: Claim, accuracy: Accuracy, most: int) -> int:
    """Size for an accuracy, ``most`` if it is more than any data have."""
    try:
        return claim.size(accuracy)
    except OverflowError:
        return most
