"""An enclosing ellipsoid, with the design that proves it small."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device, is_numpy_array
from scipy.linalg import qr

from coresets._archives import read_archive, write_archive
from coresets._validate import beside, check_points
from coresets.certificate import Certificate
from coresets.ellipsoid._metric import Metric, metric_of_shape
from coresets.weighted_set import to_host

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Ellipsoid"]

Array = Any
Floats = npt.NDArray[np.float64]

_FORMAT = 1  # version of the file layout
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """The set E = {x : x - c in range(Q), (x - c)^T Q^+ (x - c) <= 1} around n points, or a batch of them.

    Parameters
    ----------
    center : array of shape (..., d)
        Centre c, float64; zeros if symmetric.
    shape : array of shape (..., d, d)
        Shape matrix Q, float64, symmetric and positive semi-definite, in squared units of the points.
        Of full rank unless the points lie in a subspace.
    weights : array of shape (..., n)
        The design u: non-negative, of sum 1, one weight a point; zero for points that the
        ellipsoid does not touch. It proves a lower bound on the volume of every enclosing ellipsoid.
    symmetric : bool
        Whether the centre was required to be the origin.
    rank : int or array of shape (...)
        Dimension r of the affine hull of the points, of their linear span if symmetric.
    gap : float or array of shape (...)
        max_i omega_i / r - 1 if symmetric, max_i omega_i / (r + 1) - 1 of the lifted points otherwise;
        0 at the optimum. The log-volume exceeds the least by at most k ln(1 + gap) / 2, k = r or r + 1.
    certificate : Certificate
        Containment, gap and volume, recomputed from the fields above; for a batch, the worst figures.
    iterations : int
        Steps that the solver took.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.ellipsoid import loewner_ellipsoid
    >>> ellipse = loewner_ellipsoid(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> bool(np.allclose(ellipse.shape, np.diag([4.0, 1.0]), rtol=1e-5, atol=1e-5))
    True
    >>> ellipse.contains(np.array([[0.0, 0.0], [1.9, 0.9]]))
    array([ True, False])
    """

    center: Array
    shape: Array
    weights: Array
    symmetric: bool
    rank: Any
    gap: Any
    certificate: Certificate
    iterations: int

    @property
    def d(self) -> int:
        """Dimension of the space."""
        return int(self.center.shape[-1])

    @property
    def n(self) -> int:
        """Number of points that it was computed from."""
        return int(self.weights.shape[-1])

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the batch; () for a single ellipsoid."""
        return tuple(int(size) for size in self.center.shape[:-1])

    def member(self, *index: int) -> Ellipsoid:
        """One ellipsoid of a batch; its certificate holds the worst figures of the whole batch."""
        if len(index) != len(self.batch):
            raise ValueError(f"index {index} does not fit the batch of shape {self.batch}")
        return Ellipsoid(
            self.center[(*index, slice(None))],
            self.shape[(*index, slice(None), slice(None))],
            self.weights[(*index, slice(None))],
            self.symmetric,
            int(to_host(self.rank)[index]),
            float(to_host(self.gap)[index]),
            self.certificate,
            self.iterations,
        )

    @property
    def support(self) -> Array:
        """Indices of the points of positive weight, increasing; of a single ellipsoid only.

        Their convex hull, and with it the whole set, contains the ellipsoid shrunk about its centre by
        ``certificate.details["rounding"]``. If it is symmetric, the hull of the points and their negatives
        contains the ellipsoid shrunk by the square root of that.
        """
        self._require_single("support")
        return array_namespace(self.weights).nonzero(self.weights > 0)[0]

    @property
    def axes(self) -> Array:
        """Semi-axes of a single ellipsoid, (r, d): unit direction times length, longest first."""
        self._require_single("axes")
        lengths, directions = _semi_axes(self._host_metric(), int(self.rank))
        axes = lengths[:, None] * directions
        return axes if is_numpy_array(self.center) else beside(axes, self.center, "axes")

    @property
    def log_volume(self) -> Any:
        """Natural logarithm of the r-dimensional volume within the hull; 0 for a point, the unit of r = 0.

        A float, or an array of the shape of the batch. Volumes of different ranks do not compare.
        """
        if self.batch:
            logs = [self.member(*index).log_volume for index in np.ndindex(*self.batch)]
            return beside(np.reshape(logs, self.batch), self.center, "log_volume")
        r = int(self.rank)
        lengths, _ = _semi_axes(self._host_metric(), r)
        log_ball = 0.5 * r * math.log(math.pi) - math.lgamma(0.5 * r + 1.0)
        return log_ball + float(np.sum(np.log(lengths)))

    def contains(self, points: Array) -> Array:
        """Which points lie in the ellipsoid, up to rounding.

        Parameters
        ----------
        points : array of shape (..., m, d)
            Finite real points, with the batch axes of the ellipsoid, or none.

        Returns
        -------
        boolean array of shape (..., m)
            True for all points that the ellipsoid was computed from. The tolerance is the rounding error
            of the form; across a lower-dimensional hull, it is the largest distance of those points.

        Raises
        ------
        ValueError
            If the points have another dimension, or are not finite.
        """
        checked = check_points(points)
        if int(checked.shape[-1]) != self.d:
            raise ValueError(
                f"points has shape {tuple(checked.shape)}; the ellipsoid lives in {self.d} dimensions"
            )
        checked = beside(checked, self.center, "points")
        xp = array_namespace(checked)
        metric = metric_of_shape(self.center, self.shape, self.rank)
        image = (xp.astype(checked, xp.float64, copy=False) - self.center[..., None, :]) @ metric.factor
        tolerance = 1.0 + 2.0 * metric.relative_error + self.certificate.details.get("containment_error", 0.0)
        inside = xp.sum(image * image, axis=-1) <= tolerance[..., None]
        off_hull = max(self.certificate.details.get("off_hull", 0.0), 4.0 * self.d * _EPS) * (1.0 + 1e-6)
        full = xp.asarray(self.rank, device=device(checked)) == self.d
        return inside & (full[..., None] | (metric.distance_off_hull(checked) <= off_hull))

    def plot(self, ax: Axes | None = None, points: Array = None) -> Axes:
        """Draw an ellipse of the plane with its centre, and the points if given.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.
        points : array of shape (n, 2), optional
            The points that the ellipse was computed from; those of positive weight are emphasised.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        ValueError
            If the ellipsoid is not of the plane, or a batch.
        ImportError
            If matplotlib is not installed.
        """
        self._require_single("plot")
        if self.d != 2:
            raise ValueError(f"the ellipsoid lives in {self.d} dimensions; only those of the plane are drawn")
        from coresets.ellipsoid._plot import draw_ellipse  # noqa: PLC0415 - matplotlib is optional

        return draw_ellipse(self, ax, points)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an ``.npz`` file, atomically and without pickle.

        Parameters
        ----------
        path : path-like
            Name of the file. It holds the arrays and one JSON header; nothing in it is executed on loading.
        """
        header = {
            "kind": "ellipsoid",
            "format": _FORMAT,
            "symmetric": self.symmetric,
            "iterations": self.iterations,
            "certificate": self.certificate.to_dict(),
        }
        names = ("center", "shape", "weights", "rank", "gap")
        write_archive(path, header, {name: to_host(getattr(self, name)) for name in names})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ellipsoid:
        """Read what :meth:`save` wrote; arrays come back as NumPy arrays.

        Raises
        ------
        ValueError
            If the file is not a saved ellipsoid, is damaged, or has another format version.
        FileNotFoundError
            If there is no such file.
        """
        header, arrays = read_archive(path, "ellipsoid", version=_FORMAT)
        try:
            rank, gap = arrays["rank"], arrays["gap"]
            return cls(
                arrays["center"],
                arrays["shape"],
                arrays["weights"],
                bool(header["symmetric"]),
                rank if rank.ndim else int(rank),
                gap if gap.ndim else float(gap),
                Certificate.from_dict(header["certificate"]),
                int(header["iterations"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)} is a damaged ellipsoid: {error}") from error

    def _require_single(self, name: str) -> None:
        if self.batch:
            raise ValueError(
                f"{name} is of one ellipsoid, and this is a batch of shape {self.batch}; use member()"
            )

    def _host_metric(self) -> Metric:
        return metric_of_shape(to_host(self.center), to_host(self.shape), int(self.rank))

    def __repr__(self) -> str:
        of = f"batch={self.batch}, " if self.batch else f"rank={self.rank}, gap={self.gap:.3g}, "
        kind = "symmetric" if self.symmetric else "free centre"
        return f"Ellipsoid({of}n={self.n}, d={self.d}, {kind}, iterations={self.iterations})"


def _semi_axes(metric: Metric, rank: int) -> tuple[Floats, Floats]:
    """Lengths (r,), longest first, and directions (r, d) of the semi-axes.

    Singular values and left vectors of B, by QR with pivoting of its rows sorted by size. Then columns of
    the data whose scales differ by many orders of magnitude do not swamp each other, as in the entries of Q.
    """
    root = np.asarray(metric.root[:, metric.root.shape[1] - rank :])
    if rank == 0:
        return np.zeros(0), np.zeros((0, len(root)))
    order = np.argsort(-metric.units, kind="stable")
    orthonormal, triangle, _ = qr(root[order], mode="economic", pivoting=True)
    left, lengths, _ = np.linalg.svd(triangle)
    directions = np.empty((rank, len(root)))
    directions[:, order] = (orthonormal @ left).T
    return lengths, directions
