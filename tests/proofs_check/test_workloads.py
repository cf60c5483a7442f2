from __future__ import annotations

import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coresets.weighted_set import WeightedSet
from proofs_check.workloads import (
    Workload,
    adversarial,
    degenerate,
    from_directory,
    leading,
    real,
    thinned,
    wide,
)

ROUNDING = 1e3 * float(np.finfo(np.float64).eps)  # means over up to 4000 points


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline")
def test_the_real_sets_are_bundled_and_have_the_known_shapes() -> None:
    found = {w.name: (w.n, w.d) for w in real(4000)}
    # 427 x 640 pixels, every 69th
    assert found == {
        "digits": (1797, 8),
        "china pixels": (3961, 3),
        "flower pixels": (3961, 3),
        "breast cancer": (569, 8),
        "diabetes": (442, 8),
        "diabetes, weighted": (442, 8),
        "wine": (178, 8),
        "iris": (150, 4),
    }
    assert all(w.kind == "real" for w in real(500))


def test_real_features_are_centred_and_scaled() -> None:
    for workload in real(500):
        points = workload.data.points
        assert np.abs(points.mean(axis=0)).max() <= ROUNDING
        assert points.std(axis=0) == pytest.approx(np.ones(workload.d), abs=ROUNDING)
        if "weighted" in workload.name:
            assert np.array_equal(workload.data.weights, workload.data.labels)
        else:
            assert np.array_equal(workload.data.weights, np.ones(workload.n))


def test_only_the_regression_set_has_labels() -> None:
    assert [w.name for w in real(500) if w.data.labels is not None] == ["diabetes", "diabetes, weighted"]


def test_the_wide_set_has_32_uncorrelated_columns() -> None:
    workload = wide()
    assert (workload.n, workload.d) == (1797, 32)
    correlation = workload.data.points.T @ workload.data.points / workload.n
    # Eigenvectors of a matrix whose leading 32 eigenvalues span two orders of magnitude
    assert correlation == pytest.approx(np.eye(32), abs=1e2 * ROUNDING)


def test_the_photographs_are_thinned_to_the_limit_and_small_sets_are_not() -> None:
    sizes = {w.name: w.n for w in real(100)}
    assert max(sizes["china pixels"], sizes["flower pixels"]) <= 100
    assert sizes["digits"] == 1797


@pytest.mark.parametrize("make", [adversarial, degenerate, lambda: real(500)])
def test_the_same_sets_come_every_time_under_distinct_names(make: Callable[[], tuple[Workload, ...]]) -> None:
    first, again = make(), make()
    assert len({w.name for w in first}) == len(first)
    for one, other in zip(first, again, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.data.points, other.data.points)
        assert np.array_equal(one.data.weights, other.data.weights)


def test_the_adversarial_sets_have_what_their_names_say() -> None:
    sets = {w.name: w.data for w in adversarial()}
    assert all(w.kind == "adversarial" for w in adversarial())
    assert np.count_nonzero(sets["rare direction"].points[:, 3]) == 1
    assert len(np.unique(sets["duplicated points"].points, axis=0)) == 40
    weights = sets["weights over 12 orders"].weights
    assert weights.max() / weights.min() > 1e11
    lengths = np.linalg.norm(sets["half the mass at the origin"].points, axis=1)
    assert np.mean(lengths < 1e-4) >= 0.5


def test_the_degenerate_sets_have_what_their_names_say() -> None:
    sets = {w.name: w.data for w in degenerate()}
    assert all(w.kind == "degenerate" for w in degenerate())
    assert np.linalg.matrix_rank(sets["collinear points"].points) == 1
    assert sets["6 points in 10 dimensions"].points.shape == (6, 10)
    assert not sets["a column of zeros"].points[:, 2].any()
    assert sets["one point"].n == 1


@pytest.mark.parametrize(
    ("n", "limit", "kept"), [(10, 10, 10), (10, 9, 5), (10, 4, 4), (10, 1, 1), (7, 100, 7)]
)
def test_thinning_takes_every_kth_point_with_its_weight_and_label(n: int, limit: int, kept: int) -> None:
    column = np.arange(n, dtype=float)
    workload = Workload("w", "real", WeightedSet(column[:, None], column + 1.0, column))
    found = thinned(workload, limit).data
    assert found.n == kept <= limit
    assert np.array_equal(found.weights, found.points[:, 0] + 1.0)
    assert np.array_equal(found.labels, found.points[:, 0])
    assert np.unique(np.diff(found.points[:, 0])).size <= 1


def test_leading_keeps_the_first_columns_and_says_so() -> None:
    workload = adversarial()[0]
    cut = leading(workload, 2)
    assert cut.name == "rare direction, first 2"
    assert np.array_equal(cut.data.points, workload.data.points[:, :2])
    assert leading(workload, 4) is workload


TABLE = np.random.default_rng(0).standard_normal((40, 3)) + 5.0


def test_a_directory_of_tables_is_read(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (30, 4, 5)).astype(np.uint8)
    np.savez(tmp_path / "archive.npz", other=np.zeros(3), X=TABLE, y=np.arange(40))
    np.savez(tmp_path / "images.npz", x_train=images, y_train=np.zeros(30))
    np.savez(tmp_path / "unnamed.npz", labels=np.zeros(40), table=TABLE)
    np.save(tmp_path / "plain.npy", TABLE)
    np.savetxt(tmp_path / "sheet.csv", TABLE, delimiter=",", header="a,b,c", comments="")
    (tmp_path / "notes.txt").write_text("passed over")
    found, left_out = from_directory(tmp_path, 1000)
    assert left_out == []
    assert {w.name: (w.kind, w.n, w.d) for w in found} == {
        "archive": ("real", 40, 3),
        "images": ("real", 30, 8),
        "plain": ("real", 40, 3),
        "sheet": ("real", 40, 3),
        "unnamed": ("real", 40, 3),
    }
    expected = (TABLE - TABLE.mean(axis=0)) / TABLE.std(axis=0)
    by_name = {w.name: w.data.points for w in found}
    assert by_name["plain"] == pytest.approx(expected, abs=ROUNDING)
    assert by_name["archive"] == pytest.approx(expected, abs=ROUNDING)
    assert by_name["sheet"] == pytest.approx(expected, abs=ROUNDING)  # savetxt writes 19 digits


def test_named_tables_come_before_others_in_the_stated_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", aaa=np.ones((20, 1)), data=np.ones((20, 2)), x_train=TABLE)
    np.savez(tmp_path / "b.npz", x=TABLE, X=TABLE[:, :2])
    found, _ = from_directory(tmp_path, 1000)
    assert [w.d for w in found] == [3, 2]


def test_a_table_of_text_and_gaps_gives_its_complete_rows_and_numeric_columns(tmp_path: Path) -> None:
    lines = [f"{i},name{i},{i * i}" for i in range(20)]
    lines[7] = "7,name7,"
    (tmp_path / "mixed.csv").write_text("\n".join(["number,name,square", *lines]))
    (workload,), left_out = from_directory(tmp_path, 1000)
    assert (workload.n, workload.d, left_out) == (19, 2, [])


def test_large_tables_are_thinned(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.random.default_rng(0).standard_normal((1000, 2)))
    (workload,), _ = from_directory(tmp_path, 300)
    assert workload.n == 250


def truncated_archive(path: Path) -> None:
    np.savez(path, X=TABLE)
    path.write_bytes(path.read_bytes()[:200])


def damaged_archive(path: Path) -> None:
    np.savez_compressed(path, X=TABLE)
    content = bytearray(path.read_bytes())
    content[100:140] = bytes(40)
    path.write_bytes(bytes(content))


def constant_with_infinity() -> np.ndarray:
    table = TABLE.copy()
    table[3, 1] = np.inf
    return table


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "garbage.npy": lambda path: path.write_bytes(b"no array at all"),
    "garbage.npz": lambda path: path.write_bytes(b"no archive at all"),
    "nothing.npy": lambda path: path.write_bytes(b""),
    "truncated.npz": truncated_archive,
    "damaged.npz": damaged_archive,
    "no_array.npz": lambda path: zipfile.ZipFile(path, "w").close(),
    "objects.npy": lambda path: np.save(path, np.array([{}] * 20, dtype=object), allow_pickle=True),
    "complex.npy": lambda path: np.save(path, TABLE.astype(complex)),
    "vector.npy": lambda path: np.save(path, np.arange(50.0)),
    "infinite.npy": lambda path: np.save(path, constant_with_infinity()),
    "missing.npy": lambda path: np.save(path, np.where(TABLE > 5.0, np.nan, TABLE)),
    "short.npy": lambda path: np.save(path, TABLE[:9]),
    "constant.npy": lambda path: np.save(path, np.ones((30, 2))),
    "ragged.csv": lambda path: path.write_text("a,b\n1,2\n1,2,3\n" * 10),
    "words.csv": lambda path: path.write_text("a,b\n" + "x,y\n" * 20),
    "short.csv": lambda path: path.write_text("a,b\n1,2\n3,4\n"),
    "folder.csv": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_reported_and_the_others_are_read(name: str, tmp_path: Path) -> None:
    UNUSABLE[name](tmp_path / name)
    np.save(tmp_path / "z.npy", TABLE)
    found, left_out = from_directory(tmp_path, 1000)
    assert [w.name for w in found] == ["z"]
    assert len(left_out) == 1
    assert left_out[0].startswith(f"{name}: ")
    assert len(left_out[0]) > len(name) + 10  # with a reason


@pytest.mark.parametrize("name", ["garbage.npy", "garbage.npz", "nothing.npy", "objects.npy"])
def test_no_message_recommends_to_run_code_from_a_file(name: str, tmp_path: Path) -> None:
    UNUSABLE[name](tmp_path / name)
    _, (told,) = from_directory(tmp_path, 1000)
    assert "pickle" not in told


def test_files_that_share_a_stem_keep_their_endings(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TABLE)
    np.savetxt(tmp_path / "a.csv", TABLE, delimiter=",", header="x,y,z")
    np.save(tmp_path / "a.csv.npy", TABLE)  # its stem is another's whole name
    np.save(tmp_path / "b.npy", TABLE)
    found, _ = from_directory(tmp_path, 1000)
    assert sorted(w.name for w in found) == ["a.csv", "a.csv.npy", "a.npy", "b"]


def test_an_empty_directory_gives_nothing(tmp_path: Path) -> None:
    assert from_directory(tmp_path, 10) == ([], [])
