"""Time and memory of choosing units.

    python -m benchmarks.bench_unit_selection [--out results.json]

Time: planning VGG-16-BN with half of its channels, 512 images of 32 by 32 pixels as calibration data, over
one forward pass over these images; CPU seconds of one thread, the pass timed once before and twice after
every method, and the median of a run taken. Weights are random; normalisations have seen one batch. The
whole of ``nn.plan`` counts, tracing and trying included, but not what is imported on its first call.
Memory: the peak of a method's own work above the network, for the two layers of an MLP with 4096 inputs
and 11008 hidden neurons in single precision, over one such layer, in a fresh process. Only methods that
look at no data take part; "whole" is all of ``nn.plan``, which works on copies.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import nn
from examples.networks import vgg16_bn
from examples.unit_methods import METHODS
from nn.neurons import (
    Ball,
    ConvexGeometry,
    FilterNorm,
    GeometricMedian,
    Lewis,
    NormBounded,
    PublishedNormBounded,
    RandomUnits,
    RidgeLewis,
)
from nn.units import UnitDecision, UnitMethod, UnitProblem

IMAGES = 512
WIDTHS = (4096, 11008)
LAYER = 4 * WIDTHS[0] * WIDTHS[1]  # bytes
SECONDS = 60  # of wall time, after which a method's look at the wide layer is broken off

# The dearest last: what has been measured is written after each.
TIMED = (
    "l2 norm",
    "PFP",
    "PFP, randomised",
    "norm bounded",
    "norm bounded, ellipsoid",
    "variance-optimal",
    "Lewis",
    "Loewner and Caratheodory",
    "symmetric support",
    "ridge Lewis",
    "subspace Lewis",
    "l2 norm, refitted",
    "i-SpaSP",
    "greedy",
    "ThiNet",
    "group OLS",
    "top activation",
    "best group path",
    "Fisher",
)

MEASURED: Mapping[str, UnitMethod] = {
    "random": RandomUnits(),
    "l2 norm": FilterNorm(),
    "geometric median": GeometricMedian(),
    "norm bounded, published": PublishedNormBounded(),
    "norm bounded": NormBounded(Ball(1.0)),
    "ridge Lewis": ConvexGeometry(RidgeLewis(), fallback=NormBounded(Ball(1.0))),
    "Lewis": ConvexGeometry(Lewis(), fallback=NormBounded(Ball(1.0))),
}


def calibration() -> list[torch.Tensor]:
    """Images of unit variance."""
    images = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return [images[start : start + 128] for start in range(0, IMAGES, 128)]


def vgg(images: Sequence[torch.Tensor]) -> torch.nn.Module:
    """Random weights; each normalisation has the statistics of one batch."""
    torch.manual_seed(0)
    network = vgg16_bn()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(images[0])
    return network.eval()


def one_pass(network: torch.nn.Module, images: Sequence[torch.Tensor]) -> float:
    """CPU seconds of a forward pass over all images."""
    start = time.process_time()
    with torch.no_grad():
        for batch in images:
            network(batch)
    return time.process_time() - start


def selections(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Time of every method, and of a pass: the median of one just before, and two just after it."""
    images = calibration()
    network = vgg(images)
    one_pass(network, images)
    labelled = [(batch, torch.arange(len(batch)) % 10) for batch in images]
    nn.plan(network, METHODS["l2 norm"], nn.KeepRatio(0.5), calibration=labelled)  # loads what is loaded once
    for name in names:
        before = one_pass(network, images)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.plan(network, METHODS[name], nn.KeepRatio(0.5), calibration=labelled, rng=0)
        seconds = time.process_time() - start
        forward = statistics.median([before, one_pass(network, images), one_pass(network, images)])
        yield {"method": name, "seconds": seconds, "forward": forward}


def memory(key: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since it was reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(key)))


def forget_peak() -> int:
    """Let the peak begin anew, and say where."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory("VmRSS")


@dataclass(frozen=True)
class Watched:
    """A method whose peak is looked at while it chooses; what takes too long is broken off."""

    method: UnitMethod
    found: dict[str, float] = field(default_factory=dict)

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """The method's choice."""
        self.found["before"] = memory("VmHWM")
        start, seconds = forget_peak(), time.process_time()

        def give_up() -> None:
            print(json.dumps({"own": (memory("VmHWM") - start) / LAYER, "given_up": SECONDS}), flush=True)
            os._exit(0)

        clock = threading.Timer(SECONDS, give_up)
        clock.start()
        decision = self.method.choose(problem)
        clock.cancel()
        self.found["seconds"] = time.process_time() - seconds
        self.found["own"] = memory("VmHWM") - start
        return decision


def peak(name: str) -> dict[str, float]:
    """Peak of a method's own work, and of the whole plan, over one layer."""
    torch.manual_seed(0)
    inputs, hidden = WIDTHS
    network = torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, inputs)
    )
    batch = torch.randn(4, inputs)
    nn.plan(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4)),
        MEASURED[name],
        nn.KeepRatio(0.5),
        calibration=[batch[:, :4]],
        rng=0,
    )  # what is loaded when it is first needed is not the method's
    watched = Watched(MEASURED[name])
    start = forget_peak()
    nn.plan(network, watched, nn.KeepRatio(0.5), calibration=[batch], rng=0)
    whole = max(watched.found["before"], memory("VmHWM")) - start
    return {
        "own": watched.found["own"] / LAYER,
        "whole": whole / LAYER,
        "seconds": watched.found["seconds"],
    }


def peaks() -> list[dict[str, Any]]:
    """Each method in a process of its own."""
    runs: list[dict[str, Any]] = []
    for name in MEASURED:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bench_unit_selection", "--peak", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append({"method": name, **json.loads(done.stdout)})
        print(", ".join(f"{key} {value}" for key, value in runs[-1].items()), flush=True)
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; with ``--out``, write JSON as well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--methods", nargs="+", default=TIMED, choices=TIMED, help="those to time")
    parser.add_argument("--skip-memory", action="store_true", help="only time; memory stays as it is")
    parser.add_argument("--skip-time", action="store_true", help="only memory; times stay as they are")
    parser.add_argument("--peak", choices=list(MEASURED), help="only the memory of one method, as JSON")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.peak is not None:
        print(json.dumps(peak(arguments.peak)))
        return 0
    earlier = arguments.out is not None and arguments.out.is_file()
    record: dict[str, Any] = json.loads(arguments.out.read_text()) if earlier else {"memory": [], "time": []}
    record["machine"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    record |= {"images": IMAGES, "layer": WIDTHS}

    def write() -> None:
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(record, indent=2) + "\n")

    if not arguments.skip_memory:
        print("memory, over one layer of 4096 x 11008")
        record["memory"] = peaks()
        write()
    if arguments.skip_time:
        return 0
    print(f"time of a plan for VGG-16-BN, over a forward pass over {IMAGES} images")
    # Rows of other methods stay, over the passes of the run in which they were measured.
    others = [run for run in record["time"] if run["method"] not in arguments.methods]
    timed: list[dict[str, Any]] = []
    for found in selections(arguments.methods):
        timed.append(found)
        forward = statistics.median(run["forward"] for run in timed)
        for run in timed:
            run["passes"] = run["seconds"] / forward
        record["time"] = sorted([*others, *timed], key=lambda run: TIMED.index(run["method"]))
        print("{method:28} {seconds:8.1f} s, {passes:6.1f} passes".format(**found), flush=True)
        write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
