"""Point sets of every awkward kind, for algorithms that must answer rightly or refuse clearly.

A set is a value made from a kind, a size and a seed, so that a failure can be repeated from one line. The
Hypothesis strategy needs the package ``hypothesis``, which the extra ``test`` brings; the rest does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["KINDS", "MODIFIERS", "PointSet", "point_sets", "random_point_set"]

Generator = np.random.Generator
Kind = Callable[[Generator, int, int], np.ndarray]


def _gaussian(rng: Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d))


def _heavy_tailed(rng: Generator, n: int, d: int) -> np.ndarray:
    size = np.abs(rng.standard_normal((n, 1))) ** rng.choice([1.0, 3.0])
    return np.asarray(rng.standard_normal((n, d)) / size)


def _lattice(rng: Generator, n: int, d: int) -> np.ndarray:
    """Small integers: ties, duplicates, many contact points at once."""
    return rng.integers(-2, 3, (n, d)).astype(np.float64)


def _duplicated(rng: Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d))[rng.integers(0, max(1, n // 10), n)]


def _collinear(rng: Generator, n: int, d: int) -> np.ndarray:
    """Near a line; the distance from it ranges from none through the rank tolerance to plenty."""
    noise = 10.0 ** rng.uniform(-17.0, -2.0)
    line = rng.standard_normal((n, 1)) * rng.standard_normal(d)
    return np.asarray(line + noise * rng.standard_normal((n, d)))


def _subspace(rng: Generator, n: int, d: int) -> np.ndarray:
    rank = int(rng.integers(1, d + 1))
    return np.asarray(rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)))


def _clusters(rng: Generator, n: int, d: int) -> np.ndarray:
    centers = 100.0 * rng.standard_normal((int(rng.integers(1, 6)), d))
    width = 10.0 ** rng.uniform(-9.0, 0.0)
    return np.asarray(centers[rng.integers(0, len(centers), n)] + width * rng.standard_normal((n, d)))


def _sphere(rng: Generator, n: int, d: int) -> np.ndarray:
    points = rng.standard_normal((n, d))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _ball(rng: Generator, n: int, d: int) -> np.ndarray:
    return np.asarray(_sphere(rng, n, d) * rng.random((n, 1)) ** (1.0 / d))


def _cube(rng: Generator, n: int, d: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], (n, d))


def _simplex(rng: Generator, n: int, d: int) -> np.ndarray:
    """Mixtures of the unit vectors, some of them pure."""
    mixtures = rng.dirichlet(np.ones(d), n)
    mixtures[: min(n, d)] = np.eye(d)[: min(n, d)]
    return mixtures


def _outlier(rng: Generator, n: int, d: int) -> np.ndarray:
    points = rng.standard_normal((n, d))
    points[int(rng.integers(n))] *= 10.0 ** rng.uniform(2.0, 8.0)
    return points


def _constant(rng: Generator, n: int, d: int) -> np.ndarray:
    return np.tile(rng.standard_normal(d), (n, 1))


KINDS: dict[str, Kind] = {
    "gaussian": _gaussian,
    "heavy tailed": _heavy_tailed,
    "lattice": _lattice,
    "duplicated": _duplicated,
    "near a line": _collinear,
    "in a subspace": _subspace,
    "clusters": _clusters,
    "sphere": _sphere,
    "ball": _ball,
    "cube vertices": _cube,
    "simplex": _simplex,
    "one outlier": _outlier,
    "one point": _constant,
}


def _badly_scaled(rng: Generator, points: np.ndarray) -> np.ndarray:
    return np.asarray(points * 10.0 ** rng.uniform(-5.0, 5.0, points.shape[1]))


def _distant(rng: Generator, points: np.ndarray) -> np.ndarray:
    return np.asarray(points + 10.0 ** rng.uniform(2.0, 12.0) * rng.standard_normal(points.shape[1]))


def _single(_: Generator, points: np.ndarray) -> np.ndarray:
    return points.astype(np.float32)


def _huge(rng: Generator, points: np.ndarray) -> np.ndarray:
    return np.asarray(points * 10.0 ** rng.uniform(50.0, 290.0))


def _tiny(rng: Generator, points: np.ndarray) -> np.ndarray:
    return np.asarray(points * 10.0 ** rng.uniform(-320.0, -50.0))


def _with_constant_column(rng: Generator, points: np.ndarray) -> np.ndarray:
    points = points.copy()
    points[:, int(rng.integers(points.shape[1]))] = rng.choice([0.0, 0.1, 1e6])
    return points


def _strided(_: Generator, points: np.ndarray) -> np.ndarray:
    return np.asfortranarray(points)[::-1]


MODIFIERS: dict[str, Callable[[Generator, np.ndarray], np.ndarray] | None] = {
    "plain": None,
    "badly scaled": _badly_scaled,
    "distant": _distant,
    "float32": _single,
    "huge": _huge,
    "tiny": _tiny,
    "constant column": _with_constant_column,
    "strided": _strided,
}


@dataclass(frozen=True)
class PointSet:
    """A recipe for points.

    Parameters
    ----------
    kind : str
        A name in :data:`KINDS`: the distribution.
    modifier : str
        A name in :data:`MODIFIERS`: what is done to the points afterwards.
    n, d : int
        Number of points and of coordinates, at least 1.
    seed : int
        Of the generator.

    Examples
    --------
    >>> from proofs_check.point_sets import PointSet
    >>> PointSet("cube vertices", "plain", n=3, d=2, seed=0).points().shape
    (3, 2)
    """

    kind: str
    modifier: str
    n: int
    d: int
    seed: int

    def points(self) -> np.ndarray:
        """The points, (n, d), float64 or float32; finite."""
        rng = np.random.default_rng(self.seed)
        points = KINDS[self.kind](rng, self.n, self.d)
        change = MODIFIERS[self.modifier]
        if change is None:
            return points
        with np.errstate(over="ignore", under="ignore"):
            changed = change(rng, points)
        largest = np.finfo(changed.dtype).max
        return np.asarray(np.clip(changed, -largest, largest))


def random_point_set(rng: Generator, *, max_points: int = 5000, max_dimension: int = 30) -> PointSet:
    """A recipe with log-uniform sizes, every kind and modifier equally likely.

    Parameters
    ----------
    rng : numpy Generator
        Source of all choices.
    max_points, max_dimension : int
        Largest n and d.
    """
    return PointSet(
        str(rng.choice(list(KINDS))),
        str(rng.choice(list(MODIFIERS))),
        int((max_points + 1.0) ** rng.random()),
        int((max_dimension + 1.0) ** rng.random()),
        int(rng.integers(2**32)),
    )


def point_sets(*, max_points: int = 5000, max_dimension: int = 30) -> SearchStrategy[PointSet]:
    """Hypothesis strategy of recipes; failures shrink to simple kinds and small sizes.

    Parameters
    ----------
    max_points, max_dimension : int
        Largest n and d.

    Examples
    --------
    >>> from hypothesis import given
    >>> from proofs_check.point_sets import point_sets
    >>> @given(point_sets(max_points=20))
    ... def test_something(recipe): ...
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - optional

    sizes = st.one_of(st.integers(1, min(40, max_points)), st.integers(min(40, max_points), max_points))
    return st.builds(
        PointSet,
        kind=st.sampled_from(list(KINDS)),
        modifier=st.sampled_from(list(MODIFIERS)),
        n=sizes,
        d=st.integers(1, max_dimension),
        seed=st.integers(0, 2**32 - 1),
    )
