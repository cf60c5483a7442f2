"""Second moments of inputs: what is summed, and the norms that come of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st

from coresets.errors import SolverError
from nn.gram import Gram, GramCollector, collect_grams
from nn.layers import EdgeLayer, find_layers

EPS = float(np.finfo(np.float64).eps)


def conv(**options) -> torch.nn.Conv2d:
    torch.manual_seed(0)
    return torch.nn.Conv2d(4, 8, 3, **options).double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": 2},
        {"groups": 4},
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_the_error_of_a_convolution_is_the_squared_change_of_its_outputs(options):
    layer, images = conv(**options), torch.randn(5, 4, 7, 7, dtype=torch.float64)
    changed = conv(**options)
    with torch.no_grad():
        changed.weight.mul_(torch.rand_like(changed.weight))
        outputs = (layer(images) - changed(images)).square().sum((0, 2, 3))  # one number a neuron
        weights = (layer.weight - changed.weight).square().sum((1, 2, 3))
    edges = EdgeLayer("", layer)
    gram = collect_grams(layer, find_layers(layer), [images[:2], images[2:]])[""]
    difference = (edges.matrix() - edges.matrix(changed.weight.detach())).numpy()
    expected = (outputs + gram.ridge * weights).numpy()
    # both sides are sums of 5 * 49 * 27 squares or fewer
    np.testing.assert_allclose(gram.squared_errors(difference).reshape(-1), expected, rtol=1e5 * EPS)


def test_tokens_count_as_vectors():
    layer = torch.nn.Linear(3, 2)
    data = torch.randn(4, 5, 3)
    gram = collect_grams(layer, find_layers(layer), [data])[""]
    assert gram.vectors == 20
    flat = data.reshape(-1, 3).double().numpy()
    np.testing.assert_allclose(gram.matrix[0] - gram.ridge * np.eye(3), flat.T @ flat, atol=1e3 * EPS)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_split_into_batches_does_not_matter(seed, parts):
    data = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed))
    layer = torch.nn.Linear(3, 2)
    whole = collect_grams(layer, find_layers(layer), [data])[""]
    split = collect_grams(layer, find_layers(layer), list(data.tensor_split(parts)))[""]
    assert split.vectors == whole.vectors == 20
    np.testing.assert_allclose(
        split.matrix, whole.matrix, rtol=100 * EPS, atol=100 * EPS * whole.matrix.max()
    )


def test_half_precision_inputs_are_summed_in_double():
    layer = torch.nn.Linear(2, 2).bfloat16()
    data = torch.full((4096, 2), 3.0, dtype=torch.bfloat16)  # 4096 * 9 is no bfloat16 number
    gram = collect_grams(layer, find_layers(layer), [data])[""]
    assert gram.matrix[0, 0, 1] == 4096 * 9


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1.0))
def test_the_effective_dimension_is_the_sum_of_ridge_leverages(seed, ridge):
    inputs = np.random.default_rng(seed).normal(size=(2, 9, 4))
    gram = Gram.of(inputs, ridge=ridge)
    np.testing.assert_allclose(gram.effective_dimension, gram.leverages(inputs).sum(axis=1), rtol=1e-8)
    assert np.all(gram.effective_dimension <= 4)


@given(st.integers(0, 2**32 - 1))
def test_inverse_and_leverages_agree(seed):
    rng = np.random.default_rng(seed)
    gram = Gram.of(rng.normal(size=(2, 9, 4)))
    vectors = rng.normal(size=(2, 6, 4))
    expected = np.einsum("gvm,gmk,gvk->gv", vectors, gram.inverse, vectors)
    np.testing.assert_allclose(gram.leverages(vectors), expected, rtol=1e-10)


def test_a_layer_that_is_fed_zeros_has_a_multiple_of_the_identity():
    gram = Gram.of(np.zeros((1, 5, 3)), ridge=0.5)
    np.testing.assert_array_equal(gram.matrix[0], 0.5 * np.eye(3))
    np.testing.assert_allclose(gram.effective_dimension, 0.0, atol=10 * EPS)


def test_all_groups_have_one_ridge():
    inputs = np.zeros((2, 5, 3))
    inputs[1] = 1.0
    gram = Gram.of(inputs, ridge=0.1)
    assert gram.ridge == pytest.approx(0.1 * 2.5)
    np.testing.assert_allclose(gram.matrix[0], gram.ridge * np.eye(3))


@pytest.mark.parametrize("ridge", [0.0, -1.0, 1e-11])
def test_a_ridge_that_leaves_the_matrix_singular_is_refused(ridge):
    with pytest.raises(ValueError, match=r"ridge = .*0\.01 is a good choice"):
        Gram.of(np.ones((1, 3, 2)), ridge=ridge)


def test_overflow_and_missing_inputs_are_refused():
    layer = torch.nn.Linear(2, 1).double()
    with pytest.raises(ValueError, match="scale the inputs down"):
        collect_grams(layer, find_layers(layer), [torch.full((1, 2), 1e200, dtype=torch.float64)])
    with pytest.raises(ValueError, match="seen no inputs"):
        GramCollector().gram(0.01)
    with pytest.raises(ValueError, match="shape"):
        Gram(np.eye(2), 1, 0.1)
    with pytest.raises(ValueError, match="not positive"):
        Gram(np.eye(2)[None], 1, 0.0)


def test_a_matrix_that_is_not_positive_definite_is_a_solver_error():
    gram = Gram(np.array([[[1.0, 2.0], [2.0, 1.0]]]), 1, 0.1)
    for read in (
        lambda: gram.inverse,
        lambda: gram.effective_dimension,
        lambda: gram.leverages(np.ones((1, 1, 2))),
    ):
        with pytest.raises(SolverError, match="larger ridge"):
            read()


def _collect(rank: int, world: int, port: int, directory: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    layer, data = conv(groups=2), torch.load(Path(directory) / "data.pt").split(4)[rank]
    gram = collect_grams(layer, find_layers(layer), [data])[""]
    torch.save({"matrix": torch.from_numpy(gram.matrix), "vectors": gram.vectors}, f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_sum_to_what_one_sees(tmp_path: Path):
    data = torch.randn(8, 4, 5, 5, dtype=torch.float64)
    torch.save(data, tmp_path / "data.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_collect, (2, port, str(tmp_path)), nprocs=2)
    layer = conv(groups=2)
    one = collect_grams(layer, find_layers(layer), [data])[""]
    for rank in range(2):
        seen = torch.load(tmp_path / f"{rank}.pt")
        assert seen["vectors"] == one.vectors == 8 * 9
        np.testing.assert_allclose(
            seen["matrix"], one.matrix, rtol=100 * EPS, atol=100 * EPS * one.matrix.max()
        )
