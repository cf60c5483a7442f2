"""Second moments of what a layer is fed, and the geometry that they give to its weights.

A linear layer sees vectors x, the rows of X, and changing a neuron's weights from w to q changes
its outputs by X (w - q). With H = X^T X + lambda I the squared change over all calibration inputs,
and a little regularity, is (w - q)^T H (w - q): H is all that a reconstruction has to know of the
data. Convolutions see patches, and grouped ones have a matrix H for each group.

Cost: 2 m^2 flops a vector for m edges a neuron, in float64; memory m^2 a group, whatever the number
of vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from coresets._validate import check_integer, check_real
from coresets.errors import SolverError
from nn.calibration import Calibration, observe, reduce_sum
from nn.layers import EdgeLayer

__all__ = ["Gram", "GramCollector", "check_ridge", "cholesky", "collect_grams"]

Matrix = npt.NDArray[np.float64]

# So many entries of a block are promoted to float64 at a time.
_BLOCK_ENTRIES = 1 << 22

# Below this the smallest eigenvalue of H drowns in the rounding of its largest one.
_LEAST_RIDGE = 1e-10


def check_ridge(ridge: object) -> float:
    """A relative ridge: a real number of at least 1e-10.

    Raises
    ------
    TypeError, ValueError
        If it is not.
    """
    number = check_real(ridge, "ridge")
    if number < _LEAST_RIDGE:
        raise ValueError(
            f"ridge = {number:g} is below {_LEAST_RIDGE:g}: inputs that are constant or repeat others make "
            "the moments singular up to rounding; 0.01 is a good choice"
        )
    return number


def cholesky(matrix: Matrix) -> Matrix:
    """Lower triangular L with L L^T the matrix.

    Raises
    ------
    SolverError
        If the matrix is not positive definite up to rounding.
    """
    try:
        lower: Matrix = scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
    except np.linalg.LinAlgError as error:
        raise SolverError(
            f"the second moments of the inputs are not positive definite up to rounding ({error}); "
            "use a larger ridge"
        ) from error
    return lower


@dataclass(frozen=True, eq=False)
class Gram:
    """Regularised second moments of a layer's inputs, H = X^T X + lambda I for each group.

    Parameters
    ----------
    matrix : array of shape (groups, m, m)
        H, symmetric positive definite, float64.
    vectors : int
        Number of rows of X: examples, tokens or patches.
    ridge : float
        lambda, absolute and positive.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.gram import Gram
    >>> gram = Gram.of(np.array([[[1.0, 0.0], [1.0, 1.0]]]), ridge=0.01)
    >>> gram.ridge  # times the mean diagonal entry of X^T X
    0.015
    >>> gram.squared_errors(np.array([[[1.0, -1.0]]]))  # 1 from the first vector, 0.03 from the ridge
    array([[1.03]])
    """

    matrix: Matrix
    vectors: int
    ridge: float

    def __post_init__(self) -> None:
        shape = self.matrix.shape
        if len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
            raise ValueError(f"matrix has shape {shape}; expected (groups, m, m)")
        check_integer(self.vectors, "vectors", at_least=0)
        if check_real(self.ridge, "ridge") <= 0.0:
            raise ValueError(f"ridge = {self.ridge:g} is not positive")

    @classmethod
    def of(cls, inputs: Matrix, *, ridge: float = 0.01) -> Gram:
        """From the vectors themselves.

        Parameters
        ----------
        inputs : array of shape (groups, vectors, m)
            X, finite.
        ridge : float
            See :meth:`from_moments`.
        """
        inputs = np.asarray(inputs, dtype=np.float64)
        return cls.from_moments(np.swapaxes(inputs, 1, 2) @ inputs, inputs.shape[1], ridge=ridge)

    @classmethod
    def from_moments(cls, moments: Matrix, vectors: int, *, ridge: float = 0.01) -> Gram:
        """From X^T X.

        Parameters
        ----------
        moments : array of shape (groups, m, m)
            X^T X for each group.
        vectors : int
            Number of rows of X.
        ridge : float
            lambda over the mean diagonal entry of X^T X, all groups together; over 1 where the layer
            was fed nothing but zeros.
        """
        diagonals = np.diagonal(moments, axis1=1, axis2=2)
        scale = float(diagonals.mean()) or 1.0
        absolute = check_ridge(ridge) * scale
        return cls(moments + absolute * np.eye(moments.shape[1]), vectors, absolute)

    @property
    def diagonal(self) -> Matrix:
        """Squared lengths h_j of the regularised columns, of shape (groups, m)."""
        return np.diagonal(self.matrix, axis1=1, axis2=2)

    @cached_property
    def inverse(self) -> Matrix:
        """H^-1 for each group."""
        inverses = np.empty_like(self.matrix)
        for group, matrix in enumerate(self.matrix):
            factor = (cholesky(matrix), True)
            inverse = scipy.linalg.cho_solve(factor, np.eye(len(matrix)), check_finite=False)
            inverses[group] = (inverse + inverse.T) / 2.0
        return inverses

    @cached_property
    def effective_dimension(self) -> Matrix:
        """trace(X^T X H^-1) of each group: the number of directions that the inputs really fill."""
        # X^T X = H - lambda I, so the trace is m - lambda trace(H^-1); with H = L L^T the latter is the
        # squared Frobenius norm of L^-1. At most m, and not below 0 but for rounding.
        values = np.empty(len(self.matrix))
        for group, matrix in enumerate(self.matrix):
            inverse, _ = scipy.linalg.lapack.dtrtri(cholesky(matrix), lower=1, overwrite_c=1)
            values[group] = len(matrix) - self.ridge * float(np.sum(np.square(inverse)))
        return np.maximum(values, 0.0)

    def squared_errors(self, differences: Matrix) -> Matrix:
        """v^T H v for each neuron.

        Parameters
        ----------
        differences : array of shape (groups, neurons, m)
            Old weights minus new ones.

        Returns
        -------
        array of shape (groups, neurons)
            Squared change of a neuron's outputs over the vectors, plus lambda times that of its weights.
        """
        return np.maximum(np.einsum("gnm,gnm->gn", differences @ self.matrix, differences), 0.0)

    def leverages(self, vectors: Matrix) -> Matrix:
        """a^T H^-1 a: how far an input lies from those that were seen (B3).

        Parameters
        ----------
        vectors : array of shape (groups, v, m)
            Any inputs of the neurons, such as ``EdgeLayer.inputs`` yields.

        Returns
        -------
        array of shape (groups, v)
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        values = np.empty(vectors.shape[:2])
        for group, matrix in enumerate(self.matrix):
            whitened = scipy.linalg.solve_triangular(
                cholesky(matrix), vectors[group].T, lower=True, check_finite=False
            )
            values[group] = np.einsum("mv,mv->v", whitened, whitened)
        return values


class GramCollector:
    """Sums x x^T over the inputs of one layer, in float64 on the device of the inputs.

    Sums of different processes add up; see :class:`~nn.calibration.Collector`.
    """

    def __init__(self) -> None:
        self._moments: torch.Tensor | None = None
        self._vectors = 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add the vectors of one batch."""
        groups, _, edges = layer.shape
        if self._moments is None:
            self._moments = torch.zeros(
                (groups, edges, edges), dtype=torch.float64, device=activations.device
            )
        step = max(1, _BLOCK_ENTRIES // (groups * edges))
        for block in layer.inputs(activations):
            self._vectors += int(block.shape[1])
            for part in torch.split(block, step, dim=1):
                rows = part.to(torch.float64)
                self._moments += rows.transpose(1, 2) @ rows

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        if self._moments is not None:
            self._moments = reduce_sum(self._moments)
            count = torch.tensor(self._vectors, dtype=torch.int64, device=self._moments.device)
            self._vectors = int(reduce_sum(count))

    def gram(self, ridge: float) -> Gram:
        """The result, once all has been seen.

        Raises
        ------
        ValueError
            If nothing was seen, or the sums overflowed.
        """
        if self._moments is None:
            raise ValueError("the layer has seen no inputs yet; observe some batches first")
        moments: Matrix = self._moments.cpu().numpy()
        if not math.isfinite(float(moments.sum())):
            raise ValueError("squares of activations exceed the range of float64; scale the inputs down")
        return Gram.from_moments(moments, self._vectors, ridge=ridge)


def collect_grams(
    network: torch.nn.Module,
    layers: Mapping[str, EdgeLayer],
    calibration: Calibration | Any,
    *,
    ridge: float = 0.01,
) -> dict[str, Gram]:
    """Second moments of the inputs of layers, from one pass over the data.

    Parameters
    ----------
    network : torch.nn.Module
        Run in evaluation mode, and left as it was.
    layers : mapping of str to EdgeLayer
        Layers of the network, as :func:`~nn.layers.find_layers` returns them.
    calibration : iterable of batches
        See :class:`~nn.calibration.Calibration`.
    ridge : float
        lambda over the mean diagonal entry of X^T X, layer by layer; at least 1e-10.

    Returns
    -------
    dict of str to Gram
        By layer name.

    Raises
    ------
    ValueError
        If there are no data, an activation is NaN or infinite, or a layer never runs.

    Examples
    --------
    >>> import torch
    >>> from nn.gram import collect_grams
    >>> from nn.layers import find_layers
    >>> network = torch.nn.Conv2d(4, 8, 3, groups=2)
    >>> grams = collect_grams(network, find_layers(network), [torch.rand(5, 4, 6, 6)])
    >>> grams[""].matrix.shape, grams[""].vectors  # 2 channels of 3 x 3 a group, 16 patches an image
    ((2, 18, 18), 80)
    """
    ridge = check_ridge(ridge)
    collectors = {name: GramCollector() for name in layers}
    observe(network, layers, Calibration.of(calibration), collectors)
    return {name: collector.gram(ridge) for name, collector in collectors.items()}
