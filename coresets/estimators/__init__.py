"""Estimators of scikit-learn fitted on coresets."""

from coresets.estimators.meta import CoresetEstimator
from coresets.estimators.problems import Problem, problem_of

__all__ = ["CoresetEstimator", "Problem", "problem_of"]
