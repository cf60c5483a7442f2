"""Saved streams: resumed bit by bit, also after the process was killed; files that are no streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coresets import Accuracy, FiniteQueries, FixedSize, LeastSquares, SensitivityReducer, WeightedSet
from coresets.streams import KnownLength, MergeReduce, NodeSize, StreamCoreset
from coresets.weighted_set import Coreset

REDUCER = SensitivityReducer(LeastSquares(), FixedSize())


def stream(shard: int = 0, rng: object = 5) -> MergeReduce:
    return MergeReduce(REDUCER, NodeSize(10), block=25, rng=rng, shard=shard)


def rows(start: int, stop: int) -> WeightedSet:
    """Rows of an endless stream, each with a seed of its own block of ten."""
    parts = [np.random.default_rng(i).standard_normal((10, 2)) for i in range(start // 10, -(-stop // 10))]
    points = np.concatenate(parts)[start % 10 :][: stop - start]
    return WeightedSet(
        points, np.arange(start, stop) % 4 + 0.1, np.array(["no", "yes"])[np.arange(start, stop) % 2]
    )


class Labelled:
    """A reducer that does not mind labels of text."""

    def __repr__(self) -> str:
        return "Labelled()"  # whatever the module is called in another process

    def reduce(self, data: WeightedSet, **asked: object) -> Coreset:
        return REDUCER.reduce(WeightedSet(data.points, data.weights), **asked)  # type: ignore[arg-type]


def labelled(shard: int = 0, rng: object = 5) -> MergeReduce:
    return MergeReduce(Labelled(), NodeSize(10), block=25, rng=rng, shard=shard)


def assert_same(one: StreamCoreset, other: StreamCoreset) -> None:
    for name in ("points", "weights", "labels"):
        assert np.array_equal(getattr(one.data, name), getattr(other.data, name))
    assert np.array_equal(one.positions, other.positions)
    assert one.ledger == other.ledger


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, 330), more=st.integers(1, 330))
def test_a_stream_saved_at_any_moment_and_resumed_gives_the_same_coreset(
    tmp_path: Path, first: int, more: int
) -> None:
    expected = labelled()
    expected.push(rows(0, first + more))
    s = labelled()
    if first:
        s.push(rows(0, first))
    s.save(tmp_path / "stream.npz")
    resumed = MergeReduce.load(tmp_path / "stream.npz", Labelled(), NodeSize(10))
    assert resumed.rows == first
    assert resumed.ledger == s.ledger
    resumed.push(rows(resumed.rows, first + more))
    assert_same(resumed.result(), expected.result())


def test_merged_shards_are_saved_and_the_merge_goes_on(tmp_path: Path) -> None:
    shards = [labelled(i) for i in range(3)]
    for i, shard in enumerate(shards):
        shard.push(rows(110 * i, 110 * i + 110))
    shards[0].merge(shards[1])
    shards[0].save(tmp_path / "stream.npz")
    resumed = MergeReduce.load(tmp_path / "stream.npz", Labelled(), NodeSize(10))
    with pytest.raises(ValueError, match="both streams have shard 1"):
        resumed.merge(shards[1])
    for s in (shards[0], resumed):
        s.merge(shards[2])
        s.push(rows(330, 400))
    assert_same(resumed.result(), shards[0].result())


def test_a_stream_with_a_generator_for_a_seed_is_resumed_too(tmp_path: Path) -> None:
    s = labelled(rng=np.random.default_rng(2))
    s.push(rows(0, 60))
    s.save(tmp_path / "stream.npz")
    resumed = MergeReduce.load(tmp_path / "stream.npz", Labelled(), NodeSize(10))
    for each in (s, resumed):
        each.push(rows(60, 200))
    assert_same(resumed.result(), s.result())


# ---- a process that is killed

_WORKER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from test_saving import Labelled, labelled, rows
    from coresets.streams import MergeReduce, NodeSize

    path, until = Path(sys.argv[1]), int(sys.argv[2])
    stream = MergeReduce.load(path, Labelled(), NodeSize(10)) if path.exists() else labelled()
    print("started", flush=True)
    step = 0
    while stream.rows < until:
        step += 1
        stream.push(rows(stream.rows, min(until, stream.rows + 7)))
        if step % 3 == 0:
            stream.save(path)
    stream.save(path)
    """
)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_is_resumed_from_its_last_checkpoint_and_nothing_is_lost(tmp_path: Path) -> None:
    path, until = tmp_path / "stream.npz", 3000
    rng = np.random.default_rng(0)
    command = [sys.executable, "-c", _WORKER.format(here=str(Path(__file__).parent)), str(path), str(until)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        killed += process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    assert killed >= 1
    expected = labelled()
    expected.push(rows(0, until))
    assert_same(MergeReduce.load(path, Labelled(), NodeSize(10)).result(), expected.result())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s, path = labelled(), tmp_path / "stream.npz"
    s.push(rows(0, 100))
    s.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda *a, **b: (_ for _ in ()).throw(OSError("disk full")))
    s.push(rows(100, 150))
    with pytest.raises(OSError, match="disk full"):
        s.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---- refusals


def test_a_stream_is_not_resumed_with_something_else(tmp_path: Path) -> None:
    path = tmp_path / "stream.npz"
    stream().save(path)
    assert MergeReduce.load(path, REDUCER, NodeSize(10)).rows == 0
    for reducer, budget in (
        (SensitivityReducer(LeastSquares()), NodeSize(10)),
        (REDUCER, NodeSize(11)),
    ):
        with pytest.raises(ValueError, match="was written by a stream with"):
            MergeReduce.load(path, reducer, budget)


def test_reducers_are_told_apart_without_their_addresses(tmp_path: Path) -> None:
    def above(data: WeightedSet, level: float) -> np.ndarray:
        return np.maximum(data.points[:, 0] - level, 0.0)

    def made() -> SensitivityReducer:
        return SensitivityReducer(FiniteQueries(above, [0.0]))

    path = tmp_path / "stream.npz"
    MergeReduce(made(), NodeSize(10), block=20, rng=0).save(path)
    assert MergeReduce.load(path, made(), NodeSize(10)).rows == 0


def test_files_that_hold_no_stream_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MergeReduce.load(tmp_path / "none.npz", REDUCER, NodeSize(10))
    path = tmp_path / "other.npz"
    path.write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match="is not a saved stream"):
        MergeReduce.load(path, REDUCER, NodeSize(10))
    REDUCER.reduce(WeightedSet(np.eye(3)), size=2, rng=0).save(path)
    with pytest.raises(ValueError, match="is not a saved stream"):
        MergeReduce.load(path, REDUCER, NodeSize(10))


def test_a_file_cut_short_or_damaged_is_refused(tmp_path: Path) -> None:
    s, path = labelled(), tmp_path / "stream.npz"
    s.push(rows(0, 130))
    s.save(path)
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 12).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="stream"):
            MergeReduce.load(path, Labelled(), NodeSize(10))
    path.write_bytes(content)
    with np.load(path) as archive:
        arrays = dict(archive)
    missing = {name: array for name, array in arrays.items() if name != "waiting_points"}
    short = arrays | {"node0_weights": arrays["node0_weights"][:-1]}
    for broken in (missing, short):
        np.savez(path, **broken)
        with pytest.raises(ValueError, match="holds a damaged stream"):
            MergeReduce.load(path, Labelled(), NodeSize(10))


def test_a_length_that_was_told_is_kept_in_mind(tmp_path: Path) -> None:
    budget = KnownLength(Accuracy(0.5, 0.1), 100)
    s = MergeReduce(REDUCER, budget, block=25, rng=0)
    s.push(WeightedSet(np.ones((90, 2))))
    s.save(tmp_path / "stream.npz")
    resumed = MergeReduce.load(tmp_path / "stream.npz", REDUCER, budget)
    with pytest.raises(ValueError, match="101 rows are pushed"):
        resumed.push(WeightedSet(np.ones((11, 2))))
