"""Evidence computed from one result, after the fact and independently of how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from coresets._validate import check_probability, check_real

__all__ = ["Certificate"]


@dataclass(frozen=True)
class Certificate:
    """A checked fact about one result.

    Parameters
    ----------
    name : str
        What was measured, such as ``"subspace embedding"``.
    statement : str
        The fact in one sentence.
    value : float
        The measured quantity, in the unit that the statement names.
    bound : float or None
        What theory had promised for it, if anything; ``value <= bound`` is :attr:`holds`.
    confidence : float
        Probability with which the statement holds; 1 for a deterministic computation.
    details : mapping of str to float
        Further figures, such as the two extreme eigenvalues.

    Examples
    --------
    >>> from coresets import Certificate
    >>> evidence = Certificate("mass", "relative error of the total weight", 0.01, bound=0.1)
    >>> evidence.holds
    True
    """

    name: str
    statement: str
    value: float
    bound: float | None = None
    confidence: float = 1.0
    details: Mapping[str, float] = field(default_factory=dict, hash=False)  # a mapping has no hash

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", check_real(self.value, "value"))
        if self.bound is not None:
            # A vacuous promise is infinite; NaN would compare as a broken one.
            bound = math.inf if self.bound == math.inf else check_real(self.bound, "bound")
            object.__setattr__(self, "bound", bound)
        object.__setattr__(self, "confidence", check_probability(self.confidence, "confidence"))
        details = {str(key): float(value) for key, value in dict(self.details).items()}
        object.__setattr__(self, "details", MappingProxyType(details))

    @property
    def holds(self) -> bool | None:
        """Whether the value is within the bound; None without a bound."""
        return None if self.bound is None else self.value <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return {
            "name": self.name,
            "statement": self.statement,
            "value": self.value,
            "bound": self.bound,
            "confidence": self.confidence,
            "details": dict(self.details),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Certificate:
        """Inverse of :meth:`to_dict`."""
        return cls(**record)

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be copied
        return (type(self).from_dict, (self.to_dict(),))
