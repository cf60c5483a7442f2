"""Attacks on the guarantees for all queries at once: E2, E4, E4-P, MC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from coresets.guarantee import Claim
from coresets.guarantees import VCIID, LipschitzIID, LipschitzPoisson, MatrixChernoff, SubspaceClass, VCClass
from coresets.l1_regression import L1Regression
from coresets.least_squares import LeastSquares
from coresets.reduction import SensitivityReducer
from coresets.residuals import residual_rows
from coresets.samplers import IID, FixedSize, Poisson, Sampler
from coresets.sensitivity import leverage_scores
from coresets.weighted_set import WeightedSet
from proofs_check import faults
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import drawn_scenario, first_size_below, largest_useful_size
from proofs_check.checks.reducers import UNSCALED, reducer_scenario
from proofs_check.faults import Draws
from proofs_check.queries import AbsoluteWorst, HalfLineWorst, SquaresWorst
from proofs_check.testing import WorstAbsolute, WorstSquares
from proofs_check.workloads import Workload, leading, thinned

__all__ = ["CHECKS"]

_FEWEST = 20
_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM])


def _broken(sampler: Sampler) -> tuple[tuple[str, Draws], ...]:
    return ((faults.UNDIVIDED[0], faults.Undivided(sampler)), (faults.UNIFORM[0], faults.Uniform(sampler)))


def _half_lines(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    """Masses of half-lines that hold half the total: f is 1 or 0, so s = 2 w/U, t = 2 and D = 1.

    The masses are made uneven, a point of rank i weighing 1/i^2, so that draws must be too.
    """
    for workload in workloads:
        if workload.n < _FEWEST or workload.kind == "degenerate":
            continue
        data = workload.data
        # Stride through the points, lest the weights follow the order of the file.
        ranks = (np.arange(data.n) * 7919) % data.n + 1
        weights = (
            np.asarray(data.weights) / ranks**2.0 if workload.kind == "real" else np.asarray(data.weights)
        )
        line = WeightedSet(np.asarray(data.points)[:, :1], weights)
        shown = Workload(f"{workload.name}, one feature", workload.kind, line)
        claim = Claim(VCIID(), VCClass(total_sensitivity=2.0, dimension=1))
        values = 2.0 * weights / weights.sum()
        yield drawn_scenario(
            shown, claim, IID(), values, HalfLineWorst(line), _broken(IID()), size=largest_useful_size(data.n)
        )


def _absolute(sampler: Sampler) -> Callable[[Sequence[Workload], Profile], Iterable[Scenario]]:
    loss = L1Regression()

    def scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
        for workload in workloads:
            if workload.n < _FEWEST:
                continue
            # Sizes grow with the square of the rank: two columns where points are few, else three.
            columns = workload.d if workload.kind == "adversarial" else 2 if workload.n < 1000 else 3
            # The search visits every point at every step, the exact one every pair.
            shown = thinned(leading(workload, columns), profile.max_points // 2)
            data = WeightedSet(shown.data.points, shown.data.weights)
            bounds = loss.sensitivities(data)
            claim = loss.claim(data, bounds, sampler.scheme)
            size = first_size_below(claim, 0.5, data.n)
            error = AbsoluteWorst(data)
            yield drawn_scenario(shown, claim, sampler, bounds.values, error, _broken(sampler), size=size)

    return scenarios


def _absolute_poisson(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    yield from _absolute(Poisson())(workloads, profile)
    large = [w for w in workloads if w.kind == "real" and w.n >= 1000][:1]
    for workload in large + [w for w in workloads if w.kind == "real" and w.n >= _FEWEST and _is_weighted(w)]:
        data = WeightedSet(workload.data.points[:, :2], workload.data.weights)
        shown = Workload(f"{workload.name}, first 2", workload.kind, data)
        yield reducer_scenario(shown, SensitivityReducer(L1Regression()), WorstAbsolute(data), 0.5)


def _is_weighted(workload: Workload) -> bool:
    return bool(np.ptp(np.asarray(workload.data.weights)) > 0.0)


def _embedding(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    samplers: dict[str, Sampler] = {"iid": IID(), "Poisson": Poisson(), "fixed size": FixedSize()}
    for workload in workloads:
        if workload.n < _FEWEST:
            continue
        data = workload.data
        scores = np.asarray(leverage_scores(data.points, data.weights))
        rank = int(
            np.linalg.matrix_rank(np.asarray(data.points) * np.sqrt(np.asarray(data.weights))[:, None])
        )
        claim = Claim(MatrixChernoff(), SubspaceClass(float(scores.sum()), rank))
        error = SquaresWorst(data)
        size = first_size_below(claim, 0.3, data.n)
        for name, sampler in samplers.items():
            shown = Workload(f"{workload.name}, {name}", workload.kind, data)
            broken = _broken(sampler)
            if name == "fixed size":
                broken = (*broken, (faults.SUCCESSIVE[0], faults.Successive()))
            yield drawn_scenario(shown, claim, sampler, scores, error, broken, size=size)
        if workload.kind == "real":
            loss = LeastSquares(intercept=True)
            rows = WeightedSet(residual_rows(data, intercept=True), data.weights)
            yield reducer_scenario(workload, SensitivityReducer(loss, FixedSize()), WorstSquares(rows), 0.3)


CHECKS = (
    Check(VCIID(), "all half-lines with at least half the mass, exactly, by sorting", _WEIGHING, _half_lines),
    Check(
        LipschitzIID(),
        "all sums of |p.x|: every ray in two dimensions, else ascent",
        _WEIGHING,
        _absolute(IID()),
    ),
    Check(
        LipschitzPoisson(),
        "all sums of |p.x|: every ray in two dimensions, else ascent",
        _WEIGHING | dict([UNSCALED]),
        _absolute_poisson,
    ),
    Check(
        MatrixChernoff(),
        "all sums of squares, exactly, by eigenvalues",
        _WEIGHING | dict([faults.SUCCESSIVE, UNSCALED]),
        _embedding,
    ),
)
