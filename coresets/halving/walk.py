"""Signs that keep all signed sums of vectors small, chosen online.

The walk keeps w, the signed sum so far, and gives the next vector v the sign +1 with probability
1/2 - <w, v>/(2 a): the sign that shortens w is the likelier one. Guarantee D1 says for which threshold a this
is proved to be no worse than independent signs, and far better for whatever the vectors explain. Cost O(n k)
for n vectors of length k, O(n^2) from inner products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from coresets._random import Rng, host_generator
from coresets._validate import as_floating, check_finite, check_integer, check_open_unit, check_real
from coresets.certificate import Certificate
from coresets.guarantees import SelfBalancingWalk
from coresets.halving._kernels import gram_lengths, gram_walk, polynomial_lengths, polynomial_walk
from coresets.weighted_set import to_host

__all__ = ["Aggressive", "InnerProducts", "Provable", "Signs", "Threshold", "Walked", "balanced_signs"]

Array = Any
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@runtime_checkable
class Threshold(Protocol):
    """How the threshold a of a walk is set."""

    def factor(self, steps: int) -> float:
        """A over the squared length of the longest vector, for a walk of so many steps."""


@dataclass(frozen=True, slots=True)
class Provable:
    """The threshold of D1, which a walk clips with a probability of at most ``delta``.

    Parameters
    ----------
    delta : float
        Probability of a clip, in (0, 1).
    steps : int, optional
        Steps that share this probability, if they are more than those of one call: the rows of a stream. The
        threshold grows with their logarithm only.
    """

    delta: float = 0.025
    steps: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))
        if self.steps is not None:
            object.__setattr__(self, "steps", check_integer(self.steps, "steps", at_least=1))

    def factor(self, steps: int) -> float:
        """C = 1/2 + ln(2 n/delta).

        Raises
        ------
        ValueError
            If the walk has more steps than the threshold was made for.
        """
        steps = check_integer(steps, "steps", at_least=1)
        if self.steps is not None and steps > self.steps:
            raise ValueError(f"the walk has up to {steps:,} steps, {self!r} is for fewer; raise its steps")
        return SelfBalancingWalk().factor(self.steps or steps, self.delta)


@dataclass(frozen=True, slots=True)
class Aggressive:
    """A smaller threshold, c times the squared length of the longest vector: better balance, no proof.

    Parameters
    ----------
    c : float
        Positive. 1 is usually the better part of what there is to gain; below 1/4 most steps clip.
    """

    c: float = 1.0

    def __post_init__(self) -> None:
        c = check_real(self.c, "c")
        if c <= 0.0:
            raise ValueError(f"c = {c:g} is not positive; 1 is a good choice")
        object.__setattr__(self, "c", c)

    def factor(self, steps: int) -> float:
        """c, however many steps."""
        return self.c


@dataclass(frozen=True, eq=False)
class InnerProducts:
    """Vectors given by their inner products, such as those of a kernel.

    Parameters
    ----------
    matrix : array of shape (n, n)
        Finite, symmetric up to rounding, with a non-negative diagonal.
    """

    matrix: Array

    def __post_init__(self) -> None:
        matrix = as_floating(self.matrix, "matrix")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix has shape {tuple(matrix.shape)}; pass inner products of shape (n, n)")
        check_finite(matrix, "matrix")
        host = np.ascontiguousarray(to_host(matrix), dtype=np.float64)
        if host.size and float(np.min(np.diagonal(host))) < 0.0:
            raise ValueError("matrix has a negative entry on its diagonal, which holds squared lengths")
        largest = float(np.max(np.abs(host), initial=0.0))
        off = float(np.max(np.abs(host - host.T), initial=0.0))
        if off > len(host) * 1e3 * float(np.finfo(np.float64).eps) * largest:
            raise ValueError(f"matrix is not symmetric, by {off:.3g}; pass (K + K.T)/2 if that is rounding")
        object.__setattr__(self, "matrix", host)


@dataclass(frozen=True, eq=False)
class Signs:
    """What a walk came to.

    Parameters
    ----------
    values : array of int8, shape (n,)
        Signs, -1 or 1.
    clips : int
        Steps at which the inner product exceeded the threshold: each voids D1.
    longest : float
        Length of the longest vector, b.
    factor : float
        c, so that the threshold was c b^2.
    largest : float
        Largest inner product that was met, over the threshold: at most 1 if nothing was clipped.
    """

    values: npt.NDArray[np.int8]
    clips: int
    longest: float
    factor: float
    largest: float

    @property
    def certificate(self) -> Certificate:
        """Number of clips, of which the theorem allows none."""
        return Certificate(
            name="clips",
            statement="steps of the walk at which an inner product exceeded the threshold; any voids D1",
            value=float(self.clips),
            bound=0.0,
            details={
                "steps": float(len(self.values)),
                "longest": self.longest,
                "factor": self.factor,
                "largest inner product over threshold": self.largest,
            },
        )


@dataclass(frozen=True, eq=False)
class Walked:
    """Points whose features are walked over: unit rows with a kernel of degree 2, or inner products.

    Parameters
    ----------
    units : array of shape (n, r)
        Rows u, or inner products of shape (n, n) if there are no coefficients.
    coefficients : array of shape (3,), optional
        Of the kernel c0 + c1 z + c2 z^2 of two rows with inner product z.
    """

    units: Floats
    coefficients: Floats | None = None

    def lengths(self, scales: Floats, first: Integers, second: Integers) -> Floats:
        """Lengths of the vectors scale(p) psi(p) - scale(q) psi(q); q = -1 stands for no second point."""
        squares = np.empty(len(first))
        if self.coefficients is None:
            gram_lengths(self.units, scales, first, second, squares)
        else:
            polynomial_lengths(self.units, self.coefficients, scales, first, second, squares)
        return np.sqrt(squares)

    def signs(
        self, scales: Floats, first: Integers, second: Integers, factor: float, rng: np.random.Generator
    ) -> Signs:
        """Walk over pairs of points with their present scales; one uniform a step is drawn."""
        longest = float(np.max(self.lengths(scales, first, second), initial=0.0))
        uniforms = rng.random(len(first))
        signs = np.where(uniforms < 0.5, 1, -1).astype(np.int8)
        if longest == 0.0:  # all vectors are zero: independent signs
            return Signs(signs, 0, 0.0, factor, 0.0)
        # In units of the longest vector, so that squares neither overflow nor vanish.
        unit = 2.0 ** math.floor(math.log2(longest))
        threshold = factor * (longest / unit) ** 2
        if self.coefficients is None:
            clips, largest = gram_walk(self.units, scales / unit, first, second, threshold, uniforms, signs)
        else:
            clips, largest = polynomial_walk(
                self.units, self.coefficients, scales / unit, first, second, threshold, uniforms, signs
            )
        return Signs(signs, int(clips), longest, factor, float(largest) / threshold)


_LINEAR = np.array([0.0, 1.0, 0.0])


def balanced_signs(vectors: Array | InnerProducts, threshold: Threshold | None = None, *, rng: Rng) -> Signs:
    """Signs of the self-balancing walk, in the order of the vectors.

    Parameters
    ----------
    vectors : array of shape (n, k), or InnerProducts
        Vectors, any n and k of at least 1, or their inner products.
    threshold : Threshold, optional
        ``Provable(delta)`` (the default, with delta = 0.025) or ``Aggressive(c)``.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Source of randomness; one uniform number a vector is drawn.

    Returns
    -------
    Signs
        Signs, and how often the walk clipped.

    Raises
    ------
    ValueError
        If the shape is wrong or an entry is not finite.
    TypeError
        If an argument is of another kind.

    References
    ----------
    .. [1] R. Alweiss, Y. P. Liu, M. Sawhney. Discrepancy minimization via a self-balancing walk. STOC 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.halving import balanced_signs
    >>> vectors = np.random.default_rng(0).standard_normal((10_000, 3))
    >>> signs = balanced_signs(vectors, rng=1)
    >>> signs.clips
    0
    >>> independent = np.random.default_rng(1).choice([-1, 1], 10_000)
    >>> bool(np.linalg.norm(signs.values @ vectors) < 0.5 * np.linalg.norm(independent @ vectors))
    True
    """
    if threshold is None:
        threshold = Provable()
    check_threshold(threshold)
    generator = host_generator(rng)
    if isinstance(vectors, InnerProducts):
        unit = _unit(float(np.max(np.diagonal(vectors.matrix), initial=0.0)) ** 0.5)
        walked = Walked(vectors.matrix / unit / unit)
    else:
        rows = as_floating(vectors, "vectors")
        if rows.ndim != 2 or 0 in rows.shape:
            raise ValueError(f"vectors has shape {tuple(rows.shape)}; pass (n, k), one row a vector")
        check_finite(rows, "vectors")
        host = np.ascontiguousarray(to_host(rows), dtype=np.float64)
        unit = _unit(float(np.max(np.abs(host))))
        walked = Walked(host / unit, _LINEAR)
    n = len(walked.units)
    if n == 0:
        raise ValueError("matrix has shape (0, 0); pass at least one vector")
    alone = np.full(n, -1, dtype=np.int64)
    signs = walked.signs(np.ones(n), np.arange(n), alone, threshold.factor(n), generator)
    return replace(signs, longest=signs.longest * unit)


def _unit(largest: float) -> float:
    """Power of two by which entries are divided, so that their squares stay in the range of floats."""
    return 2.0 ** math.floor(math.log2(largest)) if largest > 0.0 else 1.0


def check_threshold(threshold: object) -> None:
    """Raise unless it is a threshold, and no class of them."""
    if isinstance(threshold, type) or not isinstance(threshold, Threshold):
        raise TypeError(f"threshold = {threshold!r}; pass Provable(delta) or Aggressive(c)")
