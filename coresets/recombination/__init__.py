r"""Caratheodory reduction: the same moments from a few of the points, exactly.

Caratheodory's theorem: a non-negative combination sum w_i A_i of vectors of rank r is also one of
at most r of them, with non-negative weights. Choosing what A_i holds chooses what is kept:

=====================================  =================  ==========================
preserve                               A_i                points, r the rank
=====================================  =================  ==========================
``Mean()``                             (p, 1)             r + 1 (r the affine rank)
``ConeSum()``                          p                  r
``SecondMoment()``                     (p p^T, 1)         r (r + 1) / 2 + 1
``SecondMoment(mean=True)``            (p p^T, p, 1)      r (r + 3) / 2 + 1
=====================================  =================  ==========================

The result is a coreset with epsilon = delta = 0 for every cost that is linear in what is kept, such
as least squares and ridge regression for the second moment of (p, y).

Cost: two reads of the data and small dense algebra, O(n d + k^3 log(n / k)) for k = d + 1 features;
O(n d^2 + k^3 log(n / k)) for second moments, where k is about d^2 / 2. Beyond the input it takes
a few per cent of its size.
"""

from __future__ import annotations

from coresets.recombination.preserve import ConeSum, Mean, Preserve, SecondMoment
from coresets.recombination.reduce import caratheodory
from coresets.recombination.regression import ExactLeastSquares
from coresets.recombination.stream import CaratheodoryStream

__all__ = [
    "CaratheodoryStream",
    "ConeSum",
    "ExactLeastSquares",
    "Mean",
    "Preserve",
    "SecondMoment",
    "caratheodory",
]
