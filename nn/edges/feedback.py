"""Thresholding with error feedback: reconstruction for large layers.

Edges are visited once, those with long input columns first. Before an edge is decided on, the error
that the decisions so far have caused is projected on its input and added to its weight, so that a
kept weight takes over what it can of those dropped. An edge is dropped if its contribution after
that is below a threshold; by Pythagoras only these contributions add to the squared error (theorem
B5). It chooses worse than the error paths of :mod:`nn.edges.ols`, but a sweep is a few matrix
products, 2 m^2 flops a neuron of m edges; about ten sweeps find the threshold that fits the budget.

A support found in this way gains by a refit: ``Refit(Feedback())``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from coresets._validate import check_integer
from nn.budgets import Share
from nn.edges._reconstruction import Mask, Matrix, Target, evidence, notes_on, rebuilt, summary, targets
from nn.gram import Gram, check_ridge
from nn.guarantees.reconstruction import HardFeedback
from nn.method import Decision, Problem
from nn.plans import LayerPlan
from nn.selection import Allocation, Global, keep_best, refuse_ranking, split_alive

__all__ = ["Feedback", "sweep"]

_BLOCK = 64  # edges between two updates of the fed-back error by a matrix product

THEOREM = HardFeedback()


def sweep(gram: Gram, weights: Matrix, keep: Callable[[Matrix, slice], Mask]) -> tuple[Matrix, Matrix]:
    """One pass of thresholding with feedback over all neurons of a layer.

    Parameters
    ----------
    gram : Gram
        H of the layer's inputs.
    weights : array of shape (groups, neurons, m)
        w, in the order in which edges are visited; so is H.
    keep : callable
        Given scores |z_j| sqrt(h_j) of shape (groups, neurons, 1) and the place of j as a slice,
        which edges to keep.

    Returns
    -------
    weights : array of shape (groups, neurons, m)
        q: the fed-back value where kept, 0 elsewhere.
    scores : array of shape (groups, neurons, m)
        |z_j| sqrt(h_j).
    """
    matrix, h = gram.matrix, gram.diagonal
    m = weights.shape[2]
    new, scores = np.empty_like(weights), np.empty_like(weights)
    # Inner products <X_j, u> of the inputs with the error of the decisions made so far.
    fed = np.zeros_like(weights)
    for start in range(0, m, _BLOCK):
        block = slice(start, min(m, start + _BLOCK))
        for j in range(block.start, block.stop):
            here, later = slice(j, j + 1), slice(j + 1, block.stop)
            z = weights[:, :, here] + fed[:, :, here] / h[:, None, here]
            scores[:, :, here] = np.abs(z) * np.sqrt(h[:, None, here])
            new[:, :, here] = np.where(keep(scores[:, :, here], here), z, 0.0)
            fed[:, :, later] += (weights[:, :, here] - new[:, :, here]) * matrix[:, here, later]
        after = slice(block.stop, m)
        fed[:, :, after] += (weights[:, :, block] - new[:, :, block]) @ matrix[:, block, after]
    return new, scores


class _Sorted:
    """A target with the edges of each group in decreasing order of h."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._order = np.argsort(-target.gram.diagonal, axis=1, kind="stable")
        self._back = np.argsort(self._order, axis=1)
        rows = np.take_along_axis(target.gram.matrix, self._order[:, :, None], axis=1)
        matrix = np.take_along_axis(rows, self._order[:, None, :], axis=2)
        self._gram = Gram(matrix, target.gram.vectors, target.gram.ridge)
        self._weights = self._there(target.weights)
        self._alive: Mask = self._there(target.alive)

    def _there(self, values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, self._order[:, None, :], axis=2)

    def _returned(self, values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, self._back[:, None, :], axis=2)

    def threshold(self, level: float) -> Matrix:
        """Scores over the root of the layer's energy, minus infinity where dropped at ``level``."""
        root = math.sqrt(self.target.scale)
        _, scores = sweep(
            self._gram,
            self._weights,
            lambda score, place: (score >= level * root) & self._alive[:, :, place],
        )
        relative = scores / root
        return self._returned(np.where(self._alive & (relative >= level), relative, -np.inf))

    def decided(self, keep: Mask) -> tuple[Matrix, Matrix]:
        """Weights for a support, and the scores of what it drops; 0 elsewhere."""
        there = self._there(keep)
        new, scores = sweep(self._gram, self._weights, lambda _, place: there[:, :, place])
        # What is not alive weighs nothing: it is neither kept nor dropped.
        dropped = np.where(self._alive & ~there, scores, 0.0)
        return self._returned(new), self._returned(dropped)


@dataclass(frozen=True)
class Feedback:
    """Keep what exceeds a threshold while the errors of dropped edges are fed back to later ones.

    Needs calibration data. The threshold applies to contributions relative to the layer's energy, and
    is the same for all layers that compete. Each layer's certificate has the relative squared error
    that was reached and the bound of theorem B5, the sum of the dropped contributions; see
    :class:`~nn.guarantees.reconstruction.HardFeedback`.

    Parameters
    ----------
    ridge : float
        See :class:`~nn.edges.ols.OLSForward`.
    allocation : Allocation
        Which layers compete.
    sweeps : int
        Sweeps at most in the search for the threshold; what is then still above the budget is dropped
        by score.

    References
    ----------
    Lybrand and Saab 2021, a greedy algorithm for quantizing neural networks.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.feedback import Feedback
    >>> pruned = prune(torch.nn.Linear(20, 10), Feedback(), KeepRatio(0.3), calibration=[torch.rand(99, 20)])
    >>> pruned.plan.kept
    60
    """

    ridge: float = 0.01
    allocation: Allocation = Global()
    sweeps: int = 12

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", check_ridge(self.ridge))
        refuse_ranking(self.allocation, self)
        check_integer(self.sweeps, "sweeps", at_least=1)

    def decide(self, problem: Problem) -> Decision:
        """Search the threshold, then sweep once more with the support that meets the budget."""
        layers = targets(problem, self, self.ridge)
        plans: dict[str, LayerPlan] = {}
        errors: dict[str, float] = {}
        for share in problem.shares:
            for part in split_alive(self.allocation, share, problem.sizes, problem.alive):
                visited = {name: _Sorted(layers[name]) for name in part.layers}
                for name, keep in self._supports(problem, part, visited).items():
                    plans[name], errors[name] = _finished(visited[name], keep)
        return Decision(
            {name: plans[name] for name in problem.layers},
            (summary(errors),),
            notes_on(list(layers.values())),
        )

    def _supports(self, problem: Problem, share: Share, visited: Mapping[str, _Sorted]) -> dict[str, Mask]:
        """Supports with exactly the share's count."""
        best = self._scores(share.count, visited)
        scores = {n: problem.layers[n].like_weight(torch.from_numpy(s)) for n, s in best.items()}
        masks = keep_best(scores, share, problem.alive)
        return {name: problem.layers[name].matrix(mask).cpu().numpy() for name, mask in masks.items()}

    def _scores(self, count: int, visited: Mapping[str, _Sorted]) -> dict[str, Matrix]:
        """Scores at the threshold that keeps the fewest edges, but no fewer than the count."""

        def at(level: float) -> tuple[dict[str, Matrix], int]:
            scores = {name: layer.threshold(level) for name, layer in visited.items()}
            return scores, sum(int(np.isfinite(s).sum()) for s in scores.values())

        best, kept = at(0.0)
        if kept <= count:
            return best
        # Without feedback a threshold between the scores would do; feedback makes scores grow.
        joined = np.sort(np.concatenate([s[np.isfinite(s)] for s in best.values()]))[::-1]
        low, high, level = 0.0, math.inf, float(joined[count - 1])
        for _ in range(self.sweeps):
            if not level > low:
                break
            scores, now = at(level)
            if now >= count:
                low = level
                if now < kept:
                    best, kept = scores, now
            else:
                high = level
            if kept == count:
                break
            level = _next(level, low, high)
        return best


def _next(level: float, low: float, high: float) -> float:
    """Next threshold to try, given one that keeps too many and one that keeps too few."""
    if high == math.inf:
        return 1.5 * level
    return math.sqrt(low * high) if low > 0.0 else level / 1.5


def _finished(layer: _Sorted, keep: Mask) -> tuple[LayerPlan, float]:
    target = layer.target
    weights, dropped = layer.decided(keep)
    new = rebuilt(target, keep, weights)
    bound = float(THEOREM.squared_error(dropped).sum()) / target.scale
    threshold = float(dropped.max(initial=0.0))
    certificate = evidence(target, new.relative_error, bound, {"threshold": threshold})
    return new.plan(certificate), new.relative_error
