"""Hypothesis strategies for weighted sets, degenerate ones included.

Needs the package ``hypothesis``, which the extra ``test`` brings.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from coresets.weighted_set import WeightedSet

__all__ = ["weighted_sets"]

_SHAPES = ("general", "rank deficient", "duplicated", "badly scaled", "zero rows", "heavy tailed")


@st.composite
def weighted_sets(
    draw: st.DrawFn,
    *,
    min_points: int = 1,
    max_points: int = 200,
    max_dimension: int = 6,
    labelled: bool = False,
) -> WeightedSet:
    """Weighted sets of many shapes, from a drawn seed.

    Parameters
    ----------
    min_points, max_points : int
        Range of n.
    max_dimension : int
        Largest d.
    labelled : bool
        Whether to add a real label.

    Returns
    -------
    SearchStrategy
        Of :class:`coresets.WeightedSet`: points in general position, rank-deficient, with
        duplicates, with columns over ten orders of magnitude, with rows of zeros, or heavy-tailed;
        weights equal, over six orders of magnitude, or partly zero.

    Examples
    --------
    >>> from hypothesis import given
    >>> from proofs_check.strategies import weighted_sets
    >>> @given(weighted_sets(max_points=20))
    ... def test_something(data): ...
    """
    n = draw(st.integers(min_points, max_points))
    d = draw(st.integers(1, max_dimension))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from(_SHAPES))
    points = rng.standard_normal((n, d))
    if shape == "rank deficient":
        points = points[:, :1] * rng.standard_normal(d)
    elif shape == "duplicated":
        points = points[rng.integers(0, max(1, n // 4), size=n)]
    elif shape == "badly scaled":
        points = points * 10.0 ** rng.uniform(-5.0, 5.0, size=d)
    elif shape == "zero rows":
        points[rng.random(n) < 0.3] = 0.0
    elif shape == "heavy tailed":
        points = points / np.abs(rng.standard_normal((n, 1)))
    mass = draw(st.sampled_from(["equal", "spread", "partly zero"]))
    weights = np.ones(n)
    if mass == "spread":
        weights = 10.0 ** rng.uniform(-3.0, 3.0, size=n)
    elif mass == "partly zero" and n > 1:
        weights = np.where(rng.random(n) < 0.3, 0.0, weights)
        weights[0] = 1.0
    return WeightedSet(points, weights, rng.standard_normal(n) if labelled else None)
