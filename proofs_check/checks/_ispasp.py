"""Second maps with their isometry constants by brute force, and a search for the worst of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nn.guarantees.ispasp import BlockPursuit, Isometry, SummedPursuit
from nn.neurons._support import pursue
from proofs_check.checks._networks import first_points, seed_of
from proofs_check.workloads import Workload

__all__ = [
    "STEPS",
    "Flags",
    "Instance",
    "Matrix",
    "Worst",
    "activations",
    "brute_force",
    "collinear",
    "exact_isometry",
    "instances",
    "masked",
    "mutated",
    "pursuit_ratio",
]

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
STEPS = 12  # iterations that are looked at


@dataclass(frozen=True, eq=False)
class Instance:
    """A second map, what it is fed, and how many units are to be kept.

    Parameters
    ----------
    second : array of shape (outputs, units * block)
        W, the columns of a unit side by side.
    hidden : array of shape (units * block, examples)
        H.
    kept : int
        s.
    block : int
        Columns a unit.
    """

    second: Matrix
    hidden: Matrix
    kept: int
    block: int = 1

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.hidden) // self.block

    @cached_property
    def norms(self) -> Matrix:
        """Frobenius norms of the rows of each unit."""
        return self.rows(self.hidden)

    def rows(self, values: Matrix) -> Matrix:
        """Frobenius norms of blocks of rows."""
        return np.asarray(np.sqrt(np.square(values).reshape(self.units, -1).sum(axis=1)))

    def left(self, removed: Flags) -> Matrix:
        """V for some removed units."""
        return self.second @ (self.hidden * np.repeat(removed, self.block)[:, None])

    def summed(self, removed: Flags) -> Matrix:
        """Entries of W^T V 1."""
        return self.second.T @ self.left(removed).sum(axis=1)

    def normed(self, removed: Flags) -> Matrix:
        """Norms of the blocks of W^T V."""
        return self.rows(self.second.T @ self.left(removed))

    def all_supports(
        self, sizes: Matrix, importance: Callable[[Flags], Matrix], steps: int = STEPS
    ) -> list[Flags]:
        """The supports S_0, S_1, ..., repeated once they are fixed."""
        found = list(pursue(sizes, importance, self.kept, steps))
        none = np.zeros(self.units, dtype=bool)
        return [none, *found, *[found[-1]] * (steps - len(found))]


def brute_force(second: Matrix, block: int, order: int) -> float:
    """delta_k by looking at all sets of k units."""
    units = second.shape[1] // block
    sets = np.asarray(list(itertools.combinations(range(units), min(order, units))))
    columns = (sets[:, :, None] * block + np.arange(block)).reshape(len(sets), -1)
    gram = second.T @ second
    values = np.linalg.eigvalsh(gram[columns[:, :, None], columns[:, None, :]])
    return float(np.max(np.abs(values - 1.0)))


def exact_isometry(instance: Instance) -> Isometry:
    """delta_s and delta_2s."""
    s = instance.kept
    return Isometry(
        s, *(brute_force(instance.second, instance.block, order) for order in (s, min(2 * s, instance.units)))
    )


def masked() -> Instance:
    """Activations without a tail, one of which is hidden behind the columns near that of another."""
    gram = np.eye(8)
    gram[0, 2:7] = gram[2:7, 0] = 0.2
    hidden = np.zeros((8, 2))
    hidden[0], hidden[1] = 0.5, 0.05
    return Instance(np.asarray(np.linalg.cholesky(gram).T), hidden, 2)


def collinear(angle: float, tail: float, apart: float = 0.4) -> Instance:
    """Two columns near that of the largest unit, and nearer to what a third one adds: always nominated."""
    sides = [[np.cos(apart), np.sin(apart)], [np.cos(apart), -np.sin(apart)]]
    columns = [[1.0, 0.0, 0.0], *([np.cos(angle), *(np.sin(angle) * np.asarray(side))] for side in sides)]
    second = np.asarray([*columns, [0.0, 1.0, 0.0]]).T
    hidden = np.asarray([[0.5], [1e-6], [1e-6], [tail / 2.0]]) * np.ones((1, 2))
    return Instance(second, hidden, 1)


def activations(workload: Workload, units: int, *, signed: bool = False) -> Matrix:
    """Random features of a workload's points (units, examples), rectified unless they may be negative."""
    points = first_points(workload).numpy()[:24]
    points = points - points.mean(axis=0)
    points = points / np.where(points.std(axis=0) > 0.0, points.std(axis=0), 1.0)
    rng = np.random.default_rng(seed_of(workload))
    hidden = rng.standard_normal((units, points.shape[1])) @ points.T / np.sqrt(points.shape[1])
    return hidden if signed else np.maximum(hidden, 0.0)


def instances(workload: Workload, *, block: int = 1, signed: bool = False) -> list[Instance]:
    """Activations of a workload with sizes that decay, and maps from nearly orthonormal to coherent ones."""
    rng = np.random.default_rng(seed_of(workload))
    units, found = 8, []
    hidden = activations(workload, units * block, signed=signed)
    for kept, noise, power in itertools.product((1, 2), (0.01, 0.05, 0.12), (0.5, 2.0, 8.0)):
        width = units * block
        second = np.linalg.qr(rng.standard_normal((width + 2, width)))[0]
        second = second + noise * rng.standard_normal(second.shape)
        decay = np.repeat(rng.permutation(np.arange(1.0, units + 1.0)) ** -power, block)
        found.append(Instance(second, hidden * decay[:, None], kept, block))
    special = [masked(), collinear(0.1, 0.1), collinear(0.45, 0.3)]
    for one in special:
        second = np.asarray(np.kron(one.second, np.eye(block)), dtype=np.float64)
        found.append(Instance(second, np.repeat(one.hidden, block, axis=0), one.kept, block))
    return found


@dataclass(frozen=True)
class Worst:
    """Largest value over instances and over what evolves from the worst of them by mutation."""

    start: Sequence[Instance]
    value: Callable[[Instance], float]
    rounds: int = 12

    def __call__(self, rng: np.random.Generator) -> float:
        pool = [(self.value(one), one) for one in self.start]
        for _ in range(self.rounds):
            pool = sorted(pool, key=lambda pair: -pair[0])[:6]
            for _, parent in list(pool):
                for step in (0.01, 0.1):
                    child = mutated(parent, step, rng)
                    pool.append((self.value(child), child))
        return max(value for value, _ in pool)


def mutated(parent: Instance, step: float, rng: np.random.Generator) -> Instance:
    """A neighbour: the signs of activations stay, and so do zeros."""
    second = parent.second + step * rng.standard_normal(parent.second.shape) / np.sqrt(len(parent.second))
    factors = np.exp(10.0 * step * rng.standard_normal((len(parent.hidden), 1)))
    return replace(parent, second=second, hidden=parent.hidden * factors)


def pursuit_ratio(
    theorem: SummedPursuit | BlockPursuit,
    instance: Instance,
    sizes: Matrix,
    supports: Sequence[Flags],
    isometry: Isometry,
) -> float:
    """Largest ratio of what is missed, and of the residual, to their bounds over all iterations."""
    order = np.argsort(-sizes, kind="stable")
    top = np.zeros(instance.units, dtype=bool)
    top[order[: instance.kept]] = True
    head, tail = theorem.head(sizes, instance.kept), theorem.tail(sizes, instance.kept)
    worst = 0.0
    for t, support in enumerate(supports):
        if t == 0:
            continue  # nothing is kept yet, and the bound is attained
        bound = theorem.missed(isometry, head, tail, t)
        if np.isinf(bound):
            return 0.0
        seen = float(np.linalg.norm(sizes[top & ~support]))
        residual = float(np.linalg.norm(instance.left(~support)))
        scale = 1e-12 * head  # rounding of sums and of eigenvalues
        worst = max(worst, (seen - scale) / max(bound, scale))
        worst = max(worst, (residual - scale) / max(theorem.residual(isometry, bound, tail), scale))
    return worst
