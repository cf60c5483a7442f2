"""Attacks on statements about units kept by iterated selection: IS-A, IS-B and IS-A2.

Isometry constants come from all sets of units; second maps and activations evolve towards the worst ratio.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nn.budgets import KeepCount
from nn.guarantees.ispasp import (
    BlockPursuit,
    ExactSupport,
    Isometry,
    SummedPursuit,
)
from nn.neurons import ColumnNormalised, ISpaSP, RowNorm, SignedSum, UnitScore
from nn.neurons._second_map import residual_gradient
from nn.neurons._support import ranked
from nn.pruning import plan
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._ispasp import (
    Flags,
    Instance,
    Matrix,
    Worst,
    brute_force,
    collinear,
    exact_isometry,
    instances,
    pursuit_ratio,
)
from proofs_check.checks._networks import exact_scenario, first_points, network, seed_of, usable
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

A, B, A2 = SummedPursuit(), BlockPursuit(), ExactSupport()

Ratio = Callable[[Instance], float]


def _only_small(instance: Instance) -> Isometry:
    delta = brute_force(instance.second, instance.block, instance.kept)
    return Isometry(instance.kept, delta, delta)


def _batch_normalised(instance: Instance, removed: Flags) -> Matrix:
    """Importance when the pruned branch is normalised by the statistics of its own batch."""
    second = torch.from_numpy(instance.second)

    def mapped(hidden: torch.Tensor) -> torch.Tensor:
        outputs = hidden @ second.t()
        if hidden.requires_grad:
            return outputs  # running statistics of mean 0 and variance 1
        return torch.nn.functional.batch_norm(outputs, None, None, training=True)

    hidden = torch.from_numpy(instance.hidden.T.copy())
    return np.asarray(residual_gradient(mapped, hidden, torch.from_numpy(~removed)).sum(dim=0))


def _summed(
    isometry: Callable[[Instance], Isometry] = exact_isometry,
    importance: Callable[[Instance, Flags], Matrix] = Instance.summed,
) -> Ratio:
    def ratio(instance: Instance) -> float:
        sizes = np.abs(instance.hidden.sum(axis=1))
        supports = instance.all_supports(sizes, lambda removed: importance(instance, removed))
        return pursuit_ratio(A, instance, sizes, supports, isometry(instance))

    return ratio


def _absolute(instance: Instance, removed: Flags) -> Matrix:
    return np.abs(instance.summed(removed))


def _stale(instance: Instance, removed: Flags) -> Matrix:
    return instance.summed(np.ones_like(removed))


@dataclass(frozen=True)
class Certified:
    """What :func:`nn.plan` certifies, against the residual of the units that are really removed."""

    workload: Workload
    score: UnitScore
    lowest: bool = False

    def __call__(self, rng: np.random.Generator) -> float:
        inputs = first_points(self.workload)[:48]
        inputs = inputs / inputs.abs().amax().clamp_min(1e-12)
        random = np.random.default_rng(seed_of(self.workload))
        units, outputs, worst = 12, 24, 0.0
        for kept, power in itertools.product((1, 2, 3), (1.0, 4.0)):
            net = network([inputs.shape[1], units, outputs], seed_of(self.workload))
            second = np.linalg.qr(random.standard_normal((outputs, units)))[0]
            second = 100.0 * (second + 0.01 * random.standard_normal(second.shape))  # a scale to be taken out
            decay = torch.from_numpy(random.permutation(np.arange(1.0, units + 1.0)) ** -power)
            with torch.no_grad():
                net[0].weight.mul_(decay[:, None])  # type: ignore[operator]
                net[0].bias.copy_(0.1 * decay)  # type: ignore[operator]
                net[2].weight.copy_(torch.from_numpy(second))  # type: ignore[operator]
            group = plan(net, ISpaSP(self.score), KeepCount(kept), calibration=[inputs]).groups["0"]
            if not group.certificates:
                continue
            (found,) = group.certificates
            with torch.no_grad():
                hidden = net[:2](inputs).numpy().T
            keep = group.keep.numpy()
            if self.lowest:
                keep = np.isin(np.arange(units), ranked(-hidden.sum(axis=1))[:kept])
            parts = [second @ (hidden * gone[:, None]) for gone in (~keep, np.ones(units, dtype=bool))]
            summed = isinstance(getattr(self.score, "score", self.score), SignedSum)
            norms = [float(np.linalg.norm(part.sum(axis=1) if summed else part)) for part in parts]
            assert found.bound is not None
            worst = max(worst, norms[0] / norms[1] / found.bound * (1.0 - 1e-9))
        return worst


def _pursuits(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        start = instances(workload)
        negative = instances(workload, signed=True)
        negative.append(Instance(np.eye(4), np.array([[2.0, 2.0], [3.0, -3.0], [0.0, 0.1], [0.0, 0.0]]), 1))
        broken = {
            _ORDER: Worst(start, _summed(_only_small)),
            _STALE: Worst(start, _summed(importance=_stale)),
            _TRAIN: Worst(start, _summed(importance=_batch_normalised), rounds=2),
            _NEGATIVE: Worst(negative, _summed()),
        }
        yield exact_scenario(workload, "signed sums", Worst(start, _summed()), broken)
        yield exact_scenario(workload, "absolute sums", Worst(start, _summed(importance=_absolute)), {})
        score = ColumnNormalised(SignedSum())
        yield exact_scenario(
            workload, "front door", Certified(workload, score), {_LOWEST: Certified(workload, score, True)}
        )


def _normed(
    isometry: Callable[[Instance], Isometry] = exact_isometry,
    importance: Callable[[Instance, Flags], Matrix] = Instance.normed,
    sizes: Callable[[Instance], Matrix] = lambda instance: instance.norms,
) -> Ratio:
    def ratio(instance: Instance) -> float:
        supports = instance.all_supports(sizes(instance), lambda removed: importance(instance, removed))
        return pursuit_ratio(B, instance, instance.norms, supports, isometry(instance))

    return ratio


def _stale_norms(instance: Instance, removed: Flags) -> Matrix:
    return instance.normed(np.ones_like(removed))


def _sums_of_rows(instance: Instance) -> Matrix:
    return np.asarray(np.abs(instance.hidden.reshape(instance.units, -1).sum(axis=1)))


def _blocks(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        for block in (1, 2):
            start = instances(workload, block=block, signed=True)
            broken = {
                _ORDER: Worst(start, _normed(_only_small)),
                _STALE: Worst(start, _normed(importance=_stale_norms)),
                _SUMS: Worst(start, _normed(sizes=_sums_of_rows)),
            }
            yield exact_scenario(workload, f"blocks of {block}", Worst(start, _normed()), broken)
        for score in (RowNorm(), ColumnNormalised(RowNorm())):
            smallest = {_LOWEST: Certified(workload, score, True)}
            yield exact_scenario(workload, f"front door, {score}", Certified(workload, score), smallest)


def _exact(claimed: Callable[[Isometry, float, float, float], int | None]) -> Ratio:
    def ratio(instance: Instance) -> float:
        sizes, s = instance.hidden.sum(axis=1), instance.kept
        head, tail = A.head(sizes, s), A.tail(sizes, s)
        smallest = float(np.sort(sizes)[-s])
        t = claimed(exact_isometry(instance), head, smallest, tail)
        if t is None or t > 200 or np.isclose(smallest, np.sort(sizes)[-s - 1], rtol=1e-9):
            return 0.0
        found = instance.all_supports(sizes, instance.summed, t)[t]
        return 2.0 if bool((found != np.isin(np.arange(len(sizes)), ranked(sizes)[:s])).any()) else 1.0

    return ratio


def _one_step(isometry: Isometry, head: float, smallest: float, tail: float) -> int | None:
    return None if A2.iterations(isometry, head, smallest, tail) is None else 1


def _no_constant(isometry: Isometry, head: float, smallest: float, tail: float) -> int | None:
    return 100 if isometry.contraction < 1.0 and smallest > tail else None


def _supports(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 3):
        start = [*instances(workload), collinear(0.45, 0.3, 0.45), collinear(0.5, 0.35, 0.6)]
        broken = {
            _ONE_STEP: Worst(start, _exact(_one_step)),
            _NO_CONSTANT: Worst(start, _exact(_no_constant)),
        }
        yield exact_scenario(
            workload,
            "signed sums",
            Worst(start, _exact(A2.iterations)),
            broken,
            note="2 if the support is another one than claimed, 1 if it is that one",
        )


_ORDER = ("isometry of half the order", "a constant of order s is quoted for sets of 2s units")
_STALE = ("residual never updated", "units are nominated by the whole output in every iteration")
_TRAIN = ("batch statistics", "the pruned branch is normalised by the statistics of its own batch")
_NEGATIVE = ("negative activations", "sums of activations that cancel")
_LOWEST = ("smallest kept", "the certificate of one support is quoted for the smallest units")
_SUMS = ("sums for norms", "sizes are absolute sums of rows, quoted as norms")
_ONE_STEP = ("one iteration", "the support is claimed after the first iteration")
_NO_CONSTANT = ("no constant before the tail", "the gap is compared with tau instead of C tau")

CHECKS = (
    Check(
        A,
        "maps and activations by evolution",
        dict([_ORDER, _STALE, _TRAIN, _NEGATIVE, _LOWEST]),
        _pursuits,
    ),
    Check(B, "maps and activations by evolution", dict([_ORDER, _STALE, _SUMS, _LOWEST]), _blocks),
    Check(A2, "maps and activations by evolution", dict([_ONE_STEP, _NO_CONSTANT]), _supports),
)
