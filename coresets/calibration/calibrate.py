r"""Drawn weights changed so that moments of the full data are kept: generalised regression, D6.

A coreset drawn with weights v0 estimates every sum without bias. Changing v0 as little as possible such that
the sums of a few features come out exactly, the error at any query is that of the part of its cost that the
features do not explain. The gain is the unexplained part, the price one k x k system.

What a theorem says about v0 does not carry over to v verbatim. What does: with
eta = max |v/v0 - 1| over the kept points and losses that are not negative,

    |F_v(x) - F_v0(x)| <= eta F_v0(x)    for all x at once,

so that an accuracy (epsilon, delta) of v0 is one of (epsilon + eta (1 + epsilon), delta) of v. Calibrated
coresets state this one; it is larger, although errors are smaller as a rule. Use the weights v0, drawn with
``calibration=None`` from the same seed, where the smaller statement counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from coresets._validate import beside, check_integer, check_real
from coresets.accuracy import Accuracy
from coresets.calibration.moments import CalibratedLoss, Moments, Polynomials
from coresets.calibration.solve import Bounds, Solution, solve
from coresets.certificate import Certificate
from coresets.errors import SolverError
from coresets.sensitivity.sensitivities import Sensitivities
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = [
    "CALIBRATION",
    "Automatic",
    "Calibration",
    "FewerMoments",
    "Otherwise",
    "Refuse",
    "calibrate",
    "changed_accuracy",
    "largest_change",
]

Array = Any
Floats = npt.NDArray[np.float64]

CALIBRATION = "calibration"  # name of the certificate

# Combinations of features so small, relative to the features, are not told from zero (Lewis weights make the
# trace of u u^T a constant, up to their tolerance), and their moments are kept to this accuracy only.
_SAME = 1e-7


class Otherwise(Protocol):
    """What to do if no weights within the bounds keep the moments."""

    def fewer(self, count: int) -> int:
        """How many of the first ``count`` features to try next, 0 to give up."""
        ...


@dataclass(frozen=True, slots=True)
class Refuse:
    """Raise a :class:`~coresets.SolverError` with the certificate reached."""

    def fewer(self, count: int) -> int:
        """None."""
        return 0


@dataclass(frozen=True, slots=True)
class FewerMoments:
    """Halve the number of features, down to the constant, and say in the certificate how many are left."""

    def fewer(self, count: int) -> int:
        """Half as many, rounded down, so that one feature is followed by none."""
        return count // 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibrate every coreset, by size or by accuracy.

    Parameters
    ----------
    degree : int, optional
        1 or 2: all monomials up to this degree, for losses whose moments are polynomials. By default what
        the loss proposes.
    bounds : Bounds
        Range of the factors by which weights may change.
    otherwise : Otherwise
        ``FewerMoments()`` or ``Refuse()``, for draws that cannot keep all moments within the bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import SensitivityReducer, WeightedSet
    >>> from coresets.calibration import Calibration
    >>> from coresets.homogeneous import AbsoluteSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((5000, 3)))
    >>> reducer = SensitivityReducer(AbsoluteSum(), calibration=Calibration(degree=2))
    >>> evidence = reducer.reduce(data, size=500, rng=0).certificates[-1]
    >>> evidence.name, int(evidence.details["moments"]), evidence.value < 1e-9
    ('calibration', 10, True)
    """

    degree: int | None = None
    bounds: Bounds = Bounds()
    otherwise: Otherwise = FewerMoments()

    def __post_init__(self) -> None:
        if self.degree is not None and check_integer(self.degree, "degree", at_least=1) > 2:
            raise ValueError(f"degree = {self.degree} is above 2; pass 1 or 2, or moments of your own")
        if not isinstance(self.bounds, Bounds):
            raise TypeError(f"bounds = {self.bounds!r}; pass Bounds(low, high)")
        if isinstance(self.otherwise, type) or not hasattr(self.otherwise, "fewer"):
            raise TypeError(f"otherwise = {self.otherwise!r}; pass FewerMoments() or Refuse()")

    def moments(self, loss: object, data: WeightedSet, sensitivities: Sensitivities) -> Moments:
        """Moments of a loss, in the degree asked for.

        Raises
        ------
        TypeError
            If the loss offers no moments, or none of different degrees.
        """
        if not isinstance(loss, CalibratedLoss):
            raise TypeError(
                f"{type(loss).__name__} offers no moments; give it a method moments(data, sensitivities), or "
                "calibrate its coresets with coresets.calibration.calibrate"
            )
        moments = loss.moments(data, sensitivities)
        if self.degree is None:
            return moments
        if not isinstance(moments, Polynomials):
            raise TypeError(f"moments of {type(loss).__name__} are no polynomials; leave out the degree")
        return moments.to_degree(self.degree)


@dataclass(frozen=True, slots=True)
class Automatic:
    """Calibrate random coresets of a given size where it pays: with at least ``ratio`` points a moment.

    Requests by accuracy keep the weights of the theorem, and so do losses without moments.

    Parameters
    ----------
    ratio : float
        Least number of points a moment, at least 1. Below about four, worst errors grow.
    most : int
        Largest number of moments, since the cost grows with its square.
    """

    ratio: float = 5.0
    most: int = 300

    def __post_init__(self) -> None:
        if check_real(self.ratio, "ratio") < 1.0:
            raise ValueError(f"ratio = {self.ratio:g} is below 1; fewer points than moments are too few")
        check_integer(self.most, "most", at_least=1)

    def applies(self, moments: Moments, size: int) -> bool:
        """Whether so many moments are worth their price for a coreset of a size."""
        return moments.count <= self.most and size >= self.ratio * moments.count


class Adjusted(NamedTuple):
    """A calibrated coreset, and how far it is from the drawn one."""

    coreset: Coreset
    change: float
    residual: float  # norm of sum c s q - T over t


def largest_change(before: Array, after: Array) -> float:
    """Largest |v/v0 - 1| over points with v0 > 0; infinite if a point without weight has got one."""
    first = np.asarray(to_host(before), dtype=np.float64)
    second = np.asarray(to_host(after), dtype=np.float64)
    if np.any((first == 0.0) & (second != 0.0)):
        return math.inf
    kept = first > 0.0
    return float(np.max(np.abs(second[kept] / first[kept] - 1.0), initial=0.0))


def changed_accuracy(accuracy: Accuracy, change: float) -> Accuracy:
    """Accuracy of weights v with |v/v0 - 1| <= change everywhere, for losses that are not negative.

    Parameters
    ----------
    accuracy : Accuracy
        That of the weights v0.
    change : float
        At least 0, possibly infinite.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.calibration import changed_accuracy
    >>> round(changed_accuracy(Accuracy(0.1, 0.05), 0.2).epsilon, 12)
    0.32
    """
    return accuracy.then(Accuracy(change, 0.0))


def _certificate(found: Solution, count: int, asked: int, change: float) -> Certificate:
    return Certificate(
        CALIBRATION,
        "largest error of a moment, relative to the sum of the absolute values of its terms in the full "
        "data; eta is the largest relative change of a weight",
        found.residual,
        details={
            "moments": count,
            "asked": asked,
            "eta": change,
            "condition": found.condition if math.isfinite(found.condition) else 0.0,
            "smallest_factor": float(np.min(found.factors, initial=math.inf)),
            "at_bounds": found.bounded,
            "steps": found.steps,
        },
    )


def adjust(
    data: WeightedSet, coreset: Coreset, moments: Moments, bounds: Bounds, otherwise: Otherwise
) -> Adjusted:
    """Do what :func:`calibrate` promises, and return the residual that D4 counts in as well."""
    if coreset.indices is None:
        raise TypeError("the coreset has free points; only kept rows of the data can be calibrated")
    if moments.measure.shape != (data.n,):
        raise ValueError(
            f"the moments are about {moments.measure.shape[0]} points, the data have {data.n}; make the "
            "moments from the same data"
        )
    kept = np.asarray(to_host(coreset.indices))
    if kept.size and int(kept[-1]) >= data.n:
        raise IndexError(f"index {int(kept[-1])} is outside the {data.n} points given")
    masses = np.asarray(to_host(data.weights), dtype=np.float64)[kept]
    drawn = np.asarray(to_host(coreset.weights), dtype=np.float64)
    base = np.zeros(len(kept))
    np.divide(drawn, masses, out=base, where=masses > 0.0)
    base *= moments.measure[kept]
    features, target, scale = moments.features(kept), moments.totals(), moments.sizes()

    # In single precision weights are rounded, and moments with them.
    single = np.finfo(str(coreset.weights.dtype).rpartition(".")[2]).eps
    enough = max(_SAME, 64.0 * float(single) * math.sqrt(moments.count * (len(kept) + 1.0)))
    asked = count = moments.count
    while True:
        found = solve(features[:, :count], base, target[:count], scale[:count], bounds)
        xp = array_namespace(coreset.weights)
        factors = xp.astype(beside(found.factors, coreset.weights, "factors"), coreset.weights.dtype)
        weights = coreset.weights * factors
        change = largest_change(drawn, weights)
        actual = np.zeros(len(kept))
        np.divide(np.asarray(to_host(weights), dtype=np.float64), drawn, out=actual, where=drawn > 0.0)
        gaps = (base * actual) @ features - target
        unit = np.where(scale > 0.0, scale, 1.0)
        residual = float(np.max(np.abs(gaps[:count]) / unit[:count]))
        found = replace(found, factors=actual[base > 0.0], residual=residual)
        if residual <= enough:
            break
        fewer = otherwise.fewer(count)
        if fewer < 1:
            raise SolverError(
                f"no weights of the {len(kept)} kept points, within [{bounds.low:g}, {bounds.high:g}] times "
                f"the drawn ones, keep {count} moments; draw more points, keep fewer moments, or widen the "
                "bounds",
                _certificate(found, count, asked, change),
                coreset,
            )
        count = fewer
    # The accuracy is about all queries, and the features that were given up do not matter to it.
    adjusted = Coreset(
        indices=coreset.indices,
        weights=weights,
        size=coreset.size,
        accuracy=changed_accuracy(coreset.accuracy, change),
        certificates=(*coreset.certificates, _certificate(found, count, asked, change)),
    )
    return Adjusted(adjusted, change, float(np.linalg.norm(gaps)) / float(scale[0]))


def calibrate(
    data: WeightedSet,
    coreset: Coreset,
    moments: Moments,
    *,
    bounds: Bounds | None = None,
    otherwise: Otherwise | None = None,
) -> Coreset:
    """Change the weights of a coreset as little as possible, so that it keeps moments of the data.

    Parameters
    ----------
    data : WeightedSet
        The data that the coreset was drawn from.
    coreset : Coreset
        Kept rows and the weights v0 with which they were drawn.
    moments : Moments
        :class:`Polynomials` or :class:`Contributions`, or those that a loss offers.
    bounds : Bounds, optional
        Range of the factors v/v0; ``Bounds()`` by default, which keeps weights non-negative.
    otherwise : Otherwise, optional
        What to do if no such weights exist: ``Refuse()`` by default, or ``FewerMoments()``.

    Returns
    -------
    Coreset
        The same rows with weights v. Its accuracy is (epsilon + eta (1 + epsilon), delta), see
        :func:`changed_accuracy`, for losses that are not negative. The certificate ``"calibration"`` is
        added to those of the coreset, which speak of v0.

    Raises
    ------
    SolverError
        If no weights within the bounds keep the moments and ``otherwise`` gives up, as it does when nothing
        was kept. The drawn coreset is its ``result``.
    TypeError, ValueError, IndexError
        If the coreset has free points, or does not belong to the data.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import SensitivityReducer, WeightedSet
    >>> from coresets.calibration import calibrate
    >>> from coresets.homogeneous import AbsoluteSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((5000, 3)))
    >>> reducer = SensitivityReducer(AbsoluteSum(), calibration=None)
    >>> drawn = reducer.reduce(data, size=500, rng=0)
    >>> moments = AbsoluteSum().moments(data, reducer.sensitivities(data))
    >>> kept = calibrate(data, drawn, moments).of(data)
    >>> bool(np.allclose(kept.weights @ kept.points, data.points.sum(axis=0)))
    True
    """
    if not isinstance(data, WeightedSet):
        raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
    if not isinstance(coreset, Coreset):
        raise TypeError(f"coreset is a {type(coreset).__name__}; pass a Coreset of the data")
    return adjust(data, coreset, moments, bounds or Bounds(), otherwise or Refuse()).coreset
