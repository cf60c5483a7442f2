"""What can be proved of a second map: its isometry constants, and with them the certificate of a support."""

from __future__ import annotations

import math

import numpy as np
import torch

from coresets.certificate import Certificate
from nn.guarantees.ispasp import BlockPursuit, CoherenceIsometry, Isometry, SummedPursuit
from nn.neurons._second_map import Array, Flags, Read, SecondMap
from nn.neurons.unit_scores import NormMap, SummedMap, orthonormal

__all__ = ["certificate", "products"]

# Products of all pairs of columns are formed for so many columns at most.
_MOST_COLUMNS = 4096


def products(reads: tuple[Read, ...], *, normalised: bool) -> tuple[Array, float]:
    """The table b of :class:`~nn.guarantees.CoherenceIsometry`, and the scale that was taken out of W.

    Parameters
    ----------
    reads : tuple of Read
        The consumers of a group.
    normalised : bool
        Whether columns are made orthonormal unit by unit. If not, one factor for all units makes the
        lengths of their columns lie as evenly around 1 as they can.

    Returns
    -------
    array of shape (units, units), float
        Frobenius norms, which are at least the spectral ones, the largest over consumers and groups; and the
        factor that W was divided by.
    """
    table = np.zeros((reads[0].consumer.units,) * 2)
    own: list[torch.Tensor] = []
    for read in reads:
        matrix, columns = read.matrix(), read.consumer.columns
        basis = (orthonormal(matrix, columns) if normalised else matrix)[:, :, columns]
        grams = torch.einsum("goui,govj->guvij", basis, basis)
        table = np.maximum(table, np.asarray(grams.square().sum(dim=(3, 4)).sqrt().amax(dim=0)))
        own.append(grams.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2))  # (groups, units, k, k)
    if normalised:
        np.fill_diagonal(table, 0.0)
        return table, 1.0
    values = [torch.linalg.eigvalsh(blocks).amin(dim=(0, 2)) for blocks in own]
    least = torch.stack(values).amin(dim=0).clamp_min(0.0)
    most = torch.stack([torch.linalg.eigvalsh(blocks).amax(dim=(0, 2)) for blocks in own]).amax(dim=0)
    square = (float(least.min()) + float(most.max())) / 2.0 or 1.0
    table = table / square
    deviations = torch.maximum((most / square - 1.0).abs(), (least / square - 1.0).abs())
    np.fill_diagonal(table, np.asarray(deviations))
    return table, math.sqrt(square)


def certificate(
    second: SecondMap, supports: tuple[Flags, ...], iterations: int
) -> tuple[Certificate | None, str | None]:
    """What IS-A or IS-B say about a support, and why they say nothing if they do not.

    Parameters
    ----------
    second : SecondMap
        Of one group.
    supports : tuple of array of bool
        As :func:`~nn.neurons._support.pursue` returns them.
    iterations : int
        How many were allowed; if fewer were made, the last support is a fixed point.

    Returns
    -------
    Certificate or None, str or None
        The relative residual with its bound, and half a sentence on a bound that is vacuous.
    """
    kept = supports[-1]
    count, reads = int(kept.sum()), second.reads
    width = max(read.consumer.columns.shape[1] for read in reads)
    outputs = min(read.consumer.layer.shape[1] for read in reads)
    if not isinstance(second, (NormMap, SummedMap)):
        return None, "the theorems do not know its score"
    if isinstance(second, SummedMap):
        if width * len(reads) * reads[0].consumer.layer.shape[0] > 1:
            return None, "units have several columns in the second map, of which sums say nothing"
        if second.negative:
            return None, "some activations are negative, so that sums may cancel; norms do not"
    theorem = SummedPursuit() if isinstance(second, SummedMap) else BlockPursuit()
    all_nominated = 2 * count >= len(kept)
    order = min(count if all_nominated else 2 * count, len(kept))
    if order * width > outputs:
        reason = (
            f"{order} units have {order * width} columns, more than the {outputs} outputs of their consumer"
        )
        return None, reason
    if len(kept) * width > _MOST_COLUMNS:
        return None, f"{len(kept) * width} columns are too many to compare all pairs"
    table, scale = products(reads, normalised=second.normalised)
    constant = CoherenceIsometry().constant
    isometry = Isometry(count, constant(table, count), constant(table, 2 * count))
    sizes = np.abs(second.sizes) * scale
    tail, head = theorem.tail(sizes, count), theorem.head(sizes, count)
    if all_nominated:
        missed = 0.0  # every unit is a candidate, and the largest are kept
    elif len(supports) < iterations:
        missed = theorem.missed(isometry, 0.0, tail, 0)  # a fixed point: as after any number of iterations
    else:
        missed = theorem.missed(isometry, head, tail, len(supports))
    if math.isinf(missed):
        return None, f"delta_s + delta_2s is only known to be at most {isometry.contraction:.3g}, not below 1"
    energy = second.residual(np.ones_like(kept))
    if energy == 0.0:
        return None, "the group adds nothing to its consumers"
    bound = theorem.residual(isometry, missed, tail) / energy
    # Sums are all that the score has seen: outputs of different sign cancel in them.
    added = ", both added up over examples and positions" if isinstance(second, SummedMap) else ""
    found = Certificate(
        "residual of the second map",
        f"what is removed, over all that the group adds to its consumers on calibration data{added}; "
        f"{theorem.key}",
        second.residual(~kept) / energy,
        bound=bound,
        details={
            "isometry_small": isometry.small,
            "isometry_large": isometry.large,
            "tail": tail / energy,
            "missed": missed / energy,
            "iterations": float(len(supports)),
            "vacuous": float(bound >= 1.0),
        },
    )
    return found, f"the bound {bound:.3g} is above 1" if bound >= 1.0 else None
