"""Sizes for sums of positively homogeneous functions, the neurons of a layer: T4, T4-P, T5, T5-P.

T4 is E4 with l1 Lewis weights, in whose norm every neuron is as long as its bound and every input as long
as the sum of all absolute values. T5 turns an error relative to that sum into one relative to the sum of
ReLUs, at the price of the balance kappa.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from coresets._validate import check_integer, check_real
from coresets.errors import AssumptionError
from coresets.guarantee import (
    Assumption,
    Citation,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
)
from coresets.guarantees.finite import VALID_BOUNDS
from coresets.guarantees.parameters import LipschitzClass, check_total
from coresets.guarantees.uniform import LipschitzIID, LipschitzPoisson

__all__ = [
    "BalancedClass",
    "BalancedReLUIID",
    "BalancedReLUPoisson",
    "HomogeneousClass",
    "HomogeneousIID",
    "HomogeneousPoisson",
]

_LEWIS = Assumption(
    "the sensitivities are certified l1 Lewis weights, at least their certificate", "lewis_weights"
)
_HOMOGENEOUS = Assumption("phi is positively homogeneous and 1-Lipschitz, such as ReLU", "the loss")
_BALANCED = Assumption("kappa is at most the balance of the points, and positive", "relu_balance")
_SOURCE = Citation("tukan2022", "the setting of Tukan, Mualem and Maalouf 2022; sizes are proved on the page")


@dataclass(frozen=True, slots=True)
class HomogeneousClass:
    """Sums of w_k(p) phi(p.x) for several outputs k, phi positively homogeneous and 1-Lipschitz.

    Parameters
    ----------
    total_sensitivity : float
        Sum of valid l1 Lewis bounds of the rows max_k |w_k(p)| p: the rank if they are exact.
    outputs : int
        Number K of outputs, at least 1.
    range_ratio : float
        Length of the interval of the values phi can have on [-1, 1] times the signs of the weights, in
        (0, 2]; :meth:`range_of` computes it.

    Examples
    --------
    >>> HomogeneousClass(10.0, outputs=4, range_ratio=HomogeneousClass.range_of(1.0, 0.0, signed=True))
    HomogeneousClass(total_sensitivity=10.0, outputs=4, range_ratio=2.0)
    """

    total_sensitivity: float
    outputs: int = 1
    range_ratio: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        object.__setattr__(self, "outputs", check_integer(self.outputs, "outputs", at_least=1))
        ratio = check_real(self.range_ratio, "range_ratio")
        if not 0.0 < ratio <= 2.0:
            raise ValueError(
                f"range_ratio = {ratio:g} is outside (0, 2], in which shares of this family vary"
            )
        object.__setattr__(self, "range_ratio", ratio)

    @staticmethod
    def range_of(up: float, down: float, *, signed: bool) -> float:
        """Range ratio of phi(z) = up [z]_+ + down [-z]_+.

        Parameters
        ----------
        up, down : float
            phi(1) and phi(-1), in [-1, 1] and not both 0: ReLU has 1 and 0, |.| has 1 and 1, leaky ReLU 1 and
            minus its slope, the identity 1 and -1.
        signed : bool
            Whether an outgoing weight may be negative.

        Examples
        --------
        >>> (
        ...     HomogeneousClass.range_of(1.0, 0.0, signed=False),
        ...     HomogeneousClass.range_of(1.0, -0.25, signed=False),
        ... )
        (1.0, 1.25)
        """
        values = (check_real(up, "up"), check_real(down, "down"))
        largest = max(abs(value) for value in values)
        if not 0.0 < largest <= 1.0:
            raise ValueError(f"up = {up:g}, down = {down:g}; scale phi to be 1-Lipschitz and not zero")
        return 2.0 * largest if signed else max(*values, 0.0) - min(*values, 0.0)

    def lipschitz(self) -> LipschitzClass:
        """The same family in the terms of E4: h = 1."""
        return LipschitzClass(
            self.total_sensitivity, norm_ratio=1.0, range_ratio=self.range_ratio, outputs=self.outputs
        )


@dataclass(frozen=True, slots=True)
class BalancedClass:
    """Sums of w(p) [p.x]_+ with w >= 0 over points whose positive and negative parts balance.

    Parameters
    ----------
    total_sensitivity : float
        Sum of valid l1 Lewis bounds of the rows w(p) p: the rank if they are exact.
    kappa : float
        Lower bound on the balance, in (0, 1]: sum w [p.x]_+ >= kappa/2 sum w |p.x| for all x.

    Raises
    ------
    AssumptionError
        If kappa is 0: some input then switches every neuron off without being orthogonal to all.

    Examples
    --------
    >>> BalancedClass(10.0, kappa=0.5).lipschitz().total_sensitivity
    40.0
    """

    total_sensitivity: float
    kappa: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        kappa = check_real(self.kappa, "kappa")
        if kappa <= 0.0:
            raise AssumptionError(
                f"kappa = {kappa:g}: some x may switch every ReLU off, and no relative error is promised; "
                "ask for an error relative to sum w |p.x| (T4)"
            )
        if kappa > 1.0:
            raise ValueError(f"kappa = {kappa:g} is above 1, the balance of a set whose weighted sum is 0")
        object.__setattr__(self, "kappa", kappa)

    def lipschitz(self) -> LipschitzClass:
        """The same family in the terms of E4: bounds 2/kappa times as large, h = 1, range 1."""
        return LipschitzClass(2.0 * self.total_sensitivity / self.kappa, norm_ratio=1.0, range_ratio=1.0)


class _Representable(Protocol):
    """Parameters of a family that E4 covers."""

    def lipschitz(self) -> LipschitzClass: ...


F = TypeVar("F", bound=_Representable)


class _ThroughLipschitz(SamplingGuarantee[F]):
    """A theorem whose formula is that of E4 or E4-P."""

    engine: ClassVar[SamplingGuarantee[LipschitzClass]]

    def _size(self, parameters: F, epsilon: float, delta: float) -> int:
        return self.engine._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: F, size: int, delta: float) -> float:
        return self.engine._epsilon(parameters.lipschitz(), size, delta)


class HomogeneousIID(_ThroughLipschitz[HomogeneousClass]):
    """T4: a layer's sums at all inputs at once, draws with replacement in proportion to Lewis weights."""

    key = "T4"
    title = "all inputs of a homogeneous layer, draws with replacement"
    statement = (
        "With m >= (t (2 + r sqrt(ln(2 K / delta) / 2)) / eps)^2 draws in proportion to Lewis bounds "
        "of total t, with probability at least 1 - delta all K outputs sum w_k(p) phi(p.x) are kept "
        "within eps sum max_k |w_k(p)| |p.x|, for all x at once; r = 1 for ReLU and non-negative "
        "weights, 2 in general."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_LEWIS, _HOMOGENEOUS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})
    engine = LipschitzIID()


class HomogeneousPoisson(_ThroughLipschitz[HomogeneousClass]):
    """T4-P: a layer's sums at all inputs at once, Poisson sampling in proportion to Lewis weights."""

    key = "T4-P"
    title = "all inputs of a homogeneous layer, Poisson sampling"
    statement = (
        "Poisson sampling with expected size m in proportion to Lewis bounds keeps, with probability "
        "at least 1 - delta, all K outputs sum w_k(p) phi(p.x) within eps sum max_k |w_k(p)| |p.x|, "
        "for all x at once, with the eps of E4-P for h = 1."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_LEWIS, _HOMOGENEOUS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})
    engine = LipschitzPoisson()


class BalancedReLUIID(_ThroughLipschitz[BalancedClass]):
    """T5: sums of ReLUs with a relative error, draws with replacement."""

    key = "T5"
    title = "sums of ReLUs with a relative error, draws with replacement"
    statement = (
        "If sum w [p.x]_+ >= kappa/2 sum w |p.x| for all x, then m >= (2 t (2 + sqrt(ln(2 / delta) / "
        "2)) / (kappa eps))^2 draws in proportion to Lewis bounds of total t keep sum w [p.x]_+ "
        "within a relative error of eps for all x at once, with probability at least 1 - delta."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_LEWIS, _BALANCED, VALID_BOUNDS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})
    engine = LipschitzIID()


class BalancedReLUPoisson(_ThroughLipschitz[BalancedClass]):
    """T5-P: sums of ReLUs with a relative error, Poisson sampling."""

    key = "T5-P"
    title = "sums of ReLUs with a relative error, Poisson sampling"
    statement = (
        "If sum w [p.x]_+ >= kappa/2 sum w |p.x| for all x, then Poisson sampling in proportion to "
        "Lewis bounds of total t keeps sum w [p.x]_+ within a relative error of eps for all x at "
        "once, with probability at least 1 - delta, eps being that of E4-P with a total of 2 t / "
        "kappa."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_LEWIS, _BALANCED, VALID_BOUNDS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})
    engine = LipschitzPoisson()
