"""Time the samplers against drawing plain uniforms and against ``Generator.choice``.

Each figure is the median of several runs on one thread, compilation excluded, and each ratio is
taken within one run of this script: absolute times depend on the machine, ratios hardly do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from coresets.sampling import (
    poisson_from_probabilities,
    sample_fixed_size,
    sample_hybrid,
    sample_iid,
    sample_poisson,
)

__all__ = ["Row", "main"]


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; ``ratio`` is sampler over peer for costs and peer over sampler for speed-ups."""

    task: str
    size: str
    seconds: float
    peer: str
    peer_seconds: float
    ratio: float
    target: float | None


def _alternate(repeats: int, *tasks: Callable[[], object]) -> list[float]:
    """Median seconds of each task, run in turn so that a busy moment hits all of them."""
    seconds: list[list[float]] = [[] for _ in tasks]
    for task in tasks:
        task()  # compile, and touch the memory
    for _ in range(repeats):
        for task, record in zip(tasks, seconds, strict=True):
            start = time.perf_counter()
            task()
            record.append(time.perf_counter() - start)
    return [median(record) for record in seconds]


def _with_replacement(n: int, repeats: int) -> list[Row]:
    """Draw n / 100 of n with given probabilities; the peer is ``Generator.choice``."""
    rng = np.random.default_rng(0)
    probabilities = rng.pareto(2.0, n)
    probabilities /= probabilities.sum()
    m = n // 100

    def choose() -> object:
        return rng.choice(n, m, p=probabilities)

    ours, choice = _alternate(repeats, lambda: sample_iid(probabilities, m, rng=rng).kept_weights, choose)
    hybrid, again = _alternate(repeats, lambda: sample_hybrid(probabilities, m, rng=rng).kept_weights, choose)
    label = f"{m:.0e} of {n:.0e}"
    # The target is stated for the largest case; a call's fixed cost shows in small ones.
    target = 10.0 if n >= 10**7 else None
    return [
        Row("sample_iid, speed-up", label, ours, "Generator.choice", choice, choice / ours, target),
        Row("sample_hybrid, speed-up", label, hybrid, "Generator.choice", again, again / hybrid, None),
    ]


def _batched(n: int, repeats: int) -> list[Row]:
    """Thin an (n, n) float32 array; the peer draws as many uniforms. Weights are included."""
    rng = np.random.default_rng(0)
    sensitivities = rng.pareto(1.5, (n, n)).astype(np.float32)
    size = n / 8
    probabilities = sample_poisson(sensitivities, size, rng=0).probabilities
    given, solved, fixed, plain = _alternate(
        repeats,
        lambda: poisson_from_probabilities(probabilities, rng=rng).weights,
        lambda: sample_poisson(sensitivities, size, rng=rng).weights,
        lambda: sample_fixed_size(sensitivities, n // 8, rng=rng).weights,
        lambda: rng.random((n, n)),
    )
    label = f"({n}, {n}) float32"
    peer = "Generator.random"
    return [
        Row("poisson, probabilities given, cost", label, given, peer, plain, given / plain, 4.0),
        Row("poisson, level solved, cost", label, solved, peer, plain, solved / plain, 8.0),
        Row("fixed size, level solved, cost", label, fixed, peer, plain, fixed / plain, None),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--repeats", type=int, default=5, help="runs per figure (median)")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    with threadpool_limits(limits=1):
        for n in (10**5, 10**6, 10**7)[: 2 if options.quick else 3]:
            rows += _with_replacement(n, options.repeats)
        for n in (256, 1024, 4096)[: 2 if options.quick else 3]:
            rows += _batched(n, options.repeats)
    print(f"{'task':36} {'size':22} {'ms':>9} {'peer':>18} {'ms':>9} {'ratio':>7} {'target':>7}")
    for row in rows:
        target = "" if row.target is None else f"{row.target:g}"
        print(
            f"{row.task:36} {row.size:22} {row.seconds * 1e3:9.2f} {row.peer:>18} "
            f"{row.peer_seconds * 1e3:9.2f} {row.ratio:7.2f} {target:>7}"
        )
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
