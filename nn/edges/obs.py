"""Backward elimination with refitting, and the better of backward and forward.

From all edges, each step removes the edge whose loss raises a neuron's squared output error least
when all others are refitted (the optimal brain surgeon, for one layer). The rises add up to the
error (theorem B2). In practice it is slightly better than forward selection when more than about a
twentieth of the edges is kept, and worse below; :class:`BestPath` takes the smaller error of the two
for every neuron and every number of edges, and so inherits the forward bound B1.

Budgets are spent as in :mod:`nn.edges.ols`. Cost: about m^3 / 3 flops a neuron of m edges for the
whole path; a backward path cannot be cut short.
"""

from __future__ import annotations

from dataclasses import dataclass

from nn.edges._searches import check_widths, decide
from nn.gram import check_ridge
from nn.method import Decision, Problem
from nn.selection import Allocation, Global, refuse_ranking

__all__ = ["BestPath", "OBSBackward"]


@dataclass(frozen=True)
class OBSBackward:
    """Keep the edges that backward elimination removes last, with refitted weights.

    Needs calibration data. Each layer's certificate has the relative squared error that was reached
    on them and the bound of theorem B2, which says little unless inputs are hardly correlated; see
    :class:`~nn.guarantees.reconstruction.BackwardElimination`.

    Parameters
    ----------
    ridge, allocation, max_edges
        See :class:`~nn.edges.ols.OLSForward`.

    References
    ----------
    Hassibi and Stork 1993, second order derivatives for network pruning: optimal brain surgeon;
    Frantar and Alistarh 2022, optimal brain compression, for its use layer by layer.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.obs import OBSBackward
    >>> pruned = prune(
    ...     torch.nn.Linear(20, 10), OBSBackward(), KeepRatio(0.3), calibration=[torch.rand(99, 20)]
    ... )
    >>> pruned.plan.kept
    60
    """

    ridge: float = 0.01
    allocation: Allocation = Global()
    max_edges: int = 2304

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", check_ridge(self.ridge))
        refuse_ranking(self.allocation, self)

    def decide(self, problem: Problem) -> Decision:
        """Follow backward paths and spend the budget along them."""
        check_widths(problem, self, self.max_edges)
        return decide(problem, self, (False, True), self.ridge, self.allocation)


@dataclass(frozen=True)
class BestPath:
    """Keep the better of what forward selection and backward elimination keep, neuron by neuron.

    Needs calibration data. The certificates are those of :class:`~nn.edges.ols.OLSForward`: bound B1
    holds for the smaller of two errors, too.

    Parameters
    ----------
    ridge, allocation, max_edges
        See :class:`~nn.edges.ols.OLSForward`.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.obs import BestPath
    >>> pruned = prune(torch.nn.Linear(20, 10), BestPath(), KeepRatio(0.3), calibration=[torch.rand(99, 20)])
    >>> pruned.plan.layers[""].certificates[0].holds
    True
    """

    ridge: float = 0.01
    allocation: Allocation = Global()
    max_edges: int = 2304

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", check_ridge(self.ridge))
        refuse_ranking(self.allocation, self)

    def decide(self, problem: Problem) -> Decision:
        """Follow both kinds of paths and spend the budget along the better one of each neuron."""
        check_widths(problem, self, self.max_edges)
        return decide(problem, self, (True, True), self.ridge, self.allocation)
