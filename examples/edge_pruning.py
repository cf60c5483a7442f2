"""Accuracy and layer errors of pruned networks against the share of weights kept, without retraining.

    python -m examples.edge_pruning --out OUT
    python -m examples.edge_pruning --images mnist --data-dir DIR --out OUT

Every combination of seed, method and keep ratio is one record in ``records.json``; a run that was
interrupted goes on where it stopped. ``table.md``, ``chosen.md`` and a plot for each image set are made from
the records.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from scipy.stats import t

import nn
from examples.edge_methods import STYLES, methods
from examples.images import ImageSet
from examples.networks import NETWORKS, accuracy
from examples.records import Record, read_records, resume
from examples.trained import Trained, batches, parser, run
from nn.certify.graph import in_float64
from nn.layers import find_layers

RATIOS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)


def layer_errors(network: torch.nn.Module, pruned: torch.nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Relative error of every layer's output, without its bias, at the original network's activations."""
    # Copies with masks baked in, and in single precision again, which is fast and enough for a plot.
    before, after = in_float64(network).float(), find_layers(in_float64(pruned).float())
    errors: dict[str, float] = {}

    def look(name: str) -> Any:
        def hook(module: Any, arguments: Any, output: torch.Tensor) -> None:
            bias = 0.0 if module.bias is None else module.bias.reshape(-1, *[1] * (output.dim() - 2))
            # Called past the hook, which would call itself.
            change = after[name].module.forward(arguments[0]) - output
            errors[name] = float(change.norm() / (output - bias).norm())

        return hook

    for name, layer in find_layers(before).items():
        layer.module.register_forward_hook(look(name))
    before(images)
    return errors


def study(
    images: ImageSet, trained: Trained, cells: Sequence[tuple[int, str, float]], fixed: Record, path: Path
) -> None:
    """Add the records of the cells, of seed, method and ratio, that are missing on disk."""
    original: dict[int, float] = {}

    def measure(cell: Record) -> list[Record]:
        seed, method = cell["seed"], cell["method"]
        network = trained(seed)
        if seed not in original:
            original[seed] = accuracy(network, images.test)
        chosen = methods(images, network)
        if method not in chosen:
            return []
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nn.PruningWarning)
            pruned = nn.prune(
                network,
                chosen[method],
                nn.KeepRatio(cell["keep_ratio"]),
                calibration=batches(images.calibration),
                rng=seed,
            )
        return [
            {
                "kept": pruned.plan.kept,
                "seconds": time.perf_counter() - start,
                "accuracy": accuracy(pruned.model, images.test),
                "validation": accuracy(pruned.model, images.certification),
                "original_accuracy": original[seed],
                "worst_layer_error": max(layer_errors(network, pruned.model, images.test[0][:512]).values()),
            }
        ]

    names = ("seed", "method", "keep_ratio")
    wanted = [{**fixed, **dict(zip(names, cell, strict=True))} for cell in cells]
    resume(path, wanted, measure, label=f"{fixed['images']}, {fixed['network']}")


def table(records: Sequence[Record]) -> str:
    """Mean accuracy and its standard deviation over seeds, one row a method."""
    lines = []
    for images, network in panels(records):
        own = [r for r in records if (r["images"], r["network"]) == (images, network)]
        ratios = sorted({r["keep_ratio"] for r in own}, reverse=True)
        original = mean(r["original_accuracy"] for r in own)
        seeds = len({r["seed"] for r in own})
        lines += [f"{images}, {network} ({original:.1%} before pruning, {seeds} seeds)", ""]
        lines += ["| method | " + " | ".join(f"{ratio:.0%}" for ratio in ratios) + " |"]
        lines += ["|---|" + "---:|" * len(ratios)]
        for method in [m for m in STYLES if any(r["method"] == m for r in own)]:
            cells = []
            for ratio in ratios:
                found = [r["accuracy"] for r in own if (r["method"], r["keep_ratio"]) == (method, ratio)]
                spread = stdev(found) if len(found) > 1 else 0.0
                cells.append(f"{100 * mean(found):.1f} ± {100 * spread:.1f}" if found else "")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def chosen(records: Sequence[Record]) -> str:
    """What the method that is best on validation images loses on test images, beside global magnitude.

    The choice is made for each seed and ratio by itself, among all methods there are records of; of equal
    ones the first counts. Losses are in points, with 95 % intervals over seeds (Student's t).
    """
    lines = []
    for images, network in panels(records):
        own = [r for r in records if (r["images"], r["network"]) == (images, network) and "validation" in r]
        seeds = len({r["seed"] for r in own})
        if seeds < 2:
            continue
        lines += [f"{images}, {network}, {seeds} seeds", ""]
        lines += ["| keep ratio | chosen on validation images | its loss | global magnitude's loss |"]
        lines += ["|---:|---|---:|---:|"]
        for ratio in sorted({r["keep_ratio"] for r in own}, reverse=True):
            there = [r for r in own if r["keep_ratio"] == ratio]
            best = [
                max((r for r in there if r["seed"] == seed), key=lambda r: r["validation"])
                for seed in sorted({r["seed"] for r in there})
            ]
            counts = Counter(r["method"] for r in best).most_common()
            names = ", ".join(f"{method} ({count})" for method, count in counts)
            magnitude = [r for r in there if r["method"] == "magnitude, global"]
            lines += [f"| {ratio:.0%} | {names} | {_loss(best)} | {_loss(magnitude)} |"]
        lines.append("")
    return "\n".join(lines)


def _loss(records: Sequence[Record]) -> str:
    """Mean loss in points, with a 95 % interval."""
    losses = [100.0 * (r["original_accuracy"] - r["accuracy"]) for r in records]
    if len(losses) < 2:
        return ""
    half = float(t.ppf(0.975, len(losses) - 1)) * stdev(losses) / math.sqrt(len(losses))
    return f"{mean(losses):.2f} ± {half:.2f}"


def panels(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Image sets and networks, the bundled set first."""
    found = {(r["images"], r["network"]) for r in records}
    return sorted(found, key=lambda panel: (panel[0] != "digits", panel))


def plot(records: Sequence[Record], images: str, path: Path) -> None:
    """Accuracy and worst layer error against keep ratio, one line a method, bands over seeds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra "plots"

    own = [r for r in records if r["images"] == images]
    networks = [network for _, network in panels(own)]
    figure = Figure(figsize=(12.0, max(5.4, 3.8 * len(networks))), layout="constrained")
    axes = figure.subplots(len(networks), 2, squeeze=False)
    for row, network in zip(axes, networks, strict=True):
        drawn = [r for r in own if r["network"] == network]
        for axis, key, label in zip(
            row, ("accuracy", "worst_layer_error"), ("test accuracy", "worst layer error"), strict=True
        ):
            _lines(axis, drawn, key)
            axis.set(xlabel="share of weights kept", ylabel=label, title=f"{images}, {network}")
        row[1].set_yscale("log")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9)
    figure.savefig(path, dpi=80)


def _lines(axis: Any, records: Sequence[Record], key: str) -> None:
    """One panel, the largest ratio on the left."""
    for method, (colour, style, width) in STYLES.items():
        own = [r for r in records if r["method"] == method]
        if not own:
            continue
        ratios = sorted({r["keep_ratio"] for r in own})
        values = [[r[key] for r in own if r["keep_ratio"] == ratio] for ratio in ratios]
        look = {"color": colour, "linestyle": style, "linewidth": width, "label": method}
        axis.plot(ratios, [mean(v) for v in values], **look)
        axis.fill_between(
            ratios, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.06
        )
    axis.set_xscale("log")
    ticks = sorted({r["keep_ratio"] for r in records})
    axis.set_xticks(ticks, [f"{ratio:.0%}" for ratio in ticks])
    axis.minorticks_off()
    axis.invert_xaxis()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write records, table and plots."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument(
        "--networks", nargs="+", default=["lenet-300-100", "small-conv-net"], choices=sorted(NETWORKS)
    )
    arguments.add_argument(
        "--ratios", type=float, nargs="+", default=RATIOS, help="shares of weights to keep"
    )
    arguments.add_argument("--methods", nargs="+", default=list(STYLES), choices=list(STYLES))
    arguments.add_argument("--calibration", type=int, help="at most so many calibration images")
    arguments.add_argument("--test", type=int, help="at most so many test images")
    given = arguments.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "records.json"
    cells = [(s, m, r) for s in range(given.seeds) for m in given.methods for r in given.ratios]

    def one(images: ImageSet) -> None:
        fewer = images.first(calibration=given.calibration, test=given.test)
        for network in given.networks:
            fixed = {"images": images.name, "network": network}
            study(fewer, Trained(images, network, given.steps), cells, fixed, path)

    if (code := run(given, one)) != 0:
        return code
    records = read_records(path)
    text = table(records)
    (given.out / "table.md").write_text(text, encoding="utf-8")
    (given.out / "chosen.md").write_text(chosen(records), encoding="utf-8")
    for images in dict.fromkeys(name for name, _ in panels(records)):
        plot(records, images, given.out / f"accuracy-{images}.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
