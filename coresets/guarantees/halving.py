"""Self-balancing halving: D1 for the walk, D2 and D3 for a coreset.

Notation: kappa is the level of the classes, which keep a point with probability 2^-k >= min(1, kappa s);
a coreset of m points has kappa >= m/(2 t). The walk has the threshold a = c b^2 with b the length of its
longest vector and c = 1/2 + ln(2 n/delta). Half of every failure probability pays for clips, half for the
tail.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coresets._validate import check_integer, check_open_unit
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
from coresets.guarantees.finite import FIXED_QUERIES, VALID_BOUNDS
from coresets.guarantees.halving_classes import FeatureBound, HalvingClass, HalvingSubspaceClass

__all__ = [
    "HALVES",
    "HALVING",
    "WALK",
    "HalvingAllQueries",
    "HalvingFinite",
    "SelfBalancingWalk",
    "halving_proxy",
]

Array = Any


class SelfBalancingWalk(Guarantee):
    """D1: the walk is sub-Gaussian with the proxy of a ridge regression on its vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.guarantees import SelfBalancingWalk
    >>> walk = SelfBalancingWalk()
    >>> c = walk.factor(1000, 0.01)
    >>> round(c, 2)
    12.71
    >>> vectors = np.eye(2)[np.arange(1000) % 2]
    >>> explained, alien = vectors[:, 0], (-1.0) ** np.arange(1000)
    >>> round(walk.proxy(vectors, explained, factor=c), 2)  # about c/2, whatever the number of steps
    12.42
    """

    key = "D1"
    title = "the self-balancing walk"
    statement = (
        "For vectors of length at most b and the threshold a = c b^2 with c = 1/2 + ln(2 n/delta), the "
        "walk coincides, but for probability delta, with a process for which sum eps_i f_i is "
        "sub-Gaussian for every f, with proxy V(f) = a f^T (K + (a - b^2) I)^-1 f, K the Gram matrix; if "
        "f_i = <v_i, xi>, with proxy c^2 b^2 |xi|^2/(2 c - 1)."
    )
    citation = Citation(
        "alweiss2021", "Alweiss, Liu and Sawhney 2021 (the walk); constants and ridge form proved on the page"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("no vector is longer than b", "balanced_signs"),
        Assumption("vectors and f do not depend on the signs"),
    )
    quantifier = Quantifier.FOR_EACH

    def factor(self, steps: int, delta: float) -> float:
        """Threshold over the squared length of the longest vector, c = 1/2 + ln(2 n/delta), above 1.

        Parameters
        ----------
        steps : int
            Number of steps, at least 1.
        delta : float
            Probability of a clip, in (0, 1).
        """
        delta = check_open_unit(delta, "delta")
        return 0.5 + math.log(2.0 * check_integer(steps, "steps", at_least=1)) - math.log(delta)

    def proxy(self, vectors: Array, values: Array, *, factor: float) -> float:
        """Variance proxy V(f) of sum eps_i f_i: the sum itself divided by its root is sub-Gaussian.

        Parameters
        ----------
        vectors : array of shape (n, k)
            Vectors of the walk.
        values : array of shape (n,)
            f.
        factor : float
            c > 1.
        """
        rows, f = np.asarray(vectors, dtype=np.float64), np.asarray(values, dtype=np.float64)
        square = float(np.max(np.sum(rows * rows, axis=1), initial=0.0))
        if square == 0.0:
            return factor / (factor - 1.0) * float(f @ f)
        # In the coordinates of the vectors: f^T (K + r I)^-1 f = (f.f - z^T (V^T V + r I)^-1 z)/r, z = V^T f,
        # from singular values, without the difference.
        left, values_, _ = np.linalg.svd(rows, full_matrices=False)
        ridge = (factor - 1.0) * square
        image = left.T @ f
        outside = max(0.0, float(f @ f) - float(image @ image))
        return factor * square * (float(np.sum(image**2 / (values_**2 + ridge))) + outside / ridge)

    def exact_proxy(self, norm: float, longest: float, *, factor: float) -> float:
        """Proxy if f_i = <v_i, xi> with xi of length ``norm`` and vectors up to ``longest``."""
        return factor * factor / (2.0 * factor - 1.0) * longest * longest * norm * norm


WALK = SelfBalancingWalk()
HALVING = Citation(
    "karnin2019", "Karnin and Liberty 2019 (coresets from discrepancy); constants proved on the theory page"
)
_EXPLAINED = Assumption(
    "the features explain the scaled losses: w f/(s F) = <psi, xi> + rho, within the bounds stated",
    "the features",
)
_NO_CLIP = Assumption("the threshold of the walk is the provable one", "HalvingReducer")
HALVES = (VALID_BOUNDS, _EXPLAINED, _NO_CLIP)


def halving_proxy(features: FeatureBound, factor: float, kappa: float) -> float:
    """c'B^2|xi|^2/(3 kappa^2), of a halving whose features are exact."""
    length = features.spread * features.norm / kappa
    return factor * factor / (2.0 * factor - 1.0) * length * length / 3.0


class HalvingFinite(SamplingGuarantee[HalvingClass]):
    """D2: weighted halving for finitely many queries.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import FeatureBound, FiniteClass, FinitePoisson, HalvingClass, HalvingFinite
    >>> wanted = Accuracy(0.1, 0.02)
    >>> HalvingFinite().size(HalvingClass(10.0, 4000, queries=10_000), wanted)
    3363
    >>> FinitePoisson().size(FiniteClass(10.0, 10_000), wanted)
    28553
    """

    key = "D2"
    title = "weighted halving, finitely many queries"
    statement = (
        "Halving by self-balancing walks in classes of inclusion probabilities 2^-k >= min(1, kappa s) "
        "keeps at most m <= 2 kappa t + 1 points, is unbiased, and answers, with probability at least 1 -"
        " delta, N queries within eps = sqrt(2 V ln(4 N/delta)), V = c^2 B^2 |xi|^2/((2 c - 1) 3 kappa^2)"
        " if the features are exact and else c B^2 |xi|^2/(3 kappa^2) + (c/(c - 1)) 4 rho^2 (t/kappa + "
        "1/kappa^2), with c = 1/2 + ln(4 n/delta)."
    )
    citation = HALVING
    status = Status.DERIVED_HERE
    assumptions = (*HALVES, FIXED_QUERIES)
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.HALVING})

    def factor(self, parameters: HalvingClass, delta: float) -> float:
        """C of the walk for a failure probability of delta in all."""
        return WALK.factor(parameters.points, 0.5 * self._check_delta(delta))

    def _terms(self, parameters: HalvingClass, delta: float) -> tuple[float, float]:
        """A and B such that the squared error is at most A/kappa^2 + B/kappa."""
        c, features = self.factor(parameters, delta), parameters.features
        level = 2.0 * (math.log(4.0 * parameters.queries) - math.log(delta))
        if features.residual == 0.0:
            return level * halving_proxy(features, c, 1.0), 0.0
        rest = 4.0 * c / (c - 1.0) * features.residual**2
        balanced = c * (features.spread * features.norm) ** 2 / 3.0
        return level * (balanced + rest), level * rest * parameters.total_sensitivity

    def epsilon_at(self, parameters: HalvingClass, kappa: float, delta: float) -> float:
        """Error at a level kappa, which the classes of given sensitivities may have above m/(2 t)."""
        first, second = self._terms(parameters, self._check_delta(delta))
        return math.sqrt(first / kappa / kappa + second / kappa)

    def kappa(self, parameters: HalvingClass, accuracy: Accuracy) -> float:
        """Level at which the accuracy is reached, up to rounding."""
        first, second = self._terms(parameters, self._check_delta(accuracy.delta))
        e = accuracy.epsilon
        # The root of e^2 k^2 = first + second k, without squaring what may vanish.
        return (0.5 * second / e + math.hypot(0.5 * second / e, math.sqrt(first))) / e

    def _size(self, parameters: HalvingClass, epsilon: float, delta: float) -> int:
        start = 2.0 * parameters.total_sensitivity * self.kappa(parameters, Accuracy(epsilon, delta))
        return least_integer(lambda m: self._epsilon(parameters, m, delta) <= epsilon, start)

    def _epsilon(self, parameters: HalvingClass, size: int, delta: float) -> float:
        return self.epsilon_at(parameters, size / (2.0 * parameters.total_sensitivity), delta)

    def _mean_epsilon(self, parameters: HalvingClass, size: int, delta: float, coresets: int) -> float:
        # Proxies of independent coresets add up; each pays for clips of its own.
        of_each = delta / coresets
        level = math.log(4.0 * parameters.queries / delta) / math.log(4.0 * parameters.queries / of_each)
        return self._epsilon(parameters, size, of_each) * math.sqrt(level / coresets)


class HalvingAllQueries(SamplingGuarantee[HalvingSubspaceClass]):
    """D3: the same for all queries at once, if exact features of a finite dimension explain them.

    Covers linear functionals sum v p.x relative to sum w |p.x|, by Lewis weights, and sums of squares
    relative to themselves, by leverage scores.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from coresets.guarantees import FeatureBound, HalvingAllQueries, HalvingSubspaceClass
    >>> squares = HalvingSubspaceClass(3.0, 100_000, FeatureBound(spread=2**0.5), dimension=6)
    >>> HalvingAllQueries().size(squares, Accuracy(0.1, 0.05))
    681
    """

    key = "D3"
    title = "weighted halving, all queries of a finite dimension"
    statement = (
        "If the features are exact and of dimension k, halving answers, with probability at least 1 - "
        "delta, all queries at once within eps = sqrt(V (k + 2 sqrt(k l) + 2 l)), l = ln(2/delta), with V"
        " and c of D2."
    )
    citation = Citation(
        "hsu2012",
        "Hsu, Kakade and Zhang 2012 (tails of sub-Gaussian vectors), used for halving on the page",
    )
    status = Status.DERIVED_HERE
    assumptions = HALVES
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.HALVING})

    def factor(self, parameters: HalvingSubspaceClass, delta: float) -> float:
        """C of the walk for a failure probability of delta in all."""
        return WALK.factor(parameters.points, 0.5 * self._check_delta(delta))

    def _unit(self, parameters: HalvingSubspaceClass, delta: float) -> float:
        """Error times kappa."""
        k, level = float(parameters.dimension), math.log(2.0) - math.log(delta)
        proxy = halving_proxy(parameters.features, self.factor(parameters, delta), 1.0)
        return math.sqrt(proxy * (k + 2.0 * math.sqrt(k * level) + 2.0 * level))

    def epsilon_at(self, parameters: HalvingSubspaceClass, kappa: float, delta: float) -> float:
        """Error at a level kappa, which the classes of given sensitivities may have above m/(2 t)."""
        return self._unit(parameters, self._check_delta(delta)) / kappa

    def kappa(self, parameters: HalvingSubspaceClass, accuracy: Accuracy) -> float:
        """Level at which the accuracy is reached, up to rounding."""
        return self._unit(parameters, self._check_delta(accuracy.delta)) / accuracy.epsilon

    def _size(self, parameters: HalvingSubspaceClass, epsilon: float, delta: float) -> int:
        start = 2.0 * parameters.total_sensitivity * self.kappa(parameters, Accuracy(epsilon, delta))
        return least_integer(lambda m: self._epsilon(parameters, m, delta) <= epsilon, start)

    def _epsilon(self, parameters: HalvingSubspaceClass, size: int, delta: float) -> float:
        return self.epsilon_at(parameters, size / (2.0 * parameters.total_sensitivity), delta)

    def _mean_epsilon(
        self, parameters: HalvingSubspaceClass, size: int, delta: float, coresets: int
    ) -> float:
        return self._epsilon(parameters, size, delta / coresets) / math.sqrt(coresets)
