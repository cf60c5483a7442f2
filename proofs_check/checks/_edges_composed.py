"""Attacks on what errors of sides mean for neurons and for networks: Q6 and Q7.

Inputs, and the signs of the errors of all edges, are moved uphill on the ratio of what is seen to what is
certified; an error of one edge may differ from input to input, since both statements are about one input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from coresets.samplers import Poisson
from nn.guarantees.edges import ComposedError, SignedNeuron
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._edges import Neurons, features, neurons, over, sensitivities
from proofs_check.checks._networks import EPS, exact_scenario, seed_of, usable
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["COMPOSED"]

Floats = npt.NDArray[np.float64]
Claimed = Callable[[float, float], float]
Carried = Callable[[Sequence[float], Sequence[float]], list[float]]

_LEAST = 1e-300


class Errors(NamedTuple):
    """Relative errors of neurons on inputs, each of shape (inputs, neurons); sides have a leading axis."""

    seen: torch.Tensor
    sides: torch.Tensor
    condition: torch.Tensor


def errors(weights: torch.Tensor, factors: torch.Tensor, inputs: torch.Tensor) -> Errors:
    """Errors of neurons whose weights, of shape (neurons, edges), are multiplied by non-negative factors.

    Factors may have a leading axis, one set an input; inputs of shape (inputs, edges) are non-negative.
    """
    before = torch.stack([inputs @ (s * weights).clamp_min(0.0).T for s in (1.0, -1.0)])
    changed = torch.stack([(s * weights * factors).clamp_min(0.0) for s in (1.0, -1.0)])
    equation = "xj,skj->sxk" if factors.dim() == 2 else "xj,sxkj->sxk"
    after = torch.einsum(equation, inputs, changed)
    total, exact = before.sum(dim=0), (before[0] - before[1]).abs()
    condition = torch.where(total > 0.0, total / exact, 1.0)
    off = (after[0] - after[1]) - (before[0] - before[1])
    seen = torch.where(total > 0.0, off.abs() / exact, 0.0)
    sides = torch.where(before > 0.0, (after - before).abs() / before.clamp_min(_LEAST), 0.0)
    return Errors(seen, sides, condition)


# Q6: from sides to a neuron.


@dataclass(frozen=True)
class SignedError:
    """Largest relative error of a neuron over the one that the errors of its sides certify."""

    neurons: Neurons
    factors: Floats
    mean: bool = False
    claimed: Claimed = SignedNeuron().error

    def __call__(self, rng: np.random.Generator) -> float:
        inputs = torch.from_numpy(self.neurons.activations[:60, 0])
        worst = self._worst(self._errors(inputs))
        logs = (inputs + 1e-3 * inputs.mean()).log()
        for _ in range(40):  # inputs stay positive while they move uphill
            logs = logs.detach().requires_grad_(True)
            found = self._errors(logs.exp())
            worst = max(worst, self._worst(found))
            ratio = found.seen / (self._reach(found) * found.condition).clamp_min(_LEAST)
            (gradient,) = torch.autograd.grad(torch.nan_to_num(ratio).sum(), logs)
            size = gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
            logs = logs + 0.5 * torch.nan_to_num(gradient / size)
        return worst

    def _errors(self, inputs: torch.Tensor) -> Errors:
        return errors(torch.from_numpy(self.neurons.weights), torch.from_numpy(self.factors), inputs)

    def _reach(self, found: Errors) -> torch.Tensor:
        return found.sides.mean(dim=0) if self.mean else found.sides.amax(dim=0)

    def _worst(self, found: Errors) -> float:
        reach, condition = self._reach(found).detach(), found.condition.detach()
        pairs = zip(reach.ravel().tolist(), condition.ravel().tolist(), strict=True)
        certified = np.array([self.claimed(*pair) for pair in pairs])
        # Sums of some hundred terms, relative to what is left after they cancel.
        slack = 1e3 * EPS * condition.ravel().numpy()
        return over(found.seen.detach().ravel().numpy(), certified, slack)


def _without_condition(sides: float, condition: float) -> float:
    return SignedNeuron().error(sides, 1.0)


def _signed(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        own = neurons(workload, 4, 60)
        values = sensitivities(own.weights, own.activations)
        drawn = Poisson().draw(values, np.full(4, 30), np.random.default_rng(seed_of(workload)))
        for name, factors in (
            ("drawn from", np.asarray(drawn.weights)),
            ("sides off in opposite directions", np.where(own.weights > 0.0, 1.1, 0.9)),
        ):
            honest = SignedError(own, factors)
            broken: dict[tuple[str, str], Trial] = {
                _NO_CONDITION: replace(honest, claimed=_without_condition)
            }
            if name == "drawn from":  # errors that are equal have the maximum as their mean
                broken[_UNWEIGHTED] = replace(honest, mean=True)
            yield exact_scenario(workload, name, honest, broken)


# Q7: through the layers.


@dataclass(frozen=True)
class ComposedRatio:
    """Largest relative error after a layer over the certified one; edges are off by 1 +- epsilon."""

    layers: tuple[torch.Tensor, ...]
    inputs: torch.Tensor
    epsilon: float
    carried: Carried = ComposedError().errors

    def __call__(self, rng: np.random.Generator) -> float:
        shapes = [(len(self.inputs), *weight.shape) for weight in self.layers]
        signs = [torch.from_numpy(rng.choice([-1.0, 1.0], size=shape)) for shape in shapes]
        worst = 0.0
        for _ in range(8):  # the signs of the gradient, again and again
            factors = [(1.0 + self.epsilon * sign).requires_grad_(True) for sign in signs]
            after, steps = self._run(factors)
            worst = max(worst, self._worst(steps))
            gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
                after.sum(), factors, allow_unused=True
            )
            signs = [
                sign if g is None else torch.where(g == 0.0, sign, torch.sign(torch.nan_to_num(g)))
                for sign, g in zip(signs, gradients, strict=True)
            ]
        return worst

    def _run(self, factors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[tuple[torch.Tensor, Errors]]]:
        """The largest relative error of an output for every input, and errors layer by layer."""
        exact = changed = self.inputs
        steps = []
        for weight, factor in zip(self.layers, factors, strict=True):
            own = errors(weight, factor, changed)  # of the layer itself, on the inputs that it really gets
            before = exact @ weight.T
            after = torch.einsum("xj,xkj->xk", changed, weight * factor)
            total = exact @ weight.abs().T
            seen = torch.where(total > 0.0, (after - before).abs() / before.abs(), 0.0)
            condition = torch.where(total > 0.0, total / before.abs(), 1.0)
            steps.append((seen, Errors(seen, own.sides, condition)))
            exact, changed = before.clamp_min(0.0), after.clamp_min(0.0)
        return seen.amax(dim=1), steps

    def _worst(self, steps: list[tuple[torch.Tensor, Errors]]) -> float:
        seen = torch.stack([step[0].amax(dim=1) for step in steps], dim=1).detach().numpy()
        sides = torch.stack([step[1].sides.amax(dim=(0, 2)) for step in steps], dim=1).detach().tolist()
        conditions = torch.stack([step[1].condition.amax(dim=1) for step in steps], dim=1).detach()
        certified = np.array([self.carried(*pair) for pair in zip(sides, conditions.tolist(), strict=True)])
        # Rounding errors are carried on like any others.
        slack = 1e3 * EPS * np.cumprod(conditions.numpy(), axis=1)
        return over(seen, certified, slack)


def _linear(layers: Sequence[float], conditions: Sequence[float]) -> list[float]:
    carried = itertools.accumulate(
        zip(layers, conditions, strict=True), lambda error, step: step[1] * (step[0] + error), initial=0.0
    )
    return list(carried)[1:]


def _unconditional(layers: Sequence[float], conditions: Sequence[float]) -> list[float]:
    return ComposedError().errors(layers, [1.0] * len(layers))


def _own_only(layers: Sequence[float], conditions: Sequence[float]) -> list[float]:
    return [ComposedError().errors([e], [c])[0] for e, c in zip(layers, conditions, strict=True)]


def _chains(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        inputs = torch.from_numpy(features(workload, 16, inputs=50)[:, 0])
        generator = torch.Generator().manual_seed(seed_of(workload))
        widths = (16, 8, 6, 3)
        signed = tuple(
            torch.randn((out, into), dtype=torch.float64, generator=generator)
            for into, out in itertools.pairwise(widths)
        )
        chain = ComposedRatio(signed, inputs, 1e-4)
        broken = {
            _NO_CONDITION: replace(chain, carried=_unconditional),
            _EARLIER: replace(chain, carried=_own_only),
        }
        yield exact_scenario(workload, "weights of both signs", chain, broken)
        adding = ComposedRatio(tuple(weight.abs() for weight in signed), inputs, 0.05)
        broken = {
            _CROSS: replace(adding, carried=_linear),
            _EARLIER: replace(adding, carried=_own_only),
        }
        yield exact_scenario(workload, "positive weights", adding, broken)


_NO_CONDITION = ("condition forgotten", "relative errors of sides are taken for those of neurons")
_UNWEIGHTED = ("sides not weighted", "the mean of the errors of both sides is taken, whatever they carry")
_CROSS = ("cross terms missing", "errors of layers are added, without their products")
_EARLIER = ("earlier layers forgotten", "only the layer's own error is counted")

COMPOSED = (
    Check(
        SignedNeuron(),
        "inputs of a sample, moved uphill",
        dict([_NO_CONDITION, _UNWEIGHTED]),
        _signed,
    ),
    Check(
        ComposedError(),
        "signs of the errors of all edges, by sign ascent for each input",
        dict([_NO_CONDITION, _CROSS, _EARLIER]),
        _chains,
    ),
)
