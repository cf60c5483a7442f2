"""Groups of units as regressions, and searches for the best units of all groups of a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from coresets._validate import check_integer
from coresets.certificate import Certificate
from nn.budgets import Share
from nn.calibration import observe
from nn.edges._allocation import spend, stacked
from nn.guarantees.greedy import UnitSelection
from nn.layers import EdgeLayer
from nn.neurons._elimination import UnitPath, UnitRegression, contributions
from nn.neurons._moments import InputMoments, Moments, Sampling
from nn.selection import Allocation, Uniform
from nn.units.consumers import Consumer
from nn.units.method import UnitProblem, split_units

__all__ = ["Chosen", "Paths", "Regressions", "observed", "search", "unit_counts"]

Kept = npt.NDArray[np.bool_]

SELECTION = UnitSelection()

# Follows a group's path so many units far; what it returns may be longer.
Paths = Callable[[Sequence[UnitRegression], int], Sequence[UnitPath]]


@dataclass(frozen=True, eq=False)
class Regressions:
    """Moments of all consumers of a problem, and regressions made from them.

    Parameters
    ----------
    consumers : mapping of str to (mapping of str to Consumer)
        By group, by layer.
    moments : mapping of str to Moments
        By layer, on original inputs.
    ridge : float or None
        Relative; None for no ridge, and no fitted constant.
    """

    consumers: Mapping[str, Mapping[str, Consumer]]
    moments: Mapping[str, Moments]
    ridge: float | None

    def of(self, group: str) -> list[UnitRegression]:
        """Regressions of a group's consumers, each divided by its energy."""
        parts: list[UnitRegression] = []
        for name, consumer in self.consumers[group].items():
            parts += self._parts(consumer, self.moments[name])
        return parts

    def _parts(self, consumer: Consumer, moments: Moments) -> list[UnitRegression]:
        """One for each group of a grouped convolution, on the columns that read this group's units."""
        weights = consumer.layer.matrix().double().cpu().numpy().transpose(0, 2, 1)
        columns = consumer.columns.reshape(-1).numpy()
        width = consumer.columns.shape[1]
        if self.ridge is not None and consumer.layer.bias is not None:
            moments = moments.centred()
        products = moments.products[:, columns[:, None], columns[None, :]]
        if self.ridge is not None:
            diagonals = np.einsum("gmm->gm", products)  # a view
            diagonals += self.ridge * (float(diagonals.mean()) or 1.0)
        own = [
            UnitRegression(matrix, np.ascontiguousarray(w[columns]), width)
            for matrix, w in zip(products, weights, strict=True)
        ]
        energy = sum(part.energy for part in own)
        return [part.scaled(1.0 / energy) for part in own] if energy > 0.0 else own


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a search keeps of one group.

    Parameters
    ----------
    keep : Tensor of bool, shape (units,)
        The units.
    certificate : Certificate
        Its error, beside the bound of B1-U if the search is covered by it.
    """

    keep: torch.Tensor
    certificate: Certificate


def observed(
    problem: UnitProblem, method: object, *, ridge: float | None, sampling: Sampling, max_columns: int
) -> Regressions:
    """Moments of all consumers from one pass over the data.

    Raises
    ------
    ValueError
        If a consumer is too wide.
    """
    check_integer(max_columns, "max_columns", at_least=1)
    consumers = {group: problem.consumers(group) for group in problem.groups}
    layers: dict[str, EdgeLayer] = {}
    for own in consumers.values():
        for name, consumer in own.items():
            layers[name] = consumer.layer
            if consumer.layer.shape[2] > max_columns:
                raise ValueError(
                    f"layer {name!r} has {consumer.layer.shape[2]} columns, whose second moments take "
                    f"memory with the second power of that and time with the third; pass max_columns="
                    f"{consumer.layer.shape[2]} to {type(method).__name__}, or leave its units out with "
                    "PerLayer({...: Dense()})"
                )
    collectors = {name: InputMoments(sampling) for name in layers}
    observe(problem.network, layers, problem.calibration, collectors)
    moments = {name: collector.moments(layers[name]) for name, collector in collectors.items()}
    return Regressions(consumers, moments, ridge)


def search(
    problem: UnitProblem, regressions: Regressions, allocation: Allocation, paths: Paths, *, bounded: bool
) -> dict[str, Chosen]:
    """Follow paths of all groups, and spend the budget along them.

    Parameters
    ----------
    problem : UnitProblem
        The network as it was.
    regressions : Regressions
        Of its groups.
    allocation : Allocation
        How counts are divided; groups of one part compete by their errors.
    paths : callable
        The search.
    bounded : bool
        Whether theorem B1-U covers it.
    """
    chosen: dict[str, Chosen] = {}
    for share in problem.shares:
        for part in split_units(allocation, share, problem.sizes):
            chosen |= _spent(part, problem.sizes, regressions, paths, bounded)
    return {group: chosen[group] for group in problem.groups}


def _spent(
    part: Share, sizes: Mapping[str, int], regressions: Regressions, paths: Paths, bounded: bool
) -> dict[str, Chosen]:
    """The choice for the groups of one part, at least one unit each."""
    if len(part.layers) == 1:
        name = part.layers[0]
        parts = regressions.of(name)
        return {name: _chosen(name, parts, paths(parts, part.count), part.count, bounded)}
    found = {name: paths(regressions.of(name), sizes[name]) for name in part.layers}
    rows = []
    for own in found.values():
        least = np.minimum.accumulate(np.min([path.errors for path in own], axis=0))
        rows.append(least[None, 1:] / (float(least[0]) or 1.0))
    lengths = np.array([sizes[name] - 1 for name in part.layers], dtype=np.int64)
    spent = spend(stacked(rows, np.inf), lengths, part.count - len(part.layers))
    assert spent is not None
    counts = {name: 1 + int(more) for name, more in zip(part.layers, spent.counts, strict=True)}
    return {
        name: _chosen(name, regressions.of(name), found[name], counts[name], bounded) for name in part.layers
    }


def _chosen(
    name: str, parts: Sequence[UnitRegression], paths: Sequence[UnitPath], count: int, bounded: bool
) -> Chosen:
    """The units of the better path."""
    best = min(paths, key=lambda path: path.errors[count])
    keep = best.keep(count, parts[0].units)
    return Chosen(torch.from_numpy(keep), _evidence(name, parts, keep, bounded=bounded))


def unit_counts(problem: UnitProblem, allocation: Allocation) -> dict[str, int]:
    """Units to keep in each group, for methods that do not compare groups.

    What several groups are to keep together is divided among them in proportion to their sizes.
    """
    counts: dict[str, int] = {}
    for share in problem.shares:
        for part in split_units(allocation, share, problem.sizes):
            for own in split_units(Uniform(), part, problem.sizes):
                counts[own.layers[0]] = own.count
    return counts


def _evidence(group: str, parts: Sequence[UnitRegression], keep: Kept, *, bounded: bool) -> Certificate:
    """The error of kept units with refitted consumers, recomputed, and what theory promises."""
    units = np.flatnonzero(keep)
    products = contributions(parts)
    energy = float(products.sum())
    achieved = sum(part.squared_error(units) for part in parts) / (energy or 1.0)
    norms = np.sqrt(np.maximum(np.diagonal(products), 0.0))
    spread = float(SELECTION.spread(norms, energy))
    bound = float(SELECTION.relative_squared_error(spread, len(units))) if bounded else None
    return Certificate(
        "reconstruction",
        f"squared error of the outputs that read the units of {group!r} with least-squares weights on their "
        f"original calibration inputs, with the ridge and relative to no units: {achieved:.4g}",
        value=achieved,
        bound=bound,
        details={"rho": spread, "units for half the error": float(SELECTION.size(max(spread, 1.0), 0.5))},
    )
