"""Forward selection of units with refitting: the method for units with a proved error at every size.

From no unit at all, each step adds the unit that lowers the summed squared error of all its consumers
most when all weights that read kept units are refitted. The gain of a unit with several columns (the
positions of a kernel window, a flattened map, the width of a head) is that of its columns together.
Theorem B1-U bounds the error by rho / (k + rho), relative and squared, for k units.

Errors are relative to each consumer's own energy. Where a consumer has a bias, a constant is fitted too,
so that inputs count by their variation about the mean. All groups are chosen for the original outputs
on the original inputs, in one pass; the weights may then be fitted layer by layer.

Cost: one pass with m^2 flops a vector for consumers of m columns; about m^3 / 3 + 4 m^2 n flops for the
whole path of one with n outputs; memory of the matrix m x m of every consumer and of one more. Then the
refit, as in :mod:`nn.neurons.refit`. Where no unit is to be removed nothing is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coresets._validate import check_integer
from nn.gram import check_ridge
from nn.neurons._elimination import UnitPath, UnitRegression, backward_path, forward_path
from nn.neurons._moments import Sampling
from nn.neurons._refitting import Fit, refit
from nn.neurons._searches import Look, Paths, divided, kept_whole, search, untouched
from nn.neurons.refit import notes_on, refit_summary
from nn.selection import Allocation, Global
from nn.units.method import UnitDecision, UnitProblem, check_allocation

__all__ = ["BestGroupPath", "GroupOBS", "GroupOLS", "Reconstruction"]


@dataclass(frozen=True)
class Reconstruction:
    """How a search looks at the data.

    Parameters
    ----------
    ridge : float
        Regularisation lambda, over the mean squared entry of a consumer's inputs; at least 1e-10.
    sequential : bool
        Whether the final weights are fitted on inputs of the smaller network, layer by layer; see
        :class:`~nn.neurons.refit.RefitConsumers`.
    patches : int
        Of each image (or sequence) at most so many patches (tokens) are used.
    max_columns : int
        Consumers with more columns are refused, as their paths take minutes to hours.
    """

    ridge: float = 0.01
    sequential: bool = True
    patches: int = 32
    max_columns: int = 8192

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", check_ridge(self.ridge))
        check_integer(self.patches, "patches", at_least=1)
        check_integer(self.max_columns, "max_columns", at_least=1)

    def choose(
        self, problem: UnitProblem, method: object, allocation: Allocation, paths: Paths, *, bounded: bool
    ) -> UnitDecision:
        """Search and refit."""
        parts, sizes = divided(problem, allocation), problem.sizes
        whole = untouched(parts, sizes)
        parts = [part for part in parts if not whole.issuperset(part.layers)]
        chosen = {group: kept_whole(group, sizes[group]) for group in whole}
        moments = None
        if parts:
            if self.sequential:
                problem.rereadable(method)
            # A fit to original inputs needs the moments again.
            look = Look(self.ridge, Sampling(self.patches), self.max_columns, consumed=self.sequential)
            regressions = look.observed(problem, method, [g for g in problem.groups if g not in whole])
            chosen |= search(sizes, parts, regressions, paths, bounded=bounded)
            moments = None if self.sequential else regressions.moments
            del regressions  # with its matrices, before those of the fit
        decision = UnitDecision({group: chosen[group].keep for group in problem.groups})
        fitted = refit(
            problem, decision, Fit(self.ridge, Sampling(self.patches), self.sequential), moments=moments
        )
        return UnitDecision(
            decision.keep,
            fitted.updates,
            {group: (chosen[group].certificate,) for group in problem.groups},
            (refit_summary(fitted),),
            notes_on(fitted),
        )


def _check(reconstruction: object, allocation: object) -> None:
    if not isinstance(reconstruction, Reconstruction):
        raise TypeError(f"reconstruction = {reconstruction!r}; pass Reconstruction(ridge=...)")
    check_allocation(allocation)


def _forward(parts: Sequence[UnitRegression], counts: range) -> UnitPath:
    return forward_path(parts, counts[-1])


def _backward(parts: Sequence[UnitRegression], counts: range) -> UnitPath:
    return backward_path(parts, counts[0])


@dataclass(frozen=True)
class GroupOLS:
    """Keep the units that forward selection adds first, with refitted consumers.

    Each group's certificate has the relative squared error that was reached on the sampled vectors of the
    calibration data (the certificate says how many of how many), the bound of theorem B1-U, and rho; see
    :class:`~nn.guarantees.greedy.UnitSelection`. A group that keeps all its units has the error 0, and no
    bound.

    Parameters
    ----------
    reconstruction : Reconstruction
        Ridge, the inputs to fit on, and how many of them.
    allocation : Allocation
        With :class:`~nn.selection.Global` the groups of a share compete by their error paths, so that
        their relative errors add up to as little as possible; with :class:`~nn.selection.Uniform` each
        keeps the same share, and paths are followed only so far.

    References
    ----------
    Chen, Billings and Luo 1989, orthogonal least squares methods and their application to non-linear
    system identification, for single columns.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons.group_ols import GroupOLS
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    >>> pruned = prune(network, GroupOLS(), KeepRatio(0.4), calibration=[torch.rand(200, 8)])
    >>> pruned.model[2], pruned.plan.groups["0"].certificates[0].holds
    (Linear(in_features=8, out_features=4, bias=True), True)
    """

    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    allocation: Allocation = field(default_factory=Global)

    def __post_init__(self) -> None:
        _check(self.reconstruction, self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Follow forward paths."""
        return self.reconstruction.choose(problem, self, self.allocation, Paths(_forward), bounded=True)


@dataclass(frozen=True)
class GroupOBS:
    """Keep the units that backward elimination removes last, with refitted consumers.

    From all units, each step removes the one without which the refitted consumers lose least: the optimal
    brain surgeon, by layer and by blocks. Often slightly better than forward selection while many units are
    kept, and worse when few are; no useful bound.

    Parameters
    ----------
    reconstruction, allocation
        See :class:`GroupOLS`.

    References
    ----------
    Hassibi and Stork 1993, second order derivatives for network pruning: optimal brain surgeon.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons.group_ols import GroupOBS
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    >>> prune(network, GroupOBS(), KeepRatio(0.4), calibration=[torch.rand(200, 8)]).model[2]
    Linear(in_features=8, out_features=4, bias=True)
    """

    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    allocation: Allocation = field(default_factory=Global)

    def __post_init__(self) -> None:
        _check(self.reconstruction, self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Follow backward paths."""
        return self.reconstruction.choose(problem, self, self.allocation, Paths(_backward), bounded=False)


@dataclass(frozen=True)
class BestGroupPath:
    """Keep the better of what forward selection and backward elimination keep, group by group.

    How many units each group keeps is decided by forward paths, as with :class:`GroupOLS`; backward ones then
    go down to that number. The certificates are those of :class:`GroupOLS`: bound B1-U holds for the smaller
    of two errors, too.

    Parameters
    ----------
    reconstruction, allocation
        See :class:`GroupOLS`.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons.group_ols import BestGroupPath
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    >>> pruned = prune(network, BestGroupPath(), KeepRatio(0.4), calibration=[torch.rand(200, 8)])
    >>> pruned.plan.groups["0"].certificates[0].holds
    True
    """

    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    allocation: Allocation = field(default_factory=Global)

    def __post_init__(self) -> None:
        _check(self.reconstruction, self.allocation)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Follow both kinds of paths."""
        paths = Paths(_forward, _backward)
        return self.reconstruction.choose(problem, self, self.allocation, paths, bounded=True)
