"""From a network, a method and a budget to a plan that has been tried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch

from coresets._random import Rng, host_generator
from nn.budgets import Budget, CostBudget, PerLayer, Share, shares
from nn.calibration import Batch, Calibration, device_of
from nn.copies import copied, sharing
from nn.cost import cost
from nn.masks import bake_in
from nn.units._outputs import check_outputs
from nn.units._trial import try_out
from nn.units._within import Sized, counts_within
from nn.units.method import UnitDecision, UnitMethod, UnitProblem, check_none_vanishes
from nn.units.plans import GroupPlan, UnitPlan
from nn.units.surgery import recipe_of
from nn.units.topology import Topology, find_groups

__all__ = ["plan_units"]

# So many examples are enough to trace a network.
_EXAMPLES = 2


def plan_units(
    model: torch.nn.Module,
    method: UnitMethod,
    budget: Budget,
    *,
    calibration: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> UnitPlan:
    """Decide which units to keep; nothing is changed. See :func:`nn.plan`.

    Groups over which a layer or group normalisation acts take part only if a
    :class:`~nn.budgets.PerLayer` budget names them: removing one of their units changes the others.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be, the network cannot be traced or has no units to
        remove, a group would vanish, or the smaller network does not compute what it should.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; pass a torch.nn.Module")
    if calibration is None:
        raise ValueError(
            f"{method!r} removes units, and which layers depend on one another is found by running the "
            "network; pass calibration=..., an iterable of batches"
        )
    generator = None if rng is None else host_generator(rng)
    with torch.random.fork_rng():  # data loaders and networks may draw from the global state
        network = _private(model)
        first, data = _first_batch(Calibration.of(calibration))
        example = _first_examples(first, network)
        topology = find_groups(network, example, blocks)
        divided = _shares(budget, topology, network, example)
        names = {name for share in divided for name in share.layers}
        groups = {name: group for name, group in topology.groups.items() if name in names}
        # The one copy whose weights are its own, since methods may change them; it goes with the call.
        decision = method.choose(UnitProblem(copied(network), groups, divided, data, generator))
        _check_counts(method, divided, decision)
        before = cost(network, example)
        plan = UnitPlan(
            {n: GroupPlan(decision.keep[n], decision.group_certificates.get(n, ())) for n in groups},
            recipe_of(groups, decision.keep, network),
            decision.updates,
            (repr(method), repr(budget)),
            (before, before),
            decision.certificates,
            (*decision.notes, *_left_whole(topology)),
        )
        smaller = try_out(plan, groups, network, example)
        return replace(plan, costs=(before, cost(smaller, example)))


def _private(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in evaluation mode, without masks and gradients, over the memory of the model's parameters.

    Raises
    ------
    ValueError
        If parameters have no values, or NaN.
    """
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise ValueError(
            f"{type(model).__name__} is compiled, and cannot be made smaller; prune the module that it was "
            "made from, and compile the result"
        )
    _refuse_broken(model)
    network = sharing(model).eval()
    bake_in(network)
    return network


def _first_batch(data: Calibration) -> tuple[Batch, Calibration]:
    """The first batch, and data from which it is not missing even if they can be read only once."""
    again = iter(data.batches)
    if again is not data.batches:
        return next(iter(data)), data
    raw = list(islice(again, 1))
    return next(iter(replace(data, batches=raw))), replace(data, batches=chain(raw, again))


def _first_examples(batch: Batch, network: torch.nn.Module) -> Batch:
    """The first few examples of a batch, on the network's device; all of them where it needs all."""
    size = batch.size

    def first(value: Any) -> Any:
        batched = torch.is_tensor(value) and value.dim() > 0 and value.shape[0] == size
        return value[:_EXAMPLES] if batched else value

    whole = batch.to(device_of(network))
    few = Batch(
        tuple(first(value) for value in whole.arguments),
        {key: first(value) for key, value in whole.keywords.items()},
        first(whole.target),
    )
    try:
        check_outputs(network, few)
    except Exception:
        check_outputs(network, whole)
        return whole
    return few


def _refuse_broken(network: torch.nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if isinstance(parameter, torch.nn.parameter.UninitializedParameter):
            raise ValueError(f"{name!r} has no values yet; run one batch through the network first")
        if parameter.is_meta:
            raise ValueError(f"{name!r} is on the meta device, where it has no values")
        if not _finite(parameter.detach()):
            raise ValueError(f"{name!r} has NaN or infinite entries")


def _finite(values: torch.Tensor) -> bool:
    """Whether all entries are; without a copy of them, unless their sum is not."""
    # A sum is finite only if all its terms are, but it may overflow.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _shares(budget: Budget, topology: Topology, network: torch.nn.Module, example: Batch) -> Sequence[Share]:
    """The budget in units, over the groups that take part."""
    if not topology.groups:
        reasons = "; ".join(
            f"{', '.join(r.layers) or 'the network itself'}: {r.reason}" for r in topology.refused
        )
        raise ValueError(f"the network has no units that can be removed ({reasons})")
    if isinstance(budget, PerLayer):
        for pattern in budget.layers:
            fits = any(budget.of(name) is budget.layers[pattern] for name in topology.groups)
            reason = None if fits else topology.why_not(pattern)
            if reason is not None:
                raise ValueError(f"units of {pattern!r} cannot be removed: {reason}")
    sizes = {
        name: group.units
        for name, group in topology.groups.items()
        if not group.mixing or (isinstance(budget, PerLayer) and budget.of(name) is not None)
    }
    if not sizes:
        mixing = ", ".join(map(repr, topology.groups))
        raise ValueError(
            f"all groups, {mixing}, are normalised over their units, so that removing one changes the "
            "others; name those that are to be made smaller in a PerLayer budget"
        )
    rest = budget.rest if isinstance(budget, PerLayer) else budget
    if isinstance(rest, CostBudget):
        divided = _within(budget, rest, sizes, Sized(network, topology.groups, example))
    else:
        divided = shares(budget, sizes)
    if not divided:
        raise ValueError(f"{budget!r} leaves every group whole; give at least one a budget")
    for share in divided:
        check_none_vanishes(share)
    return divided


def _within(budget: Budget, rest: CostBudget, sizes: Mapping[str, int], sized: Sized) -> Sequence[Share]:
    """Counts of single groups, as the cost of the whole network asks for."""
    own: Sequence[Share] = ()
    open_ = dict(sizes)
    if isinstance(budget, PerLayer):
        own = shares(PerLayer(budget.layers), sizes)
        open_ = {name: size for name, size in sizes.items() if budget.of(name) is None}
    if not open_:
        raise ValueError(
            f"{budget!r} gives every group a budget of its own, so that none is left for {rest!r}"
        )
    fixed = {name: share.count for share in own for name in share.layers}
    counts = counts_within(rest, sized, open_, fixed)
    return (*own, *(Share((name,), count) for name, count in counts.items()))


def _left_whole(topology: Topology) -> list[str]:
    """Notes on layers that could be expected to shrink and do not."""
    return [
        f"{', '.join(map(repr, refusal.layers))} stays whole: {refusal.reason}"
        for refusal in topology.refused
        if not refusal.ordinary
    ]


def _check_counts(method: UnitMethod, divided: Sequence[Share], decision: UnitDecision) -> None:
    """A method that does not do what was asked is at fault, not its user."""
    for share in divided:
        kept = {name: int(decision.keep[name].sum()) for name in share.layers}
        if sum(kept.values()) != share.count or min(kept.values()) < 1:
            raise RuntimeError(f"{method!r} was to keep {share.count} units and keeps {kept}")
