"""Bounds on the sensitivities of the logistic loss: LG by norms, LG-M by complexity and Lewis weights.

The sensitivity of a point is the largest share lam u ln(1 + exp(-margin)) / F that its loss can have in the
objective, the regulariser included. The bounds by norms need a *lower* bound o on the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_real
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantee import Claim, SamplingGuarantee, Scheme
from coresets.guarantees import (
    LogisticClass,
    LogisticComplexityIID,
    LogisticComplexityPoisson,
    LogisticNormIID,
    LogisticNormPoisson,
)
from coresets.logistic._pass import blocks, entropies, images, row_norms
from coresets.logistic.certificate import logistic_lower_bound
from coresets.logistic.complexity import complexity, signed_rows
from coresets.logistic.objective import LogisticObjective
from coresets.sensitivity import Sensitivities, lewis_weights
from coresets.svm.data import LabelledSet
from coresets.svm.kernels import Kernel

__all__ = ["ComplexityShares", "LogisticShares", "NormShares", "kernel_logistic_bound"]

Floats: TypeAlias = npt.NDArray[np.float64]

_LN2 = float(np.log(2.0))
_PARTS = "parts of the bounds"


class LogisticShares(Protocol):
    """A way to bound sensitivities, and the theorem that turns them into a size."""

    def sensitivities(self, data: LabelledSet, objective: LogisticObjective, rng: Rng) -> Sensitivities:
        """Bounds on the share of every point's loss in the objective."""

    def claim(self, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """Theorem and parameters for a scheme; ``AssumptionError`` if none covers it."""


def _parts(values: list[Floats]) -> Certificate:
    """What the parts of the bounds add up to; the theorems need their shares."""
    sums = {f"part {k}": float(part.sum()) for k, part in enumerate(values)}
    return Certificate(
        _PARTS, "the bounds are sums of parts with these totals", sum(sums.values()), None, 1.0, sums
    )


def _class_of(sensitivities: Sensitivities) -> LogisticClass:
    """Parameters of the theorems, from the bounds and the evidence that came with them."""
    for evidence in sensitivities.certificates:
        if evidence.name == _PARTS:
            # Mixing may have been added since; rounding must not bring the sum of the shares above 1.
            total = max(sensitivities.total, evidence.value)
            shares = tuple(part / total for part in evidence.details.values() if part > 0.0)
            return LogisticClass(sensitivities.total, shares)
    raise AssumptionError(
        "the bounds do not say of which parts they are sums; pass those of NormShares or ComplexityShares"
    )


def _covered(
    claims: dict[Scheme, SamplingGuarantee[LogisticClass]], bounds: Sensitivities, scheme: Scheme
) -> Claim:
    if scheme not in claims:
        raise AssumptionError(
            f"no theorem promises a coreset of a logistic regression by {scheme.value}; use IID or Poisson"
        )
    return Claim(claims[scheme], _class_of(bounds))


@dataclass(frozen=True)
class NormShares:
    """LG: lam u (ln 2 / o + sqrt(2/o) |z|), free of the dimension, with or without a kernel.

    Parameters
    ----------
    kernel : Kernel, optional
        The linear one by default.
    low : float, optional
        A lower bound o on the optimum that is known already, positive.
    pilot : int
        Points of the pilot whose model gives the lower bound otherwise, at least 2; not used by kernels.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    kernel: Kernel | None = None
    low: float | None = None
    pilot: int = 2000

    def __post_init__(self) -> None:
        object.__setattr__(self, "pilot", check_integer(self.pilot, "pilot", at_least=2))
        if self.low is not None:
            low = check_real(self.low, "low")
            if low <= 0.0:
                raise ValueError(f"low = {low:g} is not positive; pass a lower bound on the optimum")
            object.__setattr__(self, "low", low)

    def sensitivities(self, data: LabelledSet, objective: LogisticObjective, rng: Rng) -> Sensitivities:
        """Bounds from norms; with a free intercept, from distances to the mean and the lighter class.

        Raises
        ------
        AssumptionError
            If the intercept is free and a class has no mass: the optimum is 0 then.
        """
        lightest = min(data.class_weights)
        if objective.intercept.free and lightest == 0.0:
            raise AssumptionError(
                "one class has no mass: with a free intercept the optimum is 0, and no bound on shares "
                "exists; pass both classes, or a RegularisedIntercept()"
            )
        low = self.low
        if low is None and self.kernel is None:
            low = logistic_lower_bound(data, objective, rng=rng, pilot=self.pilot)
        elif low is None:
            assert self.kernel is not None
            low = kernel_logistic_bound(data, objective, self.kernel, rng=rng)
        lam, slope = objective.lam, float(np.sqrt(2.0 / low))
        norms, radius = self._norms(data, objective)
        caps = lam * data.weights
        parts = [caps * (_LN2 / low), caps * slope * norms]
        if objective.intercept.free:
            parts.append(caps * (1.0 / (lam * lightest) + slope * radius))
        evidence = (
            Certificate("optimum from below", "every model has at least this objective on all the data", low),
            _parts(parts),
        )
        # Not capped: the theorem needs them as bounds on norms as well.
        return Sensitivities(np.sum(parts, axis=0), evidence)

    def _norms(self, data: LabelledSet, objective: LogisticObjective) -> tuple[Floats, float]:
        """Norms of the (lifted, or centred) images, and a bound on those of the two class means."""
        intercept, weights = objective.intercept, data.weights
        sides = [np.where(data.signs == sign, weights, 0.0) for sign in (-1, 1)]
        if self.kernel is not None:
            norms = np.sqrt(np.asarray(self.kernel.diagonal(data.points)) + intercept.scale**2)
            return norms, max(float(side @ norms) / max(side.sum(), 1e-300) for side in sides)
        if not intercept.free:
            return np.hypot(row_norms(data.points), intercept.scale), 0.0
        sums = [np.asarray(data.points.T @ side, dtype=np.float64).reshape(-1) for side in sides]
        centre = (sums[0] + sums[1]) / data.total_weight
        means = [total / side.sum() - centre for total, side in zip(sums, sides, strict=True)]
        radius = max(float(np.linalg.norm(mean)) for mean in means) * (1.0 + 1e-9)
        if isinstance(data.points, np.ndarray):
            out = np.empty(data.n)
            for rows in blocks(data.n):
                out[rows] = np.linalg.norm(np.asarray(data.points[rows], dtype=np.float64) - centre, axis=1)
            return out, radius
        # |x - c|^2 from inner products, rounded up by what the subtraction loses.
        squares, cross = np.square(row_norms(data.points)), images(data.points, centre, 0.0)
        slack = 8.0 * (data.d + 4) * float(np.finfo(np.float64).eps) * (squares + float(centre @ centre))
        return np.sqrt(np.maximum(squares - 2.0 * cross + float(centre @ centre), 0.0) + slack), radius

    def claim(self, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """LG with replacement, LG-P for Poisson sampling."""
        by_scheme: dict[Scheme, SamplingGuarantee[LogisticClass]] = {
            Scheme.WITH_REPLACEMENT: LogisticNormIID(),
            Scheme.POISSON: LogisticNormPoisson(),
        }
        return _covered(by_scheme, sensitivities, scheme)


@dataclass(frozen=True)
class ComplexityShares:
    """LG-M: (1 + mu) (u / (2 U) + tau), with tau the l1 Lewis weights; for any regulariser, or none.

    Parameters
    ----------
    mu : float, optional
        Complexity of the data that are reduced, or a bound on it, at least 1; computed by default. A bound
        for other data, such as all of a stream, proves nothing about a part.

    Raises
    ------
    ValueError
        If ``mu`` is below 1.
    """

    mu: float | None = None

    def __post_init__(self) -> None:
        if self.mu is not None:
            mu = check_real(self.mu, "mu")
            if mu < 1.0:
                raise ValueError(f"mu = {mu:g} is below 1, the complexity of classes that are alike")
            object.__setattr__(self, "mu", mu)

    def sensitivities(self, data: LabelledSet, objective: LogisticObjective, rng: Rng) -> Sensitivities:
        """Bounds from the complexity and Lewis weights; the price lam does not matter.

        Raises
        ------
        AssumptionError
            If ``mu`` is to be computed and the classes are separable.
        """
        has_b = objective.intercept.free or objective.intercept.scale > 0.0
        evidence: tuple[Certificate, ...] = ()
        mu = self.mu
        if mu is None:
            found = complexity(data, intercept=has_b)
            mu, evidence = found.mu, (found.as_certificate(),)
        lewis = lewis_weights(signed_rows(data, intercept=has_b), data.weights, p=1.0)
        parts = [
            (1.0 + mu) * data.weights / (2.0 * data.total_weight),
            (1.0 + mu) * np.asarray(lewis.values),
        ]
        return Sensitivities(parts[0] + parts[1], (*evidence, *lewis.certificates, _parts(parts)))

    def claim(self, sensitivities: Sensitivities, scheme: Scheme) -> Claim:
        """LG-M with replacement, LG-MP for Poisson sampling."""
        by_scheme: dict[Scheme, SamplingGuarantee[LogisticClass]] = {
            Scheme.WITH_REPLACEMENT: LogisticComplexityIID(),
            Scheme.POISSON: LogisticComplexityPoisson(),
        }
        return _covered(by_scheme, sensitivities, scheme)


def kernel_logistic_bound(
    data: LabelledSet, objective: LogisticObjective, kernel: Kernel, *, rng: Rng, block: int = 64
) -> float:
    """Certified lower bound on the optimum of a kernel logistic regression, in O(n block) kernel values.

    The dual point is constant within each class, with equal sums over both, so it is feasible for every
    intercept. The triangle inequality over random blocks of points bounds the norm of its vector.

    Parameters
    ----------
    data : LabelledSet
        n points, of both classes.
    objective : LogisticObjective
        The problem.
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

    Raises
    ------
    AssumptionError
        If a class has no mass.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.logistic import LogisticObjective, kernel_logistic_bound
    >>> from coresets.svm import RBF, LabelledSet
    >>> data = LabelledSet(np.array([[0.0], [0.1], [5.0], [5.1]]), [0, 0, 1, 1])
    >>> 0.5 < kernel_logistic_bound(data, LogisticObjective(), RBF(1.0), rng=0) < 2.7726  # 4 ln 2
    True
    """
    block = check_integer(block, "block", at_least=2)
    masses = np.asarray(data.class_weights)
    if masses.min() == 0.0:
        raise AssumptionError("one class has no mass; pass both classes, or a lower bound as low=...")
    shares = data.signs * data.weights / masses[(data.signs > 0).astype(np.intp)]
    order = resolve_rng(rng).permutation(data.n)
    length = 0.0
    for start in range(0, data.n, block):
        rows = order[start : start + block]
        points, part = data.points[rows], shares[rows]
        length += float(np.sqrt(max(0.0, part @ kernel.matrix(points, points) @ part)))
    # Kernel values are off by some units in the last place, for distances of far points by more.
    length = length * (1.0 + 1e-9) + 1e-9
    caps = objective.lam * masses
    sums = np.geomspace(1e-6, 1.0, 400) * caps.min()  # any of them is feasible
    gains = (caps * entropies(sums[:, None] / caps)).sum(axis=1)
    return float(np.max(gains - 0.5 * np.square(sums * length))) * (1.0 - 1e-9)
