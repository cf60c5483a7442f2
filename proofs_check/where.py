"""Where a theorem lives: the file that states it, those that rest on it, and the one that attacks it.

The answer is read off the sources, so that no list of files can be out of date.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import proofs_check.checks
from coresets.guarantee import Guarantee
from proofs_check.check import Check

__all__ = ["Location", "locate"]


@dataclass(frozen=True, slots=True)
class Location:
    """Files about one theorem, relative to the directory that holds the packages.

    Parameters
    ----------
    stated : str
        Where its class is.
    used : tuple of str
        Files whose code names the class; where none does, files that name the key in their text.
    checked : str
        Where its check is.
    """

    stated: str
    used: tuple[str, ...]
    checked: str


def locate(check: Check) -> Location:
    """Find the files about a check's guarantee.

    Parameters
    ----------
    check : Check
        One of :data:`proofs_check.checks.CHECKS`.

    Examples
    --------
    >>> from proofs_check.checks import CHECKS
    >>> place = locate(next(check for check in CHECKS if check.key == "M5"))
    >>> place.stated, "coresets/ellipsoid/add_only.py" in place.used
    ('coresets/guarantees/geometry.py', True)
    """
    guarantee = check.guarantee
    source = inspect.getfile(type(guarantee))
    root = Path(sys.modules[type(guarantee).__module__.partition(".")[0]].__path__[0]).parent
    stated = Path(source).relative_to(root).as_posix()
    return Location(stated, _used(guarantee), _checked_in()[check.key])


def _used(guarantee: Guarantee) -> tuple[str, ...]:
    """Files whose code names the class, or else whose text names the key."""
    name = type(guarantee).__name__
    in_code = tuple(path for path, (names, _) in _sources().items() if name in names)
    if in_code:
        return in_code
    # A key is one word: T4 is not named by T4-P, nor by a longer name that contains it.
    key = re.compile(rf"(?<![\w-]){re.escape(guarantee.key)}(?![\w-])")
    return tuple(path for path, (_, text) in _sources().items() if key.search(text))


@cache
def _sources() -> dict[str, tuple[frozenset[str], str]]:
    """Names in the code, and text, of every file of the engine and of the networks but the theorems' own."""
    return {
        path: (frozenset(_names(ast.parse(text))), text)
        for package in ("coresets", "nn")
        for path, text in _files(package)
        if "/guarantees/" not in path
    }


def _files(package: str) -> Iterator[tuple[str, str]]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0])
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder.parent).as_posix(), path.read_text(encoding="utf-8")


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


@cache
def _checked_in() -> dict[str, str]:
    """File of every check, by key."""
    folder = Path(proofs_check.checks.__path__[0])
    found: dict[str, str] = {}
    for path in sorted(folder.glob("[!_]*.py")):
        module = sys.modules.get(f"proofs_check.checks.{path.stem}")
        if module is None:  # those of networks are not imported where there is no torch
            continue
        for check in getattr(module, "CHECKS", ()):
            found[check.key] = path.relative_to(folder.parent.parent).as_posix()
    return found
