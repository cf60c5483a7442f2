"""Points of two classes: sets that scikit-learn bundles, generated ones, or archives of a data directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

from coresets.svm import LabelledSet

__all__ = ["BUNDLED", "GENERATED", "load_labelled", "rare_class", "two_gaussians"]


def rare_class(seed: int = 0, n: int = 40_000, d: int = 10) -> LabelledSet:
    """Two Gaussians, 2 % of the points in the smaller class, and 0.5 % outliers with labels at random."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.02, 1, -1)
    points = rng.standard_normal((n, d)) + np.where(y > 0, 1.0, 0.0)[:, None]
    outliers = rng.choice(n, n // 200, replace=False)
    points[outliers] = 10.0 * rng.standard_normal((outliers.size, d))
    y[outliers] = rng.choice([-1, 1], outliers.size)
    return LabelledSet(points, y)


def two_gaussians(seed: int = 0, n: int = 100_000, d: int = 20) -> LabelledSet:
    """Two Gaussians of equal mass that overlap."""
    rng = np.random.default_rng(seed)
    y = rng.choice([-1, 1], n)
    return LabelledSet(rng.standard_normal((n, d)) + 0.3 * y[:, None], y)


def _breast_cancer() -> LabelledSet:
    points, labels = load_breast_cancer(return_X_y=True)
    return LabelledSet(_standardised(points), labels)


def _digits() -> LabelledSet:
    points, labels = load_digits(return_X_y=True)
    return LabelledSet(_standardised(points), labels == 8)


BUNDLED: Mapping[str, Callable[[], LabelledSet]] = {
    "breast-cancer": _breast_cancer,
    "digits-8": _digits,
}
GENERATED: Mapping[str, Callable[[], LabelledSet]] = {
    "rare-class": rare_class,
    "two-gaussians": two_gaussians,
}


def load_labelled(name: str, data_dir: Path | None) -> LabelledSet:
    """A set by its name.

    Parameters
    ----------
    name : str
        One of ``BUNDLED`` or ``GENERATED``, or the stem of an archive NAME.npz with arrays X and y.
    data_dir : Path or None
        Where archives are.

    Returns
    -------
    LabelledSet
        Standardised columns; rows of an archive of zeros and ones are kept sparse, as they are.

    Raises
    ------
    FileNotFoundError
        If the name is none of these, and there is no such archive.
    ValueError
        If the archive is not a table with labels of two classes.
    """
    if name in BUNDLED:
        return BUNDLED[name]()
    if name in GENERATED:
        return GENERATED[name]()
    path = None if data_dir is None else data_dir / f"{name}.npz"
    if path is None or not path.is_file():
        known = ", ".join([*BUNDLED, *GENERATED])
        raise FileNotFoundError(f"there is no data set {name!r} here: pass one of {known}, or --data-dir")
    with np.load(path, allow_pickle=False) as archive:
        if not {"X", "y"} <= set(archive.files):
            raise ValueError(f"{path.name} has the arrays {', '.join(archive.files)}; X and y are needed")
        points, labels = archive["X"], archive["y"]
    if points.ndim != 2:
        raise ValueError(f"X of {path.name} has shape {points.shape}; a table of rows is needed")
    if points.dtype.kind in "iub" and points.max() <= 1:
        return LabelledSet(sparse.csr_matrix(points, dtype=np.float64), labels)
    return LabelledSet(_standardised(points), labels)


def _standardised(points: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 in every column; constant columns become zero."""
    scaled: np.ndarray = StandardScaler().fit_transform(np.asarray(points, dtype=np.float64))
    return scaled
