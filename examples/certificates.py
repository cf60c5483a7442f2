"""The bound of every certificate beside what is observed, and how often certificates hold.

    python -m examples.certificates --out OUT
    python -m examples.certificates --images digits mnist --data-dir DIR --out OUT

A perceptron is pruned by five methods to two keep ratios; ``records.json`` has what every certificate says
and what the test images show, ``table.md`` and ``bounds.png`` are made from it. An image set that is in the
records is not done again.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import nn
from examples.certificate_bounds import CERTIFICATES, Network, factor_rows, length_row, rows
from examples.coverage import FALSE_ALARM, MISS, coverage
from examples.edge_methods import methods
from examples.images import ImageSet
from examples.records import Record, read_records, write_records
from examples.trained import Trained, batches, parser, run

COLOURS = {
    "magnitude, global": "black",
    "SiPP, deterministic": "tab:green",
    "SiPP, randomised": "tab:purple",
    "CoreNet": "tab:red",
    "best path": "tab:blue",
}
METHODS = tuple(COLOURS)
RATIOS = (0.5, 0.1)
LENGTHS = (0.05, 0.02, 0.01, 0.005)
NETWORK = "lenet-300-100"


def study(images: ImageSet, steps: int) -> Record:
    """All certificates for one image set."""
    network = Trained(images, NETWORK, steps)(0)
    base = Network.of(network, images)

    def pruned(method: str, ratio: float) -> nn.Pruned:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nn.PruningWarning)
            return nn.prune(
                network,
                methods(images)[method],
                nn.KeepRatio(ratio),
                calibration=batches(images.calibration),
                rng=0,
            )

    bounds = [
        {"method": method, "keep_ratio": ratio, **asdict(row)}
        for ratio in RATIOS
        for method in METHODS
        for row in rows(base, pruned(method, ratio))
    ]
    lengths = [
        {"keep_ratio": ratio, **asdict(length_row(base, pruned("best path", ratio)))} for ratio in LENGTHS
    ]
    certified = pruned("magnitude, global", 0.1)
    return {
        "images": images.name,
        "certification": len(images.certification[1]),
        "test": len(images.test[1]),
        "bounds": bounds,
        "lengths": lengths,
        "factors": list(factor_rows(network, images)),
        "coverage": coverage(network, certified.model, images, np.random.default_rng(0)),
    }


def _figure(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def _pair(row: Record) -> str:
    """Observed and bound; a dagger where the bound says nothing, an exclamation mark where it is exceeded."""
    mark = " †" if row["vacuous"] else ""
    mark += " (!)" if row["observed"] > row["bound"] else ""
    return f"{_figure(row['observed'])} / {_figure(row['bound'])}{mark}"


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in body), ""]


def bounds_table(records: Sequence[Record]) -> list[str]:
    """One table for each image set and keep ratio, a row each certificate, a column each method."""
    lines = []
    for record in records:
        for ratio in RATIOS:
            own = [r for r in record["bounds"] if r["keep_ratio"] == ratio]
            body = []
            for name in CERTIFICATES:
                cells = {r["method"]: _pair(r) for r in own if r["certificate"] == name}
                if cells:
                    body.append([name, *(cells.get(method, "") for method in METHODS)])
            lines += [f"{record['images']}, {ratio:.0%} of the weights: observed / bound", ""]
            lines += _markdown(["certificate", *METHODS], body)
    return lines


def lengths_table(records: Sequence[Record]) -> list[str]:
    """Description lengths at small keep ratios."""
    body = [
        [record["images"], *(_pair(r) for r in record["lengths"])] for record in records if record["lengths"]
    ]
    return _markdown(["images", *(f"{ratio:.1%}" for ratio in LENGTHS)], body)


def factors_table(records: Sequence[Record]) -> list[str]:
    """The calibrated factors."""
    body = [
        [
            f"{record['images']}, {r['form']}",
            str(r["examples"]),
            f"{r['factor']:.3g}",
            _figure(r["trivial"]),
            f"{r['informative']:.1%}",
            f"{r['above_one']:.1%}",
            f"{r['violation']:.1%}",
            f"{r['observed']:.1%}",
        ]
        for record in records
        for r in record["factors"]
    ]
    header = ["images, form", "fresh inputs", "K", "trivial K", "edges with K s < 1", "inputs beyond 1"]
    return _markdown([*header, "promised beyond K", "observed beyond K"], body)


def _excess(record: Record) -> str:
    """Coverage above the nominal one, with its interval."""
    rates = (record["failures"] / record["trials"], record["high"], record["low"])
    seen, least, most = (f"{record['claimed'] - rate:+.2%}" for rate in rates)
    return f"{seen} ({least} to {most})"


def coverage_table(records: Sequence[Record]) -> list[str]:
    """Failures over repetitions against the claim, the theory and the critical count."""
    body = [
        [
            f"{record['images']}, {r['certificate']}",
            str(r["examples"]),
            f"{1.0 - r['claimed']:.0%}",
            f"{r['failures']} of {r['trials']} ({r['critical']})",
            "refuted" if r["refuted"] else "not refuted",
            f"{r['claimed'] - r['theory']:+.2%}",
            f"{r['claimed'] - r['pool']:+.2%}",
            _excess(r),
            f"{r['law_mean']:.4f} ± {r['law_spread']:.4f}",
            f"{r['mean']:.4f} ± {r['spread']:.4f}",
        ]
        for record in records
        for r in record["coverage"]
    ]
    header = [
        "images, certificate",
        "n",
        "nominal",
        "failures (critical)",
        "verdict",
        "excess: theory",
        "this pool",
    ]
    return _markdown([*header, "observed (99 %)", "mean ± spread: theory", "observed"], body)


SECTIONS: dict[str, Callable[[Sequence[Record]], list[str]]] = {
    "bounds": bounds_table,
    "lengths": lengths_table,
    "factors": factors_table,
    "coverage": coverage_table,
}


def table(records: Sequence[Record]) -> str:
    """All tables, each between comments by which a page can include it."""
    lines = []
    for name, make in SECTIONS.items():
        lines += [f"<!-- {name} -->", "", *make(records), f"<!-- end of {name} -->", ""]
    return "\n".join(lines)


def plot(records: Sequence[Record], path: Path) -> None:
    """Observed over bound for every certificate; hollow where the bound is vacuous."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra "plots"

    figure = Figure(figsize=(12.0, 4.6 * len(records)), layout="constrained")
    axes = figure.subplots(len(records), len(RATIOS), squeeze=False, sharex=True, sharey=True)
    for row, record in zip(axes, records, strict=True):
        for axis, ratio in zip(row, RATIOS, strict=True):
            _panel(axis, [r for r in record["bounds"] if r["keep_ratio"] == ratio])
            axis.set(title=f"{record['images']}, {ratio:.0%} of the weights")
            axis.label_outer()
    figure.supxlabel("observed / bound; hollow: vacuous; arrow: off the axis, or no bound", fontsize=10)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(METHODS), fontsize=9)
    figure.savefig(path, dpi=80)


_LEAST = 2e-3


def _panel(axis: Any, drawn: Sequence[Record]) -> None:
    names = list(CERTIFICATES)
    for index, method in enumerate(METHODS):
        colour, marker = COLOURS[method], "os^Dv"[index]
        axis.scatter([], [], color=colour, marker=marker, label=method)
        for r in (r for r in drawn if r["method"] == method):
            quotient = 1.0 if r["observed"] == r["bound"] else r["observed"] / r["bound"]
            place = names.index(r["certificate"]) + 0.14 * (index - (len(METHODS) - 1) / 2.0)
            axis.scatter(
                max(quotient, _LEAST),
                place,
                s=32,
                marker="<" if quotient < _LEAST else marker,
                facecolors="none" if r["vacuous"] else colour,
                edgecolors=colour,
            )
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xlim(_LEAST / 1.3, 2.0)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(alpha=0.25)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write records, tables and plot."""
    arguments = parser(__doc__.splitlines()[0], seeds=False).parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "records.json"

    def one(images: ImageSet) -> None:
        records = read_records(path)
        if images.name not in {record["images"] for record in records}:
            write_records(path, [*records, study(images, arguments.steps)])

    if (code := run(arguments, one)) != 0:
        return code
    records = read_records(path)
    text = table(records)
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    plot(records, arguments.out / "bounds.png")
    print(f"tests of coverage: false alarm {FALSE_ALARM:g}, miss {MISS:g}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
