"""The smallest network that held-out data certify.

Trying network after network on the same held-out data and quoting the best is no certificate. Here
the order of the candidates, from large to small, and the statement to prove are fixed before the
data are looked at; candidates are tested in that order until the first one fails. If the returned
network violated the statement, then the first bad candidate of the order was accepted, and that has
probability at most one minus the confidence: no correction for the number of candidates is needed
(fixed-sequence testing, Q10-S). Bisecting, or skipping a failed candidate, would void this; stopping early,
for whatever reason, does not. A candidate that cannot be made, since a solver fails on it say, therefore
ends the search as a failed one does, with a warning.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coresets._validate import check_integer, check_open_unit, check_real
from coresets.errors import AssumptionError
from nn.budgets import KeepRatio
from nn.calibration import Calibration
from nn.certify.errors import OutputError
from nn.certify.held_out import HeldOut, errors_on
from nn.guarantees.certificates import HeldOutLimit
from nn.plans import PruningWarning

__all__ = ["Certified", "refuse_overlap", "smallest_certified"]


@dataclass(frozen=True)
class Certified:
    """Keep as few weights as held-out data can certify.

    The statement: with probability ``confidence`` over the held-out examples, a fresh example has an
    error above ``epsilon`` with probability at most ``violation``.

    Parameters
    ----------
    error : OutputError
        :class:`~nn.certify.ClassChange` or :class:`~nn.certify.OutputDifference`.
    epsilon : float
        Threshold of the error, at least 0; use 0 with ``ClassChange``.
    violation : float
        In (0, 1).
    confidence : float
        In (0, 1).
    smallest : float
        Smallest keep ratio to try, in (0, 1).
    candidates : int
        Number of keep ratios, in equal steps of their logarithm down to ``smallest``.

    Examples
    --------
    >>> from nn import Certified, ClassChange
    >>> budget = Certified(ClassChange(), epsilon=0.0, violation=0.05, confidence=0.95)
    >>> [round(candidate.ratio, 3) for candidate in budget.sequence()][:3]
    [0.891, 0.794, 0.708]
    """

    error: OutputError
    epsilon: float
    violation: float
    confidence: float = 0.95
    smallest: float = 0.01
    candidates: int = 40

    def __post_init__(self) -> None:
        if isinstance(self.error, type) or not isinstance(self.error, OutputError):
            raise TypeError(f"error = {self.error!r}; pass ClassChange() or OutputDifference(...)")
        if check_real(self.epsilon, "epsilon") < 0.0:
            raise ValueError(f"epsilon = {self.epsilon:g} is negative; errors are at least 0")
        for name in ("violation", "confidence", "smallest"):
            object.__setattr__(self, name, check_open_unit(getattr(self, name), name))
        check_integer(self.candidates, "candidates", at_least=1)

    def sequence(self) -> Iterator[KeepRatio]:
        """Candidates in the order in which they are tested, fixed before any data are seen."""
        for step in range(1, self.candidates + 1):
            yield KeepRatio(float(self.smallest ** (step / self.candidates)))

    def test(self, original: torch.nn.Module, pruned: torch.nn.Module, data: Calibration) -> HeldOut | None:
        """The certificate of one candidate, None if it fails."""
        errors = errors_on(original, pruned, data, self.error)
        failures, examples = int((errors > self.epsilon).sum()), errors.numel()
        if HeldOutLimit().limit(failures, examples, self.confidence) > self.violation:
            return None
        # Only the statement fixed beforehand is certified, not this candidate's own, smaller limit.
        return HeldOut(self.error, self.epsilon, self.violation, self.confidence, examples, failures)


def smallest_certified(
    original: torch.nn.Module, prune_to: Any, budget: Certified, certification: Calibration
) -> tuple[Any, HeldOut]:
    """The last candidate of the sequence before the first that fails, with its certificate.

    Parameters
    ----------
    original : torch.nn.Module
        The network that the pruned ones are compared with.
    prune_to : callable
        ``prune_to(budget)`` prunes to a keep ratio; it must not look at the certification data.
    budget : Certified
        The statement and the sequence.
    certification : Calibration
        Held-out examples.

    Raises
    ------
    ValueError
        If there are too few examples to certify even a network without a failure.
    AssumptionError
        If the first candidate fails already.
    Exception
        Whatever the first candidate raises, if it cannot be made or run.

    Warns
    -----
    PruningWarning
        If a later candidate raises. The search ends there, and what was certified before is returned:
        the smallest network of a shorter sequence.
    """
    examples = sum(batch.size for batch in certification)
    needed = HeldOutLimit().examples(budget.violation, budget.confidence)
    if examples < needed:
        raise ValueError(
            f"{examples} held-out examples cannot certify a violation of {budget.violation:g} with "
            f"confidence {budget.confidence:g}: a network without a failure needs {needed}"
        )
    best: tuple[Any, HeldOut] | None = None
    for candidate in budget.sequence():
        try:
            pruned = prune_to(candidate)
            evidence = budget.test(original, pruned.model, certification)
        except Exception as error:  # a method may raise anything, and what is certified must not be lost
            if best is None:
                raise
            warnings.warn(
                f"the search for the smallest certified network ended at {candidate!r}, which raised "
                f"{type(error).__name__}: {error}; returned is the last network certified before",
                PruningWarning,
                stacklevel=3,
            )
            break
        if evidence is None:
            break
        best = pruned, evidence
    if best is None:
        raise AssumptionError(
            f"already {next(budget.sequence())!r} is not certified: {budget.error!r} exceeds "
            f"{budget.epsilon:g} too often on the held-out data; ask for a larger epsilon or violation, or "
            "for more candidates"
        )
    return best


def refuse_overlap(calibration: Calibration | None, certification: Calibration) -> None:
    """Raise if an example is in both sets: the network then depends on what is to judge it.

    Examples are compared bit by bit, by a hash of 128 bits each.

    Raises
    ------
    ValueError
        If they share an example.
    """
    if calibration is None:
        return
    seen = {example for batch in calibration for example in _fingerprints(batch)}
    position = 0
    for batch in certification:
        for example in _fingerprints(batch):
            if example in seen:
                raise ValueError(
                    f"certification example {position} is among the calibration data; certify on examples "
                    "that pruning has not seen"
                )
            position += 1


def _fingerprints(batch: Any) -> Iterator[bytes]:
    tensors = [v for v in (*batch.arguments, *batch.keywords.values()) if torch.is_tensor(v) and v.dim()]
    # Others, such as one mask for all examples, are no part of an example.
    hosts = [np.ascontiguousarray(_plain(t)) for t in tensors if t.shape[0] == batch.size]
    for index in range(batch.size if hosts else 0):
        digest = hashlib.blake2b(digest_size=16)
        for host in hosts:
            digest.update(host[index].tobytes())
        yield digest.digest()


def _plain(tensor: torch.Tensor) -> Any:
    host = tensor.detach().cpu()
    return (host.float() if host.dtype == torch.bfloat16 else host).numpy()
