"""Points of two classes, with masses; dense or sparse rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from coresets._validate import check_finite, check_points, check_weights
from coresets.errors import AssumptionError
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["LabelledSet"]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Points of two classes, with masses, on the host.

    Parameters
    ----------
    points : array or sparse matrix of shape (n, d)
        Finite rows. Dense arrays of any library become NumPy arrays of float32 or float64; sparse ones
        become CSR in float64.
    labels : array of shape (n,)
        Two distinct values, of any type that can be sorted; the larger one is the positive class.
    weights : array of shape (n,), optional
        Non-negative masses, not all zero; ones by default.
    classes : array of shape (2,), optional
        The negative and the positive label; found among the labels by default, and then both must be
        there. A part of a larger set is told its classes, and may lack one of them.

    Attributes
    ----------
    signs : int8 array of shape (n,)
        -1 and +1.

    Raises
    ------
    ValueError
        If shapes disagree, or a value is not finite, or a mass negative, or ``classes`` are not two
        different labels.
    AssumptionError
        If the labels do not have exactly two values, or are none of ``classes``; or if a class has no mass
        and ``classes`` were not given.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import LabelledSet
    >>> data = LabelledSet(np.eye(3), ["b", "a", "b"])
    >>> data.signs, data.class_weights
    (array([ 1, -1,  1], dtype=int8), (1.0, 2.0))
    """

    points: Any
    labels: Any
    weights: Any = None
    classes: Any = None
    signs: npt.NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        if sparse.issparse(self.points):
            points = sparse.csr_matrix(self.points).astype(np.float64, copy=False)
            if points.shape[0] < 1 or points.shape[1] < 1:
                raise ValueError(f"points has shape {points.shape}; at least one row and column are needed")
            check_finite(points.data, "points.data")
        else:
            points = np.ascontiguousarray(to_host(check_points(self.points)))
            if points.ndim != 2:
                raise ValueError(f"points has shape {points.shape}; pass (n, d)")
            if points.dtype not in (np.float32, np.float64):
                points = points.astype(np.float64)
        n = points.shape[0]
        labels = np.asarray(to_host(self.labels))
        if labels.shape != (n,):
            raise ValueError(f"labels has shape {labels.shape}; expected ({n},), one label a point")
        if labels.dtype.kind == "f":
            check_finite(labels, "labels")
        weights = np.ones(n) if self.weights is None else to_host(check_weights(self.weights, n))
        weights = np.ascontiguousarray(weights, dtype=np.float64)
        if self.classes is None:
            signs, classes = _signs(labels)
        else:
            classes = np.asarray(to_host(self.classes))
            signs = _signs_of(labels, classes)
        for name, value in (("points", points), ("labels", labels), ("weights", weights)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "signs", signs)
        if self.classes is None and min(self.class_weights) == 0.0:
            empty = classes[int(np.argmin(self.class_weights))]
            raise AssumptionError(
                f"the class {empty!r} has no mass; both classes need a point of positive mass"
            )
        object.__setattr__(self, "classes", classes)

    @classmethod
    def of(cls, data: WeightedSet | LabelledSet) -> LabelledSet:
        """The data as they are, or a :class:`WeightedSet` whose labels are two classes.

        Raises
        ------
        TypeError
            If the data are neither.
        ValueError
            If a :class:`WeightedSet` has no labels.
        """
        if isinstance(data, LabelledSet):
            return data
        if not isinstance(data, WeightedSet):
            raise TypeError(
                f"data is a {type(data).__name__}; wrap points and labels in a LabelledSet or a WeightedSet"
            )
        if data.labels is None:
            raise ValueError("the data have no labels; pass WeightedSet(points, weights, labels)")
        return cls(data.points, data.labels, data.weights)

    @classmethod
    def of_part(cls, data: WeightedSet) -> LabelledSet:
        """A part of a larger set, of two classes or of one, which then is the positive one.

        Which class is positive makes no difference to an objective that is symmetric in them. Points
        without mass do not count.
        """
        if data.labels is None:
            raise ValueError("the data have no labels; pass WeightedSet(points, weights, labels)")
        labels = np.asarray(to_host(data.labels))
        counted = to_host(data.weights) > 0.0
        classes = np.unique(labels[counted])
        if classes.size != 1:
            signs = np.where(labels == classes[-1], 1, -1)
            return cls(data.points, signs, data.weights) if classes.size == 2 else cls.of(data)
        return cls(data.points, np.ones(labels.size, np.int8), data.weights, (-1, 1))

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.points.shape[0])

    @property
    def d(self) -> int:
        """Number of columns."""
        return int(self.points.shape[1])

    @property
    def total_weight(self) -> float:
        """Sum of the masses."""
        return float(self.weights.sum())

    @property
    def class_weights(self) -> tuple[float, float]:
        """Masses of the negative and of the positive class."""
        positive = float(self.weights @ (self.signs > 0))
        return float(self.weights @ (self.signs < 0)), positive

    def take(self, indices: Any, weights: Any) -> LabelledSet:
        """Some rows, with masses of their own; of the same two classes, even if one is missing."""
        return LabelledSet(self.points[indices], self.labels[indices], weights, self.classes)

    def kept(self, coreset: Coreset) -> LabelledSet:
        """Rows of a coreset, with its weights."""
        if coreset.indices is None:
            raise TypeError("the coreset has free points; only kept rows have labels here")
        return self.take(to_host(coreset.indices), to_host(coreset.weights))

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        kind = "sparse, " if sparse.issparse(self.points) else ""
        return f"LabelledSet({kind}n={self.n}, d={self.d}, classes={self.classes.tolist()})"


def _signs_of(labels: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Signs by classes that are given."""
    if classes.shape != (2,) or classes[0] == classes[1]:
        raise ValueError(f"classes = {classes.tolist()!r}; pass the negative and the positive label")
    positive = labels == classes[1]
    if not bool(np.all(positive | (labels == classes[0]))):
        other = labels[~positive & (labels != classes[0])][0]
        raise AssumptionError(f"a label is {other!r}, which is none of the classes {classes.tolist()!r}")
    return np.where(positive, np.int8(1), np.int8(-1))


def _signs(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    """Signs, and the two classes in increasing order."""
    if labels.dtype.kind in "biuf":  # sorting a million labels would cost more than everything else
        low, high = labels.min(), labels.max()
        signs = np.where(labels == high, np.int8(1), np.int8(-1))
        if low != high and bool(np.all((labels == low) | (labels == high))):
            return signs, np.array([low, high])
    classes, codes = np.unique(labels, return_inverse=True)
    if classes.size != 2:
        shown = ", ".join(repr(c) for c in classes[:4].tolist())
        raise AssumptionError(
            f"labels has {classes.size} distinct values ({shown}{', ...' if classes.size > 4 else ''}); "
            "pass exactly two classes"
        )
    return np.where(codes == 1, np.int8(1), np.int8(-1)), classes
