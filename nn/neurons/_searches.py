"""Groups of units as regressions, and searches for the best units of all groups of a problem."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
from nn.neurons._elimination import UnitPath, UnitRegression, better_path
from nn.neurons._moments import InputMoments, Moments, Sampling
from nn.selection import Allocation, Uniform
from nn.units.consumers import Consumer
from nn.units.method import UnitProblem, split_units

__all__ = [
    "Chosen",
    "Look",
    "Paths",
    "Regressions",
    "Sample",
    "divided",
    "kept_whole",
    "search",
    "unit_counts",
    "untouched",
]

Kept = npt.NDArray[np.bool_]

SELECTION = UnitSelection()

# Follows a path of a group, with errors at least for the numbers of units in the range.
Follow = Callable[[Sequence[UnitRegression], range], UnitPath]


@dataclass(frozen=True, slots=True)
class Paths:
    """What a search follows.

    Parameters
    ----------
    first : callable
        The path by whose errors groups compete.
    second : callable, optional
        Another, followed to the number of units that a group keeps; the better one is taken there.
    """

    first: Follow
    second: Follow | None = None

    def best(self, parts: Sequence[UnitRegression], path: UnitPath, count: int) -> UnitPath:
        """The first path or the second, whichever has the smaller error."""
        if self.second is None:
            return path
        return better_path(path, self.second(parts, range(count, count + 1)), count)


@dataclass(frozen=True, slots=True)
class Sample:
    """How many of the vectors that consumers see were used.

    Parameters
    ----------
    used, seen : int
        Added up over the consumers.
    """

    used: int
    seen: int

    def words(self) -> str:
        """For a certificate."""
        if self.used == self.seen:
            return f"on all {self.seen} calibration vectors that these see"
        return f"on {self.used} sampled ones of the {self.seen} calibration vectors that these see"

    def details(self) -> dict[str, float]:
        """The same as figures."""
        return {"vectors": float(self.used), "vectors seen": float(self.seen)}


@dataclass(frozen=True, eq=False)
class Regressions:
    """Moments of all consumers of a problem, and regressions made from them.

    Parameters
    ----------
    consumers : mapping of str to (mapping of str to Consumer)
        By group, by layer.
    moments : mapping of str to Moments
        By layer, on original inputs.
    seen : mapping of str to int
        By layer, vectors that passed, used or not.
    ridge : float or None
        Relative; None for no ridge, and no fitted constant.
    consumed : bool
        Whether the moments may be worked on in place, because nobody wants them afterwards.
    """

    consumers: Mapping[str, Mapping[str, Consumer]]
    moments: Mapping[str, Moments]
    seen: Mapping[str, int]
    ridge: float | None
    consumed: bool = False
    _made: dict[str, list[UnitRegression]] = field(default_factory=dict)

    def of(self, group: str) -> list[UnitRegression]:
        """Regressions of a group's consumers, each divided by its energy."""
        if group in self._made:
            return self._made[group]
        parts: list[UnitRegression] = []
        for name, consumer in self.consumers[group].items():
            parts += self._parts(consumer, self.moments[name])
        if self.consumed:  # they can be made only once
            self._made[group] = parts
        return parts

    def sample(self, group: str) -> Sample:
        """What a group's regressions were made from."""
        names = self.consumers[group]
        return Sample(sum(self.moments[n].vectors for n in names), sum(self.seen[n] for n in names))

    def _parts(self, consumer: Consumer, moments: Moments) -> list[UnitRegression]:
        """One for each group of a grouped convolution, on the columns that read this group's units."""
        weights = consumer.layer.matrix().double().cpu().numpy().transpose(0, 2, 1)
        columns = consumer.columns.reshape(-1).numpy()
        width = consumer.columns.shape[1]
        whole = np.array_equal(columns, np.arange(weights.shape[1]))
        if not whole:
            products = moments.products[:, columns[:, None], columns[None, :]]
        elif self.consumed or self.ridge is None:
            products = moments.products
        else:
            products = moments.products.copy()
        if self.ridge is not None:
            if consumer.layer.bias is not None:
                moments.centre(products, columns)
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


@dataclass(frozen=True, slots=True)
class Look:
    """How consumers are observed.

    Parameters
    ----------
    ridge : float or None
        Relative; None for no ridge, and no fitted constant.
    sampling : Sampling
        Vectors to use.
    max_columns : int
        Wider consumers are refused.
    consumed : bool
        Whether the moments are wanted for the regressions only.
    """

    ridge: float | None
    sampling: Sampling
    max_columns: int
    consumed: bool = False

    def observed(self, problem: UnitProblem, method: object, groups: Collection[str]) -> Regressions:
        """Moments of all consumers of some groups, from one pass over the data.

        Raises
        ------
        ValueError
            If a consumer is too wide.
        """
        check_integer(self.max_columns, "max_columns", at_least=1)
        consumers = {group: problem.consumers(group) for group in groups}
        layers: dict[str, EdgeLayer] = {}
        for own in consumers.values():
            for name, consumer in own.items():
                layers[name] = consumer.layer
                if consumer.layer.shape[2] > self.max_columns:
                    raise ValueError(
                        f"layer {name!r} has {consumer.layer.shape[2]} columns, whose second moments take "
                        "memory with the second power of that and time with the third; pass max_columns="
                        f"{consumer.layer.shape[2]} to {type(method).__name__}, or leave its units out with "
                        "PerLayer({...: Dense()})"
                    )
        collectors = {name: InputMoments(self.sampling) for name in layers}
        observe(problem.network, layers, problem.calibration, collectors)
        moments = {name: collector.moments(layers[name]) for name, collector in collectors.items()}
        seen = {name: collector.seen for name, collector in collectors.items()}
        return Regressions(consumers, moments, seen, self.ridge, self.consumed)


def divided(problem: UnitProblem, allocation: Allocation) -> list[Share]:
    """The parts in which groups compete."""
    return [part for share in problem.shares for part in split_units(allocation, share, problem.sizes)]


def untouched(parts: Sequence[Share], sizes: Mapping[str, int]) -> set[str]:
    """Groups that keep all their units, whatever a search would find."""
    whole = [part for part in parts if part.count >= sum(sizes[name] for name in part.layers)]
    return {name for part in whole for name in part.layers}


def search(
    sizes: Mapping[str, int], parts: Sequence[Share], regressions: Regressions, paths: Paths, *, bounded: bool
) -> dict[str, Chosen]:
    """Follow paths of groups, and spend the budget along them.

    Parameters
    ----------
    sizes : mapping of str to int
        Units of each group.
    parts : sequence of Share
        Groups of one part compete by their errors.
    regressions : Regressions
        Of the groups.
    paths : Paths
        The search.
    bounded : bool
        Whether theorem B1-U covers it.
    """
    chosen: dict[str, Chosen] = {}
    for part in parts:
        chosen |= _spent(part, sizes, regressions, paths, bounded)
    return chosen


def kept_whole(group: str, units: int) -> Chosen:
    """The choice of a group that loses nothing."""
    words = f"no unit of {group!r} was removed, so that the outputs that read them lose nothing"
    return Chosen(torch.ones(units, dtype=torch.bool), Certificate("reconstruction", words, value=0.0))


def _spent(
    part: Share, sizes: Mapping[str, int], regressions: Regressions, paths: Paths, bounded: bool
) -> dict[str, Chosen]:
    """The choice for the groups of one part, at least one unit each."""
    if len(part.layers) == 1:
        name = part.layers[0]
        found = {name: paths.first(regressions.of(name), range(part.count, part.count + 1))}
        counts = {name: part.count}
    else:
        # No group can have more than what is left when all others keep one unit.
        most = part.count - len(part.layers) + 1
        lengths = {name: min(sizes[name], most) for name in part.layers}
        found = {name: paths.first(regressions.of(name), range(1, 1 + lengths[name])) for name in part.layers}
        rows = []
        for name, path in found.items():
            least = np.minimum.accumulate(path.errors[: lengths[name] + 1])
            rows.append(least[None, 1:] / (float(least[0]) or 1.0))
        further = np.array([lengths[name] - 1 for name in part.layers], dtype=np.int64)
        spent = spend(stacked(rows, np.inf), further, part.count - len(part.layers))
        assert spent is not None
        counts = {name: 1 + int(more) for name, more in zip(part.layers, spent.counts, strict=True)}
    chosen = {}
    for name in part.layers:
        parts, count = regressions.of(name), counts[name]
        keep = paths.best(parts, found[name], count).keep(count, parts[0].units)
        evidence = _evidence(name, parts, keep, regressions.sample(name), bounded=bounded)
        chosen[name] = Chosen(torch.from_numpy(keep), evidence)
    return chosen


def unit_counts(problem: UnitProblem, allocation: Allocation) -> dict[str, int]:
    """Units to keep in each group, for methods that do not compare groups.

    What several groups are to keep together is divided among them in proportion to their sizes.
    """
    counts: dict[str, int] = {}
    for part in divided(problem, allocation):
        for own in split_units(Uniform(), part, problem.sizes):
            counts[own.layers[0]] = own.count
    return counts


def _evidence(
    group: str, parts: Sequence[UnitRegression], keep: Kept, sample: Sample, *, bounded: bool
) -> Certificate:
    """The error of kept units with refitted consumers, recomputed, and what theory promises."""
    units = np.flatnonzero(keep)
    energy = sum(part.energy for part in parts)
    achieved = sum(part.squared_error(units) for part in parts) / (energy or 1.0)
    norms = np.sqrt(np.maximum(np.sum([part.squared_norms() for part in parts], axis=0), 0.0))
    spread = float(SELECTION.spread(norms, energy))
    bound = float(SELECTION.relative_squared_error(spread, len(units))) if bounded else None
    rho = {"rho": spread, "units for half the error": float(SELECTION.size(max(spread, 1.0), 0.5))}
    return Certificate(
        "reconstruction",
        f"squared error of the layers that read the units of {group!r}, with least-squares weights, "
        f"{sample.words()} in the original network, with the ridge and relative to no units: {achieved:.4g}",
        value=achieved,
        bound=bound,
        details=rho | sample.details(),
    )
