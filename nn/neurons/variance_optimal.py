"""Units drawn with the smallest expected squared error on the calibration data.

Let c_u^2 be the mean squared length of what unit u adds to the outputs that read it. A unit that is kept
with probability pi_u and read with 1 / pi_u adds c_u^2 (1 / pi_u - 1) to the expected squared error, units
being drawn independently; for a given expected number the sum is least for pi_u = min(1, kappa c_u).
Nothing is said about other inputs: the reference that data-independent methods are compared with.

Cost: one pass over the data, with a k x k matrix for each unit of k columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from coresets.certificate import Certificate
from coresets.guarantee import Scheme
from nn.calibration import observe, reduce_sum
from nn.layers import EdgeLayer
from nn.neurons._sampled import Scored, decide
from nn.neurons.draws import Drawing, UnitDraw
from nn.neurons.points import neurons_of
from nn.units.consumers import Consumer
from nn.units.method import UnitDecision, UnitProblem

__all__ = ["VarianceOptimal"]


@dataclass(frozen=True)
class VarianceOptimal:
    """Keep units drawn in proportion to the root mean square of what they add to the outputs.

    Parameters
    ----------
    drawing : Drawing
        How to draw; with :class:`~nn.neurons.TopScores` the units with the largest contributions.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import VarianceOptimal
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 40), torch.nn.ReLU(), torch.nn.Linear(40, 2))
    >>> prune(network, VarianceOptimal(), KeepRatio(0.5), calibration=[torch.rand(64, 8)], rng=0).model[0]
    Linear(in_features=8, out_features=20, bias=True)
    """

    drawing: Drawing = field(default_factory=Drawing)

    def __post_init__(self) -> None:
        if not isinstance(self.drawing, Drawing):
            raise TypeError(f"drawing = {self.drawing!r}; pass Drawing(), such as Drawing(TopScores())")

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Draw within the allocation's parts."""
        neurons = neurons_of(problem)
        # One layer may read several groups: a collector for each, side by side.
        collectors: dict[str, _Shared] = {}
        for own in neurons.values():
            for name, consumer in own.consumers.items():
                collectors.setdefault(name, _Shared([])).parts.append(UnitMoments(consumer))
        layers = {name: c.layer for own in neurons.values() for name, c in own.consumers.items()}
        observe(problem.network, layers, problem.calibration, collectors)
        squares = {
            group: sum(
                moments.squares()
                for name in own.consumers
                for moments in collectors[name].parts
                if moments.consumer is own.consumers[name]
            )
            for group, own in neurons.items()
        }
        scored = {
            name: Scored(torch.as_tensor(found).sqrt(), partial(_certified, torch.as_tensor(found)))
            for name, found in squares.items()
        }
        return decide(problem, neurons, scored, self.drawing, self)


class UnitMoments:
    """Second moments of the columns of every unit, (groups of the layer, units, k, k)."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self._moments: torch.Tensor | None = None
        self._vectors = 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add the vectors of one batch."""
        for block in layer.inputs(activations):
            columns = self.consumer.columns.to(block.device)
            by_unit = block[:, :, columns].double()
            vectors = by_unit.permute(0, 2, 3, 1)  # (groups, units, k, vectors)
            moments = vectors @ vectors.transpose(2, 3)
            self._moments = moments if self._moments is None else self._moments + moments
            self._vectors += int(block.shape[1])

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        if self._moments is not None:
            self._moments = reduce_sum(self._moments)
            self._vectors = int(reduce_sum(torch.tensor(self._vectors, device=self._moments.device)))

    def squares(self) -> torch.Tensor:
        """Mean squared length of what every unit adds to the layer's outputs, (units,)."""
        assert self._moments is not None  # a layer that never runs is refused
        matrix = self.consumer.layer.matrix()
        columns = self.consumer.columns.to(matrix.device)
        total = torch.zeros(len(columns), dtype=torch.float64, device=matrix.device)
        for heads, moments in zip(matrix, self._moments / self._vectors, strict=True):
            for part in torch.split(heads, max(1, (1 << 22) // heads.shape[1])):
                read = part.double()[:, columns]  # (some neurons, units, k)
                total += torch.einsum("nuk,ukl,nul->u", read, moments, read)
        return total.clamp(min=0.0)


@dataclass(frozen=True)
class _Shared:
    """Several collectors of one layer."""

    parts: list[UnitMoments]

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        for part in self.parts:
            part.update(layer, activations)

    def reduce(self) -> None:
        for part in self.parts:
            part.reduce()


def _certified(squares: torch.Tensor, draw: UnitDraw) -> tuple[Sequence[Certificate], Sequence[str]]:
    if draw.scheme is not Scheme.POISSON:
        return (), ()
    roots = squares.cpu().sqrt()
    roots = roots / roots.sum().clamp(min=torch.finfo(torch.float64).tiny)
    chances = (draw.level * roots).clamp(max=1.0)
    drawn = chances > 0.0  # the others add nothing
    error = float((squares.cpu()[drawn] * (1.0 / chances[drawn] - 1.0)).sum())
    return (
        Certificate(
            "expected squared error",
            "mean over the calibration inputs and over independent draws with these probabilities, for all "
            "outputs that read the units together",
            error,
            details={"sum of squares": float(squares.sum()), "level": draw.level},
        ),
    ), ()
