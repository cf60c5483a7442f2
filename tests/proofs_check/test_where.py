"""Every theorem is stated, used and attacked somewhere, and the places are found in the sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs_check.checks import CHECKS
from proofs_check.where import Location, locate

ROOT = Path(__file__).resolve().parents[2]

# About a problem, not about what an algorithm does: a lower bound, and what any training inherits.
OF_THE_PROBLEM = {"S4", "S5"}


@pytest.fixture(scope="module")
def places() -> dict[str, Location]:
    return {check.key: locate(check) for check in CHECKS}


def test_all_files_exist(places: dict[str, Location]) -> None:
    for place in places.values():
        for path in (place.stated, place.checked, *place.used):
            assert (ROOT / path).is_file(), path


def test_every_theorem_is_named_by_the_algorithm_that_rests_on_it(places: dict[str, Location]) -> None:
    assert {key for key, place in places.items() if not place.used} <= OF_THE_PROBLEM


@pytest.mark.parametrize(
    ("key", "stated", "used"),
    [
        ("E1", "coresets/guarantees/finite.py", "coresets/finite_queries.py"),  # by the name of its class
        ("M5", "coresets/guarantees/geometry.py", "coresets/ellipsoid/add_only.py"),  # by its key in the text
    ],
)
def test_known_places_are_found(places: dict[str, Location], key: str, stated: str, used: str) -> None:
    assert places[key].stated == stated
    assert used in places[key].used


def test_a_key_does_not_stand_for_longer_ones(places: dict[str, Location]) -> None:
    assert "nn/neurons/_lewis.py" not in places["E4"].used
