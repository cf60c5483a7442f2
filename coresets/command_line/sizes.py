"""Sizes that a theorem asks for, beside the number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim

__all__ = ["SIZES_AT", "Sizes", "sizes_of"]

SIZES_AT = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True)
class Sizes:
    """What a theorem asks for.

    Parameters
    ----------
    claim : Claim
        Theorem and parameters.
    rows : int
        Number of rows of the data.
    delta : float
        Failure probability.
    sizes : tuple of (float, int or None)
        Relative errors, and sizes; None where it is beyond any number.
    least_epsilon : float
        The error that the theorem promises for one row less than all.
    """

    claim: Claim
    rows: int
    delta: float
    sizes: tuple[tuple[float, int | None], ...]
    least_epsilon: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "guarantee": self.claim.guarantee.key,
            "statement": self.claim.guarantee.statement,
            "total_sensitivity": getattr(self.claim.parameters, "total_sensitivity", None),
            "rows": self.rows,
            "delta": self.delta,
            "least_epsilon": self.least_epsilon,
            "sizes": [
                {"epsilon": epsilon, "size": size, "vacuous": size is None or size >= self.rows}
                for epsilon, size in self.sizes
            ],
        }

    def summary(self) -> list[tuple[str, str]]:
        """Names and values."""
        guarantee = self.claim.guarantee
        useful = f"for errors of at least {self.least_epsilon:.3g}"
        if self.least_epsilon >= 1.0:
            useful = "for no error below 1: take all rows, or a size of your own and a certificate"
        lines = [("theorem", f"{guarantee.key}: {guarantee.title}")]
        total = getattr(self.claim.parameters, "total_sensitivity", None)
        if total is not None:
            lines.append(("total sensitivity", f"{total:,.4g}"))
        return [*lines, ("rows", f"{self.rows:,}"), ("less than all rows", useful)]

    def lines(self) -> list[tuple[str, str, str]]:
        """Cells of the table."""
        found = []
        for epsilon, size in self.sizes:
            if size is None or size >= self.rows:
                shown = "beyond any data" if size is None else f"{size:,}"
                found.append((f"{epsilon:g}", shown, "vacuous: all rows"))
            else:
                found.append((f"{epsilon:g}", f"{size:,}", f"{size / self.rows:.2%}"))
        return found


def sizes_of(claim: Claim, rows: int, epsilons: Sequence[float], delta: float) -> Sizes:
    """Sizes at several errors.

    Parameters
    ----------
    claim : Claim
        Theorem and parameters.
    rows : int
        Number of rows, at least 1.
    epsilons : sequence of float
        Relative errors in (0, 1].
    delta : float
        Failure probability.
    """
    sizes: list[tuple[float, int | None]] = []
    for epsilon in epsilons:
        try:
            sizes.append((epsilon, claim.size(Accuracy(epsilon, delta))))
        except OverflowError:
            sizes.append((epsilon, None))
    least = claim.accuracy(max(1, rows - 1), delta).epsilon
    return Sizes(claim, rows, delta, tuple(sizes), least)
