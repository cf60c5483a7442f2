"""What a tree of reductions promises: MR for any reductions, MR-V for unbiased draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coresets._rates import bennett_rate
from coresets._validate import check_epsilon, check_integer, check_open_unit, check_real
from coresets.accuracy import Accuracy
from coresets.guarantee import (
    Assumption,
    Citation,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
    least_integer,
)
from coresets.guarantees.parameters import check_total

__all__ = ["MergeAndReduce", "StreamClass", "StreamVariance"]

# Sums and products of thousands of shares are rounded; so much less is handed out than there is.
_ROUNDING = 1.0 - 2.0**-36


def _share(accuracy: Accuracy, errors: float, failures: float) -> Accuracy:
    """Accuracy whose 1/errors-th power, and 1/failures-fold, is the whole."""
    epsilon = math.expm1(math.log1p(check_epsilon(accuracy.epsilon)) * errors * _ROUNDING)
    return Accuracy(epsilon, check_open_unit(accuracy.delta, "delta") * failures * _ROUNDING)


class MergeAndReduce(Guarantee):
    """MR: accuracies add up along the levels of a tree of reductions, failure probabilities over its nodes.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import MergeAndReduce
    >>> tree = MergeAndReduce()
    >>> each = tree.of_each(Accuracy(0.2, 0.05), rows=1_000_000, block=10_000)
    >>> round(each.epsilon, 4), round(each.delta, 6)  # 7 levels, 199 reductions at most
    (0.0264, 0.000251)
    """

    key = "MR"
    title = "coresets of unions of coresets along a balanced tree"
    statement = (
        "If every reduction in a balanced binary tree over b full blocks has accuracy ((1 + epsilon)^(1/L) "
        "- 1, delta/(2 b - 1)), L = floor(log2(b)) + 1, then the union of the nodes and of the rows that "
        "wait is at any time an (epsilon, delta) coreset of all rows so far; with b unknown, "
        "((1 + epsilon)^(6/(pi l)^2) - 1, 36 delta/(pi^2 i j)^2) for the j-th reduction of shard i, into "
        "level l, does it."
    )
    citation = Citation(
        "bentley1980",
        "Bentley and Saxe 1980, Har-Peled and Mazumdar 2004; constants proved on the theory page",
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the cost is a sum over points of non-negative losses", "MergeReduce"),
        Assumption("errors of the reductions are relative to the cost itself", "MergeReduce"),
        Assumption("every reduction draws independently of what it is given", "MergeReduce"),
    )
    quantifier = Quantifier.FOR_ALL

    def levels(self, rows: int, block: int) -> int:
        """Most reductions that a row passes: L = floor(log2(b)) + 1 for b full blocks, at least 1."""
        return self._blocks(rows, block).bit_length()

    def of_each(self, accuracy: Accuracy, *, rows: int, block: int) -> Accuracy:
        """Accuracy that every reduction must have if the number of rows is known.

        Parameters
        ----------
        accuracy : Accuracy
            Of the whole; epsilon in (0, 1], delta in (0, 1).
        rows, block : int
            Rows in all, at most, and in a block.
        """
        reductions = 2 * self._blocks(rows, block) - 1
        return _share(accuracy, 1.0 / self.levels(rows, block), 1.0 / reductions)

    def of_next(self, accuracy: Accuracy, *, level: int, reduction: int, shard: int = 0) -> Accuracy:
        """Accuracy that a reduction must have if the number of rows is not known.

        Parameters
        ----------
        accuracy : Accuracy
            Of the whole; epsilon in (0, 1], delta in (0, 1).
        level : int
            Level of the node that comes out, from 1.
        reduction : int
            Number of the reduction in its shard, from 1.
        shard : int
            Number of the shard, from 0. The first keeps six tenths of delta, all others share the rest.
        """
        level = check_integer(level, "level", at_least=1)
        reduction = check_integer(reduction, "reduction", at_least=1)
        shard = check_integer(shard, "shard", at_least=0)
        of_squares = 6.0 / math.pi**2  # the inverse squares add up to pi^2/6
        return _share(accuracy, of_squares / level**2, (of_squares / ((shard + 1) * reduction)) ** 2)

    @staticmethod
    def _blocks(rows: int, block: int) -> int:
        rows = check_integer(rows, "rows", at_least=1)
        return max(1, rows // check_integer(block, "block", at_least=1))


@dataclass(frozen=True, slots=True)
class StreamClass:
    """Finitely many queries of a stream whose nodes are drawn with one size.

    Parameters
    ----------
    total_sensitivity : float
        Largest sum of the sensitivity bounds of a node, at least 1.
    shares : tuple of float
        One entry for each level at which anything is dropped, the first one included: the largest share
        of a node of that level in the cost of a query, in (0, 1]. Ones always hold. In a shuffled stream
        of 2^k blocks they are about 2^-k, 2^-(k-1), ..., 1.
    queries : int
        Number of queries, fixed before the draws, at least 1.
    """

    total_sensitivity: float
    shares: tuple[float, ...]
    queries: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        shares = tuple(check_real(share, "shares") for share in self.shares)
        if not shares or not all(0.0 < share <= 1.0 for share in shares):
            raise ValueError(
                f"shares = {self.shares!r}; pass a share in (0, 1] for every level, at least one"
            )
        object.__setattr__(self, "shares", shares)
        object.__setattr__(self, "queries", check_integer(self.queries, "queries", at_least=1))


class StreamVariance(SamplingGuarantee[StreamClass]):
    """MR-V: errors of unbiased, independent reductions add up in the mean square, not in absolute value.

    The size is that of a node, and the same at every level. The better of Chebyshev's inequality and of
    Bennett's along the martingale of the tree is taken.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import FiniteClass, FinitePoisson, MergeAndReduce
    >>> from coresets.guarantees import StreamClass, StreamVariance
    >>> wanted = Accuracy(0.2, 0.05)  # of one query, by 64 blocks, seven levels
    >>> StreamVariance().size(StreamClass(3.0, shares=(1.0,) * 7), wanted)
    5379
    >>> each = MergeAndReduce().of_each(wanted, rows=64, block=1)
    >>> FinitePoisson().size(FiniteClass(3.0), each)
    74173
    """

    key = "MR-V"
    title = "variances of unbiased reductions along a tree"
    statement = (
        "If the reductions of a tree of L levels draw m points each, independently, in proportion to "
        "sensitivities of total t, then the answer to a query has a relative variance of at most sum_l "
        "gamma_l (t/m) (1 + t/m)^(L - l), gamma_l the largest share of a node of level l in its cost; and "
        "it errs by more than eps with probability at most 2 exp(-(V/b^2) h(b eps/V)), where h(u) = "
        "(1 + u) ln(1 + u) - u, V = (gamma_1 + (L - 1) (1 + eps)^2) t/m, and b = (1 + eps) t/m, or "
        "gamma_1 t/m if L = 1."
    )
    citation = Citation("freedman1975", "Freedman 1975 (tails of martingales); proved on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("every loss is non-negative", "the loss"),
        Assumption("the sensitivities bound every point's worst share in the node", "the reducer"),
        Assumption("the draws are unbiased: their weights are not calibrated afterwards"),
        Assumption("every reduction draws independently of what it is given", "MergeReduce"),
        Assumption("the queries do not depend on the draws"),
    )
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.WITH_REPLACEMENT, Scheme.POISSON, Scheme.FIXED_SIZE})

    def variance(self, parameters: StreamClass, size: int) -> float:
        """Largest relative variance of the answer to a query, from nodes of ``size`` points."""
        v = parameters.total_sensitivity / check_integer(size, "size", at_least=1)
        total = 0.0
        for share in parameters.shares:  # from the first level: what is there grows, what is new is added
            total = total * (1.0 + v) + v * share
        return total

    def _holds(self, parameters: StreamClass, size: int, epsilon: float, delta: float) -> bool:
        risk = delta / parameters.queries
        if epsilon > 0.0 and self.variance(parameters, size) / epsilon / epsilon <= risk:
            return True
        first, *later = parameters.shares
        grown = 1.0 + epsilon
        # In units of (1 + eps)/kappa, or of gamma_1/kappa if there is but one level: terms are at most 1.
        deviation = epsilon / (grown if later else first)
        variance = first / grown**2 + len(later) if later else 1.0 / first
        rate = bennett_rate(np.asarray(deviation), np.asarray(variance), np.asarray(1.0))
        kappa = size / parameters.total_sensitivity
        return math.log(2.0) - kappa * float(rate) <= math.log(risk)

    def _size(self, parameters: StreamClass, epsilon: float, delta: float) -> int:
        t, risk = parameters.total_sensitivity, delta / parameters.queries
        start = t * len(parameters.shares) / epsilon / epsilon / risk  # about what Chebyshev asks for
        return least_integer(lambda m: self._holds(parameters, m, epsilon, delta), start)

    def _epsilon(self, parameters: StreamClass, size: int, delta: float) -> float:
        largest = self._chebyshev(parameters, size, delta, 1) * (1.0 + 1e-12)
        if not self._holds(parameters, size, largest, delta):  # an overflow
            return math.inf
        low, high = 0, int(np.float64(largest).view(np.int64))
        while high - low > 1:  # non-negative floats are ordered as the integers with the same bits
            middle = (low + high) // 2
            if self._holds(parameters, size, float(np.int64(middle).view(np.float64)), delta):
                high = middle
            else:
                low = middle
        return float(np.int64(high).view(np.float64))

    def _mean_epsilon(self, parameters: StreamClass, size: int, delta: float, coresets: int) -> float:
        # Variances fall with the number of streams; the stopping of the martingale is one stream's own.
        if coresets == 1:
            return self._epsilon(parameters, size, delta)
        return self._chebyshev(parameters, size, delta, coresets)

    def _chebyshev(self, parameters: StreamClass, size: int, delta: float, coresets: int) -> float:
        variance = self.variance(parameters, size) / coresets
        return math.sqrt(variance) * math.sqrt(parameters.queries / delta)
