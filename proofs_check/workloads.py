"""Data to attack guarantees on: real sets, adversarial ones, degenerate ones.

The real sets are those that scikit-learn bundles, so that nothing is downloaded; a directory of
``.npz``, ``.npy`` or ``.csv`` files adds more. Features are scaled to unit standard deviation;
sets with many features are replaced by their leading principal components, since every bound here
grows with the dimension.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from coresets.weighted_set import WeightedSet

__all__ = ["Workload", "adversarial", "degenerate", "from_directory", "leading", "real", "thinned", "wide"]

Floats = npt.NDArray[np.float64]

_COMPONENTS = 8  # principal components kept of wide sets
_SEED = 20110  # of the synthetic sets; fixed, since only the sampler may vary within a check


@dataclass(frozen=True, eq=False)
class Workload:
    """A named data set.

    Parameters
    ----------
    name : str
        Shown in reports.
    kind : str
        ``"real"``, ``"adversarial"`` or ``"degenerate"``.
    data : WeightedSet
        The points, their weights, and the regression target if there is one.
    """

    name: str
    kind: str
    data: WeightedSet

    @property
    def n(self) -> int:
        """Number of points."""
        return self.data.n

    @property
    def d(self) -> int:
        """Dimension."""
        return self.data.d


def _scaled(points: npt.ArrayLike) -> Floats:
    """Centred columns with unit standard deviation; constant columns are dropped."""
    points = np.asarray(points, dtype=np.float64)
    spread = points.std(axis=0)
    keep = spread > 1e-12 * np.maximum(np.abs(points).max(axis=0), 1e-300)
    return (points[:, keep] - points[:, keep].mean(axis=0)) / spread[keep]


def _components(points: Floats, count: int) -> Floats:
    """Scores on the leading principal components, scaled to unit standard deviation."""
    if points.shape[1] <= count:
        return points
    covariance = points.T @ points
    _, vectors = np.linalg.eigh(covariance)
    return _scaled(points @ vectors[:, ::-1][:, :count])


def leading(workload: Workload, d: int) -> Workload:
    """The same points, first ``d`` columns only."""
    data = workload.data
    if d >= data.d:
        return workload
    return Workload(
        f"{workload.name}, first {d}",
        workload.kind,
        WeightedSet(data.points[:, :d], data.weights, data.labels),
    )


def thinned(workload: Workload, max_points: int) -> Workload:
    """Every k-th point, so that at most ``max_points`` are left."""
    data = workload.data
    if data.n <= max_points:
        return workload
    stride = -(-data.n // max_points)
    labels = None if data.labels is None else data.labels[::stride]
    return Workload(
        workload.name, workload.kind, WeightedSet(data.points[::stride], data.weights[::stride], labels)
    )


def _named(name: str, points: npt.ArrayLike, labels: npt.ArrayLike | None = None) -> Workload:
    points = _components(_scaled(points), _COMPONENTS)
    return Workload(
        name, "real", WeightedSet(points, labels=None if labels is None else np.asarray(labels, float))
    )


def real(max_points: int = 4000) -> tuple[Workload, ...]:
    """Sets that scikit-learn bundles: five tables, one of them also with weights, and two photographs.

    Parameters
    ----------
    max_points : int
        Larger sets (the photographs have 273,280 pixels) are thinned by a fixed stride.
    """
    iris, diabetes = datasets.load_iris(), datasets.load_diabetes()
    cancer, digits, wine = datasets.load_breast_cancer(), datasets.load_digits(), datasets.load_wine()
    return (
        _named("digits", digits.data),
        *(_named(f"{name} pixels", _strided(pixels, max_points)) for name, pixels in _photographs()),
        _named("breast cancer", cancer.data),
        _named("diabetes", diabetes.data, diabetes.target),
        _weighted("diabetes, weighted", diabetes.data, diabetes.target),
        _named("wine", wine.data),
        _named("iris", iris.data),
    )


def _weighted(name: str, points: npt.ArrayLike, target: npt.ArrayLike) -> Workload:
    """The same, with the positive target as mass too: patients weigh as their disease has advanced."""
    plain = _named(name, points, target)
    return Workload(name, "real", WeightedSet(plain.data.points, target, plain.data.labels))


def _photographs() -> Iterator[tuple[str, Floats]]:
    for name in ("china", "flower"):
        yield name, datasets.load_sample_image(f"{name}.jpg").reshape(-1, 3).astype(np.float64)


def wide() -> Workload:
    """The digits with 32 principal components, for exponents in the dimension."""
    points = _components(_scaled(datasets.load_digits().data), 32)
    return Workload("digits, 32 components", "real", WeightedSet(points))


def _strided(array: Floats, max_points: int) -> Floats:
    """Every k-th row."""
    return array[:: max(1, -(-array.shape[0] // max_points))]


def adversarial() -> tuple[Workload, ...]:
    """Sets on which wrong sampling shows: a rare heavy direction, duplicates, extreme weights."""
    rng = np.random.default_rng(_SEED)
    rare = np.zeros((2000, 4))
    rare[:-1, :3] = rng.standard_normal((1999, 3))
    rare[-1, 3] = 1.0  # the only point that any query along the last axis can see
    few = rng.standard_normal((40, 3)) * np.array([1.0, 5.0, 25.0])
    duplicated = np.repeat(few, rng.integers(1, 100, size=40), axis=0)
    spread = rng.standard_normal((2000, 3))
    weights = 10.0 ** rng.uniform(-6.0, 6.0, size=2000)
    central = np.concatenate([1e-6 * rng.standard_normal((1000, 2)), rng.standard_normal((1000, 2))])
    return (
        Workload("rare direction", "adversarial", WeightedSet(rare)),
        Workload("duplicated points", "adversarial", WeightedSet(duplicated)),
        Workload("weights over 12 orders", "adversarial", WeightedSet(spread, weights)),
        Workload("half the mass at the origin", "adversarial", WeightedSet(central)),
    )


def degenerate() -> tuple[Workload, ...]:
    """Sets at the edge of the hypotheses: collinear, fewer points than columns, one point."""
    rng = np.random.default_rng(_SEED + 1)
    line = np.outer(rng.standard_normal(500), [1.0, -2.0, 0.5])
    wide = rng.standard_normal((6, 10))
    zero = np.column_stack([rng.standard_normal((300, 2)), np.zeros(300)])
    return (
        Workload("collinear points", "degenerate", WeightedSet(line)),
        Workload("6 points in 10 dimensions", "degenerate", WeightedSet(wide)),
        Workload("a column of zeros", "degenerate", WeightedSet(zero)),
        Workload("one point", "degenerate", WeightedSet([[1.0, 2.0]])),
    )


_PREFERRED = ("X", "x", "x_train", "data")  # names of the table in an archive of several arrays


def _arrays(path: Path) -> Floats | None:
    """Numeric table in a file, one row a sample; None if there is none."""
    if path.suffix == ".csv":
        table = np.genfromtxt(path, delimiter=",", skip_header=1)
        table = table[:, ~np.isnan(table).all(axis=0)] if table.ndim == 2 else table
        return table[~np.isnan(table).any(axis=1)] if table.ndim == 2 else None
    # Opened here, since np.load leaves a file open if it is a broken archive.
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _table(loaded)
        names = [name for name in _PREFERRED if name in loaded.files]
        names += sorted(set(loaded.files).difference(names))
        tables = (_table(loaded[name]) for name in names)
        return next((table for table in tables if table is not None), None)


def _table(array: npt.NDArray[Any]) -> Floats | None:
    """The array with one row a sample, if it is numeric and has two axes or more."""
    if array.ndim >= 2 and array.dtype.kind in "biuf" and array.shape[0] > 1:
        return array.reshape(array.shape[0], -1).astype(np.float64)
    return None


def from_directory(directory: Path, max_points: int) -> tuple[list[Workload], list[str]]:
    """Real sets from the files of a directory.

    Parameters
    ----------
    directory : Path
        Holds ``.npz`` (the first of X, x, x_train, data, or any numeric array with two axes or
        more), ``.npy`` or ``.csv`` files (one header line); other files are passed over.
    max_points : int
        Larger sets are thinned by a fixed stride.

    Returns
    -------
    tuple of list of Workload, list of str
        The sets, named by their files (with the ending where two would share a name), and a line
        for every file that could not be used.
    """
    found, left_out = [], []
    paths = sorted(path for path in directory.iterdir() if path.suffix in (".npz", ".npy", ".csv"))
    stems = Counter(path.stem for path in paths)
    taken = {path.name for path in paths}
    for path in paths:
        try:
            array = _arrays(path)
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            # NumPy takes what it cannot read for a pickle, and recommends to run its code.
            unreadable = "pickle" in str(error)
            reason = (
                "no NumPy file of numbers; save a table with numpy.save or savez" if unreadable else error
            )
            left_out.append(f"{path.name}: {reason}")
            continue
        if array is None or array.shape[0] < 10 or not np.isfinite(array).all():
            left_out.append(f"{path.name}: no finite numeric table of at least ten rows")
            continue
        array = _strided(array, max_points)
        if not _scaled(array).size:
            left_out.append(f"{path.name}: all columns are constant")
            continue
        # Draws and reports go by the name, so no two sets may share one.
        alone = stems[path.stem] == 1 and path.stem not in taken
        found.append(_named(path.stem if alone else path.name, array))
    return found, left_out
