"""The machine-readable report.

Strict JSON, hence no NaN and no infinity: an epsilon about which nothing is proved, infinite in
Python, is ``null``. ``schema`` counts incompatible changes of the layout; fields may be added
without one.
"""

from __future__ import annotations

import json
import math
import numbers
from typing import Any

import numpy as np

from proofs_check.results import RunResult

__all__ = ["SCHEMA", "json_text"]

SCHEMA = 1


def _strict(value: Any) -> Any:
    """The value with every number a Python one, and with None for those that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form; pass text and numbers")


def json_text(run: RunResult) -> str:
    """Return the run as a JSON document that ends in a newline.

    Examples
    --------
    >>> from proofs_check.results import RunResult
    >>> json_text(RunResult(profile="quick", seed=0, false_alarm=0.001, checks=())).splitlines()[:3]
    ['{', '  "schema": 1,', '  "profile": "quick",']
    """
    record = {"schema": SCHEMA, **run.to_dict()}
    return json.dumps(_strict(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
