"""Logistic regression: coresets, and certificates of how far any linear model is from the optimum.

Cost: a few reads of the n points, O(n d); without a regulariser a linear programme with n + d unknowns and
Lewis weights, O(n d^2).
"""

from coresets.logistic.bounds import ComplexityShares, LogisticShares, NormShares, kernel_logistic_bound
from coresets.logistic.certificate import (
    LogisticCertificate,
    logistic_certificate,
    logistic_lower_bound,
    train_logistic,
)
from coresets.logistic.complexity import Complexity, complexity, complexity_from_multipliers
from coresets.logistic.dual import LogisticDual
from coresets.logistic.objective import AverageLogisticObjective, LogisticObjective
from coresets.logistic.reducer import LogisticCoreset, LogisticFit

__all__ = [
    "AverageLogisticObjective",
    "Complexity",
    "ComplexityShares",
    "LogisticCertificate",
    "LogisticCoreset",
    "LogisticDual",
    "LogisticFit",
    "LogisticObjective",
    "LogisticShares",
    "NormShares",
    "complexity",
    "complexity_from_multipliers",
    "kernel_logistic_bound",
    "logistic_certificate",
    "logistic_lower_bound",
    "train_logistic",
]
