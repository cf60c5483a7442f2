"""Pruned networks in sparse storage, and how large they really are.

A mask saves neither memory nor time. :func:`to_sparse` replaces linear layers by ones that store
their nonzero weights only, in compressed rows; what it saves is reported by :func:`storage`. Sparse
products pay off at high sparsity and large layers only, and convolutions stay dense: there is no
sparse kernel for them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from coresets._validate import check_probability
from nn.calibration import device_of
from nn.edges.flow import Surrogate
from nn.layers import find_layers
from nn.masks import bake_in

__all__ = ["SparseLinear", "Storage", "live_weights", "storage", "to_sparse"]


_SPARSE_PRODUCTS = (torch.float32, torch.float64)


class SparseLinear(torch.nn.Module):
    """A linear layer that stores its nonzero weights in compressed rows.

    Made by :func:`to_sparse`; for inference, since its weights are buffers.

    Parameters
    ----------
    weight : Tensor of shape (out, in)
        Dense weight; zeros are not stored.
    bias : Tensor of shape (out,) or None
        Bias.
    """

    starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = (int(size) for size in weight.shape)
        rows = _compressed(weight.detach())
        self.register_buffer("starts", rows.crow_indices().to(torch.int32))
        self.register_buffer("columns", rows.col_indices().to(torch.int32))
        self.register_buffer("values", rows.values())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @property
    def weight(self) -> torch.Tensor:
        """The dense weight, formed anew each time: attention reads weights of its layers directly."""
        return self._rows().to_dense()

    def _rows(self) -> torch.Tensor:
        with warnings.catch_warnings():
            # torch says once a process that its sparse interface may change.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            return torch.sparse_csr_tensor(
                self.starts,
                self.columns,
                self.values,
                (self.out_features, self.in_features),
                check_invariants=True,  # indices from a damaged file would read foreign memory
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The linear map, as its dense form computes it up to the order of summation."""
        flat = inputs.reshape(-1, self.in_features)
        outputs = (self._rows() @ flat.T).T
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.reshape(*inputs.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Shape and density."""
        density = self.values.numel() / (self.in_features * self.out_features)
        return f"in_features={self.in_features}, out_features={self.out_features}, density={density:.3g}"


def _compressed(weight: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return weight.to_sparse_csr()


def to_sparse(network: torch.nn.Module, *, density: float = 0.3) -> torch.nn.Module:
    """A copy in which sparse linear layers store their nonzero weights only.

    Parameters
    ----------
    network : torch.nn.Module
        Pruned, masked or not; not changed.
    density : float
        Layers with a larger share of nonzero weights stay dense; compressed rows take twice the memory
        a weight in single precision. So do layers in half precision, for which there is no sparse
        product on all devices, and subclasses of ``Linear`` that compute something else.

    Returns
    -------
    torch.nn.Module
        For inference.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, Magnitude, prune
    >>> from nn.sparse import to_sparse
    >>> pruned = prune(torch.nn.Sequential(torch.nn.Linear(50, 20)), Magnitude(), KeepRatio(0.1)).model
    >>> to_sparse(pruned)
    Sequential(
      (0): SparseLinear(in_features=50, out_features=20, density=0.1)
    )
    """
    density = check_probability(density, "density")
    sparse = copy.deepcopy(network)
    bake_in(sparse)
    if isinstance(sparse, torch.nn.Linear):
        return _sparse_or_same(sparse, density)
    for name, module in list(sparse.named_modules()):
        if isinstance(module, torch.nn.Linear):
            parent, _, own = name.rpartition(".")
            setattr(sparse.get_submodule(parent), own, _sparse_or_same(module, density))
    return sparse


def _sparse_or_same(module: torch.nn.Linear, density: float) -> torch.nn.Module:
    weight = module.weight
    other = type(module).forward is not torch.nn.Linear.forward or weight.dtype not in _SPARSE_PRODUCTS
    if other or int((weight != 0).sum()) > density * weight.numel():
        return module
    return SparseLinear(weight, module.bias).train(module.training)


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of a network's parameters and buffers.

    Parameters
    ----------
    dense : int
        As they are, zeros included.
    sparse : int
        After :func:`to_sparse`.
    """

    dense: int
    sparse: int


def storage(network: torch.nn.Module) -> Storage:
    """Memory of a network, dense and in sparse storage.

    Examples
    --------
    >>> import torch
    >>> from nn.sparse import storage
    >>> storage(torch.nn.Linear(10, 10, bias=False)).dense
    400
    """
    baked = copy.deepcopy(network)
    bake_in(baked)
    return Storage(_bytes(baked), _bytes(to_sparse(baked)))


def _bytes(network: torch.nn.Module) -> int:
    tensors: Sequence[Any] = (*network.parameters(), *network.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def live_weights(network: torch.nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Weights on a path of nonzero weights from the input to the output, by layer.

    Parameters
    ----------
    network : torch.nn.Module
        Pruned, masked or not.
    input_shape : tuple of int
        Shape of one example.

    Returns
    -------
    dict of str to int
        Counts; a nonzero weight that is not counted can be dropped without changing any output, biases
        aside.

    Examples
    --------
    >>> import torch
    >>> from nn.sparse import live_weights
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> _ = net[2].weight.data[0, 1].zero_()  # the second hidden neuron leads nowhere
    >>> live_weights(net, (2,))
    {'0': 2, '2': 1}
    """
    baked = copy.deepcopy(network)
    bake_in(baked)
    layers = find_layers(baked)
    with torch.no_grad():
        for layer in layers.values():
            # Only zero or not matters; equal weights that sum to one a row keep the flow in range.
            nonzero = (layer.matrix() != 0).to(layer.weight.dtype)
            equal = nonzero / nonzero.sum(dim=-1, keepdim=True).clamp_min(1.0)
            layer.weight.copy_(layer.like_weight(equal))
    example = torch.ones((1, *input_shape), dtype=torch.float64, device=device_of(baked))
    surrogate = Surrogate(baked, list(layers), example)
    everything = {n: torch.ones_like(layer.weight, dtype=torch.bool) for n, layer in layers.items()}
    flow = surrogate.flow(everything)
    return {name: int((score > 0).sum()) for name, score in flow.scores.items()}
