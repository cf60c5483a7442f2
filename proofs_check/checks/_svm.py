"""Exact shares of the hinge loss on a line, the worst models for a coreset, and sets of two classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from coresets.svm import LabelledSet, LinearModel, SVMObjective, train_svm
from coresets.weighted_set import WeightedSet
from proofs_check.workloads import Workload

__all__ = [
    "HingeWorst",
    "Named",
    "drawn_sets",
    "half_sets",
    "largest_hinge_shares",
    "lines",
    "optimum_above",
    "over_attained",
    "over_missing",
]

Floats: TypeAlias = npt.NDArray[np.float64]

_FAR = 1e7  # stands for an infinite coefficient


def largest_hinge_shares(data: LabelledSet, lam: float, *, regulariser: bool) -> Floats:
    """Exact sensitivities of points on a line with a free intercept, by enumeration.

    For fixed w the share is a ratio of affine functions of b between the kinks, so the best b is a kink or
    infinite. Along a kink the share is a ratio of quadratics of w between the crossings of kinks, whose
    stationary points are roots of a cubic. Every value returned is attained at a model.

    Parameters
    ----------
    data : LabelledSet
        n points of one column.
    lam : float
        Price of the hinge loss.
    regulariser : bool
        Whether each point carries its share of the regulariser.
    """
    x, y, u = np.asarray(data.points)[:, 0], data.signs.astype(np.float64), data.weights
    part = u / u.sum() if regulariser else np.zeros(data.n)
    best = np.zeros(data.n)

    def look(w: Floats, b: Floats) -> None:
        losses = lam * u * np.maximum(0.0, 1.0 - y * (w[:, None] * x + b[:, None]))
        half = 0.5 * np.square(w)[:, None]
        np.maximum(
            best, ((part * half + losses) / (half + losses.sum(axis=1, keepdims=True))).max(0), out=best
        )

    look(np.zeros(2), np.array([-_FAR, _FAR]))
    for i in range(data.n):
        # On the kink b = y_i - w x_i the margin of j is y_j (w (x_j - x_i) + y_i).
        slope = y * (x - x[i])
        level = 1.0 - y * y[i]
        crossings = np.unique(level[slope != 0.0] / slope[slope != 0.0])
        ends = np.concatenate([[-_FAR], crossings, [_FAR]])
        middles = np.concatenate([[ends[1] - 1.0], 0.5 * (ends[1:-2] + ends[2:-1]), [ends[-2] + 1.0]])
        found = [ends]
        for low, high, middle in zip(ends[:-1], ends[1:], middles, strict=True):
            active = level - slope * middle > 0.0
            below = (lam * u * active) @ np.column_stack([level, -slope])
            whole = np.array([0.5, below[1], below[0]])
            for p in np.flatnonzero(active | regulariser):
                own = lam * u[p] * active[p] * np.array([0.0, -slope[p], level[p]])
                own[0] += 0.5 * part[p]
                turn = np.polysub(np.polymul(np.polyder(own), whole), np.polymul(own, np.polyder(whole)))
                roots = np.roots(turn)
                real = roots.real[np.abs(roots.imag) <= 1e-9 * (1.0 + np.abs(roots.real))]
                found.append(real[(real >= low) & (real <= high)])
        w = np.concatenate(found)
        look(w, y[i] - w * x[i])
    return best


@dataclass(frozen=True, eq=False)
class Named:
    """A set of two classes, the problem on it, and a workload to show it as."""

    name: str
    data: LabelledSet
    objective: SVMObjective
    kind: str = "adversarial"

    @property
    def workload(self) -> Workload:
        """For the report."""
        shown = WeightedSet(np.asarray(self.data.points), self.data.weights)
        return Workload(self.name, self.kind, shown)


def lines(objective: type[SVMObjective] = SVMObjective) -> Iterator[tuple[str, LabelledSet, float]]:
    """Small sets on a line: random ones, and the one that refutes the published formula."""
    yield (
        "the counter-example",
        LabelledSet(np.array([-2.43902, 5.62913, 8.27756, 8.09173])[:, None], [-1, 1, 1, 1]),
        0.0197894,
    )
    for seed, lam in ((0, 0.02), (1, 0.3), (2, 3.0)):
        rng = np.random.default_rng(seed)
        y = np.array([-1, 1, *rng.choice([-1, 1], 7)])
        x = rng.standard_normal(9) * 2.0 + y
        yield f"nine points, lam = {lam:g}", LabelledSet(x[:, None], y, rng.uniform(0.2, 3.0, 9)), lam
    rng = np.random.default_rng(4)
    y = np.array([-1, 1, *rng.choice([-1, 1], 6)])
    x = rng.standard_normal(8) * 0.3 + 0.2 * y
    yield "eight close points, lam = 20", LabelledSet(x[:, None], y), 20.0
    yield "two points", LabelledSet(np.array([[-1.0], [1.0]]), [0, 1]), 0.4


def drawn_sets(points: int) -> Iterator[tuple[str, str, LabelledSet, float]]:
    """Sets to draw from, with prices at which totals are small enough for sizes below half of them."""
    rng = np.random.default_rng(5)
    y = rng.choice([-1, 1], points)
    yield "two Gaussians", "adversarial", LabelledSet(rng.standard_normal((points, 1)) + y[:, None], y), 3e-5
    x = rng.standard_normal((points, 1))
    y, u = np.full(points, -1), np.ones(points)
    y[points // 3], u[points // 3], x[points // 3] = 1, points, 0.5
    yield "one heavy point of a class", "adversarial", LabelledSet(x, y, u), 1e-3
    cancer = datasets.load_breast_cancer()
    scaled = (cancer.data - cancer.data.mean(axis=0)) / cancer.data.std(axis=0)
    yield "breast cancer, first", "real", LabelledSet(scaled[:, :1], cancer.target), 1e-3


def optimum_above(data: LabelledSet, objective: SVMObjective) -> tuple[float, LinearModel]:
    """A value that is attained, within about 1e-4 of the optimum, and the model."""
    found = train_svm(data, objective, tightness=1e-4)
    return found.best_primal, found.best


@dataclass(frozen=True, eq=False)
class HingeWorst:
    """Largest relative error of F over models: prepared ones, then ascent from the worst of them.

    The prepared models are the optimum, models at which one point alone is expensive, and constants.
    """

    data: LabelledSet
    objective: SVMObjective
    models: Floats = field(init=False)
    losses: Floats = field(init=False)
    values: Floats = field(init=False)

    def __post_init__(self) -> None:
        best = optimum_above(self.data, self.objective)[1]
        rows = [np.append(best.w, best.b), *(np.append(np.zeros(self.data.d), c) for c in (-2.0, 0.0, 2.0))]
        order = np.argsort(np.abs(np.asarray(self.data.points) - np.asarray(self.data.points).mean(0)).sum(1))
        chosen = np.unique(np.concatenate([order[-12:], order[:: max(1, self.data.n // 12)]]))
        chosen = np.append(chosen, np.argsort(self.data.weights)[-2:])
        for p in chosen:
            z = np.append(np.asarray(self.data.points)[p], 1.0) * self.data.signs[p]
            rows += [-r * z / (z @ z) for r in (0.1, 1.0, 10.0)] + [np.append(0.0 * z[:-1], -z[-1])]
            rows += [np.append(best.w, best.b) - r * z / (z @ z) for r in (0.3, 2.0)]
        if not (self.objective.intercept.free or self.objective.intercept.scale > 0.0):
            rows = [np.append(row[:-1], 0.0) for row in rows]
        object.__setattr__(self, "models", np.array(rows))
        losses, values = self._evaluate(self.models)
        object.__setattr__(self, "losses", losses)
        object.__setattr__(self, "values", values)

    def _evaluate(self, models: Floats) -> tuple[Floats, Floats]:
        margins = self.data.signs * (models[:, :-1] @ np.asarray(self.data.points).T + models[:, -1:])
        losses = self.objective.lam * self.data.weights * np.maximum(0.0, 1.0 - margins)
        penalty = np.square(models[:, :-1]).sum(axis=1)
        if self.objective.intercept.scale > 0.0:
            penalty += np.square(models[:, -1] / self.objective.intercept.scale)
        return losses, 0.5 * penalty + losses.sum(axis=1)

    def __call__(self, indices: npt.NDArray[np.intp], factors: Floats) -> float:
        """Error of the coreset that keeps ``indices`` with weights multiplied by ``factors``."""
        change = -np.ones(self.data.n)
        change[indices] += factors
        errors = np.abs(self.losses @ change) / self.values
        worst = int(np.argmax(errors))
        model, error, reach = self.models[worst], float(errors[worst]), 0.5
        directions = np.vstack([np.eye(model.size), -np.eye(model.size), model[None, :] + 1e-3])
        for _ in range(10):
            tried = model + reach * directions * (1e-3 + np.abs(model))
            losses, values = self._evaluate(tried)
            found = np.abs(losses @ change) / values
            if found.max() > error:
                model, error = tried[int(np.argmax(found))], float(found.max())
            else:
                reach *= 0.5
        return error


def half_sets(d: int) -> Floats:
    """Indicators of all halves of d coordinates, as unit vectors: the instance of S4."""
    rows = np.zeros((0, d))
    for chosen in combinations(range(d), d // 2):
        row = np.zeros(d)
        row[list(chosen)] = 1.0
        rows = np.vstack([rows, row])
    return rows / np.sqrt(d / 2)


def _at_complement(data: LabelledSet, d: int, lam: float, point: int) -> tuple[Floats, float]:
    """Hinge losses times lam, and half the squared norm, at the query that the point alone dislikes."""
    query = np.sqrt(d / 2) * (np.abs(np.asarray(data.points)[point]) == 0.0)
    margins = data.signs * (np.asarray(data.points) @ query)
    return lam * np.maximum(0.0, 1.0 - margins), 0.5 * float(query @ query)


def over_attained(data: LabelledSet, d: int, lam: float, claimed: float) -> float:
    """A claimed share over the share that a point attains."""
    ratios = []
    for point in range(data.n):
        losses, half = _at_complement(data, d, lam, point)
        ratios.append(claimed * (half + losses.sum()) / (half / data.n + losses[point]))
    return max(ratios)


def over_missing(data: LabelledSet, d: int, lam: float, claimed: float) -> float:
    """A claimed error over that of the coreset without one point."""
    ratios = []
    for point in range(data.n):
        losses, half = _at_complement(data, d, lam, point)
        factors = np.full(data.n, data.n / (data.n - 1.0))
        factors[point] = 0.0
        ratios.append(claimed * (half + losses.sum()) / abs(float(losses @ (factors - 1.0))))
    return max(ratios)
