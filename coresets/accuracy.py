"""What a random construction promises: relative error and failure probability, and their algebra."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from coresets._validate import check_probability, check_real

__all__ = ["Accuracy"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """With probability at least 1 - delta, every answer is within a relative error of epsilon.

    Parameters
    ----------
    epsilon : float
        Largest relative error, at least 0. A bound of 1 or more says nothing about a
        non-negative cost; see :attr:`vacuous`.
    delta : float
        Failure probability in [0, 1], over the randomness of the sampler alone.

    Raises
    ------
    ValueError
        If ``epsilon`` is negative or ``delta`` lies outside [0, 1].

    Notes
    -----
    Accuracies form a commutative monoid under :meth:`then`, whose unit is :meth:`exact`.

    Examples
    --------
    >>> from coresets import Accuracy
    >>> Accuracy(0.1, 0.01).then(Accuracy(0.1, 0.02))
    Accuracy(epsilon=0.21, delta=0.03)
    >>> Accuracy.union([Accuracy(0.1, 0.01), Accuracy(0.2, 0.01)])
    Accuracy(epsilon=0.2, delta=0.02)
    >>> Accuracy.exact().then(Accuracy(0.1, 0.05))
    Accuracy(epsilon=0.1, delta=0.05)
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        # An infinite epsilon is a legitimate (vacuous) promise; NaN is not.
        epsilon = math.inf if self.epsilon == math.inf else check_real(self.epsilon, "epsilon")
        if epsilon < 0.0:
            raise ValueError(f"epsilon = {epsilon:g} is negative; pass a relative error of at least 0")
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "delta", check_probability(self.delta, "delta"))

    @classmethod
    def exact(cls) -> Accuracy:
        """No error, ever: the unit of :meth:`then`."""
        return cls(0.0, 0.0)

    @property
    def is_exact(self) -> bool:
        """Whether neither error nor failure is allowed."""
        return self.epsilon == 0.0 and self.delta == 0.0

    @property
    def vacuous(self) -> bool:
        """Whether the promise excludes nothing: an error of 1 or more, or certain failure."""
        return self.epsilon >= 1.0 or self.delta >= 1.0

    def then(self, following: Accuracy) -> Accuracy:
        """Accuracy of a coreset of a coreset.

        The errors multiply, (1 + e1)(1 + e2) - 1, and the failure probabilities add.
        """
        return Accuracy(
            self.epsilon + following.epsilon + self.epsilon * following.epsilon
            if self.epsilon and following.epsilon
            else self.epsilon + following.epsilon,
            min(1.0, self.delta + following.delta),
        )

    @classmethod
    def union(cls, parts: Iterable[Accuracy]) -> Accuracy:
        """Accuracy of the union of coresets of disjoint parts.

        The largest error holds for the sum of non-negative costs; the failure probabilities add.
        The union of no parts is exact.
        """
        parts = list(parts)
        return cls(
            max((part.epsilon for part in parts), default=0.0),
            min(1.0, math.fsum(part.delta for part in parts)),
        )
