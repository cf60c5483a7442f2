"""i-SpaSP: sets by the shortcut are those by differentiation, and what its certificates and notes say."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nn import KeepCount, KeepRatio, PerLayer, plan, prune
from nn.calibration import Calibration, split_batch
from nn.layers import find_layers
from nn.neurons import AbsoluteSum, ColumnNormalised, ISpaSP, RowNorm, SignedSum, TopActivation, UnitScore
from nn.neurons._second_map import SumCollector, read_consumers, residual_gradient
from nn.neurons._support import pursue
from nn.units.consumers import consumers_of
from nn.units.topology import find_groups

SCORES: tuple[UnitScore, ...] = (SignedSum(), AbsoluteSum(), RowNorm())
ALL = (*SCORES, *(ColumnNormalised(score) for score in SCORES))
SETTINGS = (
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (2, 3), "padding": (0, 2), "dilation": (1, 2)},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular"},
    {"kernel_size": 1, "stride": 2},
)
# Sums of a few thousand products in float64.
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


def batch_normed(channels: int, seed: int) -> torch.nn.BatchNorm2d:
    """Running statistics and affine parameters as of a trained network."""
    generator = torch.Generator().manual_seed(seed)
    norm = torch.nn.BatchNorm2d(channels, dtype=torch.float64)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean):
            value.copy_(torch.randn(channels, generator=generator))
        norm.running_var.copy_(0.2 + torch.rand(channels, generator=generator))
    return norm


def convolutions(**settings: object) -> torch.nn.Sequential:
    """A group of 5 channels that a convolution with batch normalisation reads."""
    torch.manual_seed(3)
    first = torch.nn.Conv2d(1, 5, 3, padding=1, dtype=torch.float64)
    second = torch.nn.Conv2d(5, 4, dtype=torch.float64, **settings)
    return torch.nn.Sequential(first, torch.nn.ReLU(), second, batch_normed(4, 1)).eval()


def perceptron(*widths: int, seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    modules: list[torch.nn.Module] = []
    for one, other in itertools.pairwise(widths):
        modules += [torch.nn.Linear(one, other, dtype=torch.float64), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def second_map(network: torch.nn.Sequential, images: torch.Tensor, score: UnitScore):
    group = find_groups(network, split_batch(images[:2])).groups["0"]
    consumers = consumers_of(network, group)
    reads = read_consumers(network, consumers, Calibration.of(images.split(4)), score.collector)
    return score.second_map(reads)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_patch_sums_give_the_gradient_of_a_convolution_and_its_normalisation(settings):
    network, images = convolutions(**settings), torch.randn(10, 1, 7, 6, dtype=torch.float64)
    second = second_map(network, images, SignedSum())
    hidden = network[:2](images).detach()
    for bits in range(32):
        kept = torch.tensor([bool(bits >> unit & 1) for unit in range(5)])
        gradient = residual_gradient(network[2:], hidden, kept)
        np.testing.assert_allclose(
            second.importance(~kept.numpy()), gradient.sum(dim=(0, 2, 3)).numpy(), **TOLERANCE
        )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_moments_give_the_norms_of_gradients_in_patches(settings):
    network, images = convolutions(**settings), torch.randn(10, 1, 7, 6, dtype=torch.float64)
    second = second_map(network, images, RowNorm())
    (read,) = second.reads
    hidden = network[:2](images).detach()
    patches = torch.cat(list(read.consumer.layer.inputs(hidden)), dim=1)[0]  # (vectors, columns)
    weight = network[2].weight.detach().flatten(1)
    scales = network[3].weight.detach() / (network[3].running_var + network[3].eps).sqrt()
    window = weight.shape[1] // 5
    removed = torch.tensor([True, False, True, True, False])
    residual = (patches * removed.repeat_interleave(window)) @ (weight * scales[:, None]).t()
    rows = (residual @ (weight * scales[:, None])).reshape(len(patches), 5, window)
    np.testing.assert_allclose(second.importance(removed.numpy()), rows.norm(dim=(0, 2)), **TOLERANCE)
    sizes = patches.reshape(len(patches), 5, window).norm(dim=(0, 2))
    np.testing.assert_allclose(second.sizes, sizes, **TOLERANCE)
    assert second.residual(removed.numpy()) == pytest.approx(float(residual.norm()), rel=1e-10)


@pytest.mark.parametrize("score", [SignedSum(), AbsoluteSum()], ids=repr)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_shortcut_and_differentiation_find_the_same_sets(score, seed, count):
    network = perceptron(4, 10, 6, seed=seed)
    inputs = torch.rand(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    hidden = network[:2](inputs).detach()
    second = second_map(network, inputs, score)

    def differentiated(removed):
        found = residual_gradient(network[2], hidden, torch.from_numpy(~removed)).sum(dim=0).numpy()
        return np.abs(found) if isinstance(score, AbsoluteSum) else found

    expected = pursue(hidden.sum(dim=0).numpy(), differentiated, count, 20)
    found = pursue(second.sizes, second.importance, count, 20)
    assert len(found) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_activations_that_a_stride_skips_do_not_count():
    layer = torch.nn.Conv2d(1, 1, 1, stride=2)
    collector = SumCollector()
    images = torch.zeros(1, 1, 4, 4)
    images[0, 0, 1, 1] = 7.0
    images[0, 0, 2, 2] = 3.0
    collector.update(find_layers(layer)[""], images)
    assert float(collector.hidden) == 3.0


@pytest.mark.parametrize("score", ALL, ids=repr)
def test_rescaling_relus_changes_nothing_but_for_scores_that_are_not_normalised(score):
    network, inputs = perceptron(4, 12, 7), torch.rand(20, 4, dtype=torch.float64)
    rescaled, factors = copy.deepcopy(network), torch.tensor([8.0, 0.125] * 6, dtype=torch.float64)
    with torch.no_grad():
        rescaled[0].weight.mul_(factors[:, None])
        rescaled[0].bias.mul_(factors)
        rescaled[2].weight.div_(factors)
    keeps = [
        plan(one, ISpaSP(score), KeepCount(4), calibration=[inputs]).groups["0"].keep
        for one in (network, rescaled)
    ]
    assert torch.equal(*keeps) == isinstance(score, ColumnNormalised)


@pytest.mark.parametrize("score", ALL, ids=repr)
def test_a_bias_of_the_second_map_has_no_effect_and_batches_do_not_matter(score):
    network, inputs = perceptron(4, 12, 7), torch.rand(20, 4, dtype=torch.float64)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other[2].bias.add_(100.0)
    one = plan(network, ISpaSP(score), KeepRatio(0.4), calibration=[inputs]).groups["0"].keep
    two = plan(other, ISpaSP(score), KeepRatio(0.4), calibration=list(inputs.split(7))).groups["0"].keep
    assert torch.equal(one, two)


def test_a_large_unit_that_nothing_reads_is_kept_by_size_and_dropped_by_importance():
    network, inputs = perceptron(4, 8, 5), torch.rand(10, 4, dtype=torch.float64)
    with torch.no_grad():
        network[0].weight.abs_()
        network[0].weight[3] = 50.0
        network[2].weight.abs_()
        network[2].weight[:, 3] = 0.0
    kept = {
        repr(method): bool(plan(network, method, KeepCount(2), calibration=[inputs]).groups["0"].keep[3])
        for method in (TopActivation(), TopActivation(ColumnNormalised()), ISpaSP(SignedSum()), ISpaSP())
    }
    assert list(kept.values()) == [True, False, False, False]


def test_with_orthonormal_columns_the_largest_units_are_found_at_once():
    second = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 9)))[0]
    sizes = np.random.default_rng(1).random(9)
    (support,) = pursue(sizes, lambda removed: second.T @ second @ (sizes * removed), 3, 20)
    assert set(np.flatnonzero(support)) == set(np.argsort(-sizes)[:3])


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_kept_sizes_never_fall_and_half_of_the_units_need_one_iteration(seed, count):
    rng = np.random.default_rng(seed)
    second, sizes = rng.normal(size=(3, 8)), rng.random(8)
    supports = pursue(sizes, lambda removed: second.T @ second @ (sizes * removed), count, 50)
    sums = [sizes[support].sum() for support in supports]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(sums))
    assert all(int(support.sum()) == count for support in supports)
    if count >= 4:
        assert set(np.flatnonzero(supports[-1])) == set(np.argsort(-sizes)[:count])


@pytest.mark.parametrize(
    "score", [ColumnNormalised(SignedSum()), RowNorm(), ColumnNormalised(RowNorm())], ids=repr
)
def test_the_certificate_is_the_residual_and_holds_where_the_second_map_is_nearly_an_isometry(score):
    network, inputs = perceptron(4, 8, 40), torch.rand(30, 4, dtype=torch.float64)
    with torch.no_grad():
        network[2].weight.copy_(torch.linalg.qr(torch.randn(40, 8, dtype=torch.float64))[0])
    found = plan(network, ISpaSP(score), KeepCount(2), calibration=[inputs])
    (evidence,) = found.groups["0"].certificates
    hidden = network[:2](inputs).detach()
    whole, left = (h @ network[2].weight.detach().t() for h in (hidden, hidden * ~found.groups["0"].keep))
    if "Sum" in repr(score):
        whole, left = whole.sum(dim=0), left.sum(dim=0)
    assert evidence.value == pytest.approx(float(left.norm() / whole.norm()), rel=1e-9)
    assert evidence.holds
    assert bool(evidence.details["vacuous"]) == (evidence.bound >= 1.0)


@pytest.mark.parametrize("score", [SignedSum(), RowNorm()], ids=repr)
def test_what_is_certified_of_sums_is_said_to_be_about_added_up_outputs(score):
    network = perceptron(2, 2, 2)
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    # The second unit is small in sum, and as large as the first one in norm.
    inputs = torch.tensor([[1.0, 10.0], *[[1.0, 0.0]] * 99], dtype=torch.float64)
    found = plan(network, ISpaSP(score), PerLayer({"0": KeepCount(1)}), calibration=[inputs])
    (evidence,) = found.groups["0"].certificates
    lost = float((inputs * ~found.groups["0"].keep).norm() / inputs.norm())
    if isinstance(score, SignedSum):
        assert evidence.value <= evidence.bound < 0.2
        assert lost > 0.7
    else:
        assert evidence.value == pytest.approx(lost)
    assert ("added up over examples" in evidence.statement) == isinstance(score, SignedSum)


def test_a_bound_that_needs_no_iteration_states_the_constant_of_twice_the_units_all_the_same():
    network, inputs = perceptron(4, 6, 40), torch.rand(30, 4, dtype=torch.float64)
    (evidence,) = (
        plan(network, ISpaSP(RowNorm()), KeepCount(3), calibration=[inputs]).groups["0"].certificates
    )
    assert evidence.details["isometry_large"] > evidence.details["isometry_small"] > 0.0


@pytest.mark.parametrize(
    ("network", "score", "reason"),
    [
        (lambda: perceptron(4, 30, 10), RowNorm(), "24 units have 24 columns"),
        (lambda: perceptron(4, 30, 25), RowNorm(), "not below 1"),
        (lambda: convolutions(kernel_size=3), SignedSum(), "several columns"),
        (
            lambda: torch.nn.Sequential(
                torch.nn.Linear(4, 30, dtype=torch.float64),
                torch.nn.GELU(),
                torch.nn.Linear(30, 70, dtype=torch.float64),
            ),
            SignedSum(),
            "negative",
        ),
    ],
    ids=["outputs", "coherence", "windows", "gelu"],
)
def test_a_note_says_why_there_is_no_certificate(network: Callable[[], torch.nn.Module], score, reason):
    made = network()
    inputs = torch.randn(16, 1, 6, 6) if isinstance(made[0], torch.nn.Conv2d) else torch.randn(16, 4)
    found = plan(made, ISpaSP(score), KeepRatio(0.4), calibration=[inputs.double()])
    assert found.groups["0"].certificates == ()
    assert any(reason in note for note in found.notes)


def test_later_groups_are_chosen_behind_earlier_ones_that_are_smaller():
    network, inputs = perceptron(4, 9, 8, 5, seed=2), torch.rand(30, 4, dtype=torch.float64)
    found = plan(network, ISpaSP(SignedSum()), KeepRatio(0.4), calibration=[inputs])
    first = network[:2](inputs).detach() * found.groups["0"].keep
    hidden = torch.relu(network[2](first)).detach()
    weight = network[4].weight.detach().numpy()
    sizes = hidden.sum(dim=0).numpy()
    expected = pursue(
        sizes, lambda removed: weight.T @ weight @ (sizes * removed), found.groups["2"].kept, 20
    )
    assert np.array_equal(expected[-1], found.groups["2"].keep.numpy())


class Block(torch.nn.Module):
    """A residual block between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 6, 3, padding=1)
        self.first = torch.nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.norm1, self.norm2 = torch.nn.BatchNorm2d(8), torch.nn.BatchNorm2d(6)
        self.second = torch.nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.head = torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.norm2(self.second(torch.relu(self.norm1(self.first(x))))))
        return self.head(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("score", ALL, ids=repr)
def test_residual_blocks_shrink_inside_and_along_the_stream(score):
    torch.manual_seed(0)
    network, images = Block(), [torch.randn(8, 1, 6, 6) for _ in range(2)]
    inner = prune(network, ISpaSP(score), PerLayer({"first": KeepRatio(0.5)}), calibration=images)
    assert inner.model.second.in_channels == 4
    assert inner.model.second.out_channels == 6
    both = prune(network, ISpaSP(score), KeepRatio(0.5), calibration=images)
    assert both.model.stem.out_channels == both.model.second.out_channels == 3
    again = prune(network, ISpaSP(score), KeepRatio(0.5), calibration=images)
    assert torch.equal(both.model(images[0]), again.model(images[0]))


def test_the_normalisation_before_the_skip_belongs_to_the_second_map():
    torch.manual_seed(0)
    network = Block().eval()
    with torch.no_grad():
        network.norm2.weight.copy_(torch.tensor([100.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        network.second.weight.abs_()
        network.second.weight[0] = 0.0
        network.second.weight[0, 5] = 0.5
        network.second.weight[0, 2] = 0.4
    images = torch.randn(8, 1, 6, 6)
    budget = PerLayer({"first": KeepCount(2)})
    found = plan(network, ISpaSP(ColumnNormalised(RowNorm())), budget, calibration=[images])
    assert torch.nonzero(found.groups["first"].keep).reshape(-1).tolist() == [2, 5]


def test_attention_heads_are_blocks():
    network = torch.nn.Sequential(torch.nn.Linear(5, 12), torch.nn.Tanh(), torch.nn.Linear(12, 9))
    inputs, method = torch.randn(20, 5), ISpaSP(ColumnNormalised(RowNorm()))
    found = plan(network, method, KeepCount(2), calibration=[inputs], blocks={"0": 3})
    hidden = network[:2](inputs).detach().double()
    weight = network[2].weight.detach().double()
    sizes = [
        float((hidden[:, 3 * u : 3 * u + 3] @ weight[:, 3 * u : 3 * u + 3].t()).norm()) for u in range(4)
    ]
    assert found.groups["0"].keep.tolist() == [size >= sorted(sizes)[-2] for size in sizes]


@pytest.mark.parametrize("arguments", [{"iterations": 0}, {"score": "sum"}, {"score": SignedSum}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises((TypeError, ValueError), match=r"iterations|score"):
        ISpaSP(**arguments)
    if "score" in arguments:
        with pytest.raises(TypeError, match="score"):
            TopActivation(**arguments)
