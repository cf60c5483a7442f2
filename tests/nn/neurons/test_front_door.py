"""What a user meets at the front door: refusals that say what to do, and sizes that say what is true."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import nn
from coresets.linf import CertifiedPeeling
from coresets.samplers import FixedSize
from nn.certify import additive, interval
from nn.edges.sipp import Transfer
from nn.neurons import (
    PFP,
    AddedCost,
    Ball,
    BestGroupPath,
    ColumnNormalised,
    ConvexGeometry,
    Drawing,
    FilterNorm,
    Fisher,
    GeometricMedian,
    GivenLabels,
    GreedyForward,
    GroupOBS,
    GroupOLS,
    ISpaSP,
    Lewis,
    MeasuredEllipsoid,
    NormBounded,
    Peeled,
    PublishedNormBounded,
    RandomUnits,
    RidgeLewis,
    RowNorm,
    Subspace,
    TaylorUnits,
    ThiNet,
    TopActivation,
    VarianceOptimal,
    WidthScaling,
)

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))

WITH_ALLOCATION: list[Callable[..., object]] = [
    BestGroupPath,
    Drawing,
    FilterNorm,
    Fisher,
    GeometricMedian,
    GreedyForward,
    GroupOBS,
    GroupOLS,
    ISpaSP,
    PFP,
    PublishedNormBounded,
    RandomUnits,
    TaylorUnits,
    ThiNet,
    TopActivation,
    WidthScaling,
]


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 12),
        torch.nn.ReLU(),
        torch.nn.Linear(12, 10),
        torch.nn.ReLU(),
        torch.nn.Linear(10, 3),
    )


@pytest.mark.parametrize("method", WITH_ALLOCATION)
@pytest.mark.parametrize("allocation", ["uniform", nn.Uniform, nn.LAMP(), nn.ERK()])
def test_allocation_that_divides_no_units_is_refused_when_the_method_is_made(
    method: Callable[..., object], allocation: object
):
    with pytest.raises(TypeError, match="Uniform"):
        method(allocation=allocation)


def test_parts_of_methods_are_checked_when_the_method_is_made():
    for method in (NormBounded, VarianceOptimal):
        with pytest.raises(TypeError, match="drawing = 1"):
            method(drawing=1)
    with pytest.raises(TypeError, match="reconstruction = 1"):
        GroupOLS(reconstruction=1)


def test_class_in_place_of_a_method_is_refused_with_the_object_to_pass():
    with pytest.raises(TypeError, match=r"FilterNorm\(\)"):
        nn.prune(network(), FilterNorm, nn.KeepRatio(0.5), calibration=[X])


def test_blocks_that_are_no_mapping_are_refused():
    with pytest.raises(TypeError, match="mapping"):
        nn.prune(network(), FilterNorm(), nn.KeepRatio(0.5), calibration=[X], blocks=["0"])


@pytest.mark.parametrize("method", [ISpaSP(), TopActivation(), Fisher(), GroupOLS()], ids=repr)
def test_data_that_can_be_read_only_once_are_refused_by_methods_that_read_them_again(method):
    with pytest.raises(ValueError, match=r"more than once.* pass a list of batches or a DataLoader"):
        nn.prune(network(), method, nn.KeepRatio(0.5), calibration=(part for part in X.split(8)))


def test_data_that_can_be_read_only_once_are_refused_by_a_certified_budget():
    budget = nn.Certified(nn.ClassChange(), 0.0, 0.2)
    with pytest.raises(ValueError, match="pass a list of batches or a DataLoader"):
        nn.prune(network(), FilterNorm(), budget, calibration=iter([X]), certification=[X + 1.0])


@pytest.mark.parametrize("method", [TaylorUnits(), Fisher()], ids=repr)
def test_missing_labels_are_refused_with_a_remedy_that_exists(method):
    with pytest.raises(ValueError, match=r"Fisher\(labels=SampledLabels\(\)\)"):
        nn.prune(network(), method, nn.KeepRatio(0.5), calibration=[X])


def test_size_is_about_units_and_says_nothing_of_masks():
    shrunk = nn.prune(network(), FilterNorm(), nn.KeepRatio(0.5), calibration=[X])
    left = sum(parameter.numel() for parameter in shrunk.model.parameters())
    assert str(shrunk.size) == f"11 of 22 units (50.00%); {left} of 247 parameters are left."


@pytest.mark.parametrize("method", [FilterNorm(), GroupOLS()], ids=repr)
def test_bounds_ask_for_the_masked_form_of_a_shrunk_network_and_hold_for_it(method):
    whole = network()
    shrunk = nn.prune(whole, method, nn.KeepRatio(0.5), calibration=[X])
    for refused in (lambda: additive(whole, shrunk.model, X), lambda: interval(whole, shrunk.model, X, X)):
        with pytest.raises(ValueError, match=r"layer '0' has another shape.*plan\.masked\(network\)"):
            refused()
    observed = (shrunk.model(X) - whole(X)).abs()
    assert bool((observed <= additive(whole, shrunk.plan.masked(whole), X) + 1e-5).all())


@pytest.mark.parametrize(
    "method", [FilterNorm(), GroupOLS(), NormBounded(), PFP(), ISpaSP(), TaylorUnits()], ids=type
)
def test_certified_budget_finds_the_smallest_network_for_methods_of_every_kind(method):
    whole = network()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    budget = nn.Certified(nn.OutputDifference(torch.inf), 10.0, 0.3, candidates=3, smallest=0.2)
    data = [(X, torch.zeros(len(X), dtype=torch.int64))]
    found = nn.prune(whole, method, budget, calibration=data, certification=[X + 2.0], rng=0)
    assert found.size.kept == round(0.2 * 22)
    assert found.certificates[-1].value <= 0.3
    assert all(torch.equal(before[name], value) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: PFP(transfer=1), "transfer = 1"),
        (lambda: PFP(transfer=Transfer), "transfer"),
        (lambda: PFP(reweighted=1), "reweighted = 1"),
        (lambda: PFP(sampler=FixedSize), "sampler"),
        (lambda: Drawing(reweighted="no"), "reweighted = 'no'"),
        (lambda: Peeled(1), "construction = 1"),
        (lambda: Peeled(rule=CertifiedPeeling), "rule"),
        (lambda: Subspace(inner=3), "inner = 3"),
        (lambda: TaylorUnits(loss=3), "loss = 3"),
        (lambda: TaylorUnits(effect="abs"), "effect = 'abs'"),
        (lambda: Fisher(loss=torch.nn.CrossEntropyLoss), "loss"),
        (lambda: Fisher(cost=3), "cost = 3"),
        (lambda: Fisher(labels=GivenLabels), "labels"),
        (lambda: ColumnNormalised(1), "score = 1"),
        (lambda: ColumnNormalised(ColumnNormalised()), "normalised already"),
        (lambda: Ball("wide"), "radius = 'wide'"),
        (lambda: Ball({0: 1.0}), "key 0"),
        (lambda: Ball({"a": None}), r"radius\['a'\] = None"),
        (lambda: RidgeLewis("1"), "ridge = '1'"),
        (lambda: FilterNorm("l2"), "order = 'l2'"),
        (lambda: PublishedNormBounded(None), "beta = None"),
        (lambda: ConvexGeometry(Lewis), "Lewis"),
        (lambda: ConvexGeometry(fallback=FilterNorm()), "fallback"),
        (lambda: AddedCost("x"), "beta = 'x'"),
        (lambda: MeasuredEllipsoid(vectors=2.5), "vectors = 2.5"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(make: Callable[[], object], name: str):
    with pytest.raises(TypeError, match=name):
        make()


@pytest.mark.parametrize("make", [lambda: Ball({}), lambda: Ball({"a": -1.0}), lambda: AddedCost(-1.0)])
def test_arguments_out_of_range_are_refused(make: Callable[[], object]):
    with pytest.raises(ValueError, match=r"radius|beta"):
        make()


@pytest.mark.parametrize("method", [ISpaSP, TopActivation])
def test_groups_compete_with_shares_of_their_sizes_where_the_allocation_lets_them(method):
    model = network()
    with torch.no_grad():  # in the second group nearly all is in one unit; both groups are read as they are
        model[2].weight[1:] *= 1e-4
        model[2].bias[1:] *= 1e-4
        model[2].bias[0] = 10.0
    whole = nn.plan(model, method(RowNorm(), allocation=nn.Uniform()), nn.KeepCount(11), calibration=[X])
    global_ = nn.plan(model, method(RowNorm(), allocation=nn.Global()), nn.KeepCount(11), calibration=[X])
    assert [group.kept for group in whole.groups.values()] == [6, 5]
    assert whole.kept == global_.kept == 11
    assert global_.groups["2"].kept == 1
