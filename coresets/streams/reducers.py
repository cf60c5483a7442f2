"""What a stream asks of a reducer beyond :class:`~coresets.reduction.Reducer`.

Two things break the addition of errors over a tree, and a reducer, or its loss, has to speak of them:

* *A term of the cost that belongs to all the data*, such as a regulariser: :class:`PartReducer`.
* *Errors relative to more than the cost.* A promise |F~(x) - F(x)| <= epsilon N(x) with N >= F says
  nothing about N on the coreset, and so nothing about the next reduction. Such a loss or reducer sets the
  class attribute ``additive_error = True``, and a stream then promises nothing. It is not needed if N itself
  is among what is kept up to epsilon N, as with ``HomogeneousSum``: the pair (outputs, N) composes like a
  cost. With ``AbsoluteSum`` N is the cost, and with ``ReLUSum`` the error is already relative to the
  cost, by the factor kappa of the very node that is reduced.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from coresets.reduction import Reducer

__all__ = ["BareReducer", "PartReducer", "bare", "has_additive_error"]


@runtime_checkable
class PartReducer(Protocol):
    """A reducer of a cost with a term that belongs to all the data, such as a regulariser.

    Such a cost is no sum over points. It is one if every part of the data carries its share of the
    term, in proportion to its mass: with r(x) per unit of mass, the part with mass U costs
    U r(x) + sum w f(p, x), and the costs of the parts add up to that of the whole.
    """

    def for_part(self, mass: float) -> Reducer:
        """The reducer for a part of the data whose own weights added up to ``mass``."""


@runtime_checkable
class BareReducer(Protocol):
    """A reducer that can leave out certificates, which a tree discards with all but its last coresets."""

    def without_certificates(self) -> Reducer:
        """The same reducer without them."""


def bare(reducer: Reducer) -> Reducer:
    """The reducer without certificates, if it can leave them out."""
    return reducer.without_certificates() if isinstance(reducer, BareReducer) else reducer


def has_additive_error(reducer: object) -> bool:
    """Whether a reducer, or its loss, says that its errors are relative to more than the cost."""
    parts = (reducer, getattr(reducer, "loss", None))
    return any(bool(getattr(part, "additive_error", False)) for part in parts)
