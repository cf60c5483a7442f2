"""Reduce a table: in memory if its rows fit into the limit, else by merge-and-reduce over its blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coresets._seeds import seed_words
from coresets.accuracy import Accuracy
from coresets.certificate import Certificate
from coresets.command_line.task import Facts, Label, Settings, Task
from coresets.errors import AssumptionError
from coresets.files import Selection, Table
from coresets.streams import Budget, KnownLength, MergeReduce, NodeSize, UnknownLength
from coresets.weighted_set import Coreset, WeightedSet, to_host

__all__ = ["Outcome", "Request", "read_all", "reduce_table"]

Progress = Callable[[int], None]  # is told how many rows were read

_NODE_FACTOR = 4  # a node of a stream is larger than the result, since errors of all levels add up
_LEAST_BLOCK = 20_000
_BLOCK_SHARE = 8  # of the memory limit, which a block waiting to be reduced may take


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a size or an accuracy, a seed, and how much memory rows may take.

    Parameters
    ----------
    size : int or None
        Rows to keep.
    accuracy : Accuracy or None
        Relative error and failure probability; one of the two is None.
    seed : int
        Of all draws.
    memory : int
        Bytes of coordinates up to which all rows are held at once.
    """

    size: int | None
    accuracy: Accuracy | None
    seed: int
    memory: int

    @property
    def words(self) -> list[int]:
        """Entropy of all draws."""
        return seed_words(self.seed)

    @property
    def keywords(self) -> dict[str, Any]:
        """For a reducer."""
        return {"accuracy": self.accuracy} if self.size is None else {"size": self.size}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a table."""

    positions: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    accuracy: Accuracy
    certificates: tuple[Certificate, ...]
    rows: int
    columns: int
    mass: float
    streamed: bool


def reduce_table(
    table: Table,
    selection: Selection,
    task: Task,
    settings: Settings,
    request: Request,
    progress: Progress,
) -> Outcome:
    """Reduce the rows of a file.

    Raises
    ------
    ValueError, TypeError
        If the file does not hold what the task needs.
    AssumptionError
        If the theorem does not apply.
    """
    blocks = _counted(_labelled(selection.blocks(table), task), progress)
    gathered: list[WeightedSet] = []
    held = 0
    for block in blocks:
        gathered.append(block)
        held += block.points.nbytes
        if held > request.memory:
            return _streamed(table, selection, task, settings, request, (gathered, blocks))
    whole = joined(gathered)
    del gathered
    coreset = task.reducer(settings).reduce(
        whole, **request.keywords, rng=np.random.default_rng(request.words)
    )
    known = _Known(coreset.accuracy, whole.n, whole.d, whole.total_weight, streamed=False)
    return _outcome(coreset, coreset.indices, known)


def read_all(table: Table, selection: Selection, task: Task, memory: int, progress: Progress) -> WeightedSet:
    """All rows of a table.

    Raises
    ------
    ValueError
        If they take more than ``memory`` bytes.
    """
    gathered: list[WeightedSet] = []
    held = 0
    for block in _counted(_labelled(selection.blocks(table), task), progress):
        gathered.append(block)
        held += block.points.nbytes
        if held > memory:
            raise ValueError(
                f"the rows of {table.path} take more than {memory / 2**20:,.0f} MiB, and all are needed at "
                "once; raise --memory"
            )
    return joined(gathered)


def joined(blocks: list[WeightedSet]) -> WeightedSet:
    """All rows of several blocks."""
    if not blocks:
        raise ValueError("the file has no rows")
    labels = [block.labels for block in blocks]
    return WeightedSet(
        np.concatenate([block.points for block in blocks]),
        np.concatenate([block.weights for block in blocks]),
        None if labels[0] is None else np.concatenate(labels),
    )


def _labelled(blocks: Iterator[WeightedSet], task: Task) -> Iterator[WeightedSet]:
    for block in blocks:
        if task.label is Label.TARGET and block.labels is not None and block.labels.dtype.kind not in "biuf":
            raise TypeError(f"--task {task.name} needs numbers as labels, and these are strings")
        yield block


def _counted(blocks: Iterator[WeightedSet], progress: Progress) -> Iterator[WeightedSet]:
    for block in blocks:
        yield block
        progress(block.n)


def _streamed(
    table: Table,
    selection: Selection,
    task: Task,
    settings: Settings,
    request: Request,
    blocks: tuple[list[WeightedSet], Iterator[WeightedSet]],
) -> Outcome:
    """By merge-and-reduce, without reading the first rows again."""
    waiting, rest = blocks
    facts = None
    if task.priced or task.label is Label.CLASSES:
        facts = _facts(table, selection, task)
    reducer = task.stream_reducer(settings, facts)
    row_bytes = waiting[0].points.nbytes // waiting[0].n
    budget, block = _budget(table, request, row_bytes)
    stream = MergeReduce(reducer, budget, block=block, rng=np.random.SeedSequence(request.words))
    while waiting:
        stream.push(waiting.pop(0))
    for arrived in rest:
        stream.push(arrived)
    found = stream.result()
    ledger = found.ledger
    known = _Known(found.accuracy, ledger.rows, found.data.d, ledger.mass, streamed=True)
    if request.size is None or found.data.n <= request.size:
        return _outcome(found.coreset(), found.positions, known)
    # Reductions of the tree draw from children of the seed with keys of three numbers, this one from (0,).
    rng = np.random.default_rng(np.random.SeedSequence(request.words).spawn(1)[0])
    last = task.part(reducer, ledger.mass).reduce(found.data, size=request.size, rng=rng)
    if last.indices is None:
        raise TypeError("the reducer returned free points, which are no rows of the file")
    known = replace(known, accuracy=found.accuracy.then(last.accuracy))
    return _outcome(last, found.positions[to_host(last.indices)], known)


def _budget(table: Table, request: Request, row_bytes: int) -> tuple[Budget, int]:
    """What nodes keep, and rows of a block."""
    if request.size is not None:
        node = _NODE_FACTOR * request.size
        return NodeSize(node), max(2 * node, _LEAST_BLOCK)
    assert request.accuracy is not None  # one of the two is given
    block = max(_LEAST_BLOCK, request.memory // (_BLOCK_SHARE * max(1, row_bytes)))
    if table.rows is None:
        return UnknownLength(request.accuracy), block
    return KnownLength(request.accuracy, table.rows), block


def _facts(table: Table, selection: Selection, task: Task) -> Facts:
    """Total mass and classes, by a pass over two columns."""
    classes = selection.label if task.label is Label.CLASSES else None
    if selection.weight is None and classes is None and table.rows is not None:
        return Facts(float(table.rows))
    column = selection.weight or selection.points(table)[0]
    masses, values = [], set()
    for block in table.blocks((column,), () if classes is None else (classes,)):
        weights = block[column]
        masses.append(float(len(weights) if selection.weight is None else weights.sum()))
        if classes is not None:
            values |= set(np.unique(block[classes]).tolist())
            if len(values) > 2:
                break
    if classes is not None and len(values) != 2:
        shown = ", ".join(map(repr, sorted(values)))
        raise AssumptionError(f"column {classes!r} needs two classes, and holds {shown}")
    return Facts(math.fsum(masses), tuple(sorted(values)))


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of all rows."""

    accuracy: Accuracy
    rows: int
    columns: int
    mass: float
    streamed: bool


def _outcome(coreset: Coreset, positions: Any, known: _Known) -> Outcome:
    if positions is None:
        raise TypeError("the reducer returned free points, which are no rows of the file")
    kept = np.asarray(to_host(positions), dtype=np.int64)
    if kept.size == 0:
        raise ValueError("nothing was kept; ask for a larger size")
    return Outcome(
        positions=kept,
        weights=to_host(coreset.weights).astype(np.float64),
        accuracy=known.accuracy,
        certificates=coreset.certificates,
        rows=known.rows,
        columns=known.columns,
        mass=known.mass,
        streamed=known.streamed,
    )
