"""The statement behind factors for sensitivities that need no assumption: Q9."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from coresets._validate import check_integer, check_open_unit, check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status, least_integer

__all__ = ["ConformalFactor"]


class ConformalFactor(Guarantee):
    """Q9: a factor for sensitivities from fresh inputs, whatever their distribution.

    Examples
    --------
    >>> from nn.guarantees.conformal import ConformalFactor
    >>> theorem = ConformalFactor()
    >>> theorem.rank(99, 0.1), theorem.rank(99, 0.1, confidence=0.95)
    (90, 95)
    >>> theorem.examples(0.1), theorem.examples(0.1, confidence=0.95)
    (9, 29)
    """

    key = "Q9"
    title = "fresh inputs calibrate the factor of the sensitivities"
    statement = (
        "Let s be positive and fixed before n inputs are drawn, R(x) the largest ratio of a share at x to "
        "its s, and K the k-th smallest R of these inputs, or the largest 1/s if k exceeds n. With "
        "k = ceil((n + 1)(1 - alpha)) a further input has R(x) <= K with probability at least 1 - alpha. "
        "With the least k for which k - 1 or fewer of n events of probability 1 - alpha have probability at "
        "least 1 - beta, R(x) <= K holds with conditional probability at least 1 - alpha, given these "
        "inputs, with probability at least 1 - beta."
    )
    citation = Citation(
        "papadopoulos2002",
        "split conformal prediction, Papadopoulos et al. 2002; given the inputs, Wilks 1941 and Vovk 2012",
    )
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("calibration inputs and the further one are independent draws of one distribution"),
        Assumption(
            "sensitivities and their floor do not depend on the calibration inputs",
            "conformal_factor, if it is given the data of the sensitivities",
        ),
    )
    quantifier = Quantifier.FOR_EACH

    def rank(self, examples: int, violation: float, confidence: float | None = None) -> int:
        """k, which is ``examples + 1`` where no calibration value will do.

        Parameters
        ----------
        examples : int
            n, at least 1.
        violation : float
            alpha, in (0, 1).
        confidence : float, optional
            1 - beta, in (0, 1), for the statement given the calibration inputs; without it the
            probability is that over both.
        """
        n = check_integer(examples, "examples", at_least=1)
        violation = check_open_unit(violation, "violation")
        if confidence is None:
            return n + 1 - min(n, math.floor((n + 1) * violation))
        confidence = check_open_unit(confidence, "confidence")

        def enough(k: int) -> bool:
            # Pr[Bin(n, 1 - alpha) <= k - 1], a beta integral.
            return k > n or bool(betainc(n - k + 1, k, violation) >= confidence)

        return least_integer(enough, n * (1.0 - violation))

    def examples(self, violation: float, confidence: float | None = None) -> int:
        """Fewest calibration inputs for which one of them sets the factor.

        Parameters
        ----------
        violation, confidence
            See :meth:`rank`.
        """
        start = 1.0 / check_open_unit(violation, "violation")
        return least_integer(lambda n: self.rank(n, violation, confidence) <= n, start)

    def factor(
        self, ratios: npt.ArrayLike, largest: float, violation: float, confidence: float | None = None
    ) -> float:
        """K.

        Parameters
        ----------
        ratios : array of shape (n,)
            R of the calibration inputs, none negative or NaN.
        largest : float
            What R never exceeds: the largest 1/s.
        violation, confidence
            See :meth:`rank`.

        Examples
        --------
        >>> ConformalFactor().factor([3.0, 1.0, 2.0], 100.0, violation=0.5)
        2.0
        >>> ConformalFactor().factor([3.0, 1.0, 2.0], 100.0, violation=0.1)  # three inputs are too few
        100.0
        """
        values: Any = np.asarray(ratios, dtype=np.float64)
        if values.ndim != 1 or not bool(np.all(values >= 0.0)):
            raise ValueError(f"ratios has shape {values.shape} or an entry that is negative or NaN")
        largest = check_real(largest, "largest")
        k = self.rank(values.size, violation, confidence)
        return largest if k > values.size else min(largest, float(np.partition(values, k - 1)[k - 1]))
