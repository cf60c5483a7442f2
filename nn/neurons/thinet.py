"""ThiNet: remove the units whose contributions to the next layer cancel best, then rescale the others.

Greedily grows the set R of removed units so that |sum of their contributions|^2 stays smallest, and then
gives every kept unit the least-squares scale with which the kept contributions add up to all of them.
With K the inner products of contributions the former is 1^T K_RR 1, and the latter solves K_SS s = (K 1)_S.

Departures from the publication: contributions are compared on all outputs of all consumers, instead of
one output drawn at random for each position; positions are those of a fixed rule; scales have a ridge
that pulls them towards 1, since K may be singular; all groups are chosen on the original network, without
training in between.

Cost: one pass with m^2 flops a vector for consumers of m columns, m^2 n for K with n outputs, U^2 for the
removals, U^3 / 3 for the scales.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from coresets.certificate import Certificate
from nn.gram import Gram, check_ridge, cholesky
from nn.neurons._contributions import Added, added_by_units, check_sampled
from nn.neurons._elimination import Matrix
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem

__all__ = ["ThiNet", "least_squares_scales", "removed_greedily"]


@dataclass(frozen=True)
class ThiNet:
    """Remove units greedily by what their sum does to the next layer (Luo, Wu and Lin 2017).

    Each group's certificate has the squared error of the consumers' outputs on the sampled vectors of the
    calibration data (it says how many of how many), as they are rescaled, and as they were without scales.

    Parameters
    ----------
    reweighted : bool
        Whether what reads a kept unit is multiplied by its least-squares scale.
    ridge : float
        Pulls scales towards 1; over the mean squared contribution of a unit, at least 1e-10.
    allocation : Allocation
        How counts are divided.
    patches : int
        Of each image (or sequence) at most so many patches (tokens) are used.
    max_columns : int
        Consumers with more columns are refused.

    References
    ----------
    Luo, Wu and Lin 2017, ThiNet: a filter level pruning method for deep neural network compression.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons.thinet import ThiNet
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    >>> prune(network, ThiNet(), KeepRatio(0.4), calibration=[torch.rand(200, 8)]).model[2]
    Linear(in_features=8, out_features=4, bias=True)
    """

    reweighted: bool = True
    ridge: float = 1e-4
    allocation: Allocation = field(default_factory=Uniform)
    patches: int = 32
    max_columns: int = 8192

    def __post_init__(self) -> None:
        check_sampled(self)
        object.__setattr__(self, "ridge", check_ridge(self.ridge))

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Remove in every group, then rescale."""
        keep: dict[str, torch.Tensor] = {}
        updates: dict[str, torch.Tensor] = {}
        certificates: dict[str, tuple[Certificate, ...]] = {}
        for added in added_by_units(problem, self):
            products = added.products
            kept = ~removed_greedily(products, len(products) - added.count)
            scales = kept.astype(np.float64)
            if self.reweighted:
                scales[kept] = least_squares_scales(products, kept, self.ridge)
                added.rescale(scales, updates)
            keep[added.group] = torch.from_numpy(kept)
            certificates[added.group] = (_evidence(added, scales, kept.astype(np.float64)),)
        return UnitDecision(keep, updates, certificates)


def removed_greedily(products: Matrix, count: int) -> npt.NDArray[np.bool_]:
    """Which units to remove, so that the squared norm of the sum of what is removed stays small.

    Parameters
    ----------
    products : array of shape (U, U)
        K.
    count : int
        How many to remove; of equal ones the earlier goes first.
    """
    removed = np.zeros(len(products), dtype=bool)
    change = np.diagonal(products).copy()  # of 1^T K_RR 1, for each unit that might join R
    for _ in range(count):
        unit = int(np.argmin(np.where(removed, np.inf, change)))
        removed[unit] = True
        change += 2.0 * products[unit]
    return removed


def least_squares_scales(products: Matrix, kept: npt.NDArray[np.bool_], ridge: float) -> Matrix:
    """Scales of kept units with which they come nearest to the sum of all, with a ridge towards 1."""
    inner = products[np.ix_(kept, kept)]
    gram = Gram.from_moments(inner[None], len(products), ridge=ridge).matrix[0]
    missing = products[np.ix_(kept, ~kept)].sum(axis=1)
    return np.asarray(1.0 + scipy.linalg.cho_solve((cholesky(gram), True), missing, check_finite=False))


def _evidence(added: Added, scales: Matrix, plain: Matrix) -> Certificate:
    products, scale = added.products, added.energy()
    achieved, before = (max(0.0, float((s - 1.0) @ products @ (s - 1.0))) / scale for s in (scales, plain))
    return Certificate(
        "reconstruction",
        f"squared error of the layers that read the units of {added.group!r} {added.sample.words()}, "
        f"relative to their outputs: {achieved:.4g}",
        value=achieved,
        details={"without scales": before, **added.sample.details()},
    )
