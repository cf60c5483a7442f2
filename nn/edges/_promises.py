"""A priori errors of sparsified layers and networks, as certificates; Q6 adds the sides of a neuron."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coresets._validate import check_real
from coresets.certificate import Certificate
from nn.edges._sides import Drawn, Sides
from nn.guarantees.edges import ComposedError, EdgeTruncation, SampledLayer, SensitivityTransfer
from nn.sensitivities import EdgeSensitivities

__all__ = ["Promise", "Sparsified", "Transfer", "promise", "side_errors"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Transfer:
    """The assumption under which sensitivities of a sample hold for fresh inputs (Q1).

    Parameters
    ----------
    factor : float
        K: a share exceeds 1/K of its largest value ...
    rarity : float
        K': ... with a probability of at least 1 - exp(-1/K').
    """

    factor: float = 3.0
    rarity: float = 3.0

    def __post_init__(self) -> None:
        for name, least in (("factor", 1.0), ("rarity", 0.0)):
            number = check_real(getattr(self, name), name)
            if number < least or number == 0.0:
                raise ValueError(f"{name} = {number:g} is too small; K is at least 1 and K' positive")
            object.__setattr__(self, name, number)


@dataclass(frozen=True, eq=False)
class Sparsified:
    """One layer: its sides, what was kept of them, and what the inputs have shown."""

    sides: Sides
    drawn: Drawn
    found: EdgeSensitivities


@dataclass(frozen=True, eq=False)
class Promise:
    """Certificates of the layers and of the network."""

    layers: Mapping[str, Certificate]
    network: Certificate
    notes: Sequence[str]


def side_errors(sides: Sides, drawn: Drawn, factor: float, delta: float) -> Array:
    """Relative errors of all sides on exact inputs, of shape (2, neurons).

    Parameters
    ----------
    sides, drawn
        The layer.
    factor : float
        C: shares are at most this times their sensitivities.
    delta : float
        Probability that one side fails for one vector.
    """
    rest, kappa = drawn.rest, drawn.kappa
    by_chance = SampledLayer().errors(rest.ravel(), kappa.ravel(), factor, delta).reshape(rest.shape)
    without = EdgeTruncation().errors(sides.dropped(drawn.factors), factor)
    result: Array = np.where(np.isinf(kappa), without, by_chance + factor * drawn.corrections)
    return result


def promise(
    layers: Mapping[str, Sparsified],
    conditions: Mapping[str, float],
    transfer: Transfer,
    delta: float,
    candidates: int = 1,
) -> Promise:
    """What theory promises for sparsified layers.

    Parameters
    ----------
    layers : mapping of str to Sparsified
        In the order of the network.
    conditions : mapping of str to float
        Bounds on their condition numbers.
    transfer : Transfer
        The assumption of Q1.
    delta : float
        Probability that sampling fails for one input, all layers together.
    candidates : int
        Number of draws among which one was chosen: they must all succeed, since the choice has seen them.
    """
    found = {name: layer.found for name, layer in layers.items()}
    examples = min(one.examples for one in found.values())
    # Counted from the weights and not from the sensitivities: an edge that the sample never used is one
    # for which they may be wrong.
    pairs = sum(
        int((side.alive & (side.magnitudes > 0.0)).sum()) for side in (one.sides for one in layers.values())
    )
    failure = SensitivityTransfer().failure(max(1, pairs), examples, transfer.rarity)
    random = any(bool(np.isfinite(layer.drawn.kappa).any()) for layer in layers.values())
    certificates, exact, perturbed = {}, [], []
    for name, layer in layers.items():
        neurons = layer.sides.values.shape[0]
        statements = SampledLayer().statements(neurons, found[name].patches, found[name].halves)
        own = delta / len(layers) / statements / candidates
        errors = side_errors(layer.sides, layer.drawn, transfer.factor, own)
        exact.append(float(errors.max()))
        # Sensitivities were measured on exact inputs; on inputs within 1 +- 1/2 of them shares are at most
        # three times as large.
        perturbed.append(float(side_errors(layer.sides, layer.drawn, 3.0 * transfer.factor, own).max()))
        certificates[name] = _certificate(
            "a priori error of the layer",
            "relative error of the worst side of a neuron on the layer's exact inputs, if each share exceeds "
            f"1/{transfer.factor:g} of its largest value with probability 1 - exp(-1/{transfer.rarity:g})",
            exact[-1],
            max(0.0, 1.0 - failure - (delta if random else 0.0)),
            {"median_error": float(np.median(errors)), "patches": float(found[name].patches)},
        )
    bounds = [conditions[name] for name in layers]
    composed = ComposedError().errors([exact[0], *perturbed[1:]], bounds)
    # The factor of three needs errors of hidden layers up to 1/2.
    output = composed[-1] if all(error <= 0.5 for error in composed[:-1]) else math.inf
    network = _certificate(
        "a priori error",
        "relative error of every output without biases, if the layers form a chain with rectifiers between "
        "them, condition numbers are at most those in the details, and shares are as for the layers",
        output,
        max(0.0, 1.0 - failure - (delta if random else 0.0)),
        {f"condition {name}": value for name, value in conditions.items()},
    )
    vacuous = [name for name, one in certificates.items() if one.value >= 1.0]
    notes = []
    if vacuous:
        notes.append(f"the a priori error is vacuous (at least 1) for {', '.join(map(repr, vacuous))}")
    if output >= 1.0:
        notes.append("the a priori error of the network is vacuous; see nn.held_out and nn.additive")
    if failure >= 1.0:
        needed = SensitivityTransfer().examples(max(1, pairs), 0.1, transfer.rarity)
        notes.append(
            f"{examples} inputs are too few for {pairs} sensitivities: the theory needs {needed} for "
            "a failure probability of 0.1"
        )
    return Promise(certificates, network, notes)


def _certificate(
    name: str, statement: str, error: float, confidence: float, details: Mapping[str, float]
) -> Certificate:
    """A certificate whose value is finite, and whose details say whether it says anything."""
    value = min(error, sys.float_info.max)
    return Certificate(
        name,
        f"{statement}; {'vacuous' if value >= 1.0 or confidence == 0.0 else 'not vacuous'}",
        value,
        confidence=confidence,
        details={**details, "vacuous": float(value >= 1.0 or confidence == 0.0)},
    )
