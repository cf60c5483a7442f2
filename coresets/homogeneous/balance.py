r"""The constant between sums of w [p.x]_+ and sums of w |p.x|: a property of the data alone.

With a_p = w p and mu their sum, kappa is the largest constant with

    sum w [p.x]_+ >= (kappa / 2) sum w |p.x|    for all x

(guarantee T5). It is 1 for data symmetric about the origin and 0 if and only if some x has p.x <= 0
for all p, not all of them zero: no multiplicative coreset of ReLU sums is possible then. By the
duality of linear programmes,

    1 - kappa = max { mu.x : sum |a_p.x| <= 1 } = min { max |y_p| : sum y_p a_p = mu },

so any query x bounds kappa from above and any y from below. In coordinates U of a with orthonormal
columns, with m = mu / |mu| and N a basis of its complement, the programme solved is

    max b.s  subject to  G^T s = 0, |s_p| <= 1,    b = U m / |mu|,  G = U N,

which has n boxed variables and only r - 1 equations, and y = s / (b.s). Cost: one whitening and a
dual simplex run, about 1 s at n = 1e5, r = 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from coresets._row_space import row_space
from coresets._validate import beside, check_points, check_real, check_weights
from coresets.certificate import Certificate
from coresets.errors import SolverError
from coresets.weighted_set import to_host

__all__ = ["RELU_BALANCE", "ReLUBalance", "relu_balance"]

Array = Any
Floats = npt.NDArray[np.float64]

RELU_BALANCE = "ReLU balance"  # name of the certificate, whose details hold kappa

_BLOCK = 1024  # rows added up at once: the rounding of a sum grows with this and with the number of blocks


@dataclass(frozen=True, eq=False)
class ReLUBalance:
    """The largest kappa with sum w [p.x]_+ >= (kappa / 2) sum w |p.x| for all x, between two bounds.

    Attributes
    ----------
    kappa : float
        Proved lower bound, in [0, 1]; the one to use.
    kappa_upper : float
        Upper bound, 2 sum w [p.x]_+ / sum w |p.x| at ``query``.
    query : array of shape (d,)
        The x that attains the upper bound: the query at which ReLU costs the least of |p.x|.
    certificate : Certificate
        ``kappa_upper - kappa`` against the gap asked for, and both bounds.
    """

    kappa: float
    kappa_upper: float
    query: Array
    certificate: Certificate

    def __repr__(self) -> str:
        return f"ReLUBalance(kappa={self.kappa:.6g}, kappa_upper={self.kappa_upper:.6g})"


def _column_sums(rows: Floats, factors: Floats) -> tuple[Floats, float]:
    """Sums of rows times factors, and a bound on the Euclidean norm of their rounding error."""
    starts = range(0, len(rows), _BLOCK)
    sums = np.sum([factors[i : i + _BLOCK] @ rows[i : i + _BLOCK] for i in starts], axis=0)
    sizes = np.sum([np.abs(factors[i : i + _BLOCK]) @ np.abs(rows[i : i + _BLOCK]) for i in starts], axis=0)
    depth = min(_BLOCK, len(rows)) + len(starts)
    return sums, float(depth * np.finfo(np.float64).eps * np.linalg.norm(sizes))


def _solve(coordinates: Floats) -> tuple[Floats, Floats]:
    """Multipliers y with sum y u = sum u and small max |y|, and the query that proves them best."""
    n, rank = coordinates.shape
    mean = np.ones(n) @ coordinates
    length = float(np.linalg.norm(mean))
    if length == 0.0:
        return np.zeros(n), np.eye(rank)[0]
    # Columns of the reflection: the direction of the mean first, a basis of its complement after it.
    frame = np.linalg.qr(np.column_stack([mean / length, np.eye(rank)[:, 1:]]), mode="complete")[0]
    frame[:, 0] = mean / length
    along = coordinates @ frame * math.sqrt(n)  # entries of the order of 1, for the solver's tolerances
    solved = linprog(
        -along[:, 0],
        A_eq=along[:, 1:].T if rank > 1 else None,
        b_eq=np.zeros(rank - 1) if rank > 1 else None,
        bounds=(-1.0, 1.0),
        method="highs-ds",
        # There is nothing to remove, and with a single equation it takes a hundred times the solution.
        options={"presolve": False},
    )
    if solved.status != 0:
        raise SolverError(f"the linear programme of {n} rows of rank {rank} was not solved: {solved.message}")
    signs = np.clip(solved.x, -1.0, 1.0)
    multipliers = signs * (length * math.sqrt(n) / float(along[:, 0] @ signs))
    # Back onto the constraints, to rounding; the columns are orthonormal.
    multipliers += coordinates @ (mean - multipliers @ coordinates)
    slopes = solved.eqlin.marginals if rank > 1 else np.zeros(0)
    return multipliers, frame @ np.append(1.0, slopes)


def _proved_lower_bound(coordinates: Floats, multipliers: Floats) -> float:
    """1 - max |y| - |U^T (1 - y)|, rounding of the sums included.

    The residual e of the constraints costs mu.x at most |e| |x|, and |x| = |U x| <= sum |u_p.x|.
    """
    residual, rounding = _column_sums(coordinates, 1.0 - multipliers)
    largest = float(np.max(np.abs(multipliers)))
    return max(0.0, 1.0 - largest - float(np.linalg.norm(residual)) - rounding)


def _attained_upper_bound(images: Floats) -> float:
    """2 sum [image]_+ / sum |image|."""
    total = float(np.sum(np.abs(images)))
    return min(1.0, 2.0 * float(np.sum(np.maximum(images, 0.0))) / total) if total > 0.0 else 1.0


def relu_balance(points: Array, weights: Array | None = None, *, gap: float = 1e-6) -> ReLUBalance:
    """Largest kappa with sum w [p.x]_+ >= (kappa / 2) sum w |p.x| for all x, by a linear programme.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows of any array-API library and any rank; work is done in float64 on the
        host.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero; ones by default.
    gap : float
        Largest difference of the two bounds that is accepted, in (0, 1].

    Returns
    -------
    ReLUBalance
        Both bounds and the query that attains the upper one. If no row has a cost kappa is 1.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a weight is negative, all weights are zero, or
        the gap is out of range.
    TypeError
        If the entries are not real numbers.
    SolverError
        If the programme was not solved to the gap. The error carries the bounds reached, which
        hold, as its ``result``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.homogeneous import relu_balance
    >>> relu_balance(np.array([[1.0], [-1.0]]))
    ReLUBalance(kappa=1, kappa_upper=1)
    >>> relu_balance(np.array([[3.0], [-1.0]]))  # x = -1: ReLU keeps 1 of 4
    ReLUBalance(kappa=0.5, kappa_upper=0.5)
    >>> relu_balance(np.array([[3.0, 1.0], [1.0, 2.0]])).kappa  # x = (-1, -1) switches both off
    0.0
    """
    points = check_points(points)
    if points.ndim != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
    n = int(points.shape[0])
    masses = np.ones(n)
    if weights is not None:
        masses = np.asarray(to_host(check_weights(weights, n)), dtype=np.float64)
    gap = check_real(gap, "gap")
    if not 0.0 < gap <= 1.0:
        raise ValueError(f"gap = {gap:g} is outside (0, 1]; pass the accuracy of kappa")

    # The seam: the solver runs on the host.
    host = np.asarray(to_host(points), dtype=np.float64)
    coordinates, basis = row_space(host, masses)
    moving = coordinates[np.any(coordinates != 0.0, axis=1)]
    if coordinates.shape[1] == 0:
        lower, upper, query = 1.0, 1.0, np.zeros(host.shape[1])
    else:
        multipliers, direction = _solve(moving)
        lower = _proved_lower_bound(moving, multipliers)
        # Where the sum of a.x is largest, that of [-a.x]_+ is least.
        query = -(basis @ direction)
        query /= np.max(np.abs(query))
        upper = _attained_upper_bound(masses / np.max(masses) * (host @ query))
        lower = min(lower, upper)  # they may cross by rounding where they are equal
    balance = ReLUBalance(
        lower,
        upper,
        beside(query, points, "query"),
        Certificate(
            RELU_BALANCE,
            "difference between the value of kappa at a query and the bound that multipliers prove",
            upper - lower,
            bound=gap,
            details={"kappa": lower, "kappa_upper": upper, "rank": coordinates.shape[1]},
        ),
    )
    if not balance.certificate.holds:
        raise SolverError(
            f"kappa is known to be in [{lower:.6g}, {upper:.6g}], wider than the gap {gap:g}; "
            "pass a larger gap",
            balance.certificate,
            balance,
        )
    return balance
