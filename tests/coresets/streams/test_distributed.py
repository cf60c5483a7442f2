"""Merge-and-reduce on Dask: the tree of one process, whatever the scheduling; workers that die; refusals."""

from __future__ import annotations

import builtins
import operator
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coresets import Accuracy, FixedSize, LeastSquares, SensitivityReducer, WeightedSet
from coresets.distributed import from_array, from_dataframe, from_parquet, in_pairs, merge_reduce
from coresets.sensitivity import leverage_scores, lewis_weights
from coresets.streams import KnownLength, MergeReduce, NodeSize, StreamCoreset

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

REDUCER = SensitivityReducer(LeastSquares(), FixedSize())
BUDGET = NodeSize(20)
CHUNKS = (130, 70, 200, 1, 99)

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((500, 3))
WEIGHTS = RNG.exponential(size=500)
LABELS = RNG.integers(0, 2, 500)


def arrays(chunks: tuple[int, ...] = CHUNKS) -> list[Any]:
    return [
        da.from_array(POINTS, chunks=(chunks, (3,))),
        da.from_array(WEIGHTS, chunks=(chunks,)),
        da.from_array(LABELS, chunks=(chunks,)),
    ]


def in_one_process(chunks: tuple[int, ...] = CHUNKS) -> StreamCoreset:
    """The same partitions without Dask."""
    streams = []
    ends = np.cumsum(chunks)
    for number, (stop, length) in enumerate(zip(ends, chunks, strict=True)):
        stream = MergeReduce(REDUCER, BUDGET, block=50, rng=4, shard=number)
        part = slice(stop - length, stop)
        stream.push(WeightedSet(POINTS[part], WEIGHTS[part], LABELS[part]))
        streams.append(stream)

    def merged(one: MergeReduce, other: MergeReduce) -> MergeReduce:
        one.merge(other)
        return one

    return in_pairs(streams, merged).result()


def assert_same(one: StreamCoreset, other: StreamCoreset) -> None:
    for name in ("points", "weights", "labels"):
        assert np.array_equal(getattr(one.data, name), getattr(other.data, name))
    assert np.array_equal(one.positions, other.positions)
    assert one.ledger == other.ledger


def frame(divisions: tuple[int, ...] = CHUNKS) -> Any:
    table = pd.DataFrame(POINTS, columns=["a", "b", "c"]).assign(mass=WEIGHTS, target=LABELS)
    ends = np.cumsum((0, *divisions))
    parts = [table.iloc[i:j] for i, j in pairwise(ends)]
    return dd.from_delayed([dask.delayed(part) for part in parts], meta=table.iloc[:0], verify_meta=False)


def reduced(partitions: list[Any]) -> Any:
    return merge_reduce(partitions, REDUCER, BUDGET, block=50, rng=4)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_arrays_give_the_tree_of_one_process(scheduler: str) -> None:
    assert_same(reduced(from_array(*arrays())).compute(scheduler=scheduler), in_one_process())


def test_a_data_frame_gives_the_tree_of_one_process() -> None:
    partitions = from_dataframe(frame(), weights="mass", labels="target")
    assert_same(reduced(partitions).compute(scheduler="synchronous"), in_one_process())


def test_parquet_files_give_the_tree_of_one_process(tmp_path: Path) -> None:
    paths = []
    for number, part in enumerate(frame().to_delayed()):
        paths.append(tmp_path / f"part{number}.parquet")
        part.compute(scheduler="synchronous").to_parquet(paths[-1])
    partitions = from_parquet(paths, points=["a", "b", "c"], weights="mass", labels="target")
    assert len(partitions) == len(CHUNKS)
    assert_same(reduced(partitions).compute(scheduler="synchronous"), in_one_process())


def test_plain_sets_and_one_partition_do_as_well() -> None:
    data = WeightedSet(POINTS, WEIGHTS, LABELS)
    found = reduced([data]).compute(scheduler="synchronous")
    assert_same(found, in_one_process((500,)))


def test_labels_that_are_no_numbers_become_strings() -> None:
    table = frame()
    table = table.assign(target=table["target"].astype(str))
    partitions = from_dataframe(table, weights="mass", labels="target")
    (data,) = dask.compute(partitions[0], scheduler="synchronous")
    assert data.labels.dtype.kind == "U"
    assert np.array_equal(data.labels.astype(int), LABELS[:130])


def test_tasks_do_not_change_their_inputs() -> None:
    result = reduced(from_array(*arrays()))
    first, second = dask.compute(result, result, scheduler="threads")
    assert_same(first, second)
    assert_same(result.compute(scheduler="synchronous"), first)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "20s", "distributed.admin.tick.limit": "60s"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        processes = client.run(os.getpid)
        assert len(set(processes.values())) == 2
        # Every partition waits a little, so that there is something left to lose.
        partitions = [
            dask.delayed(operator.itemgetter(0))((part, dask.delayed(time.sleep, pure=False)(0.3)))
            for part in from_array(*arrays())
        ]
        future = client.compute(reduced(partitions))
        time.sleep(0.5)
        assert not future.done()
        os.kill(next(iter(processes.values())), signal.SIGKILL)
        assert_same(future.result(timeout=60), in_one_process())


# ---- refusals


def test_chunks_that_cannot_be_used_are_refused_before_anything_is_computed() -> None:
    points, weights, labels = arrays()
    unknown = points[points[:, 0] > 0.0]
    for changed, error, words in (
        ((unknown,), ValueError, "unknown length; call points.compute_chunk_sizes"),
        ((points.rechunk({1: 2}),), ValueError, "split its columns"),
        ((points, weights.rechunk(100)), ValueError, "weights has chunks of"),
        ((points, None, labels.astype(object)), TypeError, "labels holds Python objects"),
        ((points.astype(object),), TypeError, "points holds Python objects"),
        ((weights,), ValueError, r"points has shape \(500,\)"),
        ((POINTS,), TypeError, "points is a ndarray"),
        ((da.from_array(POINTS, chunks=((0, 500), (3,))),), ValueError, "chunk 0 of points is empty"),
    ):
        with pytest.raises(error, match=words):
            from_array(*changed)


def test_an_empty_partition_is_named() -> None:
    partitions = from_dataframe(frame((130, 0, 370)), weights="mass", labels="target")
    with pytest.raises(ValueError, match="partition 1: there are no rows"):
        reduced(partitions).compute(scheduler="synchronous")


def test_bad_values_are_reported_with_their_partition() -> None:
    points = POINTS.copy()
    points[300, 1] = np.nan
    partitions = from_array(da.from_array(points, chunks=(100, 3)))
    with pytest.raises(ValueError, match=r"partition 3: points\[0, 1\] = nan"):
        reduced(partitions).compute(scheduler="synchronous")


def test_columns_that_are_not_there_or_no_numbers_are_named() -> None:
    table = frame()
    with pytest.raises(ValueError, match="there is no column 'd'"):
        from_dataframe(table, points=["a", "d"])
    with pytest.raises(ValueError, match="there is no column 'z'"):
        from_dataframe(table, labels="z")
    with pytest.raises(TypeError, match=r"pass a dask\.dataframe\.DataFrame"):
        from_dataframe(pd.DataFrame({"a": [1.0]}))
    words = from_dataframe(table.assign(b=table["b"].astype(str)), points=["a", "b"])
    with pytest.raises(TypeError, match=r"partition \d: column 'b' has dtype"):
        reduced(words).compute(scheduler="synchronous")
    with pytest.raises(ValueError, match="paths is empty"):
        from_parquet([])


def test_arguments_are_checked_before_the_cluster_sees_them() -> None:
    with pytest.raises(ValueError, match="partitions is empty"):
        merge_reduce([], REDUCER, BUDGET, block=50, rng=0)
    with pytest.raises(ValueError, match="block = 0"):
        merge_reduce([WeightedSet(POINTS)], REDUCER, BUDGET, block=0, rng=0)
    with pytest.raises(TypeError, match="rng"):
        merge_reduce([WeightedSet(POINTS)], REDUCER, BUDGET, block=50, rng=None)


def test_more_rows_than_were_told_are_refused_over_all_partitions() -> None:
    budget = KnownLength(Accuracy(0.5, 0.1), 499)
    coreset = merge_reduce(from_array(*arrays()), REDUCER, budget, block=50, rng=4)
    with pytest.raises(ValueError, match="500 rows are pushed"):
        coreset.compute(scheduler="synchronous")


@pytest.mark.parametrize("function", [leverage_scores, lewis_weights, WeightedSet])
def test_dask_arrays_are_refused_where_they_cannot_be_used(function: Any) -> None:
    with pytest.raises(TypeError, match=r"is a Dask array.*coresets\.distributed"):
        function(arrays()[0])


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__
    import importlib  # noqa: PLC0415

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("dask"):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'coresets\[dask\]'"):
        merge_reduce([WeightedSet(POINTS)], REDUCER, BUDGET, block=50, rng=0)
