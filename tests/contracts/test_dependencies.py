"""The declared dependencies, the pinned sets and the lower bounds agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(*extras: str) -> list[Requirement]:
    """Requirements of the core and of some extras, without those on the project itself."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [r for r in map(Requirement, lines) if r.name != "coresets"]


def pins(filename: str) -> dict[str, Version]:
    """Pinned versions by normalised name; any line that is not ``name==version`` is an error."""
    lines = (ROOT / filename).read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)", line) for line in entries]
    assert all(matches), [line for line, match in zip(entries, matches, strict=True) if not match]
    return {normalised(m[1]): Version(m[2]) for m in matches if m}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lower_bound(requirement: Requirement) -> Version:
    (bound,) = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
    return bound


@pytest.mark.parametrize("requirement", requirements(*EXTRAS), ids=str)
def test_pinned_set_satisfies_every_requirement(requirement: Requirement):
    pinned = pins("constraints.txt")
    assert normalised(requirement.name) in pinned
    assert requirement.specifier.contains(pinned[normalised(requirement.name)], prereleases=True)


@pytest.mark.parametrize("requirement", requirements("proofs"), ids=str)
def test_lowest_set_pins_the_lower_bounds(requirement: Requirement):
    assert pins("constraints-lowest.txt")[normalised(requirement.name)] == lower_bound(requirement)


@pytest.mark.parametrize("requirement", requirements("test"), ids=str)
def test_lowest_set_pins_the_test_tools(requirement: Requirement):
    pinned = pins("constraints-lowest.txt")
    assert requirement.specifier.contains(pinned[normalised(requirement.name)])
