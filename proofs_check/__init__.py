"""Attempts to refute the guarantees of :mod:`coresets` and :mod:`nn`, and of constructions of your own.

Each check fixes its false-alarm rate and the failure rate that it must detect before it runs, and
must also catch the faults that are planted for it. A check can refute a theorem; it never proves one.

The names here attack a reader's own construction; ``python -m proofs_check`` attacks the library's.
"""

from __future__ import annotations

from proofs_check.design import Design
from proofs_check.results import TestResult, Verdict
from proofs_check.testing import (
    AttackReport,
    WorstAbsolute,
    WorstListed,
    WorstSearched,
    WorstSquares,
    assert_not_refuted,
    attack,
)

__all__ = [
    "AttackReport",
    "Design",
    "TestResult",
    "Verdict",
    "WorstAbsolute",
    "WorstListed",
    "WorstSearched",
    "WorstSquares",
    "assert_not_refuted",
    "attack",
]
