"""The max-times matrix product, R[i, j] = max_x b[x, i] a[x, j].

It is a matrix product with the sum over examples replaced by a maximum. Sensitivities of edges need it: with
a the activations and b the reciprocals of the neurons' sums, w_ij R[i, j] is the largest share that edge j
ever has in neuron i. Cost: one multiplication and one maximum for each of batch * n_out * n_in pairs, memory
n_out * n_in.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch

from nn.kernels._reference import by_examples

__all__ = ["Kernel", "max_product"]

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


def max_product(
    a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None, kernel: Kernel | None = None
) -> torch.Tensor:
    """Largest product over the examples, for every output and input.

    Parameters
    ----------
    a : Tensor of shape (batch, n_in)
        Finite, float32 or float64, with at least one example.
    b : Tensor of shape (batch, n_out)
        Finite, of the same precision and on the same device.
    out : Tensor of shape (n_out, n_in), optional
        A running maximum over earlier batches: contiguous, changed in place and returned.
    kernel : callable, optional
        The implementation; by default the compiled one on the host, Triton's on a CUDA device, and plain
        torch elsewhere. All give the same bits.

    Returns
    -------
    Tensor of shape (n_out, n_in)
        ``R[i, j] = max_x b[x, i] a[x, j]``, laid out like a weight matrix.

    Raises
    ------
    TypeError
        If the arguments are no tensors, or of another or of different precision.
    ValueError
        If shapes or devices do not fit, there is no example, or an entry is NaN or infinite.

    Examples
    --------
    >>> import torch
    >>> from nn.kernels import max_product
    >>> max_product(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0], [0.5]]))
    tensor([[1.5000, 2.0000]])
    """
    _check(a, b)
    shape = (int(b.shape[1]), int(a.shape[1]))
    if out is None:
        out = torch.full(shape, -torch.inf, dtype=a.dtype, device=a.device)
    elif tuple(out.shape) != shape or out.dtype != a.dtype or out.device != a.device:
        raise ValueError(
            f"out is {out.dtype} of shape {tuple(out.shape)} on {out.device}; "
            f"expected {a.dtype} of shape {shape} on {a.device}"
        )
    elif not out.is_contiguous():
        raise ValueError("out is not contiguous; pass out.contiguous() and use what comes back")
    with torch.no_grad():
        if out.numel():
            (kernel or default_kernel(a.device))(a.detach(), b.detach(), out)
    return out


def _check(a: torch.Tensor, b: torch.Tensor) -> None:
    for name, value in (("a", a), ("b", b)):
        if not torch.is_tensor(value):
            raise TypeError(f"{name} is a {type(value).__name__}; pass a tensor of shape (batch, n)")
        if value.dim() != 2 or value.shape[0] == 0:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected (batch, n) with at least one example"
            )
        if value.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} is {value.dtype}; pass float32 or float64")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} has NaN or infinite entries; a maximum over them means nothing")
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"a has {a.shape[0]} examples and b has {b.shape[0]}; they must be the same")
    if a.dtype != b.dtype:
        raise TypeError(f"a is {a.dtype} and b is {b.dtype}; convert one of them")
    if a.device != b.device:
        raise ValueError(f"a is on {a.device} and b on {b.device}; move one of them")


def default_kernel(device: torch.device) -> Kernel:
    """The fastest implementation for a device; imported when asked for, since each has needs of its own."""
    if device.type == "cpu":
        from nn.kernels._cpu import compiled  # noqa: PLC0415

        return compiled
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from nn.kernels._triton import on_device  # noqa: PLC0415

        return on_device
    return by_examples
