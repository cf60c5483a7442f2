"""The value that every sensitivity bound returns and every sampler accepts.

For costs f_q >= 0 the sensitivity of a point is its worst share of the cost,
s_i = sup over queries q of w_i f_q(p_i) / sum_j w_j f_q(p_j). Coreset sizes grow with the sum of
the upper bounds in use, so a bound is as good as its total.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from array_api_compat import array_namespace

from coresets._validate import beside, check_non_negative, check_weights
from coresets.certificate import Certificate

__all__ = ["Sensitivities"]

Array = Any


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Upper bounds on each point's worst share of the cost, and their total.

    Parameters
    ----------
    values : array of shape (n,)
        Non-negative finite upper bounds, on any array library and device. All of them may be
        zero, when no query gives any point a cost.
    certificates : tuple of Certificate
        Evidence that the values are upper bounds, if they were computed approximately.

    Attributes
    ----------
    total : float
        Sum of the values, at least 0.

    Raises
    ------
    ValueError
        If the shape is not (n,) with n >= 1, or a value is negative or not finite.
    TypeError
        If the values are not real numbers.

    Examples
    --------
    >>> from coresets.sensitivity import Sensitivities
    >>> bound = Sensitivities([0.5, 1.5, 0.0])
    >>> bound.total, bound.capped().total
    (2.0, 1.5)
    >>> bound.with_defensive_mixing([1.0, 1.0, 2.0]).values
    array([0.75, 1.75, 0.5 ])
    """

    values: Array
    certificates: tuple[Certificate, ...] = ()
    total: float = field(init=False)

    def __post_init__(self) -> None:
        values = check_non_negative(self.values, name="values")
        if values.ndim != 1:
            raise ValueError(f"values has shape {tuple(values.shape)}; pass (n,), one bound a point")
        xp = array_namespace(values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "certificates", tuple(self.certificates))
        # A float32 sum over millions of values is off in the fifth digit, and sizes use the total.
        object.__setattr__(self, "total", float(xp.sum(values, dtype=xp.float64)))

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.values.shape[0])

    def capped(self) -> Sensitivities:
        """Values of at most 1: a share of a total never exceeds 1, so the bound stays valid.

        Returns
        -------
        Sensitivities
            The smaller of each value and 1, with the same certificates.
        """
        xp = array_namespace(self.values)
        return Sensitivities(xp.clip(self.values, max=1.0), self.certificates)

    def with_defensive_mixing(self, weights: Array) -> Sensitivities:
        """Add each point's share of the mass, w / U with U the total weight (DM).

        The total grows by 1, and every point of positive weight gets a positive bound. A sampler
        then over- or under-counts the mass itself, hence any bounded cost, only boundedly.

        Parameters
        ----------
        weights : array of shape (n,)
            Non-negative masses, not all zero.

        Returns
        -------
        Sensitivities
            ``values + weights / sum(weights)``, with the same certificates.

        Raises
        ------
        ValueError
            If the weights are not n non-negative finite masses with a positive total.
        """
        weights = beside(check_weights(weights, self.n), self.values, "weights")
        xp = array_namespace(self.values)
        share = xp.astype(weights / xp.sum(weights), self.values.dtype, copy=False)
        return Sensitivities(self.values + share, self.certificates)
