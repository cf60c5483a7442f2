"""The max-times product on the host, compiled and blocked for registers.

One multiplication and one maximum a pair: what remains to be won is that operands are read and written
rarely. A tile of six outputs by two vectors of inputs stays in registers while all examples pass by; an
example costs two vector loads and six broadcasts for twelve multiplications and twelve maxima. The operands
of a tile are packed first, so that they lie side by side. That is how matrix products are done, with a
maximum in place of the sum.

On one core that multiplies matrices at 93 GFLOP/s it does 39 billion pairs a second in single precision.
Plain loops (three outputs by four examples, the best of a dozen shapes) reach 30: hence the tile is written
in the compiler's own language, with explicit vectors, which it lowers for whatever processor it finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., Any])
Array = Any

# A tile: so many outputs by so many vectors of inputs. Twelve results, two inputs, a factor and a product
# fill sixteen vector registers.
_OUTPUTS = 6
_VECTORS = 2
# Examples packed at a time: an eighth of a megabyte of inputs a thousand edges, for the second-level cache.
_EXAMPLES = 128
# Below so many pairs a second thread costs more than it saves.
_PAIRS_A_THREAD = 1 << 24


def _vector_bytes() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f", False) else 32


_stack_slot: Any = cgutils.alloca_once
_WIDTH = {dtype: _VECTORS * _vector_bytes() // dtype.itemsize for dtype in map(np.dtype, ("f4", "f8"))}


@intrinsic
def _take_tile(_: Any, inputs: Any, factors: Any, results: Any, examples: Any, stride: Any) -> Any:
    """Take a tile of results through the examples.

    ``inputs`` is (examples, width) and ``factors`` (examples, _OUTPUTS), both contiguous; ``results`` are
    _OUTPUTS rows of ``width`` entries, ``stride`` entries apart, changed in place.
    """
    signature = types.void(inputs, factors, results, examples, stride)
    element = inputs.dtype
    lanes = _WIDTH[np.dtype(element.name)] // _VECTORS

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = ir.FloatType() if element is types.float32 else ir.DoubleType()
        vector, index = ir.VectorType(scalar, lanes), ir.IntType(64)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        a, b, r = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        examples, stride = arguments[3:]

        def place(base: Any, offset: Any, k: int) -> Any:
            entry = builder.gep(base, [builder.add(offset, index(k * lanes))])
            return builder.bitcast(entry, vector.as_pointer())

        def load(base: Any, offset: Any, k: int) -> Any:
            value = builder.load(place(base, offset, k))
            value.align = element.bitwidth // 8  # rows start anywhere
            return value

        rows = [builder.mul(stride, index(i)) for i in range(_OUTPUTS)]
        # Stack slots here, registers after optimisation.
        best = [[_stack_slot(builder, vector) for _ in range(_VECTORS)] for _ in rows]
        for row, slots in zip(rows, best, strict=True):
            for k, slot in enumerate(slots):
                builder.store(load(r, row, k), slot)
        with cgutils.for_range(builder, examples) as loop:
            offset = builder.mul(loop.index, index(_VECTORS * lanes))
            vectors = [load(a, offset, k) for k in range(_VECTORS)]
            offset = builder.mul(loop.index, index(_OUTPUTS))
            for i, slots in enumerate(best):
                factor = builder.load(builder.gep(b, [builder.add(offset, index(i))]))
                factor = builder.insert_element(undefined, factor, ir.IntType(32)(0))
                factor = builder.shuffle_vector(factor, undefined, zeros)
                for one, slot in zip(vectors, slots, strict=True):
                    product, old = builder.fmul(factor, one), builder.load(slot)
                    larger = builder.fcmp_ordered(">", product, old, flags=["nnan", "nsz"])
                    builder.store(builder.select(larger, product, old), slot)
        for row, slots in zip(rows, best, strict=True):
            for k, slot in enumerate(slots):
                stored = builder.store(builder.load(slot), place(r, row, k))
                stored.align = element.bitwidth // 8
        return context.get_dummy_value()

    return signature, generate


_tile: Any = _take_tile  # it is called without the first argument, which the compiler adds


def _compiled(function: F) -> F:
    """Compile on first use."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no directory that numba may write to: compile in every process
        return cast(F, numba.njit(nogil=True)(function))


@_compiled
def _accumulate(A: Array, B: Array, R: Array, rows: tuple[int, int], width: int) -> None:
    """R[i, j] = max(R[i, j], max_x B[x, i] A[x, j]) for rows[0] <= i < rows[1]."""
    n, m = A.shape
    stop = rows[1]
    panels = (m + width - 1) // width
    inputs = np.zeros((panels, min(n, _EXAMPLES), width), A.dtype)
    factors = np.zeros((min(n, _EXAMPLES), _OUTPUTS), A.dtype)
    edge = np.zeros((_OUTPUTS, width), A.dtype)
    for x0 in range(0, n, _EXAMPLES):
        examples = min(n - x0, _EXAMPLES)
        for panel in range(panels):
            j0 = panel * width
            columns = min(width, m - j0)
            for x in range(examples):
                inputs[panel, x, :columns] = A[x0 + x, j0 : j0 + columns]
        for i0 in range(rows[0], stop, _OUTPUTS):
            outputs = min(stop - i0, _OUTPUTS)
            for x in range(examples):
                for i in range(outputs):
                    factors[x, i] = B[x0 + x, i0 + i]
            for panel in range(panels):
                j0 = panel * width
                if outputs == _OUTPUTS and j0 + width <= m:
                    _tile(inputs[panel], factors, R[i0:, j0:], examples, m)
                    continue
                # At an edge the tile is larger than what is left of the result.
                columns = min(width, m - j0)
                edge[:outputs, :columns] = R[i0 : i0 + outputs, j0 : j0 + columns]
                _tile(inputs[panel], factors, edge, examples, width)
                R[i0 : i0 + outputs, j0 : j0 + columns] = edge[:outputs, :columns]


def compiled(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """Take the running maximum into ``out``, on as many threads as torch uses.

    Parameters
    ----------
    a : Tensor of shape (batch, n_in)
        Finite float32 or float64 on the host.
    b : Tensor of shape (batch, n_out)
        Of the same precision.
    out : Tensor of shape (n_out, n_in)
        Of the same precision, contiguous; changed in place.
    """
    A, B, R = a.contiguous().numpy(), b.contiguous().numpy(), out.numpy()
    width = _WIDTH[A.dtype]
    pairs = A.shape[0] * R.size
    threads = max(1, min(torch.get_num_threads(), pairs // _PAIRS_A_THREAD, R.shape[0]))
    if threads == 1:
        _accumulate(A, B, R, (0, R.shape[0]), width)
        return
    bounds = [R.shape[0] * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(_accumulate, A, B, R, rows, width) for rows in itertools.pairwise(bounds)]
        for part in parts:
            part.result()
