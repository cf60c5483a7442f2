"""Linear models in files: JSON or NPZ with coefficients and an intercept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coresets.svm import LinearModel

__all__ = ["load_model"]

_COEFFICIENTS = ("coef_", "coef", "w")
_INTERCEPTS = ("intercept_", "intercept", "b")


def load_model(path: Path) -> LinearModel:
    """Read a model.

    Parameters
    ----------
    path : path-like
        A ``.json`` file with an object, or an ``.npz`` file with arrays: the coefficients under ``coef_``,
        ``coef`` or ``w``, the intercept (0 if there is none) under ``intercept_``, ``intercept`` or ``b``.

    Raises
    ------
    ValueError
        If the file holds no such model.
    """
    suffix = path.suffix.lower()
    if suffix not in {".json", ".npz"}:
        raise ValueError(f"{path} is neither .json nor .npz; name a model after its format")
    try:
        found: Mapping[str, Any]
        if suffix == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
        else:
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
        names = set(found)
        coefficients = next(found[name] for name in _COEFFICIENTS if name in names)
        intercept = next((found[name] for name in _INTERCEPTS if name in names), 0.0)
        return LinearModel(np.asarray(coefficients, dtype=np.float64), intercept)
    except StopIteration:
        raise ValueError(f"{path} has no coefficients; name them coef or w") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no linear model: {error}") from error
