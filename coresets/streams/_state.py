"""What a stream remembers: its nodes, the rows that wait for a block, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from coresets.streams._nodes import Layout, Node, Rows, joined

__all__ = ["State"]

_COUNTS = ("rows", "blocks", "reductions", "numbered")


@dataclass
class State:
    """State of a stream.

    Rows and nodes are never changed, so that a copy of the containers is a copy of the state. What can
    fail works on a copy, and a stream is as it was if it does fail.
    """

    shards: set[int]
    layout: Layout | None = None
    nodes: dict[int, Node] = field(default_factory=dict)  # by level
    waiting: list[Rows] = field(default_factory=list)  # in order; less than a block in all
    waiting_rows: int = 0
    rows: int = 0
    blocks: int = 0  # that this shard has filled, and so the number of the next one
    reductions: int = 0  # in all shards
    numbered: int = 0  # in this shard

    def copy(self) -> State:
        """A state that can go its own way."""
        return replace(self, shards=set(self.shards), nodes=dict(self.nodes), waiting=list(self.waiting))

    def put(self, rows: Rows) -> None:
        """Let rows wait."""
        self.waiting.append(rows)
        self.waiting_rows += rows.count

    def take(self) -> list[Rows]:
        """The rows that wait, which do so no longer."""
        taken, self.waiting, self.waiting_rows = self.waiting, [], 0
        return taken

    def parts(self) -> list[Rows]:
        """All that is left of the rows."""
        return [node.rows for node in self.nodes.values()] + self.waiting

    def to_archive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays."""
        levels = sorted(self.nodes)
        header: dict[str, Any] = {
            "shards": sorted(self.shards),
            "layout": None if self.layout is None else asdict(self.layout),
            "nodes": [self.nodes[level].to_dict() for level in levels],
            "waiting": bool(self.waiting),
            **{name: getattr(self, name) for name in _COUNTS},
        }
        arrays: dict[str, np.ndarray] = {}
        for index, level in enumerate(levels):
            arrays |= self.nodes[level].rows.arrays(f"node{index}")
        if self.waiting:
            arrays |= joined(self.waiting).arrays("waiting")
        return header, arrays

    @classmethod
    def from_archive(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> State:
        """From what :meth:`to_archive` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something is missing, or of the wrong kind.
        """
        state = cls({int(shard) for shard in header["shards"]})
        state.layout = None if header["layout"] is None else Layout(**header["layout"])
        for name in _COUNTS:
            setattr(state, name, int(header[name]))
        for index, record in enumerate(header["nodes"]):
            node = Node.from_dict(record, Rows.from_arrays(f"node{index}", arrays))
            state.nodes[node.level] = node
        if header["waiting"]:
            state.put(Rows.from_arrays("waiting", arrays))
        return state
