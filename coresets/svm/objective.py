"""The objective of a support vector machine: one value owns lambda, C, total weight and the intercept.

F(w, b) = (|w|^2 + intercept penalty) / 2 + lam sum u(p) max(0, 1 - y(p) (w.p + b)),

with masses u. In scikit-learn's terms C = lam and ``sample_weight`` = u. Masses are not normalised, so a
coreset, whose masses add up to about the same total, is trained with the same C as the full data.

Where the total mass is not known in advance, or the data come in parts that each carry a share of the
regulariser, :class:`AverageSVMObjective` prices the mean hinge loss instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from coresets._validate import check_finite, check_real
from coresets.svm._rows import Pass, rows_of
from coresets.svm.data import LabelledSet
from coresets.weighted_set import Coreset, to_host

__all__ = [
    "AverageSVMObjective",
    "FreeIntercept",
    "Intercept",
    "LinearModel",
    "NoIntercept",
    "RegularisedIntercept",
    "SVMObjective",
]

Floats: TypeAlias = npt.NDArray[np.float64]


class Intercept(Protocol):
    """What the constant term b of a decision function w.x + b costs."""

    @property
    def scale(self) -> float:
        """Value of the constant coordinate whose coefficient is penalised; 0 if there is none."""

    @property
    def free(self) -> bool:
        """Whether b costs nothing."""


@dataclass(frozen=True, slots=True)
class NoIntercept:
    """b = 0: ``LinearSVC(fit_intercept=False)``."""

    @property
    def scale(self) -> float:
        """No constant coordinate."""
        return 0.0

    @property
    def free(self) -> bool:
        """No: it is absent."""
        return False


@dataclass(frozen=True, slots=True)
class RegularisedIntercept:
    """b = scale * c with penalty c^2 / 2: ``LinearSVC(intercept_scaling=scale)``.

    Parameters
    ----------
    scale : float
        Value of the constant coordinate, positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        scale = check_real(self.scale, "scale")
        if scale <= 0.0:
            raise ValueError(f"scale = {scale:g} is not positive; use NoIntercept() for a model without b")
        object.__setattr__(self, "scale", scale)

    @property
    def free(self) -> bool:
        """No: it has a price."""
        return False


@dataclass(frozen=True, slots=True)
class FreeIntercept:
    """b without a penalty: ``SVC``."""

    @property
    def scale(self) -> float:
        """No penalised coordinate."""
        return 0.0

    @property
    def free(self) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A decision function w.x + b; positive values stand for the second class.

    Parameters
    ----------
    w : array of shape (d,)
        Finite normal vector.
    b : float
        Intercept.
    """

    w: Floats
    b: float = 0.0

    def __post_init__(self) -> None:
        w = np.asarray(to_host(self.w), dtype=np.float64)
        if w.ndim == 2 and w.shape[0] == 1:  # scikit-learn's coef_
            w = w[0]
        if w.ndim != 1 or w.size < 1:
            raise ValueError(f"w has shape {w.shape}; expected (d,), one coefficient a column")
        check_finite(w, "w")
        b = np.asarray(to_host(self.b), dtype=np.float64)
        if b.size != 1:
            raise ValueError(f"b has shape {b.shape}; expected one number")
        object.__setattr__(self, "w", w)
        object.__setattr__(self, "b", check_real(b.reshape(-1)[0], "b"))

    def decision(self, points: Any) -> Floats:
        """Values w.x + b for points of shape (n, d), dense or sparse."""
        return np.asarray(points @ self.w, dtype=np.float64) + self.b


@dataclass(frozen=True)
class SVMObjective:
    """Regularised hinge loss.

    Parameters
    ----------
    lam : float
        Price of the hinge loss of a unit of mass; positive. It is scikit-learn's C.
    intercept : Intercept
        :class:`RegularisedIntercept` by default, as in ``LinearSVC``; :class:`FreeIntercept` as in ``SVC``;
        or :class:`NoIntercept`.

    Raises
    ------
    ValueError
        If ``lam`` is not positive and finite.
    TypeError
        If ``intercept`` is not a value with ``scale`` and ``free``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import LabelledSet, LinearModel, SVMObjective
    >>> data = LabelledSet(np.array([[-1.0], [2.0]]), ["no", "yes"], weights=[1.0, 3.0])
    >>> SVMObjective(lam=0.5).value(data, LinearModel([0.5]))  # 1/8 for w, 0.5 (1 * 0.5 + 3 * 0) for the data
    0.375
    """

    lam: float = 1.0
    intercept: Intercept = RegularisedIntercept()

    def __post_init__(self) -> None:
        lam = check_real(self.lam, "lam")
        if lam <= 0.0:
            raise ValueError(f"lam = {lam:g} is not positive; pass the C of scikit-learn")
        object.__setattr__(self, "lam", lam)
        _check_intercept(self.intercept)

    @classmethod
    def of_average(
        cls, alpha: float, total_weight: float, intercept: Intercept = RegularisedIntercept()
    ) -> SVMObjective:
        """The objective alpha |w|^2 / 2 + mean hinge loss, divided by alpha: lam = 1 / (alpha U).

        Parameters
        ----------
        alpha : float
            Regularisation against the mean, positive; ``SGDClassifier`` calls it alpha.
        total_weight : float
            Total mass U of the full data, positive; a number of points if they weigh 1.
        intercept : Intercept
            What b costs.

        Examples
        --------
        >>> SVMObjective.of_average(1e-4, 1_000_000).lam
        0.01
        """
        return AverageSVMObjective(alpha, intercept).of_mass(total_weight)

    def averaged(self, total_weight: float) -> AverageSVMObjective:
        """The same problem, priced for the mean over a total mass that is known.

        Parameters
        ----------
        total_weight : float
            Total mass U of the data that ``lam`` is meant for, positive.
        """
        total = check_real(total_weight, "total_weight")
        if total <= 0.0:
            raise ValueError(f"total_weight = {total:g} is not positive")
        return AverageSVMObjective(1.0 / (self.lam * total), self.intercept)

    @property
    def C(self) -> float:  # noqa: N802 - scikit-learn's name
        """The same number under scikit-learn's name."""
        return self.lam

    def sample_weight(self, coreset: Coreset) -> Floats:
        """Masses of the kept points: ``sample_weight`` for a fit of the rows ``coreset.indices``."""
        return np.asarray(to_host(coreset.weights), dtype=np.float64)

    def for_block(self, block_weight: float, total_weight: float) -> SVMObjective:
        """Objective of a block that carries its share of the regulariser, times a constant.

        The objectives of disjoint blocks, each times block_weight / total_weight, add up to the whole one;
        with the full regulariser in every block they would not.

        Parameters
        ----------
        block_weight, total_weight : float
            Masses of the block and of everything, of the original points: 0 < block <= total.
        """
        block, total = check_real(block_weight, "block_weight"), check_real(total_weight, "total_weight")
        if not 0.0 < block <= total * (1.0 + 1e-12):
            raise ValueError(f"block_weight = {block:g} is not in (0, {total:g}], the total weight")
        return SVMObjective(self.lam * total / block, self.intercept)

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
        return self.regulariser(model) + self.scan(data, model).hinges

    def scan(self, data: LabelledSet, model: LinearModel, width: float = 0.0) -> Pass:
        """One pass over the data: margins, hinge loss times lam, and the dual point that they suggest."""
        if model.w.size != data.d:
            raise ValueError(f"w has {model.w.size} coefficients, the points have {data.d} columns")
        return rows_of(data.points).scan(data.signs, self.lam * data.weights, model.w, model.b, width)


@dataclass(frozen=True)
class AverageSVMObjective:
    """alpha |w|^2 / 2 + mean hinge loss: a price that does not depend on how many points there are.

    Data of total mass U have the objective U (alpha |w|^2 / 2 + mean hinge loss), which adds up over disjoint
    parts. Divided by alpha U it is an :class:`SVMObjective` with lam = 1 / (alpha U).

    Parameters
    ----------
    alpha : float
        Price of the regulariser, positive; ``SGDClassifier`` calls it alpha.
    intercept : Intercept
        As for :class:`SVMObjective`.

    Raises
    ------
    ValueError
        If ``alpha`` is not positive and finite.
    TypeError
        If ``intercept`` is not a value with ``scale`` and ``free``.

    Examples
    --------
    >>> from coresets.svm import AverageSVMObjective, SVMObjective
    >>> AverageSVMObjective(1e-4).of_mass(1_000_000).lam
    0.01
    >>> SVMObjective(lam=0.01).averaged(1_000_000).alpha
    0.0001
    """

    alpha: float
    intercept: Intercept = RegularisedIntercept()

    def __post_init__(self) -> None:
        alpha = check_real(self.alpha, "alpha")
        if alpha <= 0.0:
            raise ValueError(f"alpha = {alpha:g} is not positive")
        object.__setattr__(self, "alpha", alpha)
        _check_intercept(self.intercept)

    def of_mass(self, mass: float) -> SVMObjective:
        """The objective of data whose original masses add up to ``mass``, which is positive."""
        mass = check_real(mass, "mass")
        if mass <= 0.0:
            raise ValueError(f"mass = {mass:g} is not positive")
        return SVMObjective(1.0 / (self.alpha * mass), self.intercept)


def _check_intercept(intercept: Intercept) -> None:
    scale, free = getattr(intercept, "scale", None), getattr(intercept, "free", None)
    if isinstance(intercept, type) or scale is None or not isinstance(free, bool):
        raise TypeError(
            f"intercept = {intercept!r}; pass RegularisedIntercept(), FreeIntercept() or NoIntercept()"
        )
