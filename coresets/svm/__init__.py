"""Support vector machines: coresets, and certificates of how far any linear model is from the optimum.

Cost: a few passes over the n points, O(n d k) with k clusters a class, none of them with a solver on all.
"""

from coresets.svm.bounds import (
    ClusterBounds,
    HingeBounds,
    NormBounds,
    PublishedBounds,
    cluster_sensitivities,
    published_sensitivities,
)
from coresets.svm.certificate import SVMCertificate, svm_certificate
from coresets.svm.clusters import Clusters, choose_clusters
from coresets.svm.data import LabelledSet
from coresets.svm.dual import DualSums, lower_bound, solver_free_bound
from coresets.svm.kernels import RBF, Kernel, Linear, kernel_lower_bound
from coresets.svm.objective import (
    AverageSVMObjective,
    FreeIntercept,
    Intercept,
    LinearModel,
    NoIntercept,
    RegularisedIntercept,
    SVMObjective,
)
from coresets.svm.reducer import SVMCoreset, SVMFit
from coresets.svm.training import pilot_lower_bound, train_pilot, train_svm

__all__ = [
    "RBF",
    "AverageSVMObjective",
    "ClusterBounds",
    "Clusters",
    "DualSums",
    "FreeIntercept",
    "HingeBounds",
    "Intercept",
    "Kernel",
    "LabelledSet",
    "Linear",
    "LinearModel",
    "NoIntercept",
    "NormBounds",
    "PublishedBounds",
    "RegularisedIntercept",
    "SVMCertificate",
    "SVMCoreset",
    "SVMFit",
    "SVMObjective",
    "choose_clusters",
    "cluster_sensitivities",
    "kernel_lower_bound",
    "lower_bound",
    "pilot_lower_bound",
    "published_sensitivities",
    "solver_free_bound",
    "svm_certificate",
    "train_pilot",
    "train_svm",
]
