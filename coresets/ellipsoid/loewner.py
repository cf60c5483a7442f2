"""The minimum-volume ellipsoid that encloses given points (Löwner, John)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_dask_array, is_numpy_array

from coresets._threads import one_blas_thread
from coresets._validate import check_integer, check_points, check_real
from coresets.ellipsoid._batched import loewner_batch
from coresets.ellipsoid._certify import certify, check_design, enclosing
from coresets.ellipsoid._rows import LiftedRows, lift, row_blocks, take_points
from coresets.ellipsoid._solver import Design, Solver
from coresets.ellipsoid.ascent import Ascent
from coresets.ellipsoid.blocks import Blocks
from coresets.ellipsoid.ellipsoid import Ellipsoid
from coresets.ellipsoid.fixed_point import FixedPoint
from coresets.errors import SolverError
from coresets.weighted_set import to_host

__all__ = ["loewner_ellipsoid"]

Array = Any

# Solvers aim at this share of the gap; the rest is for the rounding of an independent certificate.
_AIM = 0.95
# The shape is made larger by this much at once, so that rounding needs no second look at the data.
_GUARD = 1e-12
# Ill-conditioned shapes are scaled by what was measured, and measured again.
_RESCALINGS = 8


@one_blas_thread()
def loewner_ellipsoid(
    points: Array | Blocks,
    *,
    symmetric: bool = False,
    gap: float = 1e-6,
    solver: Solver | None = None,
    max_iter: int | None = None,
) -> Ellipsoid:
    r"""Minimum-volume ellipsoid that encloses the points, with a certificate.

    With r the rank of the points (symmetric) or of their affine hull, and k = r or r + 1, the dual is
    a design problem: find weights u >= 0 of sum 1 that maximise ln det M(u), M(u) = sum_i u_i q_i q_i^T,
    with q_i = x_i or (x_i, 1) in coordinates of the hull. Then omega_i = q_i^T M(u)^-1 q_i has
    max_i omega_i >= k, with equality at the optimum, and max_i omega_i <= (1 + gap) k proves that the
    ellipsoid's log-volume exceeds the least one by at most k ln(1 + gap) / 2.

    Parameters
    ----------
    points : array of shape (n, d), or (..., n, d), or Blocks
        Finite real numbers, one row a point; any rank, n >= 1. A NumPy matrix is neither copied nor
        changed. A batch, or an array of another library, goes to :class:`FixedPoint` unless a solver
        is given. :class:`Blocks` are read several times and never held in memory as a whole.
    symmetric : bool
        Whether the ellipsoid is to be centred at the origin; it then also encloses the points' negatives.
    gap : float
        Largest max_i omega_i / k - 1 to accept, positive; the default is 1e-6.
    solver : Solver, optional
        How to find the weights. :class:`Ascent` by default; :class:`Conic` is the reference for small
        sets, :class:`FixedPoint` works on batches and devices, :class:`AddOnly` keeps few points.
    max_iter : int, optional
        Largest number of iterations, at least 1, in the unit that the solver documents; None for the
        solver's own default.

    Returns
    -------
    Ellipsoid
        Encloses every point to rounding. Results are float64.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, the gap is not positive, a spread is beyond the range
        of float64, or two passes over blocks differ.
    TypeError
        If the entries are not real numbers, or an argument has the wrong type.
    SolverError
        If the gap was not reached. ``result`` is the best ellipsoid found, which also encloses every
        point, and ``certificate`` says how good it is.

    Notes
    -----
    Directions in which the points spread by less than 1e-7 of the largest (columns scaled) are flat:
    the shape matrix holds squares, which float64 could not tell from zero.

    References
    ----------
    M. J. Todd. Minimum-Volume Ellipsoids: Theory and Algorithms. SIAM, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import loewner_ellipsoid
    >>> triangle = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    >>> found = loewner_ellipsoid(triangle)
    >>> found.center.round(3)
    array([0.667, 0.667])
    >>> found.certificate.holds
    True
    """
    gap = check_real(gap, "gap")
    if gap <= 0.0:
        raise ValueError(f"gap = {gap:g} is not positive; float64 certifies gaps down to about 1e-12")
    if max_iter is not None:
        max_iter = check_integer(max_iter, "max_iter", at_least=1)
    if not isinstance(symmetric, (bool, np.bool_)):
        raise TypeError(f"symmetric = {symmetric!r} is not a bool")
    # A class has the methods of its instances.
    if solver is not None and (isinstance(solver, type) or not isinstance(solver, Solver)):
        raise TypeError(f"solver = {solver!r} is no solver; pass for instance Ascent()")
    problem = _Problem(bool(symmetric), gap, Ascent() if solver is None else solver, max_iter)
    if isinstance(points, Blocks):
        return problem.solved(points)
    if is_dask_array(points):
        raise TypeError(
            "points is a dask array; pass points.compute(), or Blocks([points.blocks[i] for i in "
            "range(points.numblocks[0])]) if it does not fit in memory"
        )
    points = check_points(points)
    foreign = not is_numpy_array(points)
    if (foreign or points.ndim > 2) and (solver is None or isinstance(solver, FixedPoint)):
        chosen = solver if isinstance(solver, FixedPoint) else FixedPoint()
        return loewner_batch(points, symmetric=bool(symmetric), gap=gap, solver=chosen, max_iter=max_iter)
    if points.ndim > 2:
        raise ValueError(
            f"points has shape {tuple(points.shape)}, but {type(solver).__name__} takes one set (n, d); pass "
            "FixedPoint() for a batch"
        )
    if not foreign:
        return problem.solved(points)
    # The one place where a tensor is moved to the host: the solver that was asked for works there.
    try:
        return _beside(problem.solved(to_host(points)), points)
    except SolverError as error:
        result = None if error.result is None else _beside(error.result, points)
        raise SolverError(str(error), error.certificate, result) from error


def _beside(found: Ellipsoid, reference: Array) -> Ellipsoid:
    """The ellipsoid with arrays of the library and device of the reference."""
    xp = array_namespace(reference)
    center, shape, weights = (
        xp.asarray(array, dtype=xp.float64, device=device(reference))
        for array in (found.center, found.shape, found.weights)
    )
    return replace(found, center=center, shape=shape, weights=weights)


@dataclass(frozen=True)
class _Problem:
    """What was asked for."""

    symmetric: bool
    gap: float
    solver: Solver
    max_iter: int | None

    def solved(self, points: np.ndarray | Blocks) -> Ellipsoid:
        """The ellipsoid of validated points in host memory or in blocks."""
        rows = lift(points, symmetric=self.symmetric)
        if rows.rank == 0:  # one point, however often
            weights = np.zeros(rows.n)
            weights[0] = 1.0
            design = Design(weights, 0, True)
            return self._certified(rows, design, rows.origin, np.zeros((rows.d, rows.d)))
        try:
            design = self.solver.solve(rows, gap=_AIM * self.gap, max_iter=self.max_iter)
        except np.linalg.LinAlgError as error:
            raise SolverError(f"{type(self.solver).__name__} met a singular matrix: {error}") from error
        check_design(design.weights, rows.n)
        center, shape = _moments(rows, design.weights)
        largest = design.largest_form
        if largest is None or not 0.5 * rows.k < largest < np.inf:  # the largest is at least their mean, k
            largest = _largest_form(rows, design.weights)
        radius = largest if self.symmetric else largest - 1.0
        return self._certified(rows, design, center, shape * (radius * (1.0 + _GUARD)))

    def _certified(
        self, rows: LiftedRows, design: Design, center: np.ndarray, shape: np.ndarray
    ) -> Ellipsoid:
        """The ellipsoid with its evidence, scaled to what was measured; or the error that carries it."""
        weights = design.weights
        for attempt in range(_RESCALINGS):
            certificate = certify(
                rows.points,
                center,
                shape,
                weights,
                symmetric=self.symmetric,
                rank=rows.rank,
                gap=self.gap,
            )
            containment = certificate.details["containment"]
            if containment <= 1.0:
                break
            # Scaling rounds every entry anew, which moves an ill-conditioned shape by as much again.
            shape = enclosing(shape, 1.0 + 2.0**attempt * (containment - 1.0))
        found = Ellipsoid(
            center=center,
            shape=shape,
            weights=weights,
            symmetric=self.symmetric,
            rank=rows.rank,
            gap=certificate.details["gap"],
            certificate=certificate,
            iterations=design.iterations,
        )
        if certificate.holds:
            return found
        raise SolverError(self._complaint(design, found), certificate, found)

    def _complaint(self, design: Design, found: Ellipsoid) -> str:
        """Why the gap was not reached, and what to do."""
        if design.converged:
            return (
                "the weights were found, but float64 holds centre and shape of these points only to a gap "
                f"of {found.certificate.value:.3g}, not the {self.gap:g} asked for: they are nearly flat, "
                "or their distance from the origin is many times their spread. Centre the points, drop the "
                "directions of least spread, or ask for a larger gap; the error carries the result"
            )
        return (
            f"{type(self.solver).__name__} reached a gap of {found.gap:.3g} in {design.iterations} "
            f"iterations, not the {self.gap:g} asked for; raise max_iter, ask for a larger gap, or take "
            "another solver. The error carries the result, which encloses every point"
        )


def _moments(rows: LiftedRows, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and second moment of the design, in the coordinates of the points."""
    support = np.flatnonzero(weights)
    kept = take_points(rows.points, rows.n, support)
    share = weights[support]
    if rows.symmetric:
        center = np.zeros(rows.d)
    else:
        kept = kept - rows.origin  # exact to the spread, however far the data
        mean = share @ kept
        kept = kept - mean
        center = rows.origin + mean
    root = kept * np.sqrt(share)[:, None]
    return center, root.T @ root


def _largest_form(rows: LiftedRows, weights: np.ndarray) -> float:
    """max_i omega_i, by one pass."""
    support = np.flatnonzero(weights)
    root = rows.take(support) * np.sqrt(weights[support])[:, None]
    values, vectors = np.linalg.eigh(root.T @ root)
    if not values[0] > 0.0:
        raise SolverError("the weights found do not span the hull of the points, so they prove nothing")
    forms_of = rows.evaluator(vectors / np.sqrt(values))
    return max(float(forms_of(block).max()) for _, block in row_blocks(rows.points, rows.n))
