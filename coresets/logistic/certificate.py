"""How far a logistic regression is from the optimum, on all the data; and training with that evidence.

The probabilities that a model gives to the wrong classes are a dual point, whose value falls short of F by
half the squared norm of the gradient (guarantee LD). So one read of the data certifies any model, and
well if it is well trained; otherwise Newton's method, two reads a step, improves the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_real
from coresets.certificate import Certificate
from coresets.logistic._newton import State
from coresets.logistic.dual import LogisticDual, rounding
from coresets.logistic.objective import LogisticObjective
from coresets.svm.data import LabelledSet
from coresets.svm.objective import LinearModel
from coresets.weighted_set import WeightedSet

__all__ = [
    "LogisticCertificate",
    "logistic_certificate",
    "logistic_lower_bound",
    "train_logistic",
]


@dataclass(frozen=True, eq=False)
class LogisticCertificate:
    """Evidence for one trained model.

    Parameters
    ----------
    primal : float
        F(w, b) on the full data, rounded up.
    dual : float
        Lower bound on the optimum, rounded down.
    passes : int
        Reads of the full data that it took.
    best : LinearModel
        The best model that was met on the way; the given one if no other was better.
    best_primal : float
        Its value on the full data.
    """

    primal: float
    dual: float
    passes: int
    best: LinearModel
    best_primal: float
    gap: float = field(init=False)

    def __post_init__(self) -> None:
        gap = self.primal / self.dual - 1.0 if self.dual > 0.0 else np.inf
        object.__setattr__(self, "gap", max(0.0, float(gap)))

    def as_certificate(self, bound: float | None = None) -> Certificate:
        """The same as one of the engine's certificates.

        Parameters
        ----------
        bound : float, optional
            What theory had promised for the excess.
        """
        return Certificate(
            name="duality gap",
            statement="F(w, b) on all the data is at most 1 + value times the optimum",
            value=min(self.gap, float(np.finfo(np.float64).max)),
            bound=bound,
            details={"primal": self.primal, "dual": self.dual, "passes": float(self.passes)},
        )


def logistic_certificate(
    data: LabelledSet | WeightedSet,
    model: LinearModel,
    objective: LogisticObjective,
    *,
    gap: float = 0.0,
    tightness: float = 1e-3,
    max_passes: int = 100,
) -> LogisticCertificate:
    """Certify F(w, b) <= (1 + gap) OPT for a linear model, however it was trained.

    Parameters
    ----------
    data : LabelledSet or WeightedSet
        All n points with their masses.
    model : LinearModel
        Coefficients to certify; ``LinearModel(clf.coef_, clf.intercept_)`` for scikit-learn.
    objective : LogisticObjective
        The problem that they were trained for.
    gap : float
        Stop as soon as this gap is certified; at least 0.
    tightness : float
        Stop as soon as the lower bound is proved to be within this share of the optimum: more reads could
        lower the certified gap by no more.
    max_passes : int
        Stop after so many reads of the data, at least 1; with 1 nothing but the model itself is used.

    Returns
    -------
    LogisticCertificate

    Raises
    ------
    ValueError
        If the model does not fit the data or the objective, or a parameter is out of range.

    Notes
    -----
    The search may end in solving the full problem; ``best`` is then its solution.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.logistic import LogisticObjective, logistic_certificate
    >>> from coresets.svm import LabelledSet, LinearModel
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice([-1, 1], 5000)
    >>> data = LabelledSet(rng.standard_normal((5000, 3)) + 0.5 * y[:, None], y)
    >>> found = logistic_certificate(data, LinearModel([1.0, 1.0, 1.0]), LogisticObjective(lam=0.1))
    >>> found.gap < 0.01, found.passes
    (True, 3)
    """
    data = LabelledSet.of(data)
    gap, tightness = check_real(gap, "gap"), check_real(tightness, "tightness")
    if gap < 0.0 or tightness <= 0.0:
        raise ValueError(f"gap = {gap:g}, tightness = {tightness:g}; pass gap >= 0 and tightness > 0")
    max_passes = check_integer(max_passes, "max_passes", at_least=1)
    objective.regulariser(model)  # refuses an intercept where there is none
    state = State(data, objective, model, objective.scan(data, model), 1)
    primal = _rounded_up(state)
    best, best_value, dual = model, state.value, 0.0
    while True:
        dual = max(dual, LogisticDual.of(state.found).bound(objective.intercept))
        if state.value < best_value:
            best, best_value = state.model, state.value
        done = primal <= (1.0 + gap) * dual or best_value <= (1.0 + tightness) * dual
        following = None if done or state.passes + 2 > max_passes else state.step()
        if following is None:
            break
        state = following
    return LogisticCertificate(primal, dual, state.passes, best, float(best_value))


def _rounded_up(state: State) -> float:
    """The value at the model, and a bound on its rounding: of the sums, and of the margins."""
    data, eps = state.data, float(np.finfo(np.float64).eps)
    size = float(np.linalg.norm(state.model.w)) * state.found.radius + abs(state.model.b)
    margins = (data.d + 4) * eps * size * state.objective.lam * data.total_weight
    return float(state.value * (1.0 + 4.0 * rounding(data.n, data.d)) + margins)


def train_logistic(
    data: LabelledSet | WeightedSet,
    objective: LogisticObjective,
    *,
    start: LinearModel | None = None,
    tightness: float = 1e-6,
    max_passes: int = 200,
) -> LogisticCertificate:
    """Minimise F on weighted data by Newton's method, with a certificate for what was reached.

    Parameters
    ----------
    data : LabelledSet or WeightedSet
        n points, d columns; d x d systems are solved, by conjugate gradients above 1500 columns.
    objective : LogisticObjective
        The problem.
    start : LinearModel, optional
        Zero by default.
    tightness : float
        Relative distance from the optimum at which to stop, positive.
    max_passes : int
        Stop after so many reads of the data.

    Returns
    -------
    LogisticCertificate
        For the model in ``best``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.logistic import LogisticObjective, train_logistic
    >>> from coresets.svm import LabelledSet
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice([-1, 1], 500)
    >>> data = LabelledSet(rng.standard_normal((500, 2)) + y[:, None], y)
    >>> train_logistic(data, LogisticObjective(0.1)).gap < 1e-6
    True
    """
    data = LabelledSet.of(data)
    start = LinearModel(np.zeros(data.d)) if start is None else start
    found = logistic_certificate(data, start, objective, tightness=0.5 * tightness, max_passes=max_passes)
    # The value is computed once more, at margins that are not sums of steps.
    again = State(data, objective, found.best, objective.scan(data, found.best), found.passes + 1)
    dual = max(found.dual, LogisticDual.of(again.found).bound(objective.intercept))
    return LogisticCertificate(_rounded_up(again), dual, again.passes, found.best, again.value)


def logistic_lower_bound(
    data: LabelledSet, objective: LogisticObjective, *, rng: Rng, pilot: int = 2000
) -> float:
    """Certified lower bound on the optimum, from a model trained on a pilot, in six reads of the data.

    Parameters
    ----------
    data : LabelledSet
        n points.
    objective : LogisticObjective
        The problem.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Which points are in the pilot. The bound is valid for any.
    pilot : int
        Points of the pilot, half of them of each class where there are as many; all if there are no more.

    Returns
    -------
    float
        At least 0, and at most the optimum; 0 if the intercept is free and a class has no mass.
    """
    pilot = check_integer(pilot, "pilot", at_least=2)
    if data.n <= pilot:
        return train_logistic(data, objective, tightness=1e-3, max_passes=100).dual
    generator = resolve_rng(rng)
    rows, weights = [], []
    for sign, mass in zip((-1, 1), data.class_weights, strict=True):
        own = np.flatnonzero((data.signs == sign) & (data.weights > 0.0))
        if own.size == 0:
            continue
        share = pilot // 2
        chosen = own if share >= own.size else own[np.unique(generator.integers(0, own.size, share))]
        rows.append(chosen)
        weights.append(data.weights[chosen] * (mass / data.weights[chosen].sum()))
    few = data.take(np.concatenate(rows), np.concatenate(weights))
    model = train_logistic(few, objective, tightness=1e-3, max_passes=100).best
    # At the model 0 no probability is rounded to 0 or 1, so its bound is positive whatever the pilot did.
    at_zero = LogisticDual.of(objective.scan(data, LinearModel(np.zeros(data.d)))).bound(objective.intercept)
    found = logistic_certificate(data, model, objective, tightness=0.05, max_passes=5)
    return max(found.dual, at_zero)
