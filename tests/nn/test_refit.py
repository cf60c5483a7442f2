"""Least-squares weights on supports that other methods choose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn.edges.ols import OLSForward
from nn.edges.refit import Refit
from nn.gram import Gram, collect_grams
from nn.layers import find_layers


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, groups=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(128, 5)
    ).double()


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(150, 4, 6, 6, generator=generator, dtype=torch.float64).split(50))


def test_the_weights_solve_the_normal_equations_in_exact_arithmetic():
    inputs = [[1, 2, 0], [0, 1, 3], [2, 2, 1]]  # two edges are kept: a 2 x 2 system by Cramer's rule
    w = [Fraction(3), Fraction(-2), Fraction(1)]
    H = [[Fraction(sum(x[i] * x[j] for x in inputs)) for j in range(3)] for i in range(3)]
    ridge = sum(H[i][i] for i in range(3)) / 3 / 100
    for i in range(3):
        H[i][i] += ridge
    right = [sum(H[i][j] * w[j] for j in range(3)) for i in (0, 1)]
    det = H[0][0] * H[1][1] - H[0][1] * H[1][0]
    exact = [(right[0] * H[1][1] - right[1] * H[0][1]) / det, (right[1] * H[0][0] - right[0] * H[1][0]) / det]

    layer = torch.nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -2.0, 1.0]]))
    data = [torch.tensor(inputs, dtype=torch.float64)]
    pruned = nn.prune(layer, Refit(nn.Magnitude()), nn.KeepCount(2), calibration=data)
    found = pruned.model.weight.detach()[0]
    np.testing.assert_allclose(found[:2], [float(x) for x in exact], rtol=1e-13)
    assert found[2] == 0


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.floats(0.05, 0.9))
def test_the_gradient_of_the_error_is_zero_on_the_support(seed, ratio):
    net = network()
    pruned = nn.prune(net, Refit(nn.Random()), nn.KeepRatio(ratio), calibration=images(), rng=seed)
    grams = collect_grams(net, find_layers(net), images())
    for name, layer in find_layers(net).items():
        plan = pruned.plan.layers[name]
        gradient = (layer.matrix().numpy() - layer.matrix(plan.weight).numpy()) @ grams[name].matrix
        scale = np.abs(layer.matrix().numpy() @ grams[name].matrix).max()
        assert np.abs(gradient[layer.matrix(plan.keep).numpy()]).max() <= 1e-10 * scale


@pytest.mark.parametrize("method", [nn.Magnitude(), nn.SNIP(), nn.SynFlow(input_shape=(4, 6, 6))], ids=repr)
def test_the_support_is_that_of_the_method_and_the_error_is_not_larger(method):
    data = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in images()]
    plain = nn.plan(network(), method, nn.KeepRatio(0.2), calibration=data)
    refitted = nn.plan(network(), Refit(method), nn.KeepRatio(0.2), calibration=data)
    for name, layer in plain.layers.items():
        assert torch.equal(layer.keep, refitted.layers[name].keep)
        certificate = refitted.layers[name].certificates[0]
        assert certificate.value <= certificate.details["before the refit"] * (1 + 1e-9)


def test_a_refit_finds_again_what_forward_selection_has_found():
    once = nn.plan(network(), OLSForward(), nn.KeepRatio(0.2), calibration=images())
    twice = nn.plan(network(), Refit(OLSForward()), nn.KeepRatio(0.2), calibration=images())
    for name, layer in once.layers.items():
        torch.testing.assert_close(layer.weight, twice.layers[name].weight, rtol=1e-9, atol=1e-12)
    assert any("about its own weights" in note for note in twice.notes)


def test_a_full_support_keeps_the_weights_bit_by_bit():
    net = network()
    decided = nn.plan(net, Refit(nn.Magnitude()), nn.KeepRatio(1.0), calibration=images())
    assert torch.equal(decided.layers["0"].weight, net[0].weight)
    assert decided.certificates[0].value == 0.0


def test_inputs_in_the_span_of_the_kept_ones_are_reconstructed():
    factors = torch.randn(200, 3, dtype=torch.float64)
    data = torch.cat([factors, factors @ torch.randn(3, 5, dtype=torch.float64)], dim=1)
    layer = torch.nn.Linear(8, 4).double()
    with torch.no_grad():
        layer.weight[:, :3] += 100.0  # magnitude keeps a basis
    pruned = nn.prune(layer, Refit(nn.Magnitude(), ridge=1e-10), nn.KeepCount(12), calibration=[data])
    torch.testing.assert_close(pruned.model(data), layer(data), rtol=1e-6, atol=1e-6)


def test_methods_that_change_their_copy_are_refitted_to_the_original():
    data = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in images()]
    net = network()
    decided = nn.plan(net, Refit(nn.SNIP(steps=3)), nn.KeepRatio(0.3), calibration=data)
    grams = collect_grams(net, find_layers(net), data)
    for name, layer in find_layers(net).items():
        difference = (layer.matrix() - layer.matrix(decided.layers[name].weight)).numpy()
        energy = grams[name].squared_errors(layer.matrix().numpy()).sum()
        reached = grams[name].squared_errors(difference).sum() / energy
        assert decided.layers[name].certificates[0].value == pytest.approx(reached)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_reported_error_is_that_of_the_weights_in_their_own_precision(dtype):
    torch.manual_seed(0)
    layer = torch.nn.Linear(10, 4).to(dtype)
    data = torch.randn(60, 10).to(dtype)
    decided = nn.plan(layer, Refit(nn.Magnitude()), nn.KeepRatio(0.4), calibration=[data])
    weight = decided.layers[""].weight
    assert weight.dtype == dtype
    gram = Gram.of(data.double().numpy()[None])
    old = layer.weight.detach().double().numpy()
    difference = old - weight.double().numpy()
    expected = gram.squared_errors(difference[None]).sum() / gram.squared_errors(old[None]).sum()
    assert decided.layers[""].certificates[0].value == pytest.approx(expected, rel=1e-12)


def test_a_weight_beyond_the_range_of_its_precision_is_refused():
    layer = torch.nn.Linear(2, 1, bias=False).half()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[100.0, 99.0]]))
    # The kept input stands in for one that is a thousand times as large.
    data = torch.tensor([[1.0, 1000.0], [2.0, 2000.0]], dtype=torch.float16)
    with pytest.raises(ValueError, match="exceeds the range"):
        nn.plan(layer, Refit(nn.Magnitude(), ridge=1e-9), nn.KeepCount(1), calibration=[data])


def test_bad_values_are_refused():
    with pytest.raises(TypeError, match=r"such as Magnitude\(\)"):
        Refit(nn.Magnitude)
    with pytest.raises(ValueError, match="ridge"):
        Refit(nn.Magnitude(), ridge=0.0)
    with pytest.raises(ValueError, match="calibration"):
        nn.plan(network(), Refit(nn.Magnitude()), nn.KeepRatio(0.5))
