"""What a Caratheodory reduction can keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from coresets.recombination._frame import Lift

__all__ = ["ConeSum", "Mean", "Preserve", "SecondMoment", "check_preserve"]


@runtime_checkable
class Preserve(Protocol):
    """What a reduction keeps: :class:`Mean`, :class:`ConeSum` or :class:`SecondMoment`."""

    @property
    def lift(self) -> Lift:
        """The features whose weighted sum is kept."""

    @property
    def unit(self) -> str:
        """In words, the unit of the certificate."""

    def most_points(self, rank: int) -> int:
        """Largest number of points kept from data of this rank."""


@dataclass(frozen=True)
class Mean:
    """Total mass and weighted mean, with at most (affine rank) + 1 points."""

    @property
    def lift(self) -> Lift:
        """The coordinates and the constant."""
        return Lift(quadratic=False, linear=True, constant=True)

    @property
    def unit(self) -> str:
        """Unit of the certificate."""
        return "weighted standard deviations of a coordinate"

    def most_points(self, rank: int) -> int:
        """The affine rank plus one."""
        return rank + 1


@dataclass(frozen=True)
class ConeSum:
    """The weighted sum of the points, with at most rank points; the total mass may change."""

    @property
    def lift(self) -> Lift:
        """The coordinates alone."""
        return Lift(quadratic=False, linear=True, constant=False)

    @property
    def unit(self) -> str:
        """Unit of the certificate."""
        return "mass times the weighted root mean square of a coordinate"

    def most_points(self, rank: int) -> int:
        """The rank."""
        return rank


@dataclass(frozen=True)
class SecondMoment:
    """Total mass and the sum of w p p^T; also the mean if asked for.

    The exact coreset for least squares and ridge regression (rows (p, y)), and for the design of an
    ellipsoid: the same matrix from few of its points.

    Parameters
    ----------
    mean : bool
        Whether to keep the weighted mean too, as models with an intercept need.

    Raises
    ------
    TypeError
        If ``mean`` is not a bool.
    """

    mean: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.mean, bool):
            raise TypeError(f"mean = {self.mean!r}; pass True or False")

    @property
    def lift(self) -> Lift:
        """The products of two coordinates, the constant, and the coordinates if the mean is kept."""
        return Lift(quadratic=True, linear=self.mean, constant=True)

    @property
    def unit(self) -> str:
        """Unit of the certificate."""
        return "the mass, in coordinates of unit second moment" + (" about the mean" if self.mean else "")

    def most_points(self, rank: int) -> int:
        """Dimension of the symmetric matrices, of the constant, and of the mean if kept."""
        return rank * (rank + 1) // 2 + 1 + (rank if self.mean else 0)


def check_preserve(preserve: object) -> None:
    """Raise ``TypeError`` unless it says what to keep."""
    if isinstance(preserve, type):
        raise TypeError(f"preserve is the class {preserve.__name__}; pass an instance, {preserve.__name__}()")
    if not isinstance(preserve, Preserve):
        raise TypeError(f"preserve = {preserve!r}; pass Mean(), ConeSum() or SecondMoment()")
