"""Ten thousand random and degenerate point sets: a certified ellipsoid, or a documented error.

    python -m benchmarks robustness
    python benchmarks/bench_robustness.py --examples 1000 --seed 7 --out robustness.json

Each recipe is solved with and without a free centre. A certified result is checked here once more, by the
containment of every point; anything raised that is not documented counts as undocumented, and there must
be none. The figures are shares of outcomes by kind of points, the worst certified gap and containment, and
the slowest call.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coresets.ellipsoid import loewner_ellipsoid
from coresets.errors import SolverError
from proofs_check.point_sets import PointSet, random_point_set

GAP = 1e-6


def outcome(recipe: PointSet, *, symmetric: bool) -> dict[str, Any]:
    """What happens to one set: ``certified``, the name of a documented error, or ``undocumented``."""
    points = recipe.points()
    start = time.process_time()
    record: dict[str, Any] = {"recipe": repr(recipe), "kind": recipe.kind, "modifier": recipe.modifier}
    record["symmetric"] = symmetric
    try:
        found = loewner_ellipsoid(points, symmetric=symmetric, gap=GAP)
    except (SolverError, ValueError) as error:  # an AssumptionError is a ValueError
        record |= {"outcome": type(error).__name__, "message": str(error)}
        certificate = getattr(error, "certificate", None)
        if certificate is not None:
            record["gap"] = certificate.value
    except Exception as error:  # that there is none is the claim
        record |= {"outcome": "undocumented", "message": repr(error)}
    else:
        details = found.certificate.details
        sound = bool(found.certificate.holds and np.all(found.contains(points)))
        record |= {
            "outcome": "certified" if sound else "undocumented",
            "message": "" if sound else "a result without proof, or that misses points",
            "gap": found.certificate.value,
            "containment": details["containment"],
            "containment_error": details["containment_error"],
            "off_hull": details["off_hull"],
        }
    record["seconds"] = time.process_time() - start
    return record


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares and extremes."""
    certified = [record for record in records if record["outcome"] == "certified"]
    slowest = max(records, key=lambda record: record["seconds"])
    by_kind: dict[str, dict[str, int]] = {}
    for key in ("kind", "modifier"):
        for name in sorted({record[key] for record in records}):
            outcomes = Counter(record["outcome"] for record in records if record[key] == name)
            by_kind[f"{key}: {name}"] = dict(outcomes)
    return {
        "calls": len(records),
        "outcomes": dict(Counter(record["outcome"] for record in records)),
        "share_of_errors": 1.0 - len(certified) / len(records),
        "by_kind": by_kind,
        "worst_gap": max((record["gap"] for record in certified), default=None),
        "worst_containment": max((record["containment"] for record in certified), default=None),
        "worst_containment_error": max((record["containment_error"] for record in certified), default=None),
        "worst_off_hull": max((record["off_hull"] for record in certified), default=None),
        "median_seconds": float(np.median([record["seconds"] for record in records])),
        "worst_seconds": slowest["seconds"],
        "slowest": slowest["recipe"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipes, print the summary, and write JSON if asked; fails on an undocumented outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000, metavar="N", help="number of recipes")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of recipes")
    parser.add_argument("--max-points", type=int, default=5000, help="largest number of points")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    rng = np.random.default_rng(arguments.seed)
    records = []
    loewner_ellipsoid(np.eye(3))  # compile
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(arguments.examples):
            recipe = random_point_set(rng, max_points=arguments.max_points)
            records += [outcome(recipe, symmetric=symmetric) for symmetric in (False, True)]
    summary = summarise(records)
    for name, figure in summary.items():
        print(f"{name}: {json.dumps(figure)}")
    errors = [record for record in records if record["outcome"] != "certified"]
    for kind in ("undocumented", "SolverError", "ValueError"):
        examples = [record for record in errors if record["outcome"] == kind][:5]
        for record in examples:
            print(f"{kind}: {record['recipe']} symmetric={record['symmetric']}: {record['message']}")
    if arguments.out is not None:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
        }
        arguments.out.write_text(
            json.dumps({"machine": machine, "summary": summary, "errors": errors[:200]}, indent=2) + "\n"
        )
    return 1 if summary["outcomes"].get("undocumented") else 0


if __name__ == "__main__":
    sys.exit(main())
