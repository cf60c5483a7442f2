"""What the guarantees of halving are expressed in: features, and the classes of D2, D3 and D5."""

from __future__ import annotations

from dataclasses import dataclass, field

from coresets._validate import check_integer, check_real
from coresets.guarantees.parameters import check_total

__all__ = ["FeatureBound", "HalvingClass", "HalvingStreamClass", "HalvingSubspaceClass"]

_SPREAD = 2.0  # of pairs whose features may point in opposite directions


@dataclass(frozen=True, slots=True)
class FeatureBound:
    """How features explain the scaled losses: w f/(s F) = <psi, xi> + rho with psi of length at most 1.

    Parameters
    ----------
    norm : float
        Largest length of xi over the queries, positive.
    residual : float
        Largest |rho| over points and queries; 0 if the features explain the losses exactly.
    spread : float
        Largest length of psi - psi' over two points, scaled by at most 1 each: 2 in general, the root of 2
        if no two features point in opposite directions.
    """

    norm: float = 1.0
    residual: float = 0.0
    spread: float = _SPREAD

    def __post_init__(self) -> None:
        for name in ("norm", "residual", "spread"):
            object.__setattr__(self, name, check_real(getattr(self, name), name))
        if self.norm <= 0.0:
            raise ValueError(f"norm = {self.norm:g} is not positive")
        if self.residual < 0.0:
            raise ValueError(f"residual = {self.residual:g} is negative")
        if not 1.0 <= self.spread <= _SPREAD:
            raise ValueError(f"spread = {self.spread:g} is outside [1, 2]")


@dataclass(frozen=True, slots=True)
class HalvingClass:
    """Finitely many queries, fixed before the draw, of losses that features explain.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the sensitivity bounds, at least 1.
    points : int
        Number of points, at least 1.
    features : FeatureBound
        How well the features explain the losses.
    queries : int
        Number of queries, at least 1.
    """

    total_sensitivity: float
    points: int
    features: FeatureBound = field(default_factory=FeatureBound)
    queries: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        object.__setattr__(self, "points", check_integer(self.points, "points", at_least=1))
        object.__setattr__(self, "queries", check_integer(self.queries, "queries", at_least=1))


@dataclass(frozen=True, slots=True)
class HalvingSubspaceClass:
    """All queries of losses that features of a finite dimension explain exactly.

    Parameters
    ----------
    total_sensitivity : float
        Sum of the sensitivity bounds, at least 1.
    points : int
        Number of points, at least 1.
    features : FeatureBound
        With a residual of 0.
    dimension : int
        Dimension of the features, at least 1.
    """

    total_sensitivity: float
    points: int
    features: FeatureBound = field(default_factory=FeatureBound)
    dimension: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_sensitivity", check_total(self.total_sensitivity))
        object.__setattr__(self, "points", check_integer(self.points, "points", at_least=1))
        object.__setattr__(self, "dimension", check_integer(self.dimension, "dimension", at_least=1))
        _require_exact(self.features)


@dataclass(frozen=True, slots=True)
class HalvingStreamClass:
    """A stream whose nodes are halved.

    Parameters
    ----------
    node : HalvingClass
        Of every reduction, with the largest total that a node can have; ``points`` are the rows of the
        whole stream, at most, and the residual is 0.
    shares : tuple of float
        One entry for each level at which anything is dropped, the first one included: the largest share of a
        node of that level in the normaliser, in (0, 1]. Ones always hold.
    frozen : bool
        Whether errors are relative to a normaliser that no reduction changes, such as the total mass, instead
        of the cost of the query.
    """

    node: HalvingClass
    shares: tuple[float, ...]
    frozen: bool = False

    def __post_init__(self) -> None:
        shares = tuple(check_real(share, "shares") for share in self.shares)
        if not shares or not all(0.0 < share <= 1.0 for share in shares):
            raise ValueError(
                f"shares = {self.shares!r}; pass a share in (0, 1] for every level, at least one"
            )
        object.__setattr__(self, "shares", shares)
        _require_exact(self.node.features)


def _require_exact(features: FeatureBound) -> None:
    if features.residual > 0.0:
        raise ValueError(
            f"residual = {features.residual:g}; only features that explain the losses exactly are covered"
        )
