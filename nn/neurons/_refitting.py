"""Least-squares weights for the layers that read kept units, one layer at a time or all at once.

The targets are always the outputs of the original layers. The inputs are those of the layer in the
network made smaller so far (so that later layers make up for what earlier ones have lost), or the
original ones (so that one pass over the data is enough). A layer is fitted to the outputs that are
kept, on all the columns that are kept, whichever groups of units they belong to.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nn.calibration import Calibration, observe
from nn.layers import EdgeLayer, find_layers
from nn.neurons._chain import Chain, HeldInputs
from nn.neurons._moments import Moments, Sampling, least_squares, with_own_targets
from nn.neurons._paired import LeftTargets, OwnTargets, Pair, PairedInputs, RunOrder, Slot
from nn.neurons._stored import OtherDataError, Recorded, Replayed, StoredTargets, TargetStore
from nn.plans import copied
from nn.units.method import UnitDecision, UnitProblem
from nn.units.surgery import Recipe, recipe_of

__all__ = ["Fit", "Refitting", "refit"]

Matrix = npt.NDArray[np.float64]
# Of original outputs so many bytes are kept at most, and as many of what the smaller network goes on with.
_TARGET_BYTES = 1 << 28

_Fittable = tuple[str, Moments, float]  # a consumer, its moments, and what the ridge is relative to


@dataclass(frozen=True, slots=True)
class Fit:
    """How weights are fitted.

    Parameters
    ----------
    ridge : float
        lambda over the mean squared entry of the inputs, about their mean where there is a bias.
    sampling : Sampling
        Vectors to use.
    sequential : bool
        Whether inputs are those of the smaller network.
    """

    ridge: float
    sampling: Sampling
    sequential: bool


@dataclass(frozen=True, eq=False)
class Refitting:
    """New values of parameters, and what they have achieved.

    Parameters
    ----------
    updates : mapping of str to Tensor
        By parameter name, of the shapes before anything is removed.
    errors : mapping of str to (float, float)
        By layer name: relative squared output error with the weights that were there before, and with the
        new ones, on the vectors that were fitted.
    vectors : mapping of str to (int, int)
        How many vectors were fitted, by how many columns.
    """

    updates: Mapping[str, torch.Tensor]
    errors: Mapping[str, tuple[float, float]]
    vectors: Mapping[str, tuple[int, int]]


def _slots(problem: UnitProblem, keep: Mapping[str, torch.Tensor], recipe: Recipe) -> dict[str, Slot]:
    """All consumers of groups that lose units."""
    left: dict[str, torch.Tensor] = {}
    layers: dict[str, EdgeLayer] = {}
    for group in problem.groups:
        if bool(keep[group].all()):
            continue
        for name, consumer in problem.consumers(group).items():
            reads, kept = consumer.unit_of_column, keep[group].cpu()
            stays = (reads < 0) | kept[reads.clamp(min=0)]
            left[name] = stays & left.get(name, torch.ones_like(stays))
            layers[name] = consumer.layer
    slots = {}
    for name, layer in layers.items():
        neurons = layer.shape[1]
        outputs = torch.tensor(list(recipe.outputs.get(name, range(layer.groups * neurons))))
        rows = outputs[outputs < neurons]  # every group keeps the same ones; see nn.units.surgery
        slots[name] = Slot(layer, rows, torch.nonzero(left[name]).reshape(-1))
    return slots


def refit(
    problem: UnitProblem,
    decision: UnitDecision,
    fit: Fit,
    moments: Mapping[str, Moments] | None = None,
) -> Refitting:
    """Fit all consumers of groups that lose units.

    Parameters
    ----------
    problem : UnitProblem
        With its network as it was.
    decision : UnitDecision
        What stays; its updates are what the ridge pulls towards.
    fit : Fit
        How.
    moments : mapping of str to Moments, optional
        Of original inputs, where these are known already and wanted.
    """
    recipe = recipe_of(problem.groups, decision.keep, problem.network)
    slots = _slots(problem, decision.keep, recipe)
    updates: dict[str, torch.Tensor] = dict(decision.updates)
    errors: dict[str, tuple[float, float]] = {}
    vectors: dict[str, tuple[int, int]] = {}
    if not slots:
        return Refitting(updates, errors, vectors)
    updated = copied(problem.network)
    parameters = dict(updated.named_parameters())
    with torch.no_grad():
        for name, value in updates.items():
            parameters[name].copy_(value)
    before = find_layers(updated, list(slots))
    smaller = recipe.replay(updated)
    if fit.sequential:
        source = _one_by_one(problem, smaller, slots, fit.sampling)
    elif moments is not None:
        source = _known(slots, moments)
    else:
        source = _at_once(problem, slots, fit.sampling)
    after = find_layers(smaller, list(slots))
    for name, own, scale in source:
        weight, bias, errors[name] = _fitted(slots[name], before[name], own, fit.ridge * scale)
        vectors[name] = (own.vectors, own.products.shape[1])
        updates |= slots[name].updates(before[name], weight, bias)
        with torch.no_grad():  # later layers see what this one now gives
            after[name].module.weight.copy_(weight.reshape(after[name].weight.shape))  # type: ignore[operator]
            if bias is not None:
                after[name].module.bias.copy_(bias.reshape(-1))  # type: ignore[operator]
    return Refitting(updates, errors, vectors)


def _fitted(
    slot: Slot, before: EdgeLayer, moments: Moments, penalty: float
) -> tuple[torch.Tensor, torch.Tensor | None, tuple[float, float]]:
    """New weights (groups, rows, columns) and biases (groups, rows), and relative errors before and after.

    Raises
    ------
    ValueError
        If a weight exceeds the range of the layer's precision.
    """
    old = slot.part(before.matrix())
    prior: Matrix = old.double().cpu().numpy().transpose(0, 2, 1)
    constant = before.bias is not None
    centred = moments.centred() if constant else moments
    solved = torch.from_numpy(least_squares(centred, prior, penalty).transpose(0, 2, 1).copy()).to(old.dtype)
    if not bool(torch.isfinite(solved).all()):
        raise ValueError(
            f"a refitted weight of layer {slot.layer.name!r} exceeds the range of {old.dtype}; "
            "use a larger ridge, or float32 weights"
        )
    # Measured with the weights that are returned, after rounding to the layer's precision.
    cast: Matrix = solved.double().numpy().transpose(0, 2, 1)
    weight = solved.to(old.device)
    scale = float(centred.target_squares.sum()) or 1.0
    if not constant:
        return weight, None, (moments.squared_error(prior) / scale, moments.squared_error(cast) / scale)
    # Targets are without the original bias, so that what is fitted is the change of the bias.
    original = slot.biases(slot.layer)
    shift = (moments.target_sums - np.einsum("gm,gmn->gn", moments.sums, cast)) / max(1, moments.vectors)
    bias = (original + torch.from_numpy(shift)).to(old.dtype)
    old_change, change = ((b.double() - original).numpy() for b in (slot.biases(before), bias))
    errors = moments.squared_error(prior, old_change) / scale, moments.squared_error(cast, change) / scale
    return weight, bias.to(old.device), errors


def _own_scale(slot: Slot, moments: Moments) -> float:
    """What the ridge of a consumer is relative to."""
    return moments.mean_square(about_mean=slot.layer.bias is not None)


def _known(slots: Mapping[str, Slot], moments: Mapping[str, Moments]) -> Iterator[_Fittable]:
    """Parts of moments of all columns."""
    for name, slot in slots.items():
        own = with_own_targets(moments[name], slot.layer)
        # The ridge is that of the search, relative to all columns.
        yield name, own.part(slot.columns.numpy(), slot.rows.numpy()), _own_scale(slot, own)


def _at_once(problem: UnitProblem, slots: Mapping[str, Slot], sampling: Sampling) -> Iterator[_Fittable]:
    """Moments of all consumers on their original inputs, from one pass."""
    collectors = {name: OwnTargets(slot, sampling) for name, slot in slots.items()}
    observe(problem.network, {n: s.layer for n, s in slots.items()}, problem.calibration, collectors)
    for name, collector in collectors.items():
        found = collector.sums.moments()
        yield name, found, _own_scale(slots[name], found)


def _one_by_one(
    problem: UnitProblem, smaller: torch.nn.Module, slots: Mapping[str, Slot], sampling: Sampling
) -> Iterator[_Fittable]:
    """Moments of consumers on their inputs in the smaller network, in the order in which they run.

    The original network runs once, if the targets that it leaves are not too many, and the data come again
    as they are; else once for each consumer, at the side of the smaller one. Where the smaller network is a
    chain of modules, each of its passes begins where the last one has ended. The caller changes the smaller
    network before it asks for the next.
    """
    inner = find_layers(smaller, list(slots))
    store, chain = _stored(problem, slots, sampling), Chain.of(smaller, _TARGET_BYTES)
    for name, calls in (store.calls if store else _calls(problem, slots)).items():
        found = None
        if store is not None and (stored := store.take(name)) is not None:
            if calls > 1:
                chain = None
            if chain is not None and chain.begun:
                found = _resumed(chain, inner[name], sampling, stored)
            else:
                replayed = Replayed(smaller, store.digests, stored, calls)
                found = _replayed(problem, replayed, chain, inner[name], sampling)
            if chain is not None and not chain.advance(inner[name]):
                chain = None
            if found is None:
                store = None
        if found is None:
            found = _side_by_side(problem, smaller, slots[name], inner[name], (sampling, calls))
        yield name, found, _own_scale(slots[name], found)


def _stored(problem: UnitProblem, slots: Mapping[str, Slot], sampling: Sampling) -> TargetStore | None:
    """Targets of all consumers, from one pass; None where several processes would have to agree on them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return None
    store = TargetStore(_TARGET_BYTES)
    observe(
        Recorded(problem.network, store),
        {name: slot.layer for name, slot in slots.items()},
        problem.calibration,
        {name: StoredTargets(slot, sampling, store) for name, slot in slots.items()},
    )
    return store


def _replayed(
    problem: UnitProblem, network: Replayed, chain: Chain | None, layer: EdgeLayer, sampling: Sampling
) -> Moments | None:
    """Moments with stored targets; None if the data are not those that these were made from."""
    fitted = PairedInputs(layer, sampling, network.targets)
    collector = fitted if chain is None else HeldInputs(fitted, chain)
    try:
        observe(network, {layer.name: layer}, problem.calibration, {layer.name: collector})
    except OtherDataError:
        return None
    return fitted.sums.moments() if network.finished() else None


def _resumed(chain: Chain, layer: EdgeLayer, sampling: Sampling, stored: deque[torch.Tensor]) -> Moments:
    """Moments with stored targets, from where the last pass has ended."""
    fitted = PairedInputs(layer, sampling, stored)
    collector = HeldInputs(fitted, chain)
    observe(chain, {layer.name: layer}, chain.batches(), {layer.name: collector})
    return fitted.sums.moments()


def _side_by_side(
    problem: UnitProblem,
    smaller: torch.nn.Module,
    slot: Slot,
    layer: EdgeLayer,
    how: tuple[Sampling, int],
) -> Moments:
    """Moments from a pass of both networks as far as the consumer."""
    sampling, calls = how
    targets: deque[torch.Tensor] = deque()
    original, fitted = LeftTargets(slot, sampling, calls, targets), PairedInputs(layer, sampling, targets)
    observe(
        Pair(problem.network, smaller),
        {"original": slot.layer, "smaller": layer},
        problem.calibration,
        {"original": original, "smaller": fitted},
    )
    return fitted.sums.moments()


def _calls(problem: UnitProblem, slots: Mapping[str, Slot]) -> Counter[str]:
    """How often each consumer runs in one pass, in the order of their last runs."""
    order: list[str] = []
    first = Calibration([next(iter(problem.calibration.batches))], problem.calibration.split)
    observe(
        problem.network,
        {name: slot.layer for name, slot in slots.items()},
        first,
        {name: RunOrder(order) for name in slots},
    )
    counts = Counter(order)
    return Counter({name: counts[name] for name in reversed(dict.fromkeys(reversed(order)))})
