"""Refitting: the best weights for the layers that read the units which any other method has kept.

Whatever units are kept, the weights on them with which a consumer's outputs change least are a
least-squares problem with one matrix for all its outputs. Next to the choice of the units this is the
largest single gain, and mostly larger than the difference between two choices.

Cost: m^2 flops a vector for m kept columns of a consumer, and m^3 / 3 + 2 m^2 n to solve for n outputs;
for the sequential form, besides, one pass of the original network and, for each consumer, one of the smaller
network as far as it, or from one consumer to the next where the network is a ``torch.nn.Sequential``. Where
original outputs take more than 256 MiB, the data do not come in the same order again, or there are several
processes, the original network runs beside the smaller one each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from coresets._validate import check_integer
from coresets.certificate import Certificate
from nn.gram import check_ridge
from nn.neurons._moments import Sampling
from nn.neurons._refitting import Fit, Refitting, refit
from nn.plans import copied
from nn.units.method import UnitDecision, UnitMethod, UnitProblem

__all__ = ["RefitConsumers"]

# Fewer vectors than this many times the columns, and the fit follows the sample.
_ENOUGH = 5


@dataclass(frozen=True)
class RefitConsumers:
    """Keep the units that another method keeps, with least-squares weights in the layers that read them.

    Each consumer's kept outputs are fitted to those of the original network, on all its kept columns at
    once, its bias included if it has one. The new weights depend on the data, so guarantees of the other
    method that need no data, and certificates of its own weights, do not hold for them and are not passed
    on; the other method by itself, with the same ``rng``, gives those weights.

    Parameters
    ----------
    method : UnitMethod
        Chooses the units. The weights that it gives are what the ridge pulls towards, so that on the
        calibration data the refit is never worse than they are, whatever the ridge.
    ridge : float
        lambda over the mean squared entry of a consumer's inputs (about their mean where it has a bias);
        at least 1e-10.
    sequential : bool
        Whether a consumer is fitted on its inputs in the network that is smaller and refitted before it,
        so that it makes up for earlier losses; if not, on its original inputs, in a single pass.
    patches : int
        Of each image (or sequence) at most so many patches (tokens) are used.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import FilterNorm
    >>> from nn.neurons.refit import RefitConsumers
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> pruned = prune(network, RefitConsumers(FilterNorm()), KeepRatio(0.5), calibration=[torch.rand(99, 8)])
    >>> details = pruned.plan.certificates[0].details
    >>> details["2"] < details["2, before"]
    True
    """

    method: UnitMethod
    ridge: float = 0.01
    sequential: bool = True
    patches: int = 32

    def __post_init__(self) -> None:
        if isinstance(self.method, type) or not isinstance(self.method, UnitMethod):
            raise TypeError(f"method = {self.method!r}; pass a method for units, such as FilterNorm()")
        object.__setattr__(self, "ridge", check_ridge(self.ridge))
        check_integer(self.patches, "patches", at_least=1)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Let the method choose, then solve for the weights."""
        problem.rereadable(self)
        # First, since methods may work on the problem's network.
        intact = replace(problem, network=copied(problem.network))
        decision = self.method.choose(problem)
        fitted = refit(intact, decision, Fit(self.ridge, Sampling(self.patches), self.sequential))
        notes = [*decision.notes, *notes_on(fitted)]
        if decision.certificates or any(decision.group_certificates.values()):
            notes.append(f"the certificates of {self.method!r} are about its own weights and were left out")
        return UnitDecision(decision.keep, fitted.updates, {}, (refit_summary(fitted),), notes)


def refit_summary(fitted: Refitting) -> Certificate:
    """Relative squared errors of all consumers, summed, before and after."""
    figures: dict[str, float] = {}
    for name, (before, after) in fitted.errors.items():
        figures |= {name: after, f"{name}, before": before}
    total = float(sum(after for _, after in fitted.errors.values()))
    vectors = sum(vectors for vectors, _ in fitted.vectors.values())
    return Certificate(
        "refit",
        f"relative squared output errors of {len(fitted.errors)} refitted layers on {vectors} sampled "
        f"calibration vectors add up to {total:.4g}",
        value=total,
        details={"before the refit": float(sum(before for before, _ in fitted.errors.values())), **figures},
    )


def notes_on(fitted: Refitting) -> list[str]:
    """What a reader should know about the calibration data."""
    few: Mapping[str, tuple[int, int]] = {
        name: (vectors, columns)
        for name, (vectors, columns) in fitted.vectors.items()
        if vectors < _ENOUGH * columns
    }
    if not few:
        return []
    names = ", ".join(f"{name!r} ({vectors} for {columns})" for name, (vectors, columns) in few.items())
    note = (
        f"fewer than {_ENOUGH} calibration vectors for each kept column in {names}: errors on fresh inputs "
        "will be larger than the certificates say; use more data"
    )
    return [note]
