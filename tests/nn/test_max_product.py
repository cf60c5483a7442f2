"""The max-times product: every kernel gives what the definition says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import max_product
from nn.kernels._cpu import compiled
from nn.kernels._reference import by_examples, by_sparse_product

KERNELS = [compiled, by_examples, by_sparse_product]


def pair(seed: int, shape: tuple[int, int, int], dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)
    batch, n_out, n_in = shape
    a = torch.randn(batch, n_in, generator=generator, dtype=dtype)
    return a, torch.randn(batch, n_out, generator=generator, dtype=dtype)


def definition(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    return (b.numpy()[:, :, None] * a.numpy()[:, None, :]).max(axis=0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 99), shape=st.tuples(*(st.integers(1, 40),) * 3))
def test_every_kernel_is_the_definition(kernel, dtype, seed, shape):
    a, b = pair(seed, shape, dtype)
    # One rounding a product and none in a maximum: equal to the last bit.
    assert np.array_equal(max_product(a, b, kernel=kernel).numpy(), definition(a, b))


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_examples_than_are_packed_at_once(kernel):
    a, b = pair(0, (300, 13, 35))
    assert np.array_equal(max_product(a, b, kernel=kernel).numpy(), definition(a, b))


@given(seed=st.integers(0, 99), cut=st.integers(1, 19))
def test_running_maximum_over_batches_is_the_maximum_over_all(seed, cut):
    a, b = pair(seed, (20, 7, 9))
    running = max_product(a[:cut], b[:cut])
    assert max_product(a[cut:], b[cut:], out=running) is running
    assert torch.equal(running, max_product(a, b))


@given(seed=st.integers(0, 99), factor=st.floats(2.0**-20, 2.0**20))
def test_order_of_examples_and_powers_of_two_do_not_matter(seed, factor):
    a, b = pair(seed, (11, 5, 8))
    order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))
    result = max_product(a, b)
    assert torch.equal(max_product(a[order], b[order]), result)
    exact = 2.0 ** round(np.log2(factor))
    assert torch.equal(max_product(a * exact, b), result * exact)
    assert torch.equal(max_product(b, a), result.t())


def test_two_threads_give_the_same():
    a, b = pair(1, (256, 400, 600))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = max_product(a, b)
        torch.set_num_threads(1)
        assert torch.equal(two, max_product(a, b))
    finally:
        torch.set_num_threads(threads)


def test_layouts_other_than_contiguous():
    a, b = pair(2, (12, 6, 10))
    assert torch.equal(max_product(a.t().contiguous().t(), b[:, ::2]), max_product(a, b[:, ::2].contiguous()))


@pytest.mark.parametrize(("n_out", "n_in"), [(0, 3), (3, 0)])
def test_no_outputs_or_inputs_is_an_empty_result(n_out, n_in):
    assert max_product(torch.ones(2, n_in), torch.ones(2, n_out)).shape == (n_out, n_in)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (torch.ones(0, 3), torch.ones(0, 2), ValueError, "at least one example"),
        (torch.ones(2, 3), torch.ones(3, 2), ValueError, "2 examples"),
        (torch.ones(2, 3), torch.ones(2, 2).double(), TypeError, "float64"),
        (torch.ones(2, 3).half(), torch.ones(2, 2).half(), TypeError, "float16"),
        (torch.full((2, 3), torch.nan), torch.ones(2, 2), ValueError, "a has NaN"),
        (torch.ones(2, 3), torch.full((2, 2), torch.inf), ValueError, "b has NaN"),
        ([[1.0]], torch.ones(1, 1), TypeError, "list"),
    ],
)
def test_bad_arguments_are_named(a, b, error, message):
    with pytest.raises(error, match=message):
        max_product(a, b)


def test_out_must_fit():
    a, b = torch.ones(2, 3), torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"expected torch\.float32 of shape"):
        max_product(a, b, out=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="contiguous"):
        max_product(a, b, out=torch.zeros(3, 4).t())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (130, 70, 200), (64, 256, 128)])
def test_triton_is_the_definition(shape, dtype):
    triton = pytest.importorskip("nn.kernels._triton")
    a, b = pair(3, shape, dtype)
    found = max_product(a.cuda(), b.cuda(), kernel=triton.on_device)
    assert torch.equal(found.cpu(), max_product(a, b))
    again = max_product(a.cuda(), b.cuda(), kernel=triton.on_device, out=found.clone())
    assert torch.equal(again, found)
