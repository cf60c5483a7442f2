"""Refitting: the best weights for the edges that any other method has chosen.

Whatever the support, the weights on it that change a neuron's outputs least on the calibration
inputs solve a small linear system with the matrix H. This is often a larger gain than that between
two ways to choose the support. Cost: 2 m^2 flops a vector for H, and k^3 / 3 a neuron with k edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coresets.certificate import Certificate
from nn.edges._reconstruction import Mask, Target, evidence, notes_on, rebuilt, refitted, summary, targets
from nn.gram import check_ridge
from nn.method import Decision, Method, Problem
from nn.plans import LayerPlan

__all__ = ["Refit"]


@dataclass(frozen=True)
class Refit:
    """Keep what another method keeps, with least-squares weights.

    Needs calibration data, which are read again if the other method needs them, too. That method's
    certificates speak of its own weights and are not passed on.

    Parameters
    ----------
    method : Method
        Chooses the edges.
    ridge : float
        See :class:`~nn.edges.ols.OLSForward`.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, prune
    >>> from nn.edges.refit import Refit
    >>> pruned = prune(
    ...     torch.nn.Linear(20, 10), Refit(Magnitude()), KeepRatio(0.3), calibration=[torch.rand(99, 20)]
    ... )
    >>> pruned.plan.kept
    60
    """

    method: Method
    ridge: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.method, type) or not isinstance(self.method, Method):
            raise TypeError(f"method = {self.method!r}; pass a pruning method, such as Magnitude()")
        object.__setattr__(self, "ridge", check_ridge(self.ridge))

    def decide(self, problem: Problem) -> Decision:
        """Let the method decide, then solve for the weights."""
        # First, since methods may work on the problem's network.
        layers = targets(problem, self, self.ridge)
        decision = self.method.decide(problem)
        plans: dict[str, LayerPlan] = {}
        errors: dict[str, float] = {}
        for name, target in layers.items():
            chosen = decision.layers[name]
            keep: Mask = target.layer.matrix(chosen.keep.cpu()).numpy()
            new = rebuilt(target, keep, refitted(target, keep))
            errors[name] = new.relative_error
            plans[name] = new.plan(_certificate(target, chosen, new.relative_error))
        notes = list(decision.notes) + notes_on(list(layers.values()))
        if decision.certificates or any(layer.certificates for layer in decision.layers.values()):
            notes.append(f"the certificates of {self.method!r} are about its own weights and were left out")
        return Decision(plans, (summary(errors),), notes)


def _certificate(target: Target, chosen: LayerPlan, achieved: float) -> Certificate:
    """The error after the refit, and that before."""
    weight = target.layer.matrix(chosen.weight.cpu()).double().numpy()
    before = target.relative_error(np.asarray(weight))
    return evidence(target, achieved, None, {"before the refit": before})
