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

from coresets._validate import check_integer, check_real
from nn.neurons.input_samples import samples_of
from nn.neurons.points import Neurons
from nn.units.method import UnitProblem

__all__ = ["Ball", "InputSet", "Lengths", "MeasuredBall", "MeasuredEllipsoid"]


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
        named = self.radius if isinstance(self.radius, Mapping) else {"": self.radius}
        if not named:
            raise ValueError("radius = {} has no radius for any group; pass a number or {pattern: number}")
        for pattern, radius in named.items():
            if not isinstance(pattern, str):
                raise TypeError(f"radius has the key {pattern!r}; pass names of groups, with shell wildcards")
            name = f"radius[{pattern!r}]" if isinstance(self.radius, Mapping) else "radius"
            if check_real(radius, name) <= 0.0:
                raise ValueError(f"{name} = {radius:g} is not positive")

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
        seen = samples_of(problem, neurons, 1)
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
        seen = samples_of(problem, neurons, self.vectors)
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
