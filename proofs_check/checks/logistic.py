"""Attacks on the guarantees of logistic regression: LG, LG-P, LG-M, LG-MP, LD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.guarantees import (
    LogisticComplexityIID,
    LogisticComplexityPoisson,
    LogisticDuality,
    LogisticNormIID,
    LogisticNormPoisson,
)
from coresets.logistic import (
    ComplexityShares,
    LogisticDual,
    LogisticObjective,
    LogisticShares,
    NormShares,
    complexity,
    train_logistic,
)
from coresets.samplers import IID, Poisson, Sampler
from coresets.svm import FreeIntercept, Intercept, LabelledSet, LinearModel, NoIntercept
from proofs_check import faults
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._common import drawn_scenario, first_size_below
from proofs_check.checks._geometry import certain
from proofs_check.checks._logistic import (
    INTERCEPTS,
    LogisticWorst,
    Problem,
    drawn_problems,
    largest_logistic_shares,
    small_problems,
)
from proofs_check.faults import Draws
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats: TypeAlias = npt.NDArray[np.float64]
Bounds: TypeAlias = Callable[[], Floats]

_TARGET = 0.6  # epsilon that the sizes aim at
_RATIO = "largest share over bound; more than 1 refutes"


class Attained:
    """Largest shares that a search finds, computed when first asked for."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    @cached_property
    def shares(self) -> Floats:
        """Of every point."""
        return largest_logistic_shares(self._problem)

    def over(self, bounds: Floats) -> float:
        """Largest ratio of a share to its bound."""
        with np.errstate(divide="ignore"):
            return float(np.max(self.shares / bounds))


def _values(shares: LogisticShares, data: LabelledSet, objective: LogisticObjective) -> Floats:
    return np.asarray(shares.sensitivities(data, objective, np.random.default_rng(0)).values)


def _broken(sampler: Sampler) -> tuple[tuple[str, Draws], ...]:
    return ((faults.UNDIVIDED[0], faults.Undivided(sampler)), (faults.UNIFORM[0], faults.Uniform(sampler)))


def _drawn(problem: Problem, shares: LogisticShares, sampler: Sampler) -> Scenario:
    bounds = shares.sensitivities(problem.data, problem.objective, np.random.default_rng(0))
    claim = shares.claim(bounds, sampler.scheme)
    size = first_size_below(claim, _TARGET, problem.data.n)
    error = LogisticWorst(problem)
    return drawn_scenario(problem.workload, claim, sampler, bounds.values, error, _broken(sampler), size=size)


def _name(words: str, intercept: Intercept) -> str:
    return f"{words}, {type(intercept).__name__}"


# LG, LG-P


def _norms(workloads: Sequence[Workload], profile: Profile, *, sampler: Sampler) -> Iterator[Scenario]:
    for words, data, lam in small_problems():
        for intercept in INTERCEPTS:
            problem = Problem(_name(words, intercept), data, LogisticObjective(lam, intercept))
            yield certain(
                problem.workload,
                partial(_values, NormShares(), data, problem.objective),
                Attained(problem).over,
                _broken_norms(problem),
                note=_RATIO,
            )
    for words, data, lam in drawn_problems(min(profile.max_points, 3000), 3e-5):
        for intercept in INTERCEPTS:
            problem = Problem(_name(words, intercept), data, LogisticObjective(lam, intercept))
            yield _drawn(problem, NormShares(), sampler)


def _broken_norms(problem: Problem) -> dict[str, Bounds]:
    data, objective = problem.data, problem.objective
    found = train_logistic(data, objective, tightness=1e-4)
    broken: dict[str, Bounds] = {
        _CONSTANT_PART[0]: partial(_without_constant, data, objective, found.dual),
    }
    if objective.lam > 1.0:
        broken[_FORGOTTEN[0]] = partial(_without_lam, data, objective, found.dual)
    if objective.lam < 1.0:
        dear = train_logistic(data, replace(objective, lam=1.0), tightness=1e-4).dual
        broken[_ABOVE[0]] = partial(_values, NormShares(low=dear), data, objective)
    if objective.intercept.free:
        absent = replace(objective, intercept=NoIntercept())
        broken[_ABSENT[0]] = partial(_values, NormShares(low=found.dual), data, absent)
    return broken


def _without_lam(data: LabelledSet, objective: LogisticObjective, low: float) -> Floats:
    """The bound for lam = 1, with the optimum at the price asked for."""
    return _values(NormShares(low=low), data, replace(objective, lam=1.0))


def _without_constant(data: LabelledSet, objective: LogisticObjective, low: float) -> Floats:
    """The norms alone, as for the hinge of a margin of 0."""
    honest = _values(NormShares(low=low), data, objective)
    return honest - objective.lam * data.weights * (float(np.log(2.0)) / low)


_FORGOTTEN = ("lambda missing", "the bound for lam = 1, whatever lam is")
_ABOVE = ("optimum of another price", "the lower bound on the optimum is that for lam = 1")
_ABSENT = ("free intercept ignored", "the bound for a model without an intercept")
_CONSTANT_PART = ("constant part missing", "the norm part of the bound alone, without ln 2 / o")

# LG-M, LG-MP


def _complex(workloads: Sequence[Workload], profile: Profile, *, sampler: Sampler) -> Iterator[Scenario]:
    for words, data, _ in small_problems():
        for intercept in (FreeIntercept(), NoIntercept()):
            name = _name(words.split(", lam")[0], intercept)
            if _separable(data, intercept):
                continue
            problem = Problem(name, data, LogisticObjective(1.0, intercept), regularised=False)
            attained = Attained(problem)
            honest = partial(_values, ComplexityShares(), data, problem.objective)
            mu = complexity(data, intercept=intercept.free).mu
            broken: dict[str, Bounds] = {_HALF[0]: partial(_half, data, problem.objective)}
            for fault, other in (
                (_ALIKE, 1.0),
                (_SIGNS, _unsigned(data, intercept)),
                (_SAMPLE, _of_part(data, intercept)),
            ):
                if other < 0.5 * mu:
                    broken[fault[0]] = partial(_values, ComplexityShares(mu=other), data, problem.objective)
            yield certain(problem.workload, honest, attained.over, broken, note=_RATIO)
            yield certain(
                replace(problem, name=f"{name}, least cost").workload,
                partial(LogisticComplexityIID.least_cost, mu, data.total_weight),
                partial(_over_least, problem),
                {_ZERO[0]: partial(LogisticComplexityIID.least_cost, 0.5, data.total_weight)},
                note="lower bound over the least cost",
            )
    for words, data, _ in drawn_problems(min(profile.max_points, 3000), 1.0):
        for intercept in (FreeIntercept(), NoIntercept()):
            objective = LogisticObjective(1.0, intercept)
            problem = Problem(f"drawn, {_name(words, intercept)}", data, objective, regularised=False)
            yield _drawn(problem, ComplexityShares(), sampler)


def _separable(data: LabelledSet, intercept: Intercept) -> bool:
    """Whether all points of one class lie on one side of those of the other, or of the origin."""
    x = np.asarray(data.points)[:, 0]
    if not intercept.free:
        return bool(np.ptp(np.sign(x * data.signs)) == 0.0)
    low, high = x[data.signs < 0], x[data.signs > 0]
    return bool(low.max() <= high.min() or high.max() <= low.min())


def _half(data: LabelledSet, objective: LogisticObjective) -> Floats:
    return 0.5 * _values(ComplexityShares(), data, objective)


def _unsigned(data: LabelledSet, intercept: Intercept) -> float:
    """Complexity of the points as if all were of one class, along the line through their mean."""
    x = np.asarray(data.points, dtype=np.float64)[:, 0]
    x = x - float(np.average(x, weights=data.weights)) if intercept.free else x
    right, wrong = float(data.weights @ np.maximum(x, 0.0)), float(data.weights @ np.maximum(-x, 0.0))
    return max(right, wrong) / min(right, wrong) if min(right, wrong) > 0.0 else np.inf


def _of_part(data: LabelledSet, intercept: Intercept) -> float:
    """Complexity of the half of the points nearest to the origin."""
    near = np.argsort(np.abs(np.asarray(data.points)[:, 0]), kind="stable")[: (data.n + 1) // 2]
    try:
        part = LabelledSet(data.points[near], data.labels[near], data.weights[near])
        return complexity(part, intercept=intercept.free).mu
    except ValueError:  # separable, or of one class: nothing to be mistaken for
        return float(np.inf)


def _over_least(problem: Problem, claimed: float) -> float:
    """Claimed lower bound over a cost that is attained, near the least one."""
    steep = replace(problem.objective, lam=1e6)
    found = train_logistic(problem.data, steep, tightness=1e-6).best
    return claimed / float(problem.costs(np.append(found.w, found.b)[None, : problem.rows.shape[1]])[1][0])


_HALF = ("half the bound", "the bounds divided by two")
_ALIKE = ("complexity left out", "mu = 1, as if no model told the classes apart")
_SIGNS = ("labels dropped", "the complexity of the points without their labels")
_SAMPLE = ("complexity of a sample", "mu of half the points, not of those that are reduced")
_ZERO = ("complexity below 1", "the least cost for half of the smallest complexity there is")

# LD


def _duals(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for words, data, lam in (*small_problems(), *_lopsided()):
        for intercept in INTERCEPTS:
            objective = LogisticObjective(lam, intercept)
            found = train_logistic(data, objective, tightness=1e-8)
            rough = LinearModel(0.5 * found.best.w, 0.5 * found.best.b)
            for name, model in (("optimum", found.best), ("rough model", rough)):
                broken: dict[str, Callable[[], float]] = {
                    _TOGETHER[0]: partial(_together, data, objective, model)
                }
                if not isinstance(intercept, NoIntercept):
                    fault = _UNBALANCED if intercept.free else _COORDINATE
                    broken[fault[0]] = partial(_dual, data, objective, model, NoIntercept())
                problem = Problem(f"{_name(words, intercept)}, {name}", data, objective)
                yield certain(
                    problem.workload,
                    partial(_dual, data, objective, model, intercept),
                    partial(_over, found.best_primal),
                    broken,
                    note="lower bound over optimum",
                )


def _lopsided() -> Iterator[tuple[str, LabelledSet, float]]:
    """Classes of unequal mass on one side of the origin, in two columns."""
    for seed, lam in ((3, 0.05), (4, 5.0)):
        rng = np.random.default_rng(seed)
        y = np.where(np.arange(60) < 12, 1, -1)
        x = rng.standard_normal((60, 2)) + 0.8 * y[:, None] + 1.0
        yield f"sixty points, lam = {lam:g}", LabelledSet(x, y, rng.uniform(0.5, 2.0, 60)), lam


def _dual(data: LabelledSet, objective: LogisticObjective, model: LinearModel, intercept: Intercept) -> float:
    return LogisticDual.of(objective.scan(data, model)).bound(intercept)


def _together(data: LabelledSet, objective: LogisticObjective, model: LinearModel) -> float:
    """The classes subtracted where they add up: labels are left out of sum u q y z."""
    dual = LogisticDual.of(objective.scan(data, model))
    sums = np.column_stack([dual.sums[:, :-1] * np.array([[-1.0], [1.0]]), dual.sums[:, -1]])
    return LogisticDual(dual.entropies, sums, dual.radius, dual.n).bound(objective.intercept)


def _over(above: float, claimed: float) -> float:
    return claimed / above


_TOGETHER = ("labels dropped", "sum u q z instead of sum u q y z")
_UNBALANCED = ("balance ignored", "a free intercept is treated as if there were none")
_COORDINATE = ("constant coordinate forgotten", "a regularised intercept is treated as if there were none")

_MODELS = "all models: shares by search on a line; the optimum, models that one point dislikes, then ascent"
_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM])
_NORM_FAULTS = dict([_FORGOTTEN, _ABOVE, _ABSENT, _CONSTANT_PART]) | _WEIGHING
_COMPLEXITY_FAULTS = dict([_HALF, _ALIKE, _SIGNS, _SAMPLE, _ZERO]) | _WEIGHING

CHECKS = (
    Check(LogisticNormIID(), _MODELS, _NORM_FAULTS, partial(_norms, sampler=IID())),
    Check(LogisticNormPoisson(), _MODELS, _NORM_FAULTS, partial(_norms, sampler=Poisson())),
    Check(LogisticComplexityIID(), _MODELS, _COMPLEXITY_FAULTS, partial(_complex, sampler=IID())),
    Check(LogisticComplexityPoisson(), _MODELS, _COMPLEXITY_FAULTS, partial(_complex, sampler=Poisson())),
    Check(
        LogisticDuality(),
        "a model whose value is within 1e-8 of the optimum",
        dict([_TOGETHER, _UNBALANCED, _COORDINATE]),
        _duals,
    ),
)
