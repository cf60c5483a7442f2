"""How far a trained linear support vector machine is from the optimum, on all the data.

The value of the dual at any feasible point bounds the optimum from below (guarantee SG). The dual point that
the margins of a coreset's model suggest is far too weak: a true excess of less than one percent was
certified as thousands. What is missing is that w = sum a y x, which a few Newton steps on a smoothed hinge
loss bring about: its derivative is a dual point, and at its minimum that equation holds. A smoothing of
width g costs about lam g / 24 a unit of mass within g / 2 of the margin, which is made small against the
optimum. Each step is one pass over the data, O(n d), and a d x d system from the points in the band.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from coresets._validate import check_integer, check_real
from coresets.certificate import Certificate
from coresets.svm._newton import Newton
from coresets.svm.data import LabelledSet
from coresets.svm.dual import DualSums, rounding
from coresets.svm.objective import LinearModel, SVMObjective
from coresets.weighted_set import WeightedSet

__all__ = ["SVMCertificate", "svm_certificate"]

_MOST_PASSES = 200


@dataclass(frozen=True, eq=False)
class SVMCertificate:
    """Evidence for one trained model.

    Parameters
    ----------
    primal : float
        F(w, b) on the full data, rounded up.
    dual : float
        Lower bound on the optimum, rounded down.
    passes : int
        Reads of the full data that it took, the one for the primal value included.
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


def svm_certificate(
    data: LabelledSet | WeightedSet,
    model: LinearModel,
    objective: SVMObjective,
    *,
    gap: float = 0.0,
    tightness: float = 0.002,
    max_passes: int = _MOST_PASSES,
) -> SVMCertificate:
    """Certify F(w, b) <= (1 + gap) OPT for a linear model, however it was trained.

    Parameters
    ----------
    data : LabelledSet or WeightedSet
        All n points with their masses.
    model : LinearModel
        Coefficients to certify; ``LinearModel(clf.coef_, clf.intercept_)`` for scikit-learn.
    objective : SVMObjective
        The problem that they were trained for.
    gap : float
        Stop as soon as this gap is certified; at least 0.
    tightness : float
        Stop as soon as the lower bound is proved to be within this share of the optimum: more passes could
        lower the certified gap by no more.
    max_passes : int
        Stop after so many reads of the data, at least 1.

    Returns
    -------
    SVMCertificate

    Raises
    ------
    ValueError
        If the model does not fit the data or the objective, or a parameter is out of range.

    Notes
    -----
    With a free intercept and width 0 the first pass alone is the classical one-pass dual point. The search
    may end in solving the full problem; ``best`` is then its solution.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import LabelledSet, LinearModel, SVMObjective, svm_certificate
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice([-1, 1], 5000)
    >>> data = LabelledSet(rng.standard_normal((5000, 3)) + 0.5 * y[:, None], y)
    >>> found = svm_certificate(data, LinearModel([0.6, 0.6, 0.6]), SVMObjective(lam=0.1))
    >>> found.gap < 0.02, found.passes <= 8
    (True, True)
    """
    data = LabelledSet.of(data)
    gap, tightness = check_real(gap, "gap"), check_real(tightness, "tightness")
    if gap < 0.0 or tightness <= 0.0:
        raise ValueError(f"gap = {gap:g}, tightness = {tightness:g}; pass gap >= 0 and tightness > 0")
    max_passes = check_integer(max_passes, "max_passes", at_least=1)
    search = Newton.start(data, objective, model, tightness)
    primal = search.value * (1.0 + 4.0 * rounding(data.n, data.d)) + _margin_error(
        data, objective, model, search
    )
    best, best_value, dual, point = model, search.value, 0.0, DualSums.of(search.scan)
    while True:
        fresh = DualSums.of(search.scan)
        candidates = (fresh, point.joined(fresh, objective.intercept))
        point = max(candidates, key=lambda one: one.bound(objective.intercept))
        dual = max(dual, point.bound(objective.intercept))
        if search.value < best_value:
            best, best_value = search.model, search.value
        done = primal <= (1.0 + gap) * dual or best_value <= (1.0 + tightness) * dual
        if done or search.passes >= max_passes or search.stalled:
            break
        search = search.step(best_value - dual)
    return SVMCertificate(float(primal), float(dual), search.passes, best, float(best_value))


def _margin_error(data: LabelledSet, objective: SVMObjective, model: LinearModel, search: Newton) -> float:
    """Bound on the rounding of the margins' contribution to the primal value."""
    size = float(np.linalg.norm(model.w)) * search.scan.radius + abs(model.b) + 1.0
    # Only points of positive hinge loss contribute, and those near the margin.
    return (data.d + 4) * float(np.finfo(np.float64).eps) * size * objective.lam * data.total_weight
