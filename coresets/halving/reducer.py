"""Weighted halving: a coreset by repeated fair choices between paired points.

Inclusion probabilities are rounded up to powers of one half, and every point takes part in as many of the
last rounds as its class says, so that all terms of a round are of one size. In a round the points are paired
at random; of each pair one is kept with twice its weight, and the self-balancing walk makes the choice so
that sums of features hardly change. Cost O(n k) for explicit features of dimension k (guarantees D2 and D3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from coresets._random import Rng, host_generator
from coresets._threads import one_blas_thread
from coresets._validate import beside, check_epsilon, check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantee import Claim
from coresets.guarantees import (
    FeatureBound,
    HalvingAllQueries,
    HalvingClass,
    HalvingFinite,
    HalvingSubspaceClass,
)
from coresets.halving.classes import Classes
from coresets.halving.features import Embedded, Features
from coresets.halving.walk import Provable, Threshold, check_threshold
from coresets.reduction import CertifyingLoss
from coresets.sensitivity import Sensitivities
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["HALVING", "HalvingReducer", "Halvings", "WithSensitivities"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HALVING = "halving"  # name of the certificate


@runtime_checkable
class WithSensitivities(Protocol):
    """What halving needs of a loss."""

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Upper bounds on every point's worst share of the cost."""


@dataclass(frozen=True, eq=False)
class Halvings:
    """What the rounds came to.

    Parameters
    ----------
    kept : array of int64
        Points that are left, in order.
    doublings : array of int64
        How often the weight of each was doubled.
    clips, steps : int
        Clips and steps of all walks.
    """

    kept: Integers
    doublings: Integers
    clips: int
    steps: int

    @classmethod
    def of(
        cls,
        embedded: Embedded,
        sensitivities: Floats,
        classes: Classes,
        factor: float,
        rng: np.random.Generator,
    ) -> Halvings:
        """Halve round by round; every class enters as late as possible."""
        alive = classes.levels >= 0
        scales, doublings = sensitivities.copy(), np.zeros(len(sensitivities), dtype=np.int64)
        clips = steps = 0
        for left in range(classes.rounds, 0, -1):
            active = np.flatnonzero(alive & (classes.levels >= left))
            if active.size == 0:
                continue
            order = rng.permutation(active)
            second = np.full((active.size + 1) // 2, -1, dtype=np.int64)
            second[: active.size // 2] = order[1::2]
            first = order[::2]
            signs = embedded.walked.signs(scales, first, second, factor, rng)
            clips, steps = clips + signs.clips, steps + len(first)
            up = signs.values > 0
            kept, dropped = np.where(up, first, second), np.where(up, second, first)
            alive[dropped[dropped >= 0]] = False
            kept = kept[kept >= 0]  # the odd one out is kept or dropped
            scales[kept] *= 2.0
            doublings[kept] += 1
        left_over = np.flatnonzero(alive)
        return cls(left_over, doublings[left_over], clips, steps)


@dataclass(frozen=True)
class HalvingReducer:
    """Self-balancing halving in classes of sensitivity.

    Parameters
    ----------
    loss : object with a method ``sensitivities``
        The problem: any :class:`~coresets.reduction.Loss`, :class:`~coresets.halving.LinearSum` or
        :class:`~coresets.halving.BoundedSum`.
    features : Features
        What the walk balances. Accuracy is claimed only for losses that the features cover; all others may
        profit, without a claim.
    threshold : Threshold
        ``Provable(delta)``, whose clips have a probability of at most delta; accuracies are stated for
        2 delta.
        ``Aggressive(c)`` balances better and claims nothing.
    queries : int, optional
        Number of queries, fixed before the draw, that the accuracy is for (D2); by default all queries at
        once (D3), which exact features of a finite dimension allow.
    certify : bool
        Whether a loss that can be certified is.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or out of range.

    Notes
    -----
    A claim that is withdrawn, for want of a theorem or because the walk clipped, is an infinite epsilon; the
    certificate says which. Work is done on the host.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, LeastSquares, WeightedSet
    >>> from coresets.halving import GramFeatures, HalvingReducer
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((20_000, 3)))
    >>> reducer = HalvingReducer(LeastSquares(), GramFeatures())
    >>> coreset = reducer.reduce(data, accuracy=Accuracy(0.1, 0.05), rng=1)
    >>> coreset.support_size
    466
    >>> halving, evidence = coreset.certificates
    >>> halving.value, evidence.holds  # clips; achieved against claimed
    (0.0, True)
    """

    loss: WithSensitivities
    features: Features
    threshold: Threshold = Provable()
    queries: int | None = None
    certify: bool = True

    def __post_init__(self) -> None:
        for name, kind in (("loss", WithSensitivities), ("features", Features)):
            value = getattr(self, name)
            if isinstance(value, type) or not isinstance(value, kind):
                raise TypeError(
                    f"{name} = {value!r} lacks a method of {kind.__name__}; pass an instance of one"
                )
        check_threshold(self.threshold)
        if self.queries is not None:
            object.__setattr__(self, "queries", check_integer(self.queries, "queries", at_least=1))
        if not isinstance(self.certify, bool):
            raise TypeError(f"certify = {self.certify!r}; pass True or False")

    @property
    def additive_error(self) -> bool:
        """Whether errors are relative to more than the cost, so that they do not add up over a tree."""
        return bool(getattr(self.loss, "additive_error", False))

    def without_certificates(self) -> HalvingReducer:
        """The same, leaving out what the loss certifies."""
        return replace(self, certify=False)

    def claim(self, data: WeightedSet) -> Claim:
        """Theorem and parameters that apply to the data, for asking about sizes beforehand.

        Raises
        ------
        AssumptionError
            If no theorem covers the loss with these features, threshold and number of queries.
        """
        _check_data(data)
        bounds = self.loss.sensitivities(data)
        return self._claim(data, bounds, self.features.embed(data, bounds))

    def _claim(self, data: WeightedSet, bounds: Sensitivities, embedded: Embedded) -> Claim:
        if not isinstance(self.threshold, Provable):
            raise AssumptionError(f"no theorem covers {self.threshold!r}; use Provable(delta)")
        if not self.features.covers(self.loss):
            raise AssumptionError(
                f"{self.features!r} do not explain {self.loss!r}; use the features made for it"
            )
        points = self.threshold.steps or data.n
        total, bound = bounds.total, embedded.bound
        if self.queries is not None:
            return Claim(HalvingFinite(), HalvingClass(total, points, bound, self.queries))
        if bound.residual > 0.0 or embedded.dimension is None:
            raise AssumptionError(
                f"{self.features!r} leave a residual or are of no finite dimension, so that not all queries "
                "are covered at once; pass queries, the number of those that are"
            )
        return Claim(HalvingAllQueries(), HalvingSubspaceClass(total, points, bound, embedded.dimension))

    @one_blas_thread()
    def reduce(
        self,
        data: WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
    ) -> Coreset:
        """Halve the data.

        Parameters
        ----------
        data : WeightedSet
            Points, weights and labels.
        size : int, optional
            Largest number of kept points, at least 1; fewer by less than 2 are kept.
        accuracy : Accuracy, optional
            Relative error and failure probability; exactly one of size and accuracy must be given. Half of
            delta pays for clips, whatever the threshold says.
        rng : int, numpy.random.SeedSequence or numpy.random.Generator
            Source of randomness.

        Returns
        -------
        Coreset
            Indices into ``data``, weights, accuracy, and a certificate with clips, rounds and classes.

        Raises
        ------
        ValueError
            If both or neither of size and accuracy are given, or one is out of range.
        AssumptionError
            If an accuracy is asked for that no theorem covers.
        """
        _check_data(data)
        if (size is None) == (accuracy is None):
            raise ValueError(f"size = {size}, accuracy = {accuracy}; pass exactly one of the two")
        if accuracy is not None and not isinstance(accuracy, Accuracy):
            raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
        if size is not None:
            size = check_integer(size, "size", at_least=1)
        generator = host_generator(rng)
        if accuracy is not None and not accuracy.is_exact:
            check_epsilon(accuracy.epsilon)
            check_open_unit(accuracy.delta, "delta")
        if (size is not None and size >= data.n) or (accuracy is not None and accuracy.is_exact):
            return self._everything(data, size or data.n)
        bounds = self.loss.sensitivities(data)
        if bounds.total == 0.0:  # every query costs nothing, whatever is kept
            return self._everything(data, size or data.n)
        embedded = self.features.embed(data, bounds)
        values = to_host(bounds.values).astype(np.float64)
        threshold = self.threshold
        if accuracy is None:
            assert size is not None  # exactly one is given
            classes = Classes.within(values, size)
            promised = self._promise(data, bounds, embedded, classes)
        else:
            claim = self._claim(data, bounds, embedded)
            guarantee: Any = claim.guarantee
            classes = Classes.at(values, guarantee.kappa(claim.parameters, accuracy) * (1.0 + 1e-12))
            size = min(data.n, max(1, math.ceil(classes.expected_size)))
            assert isinstance(threshold, Provable)  # or there is no claim
            threshold, promised = Provable(0.5 * accuracy.delta, threshold.steps), accuracy
        if classes.rounds == 0:
            return self._everything(data, size)
        halved = Halvings.of(embedded, values, classes, threshold.factor(data.n), generator)
        if halved.clips:
            promised = Accuracy(math.inf, promised.delta)
        evidence = _evidence(halved, classes, embedded.bound, isinstance(threshold, Provable))
        return self._coreset(data, halved, size, promised, (*bounds.certificates, evidence))

    def _promise(
        self, data: WeightedSet, bounds: Sensitivities, embedded: Embedded, classes: Classes
    ) -> Accuracy:
        """What a theorem says of these classes; nothing if none does."""
        delta = min(0.5, 2.0 * self.threshold.delta) if isinstance(self.threshold, Provable) else 0.0
        try:
            claim = self._claim(data, bounds, embedded)
        except AssumptionError:
            return Accuracy(math.inf, delta)
        guarantee: Any = claim.guarantee
        return Accuracy(guarantee.epsilon_at(claim.parameters, classes.kappa, delta), delta)

    def _everything(self, data: WeightedSet, size: int) -> Coreset:
        """All points with their own weights, exactly."""
        xp = array_namespace(data.points)
        everything = Coreset(
            indices=xp.arange(data.n, dtype=xp.int64, device=device(data.points)),
            weights=data.weights,
            size=size,
            accuracy=Accuracy.exact(),
        )
        return self._certified(data, everything, ())

    def _coreset(
        self,
        data: WeightedSet,
        halved: Halvings,
        size: int,
        promised: Accuracy,
        evidence: tuple[Certificate, ...],
    ) -> Coreset:
        xp = array_namespace(data.weights)
        indices = beside(halved.kept, data.points, "indices")
        doubled = beside(np.ldexp(1.0, halved.doublings.astype(np.intc)), data.weights, "weights")
        weights = xp.take(data.weights, indices) * xp.astype(doubled, data.weights.dtype, copy=False)
        coreset = Coreset(indices=indices, weights=weights, size=size, accuracy=promised)
        return self._certified(data, coreset, evidence)

    def _certified(self, data: WeightedSet, coreset: Coreset, evidence: tuple[Certificate, ...]) -> Coreset:
        if self.certify and isinstance(self.loss, CertifyingLoss):
            evidence = (*evidence, *self.loss.certify(data, coreset))
        return replace(coreset, certificates=evidence)


def _check_data(data: object) -> None:
    if not isinstance(data, WeightedSet):
        raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")


def _evidence(halved: Halvings, classes: Classes, bound: FeatureBound, provable: bool) -> Certificate:
    """Clips, of which a claim allows none, with rounds, steps and the numbers of points of the classes."""
    counts = {f"points kept with probability 2^-{k}": float(c) for k, c in enumerate(classes.counts()) if c}
    return Certificate(
        name=HALVING,
        statement="clips of the self-balancing walks; any voids the guarantee",
        value=float(halved.clips),
        bound=0.0 if provable else None,  # nothing was promised of an aggressive threshold
        details={
            "rounds": float(classes.rounds),
            "steps": float(halved.steps),
            "kappa": classes.kappa,
            "expected size": classes.expected_size,
            "norm": bound.norm,
            "residual": bound.residual,
            "spread": bound.spread,
            **counts,
        },
    )
