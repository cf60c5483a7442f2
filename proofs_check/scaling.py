"""Measured sizes beside proved ones, and the exponents with which both grow.

Slack in a size formula is invisible to any test of its promise: a bound ten times too large is
still kept. What an experiment can show is the *rate*. For sums of squares under draws with
replacement, where the worst query is known exactly, this module finds the smallest size whose
(1 - delta)-quantile of the error meets epsilon, for several epsilon and several dimensions, and
fits the exponents in 1/epsilon and in d.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim
from coresets.guarantees import MatrixChernoff, SubspaceClass
from coresets.samplers import IID
from coresets.sensitivity import leverage_scores
from coresets.weighted_set import WeightedSet
from proofs_check.checks._common import DELTA, DrawTrial
from proofs_check.queries import SquaresWorst
from proofs_check.results import ScalingFit
from proofs_check.workloads import Workload, leading

__all__ = ["smallest_sizes", "vary_dimension", "vary_epsilon"]

Floats = npt.NDArray[np.float64]

_EPSILONS = (0.8, 0.6, 0.45, 0.35, 0.25)
_DIMENSIONS = (4, 8, 12, 16, 24, 32)


def smallest_sizes(
    data: WeightedSet, epsilons: npt.ArrayLike, *, trials: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Smallest measured and proved sizes of a least-squares coreset for each epsilon.

    Parameters
    ----------
    data : WeightedSet
        The points.
    epsilons : array-like
        Errors to be met with probability 1 - delta.
    trials : int
        Draws per size.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    tuple of array
        Measured sizes, interpolated between sizes in ratio 2^(1/2) in logarithmic coordinates,
        and the sizes of the matrix Chernoff bound.
    """
    scores = np.asarray(leverage_scores(data.points, data.weights))
    total = float(scores.sum())
    claim = Claim(MatrixChernoff(), SubspaceClass(total, round(total)))
    proved = np.array([claim.size(Accuracy(float(e), DELTA)) for e in np.asarray(epsilons)], dtype=np.float64)
    error = SquaresWorst(data)
    # The measured size is below the proved one and above the rank; the grid covers that range.
    steps = int(np.ceil(2.0 * np.log2(proved.max() / max(total, 1.0)))) + 1
    sizes = np.unique(np.round(max(total, 1.0) * 2.0 ** (0.5 * np.arange(steps))).astype(int))
    quantiles = []
    for size, child in zip(sizes, rng.spawn(sizes.size), strict=True):
        trial = DrawTrial(IID(), scores, int(size), error)
        quantiles.append(np.quantile([trial(c) for c in child.spawn(trials)], 1.0 - DELTA))
    # Monotone envelope: a larger size that is worse by chance does not count.
    envelope = np.maximum.accumulate(np.array(quantiles)[::-1])[::-1]
    order = np.argsort(envelope)
    measured = np.exp(np.interp(np.log(epsilons), np.log(envelope[order]), np.log(sizes[order])))
    return measured, proved


def _slope(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _fit(workload: str, variable: str, values: Floats, measured: Floats, proved: Floats) -> ScalingFit:
    return ScalingFit(
        key=MatrixChernoff.key,
        workload=workload,
        variable=variable,
        values=tuple(float(v) for v in values),
        measured=tuple(float(v) for v in measured),
        proved=tuple(float(v) for v in proved),
        measured_exponent=_slope(values, measured),
        proved_exponent=_slope(values, proved),
    )


def vary_epsilon(workload: Workload, *, trials: int, rng: np.random.Generator) -> ScalingFit:
    """Sizes against 1/epsilon on eight columns of one data set; theory says exponent 2."""
    workload = leading(workload, 8)
    measured, proved = smallest_sizes(workload.data, _EPSILONS, trials=trials, rng=rng)
    return _fit(workload.name, "1/epsilon", 1.0 / np.array(_EPSILONS), measured, proved)


def vary_dimension(workload: Workload, *, trials: int, rng: np.random.Generator) -> ScalingFit:
    """Sizes against the number of columns at epsilon = 0.5; theory says d log d."""
    dimensions = np.array([d for d in _DIMENSIONS if d <= workload.d], dtype=np.float64)
    pairs = [
        smallest_sizes(leading(workload, int(d)).data, [0.5], trials=trials, rng=child)
        for d, child in zip(dimensions, rng.spawn(dimensions.size), strict=True)
    ]
    measured, proved = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
    return _fit(workload.name, "d", dimensions, measured, proved)
