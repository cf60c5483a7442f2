"""CoreNet: draw each neuron's edges in proportion to their sensitivities, and reweight them.

Published by Baykal, Liebenwein, Gilitschenski, Feldman and Rus (2019), without the constants that its theorem
asks for when there is a budget: those exceed the size of any real network by many orders of magnitude
(:meth:`CoreNet.sizes` shows them; C2 is about its condition numbers). The proportions between the sides of
a layer are the theorem's.

Its refinements are choices here, each on its own: sure inclusion of sensitive edges comes with every
sampler but the published one (Q3, Q4); a side of which nothing would be saved is kept as it is;
:class:`Amplification` keeps the best of several draws; and units that are dead in the end are taken out,
exactly, by :func:`~nn.edges.dead_units.without_dead_units`, which is for the outcome of any method.

Cost: one pass over the data (:mod:`nn.sensitivities`) and one draw a side; with amplification some thirty
draws and a second pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coresets._validate import check_open_unit
from coresets.accuracy import Accuracy
from coresets.samplers import FixedSize, Sampler
from nn.allocation import bounded_shares, rounded
from nn.budgets import Share
from nn.calibration import Calibration, observe
from nn.certify.search import refuse_overlap
from nn.edges._amplify import SideErrorCollector
from nn.edges._promises import Sparsified, Transfer, promise
from nn.edges._sides import Drawn, Sides, as_plan, draw, settle
from nn.guarantees.corenet import AmplifiedSide, CoreNetConstants, CoreNetSide
from nn.layers import EdgeLayer, find_layers
from nn.method import Decision, Problem
from nn.selection import Allocation, Uniform, refuse_ranking, split_alive
from nn.sensitivities import EdgeSensitivities, collect_sensitivities

__all__ = ["Amplification", "CoreNet", "TheoreticalSize"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Amplification:
    """Keep the best of several draws of every side, judged on fresh inputs.

    Parameters
    ----------
    data : iterable of batches
        Inputs that the sensitivities have not seen; see :class:`~nn.calibration.Calibration`.
    delta : float
        Probability of failure, which sets the number of draws (29 at 0.1).

    Notes
    -----
    Memory is that of the weights times the number of draws.
    The theorem about the mean error of the chosen draw (AMP) is for draws with replacement; it is not
    what certificates quote, which bound all draws at once and so the chosen one, for any sampler.
    """

    data: Any = field(repr=False)
    delta: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))
        object.__setattr__(self, "data", Calibration.of(self.data))

    @property
    def candidates(self) -> int:
        """How many draws."""
        return AmplifiedSide().candidates(self.delta)


@dataclass(frozen=True, slots=True)
class TheoreticalSize:
    """What the theorem asks for in one layer.

    Parameters
    ----------
    edges : int
        Weights of the layer.
    draws : float
        Draws in all its sides; a float, since it may exceed every integer type.
    error : float
        eps_l, the error that each side is allowed.
    total_sensitivity : float
        Sum over its sides.
    """

    edges: int
    draws: float
    error: float
    total_sensitivity: float

    @property
    def vacuous(self) -> bool:
        """Whether the theorem asks for at least as many draws as there are weights."""
        return self.draws >= self.edges


@dataclass(frozen=True)
class CoreNet:
    """Importance sampling of every neuron's edges.

    Parameters
    ----------
    sampler : Sampler
        :class:`~coresets.samplers.FixedSize` meets every side's count;
        :class:`~coresets.samplers.IID` is the published one, and
        :class:`~coresets.samplers.Hybrid` adds sure inclusion to it. Where counts are met on average
        only, edges that matter least are removed or added until the budget is met.
    allocation : Allocation
        How a budget is divided among layers: in the same ratio by default. With
        :class:`~nn.selection.Global` the theorem's sizes divide it, too; since these fall by a factor of ten
        thousand or so from layer to layer, the last layers then get nothing.
    accuracy : Accuracy
        Epsilon and delta of the theorem; delta is also that of the a priori error.
    amplification : Amplification, optional
        Keep the best of several draws.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.corenet import CoreNet
    >>> layer, data = torch.nn.Linear(20, 10), [torch.rand(64, 20)]
    >>> pruned = prune(layer, CoreNet(), KeepRatio(0.25), calibration=data, rng=0)
    >>> int((pruned.model.weight != 0).sum())
    50
    """

    sampler: Sampler = field(default_factory=FixedSize)
    allocation: Allocation = Uniform()
    accuracy: Accuracy = Accuracy(0.5, 0.1)
    amplification: Amplification | None = None

    def __post_init__(self) -> None:
        refuse_ranking(self.allocation, self)

    def decide(self, problem: Problem) -> Decision:
        """Measure sensitivities, divide the budget, and draw."""
        data, rng = problem.data(self), problem.randomness(self)
        if self.amplification is not None:
            refuse_overlap(data, self.amplification.data)
        layers = problem.layers
        found = collect_sensitivities(problem.network, layers, data, conditions=True)
        constants = _constants(layers, self.accuracy)
        sides = {name: Sides.of(layer, found[name], problem.alive[name]) for name, layer in layers.items()}
        errors = _layer_errors(found, constants)
        drawn: dict[str, Drawn] = {}
        for share in problem.shares:
            for part in split_alive(self.allocation, share, problem.sizes, problem.alive):
                own = {name: sides[name] for name in part.layers}
                counts = _counts(own, part, errors)
                chosen = self._draw(problem, own, counts, rng)
                drawn |= settle(own, chosen, min(part.count, sum(int(s.alive.sum()) for s in own.values())))
        transfer = Transfer(max(1.0, constants.factor), constants.factor)
        conditions = {name: _mean_condition(one) + constants.kappa for name, one in found.items()}
        made = {name: Sparsified(sides[name], drawn[name], found[name]) for name in layers}
        promised = promise(made, conditions, transfer, self.accuracy.delta, self._candidates)
        plans = {
            name: as_plan(layers[name], one.drawn.factors, (promised.layers[name],))
            for name, one in made.items()
        }
        return Decision(plans, (promised.network,), (*promised.notes, *_notes(found, constants)))

    @property
    def _candidates(self) -> int:
        return 1 if self.amplification is None else self.amplification.candidates

    def _draw(
        self,
        problem: Problem,
        sides: Mapping[str, Sides],
        counts: Mapping[str, Counts],
        rng: np.random.Generator,
    ) -> dict[str, Drawn]:
        """One draw of every layer, or the best of several, side by side."""
        children = rng.spawn(len(sides))
        draws = {
            name: [draw(side, counts[name], self.sampler, one) for one in child.spawn(self._candidates)]
            for child, (name, side) in zip(children, sides.items(), strict=True)
        }
        if self.amplification is None:
            return {name: one[0] for name, one in draws.items()}
        judges = {name: SideErrorCollector([one.factors for one in own]) for name, own in draws.items()}
        observe(problem.network, problem.layers, self.amplification.data, judges)
        return {name: _best(sides[name], own, judges[name].best()) for name, own in draws.items()}

    def sizes(
        self, model: torch.nn.Module, calibration: Any, accuracy: Accuracy | None = None
    ) -> dict[str, TheoreticalSize]:
        """The number of draws that the theorem asks for, layer by layer (C1 to C3).

        Parameters
        ----------
        model : torch.nn.Module
            The network; all its ``Linear`` and ``Conv2d`` layers, taken as a chain.
        calibration : iterable of batches
            The sample; the theorem asks for ``CoreNetConstants.examples`` inputs.
        accuracy : Accuracy, optional
            Epsilon and delta; by default the method's.

        Returns
        -------
        dict of str to TheoreticalSize
            On real networks more than there are weights, by many orders of magnitude.
        """
        layers = find_layers(model)
        found = collect_sensitivities(model, layers, Calibration.of(calibration), conditions=True)
        constants = _constants(layers, accuracy or self.accuracy)
        errors = _layer_errors(found, constants)
        sizes = {}
        for name, layer in layers.items():
            totals = Sides.of(layer, found[name], torch.ones_like(layer.weight, dtype=torch.bool)).totals
            draws = sum(CoreNetSide().draws(float(t), constants, errors[name]) for t in totals.ravel())
            sizes[name] = TheoreticalSize(layer.edges, draws, errors[name], float(totals.sum()))
        return sizes


def _constants(layers: Mapping[str, EdgeLayer], accuracy: Accuracy) -> CoreNetConstants:
    shapes = [layer.shape for layer in layers.values()]
    outputs = [groups * neurons for groups, neurons, _ in shapes]
    width = max(*outputs, *(edges for _, _, edges in shapes))
    return CoreNetConstants(len(shapes), sum(outputs), width, accuracy)


def _mean_condition(found: EdgeSensitivities) -> float:
    assert found.mean_condition is not None
    # A neuron whose terms cancel exactly once has no finite mean.
    return min(float(found.mean_condition.max()), 1e100)


def _layer_errors(found: Mapping[str, EdgeSensitivities], constants: CoreNetConstants) -> dict[str, float]:
    errors = constants.layer_errors([_mean_condition(one) for one in found.values()])
    smallest = float(np.finfo(np.float64).tiny) ** 0.25  # its square is divided by
    return {name: max(error, smallest) for name, error in zip(found, errors, strict=True)}


def _counts(sides: Mapping[str, Sides], share: Share, errors: Mapping[str, float]) -> dict[str, Counts]:
    """A share in proportion to the theorem's sizes S / eps_l^2, no side above its edges."""
    totals = [side.totals.ravel() for side in sides.values()]
    # In logarithms, with the largest one 1.
    scale = min(np.log(errors[name]) for name in sides)
    weights = np.concatenate(
        [t * np.exp(-2.0 * (np.log(errors[name]) - scale)) for name, t in zip(sides, totals, strict=True)]
    )
    limits = np.concatenate([side.edges.ravel() for side in sides.values()]).astype(np.float64)
    budget = min(share.count, int(limits.sum()))
    counts = rounded(bounded_shares(weights, limits, budget), limits, budget)
    parts = np.split(counts, np.cumsum([t.size for t in totals])[:-1])
    return {
        name: part.reshape(side.totals.shape) for part, (name, side) in zip(parts, sides.items(), strict=True)
    }


def _best(sides: Sides, draws: list[Drawn], best: npt.NDArray[np.int64]) -> Drawn:
    """For every side the draw that was judged best."""
    neurons = np.arange(best.shape[1])
    factors = np.stack([one.factors for one in draws])
    own = np.where(sides.positive, best[0][:, None], best[1][:, None])
    chosen = np.take_along_axis(factors, own[None], axis=0)[0]
    rest, kappa = np.stack([one.rest for one in draws]), np.stack([one.kappa for one in draws])
    signs = np.array([[0], [1]])
    return Drawn(
        chosen, rest[best, signs, neurons], kappa[best, signs, neurons], np.zeros(sides.totals.shape)
    )


def _notes(found: Mapping[str, EdgeSensitivities], constants: CoreNetConstants) -> list[str]:
    notes = []
    examples = min(one.examples for one in found.values())
    if examples < constants.examples:
        notes.append(f"{examples} inputs were seen; the theorem asks for {constants.examples}")
    return notes
