"""The public call: points in memory, of any array library, to a coreset with the same moments (CAR)."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

from coresets._threads import one_blas_thread
from coresets._validate import check_points, check_weights
from coresets.accuracy import Accuracy
from coresets.recombination._evidence import check_reached, evidence, host_rows
from coresets.recombination._reduction import reduce_rows
from coresets.recombination.preserve import Mean, Preserve, check_preserve
from coresets.weighted_set import Coreset

__all__ = ["caratheodory"]

Array = Any

_MEAN = Mean()


@one_blas_thread()
def caratheodory(points: Array, weights: Array | None = None, *, preserve: Preserve = _MEAN) -> Coreset:
    """Few of the points, reweighted, with the same moments.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite real rows, n, d >= 1, of any array-API library, any rank. Work is done on the host, in
        float64.
    weights : array of shape (n,), optional
        Non-negative finite masses, not all zero; ones by default. Points without mass are never
        kept.
    preserve : Preserve
        :class:`Mean` (the default), :class:`ConeSum` or :class:`SecondMoment`.

    Returns
    -------
    Coreset
        Indices into the points, increasing, and positive float64 weights, on the device of the
        points; accuracy exact. There are at most ``preserve.most_points(rank)`` of them: the rank is
        that of the points, of the points less their mean if the mean is kept. The certificate
        ``"moments"`` holds the largest error of a preserved moment in units of standard deviation,
        and in its details the relative error ``mass_error`` of the total mass, a proved bound
        ``rounding`` of what the evaluation itself may have lost (included in the value), and the
        rank of the features. The sum of points that are all zero is kept by no point at all.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, a weight is negative, or all weights are zero.
    TypeError
        If the entries are not real numbers, or ``preserve`` is of another kind.
    SolverError
        If the moments were not reached to rounding. The certificate carried says how nearly.

    Notes
    -----
    Departures from the published trees [1]_, [2]_: groups enter by their weighted means with the
    constant 1, so that the mass is kept whatever the weights; columns are centred and scaled before
    elimination; the larger of two possible pivots is taken; the weights of the final points are
    corrected with residuals in extended precision. Directions smaller than rounding do not count
    towards the rank; if ignoring them would cost accuracy they do, and up to as many points are kept
    as there are features.

    The sums of the data are taken once, about a point near the mean, in short chains that are then
    summed without error; the sums of the coreset are exact up to one rounding a coordinate. Hence
    errors near machine epsilon can be told from 1e-13.

    References
    ----------
    .. [1] M. Tchernychova, T. Lyons. Caratheodory cubature measures. 2015.
    .. [2] A. Maalouf, I. Jubran, D. Feldman. Fast and accurate least-mean-squares solvers. NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.recombination import caratheodory
    >>> points = np.random.default_rng(0).standard_normal((1000, 3))
    >>> coreset = caratheodory(points)
    >>> coreset.support_size
    4
    >>> mean = coreset.weights @ points[coreset.indices] / 1000
    >>> bool(np.allclose(mean, points.mean(axis=0), rtol=0, atol=1e-14))
    True
    """
    check_preserve(preserve)
    points = check_points(points)
    if points.ndim != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; pass (n, d)")
    if weights is not None:
        weights = check_weights(weights, int(points.shape[0]))
    rows, masses = host_rows(points, weights)
    reduction = reduce_rows(rows, masses, preserve.lift)
    certificate = evidence(reduction, preserve)
    check_reached(certificate)
    xp = array_namespace(points)
    return Coreset(
        indices=xp.asarray(reduction.indices, device=device(points)),
        weights=xp.asarray(reduction.weights, device=device(points)),
        size=max(1, reduction.indices.size),
        accuracy=Accuracy.exact(),
        certificates=(certificate,),
    )
