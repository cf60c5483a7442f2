"""Attacks on the guarantees of support vector machines: S1, S2, S3, S3-P, S4, S5, SG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.guarantees import (
    DualityGap,
    HingeAllQueries,
    HingeClusterSensitivity,
    HingeLowerBound,
    HingeNormIID,
    HingeNormPoisson,
    TrainingOnCoreset,
)
from coresets.samplers import IID, Poisson, Sampler
from coresets.svm import (
    AverageSVMObjective,
    ClusterBounds,
    Clusters,
    DualSums,
    FreeIntercept,
    Intercept,
    LabelledSet,
    LinearModel,
    NoIntercept,
    NormBounds,
    RegularisedIntercept,
    SVMCoreset,
    SVMObjective,
    cluster_sensitivities,
    published_sensitivities,
    train_svm,
)
from proofs_check import faults
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._common import drawn_scenario, first_size_below
from proofs_check.checks._geometry import certain
from proofs_check.checks._svm import (
    HingeWorst,
    Named,
    drawn_sets,
    half_sets,
    largest_hinge_shares,
    lines,
    optimum_above,
    over_attained,
    over_missing,
)
from proofs_check.faults import Draws
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats: TypeAlias = npt.NDArray[np.float64]

_TARGET = 0.6  # epsilon that the sizes aim at
_RATIO = "largest share over bound; 1 is attained, more refutes"

# S1


class Exact:
    """Exact shares of a set on a line, computed when first asked for."""

    def __init__(self, data: LabelledSet, lam: float, *, regulariser: bool) -> None:
        self._data, self._lam, self._regulariser = data, lam, regulariser

    @cached_property
    def shares(self) -> Floats:
        """Of every point."""
        return largest_hinge_shares(self._data, self._lam, regulariser=self._regulariser)

    def over(self, bounds: Floats) -> float:
        """Largest ratio of a share to its bound."""
        return float(np.max(self.shares / bounds))


def _seeds(data: LabelledSet) -> Clusters:
    """One cluster a class around its first point, as if a seed were the mean."""
    found = Clusters.of_classes(data)
    first = [int(np.flatnonzero(data.signs == sign)[0]) for sign in (-1, 1)]
    return Clusters(found.labels, np.asarray(data.points, dtype=np.float64)[first], found.masses)


def _split(data: LabelledSet) -> Clusters:
    """Two clusters a class."""
    return Clusters.fit(data, 2, rng=0)


def _clusters(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for name, data, lam in lines():
        objective = SVMObjective(lam, FreeIntercept())
        above = optimum_above(data, objective)[0]
        low = train_svm(data, objective, tightness=1e-4).dual
        for spread in (False, True):
            exact = Exact(data, lam, regulariser=spread)
            honest = partial(_s1, data, Clusters.of_classes, objective, low, spread)
            wrong = SVMObjective(1.0, FreeIntercept())
            broken: dict[str, Callable[[], Floats]] = {
                _SEEDS[0]: partial(_s1, data, _seeds, objective, low, spread),
                _ABOVE[0]: partial(_s1, data, Clusters.of_classes, objective, 1.5 * above, spread),
            }
            if lam > 1.0:
                broken[_FORGOTTEN[0]] = partial(_without_lam, data, wrong, objective, low, spread)
            if spread:
                broken[_HINGE[0]] = partial(_s1, data, Clusters.of_classes, objective, low, False)
                broken[_PUBLISHED[0]] = partial(_published, data, objective, 1.5 * above)
            words = "regulariser spread" if spread else "regulariser kept"
            shown = Named(f"{name}, {words}", data, objective).workload
            yield certain(shown, honest, exact.over, broken, note=_RATIO)
            two = Named(f"{name}, {words}, two clusters a class", data, objective).workload
            yield certain(
                two, partial(_s1, data, _split, objective, low, spread), exact.over, {}, note=_RATIO
            )
        mass = data.total_weight
        mean = objective.averaged(mass)
        yield certain(
            Named(f"{name}, a quarter of a stream", data, objective).workload,
            partial(_of_part, data, mean, mass),
            Exact(data, lam, regulariser=False).over,
            {_FULL[0]: partial(_of_part, data, mean, 4.0 * mass)},
            note=_RATIO,
        )


def _s1(
    data: LabelledSet,
    clusters: Callable[[LabelledSet], Clusters],
    objective: SVMObjective,
    low: float,
    spread: bool,
) -> Floats:
    return cluster_sensitivities(data, clusters(data), objective, low, regulariser=spread)


def _of_part(data: LabelledSet, mean: AverageSVMObjective, mass: float) -> Floats:
    """Bounds as a stream has them for a part, which is said to have a mass."""
    reducer = SVMCoreset(mean, ClusterBounds(pilot_share=0.0), uniform_share=0.0).at(mass)
    return np.asarray(reducer.sensitivities(data, rng=0).values)


def _without_lam(
    data: LabelledSet, wrong: SVMObjective, objective: SVMObjective, low: float, spread: bool
) -> Floats:
    """The formula with lam = 1, as for the only price for which it was written down."""
    return cluster_sensitivities(data, Clusters.of_classes(data), wrong, low, regulariser=spread)


def _published(data: LabelledSet, objective: SVMObjective, optimum: float) -> Floats:
    return published_sensitivities(data, Clusters.of_classes(data), objective, optimum)


_SEEDS = ("seeds instead of means", "the first point of each class stands for its weighted mean")
_ABOVE = ("optimum from above", "1.5 times the optimum where a lower bound is asked for")
_FORGOTTEN = ("lambda missing", "the formula for lam = 1, whatever lam is")
_HINGE = (
    "regulariser forgotten",
    "the bound for the hinge part alone, for losses that carry the regulariser",
)
_FULL = ("full regulariser in every part", "a quarter of a stream is given the regulariser of all of it")
_PUBLISHED = ("published formula", "the published formula with an optimum over-estimated by half")

# S2, S3, S3-P


def _broken(sampler: Sampler) -> tuple[tuple[str, Draws], ...]:
    return ((faults.UNDIVIDED[0], faults.Undivided(sampler)), (faults.UNIFORM[0], faults.Uniform(sampler)))


def _draws(
    workloads: Sequence[Workload],
    profile: Profile,
    *,
    bounds: ClusterBounds | NormBounds,
    sampler: Sampler,
    words: str = "",
    only: str = "",
) -> Iterable[Scenario]:
    for name, kind, data, lam in drawn_sets(min(profile.max_points, 4000)):
        if only not in name:
            continue
        for intercept in (FreeIntercept(), RegularisedIntercept(), NoIntercept()):
            objective = SVMObjective(lam, intercept)
            found = SVMCoreset(objective, bounds, sampler, uniform_share=0.0).sensitivities(data, rng=0)
            claim = bounds.claim(data, objective, found, sampler.scheme)
            size = first_size_below(claim, _TARGET, data.n)
            shown = Named(f"{name}, {type(intercept).__name__}{words}", data, objective, kind).workload
            error = HingeWorst(data, objective)
            yield drawn_scenario(shown, claim, sampler, found.values, error, _broken(sampler), size=size)


def _cluster_draws(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    """With and without a share for the points within the margin of a pilot's model."""
    alone = ClusterBounds(pilot_share=0.0)
    yield from _draws(workloads, profile, bounds=alone, sampler=IID())
    yield from _draws(
        workloads, profile, bounds=ClusterBounds(), sampler=IID(), words=", pilot", only="heavy"
    )


# S4


def _instances(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for d, lam in ((2, 0.5), (4, 2.0), (6, 0.3), (6, 20.0)):
        indicators = half_sets(d)
        labels = np.where(np.arange(len(indicators)) % 3 == 0, -1, 1)
        data = LabelledSet(labels[:, None] * indicators, labels)
        shown = Named(f"half of {d} coordinates, lam = {lam:g}", data, SVMObjective(lam)).workload
        least = HingeLowerBound.least_share(d, lam)
        yield certain(
            shown,
            partial(float, least),
            partial(over_attained, data, d, lam),
            {_WHOLE[0]: partial(float, 1.0)},
            note="lower bound over the share attained",
        )
        error = HingeLowerBound.least_error(d, lam)
        yield certain(
            Named(
                f"half of {d} coordinates, lam = {lam:g}, one point missing", data, SVMObjective(lam)
            ).workload,
            partial(float, error),
            partial(over_missing, data, d, lam),
            {_TWICE[0]: partial(float, 2.0 * error)},
            note="least error over the error of a coreset without one point",
        )


_WHOLE = ("regulariser left out", "a share of 1, as if the regulariser cost nothing")
_TWICE = ("twice the error", "missing a point is said to cost twice as much")

# S5


@dataclass(frozen=True)
class Training:
    """Excess of a model trained on a coreset, over what its errors allow."""

    data: LabelledSet
    objective: SVMObjective
    optimum: tuple[float, LinearModel]
    wrong: Callable[[LabelledSet], LabelledSet] | None = None

    def __call__(self, rng: np.random.Generator) -> float:
        coreset = SVMCoreset(self.objective, ClusterBounds(pilot=0)).reduce(
            self.data, size=min(200, self.data.n // 2), rng=rng
        )
        kept = self.data.kept(coreset)
        found = train_svm(kept if self.wrong is None else self.wrong(kept), self.objective)
        value, best = self.optimum
        errors = [
            abs(self.objective.value(kept, model) / self.objective.value(self.data, model) - 1.0)
            for model in (found.best, best)
        ]
        eta = found.gap if self.wrong is None else 0.0
        factor = TrainingOnCoreset.factor(max(errors), eta)
        return self.objective.value(self.data, found.best) / (value * factor)


def _normalised(kept: LabelledSet) -> LabelledSet:
    return LabelledSet(kept.points, kept.labels, kept.weights / kept.total_weight)


def _unweighted(kept: LabelledSet) -> LabelledSet:
    return LabelledSet(kept.points, kept.labels)


def _flipped(kept: LabelledSet) -> LabelledSet:
    return LabelledSet(kept.points, -kept.signs, kept.weights)


def _trained(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for name, kind, data, _ in drawn_sets(2000):
        for lam in (0.01, 1.0):
            objective = SVMObjective(lam)
            optimum = optimum_above(data, objective)
            honest = Training(data, objective, optimum)
            broken = ((_NORMALISED, _normalised), (_UNWEIGHTED, _unweighted), (_FLIPPED, _flipped))
            yield Scenario(
                workload=Named(f"{name}, lam = {lam:g}", data, objective, kind).workload,
                size=min(200, data.n // 2),
                claimed=Accuracy(1.0, 0.0),
                trial=honest,
                faults=tuple(
                    Fault(words[0], Training(data, objective, optimum, wrong)) for words, wrong in broken
                ),
                note="excess over what S5 allows",
            )


_NORMALISED = ("weights normalised", "the weights are divided by their sum, and C is not multiplied by it")
_UNWEIGHTED = ("weights left out", "training takes every kept row once")
_FLIPPED = ("classes exchanged", "training takes the positive class for the negative one")

# SG


def _dual_sets() -> Iterable[tuple[str, LabelledSet, float]]:
    for seed, lam in ((3, 0.02), (4, 1.0), (5, 30.0)):
        rng = np.random.default_rng(seed)
        y = np.where(np.arange(60) < 12, 1, -1)
        x = rng.standard_normal((60, 2)) + 0.8 * y[:, None] + 1.0
        yield f"sixty points, lam = {lam:g}", LabelledSet(x, y, rng.uniform(0.5, 2.0, 60)), lam
    yield from lines()


def _bound(
    data: LabelledSet, objective: SVMObjective, model: LinearModel, width: float, intercept: Intercept
) -> float:
    return DualSums.of(objective.scan(data, model, width)).bound(intercept)


def _boxless(data: LabelledSet, objective: SVMObjective, model: LinearModel, width: float) -> float:
    """The best multiple of the dual point, whether or not it stays below its limits."""
    sums = objective.scan(data, model, width).sums
    vector = sums[1, :-1] - sums[0, :-1]
    constant = objective.intercept.scale * (sums[1, -1] - sums[0, -1])
    return float(sums[:, -1].sum() ** 2 / (2.0 * (vector @ vector + constant**2) + 1e-300))


def _duals(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for name, data, lam in _dual_sets():
        for intercept in (FreeIntercept(), RegularisedIntercept(), NoIntercept()):
            objective = SVMObjective(lam, intercept)
            above, model = optimum_above(data, objective)
            for width in (0.0, 0.3):
                honest = partial(_bound, data, objective, model, width, intercept)
                broken: dict[str, Callable[[], float]] = {
                    _BOXLESS[0]: partial(_boxless, data, objective, model, width)
                }
                if not isinstance(intercept, NoIntercept):
                    words = _UNBALANCED if intercept.free else _CONSTANT
                    broken[words[0]] = partial(_bound, data, objective, model, width, NoIntercept())
                shown = Named(
                    f"{name}, {type(intercept).__name__}, width {width:g}", data, objective
                ).workload
                yield certain(shown, honest, partial(_over, above), broken, note="lower bound over optimum")


def _over(above: float, claimed: float) -> float:
    return claimed / above


_BOXLESS = ("limits ignored", "dual variables are scaled up beyond lam u")
_UNBALANCED = ("balance ignored", "a free intercept is treated as if there were none")
_CONSTANT = ("constant coordinate forgotten", "a regularised intercept is treated as if there were none")

_MODELS = "all models: the optimum, models that one point dislikes, then ascent"
_WEIGHING = dict([faults.UNDIVIDED, faults.UNIFORM])

CHECKS = (
    Check(
        HingeClusterSensitivity(),
        "all models on a line, exactly, by enumeration of kinks",
        dict([_SEEDS, _ABOVE, _FORGOTTEN, _HINGE, _FULL, _PUBLISHED]),
        _clusters,
    ),
    Check(
        HingeAllQueries(),
        _MODELS,
        _WEIGHING,
        _cluster_draws,
    ),
    Check(HingeNormIID(), _MODELS, _WEIGHING, partial(_draws, bounds=NormBounds(), sampler=IID())),
    Check(HingeNormPoisson(), _MODELS, _WEIGHING, partial(_draws, bounds=NormBounds(), sampler=Poisson())),
    Check(
        HingeLowerBound(),
        "the query that one point alone dislikes",
        dict([_WHOLE, _TWICE]),
        _instances,
    ),
    Check(
        TrainingOnCoreset(),
        "the model that training returns, and the optimum",
        dict([_NORMALISED, _UNWEIGHTED, _FLIPPED]),
        _trained,
    ),
    Check(
        DualityGap(),
        "a model whose value is within 1e-4 of the optimum",
        dict([_BOXLESS, _UNBALANCED, _CONSTANT]),
        _duals,
    ),
)
