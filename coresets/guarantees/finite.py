"""Guarantees for finitely many queries: E1, E1-KL, E1-P, E1-F, E1-H, TOP and DM.

Notation: points with weights w, losses f >= 0, cost F(x) = sum w f, sensitivity bounds s with
total t, and the estimate of F(x) from the coreset. For one draw with probability s/t the scaled
loss Y = t w f / (s F) lies in [0, t] and has mean 1, hence variance at most t - 1. Under Poisson
sampling with pi = min(1, kappa s) a term with pi < 1 is at most F / kappa, the variances add up
to at most F^2 / kappa, and kappa is at least size / t.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coresets._validate import check_probability
from coresets.guarantee import (
    Assumption,
    Citation,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
    least_integer,
)
from coresets.guarantees.parameters import FiniteClass, SensitivityProfile
from coresets.tails import BernoulliKL, Bernstein

__all__ = [
    "DefensiveMixing",
    "FiniteFixedSize",
    "FiniteHybrid",
    "FiniteIID",
    "FinitePoisson",
    "FiniteRelativeEntropy",
    "TopRemainder",
]

NON_NEGATIVE = Assumption("every loss is non-negative", "the loss")
VALID_BOUNDS = Assumption(
    "the sensitivities bound every point's worst share of the cost", "the sensitivity's certificate"
)
FIXED_QUERIES = Assumption("the queries do not depend on the draw")
_ENGINE = (NON_NEGATIVE, VALID_BOUNDS, FIXED_QUERIES)

_FELDMAN_LANGBERG = Citation("feldman2011unified", "Feldman and Langberg 2011 (sensitivity sampling)")


def _per_kappa(kappa: float) -> Bernstein:
    """Bernstein's inequality for a sum with variance and range at most 1 / kappa, as a mean of one term."""
    return Bernstein(variance=1.0 / kappa, bound=1.0 / kappa, sides=2)


def _kappa(epsilon: float, level: float) -> float:
    """Least kappa at which :func:`_per_kappa` has a log-tail of ``level``, up to rounding."""
    # Not divided by the square, which may be too small for a float.
    return (2.0 + 2.0 * epsilon / 3.0) * float(np.log(2.0) - level) / epsilon / epsilon


class FiniteIID(SamplingGuarantee[FiniteClass]):
    """E1: draws with replacement, by Bernstein's inequality with variance t - 1 and range t."""

    key = "E1"
    title = "finitely many queries, draws with replacement"
    statement = (
        "With m >= ((2 (t - 1) + 2 t eps / 3) / eps^2) ln(2 |X| / delta) draws in proportion to "
        "the sensitivities, with probability at least 1 - delta every query in X is answered "
        "within a relative error of eps."
    )
    citation = _FELDMAN_LANGBERG
    status = Status.DERIVED_HERE
    assumptions = _ENGINE
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    def _law(self, parameters: FiniteClass) -> Bernstein:
        t = parameters.total_sensitivity
        return Bernstein(variance=t - 1.0, bound=t, sides=2)

    def _size(self, parameters: FiniteClass, epsilon: float, delta: float) -> int:
        return int(self._law(parameters).size(epsilon, delta / parameters.queries))

    def _epsilon(self, parameters: FiniteClass, size: int, delta: float) -> float:
        return float(self._law(parameters).epsilon(size, delta / parameters.queries))


class FiniteRelativeEntropy(FiniteIID):
    """E1-KL: the same with the relative-entropy bound, the sharpest for terms in [0, t] with mean 1."""

    key = "E1-KL"
    title = "finitely many queries, draws with replacement, relative-entropy form"
    statement = (
        "With m draws in proportion to the sensitivities, a query fails with probability at most "
        "exp(-m kl((1 + eps)/t, 1/t)) + exp(-m kl((1 - eps)/t, 1/t))."
    )
    citation = Citation("hoeffding1963", "Hoeffding 1963, Theorem 1 (relative-entropy form)")

    def _law(self, parameters: FiniteClass) -> BernoulliKL:  # type: ignore[override]
        return BernoulliKL(mean=1.0, maximum=parameters.total_sensitivity, sides=2)


class FinitePoisson(SamplingGuarantee[FiniteClass]):
    """E1-P: Poisson sampling with an expected size of m, by Bernstein's inequality per unit of kappa."""

    key = "E1-P"
    title = "finitely many queries, Poisson sampling"
    statement = (
        "Poisson sampling with expected size m >= t ((2 + 2 eps / 3) / eps^2) ln(2 |X| / delta) "
        "answers, with probability at least 1 - delta, every query in X within a relative error "
        "of eps."
    )
    citation = _FELDMAN_LANGBERG
    status = Status.DERIVED_HERE
    assumptions = _ENGINE
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.POISSON})

    def _size(self, parameters: FiniteClass, epsilon: float, delta: float) -> int:
        t, level = parameters.total_sensitivity, np.log(delta / parameters.queries)
        return least_integer(
            lambda m: bool(_per_kappa(m / t).log_tail(1, epsilon) <= level), t * _kappa(epsilon, level)
        )

    def _epsilon(self, parameters: FiniteClass, size: int, delta: float) -> float:
        return float(_per_kappa(size / parameters.total_sensitivity).epsilon(1, delta / parameters.queries))


class FiniteFixedSize(FinitePoisson):
    """E1-F: pivotal sampling with exactly m points obeys the Poisson bound (negative dependence)."""

    key = "E1-F"
    title = "finitely many queries, fixed-size dependent rounding"
    statement = (
        "Pivotal sampling of exactly m points has, for every query with non-negative losses, "
        "exponential moments of either sign at most those of Poisson sampling with the same "
        "inclusion probabilities; the size of E1-P suffices."
    )
    citation = Citation(
        "deville1998", "Deville and Tille 1998 (pivotal sampling); domination proved on the theory page"
    )
    schemes = frozenset({Scheme.FIXED_SIZE})


class FiniteHybrid(SamplingGuarantee[SensitivityProfile]):
    """E1-H: the k most sensitive points for sure, draws with replacement from the rest."""

    key = "E1-H"
    title = "finitely many queries, sure inclusion plus draws with replacement"
    statement = (
        "Keep the k most sensitive points and draw m - k times from the rest, whose sensitivities "
        "add up to t_k, with k chosen so that kappa = (m - k) / t_k is largest: if kappa >= ((2 + "
        "2 eps / 3) / eps^2) ln(2 |X| / delta), then with probability at least 1 - delta every "
        "query in X is answered within a relative error of eps."
    )
    citation = Citation("baykal2019sipp", "Baykal et al. 2019 (hybrid of deterministic and random choice)")
    status = Status.DERIVED_HERE
    assumptions = _ENGINE
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.HYBRID})

    @staticmethod
    def _best_kappa(remainders: npt.NDArray[np.float64], size: int) -> float:
        tails = remainders[:size]  # at least one draw is left for the rest
        with np.errstate(divide="ignore"):
            return float(np.max((size - np.arange(tails.size)) / tails))

    def _size(self, parameters: SensitivityProfile, epsilon: float, delta: float) -> int:
        level = np.log(delta / parameters.queries)
        remainders = parameters.remainders()

        def holds(m: int) -> bool:
            kappa = self._best_kappa(remainders, m)
            return kappa == np.inf or bool(_per_kappa(kappa).log_tail(1, epsilon) <= level)

        return least_integer(holds, min(remainders.size, remainders[0] * _kappa(epsilon, level)))

    def _epsilon(self, parameters: SensitivityProfile, size: int, delta: float) -> float:
        return self._mean_epsilon(parameters, size, delta, 1)

    def _mean_epsilon(self, parameters: SensitivityProfile, size: int, delta: float, coresets: int) -> float:
        # The sure part is the same in all coresets; the draws from the rest add up.
        kappa = coresets * self._best_kappa(parameters.remainders(), size)
        return 0.0 if kappa == np.inf else float(_per_kappa(kappa).epsilon(1, delta / parameters.queries))


class TopRemainder(SamplingGuarantee[SensitivityProfile]):
    """TOP: keeping the most sensitive points unweighted loses at most the dropped sensitivity."""

    key = "TOP"
    title = "deterministic choice of the most sensitive points"
    statement = (
        "Keeping the m points of largest sensitivity, with their own weights, answers every query "
        "whatever with a relative error of at most the sum of the dropped sensitivities."
    )
    citation = Citation("feldman2011unified", "immediate from the definition of sensitivity")
    status = Status.DERIVED_HERE
    assumptions = (NON_NEGATIVE, VALID_BOUNDS)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.TOP})

    def _check_delta(self, delta: float) -> float:
        return check_probability(delta, "delta")  # nothing is random, so delta = 0 is fine

    def _size(self, parameters: SensitivityProfile, epsilon: float, delta: float) -> int:
        return max(1, int(np.argmax(parameters.remainders() <= epsilon)))

    def _epsilon(self, parameters: SensitivityProfile, size: int, delta: float) -> float:
        remainders = parameters.remainders()
        return float(remainders[min(size, remainders.size - 1)])

    def _mean_epsilon(self, parameters: SensitivityProfile, size: int, delta: float, coresets: int) -> float:
        return self._epsilon(parameters, size, delta)  # they are all the same


class DefensiveMixing(SamplingGuarantee[FiniteClass]):
    """DM: sensitivities s + w/U keep every query of X and the total weight."""

    key = "DM"
    title = "defensive mixing preserves the total weight"
    statement = (
        "Sampling with s'(p) = s(p) + w(p)/U, whose total is t + 1, and m >= (t + 1) ((2 + 2 eps "
        "/ 3) / eps^2) ln(2 (|X| + 1) / delta) keeps, with probability at least 1 - delta, every "
        "query in X and the total weight U within a relative error of eps."
    )
    citation = Citation(
        "owen2000", "Owen and Zhou 2000 (defensive mixtures); constants proved on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = _ENGINE
    quantifier = Quantifier.FOR_EACH
    # The formula is E1-P's with one more query, f = 1; E1's at the same size is never larger.
    schemes = frozenset({Scheme.POISSON, Scheme.FIXED_SIZE, Scheme.WITH_REPLACEMENT})

    _BASE = FinitePoisson()

    @staticmethod
    def _mixed(parameters: FiniteClass) -> FiniteClass:
        return FiniteClass(parameters.total_sensitivity + 1.0, parameters.queries + 1)

    def _size(self, parameters: FiniteClass, epsilon: float, delta: float) -> int:
        return self._BASE._size(self._mixed(parameters), epsilon, delta)

    def _epsilon(self, parameters: FiniteClass, size: int, delta: float) -> float:
        return self._BASE._epsilon(self._mixed(parameters), size, delta)
