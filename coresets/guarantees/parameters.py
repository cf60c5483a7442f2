"""The quantities in which the engine's bounds are expressed, one frozen value per family.

A total sensitivity t is the sum of upper bounds on every point's worst share of the cost. The
shares of one query add up to 1, so a valid total is at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._validate import check_integer, check_non_negative, check_real
from coresets.errors import AssumptionError

__all__ = ["FiniteClass", "LipschitzClass", "SensitivityProfile", "SubspaceClass", "VCClass"]

# A total computed in floating point may fall below 1 by accumulated rounding, never by more.
_TOTAL_SLACK = 1e-6


def check_total(value: object) -> float:
    """Return a total sensitivity of at least 1."""
    total = check_real(value, "total_sensitivity")
    if total < 1.0 - _TOTAL_SLACK:
        raise AssumptionError(
            f"total_sensitivity = {total:g} is below 1, so the values do not bound the sensitivities: "
            "the shares of any one query add up to 1"
        )
    return max(total, 1.0)


@dataclass(frozen=True, slots=True)
class FiniteClass:
    """Finitely many queries, fixed before the draw.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the sensitivity bounds, at least 1.
    queries : int
        Number of queries, at least 1.
    """

    total_sensitivity: float
    queries: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        object.__setattr__(self, "queries", check_integer(self.queries, "queries", at_least=1))


@dataclass(frozen=True, eq=False)
class SensitivityProfile:
    """Finitely many queries, and every single sensitivity bound.

    Parameters
    ----------
    values : array of shape (n,)
        Sensitivity bounds in any order; non-negative, with a sum of at least 1.
    queries : int
        Number of queries, at least 1.
    """

    values: Any
    queries: int = 1

    def __post_init__(self) -> None:
        values = np.sort(np.asarray(check_non_negative(self.values, name="values"), dtype=np.float64))[::-1]
        if values.ndim != 1:
            raise ValueError(f"values has shape {values.shape}; expected one dimension")
        check_total(float(values.sum()))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "queries", check_integer(self.queries, "queries", at_least=1))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SensitivityProfile):
            return NotImplemented
        return self.queries == other.queries and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.queries, self.values.size, float(self.values[0])))

    def remainders(self) -> npt.NDArray[np.float64]:
        """Entry k: the sum of all but the k largest values, k = 0, ..., n."""
        tails = np.cumsum(self.values[::-1])[::-1]
        return np.append(tails, 0.0)


@dataclass(frozen=True, slots=True)
class VCClass:
    """All queries of a family whose scaled ranges have a finite VC dimension.

    The ranges are the sets of points whose scaled loss w f(., x) / s exceeds a level, over all
    queries and levels.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the sensitivity bounds, at least 1.
    dimension : int
        VC dimension D of the ranges, or of the sets of which each range is a union.
    unions : int
        Every range is a union of this many sets of dimension D; 1 for plain ranges. The growth
        function is then at most its power, (2em/D)^(D * unions).
    """

    total_sensitivity: float
    dimension: int
    unions: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        object.__setattr__(self, "dimension", check_integer(self.dimension, "dimension", at_least=1))
        object.__setattr__(self, "unions", check_integer(self.unions, "unions", at_least=1))


@dataclass(frozen=True, slots=True)
class LipschitzClass:
    """All queries of a family of losses that are 1-Lipschitz in an inner product.

    With the error measured relative to N(x), the share w(p) f(p, x) / N(x) is psi_p(<a_p, xi_x>), where
    psi_p is 1-Lipschitz, xi_x lies in the unit ball of a Hilbert norm, and the dual norm of a_p is at
    most ``norm_ratio`` times the sensitivity bound s(p). Divided by s(p), the shares of one query
    lie in one interval of length ``range_ratio``, common to all points; for E4-P they are at most 1
    in absolute value.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the sensitivity bounds, at least 1.
    norm_ratio : float
        h above; 1 for sums of |p.x| with Lewis weights.
    range_ratio : float
        1 for non-negative losses, 2 for losses of either sign.
    outputs : int
        Number of simultaneous families (several outputs of a layer), at least 1.
    """

    total_sensitivity: float
    norm_ratio: float = 1.0
    range_ratio: float = 1.0
    outputs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        for name in ("norm_ratio", "range_ratio"):
            number = check_real(getattr(self, name), name)
            if number <= 0.0:
                raise ValueError(f"{name} = {number:g} is not positive")
            object.__setattr__(self, name, number)
        object.__setattr__(self, "outputs", check_integer(self.outputs, "outputs", at_least=1))


@dataclass(frozen=True, slots=True)
class SubspaceClass:
    """All vectors of a subspace, with bounds on leverage scores as sensitivities.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the bounds on the leverage scores; at least the rank.
    rank : int
        Dimension of the column space, at least 1.
    """

    total_sensitivity: float
    rank: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", check_integer(self.rank, "rank", at_least=1))
        total = check_total(self.total_sensitivity)
        if total < self.rank * (1.0 - _TOTAL_SLACK):
            raise AssumptionError(
                f"total_sensitivity = {total:g} is below the rank {self.rank}; leverage scores add up to it"
            )
        object.__setattr__(self, "total_sensitivity", max(total, float(self.rank)))
