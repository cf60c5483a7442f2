"""The max-times product on a CUDA device. Used only where there is one.

Each program keeps a tile of the result in registers and walks over the examples; an example costs a row
of inputs and a row of factors, both from cache. Tensor cores know no maximum, so that the arithmetic
units' rate of multiplications and maxima is the limit.

The module imports without Triton, which torch brings along for CUDA alone; the kernel then does not exist.
"""

from __future__ import annotations

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # no CUDA build of torch
    triton = None

__all__ = ["on_device"]


def _configurations() -> list[Any]:
    """Tiles to try: outputs, inputs, examples at a time, warps."""
    tiles = (
        (32, 64, 4, 4),
        (64, 64, 4, 4),
        (64, 64, 8, 4),
        (64, 128, 4, 8),
        (64, 128, 8, 8),
        (128, 128, 4, 8),
    )
    return [triton.Config({"OUT": o, "IN": i, "STEP": s}, num_warps=w) for o, i, s, w in tiles]


def _accumulate(  # noqa: PLR0913, PLR0917 - pointers and sizes, as a kernel takes them
    a_ptr: tl.tensor,
    b_ptr: tl.tensor,
    r_ptr: tl.tensor,
    batch: tl.tensor,
    n_out: tl.tensor,
    n_in: tl.tensor,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    STEP: tl.constexpr,
) -> None:
    """R = max(R, max_x b[x, :]^T a[x, :]) on one tile of OUT by IN."""
    # One axis for both: a second one has 65,535 programs at most, too few for four million inputs.
    program, tiles = tl.program_id(0), (n_out + OUT - 1) // OUT
    rows = (program % tiles) * OUT + tl.arange(0, OUT)
    columns = (program // tiles) * IN + tl.arange(0, IN)
    row_ok, column_ok = rows < n_out, columns < n_in
    # In 64 bits: a layer may have more than 2^31 weights.
    places = r_ptr + rows[:, None].to(tl.int64) * n_in + columns[None, :]
    inside = row_ok[:, None] & column_ok[None, :]
    best = tl.load(places, mask=inside, other=0.0)
    whole = batch - batch % STEP
    for x in range(0, whole, STEP):
        for k in tl.static_range(STEP):
            example = tl.cast(x + k, tl.int64)
            factors = tl.load(b_ptr + example * n_out + rows, mask=row_ok, other=0.0)
            inputs = tl.load(a_ptr + example * n_in + columns, mask=column_ok, other=0.0)
            best = tl.maximum(best, factors[:, None] * inputs[None, :])
    for x in range(whole, batch):
        example = tl.cast(x, tl.int64)
        factors = tl.load(b_ptr + example * n_out + rows, mask=row_ok, other=0.0)
        inputs = tl.load(a_ptr + example * n_in + columns, mask=column_ok, other=0.0)
        best = tl.maximum(best, factors[:, None] * inputs[None, :])
    tl.store(places, best, mask=inside)


if triton is not None:
    _tuned: Any = triton.autotune(_configurations(), key=["n_out", "n_in"], restore_value=["r_ptr"])(
        triton.jit(_accumulate)
    )


def on_device(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """Take the running maximum into ``out``.

    Parameters
    ----------
    a : Tensor of shape (batch, n_in)
        Finite float32 or float64 on a CUDA device.
    b : Tensor of shape (batch, n_out)
        On the same device, of the same precision.
    out : Tensor of shape (n_out, n_in)
        Contiguous; changed in place. Without entries, or without examples, it stays as it is.
    """
    batch, n_in = a.shape
    n_out = b.shape[1]
    if not (batch and n_in and n_out):  # a grid of no programs cannot be launched
        return

    def grid(tile: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(n_out, tile["OUT"]) * triton.cdiv(n_in, tile["IN"]),)

    with torch.cuda.device(a.device):
        _tuned[grid](a.contiguous(), b.contiguous(), out, batch, n_out, n_in)
