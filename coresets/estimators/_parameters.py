"""Fields of frozen values as parameters with names like ``reducer__objective__lam``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

__all__ = ["fields_of", "with_fields"]


def _own(value: Any) -> dict[str, Any]:
    """Fields that the constructor takes; none of anything but a dataclass's instance."""
    if not is_dataclass(value) or isinstance(value, type):
        return {}
    return {field.name: getattr(value, field.name) for field in fields(value) if field.init}


def fields_of(value: Any, prefix: str) -> dict[str, Any]:
    """All fields of a value and of the values in it, by their names."""
    found: dict[str, Any] = {}
    for name, inner in _own(value).items():
        found[f"{prefix}__{name}"] = inner
        found |= fields_of(inner, f"{prefix}__{name}")
    return found


def with_fields(value: Any, changes: Mapping[str, Any], path: str) -> Any:
    """A copy of a value with some fields changed.

    Parameters
    ----------
    value : dataclass
        It is not changed.
    changes : mapping of str to object
        New values, by names such as ``"delta"`` or ``"objective__lam"``.
    path : str
        What the value is called in messages.

    Raises
    ------
    ValueError
        If there is no such field, or the value refuses one.
    """
    known = _own(value)
    direct: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, new in changes.items():
        field, _, rest = name.partition("__")
        if field not in known:
            raise ValueError(
                f"Invalid parameter {field!r} for {path} = {value!r}; valid ones are {sorted(known)}"
            )
        if rest:
            nested.setdefault(field, {})[rest] = new
        else:
            direct[field] = new
    for field, inner in nested.items():
        direct[field] = with_fields(direct.get(field, known[field]), inner, f"{path}__{field}")
    return replace(value, **direct)
