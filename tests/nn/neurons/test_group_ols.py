"""Units by least squares: certificates, allocation, and networks pruned with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn import Global, KeepCount, KeepRatio, PerLayer, Uniform
from nn.neurons.group_ols import BestGroupPath, GroupOBS, GroupOLS, Reconstruction

AT_ONCE = Reconstruction(sequential=False)

seeds = st.integers(0, 2**32 - 1)


def network(seed: int, *, bias: bool = True) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 10),
        torch.nn.ReLU(),
        torch.nn.Linear(10, 8, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 3),
    ).double()


def data(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(60, 4, dtype=torch.float64, generator=generator) for _ in range(2)]


def recomputed(model: torch.nn.Sequential, plan: nn.UnitPlan, inputs: torch.Tensor, ridge: float) -> float:
    """Relative squared error of the first consumer, with the ridge, from its definition."""
    old, keep = model[2], plan.groups["0"].keep
    with torch.no_grad():
        seen = torch.relu(model[0](inputs))
        weight = plan.updates["2.weight"] * keep
        bias = plan.updates["2.bias"] if old.bias is not None else torch.zeros(len(weight))
        change = seen @ (weight - old.weight).T
        spread = seen
        if old.bias is not None:
            change = change + bias - old.bias
            spread = seen - seen.mean(dim=0)
        penalty = ridge * float(spread.square().sum(dim=0).mean())
        error = change.square().sum() + penalty * (weight - old.weight).square().sum()
        energy = (spread @ old.weight.T).square().sum() + penalty * old.weight.square().sum()
    return float(error / energy)


@settings(max_examples=8)
@given(seeds, st.sampled_from([1e-6, 0.01, 1.0]), st.booleans())
def test_the_certificate_is_the_error_of_the_weights_and_within_its_bound(seed, ridge, bias):
    model, batches = network(seed, bias=bias), data(seed)
    method = GroupOLS(Reconstruction(ridge, sequential=False), Uniform())
    plan = nn.plan(model, method, PerLayer({"0": KeepRatio(0.4)}), calibration=batches)
    certificate = plan.groups["0"].certificates[0]
    assert certificate.holds
    assert certificate.bound < 1.0
    found = recomputed(model, plan, torch.cat(batches), ridge)
    # Centring loses digits with the squared ratio of means to deviations, here a few.
    assert found == pytest.approx(certificate.value, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("search", [GroupOLS, GroupOBS, BestGroupPath])
@pytest.mark.parametrize("allocation", [Uniform(), Global()])
def test_counts_are_exact_and_no_group_vanishes(search, allocation):
    for count in (2, 5, 13, 17):
        plan = nn.plan(network(0), search(allocation=allocation), KeepCount(count), calibration=data(0))
        assert plan.kept == count
        assert all(group.kept >= 1 for group in plan.groups.values())


def test_the_global_allocation_has_no_larger_sum_of_errors_than_the_uniform_one():
    for seed in range(3):
        sums = []
        for allocation in (Global(), Uniform()):
            method = GroupOLS(AT_ONCE, allocation)
            plan = nn.plan(network(seed), method, KeepRatio(0.5), calibration=data(seed))
            sums.append(sum(group.certificates[0].value for group in plan.groups.values()))
        # Convex parts of paths are spent optimally; two groups may lose one unit's gain to rounding.
        assert sums[0] <= sums[1] * 1.05


def test_the_better_path_is_no_worse_than_either():
    for seed in range(3):
        values = [
            nn.plan(network(seed), search(AT_ONCE, Uniform()), KeepRatio(0.4), calibration=data(seed))
            .groups["0"]
            .certificates[0]
            .value
            for search in (BestGroupPath, GroupOLS, GroupOBS)
        ]
        assert values[0] <= min(values[1:]) * (1.0 + 1e-9)


def test_groups_that_compete_keep_as_many_units_as_with_forward_paths_and_lose_no_more():
    for seed in range(3):
        both, forward = (
            nn.plan(network(seed), search(AT_ONCE), KeepRatio(0.4), calibration=data(seed)).groups
            for search in (BestGroupPath, GroupOLS)
        )
        for name, group in forward.items():
            assert both[name].kept == group.kept
            assert both[name].certificates[0].value <= group.certificates[0].value * (1.0 + 1e-9)


def test_units_that_add_nothing_go_first():
    model = network(1)
    with torch.no_grad():
        model[2].weight[:, 3:] = 0.0
    plan = nn.plan(model, GroupOLS(allocation=Uniform()), PerLayer({"0": KeepCount(3)}), calibration=data(1))
    assert plan.groups["0"].keep.tolist() == [True] * 3 + [False] * 7


@given(seeds, st.floats(0.01, 100.0))
@settings(max_examples=10)
def test_rescaling_the_units_of_a_rectified_layer_changes_no_choice_without_a_ridge(seed, factor):
    model, batches = network(seed), data(seed)
    other = network(seed)
    with torch.no_grad():  # the same function with one unit in other units
        other[0].weight[2] *= factor
        other[0].bias[2] *= factor
        other[2].weight[:, 2] /= factor
    method = GroupOLS(Reconstruction(1e-10, sequential=False), Uniform())
    budget = PerLayer({"0": KeepCount(3)})
    one, two = (nn.plan(m, method, budget, calibration=batches) for m in (model, other))
    assert one.groups["0"].certificates[0].value == pytest.approx(
        two.groups["0"].certificates[0].value, rel=1e-4, abs=1e-6
    )


def test_windows_and_flattened_maps_are_chosen_as_whole_blocks():
    torch.manual_seed(2)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(5 * 16, 3),
    ).double()  # fmt: skip
    batches = [torch.randn(30, 1, 8, 8, dtype=torch.float64)]
    pruned = nn.prune(model, GroupOLS(AT_ONCE), KeepRatio(0.5), calibration=batches)
    assert pruned.plan.kept == 6  # 5.5, rounded
    assert all(group.certificates[0].holds for group in pruned.plan.groups.values())
    assert pruned.model(batches[0]).shape == (30, 3)


@pytest.mark.parametrize("search", [GroupOLS, GroupOBS, BestGroupPath])
@pytest.mark.parametrize("allocation", [Uniform(), Global()])
def test_where_nothing_is_to_be_removed_no_data_are_looked_at(search, allocation):
    class Once:
        """Data that may be read for the trace of the network, and not again."""

        reads = 0

        def __iter__(self):
            self.reads += 1
            return iter(data(0))

    batches, looks = Once(), Once()
    list(batches)
    nn.plan(network(0), nn.neurons.FilterNorm(), KeepRatio(1.0), calibration=looks)
    batches.reads = 0
    plan = nn.plan(network(0), search(allocation=allocation), KeepRatio(1.0), calibration=batches)
    assert batches.reads == looks.reads
    assert plan.kept == 18
    assert not plan.updates
    certificates = [group.certificates[0] for group in plan.groups.values()]
    assert [certificate.value for certificate in certificates] == [0.0, 0.0]
    assert all("no unit" in certificate.statement for certificate in certificates)


def test_a_group_that_keeps_all_its_units_costs_the_others_nothing():
    alone, both = (
        nn.plan(network(0), GroupOLS(AT_ONCE), PerLayer(budget), calibration=data(0))
        for budget in ({"0": KeepRatio(0.5)}, {"0": KeepRatio(0.5), "2": KeepRatio(1.0)})
    )
    torch.testing.assert_close(alone.groups["0"].keep, both.groups["0"].keep)
    assert both.groups["2"].keep.all()
    assert both.groups["2"].certificates[0].value == 0.0
    torch.testing.assert_close(alone.updates["2.weight"], both.updates["2.weight"], rtol=0, atol=0)


def test_certificates_say_how_many_vectors_they_are_about():
    torch.manual_seed(4)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3)).double()
    batches = [torch.randn(10, 1, 8, 8, dtype=torch.float64)] * 2  # 16 patches an image
    for patches, used in ((16, 320), (5, 64)):  # every fifth is used
        for method in (
            GroupOLS(Reconstruction(sequential=False, patches=patches)),
            nn.neurons.GreedyForward(patches=patches),
            nn.neurons.ThiNet(patches=patches),
        ):
            plan = nn.plan(model, method, PerLayer({"0": KeepRatio(0.5)}), calibration=batches)
            certificate = plan.groups["0"].certificates[0]
            assert (certificate.details["vectors"], certificate.details["vectors seen"]) == (used, 320)
            words = "on all 320" if used == 320 else f"on {used} sampled ones of the 320"
            assert words in certificate.statement


def test_both_consumers_of_a_stream_count():
    class Stream(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Linear(4, 6)
            self.one, self.two = torch.nn.Linear(6, 2), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            stream = torch.relu(self.stem(x))
            return self.one(stream) + 2.0 * self.two(stream)

    torch.manual_seed(3)
    model = Stream().double()
    with torch.no_grad():  # each consumer needs one unit of its own
        for consumer, unit in ((model.one, 1), (model.two, 4)):
            consumer.weight.zero_()
            consumer.weight[:, unit] = 1.0
    plan = nn.plan(model, GroupOLS(), KeepCount(2), calibration=data(3))
    assert torch.nonzero(plan.groups["stem"].keep).flatten().tolist() == [1, 4]


def test_a_consumer_that_is_too_wide_is_refused_by_name():
    with pytest.raises(ValueError, match="layer '2' has 10 columns"):
        nn.plan(network(0), GroupOLS(Reconstruction(max_columns=9)), KeepRatio(0.5), calibration=data(0))


def test_few_data_are_noted():
    few = [batch[:5] for batch in data(0)]
    plan = nn.plan(network(0), GroupOLS(), KeepRatio(0.5), calibration=few)
    assert any("fewer than 5 calibration vectors" in note for note in plan.notes)


def test_data_that_can_be_read_once_only_are_enough_for_one_pass():
    assert nn.plan(network(0), GroupOLS(AT_ONCE), KeepRatio(0.5), calibration=iter(data(0))).kept == 9
    with pytest.raises(ValueError, match="more than once"):
        nn.plan(network(0), GroupOLS(), KeepRatio(0.5), calibration=iter(data(0)))


@pytest.mark.parametrize("search", [GroupOLS, GroupOBS, BestGroupPath])
def test_an_allocation_that_ranks_scores_is_refused(search):
    with pytest.raises(TypeError, match="LAMP"):
        search(allocation=nn.LAMP())


@pytest.mark.parametrize("arguments", [{"ridge": -1.0}, {"patches": 0}, {"max_columns": 0}])
def test_bad_figures_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Reconstruction(**arguments)


def test_plans_survive_saving(tmp_path):
    model = network(0)
    plan = nn.plan(model, GroupOLS(), KeepRatio(0.5), calibration=data(0))
    plan.save(tmp_path / "plan.safetensors")
    again = type(plan).load(tmp_path / "plan.safetensors")
    x = data(1)[0]
    np.testing.assert_array_equal(plan.apply(model)(x).detach(), again.apply(model)(x).detach())
