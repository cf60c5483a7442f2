"""Array-API forms of the sampling laws: validation, water levels, duels and counts.

:mod:`coresets.sampling` states what is drawn; here is how, for rows of any library. NumPy rows
take the compiled loops of :mod:`coresets._sampling_kernels` where these save a pass or a
temporary. Nothing in this module is random: uniforms come in as arrays. Its two public
functions, the inclusion probabilities and the best split, are offered by :mod:`coresets.sampling`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_namespace

from coresets import _sampling_kernels as kernels
from coresets._draw import Size
from coresets._validate import as_array, as_floating, check_integer, check_non_negative, check_real

__all__ = [
    "as_matrix",
    "as_native",
    "best_split",
    "checked_rows",
    "checked_values",
    "draw_counts",
    "inclusion_probabilities",
    "row_sizes",
    "split",
    "top_mask",
    "tournament",
    "water_fill",
]

Array = Any

_MOST_ITEMS = 2**53  # more than any row has, and exact in float64
_BEYOND_UNIFORMS = 2.0  # sorts after every uniform


def row_sizes(size: Size, batch: tuple[int, ...], *, integer: bool) -> np.ndarray:
    """Positive sizes of shape ``batch`` on the host, from one number or one per row."""
    if getattr(size, "ndim", 0) == 0 and not isinstance(size, (list, tuple)):
        number = check_integer(size, "size", at_least=1) if integer else check_real(size, "size")
        if number <= 0:
            raise ValueError(f"size = {number:g} is not positive; ask for a positive size")
        if integer:
            return np.full(batch, min(number, _MOST_ITEMS), dtype=np.int64)
        return np.full(batch, number, dtype=np.float64)
    array = as_array(size, "size")
    host = np.asarray(array.cpu() if hasattr(array, "cpu") else array)
    if integer and host.dtype.kind not in "iu":
        raise TypeError(f"size has dtype {host.dtype}; this sampler keeps whole items, pass integers")
    if host.dtype.kind not in "iuf":
        raise TypeError(f"size has dtype {host.dtype}; pass numbers")
    good = np.isfinite(host) & (host > 0)
    if not good.all():
        place = int(np.argmin(good.ravel()))
        raise ValueError(f"size has entry {host.ravel()[place]} at {place}; ask for finite positive sizes")
    try:
        host = np.broadcast_to(host, batch)
    except ValueError as error:
        raise ValueError(
            f"size has shape {host.shape}; pass one number or shape {batch}, one per row"
        ) from error
    if integer:
        host = np.minimum(host.astype(np.uint64), _MOST_ITEMS)  # positive ones, which may exceed int64
        return np.ascontiguousarray(host, dtype=np.int64)
    return np.ascontiguousarray(host, dtype=np.float64)


def as_native(values: object, name: str) -> Array:
    """Return a floating array of float32 or float64, for which the loops are compiled."""
    array = as_floating(values, name)
    if array.ndim < 1 or 0 in array.shape:
        raise ValueError(f"{name} has shape {tuple(array.shape)}; pass (..., n), at least one item a row")
    return array


def as_matrix(array: np.ndarray) -> np.ndarray:
    """View, or copy, of shape (b, n) in the layout that the kernels are compiled for."""
    return np.ascontiguousarray(array).reshape(-1, array.shape[-1])


def _count(xp: Any, mask: Array) -> Array:
    """Number of true entries of each row; the standard sums no booleans."""
    return xp.sum(xp.astype(mask, xp.int64), axis=-1)


def _raise_zero_row(row: int, batch: tuple[int, ...]) -> None:
    where = f" in row {tuple(int(i) for i in np.unravel_index(row, batch))}" if batch else ""
    raise ValueError(f"sensitivities are all zero{where}; at least one item needs a positive one")


def _headroom(n: int) -> float:
    """Power of two by which n numbers shrink so that their float64 sum cannot overflow."""
    return 2.0 ** -(n.bit_length() + 1)


def checked_rows(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Valid rows (b, n) with their totals and numbers of positive entries."""
    rows = as_matrix(array)
    totals = np.empty(rows.shape[0])
    positives = np.empty(rows.shape[0], dtype=np.int64)
    if not kernels.row_totals(rows, totals, positives) or not np.isfinite(totals).all():
        with np.errstate(over="ignore"):
            check_non_negative(array, name="sensitivities")
        # Only the sum overflowed. Proportions do not change under scaling.
        rows = rows * _headroom(rows.shape[1])
        kernels.row_totals(rows, totals, positives)
    if not positives.all():
        _raise_zero_row(int(np.argmin(positives)), array.shape[:-1])
    return rows, totals, positives


def _checked(array: Array) -> Array:
    """Valid sensitivities (..., n) in float64 whose sums are finite."""
    xp = array_namespace(array)
    with np.errstate(over="ignore"):
        check_non_negative(array, name="sensitivities")
    values = xp.astype(array, xp.float64)
    top = xp.max(values, axis=-1)
    if bool(xp.any(top == 0.0)):
        flat = xp.reshape(xp.astype(top == 0.0, xp.int8), (-1,))
        _raise_zero_row(int(xp.argmax(flat)), tuple(array.shape[:-1]))
    scale = _headroom(array.shape[-1])
    return values * scale if float(xp.max(top)) > np.finfo(np.float64).max * scale else values


def checked_values(array: Array) -> tuple[Array, Array]:
    """Valid sensitivities with finite sums (NumPy ones in their own dtype), and positive counts."""
    if isinstance(array, np.ndarray):
        rows, _, positives = checked_rows(array)
        return rows.reshape(array.shape), positives.reshape(array.shape[:-1])
    xp = array_namespace(array)
    values = _checked(array)
    return values, _count(xp, values > 0.0)


def inclusion_probabilities(sensitivities: Array, size: Size) -> Array:
    """Probabilities proportional to sensitivities, capped at 1, with a given sum.

    Returns pi_i = min(1, kappa s_i) with kappa such that sum_i pi_i = ``size`` in each row
    (water-filling). Among all inclusion probabilities with that sum these minimise the largest
    s_i / pi_i of the items not kept for certain.

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row.
    size : float, or array of shape (...)
        Positive, whole or not. A size of at least the number of positive sensitivities keeps
        every one of them for certain.

    Returns
    -------
    array of shape (..., n)
        In the dtype of ``sensitivities``; 0 where the sensitivity is 0. The level is found in
        float64 from sums of the items that are not sure, so nothing is lost when sensitivities
        span hundreds of orders of magnitude.

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or a size is
        not positive.
    TypeError
        If ``size`` is not a real number.

    Examples
    --------
    >>> import numpy as np
    >>> inclusion_probabilities(np.array([8.0, 1.0, 1.0, 2.0]), 2)
    array([1.  , 0.25, 0.25, 0.5 ])
    """
    array = as_native(sensitivities, "sensitivities")
    return water_fill(array, row_sizes(size, tuple(array.shape[:-1]), integer=False), array.dtype)


def water_fill(array: Array, sizes: np.ndarray, dtype: Any) -> Array:
    """Water-filling; ``dtype`` is that of the result."""
    if not isinstance(array, np.ndarray):
        xp = array_namespace(array)
        values = _checked(array)
        return xp.astype(_fill(xp, values, xp.asarray(sizes, device=device(values))), dtype)
    rows, totals, positives = checked_rows(array)
    flat = np.ascontiguousarray(sizes, dtype=np.float64).reshape(-1)
    rest_sizes, rest_totals, out = np.empty(flat.size), np.empty(flat.size), np.empty(rows.shape, dtype)
    kernels.solve_rows(rows, flat, totals, rest_sizes, rest_totals)
    kernels.fill_probabilities(rows, positives <= flat, rest_sizes, rest_totals, out)
    return out.reshape(array.shape)


def _fill(xp: Any, values: Array, sizes: Array) -> Array:
    """Water-filling by sorting, in array-API operations; see ``kernels.solve_rows``."""
    n = values.shape[-1]
    sizes = xp.astype(sizes, xp.float64)[..., None]
    ordered = xp.sort(values, axis=-1)
    tails = xp.cumulative_sum(ordered, axis=-1)
    # Column j has n - 1 - j larger items. If those are sure, what is left of the size is shared
    # by the rest; item j has to be sure too when its share exceeds 1.
    left = sizes - xp.astype(xp.arange(n - 1, -1, -1, device=device(values)), xp.float64)
    sure = _count(xp, (left > 0.0) & (left * ordered > tails))[..., None]
    total = xp.take_along_axis(tails, xp.clip(n - 1 - sure, 0, n - 1), axis=-1)
    left = sizes - xp.astype(sure, xp.float64)
    left = xp.where(left > 0.0, left, xp.zeros_like(left))
    safe = xp.where(total > 0.0, total, xp.ones_like(total))
    share = left * (xp.minimum(values, safe) / safe)
    one, zero = xp.ones_like(values), xp.zeros_like(values)
    with np.errstate(over="ignore"):
        capped = xp.where((values > total) | (left * values > total) | (share > 1.0), one, share)
    positive = values > 0.0
    saturated = xp.astype(_count(xp, positive), xp.float64)[..., None] <= sizes
    return xp.where(saturated, xp.where(positive, one, zero), capped)


def tournament(xp: Any, probabilities: Array, u: Array) -> Array:
    """Play all duels of a round at once, then hand the outcomes back down; no index is moved."""
    sure = probabilities >= 1.0
    values = xp.where(sure, xp.zeros_like(probabilities), probabilities)
    rounds: list[tuple[Array, Array]] = []
    used = 0
    while (carriers := values.shape[-1]) > 1:
        pairs = carriers // 2
        a, b, bye = values[..., 0 : 2 * pairs : 2], values[..., 1 : 2 * pairs : 2], values[..., 2 * pairs :]
        both = a + b
        light = both < 1.0
        # A carrier of 0 must lose and its rival of any size win, whatever the uniform: quotients
        # give exactly 0 and 1 then. Sure items are set aside, so the last denominator is positive.
        chance = xp.where(
            light, a / xp.where(both > 0.0, both, xp.ones_like(both)), (1.0 - b) / ((1.0 - a) + (1.0 - b))
        )
        rounds.append((light, u[..., used : used + pairs] < chance))
        values = xp.concat([xp.where(light, both, both - 1.0), bye], axis=-1)
        used += pairs
    outcome = values > 0.5  # 0 or 1 up to rounding, since the probabilities sum to an integer
    for light, won in reversed(rounds):
        pairs = light.shape[-1]
        carried, bye = outcome[..., :pairs], outcome[..., pairs:]
        # Light duel: the winner inherits, the loser is out. Heavy duel: the winner is in, the
        # loser inherits.
        first = (carried & won) | (~light & (carried | won))
        second = (carried & ~won) | (~light & (carried | ~won))
        duels = xp.reshape(xp.stack([first, second], axis=-1), (*light.shape[:-1], 2 * pairs))
        outcome = xp.concat([duels, bye], axis=-1)
    return outcome | sure


def draw_counts(xp: Any, values: Array, u: Array, draws: Array) -> tuple[Array, Array]:
    """Counts (..., n) of the first ``draws`` (...) uniforms of each row, and totals (..., 1).

    A row without mass makes no draws and reports a total of 1.
    """
    m = u.shape[-1]
    u = xp.where(xp.arange(m, device=device(u)) < draws[..., None], u, xp.full_like(u, _BEYOND_UNIFORMS))
    u = xp.sort(u, axis=-1)
    if isinstance(values, np.ndarray):
        rows = as_matrix(values)
        totals, positives = np.empty(rows.shape[0]), np.empty(rows.shape[0], dtype=np.int64)
        kernels.row_totals(rows, totals, positives)
        u = u.reshape(-1, m)
        indices, times = np.empty(u.shape, dtype=np.int64), np.empty(u.shape, dtype=np.int64)
        found = kernels.merge_rows(rows, totals, draws.reshape(-1), u, indices, times)
        counts = np.zeros(rows.shape, dtype=np.int64)
        kernels.scatter_counts(indices, times, found, counts)
        totals[totals == 0.0] = 1.0
        return counts.reshape(values.shape), totals.reshape(*values.shape[:-1], 1)
    running = xp.cumulative_sum(values, axis=-1)
    positive = values > 0.0
    # The largest running sum that a positive item reaches becomes the threshold 1 exactly, so
    # that no uniform is left over, however the library orders its sums.
    total = xp.max(xp.where(positive, running, xp.zeros_like(running)), axis=-1, keepdims=True)
    total = xp.where(total > 0.0, total, xp.ones_like(total))
    return _increments(xp, _count_below(xp, u, running / total), positive), total


def _count_below(xp: Any, ordered: Array, thresholds: Array) -> Array:
    """Number of sorted uniforms below each threshold, row by row."""
    if ordered.ndim == 1 or is_torch_namespace(xp):  # torch searches in batches, the standard does not
        return xp.astype(xp.searchsorted(ordered, thresholds), xp.int64)
    pairs = zip(_rows_of(xp, ordered), _rows_of(xp, thresholds), strict=True)
    return xp.reshape(xp.stack([xp.searchsorted(*pair) for pair in pairs]), tuple(thresholds.shape))


def _rows_of(xp: Any, array: Array) -> list[Array]:
    matrix = xp.reshape(array, (-1, array.shape[-1]))
    return [matrix[r, :] for r in range(matrix.shape[0])]


def _increments(xp: Any, below: Array, positive: Array) -> Array:
    """Differences of cumulative counts, none negative and none where ``positive`` is false.

    Cumulative sums that a library adds up in parallel may decrease, or grow at a zero, by
    rounding; only then the counts are repaired, by a running maximum over the positive items.
    """

    def difference(cumulative: Array) -> Array:
        return cumulative - xp.concat([xp.zeros_like(cumulative[..., :1]), cumulative[..., :-1]], axis=-1)

    counts = difference(below)
    if not bool(xp.any((counts < 0) | (~positive & (counts > 0)))):
        return counts
    below = xp.where(positive, below, xp.zeros_like(below))
    step = 1
    while step < below.shape[-1]:
        shifted = xp.concat([xp.zeros_like(below[..., :step]), below[..., :-step]], axis=-1)
        below = xp.maximum(below, shifted)
        step *= 2
    return difference(below)


def top_mask(xp: Any, values: Array, sizes: Array) -> Array:
    """Mask of the ``sizes`` (...) largest positive entries, ties to the lowest index."""
    n = values.shape[-1]
    place = xp.clip(n - sizes, 0, n - 1)
    if isinstance(values, np.ndarray) and values.ndim == 1:
        threshold = np.partition(values, int(place))[int(place)]
    else:
        threshold = xp.take_along_axis(xp.sort(values, axis=-1), place[..., None], axis=-1)
    above = values > threshold
    tied = values == threshold
    wanted = (sizes - _count(xp, above))[..., None]
    mask = above | (tied & (xp.cumulative_sum(xp.astype(tied, xp.int64), axis=-1) <= wanted))
    return mask & (values > 0.0)


def best_split(sensitivities: Array, size: int) -> Array:
    """How many of ``size`` items the hybrid sampler keeps for certain.

    With the k most sensitive items set aside and t_k the total sensitivity of the others, the
    error of size - k draws from these is governed by kappa = (size - k) / t_k (guarantee E1-H); the
    split maximises it over 0 <= k < size.

    Parameters
    ----------
    sensitivities : array of shape (..., n)
        Non-negative and finite, not all zero in a row; their scale does not matter.
    size : int
        At least 1.

    Returns
    -------
    int64 array of shape (...)
        The smallest maximiser; the number of positive sensitivities if ``size`` reaches it.

    Raises
    ------
    ValueError
        If a sensitivity is negative, NaN or infinite, a row is empty or all zero, or ``size``
        is below 1.
    TypeError
        If ``size`` is not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> int(best_split(np.array([1.0, 0.01, 0.01, 0.01]), 3))
    1
    """
    array = as_native(sensitivities, "sensitivities")
    size = check_integer(size, "size", at_least=1)
    return split(array_namespace(array), array, checked_values(array)[1], size)


def split(xp: Any, array: Array, positives: Array, size: int) -> Array:
    n = array.shape[-1]
    k = min(size, n)  # more than n are never set aside
    ordered = (
        np.partition(array, n - k, axis=-1) if isinstance(array, np.ndarray) else xp.sort(array, axis=-1)
    )
    with np.errstate(over="ignore"):  # an infinite total is never the minimum, or all are
        rest = xp.sum(ordered[..., : n - k], axis=-1, keepdims=True, dtype=xp.float64)
        top = xp.sort(xp.astype(ordered[..., n - k :], xp.float64), axis=-1)
        # Added from the smallest, so that no total is a difference of large ones.
        totals = xp.flip(xp.cumulative_sum(xp.concat([rest, top], axis=-1), axis=-1)[..., 1:], axis=-1)
        draws = xp.astype(xp.arange(size, size - k, -1, device=device(array)), xp.float64)
        error = totals / draws
    return xp.where(positives <= size, positives, xp.astype(xp.argmin(error, axis=-1), xp.int64))
