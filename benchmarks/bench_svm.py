"""Support vector machines: coresets and certificates against full training and uniform sampling.

Times are process CPU seconds on one thread. Excess objectives are relative to the best model known of the
full problem, on all the data. The full-data solvers beside the coreset are LinearSVC (hinge loss, dual) and
the steps of this library on all the data, which are the strongest that we know of for few columns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import ttest_rel
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from coresets.samplers import IID, FixedSize
from coresets.svm import (
    RBF,
    ClusterBounds,
    FreeIntercept,
    LabelledSet,
    LinearModel,
    NormBounds,
    RegularisedIntercept,
    SVMCoreset,
    SVMObjective,
    svm_certificate,
    train_pilot,
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


def _uniform(data: LabelledSet, size: int, seed: int) -> LabelledSet:
    rows = np.sort(np.random.default_rng(seed).choice(data.n, size, replace=False))
    return data.take(rows, data.weights[rows] * (data.total_weight / data.weights[rows].sum()))


def _excess(data: LabelledSet, objective: SVMObjective, optimum: float, model: LinearModel) -> float:
    return objective.value(data, model) / optimum - 1.0


def _speed(n: int, repeats: int) -> list[Row]:
    """Linear machines on two Gaussians: one price, and certificates."""
    data = _gaussians(n, 20, 0)
    objective = SVMObjective.of_average(1e-4, n)
    size = n // 100
    SVMCoreset(objective).fit(_gaussians(5000, 20, 1), size=500, rng=0)  # compile
    newton, full = _timed(partial(train_svm, data, objective))
    optimum = train_svm(data, objective, start=full.best, tightness=1e-5).best_primal
    excess = partial(_excess, data, objective, optimum)
    svc = LinearSVC(loss="hinge", C=objective.C, max_iter=2000, random_state=0)
    seconds, _ = _timed(lambda: svc.fit(data.points, data.labels))
    reducer, times, excesses, uniform = SVMCoreset(objective), [], [], []
    for seed in range(repeats):
        spent, fit = _timed(partial(reducer.fit, data, size=size, rng=seed, certify=False))
        times.append(spent)
        excesses.append(excess(fit.model))
        uniform.append(excess(train_svm(_uniform(data, size, seed), objective).best))
    ours = float(np.median(times))
    scored, bounds = _timed(partial(reducer.sensitivities, data, rng=0))
    seen, pilot = _timed(partial(train_pilot, data, objective, 2000, rng=0))
    rows = [
        Row(
            f"linear, {size} rows: LinearSVC over ours",
            seconds / ours,
            f"{seconds:.2f} / {ours:.2f} s",
            ">= 8",
        ),
        Row("  mean excess", float(np.mean(excesses)), f"uniform {np.mean(uniform):.4f}", "<= 0.01"),
        Row(
            "  excess of LinearSVC",
            excess(LinearModel(svc.coef_, svc.intercept_)),
            f"{svc.n_iter_} iterations",
        ),
        Row("  training on everything here over ours", newton / ours, f"{newton:.2f} s, gap {full.gap:.1e}"),
        Row("  pilot and two steps on everything, s", seen, f"excess {excess(pilot.best):.1e}"),
        Row("  scoring, s", scored, f"total {bounds.total:.0f}", "0.1 to 0.3"),
    ]
    model = reducer.fit(data, size=size, rng=0, certify=False).model
    for gap in (0.02, 0.0):
        spent, found = _timed(partial(svm_certificate, data, model, objective, gap=gap))
        note = f"gap {found.gap:.4f}, true {excess(model):.4f}, {spent:.2f} s"
        rows.append(Row(f"  certificate, gap asked for {gap:g}: passes", found.passes, note, "<= 8"))
    return rows + _path(data, reducer, objective, size)


def _path(data: LabelledSet, reducer: SVMCoreset, objective: SVMObjective, size: int) -> list[Row]:
    """Twenty prices on one coreset, against LinearSVC on everything at three of them."""
    prices = np.geomspace(0.1, 10.0, 20) * objective.lam

    def path(kept: Callable[[], LabelledSet]) -> list[LinearModel]:
        points, models, start = kept(), [], None
        for price in prices:
            start = train_svm(points, SVMObjective(price), start=start).best
            models.append(start)
        return models

    short, models = _timed(lambda: path(lambda: data.kept(reducer.reduce(data, size=size, rng=0))))
    _, others = _timed(lambda: path(lambda: _uniform(data, size, 0)))
    some, whole, here = (0, 10, 19), [], []
    worst = {"ours": 0.0, "uniform": 0.0}
    for i in some:
        price = SVMObjective(prices[i])
        clf = LinearSVC(loss="hinge", C=price.C, max_iter=2000)
        whole.append(_timed(partial(clf.fit, data.points, data.labels))[0])
        spent, full = _timed(partial(train_svm, data, price))
        here.append(spent)
        for name, found in (("ours", models[i]), ("uniform", others[i])):
            worst[name] = max(worst[name], _excess(data, price, full.best_primal, found))
    estimate, slow = 20 * float(np.mean(whole)), 20 * float(np.mean(here))
    return [
        Row(
            "path of 20 prices: LinearSVC over ours",
            estimate / short,
            f"{estimate:.0f} / {short:.2f} s",
            ">= 15",
        ),
        Row("  training on everything here over ours", slow / short, f"{slow:.1f} s"),
        Row("  worst excess of three", worst["ours"], f"uniform {worst['uniform']:.4f}", "<= 0.01"),
    ]


def _kernel(n: int, grow: Sequence[int]) -> list[Row]:
    """RBF machines; training on everything is extrapolated by the exponent of the sizes run."""
    data, test = _gaussians(n, 20, 2), _gaussians(20_000, 20, 3)
    gamma, size, seconds, best = 0.05, n // 100, [], 0.0
    for m in grow:
        clf = SVC(kernel="rbf", gamma=gamma, C=1.0, cache_size=1000)
        seconds.append(_timed(partial(clf.fit, data.points[:m], data.labels[:m]))[0])
        best = max(best, clf.score(test.points, test.labels))
    exponent = float(np.log(seconds[-1] / seconds[-2]) / np.log(grow[-1] / grow[-2]))
    full = seconds[-1] * (n / grow[-1]) ** exponent
    reducer = SVMCoreset(SVMObjective(1.0), NormBounds(RBF(gamma)))
    SVMCoreset(SVMObjective(1.0), NormBounds(RBF(gamma))).reduce(_gaussians(2000, 20, 1), size=100, rng=0)

    def at(prices: Sequence[float], seed: int) -> SVC:
        """The best of some prices on rows that were not kept; at the full problem's price if it is one."""
        coreset = reducer.reduce(data, size=size, rng=seed)
        kept = data.kept(coreset)
        others = np.setdiff1d(np.random.default_rng(seed).integers(0, n, 1000), coreset.indices)
        fits = [
            SVC(kernel="rbf", gamma=gamma, C=price).fit(kept.points, kept.labels, sample_weight=kept.weights)
            for price in prices
        ]
        if len(fits) == 1:
            return fits[0]
        return max(fits, key=lambda fit: fit.score(data.points[others], data.labels[others]))

    rows = []
    for words, prices in (("same C", (1.0,)), ("C chosen on rows not kept", (1.0, 0.1, 0.01, 0.001))):
        runs = [_timed(partial(at, prices, seed)) for seed in range(5)]
        spent = float(np.median([run[0] for run in runs]))
        lost = best - float(np.mean([run[1].score(test.points, test.labels) for run in runs]))
        note = f"{full:.0f} / {spent:.2f} s, exponent {exponent:.2f}"
        rows += [
            Row(f"RBF, {size} rows, {words}: SVC over ours", full / spent, note, ">= 500"),
            Row(f"  accuracy lost against {grow[-1]} rows", lost, f"{best:.4f}", "<= 0.01"),
        ]
    return rows


def _rare(n: int, share: float, outliers: str, seed: int = 7) -> LabelledSet:
    """Two Gaussians in 10 columns, with one outlier in two hundred points, read in one of three ways."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < share, 1, -1)
    x = rng.standard_normal((n, 10)) + 0.6 * y[:, None]
    far = rng.random(n) < 0.005
    if outliers == "around the origin, random labels":
        x[far], y[far] = 5.0 * rng.standard_normal((far.sum(), 10)), rng.choice([-1, 1], far.sum())
    else:
        x[far] *= 10.0
        y[far] = np.where(outliers == "flipped labels", -y[far], y[far])
    return LabelledSet(x, y)


_SIZES = (100, 200, 400, 800, 1600, 3200, 6400, 12_800)
_READINGS = ("right labels", "flipped labels", "around the origin, random labels")


def _needed(means: Sequence[float], aim: float = 0.01) -> float:
    """Rows from which on the mean excess is at most ``aim``, between sizes by interpolation; or infinite."""
    above = [i for i, mean in enumerate(means) if mean > aim]
    if not above:
        return float(_SIZES[0])
    last = above[-1]
    if last == len(_SIZES) - 1:
        return float("inf")
    share = np.log(means[last] / aim) / np.log(means[last] / means[last + 1])
    return float(_SIZES[last] * (_SIZES[last + 1] / _SIZES[last]) ** share)


def _sampled(repeats: int) -> list[Row]:
    """Rows needed for a mean excess of 1 %, with a rare class and with balanced ones."""
    objective, rows = SVMObjective(0.01), []
    for share in (0.02, 0.5):
        for outliers in _READINGS:
            data = _rare(40_000, share, outliers)
            optimum = train_svm(data, objective, tightness=1e-5).best_primal
            drawn = {
                "ours": SVMCoreset(objective),
                "S1": SVMCoreset(objective, ClusterBounds(pilot_share=0.0), FixedSize()),
                "S1, with replacement": SVMCoreset(objective, ClusterBounds(pilot_share=0.0), IID()),
            }
            each = {
                name: _curve(reducer, data, objective, optimum, repeats) for name, reducer in drawn.items()
            }
            each["uniform"] = _curve(None, data, objective, optimum, repeats)
            needed = {name: _needed(values.mean(axis=1)) for name, values in each.items()}
            shown = {
                name: f"{value:.0f}" if np.isfinite(value) else f"> {_SIZES[-1]}"
                for name, value in needed.items()
            }
            ratio = min(needed["uniform"], float(_SIZES[-1])) / needed["ours"]
            words = "rare" if share < 0.1 else "balanced"
            note = ", ".join(f"{name} {value}" for name, value in shown.items())
            rows.append(
                Row(
                    f"{words}, outliers {outliers}: rows ratio",
                    ratio,
                    note,
                    ">= 4" if share < 0.1 else ">= 1",
                )
            )
            worse = [
                float(ttest_rel(a, b, alternative="greater").pvalue)
                for a, b in zip(each["ours"], each["uniform"], strict=True)
            ]
            rows.append(
                Row("  smallest p over sizes that ours is worse", min(worse), f"{repeats} draws each")
            )
    return rows


def _curve(
    reducer: SVMCoreset | None, data: LabelledSet, objective: SVMObjective, optimum: float, repeats: int
) -> np.ndarray:
    """Excess for every size and seed; uniform sampling without a reducer."""
    found = np.empty((len(_SIZES), repeats))
    bounds = reducer.sensitivities(data, rng=0) if reducer is not None else None
    for i, size in enumerate(_SIZES):
        for seed in range(repeats):
            if reducer is None or bounds is None:
                kept = _uniform(data, size, seed)
            else:
                draw = (reducer.sampler or FixedSize()).draw(bounds.values, size, np.random.default_rng(seed))
                kept = data.take(draw.indices, data.weights[draw.indices] * draw.kept_weights)
            found[i, seed] = _excess(data, objective, optimum, train_svm(kept, objective).best)
    return found


def _named(folder: Path | None) -> Iterator[tuple[str, LabelledSet]]:
    """Bundled sets, and those of a folder, in standard units but for the sparse one."""

    def scaled(points: Any) -> Any:
        spread = np.asarray(points, dtype=np.float64).std(axis=0)
        return (points - points.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)

    cancer, wine, digits = datasets.load_breast_cancer(), datasets.load_wine(), datasets.load_digits()
    yield "breast cancer", LabelledSet(scaled(cancer.data), cancer.target)
    yield "wine", LabelledSet(scaled(wine.data), wine.target == 1)
    yield "digits, 8 or not", LabelledSet(digits.data / 16.0, digits.target == 8)
    for name in ("htru2", "skin_nonskin", "w8a") if folder is not None else ():
        assert folder is not None
        with np.load(folder / f"{name}.npz", allow_pickle=False) as found:
            points = sparse.csr_matrix(found["X"]) if name == "w8a" else scaled(found["X"])
            yield name, LabelledSet(points, found["y"])


def _certified(folder: Path | None) -> list[Row]:
    """Certified gaps of models trained on coresets, against bounds on the true ones."""
    rows = []
    for name, data in _named(folder):
        size = min(1000, data.n // 5)
        for intercept in (RegularisedIntercept(), FreeIntercept()):
            for price in (1e-3, 0.1, 10.0, 1000.0):
                objective = SVMObjective(price, intercept)
                fit = SVMCoreset(objective).fit(data, size=size, rng=0, certify=False)
                spent, found = _timed(partial(svm_certificate, data, fit.model, objective))
                # An optimum between bounds: the ratio to the true gap is at most that to the smaller one.
                exact = svm_certificate(data, found.best, objective, gap=1e-4, tightness=1e-4)
                true = objective.value(data, fit.model) / exact.best_primal - 1.0
                model = train_svm(_uniform(data, size, 0), objective).best
                uniform = _excess(data, objective, exact.best_primal, model)
                note = f"true {true:.4f}, uniform {uniform:.4f}, {found.passes} passes, {spent:.2f} s"
                task = f"{name}, {type(intercept).__name__[:-9].lower()}, C = {price:g}: gap"
                rows.append(Row(task, found.gap, note, f"<= {2.0 * true + 0.005:.4f}"))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--repeats", type=int, default=30, help="draws per figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    parser.add_argument("--data-dir", type=Path, help="folder with htru2.npz, skin_nonskin.npz and w8a.npz")
    options = parser.parse_args(argv)
    scale = 10 if options.quick else 1
    parts = (
        partial(_speed, 10**6 // scale, min(5, options.repeats)),
        partial(_kernel, 10**5 // scale, (2500, 5000, 10_000) if options.quick else (5000, 10_000, 20_000)),
        partial(_sampled, options.repeats),
        partial(_certified, options.data_dir),
    )
    rows: list[Row] = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for part in parts:
            found = part()
            rows += found
            for row in found:
                print(f"{row.task:58} {row.value:10.4g}  {row.beside:58} {row.target}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
