"""How many weights or units to keep: budgets as values, resolved to exact counts.

A budget is met exactly, never on average. Resolved against the layers of a network it becomes
shares: disjoint sets of layers with one count each, inside which a method may allocate as it
likes. One count over all layers is the usual case; :class:`PerLayer` splits off layers that have a
budget of their own or stay as they are. Methods that remove single weights count weights; those that remove
units count units, group by group in place of layers. :class:`KeepParameters` and :class:`KeepFlops` are
limits of what the network costs as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from coresets._validate import check_integer, check_real

if TYPE_CHECKING:
    from nn.cost import Cost

__all__ = [
    "Budget",
    "CostBudget",
    "Dense",
    "KeepCount",
    "KeepFlops",
    "KeepParameters",
    "KeepRatio",
    "PerLayer",
    "Share",
    "shares",
]


@runtime_checkable
class Budget(Protocol):
    """A number of weights or units to keep, given how many there are."""

    def count(self, total: int) -> int:
        """How many of ``total`` to keep."""


@dataclass(frozen=True, slots=True)
class KeepRatio:
    """Keep a share of the prunable weights or units, rounded to the nearest count and never to none.

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
        object.__setattr__(self, "ratio", _share(self.ratio, "weights or units to keep"))

    def count(self, total: int) -> int:
        """Nearest count, at least 1."""
        return max(1, round(self.ratio * total))


@dataclass(frozen=True, slots=True)
class KeepCount:
    """Keep a number of weights or units.

    Parameters
    ----------
    number : int
        At least 1.
    """

    number: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", check_integer(self.number, "number", at_least=1))

    def count(self, total: int) -> int:
        """The number itself.

        Raises
        ------
        ValueError
            If there are fewer.
        """
        if self.number > total:
            raise ValueError(f"{self.number} are to be kept, of only {total}; ask for fewer")
        return self.number


@dataclass(frozen=True, slots=True)
class Dense:
    """Leave the layer as it is, outside every count."""

    def count(self, total: int) -> int:
        """All of them."""
        return total


@dataclass(frozen=True, slots=True)
class CostBudget:
    """A limit of what the network costs as a whole; for methods that remove units.

    Every group keeps the same share of its units, the largest with which the smaller network, as it is handed
    out, costs at most ``ratio`` times what it did; groups may differ by one unit. Methods' own allocations
    have no say; where groups are to compete, count units by :class:`KeepRatio`. As the rest of a
    :class:`PerLayer` budget it is met by those groups that have no budget of their own.

    Parameters
    ----------
    ratio : float
        In (0, 1]; of the cost of the original network, rounded down.
    """

    ratio: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", _share(self.ratio, f"{self.counted} to keep at most"))

    @property
    def counted(self) -> str:
        """What is limited, in the plural."""
        raise NotImplementedError

    def spent(self, cost: Cost) -> int:
        """The part of a cost that is limited."""
        raise NotImplementedError

    def limit(self, before: Cost) -> int:
        """The most that may be spent, given the cost of the original network."""
        return int(Fraction(repr(self.ratio)) * self.spent(before))  # 0.29 of 100 is 29

    def count(self, total: int) -> int:
        """Not defined: it is about no number of weights or units.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            f"{self!r} is for methods that remove units, from the network as a whole; for single weights "
            f"pass KeepRatio({self.ratio:g})"
        )


@dataclass(frozen=True, slots=True)
class KeepParameters(CostBudget):
    """Remove units until at most a share of all parameters is left; see :class:`CostBudget`.

    All parameters of the network count, those of layers that stay whole included.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepParameters, prune
    >>> from nn.neurons import FilterNorm
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    >>> small = prune(network, FilterNorm(), KeepParameters(0.25), calibration=[torch.rand(4, 8)])
    >>> small.plan.kept, [cost.parameters for cost in small.plan.costs]  # 17 a neuron, and 8
    (15, [1096, 263])
    """

    @property
    def counted(self) -> str:
        """Parameters."""
        return "parameters"

    def spent(self, cost: Cost) -> int:
        """All of them."""
        return cost.parameters


@dataclass(frozen=True, slots=True)
class KeepFlops(CostBudget):
    """Remove units until a forward pass takes at most a share of its operations; see :class:`CostBudget`.

    Operations of one example, as :func:`nn.cost.cost` counts them.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepFlops, prune
    >>> from nn.neurons import FilterNorm
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    >>> small = prune(network, FilterNorm(), KeepFlops(0.25), calibration=[torch.rand(4, 8)])
    >>> small.plan.kept, [cost.flops for cost in small.plan.costs]
    (16, [2048, 512])
    """

    @property
    def counted(self) -> str:
        """Operations."""
        return "operations"

    def spent(self, cost: Cost) -> int:
        """All that are counted."""
        return cost.flops


@dataclass(frozen=True)
class PerLayer:
    """Budgets for single layers or groups, and one for all the others together.

    Parameters
    ----------
    layers : mapping of str to Budget
        By name, with shell wildcards; each layer or group follows the first pattern that fits, with a
        count of its own.
    rest : Budget
        For those that no pattern fits, together; they stay dense by default.

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
            if isinstance(budget, CostBudget) and budget is not self.rest:
                raise TypeError(
                    f"budget of {name!r} is {budget!r}, which is about the network as a whole; pass it as "
                    "rest=..."
                )
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
    """A number of weights or units to keep among those of some layers or groups.

    Parameters
    ----------
    layers : tuple of str
        Names.
    count : int
        How many to keep.
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
        Number of weights of every layer, or units of every group, including those that are to stay dense.

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
            raise ValueError(f"no layer is named {pattern!r} here; there are {', '.join(sizes)}")
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


def _share(ratio: object, of: str) -> float:
    """A number in (0, 1]."""
    share = check_real(ratio, "ratio")
    if not 0.0 < share <= 1.0:
        raise ValueError(f"ratio = {share:g} is outside (0, 1]; it is the share of {of}")
    return share
