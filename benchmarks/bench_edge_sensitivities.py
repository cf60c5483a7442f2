"""Sensitivities of edges against a forward pass of the same network, measured in one run.

    python benchmarks/bench_edge_sensitivities.py --out edge_sensitivities.json

The network is an MLP 784-1024-1024-10 in float32 with a batch of 512 inputs, unless sizes are given. Times
are medians of CPU seconds on one thread; each measurement is taken in turns with the forward pass it is
compared with, so that other jobs on the machine slow down both. They include the forward pass that the
activations come from. Memory is the peak of a fresh process above its peak after imports and a first small
call, over that of weights, activations and sensitivities together.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numba
import torch

from nn.calibration import Calibration, observe
from nn.kernels._cpu import compiled
from nn.kernels._reference import by_examples, by_sparse_product
from nn.kernels.dispatch import Kernel
from nn.layers import find_layers
from nn.sensitivities import SensitivityCollector

KERNELS: dict[str, Kernel] = {
    "compiled": compiled,
    "torch (sparse product)": by_sparse_product,
    "torch (loop over examples)": by_examples,
}

# On Linux ru_maxrss is inherited from the parent, hence the high-water mark of /proc.
_MEMORY_PROBE = """
import pathlib, resource, sys
import torch
from benchmarks.bench_edge_sensitivities import mlp, sensitivities
torch.set_num_threads(1)
status = pathlib.Path("/proc/self/status")
def peak():
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sensitivities(mlp(20), torch.rand(300, 784), signed=True)
before = peak()
width, batch = int(sys.argv[1]), int(sys.argv[2])
net = mlp(width)
x = torch.rand(batch, 784)
found = sensitivities(net, x, signed=True)
weights = sum(4 * p.numel() for p in net.parameters())
own = 2 * weights + 4 * batch * (784 + 2 * width + 10)
print((peak() - before) / own)
"""


def mlp(width: int) -> torch.nn.Sequential:
    """The network of the benchmark."""
    return torch.nn.Sequential(
        torch.nn.Linear(784, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 10),
    )


def sensitivities(
    network: torch.nn.Module, inputs: torch.Tensor, *, signed: bool, kernel: Kernel | None = None
) -> dict[str, torch.Tensor]:
    """Of all layers, forward pass included."""
    layers = find_layers(network)
    collectors = {name: SensitivityCollector(signed=signed, kernel=kernel) for name in layers}
    observe(network, layers, Calibration([inputs]), collectors)
    return {name: collector.sensitivities().values for name, collector in collectors.items()}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def against_forward(
    network: torch.nn.Module, inputs: torch.Tensor, call: Callable[[], Any], repeats: int
) -> Any:
    """Median times of the forward pass and of the call, taken in turns."""

    def forward() -> None:
        with torch.no_grad():
            network(inputs)

    forward()
    call()
    pairs = [(_seconds(forward), _seconds(call)) for _ in range(repeats)]
    return median(p[0] for p in pairs), median(p[1] for p in pairs)


def measure_kernels(width: int, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Every kernel, with sides and without."""
    network, inputs = mlp(width), torch.rand(batch, 784)
    records = []
    for name, kernel in KERNELS.items():
        for signed in (False, True):
            forward, ours = against_forward(
                network,
                inputs,
                lambda k=kernel, s=signed: sensitivities(network, inputs, signed=s, kernel=k),
                repeats,
            )
            records.append(
                {
                    "kernel": name,
                    "signed": signed,
                    "forward_ms": 1e3 * forward,
                    "ms": 1e3 * ours,
                    "over_forward": ours / forward,
                }
            )
    return records


def measure_growth(repeats: int) -> list[dict[str, Any]]:
    """Time for growing batches and widths, signed."""
    records = []
    for width, batch in ((1024, 128), (1024, 512), (1024, 2048), (256, 512), (512, 512), (2048, 512)):
        network, inputs = mlp(width), torch.rand(batch, 784)
        edges = sum(layer.edges for layer in find_layers(network).values())
        forward, ours = against_forward(
            network, inputs, lambda n=network, x=inputs: sensitivities(n, x, signed=True), repeats
        )
        records.append(
            {
                "width": width,
                "batch": batch,
                "edges": edges,
                "ms": 1e3 * ours,
                "ns_per_pair": 1e9 * ours / edges / batch,
                "over_forward": ours / forward,
            }
        )
    return records


def measure_memory(cases: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Peak memory in fresh processes."""
    records = []
    for width, batch in cases:
        command = [sys.executable, "-c", _MEMORY_PROBE, str(width), str(batch)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        records.append({"width": width, "batch": batch, "peak_over_own": float(output)})
    return records


def plot(path: Path, growth: Sequence[dict[str, Any]]) -> None:
    """Draw the time over the batch and over the edges, beside straight lines of slope one."""
    import matplotlib as mpl  # noqa: PLC0415 - optional

    mpl.use("agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, key, fixed, value in ((axes[0], "batch", "width", 1024), (axes[1], "edges", "batch", 512)):
        points = sorted({r[key]: r["ms"] for r in growth if r[fixed] == value}.items())
        last, cost = points[-1]
        axis.loglog(*zip(*points, strict=True), "o-", label="measured")
        axis.loglog([x for x, _ in points], [cost * x / last for x, _ in points], "k:", label="linear")
        axis.set_xlabel(f"{key} ({fixed} {value})")
        axis.set_xticks([x for x, _ in points], [f"{x:,}" for x, _ in points])
        axis.minorticks_off()
    axes[0].set_ylabel("milliseconds, signed, one thread")
    axes[0].legend()
    figure.savefig(path)


def _table(title: str, records: Sequence[dict[str, Any]]) -> str:
    cells = [list(records[0])] + [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in record.values()]
        for record in records
    ]
    widths = [max(len(row[j]) for row in cells) for j in range(len(cells[0]))]
    return "\n".join(
        [title] + ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9, help="timed calls a cell")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, help="draw the growth with batch and edges")
    arguments = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kernels = measure_kernels(arguments.width, arguments.batch, arguments.repeats)
        growth = measure_growth(arguments.repeats)
        memory = measure_memory([(arguments.width, arguments.batch)])
    finally:
        torch.set_num_threads(threads)
    print(_table("Sensitivities over a forward pass, one thread", kernels))
    print(_table("\nGrowth with batch and width, signed", growth))
    print(_table("\nPeak memory over weights, activations and sensitivities", memory))
    if arguments.plot is not None:
        plot(arguments.plot, growth)
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numba": numba.__version__,
            "machine": platform.machine(),
        }
        figures = {"machine": machine, "kernels": kernels, "growth": growth, "memory": memory}
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
