"""Statements about the flow of a network: SF1 to SF3."""

from __future__ import annotations

import math

from coresets._validate import check_integer, check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status

__all__ = ["FlowConservation", "FlowCut", "FlowSteps"]

_SOURCE = Citation("tanaka2020", "Tanaka, Kunin, Yamins and Ganguli 2020")
_PATHS = Assumption("every path from the input to the output crosses every layer exactly once")
_SCALING = Assumption(
    "between the layers are positive scalings, sums and maxima only", "the surrogate network"
)


class FlowConservation(Guarantee):
    """SF1: the scores of every layer add up to the flow."""

    key = "SF1"
    title = "flow is conserved from layer to layer"
    statement = (
        "If R sums the outputs of a network with non-negative weights, without biases, for an input of "
        "ones, and a weight's score is its product with the derivative of R, then the scores of each "
        "layer add up to R, and the scores into each neuron to those out of it."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_PATHS, _SCALING)
    quantifier = Quantifier.FOR_ALL


class FlowCut(Guarantee):
    """SF2: removing weights costs at most their scores."""

    key = "SF2"
    title = "a cut below the flow leaves a path"
    statement = (
        "Removing a set of weights lowers R by at most the sum of their scores; by exactly the score for a "
        "single weight where nothing takes maxima. While the sum is below R, R stays positive: a path "
        "from the input to the output is left."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_PATHS, _SCALING)
    quantifier = Quantifier.FOR_ALL

    def cut_ratio(self, removed: float, flow: float) -> float:
        """Removed score over the flow; below 1 a path is left.

        Examples
        --------
        >>> FlowCut().cut_ratio(1.0, 4.0)
        0.25
        """
        flow = check_real(flow, "flow")
        return check_real(removed, "removed") / flow if flow > 0.0 else math.inf


class FlowSteps(Guarantee):
    """SF3: how many steps are enough for any network."""

    key = "SF3"
    title = "few steps are enough to reach the maximal compression"
    statement = (
        "Removing fewer than N/L of N weights, those with the lowest scores, leaves a path in a network of "
        "L layers. So a schedule of equal ratios down to one in rho leaves one if it has more than "
        "ln(rho) / -ln(1 - 1/L) steps, and removing ceil(N/L) - 1 at a time ends with one weight a layer."
    )
    citation = _SOURCE
    status = Status.DERIVED_HERE
    assumptions = (_PATHS, _SCALING)
    quantifier = Quantifier.FOR_ALL

    def steps(self, layers: int, ratio: float) -> int:
        """Steps of a schedule of equal ratios that are enough.

        Parameters
        ----------
        layers : int
            Number L of layers, at least 1.
        ratio : float
            Weights there were over weights kept, at least 1.

        Examples
        --------
        >>> FlowSteps().steps(14, 1e3), FlowSteps().steps(14, 1e6)
        (94, 187)
        """
        layers = check_integer(layers, "layers", at_least=1)
        if (ratio := check_real(ratio, "ratio")) < 1.0:
            raise ValueError(f"ratio = {ratio:g} is below 1; it is weights there were over weights kept")
        if layers == 1 or ratio == 1.0:
            return 1  # with one layer the best-scored weight is a path
        quotient = math.log(ratio) / -math.log1p(-1.0 / layers)
        # Strictly more than the quotient, which rounding may have put below an integer that it attains.
        return math.floor(quotient * (1.0 + 1e-12)) + 1

    def removable(self, layers: int, weights: int) -> int:
        """Weights that any single step may remove.

        Examples
        --------
        >>> FlowSteps().removable(4, 21)
        5
        """
        layers = check_integer(layers, "layers", at_least=1)
        return -(-check_integer(weights, "weights", at_least=0) // layers) - 1 if weights else 0
