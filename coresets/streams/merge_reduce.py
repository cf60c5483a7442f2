"""Merge-and-reduce: a coreset of a stream, kept up to date block by block.

Rows are gathered into blocks, and every block is reduced to a node of level 1. Two nodes of one level
are merged and reduced to one of the next, like the carries of a binary counter, so that there is at
most one node a level: memory is logarithmic in the length of the stream. Only nodes of equal level
are merged; a row passes as few reductions as possible, and their errors add up as the theorem MR says.

Every reduction draws from a generator of its own, which depends on nothing but the seed and the place
of the node in the tree. What is computed where and when makes no difference, and a stream that was
interrupted and resumed ends with the coreset that it would have had.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from coresets._archives import read_archive, write_archive
from coresets._random import Rng
from coresets._validate import check_integer
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError, SolverError
from coresets.reduction import Reducer
from coresets.streams._identity import description, entropy
from coresets.streams._nodes import Arrived, Node, Rows, joined
from coresets.streams._state import State
from coresets.streams.budgets import Budget, KnownLength, TreeLaw
from coresets.streams.reducers import PartReducer, bare, has_additive_error
from coresets.streams.results import Ledger, StreamCoreset
from coresets.weighted_set import WeightedSet, to_host

__all__ = ["MergeReduce"]

_KIND, _FORMAT = "stream", 1  # of the file, and the version of its layout


class MergeReduce:
    """Merge-and-reduce over a stream.

    Parameters
    ----------
    reducer : Reducer
        Reduces blocks and merged nodes; a :class:`PartReducer` is first asked for the part's reducer.
    budget : Budget
        :class:`NodeSize`, :class:`KnownLength` or :class:`UnknownLength`; or a :class:`TreeLaw`, such as
        :class:`~coresets.halving.HalvedNodes`, whose theorem the ledger then states.
    block : int
        Rows of a block, at least 2.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Seed; a generator is asked for one.
    shard : int
        Number of this stream among those that will be merged; their draws differ by it.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    AssumptionError
        If the reducer's errors are relative to something else than the cost itself, and an accuracy is
        to be divided: they do not add up over a tree. If the budget's theorem does not cover the reducer.

    Notes
    -----
    State is held on the host: arrays of other libraries are copied there.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import LeastSquares, SensitivityReducer, WeightedSet
    >>> from coresets.streams import MergeReduce, NodeSize
    >>> rows = np.random.default_rng(0)
    >>> stream = MergeReduce(SensitivityReducer(LeastSquares()), NodeSize(500), block=2000, rng=1)
    >>> for _ in range(30):
    ...     points = rows.standard_normal((1000, 3))
    ...     stream.push(WeightedSet(points, labels=points.sum(axis=1)))
    >>> [(level, points > 300) for level, points, _ in stream.ledger.nodes]  # 15 blocks, in binary
    [(4, True), (3, True), (2, True), (1, True)]
    >>> result = stream.result()
    >>> result.ledger.rows, bool(np.all(np.diff(result.positions) > 0))
    (30000, True)
    """

    def __init__(self, reducer: Reducer, budget: Budget, *, block: int, rng: Rng, shard: int = 0) -> None:
        if isinstance(reducer, type) or not (hasattr(reducer, "reduce") or isinstance(reducer, PartReducer)):
            raise TypeError(
                f"reducer = {reducer!r}; pass a reducer, such as SensitivityReducer(LeastSquares())"
            )
        if isinstance(budget, type) or not isinstance(budget, Budget):
            raise TypeError(f"budget = {budget!r}; pass NodeSize, KnownLength or UnknownLength")
        self._additive = has_additive_error(reducer)
        if self._additive and "accuracy" in budget.of(level=1, reduction=1, shard=0, block=2):
            raise AssumptionError(
                f"errors of {reducer!r} are relative to a larger sum than the cost, so that they do not add "
                "up over a tree of reductions; ask for NodeSize(...), without a promise"
            )
        self._reducer = reducer
        self._budget = budget
        self._law = budget if isinstance(budget, TreeLaw) else None
        self._prepared = reducer if self._law is None else self._law.prepare(reducer)
        self._block = check_integer(block, "block", at_least=2)
        self._shard = check_integer(shard, "shard", at_least=0)
        self._entropy = entropy(rng)
        self._state = State({self._shard})

    @property
    def rows(self) -> int:
        """Rows pushed so far, by all shards; the next one to push after a resumption."""
        return self._state.rows

    @property
    def ledger(self) -> Ledger:
        """What has been spent so far."""
        state = self._state
        nodes = [state.nodes[level] for level in sorted(state.nodes, reverse=True)]
        return Ledger(
            self._accuracy(nodes),
            state.rows,
            math.fsum([node.mass for node in nodes] + [w for rows in state.waiting for w in rows.weights]),
            state.reductions,
            tuple((node.level, node.rows.count, node.accuracy) for node in nodes),
        )

    def _accuracy(self, nodes: Sequence[Node]) -> Accuracy:
        """Of the union of the nodes, by the theorem of the budget, or else by adding up."""
        union = Accuracy.union([node.accuracy for node in nodes])
        if self._law is None or not nodes or union.epsilon == math.inf:
            return union
        return self._law.promise(nodes[0].level, sum(2 ** (node.level - 1) for node in nodes))

    def push(self, data: WeightedSet) -> None:
        """Add rows.

        Blocks are filled in the order of the rows, however these are divided among calls. Of data
        with many rows only those are copied that wait for a block.

        Parameters
        ----------
        data : WeightedSet
            Any number of rows; columns, dtypes, and whether there are labels are those of the first ones.

        Raises
        ------
        TypeError, ValueError
            If the data are no weighted set, do not fit what came before, or are too many for the budget.
        SolverError
            If a reduction kept nothing. Whatever is raised, the stream is as it was before.
        """
        if not isinstance(data, WeightedSet):
            raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
        arrived = Arrived.of(data, self._state.rows)
        layout = arrived.layout
        if self._state.layout is not None:
            self._state.layout.require(layout)
        self._check_length(self._state.rows + arrived.count)
        if self._state.waiting_rows + arrived.count < self._block:  # nothing can fail
            self._state.put(arrived.kept(0, arrived.count))
            self._state.layout, self._state.rows = layout, self._state.rows + arrived.count
            return
        state = self._state.copy()
        state.layout, state.rows = layout, state.rows + arrived.count
        start = 0
        while state.waiting_rows + arrived.count - start >= self._block:
            stop = start + self._block - state.waiting_rows
            self._add_block(state, joined([*state.take(), arrived.cut(start, stop)]))
            start = stop
        if start < arrived.count:
            state.put(arrived.kept(start, arrived.count))
        self._state = state

    def merge(self, other: MergeReduce) -> None:
        """Take over another stream, as if its rows came after those of this one.

        Parameters
        ----------
        other : MergeReduce
            Made with the same reducer, budget, block and seed, and another shard; it is not changed.

        Raises
        ------
        TypeError, ValueError
            If the streams do not belong together, share a shard, so that they share draws, or have more
            rows than the budget knows of.
        SolverError
            If a reduction kept nothing. Whatever is raised, the stream is as it was before.
        """
        if not isinstance(other, MergeReduce):
            raise TypeError(f"other is a {type(other).__name__}; pass another MergeReduce")
        own, others = self._identity(), other._identity()
        if own != others:
            raise ValueError(f"the streams differ, {own} and {others}; make them alike, but for the shard")
        state, theirs = self._state.copy(), other._state
        if state.shards & theirs.shards:
            raise ValueError(
                f"both streams have shard {min(state.shards & theirs.shards)}, so that they draw the same "
                "numbers and their errors add up; give each its own, MergeReduce(..., shard=i)"
            )
        if state.layout is not None and theirs.layout is not None:
            state.layout.require(theirs.layout)
        self._check_length(state.rows + theirs.rows)
        shift = state.rows
        state.layout = state.layout or theirs.layout
        state.shards |= theirs.shards
        state.rows += theirs.rows
        state.reductions += theirs.reductions
        for level in sorted(theirs.nodes):
            self._add(state, theirs.nodes[level].shifted(shift))
        for rows in theirs.waiting:
            state.put(rows.shifted(shift))
        if state.waiting_rows >= self._block:  # each stream had less than a block
            whole = joined(state.take())
            start = self._block
            self._add_block(state, whole.cut(0, start))
            if start < whole.count:
                state.put(whole.cut(start, whole.count).copied())
        self._state = state

    def copy(self) -> MergeReduce:
        """The same stream once more; what is pushed into one does not show in the other.

        Go on with one of them only, or their draws are the same.
        """
        other: MergeReduce = copy(self)
        other._state = self._state.copy()
        return other

    def result(self) -> StreamCoreset:
        """A coreset of all rows so far: the union of the nodes and of the rows that wait for a block.

        Raises
        ------
        ValueError
            If nothing was pushed.
        """
        parts = self._state.parts()
        if not parts:
            raise ValueError("nothing was pushed yet")
        whole = joined(parts).ordered()
        ledger = self.ledger
        return StreamCoreset(whole.data(), whole.positions, ledger.accuracy, ledger)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to an ``.npz`` file, atomically and without pickle.

        A stream that is loaded from it and given the rows from :attr:`rows` on ends with the same coreset,
        bit by bit, whenever the process was interrupted: ``path`` holds the old state or the new one.
        """
        header, arrays = self._state.to_archive()
        header |= {
            "kind": _KIND,
            "format": _FORMAT,
            "identity": self._identity(),
            "shard": self._shard,
            "block": self._block,
            "entropy": self._entropy,
        }
        write_archive(path, header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], reducer: Reducer, budget: Budget) -> MergeReduce:
        """Resume from what :meth:`save` wrote.

        Parameters
        ----------
        path : path-like
            The file. Block, shard and seed are taken from it.
        reducer, budget
            Those that the stream was made with; told apart by their representations.

        Raises
        ------
        ValueError
            If the file holds no stream, or one that was made with something else.
        FileNotFoundError
            If there is no such file.
        """
        header, arrays = read_archive(path, _KIND, version=_FORMAT)
        try:
            stream = cls(reducer, budget, block=header["block"], rng=header["entropy"], shard=header["shard"])
            state = State.from_archive(header, arrays)
            identity = header["identity"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)} holds a damaged stream: {error}") from error
        if stream._identity() != identity:
            raise ValueError(
                f"{os.fspath(path)} was written by a stream with {identity}; this is {stream._identity()}"
            )
        stream._state = state
        return stream

    def _identity(self) -> dict[str, Any]:
        """What two streams must have in common."""
        return {
            "reducer": description(self._reducer),
            "budget": description(self._budget),
            "block": self._block,
            "entropy": self._entropy,
        }

    def _check_length(self, rows: int) -> None:
        if isinstance(self._budget, (KnownLength, TreeLaw)) and rows > self._budget.rows:
            raise ValueError(
                f"{rows:,} rows are pushed, and {self._budget!r} was told of fewer; "
                "use UnknownLength, or give a larger bound"
            )

    def _add_block(self, state: State, block: Rows) -> None:
        """Reduce a full block, and put it in its place."""
        place = (self._shard, state.blocks)
        state.blocks += 1
        if block.mass > 0.0:  # rows without mass cost nothing, whatever the query
            self._add(state, self._reduced(state, block, block.mass, 1, place, Accuracy.exact()))

    def _add(self, state: State, node: Node) -> None:
        """Put a node in its place; two of one level become one of the next."""
        while node.level in state.nodes:
            other = state.nodes.pop(node.level)
            node = self._reduced(
                state,
                joined([other.rows, node.rows]),
                other.mass + node.mass,
                node.level + 1,
                min(other.place, node.place),
                Accuracy.union([other.accuracy, node.accuracy]),
            )
        state.nodes[node.level] = node

    def _reduced(
        self, state: State, rows: Rows, mass: float, level: int, place: tuple[int, int], before: Accuracy
    ) -> Node:
        """The node that a reduction makes of rows with the accuracy ``before``."""
        state.reductions += 1
        state.numbered += 1
        asked = self._budget.of(level=level, reduction=state.numbered, shard=self._shard, block=self._block)
        prepared = self._prepared
        reducer = bare(prepared.for_part(mass) if isinstance(prepared, PartReducer) else prepared)
        # A level and its first block name a reduction: no other one has both.
        seed = np.random.SeedSequence(self._entropy, spawn_key=(level, *place))
        coreset = reducer.reduce(rows.data(), **asked, rng=np.random.default_rng(seed))
        if coreset.indices is None:
            raise TypeError(f"{reducer!r} returns free points; a stream needs rows of its input")
        if coreset.support_size == 0:
            raise SolverError(
                f"the reduction into level {level} kept nothing of {rows.count} rows; ask for more points, "
                "or draw with FixedSize()"
            )
        kept = rows.taken(to_host(coreset.indices), to_host(coreset.weights).astype(np.float64))
        return Node(kept, level, place, mass, self._after(before, coreset.accuracy, level))

    def _after(self, before: Accuracy, spent: Accuracy, level: int) -> Accuracy:
        """Accuracy of a node from that of its input and that of the reduction."""
        if self._law is not None:
            if math.inf in (before.epsilon, spent.epsilon):  # what one reduction withdraws is withdrawn
                return Accuracy(math.inf, self._law.promise(level, 2 ** (level - 1)).delta)
            return self._law.promise(level, 2 ** (level - 1))
        if self._additive and not spent.is_exact:
            spent = Accuracy(math.inf, spent.delta)
        return before.then(spent)
