"""Statements about whole networks with sampled edges: C1 to C4, and amplification.

Notation: L - 1 layers of weights, eta neurons in all, eta* the largest width, the inputs' included (without
them the union over the edges of the first layer would be too small).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from coresets._validate import check_integer, check_real
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Scheme, Status
from nn.guarantees.edges import INDEPENDENT, NON_NEGATIVE, OWN_MAXIMUM, EdgeSampling, SideClass

__all__ = ["AmplifiedSide", "ConditionEstimate", "CoreNetConstants", "CoreNetSide", "NetworkCompression"]

_SOURCE = Citation("baykal2019", "Baykal et al. 2019 (CoreNet); constants proved on the theory page")
_TAME_CONDITIONS = Assumption(
    "condition numbers of neurons are sub-exponential with parameters (lambda^2, lambda), lambda <= lambda*; "
    "false where a neuron's sum has a positive density at zero"
)
_CHAIN = Assumption("the layers form a chain with rectifiers between them, without biases")


@dataclass(frozen=True, slots=True)
class CoreNetConstants:
    """What the size of CoreNet's sample and its kept edges depend on.

    Parameters
    ----------
    layers : int
        Number of layers with weights, L - 1.
    neurons : int
        eta, all outputs of these layers.
    width : int
        eta*, the largest number of outputs or inputs of a layer.
    accuracy : Accuracy
        epsilon and delta in (0, 1).
    points : int
        Number of fresh inputs that are to be right at once (C4).
    """

    layers: int
    neurons: int
    width: int
    accuracy: Accuracy
    points: int = 1

    def __post_init__(self) -> None:
        for name in ("layers", "neurons", "width", "points"):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, at_least=1))
        if self.neurons * self.width < 3:
            raise AssumptionError("the bounds need eta eta* >= e; the network has one neuron with one input")
        if not (0.0 < self.accuracy.epsilon < 1.0 and 0.0 < self.accuracy.delta < 1.0):
            raise ValueError(f"{self.accuracy} is outside (0, 1); CoreNet is proved for errors below 1")

    @property
    def delta(self) -> float:
        """Failure probability a fresh input."""
        return self.accuracy.delta / self.points

    @property
    def factor(self) -> float:
        """K = K' = ln(eta eta*)."""
        return math.log(self.neurons * self.width)

    @property
    def logarithm(self) -> float:
        """ln(8 eta eta* / delta)."""
        return math.log(8.0 * self.neurons * self.width / self.delta)

    @property
    def examples(self) -> int:
        """Size of the sample of inputs, |S|.

        Examples
        --------
        >>> CoreNetConstants(3, 410, 784, Accuracy(0.5, 0.1)).examples
        217
        """
        return math.ceil(self.logarithm * self.factor)

    @property
    def kappa(self) -> float:
        """What is added to mean condition numbers, r + r^2 ln(8 eta eta* / delta) with r^2 = 2 lambda*.

        Examples
        --------
        >>> round(CoreNetConstants(3, 410, 784, Accuracy(0.5, 0.1)).kappa, 1)
        219.9
        """
        root = math.sqrt(self.factor)  # 2 lambda* = ln(eta eta*)
        return root * (1.0 + root * self.logarithm)

    def layer_errors(self, mean_conditions: Sequence[float]) -> list[float]:
        """eps_l = eps / (2 (L - 1) prod_{k >= l} (mean Delta^k + kappa)), for each layer."""
        if len(mean_conditions) != self.layers:
            raise ValueError(f"{len(mean_conditions)} condition numbers for {self.layers} layers")
        conditions = np.array([check_real(value, "condition") for value in mean_conditions]) + self.kappa
        suffixes = np.cumprod(conditions[::-1])[::-1]
        return [float(value) for value in self.accuracy.epsilon / (2.0 * self.layers) / suffixes]


class CoreNetSide(EdgeSampling):
    """C1: one side, on inputs that are themselves approximate."""

    key = "C1"
    title = "edges of one side on approximate inputs"
    statement = (
        "If activations are within a factor of 1 +- 1/2 then shares are at most 3 K times their "
        "sensitivities, and ceil(8 S K ln(8 eta / delta) / eps^2) draws keep a side within 1 +- eps with "
        "probability at least 1 - delta / (4 eta), for each input."
    )
    assumptions: ClassVar[tuple[Assumption, ...]] = (NON_NEGATIVE, OWN_MAXIMUM, INDEPENDENT)

    def draws(self, total: float, constants: CoreNetConstants, epsilon: float) -> float:
        """M as a float, since it exceeds every integer type; 0 for a side that no input reaches."""
        log = math.log(8.0 * constants.neurons / constants.delta)
        return float(np.ceil(8.0 * total * constants.factor * log / epsilon / epsilon)) if total else 0.0

    def side(self, total: float, constants: CoreNetConstants) -> SideClass:
        """The side as Q2 sees it, C = 3K."""
        return SideClass(total, 3.0 * constants.factor, 1)


class ConditionEstimate(Guarantee):
    """C2: means of condition numbers over the sample, and kappa, bound those of a fresh input."""

    key = "C2"
    title = "condition numbers of a fresh input"
    statement = (
        "With ceil(ln(8 eta eta* / delta) ln(eta eta*)) inputs, with probability at least 1 - delta / "
        "(4 eta eta*), a neuron's condition number at a fresh input is at most its mean over the sample "
        "plus kappa."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_TAME_CONDITIONS, INDEPENDENT)
    quantifier = Quantifier.FOR_EACH


class NetworkCompression(Guarantee):
    """C3 and C4: the whole network."""

    key = "C3"
    title = "a network with sampled edges"
    statement = (
        "With eps_l = eps / (2 (L - 1) prod_{k >= l} (mean Delta^k + kappa)) in C1, with probability at "
        "least 1 - delta over sample, draws and a fresh input, every output is within a factor of 1 +- eps. "
        "It has at most sum_i (32 (L - 1)^2 (prod Delta)^2 S_i ln(eta eta*) ln(8 eta / delta) / eps^2 + 2) "
        "edges a layer. With delta / n in place of delta it holds for n inputs at once."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (OWN_MAXIMUM, INDEPENDENT, _TAME_CONDITIONS, _CHAIN, NON_NEGATIVE)
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.WITH_REPLACEMENT, Scheme.POISSON, Scheme.FIXED_SIZE})

    def output_error(self, constants: CoreNetConstants) -> float:
        """(eps / 2) exp(eps / 2), at most 0.83 eps: what the proof arrives at."""
        return constants.accuracy.epsilon / 2.0 * math.exp(constants.accuracy.epsilon / 2.0)


class AmplifiedSide(Guarantee):
    """AMP: the best of several independent sparsifications, chosen on fresh inputs."""

    key = "AMP"
    title = "amplification by choosing among independent sparsifications"
    statement = (
        "Of ceil(ln(2 / delta) / ln(10 / 9)) independent sparsifications of a side by m draws with "
        "replacement, the one with the smallest mean of min(error, 1) over n fresh inputs has, with "
        "probability at least 1 - delta, a mean of min(error, 1) over the distribution of at most "
        "(10 / 9) sqrt((b - 1) / m) + 2 sqrt(ln(4 tau / delta) / (2 n))."
    )
    citation = Citation("baykal2019", "Baykal et al. 2019 (amplification); proved on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (
        OWN_MAXIMUM,
        INDEPENDENT,
        Assumption("the choice is made on inputs that the sensitivities have not seen"),
    )
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    def candidates(self, delta: float) -> int:
        """tau, the number of sparsifications.

        Examples
        --------
        >>> AmplifiedSide().candidates(0.1)
        29
        """
        return math.ceil(math.log(2.0 / delta) / math.log(10.0 / 9.0))

    def mean_error(self, side: SideClass, draws: int, examples: int, delta: float) -> float:
        """Bound on the mean of min(error, 1) of the chosen sparsification."""
        examples = check_integer(examples, "examples", at_least=1)
        sigma = math.sqrt(max(side.bound - 1.0, 0.0) / check_integer(draws, "draws", at_least=1))
        slack = math.sqrt(math.log(4.0 * self.candidates(delta) / delta) / (2.0 * examples))
        return 10.0 * sigma / 9.0 + 2.0 * slack
