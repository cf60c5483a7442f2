"""Caratheodory reduction against one read of the data and against the alternatives, in one run.

    python benchmarks/bench_caratheodory.py --out caratheodory.json --plot caratheodory.png

Times are medians of CPU seconds on one thread; ``X.sum()`` is the unit. "Reduction" is everything after
validation, with centring and the target of the certificate; "call" is the public function. Memory is the
peak of a fresh process above its peak after imports, the input included, divided by the size of the input.
Errors of the mean, in standard deviations, and of the mass are measured in extended precision. The
alternatives are the classical elimination of one point at a time (an SVD each), non-negative least
squares, and a vertex of the linear program by the dual simplex method.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import linprog, nnls

from coresets.recombination import CaratheodoryStream, Mean, SecondMoment, caratheodory
from coresets.recombination._reduction import reduce_rows

SHAPES = ((1_000_000, 10), (1_000_000, 50))
CURVE_N = (1000, 10_000, 100_000, 1_000_000)
CURVE_D = (5, 10, 20, 40, 80)

# Run in a fresh process. The generator fills the input in place, so the input itself sets no peak above
# its size. On Linux ru_maxrss is inherited from the parent, hence the high-water mark of /proc.
_MEMORY_PROBE = """
import pathlib, resource, sys
import numpy as np
from coresets.recombination import caratheodory
n, d = int(sys.argv[1]), int(sys.argv[2])
status = pathlib.Path("/proc/self/status")
def peak():
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
caratheodory(np.random.default_rng(1).standard_normal((20000, d)))
before = peak()
points = np.empty((n, d))
np.random.default_rng(0).standard_normal(out=points)
caratheodory(points)
print((peak() - before) / points.nbytes)
"""


def classical(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One point at a time: a null vector of d + 2 of the points by a fresh SVD, until d + 1 are left."""
    n, d = points.shape
    alive, mass = list(range(min(n, d + 1))), list(weights[: d + 1])
    for i in range(d + 1, n):
        alive.append(i)
        mass.append(weights[i])
        lifted = np.vstack([points[alive].T, np.ones(len(alive))])
        null = np.linalg.svd(lifted)[2][-1]
        w = np.array(mass)
        ratios = np.where(null > 0, w / np.where(null > 0, null, 1.0), np.inf)
        j = int(np.argmin(ratios))
        w = np.maximum(w - ratios[j] * null, 0.0)
        del alive[j]
        mass = list(np.delete(w, j))
    return np.array(alive), np.array(mass)


def by_nnls(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An active-set solution of the moment equations."""
    lifted = np.vstack([points.T, np.ones(len(points))])
    solution = nnls(lifted, lifted @ (weights / weights.sum()))[0] * weights.sum()
    kept = np.flatnonzero(solution)
    return kept, solution[kept]


def by_simplex(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A vertex of the polytope of all weights with these moments, for a random cost."""
    lifted = np.vstack([points.T, np.ones(len(points))])
    cost = np.random.default_rng(0).uniform(size=len(points))
    answer = linprog(cost, A_eq=lifted, b_eq=lifted @ (weights / weights.sum()), method="highs-ds")
    kept = np.flatnonzero(answer.x)
    return kept, answer.x[kept] * weights.sum()


def ours(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The public function."""
    coreset = caratheodory(points, weights)
    return coreset.indices, coreset.weights


def errors(
    points: np.ndarray, weights: np.ndarray, kept: np.ndarray, mass: np.ndarray
) -> tuple[float, float]:
    """Errors of the mean in standard deviations and of the mass, relative, in extended precision."""
    center = points[0].astype(np.longdouble)  # exact differences where digits could be lost
    total = weights.astype(np.longdouble).sum()
    mean, square = np.zeros_like(center), np.zeros_like(center)
    for start in range(0, len(points), 10_000):
        block = points[start : start + 10_000].astype(np.longdouble) - center
        w = weights[start : start + 10_000].astype(np.longdouble)[:, None]
        mean += (w * block).sum(axis=0)
        square += (w * block * block).sum(axis=0)
    mean /= total
    deviation = np.sqrt(square / total - mean * mean)
    w = mass.astype(np.longdouble)
    new = (w[:, None] * (points[kept].astype(np.longdouble) - center)).sum(axis=0) / w.sum()
    return float(np.max(np.abs(new - mean) / deviation)), float(abs(w.sum() / total - 1))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS to one thread where threadpoolctl is installed (it comes with scikit-learn)."""
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1):
        yield


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Median CPU time after one call for the compiler."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return median(times)


def peak_over_input(n: int, d: int) -> float:
    """Peak memory above the loaded imports, in units of the input."""
    command = [sys.executable, "-c", _MEMORY_PROBE, str(n), str(d)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def data(n: int, d: int, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian points and random weights."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)) + offset, rng.uniform(0.5, 1.5, n)


def measure_floor(repeats: int) -> list[dict[str, Any]]:
    """Time, memory and error at the two large shapes, in units of one read."""
    records = []
    for n, d in SHAPES:
        points, weights = data(n, d)
        read = seconds(points.sum, repeats)
        reduction = seconds(lambda p=points, w=weights: reduce_rows(p, w, Mean().lift), repeats)
        call = seconds(lambda p=points, w=weights: caratheodory(p, w), repeats)
        kept, mass = ours(points, weights)
        mean_error, mass_error = errors(points, weights, kept, mass)
        far = points + 1e6
        far_error, far_mass_error = errors(far, weights, *ours(far, weights))
        del far
        records.append(
            {
                "n": n,
                "d": d,
                "read_seconds": read,
                "reduction_over_read": reduction / read,
                "call_over_read": call / read,
                "peak_over_input": peak_over_input(n, d),
                "support": kept.size,
                "mean_error": mean_error,
                "mass_error": mass_error,
                "mean_error_offset_1e6": far_error,
                "mass_error_offset_1e6": far_mass_error,
            }
        )
    return records


def measure_alternatives() -> list[dict[str, Any]]:
    """Time, support and error of every method where it ends in seconds."""
    records = []
    methods = {"ours": ours, "classical": classical, "nnls": by_nnls, "simplex": by_simplex}
    limits = {"ours": 10**7, "classical": 10_000, "nnls": 100_000, "simplex": 10_000}
    for n, d in ((1000, 10), (10_000, 10), (100_000, 10), (1000, 50), (10_000, 50)):
        points, weights = data(n, d, offset=1.0)
        for name, method in methods.items():
            if n > limits[name]:
                continue
            start = time.process_time()
            kept, mass = method(points, weights)
            spent = time.process_time() - start
            if spent < 0.5:
                spent = seconds(lambda m=method, p=points, w=weights: m(p, w), 5)
            mean_error, mass_error = errors(points, weights, kept, mass)
            records.append(
                {
                    "n": n,
                    "d": d,
                    "method": name,
                    "seconds": spent,
                    "support": kept.size,
                    "mean_error": mean_error,
                    "mass_error": mass_error,
                }
            )
    return records


def measure_curves(repeats: int) -> list[dict[str, Any]]:
    """Time against n (d = 10) and against d (n = 1e5), for the mean, second moments and the stream."""

    def stream(points: np.ndarray) -> None:
        pipe = CaratheodoryStream()
        for block in np.array_split(points, max(1, len(points) // 10_000)):
            pipe.push(block)
        pipe.result()

    calls: dict[str, Callable[[np.ndarray], Any]] = {
        "mean": caratheodory,
        "stream": stream,
        "second moment": lambda points: caratheodory(points, preserve=SecondMoment()),
    }
    records = []
    for name, call in calls.items():
        for n, d in [(n, 10) for n in CURVE_N] + [(100_000, d) for d in CURVE_D]:
            if name == "second moment" and d > 20:
                continue
            points, _ = data(n, d)
            record = {
                "what": name,
                "n": n,
                "d": d,
                "seconds": seconds(lambda c=call, p=points: c(p), repeats),
            }
            records.append(record)
    return records


def exponents(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slopes of log time against log n (from 1e5 on) and log d (from 10 on)."""
    found = []
    for name in dict.fromkeys(record["what"] for record in curves):
        mine = [record for record in curves if record["what"] == name]
        by_n = [(r["n"], r["seconds"]) for r in mine if r["d"] == 10 and r["n"] >= 100_000]
        by_d = [(r["d"], r["seconds"]) for r in mine if r["n"] == 100_000 and r["d"] >= 10]
        slopes = [float(np.polyfit(*np.log(np.array(points).T), 1)[0]) for points in (by_n, by_d)]
        found.append({"what": name, "exponent_n": slopes[0], "exponent_d": slopes[1]})
    return found


def plot(path: Path, curves: Sequence[dict[str, Any]]) -> None:
    """Draw both cost curves."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - optional

    figure, axes = plt.subplots(1, 2, figsize=(9, 4))
    for name in dict.fromkeys(record["what"] for record in curves):
        mine = [record for record in curves if record["what"] == name]
        for axis, key, fixed, value in ((axes[0], "n", "d", 10), (axes[1], "d", "n", 100_000)):
            line = sorted({r[key]: r["seconds"] for r in mine if r[fixed] == value}.items())
            axis.loglog(*zip(*line, strict=True), "o-", label=name)
            axis.set_xlabel(f"{key} ({fixed} = {value})")
    # Less than two decades, where the default labels run into each other.
    dimensions = sorted({record["d"] for record in curves})
    axes[1].set_xticks(dimensions, [str(value) for value in dimensions])
    axes[1].minorticks_off()
    axes[0].set_ylabel("CPU seconds, one thread")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def _table(title: str, records: Sequence[dict[str, Any]]) -> str:
    cells = [list(records[0])] + [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in record.values()]
        for record in records
    ]
    widths = [max(len(row[j]) for row in cells) for j in range(len(cells[0]))]
    return "\n".join(
        [title] + ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON and a figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="timed calls a cell")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw the cost curves")
    arguments = parser.parse_args(argv)
    with one_thread():
        floor = measure_floor(arguments.repeats)
        alternatives = measure_alternatives()
        curves = measure_curves(min(3, arguments.repeats))
    fitted = exponents(curves)
    print(_table("In units of one read of the data, one thread", floor))
    print(_table("\nAlternatives", alternatives))
    print(_table("\nCost curves", curves))
    print(_table("\nExponents", fitted))
    if arguments.plot is not None:
        plot(arguments.plot, curves)
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        record = {
            "machine": machine,
            "floor": floor,
            "alternatives": alternatives,
            "curves": curves,
            "exponents": fitted,
        }
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
