"""One error for all groups: how many units each keeps so that the largest certified error is smallest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nn.allocation import bounded_shares, rounded
from nn.budgets import Share
from nn.guarantees.pfp import DistinctUnits

__all__ = ["CommonError", "Drawable"]

Array = npt.NDArray[np.float64]

_STEPS = 200  # halvings of the logarithm's bracket; down to neighbouring floats
_LOG_EPSILON = 300.0  # errors between exp(-300) and exp(300)


@dataclass(frozen=True, eq=False)
class Drawable:
    """What the allocation knows of a group.

    Parameters
    ----------
    values : array of shape (units,)
        Sensitivities.
    logarithm : float
        ln(2 N / delta), N the number of sums that must be right.
    """

    values: Array
    logarithm: float

    def expected(self, epsilon: float, factor: float) -> float:
        """Different units among as many draws as F1 asks for, at least one; the number of draws unrounded."""
        total = float(self.values.sum())
        if total == 0.0:
            return 1.0
        with np.errstate(over="ignore"):
            draws = factor * total * (2.0 + 2.0 * epsilon / 3.0) * self.logarithm / np.float64(epsilon) ** 2
        return max(1.0, float(DistinctUnits().expected(self.values, min(draws, 1e300))))


@dataclass(frozen=True, slots=True)
class CommonError:
    """All groups get as many units as one common error of :class:`~nn.guarantees.pfp.UnitSampling` asks for.

    The expected number of different units falls with the error, so that one error meets a count; what is
    left of rounding goes to the largest remainders. Groups of which many sums depend on many units keep
    more. As published, but for the rounding, by which the released code exceeds its budget.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.budgets import Share
    >>> even, uneven = Drawable(np.ones(50), 5.0), Drawable(0.5 ** np.arange(50), 5.0)
    >>> CommonError().counts({"even": even, "uneven": uneven}, Share(("even", "uneven"), 30), 3.0)
    {'even': 29, 'uneven': 1}
    """

    def counts(self, groups: Mapping[str, Drawable], share: Share, factor: float) -> dict[str, int]:
        """Units to keep in every group, at least one.

        Parameters
        ----------
        groups : mapping of str to Drawable
            The share's groups.
        share : Share
            How many units to keep in all; at least as many as groups.
        factor : float
            C: shares are at most this times their sensitivities.
        """
        own = [groups[name] for name in share.layers]
        sizes = np.array([float(group.values.size) for group in own])
        limits = np.maximum(1.0, [float(np.count_nonzero(group.values)) for group in own])
        if share.count >= limits.sum():  # the rest goes to units that no input has used
            counts = limits + bounded_shares(sizes - limits, sizes - limits, share.count - int(limits.sum()))
            limits = sizes
        else:
            counts = np.minimum(self._at_error(own, share.count, factor), limits)
        found = rounded(counts, limits, share.count)
        return {name: int(count) for name, count in zip(share.layers, found, strict=True)}

    @staticmethod
    def _at_error(groups: list[Drawable], count: int, factor: float) -> Array:
        """Real numbers of units at the least common error for which they do not exceed the count."""

        def at(log_epsilon: float) -> Array:
            return np.array([group.expected(float(np.exp(log_epsilon)), factor) for group in groups])

        low, high = -_LOG_EPSILON, _LOG_EPSILON
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if at(middle).sum() > count else (low, middle)
        return at(high)
