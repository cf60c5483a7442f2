"""Recipes: plain data, carried out on copies, refused where they do not fit."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential

from nn.calibration import split_batch
from nn.units import Recipe, find_groups
from nn.units.surgery import digest, recipe_of

IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Skip(torch.nn.Module):
    """A shortcut around two convolutions."""

    def __init__(self, width: int, inner: int, groups: int) -> None:
        super().__init__()
        self.body = Sequential(
            Conv2d(width, inner, 1), ReLU(), Conv2d(inner, inner, 3, padding=1, groups=groups)
        )
        self.back = Conv2d(inner, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.back(torch.tanh(self.body(x)))


class Join(torch.nn.Module):
    """Two convolutions of the same images, side by side."""

    def __init__(self, before: int, one: int, other: int) -> None:
        super().__init__()
        self.one, self.other = Conv2d(before, one, 1), Conv2d(before, other, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x), self.other(x)], 1)


@st.composite
def networks(draw: st.DrawFn) -> Sequential:
    """A stem, some blocks of three kinds, and a head on the flattened map."""
    torch.manual_seed(draw(st.integers(0, 9)))
    size = st.integers(2, 4)
    width = 2 * draw(size)
    layers: list[torch.nn.Module] = [Conv2d(3, width, 3), BatchNorm2d(width), ReLU()]
    for kind in draw(st.lists(st.sampled_from(["chain", "skip", "join", "depthwise"]), max_size=2)):
        if kind == "skip":
            layers.append(Skip(width, 2 * draw(size), draw(st.sampled_from([1, 2]))))
        elif kind == "depthwise":
            layers += [Conv2d(width, width, 3, padding=1, groups=width), ReLU()]
        elif kind == "join":
            one, other = draw(size), draw(size)
            layers.append(Join(width, one, other))
            width = one + other
        else:
            after = 2 * draw(size)
            layers += [Conv2d(width, after, 1), torch.nn.PReLU(after)]
            width = after
    return Sequential(*layers, Flatten(), Linear(width * 16, 3)).double().eval()


@settings(max_examples=20)
@given(st.data())
def test_any_units_of_any_network_are_removed_as_if_masked(data: st.DataObject):
    network = data.draw(networks())
    groups = find_groups(network, split_batch(IMAGES)).groups
    keep = {}
    for name, group in groups.items():
        kept = data.draw(st.lists(st.booleans(), min_size=group.units, max_size=group.units).filter(any))
        keep[name] = torch.tensor(kept)
    recipe = recipe_of(groups, keep, network)
    before = digest(network)
    smaller, masked = recipe.replay(network), recipe.masked(network)
    assert digest(network) == before
    with torch.no_grad():
        expected, found = masked(IMAGES), smaller(IMAGES)
    operations = sum(p.numel() for p in network.parameters()) * 36
    assert (found - expected).abs().max() <= operations * 2.3e-16 * max(1.0, float(expected.abs().max()))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))).to_dict() == recipe.to_dict()
    assert digest(Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))).replay(network)) == digest(
        smaller
    )


@given(st.permutations(range(5)), st.sets(st.integers(0, 4), min_size=1, max_size=4))
def test_permuting_units_permutes_what_stays(order: list[int], kept: set[int]):
    torch.manual_seed(0)
    network = Sequential(Linear(4, 5), ReLU(), Linear(5, 3)).double()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other[0].weight.copy_(network[0].weight[order])
        other[0].bias.copy_(network[0].bias[order])
        other[2].weight.copy_(network[2].weight[:, order])
    groups = find_groups(network, split_batch(torch.rand(2, 4, dtype=torch.float64))).groups
    keep = torch.tensor([unit in kept for unit in range(5)])
    one = recipe_of(groups, {"0": keep}, network).replay(network)
    two = recipe_of(groups, {"0": keep[order]}, other).replay(other)
    rows = [unit for unit in order if unit in kept]
    ranks = [sorted(kept).index(unit) for unit in rows]
    assert torch.equal(two[0].weight, one[0].weight[ranks])
    assert torch.equal(two[2].weight, one[2].weight[:, ranks])


def test_statistics_of_batches_go_with_their_channels_and_the_count_stays():
    network = Sequential(Conv2d(3, 4, 1), BatchNorm2d(4), Conv2d(4, 2, 1)).double()
    network.train()(IMAGES)
    smaller = Recipe({"0": (1, 3), "1": (1, 3)}, {"2": (1, 3)}).replay(network)
    assert torch.equal(smaller[1].running_mean, network[1].running_mean[[1, 3]])
    assert torch.equal(smaller[1].running_var, network[1].running_var[[1, 3]])
    assert smaller[1].num_batches_tracked == 1
    assert smaller[1].num_features == 2


def test_recipe_is_replayed_only_where_it_fits():
    network = Sequential(Linear(3, 4), ReLU(), Linear(4, 2))
    for recipe, message in (
        (Recipe({"7": (0,)}, {}), "'7'"),
        (Recipe({"0": (0, 4)}, {"2": (0, 4)}), "which has 4"),
        (Recipe({"0": ()}, {}), "which has 4"),
        (Recipe({"0": (-1,)}, {}), "which has 4"),
        (Recipe({}, {}, {"0.scale": (0, (0,))}), "the network has none"),
        (Recipe({}, {}, {"0.weight": (5, (0,))}), "which has 0"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe.replay(network)
    with pytest.raises(TypeError, match="ReLU"):
        Recipe({"1": (0,)}, {}).replay(network)
    with pytest.raises(TypeError, match="ReLU"):
        Recipe({}, {"1": (0,)}).replay(network)


def test_groups_of_a_convolution_lose_the_same_or_nothing():
    network = Sequential(Conv2d(2, 4, 1, groups=2), Conv2d(4, 4, 1, groups=2))
    with pytest.raises(ValueError, match="unequally many"):
        Recipe({"0": (0, 1, 2)}, {}).replay(network)
    with pytest.raises(ValueError, match="different inputs"):
        Recipe({}, {"1": (0, 3)}).replay(network)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"outputs": [], "inputs": {}, "parameters": {}},
        {"outputs": {"0": ["a"]}, "inputs": {}, "parameters": {}},
        {"outputs": {"0": [True]}, "inputs": {}, "parameters": {}},
        {"outputs": {}, "inputs": {}, "parameters": {"p": 3}},
    ],
)
def test_damaged_recipe_is_refused(record: object):
    with pytest.raises(ValueError, match="damaged"):
        Recipe.from_dict(record)


def test_digest_sees_values_names_shapes_and_precision():
    network = Sequential(Linear(2, 2, bias=False))
    other = copy.deepcopy(network)
    assert digest(network) == digest(other)
    with torch.no_grad():
        other[0].weight[1, 1] += 1.0
    assert len({digest(network), digest(other), digest(network.double()), digest(network[0])}) == 4
