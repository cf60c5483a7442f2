"""What is kept of the inputs of layers: their largest norm, and some of them, evenly spread over the data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed

from nn.calibration import observe, reduce_max, reduce_sum
from nn.layers import EdgeLayer, find_layers
from nn.neurons.points import Neurons
from nn.units.method import UnitProblem

__all__ = ["InputSample", "gathered_rows", "sampled_inputs", "samples_of"]


class InputSample:
    """The largest norm of the inputs of a layer, and some of the inputs, evenly spread over the data.

    Every s-th vector is kept; when twice as many are held as wanted, every other one is forgotten and s
    doubled. Of several processes the samples are joined, so that all of them decide alike.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted, self._stride, self._next = wanted, 1, 0
        self._kept: list[torch.Tensor] = []
        self._largest: torch.Tensor | None = None

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Look at the vectors of one batch."""
        for block in layer.inputs(activations):
            norm = torch.linalg.vector_norm(block, dim=2, dtype=torch.float64).max()
            self._largest = norm if self._largest is None else torch.maximum(self._largest, norm)
            count = int(block.shape[1])
            self._kept.append(block[0, self._next :: self._stride].double())
            skipped = len(self._kept[-1]) * self._stride + self._next - count
            self._next = skipped
            self._thin()

    def _thin(self) -> None:
        held = sum(len(part) for part in self._kept)
        while held >= 2 * self._wanted:
            joined = torch.cat(self._kept)
            # The next one to keep is the one after an even number of them.
            self._next += self._stride * (held % 2)
            self._kept = [joined[::2].clone()]
            self._stride *= 2
            held = len(self._kept[0])

    def reduce(self) -> None:
        """Combine with the other processes."""
        if self._largest is not None:
            self._largest = reduce_max(self._largest)
            joined = gathered_rows(torch.cat(self._kept))
            self._kept = [joined[:: max(1, len(joined) // self._wanted)].clone()]

    @property
    def largest(self) -> float:
        """Largest Euclidean norm; never 0."""
        norm = 0.0 if self._largest is None else float(self._largest)
        return norm if norm > 0.0 else 1.0

    def vectors(self) -> torch.Tensor:
        """The sample, (vectors, d) in float64; of a grouped convolution that of the first group."""
        return torch.cat(self._kept)


def gathered_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, one process after the other; the rows themselves where there is one process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    counts = torch.zeros(torch.distributed.get_world_size(), dtype=torch.int64, device=rows.device)
    counts[torch.distributed.get_rank()] = len(rows)
    counts = reduce_sum(counts)
    padded = rows.new_zeros((int(counts.max()), rows.shape[1]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts.tolist(), strict=True)])


def sampled_inputs(
    problem: UnitProblem, neurons: Mapping[str, Neurons], wanted: int
) -> dict[str, torch.Tensor]:
    """Some input vectors of every group's producer, evenly spread over the calibration data.

    Parameters
    ----------
    problem : UnitProblem
        Its data are read once.
    neurons : mapping of str to Neurons
        The groups.
    wanted : int
        Between so many vectors and twice as many are kept, if there are so many.

    Returns
    -------
    dict of str to Tensor of float64, shape (vectors, d)
        By group, those whose producer is a ``Linear`` or ``Conv2d``.
    """
    seen = samples_of(problem, neurons, wanted)
    return {name: seen[own.producer].vectors() for name, own in neurons.items() if own.producer in seen}


def samples_of(problem: UnitProblem, neurons: Mapping[str, Neurons], wanted: int) -> dict[str, InputSample]:
    """Samples of the inputs of the groups' producers, those that are a ``Linear`` or ``Conv2d``, by layer."""
    producers = {own.producer for own in neurons.values()}
    layers = find_layers(problem.network, producers)
    samples = {name: InputSample(wanted) for name in layers}
    if samples:
        observe(problem.network, layers, problem.calibration, samples)
    return samples
