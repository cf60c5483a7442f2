"""Minimum-volume ellipsoids against a NumPy Wolfe-Atwood, Clarabel and the floor, measured in one run.

    python benchmarks/bench_ellipsoid.py --out ellipsoid.json --plot ellipsoid.png

Times are medians of CPU seconds on one thread, of the whole public call with validation and
certificate, to a gap of 1e-6 that is certified in float64. The baseline is Wolfe and Atwood's method
with the elimination of Harman and Pronzato, in NumPy, as good as it gets without compiled code. The floor
is one product X^T X. Quick runs: ``--sizes 1000,5 --conic-sizes 300,4 --curve-points 1000``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from coresets.ellipsoid import loewner_ellipsoid

GAP = 1e-6
SIZES = ((100_000, 20), (1_000_000, 10), (100_000, 100))
CONIC_SIZES = ((1_000, 10), (10_000, 20))
BALL_SIZES = ((100_000, 20), (1_000_000, 10))
CURVE_DIMENSION = 10
CURVE_DIMENSIONS = (5, 10, 20, 40, 80, 120)


def gaussian(n: int, d: int) -> np.ndarray:
    """Standard normal rows."""
    return np.random.default_rng(0).standard_normal((n, d))


def ball(n: int, d: int) -> np.ndarray:
    """Rows uniform in the unit ball: very many are nearly active."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((n, d))
    return points * (rng.random(n) ** (1.0 / d) / np.linalg.norm(points, axis=1))[:, None]


def _extreme_rows(points: np.ndarray) -> list[int]:
    """Indices of d rows, each extreme in a direction orthogonal to those before it (Kumar and Yildirim)."""
    d = points.shape[1]
    basis, chosen = np.zeros((0, d)), []
    for _ in range(d):
        direction = np.zeros(d)
        direction[np.argmin((basis**2).sum(axis=0))] = 1.0
        for _ in range(2):
            direction -= basis.T @ (basis @ direction)
        chosen.append(int(np.argmax(np.abs(points @ direction))))
        row = points[chosen[-1]].copy()
        for _ in range(2):
            row -= basis.T @ (basis @ row)
        basis = np.vstack([basis, row / np.linalg.norm(row)])
    return chosen


class WolfeAtwood:
    """The baseline: greedy steps towards and away, rank-one updates, and rows deleted for good.

    Refreshed every 50 steps against drift. Rows that cannot be in the optimal support are looked for
    every 10 steps, and the arrays are compacted when that removes three rows in ten.
    """

    refresh_every, eliminate_every, worthwhile = 50, 10, 0.7

    def __init__(self, points: np.ndarray) -> None:
        self.points = self.rows = points
        self.index = np.arange(len(points))
        self.weights = np.zeros(len(points))
        self.weights[_extreme_rows(points)] = 1.0 / points.shape[1]
        self.steps = 0
        self.refresh()

    def refresh(self) -> None:
        """Recompute the inverse and all forms."""
        support = np.flatnonzero(self.weights)
        root = self.rows[support] * np.sqrt(self.weights[support])[:, None]
        inverse = np.linalg.inv(root.T @ root)
        self.inverse = (inverse + inverse.T) / 2.0
        self.forms = np.einsum("ij,ij->i", self.rows @ self.inverse, self.rows)

    def step(self, top: int) -> None:
        """Move weight to the largest form, or away from the smallest one on the support."""
        d = self.rows.shape[1]
        support = np.flatnonzero(self.weights)
        low = int(support[np.argmin(self.forms[support])])
        if 1.0 - self.forms[low] / d > self.forms[top] / d - 1.0:
            i, omega = low, float(self.forms[low])
            bound = -self.weights[i] / (1.0 - self.weights[i])
            beta = bound if omega <= 1.0 else max((omega - d) / (d * (omega - 1.0)), bound)
            drop = beta == bound
        else:
            i, omega, drop = top, float(self.forms[top]), False
            beta = (omega - d) / (d * (omega - 1.0))
        image = self.inverse @ self.rows[i]
        ratio = beta / (1.0 - beta + beta * omega)
        change = self.rows @ image
        change *= change
        change *= ratio
        self.forms -= change
        self.forms /= 1.0 - beta
        self.inverse = (self.inverse - ratio * np.outer(image, image)) / (1.0 - beta)
        self.weights *= 1.0 - beta
        self.weights[i] = 0.0 if drop else self.weights[i] + beta
        self.steps += 1

    def eliminate(self) -> None:
        """Delete the rows that are not in the optimal support (Harman and Pronzato 2007)."""
        d = self.rows.shape[1]
        e = max(float(self.forms.max()) / d - 1.0, 0.0)
        level = d * (1.0 + e / 2.0 - math.sqrt(e * (4.0 + e - 4.0 / d)) / 2.0)
        keep = (self.forms >= level * (1.0 - 1e-12)) | (self.weights > 0.0)
        if np.count_nonzero(keep) < self.worthwhile * len(keep):
            self.rows = np.ascontiguousarray(self.rows[keep])
            self.forms, self.weights = self.forms[keep], self.weights[keep]
            self.index = self.index[keep]

    def solve(self, gap: float) -> tuple[np.ndarray, float]:
        """Weights on all rows, and their gap measured on all rows."""
        n, d = self.points.shape
        while True:
            top = int(np.argmax(self.forms))
            if self.forms[top] <= (1.0 + gap) * d:
                self.refresh()
                if self.forms.max() <= (1.0 + gap) * d:
                    break
                continue
            self.step(top)
            if self.steps % self.refresh_every == 0:
                self.weights /= self.weights.sum()
                self.refresh()
            if self.steps % self.eliminate_every == 0:
                self.eliminate()
        weights = np.zeros(n)
        weights[self.index] = self.weights / self.weights.sum()
        return weights, gap_of(self.points, weights)


def gap_of(points: np.ndarray, weights: np.ndarray) -> float:
    """The gap max omega / d - 1 of a symmetric design."""
    moment = (points * weights[:, None]).T @ points
    forms = np.einsum("ij,ij->i", points @ np.linalg.inv(moment), points)
    return float(forms.max()) / points.shape[1] - 1.0


def by_clarabel(points: np.ndarray) -> np.ndarray:
    """Weights from the constraint duals of: maximise ln det H subject to x_i^T H x_i <= 1."""
    import cvxpy as cp  # noqa: PLC0415 - slow to import

    d = points.shape[1]
    # The longest point has length 1: with entries of H far below 1 Clarabel gives up at (1e4, 20).
    scaled = points / np.linalg.norm(points, axis=1).max()
    pairs = [(i, j) for i in range(d) for j in range(i, d)]
    products = np.column_stack([scaled[:, i] * scaled[:, j] * (1.0 if i == j else 2.0) for i, j in pairs])
    matrix = cp.Variable((d, d), PSD=True)
    inside = products @ cp.hstack([matrix[i, j] for i, j in pairs]) <= 1.0
    cp.Problem(cp.Maximize(cp.log_det(matrix)), [inside]).solve(solver=cp.CLARABEL)
    weights = np.maximum(np.asarray(inside.dual_value), 0.0)
    return weights / weights.sum()


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


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median CPU time, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return median(times), result


def measure_sizes(sizes: Sequence[tuple[int, int]], repeats: int) -> list[dict[str, Any]]:
    """Gaussian points: baseline, symmetric and uncentred call, and one product X^T X."""
    records = []
    for n, d in sizes:
        points = gaussian(n, d)
        baseline, (_, baseline_gap) = timed(
            lambda points=points: WolfeAtwood(points).solve(GAP), 1 if d >= 50 else min(3, repeats)
        )
        floor, _ = timed(lambda points=points: points.T @ points, repeats)
        ours, found = timed(lambda points=points: loewner_ellipsoid(points, symmetric=True, gap=GAP), repeats)
        lifted, other = timed(lambda points=points: loewner_ellipsoid(points, gap=GAP), repeats)
        records.append(
            {
                "n": n,
                "d": d,
                "wolfe_atwood": baseline,
                "baseline_gap": baseline_gap,
                "symmetric": ours,
                "gap": found.gap,
                "steps": found.iterations,
                "support": len(found.support),
                "ratio": baseline / ours,
                "product": floor,
                "over_product": ours / floor,
                "lifted": lifted,
                "lifted_gap": other.gap,
                "lifted_over_product": lifted / floor,
            }
        )
    return records


def measure_ball(sizes: Sequence[tuple[int, int]], repeats: int) -> list[dict[str, Any]]:
    """Points uniform in a ball against Gaussian points of the same size."""
    records = []
    for n, d in sizes:
        easy, hard = gaussian(n, d), ball(n, d)
        easy_seconds, _ = timed(lambda easy=easy: loewner_ellipsoid(easy, symmetric=True, gap=GAP), repeats)
        seconds, found = timed(lambda hard=hard: loewner_ellipsoid(hard, symmetric=True, gap=GAP), repeats)
        records.append(
            {
                "n": n,
                "d": d,
                "gaussian": easy_seconds,
                "ball": seconds,
                "gap": found.gap,
                "support": len(found.support),
                "ratio": seconds / easy_seconds,
            }
        )
    return records


def measure_conic(sizes: Sequence[tuple[int, int]], repeats: int) -> list[dict[str, Any]]:
    """Clarabel once, and our time to the gap that its weights certify."""
    records = []
    for n, d in sizes:
        points = gaussian(n, d)
        seconds, weights = timed(lambda points=points: by_clarabel(points), 1)
        reached = gap_of(points, weights)
        ours, found = timed(
            lambda points=points, reached=reached: loewner_ellipsoid(points, symmetric=True, gap=reached),
            repeats,
        )
        records.append(
            {
                "n": n,
                "d": d,
                "clarabel": seconds,
                "certified_gap": reached,
                "seconds": ours,
                "gap": found.gap,
                "ratio": seconds / ours,
            }
        )
    return records


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if len(sizes) > 1 else math.nan


def measure_curves(largest: int, dimensions: Sequence[int], repeats: int) -> dict[str, Any]:
    """Time over n at fixed d, and over d at fixed n, with fitted exponents."""
    counts = [n for n in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000) if n <= largest]
    middle = min(largest, 100_000)
    over_n = [(n, CURVE_DIMENSION) for n in counts]
    over_d = [(middle, d) for d in dimensions]
    curves: dict[str, Any] = {}
    for name, cells, axis in (("over_n", over_n, 0), ("over_d", over_d, 1)):
        records = []
        for n, d in cells:
            points = gaussian(n, d)
            seconds, found = timed(lambda points=points: loewner_ellipsoid(points, symmetric=True), repeats)
            product, _ = timed(lambda points=points: points.T @ points, repeats)
            records.append(
                {
                    "n": n,
                    "d": d,
                    "seconds": seconds,
                    "product": product,
                    "steps": found.iterations,
                    "support": len(found.support),
                }
            )
        sizes = [cell[axis] for cell in cells]
        upper = len(sizes) // 2  # constants rule the small sizes
        times = [record["seconds"] for record in records]
        curves[name] = {
            "records": records,
            "exponent": _exponent(sizes, times),
            "exponent_of_upper_half": _exponent(sizes[upper:], times[upper:]),
            "exponent_of_support": _exponent(sizes, [record["support"] for record in records]),
        }
    return curves


def plot(curves: dict[str, Any], path: Path) -> None:
    """Both curves with their exponents."""
    import matplotlib as mpl  # noqa: PLC0415 - optional

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, (name, size, fixed) in zip(axes, (("over_n", "n", "d"), ("over_d", "d", "n")), strict=True):
        records = curves[name]["records"]
        sizes = [record[size] for record in records]
        axis.loglog(sizes, [record["seconds"] for record in records], "o-", label="loewner_ellipsoid")
        axis.loglog(sizes, [record["product"] for record in records], "s--", label="one product X^T X")
        if size == "d":  # less than two decades, where the default labels run into each other
            axis.set_xticks(sizes, [str(value) for value in sizes])
            axis.minorticks_off()
        axis.set_xlabel(size)
        axis.set_ylabel("CPU seconds")
        exponent = curves[name]["exponent_of_upper_half"]
        axis.set_title(f"{fixed} = {records[0][fixed]:,}; upper half grows like {size}^{exponent:.2f}")
        axis.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _table(title: str, records: Sequence[dict[str, Any]]) -> str:
    if not records:
        return f"{title}: none"
    cells = [list(records[0])] + [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in record.values()]
        for record in records
    ]
    widths = [max(len(row[j]) for row in cells) for j in range(len(cells[0]))]
    return "\n".join(
        [title] + ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    )


def _size(text: str) -> tuple[int, int]:
    n, d = text.split(",")
    return int(n), int(d)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON and a plot if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--sizes", SIZES), ("--ball-sizes", BALL_SIZES), ("--conic-sizes", CONIC_SIZES)):
        parser.add_argument(name, type=_size, nargs="*", default=default, metavar="N,D")
    parser.add_argument("--curve-points", type=int, default=1_000_000, help="largest n of the cost curves")
    parser.add_argument("--curve-dimensions", type=int, nargs="+", default=CURVE_DIMENSIONS)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls a cell; slow peers get fewer")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, help="write the cost curves as a picture")
    arguments = parser.parse_args(argv)
    for points in (gaussian(3000, 3), gaussian(3000, 40)):  # compile
        loewner_ellipsoid(points, symmetric=True)
        loewner_ellipsoid(points)
    with one_thread():
        figures = {
            "sizes": measure_sizes(arguments.sizes, arguments.repeats),
            "ball": measure_ball(arguments.ball_sizes, arguments.repeats),
            "conic": measure_conic(arguments.conic_sizes, arguments.repeats),
            "curves": measure_curves(arguments.curve_points, arguments.curve_dimensions, arguments.repeats),
        }
    print(_table("Gaussian points, seconds to a certified gap of 1e-6", figures["sizes"]))
    print(_table("\nUniform in a ball", figures["ball"]))
    print(_table("\nClarabel, at the gap that its weights certify", figures["conic"]))
    for name in ("over_n", "over_d"):
        curve = figures["curves"][name]
        print(_table(f"\nCost {name.replace('_', ' ')}", curve["records"]))
        print(f"exponent {curve['exponent']:.2f}, upper half {curve['exponent_of_upper_half']:.2f}")
    if arguments.plot is not None:
        plot(figures["curves"], arguments.plot)
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        arguments.out.write_text(json.dumps({"machine": machine, **figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
