"""Certificates of centres, against costs and optima computed in other ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from coresets import IID, SensitivityReducer, WeightedSet
from coresets.clustering import ClusteringCertificate, ClusteringLoss, Distance, clustering_certificate

EPS = float(np.finfo(np.float64).eps)


def data_of(n: int) -> WeightedSet:
    rng = np.random.default_rng(0)
    return WeightedSet(
        rng.standard_normal((n, 8)) + 6.0 * rng.integers(0, 4, (n, 1)), rng.uniform(0.5, 2.0, n)
    )


def test_the_certified_ratio_covers_the_true_one() -> None:
    data = data_of(4000)
    best = KMeans(4, n_init=5, random_state=0).fit(data.points, sample_weight=data.weights)
    for centres in (best.cluster_centers_, np.asarray(data.points)[:4]):
        found = clustering_certificate(data, centres, rng=0)
        assert found.ratio >= found.cost / best.inertia_ * (1.0 - 1e-9)
        assert found.lower_bound <= best.inertia_
    assert clustering_certificate(data, best.cluster_centers_, rng=0).ratio < 3.0


def test_costs_on_the_data_and_on_the_coreset_are_exact() -> None:
    data = data_of(3000)
    coreset = SensitivityReducer(ClusteringLoss(4), IID()).reduce(data, size=500, rng=1)
    centres = np.asarray(data.points)[:4]
    found = clustering_certificate(data, centres, Distance(), rng=0, coreset=coreset)
    distances = cdist(np.asarray(data.points), centres).min(axis=1)
    assert found.cost == pytest.approx(float(data.weights @ distances), rel=3000 * EPS)
    answer = float(coreset.weights @ distances[coreset.indices])
    assert found.coreset_cost == pytest.approx(answer, rel=3000 * EPS)
    assert found.coreset_error == pytest.approx(
        abs(answer / float(data.weights @ distances) - 1.0), abs=1e-11
    )
    evidence = found.as_certificate()
    assert evidence.value == found.cost
    assert evidence.details["coreset_cost"] == found.coreset_cost


@pytest.mark.parametrize(
    ("certificate", "ratio", "error"),
    [
        (ClusteringCertificate(0.0, 0.0, 0.0), 1.0, 0.0),
        (ClusteringCertificate(0.0, 0.0, 1.0), 1.0, math.inf),
        (ClusteringCertificate(3.0, 0.0), math.inf, None),
        (ClusteringCertificate(3.0, 2.0, 4.5), 1.5, 0.5),
        (ClusteringCertificate(2.0, 2.0 * (1 + EPS), 2.0), 1.0, 0.0),
    ],
    ids=["free", "free but not on the coreset", "unknown", "plain", "rounding"],
)
def test_ratios_at_the_edges(certificate: ClusteringCertificate, ratio: float, error: float | None) -> None:
    assert certificate.ratio == ratio
    assert certificate.coreset_error == error
    assert certificate.as_certificate().value == certificate.cost


def test_bad_input_is_named() -> None:
    data = data_of(10)
    with pytest.raises(TypeError, match="data is a ndarray"):
        clustering_certificate(np.eye(3), np.eye(3), rng=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="centres has shape"):
        clustering_certificate(data, np.eye(3), rng=0)
    with pytest.raises(TypeError, match="coreset is a WeightedSet; pass a Coreset"):
        clustering_certificate(data, np.zeros((1, 8)), rng=0, coreset=data)  # type: ignore[arg-type]
