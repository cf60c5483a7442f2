"""Support vector machines from coresets and from uniform samples: excess objective against size and time.

    python -m examples.svm_coresets --out OUT
    python -m examples.svm_coresets --sets htru2 skin_nonskin w8a --data-dir DIR --out OUT

The objective is |w|^2 / 2 + C sum of hinge losses with a regularised intercept, C = 1. For every size and
repetition each method draws its rows, a model is trained on them, and its objective on all the data is
compared with the optimum, which is known up to a duality gap of 1e-5. Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from coresets import IID, FixedSize, Sampler
from coresets._files import write_atomically
from coresets.svm import (
    ClusterBounds,
    HingeBounds,
    LabelledSet,
    LinearModel,
    NormBounds,
    PublishedBounds,
    SVMCoreset,
    SVMObjective,
    svm_certificate,
    train_svm,
)
from examples.labelled_sets import BUNDLED, GENERATED, load_labelled
from examples.records import Record, resume
from examples.svm_figures import plot, table

__all__ = ["METHODS", "main"]

SIZES = (100, 200, 400, 800, 1600, 3200, 6400)
CERTIFIED = 5  # repetitions whose models are certified as well


@dataclass(frozen=True, eq=False)
class Problem:
    """What every method is given.

    Parameters
    ----------
    data : LabelledSet
        All rows.
    objective : SVMObjective
        The price of the hinge loss.
    optimum : float
        The least objective on all the data; only the published formula looks at it.
    """

    data: LabelledSet
    objective: SVMObjective
    optimum: float


Draw = Callable[[Problem, int, np.random.Generator], LabelledSet]


def _uniform(problem: Problem, size: int, rng: np.random.Generator) -> LabelledSet:
    """Rows without replacement, again until both classes are there."""
    data = problem.data
    while True:
        rows = np.sort(rng.choice(data.n, size, replace=False))
        if np.ptp(data.signs[rows]) > 0:
            return data.take(rows, data.weights[rows] * (data.total_weight / data.weights[rows].sum()))


def _published(problem: Problem, size: int, rng: np.random.Generator) -> LabelledSet:
    """The published formula, given the optimum itself; it promises nothing."""
    data = problem.data
    bounds = PublishedBounds(problem.optimum, clusters=4).sensitivities(data, problem.objective, rng)
    while True:
        draw = IID().draw(bounds.values, size, rng)
        if np.ptp(data.signs[draw.indices]) > 0:
            return data.take(draw.indices, data.weights[draw.indices] * draw.kept_weights)


def _coreset(bounds: HingeBounds, sampler: Sampler) -> Draw:
    def draw(problem: Problem, size: int, rng: np.random.Generator) -> LabelledSet:
        reducer = SVMCoreset(problem.objective, bounds, sampler)
        return problem.data.kept(reducer.reduce(problem.data, size=size, rng=rng))

    return draw


METHODS: Mapping[str, Draw] = {
    "uniform": _uniform,
    "S1, with replacement": _coreset(ClusterBounds(), IID()),
    "S1, fixed size": _coreset(ClusterBounds(), FixedSize()),
    "S3, with replacement": _coreset(NormBounds(), IID()),
    "published formula": _published,
}


def full(data: LabelledSet, objective: SVMObjective) -> Record:
    """Training on everything by two solvers, and the optimum."""
    start = time.process_time()
    newton = train_svm(data, objective)
    middle = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        liblinear = LinearSVC(loss="hinge", C=objective.C, max_iter=5000, random_state=0)
        liblinear.fit(data.points, data.signs, sample_weight=data.weights)
    end = time.process_time()
    best = train_svm(data, objective, start=newton.best, tightness=1e-5).best_primal
    model = LinearModel(liblinear.coef_, liblinear.intercept_[0])
    return {
        "method": "all the data",
        "n": data.n,
        "d": data.d,
        "optimum": best,
        "newton_seconds": middle - start,
        "newton_excess": objective.value(data, newton.best) / best - 1.0,
        "liblinear_seconds": end - middle,
        "liblinear_excess": objective.value(data, model) / best - 1.0,
        "liblinear_converged": bool(np.max(liblinear.n_iter_) < liblinear.max_iter),
    }


def fits(problem: Problem, size: int, repeat: int) -> list[Record]:
    """One model a method, with its excess objective, and for a few repetitions its certificate."""
    data, objective, records = problem.data, problem.objective, []
    for method, draw in METHODS.items():
        rng = np.random.default_rng([size, repeat])
        start = time.process_time()
        kept = draw(problem, size, rng)
        drawn = time.process_time()
        model = train_svm(kept, objective).best
        end = time.process_time()
        record: Record = {
            "method": method,
            "excess": objective.value(data, model) / problem.optimum - 1.0,
            "draw_seconds": drawn - start,
            "train_seconds": end - drawn,
        }
        if repeat < CERTIFIED and method == "S1, with replacement":
            start = time.process_time()
            evidence = svm_certificate(data, model, objective)
            record |= {
                "gap": evidence.gap,
                "passes": evidence.passes,
                "certificate_seconds": time.process_time() - start,
            }
        records.append(record)
    return records


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and write records, table and plots."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*BUNDLED, *GENERATED]
    arguments.add_argument("--sets", nargs="+", default=known, help="known ones, or archives of --data-dir")
    arguments.add_argument("--data-dir", type=Path, default=os.environ.get("CORESETS_DATA"))
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments.add_argument("--repeats", type=int, default=40)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    directory = None if given.data_dir is None else Path(given.data_dir)
    objective = SVMObjective(1.0)
    records: list[Record] = []
    for name in given.sets:
        try:
            data = load_labelled(name, directory)
        except (FileNotFoundError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        with threadpool_limits(1):
            records = _study(name, data, objective, given)
    text = table(records)
    write_atomically(given.out / "table.md", lambda file: file.write(text.encode()))
    plot(records, given.out / "excess.png")
    print(text)
    return 0


def _study(name: str, data: LabelledSet, objective: SVMObjective, given: argparse.Namespace) -> list[Record]:
    """All records, those of this set completed."""
    path = given.out / "records.json"

    def everything(_: Record) -> list[Record]:
        SVMCoreset(objective).fit(data, size=min(100, data.n), rng=0)  # compiled code is loaded first
        return [full(data, objective)]

    done = resume(path, [{"set": name, "size": 0, "repeat": 0}], everything, label=f"{name}, all")
    optimum = next(r["optimum"] for r in done if r["set"] == name and r["size"] == 0)
    problem = Problem(data, objective, optimum)
    cells = [
        {"set": name, "size": size, "repeat": repeat}
        for size in given.sizes
        if size <= data.n // 2
        for repeat in range(given.repeats)
    ]
    return resume(path, cells, lambda cell: fits(problem, cell["size"], cell["repeat"]), label=name)


if __name__ == "__main__":
    sys.exit(main())
