"""Support vector machines: coresets and certificates against full training and uniform sampling.

Times are process CPU seconds on one thread. Excess objectives are relative to the best model known of the
full problem, on all the data. The full-data solvers beside the coreset are LinearSVC (hinge loss, dual) and
the Newton steps of this library on all the data.
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
from scipy.stats import ttest_rel
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from coresets.svm import (
    RBF,
    ClusterBounds,
    LabelledSet,
    LinearModel,
    NormBounds,
    SVMCoreset,
    SVMObjective,
    svm_certificate,
    train_svm,
)

__all__ = ["Row", "main"]


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


def _gaussians(n: int, d: int, seed: int) -> LabelledSet:
    rng = np.random.default_rng(seed)
    y = rng.choice([-1, 1], n)
    return LabelledSet(rng.standard_normal((n, d)) + 0.3 * y[:, None], y)


def _uniform(data: LabelledSet, size: int, rng: np.random.Generator) -> LabelledSet:
    rows = np.sort(rng.choice(data.n, size, replace=False))
    return data.take(rows, data.weights[rows] * (data.total_weight / data.weights[rows].sum()))


def _speed(n: int, repeats: int) -> list[Row]:
    """Linear machines on two Gaussians: one price, a path of twenty, and a certificate."""
    data = _gaussians(n, 20, 0)
    objective = SVMObjective.of_average(1e-4, n)
    size = n // 50
    small = _gaussians(5000, 20, 1)
    SVMCoreset(objective).fit(small, size=500, rng=0)  # compile
    newton, full = _timed(lambda: train_svm(data, objective))
    best = train_svm(data, objective, start=full.best, tightness=1e-5)

    def excess(model: LinearModel) -> float:
        return objective.value(data, model) / best.best_primal - 1.0

    svc = LinearSVC(loss="hinge", C=objective.C, max_iter=2000, random_state=0)
    seconds, _ = _timed(lambda: svc.fit(data.points, data.labels))
    reference = excess(LinearModel(svc.coef_, svc.intercept_))
    reducer, times, excesses, uniform = SVMCoreset(objective), [], [], []
    for seed in range(repeats):
        spent, fit = _timed(lambda s=seed: reducer.fit(data, size=size, rng=s, certify=False))  # type: ignore[misc]
        times.append(spent)
        excesses.append(excess(fit.model))
        drawn = _uniform(data, size, np.random.default_rng(seed))
        uniform.append(excess(train_svm(drawn, objective).best))
    ours = float(np.median(times))
    scored, bounds = _timed(lambda: reducer.sensitivities(data, rng=0))
    rows = [
        Row(
            "linear: LinearSVC over coreset + training",
            seconds / ours,
            f"{seconds:.2f} s, {ours:.3f} s",
            ">= 8",
        ),
        Row(
            "linear: Newton on everything over the same", newton / ours, f"{newton:.2f} s, gap {full.gap:.1e}"
        ),
        Row("linear: scoring, s", scored, f"total {bounds.total:.0f}", "0.1 to 0.3"),
        Row("linear: mean excess", float(np.mean(excesses)), f"uniform {np.mean(uniform):.4f}", "<= 0.01"),
        Row("linear: excess of LinearSVC", reference, f"{svc.n_iter_} iterations"),
    ]
    model = reducer.fit(data, size=size, rng=0, certify=False).model
    for gap in (0.02, 0.0):
        spent, found = _timed(lambda g=gap: svm_certificate(data, model, objective, gap=g))  # type: ignore[misc]
        rows += [
            Row(f"certificate, gap asked for {gap:g}: passes", found.passes, f"{spent:.2f} s", "<= 8"),
            Row(
                f"certificate, gap asked for {gap:g}: gap", found.gap, f"true {excess(model):.4f}", "<= 0.02"
            ),
        ]
    prices = np.geomspace(0.1, 10.0, 20) * objective.lam

    def path() -> list[LinearModel]:
        kept, models, start = data.kept(reducer.reduce(data, size=size, rng=0)), [], None
        for price in prices:
            start = train_svm(kept, SVMObjective(price), start=start).best
            models.append(start)
        return models

    short, models = _timed(path)
    some = [0, 10, 19]  # of the twenty on everything; the others lie between
    whole = [
        _timed(lambda c=prices[i]: LinearSVC(loss="hinge", C=c, max_iter=2000).fit(data.points, data.labels))[
            0
        ]
        for i in some
    ]  # type: ignore[misc]
    worst = 0.0
    for i in some:
        price = SVMObjective(prices[i])
        optimum = train_svm(data, price, tightness=1e-4).best_primal
        worst = max(worst, price.value(data, models[i]) / optimum - 1.0)
    rows += [
        Row(
            "path of 20 prices: LinearSVC over coreset",
            20 * float(np.mean(whole)) / short,
            f"{short:.2f} s",
            ">= 15",
        ),
        Row("path: worst excess of three", worst, "", "<= 0.01"),
    ]
    return rows


def _kernel(n: int, grow: Sequence[int]) -> list[Row]:
    """RBF machines; training on everything is extrapolated by the exponent of the sizes run."""
    data, test = _gaussians(n, 20, 2), _gaussians(5000, 20, 3)
    gamma, seconds, accuracies = 0.05, [], []
    for m in grow:
        part = data.take(np.arange(m), None)
        clf = SVC(kernel="rbf", gamma=gamma, C=1.0, cache_size=1000)
        seconds.append(_timed(lambda p=part, c=clf: c.fit(p.points, p.labels))[0])  # type: ignore[misc]
        accuracies.append(clf.score(test.points, test.labels))
    exponent = float(np.log(seconds[-1] / seconds[-2]) / np.log(grow[-1] / grow[-2]))
    full = seconds[-1] * (n / grow[-1]) ** exponent
    objective = SVMObjective(1.0)

    def ours() -> SVC:
        coreset = SVMCoreset(objective, NormBounds(RBF(gamma))).reduce(data, size=n // 100, rng=0)
        kept = data.kept(coreset)
        # The penalty of the full problem: C = lam and the coreset's masses.
        return SVC(kernel="rbf", gamma=gamma, C=objective.C).fit(
            kept.points, kept.labels, sample_weight=objective.sample_weight(coreset)
        )

    spent, clf = _timed(ours)
    lost = accuracies[-1] - clf.score(test.points, test.labels)
    return [
        Row(
            "RBF: SVC on everything (extrapolated) over coreset",
            full / spent,
            f"{full:.0f} s, exponent {exponent:.2f}",
            ">= 500",
        ),
        Row(f"RBF: accuracy lost against {grow[-1]} rows", lost, f"{accuracies[-1]:.4f}", "<= 0.01"),
    ]


def _rare(n: int, share: float, seed: int) -> LabelledSet:
    """A minority, and one outlier in two hundred points."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < share, 1, -1)
    x = rng.standard_normal((n, 10)) + 0.6 * y[:, None]
    far = rng.random(n) < 0.005
    x[far] *= 10.0
    return LabelledSet(x, y)


def _sampled(repeats: int) -> list[Row]:
    """Mean excess against the number of rows, with a rare class and with balanced ones."""
    objective, rows = SVMObjective(0.01), []
    reducer = SVMCoreset(objective, ClusterBounds())
    sizes = (125, 250, 500, 1000, 2000, 4000, 8000)
    for words, share in (("rare", 0.02), ("balanced", 0.5)):
        data = _rare(40_000, share, 7)
        optimum = train_svm(data, objective, tightness=1e-5).best_primal
        bounds = reducer.sensitivities(data, rng=0)
        known = SVMCoreset(objective, ClusterBounds(low=bounds.certificates[0].value))
        means: dict[str, list[float]] = {"S1": [], "uniform": []}
        for size in sizes:
            each: dict[str, list[float]] = {"S1": [], "uniform": []}
            for seed in range(repeats):
                drawn = data.kept(known.reduce(data, size=size, rng=seed))
                each["S1"].append(objective.value(data, train_svm(drawn, objective).best) / optimum - 1.0)
                try:
                    model = train_svm(_uniform(data, size, np.random.default_rng(seed)), objective).best
                except ValueError:  # a class is missing: the constant of the other one is what is left
                    model = LinearModel(np.zeros(data.d), -1.0)
                each["uniform"].append(objective.value(data, model) / optimum - 1.0)
            for name, values in each.items():
                means[name].append(float(np.mean(values)))
            label = f"{words}, {size} rows: mean excess"
            test = float(ttest_rel(each["S1"], each["uniform"], alternative="greater").pvalue)
            note = f"uniform {means['uniform'][-1]:.4f}; p = {test:.3f} that S1 is worse"
            rows.append(Row(label, means["S1"][-1], note))
        needed = {
            name: float(np.exp(np.interp(np.log(0.01), np.log(means[name])[::-1], np.log(sizes)[::-1])))
            if means[name][-1] <= 0.01
            else float("nan")  # not reached at the largest size
            for name in means
        }
        ratio, note = needed["uniform"] / needed["S1"], f"{needed['S1']:.0f} against {needed['uniform']:.0f}"
        rows.append(
            Row(f"{words}: uniform rows over ours at 1 %", ratio, note, ">= 4" if share < 0.1 else ">= 1")
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--repeats", type=int, default=30, help="draws per figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scale = 10 if options.quick else 1
        rows += _speed(10**6 // scale, min(5, options.repeats))
        rows += _kernel(10**5 // scale, (2500, 5000, 10_000) if options.quick else (5000, 10_000, 20_000))
        rows += _sampled(options.repeats)
    for row in rows:
        print(f"{row.task:52} {row.value:10.4g}  {row.beside:48} {row.target}")
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
