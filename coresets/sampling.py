"""Random choice of a few items in proportion to sensitivities: the only module that draws.

Given non-negative sensitivities s_1, ..., s_n, keep about m items so that the weighted sum
sum_i v_i x_i over the kept ones estimates sum_i x_i without bias. Every factor v_i is the number
of times that item i was drawn over the expected number of times. Five schemes:

=====================  ========================================  =====================
function               law                                       support
=====================  ========================================  =====================
sample_poisson         independent, pi_i = min(1, kappa s_i)     m on average
sample_fixed_size      the same pi_i, negatively dependent       m
sample_iid             m independent draws, p_i = s_i / sum s    at most m
sample_hybrid          k most sensitive, m - k draws of others   at most m
sample_top             the m most sensitive, nothing random      m
=====================  ========================================  =====================

All are batched over leading axes and run where their input is: any array-API array, in its own
dtype and on its own device, with sums and comparisons in float64. Each row uses its own run of
uniforms (n, n - 1, m, m and 0 of them, in the order of the table), taken row by row; so a batch
equals a loop over its rows, and with a seed or a NumPy generator every library keeps the same
items, unless a uniform lies within rounding of its threshold.

Cost per row: O(n) for NumPy apart from sorting m uniforms; elsewhere a sort, cumulative sums, or
log n rounds of elementwise operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from coresets import _sampling_kernels as kernels
from coresets._draw import Draw, Size, draw_of, row_draw, thinned_draw
from coresets._random import Rng, resolve_rng, uniforms
from coresets._sampling_arrays import (
    as_matrix,
    as_native,
    best_split,
    checked_rows,
    checked_values,
    draw_counts,
    inclusion_probabilities,
    row_sizes,
    split,
    top_mask,
    tournament,
    water_fill,
)
from coresets._validate import check_integer, check_non_negative
from coresets.guarantee import Scheme

__all__ = [
    "Draw",
    "best_split",
    "inclusion_probabilities",
    "poisson_from_probabilities",
    "sample_fixed_size",
    "sample_hybrid",
    "sample_iid",
    "sample_poisson",
    "sample_top",
]

Array = Any

_MOST_DRAWS = 2**53  # consecutive numbers of draws are distinct in float64 up to here
_NORMALISED = 1e-12  # sums this close to 1 count as 1: below any bias that draws could show
_GLANCE = 1 << 10  # entries from which it is guessed whether a row sums to 1
_UNIFORMS_AT_ONCE = 1 << 14  # 128 KiB: the buffer stays in the second-level cache


def _check_rng(rng: object, array: Array) -> Rng:
    """Resolve ``rng`` and refuse one that cannot draw for ``array``, before any work."""
    generator = resolve_rng(rng)
    uniforms(generator, (0,), like=array)
    return generator


def sample_poisson(sensitivities: Array, size: Size, *, rng: Rng) -> Draw:
    """Keep each item independently, ``size`` of them on average.

    Item i is kept with its :func:`inclusion_probabilities` pi_i and weight 1 / pi_i, so items
    with pi_i = 1 are kept for certain with weight 1.

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row.
    size : float, or array of shape (...)
        Expected support, positive, whole or not. From the number of positive sensitivities on,
        all of these are kept, exactly.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Source of n uniforms a row.

    Returns
    -------
    Draw

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or a size is
        not positive.
    TypeError
        If ``rng`` is no source of randomness or ``size`` no real number.

    Examples
    --------
    >>> import numpy as np
    >>> draw = sample_poisson(np.array([9.0, 1.0, 1.0, 0.0]), 2, rng=0)
    >>> draw.probabilities
    array([1. , 0.5, 0.5, 0. ])
    >>> draw.weights
    array([1., 2., 2., 0.])
    """
    array = as_native(sensitivities, "sensitivities")
    generator = _check_rng(rng, array)
    sizes = row_sizes(size, tuple(array.shape[:-1]), integer=False)
    return _thinned(water_fill(array, sizes, array.dtype), size, generator)


def poisson_from_probabilities(probabilities: Array, *, rng: Rng) -> Draw:
    """Keep each item independently with a given probability.

    Parameters
    ----------
    probabilities : array of shape (..., n)
        Inclusion probabilities in [0, 1]. Items with 0 are never kept, items with 1 always.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Source of n uniforms a row.

    Returns
    -------
    Draw
        Its size is the sum of the probabilities, that is, the expected support.

    Raises
    ------
    ValueError
        If a probability is outside [0, 1] or NaN, or a row is empty.
    TypeError
        If ``rng`` is no source of randomness.

    Examples
    --------
    >>> import numpy as np
    >>> poisson_from_probabilities(np.array([1.0, 0.0, 1.0]), rng=0).indices
    array([0, 2])
    """
    array = as_native(probabilities, "probabilities")
    generator = _check_rng(rng, array)
    batch = tuple(array.shape[:-1])
    if isinstance(array, np.ndarray):
        rows = as_matrix(array)
        size: Any = np.empty(rows.shape[0])
        valid = kernels.probability_totals(rows, size)
        size = size.reshape(batch)
    else:
        check_non_negative(array, name="probabilities")
        xp = array_namespace(array)
        size = xp.sum(array, axis=-1, dtype=xp.float64)
        valid = float(xp.max(array)) <= 1.0
    if not valid:
        check_non_negative(array, name="probabilities")
        largest = float(array_namespace(array).max(array))
        raise ValueError(f"probabilities go up to {largest:g}; pass inclusion probabilities in [0, 1]")
    return _thinned(array, size if batch else float(size), generator)


def _thinned(probabilities: Array, size: Size, generator: Rng) -> Draw:
    if not isinstance(probabilities, np.ndarray):
        u = uniforms(generator, tuple(probabilities.shape), like=probabilities)
        mask = u < array_namespace(u).astype(probabilities, u.dtype)
        return thinned_draw(Scheme.POISSON, size, mask, probabilities)
    flat = as_matrix(probabilities).reshape(-1)
    mask = np.empty(flat.shape, dtype=bool)
    # The same stream as one large call, without an array of uniforms as large as the input.
    buffer = np.empty(min(flat.size, _UNIFORMS_AT_ONCE))
    for start in range(0, flat.size, _UNIFORMS_AT_ONCE):
        stop = min(flat.size, start + _UNIFORMS_AT_ONCE)
        kernels.thin(flat[start:stop], generator.random(out=buffer[: stop - start]), mask[start:stop])
    return thinned_draw(Scheme.POISSON, size, mask.reshape(probabilities.shape), probabilities)


def sample_fixed_size(sensitivities: Array, size: Size, *, rng: Rng) -> Draw:
    """Keep exactly ``size`` items, with the inclusion probabilities of :func:`sample_poisson`.

    Pivotal sampling, arranged as a knock-out tournament: in each of log2(n) rounds neighbouring
    carriers with probabilities a and b duel. If a + b < 1, one of them drops out and the other
    goes on with a + b; else one is kept and the other goes on with a + b - 1. The winner is
    drawn so that nobody's probability changes on average.

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row.
    size : int, or integer array of shape (...)
        Number of items to keep, at least 1. If it is not below the number of positive
        sensitivities, all of these are kept, exactly; sizes above n are no error.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Source of n - 1 uniforms a row.

    Returns
    -------
    Draw

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or a size is
        not positive.
    TypeError
        If ``rng`` is no source of randomness or ``size`` not an integer.

    Notes
    -----
    Any order of duels is a valid pivotal scheme. For c_i >= 0 and every lambda, the product of
    1 - pi_i + pi_i exp(lambda c_i) is a supermartingale under each duel (the cross term of the
    pair can only fall), hence sum_i c_i 1[i kept] has a moment generating function no larger
    than under independent inclusion, and every Chernoff bound for Poisson sampling carries over.

    References
    ----------
    Deville and Tille (1998), "Unequal probability sampling without replacement through a
    splitting method"; Srinivasan (2001), "Distributions on level-sets with applications to
    approximation algorithms".

    Examples
    --------
    >>> import numpy as np
    >>> sample_fixed_size(np.array([9.0, 1.0, 1.0, 0.0]), 2, rng=0).support_size
    2
    """
    array = as_native(sensitivities, "sensitivities")
    generator = _check_rng(rng, array)
    sizes = row_sizes(size, tuple(array.shape[:-1]), integer=True)
    xp = array_namespace(array)
    # In float64 whatever the input: the count is exact because the probabilities sum to an
    # integer up to rounding far below 1/2.
    exact = water_fill(array, sizes, xp.float64)
    probabilities = xp.astype(exact, array.dtype, copy=False)
    n = array.shape[-1]
    if not isinstance(array, np.ndarray):
        mask = tournament(xp, exact, uniforms(generator, (*array.shape[:-1], n - 1), like=array))
        return thinned_draw(Scheme.FIXED_SIZE, size, mask, probabilities)
    rows = as_matrix(exact)
    kept = np.empty(rows.shape, dtype=bool)
    step = max(1, _UNIFORMS_AT_ONCE // n)
    buffer = np.empty((min(step, rows.shape[0]), n - 1))
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step]
        u = generator.random(out=buffer[: block.shape[0]])
        kernels.tournament(block, u, kept[start : start + step])
    return thinned_draw(Scheme.FIXED_SIZE, size, kept.reshape(array.shape), probabilities)


def sample_iid(sensitivities: Array, size: int, *, rng: Rng) -> Draw:
    """Draw ``size`` times with replacement, in proportion to the sensitivities; merge duplicates.

    An item drawn N times with probability p per draw has weight N / (size * p).

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row.
    size : int
        Number of draws, at least 1 and at most 2^53; it may exceed n.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Source of ``size`` uniforms a row.

    Returns
    -------
    Draw
        ``probabilities`` are those of one draw and sum to 1.

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or ``size``
        is out of range.
    TypeError
        If ``rng`` is no source of randomness or ``size`` not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> draw = sample_iid(np.array([1.0, 0.0, 1.0]), 10, rng=0)
    >>> int(draw.counts.sum()), int(draw.counts[1]), draw.probabilities
    (10, 0, array([0.5, 0. , 0.5]))
    """
    array = as_native(sensitivities, "sensitivities")
    generator = _check_rng(rng, array)
    size = check_integer(size, "size", at_least=1)
    if size > _MOST_DRAWS:
        raise ValueError(f"size = {size} draws with replacement are too many; pass at most 2^53")
    xp = array_namespace(array)
    if isinstance(array, np.ndarray) and array.ndim == 1:
        return _iid_row(array, size, generator)
    values, _ = checked_values(array)
    u = uniforms(generator, (*array.shape[:-1], size), like=array)
    draws = xp.full(array.shape[:-1], size, dtype=xp.int64, device=device(array))
    counts, totals = draw_counts(xp, values, u, draws)
    p = xp.astype(values, xp.float64) / totals
    weights = xp.astype(counts, xp.float64) / xp.where(counts > 0, size * p, xp.ones_like(p))
    return draw_of(
        Scheme.WITH_REPLACEMENT, size, counts, xp.astype(weights, array.dtype), xp.astype(p, array.dtype)
    )


def _iid_row(array: np.ndarray, size: int, generator: np.random.Generator) -> Draw:
    """One pass over a row that sums to 1; else a second one over the blocks in which a draw falls."""
    row = as_matrix(array)[0]
    u = generator.random(size)
    u.sort()
    indices, counts = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    entries = np.empty(size)
    sums = np.empty(-(-row.size // kernels.BLOCK))
    # A glance at the row tells whether it is worth the try; a wrong guess costs time only.
    stride = max(1, row.size // _GLANCE)
    with np.errstate(over="ignore", invalid="ignore"):
        guessed = 0.5 < stride * float(np.sum(row[::stride])) < 2.0
    total = 1.0
    if guessed:
        found, valid = kernels.merge_row(row, sums, False, total, u, indices, counts, entries)
    else:
        found, valid = 0, kernels.block_sums(row, sums)
    mass = float(np.add.accumulate(sums)[-1])  # added as the merge adds them
    if not (valid and 0.0 < mass < np.inf):
        rows, totals, _ = checked_rows(array)  # raises, unless only the sum overflowed
        row, mass = rows[0], float(totals[0])
        kernels.block_sums(row, sums)
        guessed = False
    if not guessed or abs(mass - 1.0) > _NORMALISED:
        total = mass
        found, _ = kernels.merge_row(row, sums, True, total, u, indices, counts, entries)
    support, tally = indices[:found], counts[:found]
    weights = (tally / (size * (entries[:found] / total))).astype(array.dtype, copy=False)
    return row_draw(Scheme.WITH_REPLACEMENT, size, (support, tally, weights), row, total)


def sample_top(sensitivities: Array, size: Size) -> Draw:
    """Keep the ``size`` largest sensitivities; deterministic, and biased.

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row.
    size : int, or integer array of shape (...)
        Number of items to keep, at least 1. Ties go to the lowest index. Items of sensitivity 0
        are never kept, so a size above the number of positive ones keeps these, exactly.

    Returns
    -------
    Draw
        All weights are 1; ``probabilities`` are 1 where kept, else 0.

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or a size is
        not positive.
    TypeError
        If ``size`` is not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> sample_top(np.array([1.0, 3.0, 1.0, 0.0]), 2).indices
    array([0, 1])
    """
    array = as_native(sensitivities, "sensitivities")
    sizes = row_sizes(size, tuple(array.shape[:-1]), integer=True)
    xp = array_namespace(array)
    values, _ = checked_values(array)
    mask = top_mask(xp, values, xp.asarray(sizes, device=device(values)))
    ones = xp.astype(mask, array.dtype)
    return draw_of(Scheme.TOP, size, mask, ones, ones)


def sample_hybrid(sensitivities: Array, size: int, *, rng: Rng) -> Draw:
    """Keep the most sensitive items for certain and draw the rest with replacement.

    The number k of sure items is :func:`best_split`, ties in sensitivity going to the lowest
    index; the other ``size`` - k are drawn as by :func:`sample_iid` from what is left.

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row.
    size : int
        Number of sure items and draws together, at least 1. From the number of positive
        sensitivities on, all of these are kept, exactly.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Source of min(``size``, n) uniforms a row, of which the draws use the first ``size`` - k.

    Returns
    -------
    Draw
        Sure items have weight and probability 1; the others have the weight N / ((size - k) p)
        and their probability p of one draw.

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or ``size``
        is below 1.
    TypeError
        If ``rng`` is no source of randomness or ``size`` not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> draw = sample_hybrid(np.array([1.0, 0.01, 0.01, 0.01]), 3, rng=0)
    >>> float(draw.weights[0]), int(draw.counts.sum())
    (1.0, 3)
    """
    array = as_native(sensitivities, "sensitivities")
    generator = _check_rng(rng, array)
    size = check_integer(size, "size", at_least=1)
    xp = array_namespace(array)
    values, positives = checked_values(array)
    points = min(size, int(array.shape[-1]))  # more would change nothing
    sure = split(xp, array, positives, points)
    top = top_mask(xp, values, xp.asarray(sure))
    rest = xp.where(top, xp.zeros_like(values), values)
    draws = xp.where(positives <= points, xp.zeros_like(sure), points - sure)
    u = uniforms(generator, (*array.shape[:-1], points), like=array)
    counts, totals = draw_counts(xp, rest, u, draws)
    one_draw = xp.astype(rest, xp.float64) / totals
    one = xp.ones_like(one_draw)
    expected = xp.where(counts > 0, xp.astype(draws, xp.float64)[..., None] * one_draw, one)
    weights = xp.where(top, one, xp.astype(counts, xp.float64) / expected)
    counts = xp.where(top, xp.ones_like(counts), counts)
    probabilities = xp.astype(xp.where(top, one, one_draw), array.dtype)
    return draw_of(Scheme.HYBRID, size, counts, xp.astype(weights, array.dtype), probabilities)
