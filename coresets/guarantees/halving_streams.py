"""D5: halving along a tree of reductions."""

from __future__ import annotations

import math

import numpy as np

from coresets._validate import check_integer
from coresets.guarantee import Assumption, Quantifier, SamplingGuarantee, Scheme, Status, least_integer
from coresets.guarantees.finite import FIXED_QUERIES
from coresets.guarantees.halving import HALVES, HALVING, WALK, halving_proxy
from coresets.guarantees.halving_classes import HalvingStreamClass

__all__ = ["HalvingStream"]


class HalvingStream(SamplingGuarantee[HalvingStreamClass]):
    """D5: variances of halvings add up along a tree.

    The size is that of a node, and the same at every level.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import FeatureBound, HalvingClass, HalvingStream, HalvingStreamClass
    >>> from coresets.guarantees import StreamClass, StreamVariance
    >>> node = HalvingClass(3.0, 10**6, FeatureBound(spread=2**0.5))
    >>> wanted = Accuracy(0.1, 0.05)
    >>> HalvingStream().size(HalvingStreamClass(node, (1.0,) * 7), wanted)
    1292
    >>> StreamVariance().size(StreamClass(3.0, (1.0,) * 7), wanted)
    18364
    """

    key = "D5"
    title = "halving in streams"
    statement = (
        "If every reduction of a tree of L levels is a halving with exact features and kappa >= m/(2 t), "
        "and v = c^2 B^2 |xi|^2/((2 c - 1) 3 kappa^2), then but for a clip (probability delta/2) a query "
        "errs by more than eps with probability at most min{sum_l gamma_l v (1 + v)^(L - l)/eps^2, 2 "
        "exp(-eps^2/(2 v (gamma_1 + (L - 1) (1 + eps)^2)))}, gamma_l the largest share of a node of level"
        " l; relative to a normaliser that is not changed by reductions, with probability at most 2 "
        "exp(-eps^2/(2 v sum_l gamma_l))."
    )
    citation = HALVING
    status = Status.DERIVED_HERE
    assumptions = (
        *HALVES,
        Assumption("the losses are non-negative, or the normaliser is frozen", "the loss"),
        Assumption("every reduction draws independently of what it is given", "MergeReduce"),
        FIXED_QUERIES,
    )
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.HALVING})

    def node_variance(self, parameters: HalvingStreamClass, size: int, delta: float) -> float:
        """v, the variance proxy that a reduction to ``size`` points has relative to the cost of its input."""
        node = parameters.node
        c = WALK.factor(node.points, 0.5 * self._check_delta(delta))
        size = check_integer(size, "size", at_least=1)
        return halving_proxy(node.features, c, size / (2.0 * node.total_sensitivity))

    def _holds(self, parameters: HalvingStreamClass, size: int, epsilon: float, delta: float) -> bool:
        v = self.node_variance(parameters, size, delta)
        risk = 0.5 * delta / parameters.node.queries
        level = 2.0 * (math.log(2.0) - math.log(risk))
        first, *later = parameters.shares
        if parameters.frozen:
            return math.sqrt(level * v * math.fsum(parameters.shares)) <= epsilon
        total = 0.0
        for share in parameters.shares:  # from the first level: what is there grows, what is new is added
            total = total * (1.0 + v) + v * share
        if math.sqrt(total / risk) <= epsilon:
            return True
        grown = 1.0 + epsilon
        # In units of 1 + eps: the deviation grows with eps, the variance falls.
        return math.sqrt(level * v * (first / grown / grown + len(later))) <= epsilon / grown

    def _size(self, parameters: HalvingStreamClass, epsilon: float, delta: float) -> int:
        one = self.node_variance(parameters, 1, delta)
        start = math.sqrt(one * len(parameters.shares) * 2.0 * math.log(4.0 / delta)) / epsilon
        return least_integer(lambda m: self._holds(parameters, m, epsilon, delta), start)

    def _epsilon(self, parameters: HalvingStreamClass, size: int, delta: float) -> float:
        v = self.node_variance(parameters, size, delta)
        levels = len(parameters.shares)
        # Chebyshev's inequality is enough at this error, the frozen tail at its own.
        growth = levels * math.log1p(v)
        if growth > 600.0:
            return math.inf
        risk = 0.5 * delta / parameters.node.queries
        largest = max(
            math.sqrt(math.expm1(growth) / risk), math.sqrt(2.0 * v * levels * math.log(2.0 / risk))
        )
        largest *= 1.0 + 1e-9
        if not self._holds(parameters, size, largest, delta):
            return math.inf
        low, high = 0, int(np.float64(largest).view(np.int64))
        while high - low > 1:  # non-negative floats are ordered as the integers with the same bits
            middle = (low + high) // 2
            if self._holds(parameters, size, float(np.int64(middle).view(np.float64)), delta):
                high = middle
            else:
                low = middle
        return float(np.int64(high).view(np.float64))

    def _mean_epsilon(self, parameters: HalvingStreamClass, size: int, delta: float, coresets: int) -> float:
        # Every stream within the error of a union bound is enough, and no stopping is averaged.
        return self._epsilon(parameters, size, delta / coresets)
