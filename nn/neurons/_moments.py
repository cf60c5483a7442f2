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
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from coresets.errors import SolverError
from nn.calibration import reduce_sum
from nn.layers import EdgeLayer, pad

__all__ = [
    "InputMoments",
    "MomentSums",
    "Moments",
    "Sampling",
    "least_squares",
    "mirror",
    "vectors_of",
    "with_own_targets",
]

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# So many entries of a block are promoted to float64 at a time.
_BLOCK_ENTRIES = 1 << 23
# Side of the squares in which a matrix is mirrored.
_MIRRORED = 256
# So many entries of patches are copied out of the images at a time.
_GATHERED_ENTRIES = 1 << 22


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

    def centre(self, products: Matrix, columns: Indices) -> None:
        """Make products of some columns, (groups, v, v), products about the means, in place."""
        count = max(1, self.vectors)
        for own, sums in zip(products, self.sums[:, columns], strict=True):
            mean = torch.from_numpy(sums / count)
            torch.from_numpy(own).addr_(mean, mean, alpha=-float(count))

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


def factored(matrix: Matrix) -> torch.Tensor:
    """Lower triangular L with L L^T the matrix, by torch, whose factorisation is the fastest at hand.

    Raises
    ------
    SolverError
        If the matrix is not positive definite up to rounding.
    """
    lower, info = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    if int(info):
        raise SolverError(
            "the second moments of the inputs are not positive definite up to rounding (in column "
            f"{int(info) - 1} of those kept); use a larger ridge"
        )
    return lower


def solved(lower: torch.Tensor, wanted: Matrix) -> Matrix:
    """X with L L^T X = B."""
    return np.asarray(torch.cholesky_solve(torch.from_numpy(wanted), lower).numpy())


def least_squares(moments: Moments, prior: Matrix, penalty: float) -> Matrix:
    """Weights that minimise the squared error plus lambda |W - prior|^2, of shape (groups, m, n).

    ``penalty`` is lambda. The squared error is then at most that of the prior, whatever lambda is.

    Raises
    ------
    SolverError
        If the moments are singular up to rounding.
    """
    found = np.empty_like(prior)
    for group, products in enumerate(moments.products):
        matrix = products.copy()
        matrix[np.diag_indices(len(matrix))] += penalty
        # The change from the prior, so that what data say nothing about is left exactly as it was.
        residual = moments.cross[group] - products @ prior[group]
        found[group] = prior[group] + solved(factored(matrix), residual)
    if not np.isfinite(found).all():
        raise SolverError("least squares gave weights that are not finite; use a larger ridge")
    return found


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

    def vectors(self, layer: EdgeLayer, activations: torch.Tensor, seen: int) -> Iterator[torch.Tensor]:
        """The vectors used of a batch, block by block.

        Parameters
        ----------
        layer : EdgeLayer
            The layer.
        activations : Tensor
            What its module is called with.
        seen : int
            How many vectors, used or not, came before this batch.

        Yields
        ------
        Tensor of shape (groups, v, edges a neuron)
        """
        patches = layer.patches(activations)
        step = self.step(patches)
        module = layer.module
        if step == 1 or not isinstance(module, torch.nn.Conv2d):
            for block in layer.inputs(activations):
                yield self.rows(block, patches, seen)
                seen += int(block.shape[1])
            return
        # Most patches are not used: only those that are get copied out of the image.
        windows = _windows(module, activations if activations.dim() == 4 else activations[None])
        columns = windows.shape[2]
        places = torch.arange(-seen % step, len(windows) * patches, step, device=activations.device)
        groups, _, edges = layer.shape
        for own in torch.split(places, max(1, _GATHERED_ENTRIES // (groups * edges))):
            inside = own % patches
            found = windows[own // patches, inside // columns, inside % columns]
            yield found.reshape(len(own), groups, edges).transpose(0, 1)

    def used(self, layer: EdgeLayer, activations: torch.Tensor, seen: int) -> int:
        """How many vectors of a batch :meth:`vectors` has."""
        step = self.step(layer.patches(activations))
        return len(range(-seen % step, vectors_of(layer, activations), step))


def vectors_of(layer: EdgeLayer, activations: torch.Tensor) -> int:
    """How many vectors a batch has, used or not."""
    if not isinstance(layer.module, torch.nn.Conv2d):
        return activations.numel() // int(activations.shape[-1])
    examples = int(activations.shape[0]) if activations.dim() == 4 else 1
    return examples * layer.patches(activations)


def _windows(module: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """A view of all patches of (batch, channels, h, w): (batch, rows, columns, channels, kernel)."""
    padded = pad(module, images)
    (kernel_h, kernel_w), (gap_h, gap_w) = module.kernel_size, module.dilation
    view = padded.unfold(2, gap_h * (kernel_h - 1) + 1, module.stride[0])
    view = view.unfold(3, gap_w * (kernel_w - 1) + 1, module.stride[1])[..., ::gap_h, ::gap_w]
    return view.permute(0, 2, 3, 1, 4, 5)


class MomentSums:
    """Running sums behind :class:`Moments`; on the host where the data are, else on their device."""

    def __init__(self, groups: int, inputs: int, outputs: int, device: torch.device) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            if device.type == "cpu":  # pages are cleared when they are first touched
                return torch.from_numpy(np.zeros(shape))
            return torch.zeros(shape, dtype=torch.float64, device=device)

        # Columns of the products are contiguous for BLAS; only their lower triangle is filled on the host.
        self._products = zeros(groups, inputs, inputs)
        self._cross, self._squares = zeros(groups, inputs, outputs), zeros(groups, outputs)
        self._sums, self._target_sums = zeros(groups, inputs), zeros(groups, outputs)
        self._vectors = 0
        self.device = device
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
            for matrix in products:
                mirror(matrix)
        # Products of two entries are finite if both squares are.
        squares = np.einsum("gmm->gm", products)
        if not (np.isfinite(squares).all() and bool(torch.isfinite(self._squares).all())):
            raise ValueError("squares of activations exceed the range of float64; scale the inputs down")
        return Moments(
            products,
            self._cross.cpu().numpy(),
            self._sums.cpu().numpy(),
            self._target_sums.cpu().numpy(),
            self._squares.cpu().numpy(),
            self._vectors,
        )


def mirror(matrix: Matrix) -> None:
    """Copy the lower triangle of a square matrix to the upper one, in place."""
    for start in range(0, len(matrix), _MIRRORED):
        stop = start + _MIRRORED
        corner = matrix[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        for below in range(stop, len(matrix), _MIRRORED):
            matrix[start:stop, below : below + _MIRRORED] = matrix[below : below + _MIRRORED, start:stop].T


class InputMoments:
    """Collects moments of what a layer is fed; see :class:`~nn.calibration.Collector`.

    Those of its outputs follow from its weight.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._sums: MomentSums | None = None
        self.seen = 0  # vectors, used or not

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add the vectors of one batch."""
        if self._sums is None:
            groups, _, edges = layer.shape
            self._sums = MomentSums(groups, edges, 0, activations.device)
        for rows in self._sampling.vectors(layer, activations, self.seen):
            self._sums.add(rows, rows[..., :0])
        self.seen += vectors_of(layer, activations)

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        if self._sums is not None:
            self._sums.reduce()
            seen = torch.tensor(self.seen, dtype=torch.int64, device=self._sums.device)
            self.seen = int(reduce_sum(seen))

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
