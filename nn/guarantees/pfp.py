"""Statements about units drawn or kept by their sensitivities: F1, F2, F3, and F4 about counts.

Notation: a consumer's sum on a patch, taken over the weights of one sign, is z(x) = sum_j h_j(x) with
h_j >= 0 the contribution of all columns of unit j; its share is g_j = h_j / z, the sensitivity s_j the
maximum of the share over neurons, signs, patches and a sample of inputs, and S = sum_j s_j. One draw of units
serves all neurons of all consumers at once, which is why the number of sums enters the bounds.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from coresets._validate import check_integer, check_open_unit
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Scheme, Status
from nn.guarantees.edges import (
    BOUNDED_SHARES,
    INDEPENDENT,
    NON_NEGATIVE,
    OWN_MAXIMUM,
    EdgeSampling,
    EdgeTruncation,
    SureInclusion,
)

__all__ = ["DistinctUnits", "UnitInclusion", "UnitSampling", "UnitTruncation"]

Array = npt.NDArray[np.float64]

_PFP = Citation("liebenwein2020", "Liebenwein et al. 2020 (PFP); constants proved on the theory page")
_WINDOW = Assumption("a unit's contribution is its sum over the kernel window", "UnitSensitivityCollector")
_MOST_DRAWS = 2**53  # consecutive numbers of draws are distinct in float64 up to here


class UnitSampling(EdgeSampling):
    """F1: units drawn with replacement.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> from nn.guarantees.edges import SideClass
    >>> from nn.guarantees.pfp import UnitSampling
    >>> law = UnitSampling()
    >>> sums = law.statements(neurons=64, patches=1024)
    >>> [law.size(SideClass(2.0, statements=sums), Accuracy(epsilon, 0.1)) for epsilon in (0.1, 0.5)]
    [6109, 276]
    """

    key = "F1"
    title = "importance sampling of units"
    statement = (
        "With m >= C S (2 + 2 eps / 3) ln(2 N / delta) / eps^2 draws of units in proportion to their "
        "sensitivities, each unit's columns divided by the expected number of its draws, all N sums of the "
        "consumers (neurons, signs, patches, parts of the input) are within a factor of 1 +- eps of the "
        "exact ones with probability at least 1 - delta, for each input."
    )
    citation = _PFP
    status = Status.DERIVED_HERE
    assumptions: ClassVar[tuple[Assumption, ...]] = (NON_NEGATIVE, BOUNDED_SHARES, _WINDOW)
    quantifier = Quantifier.FOR_EACH

    def statements(self, neurons: int, patches: int, halves: int = 1) -> int:
        """N: two signs a neuron, on every patch, for every part of the input."""
        return 2 * neurons * patches * halves


class UnitInclusion(SureInclusion):
    """F2: some units kept for sure, the others left to chance."""

    key = "F2"
    title = "sure inclusion of some units, sampling of the rest"
    statement = (
        "If some units are kept as they are and the rest R is drawn from, m times in proportion to the "
        "sensitivities, or included with probabilities kappa s_j, then F1 holds with sum_R s in place of S, "
        "and with the variance b min(1, b), b = C sum_R s: kept units contribute no variance."
    )
    citation = _PFP
    assumptions: ClassVar[tuple[Assumption, ...]] = (NON_NEGATIVE, BOUNDED_SHARES, _WINDOW)


class UnitTruncation(EdgeTruncation):
    """F3: units dropped, the others left as they are."""

    key = "F3"
    title = "the most sensitive units"
    statement = (
        "If some units are kept unchanged then, on the event of Q1 and for almost all inputs at once, every "
        "sum of every consumer loses at most a share of min(1, K sum of the dropped sensitivities)."
    )
    citation = _PFP
    assumptions: ClassVar[tuple[Assumption, ...]] = (NON_NEGATIVE, OWN_MAXIMUM, INDEPENDENT, _WINDOW)


class DistinctUnits(Guarantee):
    """F4: how many different units some draws with replacement find."""

    key = "F4"
    title = "number of different units among draws with replacement"
    statement = (
        "Among m independent draws with probabilities p_1, ..., p_n the expected number of different units "
        "is sum_j 1 - (1 - p_j)^m, at most min(n, m), and the number is within "
        "sqrt(min(n, m) ln(2 / delta) / 2) of it with probability at least 1 - delta."
    )
    citation = _PFP
    status = Status.DERIVED_HERE
    assumptions = ()
    quantifier = Quantifier.FOR_EACH
    schemes = frozenset({Scheme.WITH_REPLACEMENT})

    def expected(self, sensitivities: Any, draws: Any) -> Any:
        """Expected number of different units.

        Parameters
        ----------
        sensitivities : array of shape (n,)
            Non-negative, not all zero; draws are in proportion to them.
        draws : float or array of float
            m, at least 0. Between integers the formula interpolates, as an allocation needs it.

        Returns
        -------
        float, or array of the shape of ``draws``

        Examples
        --------
        >>> import numpy as np
        >>> from nn.guarantees.pfp import DistinctUnits
        >>> DistinctUnits().expected(np.ones(2), 3)  # 1 - 1/8 for either of two
        1.75
        """
        values = np.asarray(sensitivities, dtype=np.float64)
        # In logarithms: for rare units 1 - (1 - p)^m would be rounded to 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log1p(-values / values.sum())
            powers = np.multiply.outer(np.asarray(draws, dtype=np.float64), logs)
        powers = np.where(np.isnan(powers), 0.0, powers)  # no draws of the only unit
        found = -np.expm1(powers).sum(axis=-1)
        return float(found) if np.ndim(found) == 0 else found

    def draws(self, sensitivities: Any, count: int) -> int:
        """Least number of draws for which ``count`` different units are expected, rounded up.

        Parameters
        ----------
        sensitivities : array of shape (n,)
            See :meth:`expected`.
        count : int
            At least 1, and at most the number of positive sensitivities.

        Examples
        --------
        >>> import numpy as np
        >>> from nn.guarantees.pfp import DistinctUnits
        >>> DistinctUnits().draws(np.ones(10), 8)
        12
        """
        count = check_integer(count, "count", at_least=1)
        positive = int(np.count_nonzero(sensitivities))
        if count > positive:
            raise ValueError(f"count = {count} exceeds the {positive} units that can be drawn")

        def enough(draws: int) -> bool:
            return math.ceil(self.expected(sensitivities, draws)) >= count

        low, high = count - 1, count
        while not enough(high) and high < _MOST_DRAWS:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def deviation(self, units: int, draws: int, delta: float) -> float:
        """How far the number strays from its expectation, but for a probability of delta.

        Examples
        --------
        >>> from nn.guarantees.pfp import DistinctUnits
        >>> round(DistinctUnits().deviation(64, 276, 0.1), 2)  # the draws would only give 20.33
        9.79
        """
        units = check_integer(units, "units", at_least=1)
        draws = check_integer(draws, "draws", at_least=0)
        return math.sqrt(min(units, draws) * math.log(2.0 / check_open_unit(delta, "delta")) / 2.0)
