"""Attacks on the guarantees for finitely many queries: E1, E1-KL, E1-P, E1-F, E1-H, TOP, DM.

The queries are fixed before any draw and chosen against the sampler: for the points of largest
and of median sensitivity the very query at which they matter most, the direction in which the
data are thinnest, and two random ones. An artificial family comes close to the extreme law of
the theorems, in which a scaled loss is either 0 or the total sensitivity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.finite_queries import FiniteQueries
from coresets.guarantee import Claim
from coresets.guarantees import (
    DefensiveMixing,
    FiniteClass,
    FiniteFixedSize,
    FiniteHybrid,
    FiniteIID,
    FinitePoisson,
    FiniteRelativeEntropy,
    SensitivityProfile,
    TopRemainder,
)
from coresets.reduction import SensitivityReducer
from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler, Top
from coresets.sensitivity import Sensitivities, leverage_scores
from coresets.weighted_set import WeightedSet
from proofs_check import faults
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import (
    SHRUNK,
    DrawTrial,
    InBatch,
    OnTorch,
    drawn_scenario,
    first_size_below,
    largest_useful_size,
    mean_scenario,
)
from proofs_check.checks.reducers import UNSCALED, reducer_scenario
from proofs_check.faults import Draws
from proofs_check.queries import FiniteWorst, SquaresWorst
from proofs_check.testing import WorstListed
from proofs_check.trials import ROUNDING
from proofs_check.workloads import Workload

__all__ = ["CHECKS", "squared_queries"]

Floats = npt.NDArray[np.float64]
Broken = tuple[tuple[str, Draws], ...]

_TARGET = 0.3  # epsilon that the sizes aim at, where half the points allow it
_QUERIES = "six squared linear queries, fixed beforehand against the sampler"
_FEWEST = 20  # points below which a half is no coreset

_POISSON = (
    "Poisson sampling instead of draws with replacement",
    "the sampler is one that the theorem does not cover",
)
_UNMIXED = ("no mixing", "points are drawn by their sensitivities alone")


def _hard_queries(data: WeightedSet) -> list[Floats]:
    """Coefficients at which single points weigh most, the thinnest direction, and two random ones."""
    rows = np.asarray(data.points) * np.sqrt(np.asarray(data.weights))[:, None]
    inverse = np.linalg.pinv(rows.T @ rows, hermitian=True)
    order = np.argsort(np.asarray(leverage_scores(data.points, data.weights)))
    picked = [order[-1], order[-2], order[len(order) // 2]]
    _, vectors = np.linalg.eigh(rows.T @ rows)
    thinnest = vectors[:, 0] if np.linalg.matrix_rank(rows) == data.d else vectors[:, -1]
    return [
        *(inverse @ rows[i] for i in picked),
        thinnest,
        *np.random.default_rng(0).standard_normal((2, data.d)),
    ]


def squared_queries(data: WeightedSet) -> FiniteWorst:
    """Shares of (p.x)^2 at the hard queries."""
    return FiniteWorst.of(data, [np.square(np.asarray(data.points) @ x) for x in _hard_queries(data)])


def _two_valued(n: int, queries: int) -> tuple[Workload, FiniteWorst]:
    """Queries that each see one of ``queries`` equal parts of the points: scaled loss 0 or t."""
    shares = np.kron(np.eye(queries), np.full((1, n // queries), queries / n))
    points = np.linspace(-1.0, 1.0, n)[:, None]
    return Workload(f"two-valued losses, t = {queries}", "adversarial", WeightedSet(points)), FiniteWorst(
        shares
    )


def _nearly_constant(n: int) -> tuple[Workload, FiniteWorst]:
    """Two queries whose losses differ by a fiftieth, in opposite halves: t is barely above 1."""
    losses = np.where(np.arange(n) < n // 2, 1.0, 1.02)
    workload = Workload("nearly constant losses", "adversarial", WeightedSet(losses[:, None]))
    return workload, FiniteWorst(np.stack([losses, losses[::-1]]) / losses.sum())


def _sure_points(sure: int, others: int) -> tuple[Workload, FiniteWorst]:
    """Many queries that see a single point each, and one that is spread unevenly over other points."""
    shares = np.zeros((sure + 1, sure + others))
    shares[np.arange(sure), np.arange(sure)] = 1.0
    spread = np.random.default_rng(1).random(others)
    shares[sure, sure:] = spread / spread.sum()
    points = np.linspace(-1.0, 1.0, sure + others)[:, None]
    return Workload(f"{sure} indispensable points", "adversarial", WeightedSet(points)), FiniteWorst(shares)


def _families(workloads: Sequence[Workload]) -> Iterator[tuple[Workload, FiniteWorst]]:
    for workload in workloads:
        if workload.n >= _FEWEST:
            yield workload, squared_queries(workload.data)
    yield _two_valued(2000, 8)


def _by_total(error: FiniteWorst) -> FiniteClass:
    return FiniteClass(float(error.shares.max(axis=0).sum()), error.shares.shape[0])


def _by_profile(error: FiniteWorst) -> SensitivityProfile:
    return SensitivityProfile(error.shares.max(axis=0), error.shares.shape[0])


def _attacks(
    claim: Callable[[FiniteWorst], Claim], sampler: Sampler, broken: Broken
) -> Callable[[Sequence[Workload], Profile], Iterable[Scenario]]:
    """Every family of queries, at the size that promises the target."""

    def scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
        for workload, error in _families(workloads):
            promised = claim(error)
            size = first_size_below(promised, _TARGET, workload.n)
            values = error.shares.max(axis=0)
            yield drawn_scenario(workload, promised, sampler, values, error, broken, size=size)
            yield mean_scenario(workload, promised, sampler, values, error, size=size)
        # One set is enough: what differs from the draws above is the code path.
        for workload in islice((w for w in workloads if w.kind == "real" and w.n >= _FEWEST), 1):
            yield _another_way(workload, "in a batch", claim, InBatch(sampler))
            if OnTorch.available():
                yield _another_way(workload, "tensors", claim, OnTorch(sampler))

    return scenarios


def _another_way(
    workload: Workload, way: str, claim: Callable[[FiniteWorst], Claim], sampler: Draws
) -> Scenario:
    """The same attack on a draw that takes another path through the code."""
    error = squared_queries(workload.data)
    promised = claim(error)
    return drawn_scenario(
        Workload(f"{workload.name}, {way}", workload.kind, workload.data),
        promised,
        sampler,
        error.shares.max(axis=0),
        error,
        ((faults.UNDIVIDED[0], faults.Undivided(sampler)),),
        size=first_size_below(promised, _TARGET, workload.n),
    )


def _relative_entropy(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    guarantee = FiniteRelativeEntropy()
    broken: Broken = (
        (faults.UNDIVIDED[0], faults.Undivided(IID())),
        (faults.UNIFORM[0], faults.Uniform(IID())),
    )
    yield from _attacks(lambda error: Claim(guarantee, _by_total(error)), IID(), broken)(workloads, profile)
    # Near t = 1 draws with replacement are nearly exact and the bound knows it; the number of
    # points that Poisson sampling keeps still fluctuates.
    workload, error = _nearly_constant(2000)
    claim = Claim(guarantee, _by_total(error))
    broken = ((_POISSON[0], Poisson()),)
    yield drawn_scenario(workload, claim, IID(), error.shares.max(axis=0), error, broken, size=200)


def _poisson(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    sampler = Poisson()
    broken: Broken = (
        (faults.UNDIVIDED[0], faults.Undivided(sampler)),
        (faults.UNIFORM[0], faults.Uniform(sampler)),
    )
    yield from _attacks(lambda error: Claim(FinitePoisson(), _by_total(error)), sampler, broken)(
        workloads, profile
    )
    for workload in workloads:
        if workload.kind == "real" and workload.n >= _FEWEST:
            queries = _hard_queries(workload.data)
            reducer = SensitivityReducer(FiniteQueries(_squared, queries), sampler)
            yield reducer_scenario(workload, reducer, WorstListed(workload.data, _squared, queries), _TARGET)


def _squared(data: WeightedSet, query: Floats) -> Floats:
    return np.square(np.asarray(data.points) @ query)


def _hybrid(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    broken: Broken = (
        (faults.UNDIVIDED[0], faults.Undivided(Hybrid())),
        (faults.FULL_DRAW_WEIGHTS[0], faults.FullDrawWeights()),
    )

    def claim(error: FiniteWorst) -> Claim:
        return Claim(FiniteHybrid(), _by_profile(error))

    yield from _attacks(claim, Hybrid(), broken)(workloads, profile)
    # Where many points are sure, the draws are few and miscounting them shows.
    workload, error = _sure_points(200, 2000)
    promised = claim(error)
    size = first_size_below(promised, _TARGET, workload.n)
    yield drawn_scenario(workload, promised, Hybrid(), error.shares.max(axis=0), error, broken, size=size)


def _top(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in workloads:
        if workload.n < _FEWEST:
            continue
        values = np.asarray(leverage_scores(workload.data.points, workload.data.weights))
        guarantee, parameters = TopRemainder(), SensitivityProfile(values)
        # Choosing the top drops little only where few points matter; elsewhere more than half the
        # points are needed before the claim excludes anything.
        needed = guarantee.size(parameters, Accuracy(0.5, 0.0))
        size = min(max(largest_useful_size(workload.n), needed), workload.n - 1)
        claimed = Accuracy(guarantee.epsilon(parameters, size, 0.0), 0.0)
        reason = f"dropping one point may cost {claimed.epsilon:.2f}" if claimed.vacuous else ""
        if claimed.epsilon < 10.0 * ROUNDING:
            reason = f"the dropped points matter less ({claimed.epsilon:.1g}) than rounding"
        error = SquaresWorst(workload.data)
        yield Scenario(
            workload=workload,
            size=size,
            claimed=claimed,
            trial=DrawTrial(Top(), values, size, error),
            faults=(
                Fault(faults.LEAST_SENSITIVE[0], DrawTrial(faults.LeastSensitive(), values, size, error)),
            ),
            vacuous=reason,
        )


def _mixing(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    sampler = Poisson()
    for workload in workloads:
        if workload.n < _FEWEST:
            continue
        data = workload.data
        squared = squared_queries(data)
        values = squared.shares.max(axis=0)
        error = FiniteWorst(np.vstack([squared.shares, np.asarray(data.weights) / data.total_weight]))
        claim = Claim(DefensiveMixing(), _by_total(squared))
        size = first_size_below(claim, _TARGET, workload.n)
        mixed = np.asarray(Sensitivities(values).with_defensive_mixing(data.weights).values)
        broken: Broken = ((faults.UNDIVIDED[0], faults.Undivided(sampler)),)
        honest = drawn_scenario(workload, claim, sampler, mixed, error, broken, size=size)
        unmixed = Fault(_UNMIXED[0], DrawTrial(sampler, values, size, error))
        yield replace(honest, faults=(*honest.faults, unmixed))


_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM])

CHECKS = (
    Check(
        FiniteIID(),
        _QUERIES,
        _WEIGHING | dict([SHRUNK]),
        _attacks(
            lambda error: Claim(FiniteIID(), _by_total(error)),
            IID(),
            ((faults.UNDIVIDED[0], faults.Undivided(IID())), (faults.UNIFORM[0], faults.Uniform(IID()))),
        ),
    ),
    Check(
        FiniteRelativeEntropy(),
        _QUERIES + "; two nearly constant losses",
        _WEIGHING | dict([SHRUNK, _POISSON]),
        _relative_entropy,
    ),
    Check(FinitePoisson(), _QUERIES, _WEIGHING | dict([SHRUNK, UNSCALED]), _poisson),
    Check(
        FiniteFixedSize(),
        _QUERIES,
        dict([faults.UNDIVIDED, faults.SUCCESSIVE, SHRUNK]),
        _attacks(
            lambda error: Claim(FiniteFixedSize(), _by_total(error)),
            FixedSize(),
            (
                (faults.UNDIVIDED[0], faults.Undivided(FixedSize())),
                (faults.SUCCESSIVE[0], faults.Successive()),
            ),
        ),
    ),
    Check(
        FiniteHybrid(),
        _QUERIES + "; many queries that see one point each",
        dict([faults.UNDIVIDED, faults.FULL_DRAW_WEIGHTS, SHRUNK]),
        _hybrid,
    ),
    Check(
        TopRemainder(),
        "all squared linear queries, exactly, by eigenvalues",
        dict([faults.LEAST_SENSITIVE]),
        _top,
    ),
    Check(
        DefensiveMixing(),
        _QUERIES + "; the total weight",
        dict([faults.UNDIVIDED, _UNMIXED]),
        _mixing,
    ),
)
