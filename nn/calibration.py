"""Statistics of activations, streamed once through a network.

A data-driven pruner looks at what every layer is fed. Here batches pass through the network one at
a time, each layer hands its inputs to a collector, and the inputs are forgotten: memory is that of
the collectors, never (batch, out, in). Statistics are maxima and sums, so that several processes
can each see a part of the data and combine theirs (``torch.distributed``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed
from tqdm import tqdm

from nn.layers import EdgeLayer

__all__ = ["Batch", "Calibration", "Collector", "observe", "reduce_max", "reduce_sum", "split_batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch, taken apart.

    Parameters
    ----------
    arguments : tuple
        Positional arguments of the network.
    keywords : mapping of str to object
        Keyword arguments of the network.
    target : object or None
        Labels, if there are any.
    """

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    target: Any = None

    @property
    def size(self) -> int:
        """Number of examples."""
        values = (*self.arguments, *self.keywords.values())
        first = next((v for v in values if torch.is_tensor(v) and v.dim() > 0), None)
        return 1 if first is None else int(first.shape[0])

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(
            tuple(_moved(v, device) for v in self.arguments),
            {key: _moved(v, device) for key, v in self.keywords.items()},
            _moved(self.target, device),
        )

    def run(self, network: torch.nn.Module) -> Any:
        """Output of the network."""
        return network(*self.arguments, **self.keywords)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if torch.is_tensor(value) else value


def split_batch(batch: Any) -> Batch:
    """Take a batch of the usual shapes apart.

    Parameters
    ----------
    batch : Tensor, (inputs,), (inputs, target), or mapping of str to Tensor
        A mapping is passed on by keyword; its entry ``labels`` or ``target`` is the target.

    Raises
    ------
    TypeError
        If it is something else; pass a function of your own to :class:`Calibration`.
    """
    if torch.is_tensor(batch):
        return Batch((batch,), {})
    if isinstance(batch, Mapping):
        keywords = dict(batch)
        target = keywords.pop("labels", keywords.pop("target", None))
        return Batch((), keywords, target)
    if isinstance(batch, (tuple, list)) and 1 <= len(batch) <= 2 and torch.is_tensor(batch[0]):
        return Batch((batch[0],), {}, batch[1] if len(batch) == 2 else None)
    raise TypeError(
        f"a batch is a {type(batch).__name__}; give a tensor, (inputs, target) or a mapping, or pass "
        "Calibration(batches, split=...) a function that takes your batches apart"
    )


@dataclass(frozen=True, eq=False)
class Calibration:
    """Data for a data-driven method.

    Parameters
    ----------
    batches : iterable
        A ``DataLoader``, a list of batches, or anything that can be iterated; methods that need
        several passes need an iterable that starts again each time.
    split : callable
        Takes one batch apart; see :func:`split_batch` for the shapes that it understands.

    Examples
    --------
    >>> import torch
    >>> from nn.calibration import Calibration
    >>> sum(batch.size for batch in Calibration([torch.zeros(8, 3), torch.zeros(4, 3)]))
    12
    """

    batches: Iterable[Any]
    split: Callable[[Any], Batch] = split_batch

    def __post_init__(self) -> None:
        if torch.is_tensor(self.batches) or not isinstance(self.batches, Iterable):
            raise TypeError(
                f"batches is a {type(self.batches).__name__}; pass an iterable of batches, such as a list "
                "with one tensor or a DataLoader"
            )

    @classmethod
    def of(cls, data: Any) -> Calibration:
        """The data as a calibration, which they may already be."""
        return data if isinstance(data, Calibration) else cls(data)

    def __iter__(self) -> Iterator[Batch]:
        empty = True
        for batch in self.batches:
            empty = False
            yield self.split(batch)
        if empty:
            raise ValueError(
                "the calibration data are empty, or an iterator that has been used up; pass a list of "
                "batches or a DataLoader"
            )


class Collector(Protocol):
    """Statistics of what one layer is fed."""

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Take in the inputs of one batch; they must not be kept or changed."""

    def reduce(self) -> None:
        """Combine with the other processes' statistics; called once, at the end."""


def observe(
    network: torch.nn.Module,
    layers: Mapping[str, EdgeLayer],
    calibration: Calibration,
    collectors: Mapping[str, Collector],
) -> int:
    """Run all batches through the network and show every layer's inputs to its collector.

    Parameters
    ----------
    network : torch.nn.Module
        Run in evaluation mode and without gradients; left in the mode that it had.
    layers : mapping of str to EdgeLayer
        Layers of the network.
    calibration : Calibration
        The data, read once.
    collectors : mapping of str to Collector
        By layer name; layers without one are not observed.

    Returns
    -------
    int
        Number of examples, those of other processes included.

    Raises
    ------
    ValueError
        If there are no data, a layer's input has NaN or infinite entries, or a layer was never run.
    """
    seen: set[str] = set()
    examples = 0

    def hook(name: str) -> Callable[..., None]:
        def look(_: torch.nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
            activations = (arguments[0] if arguments else keywords["input"]).detach()
            # A sum is finite only if all terms are, but may overflow; the exact test is five times slower.
            if not (bool(torch.isfinite(activations.sum())) or bool(torch.isfinite(activations).all())):
                raise ValueError(f"the input of layer {name!r} has NaN or infinite entries")
            seen.add(name)
            collectors[name].update(layers[name], activations)

        return look

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(torch.no_grad())
        for name in collectors:
            handle = layers[name].module.register_forward_pre_hook(hook(name), with_kwargs=True)
            stack.callback(handle.remove)
        device = device_of(network)
        for batch in tqdm(
            calibration, desc="calibrating", unit="batch", disable=None, delay=2.0, leave=False
        ):
            batch.to(device).run(network)
            examples += batch.size
    missing = [name for name in collectors if name not in seen]
    if missing:
        raise ValueError(
            f"the network never runs {', '.join(map(repr, missing))} on the calibration data; leave them out "
            "with PerLayer({...: Dense()})"
        )
    for name in collectors:
        collectors[name].reduce()
    return int(reduce_sum(torch.tensor(examples, device=device)))


def device_of(network: torch.nn.Module) -> torch.device:
    """Device of the first parameter or buffer: where inputs go."""
    tensors = (*network.parameters(), *network.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module is then put back into the mode that it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def reduce_max(values: torch.Tensor) -> torch.Tensor:
    """Entrywise maximum over processes; the values themselves where there is one process."""
    return _reduced(values, torch.distributed.ReduceOp.MAX)


def reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum over processes; the values themselves where there is one process."""
    return _reduced(values, torch.distributed.ReduceOp.SUM)


def _reduced(values: torch.Tensor, operation: Any) -> torch.Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values, op=operation)
    return values
