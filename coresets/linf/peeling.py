r"""Sensitivities of sums of w |p.x| by peeling small sets off the data, one after the other.

Round j takes a set S_j from the points that are left, an L-infinity coreset: every |p.x| among
them is at most Delta_j times the largest |q.x| of S_j. A point that is left after rounds 1, ..., L
therefore has, for any x, one point in each S_j whose cost is at least its own over Delta_j; they are
distinct, so its share of the total cost is at most

    1 / (1 + 1/Delta_1 + ... + 1/Delta_L)

(guarantee T2). The proof uses only that the costs of S_j add up to |p.x| / Delta_j, for the point in
question. The design u on S_j proves this with Delta_j(p) = ||p||_{M^-1} max u ||q||_{M^-1}, about
r / |S_j| for the outermost points and less inside, in place of sqrt(r): totals fall from about
sqrt(r) |S| ln n to below r (1 + ln n). Masses enter as factors of the points, since
w |p.x| = |(w p).x|.

Lewis weights have total r; this is the published route, kept for comparison, with every factor
certified.

Cost: about n / |S| rounds, each one ellipsoid of the points that are left: O(n^2 r^2 / |S|) in all, and
10 s at n = 20000, r = 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from coresets._row_space import row_space
from coresets._threads import one_blas_thread
from coresets._validate import beside, check_integer, check_points, check_weights
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantees.maxima import PeelingSensitivity
from coresets.linf._factors import two_sided_factor
from coresets.linf.constructions import LInfConstruction, SymmetricSupport, check_construction
from coresets.sensitivity.sensitivities import Sensitivities
from coresets.weighted_set import to_host

__all__ = ["CertifiedPeeling", "PeelingRule", "PublishedPeeling", "peeling_sensitivities"]

Array = Any
Floats = npt.NDArray[np.float64]

_SYMMETRIC = SymmetricSupport()


@runtime_checkable
class PeelingRule(Protocol):
    """When to stop peeling, and which bound a point of a round gets."""

    def continues(self, remaining: int, rounds: int, rank: int) -> bool:
        """Whether to peel once more, with that many points left after that many rounds."""

    def bounds(self, certified: Floats, earlier: int, rank: int) -> Floats:
        """Bounds for the points of a round.

        Parameters
        ----------
        certified : array of shape (k,)
            What the earlier rounds prove, in (0, 1].
        earlier : int
            Number of earlier rounds.
        rank : int
            Rank of all points.
        """


@dataclass(frozen=True)
class CertifiedPeeling:
    """Peel until nothing is left; bounds from the certified factor of every round.

    Parameters
    ----------
    max_rounds : int, optional
        Stop after this many rounds, at least 1; the points that are left get the bound of one more
        round.
    """

    max_rounds: int | None = None

    def __post_init__(self) -> None:
        if self.max_rounds is not None:
            object.__setattr__(self, "max_rounds", check_integer(self.max_rounds, "max_rounds", at_least=1))

    def continues(self, remaining: int, rounds: int, rank: int) -> bool:
        """Until nothing is left or the limit is reached."""
        return remaining > 0 and (self.max_rounds is None or rounds < self.max_rounds)

    def bounds(self, certified: Floats, earlier: int, rank: int) -> Floats:
        """The certified bounds themselves."""
        return certified


@dataclass(frozen=True)
class PublishedPeeling:
    """The published rule: peel while 2 r^2 points are left; 2 r^1.5 / i in round i, capped at 1.

    Raises
    ------
    AssumptionError
        While peeling, if the certified factors do not prove the published bound.
    """

    def continues(self, remaining: int, rounds: int, rank: int) -> bool:
        """While at least 2 r^2 points are left."""
        return remaining >= 2 * rank * rank

    def bounds(self, certified: Floats, earlier: int, rank: int) -> Floats:
        """2 r^1.5 / i for round i, at most 1."""
        published = PeelingSensitivity().published(rank, earlier + 1)
        largest = float(np.max(certified))
        if published < largest:
            raise AssumptionError(
                f"the published bound {published:.4g} of round {earlier + 1} is below the {largest:.4g} that "
                "the certified factors prove; ask for a smaller gap, or use CertifiedPeeling()"
            )
        return np.full_like(certified, published)


@one_blas_thread()
def peeling_sensitivities(
    points: Array,
    weights: Array | None = None,
    *,
    construction: LInfConstruction = _SYMMETRIC,
    gap: float = 1.0,
    rule: PeelingRule = CertifiedPeeling(),
) -> Sensitivities:
    """Sensitivity bounds for sums of w |p.x| by peeling L-infinity coresets.

    The values bound ``sup_x w_i |p_i.x| / sum_j w_j |p_j.x|`` for every row.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows of any array-API library and any rank; work is done in float64 on the
        host.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero; ones by default.
    construction : LInfConstruction
        How to choose the points of a round: ``SymmetricSupport()`` by default; ``InscribedVertices()``
        is the published one.
    gap : float
        Accuracy of the designs, positive. The bounds hold at any gap, through the factors certified; a
        loose one gives smaller sets, more rounds and, around 1, the smallest totals.
    rule : PeelingRule
        When to stop and which bound to give: ``CertifiedPeeling()`` or ``PublishedPeeling()``.

    Returns
    -------
    Sensitivities
        Values in [0, 1] on the library and device of the points, 1 in the first round; 0 for zero
        rows and zero weights. The one certificate holds the largest factor of a round, and in its
        details ``rounds``, ``total``, ``rank``, ``least_factor``, ``largest_set`` and ``left``, the
        number of points that were not peeled.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a weight is negative, all weights are zero, or
        the gap is not positive.
    TypeError
        If an entry is not a real number, or an argument is not what it should be.
    SolverError
        If an ellipsoid was not found to the gap.
    AssumptionError
        If the rule gives less than what the factors prove.

    References
    ----------
    .. [1] M. Tukan, L. Mualem, A. Maalouf. Pruning neural networks via coresets and convex geometry:
       towards no assumptions. NeurIPS 2022.

    Examples
    --------
    Lewis weights add up to the rank, and are the better bounds:

    >>> import numpy as np
    >>> from coresets.linf import InscribedVertices
    >>> from coresets.sensitivity import lewis_weights
    >>> from coresets.linf.peeling import PublishedPeeling, peeling_sensitivities
    >>> points = np.random.default_rng(0).standard_t(3, (200, 3))
    >>> published = peeling_sensitivities(points, construction=InscribedVertices(), rule=PublishedPeeling())
    >>> peeled, lewis = peeling_sensitivities(points), lewis_weights(points)
    >>> published.total > 90.0, peeled.total < 15.0, round(lewis.total)
    (True, True, 3)
    """
    points = check_points(points)
    if points.ndim != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
    n = int(points.shape[0])
    if weights is not None:
        weights = beside(check_weights(weights, n), points, "weights")
    gap = check_construction(construction, gap)
    if isinstance(rule, type) or not isinstance(rule, PeelingRule):
        raise TypeError(f"rule = {rule!r} is no rule; pass CertifiedPeeling() or PublishedPeeling()")

    # The seam: solvers run on the host.
    host = np.asarray(to_host(points), dtype=np.float64)
    rows = row_space(host, None if weights is None else to_host(weights)).coordinates
    values, certificate = _peel(rows, construction, gap, rule)

    xp = array_namespace(points)
    result = beside(values, points, "values")
    if points.dtype != xp.float64:
        # Rounding to fewer digits must not go below the bound.
        result = xp.clip(result * (1.0 + float(xp.finfo(points.dtype).eps)), max=1.0)
    return Sensitivities(xp.astype(result, points.dtype, copy=False), (certificate,))


def _peel(
    rows: Floats, construction: LInfConstruction, gap: float, rule: PeelingRule
) -> tuple[Floats, Certificate]:
    """Bounds and their certificate, for rows of full column rank."""
    n, rank = rows.shape
    left = np.flatnonzero(np.any(rows != 0.0, axis=1))
    values, evidence = np.zeros(n), np.zeros(n)
    factors: list[float] = []
    promise, largest_set = 1.0, 0
    while len(left) and rule.continues(len(left), len(factors), rank):
        remaining = rows[left]
        found = construction.select(remaining, gap)
        proved = two_sided_factor(remaining, remaining[found.indices], found.weights)
        taken = left[found.indices]
        values[taken] = rule.bounds(1.0 / (1.0 + evidence[taken]), len(factors), rank)
        # Where the rank has fallen, norms leave out what sticks out of the span by rounding, and that of
        # one point by itself may be nothing but rounding: the largest one stands for all.
        norms = proved.norms if proved.rank == rank else np.max(proved.norms)
        evidence[left] += 1.0 / np.maximum(norms * proved.heaviest, np.finfo(np.float64).tiny)
        factors.append(proved.factor)
        promise, largest_set = max(promise, found.promise), max(largest_set, len(taken))
        left = np.delete(left, found.indices)
    if len(left):
        values[left] = rule.bounds(1.0 / (1.0 + evidence[left]), len(factors), rank)
    return values, Certificate(
        "peeling",
        "largest L-infinity factor of a round; with the designs behind them, the factors of all rounds prove "
        "the values to be upper bounds of the sensitivities",
        max(factors, default=1.0),
        bound=promise * (1.0 + 1e3 * rank * np.finfo(np.float64).eps),
        details={
            "rounds": len(factors),
            "total": float(np.sum(values)),
            "rank": rank,
            "least_factor": min(factors, default=1.0),
            "largest_set": largest_set,
            "left": len(left),
        },
    )
