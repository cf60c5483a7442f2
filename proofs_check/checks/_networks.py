"""Parts that the attacks on networks share: networks made from workloads, and exact scenarios."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from coresets.accuracy import Accuracy
from proofs_check.check import Fault, Scenario
from proofs_check.trials import Trial
from proofs_check.workloads import Workload, thinned

__all__ = ["EPS", "RATIO", "exact_scenario", "first_points", "network", "seed_of", "usable"]

EPS = float(torch.finfo(torch.float64).eps)
RATIO = "observed over certified; 1 is attained, more refutes"
_LARGE = 1000
_POINTS = 200  # of every workload; the statements are about networks, not about many points


def first_points(workload: Workload) -> torch.Tensor:
    """Points of a workload, thinned, as a tensor."""
    return torch.from_numpy(np.asarray(thinned(workload, _POINTS).data.points, dtype=np.float64))


def seed_of(workload: Workload) -> int:
    """Seed of whatever is made for a workload, fixed by its name: only the sampler may vary."""
    return zlib.crc32(workload.name.encode())


def network(widths: Sequence[int], seed: int) -> torch.nn.Sequential:
    """A perceptron in float64 with random weights of a fixed seed."""
    generator = torch.Generator().manual_seed(seed)
    modules: list[torch.nn.Module] = []
    for fan_in, out in itertools.pairwise(widths):
        layer = torch.nn.Linear(fan_in, out, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)
            layer.bias.normal_(0.0, 0.1, generator=generator)
        modules += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def usable(workloads: Sequence[Workload], count: int) -> list[Workload]:
    """The first few workloads that are not degenerate, and a large one of the others.

    The bundled sets come first, so that what must be caught does not depend on what a data directory
    adds; of these, one is taken too.
    """
    found = [w for w in workloads if w.kind != "degenerate"]
    more = [w for w in found[count:] if w.kind == "real" and w.n >= _LARGE]
    return [*found[:count], *more[-1:]]


def exact_scenario(
    workload: Workload, name: str, trial: Trial, broken: Mapping[tuple[str, str], Trial], *, note: str = RATIO
) -> Scenario:
    """A deterministic claim about networks made from a workload."""
    return Scenario(
        workload=Workload(f"{workload.name}, {name}", workload.kind, workload.data),
        size=min(workload.n, _POINTS),
        claimed=Accuracy(1.0, 0.0),
        trial=trial,
        faults=tuple(Fault(fault[0], t) for fault, t in broken.items()),
        note=note,
    )
