"""Budgets of parameters and operations: kept exactly, and as far as one share of all groups goes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import Linear, ReLU, Sequential

import nn
from examples import topologies
from examples.networks import resnet20
from nn.neurons import FilterNorm
from nn.units import UnitPlan

VECTORS = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))


def plan(network: torch.nn.Module, budget: nn.Budget, data: Any = (VECTORS,)) -> UnitPlan:
    return nn.plan(network, FilterNorm(), budget, calibration=list(data))


def deep() -> Sequential:
    torch.manual_seed(0)
    return Sequential(Linear(8, 40), ReLU(), Linear(40, 23), ReLU(), Linear(23, 7), ReLU(), Linear(7, 2))


@pytest.mark.parametrize("ratio", [0.06, 0.29, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("kind", [nn.KeepParameters, nn.KeepFlops], ids=["parameters", "flops"])
def test_cost_budget_is_kept_and_the_next_share_of_all_groups_would_not_be(kind: type, ratio: float):
    budget = kind(ratio)
    before, after = (budget.spent(found) for found in plan(deep(), budget).costs)
    assert after <= budget.limit(plan(deep(), nn.KeepRatio(1.0)).costs[0]) <= ratio * before + 1
    widths = [40, 23, 7]
    kept = [group.kept for group in plan(deep(), budget).groups.values()]

    def spent(counts: list[int]) -> int:
        ends = [8, *counts, 2]
        products = sum(a * b for a, b in itertools.pairwise(ends))
        return products + sum(ends[1:]) if kind is nn.KeepParameters else 2 * products

    assert spent(kept) == after
    step = max(
        t for t in range(41) if all(k >= max(1, w * t // 40) for k, w in zip(kept, widths, strict=True))
    )
    if step < 40:
        assert spent([max(1, w * (step + 1) // 40) for w in widths]) > budget.limit(
            plan(deep(), budget).costs[0]
        )
    assert all(k <= max(1, w * step // 40) + 1 for k, w in zip(kept, widths, strict=True))


@pytest.mark.parametrize(
    "network", [resnet20(width=4), topologies.mobilenet_v2(width=4)], ids=["resnet", "mobile"]
)
@pytest.mark.parametrize("budget", [nn.KeepParameters(0.4), nn.KeepFlops(0.4)], ids=["parameters", "flops"])
def test_cost_budgets_hold_on_residual_and_depthwise_networks(network: torch.nn.Module, budget: nn.Budget):
    images = torch.rand(2, 3, 16, 16)
    before, after = plan(network.eval(), budget, [images]).costs
    assert 0.3 * budget.spent(before) <= budget.spent(after) <= 0.4 * budget.spent(before)


def test_groups_with_budgets_of_their_own_leave_the_rest_to_the_cost():
    budget = nn.PerLayer({"0": nn.KeepCount(30), "4": nn.Dense()}, rest=nn.KeepFlops(0.6))
    found = plan(deep(), budget)
    assert found.groups["0"].kept == 30
    assert "4" not in found.groups
    assert found.costs[1].flops <= 0.6 * found.costs[0].flops


def test_cost_that_cannot_be_reached_is_refused_with_what_can():
    with pytest.raises(
        ValueError, match=r"KeepFlops\(ratio=0.001\) allows 2 operations, .* there are 24 of"
    ) as found:
        plan(deep(), nn.KeepFlops(0.001))
    least = float(str(found.value).split("at least ")[1].split(",")[0])
    assert plan(deep(), nn.KeepFlops(least)).kept == 3
    with pytest.raises(ValueError, match="none is left"):
        plan(deep(), nn.PerLayer({"*": nn.KeepCount(2)}, rest=nn.KeepFlops(0.5)))
    with pytest.raises(TypeError, match="rest="):
        nn.PerLayer({"0": nn.KeepFlops(0.5)})
    with pytest.raises(TypeError, match="single weights"):
        nn.plan(deep(), nn.Magnitude(), nn.KeepParameters(0.5))
    with pytest.raises(ValueError, match="operations"):
        nn.KeepFlops(1.5)
