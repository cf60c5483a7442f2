"""Weights of drawn coresets changed for the better: kept moments (D6, D4), and queries on average (D7).

* :func:`calibrate` changes weights as little as possible so that sums of a few features are exactly those
  of the full data; :class:`Calibration` and :class:`Automatic` say when reducers do so.
* :func:`calibrated_class` says how much of the costs at one query the features explain, which is the gain.
* :func:`average_case_error` computes the mean square error of any coreset over random queries exactly, and
  :func:`average_case_weights` the non-negative weights on the kept points that make it least.
"""

from __future__ import annotations

from coresets.calibration.average import average_case_error
from coresets.calibration.calibrate import (
    CALIBRATION,
    Automatic,
    Calibration,
    FewerMoments,
    Otherwise,
    Refuse,
    calibrate,
    changed_accuracy,
    largest_change,
)
from coresets.calibration.explained import calibrated_class
from coresets.calibration.moments import CalibratedLoss, Contributions, Moments, Polynomials
from coresets.calibration.optimal import average_case_weights
from coresets.calibration.queries import EmpiricalQueries, QueryDistribution, RotationInvariant
from coresets.calibration.solve import Bounds

__all__ = [
    "CALIBRATION",
    "Automatic",
    "Bounds",
    "CalibratedLoss",
    "Calibration",
    "Contributions",
    "EmpiricalQueries",
    "FewerMoments",
    "Moments",
    "Otherwise",
    "Polynomials",
    "QueryDistribution",
    "Refuse",
    "RotationInvariant",
    "average_case_error",
    "average_case_weights",
    "calibrate",
    "calibrated_class",
    "changed_accuracy",
    "largest_change",
]
