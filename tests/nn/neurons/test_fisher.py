"""Fisher and Taylor pruning: gates, labels, operations, and the order of removals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nn import KeepCount, KeepRatio, PerLayer, prune
from nn.budgets import Share
from nn.calibration import Calibration, split_batch
from nn.cost import cost
from nn.neurons import (
    AbsoluteEffect,
    AddedCost,
    CostRatio,
    Fisher,
    NoCost,
    SampledLabels,
    SquaredEffect,
    TaylorUnits,
    WidthScaling,
)
from nn.neurons._flops import Flops
from nn.neurons._gates import gate_gradients
from nn.neurons.fisher import _Remaining
from nn.plans import copied
from nn.selection import Uniform
from nn.units import find_groups
from nn.units.consumers import consumers_of
from nn.units.surgery import recipe_of

EPS = float(np.finfo(np.float64).eps)


class Block(torch.nn.Module):
    """A residual block with batch normalisation, a depthwise convolution, and a flattened classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
        self.wide = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 1), torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.deep = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.back = torch.nn.Conv2d(6, 4, 1)
        self.last = torch.nn.Linear(4 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream = torch.relu(self.stem(x))
        stream = stream + self.back(torch.relu(self.deep(self.wide(stream))))
        return self.last(torch.relu(stream).flatten(1))


def network() -> Block:
    torch.manual_seed(0)
    made = Block().double()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    return made.eval()


def examples(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 2, 3, 3, dtype=torch.float64, generator=generator)
    return images, torch.randint(3, (count,), generator=generator)


def cross_entropy(output, batch):
    return torch.nn.functional.cross_entropy(output, batch.target)


def gradients(model, data, active=None):
    groups = find_groups(model, split_batch(data[0])).groups
    found = list(gate_gradients(model, groups, Calibration.of(data), cross_entropy, active))
    return groups, {name: torch.cat([each[name] for each in found]) for name in groups}


def rescaled(model, group, unit, gate):
    """A copy in which whatever reads a unit reads it multiplied by the gate."""
    factors = torch.ones(group.units, dtype=torch.float64)
    factors[unit] = gate
    changed = copied(model)
    with torch.no_grad():
        for consumer in consumers_of(changed, group).values():
            consumer.layer.module.weight.copy_(consumer.rescaled(factors))
    return changed


def test_gradients_of_gates_are_finite_differences_of_every_examples_loss():
    model, (images, labels) = network(), examples()
    groups, found = gradients(model, [(images, labels)])
    step = EPS ** (1 / 3)
    for name, group in groups.items():
        for unit in range(group.units):
            up, down = (
                torch.nn.functional.cross_entropy(
                    rescaled(model, group, unit, 1.0 + s)(images), labels, reduction="none"
                )
                for s in (step, -step)
            )
            expected = ((up - down) / (2 * step)).detach()
            # Central differences: step^2 of the third derivative, and rounding over the step.
            assert torch.allclose(found[name][:, unit], expected, atol=1e3 * step**2, rtol=0.0)


def test_scores_do_not_depend_on_the_size_of_the_batches():
    model, (images, labels) = network(), examples()
    _, whole = gradients(model, [(images, labels)])
    parts = [(images[i:j], labels[i:j]) for i, j in ((0, 1), (1, 6), (6, 12))]
    _, split = gradients(model, parts)
    for name in whole:
        assert torch.allclose(whole[name], split[name], rtol=1e-9, atol=1e3 * EPS)
    masks = [
        prune(model, Fisher(), KeepRatio(0.5), calibration=data).plan.groups
        for data in ([(images, labels)], parts)
    ]
    assert all(torch.equal(masks[0][n].keep, masks[1][n].keep) for n in masks[0])


def test_a_closed_gate_is_physical_removal_after_normalisation_and_rectifier():
    model, (images, labels) = network(), examples()
    groups = find_groups(model, split_batch(images)).groups
    for name, group in groups.items():
        keep = {n: torch.ones(g.units, dtype=torch.bool) for n, g in groups.items()}
        keep[name][1] = False
        smaller = recipe_of(groups, keep, model).replay(model)
        assert torch.allclose(
            smaller(images), rescaled(model, group, 1, 0.0)(images), rtol=1e-9, atol=1e3 * EPS
        )
        _, masked = gradients(model, [(images, labels)], keep)
        _, removed = gradients(smaller, [(images, labels)])
        for other in groups:
            assert torch.allclose(masked[other][:, keep[other]], removed[other], rtol=1e-9, atol=1e3 * EPS)


def test_operations_saved_are_those_that_the_smaller_network_lacks():
    model, (images, _) = network(), examples()
    groups = find_groups(model, split_batch(images)).groups
    flops = Flops.of(model, groups, split_batch(images))
    rng = np.random.default_rng(0)
    counts = {name: group.units for name, group in groups.items()}
    keep = {name: torch.ones(size, dtype=torch.bool) for name, size in counts.items()}
    assert flops.total(counts) == cost(model, images).flops
    for _ in range(6):
        name = rng.choice([n for n in counts if counts[n] > 1])
        before = flops.total(counts)
        saved = flops.saved(name, counts)
        keep[name][int(rng.choice(np.flatnonzero(keep[name].numpy())))] = False
        counts[name] -= 1
        assert flops.total(counts) == before - saved
        assert cost(recipe_of(groups, keep, model).replay(model), images).flops == before - saved


def test_the_cost_reorders_as_predicted():
    """Of two groups alike in loss the more expensive one is thinned; with a large beta whatever the loss."""
    part = (("cheap", 3), ("dear", 3))
    scores = {"cheap": torch.tensor([3.0, 1.0, 2.0]), "dear": torch.tensor([3.5, 1.5, 2.5])}
    saved = {"cheap": 0.01, "dear": 0.1}

    def order(term) -> list[tuple[str, int]]:
        remaining = _Remaining.of(dict(part))
        found = []
        for left in (5, 4, 3, 2):
            before = {name: own.clone() for name, own in remaining.active.items()}
            remaining.thin(
                Share(("cheap", "dear"), 2), left, scores, lambda name, loss: term.priority(loss, saved[name])
            )
            found += [
                (name, int(torch.nonzero(before[name] & ~own)[0]))
                for name, own in remaining.active.items()
                if not torch.equal(before[name], own)
            ]
        return found

    assert order(NoCost()) == [("cheap", 1), ("dear", 1), ("cheap", 2), ("dear", 2)]
    assert order(CostRatio()) == [("dear", 1), ("dear", 2), ("cheap", 1), ("cheap", 2)]
    assert order(AddedCost(100.0)) == [("dear", 1), ("dear", 2), ("cheap", 1), ("cheap", 2)]
    assert order(AddedCost(0.0)) == order(NoCost())


def test_one_at_a_time_never_removes_a_unit_twice_and_never_the_last_one():
    model, data = network(), [examples()]
    total = sum(g.units for g in find_groups(model, split_batch(data[0][0])).groups.values())
    kept: dict[str, torch.Tensor] | None = None
    for count in range(total - 1, 1, -1):
        plan = prune(model, Fisher(every=1), KeepCount(count), calibration=data).plan
        assert plan.kept == count
        assert all(group.kept >= 1 for group in plan.groups.values())
        now = {name: group.keep for name, group in plan.groups.items()}
        if kept is not None:  # the path to fewer units leads through that to more
            assert all(not bool((now[name] & ~kept[name]).any()) for name in now)
        kept = now


def test_recomputing_differs_from_ranking_once_and_every_removal_counts():
    model, data = network(), [examples()]
    for every in (1, 2, 3, 100):
        for allocation in (Fisher().allocation, Uniform()):
            plan = prune(
                model, Fisher(every=every, allocation=allocation), KeepCount(5), calibration=data
            ).plan
            assert plan.kept == 5


def test_a_dead_unit_goes_first():
    model, data = network(), [examples()]
    with torch.no_grad():
        model.wide[1].weight[2], model.wide[1].bias[2] = 0.0, -1.0
        model.deep.bias[2] = -1.0
    plan = prune(model, Fisher(), KeepCount(9), calibration=data).plan
    _, found = gradients(model, data)
    assert not found["wide.0"][:, 2].any()
    gone = [(name, unit) for name, g in plan.groups.items() for unit in torch.nonzero(~g.keep).ravel()]
    assert len(gone) == 1
    assert all(not found[name][:, unit].any() for name, unit in gone)


def test_sampled_labels_need_none_and_follow_the_models_own_distribution():
    model, (images, _) = network(), examples()
    pruned = prune(model, Fisher(SampledLabels()), KeepRatio(0.5), calibration=[images], rng=0)
    assert pruned.plan.kept == 5
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(40_000, 3)
    drawn = SampledLabels().targets(logits, split_batch(images), np.random.default_rng(0))
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    # Five standard deviations of a share.
    assert bool(((share - torch.softmax(logits[0], 0)).abs() <= 5 * 0.5 / 200).all())


def test_what_cannot_be_differentiated_is_refused_with_the_remedy():
    model, (images, labels) = network(), examples()
    with pytest.raises(ValueError, match="SampledLabels"):
        prune(model, Fisher(), KeepRatio(0.5), calibration=[images])
    with pytest.raises(ValueError, match="draws at random"):
        prune(model, Fisher(SampledLabels()), KeepRatio(0.5), calibration=[images])
    method = Fisher(loss=lambda output, target: output)
    with pytest.raises(ValueError, match="mean over examples"):
        prune(model, method, KeepRatio(0.5), calibration=[(images, labels)])
    with pytest.raises(ValueError, match="more than once"):
        prune(model, Fisher(), KeepRatio(0.5), calibration=iter([(images, labels)]))
    with pytest.raises(ValueError, match="every"):
        Fisher(every=0)
    with pytest.raises(TypeError, match="CostRatio"):
        Fisher(cost=CostRatio)
    with pytest.raises(ValueError, match="negative"):
        AddedCost(-1.0)


class TokensFirst(torch.nn.Module):
    """Works on (tokens, examples, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.GELU(), torch.nn.Linear(6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.transpose(0, 1)).mean(dim=0)


def test_layers_that_do_not_see_examples_first_are_refused_in_batches_and_done_one_by_one():
    model, labels = TokensFirst(), torch.randint(2, (3,))
    inputs = torch.randn(3, 5, 4)
    with pytest.raises(ValueError, match="batches of one example"):
        prune(model, Fisher(), KeepRatio(0.5), calibration=[(inputs, labels)])
    single = [(inputs[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert prune(model, Fisher(), KeepRatio(0.5), calibration=single).plan.kept == 3


def test_taylor_is_the_mean_absolute_or_squared_mean_gradient():
    model, (images, labels) = network(), examples()
    data = [(images[:6], labels[:6]), (images[6:], labels[6:])]
    groups, found = gradients(model, data)
    budget = PerLayer({name: KeepCount(2) for name in groups})
    expected = {
        AbsoluteEffect(): {n: g.abs().mean(dim=0) for n, g in found.items()},
        SquaredEffect(): {n: (g[:6].mean(0) ** 2 + g[6:].mean(0) ** 2) / 2 for n, g in found.items()},
    }
    for effect, scores in expected.items():
        plan = prune(model, TaylorUnits(effect), budget, calibration=data).plan
        for name, own in scores.items():
            assert set(torch.nonzero(plan.groups[name].keep).ravel().tolist()) == set(
                own.topk(2).indices.tolist()
            )


def test_the_network_and_its_gradients_are_left_as_they_were():
    model, data = network(), [examples()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    prune(model, Fisher(), KeepRatio(0.5), calibration=data)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_half_precision_is_differentiated_in_single_precision():
    model, (images, labels) = network().to(torch.bfloat16), examples()
    plan = prune(model, Fisher(), KeepRatio(0.5), calibration=[(images.to(torch.bfloat16), labels)]).plan
    assert plan.kept == 5


def test_width_scaling_keeps_the_first_units_of_every_group():
    plan = prune(network(), WidthScaling(), KeepRatio(0.5), calibration=[examples()]).plan
    for group in plan.groups.values():
        assert bool(group.keep[: group.kept].all())
        assert group.kept == group.total // 2
