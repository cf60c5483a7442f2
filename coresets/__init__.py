"""Coresets with guarantees that are values: small weighted sets that answer for large ones.

A coreset is a weighted subset that answers every query of a family almost as the whole set
does. Each theorem here states its assumptions, its error and failure probability, its size with
explicit constants and its source, and travels with the coreset that it is about. The package
works on arrays of any library that follows the Python array API standard, and imports none but
NumPy.
"""

from __future__ import annotations

from coresets.accuracy import Accuracy
from coresets.certificate import Certificate
from coresets.ellipsoid import Blocks, Ellipsoid, loewner_ellipsoid
from coresets.errors import AssumptionError, NumericalWarning, SolverError
from coresets.finite_queries import FiniteQueries
from coresets.guarantee import (
    Assumption,
    Citation,
    Claim,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
)
from coresets.homogeneous import AbsoluteSum, HomogeneousSum, ReLUSum, relu_balance, vacuity
from coresets.l1_regression import L1Regression
from coresets.least_squares import LeastSquares
from coresets.linf import linf_coreset, peeling_sensitivities
from coresets.recombination import CaratheodoryStream, ExactLeastSquares, caratheodory
from coresets.reduction import CertifyingLoss, Loss, Reducer, SensitivityReducer
from coresets.ridge import RidgeCoreset, RidgeRegression
from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler, Top
from coresets.sampling import Draw, sample_fixed_size, sample_hybrid, sample_iid, sample_poisson, sample_top
from coresets.sensitivity import Sensitivities, leverage_scores, lewis_weights, uniform_sensitivities
from coresets.uniform import UniformReducer
from coresets.weighted_set import Coreset, WeightedSet

__all__ = [
    "IID",
    "AbsoluteSum",
    "Accuracy",
    "Assumption",
    "AssumptionError",
    "Blocks",
    "CaratheodoryStream",
    "Certificate",
    "CertifyingLoss",
    "Citation",
    "Claim",
    "Coreset",
    "Draw",
    "Ellipsoid",
    "ExactLeastSquares",
    "FiniteQueries",
    "FixedSize",
    "Guarantee",
    "HomogeneousSum",
    "Hybrid",
    "L1Regression",
    "LeastSquares",
    "Loss",
    "NumericalWarning",
    "Poisson",
    "Quantifier",
    "ReLUSum",
    "Reducer",
    "RidgeCoreset",
    "RidgeRegression",
    "Sampler",
    "SamplingGuarantee",
    "Scheme",
    "Sensitivities",
    "SensitivityReducer",
    "SolverError",
    "Status",
    "Top",
    "UniformReducer",
    "WeightedSet",
    "__version__",
    "caratheodory",
    "leverage_scores",
    "lewis_weights",
    "linf_coreset",
    "loewner_ellipsoid",
    "peeling_sensitivities",
    "relu_balance",
    "sample_fixed_size",
    "sample_hybrid",
    "sample_iid",
    "sample_poisson",
    "sample_top",
    "uniform_sensitivities",
    "vacuity",
]


def __getattr__(name: str) -> str:
    # The version is read when it is asked for: scanning the installed distributions takes longer
    # than the rest of this module.
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - see above

        return version("coresets")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
