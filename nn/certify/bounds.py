"""Deterministic bounds on the difference of two networks: on given inputs, and on boxes of inputs.

Both carry a bound through the layers (Q8 on the theory pages). :func:`additive` follows the actual
activations of the original network and bounds the pruned one's distance from them, one number an
activation. :func:`interval` follows intervals for the activations and for the differences, and so
holds for every input of a box at once (Q8-I). Neither assumes anything about how the network was pruned;
both are computed in float64 and hold up to its rounding. They are about the networks in float64, too: in
a lower precision, outputs may differ by its rounding on top, which exceeds a very small bound. Cost: about
seven, and about fourteen, forward passes in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from coresets._validate import check_real
from coresets.certificate import Certificate
from nn.calibration import Calibration, device_of
from nn.certify._pairs import check_faithful
from nn.certify.graph import Affine, Linear, in_float64, walk

__all__ = [
    "AdditiveDomain",
    "Box",
    "Deviation",
    "IntervalDomain",
    "additive",
    "additive_certificate",
    "interval",
    "interval_certificate",
]


@dataclass(frozen=True, eq=False)
class Deviation:
    """Activations of the original network, and bounds on the pruned one's distance from them."""

    value: torch.Tensor
    error: torch.Tensor


class AdditiveDomain:
    """e' <= |(W^ - W) a + (b^ - b)| + |W^| e, entry by entry."""

    def affine(self, before: Affine, after: Affine, state: Deviation) -> Deviation:
        """A layer that may differ between the networks."""
        fresh = after.minus(before)(state.value).abs()
        return Deviation(before(state.value), fresh + after.absolute(state.error))

    def activation(self, function: Linear, lipschitz: float, monotone: bool, state: Deviation) -> Deviation:
        """An entrywise function that both networks share."""
        return Deviation(function(state.value), lipschitz * state.error)

    def pool(self, function: Linear, state: Deviation) -> Deviation:
        """Max-pooling."""
        # A maximum moves by at most the largest move in its window.
        return Deviation(function(state.value), function(state.error))

    def same(self, function: Linear, state: Deviation) -> Deviation:
        """Averages and reshapes."""
        return Deviation(function(state.value), function(state.error))

    def add(self, states: Sequence[Deviation]) -> Deviation:
        """Sum of branches."""
        return Deviation(
            torch.stack([s.value for s in states]).sum(0), torch.stack([s.error for s in states]).sum(0)
        )

    def join(
        self, function: Callable[[Sequence[torch.Tensor]], torch.Tensor], states: Sequence[Deviation]
    ) -> Deviation:
        """Concatenation of branches."""
        return Deviation(function([s.value for s in states]), function([s.error for s in states]))

    def shape(self, state: Deviation) -> torch.Size:
        """Shape of the activations."""
        return state.value.shape


def additive(original: torch.nn.Module, pruned: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Upper bounds on |pruned(x) - original(x)|, for every given input and output.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        Networks with the same graph; see :mod:`nn.certify.graph` for the layers understood.
    inputs : Tensor
        A batch.

    Returns
    -------
    Tensor
        Of the output's shape, in float64.

    Raises
    ------
    ValueError
        If the networks differ in more than weights, a layer is not understood, or the bound is NaN, as
        it is for NaN or infinite inputs or weights.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, prune
    >>> from nn.certify import additive
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> pruned = prune(network, Magnitude(), KeepRatio(0.5)).model
    >>> x = torch.randn(5, 6)
    >>> bool(((pruned(x) - network(x)).abs() <= additive(network, pruned, x) + 1e-6).all())
    True
    """
    return _deviation(original, pruned, inputs).error


def additive_certificate(original: torch.nn.Module, pruned: torch.nn.Module, data: Any) -> Certificate:
    """The largest additive bound over a set of inputs, with the largest error observed beside it.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        Networks with the same graph.
    data : iterable of batches or Calibration
        Inputs; the statement is about these and no others.
    """
    largest, observed, examples = 0.0, 0.0, 0
    for batch in Calibration.of(data):
        if len(batch.arguments) != 1 or not batch.size:
            raise ValueError(
                f"a batch has {len(batch.arguments)} inputs and {batch.size} examples; pass one input"
            )
        (inputs,) = batch.arguments
        state = _deviation(original, pruned, inputs)
        largest = max(largest, float(state.error.max()))
        with torch.no_grad():
            # A copy, since a network may overwrite its input.
            own = inputs.to(device=device_of(pruned), dtype=torch.float64, copy=True)
            actual = in_float64(pruned)(own)
        observed = max(observed, float((actual.to(state.value.device) - state.value).abs().max()))
        examples += batch.size
    return Certificate(
        "additive bound",
        f"on each of the {examples} given inputs, no output of the pruned network is further than "
        f"{largest:.4g} from that of the original one, both computed in double precision",
        value=largest,
        details={"observed": observed, "examples": float(examples)},
    )


def _deviation(original: torch.nn.Module, pruned: torch.nn.Module, inputs: torch.Tensor) -> Deviation:
    """What the walk ends with on given inputs."""
    values = inputs.detach().to(device=device_of(original), dtype=torch.float64)
    for network in (original, pruned):
        check_faithful(in_float64(network).to(values.device), values)
    state = walk(original, pruned, AdditiveDomain(), Deviation(values, torch.zeros_like(values)))
    _refuse_nan(state.error)
    return state


def _refuse_nan(*bounds: torch.Tensor) -> None:
    if any(bool(torch.isnan(bound).any()) for bound in bounds):
        raise ValueError("the bound is NaN; look for NaN or infinite inputs and weights")


@dataclass(frozen=True, eq=False)
class Box:
    """Intervals for the original's activations, and for the pruned one's difference from them."""

    low: torch.Tensor
    high: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor


class IntervalDomain:
    """Intervals by centre and radius through affine layers, by monotonicity through the others."""

    def affine(self, before: Affine, after: Affine, state: Box) -> Box:
        """A layer that may differ between the networks."""
        centre, radius = _middle(state.low, state.high)
        value, spread = before(centre), before.absolute(radius)
        change = after.minus(before)
        shift_centre, shift_radius = _middle(state.least, state.most)
        shift = after.linear(shift_centre) + change(centre)
        blur = after.absolute(shift_radius) + change.absolute(radius)
        return Box(value - spread, value + spread, shift - blur, shift + blur)

    def activation(self, function: Linear, lipschitz: float, monotone: bool, state: Box) -> Box:
        """An entrywise function that both networks share."""
        if not monotone:
            raise ValueError(f"{function} is not monotone; intervals are not carried through it")
        low, high = function(state.low), function(state.high)
        # Between f(a + d) and f(a) lies at most the Lipschitz constant times d, with the sign of d;
        # and each of the two is in its own interval.
        least = torch.maximum(
            lipschitz * state.least.clamp_max(0.0), function(state.low + state.least) - high
        )
        most = torch.minimum(lipschitz * state.most.clamp_min(0.0), function(state.high + state.most) - low)
        if isinstance(function, torch.nn.ReLU):
            # Where both networks are certainly active the difference passes unchanged.
            active = (state.low >= 0.0) & (state.low + state.least >= 0.0)
            least = torch.where(active, state.least, least)
            most = torch.where(active, state.most, most)
        return Box(low, high, least, most)

    def pool(self, function: Linear, state: Box) -> Box:
        """Max-pooling."""
        return Box(function(state.low), function(state.high), -function(-state.least), function(state.most))

    def same(self, function: Linear, state: Box) -> Box:
        """Averages and reshapes."""
        return Box(*(function(t) for t in (state.low, state.high, state.least, state.most)))

    def add(self, states: Sequence[Box]) -> Box:
        """Sum of branches."""
        return Box(
            *(
                torch.stack([getattr(s, name) for s in states]).sum(0)
                for name in ("low", "high", "least", "most")
            )
        )

    def join(self, function: Callable[[Sequence[torch.Tensor]], torch.Tensor], states: Sequence[Box]) -> Box:
        """Concatenation of branches."""
        return Box(
            *(function([getattr(s, name) for s in states]) for name in ("low", "high", "least", "most"))
        )

    def shape(self, state: Box) -> torch.Size:
        """Shape of the activations."""
        return state.low.shape


def _middle(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    centre = (low + high) / 2.0
    return centre, (high - low) / 2.0


def _inside(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """A point of every box in no special place, as the centre is: that may be zero, where much agrees."""
    # Multiples of the golden ratio, which spread evenly over [0, 1].
    places = torch.arange(1, low.numel() + 1, dtype=low.dtype, device=low.device) * 0.6180339887498949
    return low + (high - low) * torch.frac(places).reshape(low.shape)


def interval(
    original: torch.nn.Module, pruned: torch.nn.Module, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds on pruned(x) - original(x) for all x with low <= x <= high, entry by entry.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        Networks with the same graph and monotone activations.
    low, high : Tensor
        Opposite corners of a batch of boxes, of the input's shape.

    Returns
    -------
    tuple of Tensor
        Lower and upper bounds, of the output's shape, in float64.

    Raises
    ------
    ValueError
        If a lower corner exceeds the upper one, the networks differ in more than weights, a layer is not
        understood, or the bound is NaN.

    Examples
    --------
    >>> import torch
    >>> from nn.certify import interval
    >>> first, second = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    >>> _ = first.weight.data.fill_(2.0), second.weight.data.fill_(1.5)
    >>> interval(first, second, torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    (tensor([[-0.5000]], dtype=torch.float64), tensor([[0.]], dtype=torch.float64))
    """
    device = device_of(original)
    low, high = (corner.detach().to(device=device, dtype=torch.float64) for corner in (low, high))
    if low.shape != high.shape or bool((low > high).any()):
        raise ValueError("low and high are not corners of a box: their shapes differ, or low exceeds high")
    for network in (original, pruned):
        plain, inside = in_float64(network).to(device), _inside(low, high)
        for point in (inside, low + high - inside):
            check_faithful(plain, point)
    zeros = torch.zeros_like(low)
    box = walk(original, pruned, IntervalDomain(), Box(low, high, zeros, zeros))
    _refuse_nan(box.least, box.most)
    return box.least, box.most


def interval_certificate(
    original: torch.nn.Module, pruned: torch.nn.Module, inputs: torch.Tensor, radius: float
) -> Certificate:
    """The largest difference of outputs over boxes around given inputs.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        Networks with the same graph and monotone activations.
    inputs : Tensor
        Centres of the boxes, a batch.
    radius : float
        Half their width in every coordinate, at least 0.
    """
    # In float64 from the start: corners rounded in single precision would not enclose the box.
    centres, radius = inputs.detach().double(), check_real(radius, "radius")
    if not centres.numel() or radius < 0.0:
        raise ValueError(
            f"inputs of shape {tuple(centres.shape)} and radius = {radius:g} give no box; pass at least one "
            "input and a radius of at least 0"
        )
    least, most = interval(original, pruned, centres - radius, centres + radius)
    largest = float(torch.maximum(-least, most).max())
    return Certificate(
        "interval bound",
        f"for every input within {radius:g}, in each coordinate, of one of the {inputs.shape[0]} given ones, "
        f"no output of the pruned network is further than {largest:.4g} from that of the original one, both "
        "computed in double precision",
        value=largest,
        details={"radius": float(radius), "examples": float(inputs.shape[0])},
    )
