r"""Tails of means of independent terms, and their exact inverses.

A tail answers three questions about the mean of m independent terms, each vectorised and each
an exact inverse of the others (to the integer in m, to the last float in epsilon):

* ``tail(size, epsilon)``: a bound on the probability that the mean deviates by more than epsilon;
* ``epsilon(size, delta)``: the least deviation whose tail is at most delta;
* ``size(epsilon, delta)``: the least number of terms for which, from there on, it is.

The bounds, for terms Y with mean mu:

========================  =====================================  =============================
class                     needs                                  exponent per term
========================  =====================================  =============================
:class:`Bernstein`        variance v, deviations at most b       e^2 / (2 v + 2 b e / 3)
:class:`ChernoffBennett`  the same                               (v / b^2) h(b e / v)
:class:`BernoulliKL`      identically distributed in [0, R]      kl((mu + e) / R, mu / R)
:class:`ExactBinomial`    Bernoulli terms                        none: the distribution itself
========================  =====================================  =============================

with h(u) = (1 + u) ln(1 + u) - u and kl the relative entropy of two Bernoulli laws. The first
two need independence only; the third also needs equal means (for unequal ones kl holds around
their average), so it covers draws with replacement (E1-KL) and not Poisson sampling.

References: Bernstein 1924; Bennett 1962; Hoeffding 1963, Theorem 1; Boucheron, Lugosi and
Massart 2013, Section 2.7 to 2.10.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincc

from coresets._rates import bennett_h, bennett_rate, bernoulli_kl

__all__ = ["BernoulliKL", "Bernstein", "ChernoffBennett", "ExactBinomial", "Tail", "bennett_h"]

Real: TypeAlias = float | npt.NDArray[np.float64]
Floats: TypeAlias = npt.NDArray[np.float64]

_MAX_SIZE = 2**53  # above it, consecutive integers are no longer distinct floats


def _least_float(holds: Callable[[Floats], npt.NDArray[np.bool_]], low: Floats, high: Floats) -> Floats:
    """Least float in (low, high] at which a monotone predicate holds, entry by entry.

    Non-negative floats are ordered as the integers with the same bits, so bisecting on these
    integers ends, after at most 63 steps, with two neighbouring floats.
    """
    left, right = low.view(np.int64).copy(), high.view(np.int64).copy()
    while bool(np.any(right - left > 1)):
        middle = left + (right - left) // 2
        good = holds(middle.view(np.float64))
        right = np.where(good, middle, right)
        left = np.where(good, left, middle)
    return right.view(np.float64)


def _least_integer(holds: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]], shape: Any) -> Any:
    """Least positive integer at which a monotone predicate holds, entry by entry."""
    low = np.zeros(shape, dtype=np.int64)
    high = np.ones(shape, dtype=np.int64)
    while not bool(np.all(good := holds(high))):
        low = np.where(good, low, high)
        high = np.where(good, high, 2 * high)
        if bool(np.any(high > _MAX_SIZE)):
            raise OverflowError(
                "no size below 2^53 reaches this epsilon and delta; ask for a larger one of them"
            )
    while bool(np.any(high - low > 1)):
        middle = (low + high) // 2
        good = holds(np.maximum(middle, 1)) & (middle >= 1)
        high = np.where(good, middle, high)
        low = np.where(good, low, middle)
    return high


def _check(values: npt.ArrayLike, name: str, low: float, high: float, *, closed: bool = False) -> Floats:
    """Float array with all entries in (low, high), or [low, high] when closed."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} = {values!r} is not a real number or an array of them")
    array = array.astype(np.float64)
    good = (array >= low) & (array <= high) if closed else (array > low) & (array < high)
    if not bool(np.all(good)):
        bad = float(array[~good].ravel()[0]) if array.ndim else float(array)
        brackets = "[]" if closed else "()"
        raise ValueError(f"{name} = {bad:g} is outside {brackets[0]}{low:g}, {high:g}{brackets[1]}")
    return array


def _scalar_or_array(values: Any) -> Any:
    return values.item() if np.ndim(values) == 0 else values


@dataclass(frozen=True, eq=False)
class Tail(ABC):
    """Bound on how far the mean of independent terms strays from its expectation.

    Subclasses provide :meth:`log_tail`; everything else follows from it. Numbers may be arrays,
    of the parameters too, and broadcast. Tails with the same parameters are equal.
    """

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        pairs = zip(self._parameters(), other._parameters(), strict=True)
        return all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    def __hash__(self) -> int:
        # Adding zero makes the two zeros, which are equal, the same bytes.
        return hash((type(self), *((p.shape, (p + 0.0).tobytes()) for p in self._parameters())))

    @abstractmethod
    def log_tail(self, size: npt.ArrayLike, epsilon: npt.ArrayLike) -> Floats:
        """Logarithm of :meth:`tail`, before it is capped at one."""

    def _parameters(self) -> tuple[Floats, ...]:
        return tuple(np.asarray(getattr(self, f.name), dtype=np.float64) for f in fields(self))

    def tail(self, size: npt.ArrayLike, epsilon: npt.ArrayLike) -> Any:
        """Bound on the probability of a deviation above epsilon.

        Parameters
        ----------
        size : int or array of int
            Number of terms, at least 1.
        epsilon : float or array of float
            Deviation of the mean, at least 0, in the unit of the terms.

        Returns
        -------
        float or array of float
            In [0, 1].
        """
        size = _check(size, "size", 1, np.inf, closed=True)
        epsilon = _check(epsilon, "epsilon", 0.0, np.inf, closed=True)
        return _scalar_or_array(np.exp(np.minimum(self.log_tail(size, epsilon), 0.0)))

    def epsilon(self, size: npt.ArrayLike, delta: npt.ArrayLike) -> Any:
        """Least deviation whose tail is at most delta.

        Parameters
        ----------
        size : int or array of int
            Number of terms, at least 1.
        delta : float or array of float
            Probability in (0, 1).

        Returns
        -------
        float or array of float
            Finite and at least 0.
        """
        size = _check(size, "size", 1, np.inf, closed=True)
        level = np.log(_check(delta, "delta", 0.0, 1.0))
        shape = np.broadcast_shapes(size.shape, level.shape, *(p.shape for p in self._parameters()))
        size, level = np.broadcast_to(size, shape), np.broadcast_to(level, shape)

        def holds(epsilon: Floats) -> npt.NDArray[np.bool_]:
            return self.log_tail(size, epsilon) <= level

        zero = np.zeros(shape)
        found = _least_float(holds, zero, np.full(shape, np.finfo(np.float64).max))
        return _scalar_or_array(np.where(holds(zero), 0.0, found))

    def size(self, epsilon: npt.ArrayLike, delta: npt.ArrayLike) -> Any:
        """Least number of terms from which on the tail at epsilon is at most delta.

        Parameters
        ----------
        epsilon : float or array of float
            Deviation of the mean, above 0.
        delta : float or array of float
            Probability in (0, 1).

        Returns
        -------
        int or array of int
            At least 1.

        Raises
        ------
        OverflowError
            If more than 2^53 terms are needed.
        """
        epsilon = _check(epsilon, "epsilon", 0.0, np.inf)
        level = np.log(_check(delta, "delta", 0.0, 1.0))
        shape = np.broadcast_shapes(epsilon.shape, level.shape, *(p.shape for p in self._parameters()))
        epsilon, level = np.broadcast_to(epsilon, shape), np.broadcast_to(level, shape)
        return _scalar_or_array(self._size(epsilon, level, shape))

    def _size(self, epsilon: Floats, level: Floats, shape: tuple[int, ...]) -> Any:
        return _least_integer(lambda m: self.log_tail(m, epsilon) <= level, shape)


def _exponent(size: npt.ArrayLike, rate: Floats) -> Floats:
    """Size times rate, 0 for a rate of 0 even at an infinite size, and infinite beyond the range."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.where(rate > 0.0, np.asarray(size, dtype=np.float64) * rate, 0.0)


def _log_sides(sides: int) -> Floats:
    if sides not in (1, 2):
        raise ValueError(f"sides = {sides!r}; pass 1 for one direction or 2 for both")
    return np.asarray(np.log(sides))


@dataclass(frozen=True, eq=False)
class Bernstein(Tail):
    """Bernstein's inequality.

    Parameters
    ----------
    variance : float or array
        Largest mean variance of the terms, at least 0.
    bound : float or array
        Largest deviation of a term from its mean in the direction considered, above 0.
    sides : 1 or 2
        Whether deviations in one or both directions count.

    Examples
    --------
    >>> from coresets.tails import Bernstein
    >>> law = Bernstein(variance=1.0, bound=2.0, sides=2)
    >>> m = law.size(0.1, 0.05)
    >>> m, law.epsilon(m, 0.05) <= 0.1 < law.epsilon(m - 1, 0.05)
    (787, True)
    """

    variance: Real
    bound: Real
    sides: int = 2

    def __post_init__(self) -> None:
        _check(self.variance, "variance", 0.0, np.inf, closed=True)
        _check(self.bound, "bound", 0.0, np.inf)
        _log_sides(self.sides)

    def log_tail(self, size: npt.ArrayLike, epsilon: npt.ArrayLike) -> Floats:
        """Logarithm of sides * exp(-size epsilon^2 / (2 variance + 2 bound epsilon / 3))."""
        e = np.asarray(epsilon, dtype=np.float64)
        v, b = np.asarray(self.variance, dtype=np.float64), np.asarray(self.bound, dtype=np.float64)
        # The quotient is arranged so that neither a huge epsilon nor a tiny one overflows.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            rate = np.where(e > 0.0, e / (2.0 * (v / e) + b / 1.5), 0.0)
        return _log_sides(self.sides) - _exponent(size, rate)


@dataclass(frozen=True, eq=False)
class ChernoffBennett(Tail):
    """Bennett's inequality, the optimised Chernoff bound for bounded terms; never above Bernstein's.

    Parameters
    ----------
    variance : float or array
        Largest mean variance of the terms, above 0.
    bound : float or array
        Largest deviation of a term from its mean in the direction considered, above 0.
    sides : 1 or 2
        Whether deviations in one or both directions count.
    """

    variance: Real
    bound: Real
    sides: int = 2

    def __post_init__(self) -> None:
        _check(self.variance, "variance", 0.0, np.inf)
        _check(self.bound, "bound", 0.0, np.inf)
        _log_sides(self.sides)

    def log_tail(self, size: npt.ArrayLike, epsilon: npt.ArrayLike) -> Floats:
        """Logarithm of sides * exp(-size (v / b^2) h(b epsilon / v))."""
        e = np.asarray(epsilon, dtype=np.float64)
        v, b = np.asarray(self.variance, dtype=np.float64), np.asarray(self.bound, dtype=np.float64)
        return _log_sides(self.sides) - _exponent(size, bennett_rate(e, v, b))


@dataclass(frozen=True, eq=False)
class BernoulliKL(Tail):
    """Chernoff-Hoeffding bound in relative-entropy form, for identically distributed terms in [0, R].

    Parameters
    ----------
    mean : float or array
        Mean of the terms, in (0, R].
    maximum : float or array
        R, the largest value of a term.
    sides : 1 or 2
        One for the upper tail alone, two for the sum of upper and lower tail.
    """

    mean: Real
    maximum: Real = 1.0
    sides: int = 2

    def __post_init__(self) -> None:
        maximum = _check(self.maximum, "maximum", 0.0, np.inf)
        mean = _check(self.mean, "mean", 0.0, np.inf)
        _log_sides(self.sides)
        if bool(np.any(mean > maximum)):
            raise ValueError(f"mean = {self.mean} exceeds maximum = {self.maximum}")

    def log_tail(self, size: npt.ArrayLike, epsilon: npt.ArrayLike) -> Floats:
        """Logarithm of exp(-m kl(upper)), plus exp(-m kl(lower)) for two sides."""
        maximum = np.asarray(self.maximum, dtype=np.float64)
        with np.errstate(over="ignore", under="ignore"):
            p = np.asarray(self.mean, dtype=np.float64) / maximum
            shift = np.asarray(epsilon, dtype=np.float64) / maximum
        m = np.asarray(size, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            upper = -_exponent(m, bernoulli_kl(shift, p))
            if self.sides == 1:
                return upper
            return np.logaddexp(upper, -_exponent(m, bernoulli_kl(-shift, p)))


@dataclass(frozen=True, eq=False)
class ExactBinomial(Tail):
    """The binomial distribution itself: no bound can be smaller for Bernoulli terms.

    Parameters
    ----------
    probability : float or array
        Success probability in (0, 1).
    sides : 1 or 2
        One for the upper tail alone, two for both.

    Notes
    -----
    The exact tail at a fixed epsilon is not monotone in the size, since the possible values move
    with it. :meth:`size` is therefore the least m such that the tail is at most delta at m and at
    every larger size; the relative-entropy bound says from where on nothing needs checking.
    """

    probability: Real
    sides: int = 2

    def __post_init__(self) -> None:
        _check(self.probability, "probability", 0.0, 1.0)
        _log_sides(self.sides)

    def log_tail(self, size: npt.ArrayLike, epsilon: npt.ArrayLike) -> Floats:
        """Logarithm of P(X > m (p + epsilon)), plus P(X < m (p - epsilon)) for two sides."""
        m = np.asarray(size, dtype=np.float64)
        p, e = np.asarray(self.probability), np.asarray(epsilon, dtype=np.float64)
        with np.errstate(over="ignore", divide="ignore"):
            # As incomplete beta integrals, which unlike bdtr and bdtrc take any size.
            above = np.floor(np.clip(m * (p + e), 0.0, m))
            total = np.where(above >= m, 0.0, betainc(above + 1.0, np.maximum(m - above, 1.0), p))
            if self.sides == 2:
                below = np.ceil(m * (p - e)) - 1.0  # X < m (p - e) is X <= this
                some = np.maximum(below, 0.0)
                total = total + np.where(below < 0.0, 0.0, betaincc(some + 1.0, m - some, p))
            return np.log(np.minimum(total, 1.0))

    def _size(self, epsilon: Floats, level: Floats, shape: tuple[int, ...]) -> Any:
        safe = BernoulliKL(self.probability, 1.0, self.sides)._size(epsilon, level, shape)
        probability = np.broadcast_to(self.probability, shape)
        problems = zip(*map(np.ravel, (probability, epsilon, level, safe)), strict=True)
        sizes = [
            _last_violation(ExactBinomial(float(p), self.sides), float(e), float(log_delta), int(m)) + 1
            for p, e, log_delta, m in problems
        ]
        return np.asarray(sizes, dtype=np.int64).reshape(shape)


def _last_violation(law: Tail, epsilon: float, level: float, safe: int, chunk: int = 4096) -> int:
    """Largest m below ``safe`` whose tail exceeds the level; 0 if there is none."""
    high = safe
    while high > 1:
        sizes = np.arange(max(1, high - chunk), high)
        bad = np.flatnonzero(law.log_tail(sizes, epsilon) > level)
        if bad.size:
            return int(sizes[bad[-1]])
        high = int(sizes[0])
    return 0
