"""Minimum-volume enclosing ellipsoids, with certificates."""

from coresets.ellipsoid._rows import LiftedRows
from coresets.ellipsoid._solver import Design, Solver
from coresets.ellipsoid._start import kumar_yildirim_start
from coresets.ellipsoid.add_only import AddOnly
from coresets.ellipsoid.ascent import Ascent
from coresets.ellipsoid.blocks import Blocks
from coresets.ellipsoid.conic import Conic
from coresets.ellipsoid.ellipsoid import Ellipsoid
from coresets.ellipsoid.fixed_point import FixedPoint
from coresets.ellipsoid.loewner import loewner_ellipsoid

__all__ = [
    "AddOnly",
    "Ascent",
    "Blocks",
    "Conic",
    "Design",
    "Ellipsoid",
    "FixedPoint",
    "LiftedRows",
    "Solver",
    "kumar_yildirim_start",
    "loewner_ellipsoid",
]
