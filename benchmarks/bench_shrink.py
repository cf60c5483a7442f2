"""Networks with half of their channels: parameters, operations and time against the whole ones.

    python -m benchmarks.bench_shrink [--out results.json]

Residual networks and VGG-16 for images of 32 by 32 pixels, batch 64, CPU seconds of one thread. Whole and
smaller network take turns, pass by pass, in the same run; a ratio is that of the medians. Both memory
layouts of images are measured. "All" halves every group of channels, the residual streams too; "inner" only
those that a single layer makes. Which channels go does not matter for the time, so filter norms choose them.
Half the channels on both sides of a convolution leave a quarter of its operations.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import nn
from examples.networks import resnet20, vgg16_bn
from examples.topologies import mobilenet_v2, resnet56
from nn.neurons import FilterNorm
from nn.units import find_groups

BATCH = 64
PASSES = 21  # of each network

NETWORKS: Mapping[str, tuple[Callable[[], torch.nn.Module], tuple[str, ...]]] = {
    "ResNet-20": (resnet20, ("all", "inner")),
    "VGG-16-BN": (vgg16_bn, ("all",)),
    "ResNet-56": (resnet56, ("all", "inner")),
    "MobileNetV2, small": (lambda: mobilenet_v2(width=16), ("all",)),
}


def budget(network: torch.nn.Module, batch: torch.Tensor, which: str) -> nn.Budget:
    """Half of every group, or of all that only one layer writes to."""
    if which == "all":
        return nn.KeepRatio(0.5)
    groups = find_groups(network, nn.calibration.split_batch(batch[:2])).groups
    streams = [name for name, group in groups.items() if len(group.producers) > 1]
    return nn.PerLayer({name: nn.Dense() for name in streams}, rest=nn.KeepRatio(0.5))


def passes(
    whole: torch.nn.Module, smaller: torch.nn.Module, batch: torch.Tensor, layout: torch.memory_format
) -> tuple[float, float]:
    """Median CPU seconds of a forward pass of each; the first passes warm up."""
    networks = [copy.deepcopy(network).to(memory_format=layout) for network in (whole, smaller)]
    batch = batch.to(memory_format=layout)
    times: list[list[float]] = [[], []]
    with torch.no_grad():
        for _ in range(PASSES + 2):
            for network, own in zip(networks, times, strict=True):
                start = time.thread_time()
                network(batch)
                own.append(time.thread_time() - start)
    one, other = (statistics.median(own[2:]) for own in times)
    return one, other


def compare(name: str, make: Callable[[], torch.nn.Module], which: str) -> dict[str, Any]:
    """Costs and times of one network before and after."""
    torch.manual_seed(0)
    batch = torch.randn(BATCH, 3, 32, 32)
    whole = make().eval()
    shrunk = nn.prune(whole, FilterNorm(), budget(whole, batch, which), calibration=[batch])
    before, after = shrunk.plan.costs
    found: dict[str, Any] = {
        "network": name,
        "halved": which,
        "parameters": [before.parameters, after.parameters],
        "flops": [before.flops, after.flops],
    }
    for layout, label in ((torch.contiguous_format, "plain"), (torch.channels_last, "channels last")):
        one, other = passes(whole, shrunk.model, batch, layout)
        found[label] = {"milliseconds": [1e3 * one, 1e3 * other], "speed_up": one / other}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; with ``--out``, write JSON as well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    runs = []
    print("network              halved  parameters  operations        plain, ms a batch       channels last")
    for name, (make, kinds) in NETWORKS.items():
        for which in kinds:
            run = compare(name, make, which)
            runs.append(run)
            less = " ".join(f"{run[key][0] / run[key][1]:6.2f} less" for key in ("parameters", "flops"))
            timed = "  ".join(
                "{:7.1f} {:7.1f} {:5.2f}".format(*run[label]["milliseconds"], run[label]["speed_up"])
                for label in ("plain", "channels last")
            )
            print(f"{name:20} {which:6} {less}  {timed}", flush=True)
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        record = {"machine": machine, "batch": BATCH, "runs": runs}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
