"""Greedy selection with repetition: units as terms of a mean, and their counts as new weights.

What a layer gives its consumers is a sum of contributions c_u, one a unit. With any probabilities p it is
the mean of phi_u = c_u / p_u, a point in their convex hull, and n greedy steps that each add the best
phi_u to a running mean come within Var / n of it (theorem GF). A unit that was added m_u times out of n
is reweighted by m_u / (n p_u); units that were never added are removed. All that a step needs are the
inner products K of the contributions.

Cost: one pass with m^2 flops a vector for consumers of m columns, m^2 n for K with n outputs, and U flops
a step for U units.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from coresets.certificate import Certificate
from nn.guarantees.greedy import GreedyHull
from nn.neurons._contributions import Added, added_by_units, check_sampled
from nn.neurons._elimination import Matrix
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem

__all__ = ["GreedyForward", "GreedyMean", "greedy_mean", "term_probabilities"]

THEOREM = GreedyHull()

# Steps a unit of the budget after which units that no step wants are given up.
_MOST_STEPS = 50
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class GreedyMean:
    """What greedy steps have put together.

    Parameters
    ----------
    counts : array of shape (U,) of int
        How often each unit was added.
    factors : array of shape (U,)
        m_u / (n p_u): its new weight over the old one; 0 for units never added.
    squared_error : float
        |f_n - y|^2, recomputed from the factors.
    """

    counts: npt.NDArray[np.int64]
    factors: Matrix
    squared_error: float

    @property
    def steps(self) -> int:
        """N."""
        return int(self.counts.sum())


def greedy_mean(products: Matrix, probabilities: Matrix, count: int, max_steps: int) -> GreedyMean:
    """Add terms greedily, with repetition, until one more unit than allowed would be needed.

    Parameters
    ----------
    products : array of shape (U, U)
        K, inner products of the contributions.
    probabilities : array of shape (U,)
        p, of sum 1; units with p = 0 contribute nothing and are never added.
    count : int
        How many different units may be added, at least 1.
    max_steps : int
        When to stop even if no further unit is wanted, at least 1.
    """
    usable = probabilities > 0.0
    inverse = np.where(usable, 1.0 / np.where(usable, probabilities, 1.0), 0.0)
    terms = products * inverse[:, None] * inverse[None, :]  # <phi_u, phi_v>
    squares = np.diagonal(terms)
    targets = terms @ probabilities  # <phi_u, y>
    counts = np.zeros(len(products), dtype=np.int64)
    with_sum = np.zeros(len(products))  # <phi_u, sum of the terms added so far>
    for step in range(1, max_steps + 1):
        # n^2 |f_n - y|^2 for the sum s + phi_u, up to what does not depend on u.
        change = squares + 2.0 * with_sum - 2.0 * step * targets
        best = int(np.argmin(np.where(usable, change, np.inf)))
        if counts[best] == 0 and np.count_nonzero(counts) == count:
            break
        counts[best] += 1
        with_sum += terms[best]
    factors = counts * inverse / counts.sum()
    left = factors - 1.0
    return GreedyMean(counts, factors, max(0.0, float(left @ products @ left)))


@dataclass(frozen=True)
class GreedyForward:
    """Keep and reweight units by greedy selection with repetition (Ye et al. 2020).

    Steps go on as long as they need no more than the budget's units. Each group's certificate has the
    squared error of the consumers' outputs on the sampled vectors of the calibration data (it says how many
    of how many), relative to those outputs, beside the bound of theorem GF; see
    :class:`~nn.guarantees.greedy.GreedyHull`. Consumers' biases stay.

    Departures from the publication: the error is that of the consumers' outputs, which is a quadratic, and
    not of the network's loss, so that a step costs no pass over the data; and terms may be scaled.

    Parameters
    ----------
    equal : bool
        Whether terms are U c_u, as published; if not, probabilities are proportional to the norms of the
        contributions, so that all terms have one length, with which the bound is smallest.
    allocation : Allocation
        How counts are divided.
    patches : int
        Of each image (or sequence) at most so many patches (tokens) are used.
    max_columns : int
        Consumers with more columns are refused.

    References
    ----------
    Ye, Gong, Nie, Zhou, Klivans and Liu 2020, good subnetworks provably exist: pruning via greedy forward
    selection.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons.greedy import GreedyForward
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    >>> pruned = prune(network, GreedyForward(), KeepRatio(0.4), calibration=[torch.rand(200, 8)])
    >>> pruned.model[2], pruned.plan.groups["0"].certificates[0].holds
    (Linear(in_features=8, out_features=4, bias=True), True)
    """

    equal: bool = False
    allocation: Allocation = field(default_factory=Uniform)
    patches: int = 32
    max_columns: int = 8192

    def __post_init__(self) -> None:
        check_sampled(self)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Take greedy steps in every group."""
        keep: dict[str, torch.Tensor] = {}
        updates: dict[str, torch.Tensor] = {}
        certificates: dict[str, tuple[Certificate, ...]] = {}
        notes: list[str] = []
        for added in added_by_units(problem, self):
            group, products, count = added.group, added.products, added.count
            probabilities = term_probabilities(products, equal=self.equal)
            found = greedy_mean(products, probabilities, count, _MOST_STEPS * count)
            keep[group] = _exactly(found, products, count)
            missing = count - int(np.count_nonzero(found.counts))
            if missing:
                notes.append(
                    f"greedy steps in {group!r} wanted {count - missing} units, and no more; the other "
                    f"{missing} are read with weight 0 until they are refitted"
                )
            added.rescale(found.factors, updates)
            certificate = _evidence(added, found, probabilities)
            certificates[group] = (certificate,)
            if certificate.bound is not None and certificate.bound >= 1.0:
                notes.append(f"the bound of theorem GF is vacuous (at least 1) for {group!r}")
        return UnitDecision(keep, updates, certificates, (), notes)


def term_probabilities(products: Matrix, *, equal: bool) -> Matrix:
    """p: equal, or in proportion to the norms of the contributions; 0 where there is none."""
    norms = np.sqrt(np.maximum(np.diagonal(products), 0.0))
    if equal or not np.any(norms > 0.0):
        return np.full(len(norms), 1.0 / len(norms))
    return np.asarray(norms / norms.sum())


def _exactly(found: GreedyMean, products: Matrix, count: int) -> torch.Tensor:
    """The units that were added, and the largest of the others if they are too few."""
    missing = count - int(np.count_nonzero(found.counts))
    keep = found.counts > 0
    others = np.where(keep, -np.inf, np.diagonal(products))
    keep[np.argsort(-others, kind="stable")[:missing]] = True
    return torch.from_numpy(keep)


def _evidence(added: Added, found: GreedyMean, probabilities: Matrix) -> Certificate:
    """The error that was reached, and the bound of theorem GF."""
    products, scale = added.products, added.energy()
    variance = THEOREM.variance(np.diagonal(products), float(products.sum()), probabilities)
    rounding = _ROUNDING * float(np.abs(products).sum())  # errors are differences of inner products
    return Certificate(
        "greedy mean",
        f"squared error of the layers that read the units of {added.group!r} {added.sample.words()}, after "
        f"{found.steps} steps and relative to their outputs: {found.squared_error / scale:.4g}",
        value=found.squared_error / scale,
        bound=(THEOREM.squared_error(variance, found.steps) + rounding) / scale,
        details={"steps": float(found.steps), "variance": variance / scale, **added.sample.details()},
    )
