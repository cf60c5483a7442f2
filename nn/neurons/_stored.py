"""Original outputs that are kept for the fits of several consumers, one after the other.

A consumer of the smaller network is fitted when all before it have been. Running the original network each
time again would cost a pass for every consumer; here one pass leaves the targets of all of them, as long as
they fit into a limit. What the data are is remembered by digests of the batches: where a loader shuffles,
or augments at random, stored targets are of no use, and the caller has to run both networks side by side.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from nn.layers import EdgeLayer
from nn.neurons._moments import Sampling, vectors_of
from nn.neurons._paired import Reached, Slot

__all__ = ["OtherDataError", "Recorded", "Replayed", "StoredTargets", "TargetStore"]


class OtherDataError(Exception):
    """The data are not those of the pass before."""


class TargetStore:
    """Targets of consumers by batch, at most so many bytes; those of the first consumers go first.

    The later a consumer runs, the more of a pass its stored targets save.
    """

    def __init__(self, limit: int) -> None:
        self.order: list[str] = []  # names of the consumers as they ran on the first batch
        self.digests: list[bytes] = []
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._limit, self._bytes = limit, 0

    @property
    def calls(self) -> Counter[str]:
        """How often each consumer runs in one pass, in the order of their last runs."""
        counts = Counter(self.order)
        return Counter({name: counts[name] for name in reversed(dict.fromkeys(reversed(self.order)))})

    def add(self, name: str, targets: torch.Tensor) -> None:
        """Take the targets of one call."""
        if len(self.digests) == 1:
            self.order.append(name)
        elif name in self._parts and not self._parts[name]:
            return  # given up
        self._parts.setdefault(name, []).append(targets)
        self._bytes += targets.nbytes
        for earliest in self.calls:
            if self._bytes <= self._limit:
                break
            self._bytes -= sum(part.nbytes for part in self._parts.get(earliest, ()))
            self._parts[earliest] = []

    def take(self, name: str) -> deque[torch.Tensor] | None:
        """All targets of a consumer, which are then forgotten here; None if they were given up."""
        parts = self._parts.pop(name, [])
        self._bytes -= sum(part.nbytes for part in parts)
        return deque(parts) if parts else None


class StoredTargets:
    """Collects targets of one consumer."""

    def __init__(self, slot: Slot, sampling: Sampling, store: TargetStore) -> None:
        self._slot, self._sampling, self._store, self._seen = slot, sampling, store, 0

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Compute and store those of one call, in the precision of the layer but no less than single."""
        dtype = torch.promote_types(layer.weight.dtype, torch.float32)
        parts = self._sampling.vectors(layer, activations, self._seen)
        self._seen += vectors_of(layer, activations)
        self._store.add(layer.name, torch.cat([self._slot.targets(rows, dtype) for rows in parts], dim=1))

    def reduce(self) -> None:
        """Nothing to combine."""


class Recorded(torch.nn.Module):
    """The original network, which notes what it is given."""

    def __init__(self, network: torch.nn.Module, store: TargetStore) -> None:
        super().__init__()
        self.network, self._store = network, store

    def forward(self, *arguments: Any, **keywords: Any) -> None:
        """Run it."""
        self._store.digests.append(_digest(arguments, keywords))
        self.network(*arguments, **keywords)


class Replayed(torch.nn.Module):
    """The smaller network, run as far as a collector wants it, with stored targets at its hand."""

    def __init__(
        self,
        network: torch.nn.Module,
        digests: list[bytes],
        stored: deque[torch.Tensor],
        calls: int,
    ) -> None:
        super().__init__()
        self.network, self._calls = network, calls
        self._digests, self._stored = deque(digests), stored
        self.targets: deque[torch.Tensor] = deque()  # of the batch at hand

    def forward(self, *arguments: Any, **keywords: Any) -> None:
        """Run it on the same batch as the original.

        Raises
        ------
        OtherDataError
            If it is not the same.
        """
        if not self._digests or self._digests.popleft() != _digest(arguments, keywords):
            raise OtherDataError
        self.targets.extend(self._stored.popleft() for _ in range(self._calls))
        with suppress(Reached):
            self.network(*arguments, **keywords)

    def finished(self) -> bool:
        """Whether all batches have come."""
        return not self._digests


def _digest(*values: Any) -> bytes:
    """Of all tensors in there, and of how anything else is printed."""
    found = hashlib.blake2b(digest_size=16)
    waiting = deque(values)
    while waiting:
        value = waiting.popleft()
        if torch.is_tensor(value):
            flat = value.detach().cpu().contiguous().reshape(-1)
            found.update(repr((value.shape, value.dtype)).encode())
            found.update(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
        elif isinstance(value, Mapping):
            found.update(f"mapping of {len(value)}".encode())
            waiting.extend(part for item in value.items() for part in item)
        elif isinstance(value, (tuple, list)):
            found.update(f"sequence of {len(value)}".encode())
            waiting.extend(value)
        else:
            found.update(repr(value).encode())
    return found.digest()
