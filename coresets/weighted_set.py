"""Weighted point sets and their coresets.

A :class:`WeightedSet` is data: points, non-negative masses, optional labels. A
:class:`Coreset` is a small weighted set that stands for it; it holds indices into the data, or
free points, and never the data themselves.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array

from coresets._archives import read_archive, write_archive
from coresets._validate import (
    as_array,
    as_floating,
    beside,
    check_finite,
    check_integer,
    check_non_negative,
    check_points,
    check_weights,
    plain_array,
)
from coresets.accuracy import Accuracy
from coresets.certificate import Certificate

__all__ = ["Coreset", "WeightedSet", "to_host"]

Array = Any

_KIND, _FORMAT = "coreset", 1  # of the file, and the version of its layout


def to_host(array: Array) -> np.ndarray:
    """NumPy copy of an array of any library and device."""
    if is_numpy_array(array):
        return np.asarray(array)
    if hasattr(array, "detach"):  # a tensor, perhaps with a gradient and on a device
        array = array.detach().cpu()
    return np.asarray(array)


@dataclass(frozen=True, eq=False)
class WeightedSet:
    """Points with masses, and labels if the problem has them.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real numbers, one row a point; n, d >= 1. Any array-API array; float32 and float64
        are kept, other dtypes (integers, half precisions) become float64.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero, of any total; ones by default. Arrays of the
        library of the points keep their dtype; lists and other arrays take that of the points.
    labels : array of shape (n,), optional
        One label or target a point.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a mass is negative, or all masses are zero.
    TypeError
        If the entries are not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> data = WeightedSet(np.eye(3), weights=[1.0, 2.0, 3.0])
    >>> data.n, data.d, float(data.total_weight)
    (3, 3, 6.0)
    """

    points: Array
    weights: Array = None
    labels: Array = None

    def __post_init__(self) -> None:
        points = check_points(self.points)
        if points.ndim != 2:
            raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
        xp = array_namespace(points)
        n = points.shape[0]
        if self.weights is None:
            weights = xp.ones(n, dtype=points.dtype, device=device(points))
        else:
            weights = check_weights(self.weights, n)
            native = is_array_api_obj(self.weights) and array_namespace(weights) is xp
            weights = beside(weights, points, "weights")
            if not native and weights.dtype != points.dtype:
                # Once more: in fewer digits a mass may overflow, or all of them vanish.
                with np.errstate(over="ignore"):
                    weights = check_weights(xp.astype(weights, points.dtype), n)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", weights)
        if self.labels is not None:
            labels = plain_array(self.labels, "labels")
            if tuple(labels.shape) != (n,):
                raise ValueError(
                    f"labels has shape {tuple(labels.shape)}; expected ({n},), one label a point"
                )
            if _is_floating(labels):
                check_finite(labels, "labels")
            object.__setattr__(self, "labels", labels)

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.points.shape[0])

    @property
    def d(self) -> int:
        """Dimension of the points."""
        return int(self.points.shape[1])

    @property
    def total_weight(self) -> float:
        """Sum of the masses."""
        return float(array_namespace(self.weights).sum(self.weights))

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        labelled = "" if self.labels is None else ", labelled"
        return f"WeightedSet(n={self.n}, d={self.d}, total_weight={self.total_weight:g}{labelled})"


def _is_floating(value: Array) -> bool:
    if isinstance(value, np.ndarray):  # labels may be strings, of which the standard knows nothing
        return bool(value.dtype.kind == "f")
    return bool(array_namespace(value).isdtype(value.dtype, "real floating"))


@dataclass(frozen=True, eq=False)
class Coreset:
    """A small weighted set that answers almost as its parent does.

    Parameters
    ----------
    indices : integer array of shape (support_size,) or None
        Rows of the parent that were kept, strictly increasing; None for free points.
    weights : array of shape (support_size,)
        Non-negative masses of the kept points.
    size : int
        Number of points that was asked for, or of draws made.
    accuracy : Accuracy
        What the construction promises.
    points : array of shape (support_size, d), optional
        Free points, given exactly when ``indices`` is None.
    certificates : tuple of Certificate
        Evidence computed from this very result.

    Raises
    ------
    ValueError
        If both or neither of indices and points are given, or shapes disagree.
    TypeError
        If the accuracy is not an :class:`Accuracy`, or an array holds no real numbers.

    Notes
    -----
    The parent data are not kept; :meth:`of` gathers the kept rows from them.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, Coreset, WeightedSet
    >>> coreset = Coreset(
    ...     indices=np.array([0, 2]), weights=np.array([1.5, 1.5]), size=2, accuracy=Accuracy(0.5, 0.1)
    ... )
    >>> coreset.of(WeightedSet(np.arange(6.0).reshape(3, 2))).points
    array([[0., 1.],
           [4., 5.]])
    """

    indices: Array
    weights: Array
    size: int
    accuracy: Accuracy
    points: Array = None
    certificates: tuple[Certificate, ...] = field(default=())

    def __post_init__(self) -> None:
        if (self.indices is None) == (self.points is None):
            raise ValueError("pass either indices (rows of the parent) or points (free), not both or neither")
        weights = as_floating(self.weights, "weights")
        if weights.ndim != 1:
            raise ValueError(f"weights has shape {tuple(weights.shape)}; expected one dimension")
        if weights.shape[0]:  # Poisson sampling may keep nothing at all
            weights = check_non_negative(weights, name="weights")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "size", check_integer(self.size, "size", at_least=1))
        if not isinstance(self.accuracy, Accuracy):
            raise TypeError(f"accuracy = {self.accuracy!r}; pass Accuracy(epsilon, delta)")
        object.__setattr__(self, "certificates", tuple(self.certificates))
        k = weights.shape[0]
        if self.indices is not None:
            indices = as_array(self.indices, "indices")
            xp = array_namespace(indices)
            if not xp.isdtype(indices.dtype, "integral") or tuple(indices.shape) != (k,):
                raise ValueError(
                    f"indices has shape {tuple(indices.shape)} and dtype {indices.dtype}; "
                    f"expected ({k},) integers, one a weight"
                )
            if k > 1 and not bool(xp.all(indices[1:] > indices[:-1])):
                raise ValueError("indices are not strictly increasing; merge duplicates and sort")
            if k and int(indices[0]) < 0:
                raise ValueError(f"indices[0] = {int(indices[0])} is negative; count rows from 0")
            object.__setattr__(self, "indices", indices)
        else:
            points = check_points(self.points)
            if points.shape[0] != k:
                raise ValueError(f"points has {points.shape[0]} rows; expected {k}, one a weight")
            object.__setattr__(self, "points", points)

    @property
    def support_size(self) -> int:
        """Number of points that were kept."""
        return int(self.weights.shape[0])

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(array_namespace(self.weights).sum(self.weights))

    def of(self, data: WeightedSet) -> WeightedSet:
        """Gather the kept rows of the parent, with the coreset's weights.

        Parameters
        ----------
        data : WeightedSet
            The parent that the indices refer to. For free points it only lends the type.

        Returns
        -------
        WeightedSet
            ``support_size`` points, with their labels if the parent has labels.

        Raises
        ------
        IndexError
            If an index lies outside the data: they are not the parent.
        ValueError
            If nothing was kept, so that there is no set to speak of.
        TypeError
            If the data are not a :class:`WeightedSet`.
        """
        if not isinstance(data, WeightedSet):
            raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
        if self.support_size == 0:
            raise ValueError("the coreset is empty; draw a larger one, or with a fixed size")
        if self.indices is None:
            return WeightedSet(self.points, self.weights)
        if int(self.indices[-1]) >= data.n:
            raise IndexError(
                f"index {int(self.indices[-1])} is outside the {data.n} points given; "
                "pass the data that the coreset was reduced from"
            )
        xp = array_namespace(data.points)
        indices = beside(self.indices, data.points, "indices")  # those of a loaded coreset are NumPy's
        labels = data.labels
        if labels is not None:
            labels = labels[to_host(indices) if is_numpy_array(labels) else indices]
        return WeightedSet(xp.take(data.points, indices, axis=0), self.weights, labels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an ``.npz`` file, atomically and without pickle.

        Parameters
        ----------
        path : path-like
            Name of the file. It holds the arrays and one JSON header; nothing in it is executed
            on loading.
        """
        header = {
            "kind": _KIND,
            "format": _FORMAT,
            "size": self.size,
            "epsilon": self.accuracy.epsilon,
            "delta": self.accuracy.delta,
            "certificates": [certificate.to_dict() for certificate in self.certificates],
        }
        arrays = {"weights": to_host(self.weights)}
        if self.indices is not None:
            arrays["indices"] = to_host(self.indices)
        else:
            arrays["points"] = to_host(self.points)
        write_archive(path, header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Coreset:
        """Read what :meth:`save` wrote; arrays come back as NumPy arrays.

        Raises
        ------
        ValueError
            If the file is not a saved coreset, is damaged, or has another format version.
        FileNotFoundError
            If there is no such file.
        """
        header, arrays = read_archive(path, _KIND, version=_FORMAT)
        try:
            return cls(
                indices=arrays.get("indices"),
                points=arrays.get("points"),
                weights=arrays["weights"],
                size=header["size"],
                accuracy=Accuracy(header["epsilon"], header["delta"]),
                certificates=tuple(Certificate.from_dict(c) for c in header["certificates"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)} has a damaged header: {error}") from error

    def __repr__(self) -> str:
        return (
            f"Coreset(support_size={self.support_size}, size={self.size}, "
            f"total_weight={self.total_weight:g}, accuracy={self.accuracy})"
        )
