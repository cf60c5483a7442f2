"""Accuracy of pruned networks before and after a short retraining with their masks.

    python -m examples.retraining --out OUT
    python -m examples.retraining --images mnist --data-dir DIR --out OUT

Every combination of seed, method and keep ratio is one record in ``records.json``; a run that was
interrupted goes on where it stopped. ``table.md`` is made from the records.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from statistics import mean, stdev

import nn
from examples.edge_methods import methods
from examples.images import ImageSet
from examples.networks import accuracy, train
from examples.records import Record, read_records, resume
from examples.trained import Trained, batches, parser, run

METHODS = (
    "magnitude, uniform",
    "magnitude, global",
    "SynFlow",
    "SiPP, randomised",
    "magnitude, global, refitted",
    "best path",
)
RATIOS = (0.1, 0.05, 0.02)
NETWORK = "lenet-300-100"


def before_and_after(pruned: nn.Pruned, images: ImageSet, *, seed: int, steps: int) -> tuple[float, float]:
    """Test accuracy as pruned, and after some more steps of training from these weights; masks stay."""
    before = accuracy(pruned.model, images.test)
    train(pruned.model, images, seed=seed, steps=steps)
    return before, accuracy(pruned.model, images.test)


def table(records: Sequence[Record]) -> str:
    """Mean accuracy before and after, with the standard deviation of the latter over seeds."""
    lines = []
    for images in dict.fromkeys(r["images"] for r in records):
        own = [r for r in records if r["images"] == images]
        ratios = sorted({r["keep_ratio"] for r in own}, reverse=True)
        original = mean(r["original_accuracy"] for r in own)
        more = mean(r["original_retrained"] for r in own)
        lines += [
            f"{images}, {NETWORK} ({original:.1%} before pruning, {more:.1%} with as many more steps)",
            "",
            "| method | " + " | ".join(f"{ratio:.0%}" for ratio in ratios) + " |",
            "|---|" + "---:|" * len(ratios),
        ]
        for method in METHODS:
            cells = [_cell([r for r in own if (r["method"], r["keep_ratio"]) == (method, x)]) for x in ratios]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(records: Sequence[Record]) -> str:
    if not records:
        return ""
    before, after = ([r[key] for r in records] for key in ("accuracy", "retrained"))
    spread = stdev(after) if len(after) > 1 else 0.0
    return f"{100 * mean(before):.1f} → {100 * mean(after):.1f} ± {100 * spread:.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and write records and table."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="shares to keep")
    arguments.add_argument("--retraining-steps", type=int, default=300)
    given = arguments.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "records.json"

    def one(images: ImageSet) -> None:
        trained = Trained(images, NETWORK, given.steps)
        originals: dict[int, tuple[float, float]] = {}

        def tested(pruned: nn.Pruned, seed: int) -> tuple[float, float]:
            # Other batches than those of the training.
            return before_and_after(pruned, images, seed=1000 + seed, steps=given.retraining_steps)

        def measure(cell: Record) -> list[Record]:
            seed = cell["seed"]
            network = trained(seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", nn.PruningWarning)
                if seed not in originals:
                    originals[seed] = tested(nn.prune(network, nn.Magnitude(), nn.KeepRatio(1.0)), seed)
                pruned = nn.prune(
                    network,
                    methods(images)[cell["method"]],
                    nn.KeepRatio(cell["keep_ratio"]),
                    calibration=batches(images.calibration),
                    rng=seed,
                )
            before, after = tested(pruned, seed)
            return [
                {
                    "kept": pruned.size.kept,
                    "accuracy": before,
                    "retrained": after,
                    "original_accuracy": originals[seed][0],
                    "original_retrained": originals[seed][1],
                }
            ]

        cells = [
            {"images": images.name, "seed": seed, "method": method, "keep_ratio": ratio}
            for seed in range(given.seeds)
            for method in METHODS
            for ratio in given.ratios
        ]
        resume(path, cells, measure, label=images.name)

    if (code := run(given, one)) != 0:
        return code
    text = table(read_records(path))
    (given.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
