"""Compiled loops behind :mod:`coresets.sampling`, for NumPy arrays.

Each loop does on the host, in one pass and without temporaries of the input's size, what the
array-API expressions in :mod:`coresets.sampling` do anywhere else; the tests hold the two
together. Rows are C-contiguous matrices of shape (b, n), float32 or float64; sums are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = [
    "BLOCK",
    "block_sums",
    "fill_probabilities",
    "invert_kept",
    "merge_row",
    "merge_rows",
    "probability_totals",
    "row_totals",
    "scatter_counts",
    "solve_rows",
    "thin",
    "tournament",
]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any

BLOCK = 32  # entries a block sum covers; a draw searches one block
_CHUNK = 64  # blocks read at once: 16 KiB, half of a first-level cache

# Passes of the fixed-point iteration before sorting takes over. Each pass multiplies the count
# of sure items on all but contrived rows, so a handful suffices.
_MAX_PASSES = 12


def _compiled(*, reorder: bool = False) -> Callable[[F], F]:
    """Compile on first use; ``reorder`` lets sums be reassociated, which vectorises them.

    NaN and infinity keep their meaning either way, since validation relies on them.
    """
    fastmath: Any = {"reassoc", "nsz"} if reorder else False

    def wrap(function: F) -> F:
        try:
            return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
        except RuntimeError:  # no directory that numba may write to: compile in every process
            return cast(F, numba.njit(nogil=True, fastmath=fastmath)(function))

    return wrap


@_compiled(reorder=True)
def row_totals(rows: Array, totals: Array, positives: Array) -> bool:
    """Sum each row and count its positive entries; whether all entries are at least 0."""
    valid = True
    for r in range(rows.shape[0]):
        row = rows[r]
        total = 0.0
        positive = 0
        bad = 0
        for i in range(row.size):
            x = np.float64(row[i])
            total += x
            positive += 1 if x > 0.0 else 0
            bad += not (x >= 0.0)  # also true for NaN
        totals[r] = total
        positives[r] = positive
        valid &= bad == 0
    return valid


@_compiled(reorder=True)
def probability_totals(rows: Array, totals: Array) -> bool:
    """Sum each row; whether all entries lie in [0, 1]."""
    valid = True
    for r in range(rows.shape[0]):
        row = rows[r]
        total = 0.0
        bad = 0
        for i in range(row.size):
            x = np.float64(row[i])
            total += x
            bad += not (0.0 <= x <= 1.0)
        totals[r] = total
        valid &= bad == 0
    return valid


@_compiled(reorder=True)
def _rest_above(row: Array, size: float, total: float) -> tuple[int, float]:
    """Count the entries s with size * s > total, and sum the others."""
    count = 0
    rest = 0.0
    for i in range(row.size):
        x = np.float64(row[i])
        sure = size * x > total
        count += 1 if sure else 0
        rest += 0.0 if sure else x
    return count, rest


@_compiled()
def _solve_sorted(row: Array, size: float) -> tuple[float, float]:
    """Water level by sorting: the fewest sure items after which no other exceeds its share."""
    ordered = np.sort(row)
    n = ordered.size
    tails = np.empty(n)
    total = 0.0
    for i in range(n):
        total += ordered[i]
        tails[i] = total
    for k in range(n):
        rest_size = size - k
        if rest_size <= 0.0 or not rest_size * ordered[n - 1 - k] > tails[n - 1 - k]:
            return max(rest_size, 0.0), tails[n - 1 - k]
    return 0.0, tails[0]


@_compiled()
def solve_rows(rows: Array, sizes: Array, totals: Array, rest_sizes: Array, rest_totals: Array) -> None:
    """Water-filling for rows with more positive entries than ``sizes``.

    On return the entry s has probability min(1, rest_size * s / rest_total): what is left of the
    size, over what is left of the total, after the sure items are set aside.
    """
    for r in range(rows.shape[0]):
        # Setting sure items aside lowers the threshold total / size, which can only make more
        # items sure: the iteration is monotone and stops when no item joins.
        size, total = sizes[r], totals[r]
        count, settled = 0, False
        for _ in range(_MAX_PASSES):
            found, rest = _rest_above(rows[r], size, total)
            if found <= count or sizes[r] - found <= 0.0:
                settled = True
                break
            count, size, total = found, sizes[r] - found, rest
        if not settled:
            size, total = _solve_sorted(rows[r], sizes[r])
        rest_sizes[r] = size
        rest_totals[r] = total


@_compiled()
def fill_probabilities(
    rows: Array, saturated: Array, rest_sizes: Array, rest_totals: Array, out: Array
) -> None:
    """Probabilities from the water level; saturated rows keep every positive entry for certain."""
    for r in range(rows.shape[0]):
        row, target = rows[r], out[r]
        size, total = rest_sizes[r], rest_totals[r]
        if saturated[r]:
            for i in range(row.size):
                target[i] = 1.0 if row[i] > 0.0 else 0.0
        else:
            for i in range(row.size):
                x = np.float64(row[i])
                target[i] = 1.0 if x > total or size * x > total else min(1.0, size * (x / total))


@_compiled()
def thin(probabilities: Array, uniforms: Array, mask: Array) -> None:
    """Keep where the uniform is below the probability, compared in float64."""
    for i in range(mask.size):
        mask[i] = uniforms[i] < probabilities[i]


@_compiled()
def invert_kept(mask: Array, probabilities: Array, weights: Array) -> None:
    """Inverse probability where kept, 0 elsewhere, in the dtype of the probabilities."""
    one = probabilities.dtype.type(1.0)
    zero = probabilities.dtype.type(0.0)
    for i in range(mask.size):
        weights[i] = one / probabilities[i] if mask[i] else zero


@_compiled()
def tournament(probabilities: Array, uniforms: Array, kept: Array) -> None:
    """Pivotal sampling by knock-out rounds of neighbours; see ``tournament`` in _sampling_arrays."""
    n = probabilities.shape[1]
    values = np.empty(n)
    light = np.empty(max(n - 1, 1), dtype=np.bool_)  # the two probabilities sum to less than 1
    first = np.empty(max(n - 1, 1), dtype=np.bool_)  # the first of the pair won
    outcome = np.empty(n, dtype=np.bool_)
    for r in range(probabilities.shape[0]):
        for i in range(n):
            values[i] = probabilities[r, i] if probabilities[r, i] < 1.0 else 0.0
        carriers, duel = n, 0
        while carriers > 1:
            pairs = carriers // 2
            for j in range(pairs):
                a, b = values[2 * j], values[2 * j + 1]
                both = a + b
                if both < 1.0:
                    light[duel] = True
                    first[duel] = both > 0.0 and uniforms[r, duel] < a / both
                    values[j] = both
                else:
                    light[duel] = False
                    first[duel] = uniforms[r, duel] < (1.0 - b) / ((1.0 - a) + (1.0 - b))
                    values[j] = both - 1.0
                duel += 1
            if carriers % 2:
                values[pairs] = values[carriers - 1]
            carriers = (carriers + 1) // 2
        outcome[0] = values[0] > 0.5
        # Back from the final to the first round. Rounds shrink by halving, so the number of
        # carriers that entered each one follows from n and its depth.
        depth = 0
        while ((n - 1) >> depth) > 0:
            depth += 1
        for level in range(depth - 1, -1, -1):
            carriers = ((n - 1) >> level) + 1
            pairs = carriers // 2
            duel -= pairs
            if carriers % 2:
                outcome[carriers - 1] = outcome[pairs]
            for j in range(pairs - 1, -1, -1):
                won, carried = first[duel + j], outcome[j]
                if light[duel + j]:
                    outcome[2 * j + 1] = carried and not won
                    outcome[2 * j] = carried and won
                else:
                    outcome[2 * j + 1] = carried or not won
                    outcome[2 * j] = carried or won
        for i in range(n):
            kept[r, i] = outcome[i] or probabilities[r, i] >= 1.0


@_compiled(reorder=True)
def block_sums(row: Array, sums: Array) -> bool:
    """Sum blocks of ``BLOCK`` entries; whether all entries are at least 0."""
    bad = 0
    whole = row.size // BLOCK
    for b in range(whole):
        block = row[b * BLOCK : (b + 1) * BLOCK]
        total = 0.0
        for i in range(BLOCK):
            x = np.float64(block[i])
            total += x
            bad += not (x >= 0.0)
        sums[b] = total
    total = 0.0
    for i in range(whole * BLOCK, row.size):
        x = np.float64(row[i])
        total += x
        bad += not (x >= 0.0)
    if whole < sums.size:
        sums[whole] = total
    return bad == 0


@_compiled()
def merge_row(
    row: Array,
    sums: Array,
    summed: bool,
    total: float,
    uniforms: Array,
    indices: Array,
    counts: Array,
    entries: Array,
) -> tuple[int, bool]:
    """Merge sorted uniforms, times ``total``, with the running sums of the row.

    With ``summed``, the block sums are given and only blocks in which a draw falls are read;
    without, they are taken chunk by chunk on the way, in the same pass. Writes where the distinct
    entries drawn are, how often each was, and the entries themselves. Returns their number, and
    whether all entries are at least 0 if that was looked at.
    """
    n, m = row.size, uniforms.size
    prefix, j, found, valid = 0.0, 0, 0, True
    for first in range(0, sums.size, _CHUNK):
        last = min(first + _CHUNK, sums.size)
        if not summed:
            valid &= block_sums(row[first * BLOCK : last * BLOCK], sums[first:last])
        for b in range(first, last):
            before = prefix
            prefix += sums[b]
            while j < m and uniforms[j] * total < prefix:
                target = uniforms[j] * total
                block = row[b * BLOCK : (b + 1) * BLOCK]
                mass, place = before, 0
                for i in range(block.size):  # to the end: when to stop could not be predicted
                    mass += block[i]
                    place += mass <= target
                if place >= block.size:
                    # By rounding, the running sum ends below the block's own sum.
                    place = block.size - 1
                    while place > 0 and not block[place] > 0.0:
                        place -= 1
                index = b * BLOCK + place
                if found > 0 and indices[found - 1] == index:
                    counts[found - 1] += 1
                else:
                    indices[found], counts[found], entries[found] = index, 1, block[place]
                    found += 1
                j += 1
    if j < m:
        # By rounding, draws are left at the upper end: they belong to the last positive entry.
        index = n - 1
        while index > 0 and not row[index] > 0.0:
            index -= 1
        if found > 0 and indices[found - 1] == index:
            counts[found - 1] += m - j
        else:
            indices[found], counts[found], entries[found] = index, m - j, row[index]
            found += 1
    return found, valid


@_compiled()
def merge_rows(
    rows: Array, totals: Array, draws: Array, uniforms: Array, indices: Array, counts: Array
) -> Array:
    """Merge each row with its first ``draws[r]`` sorted uniforms; numbers of distinct entries."""
    found = np.zeros(rows.shape[0], dtype=np.int64)
    entries = np.empty(uniforms.shape[1])
    sums = np.empty((rows.shape[1] + BLOCK - 1) // BLOCK)
    for r in range(rows.shape[0]):
        if draws[r] > 0:
            u = uniforms[r, : draws[r]]
            block_sums(rows[r], sums)
            found[r] = merge_row(rows[r], sums, True, totals[r], u, indices[r], counts[r], entries)[0]
    return found


@_compiled()
def scatter_counts(indices: Array, counts: Array, found: Array, out: Array) -> None:
    """Write the counts of each row at their indices."""
    for r in range(out.shape[0]):
        for k in range(found[r]):
            out[r, indices[r, k]] = counts[r, k]
