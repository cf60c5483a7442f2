"""How i-SpaSP measures units: by sums of activations, as published, or by norms.

Either is taken as it is, or in units in which all columns of the second map have norm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from nn.calibration import Collector
from nn.gram import GramCollector
from nn.neurons._arguments import check_part
from nn.neurons._second_map import Array, Flags, Read, SecondMap, SumCollector

__all__ = ["AbsoluteSum", "ColumnNormalised", "RowNorm", "SignedSum", "UnitScore"]

# Moments are read without their ridge: this one is subtracted again.
_LEAST_RIDGE = 1e-10
# So many weights are promoted to float64 at a time.
_BLOCK_ENTRIES = 1 << 22


@runtime_checkable
class UnitScore(Protocol):
    """A way to measure units."""

    def collector(self) -> Collector:
        """What is collected of each consumer's inputs."""

    def second_map(self, reads: tuple[Read, ...], *, normalised: bool = False) -> SecondMap:
        """Sizes and importances of the units of a group."""


@dataclass(frozen=True, slots=True)
class SignedSum:
    """Sums over examples and positions, sorted as they are: the published form.

    Activations and gradients of different sign cancel; :class:`~nn.guarantees.SummedPursuit` needs
    activations that are not negative.
    """

    def collector(self) -> Collector:
        """Sums."""
        return SumCollector()

    def second_map(self, reads: tuple[Read, ...], *, normalised: bool = False) -> SecondMap:
        """W h and W^T of it."""
        return SummedMap(reads, normalised, lambda values: values)


@dataclass(frozen=True, slots=True)
class AbsoluteSum:
    """Absolute values of the sums over examples and positions."""

    def collector(self) -> Collector:
        """Sums."""
        return SumCollector()

    def second_map(self, reads: tuple[Read, ...], *, normalised: bool = False) -> SecondMap:
        """W h and W^T of it, without signs."""
        return SummedMap(reads, normalised, np.abs)


@dataclass(frozen=True, slots=True)
class RowNorm:
    """Norms over examples and positions: nothing cancels, and any activation will do.

    The rows of a unit are those of the patches that its consumers see, so that an activation counts as
    often as it is read. Needs the second moments of the patches, m^2 numbers for m columns.
    """

    def collector(self) -> Collector:
        """Second moments."""
        return GramCollector()

    def second_map(self, reads: tuple[Read, ...], *, normalised: bool = False) -> SecondMap:
        """Norms of rows of H and of W^T V."""
        return NormMap(reads, normalised)


@dataclass(frozen=True, slots=True)
class ColumnNormalised:
    """Another score, in units in which the columns of the second map have norm 1.

    Activations are multiplied by the norms of the columns that read them, which changes nothing in the
    network. The choice no longer depends on how a ReLU network is scaled between two layers, and the second
    map comes closer to an isometry.

    Parameters
    ----------
    score : UnitScore
        For a unit of several columns, sums are multiplied by their joint norm. For norms the columns are
        made orthonormal: a unit's size is then the norm of what it adds to the outputs.
    """

    score: UnitScore = field(default_factory=SignedSum)

    def __post_init__(self) -> None:
        if isinstance(self.score, ColumnNormalised):
            raise TypeError(f"score = {self.score!r} is normalised already; pass SignedSum() or RowNorm()")
        check_part(self.score, "score", UnitScore, "SignedSum() or RowNorm()")

    def collector(self) -> Collector:
        """That of the score."""
        return self.score.collector()

    def second_map(self, reads: tuple[Read, ...], *, normalised: bool = False) -> SecondMap:
        """The score's, normalised."""
        return self.score.second_map(reads, normalised=True)


class SummedMap:
    """The second map and sums of what it is fed."""

    def __init__(self, reads: tuple[Read, ...], normalised: bool, shape: Callable[[Array], Array]) -> None:
        self.reads, self.normalised, self._shape = reads, normalised, shape
        sums = [read.statistics.unit_sums(read.consumer) for read in reads]
        norms = torch.linalg.vector_norm(torch.stack([read.unit_norms() for read in reads]), dim=0)
        self._norms = norms if normalised else torch.ones_like(norms)
        self.sizes: Array = self._shape(np.asarray(torch.stack(sums).sum(dim=0) * self._norms))
        self.negative = min(float(read.statistics.least) for read in reads) < 0.0

    def importance(self, removed: Flags) -> Array:
        """Entries of W^T V, added up over examples, positions and the columns of a unit."""
        gone = torch.from_numpy(removed).double()
        total = sum(read.by_unit(self._gradient(read, gone)) for read in self.reads)
        return self._shape(np.asarray(torch.where(self._norms > 0.0, total / self._norms, 0.0)))

    def residual(self, removed: Flags) -> float:
        """Norm of the change of the outputs added up over examples; where units have one column only."""
        gone, squares = torch.from_numpy(removed).double(), 0.0
        for read in self.reads:
            change = torch.einsum("gom,wgm->wgo", read.matrix(), self._inputs(read, gone))
            squares += float(change[0].square().sum())
        return float(np.sqrt(squares))

    @staticmethod
    def _inputs(read: Read, gone: torch.Tensor) -> torch.Tensor:
        """Patches of the removed units: (offsets, groups, columns)."""
        return read.statistics.patches.cpu() * read.spread(gone)

    def _gradient(self, read: Read, gone: torch.Tensor) -> torch.Tensor:
        """Gradients of columns, (groups, columns), a few rows of W at a time."""
        inputs = self._inputs(read, gone)
        window, _, columns = inputs.shape
        offset = torch.arange(columns) % window
        total = torch.zeros(inputs.shape[1:], dtype=torch.float64)
        weight = read.consumer.layer.matrix()
        step = max(1, _BLOCK_ENTRIES // (weight.shape[0] * columns))
        for rows, scales in zip(
            torch.split(weight, step, 1), torch.split(read.row_scales, step, 1), strict=True
        ):
            block = rows.double().cpu() * scales[:, :, None]
            outputs = torch.einsum("gom,wgm->wgo", block, inputs)
            back = torch.einsum("gom,wgo->wgm", block, outputs)
            total += back[offset, :, torch.arange(columns)].t()
        return total


class NormMap:
    """The second map and second moments of what it is fed."""

    def __init__(self, reads: tuple[Read, ...], normalised: bool) -> None:
        self.reads, self.normalised = reads, normalised
        self._matrices = [read.matrix() for read in reads]
        self._moments = [_moments(read.statistics) for read in reads]
        self._bases = [
            orthonormal(matrix, read.consumer.columns) if normalised else matrix
            for matrix, read in zip(self._matrices, reads, strict=True)
        ]
        # V V^T or products of columns, whichever is smaller.
        self._products = [
            basis.transpose(1, 2) @ matrix if matrix.shape[1] > matrix.shape[2] else None
            for basis, matrix in zip(self._bases, self._matrices, strict=True)
        ]
        self.sizes: Array = np.sqrt(np.asarray(self._squares()))

    def importance(self, removed: Flags) -> Array:
        """Norms of the rows of W^T V."""
        gone, total = torch.from_numpy(removed).double(), torch.zeros(removed.shape, dtype=torch.float64)
        parts = zip(self.reads, self._moments, self._matrices, self._bases, self._products, strict=True)
        for read, moments, matrix, basis, products in parts:
            if products is None:
                left = matrix * read.spread(gone)
                covariance = left @ moments @ left.transpose(1, 2)
                total += read.by_unit((basis * (covariance @ basis)).sum(dim=1))
            else:
                left = products * read.spread(gone)
                total += read.by_unit((left * (left @ moments)).sum(dim=2))
        return np.sqrt(np.asarray(total.clamp_min(0.0)))

    def residual(self, removed: Flags) -> float:
        """Frobenius norm of V."""
        total = 0.0
        gone = torch.from_numpy(removed).double()
        for read, moments, matrix in zip(self.reads, self._moments, self._matrices, strict=True):
            left = matrix * read.spread(gone)
            total += float((left * (left @ moments)).sum())
        return float(np.sqrt(max(total, 0.0)))

    def _squares(self) -> torch.Tensor:
        total = torch.zeros(self.reads[0].consumer.units, dtype=torch.float64)
        for read, moments, matrix in zip(self.reads, self._moments, self._matrices, strict=True):
            if not self.normalised:
                total += read.by_unit(moments.diagonal(dim1=1, dim2=2))
                continue
            columns = read.consumer.columns
            own = moments[:, columns[:, :, None], columns[:, None, :]]
            blocks = matrix[:, :, columns]
            total += torch.einsum("goui,guij,gouj->u", blocks, own, blocks)
        return total.clamp_min(0.0)


def orthonormal(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """A matrix whose columns of each unit are an orthonormal basis of their span, and then zeros.

    Parameters
    ----------
    matrix : Tensor of shape (groups, neurons, edges)
        Columns of other groups stay as they are.
    columns : Tensor of int64, shape (units, k)
        Columns of each unit.
    """
    blocks = matrix[:, :, columns].permute(0, 2, 1, 3)  # (groups, units, neurons, k)
    left, values, _ = torch.linalg.svd(blocks, full_matrices=False)
    least = values[..., :1] * max(blocks.shape[2:]) * torch.finfo(torch.float64).eps
    left = left * ((values > least) & (values > 0.0))[..., None, :]
    basis = matrix.clone()
    spanned = torch.zeros_like(blocks)
    spanned[..., : left.shape[-1]] = left
    basis[:, :, columns] = spanned.permute(0, 2, 1, 3)
    return basis


def _moments(collector: GramCollector) -> torch.Tensor:
    gram = collector.gram(_LEAST_RIDGE)
    return torch.from_numpy(gram.matrix - gram.ridge * np.eye(gram.matrix.shape[1]))
