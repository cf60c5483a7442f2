"""Layers as matrices, and the vectors that these are multiplied with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune

from nn.layers import EdgeLayer, find_layers, layer_sizes


def responses(layer: EdgeLayer, activations: torch.Tensor) -> torch.Tensor:
    """What the layer computes without its bias, through the matrix view, (vectors, neurons)."""
    rows = torch.cat(list(layer.inputs(activations)), dim=1)
    return torch.einsum("gve,goe->vgo", rows, layer.matrix()).reshape(rows.shape[1], -1)


@st.composite
def convolutions(draw: st.DrawFn) -> torch.nn.Conv2d:
    groups = draw(st.sampled_from([1, 2, 4]))
    dilation = draw(st.sampled_from([1, 2]))
    stride = draw(st.sampled_from([1, 2]))
    padding = draw(st.sampled_from([0, (1, 2), "valid"] + (["same"] if stride == 1 else [])))
    kernel = draw(st.sampled_from([(1, 1), (3, 2), (2, 3)]))
    mode = draw(st.sampled_from(["zeros", "reflect", "circular"]))
    return torch.nn.Conv2d(
        4, 8, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode, dtype=torch.float64
    )


# torch warns once that it pads a copy for even kernels.
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(convolutions())
def test_a_convolution_is_its_matrix_times_its_patches(module: torch.nn.Conv2d):
    images = torch.randn(3, 4, 9, 8, dtype=torch.float64)
    expected = module(images)
    layer = EdgeLayer("conv", module)
    computed = responses(layer, images).reshape(3, *expected.shape[2:], 8).permute(0, 3, 1, 2)
    # Sums of at most 24 products of numbers of order one, in another order.
    torch.testing.assert_close(computed, expected, rtol=0.0, atol=24 * 30 * torch.finfo(torch.float64).eps)
    assert layer.patches(images) == expected.shape[2] * expected.shape[3]


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (6,)])
def test_a_linear_layer_sees_every_vector_once(shape: tuple[int, ...]):
    module = torch.nn.Linear(6, 4, bias=False, dtype=torch.float64)
    values = torch.randn(shape, dtype=torch.float64)
    computed = responses(EdgeLayer("linear", module), values)
    torch.testing.assert_close(computed, module(values).reshape(-1, 4))


def test_depthwise_convolution_has_one_neuron_a_group():
    layer = EdgeLayer("depthwise", torch.nn.Conv2d(6, 6, 3, groups=6))
    assert layer.shape == (6, 1, 9)


def test_a_matrix_goes_back_to_the_shape_of_the_weight():
    layer = EdgeLayer("conv", torch.nn.Conv2d(4, 8, 3, groups=2))
    assert torch.equal(layer.like_weight(layer.matrix()), layer.weight)


def test_weight_shared_by_two_layers_is_refused_by_name():
    first, second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    second.weight = first.weight
    with pytest.raises(ValueError, match=r"'0' is shared: 0\.weight, 1\.weight"):
        find_layers(torch.nn.Sequential(first, second))


def test_weight_shared_with_an_embedding_is_refused():
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(10, 4)
            self.head = torch.nn.Linear(4, 10)
            self.head.weight = self.embedding.weight

    with pytest.raises(ValueError, match=r"embedding\.weight"):
        find_layers(Tied())
    assert find_layers(Tied(), ()) == {}


def test_lazy_layer_without_a_weight_is_refused():
    with pytest.raises(ValueError, match="no weight yet"):
        layer_sizes(torch.nn.Sequential(torch.nn.LazyLinear(3)))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        layer_sizes("network")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "old weight_norm", "prune"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_that_is_computed_is_refused_by_name(name: str):
    layer = torch.nn.Linear(4, 4)
    if name == "prune":
        prune.l1_unstructured(layer, "weight", 0.5)
    elif name.startswith("old"):
        torch.nn.utils.weight_norm(layer)
    else:
        getattr(torch.nn.utils.parametrizations, name)(layer)
    net = torch.nn.Sequential(layer, torch.nn.Linear(4, 3))
    assert layer_sizes(net) == {"0": 16, "1": 12}
    with pytest.raises(ValueError, match="'0' is computed from other parameters"):
        find_layers(net)
    assert set(find_layers(net, ["1"])) == {"1"}
