"""Clusters within each class, with weighted means that are recomputed on all points.

Any clusters give valid bounds (S1); good ones give small totals. They are found by scikit-learn's k-means on
a subsample, since only the total depends on it, and then one pass assigns all points and a sum in chunks
gives the exact weighted means that the proof needs: seeds or unweighted centres would not do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from coresets._random import Rng, resolve_rng
from coresets._threads import one_blas_thread
from coresets.svm import _kernels as kernels
from coresets.svm._rows import rows_of
from coresets.svm.data import LabelledSet

__all__ = ["Clusters", "choose_clusters"]

Floats: TypeAlias = npt.NDArray[np.float64]

_SUBSAMPLE = 3000  # points a class on which clusters are looked for
_LLOYD = 8  # steps of k-means; better clusters would save little
_WORTH = 0.9  # of the total before: more clusters than that cost more than they save


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the points in which no cluster holds both classes.

    Parameters
    ----------
    labels : int32 array of shape (n,)
        Cluster of every point.
    means : array of shape (k, d)
        Weighted means.
    masses : array of shape (k,)
        Weights of the clusters, positive.
    """

    labels: Any
    means: Floats
    masses: Floats

    @classmethod
    def of_classes(cls, data: LabelledSet) -> Clusters:
        """One cluster a class."""
        labels = (data.signs > 0).astype(np.int32)
        return cls._from_sums(labels, rows_of(data.points).moments(data.weights, labels, 2))

    @classmethod
    def around(cls, data: LabelledSet, negative: Floats, positive: Floats) -> Clusters:
        """Every point goes to the nearest centre of its class, of shapes (k-, d) and (k+, d)."""
        centres = np.ascontiguousarray(np.vstack([negative, positive]), dtype=np.float64)
        first = np.array([0, len(negative), len(centres)])
        labels, sums = rows_of(data.points).nearest(data.weights, data.signs, centres, first)
        return cls._from_sums(labels, sums)

    @classmethod
    def fit(cls, data: LabelledSet, count: int, *, rng: Rng) -> Clusters:
        """``count`` clusters a class, or as many as it has distinct points in the subsample."""
        if count == 1:
            return cls.of_classes(data)
        generator = resolve_rng(rng)
        parts = [_subsample(data, sign, generator) for sign in (-1, 1)]
        nothing = np.zeros((1, data.d))
        return cls.around(
            data, *(_centres(*part, count, generator) if part[1].size else nothing for part in parts)
        )

    @classmethod
    def _from_sums(cls, labels: Any, sums: Floats) -> Clusters:
        """Empty clusters are left out; those without mass get some value, which nothing is divided by."""
        masses = sums[:, -1]
        safe = np.where(masses > 0.0, masses, 1.0)
        # A point in a cluster without mass has none itself: its bound is 0 whatever stands here.
        return cls(labels, sums[:, :-1] / safe[:, None], np.where(masses > 0.0, masses, np.inf))


def _subsample(data: LabelledSet, sign: int, generator: np.random.Generator) -> tuple[Any, Floats]:
    """Some points of a class with positive mass, and their masses."""
    own = np.flatnonzero((data.signs == sign) & (data.weights > 0.0))
    if own.size > _SUBSAMPLE:
        own = np.sort(own[generator.integers(0, own.size, _SUBSAMPLE)])
    return data.points[own], data.weights[own] * 1.0


def _centres(points: Any, weights: Floats, count: int, generator: np.random.Generator) -> Floats:
    """k-means on the subsample."""
    from sklearn.cluster import KMeans  # noqa: PLC0415 - a second of import that only clusters need

    count = min(count, points.shape[0])
    seed = int(generator.integers(2**31 - 1))
    with one_blas_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than clusters are no reason to warn
        found = KMeans(count, n_init=1, max_iter=_LLOYD, tol=0.0, random_state=seed)
        found.fit(points, sample_weight=weights)
    return np.asarray(found.cluster_centers_, dtype=np.float64)


def choose_clusters(data: LabelledSet, lam: float, low: float, *, most: int, rng: Rng) -> Clusters:
    """Clusters whose number, from 1, 2, 4, ..., makes the total of S1 on a subsample smallest.

    Parameters
    ----------
    data : LabelledSet
        n points.
    lam, low : float
        Price of the hinge loss, and a lower bound on the optimum.
    most : int
        Largest number of clusters a class.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        For the subsample and the seeds of k-means.
    """
    generator = resolve_rng(rng)
    chosen = []
    for sign, mass in zip((-1, 1), data.class_weights, strict=True):
        if mass == 0.0:  # a centre for whatever massless points of the class there are
            chosen.append(np.zeros((1, data.d)))
            continue
        points, weights = _subsample(data, sign, generator)
        weights = weights * (mass / weights.sum())
        best, centres, count = np.inf, np.zeros((1, data.d)), 1
        while count <= most:
            fitted = _centres(points, weights, count, generator)
            total = _estimate(points, weights, fitted, lam, low)
            if total >= _WORTH * best:
                break
            best, centres, count = total, fitted, 2 * count
        chosen.append(centres)
    if max(len(centres) for centres in chosen) == 1:
        return Clusters.of_classes(data)
    return Clusters.around(data, *chosen)


def _estimate(points: Any, weights: Floats, centres: Floats, lam: float, low: float) -> float:
    """Total of S1 over a subsample."""
    if sparse.issparse(points):
        labels = np.argmin(np.square(centres).sum(axis=1) - 2.0 * np.asarray(points @ centres.T), axis=1)
    else:
        labels = np.argmin(np.square(centres).sum(axis=1) - 2.0 * (points @ centres.T), axis=1)
    labels = labels.astype(np.int32)
    masses = np.bincount(labels, weights=weights, minlength=len(centres))
    safe = np.where(masses > 0.0, masses, np.inf)
    out = np.empty(weights.size)
    distances = rows_of(points).distances(labels, centres)
    kernels.cluster_shares(distances, labels, weights, 1.0 / safe, 0.5 / (lam * safe), lam, low, out)
    return float(out.sum())
