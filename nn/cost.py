"""What a network costs: parameters, operations, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from coresets._validate import check_integer, check_real
from nn.calibration import Batch, device_of, evaluating, split_batch

__all__ = ["Cost", "cost", "latency"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a network and of one forward pass.

    Parameters
    ----------
    parameters : int
        Numbers that it stores as parameters, each counted once.
    flops : int
        Floating-point operations for one example, a multiplication and an addition counted as two; of
        matrix products, convolutions and attention, as PyTorch counts them.
    """

    parameters: int
    flops: int

    def to_dict(self) -> dict[str, int]:
        """For JSON."""
        return {"parameters": self.parameters, "flops": self.flops}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Cost:
        """From what :meth:`to_dict` wrote."""
        return cls(int(record["parameters"]), int(record["flops"]))


def cost(network: torch.nn.Module, batch: Any) -> Cost:
    """Parameters of a network, and operations for one example.

    Parameters
    ----------
    network : torch.nn.Module
        Run once in evaluation mode, and left as it was.
    batch : Batch, Tensor, (inputs, target) or mapping
        Any examples.

    Examples
    --------
    >>> import torch
    >>> from nn.cost import cost
    >>> cost(torch.nn.Linear(8, 4), torch.zeros(2, 8))  # 2 * 8 * 4 operations, 8 * 4 + 4 parameters
    Cost(parameters=36, flops=64)
    """
    batch = batch if isinstance(batch, Batch) else split_batch(batch)
    counter = FlopCounterMode(display=False)
    with evaluating(network), torch.no_grad(), counter:
        batch.to(device_of(network)).run(network)
    return Cost(
        sum(parameter.numel() for parameter in network.parameters()),
        round(counter.get_total_flops() / batch.size),
    )


def latency(network: torch.nn.Module, batch: Any, *, seconds: float = 1.0, threads: int = 1) -> float:
    """Median time of a forward pass.

    Parameters
    ----------
    network : torch.nn.Module
        Run in evaluation mode and without gradients, and left as it was.
    batch : Batch, Tensor, (inputs, target) or mapping
        What it is run on.
    seconds : float
        How long to measure, positive.
    threads : int
        Threads on a CPU; a single one says most about the network.

    Returns
    -------
    float
        In seconds, after a warm-up; the device is waited for.
    """
    if check_real(seconds, "seconds") <= 0.0:
        raise ValueError(f"seconds = {seconds:g} is not positive")
    check_integer(threads, "threads", at_least=1)
    batch = (batch if isinstance(batch, Batch) else split_batch(batch)).to(device_of(network))
    timer = Timer("batch.run(network)", globals={"batch": batch, "network": network}, num_threads=threads)
    with evaluating(network), torch.no_grad():
        return float(timer.blocked_autorange(min_run_time=seconds).median)
