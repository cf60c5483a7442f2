"""Networks that are one module after the other, run a piece at a time.

In such a network everything that a layer can depend on is its input, so a pass that goes as far as one layer
may begin where the last pass has ended. In any other network it has to begin with the data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import torch

from nn.calibration import Batch, Calibration
from nn.layers import EdgeLayer
from nn.neurons._paired import PairedInputs, Reached

__all__ = ["Chain", "HeldInputs"]


class Chain(torch.nn.Module):
    """What is left to run of a chain of modules, and the inputs to go on with.

    Parameters
    ----------
    modules : list of torch.nn.Module
        In the order in which they run.
    limit : int
        So many bytes of inputs are held at most.
    """

    def __init__(self, modules: list[torch.nn.Module], limit: int) -> None:
        super().__init__()
        self.rest = torch.nn.ModuleList(modules)
        self._limit, self._bytes = limit, 0
        self._held: deque[torch.Tensor] = deque()
        self._begun = False

    @classmethod
    def of(cls, network: torch.nn.Module, limit: int) -> Chain | None:
        """The chain that a network is, or None.

        Parameters
        ----------
        network : torch.nn.Module
            A chain if it is a ``torch.nn.Sequential`` of anything, also of others of its kind, and neither it
            nor these have hooks.
        limit : int
            See the class.
        """
        return cls(list(_pieces(network)), limit) if _is_sequence(network) else None

    def hold(self, inputs: torch.Tensor) -> None:
        """Keep what the next module is given with one batch, as long as there is room."""
        self._bytes += inputs.nbytes
        if self._bytes <= self._limit:
            self._held.append(inputs)

    def advance(self, layer: EdgeLayer) -> bool:
        """Make ready to go on before a layer, for all batches of a pass; whether that is possible."""
        places = [place for place, module in enumerate(self.rest) if module is layer.module]
        if len(places) != 1 or self._bytes > self._limit:
            return False
        self.rest = self.rest[places[0] :]
        self._begun, self._bytes = True, 0
        return True

    @property
    def begun(self) -> bool:
        """Whether there are inputs to go on with."""
        return self._begun

    def batches(self) -> Calibration:
        """The inputs, each given away once."""
        return Calibration(self._given(), _as_it_is)

    def _given(self) -> Iterator[torch.Tensor]:
        for _ in range(len(self._held)):
            yield self._held.popleft()

    def forward(self, inputs: torch.Tensor) -> None:
        """Run as far as a collector wants it."""
        with suppress(Reached):
            for module in self.rest:
                inputs = module(inputs)


class HeldInputs:
    """Collects moments with targets of a layer that runs once, and leaves its inputs to the chain."""

    def __init__(self, inner: PairedInputs, chain: Chain) -> None:
        self._inner, self._chain = inner, chain

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Take in one batch; the pass ends here, so that nothing changes the inputs afterwards."""
        self._chain.hold(activations)
        self._inner.update(layer, activations)
        raise Reached

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        self._inner.reduce()


def _as_it_is(inputs: torch.Tensor) -> Batch:
    return Batch((inputs,), {})


def _is_sequence(module: torch.nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001 - there is no public way to ask
    return type(module) is torch.nn.Sequential and not hooked


def _pieces(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The modules of a sequence, those of inner sequences one by one."""
    for module in network._modules.values():  # noqa: SLF001 - children() leaves out repetitions
        assert module is not None
        if _is_sequence(module):
            yield from _pieces(module)
        else:
            yield module
