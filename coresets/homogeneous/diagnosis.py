r"""When bounds that hold for every query say nothing, and which ones do not.

A row that is not in the span of the others has sensitivity 1 for every cost that vanishes with
p.x: some x sees it alone (guarantee T7). For n <= d points in general position this is every row,
no sample smaller than the data can be good for all x, and a size formula that returns at least n
says so in other words. :func:`vacuity` computes the quantities on which this depends before any
coreset is drawn: the rank, how many rows are alone in a direction, the total of the Lewis weights,
and kappa. Cost: the Lewis weights and one linear programme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._row_space import row_space
from coresets._validate import check_weights
from coresets.accuracy import Accuracy
from coresets.guarantee import Claim
from coresets.guarantees import BalancedClass, BalancedReLUPoisson, HomogeneousClass, HomogeneousPoisson
from coresets.homogeneous.balance import relu_balance
from coresets.sensitivity import leverage_scores, lewis_weights
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["Vacuity", "vacuity"]

Array = Any
Floats = npt.NDArray[np.float64]

# Leverage scores of n normalised rows of rank r are exact to a small multiple of max(n, r) machine
# epsilons, the multiple being the condition number of the rows.
_ROUNDING = 100.0

_ACCURACY = Accuracy(0.2, 0.1)


@dataclass(frozen=True)
class Vacuity:
    """What bounds for all queries x are worth on given data.

    Attributes
    ----------
    n : int
        Number of points with mass that are not zero.
    rank : int
        Dimension of their span.
    alone : int
        Points not in the span of the others, up to rounding: their sensitivity is 1.
    lewis_total : float
        Certified total of the l1 Lewis weights, about the rank.
    kappa : float
        Proved lower bound on the constant of T5; 0 if some x switches every ReLU off.
    accuracy : Accuracy
        The accuracy at which the sizes are stated.
    absolute_size : float
        Expected size that Poisson sampling needs for sums of |p.x|, and for ReLU with an error
        relative to sum w |p.x| (T4-P).
    relu_size : float
        The same for sums of ReLU(p.x) with an error relative to themselves (T5-P); infinite for kappa
        = 0.
    """

    n: int
    rank: int
    alone: int
    lewis_total: float
    kappa: float
    accuracy: Accuracy
    absolute_size: float
    relu_size: float

    @property
    def hopeless(self) -> bool:
        """Whether every point has sensitivity 1, so that no point can be left out."""
        return self.alone == self.n

    @property
    def absolute_vacuous(self) -> bool:
        """Whether the size for sums of |p.x| is at least n."""
        return self.absolute_size >= self.n

    @property
    def relu_vacuous(self) -> bool:
        """Whether the size for sums of ReLU(p.x) is at least n."""
        return self.relu_size >= self.n

    def __str__(self) -> str:
        lines = [
            f"{self.n} points of rank {self.rank}; {self.alone} alone in some direction (sensitivity 1)."
        ]
        if self.n == 0:
            return "No point has a cost: all rows or masses are zero."
        if self.hopeless:
            lines.append(
                "Every data-independent bound is 1, because n <= rank: no subset is good for all x. "
                "Bound the norm of x, or restrict x to the span of real inputs."
            )
            return "\n".join(lines)
        at = f"at epsilon = {self.accuracy.epsilon:g}, delta = {self.accuracy.delta:g}"
        lines.append(f"Lewis weights have total {self.lewis_total:.4g}, and kappa is {self.kappa:.4g}.")
        lines.append(f"Sums of |p.x| {at}: {_advice(self.absolute_size, self.n)}")
        if self.kappa > 0.0:
            lines.append(f"Sums of ReLU(p.x) {at}: {_advice(self.relu_size, self.n)}")
        else:
            lines.append(
                "Sums of ReLU(p.x): some x switches all of them off, so no relative error can be promised; "
                "measure it relative to the sum of |p.x|."
            )
        return "\n".join(lines)


def _advice(size: float, n: int) -> str:
    if size < n:
        return f"{size:.0f} of {n} points suffice."
    return (
        f"the proof asks for {size:.3g} points, no fewer than the {n} there are: "
        "vacuous; allow a larger error, or measure the error of smaller coresets."
    )


def _size(claim: Claim, accuracy: Accuracy) -> float:
    try:
        return float(claim.size(accuracy))
    except OverflowError:
        return math.inf


def _alone(coordinates: Floats) -> int:
    """Number of rows outside the span of the others: those with leverage score 1, after normalisation.

    Leverage scores of 1 are a matter of spans, which lengths of rows do not change; among rows of
    one length no other score is near 1 just because its row is long.
    """
    units = coordinates / np.linalg.norm(coordinates, axis=1)[:, None]
    rounding = _ROUNDING * max(units.shape) * np.finfo(np.float64).eps
    return int(np.count_nonzero(leverage_scores(units) >= 1.0 - rounding))


def vacuity(points: Array, weights: Array | None = None, *, accuracy: Accuracy = _ACCURACY) -> Vacuity:
    """Tell whether guarantees for all queries x can be of use on these data.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows of any array-API library.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero; ones by default. For outgoing weights of a layer pass
        their largest absolute values.
    accuracy : Accuracy
        Error in (0, 1] and failure probability in (0, 1) at which sizes are stated; 0.2 and 0.1 by
        default.

    Returns
    -------
    Vacuity
        Figures, and advice in words as its ``str``.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a weight is negative, all weights are zero, or
        the accuracy is out of range.
    TypeError
        If the entries are not real numbers, or the accuracy is not an :class:`Accuracy`.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.homogeneous import vacuity
    >>> rng = np.random.default_rng(0)
    >>> print(vacuity(rng.standard_normal((30, 50))))
    30 points of rank 30; 30 alone in some direction (sensitivity 1).
    Every data-independent bound is 1, because n <= rank: no subset is good for all x. Bound the norm of x, or
    restrict x to the span of real inputs.
    >>> print(vacuity(rng.standard_normal((20000, 3))))
    20000 points of rank 3; 0 alone in some direction (sensitivity 1).
    Lewis weights have total 3, and kappa is 0.9923.
    Sums of |p.x| at epsilon = 0.2, delta = 0.1: 2990 of 20000 points suffice.
    Sums of ReLU(p.x) at epsilon = 0.2, delta = 0.1: 9140 of 20000 points suffice.
    """
    if not isinstance(accuracy, Accuracy):
        raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
    data = WeightedSet(points, None if weights is None else check_weights(weights, len(points)))
    masses = np.asarray(to_host(data.weights), dtype=np.float64)
    coordinates = row_space(np.asarray(to_host(data.points), dtype=np.float64), masses).coordinates
    moving = coordinates[np.any(coordinates != 0.0, axis=1)]
    if not len(moving):
        return Vacuity(0, 0, 0, 0.0, 1.0, accuracy, 0.0, 0.0)

    # Invertible maps of the columns change none of the figures, so the whitened rows stand for the data.
    lewis = lewis_weights(moving)
    kappa = relu_balance(moving).kappa
    absolute = Claim(HomogeneousPoisson(), HomogeneousClass(lewis.total, range_ratio=1.0))
    relu_size = math.inf
    if kappa > 0.0:
        relu_size = _size(Claim(BalancedReLUPoisson(), BalancedClass(lewis.total, kappa)), accuracy)
    return Vacuity(
        n=len(moving),
        rank=moving.shape[1],
        alone=_alone(moving),
        lewis_total=lewis.total,
        kappa=kappa,
        accuracy=accuracy,
        absolute_size=_size(absolute, accuracy),
        relu_size=relu_size,
    )
