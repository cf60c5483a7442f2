"""What the methods that reconstruct a layer's outputs have in common.

A :class:`Target` is a layer with its weights and its matrix H as host arrays, one row a neuron. The
functions here refit weights to a support, cast them to the layer's precision, and measure the error
that is left from the cast weights alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from coresets.certificate import Certificate
from nn.gram import Gram, cholesky, collect_grams
from nn.layers import EdgeLayer
from nn.method import Problem
from nn.plans import LayerPlan

__all__ = ["Rebuilt", "Target", "evidence", "notes_on", "rebuilt", "refitted", "summary", "targets"]

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Fewer vectors than this many times the directions that they fill, and the fit follows the sample.
_ENOUGH = 5.0


@dataclass(frozen=True, eq=False)
class Target:
    """A layer to reconstruct.

    Parameters
    ----------
    layer : EdgeLayer
        The layer.
    gram : Gram
        H of its inputs.
    weights : array of shape (groups, neurons, m)
        Weights in float64, zero where not alive.
    alive : array of shape (groups, neurons, m) of bool
        Edges that may be kept.
    """

    layer: EdgeLayer
    gram: Gram
    weights: Matrix
    alive: Mask

    @cached_property
    def energies(self) -> Matrix:
        """|w|_H^2 of each neuron, of shape (groups, neurons)."""
        return self.gram.squared_errors(self.weights)

    @cached_property
    def scale(self) -> float:
        """Total energy, by which errors are divided; 1 for a layer of zeros."""
        return float(self.energies.sum()) or 1.0

    @property
    def rows(self) -> int:
        """Number of neurons."""
        return self.weights.shape[0] * self.weights.shape[1]

    def relative_error(self, weights: Matrix) -> float:
        """Squared error of other weights over that of no weights at all."""
        return float(self.gram.squared_errors(self.weights - weights).sum()) / self.scale


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """New weights of a layer.

    Parameters
    ----------
    keep : Tensor of bool
        In the shape of the layer's weight, on its device.
    weight : Tensor
        The same, in the layer's precision.
    relative_error : float
        Squared error of exactly these weights in the norm of H, over that of zero weights.
    """

    keep: torch.Tensor
    weight: torch.Tensor
    relative_error: float

    def plan(self, certificate: Certificate) -> LayerPlan:
        """As a plan."""
        return LayerPlan(self.keep, self.weight, (certificate,))


def targets(
    problem: Problem, method: object, ridge: float, names: Collection[str] | None = None
) -> dict[str, Target]:
    """Targets for layers of a problem, from one pass over its calibration data."""
    layers = {name: layer for name, layer in problem.layers.items() if names is None or name in names}
    grams = collect_grams(problem.network, layers, problem.data(method), ridge=ridge)
    return {name: _target(layer, grams[name], problem.alive[name]) for name, layer in layers.items()}


def _target(layer: EdgeLayer, gram: Gram, alive: torch.Tensor) -> Target:
    alive_rows: Mask = layer.matrix(alive.to(layer.weight.device)).cpu().numpy()
    weights: Matrix = layer.matrix().to(device="cpu", dtype=torch.float64).numpy()
    return Target(layer, gram, np.where(alive_rows, weights, 0.0), alive_rows)


def refitted(target: Target, keep: Mask) -> Matrix:
    """Weights on a support with the least error in the norm of H.

    Parameters
    ----------
    target : Target
        The layer.
    keep : array of shape (groups, neurons, m) of bool
        Supports.

    Returns
    -------
    array of shape (groups, neurons, m)
        Zero off the support.
    """
    weights = np.zeros_like(target.weights)
    for group, matrix in enumerate(target.gram.matrix):
        wanted = target.weights[group] @ matrix
        for neuron, mask in enumerate(keep[group]):
            support = np.flatnonzero(mask)
            if len(support) == len(mask):
                weights[group, neuron] = target.weights[group, neuron]
            elif len(support):
                lower = cholesky(matrix[np.ix_(support, support)])
                weights[group, neuron, support] = scipy.linalg.cho_solve(
                    (lower, True), wanted[neuron, support], check_finite=False
                )
    return weights


def rebuilt(target: Target, keep: Mask, weights: Matrix) -> Rebuilt:
    """Cast new weights to the layer's precision and measure what is left of their accuracy.

    Raises
    ------
    ValueError
        If a weight exceeds the range of that precision.
    """
    layer = target.layer
    old = layer.weight
    new = layer.like_weight(torch.from_numpy(np.where(keep, weights, 0.0))).to(
        device=old.device, dtype=old.dtype
    )
    if not bool(torch.isfinite(new).all()):
        raise ValueError(
            f"a refitted weight of layer {layer.name!r} exceeds the range of {old.dtype}; "
            "use a larger ridge, or float32 weights"
        )
    cast: Matrix = layer.matrix(new).to(device="cpu", dtype=torch.float64).numpy()
    mask = layer.like_weight(torch.from_numpy(keep)).to(old.device)
    return Rebuilt(mask, new, target.relative_error(cast))


def evidence(
    target: Target, achieved: float, bound: float | None, figures: Mapping[str, float]
) -> Certificate:
    """Certificate for one layer, with figures about the calibration data."""
    return Certificate(
        "reconstruction",
        f"squared output error of {target.layer.name!r} on the calibration inputs, with the ridge and "
        f"relative to that of zero weights: {achieved:.4g}",
        value=achieved,
        bound=bound,
        details=_details(target) | dict(figures),
    )


def _details(target: Target) -> dict[str, float]:
    return {
        "vectors": float(target.gram.vectors),
        "effective dimension": float(target.gram.effective_dimension.max()),
        "ridge": target.gram.ridge,
    }


def summary(errors: Mapping[str, float], least: float | None = None) -> Certificate:
    """Certificate for a whole network: relative squared errors, summed over layers."""
    total = float(sum(errors.values()))
    statement = (
        f"relative squared output errors of {len(errors)} layers on the calibration inputs add up to "
        f"{total:.4g}"
    )
    figures = {}
    if least is not None:
        statement += f"; no allocation of the edges along the same paths gets below {least:.4g}"
        figures["least along the paths"] = least
    return Certificate("reconstruction", statement, value=total, details=figures)


def notes_on(layers: Sequence[Target]) -> list[str]:
    """What a reader should know about the calibration data."""
    notes = []
    few = [t for t in layers if t.gram.vectors < _ENOUGH * float(t.gram.effective_dimension.max())]
    if few:
        names = ", ".join(
            f"{t.layer.name!r} ({t.gram.vectors} for {float(t.gram.effective_dimension.max()):.0f})"
            for t in few
        )
        notes.append(
            f"fewer than {_ENOUGH:g} calibration vectors for each direction they fill in {names}: errors "
            "on fresh inputs will be larger than the certificates say; use more data"
        )
    silent = [t.layer.name for t in layers if not np.any(t.gram.diagonal > 1.5 * t.gram.ridge)]
    if silent:
        notes.append(
            f"the inputs of {', '.join(map(repr, silent))} are zero on the calibration data: there the "
            "largest weights are kept"
        )
    return notes
