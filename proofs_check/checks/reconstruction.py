"""Attacks on weights refitted to calibration inputs: B1, B2, B3 and B5.

Layers are fed rectified random features of a workload's points, filters the patches of images made of
them. For B1, B2 and B5 the worst weights of
a neuron are searched for; for B3 the worst input is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nn.edges import Magnitude
from nn.edges._paths import backward_paths, forward_paths
from nn.edges.feedback import Feedback, sweep
from nn.edges.obs import OBSBackward
from nn.edges.ols import OLSForward
from nn.guarantees.reconstruction import BackwardElimination, EveryInput, ForwardSelection, HardFeedback
from nn.method import Method
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._networks import exact_scenario, seed_of, usable
from proofs_check.checks._reconstruction import (
    Fed,
    Matrix,
    Order,
    Worst,
    eliminate,
    fed,
    feed_back,
    nested_errors,
    orthogonal,
    patched,
    pruned,
    small_units,
)
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

_WIDTH = 16  # edges a neuron
_LARGE_RIDGE = 3.0  # with which inputs are correlated so little that B2 says something
_SLACK = 1e-8  # relative rounding of squared errors: condition numbers reach 1e5 or so

B1, B2, B3, B5 = ForwardSelection(), BackwardElimination(), EveryInput(), HardFeedback()

Errors = Callable[[Fed, Matrix], Matrix]  # squared errors (neurons, m + 1) of weights (neurons, m)


def _selected(layer: Fed, weights: Matrix) -> Order:
    every = np.ones(weights.shape, dtype=bool)
    return forward_paths(layer.matrix, weights, every, weights.shape[1]).order


def _forward(layer: Fed, weights: Matrix) -> Matrix:
    return nested_errors(layer.matrix, weights, _selected(layer, weights))


def _by_weight(layer: Fed, weights: Matrix) -> Matrix:
    return nested_errors(layer.matrix, weights, np.argsort(-np.abs(weights), axis=1))


def _stale(layer: Fed, weights: Matrix) -> Matrix:
    gains = (weights @ layer.matrix) ** 2 / np.diagonal(layer.matrix)
    return nested_errors(layer.matrix, weights, np.argsort(-gains, axis=1))


def _not_refitted(layer: Fed, weights: Matrix) -> Matrix:
    order, left, errors = _selected(layer, weights), weights.copy(), [layer.squared(weights)]
    for edge in order.T:
        np.put_along_axis(left, edge[:, None], 0.0, axis=1)
        errors.append(layer.squared(left))
    return np.stack(errors, axis=1)


@dataclass(frozen=True, eq=False)
class Selected:
    """Errors of a path over the bound of B1, the largest along the path where the bound is below a level."""

    layer: Fed
    errors: Errors
    level: float = 1.0

    def __call__(self, weights: Matrix) -> Matrix:
        energies = self.layer.squared(weights)
        spread = B1.spread(weights, self.layer.gram.diagonal, energies)[:, None]
        # With no edge both sides are 1, and the search would see nothing else.
        bounds = B1.relative_squared_error(spread, np.arange(1, weights.shape[1] + 1))
        ratios = self.errors(self.layer, weights)[:, 1:] / energies[:, None] / bounds
        return np.asarray(np.where(bounds <= self.level, ratios, 0.0).max(axis=1)) * (1.0 - _SLACK)


@dataclass(frozen=True)
class FrontDoor:
    """What :func:`nn.prune` certifies, against the error of the weights that it returns.

    Parameters
    ----------
    workload : Workload
        The points that the network is fed features of.
    method : Method
        Of which the layer's certificate carries a bound.
    layer : Fed
        The inputs.
    refitted : bool
        Whether the new weights are used; if not, the old ones on the same support.
    """

    workload: Workload
    method: Method
    layer: Fed
    refitted: bool = True

    def __call__(self, rng: np.random.Generator) -> float:
        worst = 0.0
        # Contributions of one sign: errors of dropped edges add up.
        random = np.random.default_rng(seed_of(self.workload)).lognormal(sigma=0.5, size=(8, _WIDTH))
        weights = random / np.sqrt(np.diagonal(self.layer.matrix))
        for ratio in (0.2, 0.5, 0.8):
            plan = pruned(weights, self.method, self.layer, ratio)
            new = plan.weight.numpy() if self.refitted else weights * plan.keep.numpy()
            bound = plan.certificates[0].bound
            assert bound is not None
            seen = self.layer.squared(weights - new).sum() / self.layer.squared(weights).sum()
            worst = max(worst, float(seen * (1.0 - _SLACK) / bound))
        return worst


def _front_door(workload: Workload, method: Method, layer: Fed, *faults: tuple[str, str]) -> Scenario:
    broken = {fault: FrontDoor(workload, method, layer, refitted=False) for fault in faults}
    name = "front door" if layer.images is None else "front door, filters"
    return exact_scenario(workload, name, FrontDoor(workload, method, layer), broken)


def _forward_scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 5):
        linear, filters = fed(workload, _WIDTH), patched(workload)
        # Weights that nearly cancel come closest to the bound, but where that is near 1.
        cases = {"all bounds": (linear, 1.0), "bounds up to a half": (linear, 0.5), "filters": (filters, 0.5)}
        for name, (layer, level) in cases.items():
            honest = Worst(layer, Selected(layer, _forward, level))
            broken = {
                _BY_WEIGHT: Worst(layer, Selected(layer, _by_weight, level)),
                _STALE: Worst(layer, Selected(layer, _stale, level)),
                _NO_REFIT: Worst(layer, Selected(layer, _not_refitted, level)),
            }
            yield exact_scenario(workload, name, honest, broken)
        for layer in (linear, filters):
            yield _front_door(workload, OLSForward(layer.ridge), layer, _NO_REFIT)


Elimination = Callable[[Fed, Matrix], tuple[Matrix, Matrix]]  # errors and the sums claimed for them


def _backward(layer: Fed, weights: Matrix) -> tuple[Matrix, Matrix]:
    paths = backward_paths(layer.gram.inverse[0], weights, np.ones(weights.shape, dtype=bool))
    return nested_errors(layer.matrix, weights, paths.order), paths.errors


def _without_diagonal(layer: Fed, weights: Matrix) -> tuple[Matrix, Matrix]:
    order, sums = eliminate(layer.inverse, weights, lambda q, _: q**2)
    return nested_errors(layer.matrix, weights, order), sums


def _not_downdated(layer: Fed, weights: Matrix) -> tuple[Matrix, Matrix]:
    order, sums = eliminate(layer.inverse, weights, lambda q, d: q**2 / d, downdated=False)
    return nested_errors(layer.matrix, weights, order), sums


@dataclass(frozen=True, eq=False)
class Eliminated:
    """Errors of a path over the bound of B2, and their distance from the sums of removed saliencies."""

    layer: Fed
    path: Elimination
    uncorrelated: bool = False
    level: float = 1.0

    def __call__(self, weights: Matrix) -> Matrix:
        errors, sums = self.path(self.layer, weights)
        energies = self.layer.squared(weights)[:, None]
        m = weights.shape[1]
        bounds = np.asarray([B2.relative_squared_error(m, k, self._eigenvalue()) for k in range(1, m)])
        along = np.where(bounds <= self.level, errors[:, 1:m] / energies / bounds, 0.0)
        ratios = along.max(axis=1) * (1.0 - _SLACK)
        apart = (np.abs(errors - sums) / energies).max(axis=1)
        return np.asarray(np.where(apart > _SLACK, np.maximum(ratios, 1.0 + apart), ratios))

    def _eigenvalue(self) -> float:
        if self.uncorrelated:
            return 1.0
        roots = np.sqrt(np.diagonal(self.layer.matrix))
        return float(np.linalg.eigvalsh(self.layer.matrix / np.outer(roots, roots))[0])


def _backward_scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 4):
        usual, large = fed(workload, _WIDTH), fed(workload, _WIDTH, ridge=_LARGE_RIDGE)
        layers = {"usual ridge": (usual, 1.0), "orthogonal": (orthogonal(usual), 1.0)}
        layers["large ridge, bounds up to a half"] = (large, 0.5)
        filters = patched(workload, ridge=_LARGE_RIDGE)
        layers["filters, large ridge"] = (filters, 1.0)
        for name, (layer, level) in layers.items():
            broken = {
                _NO_DIAGONAL: Worst(layer, Eliminated(layer, _without_diagonal, level=level)),
                _NOT_DOWNDATED: Worst(layer, Eliminated(layer, _not_downdated, level=level)),
                _UNCORRELATED: Worst(layer, Eliminated(layer, _backward, uncorrelated=True, level=level)),
            }
            yield exact_scenario(
                workload, name, Worst(layer, Eliminated(layer, _backward, level=level)), broken
            )
        for layer in (large, filters):
            yield _front_door(workload, OBSBackward(_LARGE_RIDGE), layer)


Limits = Callable[[Fed, Matrix, Matrix], Matrix]  # for inputs (v, m) and changes (neurons, m): (neurons, v)


def _certified(layer: Fed, inputs: Matrix, changes: Matrix) -> Matrix:
    errors = layer.gram.squared_errors(changes[None])[0]
    return B3.error(layer.gram.leverages(inputs[None])[0], errors[:, None])


def _no_ridge(layer: Fed, inputs: Matrix, changes: Matrix) -> Matrix:
    errors = np.sum((changes @ layer.inputs.T) ** 2, axis=1)
    return B3.error(layer.gram.leverages(inputs[None])[0], errors[:, None])


def _not_inverted(layer: Fed, inputs: Matrix, changes: Matrix) -> Matrix:
    return B3.error(layer.gram.squared_errors(inputs[None])[0], layer.squared(changes)[:, None])


def _as_calibrated(layer: Fed, inputs: Matrix, changes: Matrix) -> Matrix:
    largest = np.abs(changes @ layer.inputs.T).max(axis=1)
    return np.broadcast_to(largest[:, None], (len(changes), len(inputs)))


@dataclass(frozen=True, eq=False)
class Changed:
    """Largest change of a neuron's output over its limit, on the worst inputs and on real ones.

    The worst input for the change v of the weights is H v. One for a limit with H in place of its
    inverse is H^-1 v.
    """

    layer: Fed
    changes: Matrix
    limits: Limits
    worst: bool = True

    def __call__(self, rng: np.random.Generator) -> float:
        layer, v = self.layer, self.changes
        inputs = [layer.fresh, layer.inputs]
        if self.worst:
            inputs += [_unit(v @ layer.matrix), _unit(v @ layer.inverse), _unit(v)]
            inputs += [_unit(rng.standard_normal((50, v.shape[1])))]
        found = 0.0
        for some in inputs:
            seen = np.abs(v @ some.T)
            # Sums of a few terms of either sign: rounding beside their absolute values.
            seen = np.maximum(seen - 1e-13 * (np.abs(v) @ np.abs(some).T), 0.0)
            found = max(found, float((seen * (1.0 - _SLACK) / self.limits(layer, some, v)).max()))
        return found


def _unit(vectors: Matrix) -> Matrix:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _changes(layer: Fed, method: Method, seed: int) -> Matrix:
    """Old weights minus new ones; the method may be any."""
    weights = np.random.default_rng(seed).standard_normal((8, _WIDTH))
    plan = pruned(weights, method, layer, 0.5)
    return np.asarray(weights - plan.weight.numpy())


def _every_input(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 5):
        linear, filters = small_units(fed(workload, _WIDTH)), small_units(patched(workload))
        cases: dict[str, tuple[Fed, Method]] = {
            "refitted": (linear, OLSForward()),
            "magnitude": (linear, Magnitude()),
            "filters, refitted": (filters, OLSForward()),
        }
        for name, (layer, method) in cases.items():
            changes = _changes(layer, method, seed_of(workload))
            broken = {
                _NO_RIDGE: Changed(layer, changes, _no_ridge),
                _NOT_INVERTED: Changed(layer, changes, _not_inverted),
                # On inputs like those of the calibration only: of no others could it be thought to speak.
                _CALIBRATED: Changed(layer, changes, _as_calibrated, worst=False),
            }
            yield exact_scenario(workload, name, Changed(layer, changes, _certified), broken)


Sweep = Callable[[Fed, Matrix, float], tuple[Matrix, Matrix]]


def _swept(layer: Fed, weights: Matrix, level: float) -> tuple[Matrix, Matrix]:
    new, scores = sweep(layer.gram, weights[None], lambda score, _: score >= level)
    return new[0], scores[0]


def _no_feedback(layer: Fed, weights: Matrix, level: float) -> tuple[Matrix, Matrix]:
    return feed_back(layer.rows, weights, level, sign=0.0)


def _wrong_sign(layer: Fed, weights: Matrix, level: float) -> tuple[Matrix, Matrix]:
    return feed_back(layer.rows, weights, level, sign=-1.0)


def _no_ridge_in_h(layer: Fed, weights: Matrix, level: float) -> tuple[Matrix, Matrix]:
    return feed_back(layer.rows, weights, level, squares=np.sum(layer.inputs**2, axis=0))


@dataclass(frozen=True, eq=False)
class Swept:
    """Errors of a sweep over both bounds of B5, the largest over thresholds and two orders of the edges."""

    layer: Fed
    run: Sweep

    def __call__(self, weights: Matrix) -> Matrix:
        backwards = Fed(self.layer.inputs[:, ::-1], self.layer.fresh, self.layer.ridge)
        # Neurons of one energy, so that one threshold suits them all.
        weights = weights / np.sqrt(self.layer.squared(weights))[:, None]
        both = [self._ratios(self.layer, weights), self._ratios(backwards, weights[:, ::-1])]
        return np.maximum(*both)

    def _ratios(self, layer: Fed, weights: Matrix) -> Matrix:
        worst = np.zeros(len(weights))
        for level in (0.03, 0.1, 0.3, 1.0):
            new, scores = self.run(layer, weights, level)
            dropped = new == 0.0
            errors = np.maximum(layer.squared(weights - new) - _SLACK, 0.0)
            by_scores = B5.squared_error(np.where(dropped, scores, 0.0))
            by_level = [B5.squared_error_from_threshold(level, int(count)) for count in dropped.sum(axis=1)]
            for bounds in (by_scores, np.asarray(by_level)):
                worst = np.maximum(worst, errors / np.maximum(bounds, 1e-300))
        return worst


def _feedback_scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 5):
        for name, layer in (("worst weights", fed(workload, _WIDTH)), ("filters", patched(workload))):
            broken = {
                _NO_FEEDBACK: _worst_sweep(layer, _no_feedback),
                _WRONG_SIGN: _worst_sweep(layer, _wrong_sign),
                _NO_RIDGE_IN_H: _worst_sweep(layer, _no_ridge_in_h),
            }
            yield exact_scenario(workload, name, _worst_sweep(layer, _swept), broken)
            yield _front_door(workload, Feedback(layer.ridge), layer, _NO_REFIT)


def _worst_sweep(layer: Fed, run: Sweep) -> Worst:
    return Worst(layer, Swept(layer, run), rounds=12)


_BY_WEIGHT = ("by weight alone", "edges are taken by |w|, whatever their inputs")
_STALE = ("correlations of the start", "edges are taken by their gains before the first step")
_NO_REFIT = ("not refitted", "the support is the right one, with the old weights")
_NO_DIAGONAL = ("no inverse diagonal", "the saliency is the squared weight alone")
_NOT_DOWNDATED = ("not downdated", "saliencies of the full H are removed and added up")
_UNCORRELATED = ("taken for uncorrelated", "the least eigenvalue is put at 1")
_NO_RIDGE = ("no ridge in the error", "the error is that on the inputs alone, the leverage has the ridge")
_NOT_INVERTED = ("H for its inverse", "the leverage is a^T H a")
_CALIBRATED = ("calibration error", "the largest change on the calibration inputs is quoted for fresh ones")
_NO_FEEDBACK = ("no feedback", "dropped contributions are not fed back")
_WRONG_SIGN = ("wrong sign", "dropped contributions are fed back with the wrong sign")
_NO_RIDGE_IN_H = ("no ridge in the division", "the residual is divided by squared lengths without the ridge")

CHECKS = (
    Check(
        B1,
        "worst weights by evolution, all sizes of the path",
        dict([_BY_WEIGHT, _STALE, _NO_REFIT]),
        _forward_scenarios,
    ),
    Check(
        B2,
        "worst weights by evolution, all sizes of the path",
        dict([_NO_DIAGONAL, _NOT_DOWNDATED, _UNCORRELATED]),
        _backward_scenarios,
    ),
    Check(
        B3,
        "the input that attains the bound, and fresh ones",
        dict([_NO_RIDGE, _NOT_INVERTED, _CALIBRATED]),
        _every_input,
    ),
    Check(
        B5,
        "worst weights by evolution, several thresholds, two orders",
        dict([_NO_FEEDBACK, _WRONG_SIGN, _NO_RIDGE_IN_H, _NO_REFIT]),
        _feedback_scenarios,
    ),
)
