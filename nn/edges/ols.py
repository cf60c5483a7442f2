"""Forward selection with refitting: the pruner with a proved error at every size.

From no edge at all, each step adds the edge that lowers a neuron's squared output error most when
all its kept weights are refitted (orthogonal least squares). One sweep gives the error at every
number of edges; theorem B1 bounds it by rho / (k + rho), relative and squared, for k edges, where
rho tells how evenly the neuron's energy is spread. Paths of all neurons are then spent against one
another so that the budget is met exactly and the sum over layers of relative squared errors is as
small as the paths allow.

Layers are normalised by their own energy, since an error means nothing across layers otherwise: the
scale of a layer is arbitrary, as the next one can undo it. What the sum stands for is the additive
bound on the network's error, in which each layer's error enters with a factor that is not known
beforehand; here all factors are taken as equal.

Cost: 2 m^2 flops a vector for the matrix, then about m^3 / 3 flops a neuron of m edges for whole
paths, less for small budgets, whose paths are followed only as far as is needed to prove the
allocation.
"""

from __future__ import annotations

from dataclasses import dataclass

from nn.edges._searches import check_widths, decide
from nn.gram import check_ridge
from nn.method import Decision, Problem
from nn.selection import Allocation, Global, refuse_ranking

__all__ = ["OLSForward"]


@dataclass(frozen=True)
class OLSForward:
    """Keep the edges that forward selection adds first, with refitted weights.

    Needs calibration data. Each layer's certificate has the relative squared error that was reached
    on them, the bound of theorem B1, and rho; see
    :class:`~nn.guarantees.reconstruction.ForwardSelection`.

    Parameters
    ----------
    ridge : float
        Regularisation lambda of each layer, over the mean squared length of its input columns; 0.01
        by default, at least 1e-10.
    allocation : Allocation
        With :class:`~nn.selection.Global` the neurons of all layers of a share compete; with
        :class:`~nn.selection.Uniform` those of each layer.
    max_edges : int
        Layers with more edges a neuron are refused, as their paths take minutes to hours.

    References
    ----------
    Chen, Billings and Luo 1989, orthogonal least squares methods and their application to non-linear
    system identification.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.edges.ols import OLSForward
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Linear(20, 10), torch.nn.ReLU(), torch.nn.Linear(10, 4))
    >>> inputs = torch.rand(200, 5) @ torch.rand(5, 20)  # 20 features, of which 5 are independent
    >>> pruned = prune(network, OLSForward(), KeepRatio(0.3), calibration=[inputs])
    >>> pruned.plan.kept
    72
    >>> [c.holds for layer in pruned.plan.layers.values() for c in layer.certificates]
    [True, True]
    """

    ridge: float = 0.01
    allocation: Allocation = Global()
    max_edges: int = 2304

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", check_ridge(self.ridge))
        refuse_ranking(self.allocation, self)

    def decide(self, problem: Problem) -> Decision:
        """Follow forward paths and spend the budget along them."""
        check_widths(problem, self, self.max_edges)
        return decide(problem, self, (True, False), self.ridge, self.allocation)
