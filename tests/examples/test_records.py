"""Records of studies: an interrupted run goes on where it stopped, and measures nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.records import read_records, resume

CELLS = [{"name": name, "seed": seed} for name in ("a", "b") for seed in range(3)]


def test_an_interrupted_study_keeps_what_it_had_and_goes_on(tmp_path: Path) -> None:
    path, measured = tmp_path / "records.json", []

    def measure(cell: dict[str, object]) -> list[dict[str, object]]:
        if len(measured) == 4:
            measured.append(None)
            raise KeyboardInterrupt
        measured.append(cell)
        return [{"value": cell["seed"], "part": part} for part in (0, 1)]

    with pytest.raises(KeyboardInterrupt):
        resume(path, CELLS, measure, label="test")
    assert len(read_records(path)) == 8
    records = resume(path, CELLS, measure, label="test")
    assert [cell for cell in measured if cell is not None] == CELLS
    assert records == read_records(path)
    assert records == [{**cell, "value": cell["seed"], "part": part} for cell in CELLS for part in (0, 1)]


def test_a_complete_study_measures_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    resume(path, CELLS, lambda cell: [{}], label="test")
    assert len(resume(path, CELLS, lambda cell: pytest.fail("measured again"), label="test")) == len(CELLS)
