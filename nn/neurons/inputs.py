"""Sets of inputs for which layers of neurons have coresets of a size that no dimension enters.

For inputs x of a set X a neuron p with bias b has the length sup |p.x + b|. On a ball of radius beta
it is beta |p| + |b|, on an ellipsoid (x - c)^T S^-1 (x - c) <= 1 it is sqrt(p^T S p) + |p.c + b|. A set
that the user states makes what follows independent of data; one that is measured holds for the inputs
that were seen, and for others as far as they are in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, runtime_checkable

import torch
import torch.distributed

from coresets._validate import check_integer, check_real
from nn.calibration import observe, reduce_max, reduce_sum
from nn.layers import EdgeLayer, find_layers
from nn.neurons.points import Neurons
from nn.units.method import UnitProblem

__all__ = [
    "Ball",
    "InputSample",
    "InputSet",
    "Lengths",
    "MeasuredBall",
    "MeasuredEllipsoid",
    "sampled_inputs",
]


@dataclass(frozen=True, eq=False)
class Lengths:
    """How large the products of a group's neurons can be.

    Parameters
    ----------
    values : Tensor of float64, shape (units,)
        sup |p.x + b| over X, or more.
    inputs : str
        X in words.
    measured : bool
        Whether X was measured on data.
    """

    values: torch.Tensor
    inputs: str
    measured: bool


@runtime_checkable
class InputSet(Protocol):
    """A choice of X for every group."""

    def lengths(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, Lengths]:
        """Lengths of the neurons of every group."""


@dataclass(frozen=True)
class Ball:
    """Inputs of at most a given Euclidean norm: patches, for a convolution.

    Parameters
    ----------
    radius : float or mapping of str to float
        beta; by group, with shell wildcards, if it is a mapping.
    """

    radius: float | Mapping[str, float]

    def __post_init__(self) -> None:
        given = self.radius.values() if isinstance(self.radius, Mapping) else [self.radius]
        for radius in given:
            if check_real(radius, "radius") <= 0.0:
                raise ValueError(f"radius = {radius:g} is not positive")

    def lengths(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, Lengths]:
        """Lengths beta |p| + |b|."""
        return {name: _in_ball(own, self._of(name), measured=False) for name, own in neurons.items()}

    def _of(self, name: str) -> float:
        if not isinstance(self.radius, Mapping):
            return self.radius
        for pattern, radius in self.radius.items():
            if fnmatchcase(name, pattern):
                return radius
        raise ValueError(
            f"there is no radius for {name!r}; the patterns are {', '.join(map(repr, self.radius))}"
        )


def _in_ball(neurons: Neurons, radius: float, *, measured: bool) -> Lengths:
    values = radius * neurons.row_norms() + neurons.bias.abs()
    return Lengths(values, f"the ball of radius {radius:.4g}", measured)


@dataclass(frozen=True, slots=True)
class MeasuredBall:
    """Inputs of at most the largest norm that the calibration data have at the layer."""

    def lengths(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, Lengths]:
        """Lengths beta |p| + |b|, with beta from one pass over the data."""
        seen = _observed(problem, neurons, 1)
        return {
            name: _in_ball(own, seen[own.producer].largest if own.producer in seen else 1.0, measured=True)
            for name, own in neurons.items()
        }


@dataclass(frozen=True, slots=True)
class MeasuredEllipsoid:
    """Inputs in an ellipsoid about the mean of sampled calibration inputs, as long as their spread.

    Its axes are those of the second moments about the mean, and it is scaled to contain every sampled
    vector. Groups about which nothing can be claimed have the measured ball.

    Parameters
    ----------
    ridge : float
        Added to the moments, over their mean diagonal entry; positive.
    vectors : int
        How many input vectors of a layer are sampled, about; at least 2.
    """

    ridge: float = 0.01
    vectors: int = 512

    def __post_init__(self) -> None:
        if check_real(self.ridge, "ridge") <= 0.0:
            raise ValueError(f"ridge = {self.ridge:g} is not positive; an ellipsoid needs all its axes")
        object.__setattr__(self, "vectors", check_integer(self.vectors, "vectors", at_least=2))

    def lengths(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> Mapping[str, Lengths]:
        """sqrt(p^T S p) + |p.c + b|, by products with the sampled vectors only."""
        seen = _observed(problem, neurons, self.vectors)
        found = {}
        for name, own in neurons.items():
            sample = seen.get(own.producer)
            if sample is None or own.between.reason:
                found[name] = _in_ball(own, 1.0 if sample is None else sample.largest, measured=True)
            else:
                found[name] = self._in_ellipsoid(own, sample.vectors())
        return found

    def _in_ellipsoid(self, neurons: Neurons, vectors: torch.Tensor) -> Lengths:
        centre = vectors.mean(dim=0)
        rows = (vectors - centre) / math.sqrt(len(vectors))  # second moments rows^T rows
        shrink = self.ridge * float(rows.square().sum()) / rows.shape[1]
        shrink = max(shrink, torch.finfo(torch.float64).tiny ** 0.5)
        # x^T (A^T A + r I)^-1 x for the rows x of A is g / (g + r) in the eigenvectors of A A^T.
        values, basis = torch.linalg.eigh(rows @ rows.T)
        values = values.clamp(min=0.0)
        reach = len(vectors) * (basis.square() @ (values / (values + shrink))).max()
        lengths = []
        for part, block in neurons.parts():
            weights = block[:, :-1]
            quadratic = (weights @ rows.T).square().sum(1) + shrink * weights.square().sum(1)
            offset = weights @ centre + neurons.bias[part]
            lengths.append((reach * quadratic).sqrt() + offset.abs())
        return Lengths(torch.cat(lengths), f"an ellipsoid about {len(vectors)} sampled inputs", measured=True)


class InputSample:
    """The largest norm of the inputs of a layer, and some of the inputs, evenly spread over the data.

    Every s-th vector is kept; when twice as many are held as wanted, every other one is forgotten and s
    doubled. Of several processes the samples are joined, so that all of them decide alike.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted, self._stride, self._next = wanted, 1, 0
        self._kept: list[torch.Tensor] = []
        self._largest: torch.Tensor | None = None

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Look at the vectors of one batch."""
        for block in layer.inputs(activations):
            norm = torch.linalg.vector_norm(block, dim=2, dtype=torch.float64).max()
            self._largest = norm if self._largest is None else torch.maximum(self._largest, norm)
            count = int(block.shape[1])
            self._kept.append(block[0, self._next :: self._stride].double())
            skipped = len(self._kept[-1]) * self._stride + self._next - count
            self._next = skipped
            self._thin()

    def _thin(self) -> None:
        held = sum(len(part) for part in self._kept)
        while held >= 2 * self._wanted:
            joined = torch.cat(self._kept)
            # The next one to keep is the one after an even number of them.
            self._next += self._stride * (held % 2)
            self._kept = [joined[::2].clone()]
            self._stride *= 2
            held = len(self._kept[0])

    def reduce(self) -> None:
        """Combine with the other processes."""
        if self._largest is not None:
            self._largest = reduce_max(self._largest)
            joined = gathered_rows(torch.cat(self._kept))
            self._kept = [joined[:: max(1, len(joined) // self._wanted)].clone()]

    @property
    def largest(self) -> float:
        """Largest Euclidean norm; never 0."""
        norm = 0.0 if self._largest is None else float(self._largest)
        return norm if norm > 0.0 else 1.0

    def vectors(self) -> torch.Tensor:
        """The sample, (vectors, d) in float64; of a grouped convolution that of the first group."""
        return torch.cat(self._kept)


def gathered_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, one process after the other; the rows themselves where there is one process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    counts = torch.zeros(torch.distributed.get_world_size(), dtype=torch.int64, device=rows.device)
    counts[torch.distributed.get_rank()] = len(rows)
    counts = reduce_sum(counts)
    padded = rows.new_zeros((int(counts.max()), rows.shape[1]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts.tolist(), strict=True)])


def sampled_inputs(
    problem: UnitProblem, neurons: Mapping[str, Neurons], wanted: int
) -> dict[str, torch.Tensor]:
    """Some input vectors of every group's producer, evenly spread over the calibration data.

    Parameters
    ----------
    problem : UnitProblem
        Its data are read once.
    neurons : mapping of str to Neurons
        The groups.
    wanted : int
        Between so many vectors and twice as many are kept, if there are so many.

    Returns
    -------
    dict of str to Tensor of float64, shape (vectors, d)
        By group, those whose producer is a ``Linear`` or ``Conv2d``.
    """
    seen = _observed(problem, neurons, wanted)
    return {name: seen[own.producer].vectors() for name, own in neurons.items() if own.producer in seen}


def _observed(problem: UnitProblem, neurons: Mapping[str, Neurons], wanted: int) -> dict[str, InputSample]:
    producers = {own.producer for own in neurons.values()}
    layers = find_layers(problem.network, producers)
    samples = {name: InputSample(wanted) for name in layers}
    if samples:
        observe(problem.network, layers, problem.calibration, samples)
    return samples
