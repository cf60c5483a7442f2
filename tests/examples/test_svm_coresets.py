"""The study of support vector machines: what it writes, where it goes on, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from examples.labelled_sets import BUNDLED, load_labelled, rare_class
from examples.svm_coresets import METHODS, main
from examples.svm_figures import rows_needed


def test_the_study_writes_a_row_a_method_and_size_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    arguments = ["--sets", "breast-cancer", "--sizes", "50", "100", "--out", str(tmp_path)]
    assert main([*arguments, "--repeats", "1"]) == 0
    first = json.loads((tmp_path / "records.json").read_text())
    assert len(first) == 1 + 2 * len(METHODS)
    assert main([*arguments, "--repeats", "2"]) == 0
    records = json.loads((tmp_path / "records.json").read_text())
    assert records[: len(first)] == first
    assert len(records) == 1 + 4 * len(METHODS)
    text = (tmp_path / "table.md").read_text()
    assert all(f"| {method} |" in text for method in METHODS)
    assert (tmp_path / "excess.png").stat().st_size > 10_000


def test_no_model_of_a_sample_is_better_than_the_optimum(tmp_path: Path) -> None:
    main(["--sets", "digits-8", "--sizes", "200", "--repeats", "1", "--out", str(tmp_path)])
    records = json.loads((tmp_path / "records.json").read_text())
    assert min(r["excess"] for r in records if r["size"]) > -1e-5  # the gap to which the optimum is known


def test_an_unknown_set_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sets", "nothing", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_archives_of_zeros_and_ones_stay_sparse_and_others_are_standardised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.choice([-1, 1], 60)
    np.savez(tmp_path / "bits.npz", X=rng.integers(0, 2, (60, 4), dtype=np.uint8), y=y)
    np.savez(tmp_path / "table.npz", X=rng.standard_normal((60, 4)) * 7.0 + 3.0, y=y)
    np.savez(tmp_path / "images.npz", X=np.zeros((60, 2, 2)), y=y)
    assert not isinstance(load_labelled("bits", tmp_path).points, np.ndarray)
    points = load_labelled("table", tmp_path).points
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=60 * np.finfo(float).eps * 10.0)
    np.testing.assert_allclose(points.std(axis=0), 1.0, rtol=60 * np.finfo(float).eps)
    with pytest.raises(ValueError, match="table of rows"):
        load_labelled("images", tmp_path)


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bundled_sets_have_two_classes(name: str) -> None:
    assert min(load_labelled(name, None).class_weights) > 0.0


def test_the_rare_class_is_rare() -> None:
    data = rare_class()
    assert 0.01 < data.class_weights[1] / data.total_weight < 0.04


def test_rows_are_counted_where_the_mean_falls_below_the_target_for_good() -> None:
    assert rows_needed({100: 0.1, 1000: 0.001}) == pytest.approx(10**2.5, rel=1e-12)
    assert rows_needed({100: 0.005, 200: 0.02, 400: 0.005}) == pytest.approx(200 * np.sqrt(2.0), rel=1e-12)
    assert rows_needed({100: 0.1}) == float("inf")
    assert rows_needed({100: 0.001}) == 100.0
