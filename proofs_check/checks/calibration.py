"""Attacks on calibrated weights: D6 for each query, D4 for sums of ReLUs, D7 on average over queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.calibration import (
    Calibration,
    Contributions,
    Moments,
    RotationInvariant,
    average_case_error,
    average_case_weights,
    calibrate,
    calibrated_class,
)
from coresets.errors import AssumptionError, SolverError
from coresets.guarantee import Claim
from coresets.guarantees import AverageCaseError, CalibratedPoisson, FirstMomentReLU
from coresets.homogeneous import Absolute, AbsoluteSum, LeakyReLU, ReLU, ReLUSum
from coresets.reduction import SensitivityReducer
from coresets.samplers import Poisson
from coresets.sensitivity import Sensitivities
from coresets.weighted_set import Coreset, WeightedSet
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._calibration import (
    FEW,
    NO_CONSTANT,
    SAMPLE,
    TWICE,
    Broken,
    CalibratedTrial,
    OnTheCircle,
    StatedTrial,
    factors_of,
    half_error,
)
from proofs_check.checks._common import DELTA, first_size_below
from proofs_check.checks._geometry import certain, renamed
from proofs_check.checks.reducers import UNSCALED
from proofs_check.neuron_queries import ABSOLUTE, RELU, NeuronWorst
from proofs_check.queries import FiniteWorst
from proofs_check.workloads import Workload, leading, thinned

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]

_FEWEST = 400  # points of a set that is drawn from
_TARGET = 0.4  # epsilon that sizes aim at, where half the points allow it


def _drawable(workloads: Sequence[Workload], points: int) -> list[Workload]:
    return [thinned(leading(w, 2), points) for w in workloads if w.n >= _FEWEST]


# D6: each query, by what the features do not explain.


def _spanned(data: WeightedSet, moments: Moments) -> list[Floats]:
    """Costs that the features explain exactly: the constant, and one that leans."""
    weights = np.asarray(data.weights, dtype=np.float64)
    over = np.zeros(data.n)
    np.divide(moments.measure, weights, out=over, where=weights > 0.0)
    lean = moments.features(slice(None))[:, 1]
    found = [over]
    if float(np.sum(moments.measure)) > 1.9:  # or its shares would exceed the sensitivities
        found.append(over * (1.0 + 0.25 * lean / np.max(np.abs(lean))))
    return found


def _calibrated(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    loss = AbsoluteSum()
    for workload in _drawable(workloads, profile.max_points):
        data = workload.data
        first = loss.moments(data, loss.sensitivities(data))
        queries = np.random.default_rng(5).standard_normal((3, data.d))
        absolute = [np.asarray(loss.costs(data, x)) for x in queries]
        for words, moments, costs in (
            ("first moments", first, absolute),
            ("second moments", first.to_degree(2), absolute),
            ("costs in the span", first, _spanned(data, first)),
        ):
            yield _for_each(renamed(workload, words), moments, costs)
    for workload in _drawable(workloads, profile.max_points)[:2]:
        yield from _by_default(workload)


@dataclass(frozen=True)
class KnownAbsolute(AbsoluteSum):
    """Sums of |p.x| over data whose bounds have been computed."""

    bounds: Sensitivities

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """The bounds."""
        return self.bounds


def _by_default(workload: Workload) -> Iterable[Scenario]:
    """What a coreset of a given size states for all queries, calibrated as reducers do by themselves."""
    data = workload.data
    loss = KnownAbsolute(AbsoluteSum().sensitivities(data))
    reducer = SensitivityReducer(loss, delta=DELTA)
    claim = reducer.claim(data)
    size = first_size_below(claim, _TARGET, data.n)
    claimed = claim.accuracy(size, DELTA)
    points, weights = np.asarray(data.points, dtype=np.float64), np.asarray(data.weights)
    yield _stated(
        renamed(workload, "reducers' default"),
        reducer,
        size,
        claimed,
        NeuronWorst(points, weights[:, None], weights, ABSOLUTE),
    )


def _stated(
    workload: Workload, reducer: SensitivityReducer, size: int, claimed: Accuracy, worst: NeuronWorst
) -> Scenario:
    """Errors of coresets in units of what they state, since eta is known afterwards only."""
    data = workload.data
    honest = StatedTrial(
        reducer, data, size, claimed.epsilon, lambda found: worst(found.indices, factors_of(data, found))
    )
    return Scenario(
        workload=workload,
        size=size,
        claimed=claimed,
        trial=honest,
        faults=(
            Fault(UNSCALED[0], replace(honest, broken=_unscaled)),
            Fault(TWICE[0], replace(honest, broken=_twice)),
        ),
        note="errors in units of the accuracy that the coreset states, times the claim before eta is known",
        vacuous=f"epsilon = {claimed.epsilon:.2f} at {size} points" if claimed.vacuous else "",
    )


def _for_each(workload: Workload, moments: Moments, costs: list[Floats]) -> Scenario:
    data = workload.data
    claim = Claim(CalibratedPoisson(), calibrated_class(data, moments, costs))
    size = first_size_below(claim, _TARGET, data.n)
    claimed = claim.accuracy(size, DELTA)
    honest = CalibratedTrial(data, moments, size, FiniteWorst.of(data, costs))
    mistakes = (SAMPLE[0], NO_CONSTANT[0], TWICE[0], FEW[0])
    return Scenario(
        workload=workload,
        size=size,
        claimed=claimed,
        trial=honest,
        faults=tuple(Fault(mistake, Broken(honest, mistake)) for mistake in mistakes),
        note=f"rho = {claim.parameters.residual:.2f} with {claim.parameters.moments} moments",
        vacuous=f"epsilon = {claimed.epsilon:.2f} at {size} points" if claimed.vacuous else "",
    )


# D4: first moments of sums of ReLUs.

_UNCALIBRATED = ("weights of the draw", "the drawn weights are handed out, which keep no moment")
_MASSLESS = ("moments without masses", "the sum of the points is kept instead of that of w p")
_EXACT = 1e-9  # relative, of what is kept exactly: rounding of sums over thousands of points


@dataclass(frozen=True)
class Kept:
    """One draw, calibrated to its first moments by the library or in a broken way."""

    data: WeightedSet
    mistake: str = ""

    def __call__(self) -> Coreset | None:
        loss = AbsoluteSum()
        reducer = SensitivityReducer(loss, calibration=None)
        bounds = reducer.sensitivities(self.data)
        drawn = reducer.reduce(self.data, size=self.data.n // 3, rng=3)
        if self.mistake == _UNCALIBRATED[0]:
            return drawn
        moments: Moments = loss.moments(self.data, bounds)
        if self.mistake == _MASSLESS[0]:
            points = np.where(np.asarray(bounds.values)[:, None] > 0.0, self.data.points, 0.0)
            moments = Contributions(points, bounds.values)
        try:
            return calibrate(self.data, drawn, moments)
        except SolverError:
            return None


@dataclass(frozen=True)
class HalfError:
    """Difference of twice the error of ReLUs and that of absolute values, over rounding."""

    data: WeightedSet

    def __call__(self, coreset: Coreset | None) -> float:
        return float("nan") if coreset is None else half_error(self.data, coreset) / _EXACT


def _first_moments(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in _drawable(workloads, _DENSE):
        broken: dict[str, Callable[[], Coreset | None]] = {
            _UNCALIBRATED[0]: Kept(workload.data, _UNCALIBRATED[0])
        }
        if float(np.ptp(np.asarray(workload.data.weights))) > 0.0:
            broken[_MASSLESS[0]] = Kept(workload.data, _MASSLESS[0])
        shown = renamed(workload, "half the error")
        yield certain(shown, Kept(workload.data), HalfError(workload.data), broken, note=_HALF)
    for workload in _drawable(workloads, profile.max_points):
        yield from _relu_sums(workload)


@dataclass(frozen=True)
class KnownReLU(ReLUSum):
    """Sums of ReLUs over data whose bounds have been computed, as a linear programme is part of that."""

    bounds: Sensitivities

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """The bounds."""
        return self.bounds


def _relu_sums(workload: Workload) -> Iterable[Scenario]:
    """The accuracy that a calibrated coreset states, at a quarter of the size of T5-P."""
    data = workload.data
    try:
        loss = KnownReLU(ReLUSum().sensitivities(data))
    except AssumptionError:  # some input switches all ReLUs off
        return
    reducer = SensitivityReducer(loss, delta=DELTA, calibration=Calibration())
    drawn = reducer.claim(data)
    claim = loss.calibrated_claim(drawn, Poisson().scheme, change=0.0, drift=0.0)
    assert claim is not None  # Poisson sampling is what D4 is about
    size = first_size_below(claim, _TARGET, data.n)
    claimed = claim.accuracy(size, DELTA)
    points, weights = np.asarray(data.points, dtype=np.float64), np.asarray(data.weights)
    error = NeuronWorst(points, weights[:, None], weights, RELU, RELU)
    yield _stated(renamed(workload, "sums of ReLUs"), reducer, size, claimed, error)


def _unscaled(coreset: Coreset, data: WeightedSet) -> Coreset:
    return replace(coreset, weights=np.asarray(data.weights)[coreset.indices])


def _twice(coreset: Coreset, data: WeightedSet) -> Coreset:
    return replace(coreset, weights=coreset.weights * factors_of(data, coreset))


# D7: random queries.

_LINK = ("kernel of another function", "the kernel of |.| is used for ReLU, and the other way round")
_ISOTROPIC = ("covariance ignored", "queries are taken to be isotropic in the coordinates of the data")
_DROPPED = ("dropped points left out", "only the changes of the kept points are counted")
_ROOT = np.array([[1.0, 0.0], [2.0, 0.5]])  # of the covariance of the queries


@dataclass(frozen=True)
class Average:
    """Mean square error as the library computes it, with a law that fits or not."""

    data: WeightedSet
    coreset: Coreset
    law: RotationInvariant
    dropped: bool = True

    def __call__(self) -> float:
        coreset, data = self.coreset, self.data
        if not self.dropped:
            data = WeightedSet(data.points[coreset.indices], data.weights[coreset.indices])
            coreset = replace(coreset, indices=np.arange(coreset.support_size))
        return average_case_error(data, coreset, self.law).details["mean_square_error"]


@dataclass(frozen=True)
class AgainstQuadrature:
    """Difference to the mean square on the circle, over rounding."""

    circle: OnTheCircle
    excess: Floats

    def __call__(self, found: float) -> float:
        full = self.circle.mean_square(np.asarray(self.circle.data.weights, dtype=np.float64))
        return abs(found - self.circle.mean_square(self.excess)) / (_EXACT * full)


@dataclass(frozen=True)
class BestWeights:
    """Optimal weights on the kept points, as a vector over all points."""

    data: WeightedSet
    coreset: Coreset
    law: RotationInvariant
    twice: bool = False

    def __call__(self) -> Floats:
        found = average_case_weights(self.data, self.coreset, self.law)
        weights = np.zeros(self.data.n)
        weights[found.indices] = found.weights
        if self.twice:
            weights[self.coreset.indices] *= self.coreset.weights
        return weights


@dataclass(frozen=True)
class NoWorse:
    """Mean square error of weights over that of the drawn ones, on the circle."""

    circle: OnTheCircle
    excess: Floats

    def __call__(self, weights: Floats) -> float:
        before = np.asarray(self.circle.data.weights, dtype=np.float64)
        least = _EXACT * self.circle.mean_square(before)
        return (self.circle.mean_square(weights - before) + least) / (
            self.circle.mean_square(self.excess) + 2.0 * least
        )


def _averages(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in workloads:
        if workload.d < 2:
            continue
        shown = thinned(leading(workload, 2), _PAIRS)
        data = WeightedSet(shown.data.points, shown.data.weights)
        kept = np.arange(0, data.n, 3)
        weights = 3.0 * np.asarray(data.weights)[kept] * np.random.default_rng(1).uniform(0.5, 1.5, len(kept))
        coreset = Coreset(indices=kept, weights=weights, size=len(kept), accuracy=Accuracy(1.0, 1.0))
        excess = -np.asarray(data.weights, dtype=np.float64)
        excess[kept] += weights
        for link, other in ((Absolute(), ReLU()), (ReLU(), Absolute()), (LeakyReLU(0.25), Absolute())):
            law = RotationInvariant(link, _ROOT)
            honest = Average(data, coreset, law)
            circle = OnTheCircle(data, law)
            broken: dict[str, Callable[[], float]] = {
                _LINK[0]: replace(honest, law=RotationInvariant(other, _ROOT)),
                _ISOTROPIC[0]: replace(honest, law=RotationInvariant(link, np.eye(2))),
            }
            if data.n > 1:
                broken[_DROPPED[0]] = replace(honest, dropped=False)
            words = f"slope {link.slope:g}"
            yield certain(
                renamed(shown, words), honest, AgainstQuadrature(circle, excess), broken, note=_QUADRATURE
            )
            best = BestWeights(data, coreset, law)
            worse = {TWICE[0]: replace(best, twice=True)}
            yield certain(
                renamed(shown, f"best weights, {words}"), best, NoWorse(circle, excess), worse, note=_BEST
            )


_DENSE = 600  # points of sets on which ReLUs and absolute values are compared at every switch
_PAIRS = 90  # points of sets with an integral over the circle
_HALF = "twice the error of ReLUs less that of absolute values, relative to their sum, over 1e-9"
_QUADRATURE = (
    "difference to Gauss-Legendre quadrature between the kinks, relative to the full cost, over 1e-9"
)
_BEST = "mean square error at the best weights over that at the drawn ones, by quadrature"

CHECKS = (
    Check(
        FirstMomentReLU(),
        "all inputs: every ray in the plane; all switches and spread inputs for the identity",
        dict([_UNCALIBRATED, _MASSLESS, UNSCALED, TWICE]),
        _first_moments,
    ),
    Check(
        CalibratedPoisson(),
        "three fixed queries, and costs in the span of the features; all inputs for what reducers state",
        dict([SAMPLE, NO_CONSTANT, TWICE, FEW, UNSCALED]),
        _calibrated,
    ),
    Check(
        AverageCaseError(),
        "Gaussian queries of the plane, integrated over the circle",
        dict([_LINK, _ISOTROPIC, _DROPPED, TWICE]),
        _averages,
    ),
)
