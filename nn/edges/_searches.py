"""Error paths of whole layers, and plans from them: the common part of forward, backward and both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from coresets._validate import check_integer
from coresets.certificate import Certificate
from nn.budgets import Share
from nn.edges._allocation import spend, stacked
from nn.edges._paths import Paths, backward_paths, forward_paths, lower_envelope
from nn.edges._reconstruction import (
    Mask,
    Matrix,
    Target,
    evidence,
    notes_on,
    rebuilt,
    refitted,
    summary,
    targets,
)
from nn.guarantees.reconstruction import BackwardElimination, ForwardSelection
from nn.method import Decision, Problem
from nn.plans import LayerPlan
from nn.selection import Allocation, split_alive

__all__ = ["Searches", "check_widths", "decide"]

Counts = npt.NDArray[np.int64]

# Forward paths go this much further than the budget's share at first, and further where that turns out
# to be too short to prove an allocation.
_REACH = 2.5
_SHORT = 64  # paths of fewer edges are always computed in full
_GROWTH = 1.5

FORWARD = ForwardSelection()
BACKWARD = BackwardElimination()


@dataclass(frozen=True, eq=False)
class Searches:
    """Error paths of one layer, by one or both searches.

    Parameters
    ----------
    target : Target
        The layer.
    forward, backward : Paths or None
        At least one; rows are the neurons of all groups.
    """

    target: Target
    forward: Paths | None
    backward: Paths | None

    @classmethod
    def of(cls, target: Target, forward: bool, backward: bool, reach: float) -> Searches:
        """Run the searches, forward ones to ``reach`` times the number of edges at least."""
        m = target.weights.shape[2]
        steps = m if m <= _SHORT else min(m, max(_SHORT, int(np.ceil(reach * m))))
        every = np.arange(target.rows)
        return cls(
            target,
            _run_forward(target, every, steps) if forward else None,
            _run_backward(target) if backward else None,
        )

    @property
    def alive(self) -> Counts:
        """Number of edges that each neuron may keep."""
        return self.target.alive.sum(axis=2).reshape(-1)

    @property
    def lengths(self) -> Counts:
        """How far the error is known for each neuron."""
        if self.backward is not None:
            return self.backward.lengths
        assert self.forward is not None
        return self.forward.lengths

    @property
    def errors(self) -> Matrix:
        """The smaller error of the searches at each number of edges, (neurons, L + 1)."""
        if self.forward is None or self.backward is None:
            paths = self.forward or self.backward
            assert paths is not None
            return paths.errors
        return lower_envelope(self.forward, self.backward)[0]

    def extended(self, needed: Matrix) -> Searches:
        """The same, with forward paths as far as needed."""
        if self.forward is None:
            return self
        short = np.flatnonzero((self.forward.lengths < self.alive) & (self.forward.lengths < needed))
        if not len(short):
            return self
        m = self.target.weights.shape[2]
        steps = max(float(needed[short].max()), _GROWTH * float(self.forward.lengths[short].max()))
        longer = _run_forward(self.target, short, int(min(m, np.ceil(steps))))
        return replace(self, forward=self.forward.replaced(short, longer))

    def keep(self, counts: Counts) -> Mask:
        """Supports with so many edges, (groups, neurons, m)."""
        kept = np.zeros((self.target.rows, self.target.weights.shape[2]), dtype=bool)
        if self.forward is not None and self.backward is not None:
            use_second = lower_envelope(self.forward, self.backward)[1][np.arange(len(counts)), counts]
        else:
            use_second = np.full(len(counts), self.forward is None)
        for row, (count, second) in enumerate(zip(counts, use_second, strict=True)):
            paths = self.backward if second else self.forward
            assert paths is not None
            kept[row, paths.support(row, int(count))] = True
        return kept.reshape(self.target.weights.shape)

    def certificate(self, counts: Counts, achieved: float) -> Certificate:
        """The reached error beside the bound of the search's theorem."""
        target = self.target
        spread = FORWARD.spread(target.weights, target.gram.diagonal[:, None, :], target.energies).reshape(-1)
        energies = target.energies.reshape(-1)
        if self.forward is not None:
            bounds = FORWARD.relative_squared_error(spread, counts)
        else:
            bounds = self._backward_bounds(counts)
        rho = float(energies @ spread) / target.scale
        return evidence(target, achieved, float(energies @ bounds) / target.scale, {"rho": rho})

    def _backward_bounds(self, counts: Counts) -> Matrix:
        bounds = np.ones(len(counts))
        neurons = self.target.weights.shape[1]
        for group, matrix in enumerate(self.target.gram.matrix):
            roots = np.sqrt(np.diagonal(matrix))
            least = float(np.linalg.eigvalsh(matrix / np.outer(roots, roots))[0])
            for row in range(group * neurons, (group + 1) * neurons):
                bounds[row] = BACKWARD.relative_squared_error(int(self.alive[row]), int(counts[row]), least)
        return bounds


def _run_forward(target: Target, rows: Counts, steps: int) -> Paths:
    neurons = target.weights.shape[1]
    parts = []
    for group, matrix in enumerate(target.gram.matrix):
        own = rows[(rows >= group * neurons) & (rows < (group + 1) * neurons)] - group * neurons
        if len(own):
            parts.append(forward_paths(matrix, target.weights[group][own], target.alive[group][own], steps))
    return _joined(parts)


def _run_backward(target: Target) -> Paths:
    inverses = target.gram.inverse
    return _joined(
        [backward_paths(inverses[g], target.weights[g], target.alive[g]) for g in range(len(inverses))]
    )


def _joined(parts: Sequence[Paths]) -> Paths:
    return Paths(
        np.concatenate([p.order for p in parts]),
        np.concatenate([p.errors for p in parts]),
        np.concatenate([p.lengths for p in parts]),
    )


def check_widths(problem: Problem, method: object, max_edges: int) -> None:
    """Refuse layers whose paths would take very long.

    Raises
    ------
    ValueError
        If a neuron has more than ``max_edges`` edges.
    """
    check_integer(max_edges, "max_edges", at_least=1)
    for name, layer in problem.layers.items():
        if layer.shape[2] > max_edges:
            raise ValueError(
                f"layer {name!r} has {layer.shape[2]} edges a neuron, and error paths take time with the "
                f"third power of that; use Refit(Feedback()) for such layers, or pass "
                f"max_edges={layer.shape[2]} to {type(method).__name__}"
            )


def decide(
    problem: Problem,
    method: object,
    searches: tuple[bool, bool],
    ridge: float,
    allocation: Allocation,
) -> Decision:
    """Run (forward, backward) searches, spend the budget along their paths, and refit.

    Relative errors of layers, each over the layer's own energy, compete inside the shares that the
    allocation makes.
    """
    layers = targets(problem, method, ridge)
    plans: dict[str, LayerPlan] = {}
    errors: dict[str, float] = {}
    least = 0.0
    for share in problem.shares:
        for part in split_alive(allocation, share, problem.sizes, problem.alive):
            found, counts, bound = _spent(part, {name: layers[name] for name in part.layers}, searches)
            least += bound
            for name, search in found.items():
                keep = search.keep(counts[name])
                new = rebuilt(search.target, keep, refitted(search.target, keep))
                errors[name] = new.relative_error
                plans[name] = new.plan(search.certificate(counts[name], new.relative_error))
    return Decision(
        {name: plans[name] for name in problem.layers},
        (summary(errors, least),),
        notes_on(list(layers.values())),
    )


def _spent(
    share: Share, layers: dict[str, Target], which: tuple[bool, bool]
) -> tuple[dict[str, Searches], dict[str, Counts], float]:
    """Paths of the share's layers, counts of edges for each of their neurons, and the least error."""
    total = sum(target.weights.size for target in layers.values())
    reach = _REACH * share.count / total
    progress = tqdm(layers.items(), desc="error paths", unit="layer", disable=None, delay=2.0, leave=False)
    found = {name: Searches.of(target, *which, reach) for name, target in progress}
    count = min(share.count, sum(int(target.alive.sum()) for target in layers.values()))
    ends = np.cumsum([target.rows for target in layers.values()])[:-1]
    while True:
        errors = stacked([s.errors / s.target.scale for s in found.values()], np.inf)
        spent = spend(errors, np.concatenate([s.lengths for s in found.values()]), count)
        needed = np.full(len(errors), np.inf) if spent is None else spent.needed
        grown = {
            name: search.extended(part)
            for (name, search), part in zip(found.items(), np.split(needed, ends), strict=True)
        }
        if spent is not None and all(grown[name] is found[name] for name in found):
            counts = dict(zip(found, np.split(spent.counts, ends), strict=True))
            return found, counts, spent.least
        found = grown
