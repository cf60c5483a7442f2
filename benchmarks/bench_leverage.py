"""Leverage scores against Householder QR: time, memory and error, measured in one run.

    python benchmarks/bench_leverage.py --out leverage.json

Times are medians of CPU seconds on one thread, so that other jobs on the machine hardly count; the peer
is ``numpy.linalg.qr`` with an explicit Q and the squared norms of its rows. Memory is the peak of a fresh
process above its peak after imports, the input included, divided by the size of the input. Errors are the
largest relative error of a score against Gram-Schmidt in extended precision.
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

from coresets.sensitivity import leverage_scores

DIMENSION = 50
CONDITIONS = (1.0, 1e2, 1e4, 1e6, 1e7)

# Run in a fresh process. The generator fills the input in place, so the input itself sets no peak above
# its size. On Linux ru_maxrss is inherited from the parent, hence the high-water mark of /proc.
_MEMORY_PROBE = """
import pathlib, resource, sys
import numpy as np
from coresets.sensitivity import leverage_scores
n, d, dtype = int(sys.argv[1]), int(sys.argv[2]), np.dtype(sys.argv[3])
status = pathlib.Path("/proc/self/status")
def peak():
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
leverage_scores(np.eye(3, dtype=dtype))
before = peak()
points = np.empty((n, d), dtype)
np.random.default_rng(0).standard_normal(dtype=dtype, out=points)
leverage_scores(points)
print((peak() - before) / points.nbytes)
"""


def by_qr(points: np.ndarray) -> np.ndarray:
    """Leverage scores from an explicit orthonormal basis, the textbook way."""
    factor = np.linalg.qr(points)[0]
    return np.einsum("ij,ij->i", factor, factor)


def reference(points: np.ndarray) -> np.ndarray:
    """Leverage scores by Gram-Schmidt in extended precision, each column three times."""
    columns = points.astype(np.longdouble)
    basis = np.zeros_like(columns)
    for j in range(columns.shape[1]):
        column = columns[:, j].copy()
        for _ in range(3):
            column -= basis[:, :j] @ (basis[:, :j].T @ column)
        basis[:, j] = column / np.sqrt(column @ column)
    return np.sum(basis * basis, axis=1)


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


def seconds(function: Callable[[np.ndarray], Any], points: np.ndarray, repeats: int) -> float:
    """Median CPU time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function(points)
        times.append(time.process_time() - start)
    return median(times)


def peak_over_input(n: int, d: int, dtype: str) -> float:
    """Peak memory above the loaded imports, in units of the input."""
    command = [sys.executable, "-c", _MEMORY_PROBE, str(n), str(d), dtype]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_speed(sizes: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Time and memory for growing n in both precisions; columns of scales 1 to 1e-2."""
    records = []
    for n in sizes:
        rng = np.random.default_rng(0)
        points = rng.standard_normal((n, DIMENSION)) * np.logspace(0, -2, DIMENSION)
        for dtype in ("float64", "float32"):
            data = points.astype(dtype, copy=False)
            leverage_scores(data[:1000])  # first call
            # One long run of the slow peer is as good as a median of short ones.
            qr = seconds(by_qr, data, 1 if n > 300_000 else repeats)
            ours = seconds(leverage_scores, data, repeats)
            records.append(
                {
                    "n": n,
                    "d": DIMENSION,
                    "dtype": dtype,
                    "qr_seconds": qr,
                    "seconds": ours,
                    "ratio": qr / ours,
                    "peak_over_input": peak_over_input(n, DIMENSION, dtype),
                }
            )
    return records


def measure_error(n: int, d: int, seeds: int) -> list[dict[str, Any]]:
    """Errors of both methods at each condition number, medians over matrices."""
    records = []
    for condition in CONDITIONS:
        errors = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            left = np.linalg.qr(rng.standard_normal((n, d)))[0]
            right = np.linalg.qr(rng.standard_normal((d, d)))[0]
            points = (left * np.logspace(0.0, -np.log10(condition), d)) @ right
            exact = reference(points)
            errors.append(
                [float(np.max(np.abs(f(points) - exact) / exact)) for f in (by_qr, leverage_scores)]
            )
        qr, ours = (median(column) for column in zip(*errors, strict=True))
        worst = max(error[1] / error[0] for error in errors)
        records.append(
            {"condition": condition, "n": n, "d": d, "qr_error": qr, "error": ours, "worst_ratio": worst}
        )
    return records


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
    """Measure, print two tables, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed calls a cell; QR gets one when it is long"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    with one_thread():
        speed = measure_speed(arguments.sizes, arguments.repeats)
        error = measure_error(2000, 20, seeds=5)
    print(_table("Time and memory, one thread", speed))
    print(_table("\nLargest relative error of a score", error))
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        arguments.out.write_text(
            json.dumps({"machine": machine, "speed": speed, "error": error}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
