"""What the sampling pruners share: neurons taken apart into sides, drawn from, and put together again.

The two sides of neuron i hold its positive and its negative weights. Everything here is on the host in
float64, with a leading axis for the sign: 0 for positive weights, 1 for negative ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from coresets.certificate import Certificate
from coresets.guarantee import Scheme
from coresets.samplers import Sampler
from nn.layers import EdgeLayer
from nn.plans import LayerPlan
from nn.sensitivities import EdgeSensitivities

__all__ = ["Drawn", "Sides", "as_plan", "distinct_draws", "draw", "keep_top", "settle"]

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ENTRIES = 1 << 22  # sensitivities drawn from at a time
_BATCHED = frozenset({Scheme.POISSON, Scheme.FIXED_SIZE})


@dataclass(frozen=True, eq=False)
class Sides:
    """The sides of all neurons of a layer.

    Parameters
    ----------
    values : array of shape (neurons, edges)
        EdgeSensitivities; 0 for edges that are not alive.
    positive : array of bool of shape (neurons, edges)
        The sign of the weights.
    magnitudes : array of shape (neurons, edges)
        Absolute values of the weights.
    alive : array of bool of shape (neurons, edges)
        Edges that may be kept.
    """

    values: Array
    positive: Mask
    magnitudes: Array
    alive: Mask

    @classmethod
    def of(cls, layer: EdgeLayer, found: EdgeSensitivities, alive: torch.Tensor) -> Sides:
        """Of a layer, given its sensitivities."""
        edges = layer.shape[2]
        mask = alive.reshape(-1, edges).cpu().numpy()
        weight = layer.weight.reshape(-1, edges).double().cpu().numpy()
        values = found.values.reshape(-1, edges).double().cpu().numpy()
        return cls(np.where(mask, values, 0.0), weight > 0.0, np.abs(weight), mask)

    def side(self, sign: int) -> Array:
        """Sensitivities of one side, zeros elsewhere."""
        return np.where(self.positive == (sign == 0), self.values, 0.0)

    @cached_property
    def totals(self) -> Array:
        """Sums of the sensitivities, of shape (2, neurons)."""
        return np.stack([self.side(0).sum(axis=1), self.side(1).sum(axis=1)])

    @cached_property
    def edges(self) -> Counts:
        """Numbers of edges that some input has used, of shape (2, neurons)."""
        return np.stack([(self.side(sign) > 0.0).sum(axis=1) for sign in (0, 1)])

    def dropped(self, factors: Array) -> Array:
        """Sums of the sensitivities of the edges that are not kept, of shape (2, neurons)."""
        return np.stack([np.where(factors > 0.0, 0.0, self.side(sign)).sum(axis=1) for sign in (0, 1)])


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sparsified layer.

    Parameters
    ----------
    factors : array of shape (neurons, edges)
        What each weight is multiplied with; 0 where it is dropped.
    rest : array of shape (2, neurons)
        Sums of the sensitivities of the edges left to chance.
    kappa : array of shape (2, neurons)
        Draws over those sums, or the factor of inclusion probabilities; infinite where nothing is random.
    corrections : array of shape (2, neurons)
        Sums of sensitivity times change of factor over the edges that were added or removed afterwards.
    """

    factors: Array
    rest: Array
    kappa: Array
    corrections: Array


def keep_top(sides: Sides, keep: Mask) -> Drawn:
    """Edges kept as they are."""
    none = np.zeros(sides.totals.shape)
    return Drawn(keep.astype(np.float64), none, np.full(none.shape, np.inf), none)


def draw(sides: Sides, counts: Counts, sampler: Sampler, rng: np.random.Generator) -> Drawn:
    """Draw from every side.

    Parameters
    ----------
    sides : Sides
        What to draw from.
    counts : array of shape (2, neurons)
        How many edges to keep in each, at most as many as it has. Samplers that draw with replacement
        draw so often that as many different ones are expected.
    sampler : Sampler
        How.
    rng : numpy.random.Generator
        One child a sign is spawned.
    """
    neurons, edges = sides.values.shape
    factors = np.zeros((neurons, edges))
    rest, kappa = np.zeros((2, neurons)), np.full((2, neurons), np.inf)
    step = max(1, _ENTRIES // edges)
    for sign, child in enumerate(rng.spawn(2)):
        values = sides.side(sign)
        whole = (counts[sign] >= sides.edges[sign]) & (counts[sign] > 0)
        factors += whole[:, None] * (values > 0.0)
        some = np.flatnonzero(~whole & (counts[sign] > 0))
        for start in range(0, some.size, step):
            rows = some[start : start + step]
            factor, rest[sign, rows], kappa[sign, rows] = _draw_rows(
                values[rows], counts[sign, rows], sampler, child
            )
            factors[rows] += factor
    none = np.zeros((2, neurons))
    return Drawn(factors, rest, kappa, none)


def _draw_rows(
    values: Array, counts: Counts, sampler: Sampler, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Factors, sensitivity left to chance, and kappa, a row."""
    if sampler.scheme in _BATCHED:
        drawn = sampler.draw(values, counts, rng)
        chance = (drawn.probabilities < 1.0) & (values > 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(chance, drawn.probabilities / values, np.inf)
        return drawn.weights, np.where(chance, values, 0.0).sum(axis=1), ratios.min(axis=1)
    factors, rest, kappa = np.zeros(values.shape), np.zeros(len(values)), np.full(len(values), np.inf)
    for row, (own, count) in enumerate(zip(values, counts, strict=True)):
        replaced = sampler.scheme is Scheme.WITH_REPLACEMENT
        draws = distinct_draws(own[own > 0.0], int(count)) if replaced else int(count)
        drawn = sampler.draw(own, draws, rng)
        factors[row] = drawn.weights
        if drawn.support_size == int((own > 0.0).sum()):  # nothing was saved: keep the side as it is
            factors[row] = own > 0.0
            continue
        sure = (drawn.probabilities == 1.0) & (not replaced)
        rest[row] = own[~sure].sum()
        kappa[row] = (draws - int(sure.sum())) / rest[row] if rest[row] > 0.0 else np.inf
    return factors, rest, kappa


def distinct_draws(values: Array, count: int) -> int:
    """Least number of draws with replacement for which ``count`` different ones are expected, rounded up.

    Parameters
    ----------
    values : array of shape (n,)
        Positive; draws are in proportion to them.
    count : int
        At least 1 and at most n.

    Examples
    --------
    >>> import numpy as np
    >>> distinct_draws(np.ones(10), 8)
    12
    """
    logs = np.log1p(-np.minimum(values / values.sum(), 1.0 - 1e-16))

    def expected(draws: int) -> float:
        return float(-np.expm1(draws * logs).sum())

    high = count
    while np.ceil(expected(high)) < count and high < 2**52:
        high *= 2
    low = count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.ceil(expected(middle)) < count else (low, middle)
    return high


def settle(layers: Mapping[str, Sides], drawn: Mapping[str, Drawn], count: int) -> dict[str, Drawn]:
    """Remove or add edges until the count is met, those that matter least first.

    Parameters
    ----------
    layers : mapping of str to Sides
        The layers of a share.
    drawn : mapping of str to Drawn
        What was drawn from them.
    count : int
        How many edges to keep; all that are alive if there are fewer.

    Returns
    -------
    dict of str to Drawn
        With the corrections in which the errors grow. An added edge has its own weight.
    """
    factors = np.concatenate([drawn[name].factors.ravel() for name in layers])
    values = np.concatenate([side.values.ravel() for side in layers.values()])
    kept = int(np.count_nonzero(factors))
    changed = factors.copy()
    if kept > count:
        places = np.flatnonzero(factors)
        cost = values[places] * factors[places]
        changed[places[np.argsort(cost, kind="stable")[: kept - count]]] = 0.0
    elif kept < count:
        alive = np.concatenate([side.alive.ravel() for side in layers.values()])
        magnitudes = np.concatenate([side.magnitudes.ravel() for side in layers.values()])
        places = np.flatnonzero(alive & (factors == 0.0))
        order = np.lexsort((-magnitudes[places], values[places]))
        changed[places[order[: count - kept]]] = 1.0
    costs = values * np.abs(changed - factors)
    found, start = {}, 0
    for name, side in layers.items():
        part = slice(start, start + side.values.size)
        start = part.stop
        cost, own = costs[part].reshape(side.values.shape), drawn[name]
        corrections = np.stack(
            [np.where(side.positive == (sign == 0), cost, 0.0).sum(axis=1) for sign in (0, 1)]
        )
        found[name] = Drawn(changed[part].reshape(side.values.shape), own.rest, own.kappa, corrections)
    return found


def as_plan(layer: EdgeLayer, factors: Array, certificates: Sequence[Certificate] = ()) -> LayerPlan:
    """The plan that multiplies weights with factors, in the layer's precision."""
    weight = layer.weight
    keep = torch.from_numpy(factors != 0.0).reshape(weight.shape).to(weight.device)
    factor = torch.from_numpy(factors).reshape(weight.shape).to(weight.device)
    largest = torch.finfo(weight.dtype).max
    scaled = (weight.double() * factor).clamp(-largest, largest).to(weight.dtype)
    return LayerPlan(keep, torch.where(keep, scaled, torch.zeros_like(weight)), certificates)
