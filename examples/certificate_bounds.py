"""Every certificate of a pruned network, its bound beside what was observed on test images.

Bounds see the calibration and certification images; what is observed comes from the test images, which
no bound has seen, except where a certificate speaks of given inputs only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import nn
from coresets.certificate import Certificate
from examples.images import ImageSet
from examples.networks import accuracy
from examples.trained import batches
from nn.calibration import Calibration, observe
from nn.certify import (
    Conformal,
    OutputDifference,
    ShareFactor,
    additive_certificate,
    conformal_factor,
    errors_on,
    held_out,
    interval,
    occam,
)
from nn.certify.conformal import RatioCollector
from nn.certify.graph import in_float64
from nn.gram import Gram, collect_grams
from nn.guarantees import EdgeTruncation, EveryInput
from nn.layers import EdgeLayer, find_layers
from nn.sensitivities import collect_sensitivities

__all__ = ["CERTIFICATES", "Network", "Row", "factor_rows", "length_row", "rows", "share_factor"]

# What each row bounds; the order is that of tables and plots.
CERTIFICATES: Mapping[str, str] = {
    "a priori, network": "relative error of an output",
    "a priori, worst side": "relative error of the worst side of a neuron",
    "a priori, median side": "relative error of the median side of a layer",
    "K-free, worst side": "the same for the worst side, factor from fresh inputs",
    "K-free, median side": "the same for the median side",
    "B1, layers": "relative error of a layer on the calibration images",
    "B3, every input": "change of a neuron over the largest sum of its layer",
    "additive": "output difference on 256 given images",
    "interval, 0.01": "output difference over boxes around 64 images",
    "interval, 0.1": "the same, ten times as wide",
    "held-out, norm": "probability of an output difference above a threshold",
    "held-out, class": "probability that the predicted class changes",
    "description length": "probability of a wrong class, 16 bits a weight",
}

ALPHA, BETA = 0.1, 0.05  # violation and one minus confidence of the factors
_DELTA = 0.1  # the default failure probability of the a priori errors
_GIVEN, _CENTRES, _TEST, _ASCENT = 256, 64, 2000, 10


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate of one pruned network.

    Parameters
    ----------
    certificate : str
        A key of ``CERTIFICATES``.
    bound, observed : float
        The bound, infinite if there is none, and what it bounds, as seen.
    vacuous : bool
        Whether the bound excludes nothing that a network of zeros would not do.
    """

    certificate: str
    bound: float
    observed: float
    vacuous: bool


class _Inputs:
    """Keeps what a layer is fed, its vectors in float64; for small networks only."""

    def __init__(self) -> None:
        self._blocks: list[torch.Tensor] = []

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Take in one batch."""
        self._blocks.extend(block.double() for block in layer.inputs(activations))

    def reduce(self) -> None:
        """Nothing: one process."""

    def vectors(self) -> torch.Tensor:
        """All of them, (groups, vectors, edges)."""
        return torch.cat(self._blocks, dim=1)


@dataclass(frozen=True, eq=False)
class Network:
    """A network and what all its certificates share.

    Parameters
    ----------
    network : torch.nn.Module
        The original one; linear layers only, so that an input is one vector of each layer.
    images : ImageSet
        Its data.
    factor : ShareFactor
        From the certification images, given which it holds with confidence 1 - BETA.
    grams : mapping of str to Gram
        Second moments of the calibration images, by layer.
    inputs : mapping of str to Tensor
        What the layers are fed for test images, (1, images, edges).
    """

    network: torch.nn.Module
    images: ImageSet
    factor: ShareFactor
    grams: Mapping[str, Gram]
    inputs: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, network: torch.nn.Module, images: ImageSet) -> Network:
        """Measure what is needed."""
        layers = find_layers(network)
        collectors = {name: _Inputs() for name in layers}
        observe(network, layers, Calibration.of([images.test[0][:_TEST]]), collectors)
        return cls(
            network,
            images,
            share_factor(network, images, 1.0 - BETA),
            collect_grams(network, layers, batches(images.calibration)),
            {name: collector.vectors() for name, collector in collectors.items()},
        )


def share_factor(network: torch.nn.Module, images: ImageSet, confidence: float | None) -> ShareFactor:
    """Sensitivities from the calibration images, and their factor from the certification images."""
    found = collect_sensitivities(network, find_layers(network), batches(images.calibration))
    return conformal_factor(
        network,
        found,
        batches(images.certification),
        Conformal(violation=ALPHA, confidence=confidence),
        seen=batches(images.calibration),
    )


def factor_rows(network: torch.nn.Module, images: ImageSet) -> Iterator[dict[str, Any]]:
    """Both forms of the factor, with the share of test images that exceed it."""
    layers = find_layers(network)
    for form, confidence in (("over all inputs", None), ("given the inputs", 1.0 - BETA)):
        found = share_factor(network, images, confidence)
        collectors = {name: RatioCollector(found.sensitivities[name]) for name in layers}
        observe(network, layers, Calibration.of(batches(images.test)), collectors)
        ratios = torch.stack([one.ratios() for one in collectors.values()]).amax(dim=0)
        least = min(float(s.values[s.values > 0.0].min()) for s in found.sensitivities.values())
        edges = torch.cat([s.values[s.values > 0.0] for s in found.sensitivities.values()])
        yield {
            "form": form,
            "examples": found.examples,
            "rank": found.rank,
            "factor": found.factor,
            "trivial": 1.0 / least,
            "informative": float((found.factor * edges < 1.0).double().mean()),
            "above_one": float((ratios > 1.0).double().mean()),
            "violation": ALPHA,
            "observed": float((ratios > found.factor).double().mean()),
        }


def rows(base: Network, pruned: nn.Pruned) -> Iterator[Row]:
    """All certificates that there are for a pruned network."""
    yield from _a_priori(base, pruned)
    yield from _in_second_moments(base, pruned)
    yield from _through_layers(base, pruned)
    yield from _from_held_out(base, pruned)
    yield length_row(base, pruned)


def _side_errors(base: Network, pruned: nn.Pruned, name: str) -> np.ndarray:
    """Relative errors of all sides of a layer on its exact inputs, (test images, sides).

    The larger one for the positive and the negative part of the inputs.
    """
    layer = find_layers(base.network)[name]
    weight = layer.matrix()[0].double()
    new = layer.matrix(pruned.plan.layers[name].weight)[0].double()
    inputs = base.inputs[name][0]
    errors = []
    for sign in (weight > 0.0, weight < 0.0):
        both = []
        for half in (inputs.clamp_min(0.0), (-inputs).clamp_min(0.0)):
            sums = half @ (weight.abs() * sign).t()
            change = (half @ ((new - weight) * sign).t()).abs()
            # Sums that the single-precision network could not tell from zero say nothing.
            small = 1e-6 * half.amax(dim=1, keepdim=True) * (weight.abs() * sign).sum(dim=1)
            both.append(torch.where(sums > small, change / sums, 0.0))
        errors.append(torch.maximum(*both))
    return np.asarray(torch.cat(errors, dim=1))


def _a_priori(base: Network, pruned: nn.Pruned) -> Iterator[Row]:
    """The sampler's own errors (Q1 to Q7), and those of dropping edges with a calibrated factor (Q5, Q9)."""
    seen = {name: _side_errors(base, pruned, name) for name in base.inputs}
    worst = float(np.quantile(np.max([e.max(axis=1) for e in seen.values()], axis=0), 1.0 - _DELTA))
    medians = {name: float(np.median(np.quantile(e, 1.0 - _DELTA, axis=0))) for name, e in seen.items()}
    median = max(medians.values())
    layers = {
        name: one
        for name, plan in pruned.plan.layers.items()
        for one in plan.certificates
        if one.name == "a priori error of the layer"
    }
    if layers:
        (network,) = pruned.plan.certificates
        bound = math.inf if network.value > 1e300 else network.value
        yield Row("a priori, network", bound, _relative_error(base, pruned), bool(network.details["vacuous"]))
        yield _side_row("a priori, worst side", [c.value for c in layers.values()], worst)
        yield _side_row("a priori, median side", [c.details["median_error"] for c in layers.values()], median)
    if all(_unchanged(base, pruned, name) for name in base.inputs):
        bounds = {name: _truncation(base, pruned, name) for name in base.inputs}
        yield _side_row("K-free, worst side", [float(b.max()) for b in bounds.values()], worst)
        yield _side_row("K-free, median side", [float(np.median(b)) for b in bounds.values()], median)


def _side_row(name: str, bounds: list[float], observed: float) -> Row:
    return Row(name, max(bounds), observed, max(bounds) >= 1.0)


def _relative_error(base: Network, pruned: nn.Pruned) -> float:
    """Largest relative error of an output without its bias, for all but a share of the test images."""
    x = base.images.test[0][:_TEST].double()
    before, after = in_float64(base.network), in_float64(pruned.model)
    last = list(find_layers(before).values())[-1]
    bias = 0.0 if last.bias is None else last.bias
    old, new = before(x) - bias, after(x) - bias
    return float(np.quantile(((new - old).abs() / old.abs()).amax(dim=1), 1.0 - _DELTA))


def _unchanged(base: Network, pruned: nn.Pruned, name: str) -> bool:
    """Whether weights were dropped or left as they are."""
    plan, weight = pruned.plan.layers[name], find_layers(base.network)[name].weight
    return bool(torch.equal(plan.weight, torch.where(plan.keep, weight, 0.0)))


def _truncation(base: Network, pruned: nn.Pruned, name: str) -> np.ndarray:
    """Bounds for all sides of a layer from the calibrated factor, those that exist in the network."""
    layer = find_layers(base.network)[name]
    dropped = ~layer.matrix(pruned.plan.layers[name].keep)[0]
    weight, values = layer.matrix()[0], base.factor.sensitivities[name].values[0].double()
    sums = [(values * dropped * sign).sum(dim=1) for sign in (weight > 0.0, weight < 0.0)]
    return np.asarray(EdgeTruncation().errors(torch.cat(sums).numpy(), base.factor.factor))


def _in_second_moments(base: Network, pruned: nn.Pruned) -> Iterator[Row]:
    """B1, where a search has it, and B3, which holds for any method."""
    found = [
        one for plan in pruned.plan.layers.values() for one in plan.certificates if one.bound is not None
    ]
    if found:
        bound, seen = (max(map(math.sqrt, values)) for values in zip(*map(_both, found), strict=True))
        yield Row("B1, layers", bound, seen, bound >= 1.0)
    bounds, largest = [], []
    for name, layer in find_layers(base.network).items():
        gram, inputs = base.grams[name], base.inputs[name]
        weight = layer.matrix().double()
        change = (layer.matrix(pruned.plan.layers[name].weight) - layer.matrix()).double()
        scale = float((inputs @ weight.transpose(1, 2)).abs().max())
        leverages = gram.leverages(inputs.numpy()).max(axis=1)
        errors = gram.squared_errors(change.numpy()).max(axis=1)
        bounds.append(float(EveryInput().error(leverages, errors).max()) / scale)
        largest.append(float((inputs @ change.transpose(1, 2)).abs().max()) / scale)
    yield Row("B3, every input", max(bounds), max(largest), max(bounds) >= 1.0)


def _both(certificate: Certificate) -> tuple[float, float]:
    assert certificate.bound is not None
    return certificate.bound, certificate.value


def _through_layers(base: Network, pruned: nn.Pruned) -> Iterator[Row]:
    """Q8 on given images, Q8-I on boxes around some."""
    given = base.images.certification[0][:_GIVEN]
    found = additive_certificate(base.network, pruned.model, [given])
    yield Row("additive", found.value, found.details["observed"], found.value >= _range(base, given))
    centres = given[:_CENTRES].double()
    for radius in (0.01, 0.1):
        least, most = interval(base.network, pruned.model, centres - radius, centres + radius)
        bound = float(torch.maximum(-least, most).max())
        seen = _ascent(base, pruned, centres, radius)
        yield Row(f"interval, {radius:g}", bound, seen, bound >= _range(base, centres))


def _range(base: Network, inputs: torch.Tensor) -> float:
    """Largest output: as much as a network of zeros would be wrong by."""
    return float(in_float64(base.network)(inputs.double()).abs().max())


def _ascent(base: Network, pruned: nn.Pruned, centres: torch.Tensor, radius: float) -> float:
    """Largest difference of an output that sign ascent finds inside the boxes."""
    before, after = in_float64(base.network), in_float64(pruned.model)
    x, largest = centres.clone(), 0.0
    for _ in range(_ASCENT):
        x.requires_grad_()
        worst = (after(x) - before(x)).abs().amax(dim=1)
        largest = max(largest, float(worst.detach().max()))
        (slope,) = torch.autograd.grad(worst.sum(), x)
        x = torch.clamp(x.detach() + radius / 2.0 * slope.sign(), centres - radius, centres + radius)
    return max(largest, float((after(x) - before(x)).abs().max()))


def _from_held_out(base: Network, pruned: nn.Pruned) -> Iterator[Row]:
    """Q10, with a threshold fixed on the calibration images."""
    both, norm = (base.network, pruned.model), OutputDifference()
    epsilon = float(np.quantile(errors_on(*both, batches(base.images.calibration), norm), 0.9))
    for name, error, threshold in (
        ("held-out, norm", norm, epsilon),
        ("held-out, class", nn.ClassChange(), 0.0),
    ):
        found = held_out(*both, batches(base.images.certification), error, epsilon=threshold)
        seen = float((errors_on(*both, batches(base.images.test), error) > threshold).double().mean())
        yield Row(name, found.violation, seen, found.violation >= 1.0 - 1.0 / base.images.classes)


def length_row(base: Network, pruned: nn.Pruned) -> Row:
    """C5 of the network with all parameters rounded to 16 bits."""
    rounded = copy.deepcopy(pruned.finalize()).to(torch.bfloat16).to(torch.float32)
    error = 1.0 - accuracy(rounded, base.images.train)
    found = occam(rounded, min(1.0, max(0.0, error)), len(base.images.train[1]), bits_per_value=16)
    limit = 1.0 - 1.0 / base.images.classes
    return Row(
        "description length", found.value, 1.0 - accuracy(rounded, base.images.test), found.value >= limit
    )
