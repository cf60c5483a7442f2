"""Runs the benchmarks and keeps their figures.

    python -m benchmarks                     # all of them, figures in benchmarks/results
    python -m benchmarks leverage --out /tmp # one of them, elsewhere

Every figure is a ratio against a named alternative in the same run. See benchmarks/README.md for what
was learnt from them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks one after the other."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(names)} (default: all)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for the JSON files")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(names))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; known are {', '.join(names)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or names:
        print(f"== {name}")
        module = importlib.import_module(f"benchmarks.bench_{name}")
        module.main(["--out", str(arguments.out / f"{name}.json")])
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
