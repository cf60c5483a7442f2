"""How far sensitivities fall short on fresh inputs, without any assumption (theorem Q9).

Sampling of edges needs that shares are at most K times their sensitivities. That can be assumed
(theorem Q1), or measured: on inputs that the sensitivities have not seen, the largest ratio R(x) of a
share to its sensitivity is one number an input, and its quantiles hold for a further input whatever
the distribution is. Sensitivities get a floor first, since an edge that was never used may be used by
the next input.

R is a max-times product like the sensitivities, with examples and edges exchanged: for one side,
R(x) = max_i (1 / z_i(x)) max_j (w_ij / s_ij) a_j(x). Cost: not quite twice that of the sensitivities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed

from coresets._validate import check_open_unit
from coresets.certificate import Certificate
from nn.calibration import Calibration, observe
from nn.certify.search import refuse_overlap
from nn.guarantees.conformal import ConformalFactor
from nn.kernels.dispatch import Kernel, max_product
from nn.layers import EdgeLayer, find_layers
from nn.sensitivities import EdgeSensitivities

__all__ = ["Conformal", "RatioCollector", "ShareFactor", "conformal_factor", "floored"]

# Neurons are taken so many at a time that their values for all vectors of a block have about so many entries.
_VALUES_AT_ONCE = 1 << 21

THEOREM = ConformalFactor()


@dataclass(frozen=True, slots=True)
class Conformal:
    """What is to be certified of the factor, fixed before the calibration inputs are looked at.

    Parameters
    ----------
    violation : float
        Probability, in (0, 1), with which a fresh input may have a share above the factor times its
        sensitivity.
    confidence : float, optional
        If given, in (0, 1): with this probability over the calibration inputs, the violation given them
        is at most that. If not, the violation is that over calibration inputs and fresh one together.
    floor : float
        Sensitivities are raised to this over the number of edges of the neuron, in (0, 1): at most so
        much is added to the total of a neuron, which is at least 1 for a side in use.
    """

    violation: float = 0.1
    confidence: float | None = None
    floor: float = 0.1

    def __post_init__(self) -> None:
        names = ("violation", "floor") if self.confidence is None else ("violation", "floor", "confidence")
        for name in names:
            object.__setattr__(self, name, check_open_unit(getattr(self, name), name))


@dataclass(frozen=True, eq=False)
class ShareFactor:
    """Shares of a fresh input are at most so many times the sensitivities, but for a violation.

    Parameters
    ----------
    factor : float
        K. It may be below 1, if the floor is high.
    statement : Conformal
        What it means.
    examples : int
        Calibration inputs.
    rank : int
        The factor is the so many-th smallest ratio of them; if it exceeds ``examples``, they were too
        few, and the factor is what no ratio ever exceeds.
    sensitivities : mapping of str to EdgeSensitivities
        With the floor, by layer: the factor is for these.
    """

    factor: float
    statement: Conformal
    examples: int
    rank: int
    sensitivities: Mapping[str, EdgeSensitivities]

    @property
    def too_few(self) -> bool:
        """Whether the calibration inputs were too few to set the factor."""
        return self.rank > self.examples

    @property
    def certificate(self) -> Certificate:
        """The same as a certificate."""
        violation, confidence = self.statement.violation, self.statement.confidence
        over = "these and the calibration inputs together" if confidence is None else "these alone"
        return Certificate(
            "factor of the sensitivities",
            f"a fresh input has a share above {self.factor:.4g} times its sensitivity, somewhere in the "
            f"layers, with probability at most {violation:g} over {over}"
            + ("; the calibration inputs were too few to lower the factor" if self.too_few else ""),
            value=self.factor,
            confidence=1.0 - violation if confidence is None else confidence,
            details={
                "violation": violation,
                "floor": self.statement.floor,
                "examples": float(self.examples),
                "rank": float(self.rank),
            },
        )


def floored(found: EdgeSensitivities, layer: EdgeLayer, floor: float) -> EdgeSensitivities:
    """Sensitivities raised to a floor, except those of zero weights, whose shares are always zero.

    Parameters
    ----------
    found : EdgeSensitivities
        Of the layer.
    layer : EdgeLayer
        The layer.
    floor : float
        Over the number of edges of a neuron, it is the floor.

    Raises
    ------
    ValueError
        If they are those of a layer of another shape.
    """
    if tuple(found.values.shape) != layer.shape:
        raise ValueError(
            f"sensitivities have shape {tuple(found.values.shape)}, layer {layer.name!r} has {layer.shape}"
        )
    weights = layer.matrix().to(found.values.device)
    raised = found.values.clamp_min(floor / layer.shape[2])
    return replace(found, values=torch.where(weights != 0, raised, 0.0))


class RatioCollector:
    """The largest ratio of a share to its sensitivity, one an example; a :class:`~nn.calibration.Collector`.

    Parameters
    ----------
    sensitivities : EdgeSensitivities
        Of the layer that is observed, positive where its weight is not zero.
    kernel : callable, optional
        Implementation of the max-times product; see :func:`~nn.kernels.max_product`.
    """

    def __init__(self, sensitivities: EdgeSensitivities, *, kernel: Kernel | None = None) -> None:
        self._values, self._kernel = sensitivities.values, kernel
        self._found: list[torch.Tensor] = []

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Take in one batch."""
        weight = layer.matrix()
        # As for the sensitivities: half precisions have too little range for reciprocals.
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        weights = weight.to(dtype)
        values = self._values.to(device=weights.device, dtype=dtype)
        scaled = torch.where(weights != 0, weights / values, 0.0)
        patches = layer.patches(activations)
        for block in layer.inputs(activations.to(dtype)):
            if block.shape[1]:
                ratios = torch.zeros(block.shape[1], dtype=dtype, device=block.device)
                for sign in (1.0, -1.0):
                    self._take((sign * block).clamp_min_(0.0), weights, scaled, patches, ratios)
                self._found.append(ratios.reshape(-1, patches).amax(dim=1).double().cpu())

    def _take(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        scaled: torch.Tensor,
        patches: int,
        ratios: torch.Tensor,
    ) -> None:
        """Raise the ratios to those of one part of the inputs, (groups, vectors, edges)."""
        groups, vectors, edges = inputs.shape
        examples = inputs.reshape(groups, vectors // patches, patches * edges)
        sizes = examples.amax(dim=(0, 2)).repeat_interleave(patches)
        if not bool((sizes > 0.0).any()):
            return
        step = max(1, _VALUES_AT_ONCE // vectors)
        for group in range(groups):
            transposed = inputs[group].t().contiguous()
            for start in range(0, weights.shape[1], step):
                some = slice(start, start + step)
                for sign in (1.0, -1.0):
                    side = (sign * weights[group, some]).clamp_min(0.0)
                    # Edges take the place of examples.
                    numerators = max_product(
                        transposed,
                        (sign * scaled[group, some]).clamp_min(0.0).t().contiguous(),
                        kernel=self._kernel,
                    )
                    sums = side @ transposed
                    # The same sums count as zero as for the sensitivities.
                    info = torch.finfo(sums.dtype)
                    negligible = (info.eps * side.sum(dim=1, keepdim=True) * sizes).clamp_min(4 * info.tiny)
                    found = torch.where(sums > negligible, numerators / sums, 0.0)
                    torch.maximum(ratios, found.amax(dim=0), out=ratios)

    def reduce(self) -> None:
        """Append the ratios of other processes."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self._found)
            self._found = [ratios for part in parts for ratios in part]

    def ratios(self) -> torch.Tensor:
        """All of them, (examples,) in float64 on the host, in the order seen."""
        return torch.cat(self._found) if self._found else torch.zeros(0, dtype=torch.float64)


def conformal_factor(
    network: torch.nn.Module,
    sensitivities: Mapping[str, EdgeSensitivities],
    calibration: Any,
    statement: Conformal | None = None,
    *,
    seen: Any = None,
) -> ShareFactor:
    """Calibrate the factor of sensitivities on inputs that they have not seen.

    Parameters
    ----------
    network : torch.nn.Module
        The network that the sensitivities are of. Run in evaluation mode, and left as it was.
    sensitivities : mapping of str to EdgeSensitivities
        By layer name, as :func:`~nn.sensitivities.collect_sensitivities` returns them.
    calibration : iterable of batches
        Fresh inputs, independent and of the distribution in question; read once, and once more if ``seen``
        is given.
    statement : Conformal
        What is to be certified; ``Conformal()`` by default.
    seen : iterable of batches, optional
        The inputs that the sensitivities were measured on, to be compared with the fresh ones bit by bit.
        Without it the caller vouches that no input is in both.

    Returns
    -------
    ShareFactor
        Shares of all layers together, and the sensitivities with their floor.

    Raises
    ------
    ValueError
        If a layer is missing or of another shape, runs several times an input, or inputs are in both sets.

    Examples
    --------
    >>> import torch
    >>> from nn.certify.conformal import Conformal, conformal_factor
    >>> from nn.layers import find_layers
    >>> from nn.sensitivities import collect_sensitivities
    >>> network, inputs = torch.nn.Linear(8, 4), torch.rand(300, 8)
    >>> found = collect_sensitivities(network, find_layers(network), [inputs[:100]])
    >>> result = conformal_factor(network, found, [inputs[100:]], Conformal(violation=0.05))
    >>> result.rank, result.examples, result.factor < 80.0
    (191, 200, True)
    """
    statement = Conformal() if statement is None else statement
    if not isinstance(statement, Conformal):
        raise TypeError(f"statement = {statement!r}; pass Conformal(...)")
    data = Calibration.of(calibration)
    if seen is not None:
        refuse_overlap(Calibration.of(seen), data)
    layers = find_layers(network, only=set(sensitivities))
    missing = sorted(set(sensitivities) - set(layers))
    if missing or not layers:
        raise ValueError(
            f"sensitivities of {missing}, which are no layers of the network; it has none of them"
        )
    raised = {name: floored(sensitivities[name], layer, statement.floor) for name, layer in layers.items()}
    collectors = {name: RatioCollector(found) for name, found in raised.items()}
    examples = observe(network, layers, data, collectors)
    ratios = {name: collector.ratios() for name, collector in collectors.items()}
    for name, found in ratios.items():
        if found.numel() != examples:
            raise ValueError(
                f"layer {name!r} was fed {found.numel()} examples for {examples} inputs: it runs several "
                "times, or the network changes the first axis; leave it out"
            )
    largest = max(_largest(found) for found in raised.values())
    worst = torch.stack(list(ratios.values())).amax(dim=0).numpy()
    return ShareFactor(
        factor=THEOREM.factor(worst, largest, statement.violation, statement.confidence),
        statement=statement,
        examples=examples,
        rank=THEOREM.rank(examples, statement.violation, statement.confidence),
        sensitivities=raised,
    )


def _largest(found: EdgeSensitivities) -> float:
    """What ratios never exceed, since shares are at most 1; 1 for a layer of zeros."""
    positive = found.values[found.values > 0.0]
    return 1.0 / float(positive.min()) if positive.numel() else 1.0
