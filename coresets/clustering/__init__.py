"""k-means and k-median: coresets with sensitivities from any clusters, lower bounds, certificates.

Cost: a few passes over the n points, O(n d k). Nothing is solved on all of them, and no bound depends on
the luck of a seeding: a certified lower bound on the optimum takes the place of an approximation factor.
"""

from __future__ import annotations

from coresets.clustering.certificate import ClusteringCertificate, clustering_certificate
from coresets.clustering.losses import ClusteringLoss, LightweightLoss, cluster_sensitivities
from coresets.clustering.lower import forest_lower_bound, optimum_lower_bound, spectral_lower_bound
from coresets.clustering.partition import Partition, Seeding, find_centres
from coresets.clustering.powers import Distance, Power, SquaredDistance

__all__ = [
    "ClusteringCertificate",
    "ClusteringLoss",
    "Distance",
    "LightweightLoss",
    "Partition",
    "Power",
    "Seeding",
    "SquaredDistance",
    "cluster_sensitivities",
    "clustering_certificate",
    "find_centres",
    "forest_lower_bound",
    "optimum_lower_bound",
    "spectral_lower_bound",
]
