"""Theorems as values.

A :class:`Guarantee` states a theorem: assumptions, quantifier, source, the samplers that its
proof covers. A :class:`SamplingGuarantee` also owns the formula that relates size and accuracy,
:meth:`SamplingGuarantee.size`, and its inverse :meth:`SamplingGuarantee.epsilon`; no formula is
typed anywhere else. A :class:`Claim` is such a guarantee together with the parameters of one
problem, ready to be asked for sizes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from coresets._validate import check_epsilon, check_integer, check_open_unit
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError

__all__ = [
    "Assumption",
    "Citation",
    "Claim",
    "Guarantee",
    "Quantifier",
    "SamplingGuarantee",
    "Scheme",
    "Status",
]

P = TypeVar("P")

_MAX_SIZE = 2**53


class Scheme(Enum):
    """How a coreset was drawn; a theorem names the schemes that its proof covers."""

    WITH_REPLACEMENT = "independent draws with replacement"
    POISSON = "independent inclusion (Poisson sampling)"
    FIXED_SIZE = "dependent rounding to a fixed size (pivotal sampling)"
    HYBRID = "sure inclusion of the top, draws with replacement from the rest"
    TOP = "deterministic choice of the top"
    HALVING = "self-balancing halving in classes of sensitivity"


class Quantifier(Enum):
    """For which queries a promise holds at once."""

    FOR_EACH = "for each query of a finite set fixed before the draw"
    FOR_ALL = "for all queries of an infinite family at once"


class Status(Enum):
    """Where the proof stands."""

    PROVED_IN_SOURCE = "proved in the cited source"
    DERIVED_HERE = "proved on its theory page"


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement comes from.

    Parameters
    ----------
    key : str
        Key into the bibliography of the documentation.
    text : str
        Authors, title, year, and the number of the statement if it has one.
    """

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Assumption:
    """One hypothesis of a theorem.

    Parameters
    ----------
    statement : str
        The hypothesis in one sentence.
    checked_by : str or None
        What verifies it on data (a function or a certificate), or None when the caller vouches
        for it.
    """

    statement: str
    checked_by: str | None = None


class Guarantee(ABC):
    """A theorem: what it says, what it needs, where its proof is.

    Attributes
    ----------
    key : str
        Short unique name, such as ``"E1"``; also the name of the theory page.
    title : str
        Name in words.
    statement : str
        The theorem in one sentence.
    citation : Citation
        Source.
    status : Status
        Where the proof is.
    assumptions : tuple of Assumption
        Hypotheses.
    quantifier : Quantifier
        For which queries.
    schemes : frozenset of Scheme
        Samplers that the proof covers; empty for statements that involve no sampling.

    Notes
    -----
    A theorem holds no data but those of its class, so two of one class are equal.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    statement: ClassVar[str]
    citation: ClassVar[Citation]
    status: ClassVar[Status]
    assumptions: ClassVar[tuple[Assumption, ...]]
    quantifier: ClassVar[Quantifier]
    schemes: ClassVar[frozenset[Scheme]] = frozenset()

    def require(self, scheme: Scheme) -> None:
        """Raise unless the proof covers the scheme.

        Raises
        ------
        AssumptionError
            If ``scheme`` is not one of :attr:`schemes`.
        """
        if scheme not in self.schemes:
            covered = "; ".join(sorted(s.value for s in self.schemes)) or "no sampler"
            raise AssumptionError(
                f"{self.key} ({self.title}) is not proved for {scheme.value}; it covers: {covered}"
            )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"<Guarantee {self.key}: {self.title}>"


class SamplingGuarantee(Guarantee, Generic[P]):
    """A theorem that relates a size to an accuracy, with its formula and the inverse.

    Subclasses fill in the class attributes and the two formulas; ``P`` is the frozen value that
    holds the quantities in which the bound is expressed.

    Laws that every one obeys (and that the tests check):

    * ``size`` does not grow when epsilon or delta grows;
    * ``epsilon(p, size(p, Accuracy(e, d)), d) <= e``, and one point fewer exceeds e.
    """

    @abstractmethod
    def _size(self, parameters: P, epsilon: float, delta: float) -> int:
        """Least size with a proved error of at most epsilon; epsilon and delta are valid."""

    @abstractmethod
    def _epsilon(self, parameters: P, size: int, delta: float) -> float:
        """Error proved for ``size`` points; may exceed 1, infinite when nothing is proved."""

    def _check_delta(self, delta: float) -> float:
        return check_open_unit(delta, "delta")

    def size(self, parameters: P, accuracy: Accuracy) -> int:
        """Smallest number of points for which the theorem promises the accuracy.

        Parameters
        ----------
        parameters : P
            The quantities of the bound.
        accuracy : Accuracy
            Epsilon in (0, 1] and delta in (0, 1).

        Raises
        ------
        ValueError
            If epsilon or delta is out of range.
        OverflowError
            If more than 2^53 points are needed.
        """
        epsilon = check_epsilon(accuracy.epsilon)
        return self._size(parameters, epsilon, self._check_delta(accuracy.delta))

    def epsilon(self, parameters: P, size: int, delta: float) -> float:
        """Error that the theorem promises for a coreset of ``size`` points.

        Parameters
        ----------
        parameters : P
            The quantities of the bound.
        size : int
            Number of draws, or expected number of kept points, at least 1.
        delta : float
            Failure probability in (0, 1).

        Returns
        -------
        float
            At least 0; a value of 1 or more is vacuous, infinity means that nothing is proved.
        """
        return self._epsilon(parameters, check_integer(size, "size", at_least=1), self._check_delta(delta))

    def mean_epsilon(self, parameters: P, size: int, delta: float, coresets: int) -> float:
        """Error promised for the mean of the answers of several independent coresets.

        Every bound here is one of exponential moments, which multiply over independent coresets:
        their mean obeys the bound of a single coreset with all their points together.

        Parameters
        ----------
        parameters : P
            The quantities of the bound.
        size : int
            Size of each coreset.
        delta : float
            Failure probability in (0, 1).
        coresets : int
            How many, at least 1.
        """
        size = check_integer(size, "size", at_least=1)
        coresets = check_integer(coresets, "coresets", at_least=1)
        return self._mean_epsilon(parameters, size, self._check_delta(delta), coresets)

    def _mean_epsilon(self, parameters: P, size: int, delta: float, coresets: int) -> float:
        return self._epsilon(parameters, size * coresets, delta)


@dataclass(frozen=True)
class Claim:
    """A guarantee and the parameters of one problem.

    Parameters
    ----------
    guarantee : SamplingGuarantee
        The theorem.
    parameters : object
        Its parameters, of the type that the guarantee documents.
    """

    guarantee: SamplingGuarantee[Any]
    parameters: Any

    def size(self, accuracy: Accuracy) -> int:
        """Smallest size for the accuracy; see :meth:`SamplingGuarantee.size`."""
        return self.guarantee.size(self.parameters, accuracy)

    def accuracy(self, size: int, delta: float) -> Accuracy:
        """Accuracy promised at a size; epsilon may be vacuous."""
        return Accuracy(self.guarantee.epsilon(self.parameters, size, delta), delta)


def least_integer(holds: Callable[[int], bool], start: float) -> int:
    """Least integer m >= 1 with ``holds(m)``, for a predicate that stays true once it is true.

    ``start`` is a floating estimate, infinite if it overflowed. Galloping out of it and bisecting
    makes the answer exact however rough the estimate is.

    Raises
    ------
    OverflowError
        If the predicate fails at 2^53, above which integers are no longer distinct floats.
    """
    high = max(1, math.ceil(start)) if start < _MAX_SIZE else _MAX_SIZE
    step = 1
    while not holds(high):
        if high >= _MAX_SIZE:
            raise OverflowError(
                "no size below 2^53 reaches this epsilon and delta; ask for a larger one of them"
            )
        high, step = min(high + step, _MAX_SIZE), 2 * step
    low = high - 1
    step = 1
    while low >= 1 and holds(low):
        high, low, step = low, low - step, 2 * step
    low = max(low, 0)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
