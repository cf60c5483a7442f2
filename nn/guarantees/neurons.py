"""Sizes for layers of neurons on bounded inputs, with a ridge, and errors through a network: N1, N2, RG, NC.

For inputs x of a set X, a neuron p with bias b has the length l(p) = sup_X |p.x + b| or more; with
outgoing weights w_k(p) its share is q(p) = max_k |w_k(p)| l(p) of the total T = sum q. Errors of N1 and
N2 are relative to L T, where L is the Lipschitz constant of the activation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from coresets._validate import check_integer, check_open_unit, check_real
from coresets.guarantee import (
    Assumption,
    Citation,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
)
from coresets.guarantees.neurons import HomogeneousClass
from coresets.guarantees.parameters import LipschitzClass, VCClass
from coresets.guarantees.uniform import VCIID, LipschitzIID, LipschitzPoisson

__all__ = [
    "BoundedInputs",
    "BoundedInputsPoisson",
    "BoundedNeurons",
    "ComposedLayers",
    "HalfSpaces",
    "RidgeNeurons",
]

_BOUNDED = Assumption("all inputs are in the set X for which the lengths l(p) are bounds", "NormBounded")
_LIPSCHITZ = Assumption(
    "phi is L-Lipschitz, and phi(0) = 0 or its constant goes into the next bias", "between"
)
_SETTING = Citation(
    "mussay2020",
    "the setting of Mussay, Osadchy, Braverman, Zhou and Feldman 2020; proved on the theory page",
)


class HalfSpaces(SamplingGuarantee[VCClass]):
    """N1: ReLU neurons with non-negative outgoing weights on bounded inputs, by the dimension.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from nn.guarantees import HalfSpaces
    >>> HalfSpaces().size(HalfSpaces.ranges(20, bias=True), Accuracy(0.2, 0.1)) > 20000
    True
    """

    key = "N1"
    title = "ReLU neurons on bounded inputs, by the dimension"
    statement = (
        "For ReLU, non-negative outgoing weights of one output and all x in X at once, m draws with "
        "replacement in proportion to q have an error of at most eps T with probability at least 1 - delta, "
        "if m >= (4 (1 + eps) / eps^2) (D ln(2 e m / D) + ln(8 / delta)), D = d + 1, or d + 2 with biases."
    )
    citation = _SETTING
    status = Status.DERIVED_HERE
    assumptions = (_BOUNDED, Assumption("phi is ReLU and outgoing weights are non-negative; split others"))
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    @staticmethod
    def ranges(inputs: int, *, bias: bool) -> VCClass:
        """The family, for neurons with so many incoming weights, and biases or none."""
        return VCClass(1.0, check_integer(inputs, "inputs", at_least=1) + (2 if bias else 1))

    def _size(self, parameters: VCClass, epsilon: float, delta: float) -> int:
        return VCIID()._size(parameters, epsilon, delta)

    def _epsilon(self, parameters: VCClass, size: int, delta: float) -> float:
        return VCIID()._epsilon(parameters, size, delta)


@dataclass(frozen=True, slots=True)
class BoundedNeurons:
    """Outputs sum w_k(p) phi(p.x + b) over inputs of a bounded set.

    Parameters
    ----------
    outputs : int
        K, at least 1.
    one_sided : bool
        Whether all terms have one sign, as for ReLU and non-negative outgoing weights; this helps draws
        with replacement.

    Examples
    --------
    >>> from nn.guarantees import BoundedNeurons
    >>> BoundedNeurons(outputs=10).lipschitz().range_ratio
    2.0
    """

    outputs: int = 1
    one_sided: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", check_integer(self.outputs, "outputs", at_least=1))

    def lipschitz(self) -> LipschitzClass:
        """The family in the terms of E4: bounds of sum 1, and h = 1."""
        return LipschitzClass(1.0, 1.0, 1.0 if self.one_sided else 2.0, self.outputs)


class BoundedInputs(SamplingGuarantee[BoundedNeurons]):
    """N2: any Lipschitz neurons on bounded inputs, free of the dimension, draws with replacement.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from nn.guarantees import BoundedInputs, BoundedNeurons
    >>> BoundedInputs().size(BoundedNeurons(outputs=100), Accuracy(0.5, 0.1))
    140
    """

    key = "N2"
    title = "Lipschitz neurons on bounded inputs, free of the dimension"
    statement = (
        "With m >= ((2 + sqrt(2 ln(2 K / delta))) / eps)^2 draws with replacement in proportion to q, with "
        "probability at least 1 - delta all K outputs sum w_k(p) phi(p.x + b) are kept within eps L T, for "
        "all x in X at once."
    )
    citation = _SETTING
    status = Status.DERIVED_HERE
    assumptions = (_BOUNDED, _LIPSCHITZ)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    def _size(self, parameters: BoundedNeurons, epsilon: float, delta: float) -> int:
        return LipschitzIID()._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: BoundedNeurons, size: int, delta: float) -> float:
        return LipschitzIID()._epsilon(parameters.lipschitz(), size, delta)


class _Conditional:
    """Poisson sampling, with or without a condition on the number kept."""

    @staticmethod
    def given_size(delta: float, chance: float) -> float:
        """Failure probability to ask for if the draw is repeated until its size is right.

        Parameters
        ----------
        delta : float
            Failure probability of the result.
        chance : float
            Probability of the size.

        Examples
        --------
        >>> from nn.guarantees import BoundedInputsPoisson
        >>> BoundedInputsPoisson.given_size(0.1, 0.25)
        0.025
        """
        return check_open_unit(delta, "delta") * check_real(chance, "chance")


class BoundedInputsPoisson(_Conditional, SamplingGuarantee[BoundedNeurons]):
    """N2-P: any Lipschitz neurons on bounded inputs, Poisson sampling, also to an exact size.

    Examples
    --------
    >>> from nn.guarantees import BoundedInputsPoisson, BoundedNeurons
    >>> theorem = BoundedInputsPoisson()
    >>> round(theorem.epsilon(BoundedNeurons(outputs=100), 500, 0.1), 3)
    0.303
    """

    key = "N2-P"
    title = "Lipschitz neurons on bounded inputs, Poisson sampling to an exact size"
    statement = (
        "Poisson sampling with inclusion probabilities min(1, kappa q / T), repeated until it keeps exactly "
        "k neurons, keeps all K outputs within eps L T for all x in X at once with probability at least "
        "1 - delta, where eps is that of E4-P with t = h = 1, kappa, and the failure probability delta "
        "times the probability that a single draw keeps k."
    )
    citation = _SETTING
    status = Status.DERIVED_HERE
    assumptions = (_BOUNDED, _LIPSCHITZ)
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})

    def _size(self, parameters: BoundedNeurons, epsilon: float, delta: float) -> int:
        return LipschitzPoisson()._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: BoundedNeurons, size: int, delta: float) -> float:
        return LipschitzPoisson()._epsilon(parameters.lipschitz(), size, delta)


class RidgeNeurons(_Conditional, SamplingGuarantee[HomogeneousClass]):
    """RG: homogeneous neurons at all inputs, with a ridge that makes few of them necessary.

    Examples
    --------
    >>> from coresets.guarantees import HomogeneousClass
    >>> from nn.guarantees import RidgeNeurons
    >>> round(RidgeNeurons().epsilon(HomogeneousClass(2.0, outputs=10), 200, 0.1), 2)
    0.78
    """

    key = "RG"
    title = "homogeneous neurons with a ridge, Poisson sampling"
    statement = (
        "Append rows mu e_j to the rows a_p = max_k |w_k(p)| p. Poisson sampling of the neurons in "
        "proportion to their Lewis bounds among all rows, of total t over the neurons alone, keeps all K "
        "outputs within eps (sum max_k |w_k(p)| |p.x| + mu |x|_1) for all x at once, with probability at "
        "least 1 - delta and the eps of E4-P for t and h = 1. The exact t is at most the rank, and falls "
        "as mu grows."
    )
    citation = Citation(
        "cohen2015", "ridge leverage scores in the form of Lewis weights; proved on the theory page"
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption(
            "the bounds are Lewis weights of the augmented rows times their certificate", "RidgeLewis"
        ),
        Assumption("phi is positively homogeneous and 1-Lipschitz, such as ReLU", "between"),
    )
    quantifier = Quantifier.FOR_ALL
    schemes = frozenset({Scheme.POISSON})

    def _size(self, parameters: HomogeneousClass, epsilon: float, delta: float) -> int:
        return LipschitzPoisson()._size(parameters.lipschitz(), epsilon, delta)

    def _epsilon(self, parameters: HomogeneousClass, size: int, delta: float) -> float:
        return LipschitzPoisson()._epsilon(parameters.lipschitz(), size, delta)


class ComposedLayers(Guarantee):
    """NC: errors of pruned layers at the original activations, through the rest of the network.

    Examples
    --------
    >>> from nn.guarantees import ComposedLayers
    >>> ComposedLayers().output_error([0.1, 0.2], [3.0])  # the first error passes the second layer
    0.5
    """

    key = "NC"
    title = "errors of pruned layers add up through the pruned layers above them"
    statement = (
        "If for every layer i and every input that is considered the pruned weights change the outputs of "
        "the layer at the original activations by at most eta_i, then the network's output changes by at "
        "most sum_i eta_i prod_{l > i} (L_l N_l), where N_l is the largest absolute row sum of the pruned "
        "layer l and L_l the Lipschitz constant of the activation before it."
    )
    citation = Citation("mussay2020", "the order, last layer first, is theirs; proved on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("every eta_i holds at the activations of the original network", "NormBounded"),
        Assumption(
            "between the layers there are Lipschitz activations and averages only", "composed_certificate"
        ),
    )
    quantifier = Quantifier.FOR_ALL

    def output_error(self, layer_errors: Sequence[float], growths: Sequence[float]) -> float:
        """The bound, for a chain of layers.

        Parameters
        ----------
        layer_errors : sequence of float
            eta_1, ..., eta_n, not negative.
        growths : sequence of float
            L_l N_l of the layers 2, ..., n.

        Raises
        ------
        ValueError
            If a number is negative, or there is not one growth fewer than errors.
        """
        if len(growths) != len(layer_errors) - 1:
            raise ValueError(
                f"{len(layer_errors)} layers have {len(layer_errors) - 1} growths, not {len(growths)}"
            )
        if any(value < 0.0 or math.isnan(value) for value in (*layer_errors, *growths)):
            raise ValueError("an error or a growth is negative or NaN")
        error = float(layer_errors[0])
        for own, growth in zip(layer_errors[1:], growths, strict=True):
            error = own + growth * error
        return error
