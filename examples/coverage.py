"""How often certificates hold over fresh draws from a known pool, beside what the theory says.

The test images are taken for all inputs there are, so that the true probability behind each certificate
is a count. Every repetition draws its calibration or certification images anew, independently and with
replacement. The number of repetitions and the critical count are those of an exact binomial test with
both error rates fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import beta, binom

import nn
from examples.certificate_bounds import ALPHA, BETA
from examples.images import ImageSet
from examples.records import Record
from examples.trained import batches
from nn.calibration import Calibration, observe
from nn.certify import ClassChange, Conformal, OutputDifference, OutputError, errors_on
from nn.certify.conformal import RatioCollector, floored
from nn.guarantees import ConformalFactor, HeldOutLimit
from nn.layers import find_layers
from nn.sensitivities import EdgeSensitivities, collect_sensitivities
from proofs_check.design import Design, clopper_pearson

__all__ = [
    "FALSE_ALARM",
    "MISS",
    "Ratios",
    "coverage",
    "factors_given",
    "factors_over_all",
    "held_out_limits",
]

Floats = npt.NDArray[np.float64]

FALSE_ALARM, MISS = 1e-3, 0.05
_EXAMPLES = 200
# A claimed failure rate, and the one that the test has to see.
_DETECT = {0.05: 0.08, 0.1: 0.14}


@dataclass(frozen=True, eq=False)
class Ratios:
    """Ratios of shares to sensitivities of every image of a pool, and what they never exceed."""

    pool: Floats
    largest: float

    @classmethod
    def of(cls, network: torch.nn.Module, images: ImageSet) -> Ratios:
        """Sensitivities from the calibration images, with a floor; the pool is the test images."""
        layers = find_layers(network)
        found = collect_sensitivities(network, layers, batches(images.calibration))
        return cls.with_floor(
            network, {n: floored(found[n], layers[n], Conformal().floor) for n in layers}, images.test[0]
        )

    @classmethod
    def with_floor(
        cls, network: torch.nn.Module, found: dict[str, EdgeSensitivities], pool: torch.Tensor
    ) -> Ratios:
        """From sensitivities that have their floor."""
        layers = find_layers(network)
        collectors = {name: RatioCollector(found[name]) for name in layers}
        observe(network, layers, Calibration.of(pool.split(512)), collectors)
        ratios = torch.stack([one.ratios() for one in collectors.values()]).amax(dim=0)
        least = min(float(one.values[one.values > 0.0].min()) for one in found.values())
        return cls(np.asarray(ratios), 1.0 / least)

    def factor(self, chosen: npt.NDArray[np.int64], confidence: float | None) -> float:
        """The factor that these images of the pool give."""
        return ConformalFactor().factor(self.pool[chosen], self.largest, ALPHA, confidence)

    def law(self, n: int, k: int) -> tuple[Floats, Floats]:
        """Shares that the k-th smallest of n draws may cover, and their probabilities, exactly."""
        _, counts = np.unique(self.pool, return_counts=True)
        covered = np.cumsum(counts) / len(self.pool)
        return covered, np.diff(binom.sf(k - 1, n, covered), prepend=0.0)

    def beyond(self, factor: float) -> float:
        """Share of the pool that the factor does not cover."""
        return float(np.mean(self.pool > factor))


def factors_over_all(ratios: Ratios, rng: np.random.Generator, n: int) -> Record:
    """The first form: one further image a repetition, which the factor covers or not."""
    size, design, k = len(ratios.pool), _designed(ALPHA), ConformalFactor().rank(n, ALPHA)
    covered, failed = [], 0
    for child in rng.spawn(design.trials):
        factor = ratios.factor(child.integers(size, size=n), None)
        covered.append(1.0 - ratios.beyond(factor))
        failed += bool(ratios.pool[child.integers(size)] > factor)
    shares, chances = ratios.law(n, k)
    law, exact = beta(k, n + 1 - k), float((1.0 - shares) @ chances)
    return _record(
        ("factor over all inputs", n, design), failed, (1.0 - law.mean(), exact), _law(law), covered
    )


def factors_given(ratios: Ratios, rng: np.random.Generator, n: int) -> Record:
    """The second form: the share of the pool that the factor covers, which is enough or not."""
    size, design, k = len(ratios.pool), _designed(BETA), ConformalFactor().rank(n, ALPHA, 1.0 - BETA)
    covered = [
        1.0 - ratios.beyond(ratios.factor(child.integers(size, size=n), 1.0 - BETA))
        for child in rng.spawn(design.trials)
    ]
    # Coverages are multiples of one over the size of the pool: no rounding decides.
    failed = sum(share < 1.0 - ALPHA - 1e-9 for share in covered)
    shares, chances = ratios.law(n, k)
    law, exact = beta(k, n + 1 - k), float(chances[shares < 1.0 - ALPHA - 1e-9].sum())
    return _record(
        ("factor given the inputs", n, design), failed, (law.cdf(1.0 - ALPHA), exact), _law(law), covered
    )


def _law(law: Any) -> tuple[float, float]:
    """Mean and spread of the share of inputs that a factor covers, for ratios with a density."""
    return float(law.mean()), float(law.std())


def held_out_limits(
    network: torch.nn.Module,
    pruned: torch.nn.Module,
    images: ImageSet,
    rng: np.random.Generator,
    n: int = _EXAMPLES,
) -> Iterator[Record]:
    """Limits for the norm of the output difference and for a change of class."""
    size, design = len(images.test[0]), _designed(BETA)
    known = errors_on(network, pruned, batches(images.calibration), OutputDifference())
    epsilon = float(np.quantile(known, 0.9))
    cases: Sequence[tuple[str, OutputError, float]] = (
        ("held-out, norm", OutputDifference(), epsilon),
        ("held-out, class", ClassChange(), 0.0),
    )
    for name, error, threshold in cases:
        rate = float((errors_on(network, pruned, batches(images.test), error) > threshold).double().mean())
        limits = []
        for child in rng.spawn(design.trials):
            chosen = torch.from_numpy(child.integers(size, size=n))
            found = nn.held_out(
                network, pruned, [images.test[0][chosen]], error, epsilon=threshold, confidence=1.0 - BETA
            )
            limits.append(found.violation)
        failed = sum(limit < rate for limit in limits)
        # The limit grows with the count, so it falls short for counts below the first that suffices.
        theory = [HeldOutLimit().limit(count, n, 1.0 - BETA) for count in range(n + 1)]
        short = sum(limit < rate for limit in theory)
        law = binom(n, rate).pmf(range(n + 1))
        exact = float(law[:short].sum())
        mean = float(law @ theory)
        spread = math.sqrt(float(law @ np.square(theory)) - mean**2)
        record = _record((name, n, design), failed, (exact, exact), (mean, spread), limits)
        yield record | {"rate": rate}


def coverage(
    network: torch.nn.Module, pruned: torch.nn.Module, images: ImageSet, rng: np.random.Generator
) -> list[Record]:
    """All certificates whose promise is a probability, at one or two numbers of examples."""
    ratios = Ratios.of(network, images)
    children = rng.spawn(5)
    return [
        factors_over_all(ratios, children[0], 25),
        factors_over_all(ratios, children[1], _EXAMPLES),
        factors_given(ratios, children[2], 40),
        factors_given(ratios, children[3], _EXAMPLES),
        *held_out_limits(network, pruned, images, children[4]),
    ]


def _designed(delta: float) -> Design:
    return Design.plan(delta=delta, detect=_DETECT[delta], false_alarm=FALSE_ALARM, miss=MISS)


def _record(
    what: tuple[str, int, Design],
    failed: int,
    expected: tuple[float, float],
    law: tuple[float, float],
    values: Sequence[float],
) -> Record:
    """Failures against the claim and those expected; mean and spread of coverages or limits against theirs.

    Failures are expected by the theory, for a distribution without ties, and exactly for this pool.
    """
    name, n, design = what
    low, high = clopper_pearson(failed, design.trials)
    return {
        "certificate": name,
        "examples": n,
        "claimed": design.delta,
        "detect": _DETECT[design.delta],
        "trials": design.trials,
        "critical": design.critical,
        "failures": failed,
        "theory": float(expected[0]),
        "pool": float(expected[1]),
        "low": low,
        "high": high,
        "refuted": failed >= design.critical,
        "law_mean": law[0],
        "law_spread": law[1],
        "mean": float(np.mean(values)),
        "spread": float(np.std(values)),
    }
