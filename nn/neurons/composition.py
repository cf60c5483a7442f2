"""What the promises of single groups say about the output of the whole network (NC).

Every group's certificate bounds the change of its consumers' outputs at the activations of the original
network. Entry by entry, such changes pass the layers above with the absolute values of the pruned weights:
e' = |W~| L e + eta. One walk through the graph adds up all of them, over branches, sums and concatenations
as well; for a chain it is at most the bound with largest absolute row sums. It is valid, and loose: reported,
not to be tuned by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from coresets.certificate import Certificate
from nn.calibration import Calibration, device_of
from nn.certify.graph import Affine, Linear, walk
from nn.neurons.norm_bounded import ERROR_OF
from nn.plans import copied
from nn.units.plans import UnitPlan

__all__ = ["composed_certificate"]


def composed_certificate(network: torch.nn.Module, plan: UnitPlan, calibration: Any) -> Certificate:
    """Bound the change of every output of the network, for all inputs that the groups' promises cover.

    Parameters
    ----------
    network : torch.nn.Module
        The original network.
    plan : UnitPlan
        A plan for it, from :class:`~nn.neurons.NormBounded`: each group that loses units needs a
        certificate of errors for bounded inputs.
    calibration : iterable of batches
        Of the first batch, the shape of one example is used, and nothing else.

    Returns
    -------
    Certificate
        The bound; its confidence is 1 minus the sum of the groups' failure probabilities. For each group the
        smaller of its bounds is used.

    Raises
    ------
    ValueError
        If a group has no such certificate, or a layer of the network is not understood.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import Ball, Drawing, NormBounded, TopScores, composed_certificate
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2))
    >>> x = torch.randn(50, 3)
    >>> x = x / x.norm(dim=1, keepdim=True)
    >>> shrunk = prune(network, NormBounded(Ball(1.0), Drawing(TopScores())), KeepRatio(0.7), calibration=[x])
    >>> bound = composed_certificate(network, shrunk.plan, [x]).value
    >>> bool((shrunk.model(x) - network(x)).abs().max() <= bound)
    True
    """
    errors, failure = _errors(plan)
    first = next(iter(Calibration.of(calibration)))
    if len(first.arguments) != 1:
        raise ValueError(f"a batch has {len(first.arguments)} inputs; the bound is defined for one")
    example = first.arguments[0]
    start = torch.zeros((1, *example.shape[1:]), dtype=torch.float64, device=device_of(network))
    bound = float(walk(*_differing(plan.masked(network), errors), _Passing(), start).max())
    return Certificate(
        "composed error (NC)",
        "no output of the network moves further, for any input at whose original activations the groups' "
        "promises hold",
        min(bound, torch.finfo(torch.float64).max),
        confidence=max(0.0, 1.0 - failure),
        details={ERROR_OF + name: error for name, error in errors.items()},
    )


def _errors(plan: UnitPlan) -> tuple[dict[str, float], float]:
    """Errors eta of every consumer, and the probability with which one fails."""
    errors: dict[str, float] = {}
    failure = 0.0
    for name, group in plan.groups.items():
        if group.kept == group.total:
            continue
        usable = [c for c in group.certificates if _layer_errors(c)]
        if not usable:
            raise ValueError(
                f"group {name!r} has no certificate of errors for bounded inputs; prune it by NormBounded"
            )
        best = min(usable, key=lambda c: max(_layer_errors(c).values()))
        failure += 1.0 - best.confidence
        for layer, error in _layer_errors(best).items():
            errors[layer] = errors.get(layer, 0.0) + error
    return errors, failure


def _layer_errors(certificate: Certificate) -> dict[str, float]:
    found = {k.removeprefix(ERROR_OF): v for k, v in certificate.details.items() if k.startswith(ERROR_OF)}
    return found if all(math.isfinite(error) for error in found.values()) else {}


def _differing(pruned: torch.nn.Module, errors: dict[str, float]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The pruned network, and one whose biases differ from it by eta: the walk sees layers in pairs."""
    shifted = copied(pruned)
    for network, sign in ((pruned, 0.0), (shifted, 1.0)):
        for name, error in errors.items():
            module: Any = network.get_submodule(name)
            # In float64, or the difference would be rounded away beside the bias itself.
            module.bias = torch.nn.Parameter(
                torch.full(
                    (module.weight.shape[0],), sign * error, dtype=torch.float64, device=module.weight.device
                )
            )
    return pruned, shifted


class _Passing:
    """e' = |W~| e + eta, entry by entry."""

    def affine(self, before: Affine, after: Affine, state: torch.Tensor) -> torch.Tensor:
        """A layer of the pruned network, with eta as the difference of the biases."""
        fresh = after.minus(before)(torch.zeros_like(state)).abs()
        return after.absolute(state) + fresh

    def activation(
        self, function: Linear, lipschitz: float, monotone: bool, state: torch.Tensor
    ) -> torch.Tensor:
        """An entrywise function."""
        return lipschitz * state

    def pool(self, function: Linear, state: torch.Tensor) -> torch.Tensor:
        """Max-pooling: a maximum moves by at most the largest move in its window."""
        return function(state)

    def same(self, function: Linear, state: torch.Tensor) -> torch.Tensor:
        """Averages and reshapes."""
        return function(state)

    def add(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum of branches."""
        return torch.stack(list(states)).sum(0)

    def join(
        self, function: Callable[[Sequence[torch.Tensor]], torch.Tensor], states: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Concatenation of branches."""
        return function(states)

    def shape(self, state: torch.Tensor) -> torch.Size:
        """Shape of the activations."""
        return state.shape
