"""Certificates from held-out data: no assumption on the network, the method or the data's law.

On n examples that neither training nor pruning has seen, the number of those with an error above
epsilon is binomial, whatever the networks are. Its exact (Clopper-Pearson) upper limit therefore
bounds the probability that a fresh example errs by more than epsilon. The failure probability of
a sampler, delta, plays no part: the statement is about the one network that was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from coresets._validate import check_open_unit, check_real
from coresets.certificate import Certificate
from nn.calibration import Calibration, device_of, evaluating
from nn.certify.errors import ClassChange, OutputError
from nn.guarantees.certificates import HeldOutLimit

__all__ = ["HeldOut", "errors_on", "held_out"]


@dataclass(frozen=True)
class HeldOut:
    """With the given confidence, a fresh example errs by more than epsilon at most so often.

    Parameters
    ----------
    error : OutputError
        What is measured.
    epsilon : float
        Threshold of the error, at least 0.
    violation : float
        Bound on the probability that the error of a fresh example exceeds epsilon.
    confidence : float
        Probability, over the held-out examples, with which the bound is valid.
    examples, failures : int
        Held-out examples, and those with a larger error.
    """

    error: OutputError
    epsilon: float
    violation: float
    confidence: float
    examples: int
    failures: int

    @property
    def certificate(self) -> Certificate:
        """The same as a certificate: the bound on the probability as its value, counts in the details."""
        return Certificate(
            "held-out error",
            f"with confidence {self.confidence:g}, the probability that {self.error!r} of a fresh example "
            f"exceeds {self.epsilon:g} is at most {self.violation:.4g} "
            f"({self.failures} of {self.examples} held-out examples exceed it)",
            value=self.violation,
            confidence=self.confidence,
            details={
                "epsilon": self.epsilon,
                "violation": self.violation,
                "examples": float(self.examples),
                "failures": float(self.failures),
            },
        )


def errors_on(
    original: torch.nn.Module, pruned: torch.nn.Module, data: Any, error: OutputError
) -> torch.Tensor:
    """Errors of the pruned network on all examples, (n,) in float64 on the host.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        Run in evaluation mode; left in the modes that they had.
    data : iterable of batches or Calibration
        Examples; labels are not looked at.
    error : OutputError
        What to measure.

    Raises
    ------
    ValueError
        If there are no data, an output of the original network is not finite, the outputs differ in
        shape, or there is not one output and one error an example.
    """
    with torch.random.fork_rng():  # loaders draw from torch's own generator, even unshuffled ones
        return torch.cat(list(_errors(original, pruned, Calibration.of(data), error)))


def _errors(
    original: torch.nn.Module, pruned: torch.nn.Module, data: Calibration, error: OutputError
) -> Iterator[torch.Tensor]:
    with evaluating(original), evaluating(pruned), torch.no_grad():
        for batch in data:
            before = batch.to(device_of(original)).run(original)
            after = batch.to(device_of(pruned)).run(pruned)
            for output in (before, after):
                if not torch.is_tensor(output):
                    raise TypeError(
                        f"a network returns a {type(output).__name__}; wrap it to return one tensor"
                    )
            if not bool(torch.isfinite(before).all()):
                raise ValueError("an output of the original network is NaN or infinite on the held-out data")
            if before.shape != after.shape or before.dim() == 0 or before.shape[0] != batch.size:
                raise ValueError(
                    f"{batch.size} examples give outputs of shapes {tuple(before.shape)} and "
                    f"{tuple(after.shape)}; there must be one an example, along the first axis"
                )
            values = error(before, after.to(before.device)).detach().cpu().double()
            if values.shape != (batch.size,):
                raise ValueError(f"{error!r} gives {tuple(values.shape)}, not one error for each example")
            # Not a number is no small error.
            yield torch.where(torch.isnan(values), torch.full_like(values, math.inf), values)


def held_out(
    original: torch.nn.Module,
    pruned: torch.nn.Module,
    data: Any,
    error: OutputError | None = None,
    *,
    epsilon: float = 0.0,
    confidence: float = 0.95,
) -> HeldOut:
    """Certify a pruned network on data that nothing has looked at before.

    Parameters
    ----------
    original, pruned : torch.nn.Module
        The networks; the pruned one must not depend on ``data``, whoever pruned it and however.
    data : iterable of batches or Calibration
        Independent examples from the distribution that the statement is about.
    error : OutputError
        What is measured; a change of the predicted class by default.
    epsilon : float
        Errors above it count as failures.
    confidence : float
        Of the statement, in (0, 1).

    Returns
    -------
    HeldOut

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, prune
    >>> from nn.certify import held_out
    >>> network = torch.nn.Linear(10, 3)
    >>> pruned = prune(network, Magnitude(), KeepRatio(0.9))
    >>> evidence = held_out(network, pruned.model, [torch.randn(200, 10)], epsilon=0.0)
    >>> evidence.examples, evidence.violation < 0.5
    (200, True)
    """
    error = ClassChange() if error is None else error
    if isinstance(error, type) or not isinstance(error, OutputError):
        raise TypeError(f"error = {error!r}; pass ClassChange() or OutputDifference(...)")
    if check_real(epsilon, "epsilon") < 0.0:
        raise ValueError(f"epsilon = {epsilon:g} is negative; errors are at least 0")
    confidence = check_open_unit(confidence, "confidence")
    errors = errors_on(original, pruned, data, error)
    failures, examples = int((errors > epsilon).sum()), errors.numel()
    limit = HeldOutLimit().limit(failures, examples, confidence)
    return HeldOut(error, float(epsilon), limit, confidence, examples, failures)
