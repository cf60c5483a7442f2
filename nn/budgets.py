"""How many weights to keep: budgets as values, resolved to exact counts.

A budget is met exactly, never on average. Resolved against the layers of a network it becomes
shares: disjoint sets of layers with one count each, inside which a method may allocate as it
likes. One count over all layers is the usual case; :class:`PerLayer` splits off layers that have a
budget of their own or stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from coresets._validate import check_integer, check_real

__all__ = ["Budget", "Dense", "KeepCount", "KeepRatio", "PerLayer", "Share", "shares"]


@runtime_checkable
class Budget(Protocol):
    """A number of weights to keep, given how many there are."""

    def count(self, total: int) -> int:
        """How many of ``total`` weights to keep."""


@dataclass(frozen=True, slots=True)
class KeepRatio:
    """Keep a share of the prunable weights, rounded to the nearest count and never to none.

    Parameters
    ----------
    ratio : float
        In (0, 1]; 1 keeps everything.

    Examples
    --------
    >>> from nn.budgets import KeepRatio
    >>> KeepRatio(0.1).count(2350)
    235
    """

    ratio: float

    def __post_init__(self) -> None:
        ratio = check_real(self.ratio, "ratio")
        if not 0.0 < ratio <= 1.0:
            raise ValueError(f"ratio = {ratio:g} is outside (0, 1]; it is the share of weights to keep")
        object.__setattr__(self, "ratio", ratio)

    def count(self, total: int) -> int:
        """Nearest count, at least 1."""
        return max(1, round(self.ratio * total))


@dataclass(frozen=True, slots=True)
class KeepCount:
    """Keep a number of weights.

    Parameters
    ----------
    weights : int
        At least 1.
    """

    weights: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", check_integer(self.weights, "weights", at_least=1))

    def count(self, total: int) -> int:
        """The number itself.

        Raises
        ------
        ValueError
            If there are fewer weights.
        """
        if self.weights > total:
            raise ValueError(f"{self.weights} weights are to be kept, of only {total}; ask for fewer")
        return self.weights


@dataclass(frozen=True, slots=True)
class Dense:
    """Leave the layer as it is, outside every count."""

    def count(self, total: int) -> int:
        """All of them."""
        return total


@dataclass(frozen=True)
class PerLayer:
    """Budgets for single layers, and one for all the others together.

    Parameters
    ----------
    layers : mapping of str to Budget
        By layer name, with shell wildcards; each layer follows the first pattern that fits, with a
        count of its own.
    rest : Budget
        For the layers that no pattern fits, together; they stay dense by default.

    Examples
    --------
    >>> from nn.budgets import Dense, KeepRatio, PerLayer
    >>> budget = PerLayer({"head": Dense(), "block1.*": KeepRatio(0.5)}, rest=KeepRatio(0.1))
    """

    layers: Mapping[str, Budget]
    rest: Budget = field(default_factory=Dense)

    def __post_init__(self) -> None:
        for name, budget in (*self.layers.items(), ("rest", self.rest)):
            if isinstance(budget, (type, PerLayer)) or not isinstance(budget, Budget):
                raise TypeError(f"budget of {name!r} is {budget!r}; pass KeepRatio, KeepCount or Dense")
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))

    def __repr__(self) -> str:
        return f"PerLayer({dict(self.layers)!r}, rest={self.rest!r})"

    def count(self, total: int) -> int:
        """Not defined: counts are for single layers."""
        raise TypeError("a PerLayer budget has no single count; see shares()")

    def of(self, name: str) -> Budget | None:
        """The budget of a layer of its own, or None if it belongs to the rest."""
        return next((b for pattern, b in self.layers.items() if fnmatchcase(name, pattern)), None)

    def __hash__(self) -> int:
        return hash((frozenset(self.layers.items()), self.rest))  # equal whatever the order, as mappings are

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be copied
        return PerLayer, (dict(self.layers), self.rest)


@dataclass(frozen=True, slots=True)
class Share:
    """A number of weights to keep among those of some layers.

    Parameters
    ----------
    layers : tuple of str
        Names.
    count : int
        How many weights to keep.
    """

    layers: tuple[str, ...]
    count: int


def shares(budget: Budget, sizes: Mapping[str, int]) -> Sequence[Share]:
    """Resolve a budget against the sizes of layers.

    Parameters
    ----------
    budget : Budget
        What to keep.
    sizes : mapping of str to int
        Number of weights of every layer, including those that are to stay dense.

    Returns
    -------
    sequence of Share
        Disjoint; layers that stay dense are in none.

    Raises
    ------
    TypeError
        If ``budget`` is none.
    ValueError
        If a pattern fits no layer, there is no layer at all, or a count exceeds what there is.
    """
    if isinstance(budget, type) or not isinstance(budget, Budget):
        raise TypeError(f"budget = {budget!r}; pass KeepRatio(...), KeepCount(...) or PerLayer(...)")
    if not sizes:
        raise ValueError("the network has no Linear or Conv2d layer to prune")
    if not isinstance(budget, PerLayer):
        return (Share(tuple(sizes), budget.count(sum(sizes.values()))),)
    for pattern in budget.layers:
        if not any(fnmatchcase(name, pattern) for name in sizes):
            raise ValueError(f"no layer is named {pattern!r}; there are {', '.join(sizes)}")
    own = {name: budget.of(name) for name in sizes}
    single = [
        Share((name,), inner.count(sizes[name]))
        for name, inner in own.items()
        if inner is not None and not isinstance(inner, Dense)
    ]
    rest = tuple(name for name, inner in own.items() if inner is None)
    if rest and not isinstance(budget.rest, Dense):
        single.append(Share(rest, budget.rest.count(sum(sizes[name] for name in rest))))
    return tuple(single)
