"""The three ways a computation can refuse or warn.

Bad arguments are plain :class:`ValueError` and :class:`TypeError`, with the offending value and
the remedy in the message. What is left for this module are failures that belong to the field: a
theorem whose hypothesis does not hold, a solver that stopped early, and a repair that the caller
should know about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coresets.certificate import Certificate

__all__ = ["AssumptionError", "NumericalWarning", "SolverError"]


class AssumptionError(ValueError):
    """A hypothesis of a theorem does not hold for the data or the sampler at hand."""


class SolverError(RuntimeError):
    """A numerical method stopped before reaching its goal.

    Parameters
    ----------
    message : str
        What was asked for and what was reached.
    certificate : Certificate or None
        Evidence for the best result that was reached.
    result : object
        The best result itself, where it is of use; None otherwise.
    """

    def __init__(self, message: str, certificate: Certificate | None = None, result: Any = None) -> None:
        super().__init__(message)
        self.certificate = certificate
        self.result = result


class NumericalWarning(UserWarning):
    """A value was repaired; the message says which and by how much."""
