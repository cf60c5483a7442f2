"""The study runs from one command, goes on where it stopped, and says what is wrong with its data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from examples import edge_pruning
from examples.images import load_images


def run(out: Path, *ratios: str) -> int:
    return edge_pruning.main(
        [
            "--networks",
            "lenet-300-100",
            "--seeds",
            "1",
            "--steps",
            "40",
            "--out",
            str(out),
            "--ratios",
            *ratios,
        ]
    )


@pytest.mark.slow
def test_study_writes_records_table_and_plot_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(tmp_path, "0.3") == 0
    records = json.loads((tmp_path / "records.json").read_text())
    assert {record["method"] for record in records} == set(edge_pruning.STYLES)
    assert {record["kept"] for record in records} == {round(0.3 * (64 * 300 + 300 * 100 + 100 * 10))}
    assert "| best path |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "accuracy-digits.png").stat().st_size > 10_000
    # As if it had been interrupted: what is there stays, bit for bit, and the rest is done again.
    (tmp_path / "records.json").write_text(json.dumps(records[:-1]))
    assert run(tmp_path, "0.3") == 0
    again = json.loads((tmp_path / "records.json").read_text())
    assert again[:-1] == records[:-1]
    assert again[-1]["accuracy"] == records[-1]["accuracy"]
    assert "lenet-300-100" in capsys.readouterr().out


def archive(path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        path,
        x_train=rng.integers(0, 256, (50, *shape), dtype=np.uint8),
        y_train=rng.integers(0, 10, 50),
        x_test=rng.integers(0, 256, (10, *shape), dtype=np.uint8),
        y_test=rng.integers(0, 10, 10),
    )


@pytest.mark.parametrize(("shape", "expected"), [((8, 6), (1, 8, 6)), ((8, 6, 3), (3, 8, 6))])
def test_archive_is_split_into_four_disjoint_parts(tmp_path: Path, shape, expected):
    archive(tmp_path / "set.npz", shape)
    images = load_images("set", tmp_path)
    assert images.shape == expected
    parts = (images.train, images.calibration, images.certification)
    assert [len(x) for x, _ in parts] == [30, 10, 10]
    rows = {image.numpy().tobytes() for x, _ in parts for image in x}
    assert len(rows) == 50
    assert abs(float(images.train[0].mean())) < 1e-5


def test_missing_and_foreign_archives_are_one_line_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("none", "other"):
        arguments = ["--images", name, "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
        assert edge_pruning.main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_the_choice_is_made_on_validation_images_and_its_loss_on_test_images():
    fixed = {"images": "digits", "network": "lenet-300-100", "keep_ratio": 0.1, "original_accuracy": 0.9}
    figures = {"magnitude, global": ((0.5, 0.8), (0.6, 0.8)), "best path": ((0.9, 0.88), (0.5, 0.9))}
    records = [
        {**fixed, "seed": seed, "method": method, "validation": validation, "accuracy": accuracy}
        for method, both in figures.items()
        for seed, (validation, accuracy) in enumerate(both)
    ]
    # Losses of 2 and 10 points: mean 6, deviation 4 sqrt(2), and 12.706 of it over sqrt(2).
    row = "| 10% | best path (1), magnitude, global (1) | 6.00 ± 50.82 | 10.00 ± 0.00 |"
    assert row in edge_pruning.chosen(records)
    assert not edge_pruning.chosen(records[::2])  # one seed has no interval
