"""Statements about units kept by iterated support selection (i-SpaSP): IS-A, IS-B, IS-A1 to IS-A4.

Throughout, the second map W reads the activations H, a column of W and a row (or block of rows) of H a
unit. Keeping the units S leaves the residual V = W H - W_S H_S. With sizes a_j of the units, T holds the
s largest, and the tail is tau = |z|_2 + |z|_1 / sqrt(s) for z the sizes outside T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._validate import check_integer, check_open_unit, check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status, least_integer

__all__ = [
    "BlockPursuit",
    "CoherenceIsometry",
    "ExactSupport",
    "Isometry",
    "MonotoneSupports",
    "PolynomialDecay",
    "SummedPursuit",
]

Array = npt.NDArray[np.float64]

_SOURCE = Citation(
    "wolfe2022", "Wolfe and Kyrillidis 2022, i-SpaSP; with these constants proved on the theory page"
)
_TRUE_SIZES = Assumption("supports are thresholded by the true sizes, ties broken in one order", "pursue")
_ISOMETRY = Assumption("delta_s + delta_2s < 1 for the second map", "CoherenceIsometry")
_NON_NEGATIVE = Assumption("activations are non-negative", "ISpaSP")


@dataclass(frozen=True, slots=True)
class Isometry:
    """Restricted isometry constants of a second map, or upper bounds on them.

    delta_k is the least number with (1 - delta_k) |x|^2 <= |W x|^2 <= (1 + delta_k) |x|^2 for all x that
    live on k units.

    Parameters
    ----------
    units : int
        s, the number of units that are kept.
    small, large : float
        delta_s and delta_2s, non-negative; infinite where nothing is known.
    """

    units: int
    small: float
    large: float

    def __post_init__(self) -> None:
        check_integer(self.units, "units", at_least=1)
        for name, value in (("small", self.small), ("large", self.large)):
            if math.isnan(value) or value < 0.0:
                raise ValueError(f"{name} = {value:g} is no isometry constant; they are at least 0")

    @property
    def contraction(self) -> float:
        """The sum rho = delta_s + delta_2s; nothing is proved unless it is below 1."""
        return self.small + self.large

    @property
    def tail_factor(self) -> float:
        """C = 2 (1 + delta_s) / (1 - rho), infinite if rho is at least 1."""
        rho = self.contraction
        return 2.0 * (1.0 + self.small) / (1.0 - rho) if rho < 1.0 else math.inf


class _Pursuit(Guarantee):
    """The inequalities that both pursuits share."""

    def tail(self, sizes: Any, units: int) -> float:
        """The tail tau of the sizes for a number of units.

        Parameters
        ----------
        sizes : array of shape (n,)
            Non-negative, in any order.
        units : int
            s, at least 1.
        """
        left = self._sorted(sizes)[check_integer(units, "units", at_least=1) :]
        return float(np.linalg.norm(left) + left.sum() / math.sqrt(units))

    def head(self, sizes: Any, units: int) -> float:
        """|a_T|_2, the norm of the s largest sizes."""
        return float(np.linalg.norm(self._sorted(sizes)[: check_integer(units, "units", at_least=1)]))

    def missed(self, isometry: Isometry, head: float, tail: float, iterations: int) -> float:
        """Bound on the norm of the sizes in T that are not kept after some iterations.

        Parameters
        ----------
        isometry : Isometry
            Constants of the second map.
        head, tail : float
            |a_T|_2 and tau.
        iterations : int
            t, at least 0.

        Returns
        -------
        float
            rho^t |a_T|_2 + C tau; infinite if rho is at least 1.
        """
        if math.isinf(isometry.tail_factor):
            return math.inf
        t = check_integer(iterations, "iterations", at_least=0)
        return isometry.contraction**t * head + isometry.tail_factor * tail

    def residual(self, isometry: Isometry, missed: float, tail: float) -> float:
        """sqrt(1 + delta_s) (missed + tau): a bound on the residual.

        Parameters
        ----------
        isometry : Isometry
            Of which only the upper side of delta_s matters here.
        missed : float
            What :meth:`missed` returns, or the norm that was really missed.
        tail : float
            tau.
        """
        return math.sqrt(1.0 + isometry.small) * (missed + tail)

    def _sorted(self, sizes: Any) -> Array:
        values = np.asarray(sizes, dtype=np.float64)
        if values.ndim != 1 or not bool(np.all(values >= 0.0)):
            raise ValueError("sizes must be non-negative numbers, one a unit; take norms, or absolute values")
        return np.sort(values)[::-1]


class SummedPursuit(_Pursuit):
    """IS-A: selection by activations summed over the examples.

    Examples
    --------
    >>> from nn.guarantees.ispasp import Isometry, SummedPursuit
    >>> theorem, isometry = SummedPursuit(), Isometry(2, 0.1, 0.15)
    >>> tail = theorem.tail([4.0, 3.0, 0.2, 0.1], 2)
    >>> missed = theorem.missed(isometry, 5.0, tail, 20)
    >>> round(theorem.residual(isometry, missed, tail), 2)
    1.8
    """

    key = "IS-A"
    title = "iterated selection by summed activations finds the largest units up to the tail"
    statement = (
        "Let H >= 0, a = H 1 and rho = delta_s + delta_2s < 1. Nominate the 2s largest entries of W^T V 1, "
        "signed or absolute; keep the s largest of a among them and the previous ones. After t steps the "
        "sizes of T that are missing have a norm of at most rho^t |a_T| + C tau, with C = 2 (1 + delta_s) / "
        "(1 - rho), and the residual one of at most sqrt(1 + delta_s) (rho^t |a_T| + (C + 1) tau)."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_NON_NEGATIVE, _ISOMETRY, _TRUE_SIZES)
    quantifier = Quantifier.FOR_ALL


class BlockPursuit(_Pursuit):
    """IS-B: selection by norms of rows or blocks of rows, for any activation.

    Examples
    --------
    >>> from nn.guarantees.ispasp import BlockPursuit, Isometry
    >>> BlockPursuit().missed(Isometry(3, 0.0, 0.0), head=5.0, tail=0.25, iterations=1)
    0.5
    """

    key = "IS-B"
    title = "iterated selection by norms finds the largest units up to the tail"
    statement = (
        "IS-A holds for any H with a_j the Frobenius norm of the rows of unit j, and units nominated by the "
        "Frobenius norm of theirs in W^T V; a unit may have several rows, and delta_k is over k units."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_ISOMETRY, _TRUE_SIZES)
    quantifier = Quantifier.FOR_ALL


class PolynomialDecay(Guarantee):
    """IS-A1: the residual decays like a power of the number of units.

    Examples
    --------
    >>> from nn.guarantees.ispasp import Isometry, PolynomialDecay
    >>> theorem = PolynomialDecay()
    >>> round(theorem.tail_constant(0.5), 3), round(theorem.tail(1.0, 0.5, 100), 6)
    (1.577, 0.001577)
    >>> theorem.iterations(Isometry(100, 0.1, 0.2), 1.0, 1.0, 0.5)
    6
    """

    key = "IS-A1"
    title = "the residual decays like s^(1/2 - 1/p) for sizes in a weak l_p ball"
    statement = (
        "If the i-th largest size is at most R i^(-1/p), 0 < p < 1, then tau <= R D_p s^(1/2 - 1/p) with "
        "D_p = sqrt(p / (2 - p)) + p / (1 - p). As soon as rho^t |a_T| is below that, IS-A and IS-B bound "
        "the residual by sqrt(1 + delta_s) (C + 2) D_p R s^(1/2 - 1/p)."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (*SummedPursuit.assumptions, Assumption("sizes decay like i^(-1/p)", "magnitude"))
    quantifier = Quantifier.FOR_ALL

    def magnitude(self, sizes: Any, p: float) -> float:
        """Least R with a_(i) <= R i^(-1/p)."""
        values = np.sort(np.abs(np.asarray(sizes, dtype=np.float64)))[::-1]
        ranks = np.arange(1, values.size + 1, dtype=np.float64)
        return float(np.max(values * ranks ** (1.0 / check_open_unit(p, "p")), initial=0.0))

    def tail_constant(self, p: float) -> float:
        """D_p."""
        p = check_open_unit(p, "p")
        return math.sqrt(p / (2.0 - p)) + p / (1.0 - p)

    def tail(self, magnitude: float, p: float, units: int) -> float:
        """R D_p s^(1/2 - 1/p), at least tau."""
        s = check_integer(units, "units", at_least=1)
        return check_real(magnitude, "magnitude") * self.tail_constant(p) * float(s) ** (0.5 - 1.0 / p)

    def residual(self, isometry: Isometry, magnitude: float, p: float) -> float:
        """Bound on the residual after enough iterations; infinite if rho is at least 1."""
        if math.isinf(isometry.tail_factor):
            return math.inf
        tail = self.tail(magnitude, p, isometry.units)
        return math.sqrt(1.0 + isometry.small) * (isometry.tail_factor + 2.0) * tail

    def iterations(self, isometry: Isometry, head: float, magnitude: float, p: float) -> int:
        """Least t with rho^t |a_T| <= R D_p s^(1/2 - 1/p).

        Raises
        ------
        ValueError
            If rho is at least 1, so that no number of iterations is known to be enough.
        """
        level = self.tail(magnitude, p, isometry.units)
        if head <= level:
            return 0
        return _steps(isometry.contraction, lambda left: left * head <= level)


class ExactSupport(Guarantee):
    """IS-A2: a gap after the s-th size makes the support exact.

    Examples
    --------
    >>> from nn.guarantees.ispasp import ExactSupport, Isometry
    >>> ExactSupport().iterations(Isometry(2, 0.1, 0.15), head=5.0, smallest=3.0, tail=0.1)
    1
    """

    key = "IS-A2"
    title = "a gap after the s-th size makes the support exact"
    statement = (
        "If the s-th largest size exceeds C tau, then S_t = T as soon as rho^t |a_T| < a_(s) - C tau, in the "
        "settings of IS-A and IS-B."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = SummedPursuit.assumptions
    quantifier = Quantifier.FOR_ALL

    def iterations(self, isometry: Isometry, head: float, smallest: float, tail: float) -> int | None:
        """Number of iterations after which the support is T; None if nothing is proved.

        Parameters
        ----------
        isometry : Isometry
            Constants of the second map.
        head, smallest, tail : float
            |a_T|_2, the s-th largest size and tau.
        """
        if math.isinf(isometry.tail_factor) or smallest <= isometry.tail_factor * tail:
            return None
        gap = smallest - isometry.tail_factor * tail
        return _steps(isometry.contraction, lambda left: left * head < gap)


class CoherenceIsometry(Guarantee):
    """IS-A3: isometry constants from inner products of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.guarantees.ispasp import CoherenceIsometry
    >>> products = np.array([[0.0, 0.1, 0.2], [0.1, 0.0, 0.1], [0.2, 0.1, 0.0]])
    >>> theorem = CoherenceIsometry()
    >>> [round(theorem.constant(products, k), 3) for k in (1, 2, 3)], theorem.from_coherence(0.2, 3)
    ([0.0, 0.2, 0.3], 0.4)
    """

    key = "IS-A3"
    title = "inner products of the columns bound the isometry constants"
    statement = (
        "With b_ij = |W_i^T W_j| for units i != j and b_ii = |W_i^T W_i - I| (spectral norms), delta_k is at "
        "most the largest of b_ii + the k - 1 largest other b_ij of a row; for unit columns of coherence mu, "
        "at most (k - 1) mu. So (3 s - 2) mu < 1 is enough for IS-A and IS-B."
    )
    citation = Citation("tropp2004", "Tropp 2004, cumulative coherence; blocks on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("columns have norm 1, or their deviation is on the diagonal", "products"),)
    quantifier = Quantifier.FOR_ALL

    def constant(self, products: Any, order: int) -> float:
        """Bound on delta_k.

        Parameters
        ----------
        products : array of shape (n, n)
            b, non-negative and symmetric.
        order : int
            k, at least 1; orders above n are those of n.
        """
        b = np.asarray(products, dtype=np.float64)
        if b.ndim != 2 or b.shape[0] != b.shape[1] or b.size == 0 or not bool(np.all(b >= 0.0)):
            raise ValueError(f"products of shape {b.shape} must be a square matrix of non-negative numbers")
        others = min(check_integer(order, "order", at_least=1), len(b)) - 1
        off = b - np.diag(np.diagonal(b))
        largest = np.partition(off, len(b) - others, axis=1)[:, len(b) - others :] if others else off[:, :0]
        return float(np.max(np.diagonal(b) + largest.sum(axis=1)))

    def from_coherence(self, coherence: float, order: int) -> float:
        """(k - 1) mu, for columns of norm 1."""
        if check_real(coherence, "coherence") < 0.0:
            raise ValueError(f"coherence = {coherence:g} is negative")
        return (check_integer(order, "order", at_least=1) - 1) * coherence


class MonotoneSupports(Guarantee):
    """IS-A4: what is kept only grows, for any second map.

    Examples
    --------
    >>> from nn.guarantees.ispasp import MonotoneSupports
    >>> MonotoneSupports().most_iterations(units=10, kept=3)
    22
    """

    key = "IS-A4"
    title = "the kept sizes never shrink, and the iteration ends"
    statement = (
        "For any second map, the sum of the kept sizes never falls and the norm of the others never rises; "
        "the supports are constant from iteration s (n - s) + 1 on. The residual need not be monotone."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_TRUE_SIZES,)
    quantifier = Quantifier.FOR_ALL

    def most_iterations(self, units: int, kept: int) -> int:
        """From iteration s (n - s) + 1 on nothing changes."""
        n = check_integer(units, "units", at_least=1)
        s = check_integer(kept, "kept", at_least=1)
        if s > n:
            raise ValueError(f"kept = {s} is more than there are units, {n}")
        return s * (n - s) + 1


def _steps(rho: float, enough: Any) -> int:
    """Least t >= 1 with ``enough(rho^t)``."""
    if rho >= 1.0:
        raise ValueError(f"delta_s + delta_2s = {rho:g} is not below 1: no number of iterations is enough")
    return least_integer(lambda t: bool(enough(rho**t)), 1.0)
