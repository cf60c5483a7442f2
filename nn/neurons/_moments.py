"""Second moments that least squares on units needs, streamed in float64.

Vectors x are what a consumer sees, y what it is to give. Sums of x x^T, x y^T, x, y and y^2 determine
every fit of y by the entries of x, with or without a constant.

Patches of one image are nearly copies of one another, so at most so many of each are used: those at
every s-th place of the stream, s being coprime to the patches of an image, so that all positions are seen
in turn. What is used depends on neither chance nor the data.

Cost: m^2 flops a vector (a symmetric update) on the CPU, twice that elsewhere; memory m (m + n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from coresets.errors import SolverError
from nn.calibration import reduce_sum
from nn.gram import cholesky
from nn.layers import EdgeLayer

__all__ = ["InputMoments", "MomentSums", "Moments", "Sampling", "least_squares", "with_own_targets"]

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# So many entries of a block are promoted to float64 at a time.
_BLOCK_ENTRIES = 1 << 23


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over vectors, for each group of a grouped convolution.

    Parameters
    ----------
    products : array of shape (groups, m, m)
        Of x x^T.
    cross : array of shape (groups, m, n)
        Of x y^T.
    sums, target_sums : array of shape (groups, m), (groups, n)
        Of x, and of y.
    target_squares : array of shape (groups, n)
        Of y^2, entrywise.
    vectors : int
        How many.
    """

    products: Matrix
    cross: Matrix
    sums: Matrix
    target_sums: Matrix
    target_squares: Matrix
    vectors: int

    def part(self, columns: Indices, rows: Indices) -> Moments:
        """Those of some entries of x and some of y."""
        return Moments(
            self.products[:, columns[:, None], columns[None, :]],
            self.cross[:, columns[:, None], rows[None, :]],
            self.sums[:, columns],
            self.target_sums[:, rows],
            self.target_squares[:, rows],
            self.vectors,
        )

    def centred(self) -> Moments:
        """Moments about the means: what is left once a constant is fitted too."""
        count = max(1, self.vectors)
        mean = self.sums / count
        target_mean = self.target_sums / count
        return Moments(
            self.products - count * mean[:, :, None] * mean[:, None, :],
            self.cross - count * mean[:, :, None] * target_mean[:, None, :],
            np.zeros_like(self.sums),
            np.zeros_like(self.target_sums),
            np.maximum(self.target_squares - count * target_mean**2, 0.0),
            self.vectors,
        )

    def mean_square(self, *, about_mean: bool) -> float:
        """Mean over the entries of x of the sum of x^2, about the mean if so wanted; 1 if that is 0."""
        squares = np.einsum("gmm->gm", self.products)
        if about_mean:
            squares = squares - self.sums**2 / max(1, self.vectors)
        return float(squares.mean()) or 1.0

    def squared_error(self, weights: Matrix, bias: Matrix | None = None) -> float:
        """Sum of |y - W^T x - b|^2 over vectors, from its definition.

        Parameters
        ----------
        weights : array of shape (groups, m, n)
            W.
        bias : array of shape (groups, n), optional
            b; none by default.
        """
        fitted = self.products @ weights - 2.0 * self.cross
        error = float(np.sum(weights * fitted) + np.sum(self.target_squares))
        if bias is not None:
            means = np.einsum("gm,gmn->gn", self.sums, weights) - self.target_sums
            error += float(np.sum(bias * (self.vectors * bias + 2.0 * means)))
        return max(0.0, error)


def least_squares(moments: Moments, prior: Matrix, penalty: float) -> Matrix:
    """Weights that minimise the squared error plus lambda |W - prior|^2, of shape (groups, m, n).

    ``penalty`` is lambda. The squared error is then at most that of the prior, whatever lambda is.

    Raises
    ------
    SolverError
        If the moments are singular up to rounding.
    """
    solved = np.empty_like(prior)
    for group, products in enumerate(moments.products):
        matrix = products + penalty * np.eye(len(products))
        # The change from the prior, so that what data say nothing about is left exactly as it was.
        residual = moments.cross[group] - products @ prior[group]
        change = scipy.linalg.cho_solve((cholesky(matrix), True), residual, check_finite=False)
        solved[group] = prior[group] + change
    if not np.isfinite(solved).all():
        raise SolverError("least squares gave weights that are not finite; use a larger ridge")
    return solved


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which vectors of an example are used.

    Parameters
    ----------
    patches : int
        At most so many of an example (and fewer by one step's rounding).
    """

    patches: int

    def step(self, patches: int) -> int:
        """Distance of the vectors used: the least one coprime to the number of patches that is enough."""
        step = -(-patches // self.patches)
        while math.gcd(step, patches) > 1:
            step += 1
        return step

    def rows(self, block: torch.Tensor, patches: int, seen: int) -> torch.Tensor:
        """The vectors used of a block (groups, vectors, m), of which ``seen`` others came before."""
        step = self.step(patches)
        return block if step == 1 else block[:, -seen % step :: step]


class MomentSums:
    """Running sums behind :class:`Moments`; on the host where the data are, else on their device."""

    def __init__(self, groups: int, inputs: int, outputs: int, device: torch.device) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        # Columns of the products are contiguous for BLAS; only their lower triangle is filled on the host.
        self._products = zeros(groups, inputs, inputs)
        self._cross, self._squares = zeros(groups, inputs, outputs), zeros(groups, outputs)
        self._sums, self._target_sums = zeros(groups, inputs), zeros(groups, outputs)
        self._vectors = 0
        self._on_host = device.type == "cpu"

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add vectors x, (groups, v, m), with their targets y, (groups, v, n)."""
        self._vectors += int(inputs.shape[1])
        step = max(1, _BLOCK_ENTRIES // max(1, inputs.shape[0] * inputs.shape[2]))
        for x, y in zip(torch.split(inputs, step, dim=1), torch.split(targets, step, dim=1), strict=True):
            rows, wanted = x.to(torch.float64), y.to(torch.float64)
            self._cross += rows.transpose(1, 2) @ wanted
            self._sums += rows.sum(dim=1)
            self._target_sums += wanted.sum(dim=1)
            self._squares += wanted.square().sum(dim=1)
            if not self._on_host:
                self._products += rows.transpose(1, 2) @ rows
                continue
            for group in range(len(rows)):
                # As BLAS counts columns, the transposed array: its upper triangle is our lower one.
                scipy.linalg.blas.dsyrk(
                    1.0, rows[group].contiguous().numpy().T, 1.0,
                    self._products[group].numpy().T, lower=0, overwrite_c=1,
                )  # fmt: skip

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        for name in ("_products", "_cross", "_squares", "_sums", "_target_sums"):
            setattr(self, name, reduce_sum(getattr(self, name)))
        count = torch.tensor(self._vectors, dtype=torch.int64, device=self._sums.device)
        self._vectors = int(reduce_sum(count))

    def moments(self) -> Moments:
        """The sums so far.

        Raises
        ------
        ValueError
            If they overflowed.
        """
        products = self._products.cpu().numpy()
        if self._on_host:
            for group in range(len(products)):
                products[group] += np.tril(products[group], -1).T
        if not (np.isfinite(products).all() and bool(torch.isfinite(self._squares).all())):
            raise ValueError("squares of activations exceed the range of float64; scale the inputs down")
        return Moments(
            products,
            self._cross.cpu().numpy(),
            self._sums.cpu().numpy(),
            self._target_sums.cpu().numpy(),
            self._squares.cpu().numpy(),
            self._vectors,
        )


class InputMoments:
    """Collects moments of what a layer is fed; see :class:`~nn.calibration.Collector`.

    Those of its outputs follow from its weight.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._sums: MomentSums | None = None
        self._seen = 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add the vectors of one batch."""
        if self._sums is None:
            groups, _, edges = layer.shape
            self._sums = MomentSums(groups, edges, 0, activations.device)
        patches = layer.patches(activations)
        for block in layer.inputs(activations):
            rows = self._sampling.rows(block, patches, self._seen)
            self._seen += int(block.shape[1])
            self._sums.add(rows, rows[..., :0])

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        if self._sums is not None:
            self._sums.reduce()

    def moments(self, layer: EdgeLayer) -> Moments:
        """The result without targets, once all has been seen."""
        if self._sums is None:
            raise ValueError(f"layer {layer.name!r} has seen no inputs yet; observe some batches first")
        return self._sums.moments()


def with_own_targets(found: Moments, layer: EdgeLayer) -> Moments:
    """Moments of a layer's inputs, its outputs without bias being the targets."""
    weights = layer.matrix().double().cpu().numpy().transpose(0, 2, 1)
    cross = found.products @ weights
    return Moments(
        found.products,
        cross,
        found.sums,
        np.einsum("gm,gmn->gn", found.sums, weights),
        np.einsum("gmn,gmn->gn", weights, cross),
        found.vectors,
    )
