r"""Sums of |p.x|, of ReLU(p.x), and of signed combinations of neurons: coresets for all queries at once.

With M = sum a a^T / tau, a = w p and tau the l1 Lewis weights, every |a.x| is at most tau |x|_M and
|x|_M is at most sum w |p.x|: dual norms are bounded by the sensitivities, and dimension-free bounds
apply to whatever is 1-Lipschitz and positively homogeneous in p.x, with errors relative to
sum w |p.x| (guarantees T4 and T4-P). No bound on the norm of x is needed.

* :class:`AbsoluteSum`: the sum of w |p.x| itself, up to a relative error.
* :class:`HomogeneousSum`: K outputs z_k(x) = sum w_k(p) phi(p.x) of a layer with outgoing weights
  w_k(p) of any sign. Errors are relative to sum max_k |w_k(p)| |p.x|, since outputs may cancel.
* :class:`ReLUSum`: the sum of w [p.x]_+ up to a relative error of its own, which costs a factor
  (2 / kappa)^2 in size with kappa from :func:`relu_balance` (T5 and T5-P).

Cost: the Lewis weights, O(n d^2) per fixed-point step, and one linear programme for kappa.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from array_api_compat import array_namespace, device

from coresets._validate import as_floating, beside, check_finite, check_real
from coresets.calibration.moments import Polynomials, directions
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, SamplingGuarantee, Scheme
from coresets.guarantees import (
    BalancedClass,
    BalancedReLUIID,
    BalancedReLUPoisson,
    FirstMomentClass,
    FirstMomentReLU,
    HomogeneousClass,
    HomogeneousIID,
    HomogeneousPoisson,
)
from coresets.homogeneous.balance import RELU_BALANCE, relu_balance
from coresets.sensitivity import Sensitivities, lewis_weights
from coresets.weighted_set import Coreset, WeightedSet

__all__ = [
    "Absolute",
    "AbsoluteSum",
    "HomogeneousSum",
    "Identity",
    "LeakyReLU",
    "Link",
    "ReLU",
    "ReLUSum",
]

Array = Any
Theorem = TypeVar("Theorem")

_HOMOGENEOUS: dict[Scheme, SamplingGuarantee[HomogeneousClass]] = {
    Scheme.WITH_REPLACEMENT: HomogeneousIID(),
    Scheme.POISSON: HomogeneousPoisson(),
}
_BALANCED: dict[Scheme, SamplingGuarantee[BalancedClass]] = {
    Scheme.WITH_REPLACEMENT: BalancedReLUIID(),
    Scheme.POISSON: BalancedReLUPoisson(),
}


def _images(data: WeightedSet, query: Any) -> Array:
    """p.x of all points, (n,)."""
    xp = array_namespace(data.points)
    query = xp.asarray(query, dtype=data.points.dtype, device=device(data.points))
    if tuple(query.shape) != (data.d,):
        raise ValueError(f"query has shape {tuple(query.shape)}; expected ({data.d},), one entry a column")
    return data.points @ query


def _first_moments(data: WeightedSet, sensitivities: Sensitivities) -> Polynomials:
    """The constant and w p/s, whose moments are the total of the sensitivities and the sum of w p."""
    values = sensitivities.values
    return Polynomials(directions(data.points, data.weights, values), values)


def _covering(theorems: dict[Scheme, Theorem], scheme: Scheme, sums: str) -> Theorem:
    """The theorem that covers the scheme."""
    if scheme not in theorems:
        raise AssumptionError(
            f"no theorem promises a coreset for {sums} by {scheme.value}; use Poisson or IID"
        )
    return theorems[scheme]


@dataclass(frozen=True)
class AbsoluteSum:
    """Sums of w |p.x|, for all x at once.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import SensitivityReducer, WeightedSet
    >>> from coresets.homogeneous import AbsoluteSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((50000, 3)))
    >>> reducer = SensitivityReducer(AbsoluteSum(), calibration=None)
    >>> round(reducer.reduce(data, size=5000, rng=0).accuracy.epsilon, 2)
    0.16
    """

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """|p.x| at a query of shape (d,)."""
        return array_namespace(data.points).abs(_images(data, query))

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Certified l1 Lewis weights, whose total is the rank."""
        return lewis_weights(data.points, data.weights, p=1.0)

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """T4 with one non-negative output for draws with replacement, T4-P for Poisson sampling."""
        # Mixing only adds to the bounds, so the dual norms stay below them.
        parameters = HomogeneousClass(
            sensitivities.total, range_ratio=HomogeneousClass.range_of(1.0, 1.0, signed=False)
        )
        return Claim(_covering(_HOMOGENEOUS, scheme, "sums of |p.x|"), parameters)

    def moments(self, data: WeightedSet, sensitivities: Sensitivities) -> Polynomials:
        """First moments sum w p, and the total of the sensitivities."""
        return _first_moments(data, sensitivities)


@dataclass(frozen=True)
class ReLUSum:
    """Sums of w [p.x]_+, for all x at once, up to an error relative to the sum itself.

    Possible only if no x makes all p.x <= 0: the sum is then at least kappa / 2 times sum w |p.x|.

    Raises
    ------
    AssumptionError
        From :meth:`sensitivities`, if kappa is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, SensitivityReducer, WeightedSet
    >>> from coresets.homogeneous import ReLUSum
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((50000, 3)))
    >>> coreset = SensitivityReducer(ReLUSum()).reduce(data, accuracy=Accuracy(0.3, 0.05), rng=0)
    >>> coreset.size < data.n
    True
    >>> [evidence.name for evidence in coreset.certificates]
    ['Lewis weights', 'ReLU balance']
    """

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """[p.x]_+ at a query of shape (d,)."""
        return array_namespace(data.points).clip(_images(data, query), min=0.0)

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """2 tau / kappa, with tau the Lewis weights.

        Values may exceed 1. They bound dual norms as well, for which a cap would not be valid.
        """
        lewis = lewis_weights(data.points, data.weights, p=1.0)
        balance = relu_balance(data.points, data.weights)
        if balance.kappa <= 0.0:
            raise AssumptionError(
                f"kappa is in [0, {balance.kappa_upper:.3g}]: for some x no p.x is positive, so the ReLU "
                "sum can vanish while the sum of |p.x| does not, and no relative error can be promised; use "
                "HomogeneousSum, whose error is relative to the sum of |p.x|"
            )
        return Sensitivities(lewis.values * (2.0 / balance.kappa), (*lewis.certificates, balance.certificate))

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """T5 for draws with replacement, T5-P for Poisson sampling."""
        theorem = _covering(_BALANCED, scheme, "sums of ReLU(p.x)")
        kappa = next((c.details["kappa"] for c in sensitivities.certificates if c.name == RELU_BALANCE), None)
        if kappa is None:  # bounds of the caller's own
            kappa = relu_balance(data.points, data.weights).kappa
        # The theorem counts in Lewis weights, tau = kappa / 2 times these bounds, mixing included.
        return Claim(theorem, BalancedClass(max(1.0, 0.5 * kappa * sensitivities.total), kappa))

    def moments(self, data: WeightedSet, sensitivities: Sensitivities) -> Polynomials:
        """First moments sum w p, which make the error half that of |p.x|, and the total sensitivity."""
        return _first_moments(data, sensitivities)

    def calibrated_claim(self, claim: Claim, scheme: Scheme, *, change: float, drift: float) -> Claim | None:
        """D4, where it is proved: for Poisson sampling.

        Parameters
        ----------
        claim : Claim
            That of the drawn weights.
        scheme : Scheme
            How they were drawn.
        change : float
            Largest relative change of a weight.
        drift : float
            Norm of the error of the moments in coordinates in which sum s u u^T = 1.
        """
        parameters = claim.parameters
        if scheme is not Scheme.POISSON or not isinstance(parameters, BalancedClass):
            return None
        first = FirstMomentClass(parameters.total_sensitivity, parameters.kappa, change, drift)
        return Claim(FirstMomentReLU(), first)


@runtime_checkable
class Link(Protocol):
    """A positively homogeneous 1-Lipschitz function: phi(z) = z for z >= 0 and slope z for z < 0."""

    @property
    def slope(self) -> float:
        """Slope for negative arguments, in [-1, 1]."""
        ...


@dataclass(frozen=True)
class ReLU:
    """phi(z) = max(z, 0)."""

    slope: ClassVar[float] = 0.0


@dataclass(frozen=True)
class Absolute:
    """phi(z) = |z|."""

    slope: ClassVar[float] = -1.0


@dataclass(frozen=True)
class Identity:
    """phi(z) = z."""

    slope: ClassVar[float] = 1.0


@dataclass(frozen=True)
class LeakyReLU:
    """phi(z) = z for z >= 0 and slope z below.

    Parameters
    ----------
    slope : float
        In [-1, 1].
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        slope = check_real(self.slope, "slope")
        if abs(slope) > 1.0:
            raise ValueError(f"slope = {slope:g} is outside [-1, 1]; the link has to be 1-Lipschitz")
        object.__setattr__(self, "slope", slope)


@dataclass(frozen=True, eq=False)
class HomogeneousSum:
    """Outputs z_k(x) = sum_p w_k(p) phi(p.x) of a layer, with outgoing weights of any sign.

    The data carry the masses w(p) = max_k |w_k(p)|, as :meth:`data` makes them. The cost of a
    query is the normaliser N(x) = sum w(p) |p.x|; what a coreset promises is that *all outputs and
    the normaliser itself* are within epsilon N(x), for all x at once. A point that is kept with
    weight v gets the outgoing weights w_k(p) v / w(p) (:meth:`reweighted`).

    Parameters
    ----------
    outgoing : array of shape (n,) or (n, K)
        Finite outgoing weights, one row a point.
    link : Link
        ``ReLU()`` (default), ``LeakyReLU(slope)``, ``Absolute()`` or ``Identity()``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import SensitivityReducer
    >>> from coresets.homogeneous import HomogeneousSum, ReLU
    >>> rng = np.random.default_rng(0)
    >>> neurons, outgoing = rng.standard_normal((20000, 3)), rng.standard_normal((20000, 2))
    >>> layer = HomogeneousSum(outgoing, ReLU())
    >>> data = layer.data(neurons)
    >>> coreset = SensitivityReducer(layer).reduce(data, size=4000, rng=0)
    >>> bool(layer.relative_errors(data, coreset, np.ones(3)).max() <= coreset.accuracy.epsilon)
    True
    """

    outgoing: Array
    link: Link = ReLU()

    def __post_init__(self) -> None:
        outgoing = as_floating(self.outgoing, "outgoing")
        if outgoing.ndim not in (1, 2) or 0 in outgoing.shape:
            raise ValueError(
                f"outgoing has shape {tuple(outgoing.shape)}; pass (n,) or (n, K), one row a point"
            )
        check_finite(outgoing, "outgoing")
        object.__setattr__(self, "outgoing", outgoing if outgoing.ndim == 2 else outgoing[:, None])
        if isinstance(self.link, type) or not isinstance(self.link, Link):
            raise TypeError(
                f"link = {self.link!r} is no link; pass ReLU(), LeakyReLU(), Absolute() or Identity()"
            )

    @property
    def output_count(self) -> int:
        """K, the number of outputs."""
        return int(self.outgoing.shape[1])

    def _masses(self) -> Array:
        """max_k |w_k(p)|, (n,)."""
        xp = array_namespace(self.outgoing)
        return xp.max(xp.abs(self.outgoing), axis=1)

    def data(self, points: Array) -> WeightedSet:
        """Points with the masses that the promise refers to.

        Parameters
        ----------
        points : array of shape (n, d)
            Incoming weights, one row a neuron; a bias is a column, at which queries are 1.
        """
        return WeightedSet(points, self._masses())

    def _checked(self, data: WeightedSet) -> Array:
        """Outgoing weights beside the data, within whose masses they have to be."""
        if int(self.outgoing.shape[0]) != data.n:
            raise ValueError(
                f"outgoing has {int(self.outgoing.shape[0])} rows; the data have {data.n} points"
            )
        xp = array_namespace(data.points)
        outgoing = xp.astype(beside(self.outgoing, data.points, "outgoing"), data.points.dtype, copy=False)
        excess = xp.max(xp.abs(outgoing), axis=1) - data.weights
        # Masses may have been rounded to the precision of the points.
        if bool(xp.any(excess > 4.0 * float(xp.finfo(data.weights.dtype).eps) * data.weights)):
            raise AssumptionError(
                f"an outgoing weight exceeds the mass of its point, at point {int(xp.argmax(excess))}; "
                "the masses have to be at least max |w_k(p)|, as HomogeneousSum.data makes them"
            )
        return outgoing

    def costs(self, data: WeightedSet, query: Any) -> Array:
        """|p.x|, whose weighted sum is the normaliser N(x)."""
        return array_namespace(data.points).abs(_images(data, query))

    def sensitivities(self, data: WeightedSet) -> Sensitivities:
        """Certified l1 Lewis weights, whose total is the rank."""
        self._checked(data)
        return lewis_weights(data.points, data.weights, p=1.0)

    def claim(self, data: WeightedSet, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """T4 for draws with replacement, T4-P for Poisson sampling, for K outputs and the normaliser."""
        # An output whose weights are all negative is one of positive weights, up to its sign.
        xp = array_namespace(self.outgoing)
        one_sign = xp.all(self.outgoing >= 0, axis=0) | xp.all(self.outgoing <= 0, axis=0)
        spread = HomogeneousClass.range_of(1.0, -self.link.slope, signed=not bool(xp.all(one_sign)))
        parameters = HomogeneousClass(sensitivities.total, outputs=self.output_count + 1, range_ratio=spread)
        return Claim(_covering(_HOMOGENEOUS, scheme, "the outputs of a layer"), parameters)

    def moments(self, data: WeightedSet, sensitivities: Sensitivities) -> Polynomials:
        """First moments of the masses, sum w p, and the total of the sensitivities."""
        return _first_moments(data, sensitivities)

    def _activations(self, data: WeightedSet, query: Any) -> Array:
        images = _images(data, query)
        return array_namespace(images).where(images > 0, images, self.link.slope * images)

    def outputs(self, data: WeightedSet, query: Any) -> Array:
        """All outputs z_k(x) of the full layer at a query of shape (d,), shape (K,)."""
        return self._activations(data, query) @ self._checked(data)

    def reweighted(self, data: WeightedSet, coreset: Coreset) -> Array:
        """Outgoing weights of the kept points, w_k(p) v(p) / w(p), shape (support_size, K).

        Raises
        ------
        TypeError
            If the coreset has free points.
        """
        if coreset.indices is None:
            raise TypeError("the coreset has free points, which have no outgoing weights")
        xp = array_namespace(data.points)
        indices = beside(coreset.indices, data.points, "indices")
        masses = xp.take(data.weights, indices)
        kept = beside(coreset.weights, data.points, "weights") / xp.where(
            masses > 0, masses, xp.ones_like(masses)
        )
        return xp.take(self._checked(data), indices, axis=0) * kept[:, None]

    def relative_errors(self, data: WeightedSet, coreset: Coreset, query: Any) -> Array:
        """Errors |z_k(x) - z~_k(x)| / N(x) of all outputs of a coreset at one query, shape (K,).

        Zeros where N(x) = 0, since all outputs vanish there.
        """
        xp = array_namespace(data.points)
        activations, outgoing = self._activations(data, query), self.reweighted(data, coreset)
        estimate = xp.take(activations, beside(coreset.indices, data.points, "indices")) @ outgoing
        error = xp.abs(activations @ self._checked(data) - estimate)
        normaliser = xp.sum(data.weights * self.costs(data, query))
        return error / normaliser if float(normaliser) > 0.0 else xp.zeros_like(error)
