"""Shares of the logistic loss found by search, the worst models for a coreset, and sets of two classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from coresets.logistic import LogisticObjective, train_logistic
from coresets.svm import FreeIntercept, Intercept, LabelledSet, NoIntercept, RegularisedIntercept
from coresets.weighted_set import WeightedSet
from proofs_check.workloads import Workload

__all__ = [
    "INTERCEPTS",
    "LogisticWorst",
    "Problem",
    "drawn_problems",
    "largest_logistic_shares",
    "small_problems",
]

Floats: TypeAlias = npt.NDArray[np.float64]

INTERCEPTS: tuple[Intercept, ...] = (FreeIntercept(), RegularisedIntercept(2.0), NoIntercept())


@dataclass(frozen=True, eq=False)
class Problem:
    """Labelled points, the objective, and whether the regulariser is part of the cost.

    Parameters
    ----------
    name : str
        Shown in reports.
    data : LabelledSet
        n points.
    objective : LogisticObjective
        With its price and intercept.
    regularised : bool
        False for the losses alone, whose price does not matter then.
    kind : str
        Of the workload.
    """

    name: str
    data: LabelledSet
    objective: LogisticObjective
    regularised: bool = True
    kind: str = "adversarial"

    @property
    def workload(self) -> Workload:
        """For the report."""
        shown = WeightedSet(np.asarray(self.data.points), self.data.weights)
        return Workload(self.name, self.kind, shown)

    @property
    def rows(self) -> Floats:
        """Signed rows y (x, 1), or y x without an intercept."""
        rows = np.asarray(self.data.points, dtype=np.float64)
        if self.objective.intercept.free or self.objective.intercept.scale > 0.0:
            rows = np.column_stack([rows, np.ones(self.data.n)])
        return rows * self.data.signs[:, None]

    @property
    def prices(self) -> Floats:
        """Half of these times the squares of the coefficients is the regulariser."""
        prices = np.ones(self.rows.shape[1])
        scale = self.objective.intercept.scale
        if self.objective.intercept.free or scale > 0.0:
            prices[-1] = 1.0 / scale**2 if scale > 0.0 else 0.0
        return prices if self.regularised else 0.0 * prices

    def costs(self, models: Floats) -> tuple[Floats, Floats]:
        """Losses times lam u of all points at all models, (k, n), and the whole cost, (k,)."""
        losses = self.objective.lam * self.data.weights * np.logaddexp(0.0, -(models @ self.rows.T))
        return losses, losses.sum(axis=1) + 0.5 * np.square(models) @ self.prices

    @property
    def optimum(self) -> Floats:
        """Coefficients near the optimum with the regulariser."""
        found = train_logistic(self.data, self.objective, tightness=1e-4, max_passes=60).best
        return np.append(found.w, found.b)[: self.rows.shape[1]]


def largest_logistic_shares(problem: Problem) -> Floats:
    """Largest share of every point that a search over models in one or two coefficients finds.

    A grid of directions and lengths, with a local search from the best point of it for each share. What is
    returned is attained at a model, so a bound below it is wrong.
    """
    rows, prices = problem.rows, problem.prices
    if rows.shape[1] == 1:
        directions = np.array([[1.0], [-1.0]])
    else:
        angles = np.concatenate(
            [np.linspace(0.0, 2.0 * np.pi, 120, endpoint=False)]
            + [np.arctan2(rows[:, 1], rows[:, 0]) + turn for turn in (0.0, np.pi / 2, np.pi, -np.pi / 2)]
        )
        directions = np.column_stack([np.cos(angles), np.sin(angles)])
    lengths = np.append(0.0, np.geomspace(1e-3, 1e4, 60))
    models = (directions[:, None, :] * lengths[None, :, None]).reshape(-1, rows.shape[1])
    losses, values = problem.costs(models)
    shares = losses / values[:, None]
    best, chosen = shares.max(axis=0), models[shares.argmax(axis=0)]
    caps = problem.objective.lam * problem.data.weights
    for p in range(problem.data.n):

        def negative(model: Floats, p: int = p) -> tuple[float, Floats]:
            margins = rows @ model
            slopes = -caps / (1.0 + np.exp(np.clip(margins, -500.0, 500.0)))
            own = caps * np.logaddexp(0.0, -margins)
            value = float(own.sum() + 0.5 * prices @ np.square(model))
            gradient = slopes[p] * rows[p] / own[p] - (slopes @ rows + prices * model) / value
            return float(np.log(value) - np.log(own[p])), -gradient

        found = minimize(negative, chosen[p], jac=True, method="L-BFGS-B").x
        polished, value = problem.costs(found[None, :])
        best[p] = max(best[p], float(polished[0, p] / value[0]))
    return best


def small_problems() -> Iterator[tuple[str, LabelledSet, float]]:
    """Small overlapping sets of one column, with prices."""
    for seed, lam in ((0, 0.02), (1, 0.3), (2, 3.0)):
        rng = np.random.default_rng(seed)
        y = np.array([-1, 1, *rng.choice([-1, 1], 9)])
        x = rng.standard_normal(11) * 2.0 + y
        yield (
            f"eleven points of seed {seed}, lam = {lam:g}",
            LabelledSet(x[:, None], y, rng.uniform(0.2, 3.0, 11)),
            lam,
        )
    rng = np.random.default_rng(4)
    y = np.resize([-1, 1], 8)
    x = rng.standard_normal(8) * 0.3 + 0.1 * y
    yield "eight close points, lam = 20", LabelledSet(x[:, None], y), 20.0
    far = np.append(np.zeros(6), [5.0, -4.0, 0.3, -0.2])
    signs = np.array([-1, 1, -1, 1, -1, 1, 1, -1, -1, 1])
    yield "points at the origin, lam = 1", LabelledSet(far[:, None], signs), 1.0
    x = np.append(np.linspace(1.0, 2.0, 12), 0.5)
    yield (
        "one small point on the wrong side, lam = 0.5",
        LabelledSet(x[:, None], np.append(np.ones(12), -1)),
        0.5,
    )


def drawn_problems(points: int, lam: float) -> Iterator[tuple[str, LabelledSet, float]]:
    """Sets to draw from, on which sizes below half of them promise something."""
    rng = np.random.default_rng(5)
    y = rng.choice([-1, 1], points)
    x = rng.standard_normal((points, 1)) + 0.3 * y[:, None]
    yield "two Gaussians", LabelledSet(x, y), lam
    y, u = rng.choice([-1, 1], points), np.ones(points)
    x = rng.standard_normal((points, 1))
    heavy = [points // 3, points // 2]
    y[heavy], u[heavy], x[heavy] = (-1, 1), 2.0 * points, 0.5
    yield "a heavy point of each class", LabelledSet(x, y, u), lam


@dataclass(frozen=True, eq=False)
class LogisticWorst:
    """Largest relative error over models: prepared ones, then ascent from the worst of them."""

    problem: Problem
    models: Floats = field(init=False)
    losses: Floats = field(init=False)
    values: Floats = field(init=False)

    def __post_init__(self) -> None:
        rows = self.problem.rows
        best = self.problem.optimum
        order = np.argsort(-np.linalg.norm(rows, axis=1))
        heavy = np.argsort(-self.problem.data.weights)[:2]
        chosen = np.unique(np.concatenate([order[:8], order[:: max(1, len(order) // 12)], heavy]))
        models = [best, 0.0 * best, -best]
        for p in chosen:
            z = rows[p] / max(float(rows[p] @ rows[p]), 1e-300)
            models += [-r * z for r in (0.1, 1.0, 10.0)] + [best - r * z for r in (0.5, 3.0)]
        if not self.problem.regularised:
            models += [100.0 * model for model in models]
        losses, values = self.problem.costs(np.array(models))
        object.__setattr__(self, "models", np.array(models))
        object.__setattr__(self, "losses", losses)
        object.__setattr__(self, "values", values)

    def __call__(self, indices: npt.NDArray[np.intp], factors: Floats) -> float:
        """Error of the coreset that keeps ``indices`` with weights multiplied by ``factors``."""
        change = -np.ones(self.problem.data.n)
        change[indices] += factors
        errors = np.abs(self.losses @ change) / self.values
        worst = int(np.argmax(errors))
        model, error, reach = self.models[worst], float(errors[worst]), 0.5
        directions = np.vstack([np.eye(model.size), -np.eye(model.size), model[None, :] + 1e-3])
        for _ in range(6):
            tried = model + reach * directions * (1e-3 + np.abs(model))
            losses, values = self.problem.costs(tried)
            found = np.abs(losses @ change) / values
            if found.max() > error:
                model, error = tried[int(np.argmax(found))], float(found.max())
            else:
                reach *= 0.5
        return error
