"""Kernels, as far as coresets for kernel machines need them: their diagonal, and blocks of their matrix.

The sensitivities of S3 need only the norms of the images of the points and a lower bound on the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._random import Rng, resolve_rng
from coresets._threads import one_blas_thread
from coresets._validate import check_integer, check_real
from coresets.errors import AssumptionError
from coresets.svm.data import LabelledSet
from coresets.svm.objective import SVMObjective

__all__ = ["RBF", "Kernel", "Linear", "kernel_lower_bound"]

Floats: TypeAlias = npt.NDArray[np.float64]


class Kernel(Protocol):
    """A positive semidefinite kernel."""

    def diagonal(self, points: Any) -> Floats:
        """Values k(x, x) of all rows, (n,)."""

    def matrix(self, left: Any, right: Any) -> Floats:
        """K of all pairs of rows, (n, m)."""


@dataclass(frozen=True, slots=True)
class Linear:
    """k(x, y) = x.y."""

    def diagonal(self, points: Any) -> Floats:
        """Squared norms."""
        return _squares(points)

    def matrix(self, left: Any, right: Any) -> Floats:
        """Inner products."""
        return _product(left, right)


@dataclass(frozen=True, slots=True)
class RBF:
    """k(x, y) = exp(-gamma |x - y|^2), whose images all have length 1.

    Parameters
    ----------
    gamma : float
        Positive.
    """

    gamma: float

    def __post_init__(self) -> None:
        gamma = check_real(self.gamma, "gamma")
        if gamma <= 0.0:
            raise ValueError(f"gamma = {gamma:g} is not positive")
        object.__setattr__(self, "gamma", gamma)

    def diagonal(self, points: Any) -> Floats:
        """Ones."""
        return np.ones(points.shape[0])

    def matrix(self, left: Any, right: Any) -> Floats:
        """Exponentials of squared distances."""
        squared = _squares(left)[:, None] + _squares(right)[None, :] - 2.0 * _product(left, right)
        return np.asarray(np.exp(-self.gamma * np.maximum(squared, 0.0)))


def _squares(points: Any) -> Floats:
    if isinstance(points, np.ndarray):
        return np.einsum("ij,ij->i", points, points, dtype=np.float64)
    return np.asarray(points.multiply(points).sum(axis=1), dtype=np.float64).reshape(-1)


def _product(left: Any, right: Any) -> Floats:
    product = left @ right.T
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray(), dtype=np.float64)


def kernel_lower_bound(
    data: LabelledSet, objective: SVMObjective, kernel: Kernel, *, rng: Rng, block: int = 64
) -> float:
    """Certified lower bound on the optimum of a kernel machine, in O(n block) kernel values.

    The dual point is constant within each class, with equal sums over both. Its vector is a sum over random
    blocks of points, and the triangle inequality bounds its norm by the norms of the parts, so that only
    kernel values within blocks are needed.

    Parameters
    ----------
    data : LabelledSet
        n points.
    objective : SVMObjective
        Any of its intercepts: the dual point is feasible for all of them.
    kernel : Kernel
        The kernel.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Order of the points; the bound is valid for each.
    block : int
        Points a block, at least 2; larger ones give better bounds.

    Returns
    -------
    float
        Positive, and at most the optimum.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import RBF, LabelledSet, SVMObjective, kernel_lower_bound
    >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> data = LabelledSet(points, [0, 0, 1, 1])
    >>> kernel_lower_bound(data, SVMObjective(), RBF(1.0), rng=0) > 0.5
    True
    """
    block = check_integer(block, "block", at_least=2)
    masses = np.asarray(data.class_weights)
    present = masses[masses > 0.0]
    if present.size == 1 and objective.intercept.free:
        raise AssumptionError(
            "one class has no mass: with a free intercept the optimum is 0; pass both classes"
        )
    signs = data.signs.astype(np.float64)
    shares = signs * data.weights / np.where(masses > 0.0, masses, np.inf)[(data.signs > 0).astype(np.intp)]
    order = resolve_rng(rng).permutation(data.n)
    length = 0.0
    with one_blas_thread():
        for start in range(0, data.n, block):
            rows = order[start : start + block]
            points, part = data.points[rows], shares[rows]
            length += float(np.sqrt(max(0.0, part @ kernel.matrix(points, points) @ part)))
    if present.size == 1:  # the constant coordinate does not cancel
        length = float(np.hypot(length, objective.intercept.scale))
    # Kernel values are off by some units in the last place, for distances of far points by more.
    length = length * (1.0 + 1e-9) + 1e-9
    common = min(objective.lam * float(present.min()), present.size / length**2)
    return float((present.size * common - 0.5 * (common * length) ** 2) * (1.0 - 1e-9))
