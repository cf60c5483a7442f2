"""Lewis weights of large layers: block by block, and through the smaller of the two sides.

The fixed point is that of :func:`coresets.sensitivity.lewis_weights` for p = 1. Two things differ: rows
are turned into float64 a block at a time, so that memory is one d x d matrix beside the layer; and rows
mu e_j may be appended without being stored (guarantee RG), in which case n x n matrices replace d x d
ones where there are fewer neurons than inputs. Any tau gives valid bounds gamma^2 tau, with gamma the
largest of sqrt(a^T M^-1 a) / tau over all rows, so that a loose tolerance is sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from coresets.errors import SolverError
from nn.neurons.points import BLOCK_ENTRIES, Neurons

__all__ = ["LewisBounds", "blocked_lewis", "independent", "ridge_lewis"]

# Squared length of what is left of a normalised row, the others projected out, that counts as nothing.
_DEPENDENT = 1e-10

_STEP = 4.0 / 3.0  # best for p = 1; see the engine
_ROUNDS = 200
_TOLERANCE = 1e-2

Forms = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, eq=False)
class LewisBounds:
    """Bounds for the neurons, (units,), and the certified ratio gamma behind them."""

    values: torch.Tensor
    gamma: float


def independent(neurons: Neurons) -> bool:
    """Whether no neuron with a mass is in the span of the others, so that every sensitivity is 1 (T7)."""
    alive = torch.nonzero(neurons.masses > 0.0).reshape(-1)
    if not len(alive) or len(alive) > neurons.inputs + 1:
        return False
    gram = torch.zeros((neurons.units, neurons.units), dtype=torch.float64, device=neurons.rows.device)
    step = max(1, BLOCK_ENTRIES // neurons.units)
    for start in range(0, neurons.inputs, step):
        columns = neurons.rows[:, start : start + step].double() * neurons.scale[:, None]
        gram.addmm_(columns, columns.T)
    gram.addmm_(neurons.bias[:, None], neurons.bias[None])
    if len(alive) < neurons.units:
        gram = gram[alive][:, alive]
    lengths = gram.diagonal().sqrt()
    if not bool((lengths > 0.0).all()):
        return False
    gram /= lengths
    gram /= lengths[:, None]
    failed = torch.zeros((), dtype=torch.int32, device=gram.device)
    factor, _ = torch.linalg.cholesky_ex(gram, out=(gram, failed))
    return not bool(failed) and float(factor.diagonal().square().min()) > _DEPENDENT


def blocked_lewis(neurons: Neurons) -> LewisBounds:
    """Bounds for a layer with more neurons than inputs.

    Raises
    ------
    SolverError
        If the rows do not span their space, or the iteration does not settle.
    """
    size = neurons.inputs + 1

    def forms(log_tau: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Column by column, as the factorisation wants it: otherwise it makes a copy.
        moments = torch.zeros((size, size), dtype=torch.float64, device=log_tau.device).mT
        for part, block in neurons.parts():
            rows = block.mul_((neurons.masses[part] * torch.exp(-0.5 * log_tau[part]))[:, None])
            moments.addmm_(rows.T, rows)
        failed = torch.zeros((), dtype=torch.int32, device=moments.device)
        factor, _ = torch.linalg.cholesky_ex(moments, out=(moments, failed))  # there is room for one only
        if bool(failed):
            raise SolverError("the incoming weights do not span their space; use RidgeLewis()")
        found = torch.empty_like(log_tau)
        for part, block in neurons.parts():
            rows = block.mul_(neurons.masses[part, None])
            solved = torch.linalg.solve_triangular(factor, rows.T, upper=False)
            found[part] = solved.square_().sum(0)
        return found, log_tau.new_zeros(0)

    lengths = torch.cat([torch.linalg.vector_norm(block, dim=1) for _, block in neurons.parts()])
    return _fixed_point(forms, neurons.masses * lengths, lengths.new_zeros(0), size)


def ridge_lewis(points: torch.Tensor, mu: float) -> LewisBounds:
    """Bounds for rows (n, d) among themselves and the rows mu e_j, by n x n matrices.

    With D = mu^2 diag(1 / tau_j) of the appended rows and B = T^-1/2 A D^-1/2, G = B B^T: the form of a row
    is tau (G (I + G)^-1)_ii, and that of mu e_j is tau_j (1 - [B^T (I + G)^-1 B]_jj).
    """

    def forms(log_tau: torch.Tensor, log_ridge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = points * torch.exp(-0.5 * log_tau)[:, None]
        scaled *= torch.exp(0.5 * log_ridge) / mu
        inner = scaled @ scaled.T
        inner.diagonal().add_(1.0)
        factor = torch.linalg.cholesky(inner)
        solved = torch.linalg.solve_triangular(factor, scaled, upper=False)
        taken = solved.square_().sum(0).clamp(max=1.0 - 1e-15)
        inverse = torch.cholesky_inverse(factor)
        return torch.exp(log_tau) * (1.0 - inverse.diagonal()), torch.exp(log_ridge) * (1.0 - taken)

    lengths = torch.linalg.vector_norm(points, dim=1)
    ridge = torch.full((points.shape[1],), mu, dtype=torch.float64, device=points.device)
    return _fixed_point(forms, lengths, ridge, points.shape[1])


def _fixed_point(forms: Forms, lengths: torch.Tensor, ridge: torch.Tensor, rank: int) -> LewisBounds:
    """Iterate log tau towards log sqrt(form), from the lengths of the rows."""
    alive = lengths > 0.0
    unit = math.log(rank / float(lengths.sum() + ridge.sum()))
    tau = torch.where(alive, lengths, torch.ones_like(lengths)).log() + unit
    of_ridge = ridge.log() + unit
    for _ in range(_ROUNDS):
        own, others = forms(tau, of_ridge)
        change = torch.where(alive, 0.5 * own.clamp(min=1e-300).log() - tau, torch.zeros_like(tau))
        change_ridge = 0.5 * others.log() - of_ridge
        both = torch.cat([change, change_ridge])
        if float(both.abs().max()) <= _TOLERANCE:
            gamma = max(1.0, math.exp(float(both.max())))
            values = torch.where(alive, gamma**2 * tau.exp(), torch.zeros_like(tau))
            return LewisBounds(values, gamma)
        tau, of_ridge = tau + _STEP * change, of_ridge + _STEP * change_ridge
    raise SolverError(f"Lewis weights still change by {float(both.abs().max()):.2g} after {_ROUNDS} rounds")
