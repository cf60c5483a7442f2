"""Coresets of data that arrive in blocks, in bounded memory."""

from coresets.streams.budgets import Budget, KnownLength, NodeSize, TreeLaw, UnknownLength
from coresets.streams.merge_reduce import MergeReduce
from coresets.streams.reducers import BareReducer, PartReducer
from coresets.streams.results import Ledger, StreamCoreset

__all__ = [
    "BareReducer",
    "Budget",
    "KnownLength",
    "Ledger",
    "MergeReduce",
    "NodeSize",
    "PartReducer",
    "StreamCoreset",
    "TreeLaw",
    "UnknownLength",
]
