"""Parts that the attacks on convex geometry share: small sets, tight ones, and claims that never fail.

Nothing is random in these claims. The figure reported as the error is what was observed divided by
what was certified: 1 means that the bound is attained, more refutes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from coresets.accuracy import Accuracy
from coresets.weighted_set import WeightedSet
from proofs_check.check import Fault, Scenario
from proofs_check.workloads import Workload, leading, thinned

__all__ = ["CERTAIN", "Built", "certain", "named", "renamed", "small", "tight", "unweighted"]

Floats = npt.NDArray[np.float64]
R = TypeVar("R")

CERTAIN = Accuracy(1.0, 0.0)  # what is observed is never more than what is certified
_COLUMNS = 4  # of real and adversarial sets: facets are enumerated, and their number explodes


@dataclass(frozen=True)
class Built(Generic[R]):
    """Construct once and measure: observed over certified."""

    construct: Callable[[], R]
    measure: Callable[[R], float]

    def __call__(self, rng: np.random.Generator) -> float:
        return self.measure(self.construct())


def certain(
    workload: Workload,
    construct: Callable[[], R],
    measure: Callable[[R], float],
    broken: Mapping[str, Callable[[], R]],
    *,
    note: str,
    size: int | None = None,
) -> Scenario:
    """Scenario for a claim without chance; faults construct the same thing in a broken way."""
    return Scenario(
        workload=workload,
        size=workload.n if size is None else size,
        claimed=CERTAIN,
        trial=Built(construct, measure),
        faults=tuple(Fault(name, Built(build, measure)) for name, build in broken.items()),
        note=note,
    )


def renamed(workload: Workload, words: str) -> Workload:
    """The same data under the name of an attack on them."""
    return Workload(f"{workload.name}, {words}", workload.kind, workload.data)


def small(workloads: Sequence[Workload], points: int, columns: int = _COLUMNS) -> list[Workload]:
    """The sets thinned to so many points, and to so many columns unless they are degenerate."""
    return [thinned(w if w.kind == "degenerate" else leading(w, columns), points) for w in workloads]


def unweighted(workloads: Sequence[Workload]) -> list[Workload]:
    """The sets without masses of their own, for what does not look at masses."""
    return [w for w in workloads if float(np.ptp(np.asarray(w.data.weights))) == 0.0]


def named(name: str, points: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Workload:
    """An adversarial set."""
    return Workload(name, "adversarial", WeightedSet(np.asarray(points, dtype=np.float64), weights))


def tight() -> Iterator[Workload]:
    """Sets on which bounds are attained, or whose digits are easily lost."""
    rng = np.random.default_rng(7)
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    yield named("cross-polytope", np.eye(4))
    yield named("simplex", np.vstack([np.eye(4), -np.ones((1, 4))]))
    yield named("cube", corners)
    ball = rng.standard_normal((200, 3))
    ball *= (rng.random((200, 1)) ** (1.0 / 3.0)) / np.linalg.norm(ball, axis=1, keepdims=True)
    yield named("ball", ball)
    yield named("columns over ten orders", rng.standard_normal((150, 4)) * 10.0 ** np.array([-5, 0, 2, 5]))
    yield named("far from the origin", rng.standard_normal((150, 3)) + 1e6)
    yield named("heavy tails", rng.standard_t(1.5, (200, 3)))
