"""Statements about sparsified neurons: Q1 to Q7, and their use for layers, P1 to P4.

Notation: a side is the set of a neuron's weights of one sign; for non-negative inputs a its sum is z(x) =
sum_j w_j a_j(x), the share of edge j is g_j = w_j a_j / z, the sensitivity s_j its maximum over a sample of
inputs, and S = sum_j s_j. Where sensitivities are said to bound shares, this is g_j(x) <= C s_j. With b = C S
one draw in proportion to s has a scaled term g_j S / s_j of mean 1 in [0, b].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from coresets._validate import check_integer, check_real
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
from coresets.tails import Bernstein

__all__ = [
    "ComposedError",
    "EdgeInclusion",
    "EdgeSampling",
    "EdgeTruncation",
    "HybridLayer",
    "SampledLayer",
    "SensitivityTransfer",
    "SideClass",
    "SignedNeuron",
    "SureInclusion",
    "TruncatedLayer",
]

Array = npt.NDArray[np.float64]

_SIPP = Citation("baykal2019sipp", "Baykal et al. 2019 (SiPP); constants proved on the theory page")
_CORENET = Citation("baykal2019", "Baykal et al. 2019 (CoreNet); constants proved on the theory page")
NON_NEGATIVE = Assumption(
    "inputs are non-negative, or taken apart into positive and negative parts", "the collector"
)
BOUNDED_SHARES = Assumption("shares are at most C times their sensitivities, as Q1 or Q9 provide")
OWN_MAXIMUM = Assumption(
    "each share exceeds 1/K of its largest value with a probability of at least 1 - exp(-1/K')"
)
INDEPENDENT = Assumption("the inputs of the sample are independent, and not those of the training")


def _positive(value: object, name: str) -> float:
    number = check_real(value, name)
    if number <= 0.0:
        raise ValueError(f"{name} = {number:g} is not positive")
    return number


@dataclass(frozen=True, slots=True)
class SideClass:
    """One side of a neuron, or the part of it that is drawn from.

    Parameters
    ----------
    total : float
        Sum of its sensitivities, positive.
    factor : float
        C: shares are at most this times the sensitivities.
    statements : int
        How many sums (sides, patches, inputs) are to be right at once.
    """

    total: float
    factor: float = 1.0
    statements: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", _positive(self.total, "total"))
        object.__setattr__(self, "factor", _positive(self.factor, "factor"))
        object.__setattr__(self, "statements", check_integer(self.statements, "statements", at_least=1))

    @property
    def bound(self) -> float:
        """B = C S, the largest scaled term."""
        return self.factor * self.total


class SensitivityTransfer(Guarantee):
    """Q1 and P1: sensitivities of a sample bound the shares of fresh inputs."""

    key = "Q1"
    title = "sensitivities of a sample hold for almost all inputs"
    statement = (
        "If each of N shares exceeds 1/K of its largest value with a probability of at least "
        "1 - exp(-1/K'), then with K' ln(N / delta) independent inputs, with probability at least "
        "1 - delta, all shares of almost all inputs are at most K times their sensitivities."
    )
    citation = _SIPP
    status = Status.DERIVED_HERE
    assumptions = (OWN_MAXIMUM, INDEPENDENT)
    quantifier = Quantifier.FOR_ALL

    def examples(self, pairs: int, delta: float, rarity: float = 3.0) -> int:
        """Inputs that are enough.

        Parameters
        ----------
        pairs : int
            N, the number of shares; patches do not count, since the maximum over them is one share.
        delta : float
            Positive. The authors' experiments go beyond 1, where nothing is promised.
        rarity : float
            K'.

        Examples
        --------
        >>> SensitivityTransfer().examples(8 * 410 * 300, 1e-16)
        152
        """
        pairs = check_integer(pairs, "pairs", at_least=1)
        count = _positive(rarity, "rarity") * math.log(pairs / _positive(delta, "delta"))
        return max(1, math.ceil(count))

    def failure(self, pairs: int, examples: int, rarity: float = 3.0) -> float:
        """N exp(-|S| / K'), at most 1: the inverse."""
        pairs = check_integer(pairs, "pairs", at_least=1)
        examples = check_integer(examples, "examples", at_least=0)
        return min(1.0, pairs * math.exp(-examples / _positive(rarity, "rarity")))


class EdgeSampling(SamplingGuarantee[SideClass]):
    """Q2: draws with replacement, by Bernstein's inequality."""

    key = "Q2"
    title = "importance sampling of one side"
    statement = (
        "With m >= b (2 + 2 eps / 3) ln(2 / delta) / eps^2 draws in proportion to the sensitivities, each "
        "weight divided by the expected number of its draws, the sum of a side is within a factor of "
        "1 +- eps of the exact one with probability at least 1 - delta, for each input."
    )
    citation = _CORENET
    status = Status.DERIVED_HERE
    assumptions: ClassVar[tuple[Assumption, ...]] = (NON_NEGATIVE, BOUNDED_SHARES)
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    def _law(self, parameters: SideClass) -> Bernstein:
        return Bernstein(variance=parameters.bound, bound=parameters.bound, sides=2)

    def _size(self, parameters: SideClass, epsilon: float, delta: float) -> int:
        level = math.log(delta / parameters.statements)
        law = self._law(parameters)
        start = parameters.bound * (2.0 + 2.0 * epsilon / 3.0) * (math.log(2.0) - level) / epsilon / epsilon
        return least_integer(lambda m: bool(law.log_tail(m, epsilon) <= level), start)

    def _epsilon(self, parameters: SideClass, size: int, delta: float) -> float:
        return float(self._law(parameters).epsilon(size, delta / parameters.statements))


class EdgeInclusion(EdgeSampling):
    """Q4: independent or fixed-size inclusion of edges obeys the same bound."""

    key = "Q4"
    title = "inclusion of edges with given probabilities"
    statement = (
        "Keeping edge j with probability min(1, kappa s_j), independently or by pivotal sampling, with "
        "kappa such that m edges are kept on average, and dividing its weight by that probability, obeys "
        "the bound of Q2 with the same m; edges of probability one are kept as they are."
    )
    schemes = frozenset({Scheme.POISSON, Scheme.FIXED_SIZE})


class SureInclusion(EdgeSampling):
    """Q3: the part that is kept for sure has no error, and only the rest has variance."""

    key = "Q3"
    title = "sure inclusion of some edges, sampling of the rest"
    statement = (
        "If some edges are kept as they are and m draws come from the rest R, with b = C sum_R s, then the "
        "side fails by a factor of eps with probability at most "
        "2 exp(-m eps^2 / (2 b min(1, b) + 2 b eps / 3)); the same with kappa in place of m / sum_R s where "
        "edges of R are included with probability kappa s_j."
    )
    schemes = frozenset({Scheme.HYBRID, Scheme.POISSON, Scheme.FIXED_SIZE})

    def _law(self, parameters: SideClass) -> Bernstein:
        b = parameters.bound
        return Bernstein(variance=b * min(1.0, b), bound=b, sides=2)

    def errors(self, rest: Array, kappa: Array, factor: float, delta: float) -> Array:
        """Relative errors of many sides at once.

        Parameters
        ----------
        rest : array of shape (sides,)
            Sum of the sensitivities of the edges that are not sure; 0 where all are.
        kappa : array of shape (sides,)
            Draws over ``rest``, or the factor of the inclusion probabilities; positive, and infinite
            where nothing is left to chance.
        factor : float
            C.
        delta : float
            Probability that one of these sides fails, for one input.

        Returns
        -------
        array of shape (sides,)
            Not capped at 1.
        """
        errors = np.zeros(rest.shape)
        drawn = (rest > 0.0) & np.isfinite(kappa)
        if bool(drawn.any()):
            bound = factor / kappa[drawn]
            law = Bernstein(variance=bound * np.minimum(1.0, factor * rest[drawn]), bound=bound, sides=2)
            errors[drawn] = law.epsilon(1, delta)
        return errors


class EdgeTruncation(Guarantee):
    """Q5: dropping edges loses at most their sensitivities."""

    key = "Q5"
    title = "dropping edges of one side"
    statement = (
        "Dropping edges without touching the others lowers the sum of a side, and by at most a share of "
        "min(1, C sum of the dropped sensitivities)."
    )
    citation = _SIPP
    status = Status.DERIVED_HERE
    assumptions: ClassVar[tuple[Assumption, ...]] = (NON_NEGATIVE, BOUNDED_SHARES)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.TOP})

    def errors(self, dropped: Any, factor: float) -> Any:
        """Relative errors from sums of dropped sensitivities.

        Examples
        --------
        >>> float(EdgeTruncation().errors(0.1, 3.0))
        0.30000000000000004
        """
        return np.minimum(1.0, factor * np.asarray(dropped, dtype=np.float64))


class SignedNeuron(Guarantee):
    """Q6 and P5: what errors of the sides mean for the neuron."""

    key = "Q6"
    title = "from sides to neurons"
    statement = (
        "If all sides of a neuron are within relative errors of eps, its sum is off by at most eps sum_k "
        "|w_k a_k|, that is, by a relative error of eps Delta with Delta = sum_k |w_k a_k| / |sum_k w_k a_k|."
    )
    citation = _CORENET
    status = Status.DERIVED_HERE
    assumptions = (NON_NEGATIVE,)
    quantifier = Quantifier.FOR_ALL

    def error(self, sides: float, condition: float) -> float:
        """Relative error of the neuron; infinite where its terms cancel."""
        return 0.0 if sides == 0.0 else sides * condition


class ComposedError(Guarantee):
    """Q7: relative errors through the layers."""

    key = "Q7"
    title = "relative errors through the layers"
    statement = (
        "If activations of layer l - 1 are within relative errors of e, and every side of layer l is within "
        "eps on those, then activations of layer l are within Delta (eps + e + eps e), where Delta bounds "
        "the layer's condition numbers; rectifiers keep relative errors below 1."
    )
    citation = _CORENET
    status = Status.DERIVED_HERE
    assumptions = (
        NON_NEGATIVE,
        Assumption("the layers form a chain with rectifiers or nothing between them, without biases"),
        Assumption("condition numbers are at most Delta for the input at hand"),
    )
    quantifier = Quantifier.FOR_ALL

    def errors(self, layers: Sequence[float], conditions: Sequence[float]) -> list[float]:
        """Relative errors after each layer; infinite from where one reaches 1 before the last.

        Parameters
        ----------
        layers : sequence of float
            Errors of the layers' sides.
        conditions : sequence of float
            Their Delta, at least 1.

        Examples
        --------
        >>> ComposedError().errors([0.01, 0.01], [2.0, 3.0])
        [0.02, 0.0906]
        """
        found: list[float] = []
        error = 0.0
        for epsilon, condition in zip(layers, conditions, strict=True):
            step = epsilon + error + epsilon * error
            error = 0.0 if step == 0.0 else condition * step if error < 1.0 else math.inf
            found.append(error)
        return found


class TruncatedLayer(EdgeTruncation):
    """P2: the deterministic variant of SiPP."""

    key = "P2"
    title = "the most sensitive edges of a layer"
    statement = (
        "If every side keeps its most sensitive edges unchanged then, on the event of Q1 and for almost all "
        "inputs at once, every side of the layer loses at most min(1, K sum of its dropped sensitivities) "
        "of its sum. It needs sensitivities that are maxima over patches, not means."
    )
    assumptions = (NON_NEGATIVE, OWN_MAXIMUM, INDEPENDENT)


class SampledLayer(SureInclusion):
    """P3: the randomised variant of SiPP."""

    key = "P3"
    title = "importance sampling of all sides of a layer"
    statement = (
        "On the event of Q1, for each input, with probability at least 1 - delta every side on every patch "
        "of the layer is within its error of Q2 to Q4 at delta / N, where N counts sides, patches and, for "
        "signed inputs, both parts."
    )
    citation = _SIPP
    assumptions = (NON_NEGATIVE, OWN_MAXIMUM, INDEPENDENT)

    def statements(self, neurons: int, patches: int, halves: int) -> int:
        """N: two sides a neuron, on every patch, for every part of the input."""
        return 2 * neurons * patches * halves


class HybridLayer(SampledLayer):
    """P4: the better of both for each side."""

    key = "P4"
    title = "truncation or sampling, side by side"
    statement = (
        "Choosing for every side whichever of P2 and P3 has the smaller error keeps both statements: the "
        "choice depends on the sensitivities alone, neither on the input nor on the draws."
    )
    schemes = frozenset({Scheme.TOP, Scheme.POISSON, Scheme.FIXED_SIZE, Scheme.HYBRID})
