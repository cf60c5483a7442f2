"""Bounds on a neuron's largest share of what reads it, over all inputs: the choices of ConvexGeometry.

The share of a neuron p of mass w = max_k |w_k| is w |p.x| over the sum of all such terms. Each choice here
bounds it for all inputs x at once, and says what the bounds add up to: the smaller, the better. Where no
neuron is in the span of the others all shares reach 1 and no bound says anything (T7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from coresets._validate import check_integer, check_real
from coresets.errors import SolverError
from coresets.guarantee import SamplingGuarantee
from coresets.guarantees import HomogeneousClass, HomogeneousPoisson
from coresets.linf import (
    CertifiedPeeling,
    LInfConstruction,
    PeelingRule,
    SymmetricSupport,
    peeling_sensitivities,
)
from coresets.sensitivity import lewis_weights
from nn.guarantees.neurons import RidgeNeurons
from nn.neurons._arguments import check_part
from nn.neurons._lewis import Rows, blocked_lewis, independent, ridge_lewis, ridge_of
from nn.neurons.input_samples import sampled_inputs
from nn.neurons.points import Neurons
from nn.units.method import UnitProblem

__all__ = ["LayerBounds", "Lewis", "NeuronSensitivities", "Peeled", "RidgeLewis", "Subspace"]

# Layers of more entries are worked on in blocks.
_DENSE = 1 << 22


@dataclass(frozen=True, eq=False)
class LayerBounds:
    """Sensitivity bounds of one group.

    Parameters
    ----------
    values : Tensor of float64, shape (units,)
        Bounds; empty if there is only the reason why they would all be 1.
    relative : str
        What errors are relative to, in words.
    inputs : str
        For which x, in words.
    theorem : SamplingGuarantee or None
        What holds for Poisson sampling in proportion to them, with a
        :class:`~coresets.guarantees.HomogeneousClass` of their total.
    vacuous : str
        Why the bounds say nothing; empty if they do.
    details : mapping of str to float
        Further figures.
    """

    values: torch.Tensor
    relative: str = "sum max |w| |p.(x, 1)|"
    inputs: str = "all inputs"
    theorem: SamplingGuarantee[HomogeneousClass] | None = None
    vacuous: str = ""
    details: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class NeuronSensitivities(Protocol):
    """A way to bound the shares of the neurons of all groups."""

    def bounds(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, LayerBounds]:
        """Bounds by group."""


@runtime_checkable
class PointBounds(Protocol):
    """Bounds for any points, which may be those of a subspace."""

    def of_points(self, points: torch.Tensor, masses: torch.Tensor) -> LayerBounds:
        """Bounds for points of shape (n, r) and masses of shape (n,), both in float64."""


def _nothing(reason: str) -> LayerBounds:
    return LayerBounds(torch.zeros(0, dtype=torch.float64), vacuous=reason)


def _alone(neurons: Neurons) -> LayerBounds | None:
    if not independent(neurons):
        return None
    return _nothing(
        f"no neuron is in the span of the others ({neurons.units} of them, {neurons.inputs} inputs), so that "
        "every bound for all inputs is 1 (T7)"
    )


def _narrow(neurons: Neurons) -> torch.Tensor:
    """The points, in coordinates of their span if they are fewer than their entries."""
    points = neurons.dense()
    if points.shape[0] >= points.shape[1]:
        return points
    # The same Gram matrix: n coordinates instead of d. Directions that are lost by rounding are those
    # of a relative size of 1e-7 and less.
    values, basis = torch.linalg.eigh(points @ points.T)
    kept = values > 1e-14 * float(values[-1])
    return basis[:, kept] * values[kept].sqrt()


def _read(points: torch.Tensor, masses: torch.Tensor) -> bool:
    """Whether anything is read of any unit."""
    return bool((points.square().sum(1) * masses > 0.0).any())


def _host(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(tensor.cpu().numpy())


def _like(values: Any, masses: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64)).to(masses.device)


@dataclass(frozen=True, slots=True)
class Lewis:
    """l1 Lewis weights, whose total is the rank (T3)."""

    def bounds(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, LayerBounds]:
        """By group; large layers with more neurons than inputs in blocks."""
        return {name: self._bounds(own) for name, own in neurons.items()}

    def _bounds(self, neurons: Neurons) -> LayerBounds:
        alone = _alone(neurons)
        if alone is not None:
            return alone
        if neurons.units <= neurons.inputs or neurons.rows.numel() <= _DENSE:
            return self.of_points(_narrow(neurons), neurons.masses)
        try:
            found = blocked_lewis(neurons)
        except SolverError as error:
            return _nothing(str(error))
        return LayerBounds(found.values, theorem=HomogeneousPoisson(), details={"gamma": found.gamma})

    def of_points(self, points: torch.Tensor, masses: torch.Tensor) -> LayerBounds:
        """The engine's certified weights."""
        if not _read(points, masses):
            return _nothing("nothing is read of its units")
        found = lewis_weights(_host(points), _host(masses), tolerance=1e-2)
        details = {"rank": found.certificates[0].details["rank"]}
        return LayerBounds(_like(found.values, masses), theorem=HomogeneousPoisson(), details=details)


@dataclass(frozen=True)
class Peeled:
    """Peeling of L-infinity coresets: the published route, with every factor certified (T1, T2).

    ``Peeled(InscribedVertices(), PublishedPeeling())`` is the published form, by the vertices of the
    inscribed ellipsoid and their Caratheodory sets, with bounds 2 r^1.5 / i.

    Parameters
    ----------
    construction : LInfConstruction
        How to choose the points of a round; the support of the symmetric design by default.
    rule : PeelingRule
        When to stop, and which bounds to give.
    """

    construction: LInfConstruction = SymmetricSupport()
    rule: PeelingRule = CertifiedPeeling()

    def __post_init__(self) -> None:
        check_part(self.construction, "construction", LInfConstruction, "SymmetricSupport()")
        check_part(self.rule, "rule", PeelingRule, "CertifiedPeeling()")

    def bounds(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, LayerBounds]:
        """By group."""
        return {
            name: _alone(own) or self.of_points(_narrow(own), own.masses) for name, own in neurons.items()
        }

    def of_points(self, points: torch.Tensor, masses: torch.Tensor) -> LayerBounds:
        """The engine's bounds; all alike, and therefore of no use, where nothing is peeled."""
        if not _read(points, masses):
            return _nothing("nothing is read of its units")
        found = peeling_sensitivities(
            _host(points), _host(masses), construction=self.construction, rule=self.rule
        )
        values = _like(found.values, masses)
        figures = found.certificates[0].details
        vacuous = ""
        if figures["rounds"] == 0.0 or float(values[values > 0.0].min()) >= 1.0:
            vacuous = (
                f"{len(values)} points of rank {figures['rank']:g} are too few to peel; all bounds are 1"
            )
        return LayerBounds(values, vacuous=vacuous, details=figures)


@dataclass(frozen=True, slots=True)
class RidgeLewis:
    """Lewis weights with rows mu e_j appended: informative at any width, at the price of mu |x|_1 (RG).

    Parameters
    ----------
    ridge : float
        How heavy the appended rows are: mu is this times the mean over coordinates j of what all neurons
        have there, sum w |p_j|. Positive.

    Notes
    -----
    Memory: one matrix in float64 beside blocks of fixed size, of the smaller side of the layer.
    """

    ridge: float = 1.0

    def __post_init__(self) -> None:
        if check_real(self.ridge, "ridge") <= 0.0:
            raise ValueError(f"ridge = {self.ridge:g} is not positive; use Lewis() for no ridge")

    def bounds(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, LayerBounds]:
        """By group."""
        return {name: self._bounds(Rows.of(own)) for name, own in neurons.items()}

    def of_points(self, points: torch.Tensor, masses: torch.Tensor) -> LayerBounds:
        """For points at hand."""
        return self._bounds(Rows.whole(points * masses[:, None]))

    def _bounds(self, rows: Rows) -> LayerBounds:
        mu = ridge_of(rows, self.ridge)
        if mu == 0.0:
            return _nothing("nothing is read of its units")
        try:
            found = ridge_lewis(rows, mu)
        except SolverError as error:
            return _nothing(str(error))
        details = {"mu": mu, "gamma": found.gamma}
        relative = "sum max |w| |p.(x, 1)| + mu |(x, 1)|_1"
        return LayerBounds(found.values, relative, theorem=RidgeNeurons(), details=details)


@dataclass(frozen=True)
class Subspace:
    """Bounds for inputs in the principal subspace of sampled calibration inputs, and what is left over.

    For any x with projection y, the error at x is at most that at y plus the residual
    sum w (1 + factor) |p.(x - y)|, since the outputs are Lipschitz in x. Certificates are for y; the mean
    share of sum w |p.(x - y)| in sum w |p.x| over the sampled inputs is in their details. The choice depends
    on the data.

    Parameters
    ----------
    rank : int
        Dimension of the subspace, the bias included; 8 as in a re-implementation of the published method.
    inner : PointBounds
        Bounds in the subspace: :class:`Lewis`, :class:`Peeled` or :class:`RidgeLewis`.
    vectors : int
        How many inputs of a layer are sampled, about.
    """

    rank: int = 8
    inner: PointBounds = field(default_factory=Lewis)
    vectors: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", check_integer(self.rank, "rank", at_least=1))
        object.__setattr__(self, "vectors", check_integer(self.vectors, "vectors", at_least=2))
        if isinstance(self.inner, type) or not isinstance(self.inner, PointBounds):
            raise TypeError(
                f"inner = {self.inner!r} bounds no points; pass Lewis(), Peeled() or RidgeLewis()"
            )

    def bounds(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, LayerBounds]:
        """By group, from one pass over the data."""
        seen = sampled_inputs(problem, neurons, self.vectors)
        return {name: self._bounds(own, seen.get(name)) for name, own in neurons.items()}

    def _bounds(self, neurons: Neurons, vectors: torch.Tensor | None) -> LayerBounds:
        if vectors is None or neurons.between.not_a_sum:
            why = neurons.between.not_a_sum or "its producer has no single input"
            return _nothing(f"there is no subspace of inputs: {why}")
        inputs = torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1)
        # Right singular vectors from the smaller Gram matrix.
        values, left = torch.linalg.eigh(inputs @ inputs.T)
        kept = torch.arange(len(values), device=values.device) >= len(values) - self.rank
        kept &= values > 1e-14 * float(values[-1])
        basis = inputs.T @ (left[:, kept] / values[kept].sqrt())
        beyond = inputs - (inputs @ basis) @ basis.T
        points, left_over, whole = [], 0.0, 0.0
        for part, block in neurons.parts():
            points.append(block @ basis)
            left_over += float((neurons.masses[part] @ (block @ beyond.T).abs()).sum())
            whole += float((neurons.masses[part] @ (block @ inputs.T).abs()).sum())
        found = self.inner.of_points(torch.cat(points), neurons.masses)
        residual = left_over / whole if whole > 0.0 else 0.0
        return replace(
            found,
            inputs=f"only (x, 1) in the span of {basis.shape[1]} principal directions, in coordinates there",
            details={**found.details, "dimension": float(basis.shape[1]), "residual": residual},
        )
