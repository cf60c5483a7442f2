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


def interpreted(monkeypatch: pytest.MonkeyPatch):
    """Triton's kernel as its interpreter runs it on the host, with tiles of a test's choice."""
    # That of version 3.5 fails with NumPy 2.4, and leaves the language patched.
    triton = pytest.importorskip("triton", minversion="3.9")
    from nn.kernels import _triton  # noqa: PLC0415 - the kernel exists with Triton only

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernel = triton.jit(_triton._accumulate)

    def run(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, tile: tuple[int, int, int]) -> None:
        rows, columns, step = tile
        (batch, n_in), n_out = a.shape, b.shape[1]
        programs = triton.cdiv(n_out, rows) * triton.cdiv(n_in, columns)
        kernel[(programs,)](a, b, out, batch, n_out, n_in, OUT=rows, IN=columns, STEP=step)

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tile", [(16, 32, 4), (32, 16, 1), (64, 128, 8)])
# Below, at and above the tiles and the steps, in every direction.
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 16, 32), (4, 17, 33), (9, 50, 7), (8, 5, 70), (5, 64, 128)])
def test_interpreted_triton_is_the_definition_at_every_edge(monkeypatch, dtype, tile, shape):
    run = interpreted(monkeypatch)
    a, b = pair(4, shape, dtype)
    margin = 7  # entries before and after the result, which no program may touch
    n_out, n_in = shape[1:]
    memory = torch.full((n_out * n_in + 2 * margin,), -torch.inf, dtype=dtype)
    memory[:margin], memory[-margin:] = 3.0, 4.0
    out = memory[margin:-margin].view(n_out, n_in)
    run(a, b, out, tile)
    assert np.array_equal(out.numpy(), definition(a, b))
    assert bool((memory[:margin] == 3.0).all() and (memory[-margin:] == 4.0).all())
    before = out.clone()
    run(-a, b, out, tile)  # a running maximum over both
    assert torch.equal(out, torch.maximum(before, torch.from_numpy(definition(-a, b))))


def test_interpreted_triton_keeps_zeros_and_negative_maxima(monkeypatch):
    run = interpreted(monkeypatch)
    a, b = -torch.rand(6, 5) - 0.5, torch.rand(6, 3) + 0.5
    b[:, 1] = 0.0  # a side without a sum has the factor zero
    out = torch.full((3, 5), -torch.inf)
    run(a, b, out, (16, 16, 4))
    assert np.array_equal(out.numpy(), definition(a, b))
    assert bool((out[0] < 0).all() and (out[1] == 0).all())


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")  # one version announces a default
@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("one", [(), ("batch",), ("n_out",), ("n_in",)], ids=repr)
def test_triton_compiles_without_a_device_and_keeps_small_numbers(dtype: str, one: tuple[str, ...]):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415 - there is no stub without Triton
    from triton.compiler import ASTSource  # noqa: PLC0415

    from nn.kernels import _triton  # noqa: PLC0415

    # Sizes of 1 are constants to the compiler, as they are when the kernel is launched.
    constants = {"OUT": 32, "IN": 64, "STEP": 4} | dict.fromkeys(one, 1)
    sizes = dict.fromkeys(("batch", "n_out", "n_in"), "i32")
    pointers = dict.fromkeys(("a_ptr", "b_ptr", "r_ptr"), "*" + dtype)
    signature = pointers | sizes | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=triton.jit(_triton._accumulate), signature=signature, constexprs=constants)
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    assert ".ftz" not in code  # subnormal products are not flushed to zero


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [(2, 1, 9_000_000), (2, 0, 3), (2, 3, 0), (0, 3, 3)])
def test_triton_takes_wide_and_empty_layers(shape):
    triton = pytest.importorskip("nn.kernels._triton")
    a, b = pair(5, shape)
    out = torch.zeros(shape[1:], device="cuda")
    triton.on_device(a.cuda(), b.cuda(), out)
    expected = torch.zeros(shape[1:])
    if out.numel() and shape[0]:
        expected = max_product(a, b, out=expected)
    assert torch.equal(out.cpu(), expected)
