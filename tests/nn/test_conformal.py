"""Factors of sensitivities from fresh inputs: the ratios, their rank, and what is refused."""

from __future__ import annotations

import copy
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from nn.calibration import Calibration, observe
from nn.certify.conformal import Conformal, RatioCollector, ShareFactor, conformal_factor, floored
from nn.guarantees.conformal import ConformalFactor
from nn.kernels._reference import by_examples
from nn.layers import find_layers
from nn.sensitivities import EdgeSensitivities, collect_sensitivities

Q9 = ConformalFactor()


def largest_ratios(weights: np.ndarray, vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
    """R of every vector, by the definition: weights and values (neurons, edges), vectors (n, edges)."""
    found = np.zeros(len(vectors))
    for half in (np.maximum(vectors, 0.0), np.maximum(-vectors, 0.0)):
        for side in (np.maximum(weights, 0.0), np.maximum(-weights, 0.0)):
            terms = side[None] * half[:, None, :]
            sums = terms.sum(axis=2, keepdims=True)
            shares = np.divide(terms, sums, out=np.zeros_like(terms), where=sums > 0.0)
            ratios = np.divide(shares, values, out=np.zeros_like(shares), where=shares > 0.0)
            found = np.maximum(found, ratios.max(axis=(1, 2)))
    return found


def values_of(layer: torch.nn.Module, seed: int) -> torch.Tensor:
    (edge_layer,) = find_layers(layer).values()
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.9 * torch.rand(edge_layer.shape, generator=generator, dtype=torch.float64)


def ratios_of(layer: torch.nn.Module, values: torch.Tensor, *batches: torch.Tensor, **options) -> np.ndarray:
    collector = RatioCollector(EdgeSensitivities(values, 1, 1, 1), **options)
    observe(layer, find_layers(layer), Calibration(batches), {"": collector})
    return collector.ratios().numpy()


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(seed: int, n_in: int = 9, n_out: int = 6) -> torch.nn.Linear:
    layer = torch.nn.Linear(n_in, n_out, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(normal(seed, n_out, n_in))
    return layer


@pytest.mark.parametrize("signed", [False, True])
@given(seed=st.integers(0, 99))
def test_ratios_are_those_of_the_definition(signed, seed):
    layer, x = linear(seed), normal(seed + 1, 12, 9)
    x = x if signed else x.clamp_min(0.0)
    values = values_of(layer, seed)
    expected = largest_ratios(layer.weight.detach().numpy(), x.numpy(), values[0].numpy())
    # A sum of nine terms and two quotients: some dozens of roundings of 1.1e-16.
    np.testing.assert_allclose(ratios_of(layer, values, x), expected, rtol=1e-14)


@given(seed=st.integers(0, 99), cut=st.integers(1, 11))
def test_batches_do_not_matter_and_the_order_of_inputs_is_kept(seed, cut):
    layer, x = linear(seed), normal(seed, 12, 9)
    values = values_of(layer, seed)
    whole = ratios_of(layer, values, x)
    np.testing.assert_allclose(ratios_of(layer, values, x[:cut], x[cut:]), whole, rtol=1e-14)
    np.testing.assert_allclose(ratios_of(layer, values, x.flip(0)), whole[::-1], rtol=1e-14)


def test_every_kernel_gives_the_same():
    layer, x = linear(3), normal(4, 30, 9)
    values = values_of(layer, 5)
    np.testing.assert_array_equal(
        ratios_of(layer, values, x, kernel=by_examples), ratios_of(layer, values, x)
    )


@given(seed=st.integers(0, 20), factor=st.sampled_from([0.25, 4.0]))
def test_larger_sensitivities_and_larger_inputs(seed, factor):
    layer, x = linear(seed), normal(seed, 10, 9)
    values = values_of(layer, seed)
    ratios = ratios_of(layer, values, x)
    np.testing.assert_array_equal(ratios_of(layer, factor * values, x), ratios / factor)
    np.testing.assert_array_equal(ratios_of(layer, values, factor * x), ratios)


def test_a_convolution_takes_the_largest_ratio_of_its_patches_and_groups():
    layer = torch.nn.Conv2d(4, 6, 3, groups=2, padding=1, dtype=torch.float64)
    images, values = normal(0, 5, 4, 4, 4), values_of(layer, 1)
    (edge_layer,) = find_layers(layer).values()
    (block,) = edge_layer.inputs(images)
    weights = edge_layer.matrix().numpy()
    by_group = [largest_ratios(weights[g], block[g].numpy(), values[g].numpy()) for g in range(2)]
    expected = np.maximum(*by_group).reshape(5, 16).max(axis=1)
    np.testing.assert_allclose(ratios_of(layer, values, images), expected, rtol=1e-13)


@given(seed=st.integers(0, 50))
def test_on_the_inputs_of_the_sensitivities_no_ratio_exceeds_one(seed):
    layer, x = linear(seed), normal(seed, 15, 9)
    found = collect_sensitivities(layer, find_layers(layer), [x])[""]
    ratios = ratios_of(layer, found.values.clamp_min(1e-12), x)
    assert ratios.max() == pytest.approx(1.0, rel=1e-14)


def test_inputs_that_reach_no_neuron_and_weights_of_zero_have_no_ratio():
    layer = linear(0)
    with torch.no_grad():
        layer.weight[:, 4:] = 0.0
    found = collect_sensitivities(layer, find_layers(layer), [normal(1, 5, 9)])[""]
    raised = floored(found, find_layers(layer)[""], 0.5)
    assert bool((raised.values[:, :, 4:] == 0.0).all())
    assert raised.values[:, :, :4].min() >= 0.5 / 9
    silent = torch.zeros(2, 9, dtype=torch.float64)
    silent[1, 4:] = 1.0
    np.testing.assert_array_equal(ratios_of(layer, raised.values, silent), 0.0)


def test_a_network_in_single_and_half_precision_gives_nearly_the_same_factor():
    network = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
    x = normal(2, 60, 9).float()
    expected = conformal_factor(network, sensed(network, x[:20]), [x[20:]]).factor
    for dtype, relative in ((torch.float64, 1e-5), (torch.bfloat16, 0.3)):
        other = copy.deepcopy(network).to(dtype)
        found = conformal_factor(other, sensed(other, x[:20].to(dtype)), [x[20:].to(dtype)])
        assert found.factor == pytest.approx(expected, rel=relative)


def sensed(network: torch.nn.Module, x: torch.Tensor) -> dict[str, EdgeSensitivities]:
    return collect_sensitivities(network, find_layers(network), [x])


@given(
    st.integers(1, 400),
    st.floats(0.01, 0.99),
    st.one_of(st.none(), st.floats(0.01, 0.999)),
)
def test_the_rank_is_the_least_with_the_coverage(n, violation, confidence):
    k = Q9.rank(n, violation, confidence)
    assert 1 <= k <= n + 1

    def covers(rank: int) -> bool:
        if rank > n:
            return True
        if confidence is None:  # the mean coverage of the order statistic is k / (n + 1)
            return rank >= (n + 1) * (1.0 - violation) - 1e-9
        return scipy.stats.binom.cdf(rank - 1, n, 1.0 - violation) >= confidence - 1e-12

    assert covers(k)
    slack = 1e-9 if confidence is None else 1e-12
    if k > 1 and confidence is None:
        assert k - 1 < (n + 1) * (1.0 - violation) + slack
    elif k > 1:
        assert scipy.stats.binom.cdf(k - 2, n, 1.0 - violation) < confidence + slack


def test_ranks_that_can_be_done_by_hand():
    assert Q9.rank(9, 0.1) == 9
    assert Q9.rank(8, 0.1) == 9  # none of eight
    assert Q9.rank(19, 0.05) == 19
    assert Q9.rank(9, 0.3) == 7
    assert Q9.examples(0.1, 0.95) == 29  # 0.9^29 = 0.047
    assert Q9.rank(28, 0.1, 0.95) == 29
    assert Q9.rank(29, 0.1, 0.95) == 29


@given(st.integers(1, 60), st.integers(0, 99))
def test_the_factor_is_an_order_statistic_that_never_exceeds_the_largest(n, seed):
    ratios = np.random.default_rng(seed).exponential(size=n)
    factor = Q9.factor(ratios, 2.0, 0.2)
    k = Q9.rank(n, 0.2)
    assert factor == (2.0 if k > n else min(2.0, np.sort(ratios)[k - 1]))


@pytest.mark.parametrize("ratios", [[], [[1.0]], [1.0, np.nan], [-1.0]])
def test_ratios_that_are_none_are_refused(ratios):
    with pytest.raises(ValueError, match=r"ratios|examples"):
        Q9.factor(ratios, 2.0, 0.2)


class TestConformalFactor:
    network = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3)).double()
    x = normal(0, 80, 9)

    def result(self, n: int = 60, **statement) -> ShareFactor:
        found = sensed(self.network, self.x[:20])
        return conformal_factor(self.network, found, [self.x[20 : 20 + n]], Conformal(**statement))

    def test_it_is_the_order_statistic_of_the_largest_ratio_in_all_layers(self):
        result = self.result()
        hidden = self.network[:2](self.x[20:]).detach()
        worst = np.maximum(
            ratios_of(self.network[0], result.sensitivities["0"].values, self.x[20:]),
            ratios_of(self.network[2], result.sensitivities["2"].values, hidden),
        )
        assert result.factor == pytest.approx(np.sort(worst)[Q9.rank(60, 0.1) - 1], rel=1e-12)
        assert (result.examples, result.rank, result.too_few) == (60, 55, False)

    def test_too_few_inputs_give_what_no_ratio_exceeds(self):
        result = self.result(n=5)
        least = min(float(found.values.min()) for found in result.sensitivities.values())
        assert result.too_few
        assert result.factor == pytest.approx(1.0 / least)
        assert "too few" in result.certificate.statement

    def test_the_certificate_says_over_what_its_probability_is(self):
        marginal, given_inputs = self.result(), self.result(confidence=0.8)
        assert marginal.certificate.confidence == pytest.approx(0.9)
        assert given_inputs.certificate.confidence == pytest.approx(0.8)
        assert given_inputs.rank >= marginal.rank
        assert marginal.certificate.value == marginal.factor

    def test_the_network_is_left_in_its_mode(self):
        self.network.train()
        self.result()
        assert self.network.training

    def test_inputs_of_the_sensitivities_are_refused(self):
        found = sensed(self.network, self.x[:20])
        fresh, seen = [self.x[15:60]], [self.x[:20]]
        with pytest.raises(ValueError, match="certification example 0"):
            conformal_factor(self.network, found, fresh, seen=seen)
        conformal_factor(self.network, found, [self.x[20:]], seen=seen)

    def test_layers_that_do_not_fit_are_refused(self):
        found = sensed(self.network, self.x)
        with pytest.raises(ValueError, match=r"\['9'\]"):
            conformal_factor(self.network, {"9": found["0"]}, [self.x])
        with pytest.raises(ValueError, match="shape"):
            conformal_factor(self.network, {"0": found["2"]}, [self.x])
        with pytest.raises(TypeError, match="Conformal"):
            conformal_factor(self.network, found, [self.x], Conformal)

    def test_a_layer_that_runs_twice_an_input_is_refused(self):
        class Twice(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = linear(0, 9, 9)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.layer(self.layer(x))

        network = Twice()
        with pytest.raises(ValueError, match="several times"):
            conformal_factor(network, sensed(network, self.x), [self.x])

    @pytest.mark.parametrize("options", [{"violation": 0.0}, {"confidence": 1.0}, {"floor": 0.0}])
    def test_statements_out_of_range_are_refused(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            Conformal(**options)


def _share(rank: int, world: int, port: int, directory: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    saved = torch.load(Path(directory) / "data.pt")
    ratios = ratios_of(linear(0), saved["values"], saved["x"].split(20)[rank])
    torch.save(torch.from_numpy(ratios), f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_every_process_has_the_ratios_of_all(tmp_path: Path):
    x, values = normal(1, 30, 9), values_of(linear(0), 2)
    torch.save({"x": x, "values": values}, tmp_path / "data.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_share, (2, port, str(tmp_path)), nprocs=2)
    for rank in range(2):  # with unequal parts of the inputs
        found = torch.load(tmp_path / f"{rank}.pt").numpy()
        np.testing.assert_allclose(found, ratios_of(linear(0), values, x), rtol=1e-14)
