"""Methods that know units by the inner products of what they add to their consumers.

Such a method looks at the data once, works on every group by itself, and gives the units that stay new
factors. What is common to all of them is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from coresets._validate import check_integer
from nn.neurons._elimination import Matrix, contributions
from nn.neurons._moments import Sampling
from nn.neurons._searches import Look, Sample, unit_counts
from nn.selection import Allocation
from nn.units.consumers import Consumer
from nn.units.method import UnitProblem, check_allocation

__all__ = ["Added", "SampledMethod", "added_by_units", "check_sampled"]


class SampledMethod(Protocol):
    """What such a method is told.

    Attributes
    ----------
    allocation : Allocation
        How counts are divided.
    patches : int
        Of each image (or sequence) at most so many patches (tokens) are used.
    max_columns : int
        Consumers with more columns are refused.
    """

    @property
    def allocation(self) -> Allocation: ...
    @property
    def patches(self) -> int: ...
    @property
    def max_columns(self) -> int: ...


def check_sampled(method: SampledMethod) -> None:
    """Refuse bad settings.

    Raises
    ------
    TypeError, ValueError
        If one is.
    """
    check_allocation(method.allocation)
    check_integer(method.patches, "patches", at_least=1)
    check_integer(method.max_columns, "max_columns", at_least=1)


@dataclass(frozen=True, eq=False)
class Added:
    """What the units of one group add to their consumers.

    Parameters
    ----------
    group : str
        Its name.
    products : array of shape (U, U)
        K, inner products over the sampled vectors, each consumer divided by its energy.
    count : int
        How many units are to stay.
    sample : Sample
        The vectors.
    consumers : mapping of str to Consumer
        By layer.
    """

    group: str
    products: Matrix
    count: int
    sample: Sample
    consumers: Mapping[str, Consumer]

    def energy(self) -> float:
        """Squared norm of all outputs, or 1 where that is 0: what errors are relative to."""
        energy = float(self.products.sum())
        return energy if energy > 0.0 else 1.0

    def rescale(self, factors: Matrix, updates: dict[str, torch.Tensor]) -> None:
        """Multiply what consumers read of each unit by its factor, on top of what there is."""
        for name, consumer in self.consumers.items():
            parameter = f"{name}.weight"
            updates[parameter] = consumer.rescaled(torch.from_numpy(factors), updates.get(parameter))


def added_by_units(problem: UnitProblem, method: SampledMethod) -> Iterator[Added]:
    """One pass over the data, then group after group.

    Raises
    ------
    ValueError
        If a consumer is too wide.
    """
    look = Look(None, Sampling(method.patches), method.max_columns)
    regressions = look.observed(problem, method, problem.groups)
    counts = unit_counts(problem, method.allocation)
    for group, consumers in regressions.consumers.items():
        products = contributions(regressions.of(group))
        yield Added(group, products, counts[group], regressions.sample(group), consumers)
