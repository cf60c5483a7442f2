"""Tables are read as they were written, in any blocks; what is damaged or unfit is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.files import Selection, archives, arrow, open_table, write_rows

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")

FORMATS = ["csv", "npz", "parquet"]


def rows(n: int = 500) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a": rng.standard_normal(n),
        "i": rng.integers(-9, 9, n),
        "y": rng.choice(["no", "yes"], n),
        "m": rng.uniform(0.5, 2.0, n),
    }


def write(folder: Path, kind: str, columns: dict[str, Any]) -> Path:
    path = folder / f"data.{kind}"
    if kind == "npz":
        np.savez(path, **columns)
    elif kind == "csv":
        csv.write_csv(pa.table(columns), path)
    else:
        parquet.write_table(pa.table(columns), path, row_group_size=70)
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BLOCK_ROWS", 64)
    monkeypatch.setattr(arrow, "BLOCK_ROWS", 64)
    monkeypatch.setattr(arrow, "_CSV_BYTES", 1024)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.usefixtures("small_blocks")
class TestEveryFormat:
    def test_blocks_are_the_rows_in_order(self, kind: str, tmp_path: Path):
        columns = rows()
        table = open_table(write(tmp_path, kind, columns))
        blocks = list(Selection("y", "m", ("i", "a")).blocks(table))
        assert len(blocks) > 4
        points = np.concatenate([block.points for block in blocks])
        assert np.array_equal(points, np.column_stack([columns["i"], columns["a"]]))
        assert np.array_equal(np.concatenate([block.labels for block in blocks]), columns["y"])
        assert np.array_equal(np.concatenate([block.weights for block in blocks]), columns["m"])

    def test_it_tells_names_numbers_and_rows(self, kind: str, tmp_path: Path):
        table = open_table(write(tmp_path, kind, rows()))
        assert table.names == ("a", "i", "y", "m")
        assert table.numeric == {"a", "i", "m"}
        assert table.rows == (None if kind == "csv" else 500)
        assert Selection("y", "m").points(table) == ("a", "i")

    @pytest.mark.parametrize("out", FORMATS)
    def test_kept_rows_have_all_their_columns_and_weights(self, kind: str, out: str, tmp_path: Path):
        columns = rows()
        table = open_table(write(tmp_path, kind, columns))
        positions = np.array([0, 63, 64, 65, 200, 499])
        weights = np.linspace(1.0, 2.0, 6)
        target = tmp_path / f"kept.{out}"
        write_rows(target, table.take(positions), weights, weight="m")
        kept = open_table(target)
        assert kept.names == ("a", "i", "y", "m")
        (block,) = Selection("y", "m", ("a", "i")).blocks(kept)
        assert np.array_equal(block.points, np.column_stack([columns["a"], columns["i"]])[positions])
        assert np.array_equal(block.labels, columns["y"][positions])
        assert np.array_equal(block.weights, weights)

    def test_what_is_no_number_is_named(self, kind: str, tmp_path: Path):
        table = open_table(write(tmp_path, kind, rows()))
        with pytest.raises(TypeError, match="hold no numbers: 'y'"):
            Selection("a").points(table)

    def test_unknown_and_repeated_columns_are_named(self, kind: str, tmp_path: Path):
        table = open_table(write(tmp_path, kind, rows()))
        with pytest.raises(ValueError, match="no column 'zz'; there are a, i, y, m"):
            Selection("zz").points(table)
        with pytest.raises(ValueError, match="named twice"):
            Selection("y", columns=("a", "a")).points(table)
        with pytest.raises(ValueError, match="named twice"):
            Selection("y", columns=("a", "y")).points(table)

    def test_infinite_values_and_negative_masses_are_refused(self, kind: str, tmp_path: Path):
        columns = rows()
        columns["a"][70] = np.inf
        table = open_table(write(tmp_path, kind, columns))
        with pytest.raises(ValueError, match="column 'a' holds inf in row 70, which is not finite"):
            list(Selection("y").blocks(table))
        columns["a"][70], columns["m"][3] = 0.0, -1.0
        table = open_table(write(tmp_path, kind, columns))
        with pytest.raises(ValueError, match="column 'm' is -1 in row 3"):
            list(Selection("y", "m").blocks(table))

    def test_a_file_of_something_else_is_refused(self, kind: str, tmp_path: Path):
        path = tmp_path / f"data.{kind}"
        path.write_bytes(b"\x00\xffnothing" if kind != "csv" else b"")
        with pytest.raises(ValueError, match="data"):
            open_table(path)

    def test_a_file_that_is_cut_short_is_refused(self, kind: str, tmp_path: Path):
        path = write(tmp_path, kind, rows())
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + (b'\n1.0,"' if kind == "csv" else b""))
        with pytest.raises(ValueError, match="data"):
            list(Selection("y").blocks(open_table(path)))

    def test_what_interrupts_the_writing_leaves_the_old_file(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        kept = open_table(write(tmp_path, kind, rows())).take(np.array([1, 2]))
        target = tmp_path / f"kept.{kind}"
        target.write_text("old")

        def interrupted(_file: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_rows(target, kept, np.ones(2))
        assert target.read_text() == "old"
        assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "compressed"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.usefixtures("small_blocks")
def test_matrices_of_an_archive_are_several_columns(compressed: bool, order: Any, tmp_path: Path):
    X = np.asarray(np.random.default_rng(1).standard_normal((200, 3)), order=order)
    big_endian = np.arange(200, dtype=">i4")
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "data.npz", X=X, z=big_endian, y=np.arange(200) % 2, names=np.array(["a", "b", "c"]))
    with pytest.raises(ValueError, match="differ in length"):
        open_table(tmp_path / "data.npz")
    table = open_table(tmp_path / "data.npz", like="y")
    assert table.names == ("X", "z", "y")
    blocks = list(Selection("y").blocks(table))
    assert np.array_equal(
        np.concatenate([block.points for block in blocks]), np.column_stack([X, big_endian])
    )
    kept = table.take(np.array([5, 150])).to_arrow()
    assert kept.column_names == ["X_0", "X_1", "X_2", "z", "y"]
    assert kept.column("X_2").to_pylist() == X[[5, 150], 2].tolist()


def test_objects_in_an_archive_are_refused_and_not_unpickled(tmp_path: Path):
    np.savez(tmp_path / "data.npz", X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(TypeError, match="X hold Python objects"):
        open_table(tmp_path / "data.npz")


def test_an_array_may_have_any_name(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive, archive.open("file.npy", "w") as member:
        np.lib.format.write_array(member, np.arange(3.0))
    kept = open_table(tmp_path / "data.npz").take(np.array([1]))
    write_rows(tmp_path / "kept.npz", kept, np.ones(1))
    assert open_table(tmp_path / "kept.npz").names == ("file", "weight")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_missing_values_are_named_with_their_row(kind: str, tmp_path: Path):
    path = write(tmp_path, kind, {"a": [1.0, 2.0, None, 4.0], "y": ["u", "v", "u", "v"]})
    with pytest.raises(ValueError, match="column 'a' has a missing value in row 2"):
        list(Selection("y").blocks(open_table(path)))


def test_numbers_that_only_later_have_fractions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrow, "_CSV_BYTES", 64)
    values = [*range(50), 0.5]
    (tmp_path / "data.csv").write_text("a,b\n" + "".join(f"{v},x\n" for v in values))
    table = open_table(tmp_path / "data.csv")
    points = np.concatenate([block.points[:, 0] for block in Selection("b").blocks(table)])
    assert points.tolist() == values
    kept = table.take(np.array([0, 50])).to_arrow()
    assert kept.column("a").to_pylist() == [0.0, 0.5]


def test_text_of_a_csv_file_is_kept_as_it_is(tmp_path: Path):
    (tmp_path / "data.csv").write_text('id,name\n007,"a, b"\n2,NA\n3,\n')
    kept = open_table(tmp_path / "data.csv").take(np.array([0, 1, 2])).to_arrow()
    assert kept.column("name").to_pylist() == ["a, b", "NA", ""]


def test_decimals_dictionaries_and_truth_values_are_read(tmp_path: Path):
    table = pa.table(
        {
            "d": pa.array(["1.5", "2.5"]).cast(pa.decimal128(5, 2)),
            "t": [True, False],
            "y": pa.array(["u", "v"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "data.parquet")
    (block,) = Selection("y").blocks(open_table(tmp_path / "data.parquet"))
    assert block.points.tolist() == [[1.5, 1.0], [2.5, 0.0]]
    assert block.labels.tolist() == ["u", "v"]


def test_formats_are_told_by_the_name_alone(tmp_path: Path):
    with pytest.raises(ValueError, match=r"none of \.csv, \.npz, \.parquet"):
        open_table(tmp_path / "data.xls")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_table(tmp_path / "data.csv")


@settings(max_examples=20)
@given(
    n=st.integers(1, 200),
    block=st.integers(1, 50),
    picks=st.sets(st.integers(0, 199), min_size=1, max_size=20),
)
def test_what_is_taken_does_not_depend_on_the_blocks(
    n: int, block: int, picks: set[int], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("blocks")
    columns = rows(n)
    positions = np.array(sorted({pick % n for pick in picks}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "BLOCK_ROWS", block)
        patch.setattr(arrow, "BLOCK_ROWS", block)
        for kind in FORMATS:
            taken = open_table(write(folder, kind, columns)).take(positions).to_arrays()
            for name, values in columns.items():
                assert np.array_equal(taken[name], values[positions]), (kind, name)
