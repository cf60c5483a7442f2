"""How far a trained linear support vector machine is from the optimum, on all the data.

The value of the dual at any feasible point bounds the optimum from below (guarantee SG). The dual point that
the margins of a coreset's model suggest is far too weak: a true excess of less than one percent was
certified as thousands. What is missing is that w = sum a y x, which a few Newton steps on a smoothed hinge
loss bring about: its derivative is a dual point, and at its minimum that equation holds. A smoothing of
width g costs about lam g / 24 a unit of mass within g / 2 of the margin, which is made small against the
optimum. Each step is one pass over the data, O(n d), and a d x d system from the points in the band.

Where the price lam is large, or the classes separable, such steps become short. After some 25 passes an
interior-point method takes over, which needs about 25 iterations of six passes whatever the price.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from coresets._validate import check_integer, check_real
from coresets.certificate import Certificate
from coresets.svm._search import Stop, search
from coresets.svm.data import LabelledSet
from coresets.svm.objective import LinearModel, SVMObjective
from coresets.weighted_set import WeightedSet

__all__ = ["SVMCertificate", "svm_certificate"]

_MOST_PASSES = 500


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
    tightness: float = 0.005,
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
        Stop as soon as the certified gap is at most twice the true one plus this: the best model met so far
        bounds the true one from below.
    max_passes : int
        Begin no further step after so many reads of the data, at least 1. Only then, or if rounding leaves
        no progress to be made, may the gap be larger than that.

    Returns
    -------
    SVMCertificate

    Raises
    ------
    ValueError
        If the model does not fit the data or the objective, or a parameter is out of range.
    AssumptionError
        If the intercept is free and a class has no mass.

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
    found = search(data, objective, model, Stop(tightness, gap, relative=True), max_passes)
    return SVMCertificate(
        float(found.primal), float(found.dual), found.passes, found.best, float(found.best_value)
    )
