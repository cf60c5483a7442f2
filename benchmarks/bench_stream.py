"""A stream of many rows in bounded memory, beside one pass that only reads them.

    python -m benchmarks.bench_stream --rows 10000000 --out stream.json

Rows are made on the fly, so that no figure hides the memory of the data. Each line runs in a fresh process:
its peak is the high-water mark of that process, imports and compiler included. "Reading" makes the rows and
adds up their columns; "excess" is what the stream takes beyond that, and "growth" the time per row over that
of the line before. Errors are those of the coreset's sum of squares at the worst query.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 20
PIECE = 50_000  # rows that arrive at once

# Run in a fresh process; on Linux ru_maxrss is inherited from the parent, hence the mark of /proc.
_PROBE = """
import json, pathlib, resource, sys, time
import numpy as np
from coresets import LeastSquares, FixedSize, SensitivityReducer, WeightedSet
from coresets.streams import MergeReduce, NodeSize
rows, d, piece, kind = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def make(stream):
    gram, sums = np.zeros((d, d)), np.zeros(d)
    for start in range(0, rows, piece):
        points = np.random.default_rng(start).standard_normal((min(piece, rows - start), d))
        points *= 1.0 + np.arange(d) / d
        sums += points.sum(axis=0)
        if stream is not None:
            stream.push(WeightedSet(points))
        if kind == "error":
            gram += points.T @ points
    return gram
def new():
    reducer = SensitivityReducer(LeastSquares(), FixedSize(), calibration=None)
    return MergeReduce(reducer, NodeSize(5000), block=20_000, rng=0)
warm = new()
warm.push(WeightedSet(np.random.default_rng(1).standard_normal((40_000, d))))
stream = None if kind == "reading" else new()
start = time.process_time()
gram = make(stream)
found = {"seconds": time.process_time() - start, "peak": peak()}
if stream is not None:
    result = stream.result()
    found["kept"] = result.data.n
    found["levels"] = len(result.ledger.nodes)
    if kind == "error":
        kept = (result.data.points * result.data.weights[:, None]).T @ result.data.points
        whitening = np.linalg.inv(np.linalg.cholesky(gram))
        values = np.linalg.eigvalsh(whitening @ kept @ whitening.T)
        found["error"] = float(max(values[-1] - 1.0, 1.0 - values[0]))
print(json.dumps(found))
"""


def _probe(rows: int, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-c", _PROBE, str(rows), str(COLUMNS), str(PIECE), kind]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def measure(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """One record a length of the stream."""
    records: list[dict[str, Any]] = []
    for rows in sizes:
        reading, stream = _probe(rows, "reading"), _probe(rows, "stream")
        per_row = (stream["seconds"] - reading["seconds"]) / rows
        records.append(
            {
                "rows": rows,
                "reading_s": reading["seconds"],
                "stream_s": stream["seconds"],
                "excess": stream["seconds"] / reading["seconds"] - 1.0,
                "rows_per_s": rows / stream["seconds"],
                "growth": per_row / records[-1]["per_row"] if records else 1.0,
                "per_row": per_row,
                "peak_MiB": stream["peak"] / 2**20,
                "reading_MiB": reading["peak"] / 2**20,
                "kept": stream["kept"],
                "levels": stream["levels"],
                "error": _probe(rows, "error")["error"] if rows <= 1_000_000 else float("nan"),
            }
        )
    return records


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    records = measure(arguments.rows)
    print(f"{COLUMNS} columns, blocks of 20,000 rows, nodes of 5,000")
    names = list(records[0])
    print("  ".join(name.rjust(11) for name in names))
    for record in records:
        print("  ".join(f"{record[name]:.4g}".rjust(11) for name in names))
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        content = json.dumps({"machine": machine, "stream": records}, indent=2).replace("NaN", "null")
        arguments.out.write_text(content + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
