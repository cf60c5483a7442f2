"""Attacks on the guarantees of ridge regression: RL and MC-R."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.guarantee import Claim
from coresets.guarantees import RidgeClass, RidgeLeverage, RidgeMatrixChernoff
from coresets.ridge import RidgeRegression
from coresets.samplers import IID, FixedSize, Poisson, Sampler
from coresets.sensitivity import leverage_scores
from coresets.weighted_set import WeightedSet, to_host
from proofs_check import faults
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import drawn_scenario, first_size_below
from proofs_check.checks._geometry import certain, renamed
from proofs_check.faults import Draws, PlainDraw
from proofs_check.oracles import largest_square_shares, orthonormal_columns
from proofs_check.workloads import Workload, thinned

__all__ = ["CHECKS"]

Floats: TypeAlias = npt.NDArray[np.float64]

_FEWEST = 20
_PRICES = (0.01, 1.0)  # penalties, as multiples of the mean squared singular value


def _bare(workload: Workload) -> WeightedSet:
    return WeightedSet(
        np.asarray(workload.data.points, dtype=np.float64),
        np.asarray(workload.data.weights, dtype=np.float64),
    )


def _priced(workloads: Sequence[Workload], points: int) -> Iterator[tuple[Workload, WeightedSet, float]]:
    """The sets without their labels, with penalties to scale."""
    for workload in workloads:
        shown = thinned(workload, points)
        data = _bare(shown)
        squares = np.asarray(data.weights) @ np.square(np.asarray(data.points)).sum(axis=1)
        for price in _PRICES:
            penalty = price * float(squares) / data.d or 1.0
            yield renamed(shown, f"penalty {price:g}"), data, penalty


# RL


def _with_penalty(data: WeightedSet, penalty: float) -> WeightedSet:
    """The penalty as rows of data."""
    points = np.vstack([np.asarray(data.points), np.eye(data.d)])
    return WeightedSet(points, np.append(np.asarray(data.weights), np.full(data.d, penalty)))


@dataclass(frozen=True)
class OverShares:
    """Largest ratio of an attained share to its claimed bound; and of the totals, one to the other."""

    data: WeightedSet
    penalty: float

    def __call__(self, claimed: Floats) -> float:
        shares = largest_square_shares(_with_penalty(self.data, self.penalty))[: self.data.n]
        seen = shares > 0.0
        if not seen.any():
            return 0.0
        with np.errstate(divide="ignore"):
            return float(np.max(shares[seen] / claimed[seen]))


def _scores(data: WeightedSet, penalty: float) -> Floats:
    return np.asarray(RidgeRegression(penalty).sensitivities(data).values)


def _unweighted(data: WeightedSet, penalty: float) -> Floats:
    mean = float(np.asarray(data.weights).mean())
    return mean * _scores(WeightedSet(data.points), penalty)


def _without_root(data: WeightedSet, penalty: float) -> Floats:
    """The penalty enters the rows where its square root belongs."""
    rows = np.vstack([np.asarray(data.points), penalty * np.eye(data.d)])
    return np.asarray(leverage_scores(rows, np.append(np.asarray(data.weights), np.ones(data.d))))[: data.n]


def _shares(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for shown, data, penalty in _priced(workloads, 1000):
        broken = {_DOUBLED[0]: partial(_scores, data, 2.0 * penalty)}
        if float(np.ptp(np.asarray(data.weights))) > 0.0:
            broken[_IGNORED[0]] = partial(_unweighted, data, penalty)
        if penalty > 4.0:
            broken[_ROOT[0]] = partial(_without_root, data, penalty)
        yield certain(shown, partial(_scores, data, penalty), OverShares(data, penalty), broken, note=_NOTE)


_NOTE = "largest share over bound; 1 is attained, more refutes"
_DOUBLED = ("penalty counted twice", "scores for twice the penalty, as if data and coreset each paid it")
_IGNORED = ("weights ignored", "scores of the points with one common weight")
_ROOT = ("penalty not rooted", "rows for the penalty that are not divided by its square root")

# MC-R


@dataclass(frozen=True, eq=False)
class RidgeWorst:
    """All penalised sums of squares at once, by eigenvalues."""

    data: WeightedSet
    penalty: float
    rows: Floats = field(init=False)

    def __post_init__(self) -> None:
        both = _with_penalty(self.data, self.penalty)
        scaled = np.asarray(both.points) * np.sqrt(np.asarray(both.weights))[:, None]
        object.__setattr__(self, "rows", orthonormal_columns(scaled))

    def __call__(self, indices: npt.NDArray[np.intp], factors: Floats) -> float:
        """Largest relative error of the coreset, with the exact penalty."""
        kept, penalised = self.rows[indices], self.rows[self.data.n :]
        sums = kept.T @ (factors[:, None] * kept) + penalised.T @ penalised
        return float(np.max(np.abs(np.linalg.eigvalsh(sums) - 1.0)))


@dataclass(frozen=True)
class Normalised:
    """Weights are divided by their sum, and the penalty is not."""

    sampler: Draws

    def draw(self, sensitivities: Any, size: int, rng: Any) -> PlainDraw:
        """Draw honestly, weigh wrongly."""
        draw = self.sampler.draw(sensitivities, size, rng)
        weights = np.asarray(to_host(draw.kept_weights), dtype=np.float64)
        return PlainDraw(to_host(draw.indices), weights / max(float(weights.sum()), 1e-300))


_NORMALISED = ("weights normalised", "the weights add up to 1, beside the penalty for the whole")


def _embedding(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    samplers: dict[str, Sampler] = {"iid": IID(), "Poisson": Poisson(), "fixed size": FixedSize()}
    usable = [w for w in workloads if w.n >= _FEWEST and np.any(np.asarray(w.data.points) != 0.0)]
    for shown, data, penalty in _priced(usable, profile.max_points):
        scores = _scores(data, penalty)
        claim = Claim(RidgeMatrixChernoff(), RidgeClass(float(scores.sum()), float(scores.sum())))
        error = RidgeWorst(data, penalty)
        size = first_size_below(claim, 0.3, data.n)
        for name, sampler in samplers.items():
            broken = (
                (faults.UNDIVIDED[0], faults.Undivided(sampler)),
                (faults.UNIFORM[0], faults.Uniform(sampler)),
                (_NORMALISED[0], Normalised(sampler)),
            )
            workload = renamed(shown, name)
            yield drawn_scenario(workload, claim, sampler, scores, error, broken, size=size)


CHECKS = (
    Check(
        RidgeLeverage(),
        "the maximising query of every point, in closed form",
        dict([_DOUBLED, _IGNORED, _ROOT]),
        _shares,
    ),
    Check(
        RidgeMatrixChernoff(),
        "all penalised sums of squares, exactly, by eigenvalues",
        dict([faults.UNDIVIDED, faults.UNIFORM, _NORMALISED]),
        _embedding,
    ),
)
