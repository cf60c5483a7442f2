"""PFP: sensitivities of units, draws, the allocation, and what it promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coresets import Accuracy
from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Top
from nn import KeepCount, KeepRatio, PerLayer, plan, prune
from nn.budgets import Share
from nn.calibration import split_batch
from nn.guarantees.edges import SideClass
from nn.guarantees.pfp import DistinctUnits, UnitInclusion, UnitSampling, UnitTruncation
from nn.neurons import PFP, CommonError
from nn.neurons._common_error import Drawable
from nn.neurons.sensitivities import collect_unit_sensitivities
from nn.selection import Global, Uniform
from nn.units.consumers import Consumer, consumers_of
from nn.units.topology import find_groups

SAMPLERS = [Top(), FixedSize(), Poisson(), IID(), Hybrid()]
EPS = float(np.finfo(np.float64).eps)


class Branches(torch.nn.Module):
    """A stream that a strided, a grouped and a linear layer read, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.other = torch.nn.Conv2d(2, 3, 3, padding=1)
        self.body = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.strided = torch.nn.Conv2d(4, 5, 3, stride=2)
        self.both = torch.nn.Conv2d(7, 3, 2)
        self.last = torch.nn.Linear(4 * 16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream = torch.relu(self.first(x))
        stream = stream + torch.relu(self.body(stream))
        joined = torch.cat([stream, torch.tanh(self.other(x))], dim=1)
        parts = (self.strided(stream), self.both(joined))
        return self.last(stream.flatten(1)) + sum(p.mean(dim=(1, 2, 3)) for p in parts)[:, None]


def by_definition(network: torch.nn.Module, readers: dict[str, Consumer], images: torch.Tensor) -> np.ndarray:
    """Largest shares, one neuron, sign, part, vector and unit after the other."""
    found = np.zeros(next(iter(readers.values())).units)
    for name, consumer in readers.items():
        seen: list[torch.Tensor] = []
        handle = network.get_submodule(name).register_forward_pre_hook(
            lambda _, a, seen=seen: seen.append(a[0])
        )
        network(images)
        handle.remove()
        weight = consumer.layer.matrix().detach().numpy()
        for block in consumer.layer.inputs(seen[0].detach()):
            for group, vector in itertools.product(range(len(block)), range(block.shape[1])):
                values = block[group, vector].numpy()
                for row, w, a in itertools.product(weight[group], (1, -1), (1, -1)):
                    terms = np.maximum(w * row, 0) * np.maximum(a * values, 0)
                    if terms.sum() > 0:
                        shares = terms[consumer.columns.numpy()].sum(axis=1) / terms.sum()
                        found = np.maximum(found, shares)
    return found


def test_sensitivities_are_largest_shares_over_windows_signs_patches_and_all_consumers():
    torch.manual_seed(0)
    network = Branches().double().eval()
    images = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    groups = find_groups(network, split_batch(images)).groups
    consumers = {name: consumers_of(network, group) for name, group in groups.items()}
    assert {len(readers) for readers in consumers.values()} == {1, 4}  # both cases occur
    found = collect_unit_sensitivities(network, consumers, [images[:2], images[2:]])
    for name, readers in consumers.items():
        expected = by_definition(network, dict(readers), images)
        assert np.allclose(found[name].values.numpy(), expected, rtol=1e3 * EPS, atol=0.0)
        halves = {layer: 2 if layer == "both" else 1 for layer in readers}
        patches = {"strided": 1, "both": 9, "body": 16, "last": 1}
        neurons = {"strided": 5, "both": 3, "body": 4, "last": 2}
        assert found[name].statements == sum(2 * neurons[k] * patches[k] * halves[k] for k in readers)


def test_a_kernel_window_counts_as_a_whole_and_not_by_its_largest_entry():
    """The released code takes single entries, and would give 1/18 where a unit has half of every sum."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(2, 1, 3)
    ).double()
    for module in (network[0], network[2]):
        torch.nn.init.ones_(module.weight)
        torch.nn.init.zeros_(module.bias)
    images = torch.ones(2, 1, 5, 5, dtype=torch.float64)
    groups = find_groups(network, split_batch(images)).groups
    readers = {"0": consumers_of(network, groups["0"])}
    assert collect_unit_sensitivities(network, readers, [images])["0"].values.tolist() == [0.5, 0.5]


def test_grouped_and_depthwise_convolutions_and_heads_are_followed():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1),
        torch.nn.Conv2d(8, 8, 3, groups=8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 4, 2, groups=2),
    )
    images = torch.rand(4, 3, 6, 6)
    for sampler in SAMPLERS:
        pruned = prune(network, PFP(sampler), KeepRatio(0.5), calibration=[images], rng=1)
        assert pruned.plan.kept == 2
        assert pruned.model(images).shape == (4, 4, 3, 3)


def perceptron(width: int = 24) -> torch.nn.Sequential:
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Linear(10, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width // 2),
        torch.nn.ReLU(),
        torch.nn.Linear(width // 2, 3),
    ).double()


DATA = torch.rand(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("allocation", [CommonError(), Uniform(), Global()], ids=repr)
def test_counts_are_exact_for_every_sampler_and_allocation(sampler, allocation):
    for count in (2, 7, 18, 35, 36):
        found = plan(perceptron(), PFP(sampler, allocation), KeepCount(count), calibration=[DATA], rng=count)
        assert found.kept == count
        assert all(group.kept >= 1 for group in found.groups.values())


def test_kept_whole_nothing_is_reweighted():
    for sampler in SAMPLERS:
        assert not plan(perceptron(), PFP(sampler), KeepRatio(1.0), calibration=[DATA], rng=0).updates


def test_the_deterministic_variant_keeps_the_most_sensitive_units_unchanged():
    network = perceptron()
    groups = find_groups(network, split_batch(DATA)).groups
    readers = {name: consumers_of(network, group) for name, group in groups.items()}
    values = collect_unit_sensitivities(network, readers, [DATA])["0"].values
    made = prune(network, PFP(), PerLayer({"0": KeepCount(9)}), calibration=[DATA]).plan
    assert set(torch.nonzero(made.groups["0"].keep).ravel().tolist()) == set(values.topk(9).indices.tolist())
    assert not made.updates


@pytest.mark.parametrize("sampler", [FixedSize(), Poisson(), IID(), Hybrid()], ids=repr)
def test_without_reweighting_only_the_choice_is_left(sampler):
    method = PFP(sampler, reweighted=False)
    made = prune(perceptron(), method, KeepRatio(0.5), calibration=[DATA], rng=0).plan
    assert not made.updates


def test_fixed_size_draws_are_unbiased():
    """The mean of what the consumer adds up, against its standard error: at most 5 of them, everywhere."""
    network = perceptron()
    budget, trials = PerLayer({"0": KeepCount(8)}), 100
    exact = network[2](torch.relu(network[0](DATA))).detach()
    rng = np.random.default_rng(0)
    sums = [
        torch.nn.Sequential(*pruned.model[:3])(DATA).detach()
        for pruned in (
            prune(network, PFP(FixedSize()), budget, calibration=[DATA], rng=child)
            for child in rng.spawn(trials)
        )
    ]
    stacked = torch.stack(sums)
    errors = stacked.std(dim=0) / trials**0.5
    assert bool(((stacked.mean(dim=0) - exact).abs() <= 5.0 * errors + 1e3 * EPS).all())


def test_multipliers_reach_every_consumer_and_agree_with_the_inverse_probabilities():
    torch.manual_seed(0)
    network = Branches().double().eval()
    images = torch.randn(6, 2, 4, 4, dtype=torch.float64)
    made = prune(
        network, PFP(FixedSize()), PerLayer({"first": KeepCount(2)}), calibration=[images], rng=3
    ).plan
    (name,) = made.groups
    assert {"body.weight", "strided.weight", "both.weight", "last.weight"} == set(made.updates)
    group = find_groups(network, split_batch(images)).groups[name]
    factors = []
    for layer, consumer in consumers_of(network, group).items():
        new = consumer.layer.matrix(made.updates[f"{layer}.weight"])
        ratios = (new / consumer.layer.matrix())[..., consumer.columns]
        assert torch.allclose(ratios, ratios[:1, :1, :, :1].expand_as(ratios), rtol=1e3 * EPS)
        factors.append(ratios[0, 0, :, 0])
        others = consumer.unit_of_column < 0
        assert torch.equal(new[..., others], consumer.layer.matrix()[..., others])
    assert all(torch.allclose(f, factors[0], rtol=1e3 * EPS) for f in factors)
    assert bool((factors[0][made.groups[name].keep] >= 1.0 - 1e3 * EPS).all())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_certificates_hold_on_the_data_seen_with_their_confidence(sampler):
    """With K = 1, for the inputs seen, errors exceed the certificate with probability delta at most."""
    network = perceptron(60).requires_grad_(False)
    failures = 0
    for seed in range(20):
        pruned = prune(network, PFP(sampler), PerLayer({"0": KeepCount(50)}), calibration=[DATA], rng=seed)
        (certificate,) = pruned.plan.groups["0"].certificates
        inside = torch.relu(network[0](DATA))
        kept = pruned.plan.masked(network)
        sums = [(inside @ m.T) for m in (network[2].weight.clamp_min(0), (-network[2].weight).clamp_min(0))]
        news = [(inside @ m.T) for m in (kept[2].weight.clamp_min(0), (-kept[2].weight).clamp_min(0))]
        worst = max(float(((n - s).abs() / s).nan_to_num(0.0).max()) for s, n in zip(sums, news, strict=True))
        failures += worst > certificate.value * (1 + 1e-9)
    assert failures == 0  # the certificate has K = 3, far above


def test_a_dead_unit_goes_first_and_vacuous_promises_are_said():
    network = perceptron()
    with torch.no_grad():
        network[0].bias[5] = -100.0
    made = prune(network, PFP(), PerLayer({"0": KeepCount(23)}), calibration=[DATA]).plan
    inside = torch.relu(network[0](DATA))
    assert not inside[:, ~made.groups["0"].keep].any()
    assert made.groups["0"].certificates[0].value == 0.0
    made = prune(network, PFP(FixedSize()), PerLayer({"0": KeepCount(4)}), calibration=[DATA[:9]], rng=0).plan
    assert any("vacuous" in note for note in made.notes)
    assert any("too few" in note for note in made.notes)


def test_a_class_instead_of_a_sampler_and_missing_randomness_are_refused():
    with pytest.raises(TypeError, match="FixedSize"):
        PFP(FixedSize)
    with pytest.raises(ValueError, match="delta"):
        PFP(delta=0.0)
    with pytest.raises(ValueError, match="draws at random"):
        prune(perceptron(), PFP(FixedSize()), KeepRatio(0.5), calibration=[DATA])


@given(
    st.lists(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), min_size=1, max_size=5),
    st.floats(0.0, 1.0),
)
def test_the_common_error_meets_every_count_and_keeps_one_unit_of_each(values, share):
    groups = {str(i): Drawable(np.array(own), 3.0 + i) for i, own in enumerate(values)}
    total = sum(len(own) for own in values)
    count = len(values) + round(share * (total - len(values)))
    counts = CommonError().counts(groups, Share(tuple(groups), count), 3.0)
    assert sum(counts.values()) == count
    assert all(1 <= counts[name] <= len(group.values) for name, group in groups.items())


@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=30), st.integers(2, 10))
def test_equal_groups_get_equal_counts_and_more_where_more_sums_must_hold(values, each):
    same = Drawable(np.array(values), 4.0)
    each = min(each, len(values))
    counts = CommonError().counts({"a": same, "b": same}, Share(("a", "b"), 2 * each), 3.0)
    assert counts == {"a": each, "b": each}
    harder = Drawable(np.array(values), 8.0)
    counts = CommonError().counts({"a": same, "b": harder}, Share(("a", "b"), 2 * each), 3.0)
    assert counts["b"] >= counts["a"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 5))
def test_the_expected_number_of_different_units_is_that_of_all_sequences(values, draws):
    p = np.array(values) / sum(values)
    exact = sum(
        len(set(sequence)) * np.prod(p[list(sequence)])
        for sequence in itertools.product(range(len(p)), repeat=draws)
    )
    found = DistinctUnits().expected(np.array(values), draws)
    assert found == pytest.approx(exact, rel=1e-12, abs=1e-12)
    assert found <= min(len(p), draws) + 1e-12


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20), st.data())
def test_draws_are_the_least_for_which_the_expectation_rounded_up_is_the_count(values, data):
    count = data.draw(st.integers(1, len(values)))
    theorem = DistinctUnits()
    draws = theorem.draws(values, count)
    assert np.ceil(theorem.expected(values, draws)) >= count
    assert draws == 1 or np.ceil(theorem.expected(values, draws - 1)) < count


def test_half_precision_is_measured_in_single_precision():
    network = perceptron().to(torch.bfloat16)
    pruned = prune(network, PFP(FixedSize()), KeepRatio(0.5), calibration=[DATA.to(torch.bfloat16)], rng=0)
    assert next(pruned.model.parameters()).dtype == torch.bfloat16
    assert pruned.plan.kept == 18


def test_f1_s_size_is_the_least_and_its_formula_the_published_one():
    theorem = UnitSampling()
    for total, epsilon in itertools.product((1.0, 3.0, 40.0), (0.1, 0.5, 1.0)):
        parameters = SideClass(total, 3.0, theorem.statements(neurons=20, patches=9))
        size = theorem.size(parameters, Accuracy(epsilon, 0.1))
        log = math.log(4 * 20 * 9 / 0.1)
        assert size == math.ceil((6 + 2 * epsilon) * total * log / epsilon**2)
        assert theorem.epsilon(parameters, size, 0.1) <= epsilon < theorem.epsilon(parameters, size - 1, 0.1)


def test_each_theorem_covers_its_samplers_and_no_other():
    for theorem, covered in (
        (UnitSampling(), [IID()]),
        (UnitInclusion(), [Poisson(), FixedSize(), Hybrid()]),
        (UnitTruncation(), [Top()]),
        (DistinctUnits(), [IID()]),
    ):
        assert [s for s in SAMPLERS if s.scheme in theorem.schemes] == [s for s in SAMPLERS if s in covered]


@given(st.integers(1, 50), st.integers(0, 200), st.floats(1e-6, 0.5))
def test_the_deviation_is_no_larger_than_that_of_bounded_differences(units, draws, delta):
    found = DistinctUnits().deviation(units, draws, delta)
    assert found <= math.sqrt(draws * math.log(2 / delta) / 2) * (1 + 1e-12)


def test_more_draws_than_units_can_be_found_are_refused():
    with pytest.raises(ValueError, match="exceeds the 2 units"):
        DistinctUnits().draws([1.0, 0.0, 2.0], 3)
