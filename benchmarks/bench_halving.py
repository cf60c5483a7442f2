"""Halving against independent draws: errors over Gaussian queries, cost in time, and the price of a stream.

    python -m benchmarks.bench_halving --out halving.json

Sums of |p.x| with Lewis weights; errors are relative to the sum, over 400 Gaussian queries (root mean square)
and at the worst query that ascent finds from 8 starts, as means over repetitions. "Poisson" keeps the drawn
weights. Seconds are CPU seconds of a reduction to 1,000 points, Lewis weights and features included; the
column after leaves out the Lewis weights, which all methods need.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coresets import AbsoluteSum, Coreset, SensitivityReducer, WeightedSet
from coresets.halving import (
    AbsoluteFeatures,
    Aggressive,
    BoundedSum,
    HalvedSums,
    HalvingReducer,
    MappedFeatures,
    Provable,
)
from coresets.streams import MergeReduce

N = 4000
QUERIES, STARTS, STEPS = 400, 8, 60


def gauss(d: int, rng: np.random.Generator) -> np.ndarray:
    """Isotropic points."""
    return rng.standard_normal((N, d))


def heavy(d: int, rng: np.random.Generator) -> np.ndarray:
    """Heavy radii, six clusters, columns of unequal spread."""
    radii = np.abs(rng.standard_t(3, (N, 1)))
    centres = 2.0 * rng.standard_normal((6, d))
    return (radii * rng.standard_normal((N, d)) + centres[rng.integers(0, 6, N)]) * np.geomspace(1.0, 0.1, d)


METHODS: dict[str, Any] = {
    "Poisson": SensitivityReducer(AbsoluteSum(), calibration=None),
    "provable": HalvingReducer(AbsoluteSum(), AbsoluteFeatures(), queries=QUERIES),
    "aggressive": HalvingReducer(AbsoluteSum(), AbsoluteFeatures(), Aggressive()),
}


def _relative(points: np.ndarray, change: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Signed relative errors, one a query (a column)."""
    images = np.abs(points @ queries)
    found: np.ndarray = change @ images / images.sum(axis=0)
    return found


def worst(points: np.ndarray, change: np.ndarray, rng: np.random.Generator) -> float:
    """Largest relative error that ascent finds, in coordinates in which the points are isotropic."""
    white = points @ np.linalg.inv(np.linalg.cholesky(points.T @ points)).T
    queries = rng.standard_normal((points.shape[1], STARTS))
    best, step = 0.0, np.full(STARTS, 0.3)
    value = np.abs(_relative(white, change, queries))
    for _ in range(STEPS):
        images = white @ queries
        signs, total = np.sign(images), np.abs(images).sum(axis=0)
        error = change @ np.abs(images) / total
        gradient = np.sign(error) * ((white * change[:, None]).T @ signs - error * (white.T @ signs)) / total
        gradient /= np.maximum(np.linalg.norm(gradient, axis=0), 1e-300)
        trial = queries + step * np.linalg.norm(queries, axis=0) * gradient
        after = np.abs(_relative(white, change, trial))
        better = after > value
        queries, value = np.where(better, trial, queries), np.where(better, after, value)
        step = np.where(better, step * 1.2, step * 0.5)
        best = max(best, float(value.max()))
    return best


def _change(coreset: Coreset) -> np.ndarray:
    change = np.full(N, -1.0)
    change[coreset.indices] += coreset.weights
    return change


def errors(repetitions: int) -> list[dict[str, Any]]:
    """One record for each set, dimension, size and method."""
    records: list[dict[str, Any]] = []
    makers: tuple[Callable[[int, np.random.Generator], np.ndarray], ...] = (gauss, heavy)
    for make in makers:
        for d in (8, 16, 64):
            points = make(d, np.random.default_rng(d))
            data = WeightedSet(points)
            queries = np.random.default_rng(1).standard_normal((d, QUERIES))
            for size in (250, 1000):
                for name, reducer in METHODS.items():
                    rms, largest, kept, clips = [], [], [], 0.0
                    for seed in range(repetitions):
                        coreset = reducer.reduce(data, size=size, rng=seed)
                        change = _change(coreset)
                        rms.append(float(np.sqrt(np.mean(_relative(points, change, queries) ** 2))))
                        largest.append(worst(points, change, np.random.default_rng(seed)))
                        kept.append(coreset.support_size)
                        clips += sum(c.value for c in coreset.certificates if c.name == "halving")
                    records.append(
                        {
                            "data": make.__name__,
                            "d": d,
                            "size": size,
                            "method": name,
                            "rms": float(np.mean(rms)),
                            "worst": float(np.mean(largest)),
                            "kept": float(np.mean(kept)),
                            "clips": clips / repetitions,
                        }
                    )
    return records


def seconds() -> list[dict[str, Any]]:
    """Median CPU seconds of five reductions to 1,000 points, and of all but the Lewis weights."""
    records = []
    for d in (8, 16, 64):
        data = WeightedSet(gauss(d, np.random.default_rng(d)))
        lewis = _median(partial(AbsoluteSum().sensitivities, data))
        for name, reducer in METHODS.items():
            whole = _median(partial(reducer.reduce, data, size=1000, rng=0))
            records.append(
                {
                    "d": d,
                    "method": name,
                    "seconds": whole,
                    "microseconds a point without Lewis weights": max(0.0, whole - lewis) / N * 1e6,
                }
            )
    return records


def _median(call: Callable[[], object]) -> float:
    call()
    found = []
    for _ in range(5):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return float(np.median(found))


def stream(repetitions: int) -> dict[str, float]:
    """Root mean square error of a stream of blocks of two nodes, over that of one halving of all rows."""
    rows, size, d = 2**14, 128, 4
    points = np.random.default_rng(0).standard_normal((rows, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True) * (1.0 + 1e-12)
    data, full = WeightedSet(points), points.sum(axis=0)
    features = MappedFeatures(lambda data: np.asarray(data.points))
    reducer = HalvingReducer(BoundedSum(), features, Provable(0.025, steps=rows))
    offline, streamed = [], []
    for seed in range(repetitions):
        coreset = reducer.reduce(data, size=size, rng=seed)
        offline.append(coreset.weights @ points[coreset.indices] - full)
        tree = MergeReduce(reducer, HalvedSums(size, rows=rows), block=2 * size, rng=seed)
        tree.push(data)
        found = tree.result().data
        streamed.append(found.weights @ found.points - full)
    once, tree_error = np.mean(np.square(offline)) ** 0.5, np.mean(np.square(streamed)) ** 0.5
    return {
        "levels": float(np.log2(rows / size)),
        "offline": float(once) / rows,
        "stream": float(tree_error) / rows,
        "factor": float(tree_error / once),
        "predicted": 1.5**0.5,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, metavar="R")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    tables = {"errors": errors(arguments.repetitions), "seconds": seconds()}
    for name, records in tables.items():
        print(f"{name}, {N} points")
        columns = list(records[0])
        print("  ".join(column[:12].rjust(12) for column in columns))
        for record in records:
            cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in record.values()]
            print("  ".join(cell.rjust(12) for cell in cells))
    price = stream(40 * arguments.repetitions)
    print("a stream:", {name: round(value, 5) for name, value in price.items()})
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        content = json.dumps({"machine": machine, **tables, "stream": price}, indent=2)
        arguments.out.write_text(content + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
