"""How fast the residual of i-SpaSP decays with the number of units, on activations made for the theorem.

Row sums of the activations are exactly i^(-1/p), in random order, and the second map has Gaussian columns.
The theorem's exponent is 1/2 - 1/p. There are three second maps: one with so many outputs that it is nearly
an isometry, one with few, and one with few whose columns differ in length. Beside i-SpaSP stands the choice
of the largest activations, without any iteration.

    python -m examples.ispasp_decay --out docs/studies/ispasp_decay
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coresets._files import write_atomically
from examples.records import Record, resume
from nn.layers import EdgeLayer
from nn.neurons import ColumnNormalised, RowNorm, SignedSum, UnitScore
from nn.neurons._isometry import certificate
from nn.neurons._second_map import Read
from nn.neurons._support import pursue, ranked
from nn.units.consumers import Consumer

__all__ = ["main"]

POWERS = (0.3, 0.5, 0.7, 0.9)
KEPT = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
FITTED = (2, 30)  # the slope is fitted to these numbers of units: the sum is cut off at 400 units
_UNITS, _EXAMPLES, _ITERATIONS = 400, 32, 20

# Number of outputs, and the spread of the logarithms of the columns' lengths.
MAPS: Mapping[str, tuple[int, float]] = {
    "6,000 outputs": (6_000, 0.0),
    "200 outputs": (200, 0.0),
    "200 outputs, columns of unequal length": (200, 1.5),
}
SCORES: Mapping[str, UnitScore] = {
    "i-SpaSP": SignedSum(),
    "i-SpaSP, normalised": ColumnNormalised(SignedSum()),
    "i-SpaSP, norms": RowNorm(),
}


@dataclass(frozen=True, eq=False)
class Problem:
    """A second map and what it is fed.

    Parameters
    ----------
    second : array of shape (outputs, units)
        W.
    hidden : array of shape (units, examples)
        H, non-negative.
    """

    second: np.ndarray
    hidden: np.ndarray

    @classmethod
    def draw(cls, name: str, p: float, seed: int) -> Problem:
        """Random activations with the row sums of a power, behind one of ``MAPS``."""
        rng = np.random.default_rng(seed)
        outputs, spread = MAPS[name]
        second = rng.standard_normal((outputs, _UNITS)) / np.sqrt(outputs)
        second *= np.exp(spread * rng.standard_normal(_UNITS))
        hidden = rng.random((_UNITS, _EXAMPLES))
        sums = rng.permutation(np.arange(1.0, _UNITS + 1.0) ** (-1.0 / p))
        return cls(second, hidden * (sums / hidden.sum(axis=1))[:, None])

    def read(self, score: UnitScore) -> Read:
        """The same as a consumer with its statistics."""
        layer = torch.nn.Linear(_UNITS, len(self.second), bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.second))
        edges, collector = EdgeLayer("second", layer), score.collector()
        collector.update(edges, torch.from_numpy(self.hidden.T.copy()))
        ones = torch.ones((1, len(self.second)), dtype=torch.float64)
        return Read(Consumer(edges, torch.arange(_UNITS), _UNITS), ones, collector)

    def residual(self, kept: np.ndarray) -> float:
        """Frobenius norm of V."""
        return float(np.linalg.norm(self.second[:, ~kept] @ self.hidden[~kept]))


def measure(name: str, p: float, seed: int) -> Iterator[Record]:
    """Residuals of all methods and numbers of units, with certificates where there are any."""
    problem = Problem.draw(name, p, seed)
    found = {method: (score, score.second_map((problem.read(score),))) for method, score in SCORES.items()}
    energy = problem.residual(np.zeros(_UNITS, dtype=bool))
    provable = True
    for kept in KEPT:
        row = {"map": name, "p": p, "seed": seed, "kept": kept}
        for method, (_, second) in found.items():
            supports = pursue(second.sizes, second.importance, kept, _ITERATIONS)
            record = {**row, "method": method, "residual": problem.residual(supports[-1])}
            record["iterations"] = len(supports)
            if method == "i-SpaSP, norms" and name == "6,000 outputs":
                # Nothing is proved for more units where nothing is for fewer.
                evidence = certificate(second, supports, _ITERATIONS)[0] if provable else None
                provable = evidence is not None
                bound = None if evidence is None else evidence.bound
                record["bound"] = None if bound is None else bound * energy
            yield record
        for method, source in (("top sums", "i-SpaSP"), ("top sums, normalised", "i-SpaSP, normalised")):
            top = np.isin(np.arange(_UNITS), ranked(found[source][1].sizes)[:kept])
            yield {**row, "method": method, "residual": problem.residual(top), "iterations": 0}


def slope(records: Sequence[Record], name: str, p: float, method: str) -> float:
    """Least-squares slope of the logarithm of the mean residual."""
    values = _means(records, name, p, method)
    kept = np.array([k for k in values if FITTED[0] <= k <= FITTED[1]])
    return float(np.polyfit(np.log(kept), np.log([values[k] for k in kept]), 1)[0])


def tail_slope(p: float) -> float:
    """The same for the norm of the sizes themselves, beyond the largest ones."""
    kept = np.array([k for k in KEPT if FITTED[0] <= k <= FITTED[1]])
    squares = np.arange(1.0, _UNITS + 1.0) ** (-2.0 / p)
    tails = [0.5 * np.log(squares[k:].sum()) for k in kept]
    return float(np.polyfit(np.log(kept), tails, 1)[0])


def _means(records: Sequence[Record], name: str, p: float, method: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for r in records:
        if (r["map"], r["p"], r["method"]) == (name, p, method):
            found.setdefault(r["kept"], []).append(r["residual"])
    return {kept: float(np.exp(np.mean(np.log(values)))) for kept, values in sorted(found.items())}


def _certified(records: Sequence[Record], p: float) -> dict[int, tuple[float, float]]:
    """Largest ratio of bound to residual, and mean bound, where all seeds have one."""
    found: dict[int, list[tuple[float, float] | None]] = {}
    for r in records:
        if r["p"] == p and "bound" in r:
            ratio = None if r["bound"] is None else (r["bound"], r["residual"])
            found.setdefault(r["kept"], []).append(ratio)
    return {
        kept: (float(np.mean([b for b, _ in pairs])), float(np.mean([b / v for b, v in pairs])))
        for kept, all_pairs in sorted(found.items())
        if len(pairs := [pair for pair in all_pairs if pair is not None]) == len(all_pairs)
    }


def table(records: Sequence[Record]) -> str:
    """Slopes, ratios and certificates, in Markdown."""
    methods = ("i-SpaSP", "i-SpaSP, normalised", "i-SpaSP, norms", "top sums", "top sums, normalised")
    lines = [
        "| second map | p | 1/2 - 1/p | norm of the tail | " + " | ".join(methods) + " |",
        "|---|---|---|---|" + "---|" * len(methods),
    ]
    for name in MAPS:
        for p in POWERS:
            slopes = " | ".join(f"{slope(records, name, p, m):.2f}" for m in methods)
            lines.append(f"| {name} | {p} | {0.5 - 1.0 / p:.2f} | {tail_slope(p):.2f} | {slopes} |")
    lines += [
        "",
        "Residuals with 20 units over those of the largest sums, geometric means over seeds:",
        "",
    ]
    lines += ["| second map | p | " + " | ".join(methods) + " |", "|---|---|" + "---|" * len(methods)]
    for name in MAPS:
        for p in POWERS:
            base = _means(records, name, p, "top sums")[20]
            ratios = " | ".join(f"{_means(records, name, p, m)[20] / base:.2f}" for m in methods)
            lines.append(f"| {name} | {p} | {ratios} |")
    lines += ["", "Certificates of i-SpaSP by norms, 6,000 outputs:", ""]
    lines += [
        "| p | certified up to | bound over residual, 1 unit | at the largest number |",
        "|---|---|---|---|",
    ]
    for p in POWERS:
        found = _certified(records, p)
        last = max(found, default=0)
        if last:
            first = found[min(found)][1]
            lines.append(f"| {p} | {last} units | {first:.1f} | {found[last][1]:.1f} |")
    return "\n".join(lines) + "\n"


def plot(records: Sequence[Record], path: Path) -> None:
    """Residuals against the number of units, one panel a second map."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra "plots"

    figure = Figure(figsize=(13.0, 4.6), layout="constrained")
    axes = figure.subplots(1, len(MAPS), sharey=True)
    colours = dict(zip(POWERS, ("tab:blue", "tab:green", "tab:orange", "tab:red"), strict=False))
    styles = {"i-SpaSP": "-", "top sums": "--", "i-SpaSP, normalised": ":"}
    for axis, name in zip(axes, MAPS, strict=True):
        for p, colour in colours.items():
            for method, style in styles.items():
                values = _means(records, name, p, method)
                label = f"p = {p}" if method == "i-SpaSP" else None
                axis.loglog(list(values), list(values.values()), style, color=colour, label=label)
            start = _means(records, name, p, "top sums")[KEPT[0]]
            line = [start * k ** (0.5 - 1.0 / p) for k in KEPT]
            axis.loglog(KEPT, line, color="0.7", linewidth=0.8, zorder=0)
            if name == "6,000 outputs":
                found = _certified(records, p)
                axis.loglog(
                    list(found), [bound for bound, _ in found.values()], "^", color=colour, markersize=5
                )
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("units kept")
    axes[0].set_ylabel("norm of the residual")
    for style, label in (("-", "i-SpaSP"), ("--", "largest sums"), (":", "i-SpaSP, normalised")):
        axes[1].plot([], [], style, color="black", label=label)
    axes[1].plot([], [], color="0.7", label="slope 1/2 - 1/p")
    axes[1].plot([], [], "^", color="black", label="certificate")
    axes[0].legend(fontsize=8, loc="lower left")
    handles, labels = axes[1].get_legend_handles_labels()
    own = [(h, t) for h, t in zip(handles, labels, strict=True) if not t.startswith("p =")]
    axes[1].legend(*zip(*own, strict=True), fontsize=8, loc="lower left")
    figure.savefig(path, dpi=130)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not there yet, and write records, table and plot."""
    parser = argparse.ArgumentParser(description="decay of the residual of i-SpaSP")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "records.json"
    cells = [{"map": m, "p": p, "seed": s} for s in range(chosen.seeds) for m in MAPS for p in POWERS]
    records = resume(
        path, cells, lambda cell: list(measure(cell["map"], cell["p"], cell["seed"])), label="i-SpaSP"
    )
    text = table(records)
    write_atomically(chosen.out / "table.md", lambda file: file.write(text.encode()))
    plot(records, chosen.out / "decay.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
