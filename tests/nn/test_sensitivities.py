"""EdgeSensitivities: the largest share of every edge in its side, whatever the layer and the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nn.calibration import Calibration, observe
from nn.kernels._reference import by_examples
from nn.layers import find_layers
from nn.sensitivities import SensitivityCollector, collect_sensitivities


def shares(weights: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Largest share of every edge, by the definition, in float64; vectors are (vectors, edges)."""
    found = np.zeros(weights.shape)
    for half in (np.maximum(vectors, 0.0), np.maximum(-vectors, 0.0)):
        for side in (np.maximum(weights, 0.0), np.maximum(-weights, 0.0)):
            terms = side[None] * half[:, None, :]
            sums = terms.sum(axis=2, keepdims=True)
            ratios = np.divide(terms, sums, out=np.zeros_like(terms), where=sums > 0.0)
            found = np.maximum(found, ratios.max(axis=0))
    return found


def linear(seed: int, n_in: int = 9, n_out: int = 6, dtype: torch.dtype = torch.float64) -> torch.nn.Linear:
    layer = torch.nn.Linear(n_in, n_out, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(n_out, n_in, generator=generator, dtype=torch.float64))
    return layer


def of(layer: torch.nn.Module, *batches: torch.Tensor, **options) -> torch.Tensor:
    return collect_sensitivities(layer, find_layers(layer), list(batches), **options)[""].values


def inputs(seed: int, *shape: int, signed: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return values if signed else values.clamp_min(0.0)


@pytest.mark.parametrize("signed", [False, True])
@given(seed=st.integers(0, 99))
def test_they_are_the_largest_shares(signed, seed):
    layer, x = linear(seed), inputs(seed + 1, 12, 9, signed=signed)
    expected = shares(layer.weight.detach().numpy(), x.numpy())
    # A sum of nine terms and a quotient: some dozens of roundings of 1.1e-16.
    np.testing.assert_allclose(of(layer, x)[0].numpy(), expected, rtol=1e-14, atol=1e-15)


@given(seed=st.integers(0, 99), cut=st.integers(1, 11))
def test_batches_and_their_order_do_not_matter(seed, cut):
    layer, x = linear(seed), inputs(seed, 12, 9, signed=True)
    whole = of(layer, x)
    # Up to rounding: products of matrices of other shapes add in another order.
    torch.testing.assert_close(of(layer, x[cut:], x[:cut]), whole, rtol=1e-14, atol=1e-15)


@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-30, 1e-3, 1e3, 1e30]))
def test_scales_of_inputs_and_neurons_do_not_matter(seed, scale):
    layer, x = linear(seed), inputs(seed, 12, 9, signed=False)
    before = of(layer, x)
    with torch.no_grad():
        layer.weight[2] *= scale
    torch.testing.assert_close(of(layer, x / scale), before, rtol=1e-13, atol=1e-14)


@given(seed=st.integers(0, 99))
def test_sums_of_a_side_are_between_one_and_its_edges_and_the_number_of_vectors(seed):
    layer, x = linear(seed), inputs(seed, 3, 9, signed=False) + 0.01
    values, weights = of(layer, x)[0], layer.weight.detach()
    for side in (weights > 0, weights < 0):
        sums, edges = (values * side).sum(1), side.sum(1)
        some = edges > 0
        assert bool((sums[some] >= 1.0 - 1e-12).all())
        assert bool((sums <= edges.clamp_max(3) + 1e-12).all())


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": 2, "dilation": 2, "padding": 2},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "groups": 4, "padding_mode": "reflect", "padding": 1},
    ],
    ids=["plain", "strided", "grouped", "depthwise"],
)
def test_convolution_is_a_linear_layer_on_patches(options):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 4, **options, dtype=torch.float64)
    x = inputs(1, 5, 4, 8, 8, signed=True)
    edge_layer = find_layers(layer)[""]
    vectors = torch.cat(list(edge_layer.inputs(x)), dim=1).numpy()
    expected = np.stack(
        [shares(matrix, rows) for matrix, rows in zip(edge_layer.matrix().numpy(), vectors, strict=True)]
    )
    found = collect_sensitivities(layer, {"": edge_layer}, [x[:2], x[2:]])[""]
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-13, atol=1e-14)
    assert (found.examples, found.patches, found.halves) == (5, edge_layer.patches(x), 2)


def test_grouped_convolution_is_block_diagonal():
    torch.manual_seed(0)
    grouped = torch.nn.Conv2d(4, 6, 3, groups=2, bias=False, dtype=torch.float64)
    dense = torch.nn.Conv2d(4, 6, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        dense.weight.zero_()
        dense.weight[:3, :2], dense.weight[3:, 2:] = grouped.weight[:3], grouped.weight[3:]
    x = inputs(2, 3, 4, 6, 6, signed=False)
    one, other = of(grouped, x), of(dense, x).reshape(6, 4, 9)
    torch.testing.assert_close(one[0].reshape(3, 2, 9), other[:3, :2], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(one[1].reshape(3, 2, 9), other[3:, 2:], rtol=1e-13, atol=1e-14)


def test_tokens_count_as_patches_of_one_example():
    layer, x = linear(0), inputs(1, 4, 5, 9, signed=False)
    found = collect_sensitivities(layer, find_layers(layer), [x])[""]
    assert (found.examples, found.patches) == (4, 5)
    torch.testing.assert_close(found.values, of(layer, x.reshape(20, 9)), rtol=1e-14, atol=1e-15)


def test_means_over_patches_would_be_too_small_on_single_patches():
    # The released deterministic variant averages over patches; then some patch exceeds the "sensitivity".
    layer = torch.nn.Conv2d(2, 1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    x = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]], dtype=torch.float64)  # each patch has one channel
    terms = next(find_layers(layer)[""].inputs(x))[0]
    mean = (terms / terms.sum(1, keepdim=True)).mean(0)
    assert torch.equal(mean, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert torch.equal(of(layer, x).reshape(-1), torch.ones(2, dtype=torch.float64))


def test_denominators_without_a_sign_are_sums_of_absolute_values():
    layer, x = linear(0), inputs(1, 12, 9, signed=False)
    collector = SensitivityCollector(signed=False)
    observe(layer, find_layers(layer), Calibration([x]), {"": collector})
    terms = (layer.weight.detach().abs()[None] * x[:, None]).numpy()
    expected = (terms / terms.sum(2, keepdims=True)).max(0)
    np.testing.assert_allclose(collector.sensitivities().values[0].numpy(), expected, rtol=1e-14)


def test_plain_torch_kernel_gives_the_same():
    layer, x = linear(3), inputs(4, 20, 9, signed=True)
    collector = SensitivityCollector(kernel=by_examples)
    observe(layer, find_layers(layer), Calibration([x]), {"": collector})
    assert torch.equal(collector.sensitivities().values, of(layer, x))


def test_inputs_that_reach_no_edge_give_zero():
    layer, x = linear(0), torch.zeros(3, 9, dtype=torch.float64)
    assert bool((of(layer, x) == 0).all())


def test_zero_weights_and_dead_inputs_have_sensitivity_zero():
    layer, x = linear(0), inputs(1, 12, 9, signed=False)
    x[:, 3] = 0.0
    with torch.no_grad():
        layer.weight[1, 5] = 0.0
        layer.weight[4] = 0.0
    values = of(layer, x)[0]
    assert bool((values[:, 3] == 0).all())
    assert bool((values[4] == 0).all())
    assert values[1, 5] == 0


def test_sums_below_rounding_of_the_input_are_passed_over():
    layer = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0]]))
    noise = torch.tensor([[1.0, 1e-9]])  # the second input is below the rounding error of the first
    assert torch.equal(of(layer, noise), torch.tensor([[[1.0, 0.0]]]))
    exact = SensitivityCollector(negligible=0.0)
    observe(layer, find_layers(layer), Calibration([noise]), {"": exact})
    assert torch.equal(exact.sensitivities().values, torch.ones(1, 1, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_single(dtype):
    layer = linear(0, dtype=dtype)
    found = of(layer, inputs(1, 12, 9, signed=False).to(dtype))
    assert found.dtype == torch.float32
    rounded = layer.weight.detach().double().numpy()
    x = inputs(1, 12, 9, signed=False).to(dtype).double().numpy()
    np.testing.assert_allclose(found[0].numpy(), shares(rounded, x), rtol=1e-5, atol=1e-6)


def test_huge_and_tiny_values_do_not_overflow():
    layer = linear(0, dtype=torch.float32)
    with torch.no_grad():
        layer.weight[0] *= 1e-38
        layer.weight[1] *= 1e37
    for scale in (1e-38, 1e-30, 1.0):
        values = of(layer, inputs(1, 12, 9, signed=False).float() * scale)
        assert bool(torch.isfinite(values).all())
        assert bool((values <= 1.0).all())


@given(seed=st.integers(0, 50))
def test_conditions_are_means_and_maxima_of_cancellation(seed):
    layer, x = linear(seed), inputs(seed, 12, 9, signed=True)
    found = collect_sensitivities(layer, find_layers(layer), [x[:5], x[5:]], conditions=True)[""]
    terms = layer.weight.detach()[None] * x[:, None]
    delta = terms.abs().sum(2) / terms.sum(2).abs()
    # Cancellation by Delta loses that factor of relative accuracy.
    assert found.mean_condition is not None
    assert found.worst_condition is not None
    slack = 1e-13 * float(delta.max())
    torch.testing.assert_close(found.worst_condition[0], delta.amax(0), rtol=slack, atol=0.0)
    torch.testing.assert_close(found.mean_condition[0], delta.mean(0), rtol=slack, atol=0.0)


def test_exact_cancellation_is_infinite_and_silence_is_one():
    layer = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0]]))
    x = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    layers = find_layers(layer)
    assert collect_sensitivities(layer, layers, [x[1:]], conditions=True)[""].worst_condition.item() == 1.0
    assert collect_sensitivities(layer, layers, [x], conditions=True)[""].worst_condition.item() == torch.inf


def test_nan_activations_and_no_data_are_errors():
    layer = linear(0)
    with pytest.raises(ValueError, match="NaN"):
        of(layer, torch.full((2, 9), torch.nan, dtype=torch.float64))
    with pytest.raises(ValueError, match="empty"):
        of(layer)
    with pytest.raises(ValueError, match="no inputs"):
        SensitivityCollector().sensitivities()
    with pytest.raises(ValueError, match="negligible"):
        SensitivityCollector(negligible=1.0)
