"""Networks of which hidden layers are pruned, and how far that moves their outputs: the attacks on NC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nn.budgets import Dense, KeepRatio, PerLayer
from nn.neurons import Ball, Drawing, NormBounded, TopScores, composed_certificate
from nn.neurons.norm_bounded import ERROR_OF
from nn.pruning import prune
from nn.units.shrunk import Shrunk
from proofs_check.checks._networks import network

__all__ = ["Aligned", "Composed", "certified", "largest_term", "last_layer", "without_growth"]

Bound = Callable[[torch.nn.Module, Shrunk, torch.Tensor], float]


def certified(whole: torch.nn.Module, shrunk: Shrunk, example: torch.Tensor) -> float:
    """What the library states."""
    return composed_certificate(whole, shrunk.plan, [example]).value


def without_growth(whole: torch.nn.Module, shrunk: Shrunk, example: torch.Tensor) -> float:
    """Errors of all layers, added up as if nothing followed them."""
    return sum(_layer_errors(shrunk).values())


def last_layer(whole: torch.nn.Module, shrunk: Shrunk, example: torch.Tensor) -> float:
    """Error of the last pruned layer."""
    return list(_layer_errors(shrunk).values())[-1]


def largest_term(whole: torch.nn.Module, shrunk: Shrunk, example: torch.Tensor) -> float:
    """What the errors of one layer become at the output, the largest instead of the sum."""
    layers = {name: m for name, m in shrunk.model.named_modules() if isinstance(m, torch.nn.Linear)}
    terms = []
    for source, error in _layer_errors(shrunk).items():
        passed = torch.zeros(next(iter(layers.values())).in_features, dtype=torch.float64)
        for name, layer in layers.items():
            passed = layer.weight.detach().abs() @ passed
            passed += error if ERROR_OF + name == source else 0.0
        terms.append(float(passed.max()))
    return max(terms)


def _layer_errors(shrunk: Shrunk) -> Mapping[str, float]:
    errors: dict[str, float] = {}
    for group in shrunk.plan.groups.values():
        for certificate in group.certificates:
            errors |= {k: v for k, v in certificate.details.items() if k.startswith(ERROR_OF)}
    return errors


@dataclass(frozen=True, eq=False)
class Composed:
    """Largest change of an output found in the ball of inputs, over its bound."""

    widths: Sequence[int]
    seed: int
    scales: Sequence[float]
    both: bool
    idle: bool = False
    bound: Bound = certified

    def __call__(self, rng: np.random.Generator) -> float:
        whole = network(self.widths, self.seed)
        linear = [m for m in whole if isinstance(m, torch.nn.Linear)]
        with torch.no_grad():
            for layer, scale in zip(linear, self.scales, strict=True):
                layer.weight.mul_(scale)
            if self.idle:  # more units of the second hidden layer than are removed are hardly read
                linear[2].weight[:, ::2] *= 1e-6
        radii = {"0": 1.0, "2": self._reach(linear[0])}
        budget = PerLayer({"0": KeepRatio(0.6), "2": KeepRatio(0.7) if self.both else Dense()})
        example = torch.zeros((2, self.widths[0]), dtype=torch.float64)
        method = NormBounded(Ball(radii), Drawing(TopScores()))
        shrunk = prune(whole, method, budget, calibration=[example])
        return self._climbed(whole, shrunk.model, rng) / self.bound(whole, shrunk, example)

    def _reach(self, first: torch.nn.Linear) -> float:
        """Norm of the first activations over the unit ball, at most."""
        length = torch.linalg.matrix_norm(first.weight.detach(), 2)
        return float(length + torch.linalg.vector_norm(first.bias.detach()))

    def _climbed(self, whole: torch.nn.Module, smaller: torch.nn.Module, rng: np.random.Generator) -> float:
        start = torch.from_numpy(rng.standard_normal((32, self.widths[0])))
        x = start / start.norm(dim=1, keepdim=True)
        worst = 0.0
        for step in range(25):
            x = x.detach().requires_grad_(True)
            largest = (smaller(x) - whole(x)).abs().amax(dim=1)
            worst = max(worst, float(largest.detach().max()))
            (slope,) = torch.autograd.grad(largest.sum(), x)
            with torch.no_grad():
                moved = x + slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-300) / (1.0 + step) ** 0.5
                x = moved / moved.norm(dim=1, keepdim=True).clamp(min=1.0)
        return worst


@dataclass(frozen=True, eq=False)
class Aligned:
    """The same for a network in which all changes have one sign and meet at one input.

    There is a single input variable, and no weight or bias is negative, so that all neurons of the first
    hidden layer are longest at x = 1; those of the second one point to its activations there. Outputs of a
    layer that reads pruned units are weighted alike, as one number stands for the errors of them all. Every
    inequality of the proof is then an equality at x = 1.
    """

    seed: int
    bound: Bound = certified

    def __call__(self, rng: np.random.Generator) -> float:
        whole = network((1, 8, 6, 4, 2), self.seed)
        first, second, third, last = (m for m in whole if isinstance(m, torch.nn.Linear))
        x = torch.ones((1, 1), dtype=torch.float64)
        with torch.no_grad():
            for layer in (first, second, third, last):
                layer.weight.abs_()
                layer.bias.abs_()
            longest = first(x)[0]
            reach = float(torch.linalg.vector_norm(longest))
            second.weight.copy_((longest / reach).expand_as(second.weight))
            third.weight.copy_(third.weight[:1].expand_as(third.weight).clone())
        method = NormBounded(Ball({"0": 1.0, "2": reach, "*": 1.0}), Drawing(TopScores()))
        budget = PerLayer({"0": KeepRatio(0.6), "2": KeepRatio(0.7)}, Dense())
        shrunk = prune(whole, method, budget, calibration=[x.repeat(2, 1)])
        with torch.no_grad():
            moved = float((shrunk.model(x) - whole(x)).abs().max())
        return moved / self.bound(whole, shrunk, x)
