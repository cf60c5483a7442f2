"""The objective of a logistic regression: one value owns lambda, C, total weight and the intercept.

F(w, b) = (|w|^2 + intercept penalty) / 2 + lam sum u(p) ln(1 + exp(-y(p) (w.p + b))),

with masses u. In scikit-learn's terms C = lam and ``sample_weight`` = u: ``LogisticRegression(C=lam)`` has a
:class:`~coresets.svm.FreeIntercept`. Masses are not normalised, so a coreset, whose masses add up to about
the same total, is trained with the same C as the full data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._validate import check_real
from coresets.logistic._pass import Pass, images, scan
from coresets.svm.data import LabelledSet
from coresets.svm.objective import FreeIntercept, Intercept, LinearModel
from coresets.weighted_set import Coreset, to_host

__all__ = ["AverageLogisticObjective", "LogisticObjective"]

Floats: TypeAlias = npt.NDArray[np.float64]


def _check_intercept(intercept: object) -> None:
    scale, free = getattr(intercept, "scale", None), getattr(intercept, "free", None)
    if isinstance(intercept, type) or scale is None or not isinstance(free, bool):
        raise TypeError(
            f"intercept = {intercept!r}; pass FreeIntercept(), RegularisedIntercept() or NoIntercept()"
        )


def _positive(value: object, name: str) -> float:
    number = check_real(value, name)
    if number <= 0.0:
        raise ValueError(f"{name} = {number:g} is not positive")
    return number


@dataclass(frozen=True)
class LogisticObjective:
    """Regularised logistic loss.

    Parameters
    ----------
    lam : float
        Price of the logistic loss of a unit of mass, positive. It is scikit-learn's C.
    intercept : Intercept
        :class:`~coresets.svm.FreeIntercept` by default, as in ``LogisticRegression``;
        :class:`~coresets.svm.RegularisedIntercept` as with its solver ``liblinear``; or
        :class:`~coresets.svm.NoIntercept`.

    Raises
    ------
    ValueError
        If ``lam`` is not positive and finite.
    TypeError
        If ``intercept`` is not a value with ``scale`` and ``free``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.logistic import LogisticObjective
    >>> from coresets.svm import LabelledSet, LinearModel
    >>> data = LabelledSet(np.array([[-1.0], [2.0]]), ["no", "yes"], weights=[1.0, 3.0])
    >>> value = LogisticObjective(lam=0.5).value(data, LinearModel([0.0]))  # 0.5 (1 + 3) ln 2
    >>> round(float(value / np.log(2.0)), 12)
    2.0
    """

    lam: float = 1.0
    intercept: Intercept = FreeIntercept()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", _positive(self.lam, "lam"))
        _check_intercept(self.intercept)

    def averaged(self, total_weight: float) -> AverageLogisticObjective:
        """The same problem, priced for the mean over a total mass that is known and positive."""
        total = _positive(total_weight, "total_weight")
        return AverageLogisticObjective(1.0 / (self.lam * total), self.intercept)

    def sample_weight(self, coreset: Coreset) -> Floats:
        """Masses of the kept points: ``sample_weight`` for a fit of the rows ``coreset.indices``."""
        return np.asarray(to_host(coreset.weights), dtype=np.float64)

    def regulariser(self, model: LinearModel) -> float:
        """Half the squared norm of w, and of the intercept's coefficient.

        Raises
        ------
        ValueError
            If the model has an intercept and the objective none.
        """
        penalty = float(model.w @ model.w)
        if self.intercept.scale > 0.0:
            penalty += (model.b / self.intercept.scale) ** 2
        elif not self.intercept.free and model.b != 0.0:
            raise ValueError(f"b = {model.b:g}, but the objective has no intercept; pass b = 0")
        return 0.5 * penalty

    def costs(self, data: LabelledSet, model: LinearModel) -> Floats:
        """Losses ln(1 + exp(-margin)) of all points, without masses or lam, shape (n,)."""
        found: Floats = np.logaddexp(0.0, -self._margins(data, model))
        return found

    def value(self, data: LabelledSet, model: LinearModel) -> float:
        """F(w, b) on weighted data, in float64.

        Parameters
        ----------
        data : LabelledSet
            n points of d columns.
        model : LinearModel
            Of d coefficients.

        Raises
        ------
        ValueError
            If the model has another number of coefficients, or b where there is no intercept.
        """
        return self.regulariser(model) + self.lam * float((data.weights * self.costs(data, model)).sum())

    def scan(self, data: LabelledSet, model: LinearModel) -> Pass:
        """One read of the data: margins, losses times lam, and the dual point that they suggest."""
        return scan(data.points, data.signs, self.lam * data.weights, self._margins(data, model))

    def _margins(self, data: LabelledSet, model: LinearModel) -> Any:
        if model.w.size != data.d:
            raise ValueError(f"w has {model.w.size} coefficients, the points have {data.d} columns")
        return data.signs * images(data.points, model.w, model.b)


@dataclass(frozen=True)
class AverageLogisticObjective:
    """alpha |w|^2 / 2 + mean logistic loss: a price that does not depend on how many points there are.

    Data of total mass U have the objective U (alpha |w|^2 / 2 + mean loss), which adds up over disjoint
    parts. Divided by alpha U it is a :class:`LogisticObjective` with lam = 1 / (alpha U).

    Parameters
    ----------
    alpha : float
        Price of the regulariser, positive; ``SGDClassifier(loss="log_loss")`` calls it alpha.
    intercept : Intercept
        As for :class:`LogisticObjective`.

    Raises
    ------
    ValueError
        If ``alpha`` is not positive and finite.
    TypeError
        If ``intercept`` is not a value with ``scale`` and ``free``.

    Examples
    --------
    >>> from coresets.logistic import AverageLogisticObjective, LogisticObjective
    >>> AverageLogisticObjective(1e-4).of_mass(1_000_000).lam
    0.01
    >>> LogisticObjective(lam=0.01).averaged(1_000_000).alpha
    0.0001
    """

    alpha: float
    intercept: Intercept = FreeIntercept()

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _positive(self.alpha, "alpha"))
        _check_intercept(self.intercept)

    def of_mass(self, mass: float) -> LogisticObjective:
        """The objective of data whose original masses add up to ``mass``, which is positive."""
        return LogisticObjective(1.0 / (self.alpha * _positive(mass, "mass")), self.intercept)
