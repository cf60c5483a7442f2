"""The decay study runs from one command, goes on where it stopped, and finds the slope of the theorem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from examples import ispasp_decay


def run(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    maps = {"6,000 outputs": (600, 0.0), "200 outputs": (50, 0.0), "unequal": (50, 1.0)}
    monkeypatch.setattr(ispasp_decay, "MAPS", maps)
    monkeypatch.setattr(ispasp_decay, "POWERS", (0.5,))
    assert ispasp_decay.main(["--seeds", "1", "--out", str(out)]) == 0
    found: list[dict[str, object]] = json.loads((out / "records.json").read_text())
    return found


def test_study_writes_records_table_and_plot_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    records = run(tmp_path, monkeypatch)
    assert (tmp_path / "decay.png").stat().st_size > 10_000
    assert "1/2 - 1/p" in (tmp_path / "table.md").read_text()
    assert "| 6,000 outputs | 0.5 | -1.50 |" in capsys.readouterr().out
    half = [record for record in records if record["map"] == "6,000 outputs"]
    (tmp_path / "records.json").write_text(json.dumps(half))
    assert run(tmp_path, monkeypatch) == records
    assert abs(ispasp_decay.slope(records, "6,000 outputs", 0.5, "i-SpaSP") + 1.5) < 0.3
