"""The baseline that looks at nothing but the mass."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from coresets._validate import as_floating, check_weights
from coresets.sensitivity.sensitivities import Sensitivities
from coresets.weighted_set import WeightedSet

__all__ = ["uniform_sensitivities"]

Array = Any


def uniform_sensitivities(data: WeightedSet | Array) -> Sensitivities:
    """Each point's share of the mass, w / U: a baseline to compare with, not a bound.

    A sample drawn from these values is a uniform sample of the mass. No coreset theorem applies:
    a single point may carry the whole cost of some query at any share of the mass. They are upper
    bounds only where costs are equal for all points, such as the constant cost.

    Parameters
    ----------
    data : WeightedSet or array of shape (n,)
        The weighted set, or its weights: non-negative finite masses, not all zero.

    Returns
    -------
    Sensitivities
        ``weights / sum(weights)``, of total 1.

    Raises
    ------
    ValueError
        If the weights are not finite non-negative masses of shape (n,) with a positive total.
    TypeError
        If the weights are not real numbers.

    Examples
    --------
    >>> from coresets.sensitivity import uniform_sensitivities
    >>> uniform_sensitivities([1.0, 1.0, 2.0]).values
    array([0.25, 0.25, 0.5 ])
    """
    if isinstance(data, WeightedSet):
        weights = data.weights
    else:
        masses = as_floating(data, "weights")
        weights = check_weights(masses, masses.shape[0] if masses.ndim == 1 else 0)
    xp = array_namespace(weights)
    # Scaled first: the sum of huge masses may overflow.
    shares = weights / xp.max(weights)
    return Sensitivities(shares / xp.sum(shares))
