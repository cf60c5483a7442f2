"""From scores of units to a decision: draw, rescale what reads them, and certify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from coresets.certificate import Certificate
from coresets.guarantee import Scheme
from nn.neurons.draws import Drawing, UnitDraw
from nn.neurons.points import Neurons
from nn.units.method import UnitDecision, UnitProblem, keep_best_units

__all__ = ["Scored", "decide", "moves_constants", "unclaimed"]


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of the units of one group, and what they prove of a draw.

    Parameters
    ----------
    scores : Tensor of shape (units,)
        Not negative.
    certify : callable
        ``certify(draw)`` gives certificates and notes for a draw from the scores, whose scheme is that of
        a choice of the top if factors are not those of the draw.
    notes : sequence of str
        What a reader should know whatever is drawn.
    """

    scores: torch.Tensor
    certify: Callable[[UnitDraw], tuple[Sequence[Certificate], Sequence[str]]]
    notes: Sequence[str] = ()


def unclaimed(reason: str) -> Callable[[UnitDraw], tuple[Sequence[Certificate], Sequence[str]]]:
    """Certify nothing, for a reason."""
    return lambda _: ((), (f"nothing is claimed: {reason}",))


def decide(
    problem: UnitProblem,
    neurons: Mapping[str, Neurons],
    scored: Mapping[str, Scored],
    drawing: Drawing,
    method: object,
) -> UnitDecision:
    """Draw the exact counts of the shares, and put the factors into a copy of the network.

    Parameters
    ----------
    problem : UnitProblem
        Its network is overwritten.
    neurons, scored : mapping
        By group.
    drawing : Drawing
        How to draw.
    method : object
        Whose name errors mention.
    """
    rng = problem.randomness(method) if drawing.sampler.random else None
    draws = {
        name: drawing.sampler.draw(scored[name].scores, count, rng)
        for name, count in _counts(problem, scored, drawing).items()
    }
    updates: dict[str, torch.Tensor] = {}
    changed: dict[str, torch.Tensor] = {}
    certificates: dict[str, Sequence[Certificate]] = {}
    notes: list[str] = []
    for name in problem.groups:
        draw, own = draws[name], scored[name]
        notes += [f"{name}: {note}" for note in own.notes]
        if draw.everything:
            continue
        if not drawing.reweighted:  # a choice like any other, however it was drawn
            draw = replace(draw, factors=draw.keep.double(), scheme=Scheme.TOP)
        certificates[name], more = own.certify(draw)
        notes += [f"{name}: {note}" for note in more]
        changed[name] = draw.factors
    # Only now: what one group's consumers are told is what another's units are made of.
    for name, factors in changed.items():
        updates |= _applied(neurons[name], factors)
    return UnitDecision(
        {name: draws[name].keep for name in problem.groups}, updates, certificates, notes=notes
    )


def _counts(problem: UnitProblem, scored: Mapping[str, Scored], drawing: Drawing) -> dict[str, int]:
    """How many units of each group; groups compete, if at all, with shares of their totals."""
    counts: dict[str, int] = {}
    for share in problem.shares:
        shares = {}
        for name in share.layers:
            scores = scored[name].scores.detach().double()
            shares[name] = scores / max(float(scores.sum()), torch.finfo(torch.float64).tiny)
        kept = keep_best_units(shares, share, drawing.allocation)
        counts |= {name: int(keep.sum()) for name, keep in kept.items()}
    return {name: counts[name] for name in problem.groups}


def moves_constants(neurons: Neurons) -> bool:
    """Whether phi(0) is not 0 and its part of every output is the same for all inputs.

    It is not where a convolution reads zeros from outside the map, where averages are taken, which may
    do the same, or where there is no bias to put it into.
    """
    way = neurons.between
    if way.activation is None or way.activation.at_zero == 0.0 or way.averaged:
        return False
    layers = [consumer.layer for consumer in neurons.consumers.values()]
    return all(layer.bias is not None and _sees_no_edges(layer.module) for layer in layers)


def _sees_no_edges(module: torch.nn.Module) -> bool:
    if not isinstance(module, torch.nn.Conv2d):
        return True
    unpadded = module.padding in ("valid", (0, 0), 0)
    return unpadded or module.padding_mode != "zeros"


def _applied(neurons: Neurons, factors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Multiply the columns of all consumers, in place; move constants into their biases."""
    updates = {}
    activation = neurons.between.activation
    constant = activation.at_zero if activation is not None and moves_constants(neurons) else 0.0
    for name, consumer in neurons.consumers.items():
        layer = consumer.layer
        spread = consumer.column_factors(factors).to(layer.weight.device)
        stem = f"{name}." if name else ""
        with torch.no_grad():
            if constant != 0.0 and layer.bias is not None:
                lost = (layer.matrix().double() @ (1.0 - spread)).reshape(-1)
                moved = layer.bias.double() + constant * lost
                layer.bias.copy_(moved.to(layer.bias.dtype))
                updates[f"{stem}bias"] = layer.bias
            layer.matrix().mul_(spread.to(layer.weight.dtype))
        updates[f"{stem}weight"] = layer.weight
    return updates
