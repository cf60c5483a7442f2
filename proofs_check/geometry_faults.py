"""Constructions of convex geometry in plain form, to be broken on purpose.

Each takes the textbook's road, so that a planted fault is the mistake of one line in it. They are
slow, and right where nothing is broken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proofs_check.geometry_oracles import variances

__all__ = ["ascend", "eliminate", "fixed_point", "grouped", "spread_start"]

Floats = npt.NDArray[np.float64]


def spread_start(rows: Floats, *, nearest: bool = False) -> Floats:
    """Start of Kumar and Yildirim: in each new direction, the point that reaches furthest.

    Parameters
    ----------
    rows : array of shape (n, k)
        Rows of rank k.
    nearest : bool
        The mistake: the point that reaches least, of those that reach at all.

    Returns
    -------
    array of shape (n,)
        Equal weights on k points.
    """
    count, rank = rows.shape
    weights = np.zeros(count)
    chosen = np.zeros((rank, 0))
    for _ in range(rank):
        basis = np.linalg.qr(chosen, mode="complete")[0] if chosen.shape[1] else np.eye(rank)
        reach = np.abs(rows @ basis[:, chosen.shape[1]])
        reaching = np.flatnonzero(reach > 1e-6 * reach.max())
        order = reaching[np.argsort(reach[reaching])]
        pick = order[0] if nearest else order[-1]
        weights[pick] = 1.0 / rank
        chosen = np.column_stack([chosen, rows[pick]])
    return weights


def ascend(
    rows: Floats,
    weights: Floats,
    *,
    steps: int,
    gap: float = 0.0,
    scale: float = 1.0,
    nearest: bool = False,
) -> tuple[Floats, int]:
    """Add-only ascent of ln det with exact line search.

    Parameters
    ----------
    rows : array of shape (n, k)
        Rows of rank k.
    weights : array of shape (n,)
        Start, whose determinant is positive.
    steps : int
        Steps at most.
    gap : float
        Stops once the largest variance is below (1 + gap) k.
    scale : float
        The mistake: steps are multiplied by it.
    nearest : bool
        The mistake: the point of smallest variance is added, by a step of fixed length.

    Returns
    -------
    tuple of array of shape (n,) and int
        The design, and the steps made.
    """
    rank = rows.shape[1]
    weights = weights.copy()
    for step in range(steps):
        found = variances(rows, weights)
        if not np.isfinite(found).all():  # degenerate, and it will not get better
            return weights, steps
        best = int(np.argmin(found) if nearest else np.argmax(found))
        if found.max() <= (1.0 + gap) * rank:
            return weights, step
        length = (found.max() - rank) / (rank * (found.max() - 1.0))
        weights *= 1.0 - scale * length
        weights[best] += scale * length
    return weights, steps


def fixed_point(rows: Floats, steps: int, *, weighted: bool = True) -> Floats:
    """Mean of the leverage iteration of Cohen, Cousins, Lee and Yang, from equal weights.

    Parameters
    ----------
    rows : array of shape (n, k)
        Rows of rank k.
    steps : int
        Iterates that are averaged.
    weighted : bool
        False is the mistake: variances under equal weights in every step.

    Returns
    -------
    array of shape (n,)
        A design, which sums to 1.
    """
    count = len(rows)
    weights = np.full(count, 1.0 / count)
    mean, equal = np.zeros(count), weights.copy()
    for _ in range(steps):
        mean += weights / steps
        weights = weights * variances(rows, weights if weighted else equal) / rows.shape[1]
        weights /= weights.sum()
    return mean / mean.sum()


def eliminate(rows: Floats, weights: Floats, *, update: bool = True) -> Floats:
    """Caratheodory by null vectors: at most rank many weights, with the same sum of rows.

    Parameters
    ----------
    rows : array of shape (n, k)
        Rows, lifted by a one if the mass is to be kept.
    weights : array of shape (n,)
        Non-negative weights.
    update : bool
        False is the mistake: a point is dropped and the others keep the weights that they had.

    Returns
    -------
    array of shape (n,)
        Non-negative weights.
    """
    weights = weights.copy()
    while True:
        chosen = np.flatnonzero(weights)[: rows.shape[1] + 1]
        _, values, right = np.linalg.svd(rows[chosen].T, full_matrices=True)
        cut = 1e-12 * (values[0] if values.size else 0.0)
        if int(np.count_nonzero(values > cut)) == len(chosen):
            return weights
        null = right[-1] if right[-1].max() > 0.0 else -right[-1]
        falling = np.flatnonzero(null > 0.0)
        ratios = weights[chosen[falling]] / null[falling]
        first = int(np.argmin(ratios))
        if update:
            weights[chosen] = np.maximum(weights[chosen] - ratios[first] * null, 0.0)
        weights[chosen[falling[first]]] = 0.0


def grouped(rows: Floats, weights: Floats, *, sums: bool = False) -> Floats:
    """One level of the recombination tree: groups are reduced by their means, survivors scaled.

    Parameters
    ----------
    rows : array of shape (n, k)
        Rows, lifted by a one.
    weights : array of shape (n,)
        Non-negative weights.
    sums : bool
        The mistake: groups are represented by the sums of their points, not by weighted means.

    Returns
    -------
    array of shape (n,)
        Non-negative weights on about half the points.
    """
    groups = np.array_split(np.flatnonzero(weights), 2 * rows.shape[1])
    groups = [group for group in groups if group.size]
    masses = np.array([weights[group].sum() for group in groups])
    means = np.stack([weights[group] @ rows[group] / weights[group].sum() for group in groups])
    if sums:
        means[:, :-1] = np.stack([rows[group, :-1].sum(axis=0) for group in groups])
    out = weights.copy()
    for group, before, after in zip(groups, masses, eliminate(means, masses), strict=True):
        out[group] *= after / before
    return out
