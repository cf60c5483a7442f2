"""Smaller networks against the share of units kept: accuracy before and after a short fine-tune, and cost.

    python -m examples.unit_pruning --out OUT
    python -m examples.unit_pruning --images mnist --data-dir DIR --out OUT

Every combination of seed, method and keep ratio is one record in ``records.json``; a run that was
interrupted goes on where it stopped. ``table.md``, ``chosen.md`` and a plot for each network and image set
are made from the records.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from scipy.stats import t
from torch.utils.flop_counter import FlopCounterMode

import nn
from examples.edge_pruning import layer_errors, panels
from examples.images import ImageSet
from examples.networks import NETWORKS, accuracy, train
from examples.records import Record, read_records, resume
from examples.trained import Trained, batches, parser, run
from examples.unit_methods import METHODS, PROVABLE, STYLES
from nn.units import Shrunk

RATIOS = (0.5, 0.25, 0.1)
PASSES = 15  # of each network, for its time


def prune(network: torch.nn.Module, method: str, ratio: float, images: ImageSet, seed: int) -> Shrunk:
    """The network with a share of its units."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.prune(
            network, METHODS[method], nn.KeepRatio(ratio), calibration=batches(images.calibration), rng=seed
        )


def speed_up(whole: torch.nn.Module, smaller: torch.nn.Module, batch: torch.Tensor) -> float:
    """Median CPU time of a pass of the one over that of the other, which take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(PASSES + 2):  # the first two warm up
            for network, own in zip((whole, smaller), times, strict=True):
                start = time.process_time()
                network(batch)
                own.append(time.process_time() - start)
    return median(times[0][2:]) / median(times[1][2:])


def products(network: torch.nn.Module, method: str, ratio: float, images: ImageSet, seed: int) -> float:
    """Operations in matrix products of a selection, over those of one pass over the calibration images.

    Those that PyTorch does: passes, gradients and Gram matrices, but no factorisation and nothing in NumPy.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        shrunk = prune(network, method, ratio, images, seed)
    return counter.get_total_flops() / (shrunk.plan.costs[0].flops * len(images.calibration[0]))


def one_record(
    network: torch.nn.Module, method: str, ratio: float, seed: int, images: ImageSet, finetune: int
) -> Record:
    """What one method does to one network; a method that refuses it says why."""
    start = time.process_time()
    try:
        shrunk = prune(network, method, ratio, images, seed)
    except ValueError as error:
        return {"refused": str(error)}
    seconds = time.process_time() - start
    smaller, plan = shrunk.model, shrunk.plan
    sample = images.test[0][:512]
    with torch.no_grad():
        outputs = network(sample)
        output_error = float((smaller(sample) - outputs).norm() / outputs.norm())
    record: Record = {
        "kept": plan.kept,
        "units": plan.total,
        "seconds": seconds,
        "accuracy": accuracy(smaller, images.test),
        "validation": accuracy(smaller, images.certification),
        "worst_layer_error": max(layer_errors(network, plan.masked(network), sample).values()),
        "output_error": output_error,
        "parameters": plan.costs[1].parameters / plan.costs[0].parameters,
        "flops": plan.costs[1].flops / plan.costs[0].flops,
        "speed_up": speed_up(network, smaller, images.test[0][:128]),
    }
    if seed == 0:  # the same for all, but for chance
        record["products"] = products(network, method, ratio, images, seed)
        record["notes"] = list(plan.notes)
    train(smaller, images, seed=seed, steps=finetune)
    return record | {"finetuned_accuracy": accuracy(smaller, images.test)}


def study(
    images: ImageSet,
    trained: Trained,
    cells: Sequence[tuple[int, str, float]],
    fixed: Record,
    path: Path,
    finetune: int,
) -> None:
    """Add the records of the cells, of seed, method and ratio, that are missing on disk."""
    original: dict[int, float] = {}

    def measure(cell: Record) -> list[Record]:
        seed = cell["seed"]
        network = trained(seed)
        if seed not in original:
            original[seed] = accuracy(network, images.test)
        found = one_record(network, cell["method"], cell["keep_ratio"], seed, images, finetune)
        return [{"original_accuracy": original[seed], "finetune": finetune, **found}]

    names = ("seed", "method", "keep_ratio")
    wanted = [{**fixed, **dict(zip(names, cell, strict=True))} for cell in cells]
    resume(path, wanted, measure, label=f"{fixed['images']}, {fixed['network']}")


def table(records: Sequence[Record]) -> str:
    """Accuracy before and after the fine-tune, layer errors and costs, one row a method."""
    lines = []
    for images, network in panels(records):
        own = [r for r in records if (r["images"], r["network"]) == (images, network)]
        ratios = sorted({r["keep_ratio"] for r in own}, reverse=True)
        original = mean(r["original_accuracy"] for r in own)
        seeds = " or ".join(
            map(str, sorted({len({r["seed"] for r in own if r["keep_ratio"] == x}) for x in ratios}))
        )
        steps = own[0]["finetune"]
        lines += [f"### {images}, {network}", ""]
        lines += [f"{original:.1%} before pruning; {seeds} seeds; {steps} steps of fine-tuning.", ""]
        heads = [f"{x:.0%} | worst layer error" for x in ratios]
        costs = ["parameters", "operations", "faster", "seconds", "passes"]
        lines += ["| method | " + " | ".join((*heads, *costs)) + " |"]
        lines += ["|---|" + "---:|" * (2 * len(ratios) + len(costs))]
        for method in [m for m in METHODS if any(r["method"] == m for r in own)]:
            cells = []
            for ratio in ratios:
                found = [r for r in own if (r["method"], r["keep_ratio"]) == (method, ratio)]
                cells += _accuracies([r for r in found if "refused" not in r], refused=bool(found))
            last = [r for r in own if (r["method"], r["keep_ratio"]) == (method, ratios[-1])]
            cells += _costs([r for r in last if "refused" not in r])
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _accuracies(found: Sequence[Record], *, refused: bool) -> list[str]:
    """Mean and deviation before, mean after, and the error."""
    if not found:
        return ["refused" if refused else "", ""]
    before = [100.0 * r["accuracy"] for r in found]
    after = mean(100.0 * r["finetuned_accuracy"] for r in found)
    spread = f" ± {stdev(before):.1f}" if len(before) > 1 else ""
    return [f"{mean(before):.1f}{spread} → {after:.1f}", f"{mean(r['worst_layer_error'] for r in found):.2f}"]


def _costs(found: Sequence[Record]) -> list[str]:
    """Shares of parameters and operations, medians of times, and matrix products."""
    if not found:
        return [""] * 5
    passes = [r["products"] for r in found if "products" in r]
    return [
        f"{mean(r['parameters'] for r in found):.1%}",
        f"{mean(r['flops'] for r in found):.1%}",
        f"{median(r['speed_up'] for r in found):.1f} times",
        f"{median(r['seconds'] for r in found):.2f}",
        f"{passes[0]:.1f}" if passes else "",
    ]


def chosen(records: Sequence[Record]) -> str:
    """What the provable method that is best on validation images loses on test images, beside the l2 norm.

    The choice is made for each seed and ratio by itself; of equal ones the first in the records counts.
    Losses before any fine-tuning, in points, with 95 % intervals over seeds (Student's t); the share is that
    of the first loss in the second, with the range over seeds.
    """
    lines = []
    for images, network in panels(records):
        own = [r for r in records if (r["images"], r["network"]) == (images, network) and "refused" not in r]
        rows = []
        for ratio in sorted({r["keep_ratio"] for r in own}, reverse=True):
            there = [r for r in own if r["keep_ratio"] == ratio]
            norms = {r["seed"]: r for r in there if r["method"] == "l2 norm"}
            best = {
                seed: max(
                    (r for r in there if r["seed"] == seed and r["method"] in PROVABLE),
                    key=lambda r: r["validation"],
                )
                for seed in sorted(norms)
            }
            if len(norms) < 2:
                continue
            counts = Counter(r["method"] for r in best.values()).most_common()
            names = ", ".join(f"{method} ({count})" for method, count in counts)
            shares = [_lost(best[seed]) / _lost(norms[seed]) for seed in best if _lost(norms[seed]) > 0.0]
            share = f"{mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})" if shares else ""
            chosen_loss = _interval(list(best.values()))
            norm_loss = _interval([norms[seed] for seed in best])
            rows.append(f"| {ratio:.0%} | {len(best)} | {names} | {chosen_loss} | {norm_loss} | {share} |")
        if rows:
            lines += [f"{images}, {network}", ""]
            lines += ["| keep ratio | seeds | chosen on validation images | its loss | l2 norm's | share |"]
            lines += ["|---:|---:|---|---:|---:|---:|", *rows, ""]
    return "\n".join(lines)


def _lost(record: Record) -> float:
    """Loss of accuracy, in points."""
    return 100.0 * float(record["original_accuracy"] - record["accuracy"])


def _interval(records: Sequence[Record]) -> str:
    """Mean loss in points, with a 95 % interval."""
    losses = [_lost(r) for r in records]
    half = float(t.ppf(0.975, len(losses) - 1)) * stdev(losses) / math.sqrt(len(losses))
    return f"{mean(losses):.2f} ± {half:.2f}"


def plot(records: Sequence[Record], panel: tuple[str, str], path: Path) -> None:
    """Accuracy before and after, and worst layer error, against keep ratio; bands over seeds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra "plots"

    own = [r for r in records if (r["images"], r["network"]) == panel and "refused" not in r]
    figure = Figure(figsize=(15.0, 5.0), layout="constrained")
    axes = figure.subplots(1, 3, squeeze=False)[0]
    shown = {
        "accuracy": "test accuracy, as pruned",
        "finetuned_accuracy": "test accuracy, fine-tuned",
        "worst_layer_error": "worst layer error",
    }
    for axis, (key, label) in zip(axes, shown.items(), strict=True):
        _lines(axis, own, key)
        axis.set(xlabel="share of units kept", ylabel=label, title=", ".join(panel))
    axes[2].set_yscale("log")
    axes[2].yaxis.set_major_formatter("{x:g}")
    axes[2].yaxis.set_minor_formatter("{x:g}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=80)


def _lines(axis: Any, records: Sequence[Record], key: str) -> None:
    """One panel, the largest ratio on the left; points where there is only one."""
    for method, (colour, style, width) in STYLES.items():
        own = [r for r in records if r["method"] == method]
        if not own:
            continue
        ratios = sorted({r["keep_ratio"] for r in own})
        values = [[r[key] for r in own if r["keep_ratio"] == ratio] for ratio in ratios]
        look = {"color": colour, "linestyle": style, "linewidth": width, "label": method}
        axis.plot(ratios, [mean(v) for v in values], marker=".", **look)
        axis.fill_between(
            ratios, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.06
        )
    axis.set_xscale("log")
    ticks = sorted({r["keep_ratio"] for r in records})
    axis.set_xticks(ticks, [f"{ratio:.0%}" for ratio in ticks])
    axis.minorticks_off()
    axis.invert_xaxis()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write records, tables and plots."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument(
        "--networks", nargs="+", default=["lenet-300-100", "small-conv-net"], choices=sorted(NETWORKS)
    )
    arguments.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="shares of units to keep")
    arguments.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    arguments.add_argument("--finetune", type=int, default=100, help="steps of fine-tuning")
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
            study(fewer, Trained(images, network, given.steps), cells, fixed, path, given.finetune)

    if (code := run(given, one)) != 0:
        return code
    records = read_records(path)
    (given.out / "table.md").write_text(table(records), encoding="utf-8")
    (given.out / "chosen.md").write_text(chosen(records), encoding="utf-8")
    for panel in panels(records):
        plot(records, panel, given.out / f"{'-'.join(panel)}.png")
    print(chosen(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
