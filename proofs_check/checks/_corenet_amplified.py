"""Attacks on amplification (AMP): choosing among independent sparsifications of a side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nn.guarantees.corenet import AmplifiedSide
from nn.guarantees.edges import SideClass
from proofs_check.check import Profile, Scenario
from proofs_check.checks._common import DELTA
from proofs_check.checks._edges import sensitivities
from proofs_check.checks._networks import EPS, usable
from proofs_check.checks._populations import codes, drawn, off, over, signed_weights, statistical, unit_points
from proofs_check.workloads import Workload

__all__ = ["FAULTS", "amplified"]

Floats = npt.NDArray[np.float64]

_SLACK = 1e3 * EPS  # of sums of at most some thousand positive terms, relative to them

Choice = Callable[[Floats, Floats, npt.NDArray[np.bool_]], npt.NDArray[np.intp]]


def _best(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Run with the smallest mean error over the inputs judged on."""
    found: npt.NDArray[np.intp] = (judged @ errors).argmin(axis=0)
    return found


def _last(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    return np.full(errors.shape[2], len(errors) - 1)


def _worst(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    found: npt.NDArray[np.intp] = (judged @ errors).argmax(axis=0)
    return found


def _one_group(errors: Floats, judged: Floats, group: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    return _best(errors, judged * group, group)


@dataclass(frozen=True, eq=False)
class Amplified:
    """Largest mean error of a chosen sparsification over its bound.

    Parameters
    ----------
    own, values : array of shape (sides, edges)
        Weights, and sensitivities with C = 1.
    inputs : array of shape (inputs, edges)
        The population.
    group : array of bool of shape (inputs,)
        Some of them.
    draws : int
        Draws that the bound counts.
    made : int
        Draws that are made.
    choice : callable
        Which run is chosen, given the errors of shape (runs, inputs, sides).
    """

    own: Floats
    values: Floats
    inputs: Floats
    group: npt.NDArray[np.bool_]
    draws: int
    made: int
    choice: Choice = _best
    even: bool = False

    def __call__(self, rng: np.random.Generator) -> float:
        delta = DELTA / len(self.own)
        runs = AmplifiedSide().candidates(delta)
        values = (self.values > 0.0).astype(np.float64) if self.even else self.values
        made = np.full(len(self.own), float(self.made))
        errors = np.stack(
            [
                np.minimum(off(self.own, drawn(self.own, values, made, rng), self.inputs), 1.0)
                for _ in range(runs)
            ]
        )
        equal = np.full(len(self.inputs), 1.0 / len(self.inputs))
        judged = rng.multinomial(_JUDGES, equal) / _JUDGES
        chosen = self.choice(errors, judged, self.group)
        means = errors.mean(axis=1)[chosen, np.arange(len(self.own))]
        certified = [
            AmplifiedSide().mean_error(SideClass(float(t)), self.draws, _JUDGES, delta)
            for t in self.values.sum(axis=1)
        ]
        return over(means, np.array(certified), _SLACK)


_JUDGES = 1_000_000  # fresh inputs that runs are judged on


def _grouped(workload: Workload, edges: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Inputs of which two thirds use the same edges, most others the same others, and the rest all edges.

    Errors are then the same for most inputs, so that a run is good or bad as a whole.
    """
    own = codes(workload, edges, 0.25, patches=1, inputs=100)[:, 0]
    ranks = np.argsort(np.argsort(unit_points(workload, len(own))[: len(own), 1]))
    quarter = edges // 4
    first, second = ranks < 0.67 * len(own), ranks >= 0.72 * len(own)
    own[first], own[second] = np.arange(edges) < quarter, np.arange(edges) >= 3 * quarter
    return own, second


def amplified(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 1):
        weights = np.abs(signed_weights(workload, 24, 120, 0.05))
        inputs, group = _grouped(workload, 120)
        honest = _run(weights, inputs, group, 80)
        broken = {
            _LAST: replace(honest, choice=_last),
            _WORST: replace(honest, choice=_worst),
            _ONE_GROUP: replace(honest, choice=_one_group),
        }
        yield statistical(workload, "two kinds of inputs", honest.draws, honest, broken)
        weights = np.abs(signed_weights(workload, 8, 160, 2.5))
        inputs = codes(workload, 160, 0.25, patches=1, inputs=80)[:, 0]
        honest = _run(weights, inputs, np.ones(len(inputs), dtype=bool), 250)
        runs = AmplifiedSide().candidates(DELTA / len(weights))
        broken = {
            _SHARED: replace(honest, made=max(1, honest.draws // runs)),
            _UNIFORM: replace(honest, even=True),
        }
        yield statistical(workload, "many kinds of inputs", honest.draws, honest, broken)


def _run(own: Floats, inputs: Floats, group: npt.NDArray[np.bool_], draws: int) -> Amplified:
    values = sensitivities(own, inputs[:, None])
    return Amplified(own, values, inputs, group, draws, draws)


_UNIFORM = ("uniform draws", "every edge has the same probability, whatever its sensitivity")
_LAST = ("last run", "the last sparsification is taken instead of the best one")
_WORST = ("worst run", "the largest mean error is chosen")
_ONE_GROUP = ("judged on one class", "all inputs that runs are judged on are of one kind, as in sorted files")
_SHARED = ("draws shared", "the draws are divided among the runs")

FAULTS = dict([_LAST, _WORST, _ONE_GROUP, _SHARED, _UNIFORM])
