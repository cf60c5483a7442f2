"""Accuracy and layer errors of pruned networks against the share of weights kept, without retraining.

    python -m examples.edge_pruning --out docs/figures/edge_pruning
    python -m examples.edge_pruning --images mnist --data-dir DIR --out OUT

Every combination of seed, method and keep ratio is one record in ``records.json``; a run that was
interrupted goes on where it stopped. ``table.md`` and ``accuracy.png`` are made from the records.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from tqdm import tqdm

import nn
from coresets._files import write_atomically
from examples.images import ImageSet, load_images
from examples.networks import NETWORKS, accuracy, train
from nn.certify.graph import in_float64
from nn.edges import Hybrid, Randomised
from nn.layers import find_layers

RATIOS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)


def methods(images: ImageSet) -> dict[str, Any]:
    """The methods compared, by the names in tables."""
    return {
        "random": nn.Random(),
        "magnitude, uniform": nn.Magnitude(nn.Uniform()),
        "magnitude, global": nn.Magnitude(),
        "SynFlow": nn.SynFlow(input_shape=images.shape),
        "SNIP": nn.SNIP(),
        "GraSP": nn.GraSP(),
        "Taylor": nn.Taylor(),
        "Wanda": nn.Wanda(),
        "CoreNet": nn.CoreNet(),
        "SiPP, deterministic": nn.SiPP(),
        "SiPP, randomised": nn.SiPP(Randomised()),
        "SiPP, hybrid": nn.SiPP(Hybrid()),
        "magnitude, global, refitted": nn.Refit(nn.Magnitude()),
        "Wanda, refitted": nn.Refit(nn.Wanda()),
        "feedback, refitted": nn.Refit(nn.Feedback()),
        "OLS forward": nn.OLSForward(max_edges=4096),
        "OBS backward": nn.OBSBackward(max_edges=4096),
        "best path": nn.BestPath(max_edges=4096),
    }


def layer_errors(network: torch.nn.Module, pruned: torch.nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Relative error of every layer's output, without its bias, at the original network's activations."""
    before, after = in_float64(network), find_layers(in_float64(pruned))
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
    before(images.double())
    return errors


def study(
    images: ImageSet, network_name: str, *, seeds: int, steps: int, ratios: Sequence[float], out: Path
) -> list[dict[str, Any]]:
    """All records, those on disk included."""
    path = out / "records.json"
    records: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    done = {(r["images"], r["network"], r["seed"], r["method"], r["keep_ratio"]) for r in records}
    chosen = methods(images)
    batches = list(zip(*(part.split(128) for part in images.calibration), strict=True))
    grid = [(s, m, r) for s in range(seeds) for m in chosen for r in ratios]
    left = [cell for cell in grid if (images.name, network_name, *cell) not in done]
    networks: dict[int, torch.nn.Module] = {}
    for seed, method, ratio in tqdm(left, desc=f"{images.name}, {network_name}", disable=None):
        if seed not in networks:
            torch.manual_seed(seed)
            networks[seed] = NETWORKS[network_name](images)
            train(networks[seed], images, seed=seed, steps=steps)
        network = networks[seed]
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nn.PruningWarning)
            pruned = nn.prune(network, chosen[method], nn.KeepRatio(ratio), calibration=batches, rng=seed)
        records.append(
            {
                "images": images.name,
                "network": network_name,
                "seed": seed,
                "method": method,
                "keep_ratio": ratio,
                "kept": pruned.plan.kept,
                "seconds": time.perf_counter() - start,
                "accuracy": accuracy(pruned.model, images.test),
                "original_accuracy": accuracy(network, images.test),
                "worst_layer_error": max(layer_errors(network, pruned.model, images.test[0][:512]).values()),
            }
        )
        write_atomically(path, lambda file: file.write((json.dumps(records, indent=1) + "\n").encode()))
    return records


def table(records: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy and its standard deviation over seeds, one row a method."""
    lines = []
    for images, network in sorted({(r["images"], r["network"]) for r in records}):
        own = [r for r in records if (r["images"], r["network"]) == (images, network)]
        ratios = sorted({r["keep_ratio"] for r in own}, reverse=True)
        original = mean(r["original_accuracy"] for r in own)
        lines += [f"{images}, {network} ({original:.1%} before pruning)", ""]
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


# Colour, line style and width: what rebuilds layers stands out, the floor and magnitude are black.
STYLES: dict[str, tuple[str, str, float]] = {
    "random": ("black", ":", 1.2),
    "magnitude, uniform": ("black", "--", 1.2),
    "magnitude, global": ("black", "-", 1.6),
    "magnitude, global, refitted": ("tab:gray", "-", 1.6),
    "SynFlow": ("tab:red", "-", 1.2),
    "SNIP": ("tab:red", "--", 1.2),
    "GraSP": ("tab:red", ":", 1.2),
    "Taylor": ("tab:red", "-.", 1.2),
    "Wanda": ("tab:brown", "--", 1.2),
    "Wanda, refitted": ("tab:brown", "-", 1.6),
    "CoreNet": ("tab:purple", ":", 1.2),
    "SiPP, deterministic": ("tab:purple", "--", 1.2),
    "SiPP, randomised": ("tab:purple", "-", 1.2),
    "SiPP, hybrid": ("tab:purple", "-.", 1.2),
    "feedback, refitted": ("tab:green", "-", 1.8),
    "OLS forward": ("tab:blue", "--", 1.8),
    "OBS backward": ("tab:orange", "-", 1.8),
    "best path": ("tab:blue", "-", 2.2),
}


def plot(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy and worst layer error against keep ratio, one line a method, bands over seeds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra "plots"

    panels = sorted({(r["images"], r["network"]) for r in records})
    figure = Figure(figsize=(12.0, 3.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for row, (images, network) in zip(axes, panels, strict=True):
        own = [r for r in records if (r["images"], r["network"]) == (images, network)]
        for axis, key, label in zip(
            row, ("accuracy", "worst_layer_error"), ("test accuracy", "worst layer error"), strict=True
        ):
            _lines(axis, own, key)
            axis.set(xlabel="share of weights kept", ylabel=label, title=f"{images}, {network}")
        row[1].set_yscale("log")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9)
    figure.savefig(path, dpi=90)


def _lines(axis: Any, records: Sequence[dict[str, Any]], key: str) -> None:
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
    """Run the study and write records, table and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", default=["digits"], help="digits, or archives of --data-dir")
    parser.add_argument("--networks", nargs="+", default=sorted(NETWORKS), choices=sorted(NETWORKS))
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CORESETS_DATA"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of 128 images")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="shares of weights to keep")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    directory = None if arguments.data_dir is None else Path(arguments.data_dir)
    for name in arguments.images:
        try:
            images = load_images(name, directory)
        except (FileNotFoundError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for network in arguments.networks:
            records = study(
                images,
                network,
                seeds=arguments.seeds,
                steps=arguments.steps,
                ratios=arguments.ratios,
                out=arguments.out,
            )
    text = table(records)
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    plot(records, arguments.out / "accuracy.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
