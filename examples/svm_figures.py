"""Tables and plots of the study of support vector machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from examples.records import Record

__all__ = ["plot", "rows_needed", "table"]

TARGET = 0.01  # excess objective for which the rows are counted
COLOURS = {
    "uniform": "black",
    "S1, with replacement": "tab:blue",
    "S1, fixed size": "tab:cyan",
    "S3, with replacement": "tab:orange",
    "published formula": "tab:red",
}


def _sets(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r["set"] for r in records))


def excesses(records: Sequence[Record], name: str, method: str) -> dict[int, np.ndarray]:
    """Excess objectives of all repetitions, in their order, by size."""
    found: dict[int, dict[int, float]] = {}
    for r in records:
        if r["set"] == name and r["method"] == method:
            found.setdefault(r["size"], {})[r["repeat"]] = r["excess"]
    return {
        size: np.array([value for _, value in sorted(by_repeat.items())])
        for size, by_repeat in sorted(found.items())
    }


def rows_needed(means: dict[int, float], target: float = TARGET) -> float:
    """Rows at which the mean excess falls to the target for good, by a straight line in logarithms.

    Infinite if the largest size does not reach it; the smallest size if all do.
    """
    sizes, values = np.array(list(means), dtype=float), np.array(list(means.values()))
    above = np.flatnonzero(values > target)
    if above.size == 0:
        return float(sizes[0])
    last = int(above[-1])
    if last == sizes.size - 1:
        return float("inf")
    x, y = np.log(sizes[last : last + 2]), np.log(np.maximum(values[last : last + 2], 1e-12))
    return float(np.exp(x[0] + (np.log(target) - y[0]) * (x[1] - x[0]) / (y[1] - y[0])))


def _rows(means: dict[int, float]) -> str:
    needed = rows_needed(means)
    if np.isinf(needed):
        return f"> {max(means):,}"
    return f"≤ {needed:,.0f}" if needed == min(means) else f"{needed:,.0f}"


def table(records: Sequence[Record]) -> str:
    """Mean excess, rows needed for one percent, times and certificates, in Markdown."""
    lines = []
    for name in _sets(records):
        own = [r for r in records if r["set"] == name]
        full = next(r for r in own if r["size"] == 0)
        by_method = {m: excesses(own, name, m) for m in COLOURS}
        sizes = sorted({size for found in by_method.values() for size in found})
        repeats = max((len(v) for found in by_method.values() for v in found.values()), default=0)
        lines += [
            f"### {name}",
            "",
            (
                f"{full['n']:,} rows, {full['d']} columns, {repeats} repetitions. Mean excess objective in "
                "percent; rows for a mean of 1 %; CPU seconds to draw and to train at the largest size."
            ),
            "",
            "| method | " + " | ".join(f"{size:,}" for size in sizes) + " | rows for 1 % | seconds |",
            "|---|" + "---:|" * (len(sizes) + 2),
        ]
        for method, found in by_method.items():
            if not found:
                continue
            means = {size: float(values.mean()) for size, values in found.items()}
            cells = " | ".join(f"{100 * means[s]:.3g}" if s in means else "" for s in sizes)
            last = [r for r in own if r["method"] == method and r["size"] == max(means)]
            seconds = np.median([r["draw_seconds"] + r["train_seconds"] for r in last])
            lines.append(f"| {method} | {cells} | {_rows(means)} | {seconds:.3g} |")
        lines += ["", *_remarks(own, full, by_method), ""]
    return "\n".join(lines) + "\n"


def _remarks(own: Sequence[Record], full: Record, by_method: dict[str, dict[int, np.ndarray]]) -> list[str]:
    """Full solvers, the paired test against uniform sampling, and the certificates."""
    converged = "" if full["liblinear_converged"] else ", not converged"
    lines = [
        (
            f"All the data: Newton {full['newton_seconds']:.3g} s "
            f"(excess {100 * full['newton_excess']:.2g} %), LinearSVC {full['liblinear_seconds']:.3g} s "
            f"(excess {100 * full['liblinear_excess']:.2g} %{converged})."
        )
    ]
    uniform, sampled = by_method["uniform"], by_method["S1, with replacement"]
    better = []
    for size in sorted(set(uniform) & set(sampled)):
        pairs = min(uniform[size].size, sampled[size].size)
        if pairs > 1:
            test = ttest_rel(sampled[size][:pairs], uniform[size][:pairs])
            mark = "S1" if test.statistic < 0 else "uniform"
            better.append(f"{size:,}: {mark if test.pvalue < 0.05 else 'neither'}")
    if better:
        lines += ["", f"Better at 5 % by a paired test, by size: {', '.join(better)}."]
    certified = [r for r in own if "gap" in r]
    if certified:
        worst = max(r["gap"] / (2.0 * max(r["excess"], 0.0) + 0.005) for r in certified)
        passes = sorted(r["passes"] for r in certified)
        seconds = np.median([r["certificate_seconds"] for r in certified])
        lines += [
            "",
            (
                f"Certificates: gap at most {worst:.2g} times (twice the true gap + 0.5 %), "
                f"{passes[len(passes) // 2]} passes in the median and {passes[-1]} at most, {seconds:.3g} s."
            ),
        ]
    return lines


def plot(records: Sequence[Record], path: Path) -> None:
    """Excess against size, and against seconds: one column of panels a set."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra "plots"

    names = _sets(records)
    figure = Figure(figsize=(4.2 * len(names), 7.4), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        top, bottom = axes[:, column]
        full = next(r for r in records if r["set"] == name and r["size"] == 0)
        for method, colour in COLOURS.items():
            found = excesses(records, name, method)
            if not found:
                continue
            sizes = list(found)
            means = [float(found[s].mean()) for s in sizes]
            low, high = (np.array([np.quantile(found[s], q) for s in sizes]) for q in (0.1, 0.9))
            top.loglog(sizes, means, "o-", color=colour, label=method, markersize=3)
            top.fill_between(sizes, np.maximum(low, 1e-7), high, color=colour, alpha=0.12, linewidth=0)
            spent = [
                np.median(
                    [
                        r["draw_seconds"] + r["train_seconds"]
                        for r in records
                        if (r["set"], r["method"], r["size"]) == (name, method, s)
                    ]
                )
                for s in sizes
            ]
            bottom.loglog(spent, means, "o-", color=colour, markersize=3)
        for solver, marker in (("newton", "*"), ("liblinear", "s")):
            excess = max(full[f"{solver}_excess"], 1e-6)
            bottom.loglog(
                full[f"{solver}_seconds"], excess, marker, color="tab:green", label=f"{solver}, all rows"
            )
        for axis, label in ((top, "rows"), (bottom, "CPU seconds to draw and train")):
            axis.axhline(TARGET, color="0.7", linewidth=0.8, zorder=0)
            axis.set_xlabel(label)
        top.set_title(f"{name} ({full['n']:,} x {full['d']})", fontsize=10)
    for axis in axes[:, 0]:
        axis.set_ylabel("excess objective")
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
