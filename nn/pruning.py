"""The front door: one call for every method, every budget and every network.

:func:`plan` decides and changes nothing; :func:`prune` also applies the plan to a copy. The network
that is passed in, its device, precision, training mode, hooks, gradients and the global states of
random generators are left as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import torch

from coresets._random import Rng, host_generator
from nn.budgets import Budget, shares
from nn.calibration import Calibration
from nn.certify.search import Certified, refuse_overlap, smallest_certified
from nn.layers import find_layers, layer_sizes
from nn.masks import bake_in
from nn.method import Method, Problem
from nn.plans import Plan, copied
from nn.pruned import Pruned
from nn.units.method import UnitMethod
from nn.units.planning import plan_units
from nn.units.plans import UnitPlan
from nn.units.shrunk import Shrunk

__all__ = ["plan", "prune"]


@overload
def plan(
    model: torch.nn.Module,
    method: Method,
    budget: Budget,
    *,
    calibration: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> Plan: ...


@overload
def plan(
    model: torch.nn.Module,
    method: UnitMethod,
    budget: Budget,
    *,
    calibration: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> UnitPlan: ...


def plan(
    model: torch.nn.Module,
    method: Method | UnitMethod,
    budget: Budget,
    *,
    calibration: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> Plan | UnitPlan:
    """Decide what to keep; nothing is changed.

    Parameters
    ----------
    model : torch.nn.Module
        Any network with ``Linear`` or ``Conv2d`` layers. Weights that an earlier pruning has masked
        stay masked.
    method : Method or UnitMethod
        How to choose: single weights (edges), or whole units (neurons, channels, heads).
    budget : Budget
        How many weights, or units, to keep: :class:`~nn.budgets.KeepRatio`,
        :class:`~nn.budgets.KeepCount` or :class:`~nn.budgets.PerLayer`; or, where units are removed, what
        the network may cost: :class:`~nn.budgets.KeepParameters` or :class:`~nn.budgets.KeepFlops`.
    calibration : iterable of batches, optional
        For methods that look at data, and for all that remove units, which depend on how the network
        is wired; see :class:`~nn.calibration.Calibration`.
    blocks : mapping of str to int, optional
        For methods that remove units: by layer name, with shell wildcards, how many consecutive outputs
        make one unit, such as the width of an attention head.
    rng : int or numpy.random.Generator, optional
        For methods that draw at random.

    Returns
    -------
    Plan or UnitPlan

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be, a needed one is missing, or the network has nothing
        to prune.
    """
    if isinstance(method, UnitMethod) and not isinstance(method, type):
        return plan_units(model, method, budget, calibration=calibration, blocks=blocks, rng=rng)
    if blocks is not None:
        raise TypeError(f"blocks are for methods that remove units, and {method!r} removes single weights")
    if isinstance(method, type):
        raise TypeError(f"method = {method!r} is a class; pass an object of it, such as {method.__name__}()")
    if not isinstance(method, Method):
        raise TypeError(f"method = {method!r}; pass a pruning method, such as Magnitude()")
    divided = shares(budget, layer_sizes(model))
    names = [name for share in divided for name in share.layers]
    if not names:
        raise ValueError(f"{budget!r} leaves every layer dense; give at least one a budget")
    find_layers(model, names)  # refuses shared and computed weights before any work
    network = copied(model).eval()
    for parameter in network.parameters():
        parameter.grad = None
    masks = bake_in(network)
    layers = find_layers(network, names)
    problem = Problem(
        network=network,
        layers=layers,
        alive={
            name: masks.get(name, torch.ones_like(layer.weight, dtype=torch.bool))
            for name, layer in layers.items()
        },
        shares=divided,
        calibration=None if calibration is None else Calibration.of(calibration),
        rng=None if rng is None else host_generator(rng),
    )
    for name, layer in layers.items():
        if layer.weight.is_meta:
            raise ValueError(f"the weight of layer {name!r} is on the meta device, where it has no values")
        if not bool(torch.isfinite(layer.weight).all()):
            raise ValueError(f"the weight of layer {name!r} has NaN or infinite entries")
    with torch.random.fork_rng():
        decision = method.decide(problem)
    return Plan(decision.layers, repr(method), repr(budget), decision.certificates, decision.notes)


@overload
def prune(
    model: torch.nn.Module,
    method: Method,
    budget: Budget | Certified,
    *,
    calibration: Any = None,
    certification: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> Pruned: ...


@overload
def prune(
    model: torch.nn.Module,
    method: UnitMethod,
    budget: Budget | Certified,
    *,
    calibration: Any = None,
    certification: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> Shrunk: ...


def prune(
    model: torch.nn.Module,
    method: Method | UnitMethod,
    budget: Budget | Certified,
    *,
    calibration: Any = None,
    certification: Any = None,
    blocks: Mapping[str, int] | None = None,
    rng: Rng | None = None,
) -> Pruned | Shrunk:
    """Prune a copy of a network.

    Parameters
    ----------
    model : torch.nn.Module
        Not changed.
    method, calibration, blocks, rng
        See :func:`plan`.
    budget : Budget or Certified
        How many weights or units to keep; or a statement about the pruned network, and it keeps as few
        as the certification data can certify.
    certification : iterable of batches, optional
        For a :class:`~nn.Certified` budget: independent examples that neither training nor
        calibration has seen.

    Returns
    -------
    Pruned or Shrunk
        The copy, masked or really smaller; the plan with its evidence; and the certificate if there is
        one.

    Raises
    ------
    TypeError, ValueError
        See :func:`plan`; also if calibration and certification data overlap, or there are too few of
        the latter.
    AssumptionError
        If not even the largest candidate can be certified.

    Warns
    -----
    PruningWarning
        If a layer keeps no weight, or nothing changes.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, prune
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> pruned = prune(network, Magnitude(), KeepRatio(0.5))
    >>> pruned.plan.kept, pruned.plan.total
    (30, 60)
    """
    if isinstance(budget, Certified):
        if certification is None:
            raise ValueError(f"{budget!r} needs certification=..., examples that pruning does not see")
        held = Calibration.of(certification)
        data = None if calibration is None else Calibration.of(calibration)
        generator = None if rng is None else host_generator(rng)  # all candidates draw from one

        def candidate(ratio: Budget) -> Pruned | Shrunk:
            return _pruned(plan(model, method, ratio, calibration=data, blocks=blocks, rng=generator), model)

        with torch.random.fork_rng():  # loaders draw from torch's own generator, even unshuffled ones
            refuse_overlap(data, held)
            found, evidence = smallest_certified(model, candidate, budget, held)
        certified: Pruned | Shrunk = found.with_certificates(evidence.certificate)
        return certified
    if certification is not None:
        raise TypeError(
            f"certification data are for a Certified budget, and this is {budget!r}; certify what comes out "
            "with nn.held_out(model, pruned.model, data)"
        )
    return _pruned(plan(model, method, budget, calibration=calibration, blocks=blocks, rng=rng), model)


def _pruned(decided: Plan | UnitPlan, model: torch.nn.Module) -> Pruned | Shrunk:
    """The plan carried out."""
    if isinstance(decided, Plan):
        return Pruned(decided.apply(model), decided)
    return Shrunk(decided.apply(model), decided)
