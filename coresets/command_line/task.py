"""What a task of the command line is, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from coresets._random import Rng
from coresets.certificate import Certificate
from coresets.errors import AssumptionError
from coresets.guarantee import Claim
from coresets.svm import FreeIntercept, Intercept, LinearModel, NoIntercept, RegularisedIntercept
from coresets.weighted_set import WeightedSet

__all__ = ["INTERCEPTS", "Facts", "Label", "Settings", "Shape", "Task"]

INTERCEPTS: dict[str, Callable[[], Intercept]] = {
    "regularised": RegularisedIntercept,
    "free": FreeIntercept,
    "none": NoIntercept,
}


class Label(Enum):
    """What the column ``--label`` holds for a task."""

    NONE = "no label"
    OPTIONAL = "a label is carried along"
    TARGET = "numbers"
    CLASSES = "two classes"


@dataclass(frozen=True, slots=True)
class Settings:
    """Parameters of problems; a task reads those that it has.

    Parameters
    ----------
    price : float
        scikit-learn's C: price of the loss of one row against the regulariser.
    penalty : float
        scikit-learn's alpha of ridge regression.
    clusters : int
        Number of centres.
    intercept : str or None
        A key of ``INTERCEPTS``; the task's own default if None.
    delta : float
        Failure probability at which accuracies are stated.
    """

    price: float = 1.0
    penalty: float = 1.0
    clusters: int = 8
    intercept: str | None = None
    delta: float = 0.05

    @property
    def has_intercept(self) -> bool:
        """Whether there is a constant term."""
        return self.intercept != "none"

    def intercept_or(self, default: str) -> Intercept:
        """What the constant term costs."""
        return INTERCEPTS[self.intercept or default]()


@dataclass(frozen=True, slots=True)
class Shape:
    """Data of which no more is known than this."""

    columns: int
    total: float | None = None

    def total_or_refuse(self, name: str) -> float:
        """The total sensitivity that was given."""
        if self.total is None:
            raise AssumptionError(
                f"the total sensitivity of --task {name} depends on the data; name a file, or pass --total"
            )
        return self.total


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pass over a file told about all its rows: their mass, and the values of the label."""

    mass: float
    classes: tuple[Any, ...] = ()


class Task(ABC):
    """A problem of the command line."""

    name: ClassVar[str]
    summary: ClassVar[str]
    label: ClassVar[Label]
    needs_label: ClassVar[bool] = True
    priced: ClassVar[bool] = False  # whether a stream has to know the total mass

    @abstractmethod
    def reducer(self, settings: Settings) -> Any:
        """What reduces all the rows at once."""

    def stream_reducer(self, settings: Settings, facts: Facts | None) -> Any:
        """What reduces blocks; facts are there for tasks with a price or with classes."""
        return self.reducer(settings)

    def part(self, reducer: Any, mass: float) -> Any:
        """What reduces rows that stand for all of the data."""
        return reducer.for_part(mass) if hasattr(reducer, "for_part") else reducer

    def claim(self, settings: Settings, shape: Shape) -> Claim:
        """The theorem, without data.

        Raises
        ------
        AssumptionError
            If there is none, or it needs a total sensitivity that only data can tell.
        """
        raise AssumptionError(f"no theorem gives a size for {self.name} without data, if any")

    def claim_of(self, settings: Settings, data: WeightedSet, rng: Rng) -> Claim:
        """The theorem for these data."""
        return self.claim(settings, Shape(data.d))

    def certify_coreset(self, settings: Settings, data: WeightedSet, kept: WeightedSet) -> Certificate:
        """Evidence for a coreset, found by comparing it with the data.

        Raises
        ------
        AssumptionError
            If there is none for the task.
        """
        raise AssumptionError(f"there is no certificate for a coreset of {self.name}")

    def certify_model(self, settings: Settings, data: WeightedSet, model: LinearModel) -> Certificate:
        """Evidence for a trained model.

        Raises
        ------
        AssumptionError
            If there is none for the task.
        """
        raise AssumptionError(f"there is no certificate for a model of {self.name}")
