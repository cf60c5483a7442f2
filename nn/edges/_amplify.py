"""Judging several sparsifications of a layer on fresh inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from nn.calibration import reduce_sum
from nn.layers import EdgeLayer

__all__ = ["SideErrorCollector"]


class SideErrorCollector:
    """Means of min(relative error, 1) of every side, for each candidate; a collector.

    Parameters
    ----------
    factors : sequence of arrays of shape (neurons, edges)
        The candidates: what each multiplies the weights with.
    """

    def __init__(self, factors: Sequence[npt.NDArray[np.float64]]) -> None:
        self._factors = [torch.from_numpy(factor) for factor in factors]
        self._errors: torch.Tensor | None = None

    def update(self, layer: EdgeLayer, activations: torch.Tensor) -> None:
        """Add the errors of one batch, those of positive and negative parts of the inputs together."""
        device = activations.device
        weights = layer.matrix().double()
        if self._errors is None:
            shape = (len(self._factors), 2, *layer.shape[:2])
            self._errors = torch.zeros(shape, dtype=torch.float64, device=device)
        for block in layer.inputs(activations.double()):
            for half in (block.clamp_min(0.0), block.neg().clamp_min_(0.0)):
                for sign, own in enumerate((weights.clamp_min(0.0), weights.neg().clamp_min(0.0))):
                    exact = half @ own.transpose(1, 2)
                    for k, factor in enumerate(self._factors):
                        candidate = own * factor.to(device).reshape(own.shape)
                        off = (half @ candidate.transpose(1, 2) - exact).abs_()
                        relative = torch.where(exact > 0.0, off / exact, 0.0).clamp_max_(1.0)
                        self._errors[k, sign] += relative.sum(dim=1)

    def reduce(self) -> None:
        """Combine with other processes."""
        if self._errors is not None:
            reduce_sum(self._errors)

    def best(self) -> npt.NDArray[np.int64]:
        """Which candidate has the smallest error, for every side, of shape (2, neurons)."""
        if self._errors is None:
            raise ValueError("the layer has seen no inputs yet; observe some batches first")
        found: npt.NDArray[np.int64] = self._errors.argmin(dim=0).reshape(2, -1).cpu().numpy()
        return found
