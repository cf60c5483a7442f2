"""Minimum-volume ellipsoids of batches and of arrays of any library, on their device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from coresets.certificate import Certificate
from coresets.ellipsoid._certify import Evidence, flatness
from coresets.ellipsoid._metric import Metric, metric_of_design, metric_of_shape
from coresets.ellipsoid._rows import FLAT
from coresets.ellipsoid.ellipsoid import Ellipsoid
from coresets.ellipsoid.fixed_point import FixedPoint
from coresets.errors import SolverError
from coresets.sensitivity._rows import Rows, whitener
from coresets.weighted_set import to_host

__all__ = ["certify_batch", "loewner_batch"]

Array = Any

_EPS = float(np.finfo(np.float64).eps)
# Squares, and sums of them, stay in the range of float64 between these sizes of a column.
_SMALLEST, _LARGEST = 1e-140, 1e140
# The solver aims at this share of the gap; the rest is for the rounding of an independent certificate.
_AIM = 0.95
_RESCALINGS = 3


@dataclass(frozen=True, eq=False)
class _Centred:
    """Points (B, n, d) in float64 as origin (B, d) plus differences, with constant columns at exactly 0."""

    origin: Array
    differences: Array

    @classmethod
    def of(cls, points: Array, symmetric: bool) -> _Centred:
        """Subtract the mean, in two steps: the first is exact to the spread, a mean only to its own size."""
        xp = array_namespace(points)
        points = xp.astype(points, xp.float64, copy=False)
        origin = xp.zeros_like(points[:, 0, :])
        if not symmetric:
            with np.errstate(over="ignore", invalid="ignore"):
                differences = points - points[:, :1, :]
                mean = xp.mean(differences, axis=-2)
                origin, points = points[:, 0, :] + mean, differences - mean[:, None, :]
        size = xp.max(xp.abs(points), axis=-2)
        constant = size <= 4.0 * _EPS * xp.abs(origin)
        for bad, what in (
            (~(size < _LARGEST), "above"),
            (~constant & (size < _SMALLEST) & (size > 0.0), "below"),
        ):
            if bool(xp.any(bad)):
                member, column = divmod(
                    int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int8))), bad.shape[-1]
                )
                raise ValueError(
                    f"column {column} of member {member} of the batch spreads over "
                    f"{float(size[member, column]):g}, whose square is {what} float64's range; rescale it"
                )
        return cls(origin, xp.where(constant[:, None, :], xp.zeros_like(points), points))


def _lifted(centred: _Centred, symmetric: bool) -> tuple[Array, Array]:
    """Rows (B, n, k) with identity second moment on the coordinates in use, and the ranks (B,)."""
    xp = array_namespace(centred.differences)
    n = int(centred.differences.shape[-2])
    rows, whitening = whitener(Rows(centred.differences, None, xp.float64), FLAT)
    images = [image for _, image in rows.images(whitening * math.sqrt(n))]
    image = images[0] if len(images) == 1 else xp.concat(images, axis=-2)
    rank = xp.sum(xp.astype(xp.any(whitening != 0.0, axis=-2), xp.int64), axis=-1)
    if not symmetric:
        image = xp.concat([image, xp.ones_like(image[..., :1])], axis=-1)
    return image, rank


def loewner_batch(
    points: Array, *, symmetric: bool, gap: float, solver: FixedPoint, max_iter: int | None
) -> Ellipsoid:
    """Ellipsoids of a batch of validated points (..., n, d); see :func:`loewner_ellipsoid`."""
    xp = array_namespace(points)
    batch, (n, d) = tuple(points.shape[:-2]), points.shape[-2:]
    if 0 in batch:
        raise ValueError(f"points has shape {tuple(points.shape)}; the batch is empty")
    flat = xp.astype(xp.reshape(points, (math.prod(batch), n, d)), xp.float64, copy=False)
    centred = _Centred.of(flat, symmetric)
    rows, rank = _lifted(centred, symmetric)
    k = rank if symmetric else rank + 1
    # A member of rank 0 has zero forms, which meet any bound: any design will do.
    weights, iterations, _ = solver.solve_batch(
        rows, xp.where(k > 0, k, xp.ones_like(k)), gap=_AIM * gap, max_iter=max_iter
    )
    share = weights / xp.sum(weights, axis=-1, keepdims=True)
    mean = xp.zeros_like(centred.origin)
    if not symmetric:
        mean = (share[:, None, :] @ centred.differences)[:, 0, :]
    root = (centred.differences - mean[:, None, :]) * xp.sqrt(share)[:, :, None]
    shape = xp.matrix_transpose(root) @ root
    # The first scale is what the theory says of an optimum; then by what is measured.
    shape = shape * xp.astype(xp.where(rank > 0, rank, xp.ones_like(rank)), xp.float64)[:, None, None]
    center = centred.origin + mean
    for attempt in range(_RESCALINGS + 1):
        metric = metric_of_shape(center, shape, rank)
        containment = xp.max(_lengths(flat, metric), axis=-1)
        if attempt and bool(xp.all(containment <= 1.0)):
            break
        grow = xp.where(
            containment > (1.0 if attempt else 0.0), containment * (1.0 + 8.0 * _EPS), 1.0 + 0.0 * containment
        )
        shape = shape * grow[:, None, None]
    return _result(
        flat, (center, shape, share, rank), batch=batch, symmetric=symmetric, gap=gap, iterations=iterations
    )


def _result(
    flat: Array,
    parts: tuple[Array, ...],
    *,
    batch: tuple[int, ...],
    symmetric: bool,
    gap: float,
    iterations: int,
) -> Ellipsoid:
    """Certified ellipsoids, or the error that carries them."""
    xp = array_namespace(flat)
    center, shape, weights, rank = parts
    evidence, certificate = certify_batch(
        flat, center, shape, weights, symmetric=symmetric, rank=rank, gap=gap
    )
    d, n = int(center.shape[-1]), int(weights.shape[-1])
    gaps = xp.asarray([found.gap for found in evidence], dtype=xp.float64, device=device(flat))
    ellipsoid = Ellipsoid(
        xp.reshape(center, (*batch, d)),
        xp.reshape(shape, (*batch, d, d)),
        xp.reshape(weights, (*batch, n)),
        symmetric,
        xp.reshape(rank, batch) if batch else int(rank[0]),
        xp.reshape(gaps, batch) if batch else float(gaps[0]),
        certificate,
        iterations,
    )
    if certificate.holds:
        return ellipsoid
    worst = ""
    if batch:
        member = int(certificate.details["worst_member"])
        worst = f" for member {tuple(int(i) for i in np.unravel_index(member, batch))} of the batch"
    raise SolverError(
        f"FixedPoint reached a gap of {certificate.value:.3g}{worst} in {iterations} rounds, not the {gap:g} "
        "asked for; raise max_iter, ask for a larger gap, or solve that set alone with Ascent()",
        certificate,
        ellipsoid,
    )


def _lengths(points: Array, metric: Metric) -> Array:
    """Squared lengths (B, n) of points in the metrics."""
    xp = array_namespace(points)
    image = (points - metric.center[..., None, :]) @ metric.factor
    return xp.sum(image * image, axis=-1)


def certify_batch(
    points: Array, center: Array, shape: Array, weights: Array, *, symmetric: bool, rank: Array, gap: float
) -> tuple[list[Evidence], Certificate]:
    """Measure the ellipsoids of a batch from points (B, n, d) and results alone.

    Returns
    -------
    evidence : list of Evidence
        Of each member.
    certificate : Certificate
        The largest figure of each kind over the batch, and the member with the largest value. It has the
        ``rank`` and ``support_size`` of the largest member, too.
    """
    xp = array_namespace(points)
    total = xp.sum(weights, axis=-1)
    n = int(weights.shape[-1])
    if (
        not bool(xp.all((total > 0.0) & (xp.abs(total - 1.0) <= max(n * _EPS, 1e-12))))
        or float(xp.min(weights)) < 0
    ):
        raise SolverError("the weights found are no designs; scale the points, or solve the sets one by one")
    shapes = metric_of_shape(center, shape, rank)
    designs, spans = metric_of_design(points, weights, symmetric, rank)
    if not bool(xp.all(spans)):
        member = int(xp.argmax(xp.astype(~spans, xp.int8)))
        raise SolverError(
            f"the points of positive weight do not span the hull in member {member} of the batch"
        )
    d = int(points.shape[-1])
    # Ratios of the two metrics on the common range; the last columns of both are in use.
    product = xp.matrix_transpose(designs.root) @ shapes.factor
    unused = xp.arange(d, dtype=xp.int64, device=device(points)) < d - rank[:, None]
    product = product + xp.astype(unused, xp.float64)[:, None, :] * xp.eye(
        d, dtype=xp.float64, device=device(points)
    )
    log_ratio = to_host(xp.linalg.slogdet(product)[1])
    error = to_host(shapes.relative_error + designs.relative_error)
    ranks = to_host(rank)
    off_hull = xp.zeros_like(total)
    if bool(xp.any(rank < d)):
        off_hull = xp.maximum(
            xp.max(shapes.distance_off_hull(points), axis=-1),
            xp.max(designs.distance_off_hull(points), axis=-1),
        )
        off_hull = xp.where(rank < d, off_hull, xp.zeros_like(off_hull))
    figures = zip(
        ranks.tolist(),
        to_host(xp.max(_lengths(points, shapes), axis=-1)).tolist(),
        to_host(xp.max(_lengths(points, designs), axis=-1)).tolist(),
        log_ratio.tolist(),
        error.tolist(),
        to_host(off_hull).tolist(),
        strict=True,
    )
    allowed = flatness(n, d)
    evidence = [
        Evidence(r, symmetric, inside, form, -ratio - 0.5 * r * math.log(max(r, 1)), slack, off, allowed)
        for r, inside, form, ratio, slack, off in figures
    ]
    sizes = to_host(xp.sum(xp.astype(weights > 0.0, xp.int64), axis=-1)).tolist()
    certificates = [
        found.certificate(n=n, support_size=size, bound=gap)
        for found, size in zip(evidence, sizes, strict=True)
    ]
    return evidence, _worst(certificates)


def _worst(certificates: list[Certificate]) -> Certificate:
    """One certificate for all members."""
    if len(certificates) == 1:
        return certificates[0]
    worst = max(range(len(certificates)), key=lambda member: certificates[member].value)
    details = {
        name: max(certificate.details[name] for certificate in certificates)
        for name in certificates[worst].details
    }
    return Certificate(
        certificates[worst].name,
        f"for every member of the batch, {certificates[worst].statement}; all figures are the largest",
        certificates[worst].value,
        bound=certificates[worst].bound,
        details={**details, "members": len(certificates), "worst_member": worst},
    )
