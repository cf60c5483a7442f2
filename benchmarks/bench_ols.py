"""Error paths of LeNet-300-100 against NumPy, and how their time grows with width.

    python benchmarks/bench_ols.py --out ols.json
    python benchmarks/bench_ols.py --mnist data/mnist.npz --out ols.json   # and on real images

The whole path of every neuron of a 784-300-100-10 network, at every number of edges: forward selection from
no edge up, and backward elimination from the full network down, 1,024 calibration inputs. The peer is the
textbook recursion in NumPy, one neuron at a time, with one matrix-vector product a step; it runs on every
tenth neuron of the first layer, and its time is scaled. Times are CPU seconds on one thread, the median of
three runs for ours; ratios are within one run.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from nn.edges._paths import backward_paths, forward_paths
from nn.gram import Gram, collect_grams
from nn.layers import find_layers

WIDTHS = (128, 256, 512, 1024, 2048)
NEURONS = 8  # in each layer of those widths
INPUTS = 1024
STRIDE = 10  # the peer runs on every tenth neuron


def eliminate(matrix: np.ndarray, start: np.ndarray, sign: float) -> np.ndarray:
    """The recursion in NumPy: gains of greedy elimination, largest first (sign 1) or smallest first (-1)."""
    m = len(start)
    c, diagonal = start.copy(), np.diagonal(matrix).copy()
    rows, gains, gone = np.empty((m, m)), np.empty(m), np.zeros(m, dtype=bool)
    for t in range(m):
        rank = np.where(gone, -np.inf, sign * c * c / np.where(gone, 1.0, diagonal))
        j = int(np.argmax(rank))
        gains[t] = sign * rank[j]
        v = matrix[j] - rows[:t, j] @ rows[:t]
        v /= np.sqrt(v[j])
        rows[t] = v
        c -= (c[j] / v[j]) * v
        diagonal -= v * v
        gone[j] = True
    return gains


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Median CPU time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return median(times)


def random_inputs(width: int) -> torch.Tensor:
    """Non-negative inputs that are correlated like those of a hidden layer."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(INPUTS, width)) @ (
        rng.normal(size=(width, width)) * np.arange(1, width + 1) ** -0.5
    )
    return torch.from_numpy(np.maximum(factors, 0.0).astype(np.float32))


def lenet(inputs: torch.Tensor, name: str) -> dict[str, Any]:
    """Whole paths of the three layers, and the peer on the first."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(784, 300), torch.nn.ReLU(), torch.nn.Linear(300, 100), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(100, 10))
    found = find_layers(network)
    start = time.process_time()
    grams = collect_grams(network, found, [inputs])
    moments = time.process_time() - start
    weights = {key: layer.matrix().double().numpy()[0] for key, layer in found.items()}
    masks = {key: np.ones(w.shape, dtype=bool) for key, w in weights.items()}

    def forward() -> None:
        for key, w in weights.items():
            forward_paths(grams[key].matrix[0], w, masks[key], w.shape[1])

    def backward() -> None:
        for key, w in weights.items():
            backward_paths(grams[key].inverse[0], w, masks[key])

    forward_paths(grams["4"].matrix[0], weights["4"], masks["4"], 100)  # compiles
    matrix, first = grams["0"].matrix[0], weights["0"][::STRIDE]
    peers = {
        "forward": seconds(lambda: [eliminate(matrix, matrix @ w, 1.0) for w in first], 1) * STRIDE,
        "backward": seconds(lambda: [eliminate(grams["0"].inverse[0], w, -1.0) for w in first], 1) * STRIDE,
    }
    ours = {"forward": seconds(forward), "backward": seconds(backward)}
    return {
        "inputs": name,
        "live inputs": int((inputs != 0).any(0).sum()),
        "moments_seconds": moments,
        "seconds": ours,
        "numpy_first_layer_seconds": peers,
        "ratio": {key: peers[key] / ours[key] for key in ours},
    }


def at_width(width: int) -> dict[str, Any]:
    """Time a neuron of a layer with so many inputs."""
    gram = Gram.of(random_inputs(width).double().numpy()[None])
    matrix, inverse = gram.matrix[0], gram.inverse[0]
    weights = np.random.default_rng(1).normal(size=(NEURONS, width))
    alive = np.ones(weights.shape, dtype=bool)

    def forward(steps: int) -> float:
        return 1e3 / NEURONS * seconds(lambda: forward_paths(matrix, weights, alive, steps))

    return {
        "edges": width,
        "forward_ms": forward(width),
        "backward_ms": 1e3 / NEURONS * seconds(lambda: backward_paths(inverse, weights, alive)),
        "quarter_ms": forward(width // 4),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; with ``--out``, write JSON as well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--mnist", type=Path, help="an archive with x_train, 28 x 28 images of bytes")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        runs = [lenet(random_inputs(784), "random, correlated")]
        if arguments.mnist is not None:
            with np.load(arguments.mnist, allow_pickle=False) as archive:
                images = archive["x_train"][:INPUTS].reshape(INPUTS, -1) / 255.0
            runs.append(lenet(torch.from_numpy(images.astype(np.float32)), "MNIST"))
        growth = [at_width(width) for width in WIDTHS]
    for run in runs:
        print(f"784-300-100-10, {run['inputs']} ({run['live inputs']} live inputs)")
        for key, ours in run["seconds"].items():
            peer, ratio = run["numpy_first_layer_seconds"][key], run["ratio"][key]
            print(
                f"  whole {key:8} {ours:7.2f} s   NumPy, first layer alone {peer:7.2f} s   ratio {ratio:5.1f}"
            )
    print("edges   forward   backward   a quarter forward   (ms a neuron)")
    for r in growth:
        print(f"{r['edges']:5} {r['forward_ms']:9.2f} {r['backward_ms']:10.2f} {r['quarter_ms']:19.2f}")
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        arguments.out.write_text(
            json.dumps({"machine": machine, "lenet": runs, "widths": growth}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
