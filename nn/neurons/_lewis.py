"""Lewis weights of large layers: block by block, and through the smaller of the two sides.

The fixed point is that of :func:`coresets.sensitivity.lewis_weights` for p = 1. Two things differ: rows
are turned into float64 a block at a time, so that memory is one d x d matrix beside the layer; and rows
mu e_j may be appended without being stored (guarantee RG), in which case an n x n matrix replaces the d x d
one where there are fewer neurons than inputs. Any tau gives valid bounds gamma^2 tau, with gamma the
largest of sqrt(a^T M^-1 a) / tau over all rows, so that a loose tolerance is sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from coresets.errors import SolverError
from nn.neurons.points import BLOCK_ENTRIES, Neurons

__all__ = ["LewisBounds", "Rows", "blocked_lewis", "independent", "ridge_lewis", "ridge_of"]

# Squared length of what is left of a normalised row, the others projected out, that counts as nothing.
_DEPENDENT = 1e-10

_STEP = 4.0 / 3.0  # best for p = 1; see the engine
_ROUNDS = 200
_TOLERANCE = 1e-2

Forms = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Blocks = Callable[[], Iterator[tuple[slice, torch.Tensor]]]


@dataclass(frozen=True, eq=False)
class LewisBounds:
    """Bounds for the neurons, (units,), and the certified ratio gamma behind them."""

    values: torch.Tensor
    gamma: float


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows a of a matrix (n, d) in float64, their masses included, in blocks that may be overwritten.

    ``parts()`` gives slices of 0..n with (some rows, d), ``columns()`` slices of 0..d with (n, some columns).
    """

    shape: tuple[int, int]
    parts: Blocks
    columns: Blocks

    @classmethod
    def of(cls, neurons: Neurons) -> Rows:
        """The neurons of a layer with their masses."""
        masses = neurons.masses[:, None]

        def parts() -> Iterator[tuple[slice, torch.Tensor]]:
            return ((part, block.mul_(masses[part])) for part, block in neurons.parts())

        def columns() -> Iterator[tuple[slice, torch.Tensor]]:
            return ((part, block.mul_(masses)) for part, block in neurons.columns())

        return cls((neurons.units, neurons.inputs + 1), parts, columns)

    @classmethod
    def whole(cls, rows: torch.Tensor) -> Rows:
        """A small matrix."""
        n, d = rows.shape
        return cls(
            (n, d), lambda: iter(((slice(0, n), rows.clone()),)), lambda: iter(((slice(0, d), rows.clone()),))
        )

    def lengths(self) -> torch.Tensor:
        """Euclidean norms, (n,)."""
        return torch.cat([torch.linalg.vector_norm(block, dim=1) for _, block in self.parts()])


def independent(neurons: Neurons) -> bool:
    """Whether no neuron with a mass is in the span of the others, so that every sensitivity is 1 (T7)."""
    alive = torch.nonzero(neurons.masses > 0.0).reshape(-1)
    if not len(alive) or len(alive) > neurons.inputs + 1:
        return False
    gram = torch.zeros((neurons.units, neurons.units), dtype=torch.float64, device=neurons.rows.device)
    for _, columns in neurons.columns():
        gram.addmm_(columns, columns.T)
    if len(alive) < neurons.units:
        gram = gram[alive][:, alive]
    lengths = gram.diagonal().sqrt()
    if not bool((lengths > 0.0).all()):
        return False
    gram /= lengths
    gram /= lengths[:, None]
    factor = _factored(gram)
    return factor is not None and float(factor.diagonal().square().min()) > _DEPENDENT


def blocked_lewis(neurons: Neurons) -> LewisBounds:
    """Bounds for a layer with more neurons than inputs.

    Raises
    ------
    SolverError
        If the rows do not span their space, or the iteration does not settle.
    """
    rows = Rows.of(neurons)
    lengths = rows.lengths()

    def forms(log_tau: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        factor = _factored(_moments(rows, log_tau))
        if factor is None:
            raise SolverError("the incoming weights do not span their space; use RidgeLewis()")
        return _forms(factor, rows), log_tau.new_zeros(0)

    return _fixed_point(forms, lengths, lengths.new_zeros(0), rows.shape[1])


def ridge_of(rows: Rows, share: float) -> float:
    """mu, from a share of the mean over columns of what all rows have there."""
    return share * sum(float(block.abs_().sum()) for _, block in rows.parts()) / rows.shape[1]


def ridge_lewis(rows: Rows, mu: float) -> LewisBounds:
    """Bounds for rows (n, d) among themselves and the rows mu e_j.

    By one n x n matrix where n < d: with D = mu^2 diag(1 / tau_j) of the appended rows and
    B = T^-1/2 A D^-1/2, G = B B^T, the form of a row is tau (G (I + G)^-1)_ii, and that of mu e_j is
    tau_j (1 - [B^T (I + G)^-1 B]_jj).

    Raises
    ------
    SolverError
        If mu is so small that it is lost by rounding, or the iteration does not settle.
    """
    n, d = rows.shape
    lengths = rows.lengths()
    lost = SolverError(f"the ridge, {mu:.3g}, is lost by rounding; take a larger one")

    def by_columns(log_tau: torch.Tensor, log_ridge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        factor = _factored(_moments(rows, log_tau, mu**2 * torch.exp(-log_ridge)))
        if factor is None:
            raise lost
        return _forms(factor, rows), mu**2 * _inverse_diagonal(factor)

    def by_rows(log_tau: torch.Tensor, log_ridge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = torch.exp(-0.5 * log_tau)[:, None], torch.exp(0.5 * log_ridge) / mu
        inner = torch.zeros((n, n), dtype=torch.float64, device=log_tau.device).mT
        for part, block in rows.columns():
            scaled = block.mul_(left).mul_(right[part])
            inner.addmm_(scaled, scaled.T)
        inner.diagonal().add_(1.0)
        factor = _factored(inner)
        if factor is None:
            raise lost
        taken = torch.empty_like(log_ridge)
        for part, block in rows.columns():
            scaled = block.mul_(left).mul_(right[part])
            taken[part] = torch.linalg.solve_triangular(factor, scaled, upper=False).square_().sum(0)
        own = torch.exp(log_tau) * (1.0 - _inverse_diagonal(factor))
        return own, torch.exp(log_ridge) * (1.0 - taken.clamp_(max=1.0 - 1e-15))

    forms = by_rows if n < d else by_columns
    return _fixed_point(forms, lengths, lengths.new_full((d,), mu), d)


def _moments(rows: Rows, log_tau: torch.Tensor, diagonal: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Sum a a^T / tau, and a diagonal, (d, d)."""
    d = rows.shape[1]
    # Column by column, as the factorisation wants it: otherwise it makes a copy.
    moments = torch.zeros((d, d), dtype=torch.float64, device=log_tau.device).mT
    for part, block in rows.parts():
        scaled = block.mul_(torch.exp(-0.5 * log_tau[part])[:, None])
        moments.addmm_(scaled.T, scaled)
    moments.diagonal().add_(diagonal)
    return moments


def _factored(matrix: torch.Tensor) -> torch.Tensor | None:
    """Cholesky factor in the place of a matrix, since there may be no room for two; None if there is none."""
    failed = torch.zeros((), dtype=torch.int32, device=matrix.device)
    factor, _ = torch.linalg.cholesky_ex(matrix, out=(matrix, failed))
    return None if bool(failed) else factor


def _forms(factor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """a^T (L L^T)^-1 a of all rows, (n,)."""
    found = torch.empty(rows.shape[0], dtype=torch.float64, device=factor.device)
    for part, block in rows.parts():
        found[part] = torch.linalg.solve_triangular(factor, block.T, upper=False).square_().sum(0)
    return found


def _inverse_diagonal(factor: torch.Tensor) -> torch.Tensor:
    """Diagonal of (L L^T)^-1, without the inverse."""
    size = len(factor)
    step = max(1, BLOCK_ENTRIES // size)
    found = factor.new_empty(size)
    for start in range(0, size, step):
        left = factor[start:, start:]  # a column of the inverse of L begins on the diagonal
        unit = factor.new_zeros((size - start, min(step, size - start)))
        unit.diagonal().fill_(1.0)
        solved = torch.linalg.solve_triangular(left, unit, upper=False)
        found[start : start + step] = solved.square_().sum(0)
    return found


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
