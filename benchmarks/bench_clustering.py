"""k-means and k-median coresets against uniform and lightweight samples, and against training on everything.

Times are process CPU seconds on one thread. Excess costs are relative to the best centres known, which are
the best of several trainings on all the data, on coresets included. Points are in single precision.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from coresets import IID, SensitivityReducer, WeightedSet
from coresets.clustering import (
    ClusteringLoss,
    Distance,
    LightweightLoss,
    Seeding,
    clustering_certificate,
    find_centres,
    forest_lower_bound,
    spectral_lower_bound,
)

__all__ = ["Row", "main"]

_TRAINED = 20  # initialisations on a coreset, where they cost little: local optima hide its error


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, with what it is compared with and what was aimed at."""

    task: str
    value: float
    beside: str
    target: str = ""


def _timed(task: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = task()
    return time.process_time() - start, result


def _mixture(n: int, d: int, k: int, apart: float, seed: int) -> Any:
    """Gaussians of uneven masses around centres whose coordinates have the standard deviation ``apart``."""
    rng = np.random.default_rng(seed)
    centres = apart * rng.standard_normal((k, d))
    labels = rng.choice(k, n, p=np.arange(1, k + 1) / (0.5 * k * (k + 1)))
    return (centres[labels] + rng.standard_normal((n, d))).astype(np.float32)


def _with_far(points: Any, few: int, distance: float) -> Any:
    """The same with a tiny cluster far away."""
    moved = points.copy()
    moved[:few] = moved[:few] * np.float32(0.1) + np.float32(distance)
    return moved


def _uniform(data: WeightedSet, size: int, rng: np.random.Generator) -> WeightedSet:
    rows = rng.choice(data.n, size, replace=False)
    return WeightedSet(data.points[rows], np.full(size, data.n / size))


def _trained(kept: WeightedSet, k: int, seed: int) -> Any:
    """k-means of scikit-learn on a weighted set."""
    found = KMeans(k, n_init=_TRAINED, random_state=seed)
    return found.fit(kept.points, sample_weight=np.asarray(kept.weights)).cluster_centers_


def _cost(loss: ClusteringLoss, data: WeightedSet, centres: Any) -> float:
    return float(np.sum(loss.costs(data, centres), dtype=float))


def _ways(data: WeightedSet, k: int) -> tuple[dict[str, float], dict[str, Callable[[int, int], WeightedSet]]]:
    """Seconds of scoring, which is done once, and draws by size and seed."""

    def drawn(bounds: Any) -> Callable[[int, int], WeightedSet]:
        def draw(size: int, seed: int) -> WeightedSet:
            found = IID().draw(bounds.values, size, seed)
            return WeightedSet(data.points[found.indices], found.kept_weights)

        return draw

    ours, scored = _timed(lambda: SensitivityReducer(ClusteringLoss(k), IID()).sensitivities(data))
    light, masses = _timed(lambda: SensitivityReducer(LightweightLoss(k), IID()).sensitivities(data))
    scoring = {"sensitivities": ours, "lightweight": light, "uniform": 0.0}
    return scoring, {
        "sensitivities": drawn(scored),
        "lightweight": drawn(masses),
        "uniform": lambda size, seed: _uniform(data, size, np.random.default_rng(seed)),
    }


def _excess(name: str, points: Any, k: int, sizes: Sequence[int], repeats: int) -> list[Row]:
    """Cost of trained centres against size, and times."""
    data, loss = WeightedSet(points), ClusteringLoss(k)
    full, model = _timed(lambda: KMeans(k, n_init=3, random_state=0).fit(points))
    costs: dict[tuple[str, int], list[float]] = {}
    times: dict[tuple[str, int], list[float]] = {}
    scoring, ways = _ways(data, k)
    for way, draw in ways.items():
        for size in sizes:
            for seed in range(repeats):
                spent, centres = _timed(lambda d=draw, s=seed, m=size: _trained(d(m, s), k, s))  # type: ignore[misc]
                times.setdefault((way, size), []).append(scoring[way] + spent)
                costs.setdefault((way, size), []).append(_cost(loss, data, centres))
    one_pass = _cost(loss, data, model.cluster_centers_)
    best = min(one_pass, *(cost for each in costs.values() for cost in each))
    rows = [
        Row(f"{name}: full KMeans, excess", one_pass / best - 1.0, f"{full / 3.0:.2f} s an initialisation")
    ]
    for size in sizes:
        mean = {way: float(np.mean(costs[way, size])) / best - 1.0 for way in ways}
        worst = {way: float(np.max(costs[way, size])) / best - 1.0 for way in ways}
        beside = "; ".join(f"{way} {mean[way]:.4f}, worst {worst[way]:.4f}" for way in ways)
        target = "<= 0.01" if size == sizes[-1] else ""
        rows.append(Row(f"{name}, {size} points: mean excess", mean["sensitivities"], beside, target))
    largest = sizes[-1]
    spent = float(np.median(times["sensitivities", largest]))
    beside = "; ".join(f"{way} {np.median(times[way, largest]):.2f} s" for way in ways)
    rows.append(Row(f"{name}: full KMeans, 3 starts, over coreset + training", full / spent, beside, ">= 3"))
    return rows


def _bounds(n: int) -> list[Row]:
    """Certified ratios, their parts and their times, over dimensions and numbers of centres."""
    rows = []
    for d, k in ((2, 5), (2, 20), (20, 5), (20, 20), (20, 100)):
        for name, apart in (("one cloud", 0.0), ("clusters", 4.0)):
            data = WeightedSet(_mixture(n, d, k, apart, 3))
            best = find_centres(
                data.points, data.weights, k, ClusteringLoss(k).power, low=0.0, seeding=Seeding(20_000), rng=0
            ).cost
            spent, low = _timed(lambda s=data, c=k: forest_lower_bound(s, c, rng=0))  # type: ignore[misc]
            second, tail = _timed(lambda s=data, c=k: spectral_lower_bound(s, c))  # type: ignore[misc]
            beside = f"forests {best / low:.2f} in {spent:.2f} s; "
            beside += f"singular values {best / tail:.2f} in {second:.2f} s" if tail > 0.0 else "no other"
            rows.append(Row(f"{name}, d = {d}, k = {k}: certified ratio", best / max(low, tail), beside))
            total = ClusteringLoss(k).sensitivities(data).total
            other = ClusteringLoss(k, Distance()).sensitivities(data)
            ratio = other.certificates[0].details["ratio"]
            beside = f"k-median {other.total:.1f}, its certified ratio {ratio:.2f}"
            rows.append(Row(f"{name}, d = {d}, k = {k}: total sensitivity", total, beside))
    return rows


def _certificate(n: int) -> list[Row]:
    points = _mixture(n, 20, 10, 2.0, 0)
    data = WeightedSet(points)
    coreset = SensitivityReducer(ClusteringLoss(10), IID()).reduce(data, size=2000, rng=0)
    centres = _trained(coreset.of(data), 10, 0)
    spent, found = _timed(lambda: clustering_certificate(data, centres, rng=0, coreset=coreset))
    return [
        Row("certificate of trained centres: ratio", found.ratio, f"{spent:.2f} s"),
        Row(
            "certificate of trained centres: error of the coreset",
            float(found.coreset_error or 0.0),
            f"promised {coreset.accuracy.epsilon:.1f} for all centres",
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--repeats", type=int, default=10, help="draws per figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    options = parser.parse_args(argv)
    n = 10**5 if options.quick else 10**6
    sizes = (500, 2000, 8000)
    rows: list[Row] = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        small = WeightedSet(_mixture(3000, 20, 3, 2.0, 9))
        for loss in (ClusteringLoss(3), ClusteringLoss(3, Distance())):
            SensitivityReducer(loss, IID()).reduce(small, size=100, rng=0)  # compile
        even = _mixture(n, 20, 10, 2.0, 0)
        rows += _excess("mixture", even, 10, sizes, options.repeats)
        rows += _excess("tiny far cluster", _with_far(even, n // 10_000, 100.0), 11, sizes, options.repeats)
        rows += _excess("overlapping", _mixture(n, 20, 10, 0.4, 1), 10, sizes, options.repeats)
        rows += _certificate(n)
        rows += _bounds(n // 10)
    for row in rows:
        print(f"{row.task:62} {row.value:10.4g}  {row.beside:90} {row.target}")
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
