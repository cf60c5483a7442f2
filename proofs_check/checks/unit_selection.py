"""Attacks on units that are chosen greedily by what they add: B1-U and GF.

Units have several columns that are nearly alike, as the positions of a kernel window have. The worst
weights are searched for, and every error is recomputed from the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nn.budgets import KeepRatio
from nn.guarantees.greedy import GreedyHull, UnitSelection
from nn.neurons._elimination import UnitRegression, forward_path
from nn.neurons.greedy import greedy_mean, term_probabilities
from nn.neurons.group_ols import GroupOLS, Reconstruction
from nn.pruning import plan
from nn.selection import Uniform
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks._networks import exact_scenario, seed_of, usable
from proofs_check.checks._reconstruction import Fed, Matrix, Order, Worst, fed, nested_errors
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

_UNITS, _COLUMNS = 6, 3
_HIDDEN = 12  # units of the network that goes through the front door
_SLACK = 1e-8  # relative rounding of squared errors
_ROUNDS = 4  # of the search for the worst weights
_STEPS = (1, 2, 5, 12)

SELECTION, HULL = UnitSelection(), GreedyHull()

Choice = Callable[[Fed, Matrix], Order]  # for weights (m,): units in the order in which they are added


def _alike(workload: Workload) -> Fed:
    """Inputs in which the columns of one unit are nearly alike."""
    base, own = fed(workload, _UNITS), fed(workload, _UNITS * _COLUMNS)
    rng = np.random.default_rng(seed_of(workload))
    signs = rng.choice([-1.0, 1.0], size=_UNITS * _COLUMNS)

    def joined(shared: Matrix, single: Matrix) -> Matrix:
        spread = 0.3 * shared.std(axis=0).repeat(_COLUMNS) / np.maximum(single.std(axis=0), 1e-300)
        return np.asarray(signs * (np.repeat(shared, _COLUMNS, axis=1) + spread * single))

    return Fed(joined(base.inputs, own.inputs), joined(base.fresh, own.fresh), base.ridge)


def _by_columns(units: Order) -> Order:
    """Columns of units, in their order."""
    return np.asarray((units[:, None] * _COLUMNS + np.arange(_COLUMNS)).reshape(-1))


def _selected(layer: Fed, weights: Matrix) -> Order:
    return forward_path([UnitRegression(layer.matrix, weights[:, None], _COLUMNS)], _UNITS).order


def _greedy(layer: Fed, weights: Matrix, gain: Callable[[Matrix, Matrix], Matrix]) -> Order:
    """Forward selection by any gain of (residual correlations, reduced H), all units at once."""
    order: list[int] = []
    correlations, reduced = layer.matrix @ weights, layer.matrix.copy()
    for _ in range(_UNITS):
        values = gain(correlations, reduced)
        values[order] = -np.inf
        unit = int(np.argmax(values))
        order.append(unit)
        own = slice(unit * _COLUMNS, (unit + 1) * _COLUMNS)
        solved = np.linalg.solve(reduced[own, own], np.column_stack([correlations[own], reduced[own]]))
        correlations = correlations - reduced[:, own] @ solved[:, 0]
        reduced = reduced - reduced[:, own] @ solved[:, 1:]
        left = np.arange(len(weights))[own]
        reduced[left, left] = 1.0  # of a unit that is gone only rounding is left
    return np.asarray(order)


def _diagonal(layer: Fed, weights: Matrix) -> Order:
    def gain(correlations: Matrix, reduced: Matrix) -> Matrix:
        return np.asarray((correlations**2 / np.diagonal(reduced)).reshape(_UNITS, _COLUMNS).sum(axis=1))

    return _greedy(layer, weights, gain)


def _by_inputs(layer: Fed, weights: Matrix) -> Order:
    return np.argsort(-np.diagonal(layer.matrix).reshape(_UNITS, _COLUMNS).sum(axis=1))


def _stale(layer: Fed, weights: Matrix) -> Order:
    correlations = (layer.matrix @ weights).reshape(_UNITS, _COLUMNS, 1)
    units = np.arange(_UNITS)
    blocks = layer.matrix.reshape(_UNITS, _COLUMNS, _UNITS, _COLUMNS)[units, :, units, :]
    gains = np.sum(correlations * np.linalg.solve(blocks, correlations), axis=(1, 2))
    return np.argsort(-gains)


def _norms(layer: Fed, weights: Matrix) -> Matrix:
    """a_u, from the rows."""
    added = (layer.rows * weights).reshape(len(layer.rows), _UNITS, _COLUMNS).sum(axis=2)
    return np.asarray(np.linalg.norm(added, axis=0))


@dataclass(frozen=True, eq=False)
class Selected:
    """Errors of a path over the bound of B1-U, and what each step has to gain over what it gains."""

    layer: Fed
    order: Choice
    refitted: bool = True

    def __call__(self, weights: Matrix) -> Matrix:
        return np.asarray([self._ratio(one) for one in weights])

    def _ratio(self, weights: Matrix) -> float:
        energy = float(self.layer.squared(weights[None])[0])
        norms = _norms(self.layer, weights)
        errors = self._errors(weights)
        bounds = SELECTION.relative_squared_error(SELECTION.spread(norms, energy), np.arange(1, _UNITS + 1))
        ratio = float((errors[1:] / energy / bounds).max())
        # Below this what is left of the error is rounding, which need not obey anything.
        large = errors[:-1] > 1e-6 * energy
        gains = np.maximum(errors[:-1] - errors[1:], 1e-300)
        steps = np.where(large, SELECTION.least_gain(norms, errors[:-1]) / gains, 0.0)
        return max(ratio, min(float(steps.max()), 1e6)) * (1.0 - _SLACK)

    def _errors(self, weights: Matrix) -> Matrix:
        order = _by_columns(self.order(self.layer, weights))
        if self.refitted:
            return nested_errors(self.layer.matrix, weights[None], order[None])[0][::_COLUMNS]
        left, errors = weights.copy(), [self.layer.squared(weights[None])[0]]
        for own in order.reshape(_UNITS, _COLUMNS):
            left[own] = 0.0
            errors.append(self.layer.squared(left[None])[0])
        return np.asarray(errors)


@dataclass(frozen=True)
class FrontDoor:
    """What a plan certifies, against the error of the weights and biases that it has.

    Parameters
    ----------
    workload : Workload
        The points that the network is fed.
    weights, biases : bool
        Whether the plan's new values are used; if not, the old ones.
    """

    workload: Workload
    weights: bool = True
    biases: bool = True

    def __call__(self, rng: np.random.Generator) -> float:
        layer = fed(self.workload, _HIDDEN)
        inputs = torch.from_numpy(layer.inputs)
        first = torch.nn.Linear(_HIDDEN, _HIDDEN, dtype=torch.float64)
        second = torch.nn.Linear(_HIDDEN, 4, dtype=torch.float64)
        random = np.random.default_rng(seed_of(self.workload))
        old = random.lognormal(sigma=0.5, size=(4, _HIDDEN)) / np.sqrt(np.diagonal(layer.matrix))
        with torch.no_grad():  # the consumer sees the inputs as they are
            first.weight.copy_(torch.eye(_HIDDEN, dtype=torch.float64))
            first.bias.zero_()
            second.weight.copy_(torch.from_numpy(old))
        network = torch.nn.Sequential(first, torch.nn.ReLU(), second)
        method = GroupOLS(Reconstruction(layer.ridge, sequential=False), Uniform())
        centred = layer.inputs - layer.inputs.mean(axis=0)
        ridge = layer.ridge * float(np.mean(centred**2) * len(centred))
        worst = 0.0
        for ratio in (0.25, 0.5, 0.75):
            found = plan(network, method, KeepRatio(ratio), calibration=[inputs])
            keep = found.groups["0"].keep.numpy()
            new = (found.updates["2.weight"].numpy() if self.weights else old) * keep
            bias = found.updates["2.bias"].detach().numpy() if self.biases else second.bias.detach().numpy()
            change = layer.inputs @ (new - old).T + bias - second.bias.detach().numpy()
            energy = float(np.sum((centred @ old.T) ** 2) + ridge * np.sum(old**2))
            seen = (np.sum(change**2) + ridge * np.sum((new - old) ** 2)) / energy
            bound = found.groups["0"].certificates[0].bound
            assert bound is not None
            worst = max(worst, float(seen * (1.0 - _SLACK) / bound))
        return worst


def _selection_scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        layer = _alike(workload)
        broken = {
            _DIAGONAL: _worst(layer, Selected(layer, _diagonal)),
            _BY_INPUTS: _worst(layer, Selected(layer, _by_inputs)),
            _STALE: _worst(layer, Selected(layer, _stale)),
            _PRUNED_TARGETS: _worst(layer, Selected(layer, _selected, refitted=False)),
        }
        yield exact_scenario(workload, "worst weights", _worst(layer, Selected(layer, _selected)), broken)
        faults = {
            _PRUNED_TARGETS: FrontDoor(workload, weights=False),
            _OLD_BIAS: FrontDoor(workload, biases=False),
        }
        yield exact_scenario(workload, "front door", FrontDoor(workload), faults)


def _worst(layer: Fed, ratios: Callable[[Matrix], Matrix]) -> Worst:
    return Worst(layer, ratios, rounds=_ROUNDS)


Factors = Callable[[Matrix, Matrix, int], Matrix]  # for K, p and n: new weights of units over the old ones


def _counted(products: Matrix, probabilities: Matrix, steps: int) -> Matrix:
    return greedy_mean(products, probabilities, len(products), steps).factors


def _undivided(products: Matrix, probabilities: Matrix, steps: int) -> Matrix:
    found = greedy_mean(products, probabilities, len(products), steps)
    return found.factors * found.steps


def _unscaled(products: Matrix, probabilities: Matrix, steps: int) -> Matrix:
    found = greedy_mean(products, probabilities, len(products), steps)
    return np.asarray(found.counts / found.steps)


def _old_weights(products: Matrix, probabilities: Matrix, steps: int) -> Matrix:
    return (_counted(products, probabilities, steps) > 0.0).astype(np.float64)


def _first_term(products: Matrix, probabilities: Matrix, steps: int) -> Matrix:
    return _counted(products, probabilities, 1)


@dataclass(frozen=True, eq=False)
class Averaged:
    """Squared errors of greedy means over the bound of GF, for a target in the hull."""

    layer: Fed
    factors: Factors
    equal: bool

    def __call__(self, weights: Matrix) -> Matrix:
        return np.asarray([self._ratio(one) for one in weights])

    def _ratio(self, weights: Matrix) -> float:
        terms = self.layer.inputs * weights
        products = terms.T @ terms
        probabilities = term_probabilities(products, equal=self.equal)
        target = terms.sum(axis=1)
        variance = HULL.variance(np.sum(terms**2, axis=0), float(target @ target), probabilities)
        rounding = _SLACK * float(np.sum(np.linalg.norm(terms, axis=0)) ** 2)
        worst = 0.0
        for steps in _STEPS:
            error = float(np.sum((terms @ (self.factors(products, probabilities, steps) - 1.0)) ** 2))
            worst = max(worst, error / (HULL.squared_error(variance, steps) + rounding))
        return worst


@dataclass(frozen=True, eq=False)
class Outside:
    """The same for a target outside the hull: the excess over the error of a convex combination.

    The steps are taken here, with the vectors themselves; the code has only targets inside.
    """

    layer: Fed
    halved: bool = False

    def __call__(self, weights: Matrix) -> Matrix:
        return np.asarray([self._ratio(one) for one in weights])

    def _ratio(self, weights: Matrix) -> float:
        terms = (self.layer.inputs * weights).T
        centre = terms.mean(axis=0)
        target = 2.0 * centre + terms[0]
        variance = float(np.mean(np.sum((terms - centre) ** 2, axis=1)))
        least = float(np.sum((centre - target) ** 2))
        rounding = _SLACK * float(np.sum(terms**2))
        mean, worst = np.zeros_like(target), 0.0
        for step in range(1, max(_STEPS) + 1):
            share = 0.5 if self.halved and step > 1 else 1.0 / step
            options = (1.0 - share) * mean + share * terms
            mean = options[int(np.argmin(np.sum((options - target) ** 2, axis=1)))]
            excess = float(np.sum((mean - target) ** 2)) - least
            worst = max(worst, excess / (HULL.excess(variance, step) + rounding))
        return worst


def _hull_scenarios(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        layer = fed(workload, 2 * _UNITS)
        for name, equal in (("equal", True), ("by length", False)):
            broken = {
                _UNDIVIDED: _worst(layer, Averaged(layer, _undivided, equal)),
                _UNSCALED: _worst(layer, Averaged(layer, _unscaled, equal)),
                _OLD_WEIGHTS: _worst(layer, Averaged(layer, _old_weights, equal)),
                _ONE_STEP: _worst(layer, Averaged(layer, _first_term, equal)),
            }
            yield exact_scenario(workload, name, _worst(layer, Averaged(layer, _counted, equal)), broken)
        halved = {_HALVED: _worst(layer, Outside(layer, halved=True))}
        yield exact_scenario(workload, "outside", _worst(layer, Outside(layer)), halved)


_DIAGONAL = ("diagonal gain", "columns of a unit are taken as if they were uncorrelated")
_BY_INPUTS = ("inputs alone", "units are taken by their activations, whatever is read of them")
_STALE = ("stale gains", "gains are computed once and not updated after a step")
_PRUNED_TARGETS = ("pruned targets", "kept weights are fitted to what they already give, and so stay")
_OLD_BIAS = ("wrong constant", "weights are fitted beside a constant, and the old bias is kept")
_UNDIVIDED = ("not divided by n", "counts are taken as weights without dividing by their number")
_UNSCALED = ("not divided by p", "counts over n are taken as weights, as if the sum were a mean")
_OLD_WEIGHTS = ("old weights", "units that were chosen keep their weights")
_HALVED = ("steps of one half", "every step gives the new term half of the weight, and not 1 / n")
_ONE_STEP = ("first term only", "n is claimed and one step done")

_SEARCHED = "worst weights: special, random, then evolved"

CHECKS = (
    Check(
        UnitSelection(),
        _SEARCHED,
        dict([_DIAGONAL, _BY_INPUTS, _STALE, _PRUNED_TARGETS, _OLD_BIAS]),
        _selection_scenarios,
    ),
    Check(
        GreedyHull(),
        _SEARCHED,
        dict([_UNDIVIDED, _UNSCALED, _OLD_WEIGHTS, _ONE_STEP, _HALVED]),
        _hull_scenarios,
    ),
)
