"""PFP: keep units by their sensitivities, the most sensitive ones or by chance.

Published by Liebenwein, Baykal, Lang, Feldman and Rus (2020). Departures from the released code: a unit's
share is its sum over the kernel window (the code takes single kernel entries, which is up to a window's area
too small, and no theorem covers it); maxima are over all consumers, where a residual stream has several;
budgets are met exactly; nothing is removed for having no gradient on the sample.

Cost: one pass over the data (:mod:`nn.neurons.sensitivities`), one bisection, one draw a group.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from coresets._validate import check_open_unit
from coresets.certificate import Certificate
from coresets.guarantee import Scheme
from coresets.samplers import Sampler, Top
from coresets.sampling import best_split
from nn.budgets import Share
from nn.edges.sipp import Transfer
from nn.guarantees.edges import SensitivityTransfer
from nn.guarantees.pfp import DistinctUnits, UnitInclusion, UnitTruncation
from nn.neurons._arguments import check_flag, check_part
from nn.neurons._common_error import CommonError, Drawable
from nn.neurons.sensitivities import UnitSensitivities, collect_unit_sensitivities
from nn.selection import Allocation
from nn.units.consumers import multiplied
from nn.units.method import UnitDecision, UnitProblem, check_allocation, keep_best_units

__all__ = ["PFP", "CommonError"]

Array = npt.NDArray[np.float64]

_MOST_DRAWS = 1 << 20  # with replacement; for more, units are added afterwards


@dataclass(frozen=True)
class PFP:
    """Provable filter pruning, for units of any kind.

    Parameters
    ----------
    sampler : Sampler
        :class:`~coresets.samplers.Top` keeps the most sensitive units unchanged (PFPNet; F3).
        :class:`~coresets.samplers.FixedSize` draws exactly as many units as are to be kept and multiplies
        what reads them, without bias (F2). With :class:`~coresets.samplers.Poisson`,
        :class:`~coresets.samplers.IID` (PFPNetRand; F1) and :class:`~coresets.samplers.Hybrid` (PFPNetTop;
        F2) the count is met on average; units that matter least are then removed or added until it is met,
        and the a priori error grows by what they matter.
    allocation : CommonError or Allocation
        How many units in each group.
    transfer : Transfer
        K and K' of the assumption under which sensitivities hold for fresh inputs.
    delta : float
        Probability with which the draws may fail for one input; for the a priori error and the allocation.
    reweighted : bool
        Whether what reads a drawn unit is multiplied by its factor. Without that a draw is only another way
        to choose, with the a priori error of F3.

    Notes
    -----
    The certificates state for each group the error that theory promises for the budget used, on exact
    inputs and relative to the sums of each sign. A layer that reads several groups has the sum of their
    errors. At high compression it exceeds 1: it then only serves to divide the budget.

    Examples
    --------
    >>> import torch
    >>> from coresets.samplers import FixedSize
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import PFP
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> pruned = prune(network, PFP(FixedSize()), KeepRatio(0.5), calibration=[torch.rand(64, 8)], rng=0)
    >>> pruned.model[2]
    Linear(in_features=3, out_features=2, bias=True)
    """

    sampler: Sampler = field(default_factory=Top)
    allocation: CommonError | Allocation = field(default_factory=CommonError)
    transfer: Transfer = field(default_factory=Transfer)
    delta: float = 0.1
    reweighted: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.sampler, type) or not isinstance(getattr(self.sampler, "scheme", None), Scheme):
            raise TypeError(f"sampler = {self.sampler!r}; pass a sampler, such as Top() or FixedSize()")
        if not isinstance(self.allocation, CommonError):
            check_allocation(self.allocation)
        check_part(self.transfer, "transfer", Transfer, "Transfer()")
        check_flag(self.reweighted, "reweighted")
        object.__setattr__(self, "delta", check_open_unit(self.delta, "delta"))

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Measure sensitivities, divide the budget, keep or draw, and state the a priori errors."""
        consumers = {name: problem.consumers(name) for name in problem.groups}
        random = self.sampler.scheme is not Scheme.TOP
        rngs = problem.randomness(self).spawn(len(consumers)) if random else [None] * len(consumers)
        found = collect_unit_sensitivities(problem.network, consumers, problem.calibration)
        counts: dict[str, int] = {}
        for share in problem.shares:
            counts |= self._counts(found, share)
        kept = {
            name: _keep(found[name].values.numpy(), counts[name], self.sampler, rng)
            for name, rng in zip(consumers, rngs, strict=True)
        }
        if not self.reweighted:
            kept = {name: one.unweighted() for name, one in kept.items()}
        spread: dict[str, torch.Tensor] = {}
        layers = {name: c.layer for readers in consumers.values() for name, c in readers.items()}
        for group, readers in consumers.items():
            if kept[group].reweights:
                for name, consumer in readers.items():
                    own = consumer.column_factors(torch.from_numpy(kept[group].factors))
                    spread[name] = spread.get(name, 1.0) * own
        updates = {f"{name}.weight": multiplied(layers[name], own) for name, own in spread.items()}
        certificates = {
            name: (self._certificate(found[name], kept[name], len(kept)),) for name in problem.groups
        }
        keep = {name: torch.from_numpy(kept[name].factors > 0.0) for name in problem.groups}
        return UnitDecision(keep, updates, certificates, notes=self._notes(found, certificates))

    def _counts(self, found: Mapping[str, UnitSensitivities], share: Share) -> dict[str, int]:
        values = {name: found[name].values for name in share.layers}
        if not isinstance(self.allocation, CommonError):
            masks = keep_best_units(values, share, self.allocation)
            return {name: int(mask.sum()) for name, mask in masks.items()}
        groups = {
            name: Drawable(own.numpy(), math.log(2.0 * found[name].statements * len(found) / self.delta))
            for name, own in values.items()
        }
        return self.allocation.counts(groups, share, self.transfer.factor)

    def _certificate(self, found: UnitSensitivities, kept: _Kept, groups: int) -> Certificate:
        factor, rarity = self.transfer.factor, self.transfer.rarity
        values = found.values.numpy()
        failure = SensitivityTransfer().failure(len(values), found.examples, rarity)
        if math.isinf(kept.kappa):
            error = float(UnitTruncation().errors(values[kept.factors == 0.0].sum(), factor))
        else:
            delta = self.delta / groups / found.statements
            law = UnitInclusion().errors(np.array([kept.rest]), np.array([kept.kappa]), factor, delta)
            error = float(law[0]) + factor * kept.correction
            failure += self.delta / groups
        value, confidence = min(error, sys.float_info.max), max(0.0, 1.0 - failure)
        vacuous = value >= 1.0 or confidence == 0.0
        return Certificate(
            "a priori error of what reads the units",
            "relative error of the worst sum, of one sign and on one patch, of any neuron that reads the "
            f"units, on exact inputs, if each share exceeds 1/{factor:g} of its largest value with "
            f"probability 1 - exp(-1/{rarity:g}); {'vacuous' if vacuous else 'not vacuous'}",
            value,
            confidence=confidence,
            details={
                "vacuous": float(vacuous),
                "total_sensitivity": float(values.sum()),
                "statements": float(found.statements),
            },
        )

    def _notes(
        self, found: Mapping[str, UnitSensitivities], certificates: Mapping[str, tuple[Certificate, ...]]
    ) -> list[str]:
        notes = []
        vacuous = [repr(name) for name, (one,) in certificates.items() if one.value >= 1.0]
        if vacuous:
            notes.append(f"the a priori error is vacuous (at least 1) for {', '.join(vacuous)}")
        units, examples = max(len(one.values) for one in found.values()), next(iter(found.values())).examples
        needed = SensitivityTransfer().examples(units, 0.1, self.transfer.rarity)
        if examples < needed:
            notes.append(
                f"{examples} inputs are too few for {units} sensitivities: the theory needs {needed} for a "
                "failure probability of 0.1"
            )
        return notes


@dataclass(frozen=True, eq=False)
class _Kept:
    """Units of one group that stay.

    ``factors`` (units,) multiply them, 0 where they go; ``rest`` is the sensitivity left to chance,
    ``kappa`` the number of draws over it or the factor of the inclusion probabilities, infinite where
    nothing is random; ``correction`` the sum of sensitivity times change of factor over the units that
    were added or removed afterwards.
    """

    factors: Array
    rest: float = 0.0
    kappa: float = math.inf
    correction: float = 0.0

    @property
    def reweights(self) -> bool:
        """Whether a kept unit is multiplied with something else than 1."""
        return bool(((self.factors != 0.0) & (self.factors != 1.0)).any())

    def unweighted(self) -> _Kept:
        """The same units, unchanged."""
        return _Kept((self.factors > 0.0).astype(np.float64))


def _keep(values: Array, count: int, sampler: Sampler, rng: np.random.Generator | None) -> _Kept:
    """Exactly ``count`` units, by a sampler."""
    used = int(np.count_nonzero(values))
    if count >= used or sampler.scheme is Scheme.TOP:
        order = np.argsort(-values, kind="stable")
        factors = np.zeros(values.shape)
        factors[order[:count]] = 1.0
        return _Kept(factors)
    assert rng is not None
    draws = _draws(values, count, sampler.scheme)
    drawn = sampler.draw(values, draws, rng)
    replaced = sampler.scheme in (Scheme.WITH_REPLACEMENT, Scheme.HYBRID)
    sure = (drawn.probabilities >= 1.0) & (sampler.scheme is not Scheme.WITH_REPLACEMENT)
    chance = (values > 0.0) & ~sure
    rest = float(values[chance].sum())
    if not bool(chance.any()):
        return _Kept(drawn.weights)
    if replaced:
        kappa = (draws - int(sure.sum())) / rest
    else:
        kappa = float((drawn.probabilities[chance] / values[chance]).min())
    return _settled(values, drawn.weights, count, (rest, kappa))


def _draws(values: Array, count: int, scheme: Scheme) -> int:
    """How often to draw so that ``count`` different units are expected."""
    if scheme is Scheme.WITH_REPLACEMENT:
        return min(DistinctUnits().draws(values, count), _MOST_DRAWS)
    if scheme is not Scheme.HYBRID:
        return count
    ordered = np.sort(values)[::-1]

    def enough(draws: int) -> bool:
        sure = int(best_split(values, draws))
        rest = ordered[sure:]
        if not bool(rest.any()):
            return True
        return sure + math.ceil(DistinctUnits().expected(rest, draws - sure)) >= count

    # From the number of units on the sampler keeps all of them.
    most = int(np.count_nonzero(values)) - 1
    return next((draws for draws in range(count, most) if enough(draws)), most)


def _settled(values: Array, factors: Array, count: int, law: tuple[float, float]) -> _Kept:
    """Units removed or added until the count is met, those that matter least first."""
    factors, before = factors.copy(), factors
    surplus = int(np.count_nonzero(factors)) - count
    open_ = factors > 0.0 if surplus > 0 else (factors == 0.0) & (values > 0.0)
    places = np.flatnonzero(open_)
    cost = values[places] * (factors[places] if surplus > 0 else 1.0)
    chosen = places[np.argsort(cost, kind="stable")[: abs(surplus)]]
    factors[chosen] = 0.0 if surplus > 0 else 1.0
    return _Kept(factors, *law, correction=float((values * np.abs(factors - before)).sum()))
