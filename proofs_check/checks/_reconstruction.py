"""Oracles for weights that are refitted to inputs: plain references, and a search for the worst weights.

Everything is recomputed from the inputs themselves, with the ridge as m further rows, and not from the
code under attack.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from nn.budgets import KeepRatio
from nn.gram import Gram
from nn.method import Method
from nn.plans import LayerPlan
from nn.pruning import prune
from proofs_check.checks._networks import first_points, seed_of
from proofs_check.workloads import Workload

__all__ = [
    "Fed",
    "Ratios",
    "Worst",
    "eliminate",
    "fed",
    "feed_back",
    "nested_errors",
    "orthogonal",
    "patched",
    "pruned",
    "small_units",
]

Matrix = npt.NDArray[np.float64]
Order = npt.NDArray[np.int64]
Ratios = Callable[[Matrix], Matrix]  # of weights (neurons, m), one ratio a neuron


@dataclass(frozen=True, eq=False)
class Fed:
    """What a layer is fed, in two halves.

    Parameters
    ----------
    inputs : array of shape (n, m)
        X, the calibration inputs.
    fresh : array of shape (n', m)
        Inputs that the calibration has not seen.
    ridge : float
        Relative, as everywhere.
    images : array of shape (examples, channels, height, width), optional
        What a convolution is fed, of which the inputs are the patches under a square kernel.
    """

    inputs: Matrix
    fresh: Matrix
    ridge: float
    images: Matrix | None = None

    @cached_property
    def gram(self) -> Gram:
        """H."""
        return Gram.of(self.inputs[None], ridge=self.ridge)

    @property
    def matrix(self) -> Matrix:
        """H itself, (m, m)."""
        return self.gram.matrix[0]

    @cached_property
    def inverse(self) -> Matrix:
        """H^-1."""
        return np.asarray(np.linalg.inv(self.matrix))

    @cached_property
    def rows(self) -> Matrix:
        """X with the ridge as further rows, so that H is the matrix of their inner products."""
        return np.vstack([self.inputs, np.sqrt(self.gram.ridge) * np.eye(self.inputs.shape[1])])

    def squared(self, weights: Matrix) -> Matrix:
        """Squared errors (neurons,) of weights (neurons, m), from the rows."""
        return np.asarray(np.sum((weights @ self.rows.T) ** 2, axis=1))

    @cached_property
    def special(self) -> Matrix:
        """Equal contributions, eigenvectors of H and of its correlations, and weights that need them all."""
        roots = np.sqrt(np.diagonal(self.matrix))
        vectors = np.linalg.eigh(self.matrix)[1].T
        scaled = np.linalg.eigh(self.matrix / np.outer(roots, roots))[1].T / roots
        return np.vstack([1.0 / roots, vectors, scaled, np.linalg.inv(self.matrix)])


def fed(workload: Workload, width: int, *, ridge: float = 0.01, spread: float = 1.0) -> Fed:
    """Activations of a random rectified layer on a workload's points, in units that differ between neurons.

    Parameters
    ----------
    workload : Workload
        The points; every other one is kept for fresh inputs.
    width : int
        m.
    ridge : float
        Relative ridge of H.
    spread : float
        Standard deviation of the logarithms of the units, as between channels of a network.
    """
    points = first_points(workload).numpy()
    points = points - points.mean(axis=0)
    points = points / np.where(points.std(axis=0) > 0.0, points.std(axis=0), 1.0)
    rng = np.random.default_rng(seed_of(workload))
    hidden = points @ rng.standard_normal((points.shape[1], width)) / np.sqrt(points.shape[1])
    active = np.maximum(hidden + 0.5 * rng.standard_normal(width), 0.0)
    active *= np.exp(spread * rng.standard_normal(width))
    # A neuron that never fires would make no difference anywhere; it gets a trace of the others.
    active += 1e-3 * active.mean() * rng.random(active.shape)
    return Fed(active[::2], active[1::2], ridge)


_CHANNELS, _SIDE, _KERNEL = 4, 3, 2  # 16 edges a filter, 4 patches an image


def patched(workload: Workload, *, ridge: float = 0.01) -> Fed:
    """Patches of small images, made of a workload's features: what the filters of a convolution see.

    Neighbouring patches share pixels, and all pixels of a channel have one unit.

    Parameters
    ----------
    workload : Workload
        The points; every other one is kept for fresh images.
    ridge : float
        Relative ridge of H.
    """
    flat = fed(workload, _CHANNELS * _SIDE**2, spread=0.0)
    units = np.exp(np.random.default_rng(seed_of(workload)).standard_normal(_CHANNELS))
    images, fresh = (
        half.reshape(-1, _CHANNELS, _SIDE, _SIDE) * units[:, None, None] for half in (flat.inputs, flat.fresh)
    )
    return Fed(_patches(images), _patches(fresh), ridge, images)


def _patches(images: Matrix) -> Matrix:
    """All patches of all images, their entries in the order of a filter's weights."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (_KERNEL, _KERNEL), axis=(2, 3))
    ordered = windows.transpose(0, 2, 3, 1, 4, 5)  # examples, places, channels, entries of the kernel
    return np.ascontiguousarray(ordered).reshape(-1, images.shape[1] * _KERNEL**2)


def orthogonal(layer: Fed) -> Fed:
    """The same inputs made uncorrelated: equal contributions then attain the bound."""
    left = np.linalg.svd(layer.inputs, full_matrices=False)[0]
    return Fed(left, layer.fresh, layer.ridge)


def small_units(layer: Fed) -> Fed:
    """The same inputs with eigenvalues of H below 1, where H and its inverse differ the other way."""
    factor = 0.5 / np.sqrt(np.linalg.eigvalsh(layer.matrix)[-1])
    images = None if layer.images is None else factor * layer.images
    return replace(layer, inputs=factor * layer.inputs, fresh=factor * layer.fresh, images=images)


def pruned(weights: Matrix, method: Method, layer: Fed, ratio: float) -> LayerPlan:
    """What becomes of a layer with these weights, a convolution if it is fed images.

    Parameters
    ----------
    weights : array of shape (neurons, m)
        w.
    method : Method
        Any.
    layer : Fed
        The calibration data.
    ratio : float
        Weights to keep.

    Returns
    -------
    LayerPlan
        Its mask and weights of the shape of ``weights``.
    """
    neurons, edges = weights.shape
    network: torch.nn.Linear | torch.nn.Conv2d
    if layer.images is None:
        data = layer.inputs
        network = torch.nn.Linear(edges, neurons, bias=False, dtype=torch.float64)
    else:
        data, channels = layer.images, layer.images.shape[1]
        kernel = math.isqrt(edges // channels)
        network = torch.nn.Conv2d(channels, neurons, kernel, bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(weights).reshape(network.weight.shape))
    plan = prune(network, method, KeepRatio(ratio), calibration=[torch.from_numpy(data)]).plan.layers[""]
    return LayerPlan(plan.keep.reshape(weights.shape), plan.weight.reshape(weights.shape), plan.certificates)


def nested_errors(matrix: Matrix, weights: Matrix, order: Order) -> Matrix:
    """Least squared errors with the first k edges of an order, for k = 0 to m.

    Parameters
    ----------
    matrix : array of shape (m, m)
        H.
    weights, order : array of shape (neurons, m)
        w, and a permutation of the edges for each neuron.

    Returns
    -------
    array of shape (neurons, m + 1)

    Notes
    -----
    With H of the permuted edges = L L^T, the error with k edges is the squared length of the last m - k
    entries of L^T w: the least squares problem in triangular form. Nothing is subtracted.
    """
    permuted = matrix[order[:, :, None], order[:, None, :]]
    factors = np.linalg.cholesky(permuted)
    turned = np.take_along_axis(weights, order, axis=1)
    squares = np.einsum("nji,nj->ni", factors, turned) ** 2
    tails = np.cumsum(squares[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([tails, np.zeros((len(weights), 1))], axis=1)


def eliminate(
    inverse: Matrix, weights: Matrix, saliency: Callable[[Matrix, Matrix], Matrix], *, downdated: bool = True
) -> tuple[Order, Matrix]:
    """Backward elimination by any saliency, of (q, diagonal of the inverse).

    Parameters
    ----------
    inverse : array of shape (m, m)
        H^-1.
    weights : array of shape (neurons, m)
        w.
    saliency : callable
        Saliencies (neurons, m) from the weights left and the diagonal of the inverse.
    downdated : bool
        Whether weights and inverse are those of the edges that are left, or stay as they were.

    Returns
    -------
    order : array of shape (neurons, m) of int
        The support with k edges is the first k entries.
    sums : array of shape (neurons, m + 1)
        Sums of the saliencies removed, by the number of edges left.
    """
    n, m = weights.shape
    left, q = np.repeat(inverse[None], n, axis=0), weights.copy()
    gone = np.zeros((n, m), dtype=bool)
    order, sums = np.empty((n, m), dtype=np.int64), np.zeros((n, m + 1))
    every = np.arange(n)
    for kept in reversed(range(m)):
        diagonal = np.where(gone, 1.0, np.einsum("njj->nj", left))
        values = np.where(gone, np.inf, saliency(q, diagonal))
        j = np.argmin(values, axis=1)
        order[:, kept], gone[every, j] = j, True
        sums[:, kept] = sums[:, kept + 1] + values[every, j]
        if downdated:
            column = left[every, :, j].copy()
            pivot = column[every, j][:, None]
            q -= q[every, j][:, None] / pivot * column
            left -= column[:, :, None] * column[:, None, :] / pivot[:, :, None]
            q[gone] = 0.0
    return order, sums


def feed_back(
    rows: Matrix, weights: Matrix, level: float, *, sign: float = 1.0, squares: Matrix | None = None
) -> tuple[Matrix, Matrix]:
    """One sweep of thresholding with the residual u in full, edge by edge.

    Parameters
    ----------
    rows : array of shape (n + m, m)
        Inputs with the ridge.
    weights : array of shape (neurons, m)
        w.
    level : float
        Edges with smaller contributions are dropped.
    sign : float
        1 feeds the residual back, 0 does not, -1 feeds it back the wrong way.
    squares : array of shape (m,), optional
        What takes the place of h in the division.

    Returns
    -------
    weights, scores : arrays of shape (neurons, m)
        q and |z_j| sqrt(h_j).
    """
    h = np.sum(rows**2, axis=0)
    divisor = h if squares is None else squares
    residual = np.zeros((len(weights), len(rows)))
    new, scores = np.zeros_like(weights), np.empty_like(weights)
    for j in range(weights.shape[1]):
        z = weights[:, j] + sign * (residual @ rows[:, j]) / divisor[j]
        scores[:, j] = np.abs(z) * np.sqrt(h[j])
        new[:, j] = np.where(scores[:, j] >= level, z, 0.0)
        residual += (weights[:, j] - new[:, j])[:, None] * rows[:, j]
    return new, scores


@dataclass(frozen=True, eq=False)
class Worst:
    """Largest ratio over weights of a neuron: special ones, random ones, and what evolves from the worst.

    Ratios jump where a greedy choice changes, so that a search by mutation gets further than gradients.
    """

    layer: Fed
    ratios: Ratios
    rounds: int = 30

    def __call__(self, rng: np.random.Generator) -> float:
        m = self.layer.inputs.shape[1]
        random = rng.standard_normal((40, m)) * np.exp(rng.standard_normal((40, m)))
        pool = np.vstack([self.layer.special, random, np.abs(random[:20])])
        values = self.ratios(pool)
        for _ in range(self.rounds):
            best = np.argsort(-values)[:8]
            parents = np.repeat(pool[best], 4, axis=0)
            children = parents * (
                1.0 + rng.choice([0.02, 0.3, 1.0], size=(32, 1)) * rng.standard_normal((32, m))
            )
            # Some children have entries of another parent.
            others = parents[rng.permutation(32)]
            children = np.where(rng.random((32, m)) < rng.choice([0.0, 0.3], size=(32, 1)), others, children)
            pool = np.vstack([pool[best], children])
            values = np.concatenate([values[best], self.ratios(children)])
        return float(values.max())
