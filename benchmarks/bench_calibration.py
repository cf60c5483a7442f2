"""Errors of coresets for sums of |p.x| by what becomes of their weights, at equal sizes.

    python -m benchmarks.bench_calibration --out calibration.json

Columns: the most sensitive points with one common factor ("top"), Poisson sampling, the same draws
calibrated to first and to second moments, and with the weights that are best on average over isotropic
queries. Every figure is 1000 times an error relative to the sum of w |p.x|: root mean square over 400
Gaussian queries, then the worst found by ascent from eight starts; means of several draws. A column is left
out where there are fewer than two points a moment. "k/m" is the number of first moments over the size.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from coresets import Accuracy, Coreset, SensitivityReducer, WeightedSet
from coresets.calibration import FewerMoments, RotationInvariant, average_case_weights, calibrate
from coresets.homogeneous import Absolute, AbsoluteSum

__all__ = ["Row", "main"]

Floats = npt.NDArray[np.float64]

_QUERIES = 400
_STARTS = 8
_STEPS = 60
_METHODS = ("top", "Poisson", "first moments", "second moments", "best on average")


@dataclass(frozen=True, slots=True)
class Row:
    """One data set and size: mean errors, 1000 times, and CPU seconds of every method."""

    data: str
    d: int
    size: int
    ratio: float
    rms: dict[str, float]
    worst: dict[str, float]
    seconds: dict[str, float]


def _points(kind: str, n: int, d: int) -> Floats:
    """Isotropic points, or heavy tails around shifted clusters with unequal columns."""
    rng = np.random.default_rng(d)
    gauss: Floats = rng.standard_normal((n, d))
    if kind == "gauss":
        return gauss
    radii = np.sqrt(3.0 / rng.chisquare(3.0, n))[:, None]
    centres = 2.0 * rng.standard_normal((6, d))
    return (gauss * radii + centres[rng.integers(0, 6, n)]) * np.geomspace(1.0, 0.1, d)


def _errors(rows: Floats, excess: Floats, queries: Floats) -> Floats:
    images = np.abs(rows @ queries)
    found: Floats = np.abs(excess @ images) / images.sum(axis=0)
    return found


def _worst(rows: Floats, excess: Floats, queries: Floats) -> float:
    """Normalised subgradient ascent, in both signs, in coordinates in which the points are isotropic."""
    start = queries[:, np.argsort(-_errors(rows, excess, queries))[:_STARTS]]
    worst = 0.0
    for sign in (1.0, -1.0):
        x = start / np.linalg.norm(start, axis=0)
        for step in range(_STEPS):
            images = rows @ x
            totals = np.abs(images).sum(axis=0)
            ratio = sign * (excess @ np.abs(images)) / totals
            worst = max(worst, float(ratio.max()))
            signs = np.sign(images)
            gradient = (rows.T @ (signs * (sign * excess)[:, None]) - (rows.T @ signs) * ratio) / totals
            x = x + gradient / np.maximum(np.linalg.norm(gradient, axis=0), 1e-300) / (1.0 + step) ** 0.75
            x /= np.linalg.norm(x, axis=0)
    return worst


def _top(values: Floats, size: int) -> Coreset:
    kept = np.sort(np.argsort(-values)[:size])
    weights = np.full(size, float(values.sum() / values[kept].sum()))
    return Coreset(kept, weights, size, Accuracy(1.0, 1.0))


def _measured(kind: str, d: int, size: int, draws: int) -> Row:
    data = WeightedSet(_points(kind, 4000, d))
    loss = AbsoluteSum()
    reducer = SensitivityReducer(loss, calibration=None)
    bounds = reducer.sensitivities(data)
    first = loss.moments(data, bounds)
    second = first.to_degree(2)
    law = RotationInvariant.whitened(Absolute(), data)
    rows = law.embedded(data)
    queries = np.random.default_rng(1).standard_normal((rows.shape[1], _QUERIES))
    rms: dict[str, list[float]] = {name: [] for name in _METHODS}
    worst, seconds = {name: [] for name in rms}, {name: [] for name in rms}  # type: ignore[var-annotated]
    for seed in range(draws):
        drawn = reducer.reduce(data, size=size, rng=seed)
        drawn = replace(drawn, certificates=())
        makers = {
            "top": lambda: _top(np.asarray(bounds.values), size),
            "Poisson": lambda drawn=drawn: drawn,
            "first moments": lambda drawn=drawn: calibrate(data, drawn, first, otherwise=FewerMoments()),
            "second moments": lambda drawn=drawn: calibrate(data, drawn, second, otherwise=FewerMoments()),
            "best on average": lambda drawn=drawn: average_case_weights(data, drawn, law),
        }
        if size < 2 * second.count:
            del makers["second moments"]
        for name, make in makers.items():
            begun = time.process_time()
            coreset = make()
            seconds[name].append(time.process_time() - begun)
            excess = -np.ones(data.n)
            excess[coreset.indices] += coreset.weights
            rms[name].append(float(np.sqrt(np.mean(_errors(rows, excess, queries) ** 2))))
            worst[name].append(_worst(rows, excess, queries))
    return Row(
        kind,
        d,
        size,
        first.count / size,
        *(
            {name: scale * float(np.mean(v)) for name, v in kept.items() if v}
            for kept, scale in ((rms, 1e3), (worst, 1e3), (seconds, 1.0))
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--draws", type=int, default=3, help="draws a figure (mean)")
    parser.add_argument("--quick", action="store_true", help="isotropic points only")
    options = parser.parse_args(argv)
    found = []
    print(f"{'data d/m':18} {'k/m':>5} " + " ".join(f"{name:>17}" for name in _METHODS))
    with threadpool_limits(limits=1):
        for kind in ("gauss", "heavy")[: 1 if options.quick else 2]:
            for d in (8, 16, 32, 64):
                for size in (250, 1000):
                    row = _measured(kind, d, size, options.draws)
                    cells = (
                        f"{row.rms[name]:8.1f} /{row.worst[name]:6.0f} " if name in row.rms else f"{'-':>17}"
                        for name in _METHODS
                    )
                    print(f"{kind + f' {d}/{size}':18} {row.ratio:5.2f} " + " ".join(cells), flush=True)
                    found.append(asdict(row))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
