"""The checks, one a guarantee, in the order in which the theory builds up."""

from __future__ import annotations

from proofs_check.check import Check
from proofs_check.checks import finite, sensitivity, uniform

__all__ = ["CHECKS"]

CHECKS: tuple[Check, ...] = (*finite.CHECKS, *uniform.CHECKS, *sensitivity.CHECKS)
